package integration_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// person is somebody at a terminal: what he types, and what he sees. In the shell every prompt begins with the last exit
// status in brackets.
type person struct {
	*proc
	master *os.File
	seen   int           // of the text
	closed chan struct{} // when nobody has the terminal any more
}

// atTerminal starts a program as leader of a session with a terminal of its own.
func atTerminal(t *testing.T, args ...string) *person {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		need(t, "pseudo-terminal")
	}
	defer slave.Close()
	// A file that can be closed while it is being read from (os.NewFile).
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err = errors.Join(err, unix.SetNonblock(fd, true), master.Close()); err != nil {
		t.Fatal(err)
	}
	s := &person{proc: command(t, args...), master: os.NewFile(uintptr(fd), "terminal"), closed: make(chan struct{})}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	inputrc := filepath.Join(t.TempDir(), "inputrc")
	if err := os.WriteFile(inputrc, []byte("set enable-bracketed-paste off\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.cmd.Env = append(os.Environ(), "PS1=[$?]: ", "TERM=xterm", "INPUTRC="+inputrc, "HISTFILE=", "LESS=", "PAGER=")
	s.resize(24)
	s.start()
	t.Cleanup(func() { s.master.Close() })
	go func() {
		defer close(s.closed)
		_, _ = io.Copy(s.output, s.master)
	}()
	return s
}

// atShell has him at the prompt of an interactive bash, which tells of jobs at once.
func atShell(t *testing.T, cgroup string) *person {
	t.Helper()
	need(t, "bash", "stty")
	s := atTerminal(t, "sh", "-c", `[ -z "$0" ] || echo $$ >"$0/cgroup.procs"; exec bash --norc --noprofile -i`, cgroup)
	s.sees("]: ")
	s.does("set -b; stty -g >before", "[0]: ")
	return s
}

func (s *person) control(f func(fd int) error) error {
	conn, err := s.master.SyscallConn()
	if err != nil {
		return err
	}
	if failed := conn.Control(func(fd uintptr) { err = f(int(fd)) }); failed != nil {
		return failed
	}
	return err
}

func (s *person) resize(rows uint16) {
	s.t.Helper()
	if err := s.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 80})
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *person) types(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// sees waits for a text after all that he has waited for before.
func (s *person) sees(want string) {
	s.t.Helper()
	s.until(fmt.Sprintf("%q on the screen", want), func() bool {
		text := s.text()
		i := strings.Index(text[s.seen:], want)
		if i >= 0 {
			s.seen += i + len(want)
		}
		return i >= 0
	})
}

// does has a line executed. Its echo is not what he sees.
func (s *person) does(line string, wants ...string) {
	s.t.Helper()
	s.types(line + "\r")
	s.sees("\n")
	for _, want := range wants {
		s.sees(want)
	}
}

// foreground waits until a program that is executed by this name is in the foreground.
func (s *person) foreground(name string) (pid int) {
	s.t.Helper()
	s.until("foreground group of "+name, func() bool {
		err := s.control(func(fd int) (err error) { pid, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP); return err })
		return err == nil && comm(pid) == name
	})
	return pid
}

// reads waits until a program of the shell's waits for a key: less takes a signal that comes just before that with the next
// key.
func (s *person) reads(name string) {
	s.t.Helper()
	s.until(name+" that waits for a key", func() bool {
		below := childrenOf(s.cmd.Process.Pid)
		for i := 0; i < len(below); i++ {
			where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", below[i]))
			if comm(below[i]) == name && strings.HasPrefix(string(where), "wait_woken") { // n_tty_read
				return true
			}
			below = append(below, childrenOf(below[i])...)
		}
		return false
	})
}

// modes requires that those of the terminal are what they were.
func (s *person) modes() {
	s.t.Helper()
	s.does("stty -g | cmp - before", "[0]: ")
}

// front is the shell's only child.
func (s *person) front() (pid int) {
	s.t.Helper()
	s.until("graceful in the shell", func() bool {
		children := childrenOf(s.cmd.Process.Pid)
		if len(children) == 1 {
			pid = children[0]
		}
		return pid != 0 && comm(pid) == "graceful"
	})
	return pid
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	ctrlZ = "\x1a"
)

