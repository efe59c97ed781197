//go:build engines

package engines

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A slow target is stopped within KillWait, and cleanup runs once. The drain comes first, unless Slurm itself signals
// the target.
func TestSlurm_scancel(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("--on-stop 'sleep 0.5; echo drained >>log'", "./target"), "-w", "n2")
		j.starts(1)
		j.do("scancel", j.id)
		j.ends("stopped 0\n")
		j.becomes("CANCELLED")
		log := content(j.dir + "/log")
		if first, _, _ := strings.Cut(log, "\n"); (first == "drained") != (j.track != "linuxproc") {
			t.Errorf("the log is %q", log)
		}
	})
}

// A target that ignores SIGTERM is killed by graceful, whose deadline is shorter than KillWait.
func TestSlurm_deadline(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("", `bash -c 'trap "" TERM; echo ready >ready; while :; do sleep 0.1; done'`), "-w", "n2")
		j.starts(1)
		j.do("scancel", j.id)
		j.ends("stopped 0\n")
		if out := content(j.dir + "/out"); !strings.Contains(out, "state=killing") {
			t.Errorf("graceful has killed nothing:\n%s", out)
		}
	})
}

// The end of the job is set to now: the shortest limit of time is a minute.
func TestSlurm_timeLimit(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("", "./target"), "-w", "n2", "--time", "1")
		j.starts(1)
		j.do("scontrol", "update", "JobId="+j.id, "EndTime=now")
		j.ends("stopped 0\n")
		j.becomes("TIMEOUT")
	})
}

// A job with priority takes the node. The preempted one starts again after it: cleanup runs once for each start.
func TestSlurm_preemption(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("", "./target"), "-w", "n4", "-c", "64", "--requeue")
		j.starts(1)
		j.wrote("ready", "ready\n")
		urgent := &slurmJob{slurmCluster: j.slurmCluster, t: t, dir: j.dir}
		urgent.submit("#!/bin/sh\ncat cleaned >cleaned-before\n", "-w", "n4", "-c", "64", "-p", "high")
		urgent.wrote("cleaned-before", "stopped 0\n")
		j.starts(2)
		j.wrote("cleaned", "stopped 0\n")
		j.do("scancel", j.id)
		j.ends("stopped 0\nstopped 1\n")
	})
}

// With --disable-status, the first Ctrl-C stops the step.
func TestSlurm_srunInterrupted(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		write(t, j.dir+"/step.sh", j.graceful("", "./target"))
		cmd := j.srun("-w", "n2", "--disable-status", "./step.sh")
		j.starts(1)
		_ = syscall.Kill(j.process("srun"), syscall.SIGINT)
		_ = cmd.Wait()
		j.ends("stopped 0\n")
	})
}

// Two of Ctrl-C within a second have Slurm send SIGKILL at once: under pgid to the process group of graceful, whose
// guard is not in it; else to all processes, and the epilog has the run finished.
func TestSlurm_srunInterruptedTwice(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		write(t, j.dir+"/step.sh", j.graceful("", "./target"))
		cmd := j.srun("-w", "n1", "./step.sh")
		j.starts(1)
		pause := time.Tick(200 * time.Millisecond)
		until(t, "end by force", func() bool { // the first ones may be further apart on a busy machine
			if pid := j.process("srun"); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGINT)
			}
			<-pause
			return strings.Contains(content(j.dir+"/out"), "forcing job termination")
		})
		_ = cmd.Wait()
		j.ends(map[bool]string{true: "stopped 0\n", false: "recovered 0\n"}[j.track == "pgid"])
	})
}

// killGraceful kills graceful, not its guard.
func (j *slurmJob) killGraceful() {
	j.t.Helper()
	for _, pid := range j.processes() {
		cmdline := content("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if strings.HasPrefix(cmdline, "graceful\x00run\x00") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
	j.t.Fatal("graceful does not run")
}

// graceful is killed in a batch job. See docs/engines/slurm.md.
func TestSlurm_gracefulKilled(t *testing.T) {
	for _, node := range []string{"n1", "n2"} {
		t.Run(map[bool]string{true: "epilog", false: "none"}[node == "n1"], func(t *testing.T) {
			forEachTrack(t, func(t *testing.T, j *slurmJob) {
				j.submit(j.graceful("", "./target"), "-w", node)
				j.starts(1)
				j.killGraceful()
				j.becomes("FAILED")
				until(t, "end of all processes", func() bool { return len(j.processes()) == 0 })
				t.Logf("%s %s: %q", node, j.track, content(j.dir+"/cleaned"))
			})
		})
	}
}

// The node crashes. The job starts there again, and first finishes the killed run.
func TestSlurm_nodeCrash(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("", "./target"), "-w", "n3", "--requeue")
		j.starts(1)
		j.crash(t, "n3")
		if left := j.processes(); len(left) > 0 || exists(j.dir+"/cleaned") {
			t.Errorf("after the crash %d processes, cleanup %q", len(left), content(j.dir+"/cleaned"))
		}
		j.do("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=crash") // Slurm does so after SlurmdTimeout
		j.start(t, "n3")
		j.starts(2)
		j.wrote("cleaned", "recovered 0\n")
		j.do("scancel", j.id)
		j.ends("recovered 0\nstopped 1\n")
	})
}

// slurmStrays is a target that leaves processes behind: a child and an orphan in its process group, and both in sessions
// of their own.
const slurmStrays = `#!/bin/bash
sleep 2001 &
(sleep 2002 &)
setsid sleep 2003 &
(setsid sleep 2004 &)
sleep 0.5
echo ready >>ready
[ $1 = end ] || exec sleep 2000
`

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
					if how == "scancel" {
						j.do("scancel", j.id)
					}
					until(t, "end of the job", func() bool {
						state := j.state()
						return state != "RUNNING" && state != "COMPLETING"
					})
					t.Log(how, wrapped, j.track, j.state(), j.left())
				})
			})
		}
	}
}

// left returns the arguments of the job's sleep(1) that are left.
func (j *slurmJob) left() string {
	var left []string
	for _, pid := range j.processes() {
		if args := strings.Split(content("/proc/"+strconv.Itoa(pid)+"/cmdline"), "\x00"); args[0] == "sleep" {
			left = append(left, args[1])
		}
	}
	slices.Sort(left)
	return strings.Join(left, " ")
}
