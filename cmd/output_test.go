package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner"
)

func TestOutput_oneLineForEachRecord(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := newOutput(int(w.Fd()))
	log := newLogger(out, runner.Config{}, time.Now())
	log.Info("only with --verbose")
	log.With("pid", 7).Warn("one\nline", "hint", "look", "err", errors.New("gone\x1b[31m"))
	out.flush()
	w.Close()
	text, err := io.ReadAll(r)
	if want := `graceful: one\nline pid=7: gone\x1b[31m (look)` + "\n"; err != nil || string(text) != want {
		t.Errorf("it wrote %q, want %q", text, want)
	}
}

// If the reader does not read, Write and flush still return, and output counts the lines that it drops.
func TestOutput_readerDoesNotRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := newOutput(int(w.Fd()))
	line := []byte(strings.Repeat("x", 1000) + "\n")
	for range 3 * queueLines {
		if n, err := out.Write(line); n != len(line) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if out.dropped.Load() == 0 {
		t.Error("nothing was dropped: the pipe holds more lines than the test writes")
	}
	out.flush()
	r.Close() // the next write fails, and the writing thread ends
	<-out.done
	w.Close()
}

func TestOutput_droppedLinesInJSON(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := newOutput(int(w.Fd()))
	newLogger(out, runner.Config{LogJSON: true}, time.Now())
	out.dropped.Store(7)
	out.flush()
	w.Close()
	text, err := io.ReadAll(r)
	want := `,"level":"WARN","msg":"dropped log lines","count":7,"err":"standard error is read too slowly"}` + "\n"
	if err != nil || !strings.HasSuffix(string(text), want) {
		t.Errorf("it wrote %s, want %s", text, want)
	}
}

// A slow reader gets whole lines in order, and then the number of dropped lines.
func TestOutput_slowReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := newOutput(int(w.Fd()))
	const all = 100 * queueLines
	for n := range all {
		_, _ = out.Write([]byte(strconv.Itoa(n) + strings.Repeat(" ", 100) + "\n"))
	}
	dropped := out.dropped.Load()
	if dropped == 0 {
		t.Fatal("nothing was dropped: the pipe holds more lines than the test writes")
	}
	text := make(chan string)
	go func() {
		data, _ := io.ReadAll(r)
		text <- string(data)
	}()
	for deadline := time.Now().Add(time.Minute); len(out.lines) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the writer hangs")
		}
	}
	out.flush()
	<-out.done
	w.Close()

	lines := strings.Split(strings.TrimSuffix(<-text, "\n"), "\n")
	last := lines[len(lines)-1]
	want := fmt.Sprintf("graceful: dropped log lines count=%d: standard error is read too slowly", dropped)
	if last != want {
		t.Errorf("the last line is %q, want %q", last, want)
	}
	if kept := len(lines) - 1; kept != all-int(dropped) {
		t.Errorf("%d lines were read and %d dropped, of %d", kept, dropped, all)
	}
	before := -1
	for _, line := range lines[:len(lines)-1] {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || n <= before || len(line) < 101 {
			t.Fatalf("after line %d came %q", before, line)
		}
		before = n
	}
}

func TestOutputFlush_waitsForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		out := &output{lines: make(chan []byte, 1), done: make(chan struct{})} // no thread writes the lines
		out.flush()
		out.flush()
		printLine(out, "too late") // Write drops the line
		if took := time.Since(began); took != 2*flushTimeout {
			t.Errorf("flushed for %v, want %v at a time", took, flushTimeout)
		}
		if flushTimeout > 2*time.Second {
			t.Errorf("%v is too long: it delays the exit of graceful", flushTimeout)
		}
	})
}

// writeAll loses no byte if another process has set O_NONBLOCK on the shared standard error.
func TestWriteAll_nonBlockingDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := int(w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1<<20) // more than fits into a pipe
	go func() {
		writeAll(fd, []byte(long))
		w.Close()
	}()
	if text, err := io.ReadAll(r); err != nil || string(text) != long {
		t.Errorf("%d bytes of %d were read: %v", len(text), len(long), err)
	}
}

// Text from other programs stays on one line, and cannot control a terminal.
func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain ä": "plain ä", `back\slash "'`: `back\slash "'`, "a\nb": `a\nb`, "a\r\nb": `a\r\nb`,
		"\x1b[2J": `\x1b[2J`, "a\tb\x00\x07\x7f": `a\tb\x00\a\x7f`,
		"\u009b2J": `\u009b2J`, "\u202egnp.exe": `\u202egnp.exe`, "\xff\x9b2J": `\xff\x9b2J`,
		"�\xf0": `�\xf0`, "": "",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
