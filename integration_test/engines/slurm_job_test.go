//go:build engines

package engines

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// slurmJob is a job of an ordinary user.
type slurmJob struct {
	*slurmCluster
	t   *testing.T
	dir string // the working directory of the job, and the value of $TEST in all its processes
	id  string // "": not submitted
}

// forEachTrack runs a test in the cluster of each ProctrackType.
func forEachTrack(t *testing.T, test func(t *testing.T, j *slurmJob)) {
	needCommands(t, "slurmctld", "slurmd", "munged", "unshare", "nsenter", "setpriv", "busybox", "tini-static")
	t.Parallel()
	for _, track := range []string{"linuxproc", "pgid", "cgroup"} {
		t.Run(track, func(t *testing.T) {
			t.Parallel()
			c, err := slurmClusters[track]()
			if errors.Is(err, errNoFreezer) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			test(t, newSlurmJob(t, c))
		})
	}
}

// newSlurmJob creates a directory for a job. It does not submit the job.
func newSlurmJob(t *testing.T, c *slurmCluster) *slurmJob {
	t.Helper()
	name := strings.Trim(names.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	j := &slurmJob{slurmCluster: c, t: t, dir: filepath.Join(c.dir, "work", name)}
	write(t, j.dir+"/target", slurmTarget)
	if err := os.Chmod(j.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			job, _ := j.output("scontrol", "show", "job", j.id)
			t.Logf("%s\n%s\nleft: %v", job, content(j.dir+"/out"), j.processes())
		}
		if j.id != "" {
			j.output("scancel", "--full", "--signal=KILL", j.id)
			j.output("scancel", j.id)
		}
		for _, pid := range j.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return j
}

// slurmTarget is the script of a target that has a daemon and takes time to stop.
const slurmTarget = `#!/bin/bash
(setsid sleep 1000 &)
for sig in TERM INT; do trap "echo $sig >>log; sleep 1; exit 3" $sig; done
echo ready >>ready
while :; do sleep 0.1; done
`

// graceful returns a batch script like that of the page, with further flags for graceful.
func (j *slurmJob) graceful(flags, target string) string {
	return `#!/bin/bash
exec graceful run -v --state-dir /var/tmp/graceful-$SLURM_JOB_USER --name job-$SLURM_JOB_ID \
	--deadline 10s --on-exit-timeout 3s --on-exit 'echo $GRACEFUL_REASON ${SLURM_RESTART_COUNT:-0} >>cleaned' \
	` + flags + ` -- ` + target + "\n"
}

// user returns a command that runs as an ordinary user in the cluster's namespaces, in the directory of the job.
func (j *slurmJob) user(args ...string) []string {
	return j.inside(append([]string{"setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "env", "-i",
		"-C", j.dir, "TEST=" + j.dir, "SLURM_CONF=" + j.slurmCluster.dir + "/slurm.conf",
		"PATH=" + filepath.Dir(binary) + ":" + os.Getenv("PATH")}, args...)...)
}

// submit submits a batch script, and sets the id of the job.
func (j *slurmJob) submit(script string, flags ...string) {
	j.t.Helper()
	write(j.t, j.dir+"/job.sh", script)
	args := append([]string{"sbatch", "--parsable", "--output", "out", "--open-mode", "append"}, flags...)
	words := j.user(append(args, "job.sh")...)
	out, ok := output(words[0], words[1:]...)
	if !ok {
		j.t.Fatal(out)
	}
	j.id = out
}

// do runs a command as root in the cluster's namespaces, and fails the test unless it succeeds. It returns the output.
func (j *slurmJob) do(args ...string) string {
	j.t.Helper()
	out, ok := j.slurmCluster.output(args...)
	if !ok {
		j.t.Fatalf("%q failed:\n%s", args, out)
	}
	return out
}

// state returns the state of the job.
func (j *slurmJob) state() string {
	j.t.Helper()
	job := j.do("scontrol", "-o", "show", "job", j.id)
	if m := regexp.MustCompile(`JobState=(\w+)`).FindStringSubmatch(job); m != nil {
		return m[1]
	}
	return ""
}

// becomes waits until the job has a state.
func (j *slurmJob) becomes(state string) {
	j.t.Helper()
	until(j.t, state, func() bool { return j.state() == state })
}

// wantFile waits until a file of the job has as many lines as the wanted text. It fails the test unless the file has
// the wanted content then.
func (j *slurmJob) wantFile(file, want string) {
	j.t.Helper()
	lines := func() int { return strings.Count(content(j.dir+"/"+file), "\n") }
	until(j.t, file, func() bool { return lines() >= strings.Count(want, "\n") })
	if got := content(j.dir + "/" + file); got != want {
		j.t.Errorf("%s is %q, want %q", file, got, want)
	}
}

// starts waits until the target was started at least that many times.
func (j *slurmJob) starts(times int) {
	j.t.Helper()
	until(j.t, "start of the target", func() bool { return strings.Count(content(j.dir+"/ready"), "\n") >= times })
}

// ends waits until no process of the job is left. It fails the test unless the cleanup commands have written this text.
func (j *slurmJob) ends(cleaned string) {
	j.t.Helper()
	until(j.t, "end of all processes", func() bool { return len(j.processes()) == 0 })
	j.wantFile("cleaned", cleaned)
}

// processes returns the pids of all processes that have $TEST of this job.
func (j *slurmJob) processes() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		if strings.Contains("\x00"+content(path), "\x00TEST="+j.dir+"\x00") {
			if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// process returns the lowest pid of the job's processes with that name, or 0.
func (j *slurmJob) process(name string) (found int) {
	for _, pid := range j.processes() {
		if content("/proc/"+strconv.Itoa(pid)+"/comm") == name+"\n" && (found == 0 || pid < found) {
			found = pid
		}
	}
	return found
}

// srun starts srun as the ordinary user, with its output in the file out.
func (j *slurmJob) srun(args ...string) *exec.Cmd {
	j.t.Helper()
	words := j.user(append([]string{"srun"}, args...)...)
	cmd := exec.Command(words[0], words[1:]...)
	out, err := os.Create(j.dir + "/out")
	if err != nil {
		j.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	return cmd
}
