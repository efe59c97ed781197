// Package sigstate makes sets of signals, sets the signal mask of the calling thread (pthread_sigmask(3)), and sets a
// signal to its default action. A caller that sets the mask must stay on its thread (runtime.LockOSThread) while it
// needs the mask.
package sigstate

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetOf returns a set of signals.
func SetOf(signals ...syscall.Signal) (set unix.Sigset_t) {
	for _, sig := range signals {
		word, bit := place(sig)
		set.Val[word] |= 1 << bit
	}
	return set
}

// Has reports whether a signal is in a set.
func Has(set unix.Sigset_t, sig syscall.Signal) bool {
	word, bit := place(sig)
	return set.Val[word]&(1<<bit) != 0
}

// Block adds signals to the mask. restore sets the old mask.
func Block(signals ...syscall.Signal) (restore func()) {
	return changeMask(unix.SIG_BLOCK, SetOf(signals...))
}

// SetMask sets the mask to exactly these signals. restore sets the old mask.
func SetMask(signals ...syscall.Signal) (restore func()) {
	return changeMask(unix.SIG_SETMASK, SetOf(signals...))
}

func changeMask(how int, set unix.Sigset_t) (restore func()) {
	var before unix.Sigset_t
	_ = unix.PthreadSigmask(how, &set, &before)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }
}

// Default sets a signal to its default action in this process. os/signal cannot do that: the runtime keeps its handler,
// which for example ignores a signal of job control that the program no longer listens to. restore sets the old action.
func Default(sig syscall.Signal) (restore func()) {
	const setSize = 8              // bytes of a sigset_t in the kernel
	var byDefault, before [64]byte // struct sigaction: SIG_DFL, no flags, empty mask
	change := func(to, old *[64]byte) {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
			uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	}
	change(&byDefault, &before)
	return func() { change(&before, nil) }
}

// place returns the word and the bit of a signal in a set. The words of the set have the width of a C long.
func place(sig syscall.Signal) (word, bit uint) {
	width := 8 * uint(unsafe.Sizeof(unix.Sigset_t{}.Val[0]))
	return uint(sig-1) / width, uint(sig-1) % width
}
