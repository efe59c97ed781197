package terminal

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noise returns n bytes that look random.
func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// pour writes that many bytes of noise and exits.
func pour(args []string) {
	n, _ := strconv.Atoi(args[0])
	if _, err := os.Stdout.Write(noise(n)); err != nil {
		panic(err)
	}
}

// flood writes until its end.
func flood([]string) {
	for data := noise(1000); ; {
		if _, err := os.Stdout.Write(data); err != nil {
			return
		}
	}
}

// say writes a line and exits.
func say(args []string) { fmt.Println(strings.Join(args, " ")) }

// copyLines reports what it reads, and each of the first two ends of file.
func copyLines([]string) {
	for range 2 {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Println("got", lines.Text())
		}
		fmt.Println("end of file")
	}
}

// openPTY opens a terminal of a target's own. What is logged goes to the returned buffer.
func (s session) openPTY() (*PTY, *bytes.Buffer) {
	s.Helper()
	var logged bytes.Buffer
	p, err := OpenPTY(slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		s.Fatal(err)
	}
	return p, &logged
}

// slaveOf returns the target's side as a file, with modes that change no byte.
func (s session) slaveOf(p *PTY) *os.File {
	s.Helper()
	m := s.modes(p.Slave())
	m = raw(&m)
	if err := setModes(p.Slave(), &m); err != nil {
		s.Fatal(err)
	}
	fd, err := unix.FcntlInt(uintptr(p.Slave()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		s.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "slave")
}

// outputPipe makes standard output a pipe and returns its reading end. shut closes the writing end.
func (s session) outputPipe() (r *os.File, shut func()) {
	s.Helper()
	r, w := s.pipe()
	s.put(w, 1)
	w.Close()
	return r, func() {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			s.Fatal(err)
		}
		s.put(null, 1)
	}
}

// within waits for a channel to be closed.
func (s session) within(what string, done <-chan struct{}) {
	s.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		s.Fatalf("no %s", what)
	}
}

// exits waits until the process has exited.
func (c *child) exits() {
	c.s.Helper()
	if err := c.cmd.Wait(); err != nil {
		c.s.Fatal(err)
	}
}

// All of the target's output has been written when Finish says so, even to a reader that comes late.
func TestPTYFinish_deliversAll(t *testing.T) {
	for name, c := range map[string]struct {
		late     time.Duration
		nonblock bool // another process has set O_NONBLOCK
	}{
		"a reader":            {},
		"a late reader":       {late: 300 * time.Millisecond},
		"non-blocking output": {late: 10 * time.Millisecond, nonblock: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, ok := inSession(t)
			if !ok {
				return
			}
			p, _ := s.openPTY()
			slave := s.slaveOf(p)
			r, shut := s.outputPipe()
			if err := unix.SetNonblock(1, c.nonblock); err != nil {
				t.Fatal(err)
			}
			p.Begin(true)
			const size = 80_000 // more than a pipe holds
			target := s.start(0, fmt.Sprint("pour ", size), nil, slave)
			slave.Close()
			got := make(chan []byte)
			go func() {
				time.Sleep(c.late)
				data, _ := io.ReadAll(r)
				got <- data
			}()
			target.exits()
			s.within("end of the relay", p.Finish(0, 0))
			shut()
			if data := <-got; !bytes.Equal(data, noise(size)) {
				t.Errorf("%d bytes of %d arrived, or others", len(data), size)
			}
		})
	}
}

// A process that survives the target and writes on and on does not hold up Finish.
func TestPTYFinish_whileSurvivorWrites(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	p, _ := s.openPTY()
	slave := s.slaveOf(p)
	r, _ := s.outputPipe()
	go io.Copy(io.Discard, r)
	p.Begin(true)
	for range 3 { // so that one of them writes at any time
		s.start(0, "flood", nil, slave)
	}
	s.until("output", func() bool { return p.written.Load() > 0 })
	s.within("end of the relay", p.Finish(0, 0))
}

