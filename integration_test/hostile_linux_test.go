package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/registry"
)

// A target that suspends the guard again and again cannot prevent the time limit or the cleanup commands.
func TestGuard_suspendedAgainAndAgain(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--timeout", "500ms", "--grace", "100ms", "--on-exit", "echo 1 >>cleaned", "--", "sh",
		"-c", "trap '' TERM; while :; do kill -STOP $PPID; done")
	p.want("137")
	p.wrote("cleaned", "1\n")
}

// A target or a cleanup command that suspends the guard after a takeover cannot delay the run. graceful continues the
// guard, although the kernel does not report that a parent is suspended.
func TestGuard_suspendedAfterATakeover(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--on-exit-timeout", "1h", "--on-exit", "echo 2 >>cleaned",
		"--on-exit", "kill -STOP $PPID; echo 1 >>cleaned", "--", "sh", "-c",
		"trap 'kill -STOP $PPID; exit 7' TERM; echo $$ >target; while :; do sleep 0.01; done")
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.gone(target)
	p.wrote("cleaned", "1\n2\n")
}

// The guard is suspended, and the graceful that it has started is killed. recover continues the guard, which starts
// another graceful to finish the run.
func TestGuard_suspendedAndAlone(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := command(t, "graceful", "run", "--grace", "1m", "--on-exit", "echo 1 >>cleaned", "--state-dir", "state", "--",
		"sh", "-c", "trap 'echo >stopping' TERM; echo $$ >target; until [ -e end ]; do sleep 0.01; done")
	p.start()
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	last := p.successor(guard)
	p.file("stopping")
	for _, pid := range []int{last, guard} { // suspend graceful first, since it would continue the guard
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		p.until("suspension", func() bool { return state(pid) == "T" })
	}
	kill(t, last)
	recoverIn(t, filepath.Join(p.dir, "state"), "0")
	p.until("continuation of the guard", func() bool { return state(guard) != "T" })
	p.touch("end")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.gone(target)
	p.wrote("cleaned", "1\n")
}

// A frozen guard cannot run, even after SIGCONT. graceful kills the guard, and the run continues without one.
func TestGuard_frozen(t *testing.T) {
	t.Parallel()
	cgroup := ownCgroup(t)
	p := start(t, "graceful", "run", "--deadline", "3s", "--on-exit-timeout", "1s", "--on-exit", "echo 1 >>cleaned",
		"--", "sh", "-c",
		`echo $PPID >"$0"/cgroup.procs; echo 1 >"$0"/cgroup.freeze; echo $$ >target; exec sleep 1000`, cgroup)
	target, guard := p.pidIn("target"), p.guard()
	p.signal(unix.SIGTERM)
	p.want("137") // no process reports how the target ended
	p.gone(target, guard)
	p.wrote("cleaned", "1\n")
}

// The next run removes the sockets of dead runs, whose processes of graceful were all killed. It keeps the socket of a
// live run.
func TestSocket_ofAKilledRun(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	place := t.TempDir()
	run := func(args ...string) *proc {
		p := command(t, append([]string{"graceful", "run"}, args...)...)
		p.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+place)
		return p.start()
	}
	sockets := func() []string {
		found, _ := filepath.Glob(place + "/graceful-*")
		return found
	}
	const target = "echo $$ >target; exec sleep 1000"
	living, taken, dead := run("sh", "-c", target), run("sh", "-c", target), run("sh", "-c", target)
	for _, p := range []*proc{living, taken, dead} {
		p.pidIn("target")
	}
	kill(t, dead.guard(), dead.cmd.Process.Pid)
	dead.want("KILL")
	kill(t, taken.cmd.Process.Pid) // the guard starts a new graceful, which finishes the run
	taken.gone(taken.pidIn("target"))
	taken.until("the end of the run", func() bool { return len(sockets()) == 2 })
	run("true").want("0")
	if left := sockets(); len(left) != 1 {
		t.Errorf("the sockets are %q", left)
	}
	kill(t, dead.pidIn("target"))
	living.signal(unix.SIGTERM)
	living.want("143")
	if left := sockets(); len(left) != 0 {
		t.Errorf("the sockets are %q", left)
	}
}

// graceful is killed, and a new graceful takes over. Then the guard is killed. The next run keeps the socket of this
// run.
func TestSocket_ofASecondGraceful(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	place := t.TempDir()
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+place)
	p := command(t, "graceful", "run", "--grace", "1m", "--", "sh", "-c",
		"trap 'echo >stopping' TERM; echo $$ >target; until [ -e end ]; do sleep 0.01; done")
	p.cmd.Env = env
	p.start()
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	last := p.successor(guard)
	p.file("stopping")
	kill(t, guard)
	p.until("end of the guard", func() bool { return !alive(guard) })
	next := command(t, "graceful", "run", "true")
	next.cmd.Env = env
	next.start().want("0")
	if left, _ := filepath.Glob(place + "/graceful-*/socket"); len(left) != 1 {
		t.Errorf("the sockets are %q", left)
	}
	p.touch("end")
	p.until("end of graceful", func() bool { return !alive(last) })
	p.gone(target)
	if left, _ := filepath.Glob(place + "/graceful-*"); len(left) != 0 {
		t.Errorf("the sockets are %q", left)
	}
}

