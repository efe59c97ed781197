package procfs

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// InitialNamespace is the PID namespace that exists since the machine booted, as the link /proc/PID/ns/pid shows it
// (PROC_PID_INIT_INO in include/linux/proc_ns.h of Linux). Its PID 1 does not end.
const InitialNamespace = "pid:[4026531836]"

// FollowingInits lists the process names of inits that end as soon as their child ends. Docker starts tini as
// docker-init, and Podman starts catatonit as podman-init.
var FollowingInits = []string{"tini", "tini-static", "docker-init", "podman-init", "dumb-init", "catatonit"}

// IsFollowedByInit reports whether PID 1 ends when this process ends. Then the kernel ends the PID namespace. Such an
// init starts only one child, which is its first one. Its later children are orphans that were reparented to PID 1.
func IsFollowedByInit() bool {
	if unix.Getppid() != 1 {
		return false
	}
	namespace, err := Readlink("self/ns/pid")
	comm, _ := Read("1/comm")
	children, _ := Read("1/task/1/children") // in order of arrival
	first, _, _ := strings.Cut(string(children), " ")
	return err == nil && namespace != InitialNamespace && first == strconv.Itoa(unix.Getpid()) &&
		slices.Contains(FollowingInits, strings.TrimSpace(string(comm)))
}

// SeesAll reports whether /proc shows the processes of all PID namespaces.
func (fs *FS) SeesAll() bool {
	if fs == nil {
		return false
	}
	namespace, err := readLink(fs.dir, "self/ns/pid")
	_, shown := fs.Read(1) // false if the mount option hidepid=2 hides the processes of other users
	return err == nil && namespace == InitialNamespace && shown
}

// Within lists the processes of a PID namespace, dead or alive, by their pids in that namespace. hidden means that
// there may be further processes, which this user may not examine. For the namespace of /proc itself, hidden is not
// reliable.
func (fs *FS) Within(namespace string) (found map[int]Process, hidden bool) {
	found = map[int]Process{}
	for _, name := range fs.names(".") {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		pids := fs.pids(pid)
		switch theirs, err := readLink(fs.dir, name+"/ns/pid"); {
		case err == unix.ENOENT || err == unix.ESRCH: // the process was reaped meanwhile
		case err != nil:
			// A process with one pid is in the namespace of /proc. Any other process may be in the wanted namespace.
			hidden = hidden || len(pids) != 1
		case theirs == namespace && len(pids) > 0:
			if p, ok := fs.Read(pid); ok {
				found[pids[len(pids)-1]] = p
			}
		}
	}
	return found, hidden
}

// pids returns the pids of a process, one for each PID namespace, from the namespace of /proc to that of the process.
// It returns nil if the pids cannot be read (before Linux 4.1).
func (fs *FS) pids(pid int) []int {
	status, _ := fs.read(pid, "status")
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return ParsePIDs([]byte(list))
		}
	}
	return nil
}

// Holders lists the other processes that have a file open. name is the last element of the path of the file. Holders
// omits processes that this user may not examine.
func (fs *FS) Holders(name string, file unix.Stat_t) (found []Process) {
	for _, dir := range fs.names(".") {
		pid, err := strconv.Atoi(dir)
		if err != nil || pid == unix.Getpid() {
			continue
		}
		for _, fd := range fs.names(dir + "/fd") {
			at := dir + "/fd/" + fd
			// Examine only a file with that name, because another file may be on a file system that does not answer.
			if link, err := readLink(fs.dir, at); err != nil || path.Base(link) != name {
				continue
			}
			var open unix.Stat_t
			err := eintr.Retry(func() error { return unix.Fstatat(fs.dir, at, &open, 0) })
			if p, ok := fs.Read(pid); err == nil && ok && open.Dev == file.Dev && open.Ino == file.Ino {
				found = append(found, p)
				break
			}
		}
	}
	return found
}
