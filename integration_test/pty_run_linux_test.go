package integration_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Roles for the tests of --pty:
//
//	pour N FILE     writes the checksum of N noise bytes to FILE, then the bytes to standard output, and ends
//	tick FILE       writes numbered lines to standard output, and each line then also to FILE; at SIGTERM writes a
//	                last line to standard output only, and ends
func init() { roles["pour"], roles["tick"] = pour, tick }

func pour(args []string) int {
	n, _ := strconv.Atoi(args[0])
	data := noise(n)
	if err := os.WriteFile(args[1], fmt.Appendf(nil, "%x", sha256.Sum256(data)), 0o644); err != nil {
		panic(err)
	}
	if _, err := os.Stdout.Write(data); err != nil {
		panic(err)
	}
	return 0
}

// noise returns n pseudo-random bytes, the same ones in each call.
func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

func tick(args []string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	file, err := os.Create(args[0])
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		line := fmt.Sprintf("line %d\n", i)
		fmt.Print(line)
		fmt.Fprint(file, line)
		select {
		case <-stop:
			fmt.Println("the last one")
			return 0
		default:
		}
	}
}

// ptyRun returns a command line of graceful with --pty.
func ptyRun(args ...string) []string { return append([]string{"graceful", "run", "--pty"}, args...) }

// term is a terminal in which a test runs a program. The output of proc contains the bytes that the terminal gets.
type term struct {
	*proc
	master, slave *os.File
}

// inTerminal starts a program as the session leader of a new terminal.
func inTerminal(t *testing.T, rows, cols uint16, args ...string) term {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		need(t, "pseudo-terminal")
	}
	x := term{command(t, args...), master, slave}
	x.resize(rows, cols)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	shown := make(chan bool)
	t.Cleanup(func() { // this cleanup runs after that of start, which is registered later
		slave.Close()
		select {
		case <-shown:
		case <-time.After(patience):
			t.Error("a process still has the terminal")
		}
		master.Close()
	})
	x.start()
	go func() {
		defer close(shown)
		_, _ = io.Copy(x.output, master) // until no process has the slave open
	}()
	return x
}

func (x term) resize(rows, cols uint16) {
	x.t.Helper()
	if err := pty.Setsize(x.master, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		x.t.Fatal(err)
	}
}

