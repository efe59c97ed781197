package cmd

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"graceful/runner"
)

// onGitHub and onGitLab are configurations with the environment of a CI job.
var (
	onGitHub = runner.Config{Annotations: true, Env: []string{"A=b", "GITHUB_ACTIONS=true"}}
	onGitLab = runner.Config{Annotations: true, Env: []string{"GITLAB_CI=true", "A=b"}}
)

// logged returns what a logger for a configuration writes when log uses it.
func logged(t *testing.T, c runner.Config, log func(*slog.Logger)) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := newOutput(int(w.Fd()))
	log(newLogger(out, c, time.Now()))
	out.flush()
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAnnotations_records(t *testing.T) {
	const plain = "graceful: failed: 100%, a: b\\r\\nc\ngraceful: gone\n"
	off, json, other := onGitHub, onGitHub, onGitHub
	off.Annotations, json.LogJSON, other.Env = false, true, []string{"GITHUB_ACTIONS=", "GITLAB_CI=1"}
	for name, c := range map[string]struct {
		config runner.Config
		want   string
	}{
		"GitHub": {onGitHub, "::warning title=graceful::failed: 100%25, a: b\\r\\nc\n::error title=graceful::gone\n"},
		"GitLab": {onGitLab, plain},
		"off":    {off, plain},
		"other":  {other, plain},
	} {
		if text := logged(t, c.config, logTwo); text != c.want {
			t.Errorf("%s: it wrote %q, want %q", name, text, c.want)
		}
	}
	if text := logged(t, json, logTwo); strings.Contains(text, "::") || !strings.Contains(text, `"msg":"failed"`) {
		t.Errorf("JSON is %s", text)
	}
}

func logTwo(log *slog.Logger) {
	log.Warn("failed", "err", "100%, a: b\r\nc")
	log.Error("gone")
}

// The text of a workflow command is on one line, like each message of graceful. The escapes follow GitHub's toolkit.
func TestEscapeData(t *testing.T) {
	if got, want := escapeData("100%\r\n%0A: a, b"), "100%25%0D%0A%250A: a, b"; got != want {
		t.Errorf("the escaped text is %q, want %q", got, want)
	}
}

// step is the message of a log record about a command, with the id and the name of the command.
type step struct{ message, id, name string }

func logSteps(steps ...step) func(*slog.Logger) {
	return func(log *slog.Logger) {
		for _, s := range steps {
			log := log.With("id", s.id, "command", "./a\n%", "run", "0123456789abcdef0123")
			if s.name != "" {
				log = log.With("name", s.name)
			}
			log.Debug(s.message)
		}
	}
}

func TestAnnotations_groups(t *testing.T) {
	const starts, over = messageCommandStarts, messageCommandOver
	for name, c := range map[string]struct {
		steps []step
		want  string // B for the beginning of a group, E for its end
	}{
		"one after the other": {
			[]step{{starts, "2", ""}, {over, "2", ""}, {starts, "1", ""}, {over, "1", ""}}, "B2 E2 B1 E1",
		},
		"a start is tried again": {[]step{{starts, "2", ""}, {starts, "2", ""}, {over, "2", ""}}, "B2 E2"},
		// Command 3 was registered with --when-exits, and begins before cleanup. So it has no group.
		"another one ends":                  {[]step{{starts, "2", ""}, {over, "3", ""}, {over, "2", ""}}, "B2 E2"},
		"a killed graceful began the group": {[]step{{over, "2", ""}, {starts, "1", ""}}, "E2 B1"},
		"another record":                    {[]step{{"something else", "2", ""}}, ""},
	} {
		var want string
		for _, word := range strings.Fields(c.want) {
			want += map[byte]string{'B': "::group::cleanup: ./a\\n%25\n", 'E': "::endgroup::\n"}[word[0]]
		}
		if text := logged(t, onGitHub, logSteps(c.steps...)); text != want {
			t.Errorf("%s: it wrote %q, want %q", name, text, want)
		}
	}
	quiet := onGitHub
	quiet.Quiet = true
	for _, c := range []runner.Config{quiet, {Verbose: true}, {LogJSON: true}} {
		if text := logged(t, c, logSteps(step{starts, "1", ""}, step{over, "1", ""})); text != "" {
			t.Errorf("%+v: it wrote %q", c, text)
		}
	}
}

// The begin and the end of a section have the same name, so that a process that resumes the run can end the section.
func TestGitlab_sections(t *testing.T) {
	now := time.Unix(7, 0)
	a := annotations{system: gitlab}
	attrs := textOf([]slog.Attr{
		slog.String("run", "0123456789abcdef0123"), slog.Int("id", 3), slog.String("name", "n\x1b"),
		slog.String("command", "secret"),
	})
	for message, want := range map[string]string{
		messageCommandStarts: "\x1b[0Ksection_start:7:graceful_0123456789abcdef_3[collapsed=true]\r\x1b[0Kcleanup: n\\x1b\n",
		messageCommandOver:   "\x1b[0Ksection_end:7:graceful_0123456789abcdef_3\r\x1b[0K\n",
	} {
		if line, _ := a.group(slog.NewRecord(now, slog.LevelDebug, message, 0), attrs); line != want {
			t.Errorf("%s: it is %q, want %q", message, line, want)
		}
	}
}

// The runner logs the messages that begin and end a group, with the attributes that a group needs.
func TestAnnotations_messagesOfRunner(t *testing.T) {
	messages := loggedMessages(t, "../runner")
	for _, message := range []string{messageCommandStarts, messageCommandOver} {
		if keys := messages[message]; len(keys) == 0 || keys[0] != "run" {
			t.Errorf("%s: its attributes are %q", message, keys)
		}
	}
}

// When catchUp returns, all lines that were queued before are written.
func TestOutputCatchUp(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := newOutput(int(w.Fd()))
	for range 1000 {
		printLine(out, "a line")
		out.catchUp()
		if out.slow {
			t.Skip("the machine is too slow for the test")
		}
		if _, err := w.WriteString("then\n"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		n, err := r.Read(got)
		if want := "graceful: a line\nthen\n"; err != nil || string(got[:n]) != want {
			t.Fatalf("%v: %q, want %q", err, got[:n], want)
		}
	}
	out.flush()
	w.Close()
	out.catchUp() // does nothing after flush
}

// A reader that does not read delays only one command, and only for catchUpTime.
func TestOutputCatchUp_readerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		out := &output{lines: make(chan []byte, 10), marked: make(chan struct{}, 1)} // no thread writes the lines
		for range 20 {
			out.catchUp()
			printLine(out, "a line")
		}
		if took := time.Since(began); took != catchUpTime {
			t.Errorf("catchUp waited %v, want %v", took, catchUpTime)
		}
		full := &output{lines: make(chan []byte)}
		if full.catchUp(); time.Since(began) != catchUpTime {
			t.Error("catchUp waits although the queue is full")
		}
	})
}
