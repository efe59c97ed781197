//go:build engines

package engines

import (
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A target that takes time to stop ends within KillWait, and cleanup runs once. The on-stop command runs before the
// target gets a signal, unless Slurm itself signals the target.
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

// A target ignores SIGTERM. graceful kills the target before Slurm kills the run, because the deadline is shorter than
// KillWait.
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

// At the time limit of a job, the target is stopped, and cleanup runs once. The test sets the end of the job to the
// present time, because the shortest time limit is a minute.
func TestSlurm_timeLimit(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("", "./target"), "-w", "n2", "--time", "1")
		j.starts(1)
		until(t, "a new end", func() bool { // Slurm refuses an end in the second of the start
			_, ok := j.output("scontrol", "update", "JobId="+j.id, "EndTime=now")
			return ok
		})
		j.ends("stopped 0\n")
		j.becomes("TIMEOUT")
	})
}

// A job with a higher priority takes the node. The preempted job starts again when that job has ended. Cleanup runs
// once for each start.
func TestSlurm_preemption(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("", "./target"), "-w", "n4", "-c", "64", "--requeue")
		j.starts(1)
		j.wantFile("ready", "ready\n")
		urgent := &slurmJob{slurmCluster: j.slurmCluster, t: t, dir: j.dir}
		urgent.submit("#!/bin/sh\ncat cleaned >cleaned-before\n", "-w", "n4", "-c", "64", "-p", "high")
		urgent.wantFile("cleaned-before", "stopped 0\n")
		j.starts(2)
		j.wantFile("cleaned", "stopped 0\n")
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

// If Ctrl-C is pressed twice within a second, Slurm sends SIGKILL at once, even with --disable-status. The run is then
// finished as endsKilled describes.
func TestSlurm_srunInterruptedTwice(t *testing.T) {
	for _, flag := range []string{"--no-kill", "--disable-status"} { // with one node, --no-kill stands for no flag
		t.Run(flag[2:], func(t *testing.T) {
			forEachTrack(t, func(t *testing.T, j *slurmJob) {
				write(t, j.dir+"/step.sh", j.graceful("", "./slow"))
				write(t, j.dir+"/slow", strings.ReplaceAll(slurmTarget, "sleep 1;", "sleep 9;"))
				cmd := j.srun("-w", "n1", flag, "./step.sh")
				j.starts(1)
				pause := time.Tick(200 * time.Millisecond)
				until(t, "end by force", func() bool { // on a busy machine, the first two signals may be too far apart
					if pid := j.process("srun"); pid != 0 {
						_ = syscall.Kill(pid, syscall.SIGINT)
					}
					<-pause
					return strings.Contains(content(j.dir+"/out"), "forcing job termination")
				})
				_ = cmd.Wait()
				j.endsKilled()
			})
		})
	}
}

// If a stop takes longer than KillWait, Slurm kills the run. The guard or the epilog then finishes the run.
func TestSlurm_killWait(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		target := `bash -c 'trap "" TERM; echo ready >ready; while :; do sleep 0.1; done'`
		j.submit(j.graceful("--deadline 1h --grace 20s", target), "-w", "n1")
		j.starts(1)
		j.do("scancel", j.id)
		j.endsKilled()
	})
}

// endsKilled waits for the end of a run that Slurm has killed. With proctrack/pgid, Slurm kills graceful's process
// group, and the guard, which is not in that group, finishes the run. With proctrack/cgroup, Slurm kills all processes,
// and the epilog finishes the run. With proctrack/linuxproc, Slurm kills one process after the other, and does not
// always find the guard. So the epilog or the guard finishes the run. If graceful starts a cleanup command before Slurm
// kills graceful, that command counts as interrupted. endsKilled then runs it again.
func (j *slurmJob) endsKilled() {
	j.t.Helper()
	until(j.t, "end of all processes", func() bool { return len(j.processes()) == 0 })
	until(j.t, "cleanup", func() bool {
		if content(j.dir+"/cleaned") == "" && j.track == "linuxproc" {
			if out := j.recover(); strings.Contains(out, "interrupted") {
				j.t.Log(out, j.recover("--retry-interrupted"))
			}
		}
		return content(j.dir+"/cleaned") != ""
	})
	reason, rest, _ := strings.Cut(content(j.dir+"/cleaned"), " ")
	if rest != "0\n" || (j.track == "cgroup") && reason != "recovered" || (j.track == "pgid") && reason == "recovered" {
		j.t.Errorf("under %s cleanup has run as %q", j.track, content(j.dir+"/cleaned"))
	}
}

