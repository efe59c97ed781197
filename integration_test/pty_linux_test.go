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

// For the tests of --pty:
//
//	pour N FILE     writes N bytes that look random, and ends at once; their sum is in FILE before
//	tick FILE       writes numbered lines, each of them to FILE when it has been written; at SIGTERM a last one
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

// ptyRun is a run with a terminal of the target's own.
func ptyRun(args ...string) []string { return append([]string{"graceful", "run", "--pty"}, args...) }

// term is a terminal in which a test runs something: what it shows is what proc has written.
type term struct {
	*proc
	master, slave *os.File
}

// inTerminal starts a program as the leader of a terminal's session.
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
	t.Cleanup(func() { // after the program's end, which is later in the list
		slave.Close()
		<-shown
		master.Close()
	})
	x.start()
	go func() {
		defer close(shown)
		_, _ = io.Copy(x.output, master) // until nobody has the slave any more
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

// modes are its modes as stty(1) writes them.
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

// The same is promised with and without a second process, and at each level.
func eachWay(t *testing.T, test func(t *testing.T, run func(args ...string) []string)) {
	for _, flags := range [][]string{{"--guard", "on"}, {"--guard", "off"}, {"--contain", "subreaper"}, {"--contain", "group"}, {"--contain", "cgroup"}} {
		t.Run(strings.Join(flags, " ")[2:], func(t *testing.T) {
			t.Parallel()
			run := func(args ...string) []string { return ptyRun(slices.Concat(flags, args)...) }
			if flags[1] == "cgroup" {
				need(t, "root")
				inside := ownCgroup(t)
				run = func(args ...string) []string { return in(inside, ptyRun(slices.Concat(flags, args)...)...) }
			}
			test(t, run)
		})
	}
}

func TestATerminalOfTheTargetsOwnHasTheSizeOfOurs(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	const report = `trap 'stty size >>sizes' WINCH; stty size >>sizes; echo >ready 1; while :; do sleep 0.01; done`
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		x := inTerminal(t, 33, 101, run("--", "sh", "-c", report)...)
		x.file("ready")
		want := "33 101\n"
		for rows := range uint16(3) {
			x.resize(40+rows, 120)
			want += fmt.Sprintf("%d 120\n", 40+rows)
			x.until(fmt.Sprintf("size %d", 40+rows), func() bool { return len(x.file("sizes")) >= len(want) })
		}
		x.signal(unix.SIGWINCH) // and nothing has changed
		x.until("signal that was sent by hand", func() bool { return len(x.file("sizes")) > len(want) })
		x.signal(unix.SIGTERM)
		x.want("143")
		x.wrote("sizes", want+"42 120\n")

		x = inTerminal(t, 33, 101, run("--", "helper", "count", "seen")...)
		x.eachSizeOnce("seen", func(rows uint16) { x.resize(rows, 101) })
		x.want("137")

		for env, want := range map[string]string{"": "24 80", "COLUMNS=100 LINES=30": "30 100", "COLUMNS=100": "24 100", "COLUMNS=x LINES=-1": "24 80"} {
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

// Through tmux, which says what a person would see.
func TestEditorsAndPagersInATerminalOfTheirOwn(t *testing.T) {
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
			t.Errorf("%s shows\n%s\nand without it\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestNoByteOfATerminalsOutputIsLost(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	const size = 100 << 20
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		p := command(t, run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c", fmt.Sprintf("stty -opost; exec helper pour %d sum", size))...)
		p.cmd.Stdout, p.cmd.Stderr = nil, p.output
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.start()
		sum := sha256.New()
		n, err := io.Copy(sum, out)
		if err != nil {
			t.Fatal(err)
		}
		p.want("0")
		p.wrote("cleaned", "1\n")
		if got := fmt.Sprintf("%x", sum.Sum(nil)); got != p.file("sum") {
			t.Errorf("%d bytes of %d arrived, or others", n, size)
		}
	})
}

// The target has ended, its output has nowhere to go: cleanup does not wait for the reader, but we do.
func TestAReaderThatComesLateGetsAll(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		p := command(t, run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c", "stty -opost; helper pour 66000 sum; echo the end")...)
		p.cmd.Stdout = nil
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.start()
		p.file("cleaned")
		got, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		p.want("0")
		if want := append(noise(66000), "the end\n"...); !bytes.Equal(got, want) {
			t.Errorf("it got %d bytes of %d, or others", len(got), len(want))
		}
	})
}

func TestAReaderThatNeverReadsKeepsNobodyFromStopping(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"it ends": "exec yes", "it does not": "trap '' TERM; yes"} {
		t.Run(name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, run func(args ...string) []string) {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				p := command(t, run("--grace", "200ms", "--on-exit", "echo >>cleaned 1", "--", "sh", "-c", target)...)
				p.cmd.Stdout = w
				p.start()
				defer w.Close()
				p.until("full pipe", func() bool {
					fds := []unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLOUT}}
					n, err := unix.Poll(fds, 0)
					return n == 0 && err == nil
				})
				p.signal(unix.SIGTERM)
				p.want(map[string]string{"it ends": "143", "it does not": "137"}[name])
				p.wrote("cleaned", "1\n")
			})
		})
	}
}

