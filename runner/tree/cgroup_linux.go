package tree

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// cgroup is the directory of a cgroup v2 that belongs to one run (cgroups(7)).
type cgroup string

// make makes the cgroup. It may exist: a graceful process that made it may have been killed since.
func (c cgroup) make() error {
	err := unix.Mkdir(string(c), 0o755)
	if err == unix.EEXIST {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("making %s: %w%s", c, err, cgroupHint(err))
	}
	if err := checkKill(string(c)); err != nil {
		return errors.Join(err, c.remove())
	}
	return nil
}

// pids lists the living processes in the cgroup and its descendants. A process of another PID namespace is 0.
func (c cgroup) pids() []int {
	procs, _ := procfs.ReadFile(string(c) + "/cgroup.procs")
	pids := procfs.ParsePIDs(procs)
	for _, child := range c.children() {
		pids = append(pids, child.pids()...)
	}
	return pids
}

// populated reports whether a process is alive in the cgroup or its descendants.
func (c cgroup) populated() bool {
	events, _ := procfs.ReadFile(string(c) + "/cgroup.events")
	return bytes.Contains(events, []byte("populated 1\n"))
}

// kill sends SIGKILL to all processes in the cgroup in one step, those of other users and those that are just being
// forked included.
func (c cgroup) kill() { _ = c.write("cgroup.kill", "1") }

// disband removes the cgroup and moves the processes in it to its parent. It retries, since the kernel may take a
// moment to notice that the last process has ended.
func (c cgroup) disband() (err error) {
	const (
		tries = 100
		pause = 10 * time.Millisecond
	)
	for range tries {
		for _, pid := range c.pids() {
			if pid == 0 { // of another PID namespace; to write 0 would move graceful
				continue
			}
			_ = cgroup(path.Dir(string(c))).write("cgroup.procs", strconv.Itoa(pid))
		}
		if err = c.remove(); err == nil {
			return nil
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("removing %s: %w", c, err)
}

// remove removes the cgroup and its descendants. A cgroup that is gone is no error.
func (c cgroup) remove() error {
	err := unix.Rmdir(string(c))
	if err == unix.EBUSY || err == unix.ENOTEMPTY {
		for _, child := range c.children() {
			_ = child.remove()
		}
		err = unix.Rmdir(string(c))
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
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
