package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// At the deadline and at the time limit, graceful stops waiting for a target that it may not signal.
func TestTarget_mayNotBeSignalled(t *testing.T) {
	need(t, "root", "setpriv")
	t.Parallel()
	for name, c := range map[string]struct {
		flags, status string
		stop          bool
	}{
		"deadline":   {"--deadline 2s --on-exit-timeout 1s", "137", true},
		"time limit": {"--timeout 300ms --deadline 2s --on-exit-timeout 1s", "124", false},
		"group":      {"--contain group --deadline 2s --on-exit-timeout 1s", "137", true},
		"keep":       {"--survivors keep --deadline 2s --on-exit-timeout 1s", "137", true},
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				p := command(t, "sh", "-c", "exec setpriv --bounding-set=-kill graceful run --guard "+guard+" "+c.flags+
					` --on-exit 'echo 1 >>cleaned' -- sh -c 'echo $$ >up; exec setpriv --reuid 54328 --clear-groups sleep 1000'`)
				p.start()
				target := p.pidIn("up")
				t.Cleanup(func() { kill(t, target) })
				p.until("another user", func() bool { return comm(target) == "sleep" })
				if c.stop {
					p.signal(unix.SIGTERM)
				}
				p.want(c.status)
				p.wrote("cleaned", "1\n")
				want := fmt.Sprintf("graceful: giving up on the target pid=%d user=54328: .* lacks CAP_KILL", target)
				if !regexp.MustCompile("(?m)^"+want).MatchString(p.text()) || !alive(target) {
					t.Errorf("target alive: %t; it wrote:\n%s", alive(target), p.text())
				}
			})
		}
	}
}

// The doctor reports that graceful may not signal processes of other users.
func TestDoctor_withoutTheRightToSignalOthers(t *testing.T) {
	need(t, "root", "setpriv")
	t.Parallel()
	for flag, want := range map[string]string{"-kill": "no    users", "+kill": "ok    users"} {
		p := start(t, "setpriv", "--bounding-set="+flag, "graceful", "doctor")
		p.wait()
		if !strings.Contains(p.text(), want) {
			t.Errorf("%s: no %q in\n%s", flag, want, p.text())
		}
	}
}

// --timeout also limits the time that graceful waits for survivors.
func TestTimeout_waitingForSurvivors(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		p := start(t, "graceful", "run", "--guard", guard, "--survivors", "wait", "--timeout", "300ms", "--grace", "100ms",
			"--on-exit", "echo $GRACEFUL_REASON >>cleaned", "--", "sh", "-c", leaveBehind(""))
		left := p.leftBehind("")
		p.want("124")
		p.wrote("cleaned", "timed-out\n")
		p.wrote("job.got", "TERM\n")
		for _, pid := range left {
			if alive(pid) {
				t.Errorf("guard %s: process %d is left", guard, pid)
			}
		}
	}
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
			p.signalled("job.got")
			p.signal(unix.SIGTERM)
		}},
		"deadline": {"--deadline 2s --on-exit-timeout 1s", "137", func(p *proc) { p.signal(unix.SIGTERM) }},
		"takeover": {"--grace 200ms", "KILL", func(p *proc) { kill(p.t, p.cmd.Process.Pid) }},
		"recover": {"--grace 200ms --state-dir state", "KILL", func(p *proc) {
			bothKilled(p.t, p.cmd.Process.Pid)
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
			p.file("cleaned")
			p.wrote("cleaned", "1\n")
			if alive(target) || !alive(left[1]) || !alive(left[2]) {
				t.Errorf("alive: target %t, session %t, daemon %t", alive(target), alive(left[1]), alive(left[2]))
			}
		})
	}
}