// levels runs a test with each kind of containment, and with and without a guard if it is not told. The run wants more flags
// and a program.
func levels(t *testing.T, test func(t *testing.T, s *person, run string), guards ...string) {
	need(t, "linux")
	if guards == nil {
		guards = []string{"on", "off"}
	}
	for _, level := range []string{"auto", "subreaper", "group", "cgroup"} {
		for _, guard := range guards {
			t.Run(level+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				dir := ""
				if level == "cgroup" {
					dir = ownCgroup(t)
				}
				test(t, atShell(t, dir), fmt.Sprintf(`graceful run --contain %s --guard %s --on-exit "echo 1 >>cleaned" `, level, guard))
			})
		}
	}
}

// What the shell can do with a program, it can do with one under us: the words that the shell says are those that it says
// of the program alone.
func TestAShellsJobs(t *testing.T) {
	levels(t, func(t *testing.T, s *person, run string) {
		// In the foreground, from the start to the end.
		s.does(run + "cat >copy")
		s.foreground("cat")
		s.types("one\r" + ctrlD)
		s.sees("[0]: ")
		s.wrote("copy", "one\n")
		const dies = `sh -c 'stty raw -echo </dev/tty; kill -9 $$'`
		s.does(run+dies, "[137]: ")
		s.modes()
		s.does(run+dies+" >file", "[137]: ")
		s.modes()
		s.does(run+dies+" | cat", "[0]: ")
		s.modes()
		s.does(run+dies+" &", "Stopped  ")
		s.does("fg", "[137]: ")
		s.modes()
		s.does(run+"/nowhere/at/all", "[127]: ")
		s.modes()

		// Ctrl-C comes once, and to the program alone.
		s.does(run + "helper count got")
		s.pidIn("got.pid")
		s.types(ctrlC)
		s.until("SIGINT", func() bool { return counts(s.proc, "got")[unix.SIGINT] > 0 })
		s.eachSizeOnce("got", s.resize)
		s.sees("[137]: ")
		if got := counts(s.proc, "got"); got[unix.SIGINT] != 1 || len(got) != 3 {
			t.Errorf("the program got %v", got)
		}
		s.does(run + "sleep 1000")
		s.foreground("sleep")
		s.types(ctrlC)
		s.sees("[130]: ")

		// Ctrl-Z, fg, bg.
		s.does(run + "cat")
		s.foreground("cat")
		s.types(ctrlZ)
		s.sees("Stopped  ")
		s.sees("[148]: ")
		s.modes()
		s.does("fg", "cat\r\n")
		s.types("two\r")
		s.sees("two\r\ntwo\r\n")
		s.types(ctrlZ)
		s.sees("[148]: ")
		s.does("bg", "Stopped  ")
		s.does("fg", "cat\r\n")
		s.types("three\r")
		s.sees("three\r\nthree\r\n")
		s.types(ctrlD)
		s.sees("[0]: ")

		// In the background until it reads, or writes.
		s.does(run+`sh -c 'read x; echo "got $x"' &`, "Stopped  ")
		s.does("fg", "\r\n")
		s.types("four\r")
		s.sees("got four\r\n[0]: ")
		s.does("stty tostop; "+run+`sh -c 'echo "wrote it"' &`, "Stopped  ")
		s.does("fg", "wrote it\r\n[0]: ")
		s.does("stty -tostop", "[0]: ")
		s.modes()

		// A script is stopped with what it runs.
		s.does(`bash -c '` + run + `cat; echo "after $?"'`)
		s.foreground("cat")
		s.types(ctrlZ)
		s.sees("[148]: ")
		s.does("fg", "after")
		s.types("five\r")
		s.sees("five\r\nfive\r\n")
		s.types(ctrlD)
		s.sees("after 0\r\n[0]: ")

		// We in us.
		s.does(run + run + "cat")
		s.foreground("cat")
		s.types(ctrlZ)
		s.sees("[148]: ")
		s.does("fg", "cat\r\n")
		s.types("six\r")
		s.sees("six\r\nsix\r\n")
		s.types(ctrlD)
		s.sees("[0]: ")
		s.modes()
	})
}

