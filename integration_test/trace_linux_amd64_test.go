package integration_test

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	callNames[unix.SYS_ARCH_PRCTL] = "arch_prctl"
	callNames[unix.SYS_POLL] = "poll"
}

// setCall makes a thread execute the call nr instead of the system call that the thread has begun. With -1, the kernel
// executes no call.
func setCall(tid, nr int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Orig_rax = uint64(nr)
	return unix.PtraceSetRegs(tid, &regs)
}

// setResult makes the system call that a thread has just executed return errno.
func setResult(tid int, errno syscall.Errno) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = -uint64(errno)
	return unix.PtraceSetRegs(tid, &regs)
}
