package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/runner/report"
)

// outputs lists the sets of outputs that the tests connect to an outlet, in the form that discarded returns.
var outputs = []string{"stdout", "stderr", "stdout stderr"}

// chatty returns a shell command that writes to both outputs, and then creates a file. A failed write ends the command.
func chatty(file string) string {
	return fmt.Sprintf("set -e; echo out %s; echo err %[1]s >&2; echo >%[1]s", file)
}

// connect connects outputs of the program to an outlet. which is an element of outputs.
func (p *proc) connect(o outlet, which string) {
	if strings.Contains(which, "stdout") {
		p.cmd.Stdout = o.output
	}
	if strings.Contains(which, "stderr") {
		p.cmd.Stderr = o.output
	}
}

// wantFiles fails the test unless the files contain only a newline, as commands of chatty create them.
func (p *proc) wantFiles(files ...string) {
	p.t.Helper()
	for _, file := range files {
		p.wantFile(file, "\n")
	}
}

// discarded lists the discarded outputs of each command in a report, separated by blanks.
func discarded(r report.Report) (all []string) {
	for _, c := range r.Commands {
		all = append(all, strings.Join(c.Discarded, " "))
	}
	return all
}

// repeated returns a list with n times the same text, as discarded does for n commands with the same discarded outputs.
func repeated(text string, n int) []string { return slices.Repeat([]string{text}, n) }

// wantDiscarded fails the test unless the report of a run contains these discarded outputs.
func (p *proc) wantDiscarded(r report.Report, want []string) {
	p.t.Helper()
	if got := discarded(r); !slices.Equal(got, want) {
		p.t.Errorf("the report has %q, want %q; outcomes: %s; it wrote:\n%s", got, want, outcomes(r), p.text())
	}
}

// If the reader of an output is gone, graceful replaces that output for each command: an on-stop command, a cleanup
// command, a registered one, and one that was registered for the end of a process. No command fails, and graceful warns
// if standard error still has a reader. The other output does not change.
func TestDeadOutput_isReplaced(t *testing.T) {
	all := newReports(t)
	files := []string{"exit", "stop", "exits", "defer"}
	for kind, open := range outlets() {
		for _, which := range outputs {
			for _, guard := range []string{"on", "off"} {
				t.Run(fmt.Sprintf("%s, %s, guard %s", kind, which, guard), func(t *testing.T) {
					t.Parallel()
					p := command(t, "graceful", "run", "--guard", guard, "--report", "report", "--on-exit", chatty("exit"),
						"--on-stop", chatty("stop"), "--", "sh", "-c",
						`sleep 1000 & graceful defer --when-exits $! --shell -- "$1" >id; graceful defer --shell -- "$2" >id
							echo >ready; until [ -e go ]; do sleep 0.01; done; kill $!; until [ -e exits ]; do sleep 0.01; done
							echo $$ >fired; wait; exec sleep 1000`, "sh", chatty("exits"), chatty("defer"))
					o := open(t)
					p.connect(o, which)
					p.start()
					p.waitForFile("ready")
					o.close()
					p.touch("go")
					p.waitForFile("fired")
					p.signal(unix.SIGTERM)
					p.want("143")
					p.wantFiles(files...)
					r := all.read(t, filepath.Join(p.dir, "report"))
					p.wantDiscarded(r, repeated(which, 4))
					for output, text := range map[string]string{"stdout": "\nout ", "stderr": "\nerr "} {
						want := map[bool]int{true: 0, false: 4}[strings.Contains(which, output)]
						if got := strings.Count("\n"+p.text(), text); got != want {
							t.Errorf("found %d times %q, want %d; it wrote\n%s", got, text, want, p.text())
						}
					}
					warned := strings.Count(p.text(), "graceful: output of cleanup command discarded id=")
					if want := map[bool]int{true: 4, false: 0}[which == "stdout"]; warned != want ||
						want > 0 && !strings.Contains(p.text(), " output=[stdout]: it has no reader any more\n") {
						t.Errorf("%d warnings:\n%s", warned, p.text())
					}
				})
			}
		}
	}
}