// In a pipeline the terminal is with whoever used it last.
func TestAPipeline(t *testing.T) {
	need(t, "less")
	levels(t, func(t *testing.T, s *person, run string) {
		s.does("seq 1000 >numbers; "+run+"cat numbers | less", "\n17")
		s.types("G")
		s.sees("(END)")
		s.reads("less")
		s.types(ctrlZ)
		s.sees("Stopped  ")
		s.sees("]: ")
		s.does("fg", "\n1000")
		s.types("g")
		s.sees("17")
		s.types("q")
		s.sees("[0]: ")
		s.modes()
		s.does("seq 1000 | "+run+"less", "\n17") // less reads its keys from /dev/tty
		s.types("G")
		s.sees("(END)")
		s.reads("less")
		s.types(ctrlZ)
		s.sees("Stopped  ")
		s.sees("]: ")
		s.does("fg", "\n1000")
		s.types("q")
		s.sees("[0]: ")
		s.modes()
		s.does(run + `sh -c 'read a </dev/tty; echo "one $a"; exec sleep 1000' | sh -c 'read a; read b </dev/tty; echo "$a two $b"'`)
		s.foreground("sh")
		s.types("x\r")
		s.sees("x\r\n")
		s.foreground("graceful")
		s.types("y\r")
		s.sees("one x two y\r\n")
		s.types(ctrlC)
		s.sees("]: ")
		s.modes()
		s.does(run + "helper count got | cat") // it is in the background as far as the kernel knows
		s.eachSizeOnce("got", s.resize)
		s.sees("[0]: ")
	})
}

// Whichever of us is killed while the program has the terminal and has made it raw, it is left as it was.
func TestATerminalWhoseModesWeDoNotLiveToRestore(t *testing.T) {
	const raw = `sh -c "stty raw -echo; echo >up; exec sleep 1000"`
	t.Run("the supervisor", func(t *testing.T) {
		levels(t, func(t *testing.T, s *person, run string) {
			s.does(run + raw)
			s.file("up")
			kill(t, supervisorOf(s.front()))
			s.sees("[143]: ")
			s.modes()
			s.wrote("cleaned", "1\n")
		}, "on")
	})
	t.Run("the front", func(t *testing.T) {
		levels(t, func(t *testing.T, s *person, run string) {
			s.does(run + raw)
			s.file("up")
			kill(t, s.front())
			s.sees("[137]: ")
			s.file("cleaned")
			s.modes()
		}, "on")
	})
	t.Run("the front, in a script that goes on", func(t *testing.T) {
		levels(t, func(t *testing.T, s *person, run string) {
			s.does(`bash -c '` + run + `--grace 1h sh -c "trap : TERM; stty raw -echo; echo \$\$ >up; while :; do sleep 0.01; done"; until stty -g | cmp -s - before; do sleep 0.01; done; echo next; read x; echo "got $x"; read x'`)
			target := s.pidIn("up")
			script := childrenOf(s.cmd.Process.Pid)[0]
			kill(t, childrenOf(script)[0])
			s.sees("next\r\n")
			s.types("line\r")
			s.sees("line\r\ngot line\r\n")
			kill(t, target)
			s.file("cleaned")
			s.types("\r")
			s.sees("[0]: ")
			s.modes()
		}, "on")
	})
	t.Run("a stopped program", func(t *testing.T) {
		levels(t, func(t *testing.T, s *person, run string) {
			s.does(run + `sh -c "stty raw; stty -raw; echo \$\$ >up; exec sleep 1000"`)
			target := s.pidIn("up")
			s.types(ctrlZ)
			s.sees("[148]: ")
			kill(t, target)
			s.sees("Exit 137")
			s.wrote("cleaned", "1\n")
			s.modes()
		}, "on")
	})
}

// With --reraise a script is ended by Ctrl-C as it would be without us.
func TestCtrlCEndsAScript(t *testing.T) {
	levels(t, func(t *testing.T, s *person, run string) {
		s.does(`bash -c '` + run + `--reraise sleep 1000; echo "after all"'`)
		s.foreground("sleep")
		s.types(ctrlC)
		s.sees("[130]: ")
		if strings.Contains(s.text(), "after all\r\n") {
			t.Errorf("the script went on:\n%s", s.text())
		}
	})
}

// The window is closed: the program is told, and then cleanup commands run.
func TestAClosedWindow(t *testing.T) {
	for name, how := range map[string]string{"of a shell": "", "of ours": "exec "} {
		t.Run(name, func(t *testing.T) {
			levels(t, func(t *testing.T, s *person, run string) {
				s.does(how + run + `-v --on-exit "echo said" sh -c 'trap "echo HUP >>told; exit" HUP; echo $$ >up; while :; do sleep 0.01; done'`)
				target := s.pidIn("up")
				s.master.Close()
				s.file("cleaned")
				s.gone(target)
				if told := s.file("told"); !strings.HasPrefix(told, "HUP\n") {
					t.Errorf("the program was told %q", told)
				}
			})
		})
	}
}

