package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Full-screen programs show the same with and without graceful.
func TestTerminal_fullScreenPrograms(t *testing.T) {
	need(t, "linux", "tmux", "bash")
	// The steps alternate: a text that must appear, and the keys to type then. The last keys print "end" and the exit
	// status.
	const end = "echo Space end$? Enter"
	for name, script := range map[string]struct {
		needs   []string
		program string
		steps   []string
	}{
		"vim": {[]string{"vim"}, "vim -u NONE -N text", []string{
			"~", "ihello Escape", "hello", "yyp C-z", "Stopped", "fg Enter", "hello\nhello", "i- Escape", "-hello", ":wq Enter",
			"fg\nvim -u NONE -N text\n$", "cat Space text Enter", "text\nhello\n-hello\n$", end,
		}},
		"python": {[]string{"python3"}, "python3 -q", []string{
			"go\n>>>", "6*7 Enter", "42", "import Space time;print(1);time.sleep(1000) Enter", "1\n", "C-c", "KeyboardInterrupt",
			"C-z",
			"Stopped", "fg Enter", "fg\npython3", "Enter", "python3 -q\n>>>", "8*8 Enter", "64\n>>>", "C-d", ">>>\n$", end,
		}},
		"bash": {nil, "bash --norc --noprofile -i", []string{
			"go\n$", "./copy Enter", "it copies", "typed Enter", "typed\ntyped", "C-z", "Stopped", "fg Enter", "fg\n./copy",
			"C-d", "fg\n./copy\n$", "exit Space 3 Enter", "exit\n$", end,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, script.needs...)
			screens := map[string]string{}
			for _, wrapper := range []string{"", "graceful run -- ", "graceful run --guard off --contain group -- "} {
				screens[wrapper] = screen(t, wrapper, script.program, script.steps)
				if screens[wrapper] != screens[""] {
					t.Errorf("%sthe screen is\n%s\nand without graceful\n%s", wrapper, screens[wrapper], screens[""])
				}
			}
		})
	}
}

// screen runs a program with a wrapper in tmux(1), performs the steps, and returns the last screen. It omits empty
// lines and the text of the wrapper. Blanks in a step separate keys.
func screen(t *testing.T, wrapper, program string, steps []string) string {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "tmux")
	tmux := func(args ...string) string {
		cmd := exec.Command("tmux", slices.Concat([]string{"-S", socket, "-f", "/dev/null"}, args)...)
		cmd.Env = append(os.Environ(), "PYTHON_BASIC_REPL=1", "TMUX=")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("tmux %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	// Define an alias in the startup file of bash, so that the typed line is the same with each wrapper.
	start := filepath.Join(dir, "start")
	profile := "export PS1='$ '; HISTFILE=; alias go='" + wrapper + program + "'\n"
	if err := os.WriteFile(start, []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = "#!/bin/sh\necho it copies\nexec cat\n"
	if err := writeProgram(filepath.Join(dir, "copy"), []byte(script)); err != nil {
		t.Fatal(err)
	}
	tmux("new-session", "-d", "-x", "150", "-y", "24", "bash --noprofile --rcfile "+start+" -i")
	defer tmux("kill-server")
	shown := ""
	sees := func(what string, seen func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			shown = ""
			for line := range strings.Lines(tmux("capture-pane", "-p")) {
				if line != "\n" { // the number of empty lines depends on the time of the typing
					shown += strings.ReplaceAll(line, wrapper, "")
				}
			}
			if seen() {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q: no %s; the screen is\n%s", wrapper, what, shown)
			}
		}
	}
	prompt := func() bool { return strings.HasSuffix(strings.TrimSpace(shown), "$") }
	sees("prompt", prompt)
	tmux("send-keys", "go", "Enter")
	for i := 0; i < len(steps); i += 2 {
		sees(steps[i], func() bool { return strings.Contains(shown, steps[i]) })
		tmux(append([]string{"send-keys"}, strings.Fields(steps[i+1])...)...)
	}
	sees("end", func() bool { return strings.Contains(shown, "end") && prompt() })
	return shown
}
