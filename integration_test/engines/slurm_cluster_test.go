//go:build engines

package engines

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// slurmKillWait is the time between SIGTERM and SIGKILL in each cluster, in seconds.
const slurmKillWait = 15

// slurmScript boots a cluster in new namespaces. The processes of the cluster end with the namespaces, and the cluster
// has its own ports. Arguments: the directory of the cluster, the list of its nodes, and a cgroup of the v1 freezer or
// nothing. The script also adds an address that is not a loopback address, because otherwise getaddrinfo(3) resolves no
// name.
const slurmScript = `set -e
if [ "$4" != inside ]; then
	[ -z "$3" ] || echo 0 >"$3/cgroup.procs"
	exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child --mount-proc sh "$0" "$1" "$2" "$3" inside
fi
mount --make-rprivate /
hostname localhost
busybox ip link set lo up
busybox ip addr add 192.0.2.1/32 dev lo
if [ -n "$3" ]; then
	mount -t tmpfs none /sys/fs/cgroup
	mkdir /sys/fs/cgroup/freezer
	mount -t cgroup -o freezer none /sys/fs/cgroup/freezer
fi
setpriv --reuid munge --regid munge --init-groups munged --foreground --force --socket "$1/munge/socket" \
	--pid-file "$1/munge/pid" --log-file "$1/munge/log" --seed-file "$1/munge/seed" --key-file "$1/munge/key" &
until [ -S "$1/munge/socket" ]; do sleep 0.05; done
slurmctld -D -c -f "$1/slurm.conf" &
for node in $2; do unshare --mount sh "$1/node.sh" "$1" $node & done
exec tini-static sleep infinity # a PID 1 that reaps
`

// slurmNodeScript is the script of a node. A node has a separate mount namespace, and in that namespace a separate
// /var/tmp, which outlives the node.
const slurmNodeScript = `set -e
mount --bind "$1/$2/var-tmp" /var/tmp
exec slurmd -D -c -N "$2" -f "$1/slurm.conf"
`

// slurmEpilog calls the epilog of the page on two nodes only. The other nodes show what happens without an epilog.
const slurmEpilog = `#!/bin/sh
case $SLURMD_NODENAME in n1 | n5) exec sh %s/page-epilog ;; esac
`

// slurmConf allows up to 64 jobs on each node, even if the machine has few processors. A requeued job starts again when
// its credential has expired.
const slurmConf = `ClusterName=graceful
SlurmctldHost=localhost
SlurmUser=root
AuthInfo=socket=%[1]s/munge/socket,cred_expire=5
ProctrackType=proctrack/%[2]s
KillWait=%[3]d
Epilog=%[1]s/epilog
MpiDefault=none
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation=%[1]s/state
SlurmdSpoolDir=%[1]s/%%n/spool
SlurmctldPidFile=%[1]s/slurmctld.pid
SlurmdPidFile=%[1]s/%%n/slurmd.pid
SlurmctldLogFile=%[1]s/slurmctld.log
SlurmdLogFile=%[1]s/%%n/slurmd.log
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,builtin_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-5] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[17001-17005] CPUs=64 State=UNKNOWN
PartitionName=low Nodes=n[1-5] Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n[1-5] PriorityTier=10 PreemptMode=OFF
PartitionName=page Nodes=n5
`

// slurmCluster is a cluster with five nodes. n1 has the epilog of the page, and n2 has none. n3 crashes. On n4 jobs are
// preempted. n5 has the epilog, and is for the commands of the page.
type slurmCluster struct {
	dir   string
	track string // value of ProctrackType
	pid   string // pid of its PID 1, outside of its namespaces
	cmd   *exec.Cmd
	log   bytes.Buffer // the output of cmd
	cg    string       // a cgroup of the v1 freezer; "": track is not cgroup
}

var slurmNodes = []string{"n1", "n2", "n3", "n4", "n5"}

// slurmClusters contains a function for each ProctrackType, which boots the cluster at the first call and returns it.
var slurmClusters = map[string]func() (*slurmCluster, error){
	"linuxproc": sync.OnceValues(func() (*slurmCluster, error) { return bootSlurm("linuxproc") }),
	"pgid":      sync.OnceValues(func() (*slurmCluster, error) { return bootSlurm("pgid") }),
	"cgroup":    sync.OnceValues(func() (*slurmCluster, error) { return bootSlurm("cgroup") }),
}

// errNoFreezer means that proctrack/cgroup does not work on this machine.
var errNoFreezer = errors.New("proctrack/cgroup is tested with cgroup v1, whose freezer is not mounted here")

// bootSlurm boots a cluster with a ProctrackType, and waits until all nodes are idle.
func bootSlurm(track string) (c *slurmCluster, err error) {
	c = &slurmCluster{track: track}
	if track == "cgroup" {
		m := regexp.MustCompile(`(?m)^\S+ \S+ \S+ / (\S+) .* - cgroup \S+ \S*\bfreezer\b`).
			FindStringSubmatch(content("/proc/self/mountinfo"))
		if m == nil {
			return nil, errNoFreezer
		}
		if c.cg, err = os.MkdirTemp(m[1], "graceful-slurm-"); err != nil {
			return nil, err
		}
	}
	if c.dir, err = os.MkdirTemp("", "graceful-slurm-"); err != nil {
		return nil, err
	}
	atEnd(c.shutDown)
	if err = c.configure(); err != nil {
		return nil, err
	}
	c.cmd = exec.Command("sh", c.dir+"/boot.sh", c.dir, strings.Join(slurmNodes, " "), c.cg)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err = c.cmd.Start(); err != nil {
		return nil, err
	}
	for late := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if c.pid, _ = output("pgrep", "-P", strconv.Itoa(c.cmd.Process.Pid)); c.pid != "" && exists(c.dir+"/n5/slurmd.pid") {
			if idle, _ := c.output("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D"); idle == strconv.Itoa(len(slurmNodes)) {
				return c, nil
			}
		}
		if time.Now().After(late) {
			return nil, fmt.Errorf("Slurm has not booted:\n%s", &c.log)
		}
	}
}

