package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// peer is a wrapper in the benchmark. graceful itself, no wrapper, and cgroup.kill are peers, too.
type peer struct {
	name string
	// before maps one of the figures launch, signalling, orphans and treeKill to the part of the command line before
	// the target. A peer without an entry does not support the figure. systemCalls uses the entry for launch. threads
	// and memory use the entry for signalling or, without one, for launch.
	before map[string][]string
	// cleanup returns the part of the command line before the target, with n cleanup commands /bin/true. nil: the peer
	// does not support the figure cleaning.
	cleanup func(n int) []string
	// end requests SIGKILL for the tree of a peer that was started for treeKill. pid is the pid of the peer. nil: the
	// peer does not support treeKill.
	end func(pid int) error
}

// The names of the figures, and the names of the peers by whose median a ratio divides.
const (
	launch       = "launch"       // wall time of WRAPPER /bin/true
	signalling   = "signal"       // from kill(2) until the target has the signal
	orphans      = "orphans"      // from the end of a target that leaves dead children until the wrapper's end
	treeKill     = "tree kill"    // from the request to kill the tree until all its processes have ended
	cleaning     = "cleanup"      // wall time of WRAPPER /bin/true with cleanup commands
	threads      = "threads"      // number of threads of all processes of the wrapper, with an idle target
	memory       = "memory"       // Pss_Dirty of all processes of the wrapper, with an idle target
	systemCalls  = "system calls" // number of system calls of a launch, without those of the target
	ratioBase    = "tini-static"  // the base of all figures except treeKill
	treeKillBase = "cgroup.kill"  // the base of treeKill
)

// trapScript runs the target and has an EXIT trap. relayScript also forwards SIGUSR1. The EXIT trap of repeatScript
// runs /bin/true as often as the number that replaces %d.
const (
	trapScript  = `trap /bin/true EXIT; "$@"`
	relayScript = `trap /bin/true EXIT; trap 'kill -USR1 $!' USR1; "$@" &
		while kill -0 $! 2>/dev/null; do wait $!; done`
	repeatScript = `trap 'n=0; while [ $n -lt %d ]; do /bin/true; n=$((n+1)); done' EXIT; "$@"`
)

// allPeers lists all peers except those that need a cgroup. Some of them may be missing on the machine.
func allPeers() []peer {
	return []peer{
		{name: "no wrapper", before: map[string][]string{launch: {}}},
		gracefulPeer("graceful, guard on", "--guard", "on"),
		gracefulPeer("graceful, guard off", "--guard", "off"),
		{name: "graceful, one command", before: map[string][]string{
			launch: gracefulRun("--guard", "on", "--on-exit", `["/bin/true"]`),
		}},
		{name: "minimal Go program", before: map[string][]string{launch: minimal(), signalling: minimal()}},
		initPeer("tini", "tini", "-s", "--"),
		initPeer("tini-static", "tini-static", "-s", "--"),
		{name: "dumb-init", before: map[string][]string{launch: {"dumb-init", "--"}, signalling: {"dumb-init", "--"}}},
		{name: "catatonit", before: map[string][]string{launch: {"catatonit", "--"}, signalling: {"catatonit", "--"}}},
		{name: "timeout", before: map[string][]string{launch: {"timeout", "1000"}}},
		shellPeer("bash"),
		shellPeer("dash"),
		namespacePeer("bwrap", "bwrap", "--dev-bind", "/", "/", "--die-with-parent", "--unshare-pid"),
		namespacePeer("unshare", "unshare", "--pid", "--fork", "--kill-child"),
	}
}

