package tree

import (
	"cmp"
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// Tree is all that descends from this process, but for what it had started before it became us (a shell that
// started jobs and then called exec).
type Tree struct {
	level          Level
	self           int
	proc           *procfs.FS  // nil: /proc does not show us our own processes
	foreign        []int       // children that were ours before the run, or are exempt
	exempt         []int       // see Exempt
	group          int         // the target's process group
	unreaped       bool        // the target has not been reaped: its id, and so its group's, cannot be reused
	orphaned       *orphanSpec // nil but where the tree was left by others
	cgroup         cgroup      // "": none
	othersInCgroup bool        // though we have no child, somebody is in the cgroup
	killedInCgroup []int       // those that were in it when it was killed

	kept string // not "": the variable that tells who is ours, see Keep

	signalled map[procfs.Identity]bool // those that the last Signal was for
	leaveOut  leaveOut                 // those that it was not for
	asked     asked
}

// Open prepares containment at a level. What the level promises and this machine cannot keep comes back as a
// warning where Auto was asked for, and else as an error.
func Open(level Level) (*Tree, []string, error) {
	t := &Tree{level: level, self: unix.Getpid(), proc: procfs.Open()}
	var warnings []string
	if level != Group {
		err := becomeSubreaper()
		if err == nil && t.proc == nil && (t.self != 1 || level == Cgroup) {
			err = errors.New("/proc is missing or shows another PID namespace, so that descendants cannot be found")
		}
		t.level = Subreaper
		if err != nil && level != Auto {
			return nil, nil, err
		}
		if err != nil {
			t.level = Group
			warnings = append(warnings, err.Error())
		}
	}
	if t.proc != nil {
		t.foreign = t.proc.Children(t.self)
	}
	return t, warnings, nil
}

// Confine says that the target runs in a cgroup, or may: it need not be there. "" is none.
func (t *Tree) Confine(dir string) { t.cgroup = cgroup(dir) }

// MakeCgroup makes a cgroup for the target.
func (t *Tree) MakeCgroup(dir string) error {
	t.Confine(dir)
	if dir == "" {
		return nil
	}
	return t.cgroup.make()
}

// Disband removes the cgroup, and forgets it. Who is still in it is moved to where it would be without us.
func (t *Tree) Disband() error {
	c := t.cgroup
	if t.cgroup, t.killedInCgroup = "", nil; c == "" {
		return nil
	}
	return c.disband()
}

// Announced tells whether the end of every member reaches us as a child's.
func (t *Tree) Announced() bool {
	return t.level == Subreaper && t.orphaned == nil && !t.othersInCgroup
}

// Child looks at a child, dead or alive; nothing but its id is known where it cannot be seen.
func (t *Tree) Child(pid int) procfs.Process {
	if t.proc != nil {
		if p, ok := t.proc.Read(pid); ok {
			return p
		}
	}
	return procfs.Process{Identity: procfs.Identity{PID: pid}}
}

// Alive tells whether that very process lives. When it cannot be looked at, for want of a descriptor, whoever has its pid
// is taken for it.
func (t *Tree) Alive(id procfs.Identity) bool {
	p, ok := t.proc.Read(id.PID)
	if !ok {
		return unix.Kill(id.PID, 0) != unix.ESRCH
	}
	return !p.Dead && p.Identity == id
}

// Children lists our own children, dead or alive, but for those that we had before.
func (t *Tree) Children() (found []procfs.Process) {
	t.dropKept()
	if t.proc == nil {
		return nil
	}
	for _, pid := range t.proc.Children(t.self) {
		p, ok := t.proc.Read(pid)
		if !ok { // it is there, since we have not reaped it
			p = procfs.Process{Identity: procfs.Identity{PID: pid}, PPID: t.self, Name: "hidden"}
		}
		if !slices.Contains(t.foreign, pid) {
			found = append(found, p)
		}
	}
	return found
}

// Ending tells whether a process is a zombie or gone, or about to be: once its children have become ours, it is.
func (t *Tree) Ending(pid int) bool {
	if t.proc == nil {
		return true
	}
	p, ok := t.proc.Read(pid)
	return !ok || p.Ending
}

// Environ is a variable's value in the environment of a living process, as far as we may see that.
func (t *Tree) Environ(pid int, name string) (value string, ok bool) {
	if t.proc == nil {
		return "", false
	}
	return t.proc.Environ(pid, name)
}

// DiedLeading tells of a child whether it is dead and led a process group in our session, as a command does, but hardly
// anybody's orphan: a daemon has a session of its own.
func (t *Tree) DiedLeading(pid int) bool {
	if t.proc == nil {
		return false
	}
	p, ok := t.proc.Read(pid)
	session, err := unix.Getsid(pid)
	ours, ourErr := unix.Getsid(0)
	return ok && p.Dead && p.Group == pid && err == nil && ourErr == nil && session == ours
}

// RunsUs tells whether a process runs this very program, as a child does between fork(2) and execve(2).
func (t *Tree) RunsUs(pid int) bool { return t.proc != nil && t.proc.RunsUs(pid) }

// Level is the level that holds.
func (t *Tree) Level() Level { return t.level }

// Started says that the target runs as leader of a group of its own.
func (t *Tree) Started(pid int) { t.group, t.unreaped = pid, true }

// Leader is the target, while it has not been reaped, or 0.
func (t *Tree) Leader() int {
	if !t.unreaped {
		return 0
	}
	return t.group
}

// Reaped says that a child of ours has been reaped, so that its id may name another process from now on.
func (t *Tree) Reaped(pid int) {
	if pid == t.group {
		t.unreaped = false
	}
	for _, list := range []*[]int{&t.foreign, &t.exempt} {
		*list = slices.DeleteFunc(*list, func(p int) bool { return p == pid })
	}
}

// SignalGroup signals the target's process group while the target has not been reaped. That it is gone is no
// error.
func (t *Tree) SignalGroup(sig syscall.Signal) error {
	if !t.unreaped || t.group <= 0 { // kill(0) would be our own group
		return nil
	}
	return SignalGroupOf(t.group, sig)
}

// SignalGroupOf signals the process group that our unreaped child pid leads, or the child alone when it has moved to
// another group. That it is gone is no error.
func SignalGroupOf(pid int, sig syscall.Signal) error {
	err := unix.Kill(-pid, sig)
	if err == unix.ESRCH {
		err = unix.Kill(pid, sig)
	}
	return ignoreGone(err)
}

// SignalLeader signals the target alone, while it has not been reaped. That it is gone is no error.
func (t *Tree) SignalLeader(sig syscall.Signal) error {
	if !t.unreaped || t.group <= 0 {
		return nil
	}
	return ignoreGone(unix.Kill(t.group, sig))
}

// Exempt says that a child of ours is nobody of the tree, nor is what descends from it.
func (t *Tree) Exempt(pid int) {
	t.foreign, t.exempt = append(t.foreign, pid), append(t.exempt, pid)
}

// Find finds a member by its pid. It is alive, or has not been reaped yet.
func (t *Tree) Find(pid int) (procfs.Process, bool) {
	if t.proc == nil {
		return procfs.Process{}, false
	}
	for range maxPasses { // whose parent ends while we are on the way up comes to us, or to another parent
		p, ok := t.proc.Read(pid)
		if !ok || t.level == Group && p.Group == t.group && t.group != 0 {
			return p, ok
		}
		for q := p; ok; q, ok = t.proc.Read(q.PPID) {
			if slices.Contains(t.foreign, q.PID) || q.PID == t.self || q.PPID == 0 {
				return procfs.Process{}, false
			}
			if q.PPID == t.self {
				return p, true
			}
		}
	}
	return procfs.Process{}, false
}

// Keep leaves alone who is in the tree now, and what becomes of them. From now on a child of ours belongs to the tree
// when it carries the variable in its environment.
func (t *Tree) Keep(variable string) {
	t.kept, t.group, t.unreaped = variable, 0, false
	t.dropKept()
}

// letGo finds the children that are not to be in the tree any more. The dead, who have no environment, are to be reaped
// whoever they were.
func (t *Tree) dropKept() {
	if t.kept == "" || t.proc == nil {
		return
	}
	for _, pid := range t.proc.Children(t.self) {
		if _, ours := t.proc.Environ(pid, t.kept); ours || slices.Contains(t.foreign, pid) {
			continue
		}
		if p, ok := t.proc.Read(pid); !ok || !p.Dead { // nor was when it was looked for; or we may not see it
			t.foreign = append(t.foreign, pid)
		}
	}
}

// Members lists who is alive in the tree. It is a look at something that moves; whether nobody is left, Empty
// tells.
func (t *Tree) Members() []procfs.Process {
	t.dropKept()
	switch {
	case t.proc == nil || t.level == Group && t.group == 0:
		return nil
	case t.level == Group:
		return slices.DeleteFunc(t.proc.All(), func(p procfs.Process) bool { return p.Dead || p.Group != t.group })
	}
	found := t.proc.Descendants(t.self, t.foreign)
	for _, root := range t.roots() {
		found = append(found, root)
		found = append(found, t.proc.Descendants(root.PID, nil)...)
	}
	for _, pid := range t.confined() {
		if p, ok := t.proc.Read(pid); ok && !p.Dead {
			found = append(found, p)
		}
	}
	if t.orphaned != nil || t.cgroup != "" { // a member may descend from another
		slices.SortFunc(found, func(a, b procfs.Process) int { return cmp.Compare(a.PID, b.PID) })
		found = slices.CompactFunc(found, func(a, b procfs.Process) bool { return a.Identity == b.Identity })
	}
	return found
}

// confined lists who is in the cgroup.
func (t *Tree) confined() []int {
	if t.cgroup == "" {
		return nil
	}
	pids := t.cgroup.pids()
	if slices.Contains(pids, t.self) { // by somebody's doing; it is not ours then
		return nil
	}
	return slices.DeleteFunc(pids, func(pid int) bool { return slices.Contains(t.foreign, pid) })
}

// Empty tells whether nobody of the tree is left. childless says that we have no child at all, dead or alive:
// at the subreaper level that settles it, since whoever outlives its parent is our child before that parent can
// be reaped.
func (t *Tree) Empty(childless bool) bool {
	t.dropKept()
	t.othersInCgroup = false
	switch {
	case t.cgroup != "" && t.childless(childless) && t.cgroup.populated():
		t.othersInCgroup = true
		return false
	case t.orphaned != nil:
		// Twice, since who forks and ends may be missed on the way through the list.
		return t.childless(childless) && len(t.Members()) == 0 && len(t.Members()) == 0
	case t.level == Subreaper:
		return t.childless(childless)
	}
	if t.unreaped {
		return false
	}
	// Once the group is empty its id may come back as somebody else's.
	if t.group != 0 && t.proc == nil && unix.Kill(-t.group, 0) == unix.ESRCH || t.proc != nil && len(t.Members()) == 0 {
		t.group = 0
	}
	return t.group == 0
}

// childless tells whether we have no child, dead or alive, but those that we had before.
func (t *Tree) childless(none bool) bool {
	if none || t.proc == nil || len(t.foreign) == 0 {
		return none
	}
	return !slices.ContainsFunc(t.proc.Children(t.self), func(pid int) bool { return !slices.Contains(t.foreign, pid) })
}

// maxPasses bounds the looks for members that one signal is sent to: of those that fork faster than we look,
// SIGKILL will take care.
const maxPasses = 16

// Signal signals every member of the tree once, with one signal after the other. It looks until it finds nobody new: who dies of the signal, while
// we look, hands its children up to us, past the place where we are looking. But what a living member starts
// after the signal may be what it needs to end, and is left to it.
func (t *Tree) Signal(signals ...syscall.Signal) {
	if t.proc == nil {
		for _, sig := range signals {
			t.signalBlindly(sig)
		}
		return
	}
	t.signalOnce(signals, nil)
}

// leaveOut reports whether a member, one of those given by their pids, is to get no signal; nil leaves out none.
type leaveOut func(p procfs.Process, members map[int]procfs.Process) bool

// signalOnce does the work of Signal. Where none is left out, the target's group is signalled at one stroke, as long as its id is
// safe.
func (t *Tree) signalOnce(signals []syscall.Signal, leaveOut leaveOut) {
	done := map[procfs.Identity]bool{}
	t.signalled, t.leaveOut = done, leaveOut
	for pass := range maxPasses {
		members, before := t.Members(), len(done)
		alive, byPID := map[int]bool{}, map[int]procfs.Process{}
		for _, p := range members {
			alive[p.PID] = alive[p.PID] || done[p.Identity]
			byPID[p.PID] = p
		}
		stroke := pass == 0 && leaveOut == nil
		for _, sig := range signals {
			if stroke { // then those who have left it
				_ = t.SignalGroup(sig)
			}
		}
		for _, p := range members {
			if done[p.Identity] || alive[p.PPID] {
				continue
			}
			done[p.Identity] = true
			if leaveOut == nil && t.hadTheGroups(p) || leaveOut != nil && leaveOut(p, byPID) {
				continue
			}
			for _, sig := range signals {
				_ = t.signal(p, sig)
			}
		}
		if len(done) == before {
			return
		}
	}
}

// hadTheGroups tells whether a member was in the target's group when that was signalled, not only when we looked: a
// program that calls setsid(2) in between gets nothing from the group. Who left it just after gets the signal again.
func (t *Tree) hadTheGroups(p procfs.Process) bool {
	if !t.unreaped || p.Group != t.group {
		return false
	}
	now, err := unix.Getpgid(p.PID)
	return err != nil || now == t.group
}

// SignalOrphans signals those that have become our children since the last Signal and that it was not for: they were
// born meanwhile, of somebody who is dead. What a living member has started meanwhile may be what it needs to end.
func (t *Tree) SignalOrphans(signals ...syscall.Signal) {
	if t.level != Subreaper || t.signalled == nil {
		return
	}
	for _, p := range t.Children() {
		if !p.Dead && p.Start != 0 && !t.signalled[p.Identity] { // of the hidden nobody knows whether they had it
			t.signalled[p.Identity] = true
			if t.leaveOut != nil && t.leaveOut(p, nil) {
				continue
			}
			for _, sig := range signals {
				_ = t.signal(p, sig)
			}
		}
	}
}

// Kill sends SIGKILL to every member of the tree, and returns those that it found alive and those of them that may
// not be signalled. Members that were born meanwhile are left for the next call.
func (t *Tree) Kill() (found, denied []procfs.Process) {
	t.dropKept()
	if t.proc == nil {
		t.signalBlindly(unix.SIGKILL)
		return nil, nil
	}
	_ = t.SignalGroup(unix.SIGKILL)
	if t.level == Group {
		found = t.Members()
		for _, p := range found {
			if t.signal(p, unix.SIGKILL) == unix.EPERM {
				denied = append(denied, p)
			}
		}
		return found, denied
	}
	confined := t.confined()
	if len(confined) > 0 {
		t.cgroup.kill()
		t.killedInCgroup = slices.Concat(t.killedInCgroup, confined, t.confined())
		slices.Sort(t.killedInCgroup)
		t.killedInCgroup = slices.Compact(t.killedInCgroup)
	}
	// Each before its children are looked for: whoever has a SIGKILL pending forks no more (fork(2) starts over when
	// a signal is pending), so that nobody is born behind our back. Our own children before anything is read about
	// them, because one that forks and ends lives no longer than that takes; dead or alive, their ids are theirs
	// until we reap them.
	seen := map[int]bool{}
	visit := func(pid, parent int) {
		if seen[pid] {
			return
		}
		seen[pid] = true
		var err error
		if parent == t.self {
			err = unix.Kill(pid, unix.SIGKILL)
		}
		p, ok := t.proc.Read(pid)
		if !ok && err == unix.EPERM { // hidepid: /proc does not show it, but it is there
			p, ok = procfs.Process{Identity: procfs.Identity{PID: pid}, PPID: parent, Name: "hidden"}, true
		}
		if !ok || p.Dead {
			return
		}
		if parent != t.self {
			err = t.signal(p, unix.SIGKILL)
		}
		found = append(found, p)
		if err == unix.EPERM {
			denied = append(denied, p)
		}
	}
	t.proc.Walk(t.self, t.foreign, visit)
	for _, root := range t.roots() {
		visit(root.PID, root.PPID)
		t.proc.Walk(root.PID, nil, visit)
	}
	for _, pid := range confined {
		visit(pid, 0)
	}
	// Nobody in there can refuse, though on the way out some are still to be seen and may not be signalled.
	return found, slices.DeleteFunc(denied, func(p procfs.Process) bool { return slices.Contains(t.killedInCgroup, p.PID) })
}

// Strike sends SIGKILL to our own children, dead or alive, and looks at nobody. It is for when so many have ended
// that looking at each would take longer than others need to be born.
func (t *Tree) KillChildren() {
	t.dropKept()
	if t.proc == nil || t.level != Subreaper {
		return
	}
	for _, pid := range t.proc.Children(t.self) {
		if !slices.Contains(t.foreign, pid) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// KillBelow kills the process group that our unreaped child pid leads, and all that descends from the child.
func (t *Tree) KillBelow(pid int) {
	var below []procfs.Process
	if t.proc != nil && t.level != Group {
		below = t.proc.Descendants(pid, nil) // before the group dies and its children become ours
	}
	_ = SignalGroupOf(pid, unix.SIGKILL)
	for _, p := range below {
		_ = t.signal(p, unix.SIGKILL)
	}
}

// signalBlindly signals what can be reached without seeing it. As PID 1 that is everybody else in our namespace,
// all of whom end with us anyway (kill(2)).
func (t *Tree) signalBlindly(sig syscall.Signal) {
	if t.self == 1 && t.level == Subreaper {
		_ = unix.Kill(-1, sig)
		return
	}
	if t.group != 0 {
		_ = unix.Kill(-t.group, sig)
	}
}

func ignoreGone(err error) error {
	if err == unix.ESRCH {
		return nil
	}
	return err
}