// More output than terminal and relay hold cannot all be from before Finish.
func TestPTYFinish_capacity(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	p, _ := s.openPTY()
	p.written.Add(1000)
	p.busy.Store(true)
	done := p.Finish(0, 0)
	p.written.Add(capacity)
	select {
	case <-done:
		t.Error("what is on its way has been written")
	case <-time.After(3 * lull):
	}
	p.written.Add(1)
	s.within("end of the relay", done)
}

// Finish gives up a reader that takes nothing for the first limit, or does not take all within the second.
func TestPTYFinish_slowReader(t *testing.T) {
	const limit = 200 * time.Millisecond
	for name, c := range map[string]struct {
		stall, limit time.Duration
		reads        bool
	}{
		"it takes nothing":    {limit, 0, false},
		"it takes too little": {time.Hour, limit, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, ok := inSession(t)
			if !ok {
				return
			}
			p, _ := s.openPTY()
			slave := s.slaveOf(p)
			r, _ := s.outputPipe()
			p.Begin(true)
			s.start(0, "flood", nil, slave)
			s.until("full pipe, and output that waits", func() bool {
				return !ready(1, unix.POLLOUT) && ready(p.master, unix.POLLIN)
			})
			if c.reads {
				go func() {
					for range 1000 {
						_, _ = r.Read(make([]byte, 10))
						time.Sleep(limit / 50)
					}
				}()
			}
			begin := time.Now()
			s.within("end of the wait", p.Finish(c.stall, c.limit))
			if took := time.Since(begin); took < limit {
				t.Errorf("after %v", took)
			}
		})
	}
}