// minimal builds testdata/minimal once, and returns its command line. If the build fails, there is no such program, and
// peersHere lists the peer as missing.
var minimal = sync.OnceValue(func() []string {
	program := filepath.Join(binDir, "minimal")
	if err := buildFrom("./testdata/minimal", program, "-ldflags=-s -w"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return []string{program}
})

func gracefulRun(flags ...string) []string {
	return slices.Concat([]string{plain, "run"}, flags, []string{"--"})
}

func gracefulPeer(name string, flags ...string) peer {
	run := gracefulRun(flags...)
	return peer{
		name: name,
		before: map[string][]string{
			launch: run, signalling: run, orphans: run, treeKill: gracefulRun(append(flags, "--grace", "0")...),
		},
		cleanup: func(n int) []string {
			return gracefulRun(append(flags, slices.Repeat([]string{"--on-exit", `["/bin/true"]`}, n)...)...)
		},
		end: func(pid int) error { return unix.Kill(pid, unix.SIGTERM) },
	}
}

// initPeer returns a peer that forwards signals and adopts orphans.
func initPeer(name string, command ...string) peer {
	return peer{name: name, before: map[string][]string{launch: command, signalling: command, orphans: command}}
}

func shellPeer(name string) peer {
	return peer{
		name: name,
		before: map[string][]string{
			launch: {name, "-c", trapScript, name}, signalling: {name, "-c", relayScript, name},
		},
		cleanup: func(n int) []string { return []string{name, "-c", fmt.Sprintf(repeatScript, n), name} },
	}
}

// namespacePeer returns a peer that forwards no signals. The peer's tree ends with the peer.
func namespacePeer(name string, command ...string) peer {
	return peer{
		name:   name,
		before: map[string][]string{launch: command, orphans: command, treeKill: command},
		end:    func(pid int) error { return unix.Kill(pid, unix.SIGKILL) },
	}
}

// containedPeer returns a graceful that kills the tree by its cgroup.
func containedPeer() peer {
	return peer{
		name:   "graceful, cgroup",
		before: map[string][]string{treeKill: gracefulRun("--guard", "on", "--contain", "cgroup", "--grace", "0")},
		end:    func(pid int) error { return unix.Kill(pid, unix.SIGTERM) },
	}
}

// cgroupPeer returns a peer without a wrapper: the benchmark itself kills the tree by cgroup.kill, which is the fastest
// way to kill a tree.
func cgroupPeer(cgroup string) peer {
	return peer{
		name:   treeKillBase,
		before: map[string][]string{treeKill: inCgroup(cgroup)},
		end:    func(int) error { return os.WriteFile(cgroup+"/cgroup.kill", []byte("1"), 0o644) },
	}
}

// peersHere returns the peers that work on this machine, and the names of the others. For a peer that fails, the name
// includes the reason. If no cgroup can be created, only treeKillBase is named for the two peers that need one.
func peersHere(t testing.TB) (here []peer, missing []string) {
	t.Helper()
	for _, p := range allPeers() {
		command := append(slices.Clone(p.before[launch]), "/bin/true")
		if !has(command[0]) {
			missing = append(missing, p.name)
			continue
		}
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			missing = append(missing, fmt.Sprintf("%s (%v%.100s)", p.name, err, out))
			continue
		}
		here = append(here, p)
	}
	cgroup, err := newCgroup()
	if err != nil {
		return here, append(missing, fmt.Sprintf("%s (%v)", treeKillBase, err))
	}
	t.Cleanup(func() { removeCgroup(cgroup) })
	return append(here, containedPeer(), cgroupPeer(cgroup)), missing
}

// idle returns the command line of a peer with a target that waits. It returns nil if the peer supports neither
// signalling nor launch, or has no wrapper.
func (p peer) idle() []string {
	before := p.before[signalling]
	if before == nil {
		before = p.before[launch]
	}
	if len(before) == 0 {
		return nil
	}
	return append(slices.Clone(before), "helper", "stamp")
}

// command returns the command line for a figure. The target is the helper with a role and the number n. command returns
// nil if the peer does not support the figure.
func (p peer) command(figure, role string, n int) []string {
	before, measured := p.before[figure]
	if !measured {
		return nil
	}
	return append(slices.Clone(before), "helper", role, strconv.Itoa(n))
}
