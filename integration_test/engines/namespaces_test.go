//go:build engines

package engines

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// holdScript keeps namespaces alive for an engine without a daemon. It creates the engine's directories below $1; the
// user $2 owns them, except tmp. It unmounts a cgroup v2 beside cgroups v1, because crun refuses that combination.
const holdScript = `set -e
mount --make-rshared /
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
mkdir -p "$1/tmp" "$1/run" "$1/home"
if [ "$2" != root ]; then chown "$2:" "$1/run" "$1/home"; chmod 700 "$1/run"; fi
touch "$1/ready"
exec tini-static sleep infinity # a PID 1 that reaps: else Podman waits for some of its processes
`

// hold runs a script as PID 1 of new namespaces, and waits until the script has created the file ready in dir.
// namespaces contains flags of unshare(1). All processes in the namespaces end with the test. hold returns the pid of
// the script.
func hold(t *testing.T, namespaces []string, dir, script string, args ...string) (pid string) {
	t.Helper()
	words := append(namespaces, "--pid", "--fork", "--kill-child", "sh", script)
	holder := exec.Command("unshare", append(words, args...)...)
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill() // this also ends its child (--kill-child), which is PID 1
		_ = holder.Wait()
		until(t, "end of the namespaces", func() bool { return pid == "" || !exists("/proc/"+pid) })
	})
	until(t, "namespaces", func() bool { return exists(dir + "/ready") })
	pid, _ = output("pgrep", "-P", strconv.Itoa(holder.Process.Pid))
	return pid
}

// holdEngine keeps namespaces alive for an engine without a daemon, with directories for the user below dir. It returns
// the beginning of a command line (nsenter(1)) that runs a command in these namespaces.
func holdEngine(t *testing.T, dir, user string) (command []string) {
	t.Helper()
	write(t, dir+"/hold.sh", holdScript)
	pid := hold(t, []string{"--mount", "--mount-proc"}, dir, dir+"/hold.sh", dir, user)
	return []string{"nsenter", "-t", pid, "-m", "-p"}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
