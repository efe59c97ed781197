package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"graceful/runner"

	"golang.org/x/sys/unix"
)

// reports are held against the schema, all of a test's together.
type reports struct {
	t     *testing.T
	mu    sync.Mutex
	texts []string
}

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

func (r *reports) read(t testing.TB, file string) (report runner.Report) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return r.parse(t, text)
}

func (r *reports) parse(t testing.TB, text []byte) (report runner.Report) {
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

// value is what there is, or nothing.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// outcomes are those of a report's commands, by their ids.
func outcomes(r runner.Report) string {
	var all []string
	for _, c := range r.Commands {
		all = append(all, c.Outcome)
	}
	return strings.Join(all, " ")
}

// sent is what a report says was sent, and to whom.
func sent(r runner.Report) string {
	var all []string
	for _, s := range r.Sent {
		all = append(all, s.Signal+" "+s.To)
	}
	return strings.Join(all, ", ")
}

func TestTheReportTellsHowARunWent(t *testing.T) {
	all := newReports(t)
	type check = func(t *testing.T, p *proc, r runner.Report)
	for name, c := range map[string]struct {
		flags  []string
		target string // for a shell; "": a program that there is not
		stop   bool   // by SIGTERM once it is ready
		status string
		check  check
	}{
		"a program that ends": {target: "exit 7", status: "7", check: func(t *testing.T, p *proc, r runner.Report) {
			target := r.Target
			if r.Reason != "exited" || r.ExitStatus != 7 || *target.ExitCode != 7 || target.Signal != nil || target.Error != nil || r.Escalated ||
				r.Stop != nil || r.TakenOver || len(r.Received)+len(r.Killed)+len(r.Left)+len(r.Commands) > 0 || r.Raised != nil {
				t.Error("not what it is of such a run")
			}
			if r.PID != p.cmd.Process.Pid || r.Writer == r.PID || r.Writer != value(r.Supervisor) || r.Dir != p.dir || r.Name != "sh" ||
				strings.Join(r.Command, " ") != "sh -c echo >ready; exit 7" || r.Level != "subreaper" {
				t.Error("not what was run")
			}
			if target.Usage == nil || target.Usage.MaxRSSKB == 0 || target.Usage.MinorFaults == 0 {
				t.Error("nothing is used")
			}
			times := []time.Time{r.Began, *target.Started, *target.Ended, *r.Emptied, r.Finished}
			if !slices.IsSortedFunc(times, time.Time.Compare) || time.Since(r.Began) > time.Hour {
				t.Errorf("times: %v", times)
			}
		}},
		"without a guard": {flags: []string{"--guard", "off", "--contain", "group"}, target: "kill -9 $$", status: "137",
			check: func(t *testing.T, p *proc, r runner.Report) {
				if r.Reason != "signaled" || *r.Target.Signal != "KILL" || r.Target.ExitCode != nil || r.Stop != nil ||
					r.Supervisor != nil || r.Writer != r.PID || r.Level != "group" {
					t.Error("not what it is of such a run")
				}
			}},
		"a stop with all that there is": {
			flags:  []string{"--on-stop", "sleep 0.05", "--drain", "50ms", "--grace", "100ms", "--on-exit", "true"},
			target: "trap '' TERM; sleep 1000 & echo >ready; wait; exec sleep 1000", stop: true, status: "137",
			check: func(t *testing.T, p *proc, r runner.Report) {
				if r.Reason != "stopped" || *r.Stop.Signal != "TERM" || !r.Escalated || *r.Target.Signal != "KILL" || outcomes(r) != "succeeded succeeded" {
					t.Error("not what it is of such a run")
				}
				if got := sent(r); !strings.HasPrefix(got, "TERM group, KILL tree") || len(r.Received) != 1 || r.Received[0].State != "running" {
					t.Errorf("sent: %s; received: %v", got, r.Received)
				}
				if len(r.Killed) == 0 || r.Killed[0].Name != "sleep" {
					t.Errorf("killed: %v", r.Killed)
				}
				stop, exit := r.Commands[1], r.Commands[0]
				if stop.When != "stop" || exit.When != "exit" || *stop.DurationMS < 40 || stop.Ended.After(*exit.Started) {
					t.Errorf("commands: %v", r.Commands)
				}
			}},
		"a time limit": {flags: []string{"--timeout", "50ms"}, target: "exec sleep 1000", status: "124", check: func(t *testing.T, p *proc, r runner.Report) {
			if r.Reason != "timed-out" || !r.Stop.TimedOut || r.Stop.Signal != nil || *r.Target.Signal != "TERM" || r.Escalated {
				t.Error("not what it is of such a run")
			}
		}},
		// All that can hang does.
		"a deadline": {
			flags:  []string{"--deadline", "2s", "--on-stop", "trap '' TERM; exec sleep 1000", "--on-exit", "trap '' TERM; exec sleep 1000", "--on-exit-timeout", "500ms"},
			target: "trap '' TERM; echo >ready; while :; do sleep 1000; done", stop: true, status: "137",
			check: func(t *testing.T, p *proc, r runner.Report) {
				if !r.Escalated || outcomes(r) != "timed-out timed-out" || len(r.Killed) == 0 || r.Finished.Sub(r.Stop.Began) > 2*time.Second {
					t.Error("not what it is of such a run")
				}
			}},
		"a program that is not there": {flags: []string{"--on-exit", "true"}, status: "127", check: func(t *testing.T, p *proc, r runner.Report) {
			if r.Reason != "start-failed" || r.ExitStatus != 127 || value(r.Target.Error) != "no such file or directory" || r.Target.PID != nil ||
				r.Target.ExitCode != nil || r.Target.DurationMS != nil || r.Emptied != nil || outcomes(r) != "succeeded" {
				t.Error("not what it is of such a run")
			}
		}},
		"commands that fail": {
			flags: []string{"--on-exit", "exit 3", "--on-exit", `["/nowhere/flush"]`, "--on-exit", "exec sleep 1000", "--on-exit", "kill -9 $$",
				"--on-exit-timeout", "500ms", "--fail-on-cleanup-error", "--on-stop", "true"},
			target: "true", status: "125", check: func(t *testing.T, p *proc, r runner.Report) {
				if r.ExitStatus != 125 || *r.Target.ExitCode != 0 || outcomes(r) != "failed not-started timed-out failed not-run" {
					t.Error("not what it is of such a run")
				}
				if c := r.Commands; *c[0].ExitCode != 3 || *c[1].Error != "no such file or directory" || c[1].PID != nil || *c[2].Signal != "TERM" ||
					*c[3].Signal != "KILL" || !strings.HasSuffix(sent(r), "TERM command") || r.Sent[len(r.Sent)-1].Command != 3 {
					t.Errorf("commands: %v", c)
				}
			}},
		"what is another's is kept": {flags: []string{"--survivors", "keep"}, target: "sleep 1000 & echo $! >kept", status: "0", check: func(t *testing.T, p *proc, r runner.Report) {
			if unix.Kill(p.pidIn("kept"), unix.SIGKILL) != nil || r.Emptied != nil || len(r.Sent)+len(r.Killed) > 0 {
				t.Error("not what it is of such a run")
			}
		}},
		"a signal to end by": {flags: []string{"--reraise"}, target: "kill -HUP $$", status: "HUP", check: func(t *testing.T, p *proc, r runner.Report) {
			if *r.Raised != "HUP" || r.ExitStatus != 129 {
				t.Error("not what it is of such a run")
			}
		}},
		"bytes of all kinds": {
			flags: []string{"--name", "n\xff", "--on-exit", ": '\xfe<&>'"}, target: ": '\xff\t\"<\u2028'" + strings.Repeat(" #", 60_000), status: "0",
			check: func(t *testing.T, p *proc, r runner.Report) {
				if r.Name != "n\ufffd" || !strings.Contains(r.Command[2], ": '\ufffd\t\"<\u2028' # #") || len(r.Command[2]) < 120_000 ||
					r.Commands[0].Command != ": '\ufffd<&>'" {
					t.Error("not what it is of such a run")
				}
			}},
	} {
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
				p.file("ready")
				p.signal(unix.SIGTERM)
			}
			p.want(c.status)
			r := all.read(t, filepath.Join(p.dir, "report"))
			c.check(t, p, r)
			if t.Failed() {
				text, _ := os.ReadFile(filepath.Join(p.dir, "report"))
				t.Logf("the report:\n%.4000s", text)
			}
			p.leftNoDraft()
		})
	}
}

