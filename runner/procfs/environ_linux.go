package procfs

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// Environ returns the value of a variable in the environment that a living process was started with. ok is false if the
// variable is not set or the environment cannot be read.
func (fs *FS) Environ(pid int, name string) (value string, ok bool) {
	value, ok = fs.Environs([]int{pid}, name)[pid]
	return value, ok
}

const (
	// environPatience is how long Environs waits for environments that cannot be read yet, all together.
	environPatience = 50 * time.Millisecond
	// environPause is how long Environs then waits for none of them again.
	environPause = time.Second
)

// Environs returns the values of a variable for those living processes that were started with it. During execve(2) and
// exit an environment is incomplete, so it is read again. A process can keep its environment incomplete (munmap(2)):
// then the variable counts as not set.
func (fs *FS) Environs(pids []int, name string) (values map[int]string) {
	values = map[int]string{}
	for late := time.Now().Add(environPatience); ; time.Sleep(time.Millisecond) {
		var incomplete []Process
		for _, pid := range pids {
			value, set, n := fs.variable(pid, name)
			if set {
				values[pid] = value
				continue
			}
			p, ok := fs.Read(pid)
			if ok && n >= 0 && !p.hasEnviron(n) && time.Since(fs.unreadable[p.Identity]) > environPause {
				incomplete = append(incomplete, p)
			}
		}
		if len(incomplete) == 0 {
			return values
		}
		pids = nil
		for _, p := range incomplete {
			pids = append(pids, p.PID)
			if time.Now().After(late) { // this was the last time
				fs.setUnreadable(p.Identity)
			}
		}
	}
}

// maxUnreadable bounds how many processes Environs remembers.
const maxUnreadable = 1 << 14

func (fs *FS) setUnreadable(id Identity) {
	if len(fs.unreadable) >= maxUnreadable {
		clear(fs.unreadable)
	}
	fs.unreadable[id] = time.Now()
}

// variable looks once for a variable in the environment of a process. It reads n bytes; -1: the environment is refused.
func (fs *FS) variable(pid int, name string) (value string, set bool, n int) {
	data, err := fs.read(pid, "environ")
	for kv := range bytes.SplitSeq(data[:bytes.LastIndexByte(data, 0)+1], []byte{0}) {
		if value, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(value), true, len(data)
		}
	}
	// EACCES: the process is another user's, or about to end. Its files belong to root once its memory is freed.
	if err != nil && err != unix.ESRCH && err != unix.EACCES && err != unix.EPERM {
		return "", false, -1
	}
	return "", false, len(data)
}

// hasEnviron reports whether n bytes are the whole environment of a process. During execve(2), which sets up the code
// last, and during exit the environment may be empty or truncated.
func (p Process) hasEnviron(n int) bool {
	if p.kernelThread || p.Ending {
		return true
	}
	return p.startCode != 0 && (p.environEnd == 0 || uint64(n) == p.environEnd-p.environStart)
}
