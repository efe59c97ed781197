package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leaveBehind returns the beginning of a script that leaves a job, a process in a separate session, and a daemon. The
// files job, session and daemon, with a prefix, contain their pids. SIGTERM ends the job and the process in the
// session, which first write a line to the files job.got and session.got, with the prefix.
func leaveBehind(prefix string) string {
	return strings.ReplaceAll(`
member='trap "echo TERM >>$0.got; exit" TERM; echo $$ >$0.tmp; mv $0.tmp $0; while :; do sleep 0.01; done'
sh -c "$member" @job & setsid sh -c "$member" @session & helper daemon @daemon
until [ -e @job ] && [ -e @session ] && [ -e @daemon ]; do sleep 0.01; done
`, "@", prefix)
}

// leftBehind returns the pids of the processes of leaveBehind. At the end of the test it kills those that are alive.
func (p *proc) leftBehind(prefix string) (pids []int) {
	p.t.Helper()
	for _, name := range []string{"job", "session", "daemon"} {
		pids = append(pids, p.pidIn(prefix+name))
	}
	p.t.Cleanup(func() {
		for _, pid := range slices.DeleteFunc(pids, func(pid int) bool { return !alive(pid) }) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return pids
}

// killOne kills one process of graceful. If victim is the guard, killOne also sends graceful a stop signal. Then it
// calls the function then, and waits for the end of both processes. status is the exit status of graceful if the guard
// is the victim.
func (p *proc) killOne(victim, status string, then func()) {
	p.t.Helper()
	guard := p.guard()
	if victim == "graceful" {
		kill(p.t, p.cmd.Process.Pid)
		status = "KILL"
	} else {
		p.loseGuard()
		p.signal(unix.SIGTERM)
	}
	then()
	p.want(status)
	p.until("end of the guard", func() bool { return !alive(guard) })
}

// victims are the processes of graceful that tests kill.
var victims = []string{"graceful", "guard"}

// With --survivors wait, the new graceful stops the survivors if graceful is killed while it waits for them. If the
// guard was killed, a stop signal to graceful still stops the survivors.
func TestSurvivors_waitAfterAProcessIsKilled(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for _, victim := range victims {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			p := start(t, "graceful", "run", "--survivors", "wait", "--grace", "1h", "--on-exit",
				"echo 1 $GRACEFUL_REASON >>log",
				"--on-exit", "echo 2 >>log", "--", "sh", "-c", leaveBehind("")+"echo $$ >target; exit 3")
			left, target := p.leftBehind(""), p.pidIn("target")
			p.until("end of the target", func() bool { return !alive(target) })
			p.killOne(victim, "3", func() {})
			for _, pid := range left {
				if alive(pid) {
					t.Errorf("process %d is left", pid)
				}
			}
			for _, name := range []string{"job", "session"} {
				p.wantFile(name+".got", "TERM\n")
			}
			p.wantFile("log", "2\n1 exited\n") // the target had exited before the kill or the stop
		})
	}
}

// With --survivors keep, graceful keeps survivors even if one of its processes is killed, before or after the end of
// the target. It ends processes that cleanup commands leave behind.
func TestSurvivors_keepAfterAProcessIsKilled(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for _, victim := range victims {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, target alive %t", victim, early), func(t *testing.T) {
				t.Parallel()
				target := leaveBehind("") + "exit 3"
				if early {
					target = `trap "exit 3" TERM` + leaveBehind("") + "echo >ready; while :; do sleep 0.01; done"
				}
				p := start(t, "graceful", "run", "--survivors", "keep", "--grace", "1h", "--on-exit", "echo 1 >>log",
					"--on-exit", leaveBehind("c.")+
						"echo 2 >>log; echo >ready; until [ -e go-on ]; do sleep 0.01; done; echo 2 ended >>log",
					"--", "sh", "-c", target)
				p.waitForFile("ready")
				left := p.leftBehind("")
				finish := func() {
					if err := os.WriteFile(p.dir+"/go-on", nil, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				then := finish
				if early {
					finish()
					left = left[1:] // the job ends, because it gets SIGTERM with its group
				}
				p.killOne(victim, "3", then)
				for _, pid := range left {
					if !alive(pid) {
						t.Errorf("process %d was not kept", pid)
					}
				}
				p.wantFile("session.got", "")
				for _, pid := range p.leftBehind("c.") {
					if alive(pid) {
						t.Errorf("process %d, which a cleanup command left, is alive", pid)
					}
				}
				p.wantFile("log", "2\n2 ended\n1\n")
			})
		}
	}
}

// If the tree is suspended (SIGSTOP), graceful continues each process that it stops. So the process can handle the stop
// signal, and end.
func TestStop_suspendedTree(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for _, survivors := range []string{"stop", "wait", "keep"} {
		t.Run(survivors, func(t *testing.T) {
			t.Parallel()
			p := start(t, "graceful", "run", "--survivors", survivors, "--grace", "1h", "--on-exit", "echo cleaned >>log",
				"--", "sh", "-c", leaveBehind("")+"echo $$ >target; exec sleep 1000")
			target, left := p.pidIn("target"), p.leftBehind("")
			for _, pid := range append([]int{target}, left...) {
				if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				p.until("stop", func() bool { return processState(pid) == "T" })
			}
			p.signal(unix.SIGTERM)
			if survivors == "wait" { // the first signal does not reach the processes in other sessions
				p.until("end of the target", func() bool { return !alive(target) })
				time.Sleep(250 * time.Millisecond) // an earlier signal would belong to the same stop
				p.signal(unix.SIGTERM)
			}
			p.want("143")
			p.wantFile("job.got", "TERM\n")
			for i, pid := range left {
				if kept := survivors == "keep" && i > 0; alive(pid) != kept {
					t.Errorf("process %d: alive: %t", pid, !kept)
				}
			}
			p.wantFile("log", "cleaned\n")
		})
	}
}

