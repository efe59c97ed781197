package tree

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// A cgroup of version 2 that belongs to one run (cgroups(7)). It is a directory below our own one.
type cgroup string

// FindCgroup tells where a cgroup of that name can be made, as far as that can be told without making it.
func FindCgroup(name string) (string, error) {
	list, err := procfs.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("reading /proc/self/cgroup: %w", err)
	}
	own := procfs.OwnCgroups(string(list))
	i := slices.IndexFunc(own, func(c procfs.OwnCgroup) bool { return c.V2 })
	if i < 0 {
		return "", errors.New("this kernel has no cgroup v2")
	}
	mounts, err := procfs.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("reading /proc/self/mountinfo: %w", err)
	}
	return findCgroup(own[i].Path, string(mounts), name)
}

func findCgroup(self, mountinfo, name string) (string, error) {
	var unusable, elsewhere error // the first of each; who has seen our directory knows more
	for _, m := range procfs.ParseMounts(mountinfo) {
		if m.Type != "cgroup2" {
			continue
		}
		own, ok := m.Dir(self)
		err := errElsewhere
		if ok {
			err = usable(own)
		}
		if err == nil {
			return path.Join(own, name), nil
		}
		if err == errElsewhere {
			if elsewhere == nil {
				elsewhere = fmt.Errorf("the cgroup v2 at %s does not show our own cgroup (%s)", m.Point, self)
			}
			continue
		}
		if unusable == nil {
			unusable = err
		}
	}
	switch {
	case unusable != nil:
		return "", unusable
	case elsewhere != nil:
		return "", elsewhere
	}
	return "", errors.New("no cgroup v2 is mounted")
}

var errElsewhere = errors.New("we are not in it")

func numbers(list []byte) (all []int) {
	for field := range bytes.FieldsSeq(list) {
		if n, err := strconv.Atoi(string(field)); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// usable tells what keeps us from making a cgroup below our own and starting a process in it. What is there may not be
// our own: another file system may lie over it, or another part of this one.
func usable(own string) error {
	procs, err := procfs.ReadFile(own + "/cgroup.procs")
	if err == unix.EOPNOTSUPP { // a threaded one
		procs, err = procfs.ReadFile(own + "/cgroup.threads")
	}
	switch {
	case err == unix.ENOENT, err == unix.ENOTDIR, err == nil && !slices.Contains(numbers(procs), unix.Getpid()):
		return errElsewhere
	case err != nil:
		return fmt.Errorf("reading %s/cgroup.procs: %w%s", own, err, cgroupHint(err))
	}
	if kind, err := procfs.ReadFile(own + "/cgroup.type"); err == nil { // the root has no type, nor a cgroup.kill
		if kind := strings.TrimSpace(string(kind)); kind != "domain" {
			return fmt.Errorf("our own cgroup %s is of type %q, and a process can be in none below it", own, kind)
		}
		if err := hasKill(own); err != nil {
			return err
		}
	}
	for _, file := range []string{own, own + "/cgroup.procs"} { // who moves a process down from us writes to the latter
		if err := unix.Access(file, unix.W_OK); err != nil {
			return fmt.Errorf("writing to %s: %w%s", file, err, cgroupHint(err))
		}
	}
	return nil
}

func hasKill(dir string) error {
	if err := unix.Access(dir+"/cgroup.kill", unix.F_OK); err != nil {
		return fmt.Errorf("%s/cgroup.kill: %w (Linux has it since 5.14)", dir, err)
	}
	return nil
}

func cgroupHint(err error) string {
	switch err {
	case unix.EACCES, unix.EPERM:
		return " (it must be delegated to us: systemd-run --user --scope -p Delegate=yes)"
	case unix.EROFS:
		return " (in a container: it must be mounted read-write)"
	case unix.EAGAIN:
		return " (see cgroup.max.depth and cgroup.max.descendants there and above)"
	}
	return ""
}

// make makes it. It may be there: another process of ours has been killed since it made it.
func (c cgroup) make() error {
	err := unix.Mkdir(string(c), 0o755)
	if err == unix.EEXIST {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("making %s: %w%s", c, err, cgroupHint(err))
	}
	if err := hasKill(string(c)); err != nil {
		return errors.Join(err, c.remove())
	}
	return nil
}

// pids lists who is alive in it and below it.
func (c cgroup) pids() []int {
	procs, _ := procfs.ReadFile(string(c) + "/cgroup.procs")
	pids := numbers(procs)
	for _, below := range c.below() {
		pids = append(pids, below.pids()...)
	}
	return pids
}

func (c cgroup) below() (all []cgroup) {
	entries, _ := os.ReadDir(string(c))
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, c+"/"+cgroup(e.Name()))
		}
	}
	return all
}

// populated tells whether anybody is alive in it or below it.
func (c cgroup) populated() bool {
	events, _ := procfs.ReadFile(string(c) + "/cgroup.events")
	return bytes.Contains(events, []byte("populated 1\n"))
}

// kill sends SIGKILL to all of them at one stroke, whoever's they are, and to what they are just starting.
func (c cgroup) kill() { _ = c.write("cgroup.kill", "1") }

func (c cgroup) write(file, text string) error {
	fd, err := unix.Open(string(c)+"/"+file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

// disband removes it. Who is still in it goes where it would be without us. The kernel may take a moment to see that
// the last one has ended.
func (c cgroup) disband() (err error) {
	for range 100 {
		for _, pid := range c.pids() { // 0 is another PID namespace's, and to the kernel the writer itself
			if pid == 0 {
				continue
			}
			_ = cgroup(path.Dir(string(c))).write("cgroup.procs", strconv.Itoa(pid))
		}
		if err = c.remove(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("removing %s: %w", c, err)
}

// remove removes it and those that have been made below it.
func (c cgroup) remove() error {
	err := unix.Rmdir(string(c))
	if err == unix.EBUSY || err == unix.ENOTEMPTY {
		for _, below := range c.below() {
			_ = below.remove()
		}
		err = unix.Rmdir(string(c))
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// StartIn has a process begin its life in a cgroup (clone3(2), CLONE_INTO_CGROUP). done is for when it has begun.
func StartIn(dir string, attr *syscall.SysProcAttr) (done func(), err error) {
	fd, err := procfs.OpenFile(dir, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	attr.UseCgroupFD, attr.CgroupFD = true, fd
	return func() { unix.Close(fd) }, nil
}

// Enter moves ourselves into a cgroup.
func Enter(dir string) error { return cgroup(dir).write("cgroup.procs", "0") }
