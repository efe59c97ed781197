package sigstate

import (
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Block adds signals to the thread's mask, and SetMask replaces the mask. The result of each restores the old mask.
func TestMask(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const last = syscall.Signal(64) // SIGRTMAX
	blocked := func(when string, want ...syscall.Signal) {
		t.Helper()
		var mask unix.Sigset_t
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask); err != nil || mask != SetOf(want...) {
			t.Errorf("%s the mask is %v, %v; want %v", when, mask, err, want)
		}
	}
	defer SetMask()()
	blocked("at first")
	restoreSet := SetMask(unix.SIGHUP, last)
	blocked("after SetMask", unix.SIGHUP, last)
	restoreBlock := Block(unix.SIGTTOU)
	blocked("after Block", unix.SIGHUP, unix.SIGTTOU, last)
	restoreBlock()
	blocked("without Block", unix.SIGHUP, last)
	restoreSet()
	blocked("at the end")
}

// Signal n is bit n-1, in words of any width.
func TestSetOf(t *testing.T) {
	set := SetOf(1, 33, 64)
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if want := sig == 1 || sig == 33 || sig == 64; Has(set, sig) != want {
			t.Errorf("%d is in the set: %t", sig, !want)
		}
	}
}
