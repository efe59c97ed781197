package runner

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/forward"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// Which promises hold here is found out by what a run does itself at its beginning, so that the two cannot disagree.

// Holds says whether a promise does.
type Holds string

// It holds; it does with exceptions; it does not.
const (
	Yes    Holds = "yes"
	Partly Holds = "partly"
	No     Holds = "no"
)

// Check is what was found out about one promise.
type Check struct {
	Name     string
	Required bool // it is made by default, or has been asked for
	Holds    Holds
	Detail   string // what was found
	Why      string // it does not hold, or not always
	Hint     string // what to do about that
}

// The checks.
const (
	CheckTree      = "tree"
	CheckCgroup    = "cgroup"
	CheckPids      = "pids"
	CheckGuard     = "guard"
	CheckProcesses = "processes"
	CheckShell     = "shell"
	CheckSignals   = "signals"
	CheckState     = "state-directory"
	CheckParent    = "parent"
	CheckTerminal  = "terminal"
	CheckSocket    = "socket"
)

// but adds a reason why a promise does not hold, or not always.
func (c *Check) but(holds Holds, why, hint string) {
	if c.Holds != No {
		c.Holds = holds
	}
	add := func(to *string, text string) {
		if *to != "" && text != "" {
			*to += "; "
		}
		*to += text
	}
	add(&c.Why, why)
	add(&c.Hint, hint)
}

// System is where we are.
type System struct {
	OS     string
	Arch   string
	Kernel string
	UID    int
	PID    int
	Parent int
}

// Fate is what becomes of a tree and of the cleanup commands when something happens.
type Fate struct{ Event, Tree, Cleanup string }

// What can happen to a run.
const (
	TargetEnds       = "target-ends"       // or anything in its tree is killed
	FrontKilled      = "front-killed"      // the process that the user started
	SupervisorKilled = "supervisor-killed" // the other one
	AllKilled        = "all-killed"        // of graceful's processes
	ContainerKilled  = "container-killed"  // or another cgroup
	MachineStops     = "machine-stops"
)

// What becomes of a tree: we end it; we end its process group, and do not find the rest; it is gone by what has happened;
// it lives on; recover ends it.
const (
	TreeEnded     = "ended"
	TreeGroup     = "group-ended"
	TreeGone      = "gone"
	TreeLeft      = "left"
	TreeRecovered = "recovered"
)

// What becomes of the cleanup commands: we run them; recover does; nobody does.
const (
	CleanupRun       = "run"
	CleanupRecovered = "recovered"
	CleanupLost      = "lost"
)

// Findings are what Examine found.
type Findings struct {
	System   System
	Checks   []Check
	Survival []Fate
}

// Examine finds out which promises graceful run keeps here, with the state directory if one is given. When strict is
// set, no other user may be able to replace that. What Examine starts has ended when it returns.
func Examine(stateDir string, strict bool) Findings {
	inherit := readInherited()
	held := examineTree()
	guard, processes := examineGuard(held)
	f := Findings{
		System: thisSystem(),
		Checks: []Check{held.Check, examineCgroup(), examinePids(), guard, processes, examineShell(), examineSocket(), examineSignals(inherit)},
	}
	state := recording{Check: Check{Holds: No}}
	if stateDir != "" {
		state = examineState(stateDir, strict, inherit)
		f.Checks = append(f.Checks, state.Check)
	}
	f.Checks = append(f.Checks, examineParent(), examineTerminal())
	f.Survival = survival(unix.Getpid() == 1, held, guard.Holds == Yes, state)
	return f
}

