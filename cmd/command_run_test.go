package cmd

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/runner/tree"
)

func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10s": 10 * time.Second, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond, "0": 0, "0s": 0, "7": 7 * time.Second,
	} {
		var got time.Duration
		if err := (durationValue{value: &got}).Set(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1s", "-5", "10 s", "99999999999999999999", "1e9"} {
		got := time.Hour
		if err := (durationValue{value: &got}).Set(text); err == nil || got != time.Hour {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
	if err := (durationValue{value: new(time.Duration), positive: true}).Set("0"); err == nil {
		t.Error("0 is taken where it cannot be")
	}
}

func TestWhatWasMeantForUsDoesNotReachTheTarget(t *testing.T) {
	environ := []string{
		"PATH=/bin", "GRACEFUL_GRACE=1s", "GRACEFUL_ON_EXIT=rm", "GRACEFUL_ON_EXIT_ORDER=fifo", "GRACEFUL_ON_EXIT_TIMEOUT=1s",
		"GRACEFUL_CONTAIN=group", "GRACEFUL_VERBOSE=1", "GRACEFUL_LOG_FORMAT=json", "GRACEFUL_NAME=outer", "GRACEFUL_REASON=exited",
		"GRACEFUL_HOOK_ID=1", "GRACEFUL_SOCKET=/s", "GRACEFUL_RUN_ID=kept: the run sets its own", "GRACEFUL_OTHER=not ours", "odd",
	}
	want := []string{"PATH=/bin", "GRACEFUL_RUN_ID=kept: the run sets its own", "GRACEFUL_OTHER=not ours", "odd"}
	if got := targetEnviron(environ); !slices.Equal(got, want) {
		t.Errorf("it sees %q, want %q", got, want)
	}
}

// The defaults stand in the contract.
func TestDefaults(t *testing.T) {
	flags := newRun(new(int)).Flags()
	for name, want := range map[string]string{
		"grace": "10s", "on-exit-timeout": "30s", "on-exit-order": string(cleanup.LIFO), "contain": string(tree.Auto),
		"verbose": "false", "log-format": "text", "on-exit": "", "name": "",
	} {
		if got := flags.Lookup(name).DefValue; got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
}

func TestOneMessageIsOneLine(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := newOutput(int(w.Fd()))
	log := slog.New(&textHandler{out: out, level: slog.LevelWarn})
	log.Info("not told")
	log.With("pid", 7).Warn("starting a\nb", "hint", "look", "err", errors.New("gone\x1b[31m"))
	out.flush()
	w.Close()
	text, err := io.ReadAll(r)
	if want := `graceful: starting a\nb pid=7: gone\x1b[31m (look)` + "\n"; err != nil || string(text) != want {
		t.Errorf("it wrote %q, want %q", text, want)
	}
}

// Nobody reads: nothing waits for that longer than a moment, and what was lost is counted.
func TestAReaderWhoDoesNotReadIsNotWaitedFor(t *testing.T) {
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
		t.Error("nothing was dropped: the pipe holds more than anybody thought")
	}
	out.flush()
	r.Close() // the writer's write fails, and it ends
	<-out.done
	w.Close()
}
