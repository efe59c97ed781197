package runner

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"graceful/cleanup/eintr"
	"graceful/cleanup/registry"
	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// admit decides whether the process that makes a request may. It is asked at each request, since a process may have entered
// a sandbox after it connected.
func (p *processes) admit(c registry.Call) error {
	if p.deferring == DeferOn {
		return nil
	}
	if c.Peer.PID == 0 {
		return notAdmitted(errors.New("it is in a PID namespace that graceful cannot see"))
	}
	theirs, err := peerRights(c)
	if err != nil {
		return notAdmitted(fmt.Errorf("it cannot be looked at: %w", err))
	}
	ours, err := rightsOf("self", os.Geteuid())
	if err != nil {
		return fmt.Errorf("looking at our own rights: %w", err)
	}
	if why := ours.missing(theirs); why != "" {
		return notAdmitted(errors.New(why))
	}
	return nil
}

// peerRights looks at the process at the other end, and at no other that has its pid by now. A pidfd of it pins it
// (SO_PEERPIDFD, Linux 6.5). Without one, the process that has the pid must have had it when the connection was taken, before
// we look and after that.
func peerRights(c registry.Call) (r rights, err error) {
	pidfd, unpinned := c.PeerPIDFD()
	if unpinned == nil {
		defer unix.Close(pidfd)
	}
	start := procfs.StartOf(c.Peer.PID)
	if start == 0 {
		return r, errors.New("/proc does not show it")
	}
	r, err = rightsOf(strconv.Itoa(c.Peer.PID), c.Peer.UID)
	same := start == c.Peer.Start && start == procfs.StartOf(c.Peer.PID)
	if unpinned == nil && hasEnded(pidfd) || unpinned != nil && !same {
		return r, errPeerEnded
	}
	return r, err
}

// hasEnded reports whether the process of a pidfd has ended: then it can be read from (pidfd_open(2)).
func hasEnded(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := eintr.RetryValue(func() (int, error) { return unix.Poll(poll, 0) })
	return err != nil || n > 0
}

// rightsOf reads the rights of a process, given as its name in /proc.
func rightsOf(pid string, user int) (r rights, err error) {
	dir := "/proc/" + pid + "/"
	text, err := os.ReadFile(dir + "status")
	if err != nil {
		return r, err
	}
	if r.Status, err = procfs.ParseStatus(string(text)); err != nil {
		return r, fmt.Errorf("reading %sstatus: %w", dir, err)
	}
	r.user = user
	r.users, _ = os.Readlink(dir + "ns/user")
	r.files, _ = os.Readlink(dir + "ns/mnt")
	var root unix.Stat_t
	if unix.Stat(dir+"root/.", &root) == nil {
		r.root = fmt.Sprint(root.Dev, " ", root.Ino)
	}
	return r, nil
}
