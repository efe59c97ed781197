package integration_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// At the deadline of a stop, graceful gives up on a target that it may not signal: it logs the reason, and runs the
// cleanup commands. A stop signal or the time limit begins the stop.
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
				p.wantFile("cleaned", "1\n")
				want := fmt.Sprintf("graceful: giving up on the target pid=%d user=54328: .* lacks CAP_KILL", target)
				if !regexp.MustCompile("(?m)^"+want).MatchString(p.text()) || !alive(target) {
					t.Errorf("target alive: %t; it wrote:\n%s", alive(target), p.text())
				}
			})
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
		p.wantFile("cleaned", "timed-out\n")
		p.wantFile("job.got", "TERM\n")
		for _, pid := range left {
			if alive(pid) {
				t.Errorf("guard %s: process %d is left", guard, pid)
			}
		}
	}
}

// At the time limit the exit status is 124, or 137 if SIGKILL was needed, as for timeout(1). --preserve-status keeps
// the target's status, and --remap-exit applies to all of these statuses.
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