func (p *proc) leftNoDraft() {
	p.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(p.dir, ".graceful-*")); len(left) > 0 {
		p.t.Errorf("left: %q", left)
	}
}

func TestACommandThatIsCutIsReported(t *testing.T) {
	all := newReports(t)
	t.Parallel()
	p := start(t, "graceful", "run", "--report", "report", "--kill-on-repeat", "--on-exit", "echo >cleaning; exec sleep 1000", "--",
		"sh", "-c", "echo >ready; exec sleep 1000")
	p.file("ready")
	p.signal(unix.SIGTERM)
	p.file("cleaning")
	p.signal(unix.SIGINT)
	p.want("143")
	r := all.read(t, filepath.Join(p.dir, "report"))
	if outcomes(r) != "cut" || *r.Commands[0].Signal != "TERM" || len(r.Received) != 2 || r.Received[1].State != "cleaning" {
		t.Errorf("it tells %+v", r)
	}
}

// moments are files that a run makes on its way, and what there is of it then.
var moments = []string{"running", "stopping", "terminating", "cleaning"}

// momentous is a run that stays at a moment until it is asked to go on.
func momentous(moment string, flags ...string) []string {
	wait := func(m string) string {
		if m == moment {
			return "echo $$ >" + m + "; exec sleep 1000"
		}
		return ":"
	}
	target := "trap '" + strings.Replace(wait("terminating"), "exec", "trap \"\" TERM;", 1) + "; exit 7' TERM; echo $$ >running; while :; do sleep 0.01; done"
	return slices.Concat([]string{"graceful", "run", "--grace", "1s", "--on-exit-timeout", "1s", "--report", "report",
		"--on-stop", wait("stopping"), "--on-stop-timeout", "1s", "--on-exit", wait("cleaning")}, flags, []string{"--", "sh", "-c", target})
}

