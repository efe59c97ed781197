package cmd

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/terminal"
)

const (
	queueLines   = 1024
	flushTimeout = time.Second
	catchUpTime  = time.Second / 4
)

// output writes lines to a descriptor. That descriptor is standard error, because standard output belongs to the
// target. A separate thread writes the lines, so a slow reader delays graceful only in catchUp and flush, which have
// time limits. While queueLines lines wait, output drops further lines and counts them.
type output struct {
	lines   chan []byte // a nil line marks the end of the lines that catchUp waits for
	json    bool        // log records are JSON
	raw     bool        // the descriptor may be a terminal in raw mode
	dropped atomic.Int64
	done    chan struct{}
	marked  chan struct{} // receives a value when the thread reaches the mark
	slow    bool          // catchUp has timed out, and does not wait again

	mu     sync.Mutex
	closed bool // Write drops every line
}

func newOutput(fd int) *output {
	o := &output{lines: make(chan []byte, queueLines), done: make(chan struct{}), marked: make(chan struct{}, 1)}
	running := make(chan struct{})
	go func() {
		defer close(o.done)
		// This goroutine never unlocks its thread, so the thread ends with it. No other goroutine may run on a thread that
		// blocks these signals.
		runtime.LockOSThread()
		blockWriteSignals()
		close(running)
		for line := range o.lines {
			if line == nil {
				o.marked <- struct{}{}
				continue
			}
			if o.raw && terminal.IsTerminal(fd) { // a raw terminal does not return the carriage at \n
				line = append(bytes.TrimSuffix(line, []byte("\n")), "\r\n"...)
			}
			writeAll(fd, line)
		}
		if n := o.dropped.Load(); n > 0 {
			var line bytes.Buffer
			log := slog.New(newHandler(&line, o.json, slog.LevelWarn, time.Time{}))
			log.Warn("dropped log lines", "count", n, "err", "standard error is read too slowly")
			writeAll(fd, line.Bytes())
		}
	}()
	<-running
	return o
}

// Write queues one line. It never blocks and never fails: it drops the line if the queue is full. A goroutine may still
// log after flush; Write drops such a line, too.
func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		select {
		case o.lines <- bytes.Clone(line):
		default:
			o.dropped.Add(1)
		}
	}
	return len(line), nil
}

// catchUp waits until all queued lines are written, so that later output of other processes follows them. It waits for
// at most catchUpTime, and does not wait if the queue is full. After a timeout it never waits again. Only one goroutine
// may call catchUp.
func (o *output) catchUp() {
	o.mu.Lock()
	waits := !o.slow && !o.closed
	if waits {
		select {
		case o.lines <- nil:
		default:
			waits = false
		}
	}
	o.mu.Unlock()
	if !waits {
		return
	}
	select {
	case <-o.marked:
	case <-time.After(catchUpTime):
		o.slow = true
	}
}

// flush closes the output, and waits until the queued lines are written, but at most for flushTimeout. Lines that are
// not written when graceful exits are lost.
func (o *output) flush() {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.lines)
	}
	o.mu.Unlock()
	select {
	case <-o.done:
	case <-time.After(flushTimeout):
	}
}

// writeAll writes a line. It ignores a failure, because it has no way to report one. It does not use os.File: when the
// reader of standard error has exited, a write by os.File ends the process with SIGPIPE (os/signal).
func writeAll(fd int, line []byte) {
	for len(line) > 0 {
		n, err := unix.Write(fd, line)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN: // another process has set O_NONBLOCK on the shared open file
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		case err != nil:
			return
		default:
			line = line[n:]
		}
	}
}

// printLine prints text as one line of graceful.
func printLine(w io.Writer, text string) { fmt.Fprintf(w, "graceful: %s\n", oneLine(text)) }

// oneLine escapes unprintable characters, so that foreign text cannot break a line or control a terminal.
func oneLine(s string) string {
	var line strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(r)):
			fmt.Fprintf(&line, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			line.WriteRune(r)
		default:
			line.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return line.String()
}

// writeJSON writes the indented JSON form of v, for people and programs (cleanup.EncodeIndentedJSON).
func writeJSON(to io.Writer, v any) error {
	text, err := cleanup.EncodeIndentedJSON(v)
	if err != nil {
		return err
	}
	_, err = to.Write(text)
	return err
}
