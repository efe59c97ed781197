package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// startIn has a process start in a cgroup (clone3(2), CLONE_INTO_CGROUP). done is called when it has started.
func startIn(cgroup string, attr *syscall.SysProcAttr) (done func(), err error) {
	fd, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	attr.UseCgroupFD, attr.CgroupFD = true, fd
	return func() { unix.Close(fd) }, nil
}