func (p *proc) come(moment string) {
	p.t.Helper()
	p.file("running")
	if moment != "running" {
		p.signal(unix.SIGTERM)
		p.file(moment)
	}
}

// Whichever of the two is killed, and when, the other one writes the report.
func TestWhoGoesOnWritesTheReport(t *testing.T) {
	all := newReports(t)
	for _, victim := range []string{"front", "supervisor"} {
		for _, moment := range moments {
			t.Run(victim+" "+moment, func(t *testing.T) {
				t.Parallel()
				p := start(t, momentous(moment)...)
				p.come(moment)
				front, supervisor := p.cmd.Process.Pid, p.supervisor()
				writer := supervisor
				if victim == "front" {
					kill(t, front)
				} else {
					kill(t, supervisor)
					writer = front
				}
				p.wait()
				p.file("report")
				r := all.read(t, filepath.Join(p.dir, "report"))
				if !r.TakenOver || r.Writer != writer || r.PID != front || value(r.Supervisor) != supervisor || r.Target.Ended == nil || r.Target.Usage == nil {
					t.Errorf("it tells %+v", r)
				}
				if moment == "running" && r.Reason != "orphaned" || moment != "running" && (r.Reason != "stopped" || len(r.Received) != 1) {
					t.Errorf("reason: %s; received: %v", r.Reason, r.Received)
				}
				if got := outcomes(r); got != map[string]string{"stopping": "succeeded timed-out", "cleaning": "timed-out succeeded"}[moment] && got != "succeeded succeeded" {
					t.Errorf("commands: %s", got)
				}
				p.leftNoDraft()
			})
		}
	}
}

