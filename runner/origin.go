package runner

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// machineIDFile contains the id of the machine (machine-id(5)). It exists in few containers.
const machineIDFile = "/etc/machine-id"

// machineID returns the id of the machine, or "" if it is unknown.
func machineID() string {
	const size = 32 // hexadecimal digits
	text, err := os.ReadFile(machineIDFile)
	id := strings.TrimSpace(string(text))
	if err != nil || len(id) != size || strings.Trim(id, "0123456789abcdef") != "" { // "uninitialized" is not an id
		return ""
	}
	return id
}

// originHere returns a Begin with the boot, the PID namespace and the machine of this process. The other fields are not
// set.
func originHere() journal.Begin {
	id := machineID()
	return journal.Begin{Boot: procfs.Boot(), Machine: &id}
}

// location is the place where processes of a dead run may exist.
type location int

const (
	locationNone  location = iota // no process exists, for example because the machine was restarted
	locationHere                  // in this PID namespace; the recorded pids are valid
	locationOther                 // in another PID namespace, which /proc shows
)

// circumstances contains further inputs of locate.
type circumstances struct {
	elsewhere bool // the user asserts that the run has no process that this process cannot see
	shared    bool // other machines may use the ledger, so a free lock does not prove that the run is dead
}

// locate finds out where processes of a dead run may exist. began identifies the place where the run began, and now the
// place of this process. If the run began in another PID namespace of the present boot, and that namespace may still
// have processes, locate calls search. An error means that processes may exist where this process cannot see them.
func locate(
	began, now journal.Begin, c circumstances, search func(namespace string) (location, error),
) (location, error) {
	boot, namespace, _ := strings.Cut(began.Boot, " ")
	bootNow, _, _ := strings.Cut(now.Boot, " ")
	same := boot == bootNow
	ended := began.Front == 1 || began.Followed // the kernel has ended the PID namespace together with Front
	switch {
	case began.Boot == "", c.elsewhere && began.Boot != now.Boot:
		return locationNone, nil
	case began.Boot == now.Boot, same && namespace == "":
		return locationHere, nil
	case ended && (same || !c.shared && !differ(began, now)):
		return locationNone, nil
	case now.Boot == "":
		return locationNone, errors.New("/proc is missing: cannot check whether its processes live " +
			"(mount -t proc proc /proc)")
	case same:
		return search(namespace)
	case began.Machine == nil: // an earlier version recorded no machine
		return locationNone, nil
	case differ(began, now):
		return locationNone, errors.New("it began on another machine, where its processes may live " +
			"(graceful recover --from-other-machines if they do not)")
	case *began.Machine == "" || *now.Machine == "":
		return locationNone, fmt.Errorf("it began before a restart, or on another machine, where its processes may live: "+
			"without %s that cannot be told (graceful recover --from-other-machines if they do not)", machineIDFile)
	}
	return locationNone, nil
}

// differ reports whether two places with different boot ids are certainly on different machines.
func differ(a, b journal.Begin) bool {
	return a.Machine != nil && b.Machine != nil && *a.Machine != "" && *b.Machine != "" && *a.Machine != *b.Machine
}

// searchNamespace returns locationOther if /proc shows processes of another PID namespace, and locationNone if that
// namespace has no process. It returns an error if /proc may hide processes.
func searchNamespace(namespace string) (location, error) {
	proc, _ := procfs.Open() // nil shows no processes
	switch found, hidden := proc.Within(namespace); {
	case len(found) > 0:
		return locationOther, nil
	case proc.SeesAll() && !hidden:
		return locationNone, nil
	}
	return locationNone, errors.New("it began in another PID namespace, and its processes cannot be seen from here " +
		"(graceful recover there, or on the host as root; or --from-other-machines if that container is gone)")
}

// locate finds out where processes of the dead run may exist. elsewhere is the field of circumstances. For a run that
// is done, locate returns locationNone instead of an error.
func (rec recordedRun) locate(elsewhere bool) (location, error) {
	found, err := locate(rec.Begin, originHere(), circumstances{elsewhere, rec.ledger.IsShared()}, searchNamespace)
	if err != nil && rec.run.State == machine.Done { // no process is left to stop
		return locationNone, nil
	}
	if err != nil {
		err = fmt.Errorf("finding what run %s has left: %w", rec.run.ID, err)
	}
	return found, err
}

// translate replaces the recorded pids of another PID namespace by the pids in this namespace. It returns the recorded
// processes that exist. If the process of a command does not exist, translate deletes the recorded start time, so that
// the record matches no process.
func (rec *recordedRun) translate() (known []procfs.Identity) {
	_, namespace, _ := strings.Cut(rec.Begin.Boot, " ")
	proc, _ := procfs.Open() // nil shows no processes
	found, _ := proc.Within(namespace)
	for _, id := range recordedIdentities(rec.run) {
		if p := found[id.PID]; p.Start == id.Start {
			known = append(known, p.Identity)
		}
	}
	if p := found[rec.run.Target.PID]; p.Start == rec.run.Target.Start {
		rec.run.Target.PID = p.PID
	}
	for _, id := range rec.run.Cleanup.Active {
		rec.run.Cleanup.Commands = rec.run.Cleanup.Update(id, func(c *cleanup.Entry) {
			p := found[c.PID]
			if p.Start != c.Start {
				c.Start = 0
			} else if c.PID != 0 {
				c.PID = p.PID
			}
		})
	}
	return known
}

// frontEnded reports whether the process that began a run has certainly ended.
func (rec recordedRun) frontEnded() bool {
	boot, namespace, _ := strings.Cut(rec.Begin.Boot, " ")
	now, front := originHere(), rec.Begin.Front
	proc, _ := procfs.Open()
	bootNow, _, _ := strings.Cut(now.Boot, " ")
	lastTick := uint64(rec.Start / (time.Second / procfs.UserHZ))
	// A process that was started after the beginning of the run is another one with the same pid.
	ended := func(p procfs.Process) bool { return p.Dead || p.Start > lastTick }
	switch {
	case rec.Begin.Boot == "" || proc == nil:
		return false
	case rec.Begin.Boot == now.Boot:
		p, ok := proc.Read(front)
		return ok && ended(p) || !ok && syscall.Kill(front, 0) == syscall.ESRCH
	case boot == bootNow:
		found, hidden := proc.Within(namespace)
		if p, ok := found[front]; ok {
			return ended(p)
		}
		return !hidden && (len(found) > 0 || proc.SeesAll())
	}
	return rec.Begin.Machine != nil && *rec.Begin.Machine != "" && *rec.Begin.Machine == *now.Machine
}