// --deadline limits a stop. It does not shorten the cleanup of a target that has ended by itself.
func TestDeadline_onlyForStops(t *testing.T) {
	t.Parallel()
	for guard, wait := range map[string]string{"on": "1.7", "off": "1.7"} { // of 2s, a quarter would be for SIGKILL
		p := start(t, "graceful", "run", "--guard", guard, "--deadline", "4s", "--on-exit-timeout", "2s",
			"--on-exit", "sleep "+wait+"; echo 1 >>cleaned", "--", "true")
		p.want("0")
		p.wrote("cleaned", "1\n")
		p = start(t, "graceful", "run", "--guard", guard, "--deadline", "4s", "--on-exit-timeout", "2s",
			"--on-exit", "echo >begun; exec sleep 1000", "--", "true")
		p.file("begun")
		began := time.Now()
		p.signal(unix.SIGTERM)
		p.want("0")
		after := regexp.MustCompile(`timed out .* limit=2s after=1\.[0-9]*s: the deadline of 4s leaves no more`)
		if took := time.Since(began); !after.MatchString(p.text()) {
			t.Errorf("after %v it wrote:\n%s", took, p.text())
		}
	}
}

// The message about SIGKILL names up to five processes, at the default log level.
func TestLog_killNamesTheProcesses(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		for _, n := range []int{1, 7} {
			p := start(t, "graceful", "run", "--guard", guard, "--grace", "200ms", "--", "sh", "-c",
				fmt.Sprintf("for n in $(seq 2 %d); do helper ignore TERM -- up$n & done; exec helper ignore TERM -- up1", n))
			for i := range n {
				p.file("up" + strconv.Itoa(i+1))
			}
			p.signal(unix.SIGTERM)
			p.want("137")
			want := fmt.Sprintf(`^graceful: the grace of 200ms ran out: SIGKILL to helper \(%d\)`, p.pidIn("up1"))
			if n > 1 {
				want += `(, helper \(\d+\)){4} and 2 more`
			}
			if want += "\n$"; !regexp.MustCompile(want).MatchString(p.text()) {
				t.Errorf("guard %s, %d processes: it wrote %q, want %s", guard, n, p.text(), want)
			}
		}
	}
}

// A stop that takes longer than 3s logs once what it is waiting for.
func TestLog_longStop(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for name, c := range map[string]struct{ flags, want string }{
		"the target": {"--grace 9s", `waiting for helper \(%d\): 6s until SIGKILL`},
		"an on-stop command": {"--on-stop 'sleep 1000' --on-stop-timeout 9s",
			`waiting for on-stop command sleep 1000: 6s until SIGTERM to it`},
		"the drain": {"--drain 9s", `waiting for the drain: 6s until the stop signal`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "sh", "-c", "exec graceful run "+c.flags+" -- helper ignore TERM -- up")
			target := p.pidIn("up")
			p.signal(unix.SIGTERM)
			p.until("message", func() bool { return strings.Contains(p.text(), "waiting") })
			kill(t, target)
			p.want("137")
			want := "^graceful: " + c.want + "\n"
			if strings.Contains(want, "%d") {
				want = fmt.Sprintf(want, target)
			}
			if !regexp.MustCompile(want).MatchString(p.text()) {
				t.Errorf("it wrote %q, want %q", p.text(), want)
			}
		})
	}
}

// A SIGTSTP to graceful suspends graceful only if the target is also suspended.
func TestSuspend_onlyWithTheTarget(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	const stays = "sleep 1000 & while :; do wait; done"
	for name, c := range map[string]struct {
		target    []string
		suspended bool
	}{
		"target is suspended":    {[]string{"sh", "-c", "echo $$ >up; exec sleep 1000"}, true},
		"target ignores SIGTSTP": {[]string{"helper", "ignore", "TSTP", "--", "up"}, false},
		"target catches SIGTSTP": {[]string{"sh", "-c", "trap 'echo >>caught' TSTP; echo $$ >up; " + stays}, false},
		"target takes some time": {[]string{"sh", "-c", "trap 'sleep 0.5; kill -STOP $$' TSTP; echo $$ >up; " + stays},
			true},
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				p := start(t, slices.Concat([]string{"graceful", "run", "-v", "--guard", guard, "--grace", "100ms", "--"},
					c.target)...)
				p.pidIn("up")
				p.signal(unix.SIGTSTP)
				if c.suspended {
					p.until("suspension", func() bool { return procState(p.cmd.Process.Pid) == "T" })
					p.signal(unix.SIGCONT)
				} else {
					p.until("decision", func() bool { return strings.Contains(p.text(), "not suspending graceful") })
					if state := procState(p.cmd.Process.Pid); state == "T" {
						t.Error("graceful is suspended")
					}
				}
				p.signal(unix.SIGTERM)
				p.wait()
			})
		}
	}
}

