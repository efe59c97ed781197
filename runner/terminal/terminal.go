// Package terminal moves the foreground of graceful's terminal between graceful and the target. It suspends graceful
// with the target (job control), and relays data of a terminal for the target (--pty). It decides only questions about
// terminals, and starts no process.
package terminal

import (
	"encoding/json"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// Terminal is the controlling terminal of a run. The target sees the terminal as it would without graceful, and the
// shell sees graceful as it would see the target.
//
// The shell started graceful's process group, and knows no other group of the run. The target leads another group. Only
// the foreground group may read from the terminal and gets the signal of Ctrl-C. A successor of graceful is in a third
// group. Every process of graceful blocks or ignores SIGTTOU while it sets the foreground group (tcsetpgrp(3)), so it
// may do that from the background.
//
// A nil *Terminal means that there is no terminal. GiveForeground, Suspend and SignalOthers need a non-nil one.
type Terminal struct {
	group               int           // graceful's process group
	root                int           // the ancestor of the target: graceful, or the guard
	modes               *unix.Termios // modes from before the target was started
	startsInFront       bool          // the target starts in the foreground
	foregroundForTarget bool          // the target was the last to need the foreground; see Continued
	hungUp              bool          // Suspended has returned Hangup
	undoSuspend         func()        // undoes the change that Suspend has made; nil: none
}

// device is the file by which each process opens its own controlling terminal.
const device = "/dev/tty"

// Open finds the controlling terminal and records its modes. group is graceful's process group. Open returns nil if
// there is no controlling terminal. The target starts in the foreground if standard input is that terminal, graceful is
// in its foreground, and standard output does not lead to another process.
func Open(group int) *Terminal {
	t := &Terminal{group: group, root: os.Getpid()}
	err := t.use(func(fd int) (err error) {
		t.modes, err = modes(fd)
		return err
	})
	front := t.foreground()
	if err != nil || group < 0 || front < 0 {
		return nil
	}
	// If the group is 0, do not start the target in the foreground. That group belongs to an outer PID namespace, and
	// could not take the foreground back.
	stdin, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err == nil && stdin == front && front == group && group > 0 {
		t.startsInFront = !leadsToProcess(1)
		t.foregroundForTarget = t.startsInFront
	}
	return t
}

// saved contains the data that a successor of graceful can no longer query.
type saved struct {
	Group int           `json:"group"` // graceful's process group
	Modes *unix.Termios `json:"modes"` // modes of graceful's terminal; nil: none, or graceful was in its background
}

// Save returns the data for Reopen, or nil for a nil *Terminal.
func (t *Terminal) Save() (json.RawMessage, error) {
	if t == nil {
		return nil, nil
	}
	return json.Marshal(saved{t.group, t.modes})
}

// Reopen returns the terminal of a killed graceful. text is the result of Save in that process, and root is the
// ancestor of the target. Reopen returns nil if that process had no terminal, or was in a group of another PID
// namespace (0).
func Reopen(text json.RawMessage, root int) *Terminal {
	var s saved
	if json.Unmarshal(text, &s) != nil || s.Group == 0 {
		return nil
	}
	return &Terminal{group: s.Group, modes: s.Modes, root: root}
}

// leadsToProcess reports whether a descriptor is a pipe or a socket. Then the process at the other end, such as a
// pager in a pipeline, may be in graceful's group and need the terminal more than the target does.
func leadsToProcess(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO || st.Mode&unix.S_IFMT == unix.S_IFSOCK)
}

// StartsInForeground reports whether the target must be in the foreground from its start.
func (t *Terminal) StartsInForeground() bool { return t != nil && t.startsInFront }

// use calls f with a descriptor of the terminal, which is open only during that call. A descriptor that stays open
// would keep the terminal in use after the target has closed the terminal.
func (t *Terminal) use(f func(fd int) error) error {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT { // a container image without devices: use standard input
		return f(0)
	} else if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

// foreground returns the foreground group, or -1 if that group cannot be read.
func (t *Terminal) foreground() (group int) {
	if t.use(func(fd int) (err error) { group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP); return err }) != nil {
		return -1
	}
	return group
}

// setForeground makes a process group the foreground group (tcsetpgrp(3)), even if graceful is in the background.
func (t *Terminal) setForeground(group int) (err error) {
	withoutSIGTTOU(func() {
		err = t.use(func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group) })
	})
	return err
}

// GiveForeground gives the foreground to the group of the process target. From then on, Continued gives the foreground
// to the target again.
func (t *Terminal) GiveForeground(target int) error {
	t.foregroundForTarget = true
	group, err := unix.Getpgid(target)
	if err != nil {
		return err
	}
	return t.setForeground(group)
}

// TakeForeground gives the foreground to graceful's group if the target has the foreground (see belongsToTarget). It
// returns true if the foreground has changed.
func (t *Terminal) TakeForeground(target int) (taken bool) {
	return t != nil && t.belongsToTarget(t.foreground(), target) && t.setForeground(t.group) == nil
}

// Restore takes the foreground back as TakeForeground does, and restores the modes from before the target's start. If
// the target does not have the foreground, Restore does nothing and returns false. The caller uses Restore when the
// target has ended, or when graceful was killed.
func (t *Terminal) Restore(target int) (taken bool) {
	if t == nil || !t.belongsToTarget(t.foreground(), target) {
		return false
	}
	_ = t.setForeground(t.group)
	withoutSIGTTOU(func() { _ = t.use(func(fd int) error { return setModes(fd, t.modes) }) })
	return true
}

// belongsToTarget reports whether the foreground group front is the target's group, or a group whose live members all
// descend from the root. It also returns true for a group without a live member, but never for graceful's group.
// Without /proc, it does not find groups of descendants.
func (t *Terminal) belongsToTarget(front, target int) bool {
	if front < 1 || front == t.group {
		return false
	}
	if group, err := unix.Getpgid(target); target > 0 && err == nil && group == front {
		return true
	}
	all := living()
	if all == nil {
		return unix.Kill(-front, 0) == unix.ESRCH
	}
	for pid, p := range all {
		if p.Group == front && !descends(all, pid, t.root) {
			return false
		}
	}
	return true
}

// living maps pids to the processes whose first thread is alive. It returns nil without /proc.
func living() map[int]procfs.Process {
	fs, err := procfs.Open()
	if err != nil {
		return nil
	}
	all := map[int]procfs.Process{}
	for _, p := range fs.All() {
		if !p.Ending {
			all[p.PID] = p
		}
	}
	return all
}

// descends reports whether pid is ancestor itself or one of its descendants. all maps pids to processes.
func descends(all map[int]procfs.Process, pid, ancestor int) bool {
	for range len(all) { // a limit: the entries were read at different times, and may form a circle
		if pid == ancestor || pid == 0 {
			break
		}
		pid = all[pid].PPID
	}
	return pid == ancestor
}

// SignalOthers sends a signal to every live process of graceful's group except the one with the pid except. The kernel
// would send a signal of the terminal to all of them if the target were in that group. Without /proc, SignalOthers does
// nothing.
func (t *Terminal) SignalOthers(sig syscall.Signal, except int) {
	for _, pid := range t.others(except) {
		_ = unix.Kill(pid, sig)
	}
}

// HasOthers reports whether graceful's group has a live member besides the one with the pid except. Without /proc, it
// returns false.
func (t *Terminal) HasOthers(except int) bool { return t != nil && len(t.others(except)) > 0 }

func (t *Terminal) others(except int) (pids []int) {
	for pid, p := range living() {
		if p.Group == t.group && pid != except && t.group > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}