// If an output has a reader, graceful does not change the output, even if the reader has closed its sending direction.
// The same applies to /dev/full, and to a FIFO that has no reader except the output itself, which is open for reading
// and writing.
func TestDeadOutput_keepsAnOutputWithAReader(t *testing.T) {
	all := newReports(t)
	kinds := outlets()
	kinds["TCP, half closed"] = func(t *testing.T) outlet {
		w, r := tcpConnection(t)
		return outlet{w, func() { _ = r.CloseWrite() }}
	}
	kinds["socket, half closed"] = func(t *testing.T) outlet {
		return socketOutlet(t, func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) })
	}
	kinds["a FIFO without another process"] = func(t *testing.T) outlet {
		path := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		return outlet{w, func() {}}
	}
	kinds["/dev/full"] = func(t *testing.T) outlet {
		w, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { w.Close() })
		return outlet{w, func() {}}
	}
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			p := command(t, "graceful", "run", "--report", "report", "--on-exit",
				`links=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); echo "$links" >links`, "--", "true")
			p.cmd.Stdout, p.cmd.Stderr = o.output, o.output
			if strings.Contains(kind, "half closed") {
				o.close()
			}
			p.start().want("0")
			p.wantDiscarded(all.read(t, filepath.Join(p.dir, "report")), []string{""})
			own, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", o.output.Fd()))
			if got := p.waitForFile("links"); err != nil || got != own+"\n"+own+"\n" {
				t.Errorf("the command has %q, want %s, %v", got, own, err)
			}
		})
	}
}

func init() { roles["on-path"] = onPath }

// onPath runs a program with an O_PATH descriptor of a file as standard output. Opening the file in another way would
// send a request to the file system.
func onPath(args []string) int {
	fd, err := unix.Open(args[0], unix.O_PATH, 0)
	if err == nil {
		err = unix.Dup3(fd, 1, 0)
	}
	program := ""
	if err == nil {
		program, err = exec.LookPath(args[1])
	}
	if err == nil {
		err = unix.Exec(program, args[1:], os.Environ())
	}
	panic(err)
}

// graceful examines an output without waiting for a file system that does not answer.
func TestDeadOutput_onAFileSystemThatDoesNotAnswer(t *testing.T) {
	need(t, "linux", "root", "fuse")
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			start(t, "helper", "hang", "helper", "on-path", "hung", "graceful", "run", "--guard", guard, "--on-exit",
				"echo cleaned >&2", "--", "true").want("0")
		})
	}
}

// If the controlling terminal is closed, graceful gets SIGHUP, and also replaces the outputs of the cleanup command.
func TestDeadOutput_ofTheControllingTerminal(t *testing.T) {
	all := newReports(t)
	for _, flags := range [][]string{nil, {"--pty"}, {"--guard", "off"}, {"--pty", "--guard", "off"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			p := command(t, slices.Concat([]string{"graceful", "run", "--report", "report", "--on-exit", chatty("exit")}, flags,
				[]string{"--", "sh", "-c", "echo >ready; exec sleep 1000"})...)
			o := terminalOutlet(t)
			p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = o.output, o.output, o.output
			p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
			p.start()
			o.output.Close()
			p.waitForFile("ready")
			o.close()
			p.want("129")
			p.wantFiles("exit")
			p.wantDiscarded(all.read(t, filepath.Join(p.dir, "report")), repeated("stdout stderr", 1))
		})
	}
}

