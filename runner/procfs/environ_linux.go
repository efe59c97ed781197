package procfs

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// Environ returns the value of a variable in the initial environment of a live process. ok is false if the variable is
// not set or the environment cannot be read.
func (fs *FS) Environ(pid int, name string) (value string, ok bool) {
	value, ok = fs.Environs([]int{pid}, name)[pid]
	return value, ok
}

const (
	// environPatience is the maximum time that one call of Environs waits for incomplete environments.
	environPatience = 50 * time.Millisecond
	// environPause is the time after a wait in vain during which further calls do not wait for the same processes.
	environPause = time.Second
)

// Environs returns the values of a variable in the initial environments of live processes, by pid. A pid is missing if
// the variable is not set or the environment cannot be read. During execve(2) and exit an environment is incomplete, so
// Environs reads it again. If a process keeps its environment incomplete (munmap(2)), the variable counts as not set.
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
			if time.Now().After(late) { // the process had its last try
				fs.setUnreadable(p.Identity)
			}
		}
	}
}

// maxUnreadable is the maximum number of processes that Environs remembers.
const maxUnreadable = 1 << 14

func (fs *FS) setUnreadable(id Identity) {
	if len(fs.unreadable) >= maxUnreadable {
		clear(fs.unreadable)
	}
	fs.unreadable[id] = time.Now()
}

// variable searches the environment of a process once for a variable. n is the number of bytes that were read. After an
// error n is -1, except after ESRCH, EACCES and EPERM, because a process that is about to end may cause these errors.
func (fs *FS) variable(pid int, name string) (value string, set bool, n int) {
	data, err := fs.read(pid, "environ")
	for kv := range bytes.SplitSeq(data[:bytes.LastIndexByte(data, 0)+1], []byte{0}) {
		if value, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(value), true, len(data)
		}
	}
	// EACCES means that the process belongs to another user, or is about to end. Once its memory is freed, its files
	// belong to root.
	if err != nil && err != unix.ESRCH && err != unix.EACCES && err != unix.EPERM {
		return "", false, -1
	}
	return "", false, len(data)
}

// hasEnviron reports whether n bytes are the whole environment of a process, or the rest can never be read (a kernel
// thread, an ended first thread, hidden addresses). During exit the environment may be empty or truncated. The same
// holds during execve(2), which sets the address of the code last.
func (p Process) hasEnviron(n int) bool {
	if p.kernelThread || p.Ending {
		return true
	}
	return p.startCode != 0 && (p.environEnd == 0 || uint64(n) == p.environEnd-p.environStart)
}
