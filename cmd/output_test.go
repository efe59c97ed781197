package cmd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"graceful/runner"

	"golang.org/x/sys/unix"
)

// without takes away the variables that configure us, which a test run inside a run would have.
func without(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "GRACEFUL_") {
			t.Setenv(name, "") // so that it comes back after the test
			os.Unsetenv(name)
		}
	}
}

// Whatever is wrong is named with where it comes from. (No command is given, so that none is started even where a
// mistake goes unnoticed.)
func TestAMistakeIsNamedWithItsSource(t *testing.T) {
	const noCommand = "run: no command was given (graceful run [flags] -- COMMAND [ARG...])"
	for _, c := range []struct {
		args string // after graceful run
		env  map[string]string
		want string
	}{
		{"--grace soon", nil, `--grace: "soon" is no time (10s, 1m30s, 500ms)`},
		{"--grace=-1s", nil, `--grace: "-1s" is less than 0`},
		{"--on-exit-timeout 0", nil, "--on-exit-timeout: the time must be more than 0"},
		{"--on-exit-order up", nil, `--on-exit-order: "up" is no order (lifo, fifo, parallel)`},
		{"--contain jail", nil, `--contain: "jail" is no level of containment (auto, subreaper, group, cgroup)`},
		{"--log-format xml", nil, `--log-format: "xml" is no form of messages (text, json)`},
		{"--on-exit [1]", nil, `--on-exit: "[1]": not a JSON array of strings: `},
		{"--verbose=loud", nil, `--verbose: "loud" is neither true nor false`},
		{"--gracious", nil, "--gracious: there is no such flag (see graceful run --help)"},
		{"-vx", nil, "-x: there is no such flag (see graceful run --help)"},
		{"--grace", nil, "flag needs an argument: --grace (see graceful run --help)"},
		{"", map[string]string{"GRACEFUL_GRACE": "soon"}, `GRACEFUL_GRACE: "soon" is no time (10s, 1m30s, 500ms)`},
		{"", map[string]string{"GRACEFUL_ON_EXIT_ORDER": "up"}, `GRACEFUL_ON_EXIT_ORDER: "up" is no order (lifo, fifo, parallel)`},
		{"", map[string]string{"GRACEFUL_VERBOSE": "loud"}, `GRACEFUL_VERBOSE: "loud" is neither true nor false`},
		{"", map[string]string{"GRACEFUL_GRACE": "soon", "GRACEFUL_VERBOSE": "loud"}, // all of them
			"GRACEFUL_GRACE: \"soon\" is no time (10s, 1m30s, 500ms)\nGRACEFUL_VERBOSE: \"loud\" is neither true nor false"},
		{"--grace 1s", map[string]string{"GRACEFUL_GRACE": "soon"}, noCommand}, // the flag counts for more
		{"", map[string]string{"GRACEFUL_GRACE": ""}, noCommand},               // an empty one is not set
		{"", nil, noCommand},
	} {
		t.Run(c.args+strings.Join(pairs(c.env), " "), func(t *testing.T) {
			without(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			root := newRoot(new(int))
			root.SetArgs(append([]string{"run"}, strings.Fields(c.args)...))
			if err := root.Execute(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("the error is %v\nwant %s", err, c.want)
			}
		})
	}
}

func pairs(env map[string]string) (all []string) {
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}

func TestEachFlagHasAVariable(t *testing.T) {
	for flag, want := range map[string]string{"grace": "GRACEFUL_GRACE", "on-exit-order": "GRACEFUL_ON_EXIT_ORDER"} {
		if got := variable(flag); got != want {
			t.Errorf("--%s is %s, want %s", flag, got, want)
		}
	}
}

// Inside a run GRACEFUL_NAME tells that run's name.
func TestANestedRunDoesNotTakeTheOuterOnesName(t *testing.T) {
	for id, want := range map[string]string{"": "outer", "17": ""} {
		without(t)
		t.Setenv("GRACEFUL_NAME", "outer")
		t.Setenv("GRACEFUL_RUN_ID", id)
		flags := newRun(new(int)).Flags()
		if _, err := readVariables(flags); err != nil {
			t.Fatal(err)
		}
		if got := flags.Lookup("name").Value.String(); got != want {
			t.Errorf("in run %q the name is %q, want %q", id, got, want)
		}
	}
}

func TestACommandThatThereIsNotIsNamedWithAHint(t *testing.T) {
	for name, hint := range map[string]string{
		"rnu": "did you mean graceful run?", "./serve": "to run it: graceful run -- ./serve", "frobnicate": "see graceful help",
	} {
		root := newRoot(new(int))
		root.SetArgs([]string{name})
		want := fmt.Sprintf("there is no command %q (%s)", name, hint)
		if err := root.Execute(); err == nil || err.Error() != want {
			t.Errorf("the error is %v\nwant %s", err, want)
		}
	}
}

// The test binary is also the program, for what it says and how it ends.
func init() {
	if os.Getenv("CMD_TEST_MAIN") != "" {
		os.Exit(Main(os.Args))
	}
}

func TestMistakesAreSaidOneLineEachAndEndInStatus125(t *testing.T) {
	without(t)
	t.Setenv("CMD_TEST_MAIN", "1")
	t.Setenv("GRACEFUL_GRACE", "so\non")
	t.Setenv("GRACEFUL_VERBOSE", "loud")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	program := exec.Command(self, "run")
	program.Stdout, program.Stderr = &stdout, &stderr
	_ = program.Run()
	want := `graceful: GRACEFUL_GRACE: "so\non" is no time (10s, 1m30s, 500ms)
graceful: GRACEFUL_VERBOSE: "loud" is neither true nor false
`
	if stdout.String() != "" || stderr.String() != want || program.ProcessState.ExitCode() != 125 {
		t.Errorf("it said %q and %q, with %v", stdout.String(), stderr.String(), program.ProcessState)
	}
}

func TestHowARecordIsSaid(t *testing.T) {
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		verbose bool
		attrs   []any
		want    string
	}{
		{false, nil, "graceful: text\n"},
		{true, nil, "graceful: 1.500s text\n"},
		{false, []any{"pid", 7, "err", errors.New("gone"), "hint", "look"}, "graceful: text pid=7: gone (look)\n"},
		{false, []any{"hint", "look", "err", errors.New("gone")}, "graceful: text: gone (look)\n"},
		{false, []any{"hint", ""}, "graceful: text\n"},
		{false, []any{"to", []string{"a", "b\r\n"}}, `graceful: text to=[a b\r\n]` + "\n"},
	} {
		out := &output{lines: make(chan []byte, 1)}
		h := &textHandler{out: out, level: slog.LevelWarn, began: began}
		if c.verbose {
			h.level = slog.LevelInfo
		}
		r := slog.NewRecord(began.Add(1500*time.Millisecond), slog.LevelWarn, "text", 0)
		r.Add(c.attrs...)
		if err := h.Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := string(<-out.lines); got != c.want {
			t.Errorf("verbose %t, %v: %q, want %q", c.verbose, c.attrs, got, c.want)
		}
	}
}

