//go:build !linux || !(amd64 || arm64)

package listen

import (
	"os"
	"os/signal"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/forward"
)

// channels maps each signal to a channel of its own, so that many signals of one kind do not displace another kind. A
// goroutine adds the signals from all channels to arrived.
var channels = sync.OnceValue(func() map[syscall.Signal]chan os.Signal {
	all := map[syscall.Signal]chan os.Signal{}
	var cases []reflect.SelectCase
	for _, sig := range append(forward.Deliverable(), unix.SIGCHLD) {
		all[sig] = make(chan os.Signal, 1)
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(all[sig])})
	}
	go func() {
		for {
			_, v, _ := reflect.Select(cases)
			atomic.OrUint64(&arrived, uint64(setOf(v.Interface().(syscall.Signal))))
			wake()
		}
	}()
	return all
})

// prepare does nothing: catch needs no setup on this system.
func prepare() error { return nil }

func catch(sig syscall.Signal) { signal.Notify(channels()[sig], sig) }

func ignore(sig syscall.Signal) { signal.Ignore(sig) }
