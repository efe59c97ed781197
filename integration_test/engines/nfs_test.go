//go:build engines

package engines

import (
	"strings"
	"testing"
	"time"
)

// nfsServer is a script that exports /run/export of a machine by NFS 4.2, without the programs of an NFS server.
const nfsServer = `set -e
mkdir -m 700 /run/export; mkdir -p /var/lib/nfs/v4recovery /run/rpcbind
mount -t nfsd nfsd /proc/fs/nfsd
never=2147483647
for n in 1 2 3; do echo "nfsd 10.9.0.$n $never all" >/proc/net/rpc/auth.unix.ip/channel; done
echo "all /run/export $never 9218 65534 65534 0" >/proc/net/rpc/nfsd.export/channel # fsid, no_subtree_check, insecure
printf 'all 1 \\x00000000 %s /run/export\n' $never >/proc/net/rpc/nfsd.fh/channel
rpcbind -w
echo -2 -3 +4 >/proc/fs/nfsd/versions
echo 10 >/proc/fs/nfsd/nfsv4leasetime # the shortest one
echo tcp 2049 >/proc/fs/nfsd/portlist
echo 2 >/proc/fs/nfsd/threads
echo Y >/proc/fs/nfsd/v4_end_grace`

// nfsMount mounts the export on a machine, and creates the state directory of the page. % stands for the number of the
// machine.
const nfsMount = `mount -t nfs4 -o addr=10.9.0.1,clientaddr=10.9.0.%,vers=4.2 10.9.0.1:/ /mnt
mkdir -p -m 700 /mnt/shop`

// nfsRun starts a run with the state directory of the page, and waits until the target is ready.
const nfsRun = `rm -f /mnt/cleaned /run/log; cat >/run/serve <<'END'
trap 'echo asked >>/run/log; exit' TERM; echo ready >>/run/log; while :; do sleep 1000 & wait; done
END
/graceful run --grace 5s --state-dir /mnt/shop --name shop-1 \
	--on-exit 'echo $(hostname) $GRACEFUL_REASON >>/mnt/cleaned' -- sh /run/serve >>/run/log 2>&1 &
echo $! >/run/pid
until grep -q ready /run/log; do sleep 0.1; done`

// nfsStop stops the run of nfsRun, and writes its log.
const nfsStop = `kill $(cat /run/pid); while [ -e /proc/$(cat /run/pid) ]; do sleep 0.1; done; cat /run/log`

// nfsCluster consists of an NFS server and two clients.
type nfsCluster struct {
	*network
	server, a, b *machine
	other        string // the command of the page with which one machine finishes the run of another one
}

// newNFS boots the machines, exports a directory of the first one, and mounts the directory on the other two.
func newNFS(t *testing.T) *nfsCluster {
	t.Helper()
	n := newNetwork(t)
	c := &nfsCluster{network: n, server: n.boot(1), a: n.boot(2), b: n.boot(3)}
	for _, m := range []*machine{c.server, c.a, c.b} {
		m.waitUp()
	}
	c.server.run(nfsServer, "0")
	c.mount(c.a)
	c.mount(c.b)
	for _, lines := range readPage(t, "../../docs/engines/fleets.md", "/var/nfs", "/mnt").commands {
		for _, line := range lines {
			if strings.Contains(line, "--from-other-machines") {
				c.other = "/" + line
			}
		}
	}
	if c.other != "/graceful recover --state-dir /mnt/shop --from-other-machines" {
		t.Fatalf("the page has the command %q", c.other)
	}
	return c
}

func (c *nfsCluster) mount(m *machine) {
	c.t.Helper()
	m.run(strings.ReplaceAll(nfsMount, "%", string('0'+rune(m.number))), "0")
}

// cleaned fails the test unless the cleanup commands of all machines together have written this text.
func (c *nfsCluster) cleaned(want string) {
	c.t.Helper()
	if got := c.b.run("cat /mnt/cleaned", "0"); got != want {
		c.t.Errorf("the cleanup commands wrote %q, want %q", got, want)
	}
}

// afterLease runs a script on machine b repeatedly, until the script exits with the wanted status. The server frees the
// locks of a lost machine when the lease of that machine has expired. Before that, the server sends that machine a
// request and waits for an answer.
func (c *nfsCluster) afterLease(script, wantStatus string) {
	c.t.Helper()
	for late := time.Now().Add(4 * patience); ; time.Sleep(200 * time.Millisecond) {
		out, status := c.b.begin(script)()
		if status == wantStatus {
			return
		}
		if time.Now().After(late) {
			c.t.Fatalf("the lease does not end: the status of %s is %s:\n%s", script, status, out)
		}
	}
}

