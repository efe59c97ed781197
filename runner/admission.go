package runner

import (
	"fmt"
	"slices"

	"graceful/runner/procfs"
)

// Defer selects the processes that may register cleanup commands.
type Defer string

// DeferAuto admits a process of graceful's user or of root if the process has every right that a cleanup command has.
// Only Linux can check that. On other systems DeferAuto means DeferOn, which admits all processes of graceful's user
// and of root. DeferOff opens no socket.
const (
	DeferAuto Defer = "auto"
	DeferOn   Defer = "on"
	DeferOff  Defer = "off"
)

// DeferValues lists the values of Defer, the default first.
func DeferValues() []Defer { return []Defer{DeferAuto, DeferOn, DeferOff} }

// rights contains the rights of a process, as far as a sandbox can restrict them.
type rights struct {
	procfs.Status
	uid            int    // effective user id
	userNamespace  string // user namespace, as in /proc/PID/ns; "": unreadable
	mountNamespace string // mount namespace, as in /proc/PID/ns; "": unreadable
	rootDir        string // device and inode of the root directory; "": unreadable
}

// missing describes a right that a cleanup command has and that a process lacks, or a right that cannot be checked. It
// returns "" if the process lacks none. ours are the rights of graceful, and theirs the rights of the process. The
// process would gain a missing right by a command that it registers.
//
// The namespaces of a process of root may be hidden from a graceful that is not root. For such a process, missing does
// not compare namespaces, but requires all capabilities of graceful's bounding set.
func (ours rights) missing(theirs rights) string {
	hidden := theirs.userNamespace == "" || theirs.mountNamespace == "" || theirs.rootDir == ""
	wanted := ours.Ambient // the capabilities of a cleanup command after execve(2)
	switch {
	case ours.uid == 0:
		wanted = ours.Permitted
	case hidden && theirs.uid == 0: // root's namespaces are hidden from other users: require the whole bounding set
		wanted = ours.Bounding
	}
	notTheirs := func(group int) bool { return !slices.Contains(theirs.GIDs, group) }
	switch {
	case theirs.NoNewPrivs && !ours.NoNewPrivs:
		return "it has no_new_privs set"
	case theirs.Seccomp != ours.Seccomp && theirs.Seccomp != 0 || theirs.Filters > ours.Filters:
		return "it has a seccomp filter that graceful has not"
	case wanted&^theirs.Permitted != 0:
		return fmt.Sprintf("it lacks capabilities that graceful has (%#x)", wanted&^theirs.Permitted)
	case ours.Bounding&^theirs.Bounding != 0:
		return fmt.Sprintf("its bounding set lacks capabilities that graceful's has (%#x)", ours.Bounding&^theirs.Bounding)
	case theirs.uid != 0 && slices.ContainsFunc(ours.GIDs, notTheirs):
		return "it lacks a group that graceful is in"
	case hidden && theirs.uid == 0 && ours.uid != 0:
		return ""
	case hidden:
		return "its namespaces cannot be looked at"
	case theirs.userNamespace != ours.userNamespace:
		return "it is in another user namespace"
	case theirs.mountNamespace != ours.mountNamespace:
		return "it is in another mount namespace"
	case theirs.rootDir != ours.rootDir:
		return "it has another root directory"
	}
	return ""
}

// notAdmitted returns the error for a process that DeferAuto does not admit. why describes that process.
func notAdmitted(why error) error {
	return fmt.Errorf("this process may not register commands: %w (graceful run --defer on admits it)", why)
}
