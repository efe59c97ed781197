package integration_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stalls measures how long we had to wait for the machine beyond what we asked it for: time that a busy machine
// takes from graceful, too.
func stalls(t *testing.T) (sum func() time.Duration) {
	var ns atomic.Int64
	over := make(chan bool)
	t.Cleanup(func() { close(over) })
	go func() {
		const tick = 10 * time.Millisecond
		for before := time.Now(); ; before = time.Now() {
			select {
			case <-over:
				return
			case <-time.After(tick):
				ns.Add(int64(time.Since(before) - tick))
			}
		}
	}()
	return func() time.Duration { return time.Duration(ns.Load()) }
}

// deadline leaves a second for what takes time unasked. What hangs for longer than it may takes two, or for ever.
const deadline = 10 * time.Second

// within requires that what began then is over in time.
func (p *proc) within(began time.Time, lost time.Duration) {
	p.t.Helper()
	took := time.Since(began)
	p.t.Logf("it took %v; the machine was busy for %v of them", took, lost)
	if took > deadline+lost {
		p.t.Errorf("it took %v of %v; it wrote:\n%s", took, deadline, p.text())
	}
}

// stubborn is a target that ignores whatever can be ignored; so do its children, one of which has left the session. The
// file ready is there when all of them are.
const stubborn = `ignore="INT QUIT TERM HUP USR1 USR2"
helper ignore $ignore -- child & setsid helper ignore $ignore -- session &
until [ -e child ] && [ -e session ]; do sleep 0.01; done
cp session ready; exec helper ignore $ignore -- target`

// hanging is a command that leaves a line in the file log, and then ignores SIGTERM, with a child that does.
func hanging(name string) string {
	return fmt.Sprintf(`echo %[1]s >>log; trap "" TERM; helper ignore TERM -- %[1]s.child`, name)
}

// Everything hangs at once, and ignores whatever asks it to end: the commands at the beginning of the stop, the target
// with its children, the commands after it.
func TestAStopEndsWithinItsDeadlineWhateverHangs(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for name, c := range map[string]struct {
		flags []string
		log   string // what is started, in order
		said  []string
	}{
		"one after the other": {
			flags: []string{"--on-exit", hanging("c1"), "--on-exit", hanging("c2"), "--on-exit", hanging("c3"),
				"--on-exit-timeout", "1s"},
			log: "s1\ns2\nc3\nc2\nc1\n",
		},
		"at once": {
			flags: []string{"--on-exit", hanging("c1"), "--on-exit", hanging("c2"), "--on-exit-timeout", "3s", "--on-exit-order",
				"parallel"},
			log: "s1\ns2\nc1\nc2\n",
		},
		"with all that takes time": {
			flags: []string{"--on-exit", hanging("c1"), "--on-exit-timeout", "2s", "--on-stop-timeout", "1s", "--drain", "1s",
				"--stop-schedule", "TERM/1s/INT/1s/QUIT/500ms/KILL"},
			log: "s1\ns2\nc1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, slices.Concat([]string{"graceful", "run", "--deadline", deadline.String(), "--on-stop", hanging("s1"),
				"--on-stop", hanging("s2")},
				c.flags, []string{"--", "sh", "-c", stubborn})...)
			var tree []int
			for _, file := range []string{"child", "session", "target"} {
				tree = append(tree, p.pidIn(file))
			}
			stalled := stalls(t)
			began := time.Now()
			p.signal(unix.SIGTERM)
			p.want("137")
			p.within(began, stalled())
			if got := p.file("log"); got != c.log && !(name == "at once" && sameLines(got, c.log)) {
				t.Errorf("the commands wrote %q, want %q", got, c.log)
			}
			for line := range strings.Lines(c.log) {
				tree = append(tree, p.pidIn(strings.TrimSpace(line)+".child"))
			}
			if left := slices.DeleteFunc(tree, func(pid int) bool { return !alive(pid) }); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func sameLines(a, b string) bool {
	lines := func(text string) []string { return slices.Sorted(strings.Lines(text)) }
	return slices.Equal(lines(a), lines(b))
}

// The deadline holds for who goes on in the place of one of us that was killed.
func TestTheDeadlineHoldsWhicheverProcessIsKilled(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for _, victim := range []string{"graceful", "guard"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			p := start(t, "graceful", "run", "--deadline", deadline.String(), "--on-stop", hanging("s1"), "--on-exit",
				hanging("c1"),
				"--on-exit-timeout", "1s", "--", "sh", "-c", stubborn)
			target, session := p.pidIn("target"), p.pidIn("session")
			guard := p.guard()
			stalled := stalls(t)
			began := time.Now()
			if victim == "graceful" {
				kill(t, p.cmd.Process.Pid)
				p.want("KILL")
				p.file("c1.child")
				p.until("end of the guard", func() bool { return !alive(guard) })
			} else {
				p.loseGuard()
				p.signal(unix.SIGTERM)
				p.want("137")
			}
			p.within(began, stalled())
			p.wrote("log", "s1\nc1\n")
			for _, pid := range []int{target, session, p.pidIn("s1.child"), p.pidIn("c1.child")} {
				if alive(pid) {
					t.Errorf("process %d is left", pid)
				}
			}
		})
	}
}
