package runner

import (
	"errors"
	"fmt"
	"slices"

	"graceful/runner/procfs"
)

// Defer says which processes may register cleanup commands.
type Defer string

// Auto admits processes of our own user and of root that have all the rights that graceful has: what they register runs with
// these. On admits all of our own user and root. Off admits none: there is no socket.
const (
	DeferAuto Defer = "auto"
	DeferOn   Defer = "on"
	DeferOff  Defer = "off"
)

// Defers lists them, the default first.
func Defers() []Defer { return []Defer{DeferAuto, DeferOn, DeferOff} }

// rights is what a process may do and see, as far as a sandbox takes it away.
type rights struct {
	procfs.Status
	user  int    // effective user id
	users string // its user namespace, as in /proc/PID/ns; "": it may not be looked at
	files string // its mount namespace
	root  string // its root directory
}

// missing reports what a process lacks of our rights, or "". A command that it registers would give it that.
func (ours rights) missing(theirs rights) string {
	hidden := theirs.users == "" || theirs.files == "" || theirs.root == ""
	wanted := ours.Ambient // what a command of ours has after its execve(2)
	switch {
	case ours.user == 0:
		wanted = ours.Permitted
	case hidden && theirs.user == 0: // root's namespaces are hidden from other users
		wanted = ours.Bounding
	}
	switch {
	case theirs.NoNewPrivs && !ours.NoNewPrivs:
		return "it has no_new_privs set"
	case theirs.Seccomp != ours.Seccomp && theirs.Seccomp != 0 || theirs.Filters > ours.Filters:
		return "it has a seccomp filter that graceful has not"
	case wanted&^theirs.Permitted != 0:
		return fmt.Sprintf("it lacks capabilities that graceful has (%#x)", wanted&^theirs.Permitted)
	case theirs.user != 0 && slices.ContainsFunc(ours.GIDs, func(g int) bool { return !slices.Contains(theirs.GIDs, g) }):
		return "it lacks a group that graceful is in"
	case hidden && theirs.user == 0 && ours.user != 0:
		return ""
	case hidden:
		return "its namespaces cannot be looked at"
	case theirs.users != ours.users:
		return "it is in another user namespace"
	case theirs.files != ours.files:
		return "it is in another mount namespace"
	case theirs.root != ours.root:
		return "it has another root directory"
	}
	return ""
}

// notAdmitted is the answer to a process that has less than graceful.
func notAdmitted(why error) error {
	return fmt.Errorf("this process may not register commands: %w (graceful run --defer on admits it)", why)
}

var errPeerEnded = errors.New("it has ended")
