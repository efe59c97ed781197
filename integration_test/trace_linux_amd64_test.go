package integration_test

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	callNames[unix.SYS_ARCH_PRCTL] = "arch_prctl"
	callNames[unix.SYS_POLL] = "poll"
}

// setCall replaces the system call that a thread is about to make by the call nr. With -1, the kernel executes no call.
func setCall(tid, nr int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Orig_rax = uint64(nr)
	return unix.PtraceSetRegs(tid, &regs)
}

// setResult replaces the result of the system call that a thread has made by an error.
func setResult(tid int, errno syscall.Errno) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = -uint64(errno)
	return unix.PtraceSetRegs(tid, &regs)
}