// A command that is too long for execve(2) is refused when it is registered.
func TestDefer_tooLong(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--defer", "on", "--", "sh", "-c",
		"echo $GRACEFUL_SOCKET >socket; until [ -e end ]; do sleep 0.01; done")
	address := strings.TrimSpace(p.file("socket"))
	long := cleanup.Text(strings.Repeat("x", 128<<10))
	many := make([]cleanup.Text, 1<<18)
	for i := range many {
		many[i] = "sh"
	}
	for name, r := range map[string]registry.Request{
		"argument":    {Command: []cleanup.Text{"true", long}},
		"shell":       {Shell: "# " + long},
		"variable":    {Command: []cleanup.Text{"true"}, Env: []cleanup.Text{"A=" + long}},
		"all of them": {Command: many},
	} {
		r.Do = registry.Defer
		answer, err := registry.Ask(address, r)
		if err != nil || !strings.Contains(answer.Error, "no program can be started with more than") {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
	p.touch("end")
	p.want("0")
}

// Cleanup commands that execve(2) cannot start with the variables that a run adds are refused at the start.
func TestRun_tooLong(t *testing.T) {
	need(t, "linux", "prlimit")
	t.Parallel()
	long := make([]string, 20)
	for i := range long { // together 1,000 bytes less than execve(2) accepts with a stack of 8 MiB
		long[i] = fmt.Sprint("A", i, "=") + strings.Repeat("x", (2<<20-1000)/len(long))
	}
	for name, c := range map[string]struct{ args, env []string }{
		"environment": {env: long}, "name": {args: []string{"--name", strings.Repeat("x", 128<<10-2)}},
	} {
		for _, when := range []string{"--on-exit", "--on-stop"} {
			args := slices.Concat([]string{"prlimit", "--stack=8388608", "graceful", "run", when, "true"}, c.args,
				[]string{"--", "touch", "started"})
			p := command(t, args...)
			p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.env...)
			p.start().want("125")
			if text := p.text(); !strings.Contains(text, "no program can be started with more than") || exists(p, "started") {
				t.Errorf("%s, %s: it wrote %.500q", name, when, text)
			}
		}
	}
}

// With a umask that removes the owner's permissions, a run can still be recovered, and cleanup commands can use their
// empty directory.
func TestUmask(t *testing.T) {
	need(t, "root", "setpriv")
	t.Parallel()
	p := command(t, as(another, "sh", "-c", `mkdir state gone; umask 0777; cd gone; rmdir ../gone; XDG_RUNTIME_DIR="$0" \
		exec graceful run --state-dir "$0"/state --on-exit "echo cleaned >$0/cleaned; chmod 600 $0/cleaned" -- \
		sh -c "umask 022; echo \$\$ >$0/target; exec sleep 1000"`)...)
	p.cmd.Args = append(p.cmd.Args, p.dir)
	if err := os.Chmod(p.dir, os.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	for up := filepath.Dir(p.dir); up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.start()
	target := p.pidIn("target")
	if lock, _ := filepath.Glob(p.dir + "/graceful-*/lock"); len(lock) != 1 {
		t.Errorf("the locks are %q", lock)
	} else if st, err := os.Stat(lock[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the lock: %v, %v", st.Mode(), err)
	}
	bothKilled(t, p.cmd.Process.Pid)
	p.want("KILL")
	r := start(t, as(another, "graceful", "recover", "--state-dir", p.dir+"/state")...)
	r.want("0")
	p.gone(target)
	p.wrote("cleaned", "cleaned\n")
}

// graceful had a job before the run, and the job has ended. A descendant of the target with the same pid is ended with
// the tree.
func TestTree_pidOfAnEndedJob(t *testing.T) {
	need(t, "root", "pidns", "ns_last_pid", "setsid")
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			p := inNamespace(t, true, "sh", "-c", `sh -c 'sleep 0.2 & echo $! >job
				exec graceful run --guard '$0' --grace 100ms --on-exit "kill -0 \$(cat job) && echo lives >lives" -- \
				sh target'; exit $?`, guard)
			err := os.WriteFile(filepath.Join(p.dir, "target"), []byte(`job=$(cat job); while kill -0 $job; do sleep 0.01; done
				n=0; until [ $n = 10000 ]; do n=$((n+1)); echo $((job-1)) >/proc/sys/kernel/ns_last_pid
				setsid helper ignore TERM -- survivor & [ $! = $job ] && exit 3; kill -KILL $!; wait $!; done`), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			p.start().want("3")
			p.wrote("lives", "")
		})
	}
}

// The guard is killed after a takeover while cleanup commands start. The commands that it has not started still run,
// once.
func TestTakeover_guardKilledWhileCommandsStart(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	args := []string{"graceful", "run", "--grace", "1s", "--on-exit-order", "parallel"}
	for i := range 5 {
		command := fmt.Sprintf("echo >>%d; [ -e killed ] || { echo >killed; kill -9 $(cat guard); }", i)
		args = append(args, "--on-exit", command)
	}
	p := start(t, append(args, "--", "sh", "-c", "echo $PPID >guard; echo $$ >target; exec sleep 1000")...)
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.gone(target)
	for i := range 5 {
		if name := fmt.Sprint(i); p.file(name) != "\n" {
			t.Errorf("command %d did not run exactly once", i)
		}
	}
}
