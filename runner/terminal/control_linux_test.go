package terminal

import (
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// The target starts in the foreground if standard input is the terminal, graceful is in the foreground, and standard
// output is no pipe, at which a pager might need the terminal.
func TestTerminalStartsInForeground(t *testing.T) {
	inSession(t, func(s session) {
		if Open(s.group).StartsInForeground() {
			t.Error("with a pipe as standard output the target starts in the foreground")
		}
		s.put(os.Stdin, 1)
		if !Open(s.group).StartsInForeground() {
			t.Error("the target does not start in the foreground")
		}
		job := s.startReady(0, "wait")
		if Open(job.pid).StartsInForeground() {
			t.Error("the target of a background job starts in the foreground")
		}
		s.putNull(0)
		if tty := Open(s.group); tty == nil || tty.StartsInForeground() {
			t.Error("the target starts in the foreground although standard input is not the terminal")
		}
	})
}

// Without a controlling terminal, Open returns nil. The methods that accept a nil *Terminal then have no effect.
func TestTerminal_nil(t *testing.T) {
	if os.Getenv(sessionVariable) == "" {
		t.Parallel()
		c := exec.Command(executable(), "-test.run=^TestTerminal_nil$")
		c.Env = append(os.Environ(), sessionVariable+"=none")
		c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	tty := Open(unix.Getpgrp())
	if tty != nil {
		t.Fatal("there is a terminal")
	}
	if tty.StartsInForeground() || tty.TakeForeground(1) || tty.Restore(1) || tty.HasOthers(1) ||
		tty.Reclaim(1, unix.SIGTTIN) || tty.Suspended(1, unix.SIGTSTP) != Leave {
		t.Error("a nil terminal has an effect")
	}
	tty.Continued(1)
	tty.Resumed()
}

func TestTerminalGiveForeground_takenBack(t *testing.T) {
	inSession(t, func(s session) {
		before := s.modes(0)
		tty := Open(s.group)
		target := s.startReady(0, "raw")
		if tty.TakeForeground(target.pid) {
			t.Error("TakeForeground reports true while graceful has the foreground")
		}
		for range 2 {
			if err := tty.GiveForeground(target.pid); err != nil {
				t.Fatal(err)
			}
			s.wantForeground(target.pid)
			if !tty.TakeForeground(target.pid) {
				t.Fatal("the foreground was not taken back")
			}
			s.wantForeground(s.group)
		}

		// Restore takes the foreground back, and restores the modes. TakeForeground leaves the modes unchanged.
		if err := tty.GiveForeground(target.pid); err != nil {
			t.Fatal(err)
		}
		_, _ = target.stdin.WriteString("x")
		target.says("raw <nil>")
		s.wantModes("after the target has set them,", 0, raw(&before))
		if !tty.TakeForeground(target.pid) {
			t.Error("the foreground was not taken back")
		}
		s.wantModes("when the target may get the foreground again,", 0, raw(&before))
		if err := tty.GiveForeground(target.pid); err != nil {
			t.Fatal(err)
		}
		if !tty.Restore(target.pid) {
			t.Error("the foreground was not taken back")
		}
		s.wantForeground(s.group)
		s.wantModes("at the end", 0, before)
		if tty.Restore(target.pid) {
			t.Error("the foreground was taken twice")
		}
	})
}

// TakeForeground takes the foreground from the target, from its descendants, and from a group without a live process,
// but not from another job.
func TestTerminalTakeForeground_fromTargetOnly(t *testing.T) {
	inSession(t, func(s session) {
		tty := Open(s.group)
		target, grandchild := s.startParent(false)
		_, foreign := s.startParent(true)
		dead := s.startReady(0, "wait")
		for _, c := range []struct {
			process string
			group   int
			taken   bool
		}{
			{"the target", target.pid, true},
			{"a descendant of the target", grandchild, true},
			{"a process that is not below graceful", foreign, false},
			{"no process", dead.pid, true},
		} {
			s.shell(c.group)
			if c.group == dead.pid {
				dead.signal(unix.SIGKILL)
				dead.wantSignaled(unix.SIGKILL)
			}
			if taken := tty.TakeForeground(target.pid); taken != c.taken {
				t.Errorf("the foreground was taken from %s: %t", c.process, taken)
			}
			if c.taken {
				s.wantForeground(s.group)
			} else {
				s.wantForeground(c.group)
			}
		}
	})
}

func TestTerminalSignalOthers(t *testing.T) {
	inSession(t, func(s session) {
		front := s.startReady(0, "wait")
		other := s.startReady(front.pid, "wait")
		outside := s.startReady(0, "wait")
		tty := Open(front.pid)
		// Check the list first, because signals to a wrong list could end processes outside of the test.
		if others := tty.others(front.pid); !slices.Equal(others, []int{other.pid}) || !tty.HasOthers(front.pid) {
			t.Fatalf("the other members of the group are %v, want %d", others, other.pid)
		}
		tty.SignalOthers(unix.SIGTERM, front.pid)
		s.until("zombie", func() bool {
			fs, _ := procfs.Open()
			p, found := fs.Read(other.pid)
			return found && p.Dead
		})
		if tty.HasOthers(front.pid) {
			t.Error("a zombie is a member")
		}
		other.wantSignaled(unix.SIGTERM)
		for _, c := range []*child{front, outside} {
			c.signal(unix.SIGHUP) // an earlier SIGTERM would have ended the process
			c.wantSignaled(unix.SIGHUP)
		}
	})
}

func TestOrphaned(t *testing.T) {
	inSession(t, func(s session) {
		s.startReady(s.group, "wait") // does not count, because its parent is in the same group
		job := s.startReady(0, "wait")
		parent, grandchild := s.startParent(false)
		_, left := s.startParent(true)
		for _, c := range []struct {
			process string
			group   int
			want    bool
		}{
			{"the session's leader, which no shell has started,", s.group, true},
			{"a job", job.pid, false},
			{"a job with children in another group", parent.pid, false},
			{"a group below a job", grandchild, false},
			{"a group whose parent has exited", left, true},
		} {
			if got := orphaned(c.group); got != c.want {
				t.Errorf("%s is orphaned: %t", c.process, got)
			}
		}
		job.signal(unix.SIGKILL)
		job.wantSignaled(unix.SIGKILL)
		if !orphaned(job.pid) {
			t.Error("a group without members is not orphaned")
		}
	})
}

func TestDescends(t *testing.T) {
	p := func(parent int) procfs.Process { return procfs.Process{PPID: parent} }
	all := map[int]procfs.Process{1: p(0), 10: p(1), 11: p(10), 12: p(11), 20: p(1), 30: p(31), 31: p(30)}
	for pid, want := range map[int]bool{10: true, 11: true, 12: true, 20: false, 1: false, 30: false, 99: false} {
		if got := descends(all, pid, 10); got != want {
			t.Errorf("%d descends from 10: %t", pid, got)
		}
	}
}
