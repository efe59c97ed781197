package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	ctrlZ = "\x1a"
)

// forEachLevel runs a test with each level of containment. It tests each level with and without a guard, unless the
// caller passes guards. run is the beginning of a command line, to which the test appends flags and a program.
func forEachLevel(t *testing.T, test func(t *testing.T, s *person, run string), guards ...string) {
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
				const run = `graceful run --contain %s --guard %s --on-exit "echo 1 >>cleaned" `
				test(t, atShell(t, dir), fmt.Sprintf(run, level, guard))
			})
		}
	}
}

// The job control of a shell has the same effect on a program under graceful as on the program alone. The shell prints
// the same messages.
func TestTerminal_jobControl(t *testing.T) {
	forEachLevel(t, func(t *testing.T, s *person, run string) {
		s.runsInForeground(run)
		s.interrupts(run)
		s.suspendsAndResumes(run)
		s.runsInBackground(run)
		s.suspendsAScript(run)
		s.runsNested(run)
	})
}

// runsInForeground runs targets in the foreground to their end, also in a pipeline and after fg. Some of them change
// the modes of the terminal or cannot be started. After these, the terminal has its original modes.
func (s *person) runsInForeground(run string) {
	s.does(run + "cat >copy")
	s.waitForForeground("cat")
	s.types("one\r" + ctrlD)
	s.sees("[0]: ")
	s.wantFile("copy", "one\n")
	const dies = `sh -c 'stty raw -echo </dev/tty; kill -9 $$'`
	s.does(run+dies, "[137]: ")
	s.wantOriginalModes()
	s.does(run+dies+" >file", "[137]: ")
	s.wantOriginalModes()
	s.does(run+dies+" | cat", "[0]: ")
	s.wantOriginalModes()
	s.does(run+dies+" &", "Stopped  ")
	s.does("fg", "[137]: ")
	s.wantOriginalModes()
	s.does(run+"/nowhere/at/all", "[127]: ")
	s.wantOriginalModes()
}

// interrupts presses Ctrl-C. The target gets SIGINT once.
func (s *person) interrupts(run string) {
	s.does(run + "helper count got")
	s.pidIn("got.pid")
	s.types(ctrlC)
	s.until("SIGINT", func() bool { return counts(s.proc, "got")[unix.SIGINT] > 0 })
	s.eachSizeOnce("got", s.resize)
	s.sees("[137]: ")
	if got := counts(s.proc, "got"); got[unix.SIGINT] != 1 || len(got) != 3 {
		s.t.Errorf("the target got %v", got)
	}
	s.does(run + "sleep 1000")
	s.waitForForeground("sleep")
	s.types(ctrlC)
	s.sees("[130]: ")
}

// suspendsAndResumes uses Ctrl-Z, fg and bg.
func (s *person) suspendsAndResumes(run string) {
	s.does(run + "cat")
	s.waitForForeground("cat")
	s.types(ctrlZ)
	s.sees("Stopped  ")
	s.sees("[148]: ")
	s.wantOriginalModes()
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
}

// runsInBackground runs targets in the background until reading or writing suspends them. Then fg continues them.
func (s *person) runsInBackground(run string) {
	s.does(run+`sh -c 'read x; echo "got $x"' &`, "Stopped  ")
	s.does("fg", "$x\"'\r\n") // bash has left its line editor: Enter sends a newline now
	s.types("four\r")
	s.sees("got four\r\n[0]: ")
	s.does("stty tostop; "+run+`sh -c 'echo "wrote it"' &`, "Stopped  ")
	s.does("fg", "wrote it\r\n[0]: ")
	s.does("stty -tostop", "[0]: ")
	s.wantOriginalModes()
}

// suspendsAScript suspends a script together with its run.
func (s *person) suspendsAScript(run string) {
	s.does(`bash -c '` + run + `cat; echo "after $?"'`)
	s.waitForForeground("cat")
	s.types(ctrlZ)
	s.sees("[148]: ")
	s.does("fg", "after")
	s.types("five\r")
	s.sees("five\r\nfive\r\n")
	s.types(ctrlD)
	s.sees("after 0\r\n[0]: ")
}

// runsNested runs graceful under graceful.
func (s *person) runsNested(run string) {
	s.does(run + run + "cat")
	s.waitForForeground("cat")
	s.types(ctrlZ)
	s.sees("[148]: ")
	s.does("fg", "cat\r\n")
	s.types("six\r")
	s.sees("six\r\nsix\r\n")
	s.types(ctrlD)
	s.sees("[0]: ")
	s.wantOriginalModes()
}

