package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"graceful/cleanup"
	"graceful/cleanup/registry"
)

// registering is the script of a target that registers one command after the other. Every second command waits for the
// end of a process that ends soon. After defer has printed the id of a command, the target appends the number of that
// command to the file printed. The command appends the number to the file log.
const registering = `n=0; while [ $n -lt 40 ]; do n=$((n+1)); set --
	[ $((n%2)) = 0 ] || { sleep 0.01 & set -- --when-exits $!; }
	id=$(graceful defer --name n$n "$@" -- sh -c "echo $n >>log") && echo $n >>printed; done; echo >all`

// wantEachOnceOrInterrupted fails the test unless each command with a printed id has run once, or recover has reported
// that the command was interrupted. No command may run twice. said is the output of recover. The results are the
// numbers of printed ids and of commands that ran.
func (p *proc) wantEachOnceOrInterrupted(said string) (printed, ran int) {
	p.t.Helper()
	log, ids := linesOf(p, "log"), linesOf(p, "printed")
	for id := range ids {
		if interrupted := regexp.MustCompile(`cleanup command interrupted id=\d+ name=n` + id + `\b`); log[id] == 0 &&
			!interrupted.MatchString(said) {
			p.t.Errorf("command %s was registered and did not run; it wrote:\n%s%s", id, p.text(), said)
		}
	}
	for id, n := range log {
		if n != 1 {
			p.t.Errorf("command %s ran %d times", id, n)
		}
	}
	return len(ids), len(log)
}

// While the target registers commands, a process is killed: the guard, graceful, both, or a client. Each command whose
// id was printed runs once, or recover reports the command as interrupted.
func TestDefer_processKilled(t *testing.T) {
	for _, victim := range []string{"guard", "graceful", "both", "client"} {
		t.Run(victim, func(t *testing.T) {
			printed, ran, interrupted := 0, 0, 0
			for range rounds(20) {
				dir := filepath.Join(t.TempDir(), "state")
				p := start(t, "graceful", "run", "--guard", "on", "--state-dir", dir, "--", "sh", "-c", registering)
				p.until("first registration", func() bool { return len(linesOf(p, "printed")) > 0 })
				guard, said := p.guard(), ""
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
				switch victim {
				case "guard":
					kill(t, guard)
					p.want("0")
				case "graceful":
					kill(t, p.cmd.Process.Pid)
					p.wait()
					p.until("end of the guard", func() bool { return !alive(guard) })
				case "both":
					killBoth(t, p.cmd.Process.Pid)
					p.wait()
					p.until("release of the lock", func() bool { return unlocked(t, dir) })
					last := start(t, "graceful", "recover", "--state-dir", dir)
					last.wait()
					said = last.text()
					interrupted += strings.Count(said, "command interrupted")
				case "client":
					for _, pid := range treeOf(t, guard) {
						name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
						if strings.HasPrefix(string(name), "graceful\x00defer\x00") {
							_ = exec.Command("kill", "-9", strconv.Itoa(pid)).Run()
						}
					}
					p.want("0")
				}
				n, m := p.wantEachOnceOrInterrupted(said)
				printed, ran = printed+n, ran+m
			}
			t.Logf("%d ids were printed, %d commands ran, %d were interrupted", printed, ran, interrupted)
		})
	}
}

// After graceful and the guard were killed, or the machine has stopped, recover runs each registered command in the
// directory and the environment in which it was registered.
func TestDefer_recovered(t *testing.T) {
	for _, what := range []string{"both", "the machine"} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			p := start(t, "graceful", "run", "--guard", "on", "--state-dir", dir, "--name", "x", "--", "sh", "-c",
				`log=$PWD/log; echo $GRACEFUL_SOCKET >socket; mkdir sub; cd sub
				X=y graceful defer -- sh -c 'echo "$X in ${PWD##*/}: $GRACEFUL_REASON" >>'$log >>../printed
				exec sleep 1000 & graceful defer --when-exits $! -- sh -c "echo exits >>$log" >>../printed
				id=$(graceful defer -- sh -c "echo never >>$log"); graceful cancel $id; echo >../ready; wait`)
			p.waitForFile("ready")
			all := treeOf(t, p.cmd.Process.Pid)
			killBoth(t, p.cmd.Process.Pid)
			p.wait()
			if what != "both" {
				kill(t, all...)
				p.untilEnded(all)
				file := filepath.Join(dir, "x.ledger")
				book, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				first, rest, _ := strings.Cut(string(book), "\n")
				overwrite(t, file, rewriteRecord(t, first, func(_, begin map[string]any) { markRebooted(begin) })+rest)
			}
			recoverIn(t, dir, "0")
			p.wantFile("log", "exits\ny in sub: recovered\n")
			if socket := strings.TrimSpace(p.waitForFile("socket")); !filepath.IsAbs(socket) || isThere(filepath.Dir(socket)) {
				t.Errorf("the directory of %q is left", socket)
			}
		})
	}
}