func (x term) press(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

func (x term) shows(text string) {
	x.t.Helper()
	x.until(fmt.Sprintf("%q on the screen", text), func() bool { return strings.Contains(x.text(), text) })
}

// modes returns the modes of the terminal in the form of stty -g.
func (x term) modes() string {
	x.t.Helper()
	c := exec.Command("stty", "-g")
	c.Stdin = x.slave
	out, err := c.CombinedOutput()
	if err != nil {
		x.t.Fatalf("stty: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func (x term) isRaw() bool {
	m, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
	return err == nil && m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0 && m.Oflag&unix.OPOST == 0
}

func (x term) becomesRaw() {
	x.t.Helper()
	x.until("raw terminal", x.isRaw)
}

// forEachLevelWithPTY runs a test with and without a guard, and at each level of containment. run returns a command
// line of graceful run --pty with further arguments.
func forEachLevelWithPTY(t *testing.T, test func(t *testing.T, run func(args ...string) []string)) {
	for _, flags := range [][]string{
		{"--guard", "on"}, {"--guard", "off"},
		{"--contain", "subreaper"}, {"--contain", "group"}, {"--contain", "cgroup"},
	} {
		t.Run(strings.Join(flags, " ")[2:], func(t *testing.T) {
			t.Parallel()
			run := func(args ...string) []string { return ptyRun(slices.Concat(flags, args)...) }
			if flags[1] == "cgroup" {
				need(t, "root")
				inside := ownCgroup(t)
				run = func(args ...string) []string { return inCgroup(inside, ptyRun(slices.Concat(flags, args)...)...) }
			}
			test(t, run)
		})
	}
}

// The target's terminal has the size of graceful's terminal, and the target gets one SIGWINCH for each change. Without
// a terminal, COLUMNS and LINES give the size. If COLUMNS is missing or invalid, the terminal has 80 columns. Without a
// valid LINES, it has 24 lines.
func TestPTY_size(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	const report = `trap 'stty size >>sizes' WINCH; stty size >>sizes; echo >ready 1; while :; do sleep 0.01; done`
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		x := inTerminal(t, 33, 101, run("--", "sh", "-c", report)...)
		x.waitForFile("ready")
		want := "33 101\n"
		for rows := range uint16(3) {
			x.resize(40+rows, 120)
			want += fmt.Sprintf("%d 120\n", 40+rows)
			x.until(fmt.Sprintf("size %d", 40+rows), func() bool { return len(x.waitForFile("sizes")) >= len(want) })
		}
		x.signal(unix.SIGWINCH) // graceful forwards the signal, although the size has not changed
		x.until("signal that was sent by hand", func() bool { return len(x.waitForFile("sizes")) > len(want) })
		x.signal(unix.SIGTERM)
		x.want("143")
		x.wantFile("sizes", want+"42 120\n")

		x = inTerminal(t, 33, 101, run("--", "helper", "count", "seen")...)
		x.eachSizeOnce("seen", func(rows uint16) { x.resize(rows, 101) })
		x.want("137")

		for env, want := range map[string]string{
			"": "24 80", "COLUMNS=100 LINES=30": "30 100", "COLUMNS=100": "24 100", "COLUMNS=x LINES=-1": "24 80",
		} {
			p := command(t, run("--", "stty", "size")...)
			p.cmd.Env = append(os.Environ(), strings.Fields(env)...)
			p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
			p.start().want("0")
			if got := strings.TrimSpace(p.text()); got != want {
				t.Errorf("without a terminal, with %q: %s, want %s", env, got, want)
			}
		}
	})
}

// Editors and pagers show the same with --pty as without graceful. The test uses tmux to get the visible part of the
// screen.
func TestPTY_editorsAndPagers(t *testing.T) {
	need(t, "tmux", "vim", "less", "seq")
	t.Parallel()
	dir := t.TempDir()
	screens := map[string][]string{}
	for i, wrapper := range [][]string{nil, ptyRun("--"), ptyRun("--guard", "off", "--contain", "group", "--")} {
		socket := filepath.Join(dir, fmt.Sprint("tmux", i))
		text := filepath.Join(dir, fmt.Sprint("text", i))
		tmux := func(args ...string) string {
			t.Helper()
			out, err := exec.Command("tmux", append([]string{"-f", "/dev/null", "-S", socket}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("tmux %q: %v: %s", args, err, out)
			}
			return string(out)
		}
		shown := func(want string) (screen string) {
			t.Helper()
			for late := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
				if screen = tmux("capture-pane", "-p"); strings.Contains(screen, want) {
					return screen
				}
				if time.Now().After(late) {
					t.Fatalf("%q: no %q on the screen:\n%s", wrapper, want, screen)
				}
			}
		}
		name := strings.Join(wrapper, " ")
		show := func(what, until string) {
			t.Helper()
			screens[name] = append(screens[name], what+":\n"+shown(until))
		}
		tmux("new-session", "-d", "-x", "70", "-y", "20", "sh", "-c", `PS1='$ ' exec sh -i`)
		t.Cleanup(func() { _ = exec.Command("tmux", "-S", socket, "kill-server").Run() })
		run := func(args ...string) {
			line := strings.Join(slices.Concat(wrapper, args), " ")
			tmux("send-keys", "-l", "clear; "+line+"; echo ended $?")
			tmux("send-keys", "Enter")
		}
		run("vim", "-u", "NONE", "-i", "NONE", "-n", "-N", "-c", "'set ruler noshowcmd'", text)
		shown("0,0-1")
		tmux("send-keys", "i", "hello", "Enter", "world", "Escape")
		show("vim", "2,5")
		tmux("resize-window", "-x", "60", "-y", "15")
		tmux("send-keys", "g", "g", "0")
		show("vim, smaller", "1,1 ")
		tmux("send-keys", "Z", "Z")
		shown("ended 0")
		if got, _ := os.ReadFile(text); string(got) != "hello\nworld\n" {
			t.Errorf("%s: vim wrote %q", name, got)
		}
		list := filepath.Join(dir, "list")
		if out, err := exec.Command("sh", "-c", "seq 1000 >"+list).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		run("less", list)
		show("less", "14\n")
		tmux("send-keys", "/", "777", "Enter")
		show("less, found", "790\n")
		tmux("send-keys", "G")
		show("less, at the end", "(END)")
		tmux("send-keys", "q")
		shown("ended 0")
	}
	for name, got := range screens {
		if want := screens[""]; !slices.Equal(got, want) {
			t.Errorf("%s shows\n%s\nand without graceful\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// The end of graceful's standard input is an end of file for the target, after all data.
func TestPTY_endOfFile(t *testing.T) {
	need(t, "bash")
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		for _, c := range []struct{ in, target, want string }{
			{"", "cat; echo end", "end"},
			{"a line\n", "cat; echo end", "a line\nend"},
			{"a line\nand a half", "cat; echo end", "a line\nand a halfend"},
			{"a\nb\n", "head -n 1; cat; cat; echo end", "a\nb\nend"}, // read(2) gets one line at most, so head leaves b
			{"a\n", "sleep 0.3; cat; sleep 0.3; cat; echo end", "a\nend"},
			{"exit 3", "cat; cat; cat; echo end", "exit 3end"},
			{strings.Repeat("0123456789\n", 20000), "wc -c; echo end", "220000\nend"},
		} {
			p := command(t, run("--", "sh", "-c", c.target)...)
			p.cmd.Stdin = strings.NewReader(c.in)
			p.start().want("0")
			if got := strings.ReplaceAll(strings.TrimSpace(p.text()), "\r", ""); got != c.want {
				t.Errorf("%.20q to %s: %q, want %q", c.in, c.target, got, c.want)
			}
		}
		// The line editor of bash switches off canonical mode, in which a key means an end of file. The line editor
		// switches canonical mode on for each command.
		for range 5 {
			p := command(t, run("--", "bash", "--norc", "--noprofile", "-i")...)
			p.cmd.Stdin = strings.NewReader("echo $((6*7))\nsleep 0.05\n")
			p.start().want("0")
			if got := p.text(); !strings.Contains(got, "\n42\r\n") {
				t.Errorf("bash showed:\n%s", got)
			}
		}
		// If standard input is closed, the target gets an end of file at once.
		p := command(t, slices.Concat([]string{"sh", "-c", `exec "$@" <&-`, "sh"}, run("--", "cat"))...)
		p.start().want("0")
	})
}

// If the target's terminal is raw, all bytes pass unchanged in both directions.
func TestPTY_rawBytesAreUnchanged(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		data := noise(1 << 20)
		p := command(t, run("--", "sh", "-c", fmt.Sprintf("stty raw -echo; echo 1 >ready; exec head -c %d", len(data)))...)
		p.cmd.Stdout = nil
		in, err1 := p.cmd.StdinPipe()
		out, err2 := p.cmd.StdoutPipe()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		p.start()
		p.waitForFile("ready")
		go func() {
			_, _ = in.Write(data)
			in.Close()
		}()
		got, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		p.want("0")
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d came back, or they differ", len(got), len(data))
		}
	})
}

// With --pty, the exit status of graceful is the same as without it.
func TestPTY_exitStatus(t *testing.T) {
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		notExecutable := filepath.Join(t.TempDir(), "not-executable")
		if err := os.WriteFile(notExecutable, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for target, want := range map[string]string{
			"exit 0": "0", "exit 7": "7", "kill -KILL $$": "137", "kill -SEGV $$": "139", "exec not-there": "127",
			"exec /": "126", "exec " + notExecutable: "126",
		} {
			p := start(t, run("--on-exit", `echo >>cleaned 1`, "--", "sh", "-c", target)...)
			p.want(want)
			p.wantFile("cleaned", "1\n")
		}
		for target, want := range map[string]string{"not-there": "127", "/": "126", notExecutable: "126"} {
			p := start(t, run("--on-exit", `echo >>cleaned 1`, "--", target)...)
			p.want(want)
			p.wantFile("cleaned", "1\n")
		}
		p := start(t, run("--timeout", "100ms", "--", "sleep", "1000")...)
		p.want("124")
	})
}
