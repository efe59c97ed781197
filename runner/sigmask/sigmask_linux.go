// Package sigmask makes sets of signals and sets the signal mask of the calling thread (pthread_sigmask(3)). The caller
// stays on its thread (runtime.LockOSThread) for as long as the mask matters.
package sigmask

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of returns the set of some signals.
func Of(signals ...syscall.Signal) (set unix.Sigset_t) {
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

// Block adds signals to the mask. restore sets the mask from before.
func Block(signals ...syscall.Signal) (restore func()) { return change(unix.SIG_BLOCK, Of(signals...)) }

// Set makes the mask contain these signals and no others. restore sets the mask from before.
func Set(signals ...syscall.Signal) (restore func()) { return change(unix.SIG_SETMASK, Of(signals...)) }

func change(how int, set unix.Sigset_t) (restore func()) {
	var before unix.Sigset_t
	_ = unix.PthreadSigmask(how, &set, &before)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }
}

// place returns a signal's place in a set, whose words are as wide as a C long.
func place(sig syscall.Signal) (word, bit uint) {
	width := 8 * uint(unsafe.Sizeof(unix.Sigset_t{}.Val[0]))
	return uint(sig-1) / width, uint(sig-1) % width
}