func TestAnEndOfFileReachesTheTargetAsOne(t *testing.T) {
	need(t, "bash")
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		for _, c := range []struct{ in, target, want string }{
			{"", "cat; echo end", "end"},
			{"a line\n", "cat; echo end", "a line\nend"},
			{"a line\nand a half", "cat; echo end", "a line\nand a halfend"},
			{"a\nb\n", "head -n 1; cat; cat; echo end", "a\nb\nend"}, // head leaves it, as a terminal gives line by line
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
		// A line editor, which takes the terminal out of the mode that has ends of files, and puts it back for each command.
		for range 5 {
			p := command(t, run("--", "bash", "--norc", "--noprofile", "-i")...)
			p.cmd.Stdin = strings.NewReader("echo $((6*7))\nsleep 0.05\n")
			p.start().want("0")
			if got := p.text(); !strings.Contains(got, "\n42\r\n") {
				t.Errorf("bash showed:\n%s", got)
			}
		}
		// None at all.
		p := command(t, slices.Concat([]string{"sh", "-c", `exec "$@" <&-`, "sh"}, run("--", "cat"))...)
		p.start().want("0")
	})
}

func TestBytesGoThroughARawTerminalUnchanged(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		data := noise(1 << 20)
		p := command(t, run("--", "sh", "-c", fmt.Sprintf("stty raw -echo; echo 1 >ready; exec head -c %d", len(data)))...)
		p.cmd.Stdout = nil
		in, err1 := p.cmd.StdinPipe()
		out, err2 := p.cmd.StdoutPipe()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		p.start()
		p.file("ready")
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
			t.Errorf("%d bytes of %d came back, or others", len(got), len(data))
		}
	})
}

func TestExitStatusesOfATargetInATerminalOfItsOwn(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		if err := os.WriteFile(filepath.Join(t.TempDir(), "not"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for target, want := range map[string]string{
			"exit 0": "0", "exit 7": "7", "kill -KILL $$": "137", "kill -SEGV $$": "139", "exec not-there": "127", "exec /": "126",
		} {
			p := start(t, run("--on-exit", `echo >>cleaned 1`, "--", "sh", "-c", target)...)
			p.want(want)
			p.wrote("cleaned", "1\n")
		}
		for target, want := range map[string]string{"not-there": "127", "/": "126"} {
			p := start(t, run("--on-exit", `echo >>cleaned 1`, "--", target)...)
			p.want(want)
			p.wrote("cleaned", "1\n")
		}
		p := start(t, run("--timeout", "100ms", "--", "sleep", "1000")...)
		p.want("124")
	})
}

