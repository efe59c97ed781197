package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// findCgroup takes the first mount where a cgroup can be made. If there is none, its error tells what is wrong with the
// mount that shows graceful's own cgroup.
func TestFindCgroup_mounts(t *testing.T) {
	procs := fmt.Sprintf("1\n%d\n", os.Getpid())
	good := cgroupDir(t, map[string]string{"cgroup.procs": procs, "cgroup.type": "domain\n", "cgroup.kill": ""})
	root := cgroupDir(t, map[string]string{"cgroup.procs": procs})
	old := cgroupDir(t, map[string]string{"cgroup.procs": procs, "cgroup.type": "domain\n"})
	threaded := cgroupDir(t, map[string]string{
		"cgroup.procs": procs, "cgroup.type": "domain threaded\n", "cgroup.kill": "",
	})
	other := cgroupDir(t, map[string]string{"cgroup.procs": "1\n", "cgroup.type": "domain\n", "cgroup.kill": ""})
	for _, c := range []struct {
		own    string
		mounts []string // root and mount point
		want   string   // end of a path or of an error
	}{
		{"/", []string{"/" + good}, good + "/graceful-1"},
		{"/", []string{"/" + root}, root + "/graceful-1"},
		{"/", []string{"/" + other, "/" + old, "/" + good, "/" + root}, good + "/graceful-1"},
		{"/", nil, "no cgroup v2 is mounted"},
		{"/", []string{"/" + old}, "cgroup.kill: no such file or directory (Linux has it since 5.14)"},
		{"/", []string{"/" + threaded}, `is of type "domain threaded", and a process can be in none below it`},
		{"/", []string{"/" + other, "/" + old}, "(Linux has it since 5.14)"},
		{"/x", []string{"/y" + good}, "the cgroup v2 at " + good + " does not show our own cgroup (/x)"},
		// Another mount hides the directory.
		{"/", []string{"/" + other}, "the cgroup v2 at " + other + " does not show our own cgroup (/)"},
	} {
		var info string
		for _, m := range c.mounts {
			rootField, point, _ := strings.Cut(m[1:], "/")
			info += fmt.Sprintf("41 31 0:38 /%s /%s rw - cgroup2 cgroup2 rw\n", rootField, point)
		}
		got, err := findCgroup(c.own, info, "graceful-1")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, c.want) {
			t.Errorf("%q in %q: %q, want %q", c.own, info, got, c.want)
		}
	}
}

// cgroupDir makes a directory with the given files, as a cgroup has them.
func cgroupDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