// recover finishes the run on n1, and returns the output of graceful recover.
func (j *slurmJob) recover(flags ...string) string {
	j.t.Helper()
	if m := regexp.MustCompile(`StepId=(\d+)`).FindStringSubmatch(content(j.dir + "/out")); m != nil {
		j.id = m[1]
	}
	words := j.user(append([]string{"graceful", "recover", "--name", "job-" + j.id, "--state-dir",
		j.slurmCluster.dir + "/n1/var-tmp/graceful-nobody"}, flags...)...)
	out, _ := output(words[0], words[1:]...)
	return out
}

// If Slurm signals only graceful, the on-stop command runs first with each ProctrackType. The signal comes from
// scancel, or some time before the time limit.
func TestSlurm_batchSignal(t *testing.T) {
	for _, how := range []string{"scancel", "limit"} {
		t.Run(how, func(t *testing.T) {
			forEachTrack(t, func(t *testing.T, j *slurmJob) {
				flags := []string{"-w", "n2"}
				if how == "limit" { // the limit is a minute, and the signal comes a minute before it
					flags = append(flags, "--time", "1", "--signal", "B:TERM@60")
				}
				j.submit(j.graceful("--remap-exit 3=0 --on-stop 'sleep 0.5; echo drained >>log'", "./target"), flags...)
				j.starts(1)
				if how == "scancel" {
					j.do("scancel", "--batch", "--signal", "TERM", j.id)
				}
				j.ends("stopped 0\n")
				j.wantFile("log", "drained\nTERM\n")
				j.becomes("COMPLETED") // without --remap-exit, the status of the target would make the job FAILED
			})
		})
	}
}

// killGraceful kills graceful, but not the guard.
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

// graceful is killed in a batch job. docs/engines/slurm.md describes which process finishes the run.
func TestSlurm_gracefulKilled(t *testing.T) {
	for _, node := range []string{"n1", "n2"} {
		t.Run(map[bool]string{true: "epilog", false: "none"}[node == "n1"], func(t *testing.T) {
			forEachTrack(t, func(t *testing.T, j *slurmJob) {
				j.submit(j.graceful("", "./target"), "-w", node)
				j.starts(1)
				j.killGraceful()
				j.becomes("FAILED")
				until(t, "end of all processes", func() bool { return len(j.processes()) == 0 })
				want := "orphaned 0\n" // the guard finishes the run
				if j.track == "cgroup" {
					want = map[string]string{"n1": "recovered 0\n"}[node] // Slurm also kills the guard
				}
				j.wantFile("cleaned", want)
			})
		})
	}
}

// The node crashes. The job starts again there, and first finishes the killed run.
func TestSlurm_nodeCrash(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		j.submit(j.graceful("", "./target"), "-w", "n3", "--requeue")
		j.starts(1)
		j.crash(t, "n3")
		if left := j.processes(); len(left) > 0 || exists(j.dir+"/cleaned") {
			t.Errorf("after the crash %d processes, cleanup %q", len(left), content(j.dir+"/cleaned"))
		}
		j.do("scontrol", "update", "NodeName=n3", "State=DOWN", "Reason=crash") // Slurm does so itself after SlurmdTimeout
		j.start(t, "n3")
		j.starts(2)
		j.wantFile("cleaned", "recovered 0\n")
		j.do("scancel", j.id)
		j.ends("recovered 0\nstopped 1\n")
	})
}