// configure writes the files that a cluster needs into its directory.
func (c *slurmCluster) configure() error {
	munge, _ := output("id", "-u", "munge")
	uid, err := strconv.Atoi(munge)
	if err != nil {
		return fmt.Errorf("the user munge: %s", munge)
	}
	dirs := []string{"munge", "state", "work"}
	for _, node := range slurmNodes {
		dirs = append(dirs, node, node+"/var-tmp")
	}
	for _, dir := range dirs {
		if err := os.Mkdir(filepath.Join(c.dir, dir), 0o755); err != nil {
			return err
		}
		if filepath.Base(dir) == "var-tmp" {
			if err := os.Chmod(filepath.Join(c.dir, dir), 0o777|os.ModeSticky); err != nil {
				return err
			}
		}
	}
	for name, text := range map[string]string{
		"boot.sh":     slurmScript,
		"node.sh":     slurmNodeScript,
		"slurm.conf":  fmt.Sprintf(slurmConf, c.dir, c.track, slurmKillWait),
		"cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n",
		"epilog":      fmt.Sprintf(slurmEpilog, c.dir),
		"page-epilog": slurmPageFile("/etc/slurm/epilog.sh"),
		"munge/key":   strings.Repeat("not a secret ", 100),
	} {
		mode := os.FileMode(0o755)
		if name == "munge/key" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), mode); err != nil {
			return err
		}
	}
	return errors.Join(os.Chown(c.dir+"/munge", uid, -1), os.Chown(c.dir+"/munge/key", uid, -1), os.Chmod(c.dir, 0o755))
}

// shutDown ends the cluster and all of its processes.
func (c *slurmCluster) shutDown() {
	if c.cmd != nil && c.cmd.Process != nil {
		_ = c.cmd.Process.Kill() // the process is unshare(1), which also ends its child (--kill-child), PID 1
		_ = c.cmd.Wait()
	}
	// Also accept a zombie. PID 1 of the cluster becomes a zombie when all other processes of the cluster have ended,
	// and the init of the machine may reap it late.
	for late := time.Now().Add(patience); c.pid != "" && time.Now().Before(late); time.Sleep(10 * time.Millisecond) {
		if status := content("/proc/" + c.pid + "/status"); status == "" || strings.Contains(status, "\nState:\tZ") {
			break
		}
	}
	_ = os.RemoveAll(c.dir)
	if c.cg != "" {
		removeCgroups(c.cg)
	}
}

// output runs a command as root in the cluster's namespaces.
func (c *slurmCluster) output(args ...string) (string, bool) {
	return output("timeout", append([]string{"60"}, c.inside(args...)...)...)
}

// inside returns a command that runs as root in the cluster's namespaces.
func (c *slurmCluster) inside(args ...string) []string {
	nsenter := []string{"nsenter", "-t", c.pid, "-m", "-p", "-n", "-u", "-i", "env", "SLURM_CONF=" + c.dir + "/slurm.conf"}
	return append(nsenter, args...)
}

// crash ends all processes of a node at once. The processes of a node are those in its mount namespace.
func (c *slurmCluster) crash(t *testing.T, node string) {
	t.Helper()
	var space string
	until(t, "pid of the slurmd of "+node, func() bool {
		pid := strings.TrimSpace(content(filepath.Join(c.dir, node, "slurmd.pid")))
		outside := regexp.MustCompile(`(?m)^NSpid:\t\d+\t` + pid + `$`)
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, proc := range all {
			command := content(proc + "/cmdline")
			if strings.Contains(command, c.dir+"/slurm.conf") && outside.MatchString(content(proc+"/status")) {
				space, _ = os.Readlink(proc + "/ns/mnt")
			}
		}
		return space != ""
	})
	if own, _ := os.Readlink("/proc/self/ns/mnt"); space == own {
		t.Fatal("the node has no namespace of its own")
	}
	// Suspend the processes first, so that none of them sees another one end. Do that twice, because a process may fork
	// before it is suspended. Then kill children before their parents, because the kernel continues a suspended process
	// group that becomes orphaned.
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGSTOP, syscall.SIGKILL} {
		pids := membersOf(space)
		slices.Sort(pids)
		for _, pid := range slices.Backward(pids) {
			_ = syscall.Kill(pid, sig)
		}
	}
	until(t, "end of "+node, func() bool { return len(membersOf(space)) == 0 })
}

// membersOf returns the pids of the processes in a mount namespace.
func membersOf(space string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/ns/mnt")
	for _, path := range all {
		if link, _ := os.Readlink(path); link == space {
			if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil && pid > 1 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// start starts a node after a crash.
func (c *slurmCluster) start(t *testing.T, node string) {
	t.Helper()
	start := `unshare --mount sh "$1/node.sh" "$1" "$2" >/dev/null 2>&1 &`
	if out, ok := c.output("sh", "-c", start, "sh", c.dir, node); !ok {
		t.Fatalf("%s does not start: %s", node, out)
	}
}
