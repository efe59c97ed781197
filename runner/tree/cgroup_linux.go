package tree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// FindCgroup returns the path at which graceful can make a cgroup called name, as a child of graceful's own cgroup.
// FindCgroup checks as much as possible without making the cgroup. It returns an error if graceful cannot make it.
func FindCgroup(name string) (string, error) {
	list, err := procfs.Read("self/cgroup")
	if err != nil {
		return "", fmt.Errorf("reading /proc/self/cgroup: %w", err)
	}
	own := procfs.OwnCgroups(string(list))
	i := slices.IndexFunc(own, func(c procfs.OwnCgroup) bool { return c.V2 })
	if i < 0 {
		return "", errors.New("this kernel has no cgroup v2")
	}
	mounts, err := procfs.Read("self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("reading /proc/self/mountinfo: %w", err)
	}
	return findCgroup(own[i].Path, string(mounts), name)
}

// findCgroup does what FindCgroup does. own is the path of graceful's own cgroup in the hierarchy, and mountinfo is the
// text of a mountinfo file.
func findCgroup(own, mountinfo, name string) (string, error) {
	var unusable, notShown error // the first error of a mount with graceful's cgroup, and of another mount
	for _, m := range procfs.ParseMounts(mountinfo) {
		if m.Type != "cgroup2" {
			continue
		}
		dir, ok := m.Dir(own)
		err := errNotOwn
		if ok {
			err = checkParent(dir)
		}
		switch err {
		case nil:
			return path.Join(dir, name), nil
		case errNotOwn:
			err = fmt.Errorf("the cgroup v2 at %s does not show our own cgroup (%s)", m.Point, own)
			notShown = cmp.Or(notShown, err)
		default:
			unusable = cmp.Or(unusable, err)
		}
	}
	return "", cmp.Or(unusable, notShown, errors.New("no cgroup v2 is mounted"))
}

var errNotOwn = errors.New("graceful is not in this cgroup")

// checkParent returns nil if graceful can probably make a cgroup in dir, the directory of its own cgroup, and start a
// process in the new cgroup. checkParent returns errNotOwn if dir shows no cgroup or another one. That happens if
// another file system, or another part of this file system, is mounted over dir.
func checkParent(dir string) error {
	procs, err := procfs.ReadFile(dir + "/cgroup.procs")
	if err == unix.EOPNOTSUPP { // a threaded cgroup
		procs, err = procfs.ReadFile(dir + "/cgroup.threads")
	}
	switch {
	case err == unix.ENOENT, err == unix.ENOTDIR,
		err == nil && !slices.Contains(procfs.ParsePIDs(procs), unix.Getpid()):
		return errNotOwn
	case err != nil:
		return fmt.Errorf("reading %s/cgroup.procs: %w%s", dir, err, cgroupHint(err))
	}
	// The root cgroup has neither cgroup.type nor cgroup.kill, and needs no check of them.
	if kind, err := procfs.ReadFile(dir + "/cgroup.type"); err == nil {
		if kind := strings.TrimSpace(string(kind)); kind != "domain" {
			return fmt.Errorf("our own cgroup %s is of type %q, and a process can be in none below it", dir, kind)
		}
		if err := checkKill(dir); err != nil {
			return err
		}
	}
	// Making a child cgroup requires write permission for dir. Starting a process in the child requires write
	// permission for cgroup.procs in dir (cgroups(7)).
	for _, file := range []string{dir, dir + "/cgroup.procs"} {
		if err := unix.Access(file, unix.W_OK); err != nil {
			return fmt.Errorf("writing to %s: %w%s", file, err, cgroupHint(err))
		}
	}
	return nil
}

// checkKill returns nil if the kernel can kill all processes of the cgroup in dir in one step.
func checkKill(dir string) error {
	if err := unix.Access(dir+"/cgroup.kill", unix.F_OK); err != nil {
		return fmt.Errorf("%s/cgroup.kill: %w (Linux has it since 5.14)", dir, err)
	}
	return nil
}

// cgroupHint returns advice for an error, in parentheses and with a leading blank. If there is no advice, it returns
// "".
func cgroupHint(err error) string {
	switch err {
	case unix.EACCES, unix.EPERM:
		return " (it must be delegated to the user of graceful: systemd-run --user --scope -p Delegate=yes)"
	case unix.EROFS:
		return " (in a container: it must be mounted read-write)"
	case unix.EAGAIN:
		return " (see cgroup.max.depth and cgroup.max.descendants there and above)"
	}
	return ""
}

// cgroup is the directory of a cgroup v2 (cgroups(7)): the cgroup of the run, its parent, or a descendant.
type cgroup string

// make makes the cgroup. The cgroup may exist already, if the process of graceful that made it was killed. If the
// kernel cannot kill the cgroup in one step, make removes it and returns an error.
func (c cgroup) make() error {
	if err := unix.Mkdir(string(c), 0o755); err != nil && err != unix.EEXIST {
		return fmt.Errorf("making %s: %w%s", c, err, cgroupHint(err))
	}
	if err := checkKill(string(c)); err != nil {
		return errors.Join(err, c.remove())
	}
	return nil
}

// pids lists the live processes in the cgroup and its descendants, as far as the cgroups can be read. The list contains
// 0 for each process that has no pid in graceful's PID namespace.
func (c cgroup) pids() []int {
	procs, _ := procfs.ReadFile(string(c) + "/cgroup.procs")
	pids := procfs.ParsePIDs(procs)
	for _, child := range c.children() {
		pids = append(pids, child.pids()...)
	}
	return pids
}

// populated reports whether the cgroup or a descendant contains a live process. It returns false if the cgroup cannot
// be read.
func (c cgroup) populated() bool {
	events, _ := procfs.ReadFile(string(c) + "/cgroup.events")
	return bytes.Contains(events, []byte("populated 1\n"))
}

// kill sends SIGKILL to all processes in the cgroup and its descendants in one step. These include processes of other
// users, and processes that are just being forked.
func (c cgroup) kill() { _ = c.write("cgroup.kill", "1") }

// disband moves the processes of the cgroup to the parent cgroup, and removes the cgroup. It retries for about a
// second, because the kernel may still count a process that has just ended. Then it returns the error.
func (c cgroup) disband() (err error) {
	const tries, pause = 100, 10 * time.Millisecond
	for range tries {
		c.moveOut(c.pids())
		if err = c.remove(); err == nil {
			return nil
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("removing %s: %w", c, err)
}

// moveOut moves processes to the parent of the cgroup.
func (c cgroup) moveOut(pids []int) {
	for _, pid := range pids {
		if pid == 0 { // of another PID namespace; writing 0 would move graceful
			continue
		}
		_ = cgroup(path.Dir(string(c))).write("cgroup.procs", strconv.Itoa(pid))
	}
}

// remove removes the cgroup and its descendants. A missing cgroup is no error.
func (c cgroup) remove() error {
	err := unix.Rmdir(string(c))
	if err == unix.EBUSY || err == unix.ENOTEMPTY {
		for _, child := range c.children() {
			_ = child.remove()
		}
		err = unix.Rmdir(string(c))
	}
	return except(unix.ENOENT, err)
}

func (c cgroup) children() (all []cgroup) {
	entries, _ := os.ReadDir(string(c))
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, c+"/"+cgroup(e.Name()))
		}
	}
	return all
}

func (c cgroup) write(file, text string) error {
	fd, err := unix.Open(string(c)+"/"+file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