// In a pipeline, the target and the other programs can all use the terminal. The foreground goes to the process group
// of the program that uses the terminal. Ctrl-Z, fg and Ctrl-C work.
func TestTerminal_pipeline(t *testing.T) {
	need(t, "less")
	forEachLevel(t, func(t *testing.T, s *person, run string) {
		s.does("seq 1000 >numbers; "+run+"cat numbers | less", "\n17")
		s.types("G")
		s.sees("(END)")
		s.waitUntilReading("less")
		s.types(ctrlZ)
		s.sees("Stopped  ")
		s.sees("]: ")
		s.does("fg", "\n1000")
		s.types("g")
		s.sees("17")
		s.types("q")
		s.sees("[0]: ")
		s.wantOriginalModes()
		s.does("seq 1000 | "+run+"less", "\n17") // less reads its keys from /dev/tty
		s.types("G")
		s.sees("(END)")
		s.waitUntilReading("less")
		s.types(ctrlZ)
		s.sees("Stopped  ")
		s.sees("]: ")
		s.does("fg", "\n1000")
		s.types("q")
		s.sees("[0]: ")
		s.wantOriginalModes()
		s.does(run + `sh -c 'read a </dev/tty; echo "one $a"; exec sleep 1000' | ` +
			`sh -c 'read a; read b </dev/tty; echo "$a two $b"'`)
		s.waitForForeground("sh")
		s.types("x\r")
		s.sees("x\r\n")
		s.waitForForeground("graceful")
		s.types("y\r")
		s.sees("one x two y\r\n")
		s.types(ctrlC)
		s.sees("]: ")
		s.wantOriginalModes()
		s.does(run + "helper count got | cat") // the kernel sends the target no SIGWINCH: another group is in the foreground
		s.eachSizeOnce("got", s.resize)
		s.sees("[0]: ") // of this command, or the last prompt, which the shell prints again for a new size
		s.until("cleanup of all runs", func() bool { return s.waitForFile("cleaned") == "1\n1\n1\n1\n" })
	})
}

