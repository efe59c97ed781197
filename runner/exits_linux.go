package runner

import (
	"errors"
	"fmt"
	"os"
	"time"

	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// member finds a process of the tree. Its pid is one of the asker's PID namespace, which has to be ours; who is outside of ours
// has no pid here.
func (p *processes) member(pid int, start uint64, asker int) (procfs.Process, error) {
	ours, err := os.Readlink("/proc/self/ns/pid")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", asker))
	if asker == 0 || err == nil && err2 == nil && ours != theirs {
		return procfs.Process{}, errors.New("you are in another PID namespace than graceful: the process has another pid here")
	}
	found, ok := p.tree.Find(pid)
	if !ok || start != 0 && start != found.Start {
		return procfs.Process{}, fmt.Errorf("process %d is none of this run's, or has ended", pid)
	}
	return found, nil
}

// await tells of the end of a process, be it our child or not. It takes a descriptor and no thread. It fails before Linux
// 5.3, of a process that has ended already, and when it would leave too few descriptors for the run itself.
func (p *processes) await(id procfs.Identity) bool {
	select {
	case p.pidfds <- struct{}{}:
	default:
		return false
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil || unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		<-p.pidfds
		return false
	}
	file := os.NewFile(uintptr(fd), "process")
	raw, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // it cannot be waited for: see epoll_ctl(2)
	}
	if err != nil || p.tree.Child(id.PID).Identity != id { // or it has ended, and another one may have its pid
		file.Close()
		<-p.pidfds
		return false
	}
	go func() {
		_ = raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		file.Close()
		<-p.pidfds
		p.exits <- id
	}()
	return true
}
