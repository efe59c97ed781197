package cmd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"graceful/runner/terminal"

	"golang.org/x/sys/unix"
)

// How graceful speaks:
//
// It says nothing unless something is wrong, or -v asks. What it says is one line on standard error:
//
//	graceful: what was tried: why (hint)
//
// in lower case, without a full stop; -v puts the time since the start in front of the text. Standard output
// belongs to the target, help and version excepted. No reader of our output can hold us up or end us: lines go to
// a writer of their own, and when that has fallen too far behind they are dropped and counted.

const (
	queueLines   = 1024
	flushTimeout = time.Second
)

// output writes lines to a descriptor in the background.
type output struct {
	lines   chan []byte
	json    bool // what goes through it is JSON
	raw     bool // if it is a terminal, it may be raw meanwhile
	dropped atomic.Int64
	done    chan struct{}

	mu     sync.Mutex
	closed bool // no line is taken any more
}

func newOutput(fd int) *output {
	o := &output{lines: make(chan []byte, queueLines), done: make(chan struct{})}
	running := make(chan bool)
	go func() {
		defer close(o.done)
		// For good: this thread alone may write to a terminal from its background, or against a limit.
		runtime.LockOSThread()
		blockOwn()
		close(running)
		for line := range o.lines {
			if o.raw && terminal.IsTerminal(fd) { // it does not go back to the left by itself
				line = append(bytes.TrimSuffix(line, []byte("\n")), "\r\n"...)
			}
			writeAll(fd, line)
		}
		if n := o.dropped.Load(); n > 0 {
			lost := fmt.Sprintf("%d lines were dropped: standard error is read too slowly", n)
			if o.json {
				slog.New(slog.NewJSONHandler(descriptor(fd), nil)).Warn(lost)
			} else {
				writeAll(fd, []byte("graceful: "+lost+"\n"))
			}
		}
	}()
	<-running
	return o
}

// Write takes one line. It never blocks and never fails, and after flush does nothing: whoever watches or relays in the
// background may have something to say when all is over.
func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return len(line), nil
	}
	select {
	case o.lines <- append([]byte(nil), line...):
	default:
		o.dropped.Add(1)
	}
	return len(line), nil
}

// flush ends the output. What cannot be written in flushTimeout is lost.
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

// writeAll writes a line as well as it can: nobody is left to be told of a failure. (os.File's Write would end the
// program when the reader of standard error has gone; see os/signal on SIGPIPE.)
func writeAll(fd int, line []byte) {
	for len(line) > 0 {
		n, err := unix.Write(fd, line)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN: // somebody who shares the descriptor has set O_NONBLOCK
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		case err != nil:
			return
		default:
			line = line[n:]
		}
	}
}

// descriptor is for who wants an io.Writer.
type descriptor int

func (d descriptor) Write(line []byte) (int, error) {
	writeAll(int(d), line)
	return len(line), nil
}

func say(o *output, text string) { fmt.Fprintf(o, "graceful: %s\n", oneLine(text)) }

// oneLine keeps what others put into our messages from breaking their form, and from writing anywhere else in a terminal.
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

// textHandler is the slog.Handler of the form above.
type textHandler struct {
	out   *output
	level slog.Level
	began time.Time
	attrs []slog.Attr
}

func (h *textHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	var text, tail strings.Builder
	if h.level < slog.LevelWarn {
		fmt.Fprintf(&text, "%.3fs ", r.Time.Sub(h.began).Seconds())
	}
	text.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		switch {
		case a.Key == "err":
			fmt.Fprintf(&text, ": %v", a.Value)
		case a.Key == "hint" && a.Value.String() == "":
		case a.Key == "hint":
			fmt.Fprintf(&tail, " (%v)", a.Value)
		default:
			fmt.Fprintf(&text, " %s=%v", a.Key, a.Value)
		}
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	say(h.out, text.String()+tail.String())
	return nil
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return &with
}

func (h *textHandler) WithGroup(string) slog.Handler { return h }
