//go:build engines

package engines

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// slurmStrays is the script of a target that leaves four processes behind. A child and an orphan stay in the process
// group of the target. Another child and another orphan are in separate sessions. With the argument end, the target
// ends when the file end exists. Otherwise it stays.
const slurmStrays = `#!/bin/bash
sleep 2001 &
(sleep 2002 &)
setsid sleep 2003 &
(setsid sleep 2004 &)
echo ready >>ready
[ $1 = end ] || exec sleep 2000
until [ -e end ]; do sleep 0.05; done
`

// slurmLeft contains the arguments of the sleep(1) processes that remain without graceful. The key is the end of the
// job ("end" or "scancel") and the ProctrackType. With a ProctrackType that is missing, no process remains.
var slurmLeft = map[string]string{
	"end linuxproc": "2001 2002 2003 2004", "scancel linuxproc": "2002 2004",
	"end pgid": "2003 2004", "scancel pgid": "2003 2004",
}

// Without graceful, the processes of slurmLeft remain. With graceful, no process remains.
func TestSlurm_strays(t *testing.T) {
	for _, how := range []string{"end", "scancel"} {
		for _, wrapped := range []bool{false, true} {
			t.Run(how+map[bool]string{true: " graceful"}[wrapped], func(t *testing.T) {
				forEachTrack(t, func(t *testing.T, j *slurmJob) {
					write(t, j.dir+"/strays", slurmStrays)
					if wrapped {
						j.submit(j.graceful("", "./strays "+how), "-w", "n2")
					} else {
						j.submit("#!/bin/bash\nexec ./strays "+how+"\n", "-w", "n2")
					}
					j.starts(1)
					until(t, "all processes", func() bool { return strings.HasPrefix(j.left(), slurmLeft["end linuxproc"]) })
					if how == "scancel" {
						j.do("scancel", j.id)
					} else {
						write(t, j.dir+"/end", "")
					}
					until(t, "end of the job", func() bool {
						state := j.state()
						return state != "RUNNING" && state != "COMPLETING"
					})
					want := slurmLeft[how+" "+j.track]
					if wrapped {
						want = ""
					}
					if left := j.left(); left != want {
						t.Errorf("left is %q, want %q", left, want)
					}
				})
			})
		}
	}
}

// left returns the arguments of the remaining sleep(1) processes that slurmStrays has left behind. It omits the target,
// sleep 2000.
func (j *slurmJob) left() string {
	var left []string
	for _, pid := range j.processes() {
		args := strings.Split(content("/proc/"+strconv.Itoa(pid)+"/cmdline"), "\x00")
		if args[0] == "sleep" && args[1] > "2000" {
			left = append(left, args[1])
		}
	}
	slices.Sort(left)
	return strings.Join(left, " ")
}
