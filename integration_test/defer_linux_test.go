package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// linesOf counts the lines of a file, each by its text; there need not be one.
func linesOf(p *proc, name string) map[string]int {
	data, _ := os.ReadFile(filepath.Join(p.dir, name))
	counts := map[string]int{}
	for line := range strings.Lines(string(data)) {
		counts[strings.TrimSpace(line)]++
	}
	return counts
}

// registering is a target that registers one command after the other, every second one for the end of a process that ends
// soon, and writes down each whose id was printed.
const registering = `n=0; while [ $n -lt 40 ]; do n=$((n+1)); set --; [ $((n%2)) = 0 ] || { sleep 0.01 & set -- --when-exits $!; }
	id=$(graceful defer --name n$n "$@" -- sh -c "echo $n >>log") && echo $n >>printed; done; echo >all`

// cleanedUp requires that each command of which the id was printed has run, or is said to have been interrupted, and none
// twice.
func (p *proc) cleanedUp(said string) (printed, ran int) {
	p.t.Helper()
	log, ids := linesOf(p, "log"), linesOf(p, "printed")
	for id := range ids {
		if interrupted := regexp.MustCompile(`\(n` + id + `: .*was interrupted`); log[id] == 0 && !interrupted.MatchString(said) {
			p.t.Errorf("command %s was registered and has not run; it wrote:\n%s%s", id, p.text(), said)
		}
	}
	for id, n := range log {
		if n != 1 {
			p.t.Errorf("command %s ran %d times", id, n)
		}
	}
	return len(ids), len(log)
}

func TestWhatIsRegisteredIsCleanedUpWhicheverProcessIsKilled(t *testing.T) {
	for _, who := range []string{"supervisor", "front", "both", "client"} {
		t.Run(who, func(t *testing.T) {
			printed, ran, interrupted := 0, 0, 0
			for range 20 {
				dir := filepath.Join(t.TempDir(), "state")
				p := start(t, "graceful", "run", "--guard", "on", "--state-dir", dir, "--", "sh", "-c", registering)
				p.until("first registration", func() bool { return len(linesOf(p, "printed")) > 0 })
				supervisor, said := p.supervisor(), ""
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
				switch who {
				case "supervisor":
					kill(t, supervisor)
					p.wait()
				case "front":
					kill(t, p.cmd.Process.Pid)
					p.wait()
					p.until("end of the supervisor", func() bool { return !alive(supervisor) })
				case "both":
					bothKilled(t, p.cmd.Process.Pid)
					p.wait()
					p.until("end of the lock", func() bool { return unlocked(t, dir) })
					last := start(t, "graceful", "recover", "--state-dir", dir)
					last.wait()
					said = last.text()
					interrupted += strings.Count(said, "was interrupted")
				case "client":
					for _, pid := range below(t, supervisor) {
						if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(name), "graceful\x00defer\x00") {
							_ = exec.Command("kill", "-9", strconv.Itoa(pid)).Run()
						}
					}
					p.want("0")
				}
				n, m := p.cleanedUp(said)
				printed, ran = printed+n, ran+m
			}
			t.Logf("%d ids were printed, %d commands ran, %d were interrupted", printed, ran, interrupted)
		})
	}
}