func TestWhoHoldsATerminalAfterTheTargetsEnd(t *testing.T) {
	need(t, "setsid", "nohup")
	t.Parallel()
	const leave = `setsid sh -c 'echo $$ >@1; exec sleep 1000' & nohup sh -c 'echo $$ >@2; exec sleep 1000' >/dev/null 2>&1 &
		setsid sh -c 'trap "" TERM HUP; echo $$ >@3; exec sleep 1000' </dev/null &
		until [ -s @1 ] && [ -s @2 ] && [ -s @3 ]; do sleep 0.01; done; echo last words`
	for _, survivors := range []string{"stop", "keep"} {
		t.Run(survivors, func(t *testing.T) {
			eachWay(t, func(t *testing.T, run func(args ...string) []string) {
				p := start(t, run("--survivors", survivors, "--grace", "200ms", "--on-exit", "echo >>cleaned 1", "--", "sh", "-c", leave)...)
				p.want("0")
				p.wrote("cleaned", "1\n")
				if got := p.text(); !strings.HasPrefix(got, "last words\r\n") {
					t.Errorf("it wrote:\n%s", got)
				}
				for _, name := range []string{"@1", "@2", "@3"} {
					pid := p.pidIn(name)
					if lives, want := alive(pid), survivors == "keep" || slices.Contains(run(), "group") && name != "@2"; lives != want {
						t.Errorf("%s lives: %t, want %t", name, lives, want)
					}
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			})
		})
	}
}

// A survivor that writes and writes holds up nobody either.
func TestASurvivorThatFloodsTheTerminal(t *testing.T) {
	need(t, "setsid")
	t.Parallel()
	p := start(t, ptyRun("--survivors", "keep", "--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
		`setsid sh -c 'echo $$ >pid; exec yes' & until [ -s pid ]; do sleep 0.01; done`)...)
	p.want("0")
	p.wrote("cleaned", "1\n")
	p.until("end of the survivor, whose terminal has gone", func() bool { return !alive(p.pidIn("pid")) })
}

func TestOneOfUsKilledWhileTheTargetWrites(t *testing.T) {
	t.Parallel()
	t.Run("the supervisor", func(t *testing.T) {
		t.Parallel()
		p := start(t, ptyRun("--on-exit", "echo >>cleaned 1", "--", "helper", "tick", "told")...)
		p.until("output", func() bool { return strings.Contains(p.text(), "line 1000\r\n") })
		kill(t, p.supervisor())
		p.want("125")
		p.wrote("cleaned", "1\n")
		got, ours, _ := strings.Cut(strings.ReplaceAll(p.text(), "\r", ""), "the last one\n")
		ours = strings.TrimSpace(ours)
		first, rest, _ := strings.Cut(got, "graceful: the supervisor ended; taking over the run signal=KILL\n")
		if got = first + rest; ours != "" || rest == "" && first != p.file("told") {
			t.Logf("after the last line: %q", ours)
		}
		if got != p.file("told") {
			t.Errorf("%d bytes of %d arrived, or others", len(got), len(p.file("told")))
		}
	})
	t.Run("the front", func(t *testing.T) {
		t.Parallel()
		x := inTerminal(t, 24, 80, "sh", "-c", `stty -g >before; "$@"; echo "the shell goes on, $?"; sleep 1000`, "sh",
			"graceful", "run", "--pty", "--on-exit", "echo cleaned; echo >>cleaned 1", "--",
			"sh", "-c", `trap 'echo stopping; until [ -e seen ]; do sleep 0.01; done; echo stopped; exit' TERM; echo $PPID >supervisor; while :; do sleep 0.01; done`)
		supervisor := x.pidIn("supervisor")
		x.becomesRaw()
		kill(t, parentOf(t, supervisor))
		x.shows("the shell goes on, 137")
		x.shows("stopping\r")
		x.until("shell's terminal as it was", func() bool { return x.modes() == strings.TrimSpace(x.file("before")) }) // at once
		if err := os.WriteFile(filepath.Join(x.dir, "seen"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		x.shows("stopped\r")
		x.shows("cleaned\r\n")
		if got, want := x.modes(), strings.TrimSpace(x.file("before")); got != want {
			t.Errorf("the modes are %s, and were %s", got, want)
		}
		x.gone(supervisor)
		x.wrote("cleaned", "1\n")
	})
}

// Whoever finishes a run of which both have been killed has nothing to relay, also when that was what they were at; and a
// terminal of his own is not for it.
func TestARunThatHadATerminalIsFinishedByOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ moment, reason string }{{"target started", "recovered"}, {"tree emptied", "exited"}} {
		for _, by := range []string{"recover", "run --name x --pty -- echo the next one"} {
			t.Run(c.moment+", "+by, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "state")
				p := start(t, ptyRun("--state-dir", dir, "--name", "x", "--grace", "100ms", "--on-exit", "echo $GRACEFUL_REASON >>log", "--", "sh", "-c",
					"trap '' HUP TERM; helper daemon daemon; echo $$ >target; until [ -e end ]; do sleep 0.01; done; kill -KILL $(cat daemon)")...)
				target, daemon := p.pidIn("target"), p.pidIn("daemon")
				if c.moment == "tree emptied" {
					p.signal(unix.SIGSTOP) // and the front does not relay
					if err := os.WriteFile(filepath.Join(p.dir, "end"), nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				p.until(c.moment, func() bool {
					data, _ := os.ReadFile(filepath.Join(dir, "x.ledger"))
					return strings.Contains(string(data), c.moment)
				})
				bothKilled(t, p.cmd.Process.Pid)
				p.want("KILL")
				p.wrote("log", "")
				verb, rest, _ := strings.Cut(by, " ")
				q := start(t, slices.Concat([]string{"graceful", verb, "--state-dir", dir}, strings.Fields(rest))...)
				q.want("0")
				if got := q.text(); strings.HasSuffix(got, "the next one\r\n") != (verb == "run") {
					t.Errorf("%s wrote:\n%s", verb, got)
				}
				p.wrote("log", c.reason+"\n")
				if names := inDir(t, dir); names != "" || alive(target) || alive(daemon) {
					t.Errorf("left in the state directory: %q; of the tree: %t, %t", names, alive(target), alive(daemon))
				}
			})
		}
	}
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	parent, _ := strconv.Atoi(strings.Fields(fields)[1])
	return parent
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		piped := slices.Concat([]string{"sh", "-c", `{ "$@"; echo $? >status; } | head -n 1`, "sh"}, run("--on-exit", "echo >>cleaned 1", "--"))
		p := start(t, append(piped, "yes")...) // nobody reads any more: as when a terminal is closed
		p.want("0")
		p.wrote("status", "129\n")
		p.wrote("cleaned", "1\n")
		p = start(t, append(piped, "sh", "-c", `trap "echo >>hung 1" HUP; echo; until [ -e hung ]; do echo; done; exit 3`)...)
		p.want("0")
		p.wrote("status", "3\n")
		p.wrote("cleaned", "1\n")

		p = start(t, slices.Concat([]string{"sh", "-c", `exec "$@" >/dev/full`, "sh"}, run("--on-exit", "echo >>cleaned 1; :", "--", "sh", "-c", "echo a; echo b; exit 3"))...)
		p.want("3")
		p.wrote("cleaned", "1\n")
		if got := p.text(); got != "graceful: writing the target's output: no space left on device (the rest of it is lost)\n" {
			t.Errorf("it said:\n%s", got)
		}
		p = start(t, slices.Concat([]string{"sh", "-c", `exec "$@" >&- 2>&- <&-`, "sh"}, run("--on-exit", "echo >>cleaned 1; :", "--", "sh", "-c", "cat; echo a; exit 3"))...)
		p.want("3")
		p.wrote("cleaned", "1\n")
	})
}

