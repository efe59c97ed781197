// Package procfs reads the information about processes in proc(5). It contains the parsers of the files there. It
// decides nothing and signals no process.
package procfs

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Process describes a process at the time when it was read.
type Process struct {
	Identity
	PPID  int // pid of the parent
	Group int // process group id
	Name  string
	Dead  bool // all threads of the process have ended; a zombie until the parent reaps it

	Suspended bool // a signal has suspended the process
	Ending    bool // the first thread has ended; others may be alive
	Exiting   bool // the first thread is in exit(2), or has ended, so children may already be reparented

	kernelThread bool
	startCode    uint64 // address of the code; 0: the process has no memory; 1: hidden from this user
	environStart uint64 // addresses of the environment; 0: hidden from this user, or none
	environEnd   uint64
}

// IsKernelThread reports whether the process is a kernel thread. No signal ends a kernel thread.
func (p Process) IsKernelThread() bool { return p.kernelThread }

// BornBefore reports whether a process was certainly started before a moment, given as the time since boot. It returns
// false if the start time is unknown.
func (p Process) BornBefore(moment time.Duration) bool {
	return p.Start != 0 && time.Duration(p.Start+1)*time.Second/UserHZ <= moment
}

// These are the numbers of the fields in /proc/PID/stat, as in proc_pid_stat(5).
const (
	statState     = 3
	statPPID      = 4
	statGroup     = 5
	statFlags     = 9
	statThreads   = 20
	statStartTime = 22
	statStartCode = 26
	statEnvStart  = 50
	statEnvEnd    = 51
	statFirst     = statState // the first field after the name
)

// Flags of a process (include/linux/sched.h).
const (
	flagExiting      = 0x00000004 // PF_EXITING
	flagKernelThread = 0x00200000 // PF_KTHREAD
)

// ParseStat parses the text of /proc/PID/stat. The name is in parentheses and may itself contain blanks, parentheses
// and newlines. So the last closing parenthesis in the text ends the name. If only the first thread of a process has
// ended, the state is Z, but the process is alive. ok is false if a field up to the start time is missing.
func ParseStat(stat []byte) (p Process, ok bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 1 || end < open {
		return Process{}, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= statStartTime-statFirst {
		return Process{}, false
	}
	number := func(n int) (v uint64) {
		if n -= statFirst; n < len(fields) {
			v, _ = strconv.ParseUint(fields[n], 10, 64)
		}
		return v
	}
	state := fields[statState-statFirst]
	ended := state == "Z" || state == "X"
	pid, _ := strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	return Process{
		Identity: Identity{PID: pid, Start: number(statStartTime)},
		PPID:     int(number(statPPID)), Group: int(number(statGroup)),
		Name: string(stat[open+1 : end]), Suspended: state == "T", Ending: ended, Dead: ended && number(statThreads) <= 1,
		Exiting:      ended || number(statFlags)&flagExiting != 0,
		kernelThread: number(statFlags)&flagKernelThread != 0, startCode: number(statStartCode),
		environStart: number(statEnvStart), environEnd: number(statEnvEnd),
	}, true
}

// Is reports whether a process is the one that was recorded with this pid and start time. If one of the start times is
// unknown (0), Is compares only the pids. For a child the pid is sufficient, because the kernel does not reuse the pid
// until the child is reaped.
func (p Process) Is(pid int, start uint64) bool {
	return p.PID == pid && (p.Start == start || p.Start == 0 || start == 0)
}