// What a process's end has started is waited for, and not started again, whoever is killed meanwhile; all others come after it.
func TestACommandThatRunsBeforeItsTurnRunsOnceWhicheverProcessIsKilled(t *testing.T) {
	for _, stopping := range []bool{false, true} {
		for _, victim := range []string{"supervisor", "front", "both", "both, and the command"} {
			t.Run(fmt.Sprintf("%s, in a stop %t", victim, stopping), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "state")
				p := start(t, "graceful", "run", "--guard", "on", "--state-dir", dir, "--grace", "1h", "--", "sh", "-c", fmt.Sprintf(
					`%t && trap 'echo >stopping' TERM; echo $$ >target; graceful defer -- sh -c 'echo other >>log' >printed
					sh -c 'echo >up; exec sleep 1000' & until [ -e up ]; do sleep 0.01; done # it has no trap any more
					graceful defer --when-exits $! -- sh -c 'echo begun >>log; echo $$ >begun; while [ ! -e end ]; do sleep 0.01; done; echo ended >>log' >>printed
					kill $!; while [ ! -e end ]; do sleep 0.01; done`, stopping))
				front, supervisor := p.cmd.Process.Pid, p.supervisor()
				running, target := p.pidIn("begun"), p.pidIn("target")
				if stopping {
					p.signal(unix.SIGTERM)
					p.file("stopping")
				}
				last, want := p, "begun\nended\nother\n"
				switch victim {
				case "supervisor":
					p.killAndWait(supervisor)
				case "front":
					kill(t, front)
					p.want("KILL")
				default:
					bothKilled(t, front)
					p.want("KILL")
					if victim != "both" {
						kill(t, running)
						p.untilGone([]int{running})
						want = "begun\nother\n"
					}
					_ = os.Remove(filepath.Join(p.dir, "stopping"))
					last = start(t, "graceful", "recover", "--state-dir", dir)
				}
				if !stopping { // it is ended, and the command is not
					p.untilGone([]int{target})
				} else if last != p { // it is asked again
					p.file("stopping")
				}
				p.touch("end")
				switch victim {
				case "supervisor":
					p.wait()
				case "front":
					p.untilGone([]int{supervisor})
				default:
					last.want("1")
					if said := map[bool]string{true: "nobody knows how", false: "was interrupted"}[victim == "both"]; !strings.Contains(last.text(), said) {
						t.Errorf("recover said:\n%s", last.text())
					}
				}
				p.wrote("log", want)
				if strings.Contains(last.text(), "was interrupted") {
					recoverIn(t, dir, "0", "--retry-interrupted")
					p.wrote("log", want+"begun\nended\n")
				}
				if left := inDir(t, dir); left != "" {
					t.Errorf("left in the state directory: %s", left)
				}
			})
		}
	}
}

// Both are killed, or the machine stops, and recover goes on: each in the directory and the environment that it was registered
// in.
func TestWhatIsRegisteredIsRecovered(t *testing.T) {
	for _, what := range []string{"both", "the machine"} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			p := start(t, "graceful", "run", "--guard", "on", "--state-dir", dir, "--name", "x", "--", "sh", "-c",
				`log=$PWD/log; echo $GRACEFUL_SOCKET >socket; mkdir sub; cd sub
				X=y graceful defer -- sh -c 'echo "$X in ${PWD##*/}: $GRACEFUL_REASON" >>'$log >>../printed
				exec sleep 1000 & graceful defer --when-exits $! -- sh -c "echo exits >>$log" >>../printed
				id=$(graceful defer -- sh -c "echo never >>$log"); graceful cancel $id; echo >../ready; wait`)
			p.file("ready")
			all := below(t, p.cmd.Process.Pid)
			bothKilled(t, p.cmd.Process.Pid)
			p.wait()
			if what != "both" {
				kill(t, all...)
				p.untilGone(all)
				file := filepath.Join(dir, "x.ledger")
				book, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				first, rest, _ := strings.Cut(string(book), "\n")
				replace(t, file, rewrite(t, first, func(_, begin map[string]any) { begin["boot"] = "another" })+rest)
			}
			recoverIn(t, dir, "0")
			p.wrote("log", "exits\ny in sub: recovered\n")
			if socket := strings.TrimSpace(p.file("socket")); !filepath.IsAbs(socket) || isThere(filepath.Dir(socket)) {
				t.Errorf("the directory of %q is left", socket)
			}
		})
	}
}

// A cancel that races with the end of the run has withdrawn the command, which then never runs, or comes too late.
func TestACancelHasWithdrawnTheCommandOrComesTooLate(t *testing.T) {
	const runs, each = 20, 50
	withdrawn, late := 0, 0
	for range runs {
		p := start(t, "graceful", "run", "--survivors", "keep", "--", "sh", "-c", fmt.Sprintf(
			`n=0; while [ $n -lt %[1]d ]; do n=$((n+1)); graceful defer -- sh -c "echo $n >>log" >/dev/null; done
			n=0; while [ $n -lt %[1]d ]; do n=$((n+1)); (graceful cancel $n 2>>errors; echo "$n $?" >>status) & done`, each))
		p.want("0")
		p.until("end of all who cancel", func() bool { return len(linesOf(p, "status")) == each })
		log := linesOf(p, "log")
		for line := range linesOf(p, "status") {
			id, status, _ := strings.Cut(line, " ")
			switch {
			case status == "0" && log[id] == 0:
				withdrawn++
			case status == "1" && log[id] == 1:
				late++
			default:
				t.Errorf("command %s ran %d times, and the cancel's status was %s", id, log[id], status)
			}
		}
	}
	t.Logf("%d were withdrawn, %d too late", withdrawn, late)
	if withdrawn == 0 || late == 0 {
		t.Error("that was no race")
	}
}

