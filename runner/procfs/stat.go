package procfs

import (
	"bytes"
	"strconv"
	"strings"
)

// Process is one process as it was when we looked.
type Process struct {
	Identity
	PPID   int
	Group  int // process group id
	Name   string
	Dead   bool // a zombie: all its threads have ended
	Ending bool // its first thread has ended, if not all

	kernelThread bool
	code         uint64 // where its code begins; 0: it has no memory; 1: hidden from us
	environStart uint64 // where its environment begins and ends; 0: hidden, or none
	environEnd   uint64
}

// Numbers of the fields in /proc/PID/stat, as proc_pid_stat(5) counts them.
const (
	statState      = 3
	statPPID       = 4
	statGroup      = 5
	statFlags      = 9
	statThreads    = 20
	statStartTime  = 22
	statStartCode  = 26
	statEnvStart   = 50
	statEnvEnd     = 51
	statFirst      = statState // the first one after the name
	flagKernelTask = 0x00200000
)

// ParseStat reads the text of /proc/PID/stat. The name stands in parentheses and may contain blanks, parentheses and newlines,
// so the last parenthesis counts. A process whose first thread alone has ended is alive, though its state is Z.
func ParseStat(stat []byte) (p Process, ok bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 1 || end < open {
		return Process{}, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= statStartTime-statFirst {
		return Process{}, false
	}
	field := func(n int) string {
		if n -= statFirst; n < len(fields) {
			return fields[n]
		}
		return ""
	}
	number := func(n int) uint64 {
		v, _ := strconv.ParseUint(field(n), 10, 64)
		return v
	}
	state := field(statState)
	ended := state == "Z" || state == "X"
	p = Process{
		PPID: int(number(statPPID)), Group: int(number(statGroup)),
		Name: string(stat[open+1 : end]), Ending: ended, Dead: ended && number(statThreads) <= 1,
		kernelThread: number(statFlags)&flagKernelTask != 0, code: number(statStartCode),
		environStart: number(statEnvStart), environEnd: number(statEnvEnd),
	}
	p.PID, _ = strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	p.Start = number(statStartTime)
	return p, true
}
