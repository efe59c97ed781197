//go:build engines

package engines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// network is a network of machines. Each machine is a User Mode Linux, which is a kernel that runs as a process. The
// root file system of the machines contains graceful.
type network struct {
	t      *testing.T
	dir    string
	holder string // pid of a process in the namespace of the network
}

// networkScript creates a network for three machines.
const networkScript = `set -e
ip link set lo up
ip link add bridge type bridge
ip link set bridge up
for n in 1 2 3; do ip tuntap add dev tap$n mode tap; ip link set tap$n master bridge; ip link set tap$n up; done
touch "$1/ready"
exec tini-static sleep infinity
`

// machineScript is PID 1 of each machine. It runs the scripts 1, 2, ... from a directory of the host.
const machineScript = `#!/bin/sh
export PATH=/bin LD_LIBRARY_PATH=/lib64
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
for dir in run tmp var/lib mnt; do mount -t tmpfs none /$dir; done
mkdir /run/commands
for word in $(cat /proc/cmdline); do
	case $word in n=*) n=${word#n=};; commands=*) commands=${word#commands=};; esac
done
mount -t hostfs -o $commands none /run/commands
for module in /lib/modules/*; do insmod $module || exit; done
ip link set lo up; ip addr add 10.9.0.$n/24 dev vec0; ip link set vec0 up
hostname machine$n # NFS takes two clients with one name for the same
printf '%032x\n' $n >/run/machine-id; mount --bind /run/machine-id /etc/machine-id
cd /run/commands; touch up; i=1
while :; do
	if [ -e $i ]; then sh ./$i >$i.out 2>&1 </dev/null; echo $? >status; mv status $i.status; i=$((i+1)); fi
	sleep 0.02
done
`

// nfsModules are the kernel modules that NFS needs, in the order in which they must be loaded.
var nfsModules = strings.Fields(`lib/oid_registry net/dns_resolver/dns_resolver net/sunrpc/sunrpc
	net/sunrpc/auth_gss/auth_rpcgss fs/nfs_common/grace fs/lockd/lockd fs/nfs_common/nfs_acl fs/netfs/netfs
	fs/fscache/fscache fs/nfs/nfs fs/nfs/nfsv4 fs/nfsd/nfsd`)

// newNetwork creates a network, and a root file system for its machines.
func newNetwork(t *testing.T) *network {
	t.Helper()
	needCommands(t, "linux.uml", "rpcbind", "busybox", "tini-static", "unshare", "nsenter", "ip", "ldd")
	modules, _ := filepath.Glob("/usr/lib/uml/modules/*/kernel")
	if len(modules) != 1 || !exists("/dev/net/tun") {
		t.Skip("no modules of User Mode Linux, or no /dev/net/tun")
	}
	archive, err := rootFS()
	if err != nil {
		t.Fatal(err)
	}
	n := &network{t: t, dir: t.TempDir()}
	if out, ok := output("sh", "-ec", `mkdir "$1/root"; cd "$1/root"; tar xf "$2"
		mkdir -p proc sys dev run var/lib mnt etc lib/modules lib64; touch etc/machine-id
		cp "$(which rpcbind)" bin; ldd bin/rpcbind | grep -o '/[^ ]*' | xargs -I{} cp -L {} lib64
		echo 'root:x:0:0::/:/bin/sh' >etc/passwd
		echo '_rpc:x:1:1::/:/bin/sh' >>etc/passwd
		printf '%s\n' 'udp tpi_clts v inet udp - -' 'tcp tpi_cots_ord v inet tcp - -' 'local tpi_cots_ord - loopback - - -' \
			>etc/netconfig`, "sh", n.dir, archive); !ok {
		t.Fatal(out)
	}
	for i, module := range nfsModules {
		to := fmt.Sprintf("%s/root/lib/modules/%02d-%s.ko", n.dir, i, filepath.Base(module))
		if out, ok := output("cp", modules[0]+"/"+module+".ko", to); !ok {
			t.Skip(out)
		}
	}
	write(t, n.dir+"/root/init", machineScript)
	write(t, n.dir+"/network.sh", networkScript)
	n.holder = hold(t, []string{"--net"}, n.dir, n.dir+"/network.sh", n.dir)
	return n
}

