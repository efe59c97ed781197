package process

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// spareThreads is how many threads can be needed at once in a run besides those that are taken for good (by the
// runtime's own work, os/signal, the log writer): one in a system call, one waiting for time to pass, one to run
// whatever becomes ready meanwhile; and as many again, since it is the runtime that decides.
const spareThreads = 8

// settleThreads creates every thread that the run will need; it is called when all that takes a thread for good is
// there. The runtime aborts the program when it cannot create one, and the tree that we are about to start may use up
// RLIMIT_NPROC or the pids limit that we share with it. Threads of the runtime never end, and on one processor no more
// are wanted than can block at the same time.
//
// The collector is left to run when it has a reason to, and not every two minutes.
func SettleThreads() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(24 << 20)
	var ready, done sync.WaitGroup
	hold := make(chan struct{})
	for range spareThreads {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread() // a locked goroutine that waits keeps its thread from all others
			defer runtime.UnlockOSThread()
			ready.Done()
			<-hold
		})
	}
	ready.Wait()
	close(hold)
	done.Wait()
}
