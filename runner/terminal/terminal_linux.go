package terminal

import (
	"runtime"
	"syscall"
	"unsafe"

	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

const (
	getModes    = unix.TCGETS
	setModesNow = unix.TCSETS // at once: what a stopped terminal has not shown would be waited for
)

// withoutTTOU keeps what f does from stopping us while we are in the background.
func withoutTTOU(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, before unix.Sigset_t
	word := 8 * int(unsafe.Sizeof(set.Val[0])) // as wide as a C long
	set.Val[(int(unix.SIGTTOU)-1)/word] |= 1 << ((int(unix.SIGTTOU) - 1) % word)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before)
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	f()
}

// processes lists all living processes by pid; nil without /proc.
func processes() map[int]process {
	fs := procfs.Open()
	if fs == nil {
		return nil
	}
	all := map[int]process{}
	for _, p := range fs.All() {
		if !p.Ending {
			all[p.PID] = process{parent: p.PPID, group: p.Group}
		}
	}
	return all
}

// orphaned tells whether a group is (setpgid(2)): no member's parent is of the same session and another group. It can be
// only for the worse that we do not see somebody: then nobody is stopped.
func orphaned(group int) bool {
	for pid, p := range processes() {
		if p.group != group || p.parent == 0 {
			continue
		}
		theirs, err := unix.Getpgid(p.parent)
		if err != nil || theirs == group {
			continue
		}
		session, err1 := unix.Getsid(pid)
		parents, err2 := unix.Getsid(p.parent)
		if err1 == nil && err2 == nil && session == parents {
			return false
		}
	}
	return true
}

// stopGroup: the Go runtime would ignore what nobody listens to any more, and not have the kernel stop us.
func stopGroup(sig syscall.Signal) (undo func()) {
	const setSize = 8
	var byDefault, before [64]byte // struct sigaction: SIG_DFL, no flags, no mask
	change := func(to, old *[64]byte) {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	}
	if sig != unix.SIGSTOP {
		change(&byDefault, &before)
		undo = func() { change(&before, nil) }
	}
	_ = unix.Kill(0, sig)
	return undo
}