const (
	nfsRecover = "/graceful recover -v --state-dir /mnt/shop"
	elsewhere  = "it began on another machine, where its processes may live"
)

// The lock of a name is effective between machines. A machine finishes the run of another machine only with
// --from-other-machines.
func TestNFS_lockBetweenMachines(t *testing.T) {
	t.Parallel()
	c := newNFS(t)
	c.a.run("/graceful doctor --state-dir /mnt/shop", "0", "it is on a network")
	// The run is alive.
	c.a.run(nfsRun, "0")
	c.b.run("/graceful run --state-dir /mnt/shop --name shop-1 -- true", "125", "a run named shop-1 lives")
	c.b.run(nfsRecover, "0", "left alone")
	c.b.run(c.other, "0")
	waits := c.b.begin("/graceful run -v --state-dir /mnt/shop --name shop-1 --wait-for-name 10m -- cat /mnt/cleaned")
	c.a.run(nfsStop, "0", "asked")
	if out, status := waits(); status != "0" || !strings.Contains(out, "machine2 stopped\n") {
		t.Errorf("status %s; it wrote %q", status, out)
	}
	// All processes of graceful are killed.
	c.a.run(nfsRun, "0")
	c.a.run("kill -9 $(pidof graceful)", "0")
	c.b.run(nfsRecover, "1", elsewhere)
	c.b.run("/graceful run --state-dir /mnt/shop --name shop-1 -- true", "125", elsewhere)
	c.a.run(nfsRecover+"; ps", "0", "recovering run")
	c.cleaned("machine2 recovered\n")
	// The machine is lost. When its lease has expired, its locks are free.
	c.a.run(nfsRun, "0")
	c.a.crash()
	began := time.Now()
	c.afterLease(nfsRecover, "1")
	t.Logf("the locks of a machine that is lost, with a lease of 10 s, are free after %.0f s", time.Since(began).Seconds())
	c.b.run(nfsRecover, "1", elsewhere)
	c.b.run(c.other, "0")
	c.cleaned("machine3 recovered\n")
}

// The page warns of this case: a user asserts that a machine is lost, but the machine is only disconnected.
func TestNFS_cutOff(t *testing.T) {
	t.Parallel()
	c := newNFS(t)
	// While the server does not answer, a stop waits.
	c.a.run(nfsRun, "0")
	c.server.signal("STOP")
	c.a.run("kill $(cat /run/pid); sleep 3; grep asked /run/log", "1")
	c.server.signal("CONT")
	c.a.run("while [ -e /proc/$(cat /run/pid) ]; do sleep 0.1; done; cat /run/log", "0", "asked")
	c.cleaned("machine2 stopped\n")
	// The disconnected machine has lost its lock, but no recover has finished its run.
	c.a.run(nfsRun, "0")
	c.a.connect(false)
	c.afterLease(nfsRecover, "1")
	c.a.connect(true)
	c.a.run("ls /mnt/shop; "+nfsStop, "0", "asked",
		"input/output error (should graceful be killed now, a cleanup command may run twice)")
	c.cleaned("machine2 stopped\n")
	c.b.run(nfsRecover+"; ls /mnt/shop", "0")
	// The assertion of the user was false. So the commands run twice, and graceful logs that it cannot write to its
	// ledger, which recover has removed.
	c.a.run(nfsRun, "0")
	c.a.connect(false)
	c.afterLease(c.other+"; grep -q machine3 /mnt/cleaned", "0")
	c.a.connect(true)
	c.a.run("ls /mnt/shop; "+nfsStop, "0", "stale file handle")
	c.cleaned("machine3 recovered\nmachine2 stopped\n")
	// If a machine has no id, graceful cannot distinguish a disconnected machine from another one. That also holds for
	// a run whose graceful is PID 1 of a container.
	c.a.run("umount /etc/machine-id; "+strings.Replace(nfsRun, "/graceful run", "unshare -p -f -m /bin/sh -c "+
		`'mount -t proc proc /proc; exec "$@"' sh /graceful run`, 1), "0")
	c.a.connect(false)
	c.afterLease(nfsRecover, "1")
	c.b.run(nfsRecover, "1", "or on another machine, where its processes may live")
	c.a.connect(true)
	c.a.run("ls /mnt/shop; kill $(pidof graceful); while pidof graceful; do sleep 0.1; done; cat /run/log", "0",
		"input/output error")
	c.cleaned("machine2 stopped\n")
}
