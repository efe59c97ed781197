//go:build engines

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootScript boots this machine's systemd as PID 1 of new namespaces. Its root is an overlay over the root of this
// machine, without the units that are enabled on this machine. Arguments: the directory that becomes /test inside, the
// graceful that becomes /usr/bin/graceful, and a cgroup v2.
const bootScript = `set -e
if [ "$4" != inside ]; then
	echo 0 >"$3"/cgroup.procs
	exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child sh "$0" "$1" "$2" "$3" inside
fi
mount --make-rprivate /
root=$(mktemp -d)
mount -t tmpfs none $root
mkdir $root/upper $root/work $root/merged
mount -t overlay -o lowerdir=/,upperdir=$root/upper,workdir=$root/work none $root/merged || exit 77
cd $root/merged
mount -t proc none proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys # not all of it is of this namespace
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup
for dir in run tmp dev; do mount -t tmpfs -o mode=755 none $dir; done
chmod 1777 tmp
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/shm dev/pts test
mount -t devpts -o newinstance,ptmxmode=666 none dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --bind "$1" test
cp "$2" usr/bin/graceful
rm -rf etc/systemd/system/*.wants etc/rc?.d/S*
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --unit=basic.target \
	--log-target=console --log-level=warning
`

// systemd represents the systemd that boot has booted.
type systemd struct {
	dir string // the directory that is /test inside
	pid string // pid of its PID 1, outside of its namespaces
	cmd *exec.Cmd
	log bytes.Buffer // the output of cmd
	cg  string       // the cgroup v2 of all its processes
}

// boot boots systemd, once for all tests.
var boot = sync.OnceValues(func() (s *systemd, err error) {
	s = &systemd{}
	mounts := content("/proc/self/mountinfo")
	m := regexp.MustCompile(`(?m)^\S+ \S+ \S+ / (\S+) .* - cgroup2 `).FindStringSubmatch(mounts)
	if m == nil {
		return nil, fmt.Errorf("no cgroup v2 is mounted:\n%s", mounts)
	}
	if s.cg, err = os.MkdirTemp(m[1], "graceful-systemd-"); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "graceful-systemd-"); err != nil {
		return nil, err
	}
	if err = os.Chmod(s.dir, 0o755); err != nil {
		return nil, err
	}
	script := filepath.Join(s.dir, "boot.sh")
	if err = os.WriteFile(script, []byte(bootScript), 0o644); err != nil {
		return nil, err
	}
	s.cmd = exec.Command("sh", script, s.dir, binary, s.cg)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err = s.cmd.Start(); err != nil {
		return nil, err
	}
	atEnd(s.shutDown)
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if s.pid, _ = output("pgrep", "-P", strconv.Itoa(s.cmd.Process.Pid)); s.pid != "" {
			if state, _ := s.output("systemctl", "is-system-running"); state == "running" || state == "degraded" {
				return s, nil
			}
		}
		select {
		case err := <-ended:
			if s.cmd.ProcessState.ExitCode() == 77 {
				return nil, errNoOverlay
			}
			return nil, fmt.Errorf("systemd has ended: %w\n%s", err, &s.log)
		default:
		}
		if time.Now().After(late) {
			return nil, errors.New("systemd has not booted")
		}
	}
})

// errNoOverlay means that the overlay for systemd's root cannot be mounted on this machine.
var errNoOverlay = errors.New("the root of this machine is no lower layer for an overlay")

// shutDown ends systemd and all of its processes.
func (s *systemd) shutDown() {
	_ = s.cmd.Process.Kill() // the process is unshare(1), which also ends its child (--kill-child), PID 1
	_ = os.RemoveAll(s.dir)
	removeCgroups(s.cg)
}

// removeCgroups removes a cgroup and the cgroups below it, once their processes have ended.
func removeCgroups(top string) {
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(10 * time.Millisecond) {
		var cgroups []string
		_ = filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				cgroups = append(cgroups, path)
			}
			return nil
		})
		if len(cgroups) == 0 {
			return
		}
		for _, path := range slices.Backward(cgroups) { // the deepest cgroups first; files are not removed
			_ = os.Remove(path)
		}
	}
}

// output runs a command in systemd's namespaces. It returns the output, and whether the command succeeded.
func (s *systemd) output(args ...string) (string, bool) {
	return output("nsenter", append([]string{"-t", s.pid, "-a", "-r", "-w"}, args...)...)
}

// service represents a unit.
type service struct {
	*systemd
	t    *testing.T
	name string
	dir  string // the directory outside; inside it is /test/NAME, and $TEST in the unit
}

// names matches the characters of a test's name that do not become part of the name of a unit or directory.
var names = regexp.MustCompile(`[^a-z0-9]+`)

// newService writes a unit with these lines in its section [Service]. The lines may begin further sections. The unit
// has the variable TEST, the directory of the service inside the namespaces. newService does not start the unit.
func newService(t *testing.T, lines string) *service {
	t.Helper()
	s, err := boot()
	if errors.Is(err, errNoOverlay) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Trim(names.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	u := &service{systemd: s, t: t, name: name, dir: filepath.Join(s.dir, name)}
	if err := os.Mkdir(u.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, u.dir+"/unit", fmt.Sprintf("[Service]\nEnvironment=TEST=/test/%s\nStandardError=append:/test/%s/err\n%s\n",
		name, name, lines))
	u.do("cp", "/test/"+name+"/unit", "/etc/systemd/system/"+name+".service")
	u.do("systemctl", "daemon-reload")
	t.Cleanup(func() {
		if t.Failed() {
			status, _ := u.output("systemctl", "status", "--no-pager", u.name)
			t.Logf("%s\n%s", status, content(u.dir+"/err"))
		}
		u.output("systemctl", "kill", "-s", "KILL", u.name)
	})
	return u
}

// do runs a command in systemd's namespaces, and fails the test unless it succeeds. It returns the output.
func (u *service) do(args ...string) string {
	u.t.Helper()
	out, ok := u.output(args...)
	if !ok {
		u.t.Fatalf("%q failed:\n%s", args, out)
	}
	return out
}

func (u *service) start() { u.t.Helper(); u.do("systemctl", "start", u.name) }
func (u *service) stop()  { u.t.Helper(); u.do("systemctl", "stop", u.name) }

// property returns a property of the unit.
func (u *service) property(name string) string {
	u.t.Helper()
	return u.do("systemctl", "show", "--value", "-p", name, u.name)
}

// becomes waits until a property of the unit has a value.
func (u *service) becomes(property, value string) {
	u.t.Helper()
	until(u.t, fmt.Sprintf("%s of %s", value, property), func() bool { return u.property(property) == value })
}

// wantFile waits until a file of the service has as many lines as the wanted text. It fails the test unless the file
// has the wanted content then.
func (u *service) wantFile(file, want string) {
	u.t.Helper()
	until(u.t, file, func() bool { return strings.Count(content(u.dir+"/"+file), "\n") >= strings.Count(want, "\n") })
	if got := content(u.dir + "/" + file); got != want {
		u.t.Errorf("%s is %q, want %q", file, got, want)
	}
}

// killMain kills the main process, which is graceful.
func (u *service) killMain() { u.t.Helper(); u.do("kill", "-KILL", u.property("MainPID")) }