// machine is a machine in a network. Its address is 10.9.0.number.
type machine struct {
	*network
	number   int
	commands string    // the directory that contains its scripts
	count    int       // number of its scripts
	kernel   *exec.Cmd // unshare(1), whose child is the kernel
}

// boot boots a machine, which is ended after the test.
func (n *network) boot(number int) *machine {
	n.t.Helper()
	m := &machine{network: n, number: number}
	var err error
	if m.commands, err = os.MkdirTemp(n.dir, "machine"); err != nil {
		n.t.Fatal(err)
	}
	m.kernel = exec.Command("nsenter", "-t", n.holder, "-n", "unshare", "--pid", "--fork", "--kill-child", "linux.uml",
		"mem=192M", "rootfstype=hostfs", "rootflags="+n.dir+"/root", "rw", "init=/init", "con=null", "quiet",
		"uml_dir="+m.commands+"/uml", fmt.Sprintf("vec0:transport=tap,ifname=tap%d,depth=64", number),
		fmt.Sprintf("n=%d", number), "commands="+m.commands)
	m.kernel.Env = append(os.Environ(), "TMPDIR="+m.commands)
	log, err := os.Create(m.commands + "/log")
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	m.kernel.Stdout, m.kernel.Stderr = log, log
	if err := m.kernel.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(m.crash)
	return m
}

// crash ends a machine as a loss of power does.
func (m *machine) crash() {
	if m.kernel.ProcessState == nil {
		_ = m.kernel.Process.Kill() // unshare(1); --kill-child also ends its child, the kernel
		_ = m.kernel.Wait()
	}
}

// waitUp waits until a machine has booted. If the machine ends instead, waitUp skips the test.
func (m *machine) waitUp() {
	m.t.Helper()
	until(m.t, "machine", func() bool {
		if m.processes() == "" {
			m.t.Skipf("User Mode Linux does not run here: %s", content(m.commands+"/log"))
		}
		return exists(m.commands + "/up")
	})
}

// processes returns the pid of the machine's kernel on the host, or "" if the machine has ended.
func (m *machine) processes() string {
	pids, _ := output("pgrep", "-P", strconv.Itoa(m.kernel.Process.Pid))
	return pids
}

// signal sends the signal STOP or CONT, which suspends or resumes a machine.
func (m *machine) signal(name string) {
	m.t.Helper()
	if out, ok := output("kill", append([]string{"-" + name}, strings.Fields(m.processes())...)...); !ok {
		m.t.Fatal(out)
	}
}

// connect connects a machine to the network, or disconnects it.
func (m *machine) connect(connected bool) {
	m.t.Helper()
	words := []string{"-t", m.holder, "-n", "ip", "link", "set", fmt.Sprint("tap", m.number), "nomaster"}
	if connected {
		words = append(words[:len(words)-1], "master", "bridge")
	}
	if out, ok := output("nsenter", words...); !ok {
		m.t.Fatal(out)
	}
}

// begin starts a script on a machine. It returns a function that waits for the end of the script, and returns the
// output and the status.
func (m *machine) begin(script string) (end func() (string, string)) {
	m.t.Helper()
	m.count++
	path := filepath.Join(m.commands, strconv.Itoa(m.count))
	write(m.t, path+".new", script)
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
	return func() (string, string) {
		m.t.Helper()
		ended := func() bool { return exists(path + ".status") }
		defer func() {
			if !ended() {
				m.t.Logf("the script has written so far:\n%s", content(path+".out"))
			}
		}()
		until(m.t, "end of a script: "+script, ended)
		return content(path + ".out"), strings.TrimSpace(content(path + ".status"))
	}
}

// run runs a script on a machine, and returns the output. It fails the test unless the status is the wanted one and the
// output contains all wanted texts.
func (m *machine) run(script, wantStatus string, want ...string) string {
	m.t.Helper()
	out, status := m.begin(script)()
	if status != wantStatus {
		m.t.Fatalf("on machine %d the status is %s, want %s:\n%s\n%s", m.number, status, wantStatus, script, out)
	}
	for _, text := range want {
		if !strings.Contains(out, text) {
			m.t.Errorf("on machine %d it wrote %q, which has no %q:\n%s", m.number, out, text, script)
		}
	}
	return out
}
