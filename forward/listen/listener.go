// Package listen hears the signals that are sent to this process. What each means, package forward decides.
package listen

import (
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
)

// Listener hears every signal that a process can catch.
//
// A signal that arrives again before the first one was taken counts once, as in the kernel's own pending set. None is
// lost, because each number has a channel of its own.
type Listener struct {
	// Signals delivers all that forward.Audible lists.
	Signals <-chan syscall.Signal
	// Children delivers a value when a child has changed its state since the last one was taken.
	Children <-chan os.Signal

	ignored []syscall.Signal
	heard   map[syscall.Signal]chan os.Signal
}

// Start listens from now on. The ignored signals are those that our parent had set to be ignored. They stay ignored
// until Hear, because a child ignores only what is ignored at its fork.
//
// Every signal is registered before anything is started: a process that has read the target's first output may signal
// the target through us.
func Start(ignored []syscall.Signal) *Listener {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)

	out := make(chan syscall.Signal)
	l := &Listener{
		Signals:  out,
		Children: children,
		ignored:  slices.DeleteFunc(slices.Clone(ignored), needed),
		heard:    map[syscall.Signal]chan os.Signal{},
	}
	var cases []reflect.SelectCase
	for _, sig := range forward.Audible() {
		c := make(chan os.Signal, 1)
		l.heard[sig] = c
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)})
		if !slices.Contains(l.ignored, sig) {
			signal.Notify(c, sig)
		}
	}
	l.ignore()
	go func() {
		for {
			_, v, _ := reflect.Select(cases)
			first := v.Interface().(syscall.Signal)
			if first == unix.SIGCONT { // an earlier SIGTSTP has the higher number, and may be on its way here
				time.Sleep(handOver)
			}
			for _, sig := range l.pending(first) {
				out <- sig
			}
		}
	}()
	return l
}

// handOver is more than os/signal takes to deliver the signals that it has, one by one.
const handOver = 2 * time.Millisecond

// pending takes all other signals that have arrived by now, and puts SIGCONT last. os/signal delivers signals that wait
// together in the order of their numbers, but the kernel lets the later of SIGTSTP and SIGCONT win. A process that
// stays suspended because a SIGCONT was taken too early does not hear SIGTERM.
func (l *Listener) pending(first syscall.Signal) []syscall.Signal {
	all := []syscall.Signal{first}
	for sig, c := range l.heard {
		select {
		case <-c:
			all = append(all, sig)
		default:
		}
	}
	if i := slices.Index(all, unix.SIGCONT); i >= 0 {
		all = append(slices.Delete(all, i, i+1), unix.SIGCONT)
	}
	return all
}

// needed reports whether this program cannot ignore a signal even for a moment. A child that ends while SIGCHLD is
// ignored leaves no status behind, and the Go runtime preempts with SIGURG.
func needed(sig syscall.Signal) bool { return sig == unix.SIGCHLD || sig == unix.SIGURG }

// Hear listens to the signals, too, that our parent had set to be ignored, except for those of job control.
func (l *Listener) Hear() {
	for _, sig := range l.ignored {
		if c, ok := l.heard[sig]; ok && forward.MeaningOf(sig) != forward.Suspend {
			signal.Notify(c, sig)
		}
	}
}

// Ignoring calls f, which starts a process, while the signals of our parent are ignored again.
func (l *Listener) Ignoring(f func()) {
	l.ignore()
	defer l.Hear()
	f()
}

func (l *Listener) ignore() {
	for _, sig := range l.ignored {
		signal.Ignore(sig)
	}
}

// Restart sets the signals as Start did, for another run in the same process.
func (l *Listener) Restart() {
	if !slices.Contains(l.ignored, unix.SIGTTOU) {
		signal.Notify(l.heard[unix.SIGTTOU], unix.SIGTTOU)
	}
	l.ignore()
}

// IgnoreTTOU lets this process, and those that it starts from now on, write to a terminal from its background without
// being suspended (TOSTOP in termios(3)).
func (l *Listener) IgnoreTTOU() { signal.Ignore(unix.SIGTTOU) }