// Output that has no reader yet is not delivered, and no more input is relayed while it waits.
func TestPTYFinish_waitsForReader(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	p, _ := s.openPTY()
	slave := s.slaveOf(p)
	w := s.inputPipe()
	r, shut := s.outputPipe()
	const size = 6000 // more than the pipe holds; less than pipe and pseudo-terminal
	if _, err := unix.FcntlInt(1, unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	p.Begin(true)
	target := s.start(0, fmt.Sprint("pour ", size), nil, slave)
	slave.Close()
	target.exits()
	done := p.Finish(patience, patience)
	if _, err := w.WriteString("late\n"); err != nil {
		t.Fatal(err)
	}
	s.stays("unread input", unread)
	select {
	case <-done:
		t.Error("the output was delivered without a reader")
	default:
	}
	got := make(chan []byte)
	go func() {
		data, _ := io.ReadAll(r)
		got <- data
	}()
	s.within("end of the relay", done)
	shut()
	if data := <-got; len(data) != size {
		t.Errorf("%d bytes of %d arrived", len(data), size)
	}
}

// A reader that takes something before each end of the first limit may take longer than that in all.
func TestPTYFinish_steadyReader(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	p, _ := s.openPTY()
	slave := s.slaveOf(p)
	r, _ := s.outputPipe()
	if _, err := unix.FcntlInt(1, unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	p.Begin(true)
	// The relay counts what it has written when its whole buffer is: until then a reader seems to take nothing. So there
	// must be a buffer that it cannot write, and output that it has not read.
	size, waits := 0, 0
	s.until("full pipe, and output that waits", func() bool {
		n, _ := slave.Write(noise(70))
		size += n
		if waits++; ready(1, unix.POLLOUT) || !ready(p.master, unix.POLLIN) {
			waits = 0
		}
		return waits > 100
	})
	slave.Close()
	const stall = 1500 * time.Millisecond
	begin := time.Now()
	done := p.Finish(stall, 0)
	go func() {
		for range time.Tick(stall * 2 / 3) {
			for written := p.written.Load(); p.written.Load() == written; {
				_, _ = r.Read(make([]byte, 1000))
			}
		}
	}()
	s.within("end of the relay", done)
	if took := time.Since(begin); took < stall {
		t.Errorf("after %v", took)
	}
	if n := p.written.Load(); n != int64(size) {
		t.Errorf("%d bytes of %d have been written", n, size)
	}
}

// In the background of a terminal with TOSTOP the kernel suspends a process that writes. The relay writes all the same.
func TestPTYOutput_background(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	s.put(os.Stdin, 1)
	m := s.modes(0)
	m.Lflag |= unix.TOSTOP
	if err := setModes(0, &m); err != nil {
		t.Fatal(err)
	}
	p, _ := s.openPTY()
	slave := s.slaveOf(p)
	s.shell(s.startReady(0, "wait").pid)
	p.Begin(true)
	s.start(0, "say hello", nil, slave).exits()
	shown := make(chan struct{})
	go func() {
		if line, _ := bufio.NewReader(s.master).ReadString('\n'); line == "hello\r\n" {
			close(shown)
		}
	}()
	s.within("output on the terminal", shown)
}

func TestPTYBroken(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	p, _ := s.openPTY()
	slave := s.slaveOf(p)
	r, _ := s.outputPipe()
	p.Begin(true)
	select {
	case <-p.Broken():
		t.Fatal("the reader is there")
	default:
	}
	r.Close()
	s.start(0, "pour 1", nil, slave).exits()
	s.within("broken pipe", p.Broken())
	s.start(0, "pour 1000000", nil, slave).exits() // lost, and it holds up no process
	slave.Close()
	s.within("end of the relay", p.Finish(0, 0))
}

// Output that cannot be written is lost, with one message; the target does not notice.
func TestPTYOutput_cannotBeWritten(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	p, logged := s.openPTY()
	slave := s.slaveOf(p)
	s.put(full, 1)
	p.Begin(true)
	s.start(0, "pour 1000000", nil, slave).exits()
	slave.Close()
	s.within("end of the relay", p.Finish(0, 0))
	s.within("end of the output thread", p.ended)
	if n := strings.Count(logged.String(), "no space left on device"); n != 1 {
		t.Errorf("%d messages: %s", n, logged)
	}
}

// A process that inherits the descriptors has the same terminal: it relays in the place of the other one, and restores
// the modes that were there before the other one made graceful's terminal raw.
func TestInheritPTY_roundTrip(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	before := s.modes(0)
	p, _ := s.openPTY()
	slave := s.slaveOf(p)
	text, fds := p.Inheritance()
	if want := []int{p.master, p.slave}; !slices.Equal(fds, want) {
		t.Fatalf("it inherits %v, want %v", fds, want)
	}
	for _, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags != unix.FD_CLOEXEC || err != nil {
			t.Errorf("flags of %d are %#x, %v", fd, flags, err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			t.Fatal(err)
		}
	}
	heir := s.start(0, fmt.Sprintf("inherit %s %d", text, os.Getpid()), os.Stdin)
	heir.says(fmt.Sprintf("group %d, flags %d %d", s.group, unix.FD_CLOEXEC, unix.FD_CLOEXEC))
	m := raw(&before)
	if err := setModes(0, &m); err != nil {
		t.Fatal(err)
	}
	heir.signal(unix.SIGUSR1)
	heir.says("restored")
	s.wantModes("after the heir has restored them,", 0, before)
	s.start(0, "say hello", nil, slave).exits()
	heir.says("hello")
	s.wantModes("while only output is relayed,", 0, before)
}

// inherit relays the terminal of a front after SIGUSR1.
func inherit(args []string) {
	front, _ := strconv.Atoi(args[1])
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1)
	p, err := InheritPTY(args[0], front, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	flags := func(fd int) int { n, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); return n }
	fmt.Printf("group %d, flags %d %d\n", p.group, flags(p.master), flags(p.slave))
	<-told
	p.Restore()
	fmt.Println("restored")
	p.Begin(false)
	<-told
}

func TestInheritPTY_text(t *testing.T) {
	if p, err := InheritPTY("", 1, nil); p != nil || err != nil {
		t.Errorf("without a terminal: %v, %v", p, err)
	}
	for _, text := range []string{"x", "5", "5,", ",5"} {
		if _, err := InheritPTY(text, 1, nil); err == nil {
			t.Errorf("%q is a terminal", text)
		}
	}
	if text, fds := (*PTY)(nil).Inheritance(); text != "" || fds != nil {
		t.Errorf("no terminal is inherited as %q, %v", text, fds)
	}
}
