package terminal

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

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

// processes lists all who live, by pid; nil without /proc.
func processes() map[int]process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all map[int]process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		var state string
		var p process
		rest := stat[bytes.LastIndexByte(stat, ')')+1:] // its name may hold anything (proc(5))
		if n, _ := fmt.Sscan(string(rest), &state, &p.parent, &p.group); n < 3 || state == "Z" || state == "X" {
			continue
		}
		if all == nil {
			all = map[int]process{}
		}
		all[pid] = p
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
