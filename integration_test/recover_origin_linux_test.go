package integration_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// initialNamespace reports whether name, the target of /proc/PID/ns/pid, is the initial PID namespace of the machine.
// All processes are visible there.
func initialNamespace(name string) bool { return name == "pid:[4026531836]" }

// seesAll reports whether this process sees the processes of all PID namespaces.
func seesAll(t *testing.T) bool {
	t.Helper()
	name, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	return initialNamespace(name)
}

// startInNamespace starts a run named x in a new PID namespace, with the state directory state. PID 1 of the namespace,
// a shell, outlives the run.
func startInNamespace(t *testing.T, target string, flags ...string) *proc {
	t.Helper()
	need(t, "linux", "pidns")
	run := append([]string{"graceful", "run", "--state-dir", "state", "--name", "x", "--grace", "100ms"}, flags...)
	stays := append([]string{"sh", "-c", `"$@" & wait; exec sleep 1000`, "sh"}, append(run, "--", "sh", "-c", target)...)
	p := command(t, append([]string{"unshare"}, pidNamespace(stays...)...)...)
	p.start()
	return p
}

// cleanedBy is a cleanup command that appends the reason to the file cleaned.
const cleanedBy = "echo $GRACEFUL_REASON >>cleaned"

// runGraceful runs graceful in the directory of a program. The words in around come before graceful. The results are
// the exit status and the output.
func (p *proc) runGraceful(around []string, args ...string) (status, text string) {
	p.t.Helper()
	q := command(p.t, slices.Concat(around, []string{"graceful"}, args)...)
	q.cmd.Dir = p.dir
	return q.start().wait(), q.text()
}

// inThirdNamespace returns the beginning of a command line that runs a command in a new PID namespace. That namespace
// is neither the one of the test nor the one of the run.
func inThirdNamespace() []string { return append([]string{"unshare"}, pidNamespace()...) }

// recoverState contains the arguments of a recover that finishes the run of startInNamespace.
var recoverState = []string{"recover", "--state-dir", "state"}

// untilRecorded waits until the ledger of startInNamespace contains an event.
func (p *proc) untilRecorded(event string) {
	p.t.Helper()
	p.until("record of "+event, func() bool {
		text, _ := os.ReadFile(p.dir + "/state/x.ledger")
		return strings.Contains(string(text), fmt.Sprintf(`"event":"%s"`, event))
	})
}

// withDescendants returns a process and its descendants.
func withDescendants(pid int) (pids []int) {
	pids = []int{pid}
	for _, child := range childrenOf(pid) {
		pids = append(pids, withDescendants(child)...)
	}
	return pids
}

// recover finds and ends the tree of a run in another PID namespace whose processes /proc shows. recover finds
// processes by the run's id in their environment, or by their record.
func TestRecover_fromOutsideOfThePIDNamespace(t *testing.T) {
	need(t, "setsid")
	for name, target := range map[string]string{
		"a tree":               "setsid helper daemon daemon; until [ -e daemon ]; do :; done; echo >ready; exec sleep 1000",
		"a target with no env": "echo >ready; exec env -i sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startInNamespace(t, target, "--on-exit", cleanedBy)
			p.waitForFile("ready")
			p.untilRecorded("target started")
			graceful := gracefulPID(p)
			guard := guardOf(graceful)
			var members []int
			for _, child := range childrenOf(guard) {
				members = append(members, withDescendants(child)...)
			}
			killBoth(t, graceful)
			status, text := p.runGraceful(nil, recoverState...) // if the machine is busy, text may say that the grace ran out
			if status != "0" || text != "" && !strings.Contains(text, "the grace of 100ms ran out: ") {
				t.Errorf("recover: status %s, it wrote:\n%s", status, text)
			}
			p.wantFile("cleaned", "recovered\n")
			if slices.ContainsFunc(members, alive) || len(members) == 0 || inDir(t, p.dir+"/state") != "" {
				t.Errorf("processes of %v are left, or files in the state directory: %s", members, inDir(t, p.dir+"/state"))
			}
		})
	}
}

// recover waits for a running cleanup command in another PID namespace before it starts the next one. recover exits
// with 1, because it cannot see the status of that command.
func TestRecover_waitsForACommandFromOutside(t *testing.T) {
	p := startInNamespace(t, "exit 0", "--on-exit", "echo first >>cleaned", "--on-exit",
		"echo >cleaning; until [ -e go ]; do sleep 0.01; done; echo waited >>cleaned")
	p.waitForFile("cleaning")
	p.untilRecorded("command started")
	killBoth(t, gracefulPID(p))
	q := command(t, "graceful", "recover", "-v", "--state-dir", "state")
	q.cmd.Dir = p.dir
	q.start().waitForText("cleanup command still runs")
	time.Sleep(100 * time.Millisecond) // longer than the start of the next command takes
	p.wantFile("cleaned", "")
	p.touch("go")
	q.want("1")
	p.wantFile("cleaned", "waited\nfirst\n")
	text := q.text()
	if !strings.Contains(text, "end of cleanup command not seen") || strings.Contains(text, "interrupted") {
		t.Errorf("recover wrote:\n%s", text)
	}
}

