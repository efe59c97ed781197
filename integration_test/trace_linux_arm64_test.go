package integration_test

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	registers  = 1     // NT_PRSTATUS
	systemCall = 0x404 // NT_ARM_SYSTEM_CALL: no register holds the number of the executed call
)

// setCall makes a thread execute the call nr instead of the system call that the thread has begun. With -1, the kernel
// executes no call.
func setCall(tid, nr int) error {
	call := int32(nr)
	vec := unix.Iovec{Base: (*byte)(unsafe.Pointer(&call)), Len: uint64(unsafe.Sizeof(call))}
	return ptrace(unix.PTRACE_SETREGSET, tid, systemCall, uintptr(unsafe.Pointer(&vec)))
}

// setResult makes the system call that a thread has just executed return errno.
func setResult(tid int, errno syscall.Errno) error {
	var regs unix.PtraceRegsArm64
	if err := unix.PtraceGetRegSetArm64(tid, registers, &regs); err != nil {
		return err
	}
	regs.Regs[0] = -uint64(errno)
	return unix.PtraceSetRegSetArm64(tid, registers, &regs)
}