// A cancel may come at the same time as the end of the run. Either it succeeds, and the command never runs, or it
// fails, and the command runs once.
func TestCancel_racesWithTheEndOfTheRun(t *testing.T) {
	const each = 50
	withdrawn, late := 0, 0
	for range rounds(20) {
		p := start(t, "graceful", "run", "--survivors", "keep", "--", "sh", "-c", fmt.Sprintf(
			`n=0; while [ $n -lt %[1]d ]; do n=$((n+1)); graceful defer -- sh -c "echo $n >>log" >/dev/null; done
			n=0; while [ $n -lt %[1]d ]; do n=$((n+1)); (graceful cancel $n 2>>errors; echo "$n $?" >>status) & done`, each))
		p.want("0")
		p.until("end of all clients", func() bool { return len(linesOf(p, "status")) == each })
		log := linesOf(p, "log")
		for line := range linesOf(p, "status") {
			id, status, _ := strings.Cut(line, " ")
			switch {
			case status == "0" && log[id] == 0:
				withdrawn++
			case status == "1" && log[id] == 1:
				late++
			default:
				t.Errorf("command %s ran %d times, and the exit status of cancel was %s", id, log[id], status)
			}
		}
	}
	t.Logf("%d were withdrawn, %d too late", withdrawn, late)
	if withdrawn == 0 || late == 0 {
		t.Error("all cancels had the same outcome")
	}
}

