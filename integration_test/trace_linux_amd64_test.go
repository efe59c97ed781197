package integration_test

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	callNames[unix.SYS_ARCH_PRCTL] = "arch_prctl"
	callNames[unix.SYS_POLL] = "poll"
}

// setCall changes the system call that a thread is about to make.
func setCall(tid, nr int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Orig_rax = uint64(nr)
	return unix.PtraceSetRegs(tid, &regs)
}

// setResult changes the result of the system call that a thread has made.
func setResult(tid int, errno syscall.Errno) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = -uint64(errno)
	return unix.PtraceSetRegs(tid, &regs)
}
