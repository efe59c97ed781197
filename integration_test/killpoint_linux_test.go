//go:build amd64 || arm64

package integration_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// guardFlags contains the flags of a run that has two processes of graceful.
var guardFlags = []string{"--guard", "on"}

// scenario is a run. Each cleanup command appends to the file log. The target first creates the file started.
type scenario struct {
	flags  []string
	target string
	stop   bool   // once the file ready exists, the tracer stops the run: by SIGTERM, or by killing the parent
	log    string // the text that the commands write
	before string // text that the commands may write instead if the target was not started
	fewer  string // text that the commands may write instead if the file printed is empty: no registration was confirmed
	status string // exit status if no process of graceful is killed
	keeps  bool   // the target leaves a process behind that is kept; the file kept contains its pid
	cgroup bool   // the run has its own cgroup, below which no cgroup may be left
	parent string // GRACEFUL_DIE_WITH_PARENT of a run whose parent the tracer kills; "": not such a run
}

const started = "echo >started; "

var scenarios = map[string]scenario{
	"registered": {
		flags: []string{"--grace", "5s", "--on-exit", "echo 1 >>log"},
		target: started + `trap '' TERM; sleep 1000 & graceful defer --when-exits $! --shell -- 'echo 2 >>log; sleep 0.03
			echo 2 ended >>log' >printed
			kill -9 $!; graceful cancel 7 2>/dev/null; exit 0`,
		log: "2\n2 ended\n1\n", fewer: "1\n", status: "0",
	},
	"quiet": {
		flags:  []string{"--report", "report", "--on-exit", "echo 1 >>log", "--on-exit", "echo 2 >>log"},
		target: started, log: "2\n1\n", status: "0",
	},
	"stopped": {
		flags:  []string{"--on-exit", "echo 1 >>log", "--on-exit", "echo 2 >>log"},
		target: started + "echo >ready; exec sleep 1000", stop: true, log: "2\n1\n", status: "143",
	},
	// This run has its own terminal, which another process also has open.
	"terminal": {
		flags:  []string{"--pty", "--on-exit", "echo 1 >>log", "--on-exit", "echo 2 >>log"},
		target: started + "setsid sleep 1000 & echo shown; echo >ready; exec sleep 1000", stop: true, log: "2\n1\n",
		status: "143",
	},
	// All processes of the tree ignore SIGTERM, and one has left the session.
	"grace": {
		flags:  []string{"--grace", "50ms", "--on-exit", "echo 1 >>log", "--on-exit", "echo 2 >>log"},
		target: started + "trap '' TERM; setsid sh -c 'echo >ready; exec sleep 1000' & exec sleep 1000",
		stop:   true, log: "2\n1\n", status: "137",
	},
	// The commands are slow, so that one of them is running during most of the run.
	"cleaning": {
		flags: []string{"--on-exit", "echo 1 >>log; sleep 0.03; echo 1 ended >>log",
			"--on-exit", "echo 2 >>log; sleep 0.03; echo 2 ended >>log", "--on-exit",
			"echo 3 >>log; sleep 0.03; echo 3 ended >>log"},
		target: started, log: "3\n3 ended\n2\n2 ended\n1\n1 ended\n", status: "0",
	},
	// The first on-stop command is slow. Both run before the stop signal.
	"stopping": {
		flags: []string{"--on-stop", "echo s1 >>log; sleep 0.03; echo s1 ended >>log", "--on-stop", "echo s2 >>log",
			"--drain", "30ms", "--on-exit", "echo 1 >>log"},
		target: started + "echo >ready; exec sleep 1000", stop: true, log: "s1\ns1 ended\ns2\n1\n", before: "1\n",
		status: "143",
	},
	// Kept survivors exist while the commands run. graceful does not wait for them.
	"keeping": {
		flags: []string{"--survivors", "keep", "--on-exit",
			"echo 1 >>log; setsid sleep 1000 & sleep 0.03; echo 1 ended >>log", "--on-exit", "echo 2 >>log"},
		target: started + `setsid sh -c "trap '' TERM; echo \$\$ >kept; exec sleep 1000" & until [ -e kept ]; do :; done`,
		log:    "2\n1\n1 ended\n", status: "0", keeps: true,
	},
	"cgroup": {
		flags:  []string{"--contain", "cgroup", "--grace", "50ms", "--on-exit", "echo 1 >>log", "--on-exit", "echo 2 >>log"},
		target: started + "trap '' TERM; setsid sh -c 'echo >ready; exec sleep 1000' & exec sleep 1000",
		stop:   true, log: "2\n1\n", status: "137", cgroup: true,
	},
}

