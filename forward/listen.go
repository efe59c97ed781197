package forward

import (
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener hears every signal that a process can catch.
//
// A signal that comes again before the first one has been taken counts once, as with the kernel's own pending
// set; none is ever lost, because each number has a channel of its own.
type Listener struct {
	// Signals delivers what is neither ours nor uncatchable.
	Signals <-chan syscall.Signal
	// Children says that a child's state has changed since it was last read.
	Children <-chan os.Signal

	ignored []syscall.Signal
	heard   map[syscall.Signal]chan os.Signal
}

// Listen starts to listen. The ignored signals are those that our parent wanted ignored: they are set to be
// ignored and left so until Hear, because only what is ignored at the moment of a fork is ignored in the child.
//
// Every signal is registered before anything is started: whoever has seen the target's first word may signal
// it through us from then on.
func Listen(ignored []syscall.Signal) *Listener {
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
	for _, sig := range Audible() {
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
			if first == unix.SIGCONT { // a stop that came before it has the higher number, and may be on its way here
				time.Sleep(handOver)
			}
			for _, sig := range l.pending(first) {
				out <- sig
			}
		}
	}()
	return l
}

// handOver is long for os/signal to give us what it has, which it does signal by signal.
const handOver = 2 * time.Millisecond

// pending takes whatever else has come by now, SIGCONT last: os/signal gives signals that wait together in the order
// of their numbers, the kernel lets the later of SIGTSTP and SIGCONT win, and who is stopped for good because a
// SIGCONT was taken too early is deaf to SIGTERM.
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

// needed tells the signals that this program cannot ignore even for a moment: a child that ends while SIGCHLD is
// ignored leaves no status behind, and the Go runtime preempts with SIGURG.
func needed(sig syscall.Signal) bool { return sig == unix.SIGCHLD || sig == unix.SIGURG }

// Hear listens for the signals that our parent wanted ignored too, as far as they mean something to us:
// a stop signal is heard whoever ignored it, job control only where it was not switched off.
func (l *Listener) Hear() {
	for _, sig := range l.ignored {
		if c, ok := l.heard[sig]; ok && MeaningOf(sig) != Suspend {
			signal.Notify(c, sig)
		}
	}
}

// Ignoring runs f, which starts a process, with those signals ignored again.
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

// Restart has signals mean again what they did at first, for another run.
func (l *Listener) Restart() {
	if !slices.Contains(l.ignored, unix.SIGTTOU) {
		signal.Notify(l.heard[unix.SIGTTOU], unix.SIGTTOU)
	}
	l.ignore()
}

// IgnoreTTOU lets us and what we start from now on write to a terminal whose background we are in (termios(3),
// TOSTOP): nobody is stopped for it.
func (l *Listener) IgnoreTTOU() {
	signal.Ignore(unix.SIGTTOU)
}
