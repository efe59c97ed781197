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

// onSignal is graceful's own signal handler. Go code never calls it. graceful does not use package os/signal, which is
// slow: to register a signal, os/signal switches to another thread and back. That takes longer than everything else
// before the target starts. os/signal also needs three threads.
//
// onSignal records the signal in arrived and writes to an eventfd(2). It tries the write up to three times, because a
// lost write would be a lost signal. onSignal is written in assembly, because the kernel calls it on any thread at any
// moment, with the calling convention of C. It needs only one thing of the Go runtime: the signal stack of each thread
// (sigaltstack(2)).
//
//lint:ignore U1000 handlerAddress uses it
func onSignal()

// handlerAddress returns the address of onSignal.
func handlerAddress() uintptr

// wakeFD is the eventfd to which onSignal writes the variable one.
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

// caught returns the action of a caught signal. It copies an action of the runtime, which contains the return from a
// handler (SA_RESTORER). The first call also creates the eventfd, and starts a goroutine that calls wake after each
// write to the eventfd.
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
			if _, err := events.Read(count[:]); err != nil { // epoll_ctl(2) has failed, so Read cannot wait
				time.Sleep(10 * time.Millisecond)
			}
			wake()
		}
	}()
	rtSigaction(unix.SIGURG, nil, &action) // the runtime always handles SIGURG
	action.handler = handlerAddress()
	return action, nil
})

// prepare does the setup that catch needs.
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

// rtSigaction calls rt_sigaction(2). The call cannot fail, because graceful passes only signals that can be caught.
func rtSigaction(sig syscall.Signal, to, before *sigaction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(to)),
		uintptr(unsafe.Pointer(before)), unsafe.Sizeof(to.mask), 0, 0)
}