// When both are, recover does, wherever it is run.
func TestRecoverWritesTheReport(t *testing.T) {
	all := newReports(t)
	for _, moment := range moments {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			p := start(t, momentous(moment, "--state-dir", dir)...)
			p.come(moment)
			bothKilled(t, p.cmd.Process.Pid)
			p.want("KILL")
			p.until("end of the lock", func() bool { return unlocked(t, dir) })
			if moment == "cleaning" {
				p.killAndWait(p.pidIn("cleaning"))
			}
			recoverer := start(t, "graceful", "recover", "--state-dir", dir)
			recoverer.wait()
			r := all.read(t, filepath.Join(p.dir, "report"))
			if !r.TakenOver || r.Writer != recoverer.cmd.Process.Pid || r.PID != p.cmd.Process.Pid || r.Dir != p.dir || r.Supervisor != nil {
				t.Errorf("it tells %+v", r)
			}
			if moment == "cleaning" {
				if r.Reason != "stopped" || *r.Target.ExitCode != 7 || outcomes(r) != "interrupted succeeded" {
					t.Errorf("it tells %+v", r)
				}
				recoverIn(t, dir, "1", "--retry-interrupted") // it times out
				r = all.read(t, filepath.Join(p.dir, "report"))
				if outcomes(r) != "timed-out succeeded" {
					t.Errorf("after a retry: %s", outcomes(r))
				}
			} else if r.Reason != "recovered" || r.Target.Ended != nil || r.Target.ExitCode != nil || r.Target.Signal != nil {
				t.Errorf("it tells %+v", r)
			}
			p.leftNoDraft()
		})
	}
}

// A run that was done when both were killed is reported, and nothing else is done about it.
func TestRecoverReportsARunThatWasDone(t *testing.T) {
	all := newReports(t)
	t.Parallel()
	p, lines := killedIn(t, "command", "cleaning", "--report", "report", "--on-exit", "echo >>ran; echo $$ >cleaning; exec sleep 1000", "--", "sh", "-c", "exit 7")
	kill(t, p.pidIn("cleaning"))
	last := lines[len(lines)-1]
	for _, event := range []string{"command ended", "tree emptied"} {
		lines = append(lines, rewrite(t, last, func(r, _ map[string]any) { r["event"], r["code"] = event, 3 }))
	}
	dir := stateDir(t, strings.Join(lines, ""))
	recoverIn(t, dir, "0")
	r := all.read(t, filepath.Join(p.dir, "report"))
	if !r.TakenOver || r.Reason != "exited" || r.ExitStatus != 7 || outcomes(r) != "failed" || *r.Commands[0].ExitCode != 3 {
		t.Errorf("it tells %+v", r)
	}
	p.wrote("ran", "\n")
	// One that cannot be written is no run that was not finished.
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if said := recoverIn(t, stateDir(t, strings.Join(lines, "")), "0"); strings.Count(said, "\n") != 1 || !strings.Contains(said, "writing report "+p.dir+"/report: no such file or directory\n") {
		t.Errorf("recover said:\n%s", said)
	}
}

// Who looks finds the old report or the new one, and never a part.
func TestAReportIsNeverSeenInPart(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "report")
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 15 {
			p := start(t, "graceful", "run", "--guard", "off", "--contain", "group", "--report", file, "--", "true", strings.Repeat("x", 100_000))
			if got := p.wait(); got != "0" {
				t.Errorf("exit status %s", got)
			}
		}
	}()
	defer func() { <-done }()
	seen := map[string]bool{}
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !json.Valid(text) {
			t.Fatalf("%v: %d bytes:\n%.200s", err, len(text), text)
		}
		seen[string(text)] = true
	}
	t.Logf("%d were seen", len(seen))
}

