package terminal

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noise returns n bytes that look random. They are the same in each call and each process.
func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// pour writes args[0] bytes of noise and exits.
func pour(args []string) {
	n, _ := strconv.Atoi(args[0])
	if _, err := os.Stdout.Write(noise(n)); err != nil {
		panic(err)
	}
}

// flood writes until a write fails or the process is killed.
func flood([]string) {
	for data := noise(1000); ; {
		if _, err := os.Stdout.Write(data); err != nil {
			return
		}
	}
}

// say writes a line and exits.
func say(args []string) { fmt.Println(strings.Join(args, " ")) }

// readLater waits for the time delay, and then reads r to its end. The channel receives the data.
func readLater(delay time.Duration, r io.Reader) <-chan []byte {
	got := make(chan []byte)
	go func() {
		time.Sleep(delay)
		data, _ := io.ReadAll(r)
		got <- data
	}()
	return got
}

// When Finish closes done, all of the target's output has been written, even to a late reader.
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
			inSession(t, func(s session) {
				p, slave, r, shut := s.openRelay()
				if err := unix.SetNonblock(1, c.nonblock); err != nil {
					t.Fatal(err)
				}
				p.Begin(true)
				const size = 80_000 // more than a pipe holds
				target := s.start(0, fmt.Sprint("pour ", size), nil, slave)
				slave.Close()
				got := readLater(c.late, r)
				target.exits()
				s.within("end of the relay", p.Finish(0, 0))
				shut()
				if data := <-got; !bytes.Equal(data, noise(size)) {
					t.Errorf("%d bytes of %d arrived, or others", len(data), size)
				}
			})
		})
	}
}

// A process that survives the target and keeps writing does not delay Finish.
func TestPTYFinish_whileSurvivorWrites(t *testing.T) {
	inSession(t, func(s session) {
		p, slave, r, _ := s.openRelay()
		go io.Copy(io.Discard, r)
		p.Begin(true)
		for range 3 { // so that one of them is always writing
			s.start(0, "flood", nil, slave)
		}
		s.until("output", func() bool { return p.writtenBytes.Load() > 0 })
		s.within("end of the relay", p.Finish(0, 0))
	})
}

// Finish closes done when more output has been written than the terminal and the relay can hold, because then all
// output from before Finish has been written.
func TestPTYFinish_capacity(t *testing.T) {
	inSession(t, func(s session) {
		p := s.openPTY()
		p.writtenBytes.Add(1000)
		p.busy.Store(true)
		done := p.Finish(0, 0)
		p.writtenBytes.Add(capacity)
		select {
		case <-done:
			t.Error("unread output counts as written")
		case <-time.After(3 * lull):
		}
		p.writtenBytes.Add(1)
		s.within("end of the relay", done)
	})
}

// Finish closes done after the time stall if the reader reads nothing, and after the time limit if the reader reads too
// little.
func TestPTYFinish_slowReader(t *testing.T) {
	const limit = 200 * time.Millisecond
	for name, c := range map[string]struct {
		stall, limit time.Duration
		reads        bool
	}{
		"a reader that reads nothing":    {limit, 0, false},
		"a reader that reads too little": {time.Hour, limit, true},
	} {
		t.Run(name, func(t *testing.T) {
			inSession(t, func(s session) {
				p, slave, r, _ := s.openRelay()
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
					t.Errorf("Finish took %v", took)
				}
			})
		})
	}
}

// While the reader reads nothing, Finish does not close done, and input is not relayed. When the reader reads, all
// output arrives.
func TestPTYFinish_waitsForReader(t *testing.T) {
	inSession(t, func(s session) {
		p, slave, r, shut := s.openRelay()
		w := s.inputPipe()
		const size = 6000 // more than the pipe holds, less than pipe and pseudo-terminal
		if _, err := unix.FcntlInt(1, unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
		p.Begin(true)
		target := s.start(0, fmt.Sprint("pour ", size), nil, slave)
		slave.Close()
		target.exits()
		done := p.Finish(patience, patience)
		s.write(w, "late\n")
		s.stays("unread input", unread)
		select {
		case <-done:
			t.Error("the output was delivered without a reader")
		default:
		}
		got := readLater(0, r)
		s.within("end of the relay", done)
		shut()
		if data := <-got; len(data) != size {
			t.Errorf("%d bytes of %d arrived", len(data), size)
		}
	})
}

// If a reader reads something within each period stall, Finish waits until all output is written, even if that takes
// longer than stall in total.
func TestPTYFinish_steadyReader(t *testing.T) {
	inSession(t, func(s session) {
		p, slave, r, _ := s.openRelay()
		if _, err := unix.FcntlInt(1, unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
		p.Begin(true)
		// The test needs a full buffer and further output. The relay counts only whole buffers as written. So before
		// the first whole buffer, a reader seems to read nothing.
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
				for written := p.writtenBytes.Load(); p.writtenBytes.Load() == written; {
					_, _ = r.Read(make([]byte, 1000))
				}
			}
		}()
		s.within("end of the relay", done)
		if took := time.Since(begin); took < stall {
			t.Errorf("Finish took %v", took)
		}
		if n := p.writtenBytes.Load(); n != int64(size) {
			t.Errorf("%d bytes of %d have been written", n, size)
		}
	})
}

// In the background of a terminal with TOSTOP the kernel suspends a process that writes. The relay still writes.
func TestPTYOutput_background(t *testing.T) {
	inSession(t, func(s session) {
		s.put(os.Stdin, 1)
		m := s.modes(0)
		m.Lflag |= unix.TOSTOP
		s.setModes(0, m)
		p := s.openPTY()
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
	})
}

func TestPTYBroken(t *testing.T) {
	inSession(t, func(s session) {
		p, slave, r, _ := s.openRelay()
		p.Begin(true)
		select {
		case <-p.Broken():
			t.Fatal("Broken is closed while there is a reader")
		default:
		}
		r.Close()
		s.start(0, "pour 1", nil, slave).exits()
		s.within("broken pipe", p.Broken())
		s.start(0, "pour 1000000", nil, slave).exits() // the output is lost, and blocks no process
		slave.Close()
		s.within("end of the relay", p.Finish(0, 0))
	})
}

// If no output can be written, because the file system is full, the target nevertheless exits with status 0. The output
// is lost, and graceful logs one message.
func TestPTYOutput_cannotBeWritten(t *testing.T) {
	inSession(t, func(s session) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		var logged bytes.Buffer
		p, err := OpenPTY(slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		slave := s.slaveOf(p)
		s.put(full, 1)
		p.Begin(true)
		s.start(0, "pour 1000000", nil, slave).exits()
		slave.Close()
		s.within("end of the relay", p.Finish(0, 0))
		s.within("end of the output thread", p.ended)
		if n := strings.Count(logged.String(), "no space left on device"); n != 1 {
			t.Errorf("%d messages: %s", n, &logged)
		}
	})
}
