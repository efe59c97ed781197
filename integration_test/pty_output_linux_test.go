package integration_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// All bytes of the target's output arrive, and in the same order.
func TestPTY_losesNoOutput(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	const size = 100 << 20
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		p := command(t, run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
			fmt.Sprintf("stty -opost; exec helper pour %d sum", size))...)
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
		p.wantFile("cleaned", "1\n")
		if got := fmt.Sprintf("%x", sum.Sum(nil)); got != p.waitForFile("sum") {
			t.Errorf("%d bytes of %d arrived, or they differ", n, size)
		}
	})
}

// The target has ended, and its output was not read yet. Cleanup begins when the reader has read nothing for a second
// (stallLimit in runner/terminal). Unless a stop signal arrives, graceful exits only after the reader has read the
// whole output.
func TestPTY_lateReader(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		p := command(t, run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
			"stty -opost; helper pour 66000 sum; echo the end")...)
		p.cmd.Stdout = nil
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.start()
		p.waitForFile("cleaned")
		got, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		p.want("0")
		if want := append(noise(66000), "the end\n"...); !bytes.Equal(got, want) {
			t.Errorf("the reader got %d bytes of %d, or they differ", len(got), len(want))
		}
	})
}

// A reader of the output that does not read delays neither a stop nor cleanup.
func TestPTY_readerDoesNotRead(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"target ends": "exec yes", "target ignores SIGTERM": "trap '' TERM; yes"} {
		t.Run(name, func(t *testing.T) {
			forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
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
				p.want(map[string]string{"target ends": "143", "target ignores SIGTERM": "137"}[name])
				p.wantFile("cleaned", "1\n")
			})
		})
	}
}

// Survivors may still have the target's terminal open. The last output of the target arrives, and graceful ends or
// keeps survivors as without --pty.
func TestPTY_survivorsHaveTheTerminal(t *testing.T) {
	need(t, "setsid", "nohup")
	t.Parallel()
	const leave = `setsid sh -c 'echo $$ >@1; exec sleep 1000' & nohup sh -c 'echo $$ >@2
		exec sleep 1000' >/dev/null 2>&1 &
		setsid sh -c 'trap "" TERM HUP; echo $$ >@3; exec sleep 1000' </dev/null &
		until [ -s @1 ] && [ -s @2 ] && [ -s @3 ]; do sleep 0.01; done; echo last words`
	for _, survivors := range []string{"stop", "keep"} {
		t.Run(survivors, func(t *testing.T) {
			forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
				p := start(t, run("--survivors", survivors, "--grace", "200ms", "--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
					leave)...)
				p.want("0")
				p.wantFile("cleaned", "1\n")
				if got := p.text(); !strings.HasPrefix(got, "last words\r\n") {
					t.Errorf("it wrote:\n%s", got)
				}
				for _, name := range []string{"@1", "@2", "@3"} {
					pid := p.pidIn(name)
					if lives, want := alive(pid), survivors == "keep" || slices.Contains(run(), "group") &&
						name != "@2"; lives != want {
						t.Errorf("%s alive: %t, want %t", name, lives, want)
					}
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			})
		})
	}
}

// A survivor that writes to the terminal all the time does not delay the end of the run.
func TestPTY_survivorFloodsTheTerminal(t *testing.T) {
	need(t, "setsid")
	t.Parallel()
	p := start(t, ptyRun("--survivors", "keep", "--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
		`setsid sh -c 'echo $$ >pid; exec yes' & until [ -s pid ]; do sleep 0.01; done`)...)
	p.want("0")
	p.wantFile("cleaned", "1\n")
	p.until("end of the survivor without a terminal", func() bool { return !alive(p.pidIn("pid")) })
}