// run carries out an order on a scenario. The error lists all broken promises, or says why the tracer failed.
func (s scenario) run(t *testing.T, o order) (outcome, error) {
	t.Helper()
	dir, err := os.MkdirTemp(binDir, "run-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(dir)
	// Request the level of containment by name. With auto, graceful would choose a lower level and log a warning if a
	// call fails.
	o.Command = slices.Concat([]string{plain, "run", "--contain", "subreaper"}, guardFlags, s.flags,
		[]string{"--", "sh", "-c", s.target})
	o.Guarded, o.Parent = !slices.Contains(s.flags, "off"), s.parent
	if s.stop {
		o.Ready = "ready"
	}
	if s.cgroup {
		if o.Cgroup, err = newCgroup(); err != nil {
			return outcome{}, err
		}
		defer clearCgroup(o.Cgroup)
	}
	got, err := trace(t, dir, o)
	if err != nil {
		return got, err
	}
	if wrong := s.wrong(runDir(dir), o, got); len(wrong) > 0 {
		return got, fmt.Errorf("%s\nit wrote:\n%s", strings.Join(wrong, "\n"), firstLines(runDir(dir).file("output")))
	}
	return got, nil
}

// clearCgroup removes a cgroup, with all processes and cgroups in it. It gives up after patience.
func clearCgroup(dir string) {
	for deadline := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(deadline); {
		_ = os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0o644)
		for _, below := range cgroupsBelow(dir) {
			_ = os.Remove(below)
		}
	}
}

// runDir is the working directory of a run.
type runDir string

// file returns a file's text, or "" if there is no such file.
func (d runDir) file(name string) string {
	data, _ := os.ReadFile(filepath.Join(string(d), name))
	return string(data)
}

// glob returns the paths of the files whose names match a pattern.
func (d runDir) glob(pattern string) []string {
	found, _ := filepath.Glob(filepath.Join(string(d), pattern))
	return found
}

// wrong returns a text for each promise that a run has broken.
func (s scenario) wrong(dir runDir, o order, got outcome) (wrong []string) {
	if below := cgroupsBelow(o.Cgroup); o.Cgroup != "" && len(below) > 0 {
		wrong = append(wrong, fmt.Sprintf("left: %q", below))
	}
	if got.Late {
		wrong = append(wrong, fmt.Sprintf("not over in %v", patience))
	}
	if why := s.wronglyLeft(got.Left, strings.TrimSpace(dir.file("kept"))); why != "" {
		wrong = append(wrong, why)
	}
	// A target may exist before it has created the file started. So a birth also counts, if the tracer follows the
	// process that starts the target.
	started := dir.file("started") != "" || got.Born > 0 && o.OfGuard == o.Guarded
	unprinted := s.fewer != "" && dir.file("printed") == ""
	if log := dir.file("log"); log != s.log && (started || log != "" && log != s.before) &&
		!(unprinted && log == s.fewer) {
		wrong = append(wrong, fmt.Sprintf("the commands wrote %q, want %q; target started: %t", log, s.log, started))
	}
	if sockets := dir.glob("graceful-*"); len(sockets) > 0 && o.OfGuard && o.Call == "" {
		wrong = append(wrong, fmt.Sprintf("left: %q", sockets))
	}
	if slices.Contains(s.flags, "--report") && dir.file("log") != "" {
		wrong = append(wrong, dir.wrongReport()...)
	}
	// Only a killed graceful may lose the output, if it has read the output and not yet written it.
	if shown := strings.Contains(dir.file("output"), "shown\r\n"); strings.Contains(s.target, "echo shown") &&
		dir.file("ready") != "" && !shown && (o.OfGuard || got.Where == "") {
		wrong = append(wrong, "the target's output is lost")
	}
	if why := s.wrongStatus(o, got, started); why != "" {
		wrong = append(wrong, fmt.Sprintf("exit status %s, %s", got.Status, why))
	}
	return wrong
}