// Where nobody would continue us, nobody is stopped.
func TestNobodyIsStoppedWithoutAShell(t *testing.T) {
	for name, line := range map[string]string{"alone": "exec %scat", "in a script": "exec sh -c '%scat; exit $?'"} {
		t.Run(name, func(t *testing.T) {
			levels(t, func(t *testing.T, s *person, run string) {
				s.does(fmt.Sprintf(line, run))
				s.foreground("cat")
				s.types(ctrlZ)
				s.sees("^Z")
				s.types("on\r")
				s.sees("on\r\non\r\n")
				s.types(ctrlD)
				s.want("0")
				s.wrote("cleaned", "1\n")
			})
		})
	}
}

// A program in the background that nobody can bring to the foreground is told that it has lost its terminal.
func TestTheBackgroundOfNobody(t *testing.T) {
	levels(t, func(t *testing.T, s *person, run string) {
		s.does(`( (`+run+`sh -c 'until [ -e go ]; do sleep 0.01; done; cat </dev/tty; echo >never' & ) )`, "[0]: ")
		s.does("echo >go", "[0]: ")
		s.file("cleaned")
		if _, err := os.Stat(filepath.Join(s.dir, "never")); err == nil {
			t.Error("the program went on")
		}
		s.modes()
	})
}

// A terminal that is another session's is only a file.
func TestTheTerminalOfAnotherSession(t *testing.T) {
	need(t, "setsid")
	levels(t, func(t *testing.T, s *person, run string) {
		s.does("setsid -w "+run+`-v sh -c 'read x; echo "got $x"'`, "running was=starting")
		s.foreground("setsid")
		s.types("line\r")
		s.sees("got line\r\n")
		s.sees("[0]: ")
		s.modes()
	})
}

// Screens of programs that use all of it are the same as without us.
func TestScreens(t *testing.T) {
	need(t, "linux", "tmux", "bash")
	// What is to be seen, and what is typed then. The last line ends with "end" and the exit status.
	const end = "echo Space end$? Enter"
	for name, script := range map[string]struct {
		needs   []string
		program string
		steps   []string
	}{
		"vim": {[]string{"vim"}, "vim -u NONE -N text", []string{
			"~", "ihello Escape", "hello", "yyp C-z", "Stopped", "fg Enter", "hello\nhello", "i- Escape", "-hello", ":wq Enter", "fg\nvim -u NONE -N text\n$", "cat Space text Enter", "text\nhello\n-hello\n$", end,
		}},
		"python": {[]string{"python3"}, "python3 -q", []string{
			"go\n>>>", "6*7 Enter", "42", "import Space time;print(1);time.sleep(1000) Enter", "1\n", "C-c", "KeyboardInterrupt", "C-z",
			"Stopped", "fg Enter", "fg\npython3", "Enter", "python3 -q\n>>>", "8*8 Enter", "64\n>>>", "C-d", ">>>\n$", end,
		}},
		"bash": {nil, "bash --norc --noprofile -i", []string{
			"go\n$", "./copy Enter", "it copies", "typed Enter", "typed\ntyped", "C-z", "Stopped", "fg Enter", "fg\n./copy", "C-d", "fg\n./copy\n$", "exit Space 3 Enter", "exit\n$", end,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, script.needs...)
			screens := map[string]string{}
			for _, wrapper := range []string{"", "graceful run -- ", "graceful run --guard off --contain group -- "} {
				screens[wrapper] = screen(t, wrapper, script.program, script.steps)
				if screens[wrapper] != screens[""] {
					t.Errorf("%sthe screen is\n%s\nand without us\n%s", wrapper, screens[wrapper], screens[""])
				}
			}
		})
	}
}

// screen is what is left on the screen of tmux(1). Keys are separated by blanks.
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
	start := filepath.Join(dir, "start") // what is typed is the same in all
	if err := os.WriteFile(start, []byte("export PS1='$ '; HISTFILE=; alias go='"+wrapper+program+"'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "copy"), []byte("#!/bin/sh\necho it copies\nexec cat\n"), 0o755); err != nil {
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
				if line != "\n" { // how many of them there are depends on when we type
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
