package procfs

import (
	"os"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ParseStatus reads known lines, ignores all others, and refuses invalid values.
func TestParseStatus(t *testing.T) {
	const text = "Name:\tGroups: 7\\nCapPrm:\nUmask:\t0022\nUid:\t1\t2\t3\t4\n" +
		"Gid:\t10\t11\t12\t13\nGroups:\t0 4 27 \n" +
		"SigIgn:\t0000000000001000\nCapInh:\t0000000000000001\nCapPrm:\t000001ffffffffff\n" +
		"CapEff:\t0000000000000000\nCapBnd:\t0000000000000400\nCapAmb:\t0000000000000002\n" +
		"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n"
	want := Status{
		Ignored: 0x1000,
		GIDs:    []int{11, 0, 4, 27}, Permitted: 0x1ffffffffff, Bounding: 0x400, Ambient: 2,
		NoNewPrivs: true, Seccomp: 2, Filters: 3,
	}
	got, err := ParseStatus(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{"", "Name:\tx\n", "CapPrm:\tx\n", "Groups:\t1 x\n", "Seccomp:\t\n"} {
		if s, err := ParseStatus(bad); err == nil {
			t.Errorf("ParseStatus(%q) is %+v", bad, s)
		}
	}
}

// ParseStatus parses the status file of this kernel.
func TestParseStatus_own(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("linux is missing")
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	s, err := ParseStatus(string(text))
	if err != nil || s.GIDs[0] != os.Getegid() || os.Geteuid() == 0 && s.Bounding == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
