package integration_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// figure is a measurement that the benchmark makes for each peer that supports it.
type figure struct {
	name, unit string
	size       int // number of processes in the tree, of orphans, or of cleanup commands; 0: does not apply
	every      int // number of rounds from one sample to the next
	// measure returns a sample in unit. measured is false if the peer does not support the figure.
	measure func(p peer, size int) (sample float64, measured bool)
	samples map[string][]float64 // the samples of each peer, by its name; no entry: not measured
}

// comparison measures the figures of all peers, one peer after the other.
type comparison struct {
	t       testing.TB
	peers   []peer
	missing []string // the peers that are missing or fail on this machine, and the missing programs
	figures []*figure
	idle    map[string]*idlePeer // by the names of the peers; no entry: peer.idle returns nil
	null    *os.File             // /dev/null
	errors  *os.File             // standard error of the processes that comparison.fork starts
	round   int                  // number of rounds so far
}

// treeSizes and commandCounts are the x values of the curves that docs/plot draws.
var (
	treeSizes     = []int{10, 30, 100, 300, 1000, 2000, 3000, 10000}
	commandCounts = []int{1, 10, 100, 1000, 10000}
)

const (
	orphanCount = 5000
	tableTree   = 2000 // the tree size in the table
)

// newComparison finds the peers of this machine, starts wrappers with idle targets, and lists the figures. If brief is
// true, the trees and the numbers of orphans and cleanup commands are small.
func newComparison(t testing.TB, brief bool) *comparison {
	t.Helper()
	c := &comparison{t: t, idle: map[string]*idlePeer{}}
	c.peers, c.missing = peersHere(t)
	var err error
	if c.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if c.errors, err = os.Create(filepath.Join(t.TempDir(), "errors")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.endIdle()
		_ = c.null.Close()
		_ = c.errors.Close()
	})
	c.startIdle()
	orphanCount, treeSizes, commandCounts := orphanCount, treeSizes, commandCounts
	if brief {
		orphanCount, treeSizes, commandCounts = 50, []int{10}, []int{1, 10}
	}
	add := func(f figure) {
		f.samples = map[string][]float64{}
		c.figures = append(c.figures, &f)
	}
	add(figure{name: launch, unit: "µs", every: 1, measure: c.launchTime})
	add(figure{name: signalling, unit: "µs", every: 1, measure: c.signalTime})
	add(figure{name: orphans, unit: "ms", every: 10, measure: c.orphansTime, size: orphanCount})
	for _, n := range treeSizes {
		add(figure{name: treeKill, unit: "ms", every: 10 + n/100, measure: c.treeKillTime, size: n})
	}
	for _, n := range commandCounts {
		add(figure{name: cleaning, unit: "ms", every: 10 + n/20, measure: c.cleanupTime, size: n})
	}
	add(figure{name: threads, unit: "", every: 20, measure: c.threadCount})
	add(figure{name: memory, unit: "kB", every: 20, measure: c.dirtyMemory})
	if has("strace") {
		add(figure{name: systemCalls, unit: "", every: 20, measure: c.callCount})
	} else {
		c.missing = append(c.missing, "strace")
	}
	return c
}

// measureRound takes a sample of each figure that this round measures, from one peer after the other.
func (c *comparison) measureRound() {
	c.t.Helper()
	for _, f := range c.figures {
		if c.round%f.every != 0 {
			continue
		}
		for _, p := range c.peers {
			if sample, measured := f.measure(p, f.size); measured {
				f.samples[p.name] = append(f.samples[p.name], sample)
			}
		}
	}
	c.round++
}

func (c *comparison) launchTime(p peer, _ int) (float64, bool) {
	before, measured := p.before[launch]
	if !measured {
		return 0, false
	}
	return micros(c.run(append(slices.Clone(before), "/bin/true"))), true
}

func (c *comparison) cleanupTime(p peer, n int) (float64, bool) {
	if p.cleanup == nil {
		return 0, false
	}
	return millis(c.run(append(p.cleanup(n), "/bin/true"))), true
}

