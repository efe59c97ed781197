package procfs

import (
	"fmt"
	"testing"
)

// A name may contain blanks, parentheses and newlines. A process is dead when its last thread has ended.
func TestParseStat(t *testing.T) {
	rest := func(state string, threads int) string {
		return fmt.Sprintf("%s 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 12345 0 0", state, threads)
	}
	process := func(name string, dead, ending bool) Process {
		return Process{
			Identity: Identity{PID: 42, Start: 12345}, PPID: 7, Group: 8, Name: name,
			Dead: dead, Ending: ending, Exiting: ending,
		}
	}
	for _, c := range []struct {
		stat string
		want Process
		ok   bool
	}{
		{"42 (sh) " + rest("S", 1), process("sh", false, false), true},
		{"42 (a) b (c) " + rest("R", 1), process("a) b (c", false, false), true},
		{"42 (a\n1 (b) S 1 1) " + rest("R", 1), process("a\n1 (b) S 1 1", false, false), true},
		{"42 () " + rest("Z", 0), process("", true, true), true},
		{"42 (x) " + rest("X", 0), process("x", true, true), true},
		{"42 (x) " + rest("Z", 3), process("x", false, true), true}, // only its first thread has ended
		{"", Process{}, false},
		{"42 (sh", Process{}, false},
		{"42 (sh) S 1", Process{}, false},
	} {
		if got, ok := ParseStat([]byte(c.stat)); ok != c.ok || ok && got != c.want {
			t.Errorf("ParseStat(%q) is %+v, %t", c.stat, got, ok)
		}
	}
}

// A process in exit(2) is not a zombie yet, but its children may already be reparented.
func TestParseStat_exiting(t *testing.T) {
	const stat = "42 (x) R 7 8 9 0 -1 4194308 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"
	if p, ok := ParseStat([]byte(stat)); !ok || !p.Exiting || p.Ending || p.Dead {
		t.Errorf("ParseStat(%q) is %+v, %t", stat, p, ok)
	}
}
