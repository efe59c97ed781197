package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// If clone3(2) fails, the new process enters the cgroup by itself before it executes the target. The exit statuses for
// a target that cannot be started do not change.
func TestContainCgroup_withoutClone3(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			cgroup := ownCgroup(t)
			run := func(args ...string) *proc {
				return start(t, inCgroup(cgroup, append([]string{"helper", "without-clone3", fmt.Sprint(int(errno)), plain, "run",
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
			p.untilRemoved(cgroup)
		})
	}
}

func init() { roles["without-clone3"] = withoutClone3 }

// withoutClone3 executes a program, for which clone3(2) fails with the error number in the first argument.
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

// unmounted unmounts all mounts of cgroup v2 in a mount namespace, and creates two directories for new mounts. It sets
// the shell variable OWN to the path of its own cgroup, which is also graceful's, below the root of cgroup v2.
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
			start(t, inCgroup(cgroup, slices.Concat([]string{"unshare"}, strings.Fields(c.unshare),
				[]string{"sh", "-ec", c.prepare + "\n" + `exec "$@"`, "sh",
					plain, "run", "--contain", "cgroup", "--", "sh", "-c",
					`grep '^0::.*/graceful-[0-9a-f]\{32\}$' /proc/self/cgroup >own && exit 3`})...)...).want("3")
			if left := cgroupsBelow(cgroup); len(left) > 0 {
				t.Errorf("left cgroups: %q", left)
			}
		})
	}
}