// If recover cannot see the processes of a run, it leaves the run alone. A new run of the same name is refused if the
// name is given, and only warns otherwise. With --from-other-machines, recover runs the cleanup commands, and does not
// end the target.
func TestRecover_fromAThirdPIDNamespace(t *testing.T) {
	p := startInNamespace(t, "echo >ready; exec sleep 1000", "--on-exit", cleanedBy)
	p.waitForFile("ready")
	graceful := gracefulPID(p)
	target := childrenOf(guardOf(graceful))[0]
	killBoth(t, graceful)
	untyped := []string{"run", "--state-dir", "state", "--", p.dir + "/x", "3"}
	must(t, writeProgram(p.dir+"/x", []byte("#!/bin/sh\nexit $1")))
	for _, c := range []struct {
		status string
		args   []string
	}{
		{"1", recoverState}, {"0", append(recoverState, "--name", "y")}, {"3", untyped},
		{"125", []string{"run", "--state-dir", "state", "--name", "x", "--", "touch", "cleaned"}},
	} {
		status, text := p.runGraceful(inThirdNamespace(), c.args...)
		const why = "it began in another PID namespace, and its processes cannot be seen from here"
		if says := c.status != "0"; status != c.status || strings.Contains(text, why) != says ||
			strings.Contains(text, "--from-other-machines") != says {
			t.Errorf("%q: status %s, it wrote:\n%s", c.args, status, text)
		}
		p.wantFile("cleaned", "")
		if !alive(target) || inDir(t, p.dir+"/state") != "x.ledger" {
			t.Fatalf("%q: target alive: %t; in the state directory: %s", c.args, alive(target), inDir(t, p.dir+"/state"))
		}
	}
	status, text := p.runGraceful(inThirdNamespace(), append(recoverState, "--from-other-machines")...)
	if status != "0" || text != "" {
		t.Errorf("status %s, it wrote:\n%s", status, text)
	}
	p.wantFile("cleaned", "recovered\n")
	if !alive(target) || inDir(t, p.dir+"/state") != "" {
		t.Errorf("target alive: %t; in the state directory: %s", alive(target), inDir(t, p.dir+"/state"))
	}
}

// When a PID namespace has ended, none of its processes is left. recover can detect the end of the namespace if recover
// runs in the initial PID namespace, or if the graceful of the run was PID 1.
func TestRecover_afterThePIDNamespaceHasEnded(t *testing.T) {
	for _, asPID1 := range []bool{false, true} {
		for _, where := range []string{"recover outside", "recover in a third one", "run in a third one"} {
			t.Run(fmt.Sprintf("as PID 1 %t, %s", asPID1, where), func(t *testing.T) {
				t.Parallel()
				p := inNamespace(t, asPID1, "graceful", "run", "--state-dir", "state", "--name", "x", "--on-exit", cleanedBy,
					"--", "sh", "-c", "echo >ready; exec sleep 1000")
				p.start()
				p.waitForFile("ready")
				all := withDescendants(p.cmd.Process.Pid)
				kill(t, all...)
				p.want("KILL")
				p.until("end of the namespace", func() bool { return !slices.ContainsFunc(all, alive) })
				around, args, status := inThirdNamespace(), recoverState, map[bool]string{true: "0", false: "1"}[asPID1]
				switch {
				case where == "recover outside":
					around, status = nil, map[bool]string{true: "0", false: "1"}[asPID1 || seesAll(t)]
				case where == "run in a third one":
					args = []string{"run", "--state-dir", "state", "--name", "x", "--", "true"}
					status = map[bool]string{true: "0", false: "125"}[asPID1]
				}
				if got, text := p.runGraceful(around, args...); got != status {
					t.Errorf("status %s, want %s; it wrote:\n%s", got, status, text)
				}
				p.wantFile("cleaned", map[bool]string{true: "recovered\n", false: ""}[status == "0"])
			})
		}
	}
}