// A survivor in the target's group gets the stop signal with that group. After the end of the target it does not get a
// second one, because many programs take a second signal as "abort now". A survivor that ignores the signal, or is
// outside of the group, gets SIGTERM.
func TestSurvivors_getOneStopSignal(t *testing.T) {
	need(t, "linux", "setsid")
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
		for _, flags := range [][]string{
			{"--guard", "on"}, {"--guard", "off"}, {"--contain", "group"},
			{"--stop-schedule", fmt.Sprintf("%d/1h", -int(sig))},
		} {
			t.Run(fmt.Sprint(unix.SignalName(sig), flags), func(t *testing.T) {
				t.Parallel()
				p := start(t, slices.Concat([]string{"graceful", "run", "--verbose"}, flags,
					[]string{"--", "sh", "-c", leaveBehind("") + `
					helper count counter & setsid helper count away & until [ -e counter.pid ] && [ -e away.pid ]; do sleep 0.01; done
					echo $$ >target; exec sleep 1000`})...)
				p.waitForFile("target")
				left := append(p.leftBehind(""), p.pidIn("counter.pid"), p.pidIn("away.pid"))
				p.signal(sig)
				p.until("end of the target", func() bool { return strings.Contains(p.text(), "state=sweeping ") })
				p.signal(unix.SIGWINCH) // to the survivors, after all signals of the sweep; ignored by default
				counters := []string{"counter", "away"}
				if slices.Contains(flags, "group") {
					counters = counters[:1] // away is not a member of the tree
				}
				for _, name := range counters {
					p.until("SIGWINCH at "+name, func() bool { return slices.Contains(p.signalsTo(name), int(unix.SIGWINCH)) })
				}
				for i, name := range counters {
					want := []int{int([]unix.Signal{sig, unix.SIGTERM}[i]), int(unix.SIGCONT), int(unix.SIGWINCH)}
					if got := p.signalsTo(name); !sameSet(got, want) {
						t.Errorf("%s got the signals %v, want %v", name, got, want)
					}
				}
				for _, pid := range left[2:] {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
				p.want(fmt.Sprint(128 + int(sig)))
				p.wantFile("job.got", "TERM\n")
			})
		}
	}
}

// signalsTo returns the signals that `helper count` has written to a file.
func (p *proc) signalsTo(file string) (signals []int) {
	p.t.Helper()
	for line := range strings.Lines(p.waitForFile(file)) {
		var sig int
		if _, err := fmt.Sscanln(line, &sig); err != nil {
			p.t.Fatal(err)
		}
		signals = append(signals, sig)
	}
	return signals
}

// sameSet reports whether two lists contain the same signals. Signals that are sent at the same moment may arrive in
// any order.
func sameSet(a, b []int) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// With --survivors keep, survivors live on even if the target had to be killed. In that case graceful kills only the
// target's process group.
func TestSurvivors_keptAfterTheTargetIsKilled(t *testing.T) {
	need(t, "root", "setsid")
	t.Parallel()
	tree := leaveBehind("") + "trap '' TERM; echo $$ >target; while :; do sleep 0.01; done"
	for name, c := range map[string]struct {
		flags, status string
		stop          func(p *proc)
	}{
		"grace":      {"--grace 200ms", "137", func(p *proc) { p.signal(unix.SIGTERM) }},
		"time limit": {"--grace 200ms --timeout 1s", "137", func(*proc) {}},
		"repeated": {"--grace 1h --on-repeat kill", "137", func(p *proc) {
			p.signal(unix.SIGTERM)
			p.waitForSignal("job.got")
			p.signal(unix.SIGTERM)
		}},
		"deadline": {"--deadline 2s --on-exit-timeout 1s", "137", func(p *proc) { p.signal(unix.SIGTERM) }},
		"takeover": {"--grace 200ms", "KILL", func(p *proc) { kill(p.t, p.cmd.Process.Pid) }},
		"recover": {"--grace 200ms --state-dir state", "KILL", func(p *proc) {
			killBoth(p.t, p.cmd.Process.Pid)
		}},
		"cgroup": {"--contain cgroup --grace 200ms", "137", func(p *proc) { p.signal(unix.SIGTERM) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "sh", "-c", "exec graceful run --survivors keep "+c.flags+
				` --on-exit 'echo 1 >>cleaned' -- sh -c "$0"`, tree)
			target, left := p.pidIn("target"), p.leftBehind("")
			guard := p.guard()
			c.stop(p)
			p.want(c.status)
			p.until("end of the guard", func() bool { return !alive(guard) })
			if name == "recover" {
				p.until("release of the lock", func() bool { return unlocked(t, filepath.Join(p.dir, "state")) })
				r := start(t, "graceful", "recover", "--state-dir", filepath.Join(p.dir, "state"))
				r.want("0")
			}
			p.waitForFile("cleaned")
			p.wantFile("cleaned", "1\n")
			if alive(target) || !alive(left[1]) || !alive(left[2]) {
				t.Errorf("alive: target %t, session %t, daemon %t", alive(target), alive(left[1]), alive(left[2]))
			}
		})
	}
}