// wrongReport returns a text for a draft of the report that remains, and one for a damaged report.
func (d runDir) wrongReport() (wrong []string) {
	if drafts := d.glob(".graceful-*"); len(drafts) > 0 {
		wrong = append(wrong, fmt.Sprintf("left: %q", drafts))
	}
	if !json.Valid([]byte(d.file("report"))) && !strings.Contains(d.file("output"), "writing report") {
		wrong = append(wrong, fmt.Sprintf("the report is %q", d.file("report")))
	}
	return wrong
}

// wronglyLeft returns a text if the processes left after a run are wrong, otherwise "". kept is the pid of the process
// to keep, or "" if that process was not started, or was killed before it had left the target's group.
func (s scenario) wronglyLeft(left []string, kept string) string {
	onlyKept := func(process string) bool {
		return kept == "" || strings.HasPrefix(process, kept+" (sleep)") && !strings.Contains(process, "was reparented")
	}
	switch {
	case !s.keeps && len(left) > 0, len(left) > 1, len(left) == 1 && !onlyKept(left[0]):
		return fmt.Sprintf("left: %q; to be kept: %q", left, kept)
	case kept != "" && len(left) == 0:
		return "no process is left, but process " + kept + " should be kept"
	}
	return ""
}

// firstLines returns the first 12 lines of a text, which may be the output of a crash.
func firstLines(text string) string {
	lines := slices.Collect(strings.Lines(text))
	return strings.Join(lines[:min(len(lines), 12)], "")
}

// crashed reports whether a status is that of a Go program whose runtime has failed: 2, or SEGV if the runtime has
// failed before it could print a reason.
func crashed(status string) bool { return status == "2" || status == "SEGV" }

// wrongStatus returns a text if the exit status of a run is wrong, otherwise "". started: the target was started.
func (s scenario) wrongStatus(o order, got outcome, started bool) string {
	switch {
	case got.Where == "" || s.parent != "" && started:
		if got.Status != s.status && (s.parent == "" || got.Status != "143") {
			return "want " + s.status
		}
	case s.parent != "":
		if got.Status != "143" {
			return "though the target was not started"
		}
	case o.Call == "" && !o.OfGuard:
		exiting := slices.Contains(got.Before, "beginning of exit_group") // the status is already fixed
		if got.Status != "KILL" && !(exiting && got.Status == s.status) {
			return "though it was killed"
		}
	case o.Call == "":
		if got.Status != s.status { // graceful continues without the killed guard
			return "want " + s.status
		}
	case !started:
		if got.Status != s.status && got.Status != "125" && !crashed(got.Status) {
			return "though the target was not started"
		}
	case got.Status != s.status && got.Status != "125" && !crashed(got.Status):
		return "want " + s.status
	}
	return ""
}

// processName maps true to the name for the guard, and false to the name for the graceful that is not a guard.
var processName = map[bool]string{false: "graceful", true: "guard"}

// stride returns the number in an environment variable, or the parameter otherwise if the variable is empty.
func stride(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s", variable, text)
	}
	return n
}

// everyCall makes local system calls count as stops, too (order.All). A local call affects only the process itself.
var everyCall = os.Getenv("GRACEFUL_TEST_KILL_EVERYWHERE") != ""

// onePoint makes the test kill at one stop only, and log that stop.
var onePoint = os.Getenv("GRACEFUL_TEST_KILL_AT") != ""

// atOnce limits the number of concurrent runs. It allows more than one for each CPU, because most runs mostly wait.
var atOnce = make(chan bool, 2*runtime.NumCPU())