// If graceful is the child of an init that ends with graceful, no process of a dead run is left, and recover cleans up.
// If graceful is an orphan that was reparented to the init, the PID namespace may outlive graceful. A recover in a
// third namespace then leaves the run alone.
func TestRecover_belowAnInitThatEnds(t *testing.T) {
	need(t, "pidns", "tini")
	const run = `graceful run --state-dir state --name x --on-exit "$0" -- sh -c 'echo >ready; exec sleep 1000'`
	const orphan = `until read -r _ _ _ parent _ </proc/$$/stat && [ $parent = 1 ]; do :; done; exec `
	for name, c := range map[string]struct{ script, status, cleaned string }{
		"a child of the init": {"exec " + run, "0", "recovered\n"},
		"an orphan":           {"(sh -c '" + orphan + `"$@"' sh ` + run + " &); exec sleep 1000", "1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inNamespace(t, true, "tini", "--", "sh", "-c", c.script, cleanedBy).start()
			p.waitForFile("ready")
			all := withDescendants(p.cmd.Process.Pid)
			killBoth(t, gracefulPID(p))
			if name == "a child of the init" {
				p.until("end of the namespace", func() bool { return !slices.ContainsFunc(all, alive) })
			}
			if got, text := p.runGraceful(inThirdNamespace(), recoverState...); got != c.status {
				t.Errorf("status %s, want %s; it wrote:\n%s", got, c.status, text)
			}
			p.wantFile("cleaned", c.cleaned)
		})
	}
}

// origins contains places where a run may have begun, as its ledger records them, by their descriptions. The fields
// withID and without contain the reasons why recover leaves the run alone: withID on a machine with an id, and without
// on a machine that has none. "" means that recover finishes the run.
var origins = map[string]struct {
	change          func(begin map[string]any)
	withID, without string
}{
	"an earlier boot":      {func(b map[string]any) { b["machine"] = machineID }, "", perhaps},
	"another machine":      {func(b map[string]any) { b["machine"] = otherMachine }, certainly, perhaps},
	"a machine of no id":   {func(b map[string]any) { b["machine"] = "" }, perhaps, perhaps},
	"an earlier version":   {func(b map[string]any) { delete(b, "machine") }, "", ""},
	"an unknown boot":      {func(b map[string]any) { b["machine"], b["boot"] = "", "" }, "", ""},
	"an unknown namespace": {func(b map[string]any) { b["machine"], b["boot"] = otherMachine, "x" }, certainly, perhaps},
	"PID 1, no id":         {func(b map[string]any) { b["machine"], b["front"] = "", 1 }, "", ""},
	"PID 1, another id":    {func(b map[string]any) { b["machine"], b["front"] = otherMachine, 1 }, certainly, ""},
}

const (
	certainly = "it began on another machine, where its processes may live"
	perhaps   = "it began before a restart, or on another machine, where its processes may live"
)

const (
	machineID    = "fedcba9876543210fedcba9876543210"
	otherMachine = "0123456789abcdef0123456789abcdef"
)

// withMachineID returns the beginning of a command line that runs a command as on a machine with the id id. "" means a
// machine without an id.
func withMachineID(t *testing.T, id string) []string {
	t.Helper()
	need(t, "root", "unshare", "mount")
	if !isThere("/etc/machine-id") {
		t.Skip("there is no /etc/machine-id to mount over")
	}
	file := t.TempDir() + "/id"
	must(t, os.WriteFile(file, []byte(id+"\n"), 0o444))
	return []string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/machine-id && exec "$@"`, file}
}

// recover leaves a run alone that began elsewhere if, according to the ledger, processes of the run may be alive. With
// --from-other-machines, the user asserts that none is, and recover finishes the run.
func TestRecover_runThatBeganElsewhere(t *testing.T) {
	need(t, "linux")
	p, lines := startAndKill(t, "target", "target", "--on-exit", "echo $GRACEFUL_REASON >>cleaned", "--", "sh", "-c",
		"echo $$ >target; exec sleep 1000")
	kill(t, p.pidIn("target"))
	for name, c := range origins {
		for _, id := range []string{machineID, "", "uninitialized"} {
			t.Run(fmt.Sprintf("%s, id %.4q", name, id), func(t *testing.T) {
				t.Parallel()
				status, why := "0", c.without
				if id == machineID {
					why = c.withID
				}
				if why != "" {
					status = "1"
				}
				work, around := t.TempDir(), withMachineID(t, id)
				dir := stateDir(t, rewriteRecord(t, lines[0], func(_, begin map[string]any) {
					begin["boot"], begin["dir"] = "another pid:[4026531836]", work
					c.change(begin)
				})+lines[1])
				q := &proc{t: t, dir: work}
				got, text := q.runGraceful(around, "recover", "--state-dir", dir)
				if got != status || !strings.Contains(text, why) || (text == "") != (why == "") {
					t.Errorf("status %s, want %s; it wrote:\n%s", got, status, text)
				}
				if done := isThere(work + "/cleaned"); done != (status == "0") {
					t.Errorf("cleaned up: %t", done)
				}
				got, text = q.runGraceful(around, "recover", "--state-dir", dir, "--from-other-machines")
				if got != "0" || text != "" {
					t.Errorf("--from-other-machines: status %s, it wrote:\n%s", got, text)
				}
				if cleaned, _ := os.ReadFile(work + "/cleaned"); string(cleaned) != "recovered\n" || inDir(t, dir) != "" {
					t.Errorf("cleaned up: %q; left: %s", cleaned, inDir(t, dir))
				}
			})
		}
	}
}