// procState returns the state of a process in /proc/PID/stat.
func procState(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:min(len(rest), 1)]
}

// As PID 1, graceful also sends SIGTERM to the other processes of the namespace.
func TestPID1_stopsOtherProcesses(t *testing.T) {
	need(t, "root", "pidns", "nsenter")
	t.Parallel()
	for _, guard := range []string{"auto", "on"} {
		for _, contain := range []string{"auto", "cgroup"} {
			t.Run(guard+" "+contain, func(t *testing.T) {
				t.Parallel()
				// The helper gets SIGTERM. It ends only after the process from outside has also got SIGTERM.
				note := `for s in HUP TERM; do trap "echo $s >>$0; got=$s" $s; done; echo $$ >$0.up; ` +
					`until [ "$got" = TERM ] && grep -q TERM outsider; do sleep 0.01; done`
				p := command(t, append([]string{"unshare"}, pidNamespace("sh", "-c", `sh -c "$note" helper & exec "$@"`,
					"sh", "graceful", "run", "--guard", guard, "--contain", contain, "--grace", "1h", "--on-exit",
					"echo 1 >>cleaned", "--", "sh", "-c", "echo >target; until [ -e go ]; do sleep 0.01; done; exit 6")...)...)
				p.cmd.Env = append(os.Environ(), "note="+note)
				p.start()
				p.file("target")
				p.file("helper.up")
				inside := strconv.Itoa(childrenOf(p.cmd.Process.Pid)[0])
				outsider := command(t, "nsenter", "--target", inside, "--pid", "--mount", "--wd=.", "sh", "-c", note, "outsider")
				outsider.cmd.Dir, outsider.cmd.Env = p.dir, p.cmd.Env
				outsider.start()
				p.file("outsider.up")
				p.letGo()
				p.want("6")
				p.wrote("helper", "TERM\n")
				p.wrote("cleaned", "1\n")
				p.wrote("outsider", "HUP\nTERM\n")
				outsider.wait()
			})
		}
	}
}

// With --quiet, only errors of graceful itself go to standard error.
func TestQuiet(t *testing.T) {
	t.Parallel()
	p := start(t, "graceful", "run", "--quiet", "--grace", "100ms", "--on-exit", "false", "--timeout", "200ms", "--",
		"helper", "ignore", "TERM", "--", "up")
	p.want("137")
	if p.text() != "" {
		t.Errorf("it wrote %q", p.text())
	}
	p = start(t, "graceful", "run", "-q", "--", "no-such-program")
	p.want("127")
	if !strings.HasPrefix(p.text(), "graceful: target not started") {
		t.Errorf("it wrote %q", p.text())
	}
	p = start(t, "graceful", "run", "-q", "-v", "--", "true")
	p.want("125")
}

// At the time limit the exit status is 124, or 137 if SIGKILL was needed, as for timeout(1). --preserve-status keeps
// the target's status.
func TestTimeout_exitStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags  []string
		target []string
		status string
	}{
		"ends by SIGTERM": {nil, []string{"sleep", "1000"}, "124"},
		"exits":           {nil, []string{"sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"}, "124"},
		"killed":          {nil, []string{"helper", "ignore", "TERM", "--", "up"}, "137"},
		"preserved":       {[]string{"--preserve-status"}, []string{"sleep", "1000"}, "143"},
		"an exit status, preserved": {[]string{"--preserve-status"},
			[]string{"sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"}, "7"},
		"killed, preserved": {[]string{"--preserve-status"},
			[]string{"helper", "ignore", "TERM", "--", "up"}, "137"},
		"remapped": {[]string{"--remap-exit", "137=9"}, []string{"helper", "ignore", "TERM", "--", "up"}, "9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, slices.Concat([]string{"graceful", "run", "--timeout", "500ms", "--grace", "300ms"}, c.flags,
				[]string{"--"}, c.target)...)
			p.want(c.status)
		})
	}
}
