package runner

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/runner/procfs"
)

// member returns the member of the run with a pid, or an error if there is none. The process asker has named the pid.
// So member also returns an error if /proc shows that asker is in another PID namespace than graceful. asker is 0 if
// graceful cannot see that namespace. start is the expected start time of the member, or 0 if it is unknown.
func (sys *realSystem) member(pid int, start uint64, asker int) (procfs.Process, error) {
	ours, err := procfs.Readlink("self/ns/pid")
	theirs, err2 := procfs.Readlink(fmt.Sprintf("%d/ns/pid", asker))
	if asker == 0 || err == nil && err2 == nil && ours != theirs {
		return procfs.Process{}, errors.New(
			"the caller is in another PID namespace than graceful, so the pid is not valid")
	}
	found, ok := sys.Find(pid)
	if !ok || start != 0 && start != found.Start {
		return procfs.Process{}, fmt.Errorf("process %d is not a member of this run, or has ended", pid)
	}
	return found, nil
}

// awaitExit sends the identity of a process to sys.exits when the process has ended. The process need not be a child.
// Each wait uses a descriptor, but no thread.
//
// awaitExit returns false if it cannot wait, for example before Linux 5.3, if the process is already reaped, or if too
// few descriptors would remain for the run.
func (sys *realSystem) awaitExit(id procfs.Identity) bool {
	select {
	case sys.pidfdSlots <- struct{}{}:
	default:
		return false
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil || unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		<-sys.pidfdSlots
		return false
	}
	file := os.NewFile(uintptr(fd), "process")
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // an error if epoll cannot wait for a pidfd
	}
	if err != nil || sys.Child(id.PID).Identity != id { // the process was reaped, and another one may have the pid
		file.Close()
		<-sys.pidfdSlots
		return false
	}
	go func() {
		_ = raw.Read(func(fd uintptr) bool { return hasEnded(int(fd)) })
		file.Close()
		<-sys.pidfdSlots
		sys.exits <- id
	}()
	return true
}

// waitFor returns a function that waits for the end of the process that has the pid now, and then returns true. If that
// process has already ended, the function returns true at once. It returns false at once if it cannot wait, as before
// Linux 5.3.
func waitFor(pid int) (wait func() bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return func() bool { return err == unix.ESRCH }
	}
	return func() bool {
		n, _ := pollPidfd(fd, -1)
		return n == 1
	}
}

// hasEnded reports whether the process that a pidfd refers to has ended. It also returns true if poll(2) fails.
func hasEnded(pidfd int) bool {
	n, err := pollPidfd(pidfd, 0)
	return err != nil || n > 0
}

// pollPidfd waits until a pidfd is readable, which means that its process has ended (pidfd_open(2)). timeout is in
// milliseconds. A negative timeout is infinite. n is 1 if the process has ended, and 0 after the timeout.
func pollPidfd(pidfd, timeout int) (n int, err error) {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	return eintr.RetryValue(func() (int, error) { return unix.Poll(poll, timeout) })
}