func TestManyRegisterAtOnce(t *testing.T) {
	processes, each := 20, 20
	if os.Getenv("GRACEFUL_TEST_DEFER_LOAD") != "" { // 10,000: a minute
		processes, each = 200, 50
	}
	p := command(t, "graceful", "run", "--", "sh", "-c", fmt.Sprintf(
		`p=0; while [ $p -lt %d ]; do p=$((p+1)); (n=0; while [ $n -lt %d ]; do n=$((n+1)); graceful defer -- sh -c "echo $p.$n >>log" >>printed || echo $p.$n >>failed; done) & done; wait; echo >registered`,
		processes, each))
	began := time.Now()
	p.start()
	deadline := time.Now().Add(10 * time.Minute)
	for !exists(p, "registered") && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(began)
	_ = p.cmd.Wait()
	all := processes * each
	log := linesOf(p, "log")
	if n := len(linesOf(p, "printed")); n != all || len(log) != all || sum(log) != all {
		t.Errorf("%d ids, %d commands that ran %d times, want %d of each; it wrote:\n%.2000s", n, len(log), sum(log), all, p.text())
	}
	t.Logf("%d registered in %v, %v each; all was over after %v", all, took, took/time.Duration(all), time.Since(began))
}

func TestACommandRunsSoonAfterTheProcessThatItWaitsFor(t *testing.T) {
	for name, around := range map[string][]string{
		"told":                  nil,
		"without pidfd_open(2)": {"strace", "-f", "-qq", "-o", "trace", "-e", "trace=pidfd_open", "-e", "inject=pidfd_open:error=ENOSYS"},
	} {
		t.Run(name, func(t *testing.T) {
			if around != nil {
				need(t, "strace", "norace")
			}
			best := time.Hour
			for range 20 {
				p := start(t, append(around, "graceful", "run", "--", "sh", "-c",
					`(sleep 0.2; date +%s%N >ended) & graceful defer --when-exits $! -- sh -c 'date +%s%N >cleaned' >/dev/null
					until [ -s cleaned ]; do sleep 0.02; done`)...)
				p.want("0")
				if best = min(best, time.Duration(p.pidIn("cleaned")-p.pidIn("ended"))); around != nil && !strings.Contains(p.file("trace"), "(INJECTED)") {
					t.Fatalf("it could be watched:\n%s", p.file("trace"))
				}
				if best <= 100*time.Millisecond {
					t.Log(best)
					return
				}
			}
			t.Errorf("it took %v", best)
		})
	}
}