func thisSystem() System {
	s := System{OS: runtime.GOOS, Arch: runtime.GOARCH, UID: unix.Geteuid(), PID: unix.Getpid(), Parent: unix.Getppid()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		s.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return s
}

// holding is the examined containment.
type holding struct {
	Check
	level tree.Level
	sight tree.Sight
}

func examineTree() holding {
	h := holding{Check: Check{Name: CheckTree, Required: true, Holds: Yes}}
	t, warnings, err := tree.Open(tree.Auto)
	if err != nil { // not at this level
		h.but(No, err.Error(), "")
		return h
	}
	h.level, h.sight = t.Level(), t.Sight()
	found := []string{"level " + string(h.level)}
	if unix.Getpid() == 1 {
		found = append(found, "as PID 1")
	}
	hint := "mount -t proc proc /proc, in this PID namespace"
	if runtime.GOOS != "linux" {
		hint = "this takes Linux: a container, or a virtual machine"
	}
	for _, w := range warnings {
		h.but(No, w, hint)
	}
	if h.sight.Proc && !h.sight.Lists {
		found = append(found, "children are looked for in all of /proc (the kernel has no CONFIG_PROC_CHILDREN)")
	}
	if h.sight.Proc && !h.sight.Others {
		h.but(Partly, "/proc hides the processes of other users: what sudo or a set-user-ID program starts may be overlooked",
			"mount -o remount,hidepid=0 /proc")
	}
	h.Detail = strings.Join(found, ", ")
	return h
}

// examineCgroup tries a run in one, since what can be told without making it is not all.
func examineCgroup() Check {
	c := Check{Name: CheckCgroup, Holds: Yes, Detail: "a run was tried in one"}
	if err := try(tree.Cgroup, GuardOff); err != nil {
		c.but(No, err.Error(), "")
	}
	return c
}

func examinePids() Check {
	c := Check{Name: CheckPids, Required: true, Holds: Yes, Detail: "processes are pinned before they are signalled (pidfd)"}
	if err := tree.Pins(); err != nil {
		c.Detail = ""
		c.but(Partly, err.Error(), "")
	}
	return c
}

// examineGuard tries a run: with a guard, where one would have it, and if that fails without.
func examineGuard(held holding) (guard, processes Check) {
	guard = Check{Name: CheckGuard, Required: true, Holds: Yes}
	processes = Check{Name: CheckProcesses, Required: true, Holds: Yes, Detail: strings.Join(limits(), ", ")}
	hint := "see ulimit -a and the limits of the container"
	switch {
	case held.Holds == No: // there is the hint that helps
		hint = ""
	case processes.Detail != "":
		hint = "limits are " + processes.Detail
	}
	level := held.level
	if level == tree.Subreaper && !held.sight.Proc { // the run that is tried is not PID 1
		level = tree.Group
	}
	if !GuardAuto.wanted() {
		guard.but(Partly, "as PID 1 it has no guard, the kernel ends the tree, and cleanup commands are lost",
			"--state-dir on a volume and graceful recover, or another PID 1: docker run --init")
	} else if err := try(level, GuardOn); err != nil {
		guard.but(No, "it was tried: "+err.Error(), hint)
	} else {
		guard.Detail = "a run was tried with it"
		return guard, processes
	}
	if err := try(level, GuardOff); err != nil {
		processes.but(No, "a run was tried: "+err.Error(), hint)
	}
	return guard, processes
}

// tryLimit is for a run that takes a fraction of a second.
const tryLimit = 10 * time.Second

// try runs ourselves: a whole run, with the threads and processes that it takes.
func try(level tree.Level, guard Guard) error {
	self, err := ourselves()
	if err != nil {
		return fmt.Errorf("finding our own file: %w", err)
	}
	stdin, err := emptyInput()
	if err != nil {
		return err
	}
	defer stdin.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	pid, err := syscall.ForkExec(self, []string{"graceful", "run", "--contain", string(level), "--guard", string(guard), "--", self, "version"},
		&syscall.ProcAttr{
			Env:   supervisorEnv(os.Environ()),
			Files: []uintptr{stdin.Fd(), w.Fd(), w.Fd()},
			Sys:   &syscall.SysProcAttr{Setpgid: true},
		})
	w.Close()
	if err != nil {
		return fmt.Errorf("starting %s: %w", self, err)
	}
	_ = r.SetReadDeadline(time.Now().Add(tryLimit))
	text, err := io.ReadAll(r) // until the last of them has ended
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	var status unix.WaitStatus
	if waited := persist(func() error { _, err := unix.Wait4(pid, &status, 0, nil); return err }); waited != nil {
		return fmt.Errorf("waiting for it: %w", waited)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	switch {
	case err != nil:
		return fmt.Errorf("it has not ended in %v", tryLimit)
	case status.Exited() && status.ExitStatus() == 0:
		return nil
	case status.Signaled():
		return fmt.Errorf("it was ended by %v", status.Signal())
	}
	first = strings.TrimPrefix(strings.TrimPrefix(first, "graceful: "), ErrSetup.Error()+": ")
	return errors.New(cmp.Or(first, fmt.Sprintf("exit status %d", status.ExitStatus())))
}

// ourselves is a path to what we are, also where there is no /proc.
func ourselves() (string, error) {
	if unix.Access(selfExe, unix.X_OK) == nil {
		return selfExe, nil
	}
	if path, err := os.Executable(); err == nil {
		return path, nil
	}
	return lookPath(os.Args[0], searchPath(os.Environ()))
}

func examineShell() Check {
	c := Check{Name: CheckShell, Holds: Yes, Detail: cleanup.Shell}
	if err := haveShell(); err != nil {
		c.but(No, fmt.Sprintf("%s: %v", cleanup.Shell, err), `use the exec form: ["./flush", "--all"]`)
	}
	return c
}

// examineSocket registers nothing at a socket of its own.
func examineSocket() Check {
	c := Check{Name: CheckSocket, Required: true, Holds: Yes}
	fd, address, err := registry.Listen(newID())
	if err == nil {
		defer registry.Remove(address)
		c.Detail = "in " + filepath.Dir(filepath.Dir(address))
		if address[0] == '@' {
			c.Detail = "it has no file, as there is no place for one, and is shared with this network namespace alone"
		}
		server := registry.Serve(fd, StartOf)
		defer server.Close()
		go func() {
			call := <-server.Calls
			answer := registry.Response{Commands: &[]registry.Listed{}}
			if err := (&processes{}).admit(call); err != nil {
				answer = registry.Response{Error: err.Error()}
			}
			call.Answer(answer)
		}()
		var answer registry.Response
		if answer, err = registry.Ask(address, registry.Request{Do: registry.List}); answer.Error != "" {
			c.but(Partly, answer.Error, "mount -t proc proc /proc, in this PID namespace")
		}
	}
	if err != nil {
		c.Detail = ""
		c.but(No, err.Error(), "")
	}
	return c
}

func examineSignals(in inherited) Check {
	c := Check{Name: CheckSignals, Required: true, Holds: Yes,
		Detail: "ignored " + signalNames(in.ignored) + ", blocked " + signalNames(in.blocked)}
	if hint, why := unreadable(); why != nil {
		c.but(Partly, fmt.Sprintf("which signals our parent had ignored or blocked cannot be told for all: %v", why), hint)
	}
	return c
}

func signalNames(signals []syscall.Signal) string {
	var names []string
	for _, s := range signals {
		names = append(names, forward.Name(s))
	}
	return cmp.Or(strings.Join(names, " "), "none")
}

// recording is the examined state directory.
type recording struct {
	Check
	lasts bool // it outlives the machine, and the container
}

func examineState(path string, strict bool, in inherited) recording {
	r := recording{Check: Check{Name: CheckState, Required: true, Holds: Yes}}
	dir, err := ledger.OpenDir(path)
	there := path
	switch {
	case errors.Is(err, fs.ErrNotExist):
		there = nearest(path)
		if err := unix.Access(there, unix.W_OK|unix.X_OK); err != nil {
			r.but(No, fmt.Sprintf("it is not there, and cannot be made in %s: %v", there, err), "")
			return r
		}
		r.but(Partly, "it is not there, and so could not be tried (graceful run makes it)", "mkdir -p -m 700 "+path)
	case err != nil:
		r.but(No, err.Error(), "")
		return r
	default:
		defer dir.Close()
		if err := tryState(dir, in); err != nil {
			r.but(No, err.Error(), "")
			return r
		}
		countRuns(dir, path, &r.Check)
	}
	examineParents(path, strict, &r.Check)
	why, ends := fileSystem(there)
	r.lasts = !ends
	if why != "" {
		r.but(Partly, why, "take a directory on a disk or a volume")
	}
	return r
}

// nearest is the last part of a path that is there.
func nearest(path string) string {
	path, err := filepath.Abs(path)
	for err == nil && path != "/" && unix.Access(path, unix.F_OK) == unix.ENOENT {
		path = filepath.Dir(path)
	}
	return path
}

// tryState keeps a ledger there for a moment. Should we be killed meanwhile, recover takes it away.
func tryState(dir *ledger.Dir, in inherited) (err error) {
	file := ledger.FileName("doctor." + newID())
	book, err := dir.Take(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, book.Remove(), book.Close()) }()
	trial := newRun(newID(), Config{
		Command: []string{"doctor"}, Name: "doctor", Contain: tree.Auto, Order: cleanup.LIFO, ForwardTo: ForwardToGroup, Survivors: StopSurvivors,
	})
	if err := begin(book, trial, in); err != nil {
		return err
	}
	other, err := dir.Open(file)
	switch {
	case err == nil:
		return errors.Join(errors.New("locks keep nobody out in its file system"), other.Close())
	case !errors.Is(err, ledger.ErrAlive):
		return err
	}
	return nil
}

// countRuns tells who is recorded there.
func countRuns(dir *ledger.Dir, path string, c *Check) {
	names, err := dir.Names()
	aside, err2 := dir.NamesSetAside()
	if err := errors.Join(err, err2); err != nil {
		c.but(No, err.Error(), "")
		return
	}
	live, dead, bad := 0, 0, []string(nil)
	for _, name := range names {
		book, err := dir.Open(name)
		switch {
		case errors.Is(err, ledger.ErrAlive):
			live++
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			bad = append(bad, err.Error())
			continue
		}
		m, err := read(book)
		_ = book.Close()
		switch {
		case err == errEmpty: // of one that was killed before it had begun anything
		case err != nil:
			bad = append(bad, err.Error())
		case m.run.State != Done:
			dead++
		}
	}
	c.Detail = fmt.Sprintf("runs recorded there: %d live, %d killed, %d interrupted, %d unreadable", live, dead, len(aside), len(bad))
	if dead > 0 {
		c.but(Partly, fmt.Sprintf("killed runs that wait to be finished: %d", dead), "graceful recover --state-dir "+path)
	}
	if len(aside) > 0 {
		c.but(Partly, fmt.Sprintf("runs with cleanup commands that were interrupted: %d", len(aside)),
			"graceful recover --retry-interrupted --state-dir "+path+", or remove their files")
	}
	if len(bad) > 0 {
		c.but(Partly, strings.Join(bad, "; "), "look at these files, and remove them")
	}
}

func examineParent() Check {
	c := Check{Name: CheckParent, Holds: Yes, Detail: fmt.Sprintf("process %d", unix.Getppid())}
	switch _, ended, err := watchParent(Config{}); {
	case err != nil:
		c.but(No, err.Error(), "")
	case ended:
		c.but(No, "that one has ended, or is PID 1, whose end nobody outlives", "")
	}
	return c
}

func examineTerminal() Check {
	c := Check{Name: CheckTerminal, Holds: Yes, Detail: "standard input is no terminal of ours"}
	if group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		c.Detail = "standard input is a terminal, and we are in its background: it can once we are not"
		switch {
		case unix.Getpgrp() == 0: // that has no number here
			c.but(Partly, "our process group is of another PID namespace, and is not given the terminal back", "setsid -c -w before it")
		case group == unix.Getpgrp():
			c.Detail = "standard input is a terminal, and we are in its foreground"
		}
	}
	return c
}

// survival is the summary of what was found.
func survival(init bool, held holding, guard bool, state recording) []Fate {
	ended := TreeEnded
	if held.level != tree.Subreaper {
		ended = TreeGroup
	}
	f := []Fate{{TargetEnds, ended, CleanupRun}}
	if guard {
		f = append(f, Fate{FrontKilled, ended, CleanupRun}, Fate{SupervisorKilled, ended, CleanupRun})
	}
	later := CleanupLost
	if state.Holds != No && state.lasts {
		later = CleanupRecovered
	}
	switch {
	case init:
		f = append(f, Fate{AllKilled, TreeGone, later})
	case state.Holds != No && held.level == tree.Subreaper && held.sight.Proc:
		f = append(f, Fate{AllKilled, TreeRecovered, CleanupRecovered})
	default:
		f = append(f, Fate{AllKilled, TreeLeft, CleanupLost})
	}
	return append(f, Fate{ContainerKilled, TreeGone, later}, Fate{MachineStops, TreeGone, later})
}
