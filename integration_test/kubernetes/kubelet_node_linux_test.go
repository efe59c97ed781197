package kubernetes

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// patience is the time limit for each wait in the tests.
const patience = 3 * time.Minute

// nodeScript runs containerd and the kubelet in new namespaces. It starts the kubelet again when the kubelet ends. Both
// end with the namespaces. Arguments: a directory, the kubelet, and the cgroup of the node. The kubelet would change
// sysctls, and some directories outside of that directory. So the script mounts other file systems over them.
const nodeScript = `set -e
if [ "$4" != inside ]; then
	exec unshare --mount --pid --net --fork --kill-child --mount-proc sh "$0" "$1" "$2" "$3" inside
fi
cd "$1"
for dir in /run /var/log /var/lib; do mount -t tmpfs -o mode=755 none $dir; done
cover() { mkdir -p sys; echo $2 >sys/$(basename $1); mount --bind sys/$(basename $1) /proc/sys/$1; }
cover vm/overcommit_memory 1
cover vm/panic_on_oom 0
cover kernel/panic 10
cover kernel/panic_on_oops 1
cover kernel/keys/root_maxkeys 1000000
cover kernel/keys/root_maxbytes 25000000
ip link set lo up
ip addr add 10.111.0.1/32 dev lo
ip route add default dev lo src 10.111.0.1
containerd -c "$1/containerd.toml" >containerd.log 2>&1 &
until ctr -a "$1/containerd.sock" version; do sleep 0.1; done >/dev/null 2>&1
ctr -a "$1/containerd.sock" -n k8s.io images import --snapshotter native images.tar
while :; do
	"$2" --config="$1/kubelet.yaml" --root-dir="$1/kubelet" --cert-dir="$1/kubelet/pki" --hostname-override=node \
		--node-ip=10.111.0.1 --v=2 >>kubelet.log 2>&1 || true
done
`

const containerdConfig = `version = 2
root = "DIR/root"
state = "DIR/run"
[grpc]
  address = "DIR/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: 11250
readOnlyPort: 11255
healthzPort: 11248
authentication:
  anonymous: {enabled: true}
  webhook: {enabled: false}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://DIR/containerd.sock
imageServiceEndpoint: unix://DIR/containerd.sock
staticPodPath: DIR/manifests
podLogsDir: DIR/logs
volumePluginDir: DIR/plugins
cgroupDriver: cgroupfs
cgroupRoot: CGROUP
failCgroupV1: false
failSwapOn: false
fileCheckFrequency: 1s
syncFrequency: 1s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
`

// node is a kubelet with its own containerd, without an API server.
type node struct {
	dir    string
	cgroup string // its path in each hierarchy of cgroups
	cmd    *exec.Cmd
	init   string // pid of PID 1 inside, as this machine sees it
}

// boot boots a node, and shuts it down after the test.
func boot(t *testing.T, kubelet string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "graceful-kubelet-")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{dir: dir, cgroup: "/" + filepath.Base(dir)}
	t.Cleanup(func() { n.shutDown(t) })
	for _, name := range []string{"manifests", "logs", "plugins", "kubelet"} {
		n.write(t, name+"/.keep", "")
	}
	n.write(t, "node.sh", nodeScript)
	n.write(t, "containerd.toml", strings.ReplaceAll(containerdConfig, "DIR", dir))
	n.write(t, "kubelet.yaml", strings.NewReplacer("DIR", dir, "CGROUP", n.cgroup).Replace(kubeletConfig))
	if err := writeImages(dir + "/images.tar"); err != nil {
		t.Fatal(err)
	}
	for _, hierarchy := range n.cgroups("") {
		if err := os.Mkdir(hierarchy+n.cgroup, 0o755); err != nil {
			t.Fatal(err)
		}
		// Fill the files, because they are empty in a new cgroup, and then no process may enter the cgroup.
		for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} {
			if data, err := os.ReadFile(hierarchy + file); err == nil {
				_ = os.WriteFile(hierarchy+n.cgroup+file, data, 0)
			}
		}
	}
	log, err := os.Create(dir + "/node.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	n.cmd = exec.Command("sh", dir+"/node.sh", dir, kubelet, n.cgroup)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // after a timeout, no cleanup function runs
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "kubelet", func() bool {
		out, _ := exec.Command("pgrep", "-P", strconv.Itoa(n.cmd.Process.Pid)).Output()
		n.init = strings.TrimSpace(string(out))
		return n.init != "" && n.get("http://127.0.0.1:11248/healthz") == "ok"
	})
	return n
}