// Many processes register commands at once. Each gets its ids, and each command runs once.
func TestDefer_manyClientsAtOnce(t *testing.T) {
	processes, each := 20, 20
	if os.Getenv("GRACEFUL_TEST_DEFER_LOAD") != "" { // 10,000 commands take a minute
		processes, each = 200, 50
	}
	p := command(t, "graceful", "run", "--", "sh", "-c", fmt.Sprintf(
		`p=0; while [ $p -lt %d ]; do p=$((p+1)); (n=0; while [ $n -lt %d ]; do n=$((n+1))
			graceful defer -- sh -c "echo $p.$n >>log" >>printed || echo $p.$n >>failed; done) & done; wait; echo >registered`,
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
		t.Errorf("%d ids, %d commands that ran %d times, want %d of each; it wrote:\n%.2000s", n, len(log), sum(log), all,
			p.text())
	}
	t.Logf("%d registered in %v, %v each; all was over after %v", all, took, took/time.Duration(all), time.Since(began))
}

// graceful defer --list lists the --on-exit commands and the registered commands that have not ended and were not
// withdrawn, as text and as JSON. It shows the state of each command, and either its name or its command line.
func TestDefer_list(t *testing.T) {
	p := start(t, "graceful", "run", "--on-exit-timeout", "7s", "--on-exit", "true", "--", "sh", "-c",
		`sleep 1000 & echo $! >pid; echo $PWD >dir
			graceful defer --when-exits $! --name own --timeout 1500ms -- echo "a b" >id
		sleep 1000 & echo $! >other
		graceful defer --when-exits $! --shell -- 'echo >begun; until [ -e end ]; do sleep 0.01; done' >id
		graceful defer -- true >id; graceful cancel $(cat id); kill $!; until [ -e begun ]; do sleep 0.01; done
		graceful defer --list; graceful defer --list --format json >json; echo >end`)
	p.want("0")
	pid, other, dir := p.pidIn("pid"), p.pidIn("other"), cleanup.Text(strings.TrimSpace(p.waitForFile("dir")))
	if got, want := p.text(), fmt.Sprintf("1  pending%[2]s  -    true\n2  when %[1]d exits  own  -\n"+
		"3  running%[2]s  -    echo >begun; until [ -e end ]; do sleep 0.01; done\na b\n",
		pid, strings.Repeat(" ", len(fmt.Sprint("when exits ", pid))-len("running"))); got != want {
		t.Errorf("it wrote:\n%swant:\n%s", got, want)
	}
	var list []registry.Listed
	d := json.NewDecoder(strings.NewReader(p.waitForFile("json")))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		t.Fatal(err)
	}
	script := cleanup.Text("echo >begun; until [ -e end ]; do sleep 0.01; done")
	want := []registry.Listed{
		{ID: 1, State: "pending", Text: "true", Command: cleanup.Texts([]string{"/bin/sh", "-c", "true"}), TimeoutMS: 7000},
		{ID: 2, State: "pending", Name: "own", Text: "own", Dir: dir,
			TimeoutMS: 1500, WhenExits: pid},
		{ID: 3, State: "running", Text: script, Command: []cleanup.Text{"/bin/sh", "-c", script}, Dir: dir, TimeoutMS: 7000,
			WhenExits: other},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// nowhereToWrite prepares a program in a mount namespace in which no directory for a socket is writable.
func nowhereToWrite(t *testing.T, args ...string) *proc {
	t.Helper()
	need(t, "root", "userns")
	dir, err := os.MkdirTemp("/opt", "graceful-test-") // graceful stays visible here when another file system hides /tmp
	if err != nil {
		t.Skipf("a directory in /opt: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(plain, filepath.Join(dir, "graceful"))); err != nil {
		t.Fatal(err)
	}
	p := command(t, append([]string{"unshare", "--mount", "sh", "-c", `for dir in /run /dev/shm /tmp; do
		mount -t tmpfs -o mode=755 none $dir && mount -o remount,ro $dir || exit; done
		mount -o remount,bind,ro / && exec "$@"`, "sh"}, args...)...)
	p.dir, p.cmd.Dir = dir, dir
	p.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR=", "TMPDIR=", "PATH="+dir+":"+os.Getenv("PATH"))
	return p
}

// If no directory is writable, the socket has an abstract address. A command can be registered, and runs after a
// takeover.
func TestDefer_onAReadOnlyRoot(t *testing.T) {
	p := nowhereToWrite(t, "graceful", "run", "--guard", "on", "--", "sh", "-c",
		`cd /; touch file run/file tmp/file dev/shm/file 2>&1 | grep -c Read-only
		echo $GRACEFUL_SOCKET; graceful defer -- pwd; read -r _ _ _ graceful _ </proc/$PPID/stat
		kill -9 $graceful; sleep 1000`)
	p.start().want("KILL")
	p.until("cleanup", func() bool { return strings.Contains(p.text(), "\n/\n") })
	p.until("message about the takeover", func() bool { return strings.Contains(p.text(), "graceful was killed") })
	text := p.text()
	const taken = `graceful: graceful was killed; .*\n`
	if !regexp.MustCompile(`^4\n@graceful-.*\n1\n(` + taken + `/\n|/\n` + taken + `)$`).MatchString(text) {
		t.Errorf("it wrote:\n%s", text)
	}
}

// The root directory contains only graceful, as in an image from scratch. With --defer on, a command can be registered.
func TestDefer_inAnEmptyRoot(t *testing.T) {
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
	// Without /proc, graceful cannot compare the rights of the client with its own. With --defer auto it then refuses.
	p = start(t, slices.Concat(run, register)...)
	p.want("1")
	const refusal = "it cannot be looked at: /proc does not show it (graceful run --defer on admits it)\n"
	if text := p.text(); !strings.HasSuffix(text, refusal) {
		t.Errorf("it wrote:\n%s", text)
	}
}

// A command that is registered inside of a nested run runs at the end of that run.
func TestDefer_registersWithTheInnermostRun(t *testing.T) {
	p := start(t, "graceful", "run", "--", "sh", "-c",
		`graceful run --name inner -- sh -c 'cd /; graceful defer -- sh -c "echo \$GRACEFUL_NAME" >/dev/null'
			echo between; graceful defer -- sh -c 'echo $GRACEFUL_NAME' >/dev/null; echo last`)
	p.want("0")
	if got := p.text(); got != "inner\nbetween\nlast\nsh\n" {
		t.Errorf("it wrote:\n%s", got)
	}
}