// After a takeover, the new graceful also replaces outputs. The report includes the discarded outputs of commands from
// before the takeover.
func TestDeadOutput_afterATakeover(t *testing.T) {
	all := newReports(t)
	for kind, open := range outlets() {
		for _, which := range outputs {
			t.Run(kind+", "+which, func(t *testing.T) {
				t.Parallel()
				p := command(t, "graceful", "run", "--report", "report", "--on-exit", chatty("second"), "--on-exit",
					chatty("first")+"; until [ -e go ]; do sleep 0.01; done; echo >ended", "--", "sh", "-c",
					"echo >ready; exec sleep 1000")
				o := open(t)
				p.connect(o, which)
				p.start()
				p.waitForFile("ready")
				guard := p.guard()
				o.close()
				p.signal(unix.SIGTERM)
				p.waitForFile("first")
				kill(t, p.cmd.Process.Pid)
				p.touch("go")
				p.want("KILL")
				p.until("end of the guard", func() bool { return !alive(guard) })
				p.wantFiles("first", "ended", "second")
				r := all.read(t, filepath.Join(p.dir, "report"))
				p.wantDiscarded(r, repeated(which, 2))
				if !r.TakenOver || outcomes(r) != "succeeded succeeded" {
					t.Errorf("the report is %+v", r)
				}
			})
		}
	}
}

// recover also replaces its own outputs for a cleanup command if they have no reader.
func TestDeadOutput_ofRecover(t *testing.T) {
	all := newReports(t)
	for kind, open := range outlets() {
		for _, which := range outputs {
			t.Run(kind+", "+which, func(t *testing.T) {
				t.Parallel()
				state := filepath.Join(t.TempDir(), "state")
				p := start(t, "graceful", "run", "--state-dir", state, "--report", "report", "--on-exit", chatty("exit"), "--",
					"sh", "-c", "echo >ready; exec sleep 1000")
				p.waitForFile("ready")
				p.killBothAndUnlock(t, state)
				o := open(t)
				r := command(t, "graceful", "recover", "--state-dir", state)
				r.connect(o, which)
				o.close()
				r.start().want("0")
				p.wantFiles("exit")
				p.wantDiscarded(all.read(t, filepath.Join(p.dir, "report")), repeated(which, 1))
			})
		}
	}
}

// As PID 1, graceful also replaces outputs without a reader.
func TestDeadOutput_asPID1(t *testing.T) {
	all := newReports(t)
	for _, guard := range []string{"auto", "on"} {
		for _, which := range outputs {
			t.Run("guard "+guard+", "+which, func(t *testing.T) {
				t.Parallel()
				p := inNamespace(t, true, "graceful", "run", "--guard", guard, "--report", "report", "--on-exit", chatty("exit"),
					"--", "sh", "-c", "echo >ready; until [ -e go ]; do sleep 0.01; done")
				o := pipeOutlet(t)
				p.connect(o, which)
				p.start()
				p.waitForFile("ready")
				o.close()
				p.touch("go")
				p.want("0")
				p.wantFiles("exit")
				p.wantDiscarded(all.read(t, filepath.Join(p.dir, "report")), repeated(which, 1))
			})
		}
	}
}

// If /dev/null is missing, or is a regular file, graceful replaces an output without a reader by a descriptor that
// needs no device. graceful does not write to the file.
func TestDeadOutput_withoutDevNull(t *testing.T) {
	need(t, "root", "unshare", "mount")
	for name, change := range map[string]string{
		"no device": "mount -t tmpfs none /dev",
		"a file":    "mount -t tmpfs none /dev && echo kept >/dev/null",
	} {
		for _, end := range []string{"exit", "takeover"} {
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				p := command(t, "unshare", "--mount", "--propagation", "private", "sh", "-c", change+` && exec "$@"`, "sh",
					"graceful", "run", "--on-exit",
					`! read -r line && set -e && dd if=/proc/self/exe bs=64k count=2 && `+chatty("exit")+
						"; [ ! -e /dev/null ] || cp /dev/null kept", "--", "sh", "-c",
					"echo >ready; until [ -e go ]; do sleep 0.01; done")
				o := pipeOutlet(t)
				p.connect(o, "stdout stderr")
				p.start()
				p.waitForFile("ready")
				guard := p.guard()
				o.close()
				status := "0"
				if end == "takeover" {
					kill(t, p.cmd.Process.Pid)
					status = "KILL"
				}
				p.touch("go")
				p.want(status)
				p.until("end of the guard", func() bool { return !alive(guard) })
				p.wantFiles("exit")
				if name == "a file" {
					p.wantFile("kept", "kept\n")
				}
			})
		}
	}
}
