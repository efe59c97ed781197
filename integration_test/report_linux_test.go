package integration_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/report"
)

// reports collects the reports of a test, and validates all of them against the schema at once.
type reports struct {
	t     *testing.T
	mu    sync.Mutex
	texts []string
}

// newReports returns an empty collection. A cleanup of the test validates the collected reports.
func newReports(t *testing.T) *reports {
	t.Helper()
	need(t, "linux", "python3-jsonschema")
	r := &reports{t: t}
	t.Cleanup(func() {
		if len(r.texts) > 0 {
			validate(t, "report.schema.json", r.texts...)
		}
	})
	return r
}

func (r *reports) read(t testing.TB, file string) (report report.Report) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return r.parse(t, text)
}

func (r *reports) parse(t testing.TB, text []byte) (report report.Report) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&report); err != nil {
		t.Fatalf("%v: the report is\n%s", err, text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, string(text))
	return report
}

// value returns the value that a pointer points to, or the zero value for nil.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// outcomes returns the outcomes of a report's commands in the order of the ids, separated by blanks.
func outcomes(r report.Report) string {
	var all []string
	for _, c := range r.Commands {
		all = append(all, c.Outcome)
	}
	return strings.Join(all, " ")
}

// sent lists the sent signals in a report, each with its receiver: "TERM group, KILL tree".
func sent(r report.Report) string {
	var all []string
	for _, s := range r.Sent {
		all = append(all, s.Signal+" "+s.To)
	}
	return strings.Join(all, ", ")
}

// reportedRun is a run, with the checks of its report.
type reportedRun struct {
	flags  []string
	target string // a shell script; "": a program that does not exist
	stop   bool   // the test stops the run by SIGTERM when the file ready exists
	status string
	check  func(t *testing.T, p *proc, r report.Report)
}

// reportedRuns returns the runs by their names.
func reportedRuns() map[string]reportedRun {
	return map[string]reportedRun{
		"a program that ends": {target: "exit 7", status: "7", check: checkExit},
		"without a guard": {flags: []string{"--guard", "off", "--contain", "group"}, target: "kill -9 $$", status: "137",
			check: checkNoGuard},
		"a stop with all that there is": {
			flags:  []string{"--on-stop", "sleep 0.05", "--drain", "50ms", "--grace", "100ms", "--on-exit", "true"},
			target: "trap '' TERM; sleep 1000 & echo >ready; wait; exec sleep 1000", stop: true, status: "137",
			check: checkStop},
		"a time limit": {flags: []string{"--timeout", "50ms"}, target: "exec sleep 1000", status: "124",
			check: checkTimeLimit},
		// The target and all commands hang.
		"a deadline": {
			flags: []string{"--deadline", "2s", "--on-stop", "trap '' TERM; exec sleep 1000", "--on-exit",
				"trap '' TERM; exec sleep 1000", "--on-exit-timeout", "500ms"},
			target: "trap '' TERM; echo >ready; while :; do sleep 1000; done", stop: true, status: "137",
			check: checkDeadline},
		"a program that is not there": {flags: []string{"--on-exit", "true"}, status: "127", check: checkMissingTarget},
		"commands that fail": {
			flags: []string{"--on-exit", "exit 3", "--on-exit", `["/nowhere/flush"]`, "--on-exit", "exec sleep 1000",
				"--on-exit", "kill -9 $$",
				"--on-exit-timeout", "500ms", "--fail-on-cleanup-error", "--on-stop", "true"},
			target: "true", status: "125", check: checkFailedCommands},
		"a survivor is kept": {flags: []string{"--survivors", "keep"}, target: "sleep 1000 & echo $! >kept",
			status: "0", check: checkKeptSurvivor},
		"a signal to end by": {flags: []string{"--reraise"}, target: "kill -HUP $$", status: "HUP", check: checkReraise},
		"bytes of all kinds": {
			flags:  []string{"--name", "n\xff", "--on-exit", ": '\xfe<&>'"},
			target: ": '\xff\t\"<\u2028'" + strings.Repeat(" #", 60_000), status: "0",
			check: checkBytes},
	}
}