// write writes a file in the directory of the node.
func (n *node) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(n.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// cgroups returns the path of the cgroup below in each mounted hierarchy of cgroups, v1 or v2.
func (n *node) cgroups(below string) (dirs []string) {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup" || f[2] == "cgroup2" {
			dirs = append(dirs, f[1]+below)
		}
	}
	return dirs
}

// get requests a page from the kubelet, in the network namespace of the node. It returns "" if the kubelet does not
// answer.
func (n *node) get(address string, flags ...string) string {
	words := []string{"--target", n.init, "--net", "curl", "--silent", "--insecure", "--max-time", "60"}
	out, _ := exec.Command("nsenter", slices.Concat(words, flags, []string{address})...).Output()
	return string(out)
}

// pods returns the pods of the kubelet, as the kubelet reports them.
func (n *node) pods() (list core.PodList) {
	_ = yaml.Unmarshal([]byte(n.get("http://127.0.0.1:11255/pods")), &list)
	return list
}

// exec runs a command in a container, as kubectl exec does. It returns the output.
func (n *node) exec(pod, container, command string) string {
	address := "https://127.0.0.1:11250/run/default/" + pod + "-node/" + container + "?cmd=" + url.QueryEscape(command)
	return n.get(address, "--request", "POST")
}

// logs returns the output of a container, as kubectl logs does.
func (n *node) logs(pod, container string) string {
	return n.get("https://127.0.0.1:11250/containerLogs/default/" + pod + "-node/" + container)
}

// restartKubelet ends the kubelet, and waits until the node script has started another one.
func (n *node) restartKubelet(t *testing.T) {
	t.Helper()
	kubelet := func() string {
		pids := findProcesses("--config=" + n.dir + "/kubelet.yaml")
		return strings.Join(pids, " ")
	}
	old := kubelet()
	pid, err := strconv.Atoi(old)
	if err != nil {
		t.Fatalf("the kubelet has the pids %q", old)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "another kubelet", func() bool { pid := kubelet(); return pid != "" && pid != old })
}

// shutDown ends all processes of the node, and removes the node.
func (n *node) shutDown(t *testing.T) {
	t.Helper()
	if n.cmd != nil {
		_ = n.cmd.Process.Kill() // the process is unshare(1), which also ends its child (--kill-child), PID 1
		_ = n.cmd.Wait()
	}
	if t.Failed() {
		for _, name := range []string{"node.log", "containerd.log", "kubelet.log"} {
			text, _ := os.ReadFile(filepath.Join(n.dir, name))
			t.Logf("%s ends:\n%s", name, text[max(0, len(text)-4000):])
		}
	}
	until(t, "removal of the node", func() bool {
		for _, dir := range n.cgroups(n.cgroup) {
			n.removeCgroup(dir)
			if _, err := os.Stat(dir); err == nil {
				return false
			}
		}
		return os.RemoveAll(n.dir) == nil
	})
}

// removeCgroup removes a cgroup and the cgroups below it, except those that contain processes.
func (n *node) removeCgroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			n.removeCgroup(filepath.Join(dir, entry.Name()))
		}
	}
	_ = syscall.Rmdir(dir)
}

// until polls happened until happened returns true. After patience, until fails the test.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !happened(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("no %s in %v", what, patience)
		}
	}
}

// findProcesses returns the pids of the processes with a word in their command line, in the PID namespace of this
// machine.
func findProcesses(word string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if data, _ := os.ReadFile(file); slices.Contains(strings.Split(string(data), "\x00"), word) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
