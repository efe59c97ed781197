package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The message about SIGKILL names up to five processes, at the default log level.
func TestLog_killNamesTheProcesses(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		for _, n := range []int{1, 7} {
			p := start(t, "graceful", "run", "--guard", guard, "--grace", "200ms", "--", "sh", "-c",
				fmt.Sprintf("for n in $(seq 2 %d); do helper ignore TERM -- up$n & done; exec helper ignore TERM -- up1", n))
			for i := range n {
				p.waitForFile("up" + strconv.Itoa(i+1))
			}
			p.signal(unix.SIGTERM)
			p.want("137")
			want := fmt.Sprintf(`^graceful: the grace of 200ms ran out: SIGKILL to helper \(%d\)`, p.pidIn("up1"))
			if n > 1 {
				want += `(, helper \(\d+\)){4} and 2 more`
			}
			if want += "\n$"; !regexp.MustCompile(want).MatchString(p.text()) {
				t.Errorf("guard %s, %d processes: it wrote %q, want %s", guard, n, p.text(), want)
			}
		}
	}
}

// After 3s, a stop logs what it is waiting for.
func TestLog_longStop(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for name, c := range map[string]struct{ flags, want string }{
		"the target": {"--grace 9s", `waiting for helper \(%d\): 6s until SIGKILL`},
		"an on-stop command": {"--on-stop 'sleep 1000' --on-stop-timeout 9s",
			`waiting for on-stop command sleep 1000: 6s until SIGTERM to it`},
		"the drain": {"--drain 9s", `waiting for the drain: 6s until the stop signal`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "sh", "-c", "exec graceful run "+c.flags+" -- helper ignore TERM -- up")
			target := p.pidIn("up")
			p.signal(unix.SIGTERM)
			p.until("message", func() bool { return strings.Contains(p.text(), "waiting") })
			kill(t, target)
			p.want("137")
			want := "^graceful: " + c.want + "\n"
			if strings.Contains(want, "%d") {
				want = fmt.Sprintf(want, target)
			}
			if !regexp.MustCompile(want).MatchString(p.text()) {
				t.Errorf("it wrote %q, want %q", p.text(), want)
			}
		})
	}
}

// With --quiet, graceful writes only its own errors to standard error. --quiet and --verbose together are an error.
func TestQuiet_onlyErrors(t *testing.T) {
	t.Parallel()
	p := start(t, "graceful", "run", "--quiet", "--grace", "100ms", "--on-exit", "false", "--timeout", "200ms", "--",
		"helper", "ignore", "TERM", "--", "up")
	p.want("137")
	if p.text() != "" {
		t.Errorf("it wrote %q", p.text())
	}
	p = start(t, "graceful", "run", "-q", "--", "no-such-program")
	p.want("127")
	if !strings.HasPrefix(p.text(), "graceful: target not started") {
		t.Errorf("it wrote %q", p.text())
	}
	p = start(t, "graceful", "run", "-q", "-v", "--", "true")
	p.want("125")
}

// A reader of graceful's messages that has gone away or does not read, or a full disk, does not change the exit status,
// and does not prevent cleanup.
func TestLog_badReaders(t *testing.T) {
	run := []string{"graceful", "run", "-v", "--on-exit", "echo >>cleaned 1", "--", "sh", "-c", "exit 3"}
	t.Run("has gone away", func(t *testing.T) {
		t.Parallel()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		p := command(t, run...)
		p.cmd.Stderr, p.cmd.Stdout = w, w
		p.start().want("3")
		p.wantFile("cleaned", "1\n")
	})
	t.Run("does not read", func(t *testing.T) {
		t.Parallel()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))                  // the pipe is full now
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETFL, 0); err != nil { // writes to the pipe block again
			t.Fatal(err)
		}
		p := command(t, run...)
		p.cmd.Stderr = w
		p.start().want("3")
		p.wantFile("cleaned", "1\n")
	})
	t.Run("is a full disk", func(t *testing.T) {
		need(t, "linux")
		t.Parallel()
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := command(t, run...)
		p.cmd.Stderr, p.cmd.Stdout = full, full
		p.start().want("3")
		p.wantFile("cleaned", "1\n")
	})
}
