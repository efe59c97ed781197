//go:build amd64 || arm64

package listen

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Signals are caught by a handler of ours, and not by package os/signal: that hands each signal to another thread and
// back when it is registered, which takes longer than all else that happens before the target's start, and it needs
// three threads.
//
// The handler notes the signal in arrived and writes to an eventfd(2); it tries three times, as a lost write would be a
// lost signal. It is written in assembly, because the kernel
// calls it on any thread at any moment, as it calls a function of C. It needs nothing of the Go runtime but the stack
// for signals that each of its threads has (sigaltstack(2)).

// onSignal is the handler. Go code never calls it.
//
//lint:ignore U1000 handlerAddress uses it
func onSignal()

// handlerAddress returns the address of onSignal.
func handlerAddress() uintptr

// wakeFD is the eventfd that onSignal writes one to.
//
//lint:ignore U1000 onSignal uses it
var wakeFD int32

//lint:ignore U1000 onSignal uses it
var one uint64 = 1

// sigaction is the kernel's struct sigaction.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// caught is the action of a signal that is caught. It is like those of the runtime, whose way back from a handler is
// needed, too (SA_RESTORER).
var caught = sync.OnceValues(func() (action sigaction, err error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return action, fmt.Errorf("eventfd: %w", err)
	}
	wakeFD = int32(fd)
	events := os.NewFile(uintptr(fd), "signals")
	go func() {
		var count [8]byte
		for {
			if _, err := events.Read(count[:]); err != nil { // it cannot be waited for with epoll(7)
				time.Sleep(10 * time.Millisecond)
			}
			wake()
		}
	}()
	rtSigaction(unix.SIGURG, nil, &action) // the runtime always handles this one
	action.handler = handlerAddress()
	return action, nil
})

// prepare makes catch possible.
func prepare() error {
	_, err := caught()
	return err
}

func catch(sig syscall.Signal) {
	action, _ := caught()
	rtSigaction(sig, &action, nil)
}

func ignore(sig syscall.Signal) {
	const ignored = 1 // SIG_IGN
	rtSigaction(sig, &sigaction{handler: ignored}, nil)
}

// rtSigaction cannot fail: the signals are ones that can be caught.
func rtSigaction(sig syscall.Signal, to, before *sigaction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(to)),
		uintptr(unsafe.Pointer(before)), unsafe.Sizeof(to.mask), 0, 0)
}
