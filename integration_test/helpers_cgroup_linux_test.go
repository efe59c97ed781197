package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ownCgroup creates a cgroup v2 for a run, and returns its directory. At the end of the test it kills the processes in
// the cgroup, and removes the cgroup. It skips the test if no cgroup can be created.
func ownCgroup(t *testing.T) string {
	t.Helper()
	need(t, "linux", "root")
	dir, err := newCgroup()
	if err != nil {
		t.Log(err)
		need(t, "cgroup v2 with cgroup.kill")
	}
	t.Cleanup(func() { removeCgroup(dir) })
	return dir
}

// removeCgroup kills the processes in a cgroup, and removes it with all cgroups below it. It gives up after patience.
func removeCgroup(dir string) {
	_ = os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0o644)
	for deadline := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(deadline); {
		for _, below := range cgroupsBelow(dir) {
			_ = os.Remove(below)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// newCgroup creates a cgroup below the cgroup of the test, and returns its directory. It returns an error if no mount
// shows the whole of cgroup v2, if cgroup.kill is missing (before Linux 5.14), or if the cgroup cannot be created.
func newCgroup() (string, error) {
	list, _ := os.ReadFile("/proc/self/cgroup")
	_, self, _ := strings.Cut("\n"+string(list), "\n0::")
	self, _, _ = strings.Cut(self, "\n")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.Contains(line, " - cgroup2 ") && f[3] == "/" && self != "" {
			dir, err := os.MkdirTemp(filepath.Join(f[4], self), "graceful-test-")
			if err != nil {
				return "", err
			}
			if _, err = os.Stat(dir + "/cgroup.kill"); err == nil {
				err = os.Chmod(dir, 0o755)
			}
			if err != nil {
				_ = os.Remove(dir)
			}
			return dir, err
		}
	}
	return "", fmt.Errorf("no cgroup v2 shows %q", self)
}

// cgroupsBelow lists the cgroups below a cgroup, each one after the cgroups below it.
func cgroupsBelow(dir string) (found []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			found = append(append(found, cgroupsBelow(filepath.Join(dir, e.Name()))...), filepath.Join(dir, e.Name()))
		}
	}
	return found
}

// inCgroup prepends the command that starts a program in a cgroup. (Writing 0 moves the writing process itself.)
func inCgroup(cgroup string, args ...string) []string {
	return append([]string{"sh", "-c", `echo 0 >"$0"/cgroup.procs && exec "$@"`, cgroup}, args...)
}

// delegate gives a cgroup to a user (cgroups(7), section CGROUPS DELEGATION).
func delegate(t *testing.T, cgroup string, uid int) {
	t.Helper()
	for _, file := range []string{"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"} {
		if err := os.Chown(cgroup+file, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// setUserID puts a helper that is set-user-ID root into a program's directory, and lets all users write to that
// directory.
func (p *proc) setUserID() {
	p.t.Helper()
	suid := filepath.Join(p.dir, "helper")
	if err := copyFile(filepath.Join(binDir, "helper"), suid); err != nil {
		p.t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{p.dir: 0o777, suid: 0o755 | os.ModeSetuid} {
		if err := os.Chmod(name, mode); err != nil {
			p.t.Fatal(err)
		}
	}
}

const anotherUser = 54321 // user id of a user without an account

// asUser prepends the command that runs a program as a user, without supplementary groups.
func asUser(user int, args ...string) []string {
	return append([]string{"setpriv", fmt.Sprintf("--reuid=%d", user), fmt.Sprintf("--regid=%d", user), "--clear-groups"},
		args...)
}

// untilRemoved waits until there is no cgroup below a cgroup.
func (p *proc) untilRemoved(cgroup string) {
	p.t.Helper()
	p.until(fmt.Sprintf("removal of %q", cgroupsBelow(cgroup)), func() bool { return len(cgroupsBelow(cgroup)) == 0 })
}

// cgroupWith creates a cgroup (v2 or v1) with a controller, and removes the cgroup after the test. limits are names of
// limit files. cgroupWith returns the path of the first one that exists in the cgroup. It skips the test if there is no
// such cgroup or file.
func cgroupWith(t *testing.T, controller string, limits ...string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		controllers, _ := os.ReadFile(filepath.Join(f[1], "cgroup.controllers"))
		if f[2] != "cgroup2" && f[2] != "cgroup" || f[2] == "cgroup" && !strings.Contains(f[3], controller) ||
			f[2] == "cgroup2" && !strings.Contains(string(controllers), controller) {
			continue
		}
		if f[2] == "cgroup2" {
			_ = os.WriteFile(filepath.Join(f[1], "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		}
		dir, err := os.MkdirTemp(f[1], "graceful-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { // rmdir(2) fails until the killed processes of a failed test have left the cgroup
			for deadline := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(deadline); {
				time.Sleep(2 * time.Millisecond)
			}
		})
		for _, limit := range limits {
			if _, err := os.Stat(filepath.Join(dir, limit)); err == nil {
				return filepath.Join(dir, limit)
			}
		}
	}
	need(t, controller+" controller")
	return ""
}