func TestTheListOfWhatHasNotEnded(t *testing.T) {
	p := start(t, "graceful", "run", "--on-exit-timeout", "7s", "--on-exit", "true", "--", "sh", "-c",
		`sleep 1000 & echo $! >pid; echo $PWD >dir; graceful defer --when-exits $! --name own --timeout 1500ms -- echo "a b" >id
		sleep 1000 & echo $! >other; graceful defer --when-exits $! --shell -- 'echo >begun; until [ -e end ]; do sleep 0.01; done' >id
		graceful defer -- true >id; graceful cancel $(cat id); kill $!; until [ -e begun ]; do sleep 0.01; done
		graceful defer --list; graceful defer --list --format json >json; echo >end`)
	p.want("0")
	pid, other, dir := p.pidIn("pid"), p.pidIn("other"), ledger.Text(strings.TrimSpace(p.file("dir")))
	if got, want := p.text(), fmt.Sprintf("1  pending%[2]s  -    true\n2  when %[1]d exits  own  echo 'a b'\n3  running%[2]s  -    echo >begun; until [ -e end ]; do sleep 0.01; done\na b\n",
		pid, strings.Repeat(" ", len(fmt.Sprint("when exits ", pid))-len("running"))); got != want {
		t.Errorf("it wrote:\n%swant:\n%s", got, want)
	}
	var list []registry.Listed
	d := json.NewDecoder(strings.NewReader(p.file("json")))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		t.Fatal(err)
	}
	script := ledger.Text("echo >begun; until [ -e end ]; do sleep 0.01; done")
	want := []registry.Listed{
		{ID: 1, State: "pending", Text: "true", Command: registry.Texts([]string{"/bin/sh", "-c", "true"}), TimeoutMS: 7000},
		{ID: 2, State: "pending", Name: "own", Text: "echo 'a b'", Command: registry.Texts([]string{"echo", "a b"}), Dir: dir, TimeoutMS: 1500, WhenExits: pid},
		{ID: 3, State: "running", Text: script, Command: []ledger.Text{"/bin/sh", "-c", script}, Dir: dir, TimeoutMS: 7000, WhenExits: other},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// await N has N children and registers a command for the end of each, says so, ends the last one and then all others once there
// is a file go, and writes down how many commands have run when all have or it is late.
func init() { roles["await"] = await }

func await(args []string) int {
	n, _ := strconv.Atoi(args[0])
	for range n {
		if child, _ := rawFork(); child {
			rawStay()
		}
	}
	children := childrenOf(os.Getpid())
	for i, pid := range children {
		request := registry.Request{Do: registry.Defer, Shell: ledger.Text(fmt.Sprintf("echo %d >>log", i)), WhenExits: pid}
		if answer, err := registry.Ask(os.Getenv("GRACEFUL_SOCKET"), request); err != nil || answer.Error != "" {
			panic(fmt.Sprint(err, answer.Error))
		}
	}
	write("registered", len(children))
	ran := func() int {
		log, _ := os.ReadFile("log")
		return bytes.Count(log, []byte("\n"))
	}
	waitFor := func(happened func() bool) {
		for deadline := time.Now().Add(patience); !happened() && time.Now().Before(deadline); {
			time.Sleep(2 * time.Millisecond)
		}
	}
	waitFor(func() bool { return isThere("go") })
	last := len(children) - 1
	for _, some := range [][]int{children[last:], children[:last]} {
		before := ran()
		for _, pid := range some {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for range some {
			_, _ = unix.Wait4(-1, nil, 0, nil)
		}
		waitFor(func() bool { return ran() == before+len(some) })
	}
	write("ran", ran())
	return 0
}

// Also more than we may have descriptors, of which enough are left.
func TestManyProcessesThatAreWaitedFor(t *testing.T) {
	for _, c := range []struct{ processes, descriptors int }{{1000, 0}, {1500, 256}, {100, 64}} {
		t.Run(fmt.Sprintf("%d, ulimit -n %d", c.processes, c.descriptors), func(t *testing.T) {
			began := time.Now()
			p := start(t, "sh", "-c", fmt.Sprintf(`[ %d = 0 ] || ulimit -n %[1]d; exec graceful run --on-exit 'echo last >>log' -- helper await %d`,
				c.descriptors, c.processes))
			p.file("registered")
			registered := time.Since(began)
			p.wrote("log", "") // nobody has ended
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.supervisor()))
			if err != nil || c.descriptors > 0 && len(open) > c.descriptors*3/4 {
				t.Errorf("%d descriptors are open, %v", len(open), err)
			}
			p.touch("go")
			p.want("0")
			if log := linesOf(p, "log"); p.pidIn("ran") != c.processes || len(log) != c.processes+1 || sum(log) != c.processes+1 || p.text() != "" {
				t.Errorf("%d ran before the end, %d times in all; it wrote:\n%s", p.pidIn("ran"), sum(log), p.text())
			}
			t.Logf("registered in %v, all over after %v; %d descriptors", registered, time.Since(began), len(open))
		})
	}
}

// What is process 1 to one is another to those in another PID namespace, around the run's or within it.
func TestAPidOfAnotherNamespaceIsRefused(t *testing.T) {
	p := inNamespace(t, false, "graceful", "run", "--defer", "on", "--", "sh", "-c", `echo $GRACEFUL_SOCKET >socket; echo $$ >pid
		unshare --pid --fork --mount-proc graceful defer --when-exits 1 -- echo never; echo $?; echo >done; until [ -e end ]; do sleep 0.01; done`).start()
	p.file("done")
	answer, err := registry.Ask(strings.TrimSpace(p.file("socket")), registry.Request{Do: registry.Defer, Shell: "echo never", WhenExits: p.pidIn("pid")})
	p.touch("end")
	p.want("0")
	const refusal = "you are in another PID namespace"
	if text := p.text(); err != nil || !strings.HasPrefix(answer.Error, refusal) || !strings.Contains(text, refusal) || !strings.HasSuffix(text, "\n1\n") {
		t.Errorf("we were told %+v, %v; it wrote:\n%s", answer, err, text)
	}
}

