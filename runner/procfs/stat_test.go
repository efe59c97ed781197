package procfs

import (
	"fmt"
	"testing"
)

func TestParseStat(t *testing.T) {
	rest := func(state string, threads int) string {
		return fmt.Sprintf("%s 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 12345 0 0", state, threads)
	}
	for _, c := range []struct {
		stat string
		want Process
		ok   bool
	}{
		{"42 (sh) " + rest("S", 1), Process{Identity: Identity{PID: 42, Start: 12345}, PPID: 7, Group: 8, Name: "sh"}, true},
		{"42 (a) b (c) " + rest("R", 1), Process{Identity: Identity{PID: 42, Start: 12345}, PPID: 7, Group: 8, Name: "a) b (c"}, true},
		{"42 (a\n1 (b) S 1 1) " + rest("R", 1), Process{Identity: Identity{PID: 42, Start: 12345}, PPID: 7, Group: 8, Name: "a\n1 (b) S 1 1"}, true},
		{"42 () " + rest("Z", 0), Process{Identity: Identity{PID: 42, Start: 12345}, PPID: 7, Group: 8, Dead: true, Ending: true}, true},
		{"42 (x) " + rest("X", 0), Process{Identity: Identity{PID: 42, Start: 12345}, PPID: 7, Group: 8, Name: "x", Dead: true, Ending: true}, true},
		// The first thread has ended, others have not.
		{"42 (x) " + rest("Z", 3), Process{Identity: Identity{PID: 42, Start: 12345}, PPID: 7, Group: 8, Name: "x", Ending: true}, true},
		{"", Process{}, false},
		{"42 (sh", Process{}, false},
		{"42 (sh) S 1", Process{}, false},
	} {
		if got, ok := ParseStat([]byte(c.stat)); ok != c.ok || ok && got != c.want {
			t.Errorf("%q is %+v, %t", c.stat, got, ok)
		}
	}
}
