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
)

// counted is a signal of which each one sent is kept (signal(7): real-time signals are queued), so that those that
// came twice can be told from those that came once.
const counted syscall.Signal = 40

func countedSet() *unix.Sigset_t {
	var set unix.Sigset_t
	bits := 8 * uint(unsafe.Sizeof(set.Val[0]))
	set.Val[(counted-1)/syscall.Signal(bits)] |= 1 << (uint(counted-1) % bits)
	return &set
}

// count says for each line that it reads how many signals have come since the last one.
func count() {
	fd, err := unix.Signalfd(-1, countedSet(), unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
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

// counter is a process that counts. It was started with the signal blocked, so that the kernel keeps it.
type counter struct {
	*exec.Cmd
	ask    io.Writer
	answer *bufio.Scanner
}

func newCounter(t *testing.T, attr *syscall.SysProcAttr) counter {
	t.Helper()
	c := role(t, "count", attr)
	ask, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// A child has the mask of the thread that forks it.
	runtime.LockOSThread()
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, countedSet(), &before); err != nil {
		t.Fatal(err)
	}
	err = c.Start()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	n := counter{c, ask, bufio.NewScanner(answer)}
	if !n.answer.Scan() || n.answer.Text() != "ready" {
		t.Fatalf("a counter says %q", n.answer.Text())
	}
	return n
}

func (n counter) got(t *testing.T) string {
	t.Helper()
	fmt.Fprintln(n.ask)
	if !n.answer.Scan() {
		t.Fatal("a counter has gone: ", n.answer.Err())
	}
	return n.answer.Text()
}

// Many programs take a second stop signal for the wish that they drop everything. None gets two for one, whether it
// is in the target's group or has left it, whether the target is still there or not.
func TestEveryMemberGetsASignalOnce(t *testing.T) {
	for _, level := range []Level{Group, Subreaper} {
		t.Run(string(level), func(t *testing.T) {
			tr := open(t, level)
			target := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
			with := newCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
			away := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
			tr.Started(target.Process.Pid)
			outside := "0"
			if level == Subreaper {
				outside = "1"
			}

			tr.Signal(counted)
			if got, want := strings.Join([]string{target.got(t), with.got(t), away.got(t)}, " "), "1 1 "+outside; got != want {
				t.Errorf("target, its group, another group got %s signals, want %s", got, want)
			}
			if err := tr.SignalGroup(counted); err != nil {
				t.Error(err)
			}
			if got, want := strings.Join([]string{target.got(t), with.got(t), away.got(t)}, " "), "1 1 0"; got != want {
				t.Errorf("of those to the group they got %s, want %s", got, want)
			}
			if err := target.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = target.Wait()
			tr.Reaped(target.Process.Pid)
			tr.Signal(counted)
			if got, want := with.got(t)+" "+away.got(t), "1 "+outside; got != want {
				t.Errorf("after the target they got %s, want %s", got, want)
			}
		})
	}
}