// A pid that comes back, to a member of the tree or to a stranger, while nobody of ours is looking: the command has run for the
// first that had it, once, and none is registered for a stranger.
func TestAPidThatComesBack(t *testing.T) {
	need(t, "root", "pidns", "ns_last_pid")
	const again = `again() { n=0; while [ $n -lt 10000 ]; do n=$((n+1))
		echo $(($1-1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 & [ $! = $1 ] && return; kill $!; wait $!; done; echo missed >>log; }
	`
	for _, c := range []struct{ to, then, want string }{
		{"again $pid", "CONT", "fired\nlives\n0\n"},
		{"again $pid", "KILL", "fired\n"},
		{"echo $pid >free; until [ -e taken ]; do sleep 0.01; done", "CONT", "fired\nlives\n1\n"},
		{"echo $pid >free; until [ -e taken ]; do sleep 0.01; done", "KILL", "fired\n"},
	} {
		t.Run(strings.Fields(c.to)[0]+" "+c.then, func(t *testing.T) {
			t.Parallel()
			// Two of the same start time would be one: they are known by that to 1/100 s.
			p := inNamespace(t, false, "sh", "-c", again+`"$@" & run=$!
				until [ -s free ] || [ -s log ]; do sleep 0.01; done; [ ! -s free ] || again $(cat free); echo >taken; wait $run`, "sh",
				"graceful", "run", "--guard", "on", "--", "sh", "-c", again+fmt.Sprintf(
					`sleep 1000 & pid=$!; sleep 0.1; graceful defer --when-exits $pid -- sh -c 'echo fired >>log' >id
					kill -STOP $PPID; kill $pid; wait $pid; %s; kill -%[2]s $PPID; [ %[2]s = CONT ] || exec sleep 1000; until [ -s log ]; do sleep 0.01; done
					kill -0 $pid && echo lives >>log; graceful defer --when-exits $pid -- true >id; echo $? >>log`, c.to, c.then))
			p.start().wait()
			p.wrote("log", c.want)
			if refused := strings.Contains(p.text(), "is none of this run's"); refused != strings.HasSuffix(c.want, "1\n") {
				t.Errorf("it wrote:\n%s", p.text())
			}
		})
	}
}