func TestWhatIsSaidIsNeverMoreThanALine(t *testing.T) {
	for text, want := range map[string]string{
		"plain ä": "plain ä", "a\nb": `a\nb`, "a\r\nb": `a\r\nb`, "\x1b[2J": `\x1b[2J`, `back\slash "'`: `back\slash "'`,
		"a\tb\x00\x07\x7f": `a\tb\x00\a\x7f`, "\u009b2J": `\u009b2J`, "\u202egnp.exe": `\u202egnp.exe`, "\xff\x9b2J": `\xff\x9b2J`,
		"�\xf0": `�\xf0`, "": "",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q is said as %q, want %q", text, got, want)
		}
	}
}

func TestDroppedLinesAreToldInTheFormOfTheOthers(t *testing.T) {
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
	if want := `,"level":"WARN","msg":"7 lines were dropped: standard error is read too slowly"}` + "\n"; err != nil || !strings.HasSuffix(string(text), want) {
		t.Errorf("it wrote %s, want %s", text, want)
	}
}

// A slow reader gets what was kept, whole and in order, and is told how much was not.
func TestDroppedLinesAreCounted(t *testing.T) {
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
		t.Fatal("nothing was dropped: the pipe holds more than anybody thought")
	}
	text := make(chan string)
	go func() {
		data, _ := io.ReadAll(r)
		text <- string(data)
	}()
	for deadline := time.Now().Add(time.Minute); len(out.lines) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the writer does not go on")
		}
	}
	out.flush()
	<-out.done
	w.Close()

	lines := strings.Split(strings.TrimSuffix(<-text, "\n"), "\n")
	last := lines[len(lines)-1]
	if want := strconv.Itoa(int(dropped)) + " lines were dropped"; !strings.Contains(last, want) {
		t.Errorf("the last line is %q, want one about %q", last, want)
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

func TestTheLastWordsAreWaitedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		out := &output{lines: make(chan []byte, 1), done: make(chan struct{})} // and nobody who writes
		out.flush()
		out.flush()
		say(out, "too late, and not missed") // by whom no more is waited for
		if took := time.Since(began); took != 2*flushTimeout {
			t.Errorf("flushed for %v, want %v at a time", took, flushTimeout)
		}
		if flushTimeout > 2*time.Second {
			t.Errorf("%v is long for one who waits for our exit", flushTimeout)
		}
	})
}

// Somebody who shares standard error may have made it non-blocking. Nothing is lost for that.
func TestANonBlockingStandardErrorLosesNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := int(w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1<<20) // more than a pipe holds
	go func() {
		writeAll(fd, []byte(long))
		w.Close()
	}()
	if text, err := io.ReadAll(r); err != nil || string(text) != long {
		t.Errorf("%d bytes of %d were read: %v", len(text), len(long), err)
	}
}
