// Package terminal lends the controlling terminal to the target's process group, and takes it back: to the target
// everything is as if the shell had started it, and to the shell as if we were the target.
//
// The group that the user started, ours, is what the shell knows. The target leads a group of its own, which the kernel
// lets read from the terminal, and signals on Ctrl-C, only while it is the terminal's foreground group. Who leads the
// run may be in a third group; with SIGTTOU blocked it may say all the same who the foreground group is (tcsetpgrp(3)).
package terminal

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Terminal is the controlling terminal of a run. A nil one is none, and does nothing.
type Terminal struct {
	group int           // ours
	modes *unix.Termios // as they were before the target was started
	ready bool          // the target is to have it from the start
	lent  bool          // the target is to have it whenever our group could
	hung  bool          // the target has been told that nobody can give it the terminal
	undo  func()        // see Stop
}

// device is the controlling terminal, whichever that is.
const device = "/dev/tty"

// Open finds the controlling terminal and keeps its modes. group is ours.
func Open(group int) *Terminal {
	t := &Terminal{group: group}
	err := t.use(func(fd int) (err error) {
		t.modes, err = modes(fd)
		return err
	})
	front := t.foreground()
	if err != nil || group < 0 || front < 0 {
		return nil
	}
	// A group of 0 is outside of our PID namespace, and cannot be given back what it has lent.
	if stdin, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil && stdin == front && front == group && group > 0 {
		t.ready = !readBySomebody(1)
		t.lent = t.ready
	}
	return t
}

// readBySomebody tells whether a descriptor leads to another program. That is of our group, as a pager in a pipeline,
// and may need the terminal more than the target does.
func readBySomebody(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO || st.Mode&unix.S_IFMT == unix.S_IFSOCK)
}

// Ready tells whether the target is to be in the foreground from its start, its standard input being the terminal.
func (t *Terminal) Ready() bool { return t != nil && t.ready }

// use opens the terminal for a moment: kept open it would seem to be in use when the target has long closed it.
func (t *Terminal) use(f func(fd int) error) error {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT { // an image without devices
		return f(0)
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

// foreground is the foreground group, or -1.
func (t *Terminal) foreground() (group int) {
	if t.use(func(fd int) (err error) { group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP); return err }) != nil {
		return -1
	}
	return group
}

func (t *Terminal) set(group int) (err error) {
	withoutTTOU(func() {
		err = t.use(func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group) })
	})
	return err
}

// TakeForeground makes the calling process's group the foreground group of a terminal.
func TakeForeground(fd int) {
	withoutTTOU(func() { _ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp()) })
}

// Lend gives the terminal to the target's group.
func (t *Terminal) Lend(target int) error {
	t.lent = true
	group, err := unix.Getpgid(target)
	if err != nil {
		return err
	}
	return t.set(group)
}

// Return gives the terminal back to our group, if the target's has it: its own, one of its descendants', or one of which
// nobody is left.
func (t *Terminal) Return(target int) (returned bool) {
	return t != nil && t.isLent(t.foreground(), target) && t.set(t.group) == nil
}

// End does the same with the modes as they were, once the target has ended or shall no longer have it.
func (t *Terminal) End(target int) (returned bool) {
	if t == nil || !t.isLent(t.foreground(), target) {
		return false
	}
	_ = t.set(t.group)
	withoutTTOU(func() { _ = t.use(func(fd int) error { return setModes(fd, t.modes) }) })
	return true
}

func (t *Terminal) isLent(front, target int) bool {
	if front < 1 || front == t.group {
		return false
	}
	if group, err := unix.Getpgid(target); target > 0 && err == nil && group == front {
		return true
	}
	all := processes()
	if all == nil {
		return unix.Kill(-front, 0) == unix.ESRCH
	}
	for pid, p := range all {
		if p.group == front && !descends(all, pid, os.Getpid()) {
			return false
		}
	}
	return true
}

// process is one that lives.
type process struct{ parent, group int }

func descends(all map[int]process, pid, from int) bool {
	for range len(all) { // what was read at different moments may go in circles
		if pid == from || pid == 0 {
			break
		}
		pid = all[pid].parent
	}
	return pid == from
}

// Signal sends a signal to all who are of our group but for one of us, as the kernel would have if the target were, too.
func (t *Terminal) Signal(sig syscall.Signal, front int) {
	for _, pid := range t.others(front) {
		_ = unix.Kill(pid, sig)
	}
}

// Shared tells whether others are of our group.
func (t *Terminal) Shared(front int) bool { return t != nil && len(t.others(front)) > 0 }

func (t *Terminal) others(front int) (pids []int) {
	for pid, p := range processes() {
		if p.group == t.group && pid != front && t.group > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}