func TestOurTerminalHasItsModesBack(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		for _, c := range []struct{ target, status string }{
			{"sleep 0.1; exit 3", "3"}, {"stty raw -echo; sleep 0.1; kill -KILL $$", "137"}, {"stty -opost; exec helper die 11", "139"},
		} {
			x := inTerminal(t, 24, 80, slices.Concat([]string{"sh", "-c", `stty -echo -ixon; stty -g >before; "$@"; echo $? >status; stty -g >after`, "sh"}, run("-v", "--on-exit", "stty -g >cleaning", "--", "sh", "-c", "stty -g <&0 >inside; "+c.target))...)
			x.want("0")
			x.wrote("status", c.status+"\n")
			before := x.file("before")
			x.wrote("after", before)
			x.wrote("cleaning", "") // its standard input is no terminal
			if inside := x.file("inside"); inside != before {
				t.Errorf("the target's terminal had the modes %s, ours %s", inside, before)
			}
			// stty(1) writes its message in parts, and what the terminal shows is copied in the background.
			x.until("end of the last line", func() bool { return strings.HasSuffix(x.text(), "\n") })
			for line := range strings.Lines(x.text()) {
				if !strings.HasSuffix(line, "\r\n") {
					t.Errorf("%s: our terminal got the line %q", c.target, line)
				}
			}
		}
	})
}

func TestKeysThatMakeSignalsAreForTheTargetsTerminal(t *testing.T) {
	need(t, "bash")
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		x := inTerminal(t, 24, 80, run("-v", "--", "helper", "count", "seen")...)
		x.pidIn("seen.pid")
		x.becomesRaw()
		x.press("\x03")
		x.until("SIGINT", func() bool { return counts(x.proc, "seen")[unix.SIGINT] > 0 })
		x.press("\x1c")
		x.until("SIGQUIT", func() bool { return counts(x.proc, "seen")[unix.SIGQUIT] > 0 })
		if got := counts(x.proc, "seen"); got[unix.SIGINT] != 1 || got[unix.SIGQUIT] != 1 || strings.Contains(x.text(), "received") {
			t.Errorf("it got %v; the terminal shows:\n%s", got, x.text())
		}
		x.signal(unix.SIGTERM)
		x.until("SIGTERM", func() bool { return counts(x.proc, "seen")[unix.SIGTERM] > 0 })
		x.killAndWait(x.pidIn("seen.pid"))
	})
	// Jobs of a shell in there.
	x := inTerminal(t, 24, 80, ptyRun("--", "bash", "--norc", "--noprofile", "-i")...)
	x.becomesRaw()
	x.press(prompt)
	x.shows("good> ")
	x.press("sleep 1000\n")
	x.shows("sleep 1000\r\n")
	job := 0
	x.until("job", func() bool {
		pids := below(t, x.cmd.Process.Pid)
		job = pids[len(pids)-1]
		return comm(job) == "sleep"
	})
	x.press("\x1a")
	x.shows("Stopped")
	x.press("fg\n")
	x.until("continued job", func() bool { return stateOfPID(job) != "T" })
	x.press("\x03")
	x.press("echo status $?\n")
	x.shows("status 130")
	x.press("exit 5\n")
	x.want("5")
}

