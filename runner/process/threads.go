package process

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// spareThreads is how many threads a run can need at once, besides those that are used for good by the runtime, os/signal and
// the log writer: one in a system call, one that waits for a timer, one for the goroutines that become ready meanwhile. There
// are some more, since the runtime decides.
const spareThreads = 8

// SettleThreads creates every thread that the run will need. It is called when everything that uses a thread for good has
// started. The runtime aborts when it cannot create a thread, and the tree that is about to start may use up RLIMIT_NPROC or the
// pids limit that it shares with graceful. Threads of the runtime never end. With one processor it wants no more of them than
// can block at the same time.
//
// The garbage collector runs when memory is used, and not every two minutes.
func SettleThreads() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(24 << 20)
	var ready, done sync.WaitGroup
	hold := make(chan struct{})
	for range spareThreads {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread() // its thread runs no other goroutine
			defer runtime.UnlockOSThread()
			ready.Done()
			<-hold
		})
	}
	ready.Wait()
	close(hold)
	done.Wait()
}
