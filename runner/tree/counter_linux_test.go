package tree

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

// counted is a real-time signal. The kernel queues each instance (signal(7)), so a counter can distinguish two signals
// from one.
const counted syscall.Signal = 40

// counter is a process that counts the instances of counted. The process starts with that signal blocked, so that the
// kernel queues each instance.
type counter struct {
	*exec.Cmd
	ask    io.Writer      // standard input: each line is a request
	answer *bufio.Scanner // standard output: "ready", then a line for each request
}

// startCounter starts a counter and waits until the counter is ready. The counter ends with the test.
func startCounter(t *testing.T, attr *syscall.SysProcAttr) counter {
	t.Helper()
	c := roleCommand(t, "count", attr)
	ask, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // a child inherits the signal mask of the thread that forks it
	restore := sigstate.Block(counted)
	err = c.Start()
	restore()
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	killAfter(t, c)
	n := counter{c, ask, bufio.NewScanner(answer)}
	if !n.answer.Scan() || n.answer.Text() != "ready" {
		t.Fatalf("a counter prints %q", n.answer.Text())
	}
	return n
}

// startCounterGroup starts three counters: the leader of a new process group, another member of that group, and the
// leader of a second group.
func startCounterGroup(t *testing.T) (leader, inside, outside counter) {
	t.Helper()
	leader = startCounter(t, &syscall.SysProcAttr{Setpgid: true})
	inside = startCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: leader.Process.Pid})
	return leader, inside, startCounter(t, &syscall.SysProcAttr{Setpgid: true})
}

// counts asks each counter for the number of signals since the last request, and returns the answers, separated by
// blanks.
func counts(t *testing.T, counters ...counter) string {
	t.Helper()
	var all []string
	for _, c := range counters {
		fmt.Fprintln(c.ask)
		if !c.answer.Scan() {
			t.Fatal("a counter has ended: ", c.answer.Err())
		}
		all = append(all, c.answer.Text())
	}
	return strings.Join(all, " ")
}

// runCounter is the main function of a counter process. For each input line it prints the number of signals since the
// last line.
func runCounter() {
	set := sigstate.SetOf(counted)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		n := 0
		for info := make([]byte, unsafe.Sizeof(unix.SignalfdSiginfo{})); ; n++ {
			if _, err := unix.Read(fd, info); err != nil {
				break
			}
		}
		fmt.Println(n)
	}
}