// tmpfs mounts a file system of 64 KB in DIR/small.
const tmpfs = `mkdir -p $DIR/small && mount -t tmpfs -o size=64k,mode=777 none $DIR/small && `

// A report that cannot be written is a warning, and all else is as without one: the exit status, the time that it takes, and
// nothing is left.
func TestAReportThatCannotBeWritten(t *testing.T) {
	root := []string{"root", "unshare", "norace"}
	mount := func(before string) []string {
		return []string{"unshare", "--mount", "sh", "-c", before + ` "$@"; status=$?; ls -A $DIR $DIR/small 2>/dev/null | grep graceful; exit $status`, "sh"}
	}
	for name, c := range map[string]struct {
		need   []string
		before string // a script that makes the place, with DIR
		around []string
		file   string
		want   string // the reason; "": it can be written
	}{
		"to a directory":                  {before: "mkdir $DIR/r", file: "$DIR/r", want: "is a directory"},
		"to a directory of another":       {need: append(root, "setpriv"), before: "mkdir $DIR/r", around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/r", want: "is a directory"},
		"to a directory that is not":      {file: "$DIR/a/r", want: "no such file or directory"},
		"below a file":                    {before: "echo >$DIR/a", file: "$DIR/a/r", want: "not a directory"},
		"to the full device":              {file: "/dev/full", want: "no space left on device"},
		"to a FIFO that nobody reads":     {before: "mkfifo $DIR/r", file: "$DIR/r", want: "no such device or address"},
		"to a closed descriptor":          {file: "/dev/fd/77", want: "bad file descriptor"},
		"to a name that is too long":      {file: "$DIR/" + strings.Repeat("x", 300), want: "file name too long"},
		"to a file system without room":   {need: root, around: mount(tmpfs + "head -c 1M /dev/zero >$DIR/small/zero 2>$DIR/said;"), file: "$DIR/small/r", want: "no space left on device"},
		"to a file system without much":   {need: root, around: mount(tmpfs + "head -c 60000 /dev/zero >$DIR/small/zero;"), file: "$DIR/small/r", want: "no space left on device"},
		"to a read-only file system":      {need: root, around: readOnly, file: "$DIR/r", want: "read-only file system"},
		"beyond a limit of files":         {need: []string{"prlimit", "norace"}, around: []string{"prlimit", "--fsize=2000"}, file: "$DIR/r", want: "file too large"},
		"to another's in a sticky one":    {need: append(root, "setpriv"), before: "mkdir -m 1777 $DIR/s; echo 1 >$DIR/s/r; chown 54321 $DIR/s $DIR/s/r; chmod a+w $DIR/s/r", around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/s/r", want: "operation not permitted"},
		"to where we may not write":       {need: append(root, "setpriv"), around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/r", want: "permission denied"},
		"over a mount":                    {need: root, before: "echo 1 >$DIR/r; echo 2 >$DIR/q", around: mount("mount --bind $DIR/q $DIR/r;"), file: "$DIR/r", want: "device or resource busy"},
		"over a file that we cannot open": {need: append(root, "setpriv"), before: "chmod 777 $DIR; echo 1 >$DIR/r; chmod 0444 $DIR/r; chown 54322 $DIR/r", around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/r"},
		"to nowhere":                      {file: "/dev/null"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, append(c.need, "linux")...)
			dir := t.TempDir()
			for up := dir; up != os.TempDir(); up = filepath.Dir(up) {
				if err := os.Chmod(up, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			in := func(s string) string { return strings.ReplaceAll(s, "$DIR", dir) }
			if out, err := exec.Command("sh", "-c", in(c.before)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var around []string
			for _, word := range c.around {
				around = append(around, in(word))
			}
			before := inDir(t, dir)
			for _, guard := range []string{"on", "off"} {
				if strings.HasPrefix(c.want, "file too") && guard == "on" {
					continue // its ledger does not fit either
				}
				p := command(t, slices.Concat(around, []string{plain, "run", "--guard", guard, "--report", in(c.file), "--on-exit", "echo cleaned", "--",
					"sh", "-c", "exit 7", strings.Repeat("x", 20_000)})...)
				p.cmd.Dir = "/"
				p.start().want("7")
				want := "cleaned\n"
				if c.want != "" {
					want += fmt.Sprintf("graceful: the run is done, but: writing report %s: %s\n", in(c.file), c.want)
				}
				if got := p.text(); got != want {
					t.Errorf("guard %s: it wrote\n%s\nand not\n%s", guard, got, want)
				}
			}
			if after := inDir(t, dir); c.around == nil && after != before || strings.Contains(after, "graceful") {
				t.Errorf("in the directory were %q, and are %q", before, after)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "s", ".graceful-*")); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// A FIFO has the report as its reader takes it; one who does not take it holds us up for a moment only.
func TestAReportToAFIFO(t *testing.T) {
	all := newReports(t)
	for name, want := range map[string]string{"that is read": "", "whose reader does not read": "i/o timeout", "whose reader goes": "broken pipe"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := command(t, "graceful", "run", "--report", "fifo", "--", "sh", "-c", "echo >ready; exit 7", strings.Repeat("x", 100_000))
			path := filepath.Join(p.dir, "fifo")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			fifo, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer fifo.Close()
			p.start()
			switch want {
			case "":
				var text bytes.Buffer
				p.file("ready")
				p.until("report", func() bool {
					_, _ = text.ReadFrom(fifo)
					return json.Valid(text.Bytes())
				})
				all.parse(t, text.Bytes())
			case "broken pipe":
				p.until("beginning of a report", func() bool {
					n, _ := unix.Read(int(fifo.Fd()), make([]byte, 1))
					return n > 0
				})
				fifo.Close()
			}
			p.want("7")
			if text := p.text(); (want == "") != (text == "") || !strings.Contains(text, want) || strings.Count(text, "\n") > 1 {
				t.Errorf("it wrote\n%s", text)
			}
		})
	}
}

// A descriptor is no file to be replaced: what others have written to it and will write stays.
func TestAReportToAStream(t *testing.T) {
	all := newReports(t)
	t.Parallel()
	for _, stream := range []string{"/dev/stderr", "/dev/stdout", "/dev/fd/2", "/proc/self/fd/1", "link"} {
		p := command(t, "sh", "-c", `ln -s /dev/stderr link; echo before; graceful run --report "$0" -- true; echo after`, stream)
		p.start().want("0")
		text, whole := strings.CutPrefix(p.text(), "before\n")
		text, after := strings.CutSuffix(text, "after\n")
		if !whole || !after {
			t.Fatalf("%s: it wrote\n%s", stream, p.text())
		}
		all.parse(t, []byte(text))
	}
	p := command(t, "sh", "-c", `graceful run --report /dev/stdout -- true | cat >out; graceful run --report /dev/fd/7 -- true 7>seven`)
	p.start().want("0")
	for _, file := range []string{"out", "seven"} {
		all.read(t, filepath.Join(p.dir, file))
	}
	p.wrote("none", "")
}

// Nor is it one of those that we have opened for ourselves, the ledger's, say.
func TestAReportDoesNotGoToOurOwnDescriptors(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for fd := 3; fd < 10; fd++ {
		p := start(t, "graceful", "run", "--report", fmt.Sprintf("/proc/self/fd/%d", fd), "--", "true")
		p.want("0")
		if text := p.text(); !strings.HasSuffix(text, ": bad file descriptor\n") {
			t.Errorf("descriptor %d: it wrote %q", fd, text)
		}
	}
}