// checkExit checks the report of a target that exits by itself: the outcome, the command, the resource usage, and the
// order of the times.
func checkExit(t *testing.T, p *proc, r report.Report) {
	target := r.Target
	if r.Reason != "exited" || r.ExitStatus != 7 || *target.ExitCode != 7 || target.Signal != nil ||
		target.Error != nil || r.Escalated ||
		r.Stop != nil || r.TakenOver || len(r.Received)+len(r.Killed)+len(r.Left)+len(r.Commands) > 0 || r.Raised != nil {
		t.Error("wrong report of this run")
	}
	if r.PID != p.cmd.Process.Pid || r.Writer != r.PID || value(r.Guard) == 0 || r.Dir != p.dir ||
		r.Name != "sh" ||
		strings.Join(r.Command, " ") != "sh -c echo >ready; exit 7" || r.Level != "subreaper" {
		t.Error("wrong command or environment")
	}
	if target.Usage == nil || target.Usage.MaxRSSKB == 0 || target.Usage.MinorFaults == 0 {
		t.Error("no resource usage")
	}
	times := []time.Time{r.Began, *target.Started, *target.Ended, *r.Emptied, r.Finished}
	if !slices.IsSortedFunc(times, time.Time.Compare) || time.Since(r.Began) > time.Hour {
		t.Errorf("wrong times: %v", times)
	}
}

// checkNoGuard checks that graceful writes the report of a run without a guard, and that a signal ended the target.
func checkNoGuard(t *testing.T, p *proc, r report.Report) {
	if r.Reason != "signaled" || *r.Target.Signal != "KILL" || r.Target.ExitCode != nil || r.Stop != nil ||
		r.Guard != nil || r.Writer != r.PID || r.Level != "group" {
		t.Error("wrong report of this run")
	}
}

// checkStop checks the signals, the killed processes and the commands of a stop.
func checkStop(t *testing.T, p *proc, r report.Report) {
	if r.Reason != "stopped" || *r.Stop.Signal != "TERM" || !r.Escalated || *r.Target.Signal != "KILL" ||
		outcomes(r) != "succeeded succeeded" {
		t.Error("wrong report of this run")
	}
	if got := sent(r); !strings.HasPrefix(got, "TERM group, KILL tree") || len(r.Received) != 1 ||
		r.Received[0].State != "running" {
		t.Errorf("sent: %s; received: %v", got, r.Received)
	}
	if len(r.Killed) == 0 || r.Killed[0].Name != "sleep" {
		t.Errorf("killed: %v", r.Killed)
	}
	stop, exit := r.Commands[1], r.Commands[0]
	if stop.When != "stop" || exit.When != "exit" || *stop.DurationMS < 40 || stop.Ended.After(*exit.Started) {
		t.Errorf("commands: %v", r.Commands)
	}
}

// checkTimeLimit checks that the time limit is the reason, and that SIGTERM was enough.
func checkTimeLimit(t *testing.T, p *proc, r report.Report) {
	if r.Reason != "timed-out" || !r.Stop.TimedOut || r.Stop.Signal != nil || *r.Target.Signal != "TERM" ||
		r.Escalated {
		t.Error("wrong report of this run")
	}
}

// checkDeadline checks that the run keeps its deadline although the target and all commands hang.
func checkDeadline(t *testing.T, p *proc, r report.Report) {
	if !r.Escalated || outcomes(r) != "timed-out timed-out" || len(r.Killed) == 0 ||
		r.Finished.Sub(r.Stop.Began) > 10*time.Second { // the default limits alone take longer
		t.Error("wrong report of this run")
	}
}

// checkMissingTarget checks that the report of a missing target has an error, and no pid, exit code or duration of the
// target.
func checkMissingTarget(t *testing.T, p *proc, r report.Report) {
	if r.Reason != "start-failed" || r.ExitStatus != 127 || value(r.Target.Error) != "no such file or directory" ||
		r.Target.PID != nil ||
		r.Target.ExitCode != nil || r.Target.DurationMS != nil || r.Emptied != nil || outcomes(r) != "succeeded" {
		t.Error("wrong report of this run")
	}
}