// signalTime is the time from before kill(2) until the target's sigtimedwait(2) has returned.
func (c *comparison) signalTime(p peer, _ int) (float64, bool) {
	if p.before[signalling] == nil {
		return 0, false
	}
	idle := c.idle[p.name]
	began := monotonic()
	if err := unix.Kill(idle.pid, unix.SIGUSR1); err != nil {
		c.t.Fatal(p.name, err)
	}
	return micros(c.readTime(p, idle.times) - began), true
}

// orphansTime is the time from before the target ends until the wrapper has ended. The target leaves n children that
// have ended and that it has not reaped.
func (c *comparison) orphansTime(p peer, n int) (float64, bool) {
	command := p.command(orphans, "leave-orphans", n)
	if command == nil {
		return 0, false
	}
	pid, times := c.start(command)
	defer times.Close()
	began := c.readTime(p, times)
	status := c.wait(pid)
	took := monotonic() - began
	c.check(command, status)
	return millis(took), true
}

// treeKillTime is the time from the request to kill the tree until the last process of the tree and the wrapper have
// ended. All of them hold standard output open, so the end of the data shows that they have ended.
func (c *comparison) treeKillTime(p peer, n int) (float64, bool) {
	command := p.command(treeKill, "sessions", n)
	if command == nil {
		return 0, false
	}
	pid, times := c.start(command)
	defer times.Close()
	c.readTime(p, times)
	began := monotonic()
	if err := p.end(pid); err != nil {
		c.t.Fatal(p.name, err)
	}
	_ = times.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, times); err != nil {
		c.t.Fatalf("%s: the tree has not ended: %v", p.name, err)
	}
	c.wait(pid)
	return millis(monotonic() - began), true
}

func (c *comparison) threadCount(p peer, _ int) (float64, bool) {
	if p.idle() == nil {
		return 0, false
	}
	return float64(countThreads(c.t, c.processes(p))), true
}

func (c *comparison) dirtyMemory(p peer, _ int) (kB float64, measured bool) {
	if p.idle() == nil {
		return 0, false
	}
	for _, pid := range c.processes(p) {
		kB += float64(memoryOf(c.t, pid)["Pss_Dirty"])
	}
	return kB, true
}

func (c *comparison) callCount(p peer, _ int) (n float64, measured bool) {
	if len(p.before[launch]) == 0 {
		return 0, false
	}
	for _, count := range callsOfLaunch(c.t, p.before[launch]...) {
		n += float64(count)
	}
	return n, true
}

// countThreads returns the number of threads of all the processes.
func countThreads(t testing.TB, pids []int) (n int) {
	t.Helper()
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		n += len(tasks)
	}
	return n
}

// memoryOf returns the sizes in smaps_rollup (proc(5)) of a process in kB, by their names.
func memoryOf(t testing.TB, pid int) map[string]int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int{}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); len(f) == 2 && f[1] == "kB" {
			sizes[name], _ = strconv.Atoi(f[0])
		}
	}
	return sizes
}

var tracedCall = regexp.MustCompile(`^(\d+) +([a-z_0-9]+)\((.*)`)

// callsOfLaunch returns how often a wrapper makes each system call when it runs /bin/true, by the names of the calls.
// before is the command line before /bin/true. The calls of /bin/true itself do not count.
func callsOfLaunch(t testing.TB, before ...string) map[string]int {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	command := slices.Concat([]string{"-f", "-qq", "-o", trace}, before, []string{"/bin/true"})
	c := exec.Command("strace", command...)
	// Use a directory without sockets of other runs, which graceful would examine.
	c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("strace %q: %v\n%s", command, err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	counts, executed := map[string]int{}, map[string]bool{}
	for line := range strings.Lines(string(data)) {
		call := tracedCall.FindStringSubmatch(line)
		if call == nil || executed[call[1]] {
			continue
		}
		counts[call[2]]++
		executed[call[1]] = call[2] == "execve" && strings.HasPrefix(call[3], `"/bin/true"`)
	}
	return counts
}

func micros(ns int64) float64 { return float64(ns) / 1e3 }
func millis(ns int64) float64 { return float64(ns) / 1e6 }
