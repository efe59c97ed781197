package integration_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// measureStalls starts to measure how long the machine delays this process. sum returns by how much the waits of this
// process were longer than requested, in total. A busy machine delays graceful by a similar time.
func measureStalls(t *testing.T) (sum func() time.Duration) {
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

// deadline is the deadline of the runs that wantDeadline checks. graceful reserves one second of the deadline for its
// own work (machine.OwnTime). If a command got two seconds from SIGTERM to SIGKILL beyond its limit, as without a
// deadline, the stop would exceed the deadline.
const deadline = 10 * time.Second

// wantDeadline fails the test unless a stop, which began at the time began and has just ended, took at most deadline
// plus lost. lost is the time that measureStalls has measured during the stop.
func (p *proc) wantDeadline(began time.Time, lost time.Duration) {
	p.t.Helper()
	took := time.Since(began)
	p.t.Logf("the stop took %v; the machine was busy for %v of them", took, lost)
	if took > deadline+lost {
		p.t.Errorf("the stop took %v, want at most %v; it wrote:\n%s", took, deadline, p.text())
	}
}

// stubborn is the script of a target that ignores the signals that usually end a program. Its children also ignore
// them, and one of the children has left the session. The files target, child and session contain their pids. When both
// children run, the file ready exists.
const stubborn = `ignore="INT QUIT TERM HUP USR1 USR2"
helper ignore $ignore -- child & setsid helper ignore $ignore -- session &
until [ -e child ] && [ -e session ]; do sleep 0.01; done
cp session ready; exec helper ignore $ignore -- target`

// hanging returns a command that writes its name to the file log, and then ignores SIGTERM. Its child also ignores
// SIGTERM, and writes its pid to the file NAME.child.
func hanging(name string) string {
	return fmt.Sprintf(`echo %[1]s >>log; trap "" TERM; helper ignore TERM -- %[1]s.child`, name)
}

// A stop ends within its deadline although everything hangs and ignores SIGTERM: the on-stop commands, the target with
// its children, and the cleanup commands.
func TestDeadline_everythingHangs(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for name, c := range map[string]struct {
		flags []string
		log   string // names of the commands that start, one a line
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
			stalled := measureStalls(t)
			began := time.Now()
			p.signal(unix.SIGTERM)
			p.want("137")
			p.wantDeadline(began, stalled())
			if got := p.waitForFile("log"); got != c.log && !(name == "at once" && sameLines(got, c.log)) {
				t.Errorf("the commands wrote %q, want %q", got, c.log)
			}
			for line := range strings.Lines(c.log) {
				tree = append(tree, p.pidIn(strings.TrimSpace(line)+".child"))
			}
			// On a busy machine, a killed process may end after graceful, which waits only a twentieth of the deadline.
			p.until("end of all processes", func() bool { return !slices.ContainsFunc(tree, alive) })
		})
	}
}

func sameLines(a, b string) bool {
	lines := func(text string) []string { return slices.Sorted(strings.Lines(text)) }
	return slices.Equal(lines(a), lines(b))
}

// The deadline also applies to the process that finishes the run after graceful or the guard was killed.
func TestDeadline_processKilled(t *testing.T) {
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
			stalled := measureStalls(t)
			began := time.Now()
			if victim == "graceful" {
				kill(t, p.cmd.Process.Pid)
				p.want("KILL")
				p.waitForFile("c1.child")
				p.until("end of the guard", func() bool { return !alive(guard) })
			} else {
				p.loseGuard()
				p.signal(unix.SIGTERM)
				p.want("137")
			}
			p.wantDeadline(began, stalled())
			p.wantFile("log", "s1\nc1\n")
			for _, pid := range []int{target, session, p.pidIn("s1.child"), p.pidIn("c1.child")} {
				if alive(pid) {
					t.Errorf("process %d is left", pid)
				}
			}
		})
	}
}

// --deadline limits a stop. It does not shorten the cleanup of a target that has ended by itself. If a stop signal
// arrives during that cleanup, the deadline applies.
func TestDeadline_onlyForStops(t *testing.T) {
	t.Parallel()
	// In a stop, the command would get SIGTERM after 1.5 s, because a quarter of its limit is reserved for the time from
	// SIGTERM to SIGKILL.
	for guard, wait := range map[string]string{"on": "1.7", "off": "1.7"} {
		p := start(t, "graceful", "run", "--guard", guard, "--deadline", "4s", "--on-exit-timeout", "2s",
			"--on-exit", "sleep "+wait+"; echo 1 >>cleaned", "--", "true")
		p.want("0")
		p.wantFile("cleaned", "1\n")
		p = start(t, "graceful", "run", "--guard", guard, "--deadline", "4s", "--on-exit-timeout", "2s",
			"--on-exit", "echo >begun; exec sleep 1000", "--", "true")
		p.waitForFile("begun")
		began := time.Now()
		p.signal(unix.SIGTERM)
		p.want("0")
		after := regexp.MustCompile(`timed out .* limit=2s after=1\.[0-9]*s: the deadline of 4s leaves no more`)
		if took := time.Since(began); !after.MatchString(p.text()) {
			t.Errorf("after %v it wrote:\n%s", took, p.text())
		}
	}
}