// graceful or the guard is killed while the target has a raw terminal, or the target is killed while it is suspended.
// The modes of the terminal are restored.
func TestTerminal_modesAfterAProcessIsKilled(t *testing.T) {
	const raw = `sh -c "stty raw -echo; echo >up; exec sleep 1000"`
	t.Run("the guard", func(t *testing.T) {
		forEachLevel(t, func(t *testing.T, s *person, run string) {
			s.does(run + raw)
			s.waitForFile("up")
			kill(t, guardOf(s.leader()))
			s.until("end of the guard", func() bool { return guardOf(s.leader()) == s.leader() })
			if err := unix.Kill(s.leader(), unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			s.sees("[143]: ")
			s.wantOriginalModes()
			s.wantFile("cleaned", "1\n")
		}, "on")
	})
	t.Run("graceful", func(t *testing.T) {
		forEachLevel(t, func(t *testing.T, s *person, run string) {
			s.does(run + raw)
			s.waitForFile("up")
			kill(t, s.leader())
			s.sees("[137]: ")
			s.waitForFile("cleaned")
			s.wantOriginalModes()
		}, "on")
	})
	t.Run("graceful, in a script that goes on", func(t *testing.T) {
		forEachLevel(t, func(t *testing.T, s *person, run string) {
			// The target discards its standard error, because dash may print "Terminated" at any time after the signal of the
			// takeover has ended its sleep.
			s.does(`bash -c '` + run + `--grace 1h sh -c "exec 2>/dev/null; trap : TERM; stty raw -echo; echo \$\$ >up; ` +
				`while :; do sleep 0.01; done"; until stty -g | cmp -s - before; do sleep 0.01; done; ` +
				`echo next; read x; echo "got $x"; read x'`)
			target := s.pidIn("up")
			script := childrenOf(s.cmd.Process.Pid)[0]
			kill(t, childrenOf(script)[0])
			s.sees("next\r\n")
			s.types("line\r")
			s.sees("line\r\ngot line\r\n")
			kill(t, target)
			s.waitForFile("cleaned")
			s.types("\r")
			s.sees("[0]: ")
			s.wantOriginalModes()
		}, "on")
	})
	t.Run("a suspended target", func(t *testing.T) {
		forEachLevel(t, func(t *testing.T, s *person, run string) {
			s.does(run + `sh -c "stty raw; stty -raw; echo \$\$ >up; exec sleep 1000"`)
			target := s.pidIn("up")
			s.types(ctrlZ)
			s.sees("[148]: ")
			kill(t, target)
			s.sees("Exit 137")
			s.wantFile("cleaned", "1\n")
			s.wantOriginalModes()
		}, "on")
	})
}

// With --reraise, Ctrl-C ends a script as it does without graceful.
func TestReraise_ctrlCEndsAScript(t *testing.T) {
	forEachLevel(t, func(t *testing.T, s *person, run string) {
		s.does(`bash -c '` + run + `--reraise sleep 1000; echo "after all"'`)
		s.waitForForeground("sleep")
		s.types(ctrlC)
		s.sees("[130]: ")
		if strings.Contains(s.text(), "after all\r\n") {
			t.Errorf("the script continued:\n%s", s.text())
		}
	})
}

// If SIGINT ends the target, graceful signals the job, as Ctrl-C does. If the target runs as another user, graceful
// does not signal the job. Such a target may have signalled itself, and need not have the right to signal the job.
func TestTerminal_ctrlCOfAnotherUser(t *testing.T) {
	need(t, "root", "setpriv")
	forEachLevel(t, func(t *testing.T, s *person, run string) {
		for as, heard := range map[string]bool{"": true, "setpriv --reuid 12345 --clear-groups ": false} {
			s.does(`bash -c 'trap "echo 1 >heard" INT; `+run+as+`sh -c "kill -INT \$\$"; echo "after $?"'`, "after 130\r\n")
			if got := os.Remove(filepath.Join(s.dir, "heard")) == nil; got != heard {
				t.Errorf("%q: the script got the signal: %v, want %v", as, got, heard)
			}
		}
	})
}

// The terminal window is closed. The target gets SIGHUP, and then cleanup commands run.
func TestTerminal_windowIsClosed(t *testing.T) {
	for name, how := range map[string]string{"of a shell": "", "of graceful": "exec "} {
		t.Run(name, func(t *testing.T) {
			forEachLevel(t, func(t *testing.T, s *person, run string) {
				s.does(how + run + `-v --on-exit "echo said" sh -c 'trap "echo HUP >>told; exit" HUP; echo $$ >up; ` +
					`while :; do sleep 0.01; done'`)
				target := s.pidIn("up")
				s.master.Close()
				s.waitForFile("cleaned")
				s.untilReaped(target)
				if told := s.waitForFile("told"); !strings.HasPrefix(told, "HUP\n") {
					t.Errorf("the target got %q", told)
				}
			})
		})
	}
}

// Without a shell that could continue graceful, Ctrl-Z does not suspend graceful or the target.
func TestSuspend_withoutAShell(t *testing.T) {
	for name, line := range map[string]string{"alone": "exec %scat", "in a script": "exec sh -c '%scat; exit $?'"} {
		t.Run(name, func(t *testing.T) {
			forEachLevel(t, func(t *testing.T, s *person, run string) {
				s.does(fmt.Sprintf(line, run))
				s.waitForForeground("cat")
				s.types(ctrlZ)
				s.sees("^Z")
				s.types("on\r")
				s.sees("on\r\non\r\n")
				s.types(ctrlD)
				s.want("0")
				s.wantFile("cleaned", "1\n")
			})
		})
	}
}

// A background program that reads the terminal, and that no shell can bring to the foreground, gets SIGHUP.
func TestTerminal_orphanedBackground(t *testing.T) {
	forEachLevel(t, func(t *testing.T, s *person, run string) {
		s.does(`( (`+run+`sh -c 'until [ -e go ]; do sleep 0.01; done; cat </dev/tty; echo >never' & ) )`, "[0]: ")
		s.does("echo >go", "[0]: ")
		s.waitForFile("cleaned")
		if _, err := os.Stat(filepath.Join(s.dir, "never")); err == nil {
			t.Error("the target continued")
		}
		s.wantOriginalModes()
	})
}

// For graceful the terminal of another session is only a file: the target can read from it, and graceful changes
// neither its foreground group nor its modes.
func TestTerminal_ofAnotherSession(t *testing.T) {
	need(t, "setsid")
	forEachLevel(t, func(t *testing.T, s *person, run string) {
		s.does("setsid -w "+run+`-v sh -c 'read x; echo "got $x"'`, "running was=starting")
		s.waitForForeground("setsid")
		s.types("line\r")
		s.sees("got line\r\n")
		s.sees("[0]: ")
		s.wantOriginalModes()
	})
}
