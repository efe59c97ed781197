package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownCgroup creates a cgroup v2 for a run. At the end of the test it kills the processes in the cgroup.
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

// removeCgroup kills the processes in a cgroup and removes it.
func removeCgroup(dir string) {
	_ = os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0o644)
	for deadline := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(deadline); {
		for _, below := range cgroupsBelow(dir) {
			_ = os.Remove(below)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// newCgroup creates a cgroup below the cgroup of the test.
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

// cgroupsBelow lists the cgroups below a cgroup, the deepest first.
func cgroupsBelow(dir string) (found []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			found = append(append(found, cgroupsBelow(filepath.Join(dir, e.Name()))...), filepath.Join(dir, e.Name()))
		}
	}
	return found
}

// in prepends the command that starts a program in a cgroup. (Writing 0 moves the writing process itself.)
func in(cgroup string, args ...string) []string {
	return append([]string{"sh", "-c", `echo 0 >"$0"/cgroup.procs && exec "$@"`, cgroup}, args...)
}

// delegate gives a cgroup to a user (cgroups(7), Cgroup delegation).
func delegate(t *testing.T, cgroup string, uid int) {
	t.Helper()
	for _, file := range []string{"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"} {
		if err := os.Chown(cgroup+file, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// setUserID puts a helper that is set-user-ID root into a program's directory.
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

const another = 54321 // a user

func as(user int, args ...string) []string {
	return append([]string{"setpriv", fmt.Sprintf("--reuid=%d", user), fmt.Sprintf("--regid=%d", user), "--clear-groups"},
		args...)
}

// isRemoved waits until there is no cgroup below a cgroup any more.
func (p *proc) isRemoved(cgroup string) {
	p.t.Helper()
	p.until(fmt.Sprintf("removal of %q", cgroupsBelow(cgroup)), func() bool { return len(cgroupsBelow(cgroup)) == 0 })
}

// If clone3(2) fails, the target enters the cgroup by itself.
func TestContainCgroup_withoutClone3(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			cgroup := ownCgroup(t)
			run := func(args ...string) *proc {
				return start(t, in(cgroup, append([]string{"helper", "without-clone3", fmt.Sprint(int(errno)), plain, "run",
					"--contain", "cgroup", "--"}, args...)...)...)
			}
			p := run("sh", "-c", `grep -q "/graceful-.*/graceful-" /proc/self/cgroup && ls -l /proc/$$/fd | grep -c cgroup
				exit 3`)
			p.want("3")
			if p.text() != "0\n" {
				t.Errorf("the target is not in the cgroup, or has a descriptor of graceful:\n%s", p.text())
			}
			run("/etc/passwd").want("126")
			run("./no-such-program").want("127")
			p.isRemoved(cgroup)
		})
	}
}

func init() { roles["without-clone3"] = withoutClone3 }

// withoutClone3 executes a program for which clone3(2) fails with an error.
func withoutClone3(args []string) int {
	errno, err := strconv.ParseUint(args[0], 10, 16)
	if err != nil {
		panic(err)
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(errno)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                 // SECCOMP_RET_ALLOW
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	if err != nil {
		panic(err)
	}
	path, err := exec.LookPath(args[1])
	if err != nil {
		panic(err)
	}
	panic(syscall.Exec(path, args[1:], os.Environ()))
}

// unmounted unmounts all mounts of cgroup v2 in a mount namespace, and creates two directories to mount it on. OWN is
// the cgroup of the test below the root.
const unmounted = `for m in $(grep ' - cgroup2 ' /proc/self/mountinfo | cut -d' ' -f5 | sort -r); do umount -l "$m"
	done
	mkdir m 'odd \ place'; OWN=$(sed -n s/^0:://p /proc/self/cgroup); `

// graceful finds cgroup v2 wherever it is mounted. If there are several mounts, it finds the usable one.
func TestContainCgroup_mounts(t *testing.T) {
	need(t, "linux", "root", "unshare")
	for name, c := range map[string]struct{ unshare, prepare string }{
		"as it is":         {"--mount", ""},
		"an unusual place": {"--mount", unmounted + `mount -t cgroup2 none 'odd \ place'`},
		"beside v1": {"--mount", unmounted +
			`mkdir m/1 m/2; mount -t cgroup -o none,name=graceful_test none m/1; mount -t cgroup2 none m/2`},
		"a part of it": {"--mount", unmounted +
			`mount -t cgroup2 none m; mount --bind m/"$OWN" 'odd \ place'; umount m`},
		"read-only and writable": {"--mount", unmounted +
			`mount -t cgroup2 none m; mount -o remount,ro,bind m; mount -t cgroup2 none 'odd \ place'`},
		"something over it": {"--mount", unmounted +
			`mount -t cgroup2 none m; mount -t tmpfs none m; mount -t cgroup2 none 'odd \ place'`},
		"a cgroup namespace": {"--mount --cgroup", `mkdir m; mount -t cgroup2 none m`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cgroup := ownCgroup(t)
			start(t, in(cgroup, slices.Concat([]string{"unshare"}, strings.Fields(c.unshare),
				[]string{"sh", "-ec", c.prepare + "\n" + `exec "$@"`, "sh",
					plain, "run", "--contain", "cgroup", "--", "sh", "-c",
					`grep '^0::.*/graceful-[0-9a-f]\{32\}$' /proc/self/cgroup >own && exit 3`})...)...).want("3")
			if left := cgroupsBelow(cgroup); len(left) > 0 {
				t.Errorf("left cgroups: %q", left)
			}
		})
	}
}