// If the guard is killed while the target writes, all output arrives. If graceful is killed, its terminal gets the
// original modes back, and the output of the target and of the cleanup command still arrives.
func TestPTY_processKilledWhileTheTargetWrites(t *testing.T) {
	t.Parallel()
	t.Run("the guard", func(t *testing.T) {
		t.Parallel()
		p := start(t, ptyRun("--on-exit", "echo >>cleaned 1", "--", "helper", "tick", "told")...)
		p.until("output", func() bool { return strings.Contains(p.text(), "line 1000\r\n") })
		p.loseGuard()
		p.signal(unix.SIGTERM)
		p.want("0")
		p.wantFile("cleaned", "1\n")
		got, _, _ := strings.Cut(strings.ReplaceAll(p.text(), "\r", ""), "the last one\n")
		first, rest, _ := strings.Cut(got, "graceful: the guard was killed; continuing without a guard "+
			"(if graceful itself is killed now, nothing is cleaned up)\n")
		if got = first + rest; got != p.waitForFile("told") {
			t.Errorf("%d bytes of %d arrived, or they differ", len(got), len(p.waitForFile("told")))
		}
	})
	t.Run("graceful", func(t *testing.T) {
		t.Parallel()
		x := inTerminal(t, 24, 80, "sh", "-c", `stty -g >before; "$@"; echo "the shell goes on, $?"; sleep 1000`, "sh",
			"graceful", "run", "--pty", "--on-exit", "echo cleaned; echo >>cleaned 1", "--",
			"sh", "-c", `trap 'echo stopping; until [ -e seen ]; do sleep 0.01; done; echo stopped; exit' TERM
				echo $PPID >guard; while :; do sleep 0.01; done`)
		guard := x.pidIn("guard")
		x.becomesRaw()
		kill(t, parentOf(t, guard))
		x.shows("the shell goes on, 137")
		x.shows("stopping\r")
		x.until("original modes of the terminal", func() bool {
			return x.modes() == strings.TrimSpace(
				x.waitForFile("before"))
		}) // the modes are restored before the target ends
		if err := os.WriteFile(filepath.Join(x.dir, "seen"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		x.shows("stopped\r")
		x.shows("cleaned\r\n")
		if got, want := x.modes(), strings.TrimSpace(x.waitForFile("before")); got != want {
			t.Errorf("the modes are %s, want %s", got, want)
		}
		x.until("end of the guard", func() bool { return !alive(guard) })
		x.wantFile("cleaned", "1\n")
	})
}

// graceful and the guard are killed, possibly while graceful relays output. The process that finishes the run relays no
// output, and does not use its own terminal for the run.
func TestPTY_recovered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ moment, reason string }{{"target started", "recovered"}, {"tree emptied", "exited"}} {
		for _, by := range []string{"recover", "run --name x --pty -- echo the next one"} {
			t.Run(c.moment+", "+by, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "state")
				p := start(t, ptyRun("--state-dir", dir, "--name", "x", "--grace", "100ms", "--on-exit",
					"[ -e go ] || { echo $$ >cleaning; exec sleep 1000; }; echo $GRACEFUL_REASON >>log", "--", "sh", "-c",
					"trap '' HUP TERM; helper daemon daemon; echo $$ >target; "+
						"until [ -e end ]; do sleep 0.01; done; kill -KILL $(cat daemon)")...)
				target, daemon := p.pidIn("target"), p.pidIn("daemon")
				if c.moment == "tree emptied" {
					p.touch("end")
					command := p.pidIn("cleaning")
					defer unix.Kill(command, unix.SIGKILL)
				}
				file := filepath.Join(dir, "x.ledger")
				var text string
				p.until(c.moment, func() bool {
					data, _ := os.ReadFile(file)
					text = string(data)
					return strings.Contains(text, c.moment)
				})
				p.touch("go")
				killBoth(t, p.cmd.Process.Pid)
				if before, after, found := strings.Cut(text, `"tree emptied"`); found { // as if both had been killed then
					rest, _, _ := strings.Cut(after, "\n")
					overwrite(t, file, before+`"tree emptied"`+rest+"\n")
				}
				p.want("KILL")
				p.wantFile("log", "")
				verb, rest, _ := strings.Cut(by, " ")
				q := start(t, slices.Concat([]string{"graceful", verb, "--state-dir", dir}, strings.Fields(rest))...)
				q.want("0")
				if got := withoutLog(q.text()); strings.HasSuffix(got, "the next one\r\n") != (verb == "run") {
					t.Errorf("%s wrote:\n%s", verb, got)
				}
				p.wantFile("log", c.reason+"\n")
				if names := inDir(t, dir); names != "" || alive(target) || alive(daemon) {
					t.Errorf("left in the state directory: %q; alive: target %t, daemon %t", names, alive(target), alive(daemon))
				}
			})
		}
	}
}

// If the output of the target cannot be written, the cleanup command still runs. Without a reader, the target gets
// SIGHUP. On a full disk, the target continues, and graceful reports the loss.
func TestPTY_outputCannotBeWritten(t *testing.T) {
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		piped := slices.Concat([]string{"sh", "-c", `{ "$@"; echo $? >status; } | head -n 1`, "sh"},
			run("--on-exit", "echo >>cleaned 1", "--"))
		// After the first line, head(1) ends, and the output has no reader: as when a terminal is closed.
		p := start(t, append(piped, "yes")...)
		p.want("0")
		p.wantFile("status", "129\n")
		p.wantFile("cleaned", "1\n")
		p = start(t, append(piped, "sh", "-c", `trap "echo >>hung 1" HUP; echo; until [ -e hung ]; do echo; done; exit 3`)...)
		p.want("0")
		p.wantFile("status", "3\n")
		p.wantFile("cleaned", "1\n")

		p = start(t, slices.Concat([]string{"sh", "-c", `exec "$@" >/dev/full`, "sh"},
			run("--on-exit", "echo >>cleaned 1; :", "--", "sh", "-c", "echo a; echo b; exit 3"))...)
		p.want("3")
		p.wantFile("cleaned", "1\n")
		const lost = "graceful: writing the target's output: no space left on device (the rest of it is lost)\n"
		if got := p.text(); got != lost {
			t.Errorf("it wrote:\n%s", got)
		}
		p = start(t, slices.Concat([]string{"sh", "-c", `exec "$@" >&- 2>&- <&-`, "sh"},
			run("--on-exit", "echo >>cleaned 1; :", "--", "sh", "-c", "cat; echo a; exit 3"))...)
		p.want("3")
		p.wantFile("cleaned", "1\n")
	})
}
