package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// named starts runs with a common state directory. Their target is a shell script with a chosen file name, which is the
// default name of the runs.
type named struct {
	t     testing.TB
	state string
	shell string // path of the script, which evaluates its first argument
}

// newNamed creates a script with the file name name. The first run creates the state directory.
func newNamed(t testing.TB, name string) named {
	t.Helper()
	n := named{t, filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), name)}
	if err := writeProgram(n.shell, []byte("#!/bin/sh\neval \"$1\"\n")); err != nil {
		t.Fatal(err)
	}
	return n
}

// run starts a run whose target is the shell of n with a script. The name of the run is the file name of the shell. If
// typed is true, --name gives that name. Otherwise that name is the default.
func (n named) run(typed bool, script string, flags ...string) *proc {
	n.t.Helper()
	args := []string{"graceful", "run", "--state-dir", n.state}
	if typed {
		args = append(args, "--name", filepath.Base(n.shell))
	}
	return start(n.t, append(append(args, flags...), "--", n.shell, script)...)
}

// runUntilStopped starts a run that lasts until it is stopped, and waits until its target runs. Its cleanup command
// writes the reason to the file cleaned.
func (n named) runUntilStopped(typed bool, flags ...string) *proc {
	n.t.Helper()
	p := n.run(typed, "echo $$ >target; exec sleep 1000", append(flags, "--on-exit", "echo $GRACEFUL_REASON >>cleaned")...)
	p.pidIn("target")
	return p
}

// kill kills graceful and the guard of each run, and waits for their end.
func (n named) kill(runs ...*proc) {
	n.t.Helper()
	for _, p := range runs {
		killBoth(n.t, p.cmd.Process.Pid)
		p.want("KILL")
	}
}

// A new run first finishes the killed runs of its name, and only these. That name is either given, or the file name of
// COMMAND. A name may contain any bytes of a file name.
func TestName_finishesKilledRuns(t *testing.T) {
	need(t, "linux")
	for what, name := range map[string]string{
		"plain": "make", "odd": ".\xff o%7E~'\"\n", "hashed": strings.Repeat("x", 180),
		"hashed, longest": strings.Repeat("%", 250), "hashed with the id only": strings.Repeat("x", 165),
	} {
		for _, typed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, typed %t", what, typed), func(t *testing.T) {
				t.Parallel()
				n := newNamed(t, name)
				dead := []*proc{n.runUntilStopped(false), n.runUntilStopped(false), n.runUntilStopped(true)}
				other := newNamed(t, name+"2")
				other.state = n.state
				kept := other.runUntilStopped(false)
				n.kill(append(dead, kept)...)
				next := n.run(typed, "exit $(cat "+dead[0].dir+"/cleaned "+dead[1].dir+"/cleaned "+dead[2].dir+"/cleaned | wc -l)")
				next.want("3")
				for _, p := range dead {
					p.wantFile("cleaned", "recovered\n")
					p.untilReaped(p.pidIn("target"))
				}
				if text := next.text(); strings.Count(text, "finishing a killed run first") != 3 {
					t.Errorf("it wrote:\n%s", text)
				}
				if left := inDir(t, n.state); strings.Count(left, ".ledger") != 1 || !alive(kept.pidIn("target")) {
					t.Errorf("the state directory has %q, want only the run of the other name", left)
				}
				recoverIn(t, n.state, "0")
			})
		}
	}
}

// Only runs with a given name exclude each other. Several runs with the same default name may live at the same time.
// One run with the same name from --name may live next to them.
func TestName_defaultNameDoesNotExclude(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	n := newNamed(t, "make")
	live := []*proc{n.runUntilStopped(true), n.runUntilStopped(false)}
	n.run(false, "exit 3").want("3")
	n.run(true, "exit 3").want("125")
	dead := n.runUntilStopped(false)
	n.kill(dead)
	n.run(false, "exit 3").want("3")
	dead.wantFile("cleaned", "recovered\n")
	for _, p := range live {
		if !alive(p.pidIn("target")) || p.text() != "" {
			t.Errorf("a live run was disturbed; it wrote:\n%s", p.text())
		}
		p.signal(unix.SIGTERM)
		p.want("143")
		p.wantFile("cleaned", "stopped\n")
	}
	if left := inDir(t, n.state); left != "" {
		t.Errorf("left in the state directory: %s", left)
	}
}

// A killed run that cannot be finished does not prevent another run, unless both have the same given name.
func TestName_besideAnUnfinishableRun(t *testing.T) {
	need(t, "linux")
	p, lines := startAndKill(t, "target", "target", "--", "sh", "-c", "echo $$ >target; exec sleep 1000")
	kill(t, p.pidIn("target"))
	id := strings.Repeat("0123456789abcdef", 2)
	for name, c := range map[string]struct {
		change func(record, begin map[string]any)
		says   string
	}{
		"another version": {func(r, _ map[string]any) { r["graceful"] = 99 }, "its version is 99"},
		"another machine": {func(_, b map[string]any) { b["boot"], b["machine"] = "another", "" }, "--from-other-machines"},
	} {
		text := rewriteRecord(t, lines[0], c.change) + lines[1]
		for _, typed := range []bool{false, true} {
			for file, status := range map[string]string{"x." + id + ".ledger": "3", "x.ledger": map[bool]string{
				false: "3", true: "125"}[typed]} {
				t.Run(fmt.Sprintf("%s, %.8s, typed %t", name, file, typed), func(t *testing.T) {
					t.Parallel()
					n := newNamed(t, "x")
					n.state = stateDir(t, text)
					must(t, os.Rename(ledgerIn(n.state), filepath.Join(n.state, file)))
					next := n.run(typed, "exit 3")
					next.want(status)
					if said := next.text(); !strings.Contains(said, c.says) || strings.Count(said, "\n") != 1 ||
						inDir(t, n.state) != file {
						t.Errorf("it wrote:\n%sand left %s", said, inDir(t, n.state))
					}
				})
			}
		}
	}
}

// Runs of one name and a recover start at once, while there are killed runs of that name. Each killed run is finished
// once.
func TestName_concurrentRunsFinishKilledRuns(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for range rounds(12) {
		n := newNamed(t, "make")
		dead := []*proc{n.runUntilStopped(false), n.runUntilStopped(false), n.runUntilStopped(true)}
		n.kill(dead...)
		recovering := start(t, "graceful", "recover", "--state-dir", n.state)
		next := []*proc{n.run(false, "exit 3"), n.run(true, "exit 3"), n.run(false, "exit 3")}
		for _, p := range next {
			p.want("3")
		}
		recovering.want("0")
		recoverIn(t, n.state, "0")
		for _, p := range dead {
			p.wantFile("cleaned", "recovered\n")
			p.untilReaped(p.pidIn("target"))
		}
		if left := inDir(t, n.state); left != "" {
			t.Fatalf("left in the state directory: %s", left)
		}
	}
}