// prompt has bash show one that can be told from the line that sets it.
const prompt = "PS1='go''od> '\n"

// A stop that somebody sends to us, as in a shell's job control: what the terminal needs meanwhile is its own business.
func TestAStopByHandGivesOurTerminalBackMeanwhile(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		// Not its session's leader, of whose group a stop would be the end.
		x := inTerminal(t, 24, 80, slices.Concat([]string{"sh", "-c", `stty -g >before; "$@"; echo $? >status`, "sh"},
			run("--on-exit", "echo >>cleaned 1", "--", "helper", "count", "seen"))...) // who forks may not stop at once
		target := x.pidIn("seen.pid")
		front := below(t, x.cmd.Process.Pid)[1]
		x.becomesRaw()
		for range 2 {
			if err := unix.Kill(front, unix.SIGTSTP); err != nil {
				t.Fatal(err)
			}
			x.until(fmt.Sprint("stop of both ", front, target), func() bool { return stateOfPID(target) == "T" && stateOfPID(front) == "T" })
			if got, want := x.modes(), strings.TrimSpace(x.file("before")); got != want {
				t.Errorf("while we are stopped the modes are %s, and were %s", got, want)
			}
			x.resize(11, 22)
			if err := unix.Kill(front, unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
			x.becomesRaw()
			x.until("going on of both", func() bool { return stateOfPID(target) != "T" && stateOfPID(front) != "T" })
			x.until("SIGWINCH", func() bool { return counts(x.proc, "seen")[unix.SIGWINCH] == 1 })
			if out, err := exec.Command("stty", "-F", fmt.Sprintf("/proc/%d/fd/0", target), "size").Output(); string(out) != "11 22\n" {
				t.Errorf("the size is %s, %v", out, err)
			}
		}
		x.killAndWait(target)
		x.want("0")
		x.wrote("status", "137\n")
		x.wrote("cleaned", "1\n")
	})
}

func stateOfPID(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:min(1, len(rest))]
}

// A background job leaves the keys to who is in the foreground, until it is that itself. It can be stopped, and go on in either.
func TestATerminalOfItsOwnInTheBackground(t *testing.T) {
	need(t, "bash", "stty")
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		x := inTerminal(t, 24, 80, slices.Concat([]string{"bash", "--norc", "--noprofile", "-i", "-s"}, run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
			`stty -echo; echo from the background; until [ -e on ]; do sleep 0.01; done; echo went on; read a; echo got $a; read b; exit 3`))...)
		x.press("stty tostop; set -b; " + prompt)
		x.shows("good> ")
		x.press(`"$@" &` + "\n")
		x.shows("from the background\r")
		x.press("echo for the $((1+1))nd shell; jobs\n")
		x.shows("for the 2nd shell")
		x.shows("Running")
		if strings.Contains(x.text(), "Stopped") || strings.Contains(x.text(), "got for") {
			t.Errorf("the terminal shows:\n%s", x.text())
		}
		x.press("kill -TSTP %1\n")
		x.shows("Stopped")
		x.press("echo >on; bg; echo bg is $?\n")
		x.shows("bg is 0")
		x.shows("went on\r")
		x.press("fg\n")
		x.becomesRaw()
		x.press("keys\n")
		x.shows("got keys\r\n")
		x.press("\n")
		x.until("shell in the foreground", func() bool { return !x.isRaw() }) // what is typed before is for the target
		x.press("echo status $?; exit 0\n")
		x.shows("status 3")
		x.want("0")
		x.wrote("cleaned", "1\n")
	})
}

func TestAHangUpOfOurTerminalRunsTheCleanup(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, run func(args ...string) []string) {
		master, slave, err := pty.Open()
		if err != nil {
			need(t, "pseudo-terminal")
		}
		p := command(t, run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c", "echo 1 >ready; while :; do echo; sleep 0.01; done")...)
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
		p.start()
		slave.Close()
		p.file("ready")
		master.Close()
		p.want("129")
		p.wrote("cleaned", "1\n")
	})
}
