package integration_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
					p.until("suspension", func() bool { return processState(p.cmd.Process.Pid) == "T" })
					p.signal(unix.SIGCONT)
				} else {
					p.until("decision", func() bool { return strings.Contains(p.text(), "not suspending graceful") })
					if state := processState(p.cmd.Process.Pid); state == "T" {
						t.Error("graceful is suspended")
					}
				}
				p.signal(unix.SIGTERM)
				p.wait()
			})
		}
	}
}

// If SIGCONT follows SIGTSTP at once, graceful may handle the two signals in either order. In both cases graceful and
// the target continue to run.
func TestSuspend_continuedAtOnce(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for range 20 {
		p := start(t, "graceful", "run", "--", "helper", "count", "got")
		target := p.pidIn("got.pid")
		p.signal(unix.SIGTSTP)
		p.signal(unix.SIGCONT)
		p.until("SIGCONT", func() bool { return counts(p, "got")[unix.SIGCONT] > 0 })
		time.Sleep(200 * time.Millisecond) // time for a suspension that must not come
		if s := processState(p.cmd.Process.Pid); s == "T" {
			t.Fatal("graceful is suspended")
		}
		_ = unix.Kill(target, unix.SIGKILL)
		p.want("137")
	}
}