// SIGKILL ends one process of graceful at a stop (see order.At). No command is lost or run twice, and no process is
// left.
func TestEverySystemCall_killed(t *testing.T) {
	need(t, "linux", "norace", "setsid")
	step := stride(t, "GRACEFUL_TEST_KILL_STRIDE", 20)
	first := stride(t, "GRACEFUL_TEST_KILL_AT", 1+rand.IntN(step))
	if onePoint {
		step = 1 << 30 // no further stop
		t.Logf("testing stop %d", first)
	} else {
		t.Logf("testing every %dth stop from the %dth on", step, first)
	}
	var sum struct {
		sync.Mutex
		points, runs int
	}
	t.Run("runs", func(t *testing.T) {
		for _, name := range slices.Sorted(maps.Keys(scenarios)) {
			for _, ofGuard := range []bool{false, true} {
				t.Run(processName[ofGuard]+" "+name, func(t *testing.T) {
					if scenarios[name].cgroup {
						ownCgroup(t) // skips the test if no cgroup can be created
					}
					t.Parallel()
					points, runs := killEverywhere(t, scenarios[name], ofGuard, first, step)
					t.Logf("%d stops, killed at %d of them", points, runs)
					sum.Lock()
					defer sum.Unlock()
					sum.points += points
					sum.runs += runs
				})
			}
		}
	})
	t.Logf("in all: %d stops, killed at %d of them", sum.points, sum.runs)
	if onePoint && sum.runs == 0 {
		t.Errorf("no run was killed: none has a stop %d", first)
	}
}

// killEverywhere kills the guard (ofGuard) or graceful, or the parent of a scenario with one, at every step-th stop
// from first on. The number of stops varies. So killEverywhere ends when three consecutive runs have ended before the
// stop at which the kill was due, or after enoughFailures. points is the largest number of stops of a run without a
// kill. runs counts the runs with a kill.
func killEverywhere(t *testing.T, s scenario, ofGuard bool, first, step int) (points, runs int) {
	var (
		mu       sync.Mutex
		all      sync.WaitGroup
		over     int
		failures int
	)
	for at := first; ; at += step {
		atOnce <- true
		mu.Lock()
		done := over >= 3 || failures >= enoughFailures
		mu.Unlock()
		if done {
			<-atOnce
			break
		}
		all.Go(func() {
			defer func() { <-atOnce }()
			got, err := s.run(t, order{OfGuard: ofGuard, At: at, All: everyCall})
			mu.Lock()
			defer mu.Unlock()
			if got.Where == "" {
				over++
				points = max(points, got.Stops)
			} else {
				over = 0
				runs++
			}
			where := fmt.Sprintf("killed at stop %d, %s, after %q", at, cmp.Or(got.Where, "none"), got.Before)
			if onePoint && got.Where != "" {
				t.Log(where)
			}
			if err != nil {
				failures++
				t.Errorf("%s: %v", where, err)
			}
		})
	}
	all.Wait()
	return points, runs
}

// graceful is killed after the run has ended, while it writes the report. A new graceful writes the report, and removes
// the draft.
func TestReport_gracefulKilledWhileWriting(t *testing.T) {
	all := newReports(t)
	need(t, "norace")
	for call, at := range map[string]int{"fsync": 1, "renameat": 2} { // the first renameat is for the lock of the socket
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp(binDir, "run-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			got, err := trace(t, dir, order{
				Command: slices.Concat([]string{plain, "run", "--report", "report"}, guardFlags,
					[]string{"--on-exit", "echo >>log", "--", "sh", "-c", "exit 7"}),
				Guarded: true, Call: call, At: at,
			})
			if err != nil {
				t.Fatal(err)
			}
			r := all.read(t, filepath.Join(dir, "report"))
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			if got.Where != call || got.Status != "KILL" || string(log) != "\n" || !r.TakenOver || r.Writer == r.PID ||
				r.Reason != "exited" || r.ExitStatus != 7 {
				t.Errorf("%+v; the report is %+v", got, r)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".graceful-*")); len(left) > 0 {
				t.Errorf("left drafts: %q", left)
			}
		})
	}
}