// touch makes a file in its directory.
func (p *proc) touch(name string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte("\n"), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// Whoever could have something run as root by a run of root's could do anything.
func TestAnotherUserRegistersNothing(t *testing.T) {
	need(t, "root", "setpriv")
	args := []string{"graceful", "run", "--", "sh", "-c", `setpriv --reuid 12345 --clear-groups graceful defer -- echo never; echo $?
		setpriv --reuid 12345 --clear-groups graceful cancel 1; echo $?`}
	for name, p := range map[string]*proc{"by the directory": command(t, args...), "by the credentials": nowhereToWrite(t, args...)} {
		p.start().want("0")
		if text := p.text(); strings.Count(text, "1\n") < 2 || !strings.Contains(text, "user 12345") || strings.Contains(text, "never\n") {
			t.Errorf("%s: it wrote:\n%s", name, text)
		} else {
			t.Logf("%s: %s", name, text)
		}
	}
}

// Root registers in runs of root's alone: another user's run would be given root's environment.
func TestWithSudo(t *testing.T) {
	need(t, "root", "sudo", "setpriv", "userns")
	const nobody = 65534
	work := "mkdir -p sub; cd sub; export X=y; graceful=" + plain + "; "
	for name, c := range map[string]struct {
		user         int
		target, want string
	}{
		"root's run": {0, `sudo -E "$graceful" defer -- sh -c 'echo $(id -u): $X in ${PWD##*/}, from $SUDO_USER'`, `^1\n0: y in sub, from root\n$`},
		"root's run, as another user": {0, `sudo -E -u nobody "$graceful" defer -- echo never; echo $?`,
			`^graceful: defer: .*/socket: permission denied \(only the user of the run and root may; you are user 65534\)\n1\n$`},
		"another user's run": {nobody, `sudo -E "$graceful" defer -- echo never; echo $?`,
			`^graceful: defer: .*: user 65534 listens there, and you are user 0: the environment is not sent \(register as that user\)\n1\n$`},
		"without -E": {nobody, `sudo "$graceful" defer -- echo never; echo $?`, `^graceful: defer: this is not inside a run: GRACEFUL_SOCKET is not set .*\n1\n$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := command(t, append([]string{"unshare", "--mount", "sh", "-c", `echo 'ALL ALL=(ALL) NOPASSWD:SETENV: ALL' >sudoers
				chmod 440 sudoers; mount --bind sudoers /etc/sudoers; exec "$@"`, "sh"}, as(c.user, plain, "run", "--", "sh", "-c", work+c.target)...)...)
			if err := errors.Join(os.Chmod(p.dir, 0o777), os.Chmod(filepath.Dir(p.dir), 0o755)); err != nil { // the way to it, too
				t.Fatal(err)
			}
			p.start().want("0")
			if text := p.text(); !regexp.MustCompile(c.want).MatchString(text) {
				t.Errorf("it wrote:\n%s", text)
			}
		})
	}
}

// nowhereToWrite prepares a program for which there is nowhere anything can be written.
func nowhereToWrite(t *testing.T, args ...string) *proc {
	t.Helper()
	need(t, "root", "userns")
	dir, err := os.MkdirTemp("/opt", "graceful-test-") // where graceful stays when /tmp does not
	if err != nil {
		t.Skipf("a directory in /opt: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(plain, filepath.Join(dir, "graceful"))); err != nil {
		t.Fatal(err)
	}
	p := command(t, append([]string{"unshare", "--mount", "sh", "-c", `for dir in /run /dev/shm /tmp; do
		mount -t tmpfs -o mode=755 none $dir && mount -o remount,ro $dir || exit; done; mount -o remount,bind,ro / && exec "$@"`, "sh"}, args...)...)
	p.dir, p.cmd.Dir = dir, dir
	p.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR=", "TMPDIR=", "PATH="+dir+":"+os.Getenv("PATH"))
	return p
}

func TestOnAReadOnlyRootCommandsAreRegistered(t *testing.T) {
	p := nowhereToWrite(t, "graceful", "run", "--guard", "on", "--", "sh", "-c", `cd /; touch file run/file tmp/file dev/shm/file 2>&1 | grep -c Read-only
		echo $GRACEFUL_SOCKET; graceful defer -- pwd; kill -9 $PPID; sleep 1000`)
	p.start().want("143")
	text := p.text() // of which the log may come a moment later
	if !regexp.MustCompile(`^4\n@graceful-.*\n1\n(graceful: going on .*\n/\n|/\ngraceful: going on .*\n)$`).MatchString(text) {
		t.Errorf("it wrote:\n%s", text)
	}
}

// As in an image from scratch: nothing is there but graceful, and nowhere can anything be written.
func TestInAnEmptyRootCommandsAreRegistered(t *testing.T) {
	need(t, "root", "norace", "chroot")
	root := t.TempDir()
	if err := copyFile(plain, filepath.Join(root, "graceful")); err != nil {
		t.Fatal(err)
	}
	run := []string{"chroot", root, "/graceful", "run", "--contain", "group", "--guard", "off"}
	register := []string{"--", "/graceful", "defer", "--", "/graceful", "version"}
	p := start(t, slices.Concat(run, []string{"--defer", "on"}, register)...)
	p.want("0")
	if text := p.text(); !strings.HasPrefix(text, "1\ngraceful ") {
		t.Errorf("it wrote:\n%s", text)
	}
	// Without /proc graceful cannot tell whether the process has less than graceful itself.
	p = start(t, slices.Concat(run, register)...)
	p.want("1")
	if text := p.text(); !strings.HasSuffix(text, "it cannot be looked at: /proc does not show it (graceful run --defer on admits it)\n") {
		t.Errorf("it wrote:\n%s", text)
	}
}

func TestTheInnermostRunOwnsWhatIsRegistered(t *testing.T) {
	p := start(t, "graceful", "run", "--", "sh", "-c",
		`graceful run --name inner -- sh -c 'cd /; graceful defer -- sh -c "echo \$GRACEFUL_NAME" >/dev/null'; echo between; graceful defer -- sh -c 'echo $GRACEFUL_NAME' >/dev/null; echo last`)
	p.want("0")
	if got := p.text(); got != "inner\nbetween\nlast\nsh\n" {
		t.Errorf("it wrote:\n%s", got)
	}
}

// Those who connect and say nothing keep nobody from registering, and cost no thread.
func TestIdleConnectionsKeepNobodyFromRegistering(t *testing.T) {
	need(t, "python3")
	p := start(t, "graceful", "run", "--guard", "on", "--", "sh", "-c", `echo >ready; while [ ! -e go ]; do sleep 0.01; done
		python3 -c 'import os, socket, time
path = os.environ["GRACEFUL_SOCKET"]
idle = [socket.socket(socket.AF_UNIX) for _ in range(1000)]
for s in idle: s.connect(path)
open("idle", "w").write("1000")
time.sleep(1000)' & 
		while [ ! -s idle ]; do sleep 0.01; done
		for n in 1 2 3 4 5; do graceful defer -- echo $n; done >ids; echo >done; while [ ! -e end ]; do sleep 0.01; done`)
	p.file("ready")
	threads := func() string {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.supervisor()))
		_, rest, _ := strings.Cut(string(status), "Threads:\t")
		n, _, _ := strings.Cut(rest, "\n")
		return n
	}
	before := threads()
	p.touch("go")
	p.file("done")
	if after := threads(); after != before {
		t.Errorf("%s threads have become %s", before, after)
	}
	p.touch("end")
	p.want("0")
	if got := p.text(); got != "5\n4\n3\n2\n1\n" {
		t.Errorf("it wrote:\n%s", got)
	}
}

// Whatever is sent to a run's socket, its sender alone is told that it is wrong, and the others are served meanwhile.
func TestRequestsThatAreNoneHarmNobodyElse(t *testing.T) {
	t.Parallel()
	p := start(t, "graceful", "run", "--guard", "on", "--", "sh", "-c", `echo $GRACEFUL_SOCKET >socket; until [ -e go ]; do sleep 0.01; done
		for n in 1 2 3; do graceful defer -- echo $n >>ids; done; echo >done; until [ -e end ]; do sleep 0.01; done`)
	address := strings.TrimSpace(p.file("socket"))
	head := `{"graceful":1,"do":"defer","shell":"echo never`
	answers := map[string]chan string{}
	for name, send := range map[string]func(net.Conn) error{
		"reading the request: invalid character": func(c net.Conn) error { _, err := io.WriteString(c, "hello\n"); return err },
		"the request is cut off": func(c net.Conn) error {
			_, err := io.WriteString(c, head)
			return errors.Join(err, c.(*net.UnixConn).CloseWrite())
		},
		"the request has more than": func(c net.Conn) error {
			_, _ = io.WriteString(c, head+strings.Repeat(" ", registry.MaxRequest)+`"}`+"\n")
			return nil
		},
		"more than 4194304 bytes": func(c net.Conn) error { // without an end
			for {
				if _, err := c.Write(make([]byte, 1<<16)); err != nil {
					return nil
				}
			}
		},
		"no whole request has come in": func(c net.Conn) error {
			for _, b := range []byte(head) {
				if _, err := c.Write([]byte{b}); err != nil {
					return nil
				}
				time.Sleep(500 * time.Millisecond)
			}
			return nil
		},
	} {
		c, err := net.Dial("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		answers[name] = make(chan string, 1)
		go func() {
			if err := send(c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}()
		go func() {
			text, _ := io.ReadAll(c)
			answers[name] <- string(text)
		}()
	}
	p.touch("go")
	p.file("done")
	for want, answer := range answers {
		if got := <-answer; strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, `{"graceful":1,"error":"`) || !strings.Contains(got, want) {
			t.Errorf("%q was told of, want %s", got, want)
		}
	}
	p.touch("end")
	p.want("0")
	if p.wrote("ids", "1\n2\n3\n"); p.text() != "3\n2\n1\n" {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// Who has given up waiting for an answer, since nobody of ours could give one, was told that nothing is registered.
func TestWhoHasGoneHasRegisteredNothing(t *testing.T) {
	p := start(t, "graceful", "run", "--guard", "on", "--", "sh", "-c",
		`echo $GRACEFUL_SOCKET >socket; until [ -e go ]; do sleep 0.01; done; graceful defer -- echo real`)
	address, supervisor := strings.TrimSpace(p.file("socket")), p.supervisor()
	if err := unix.Kill(supervisor, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.until("stop of the supervisor", func() bool { return stateOfPID(supervisor) == "T" })
	for range 20 {
		c, err := net.Dial("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, `{"graceful":1,"do":"defer","shell":"echo ghost"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := unix.Kill(supervisor, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.touch("go")
	p.want("0")
	if text := p.text(); !regexp.MustCompile(`^\d+\nreal\n$`).MatchString(text) {
		t.Errorf("it wrote:\n%s", text)
	}
}

// The clients in docs/protocol.md do what they are said to.
func TestTheClientsInTheProtocolsDescription(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	code := func(language string) string {
		_, rest, ok := strings.Cut(string(text), "```"+language+"\n")
		block, _, _ := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("there is no %s", language)
		}
		return block
	}
	// Also with an address that has no file.
	for name, prepare := range map[string]func(*testing.T, ...string) *proc{
		"":                 func(t *testing.T, args ...string) *proc { return command(t, args...) },
		" without a place": nowhereToWrite,
	} {
		t.Run("python"+name, func(t *testing.T) {
			need(t, "python3")
			client := code("python")
			if n := len(slices.Collect(strings.Lines(client))); n > 25 {
				t.Errorf("it has %d lines", n)
			}
			p := prepare(t, "graceful", "run", "--", "sh", "-c", `cd sub; X=y R=`+"'\ufffd'"+` B=$(printf '\377') python3 ../client.py sh -c 'echo $X $R $B $0 ${PWD##*/}' `+"'\ufffd\xff'")
			if err := errors.Join(os.Mkdir(filepath.Join(p.dir, "sub"), 0o755), os.WriteFile(filepath.Join(p.dir, "client.py"), []byte(client), 0o644)); err != nil {
				t.Fatal(err)
			}
			p.start().want("0")
			if got := p.text(); got != "1\ny \ufffd \xff \ufffd\xff sub\n" {
				t.Errorf("it wrote:\n%s", got)
			}
		})
		t.Run("shell"+name, func(t *testing.T) {
			need(t, "socat")
			p := prepare(t, "graceful", "run", "--", "sh", "-c", code("sh"))
			if err := os.Mkdir(filepath.Join(p.dir, "scratch"), 0o755); err != nil {
				t.Fatal(err)
			}
			p.start().want("0")
			tried := !exists(p, "scratch") || strings.Contains(p.text(), "cannot remove 'scratch': Read-only")
			if got := p.text(); !strings.HasPrefix(got, `{"graceful":1,"id":1}`+"\n") || !tried {
				t.Errorf("it wrote:\n%s", got)
			}
		})
	}
}

// Requests that other encoders have written, each with its own escapes.
func TestForeignEncoders(t *testing.T) {
	const text = "\ufffd ä 😀 \u2028 \"\\\\ \x7f"
	for name, c := range map[string]struct {
		need   string
		encode string // prints the request that has $TEXT printed
	}{
		"python, ASCII":   {"python3", `python3 -c 'import json, os; print(json.dumps({"graceful": 1, "do": "defer", "command": ["printf", "%s\\n", os.environ["TEXT"]]}))'`},
		"python, UTF-8":   {"python3", `python3 -c 'import json, os; print(json.dumps({"graceful": 1, "do": "defer", "command": ["printf", "%s\\n", os.environ["TEXT"]]}, ensure_ascii=False))'`},
		"node":            {"node", `node -e 'console.log(JSON.stringify({graceful: 1, do: "defer", command: ["printf", "%s\\n", process.env.TEXT]}))'`},
		"jq":              {"jq", `jq -cn '{graceful: 1, do: "defer", command: ["printf", "%s\\n", $ENV.TEXT]}'`},
		"jq, ASCII":       {"jq", `jq -acn '{graceful: 1, do: "defer", command: ["printf", "%s\\n", $ENV.TEXT]}'`},
		"by hand":         {"socat", `printf '%s\n' '{"do" : "d\u0065fer","graceful":1, "command":["\u0070rintf","%s\u000a","\uFFFD \u00E4 \uD83D\uDE00 \u2028 \"\u005c\\ \u007F"] }'`},
		"by hand, base64": {"socat", `printf '%s\n' '{"graceful":1,"do":"defer","command":["printf","%s\\n",{"base64":"'$(printf %s "$TEXT" | base64 -w0)'"}]}'`},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, "linux", "socat", c.need)
			t.Parallel()
			p := command(t, "graceful", "run", "--", "sh", "-c", c.encode+" | socat -t 30 - UNIX-CONNECT:$GRACEFUL_SOCKET")
			p.cmd.Env = append(os.Environ(), "TEXT="+text, "LC_ALL=C.UTF-8")
			p.start().want("0")
			if got, want := p.text(), `{"graceful":1,"id":1}`+"\n"+text+"\n"; got != want {
				t.Errorf("it wrote\n%q, want\n%q", got, want)
			}
		})
	}
}
