package terminal

import (
	"testing"

	"golang.org/x/sys/unix"
)

// job starts a job in the foreground, as a shell does. The job has two groups: that of graceful, in which a process
// that only waits takes graceful's place, and that of a target that reads from the terminal. The process of the test
// is outside of the job, and does what the shell and graceful would do.
func (s session) job() (tty *Terminal, group int, target *child) {
	s.Helper()
	group = s.startReady(0, "wait").pid
	s.shell(group)
	return Open(group), group, s.start(0, "read")
}

func (s session) wantAnswer(got, want Answer) {
	s.Helper()
	if got != want {
		s.Fatalf("the answer is %d, want %d", got, want)
	}
}

// A target that reads while the job is in the foreground gets the foreground. Ctrl-Z suspends the job. After fg the
// target has the foreground again, but not after bg.
func TestTerminalSuspended_foregroundJob(t *testing.T) {
	inSession(t, func(s session) {
		tty, job, target := s.job()
		target.says("ready")
		target.wantSuspended(unix.SIGTTIN)
		s.wantAnswer(tty.Suspended(target.pid, unix.SIGTTIN), Continue)
		s.wantForeground(target.pid)
		target.signal(unix.SIGCONT)
		s.types("one\r")
		target.says("got one")

		s.types("\x1a")
		target.wantSuspended(unix.SIGTSTP)
		s.wantAnswer(tty.Suspended(target.pid, unix.SIGTSTP), SuspendToo)
		s.wantForeground(job)

		s.shell(s.group) // what bg does
		tty.Continued(target.pid)
		s.wantForeground(s.group)
		s.shell(job) // what fg does
		tty.Continued(target.pid)
		s.wantForeground(target.pid)
		target.signal(unix.SIGCONT)
		s.types("two\r")
		target.says("got two")
	})
}

// If the target took the foreground without graceful, as a shim or a shell does, graceful takes the foreground when the
// target is suspended, and gives it back when the job continues.
func TestTerminalSuspended_foregroundTaken(t *testing.T) {
	inSession(t, func(s session) {
		job := s.startReady(0, "wait").pid
		s.shell(job)
		tty := Open(job)
		target := s.startReady(0, "wait")
		s.shell(target.pid)
		target.signal(unix.SIGTSTP)
		target.wantSuspended(unix.SIGTSTP)
		s.wantAnswer(tty.Suspended(target.pid, unix.SIGTSTP), SuspendToo)
		s.wantForeground(job)
		tty.Continued(target.pid)
		s.wantForeground(target.pid)
	})
}

// A target that reads in the background suspends the job, and gets the foreground after fg in the shell.
func TestTerminalSuspended_backgroundJob(t *testing.T) {
	inSession(t, func(s session) {
		tty, job, target := s.job()
		// The parent exits, because a group of the test's descendants would count as the target's.
		_, other := s.startParent(true)
		s.shell(other)
		tty.Continued(target.pid)
		target.says("ready")
		target.wantSuspended(unix.SIGTTIN)
		s.wantAnswer(tty.Suspended(target.pid, unix.SIGTTIN), SuspendToo)
		s.wantForeground(other)
		s.shell(job)
		tty.Continued(target.pid)
		s.wantForeground(target.pid)
	})
}

// If graceful's group is orphaned and another group has the foreground, the answer to a target that reads is Hangup.
// The answer to the next read is Leave.
func TestTerminalSuspended_orphanedJob(t *testing.T) {
	inSession(t, func(s session) {
		_, foreign := s.startParent(true)
		s.shell(foreign)
		target := s.startReady(0, "read")
		target.wantSuspended(unix.SIGTTIN)
		tty := Open(s.group)
		s.wantAnswer(tty.Suspended(target.pid, unix.SIGTTIN), Hangup)
		s.wantAnswer(tty.Suspended(target.pid, unix.SIGTTIN), Leave)
		s.wantForeground(foreign)
	})
}

// A pager of the job reads while the target is in the foreground. The job takes the foreground back and continues.
func TestTerminalReclaim(t *testing.T) {
	inSession(t, func(s session) {
		pager := s.start(0, "read")
		target := s.startReady(0, "wait")
		tty := Open(pager.pid)
		if err := tty.GiveForeground(target.pid); err != nil {
			t.Fatal(err)
		}
		pager.says("ready")
		pager.wantSuspended(unix.SIGTTIN)
		if tty.Reclaim(target.pid, unix.SIGTSTP) {
			t.Error("SIGTSTP takes the foreground back")
		}
		s.wantForeground(target.pid)
		if !tty.Reclaim(target.pid, unix.SIGTTIN) {
			t.Error("SIGTTIN does not take the foreground back")
		}
		s.wantForeground(pager.pid)
		s.types("key\r")
		pager.says("got key")
		tty.Continued(target.pid)
		s.wantForeground(pager.pid) // until the target uses the terminal
	})
}

// If graceful's group is 1, Reclaim continues only the members of that group. kill(-1) would continue every process.
func TestTerminalReclaim_asPID1(t *testing.T) {
	asPID1(t, func(s session) {
		if s.group != 1 {
			t.Fatalf("the group is %d", s.group)
		}
		outside := s.startReady(0, "wait")
		outside.signal(unix.SIGSTOP)
		outside.wantSuspended(unix.SIGSTOP)
		inside := s.startReady(s.group, "wait")
		inside.signal(unix.SIGSTOP)
		inside.wantSuspended(unix.SIGSTOP)
		target := s.startReady(0, "wait")
		tty := Open(s.group)
		if err := tty.GiveForeground(target.pid); err != nil {
			t.Fatal(err)
		}
		if !tty.Reclaim(target.pid, unix.SIGTTIN) {
			t.Error("SIGTTIN does not take the foreground back")
		}
		var status unix.WaitStatus
		if pid, err := unix.Wait4(inside.pid, &status, unix.WCONTINUED, nil); pid != inside.pid || !status.Continued() {
			t.Errorf("the group has status %#x, %v", status, err)
		}
		s.stays("suspended process outside of the group", func() bool {
			pid, err := unix.Wait4(outside.pid, nil, unix.WCONTINUED|unix.WNOHANG, nil)
			return pid == 0 && err == nil
		})
	})
}

// Suspend suspends the whole group, although its caller catches the signal. After Resumed the caller catches the signal
// again.
func TestTerminalSuspend(t *testing.T) {
	inSession(t, func(s session) {
		other := s.startReady(0, "wait")
		c := s.start(other.pid, "suspend")
		c.wantSuspended(unix.SIGTSTP)
		other.wantSuspended(unix.SIGTSTP)
		c.signal(unix.SIGCONT)
		c.says("heard continued")
		c.signal(unix.SIGTSTP)
		c.says("heard stopped")
	})
}