// checkFailedCommands checks the outcome of each kind of failure.
func checkFailedCommands(t *testing.T, p *proc, r report.Report) {
	if r.ExitStatus != 125 || *r.Target.ExitCode != 0 || outcomes(r) != "failed not-started timed-out failed not-run" {
		t.Error("wrong report of this run")
	}
	if c := r.Commands; *c[0].ExitCode != 3 || *c[1].Error != "no such file or directory" || c[1].PID != nil ||
		*c[2].Signal != "TERM" ||
		*c[3].Signal != "KILL" || !strings.HasSuffix(sent(r), "TERM command") || r.Sent[len(r.Sent)-1].Command != 3 {
		t.Errorf("commands: %v", c)
	}
}

// checkKeptSurvivor checks that the survivor is alive, and that the run has sent no signal. Then it ends the survivor.
func checkKeptSurvivor(t *testing.T, p *proc, r report.Report) {
	if unix.Kill(p.pidIn("kept"), unix.SIGKILL) != nil || r.Emptied != nil || len(r.Sent)+len(r.Killed) > 0 {
		t.Error("wrong report of this run")
	}
}

// checkReraise checks the signal by which graceful ends itself.
func checkReraise(t *testing.T, p *proc, r report.Report) {
	if *r.Raised != "HUP" || r.ExitStatus != 129 {
		t.Error("wrong report of this run")
	}
}

// checkBytes checks that invalid UTF-8 is replaced, and that no byte is escaped twice or lost.
func checkBytes(t *testing.T, p *proc, r report.Report) {
	if r.Name != "n\ufffd" || !strings.Contains(r.Command[2], ": '\ufffd\t\"<\u2028' # #") ||
		len(r.Command[2]) < 120_000 ||
		r.Commands[0].Command != ": '\ufffd<&>'" {
		t.Error("wrong report of this run")
	}
}

// The report describes the end of a run correctly, for each kind of end.
func TestReport_ofEachOutcome(t *testing.T) {
	all := newReports(t)
	for name, c := range reportedRuns() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := []string{"sh", "-c", c.target}
			switch {
			case c.target == "":
				program = []string{"/nowhere/serve"}
			case !c.stop:
				program[2] = "echo >ready; " + c.target
			}
			p := start(t, slices.Concat([]string{"graceful", "run", "--report", "report"}, c.flags, []string{"--"}, program)...)
			if c.stop {
				p.waitForFile("ready")
				p.signal(unix.SIGTERM)
			}
			p.want(c.status)
			r := all.read(t, filepath.Join(p.dir, "report"))
			c.check(t, p, r)
			if t.Failed() {
				text, _ := os.ReadFile(filepath.Join(p.dir, "report"))
				t.Logf("the report:\n%.4000s", text)
			}
			p.wantNoDraft()
		})
	}
}

// wantNoDraft fails the test if a draft of a report is left.
func (p *proc) wantNoDraft() {
	p.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(p.dir, ".graceful-*")); len(left) > 0 {
		p.t.Errorf("left drafts: %q", left)
	}
}

// If a repeated stop signal ends a cleanup command, the report says that the command was cut.
func TestReport_commandIsCut(t *testing.T) {
	all := newReports(t)
	t.Parallel()
	p := start(t, "graceful", "run", "--report", "report", "--on-repeat", "kill", "--on-exit",
		"sleep 0.3; echo >cleaning; exec sleep 1000", "--",
		"sh", "-c", "echo >ready; exec sleep 1000")
	p.waitForFile("ready")
	p.signal(unix.SIGTERM)
	p.waitForFile("cleaning")
	p.signal(unix.SIGINT)
	p.want("143")
	r := all.read(t, filepath.Join(p.dir, "report"))
	if outcomes(r) != "cut" || *r.Commands[0].Signal != "TERM" || len(r.Received) != 2 ||
		r.Received[1].State != "cleaning" {
		t.Errorf("the report is %+v", r)
	}
}
