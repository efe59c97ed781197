package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is the id of a user. That user is neither root nor the user that runs the test.
const stranger = "54328"

// openTempDir returns a directory that other users can reach, but cannot replace through one of its parents.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, dir := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runScript runs a script, and fails the test unless the script succeeds.
func runScript(t *testing.T, dir, script string) {
	t.Helper()
	c := exec.Command("sh", "-ec", script)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// replaceable is a parent of the state directory through which another user can replace the state directory. The texts
// may contain $DIR, the directory of the test.
type replaceable struct {
	root bool   // the script make needs root
	make string // a script that makes the parent, $DIR/data
	why  string // the reason in the warning
	hint string // the hint in the warning
}

// replaceables returns a map from the reason why a parent is unsafe to that parent.
func replaceables() map[string]replaceable {
	return map[string]replaceable{
		"writable by all": {false, "mkdir data; chmod 777 data",
			fmt.Sprintf("group or others may write to $DIR/data, its owner is user %d, its mode is 0777", os.Geteuid()),
			"chmod go-w $DIR/data"},
		"another user's": {true, "mkdir data; chown " + stranger + " data",
			"user " + stranger + " owns $DIR/data, its mode is 0755", "chown root $DIR/data"},
		"another user's link": {true, "mkdir real; ln -s real data; chown -h " + stranger + " data",
			"user " + stranger + " owns the symbolic link $DIR/data", "chown -h root $DIR/data"},
	}
}

// Another user can replace the state directory through one of its parents. run and recover log a warning, and the
// doctor reports "part". With --strict-state-dir, as a flag or a variable, run and recover refuse, and the doctor
// reports "no".
func TestStateDir_replaceableByAnotherUser(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for name, c := range replaceables() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.root {
				need(t, "root")
			}
			dir := openTempDir(t)
			runScript(t, dir, c.make)
			c.why, c.hint = strings.ReplaceAll(c.why, "$DIR", dir), strings.ReplaceAll(c.hint, "$DIR", dir)
			state := dir + "/data/sub/state" // graceful creates the last two directories
			c.checkCommands(t, dir, state)
			c.checkDoctor(t, state)
		})
	}
}

// checkCommands checks run and recover with a state directory below c, with --strict-state-dir and without. dir is the
// directory of the test.
func (c replaceable) checkCommands(t *testing.T, dir, state string) {
	t.Helper()
	can := "the state directory can be replaced by others: " + state + ": " + c.why
	warning := "graceful: " + can + " (" + c.hint + ", or --strict-state-dir to refuse)\n"
	refusal := "graceful: " + can + " (" + c.hint + ")\n"
	setup := strings.Replace(refusal, "graceful: ", "graceful: setting up the run: ", 1)
	started := filepath.Join(dir, "started")
	for _, x := range []struct {
		variable, status, text string
		args                   []string
	}{
		{"", "125", setup, []string{"run", "--strict-state-dir", "--", "touch", started}},
		{"1", "125", setup, []string{"run", "--on-exit", "touch " + started, "--", "touch", started}},
		{"", "0", warning, []string{"run", "--", "true"}},
		{"1", "0", warning, []string{"run", "--strict-state-dir=false", "--", "true"}},
		{"", "125", refusal, []string{"recover", "--strict-state-dir"}},
		{"1", "125", refusal, []string{"recover"}},
		{"", "0", warning, []string{"recover"}},
	} {
		p := command(t, append([]string{"graceful", x.args[0], "--state-dir", state}, x.args[1:]...)...)
		p.cmd.Env = append(os.Environ(), "GRACEFUL_STRICT_STATE_DIR="+x.variable)
		if status := p.start().wait(); status != x.status || p.text() != x.text {
			t.Errorf("%q, variable %q: status %s, want %s; it wrote\n%swant\n%s",
				x.args, x.variable, status, x.status, p.text(), x.text)
		}
	}
	if isThere(started) {
		t.Error("a command was started")
	}
}

// checkDoctor checks the findings of the doctor for a state directory below c, as text and as JSON.
func (c replaceable) checkDoctor(t *testing.T, state string) {
	t.Helper()
	for _, x := range []struct {
		flags        []string
		holds, exits string
	}{{nil, "part", "0"}, {[]string{"--strict-state-dir"}, "no", "1"}} {
		status, text := runProgram(t, append([]string{"graceful", "doctor", "--state-dir", state}, x.flags...))
		line := fmt.Sprintf("\n%-4s  state-directory  when all of graceful is killed, recover finishes the run: ", x.holds)
		why := "it can be replaced by others: " + c.why + " ("
		_, after, found := strings.Cut(text, line)
		first, _, _ := strings.Cut(after, "\n")
		if status != x.exits || !found || !strings.Contains(first, why) || !strings.Contains(first, c.hint) {
			t.Errorf("doctor %q: status %s, want %s; it wrote\n%s", x.flags, status, x.exits, text)
		}
		holds := map[string]string{"part": "partly", "no": "no"}[x.holds]
		asJSON := append([]string{"graceful", "doctor", "--format", "json", "--state-dir", state}, x.flags...)
		status, checks, text := doctor(t, asJSON)
		got := strings.Join(checks[holds], " ")
		if status != x.exits || got != "state-directory" || !strings.Contains(text, c.why) {
			t.Errorf("doctor %q as JSON: status %s, %s: %q; it wrote\n%s", x.flags, status, holds, got, text)
		}
	}
}

// graceful accepts the usual places of state directories, even with --strict-state-dir: below /var/lib for root, below
// a home directory, and below /tmp.
func TestStateDir_usualPlaces(t *testing.T) {
	need(t, "root", "setpriv")
	t.Parallel()
	dir := openTempDir(t)
	runScript(t, dir, "mkdir home home/user tmp; chmod 1777 tmp; mkdir -m 700 tmp/own; chown "+stranger+
		" home/user tmp/own")
	lib, err := os.MkdirTemp("/var/lib", "graceful-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(lib) })
	user := []string{"setpriv", "--reuid=" + stranger, "--regid=" + stranger, "--clear-groups"}
	for _, c := range []struct {
		around []string
		state  string
	}{
		{nil, lib + "/state"}, {nil, dir + "/tmp/state"}, {user, dir + "/home/user/.state/graceful"},
		{user, dir + "/tmp/own/state"}, {user, dir + "/tmp/state-2"},
	} {
		for _, args := range [][]string{{"run", "--", "true"}, {"recover"}} {
			args = append([]string{plain, args[0], "--strict-state-dir", "--state-dir", c.state}, args[1:]...)
			if status, text := runProgram(t, append(c.around, args...)); status != "0" || text != "" {
				t.Errorf("%q: status %s, it wrote\n%s", args, status, text)
			}
		}
	}
}

// Another user owns a parent of the state directory, and renames a directory in it while a run is alive. So a second
// run of the same name can start. Both runs log a warning. With --strict-state-dir, graceful refuses each run, and the
// test renames nothing.
func TestStateDir_parentRenamedByAnotherUser(t *testing.T) {
	need(t, "root", "setpriv")
	t.Parallel()
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict %t", strict), func(t *testing.T) {
			t.Parallel()
			dir := openTempDir(t)
			runScript(t, dir, "mkdir data; chown "+stranger+" data")
			run := func() *proc {
				p := command(t, "graceful", "run", fmt.Sprintf("--strict-state-dir=%t", strict), "--name", "one",
					"--state-dir", dir+"/data/app/state", "--", "sh", "-c", "echo $$ >pid; exec sleep 1000")
				return p.start()
			}
			rename := func() error {
				return exec.Command("setpriv", "--reuid="+stranger, "--clear-groups", "mv", dir+"/data/app", dir+"/data/old").Run()
			}
			first := run()
			if strict {
				first.want("125")
				second := run()
				second.want("125")
				if isThere(first.dir+"/pid") || isThere(second.dir+"/pid") {
					t.Error("the target was started")
				}
				return
			}
			first.pidIn("pid")
			same := run()
			same.want("125") // the first run has the name in the same state directory
			if err := rename(); err != nil {
				t.Fatal(err)
			}
			second := run()
			second.pidIn("pid")
			for _, p := range []*proc{first, second} {
				p.until("warning", func() bool { return strings.Contains(p.text(), "can be replaced by others") })
				if !alive(p.pidIn("pid")) {
					t.Errorf("it wrote\n%s", p.text())
				}
			}
			for _, p := range []*proc{first, second} {
				p.signal(unix.SIGTERM)
				p.want("143")
			}
		})
	}
}

// A state directory may be a symbolic link that no other user can replace. systemd creates such a link for a unit with
// DynamicUser=yes: /var/lib/x leads to private/x. Runs by the path of the link and by the path of the directory share
// the state directory.
func TestStateDir_isALink(t *testing.T) {
	need(t, "linux")
	user := []string{"setpriv", "--reuid=" + stranger, "--regid=" + stranger, "--clear-groups"}
	for name, c := range map[string]struct {
		root   bool
		around []string
		make   string // a script that creates state, a link, and real, another path of the same directory
	}{
		"own link":          {false, nil, "mkdir -m 700 real; ln -s real state"},
		"in a sticky place": {false, nil, "chmod 1777 .; mkdir -m 700 real; ln -s $PWD/real state"},
		"root's, of a user": {true, user, "mkdir -m 700 private private/x; chmod 711 private; chown " + stranger +
			" private/x; ln -s private/x state; ln -s private/x real"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.root {
				need(t, "root", "setpriv")
			}
			dir := openTempDir(t)
			runScript(t, dir, c.make)
			work := openTempDir(t)
			must(t, os.Chmod(work, 0o777))
			graceful := func(args ...string) *proc {
				p := command(t, slices.Concat(c.around, []string{plain}, args)...)
				p.cmd.Dir, p.dir = work, work
				return p.start()
			}
			run := func(state string) *proc {
				return graceful("run", "--strict-state-dir", "--state-dir", state, "--name", "x", "--on-exit",
					"echo $GRACEFUL_REASON >>cleaned", "--", "sh", "-c", "echo $$ >target; exec sleep 1000")
			}
			first := run(dir + "/state")
			first.pidIn("target")
			second := run(dir + "/real")
			second.want("125")
			if !strings.Contains(second.text(), "a run named x lives") {
				t.Errorf("it wrote:\n%s", second.text())
			}
			kill(t, first.cmd.Process.Pid) // the new graceful opens the state directory by the path of the link
			first.want("KILL")
			first.until("end of the run", func() bool { return inDir(t, dir+"/real") == "" })
			must(t, os.Remove(work+"/target"))
			second = run(dir + "/real/")
			second.pidIn("target")
			killBoth(t, second.cmd.Process.Pid)
			second.want("KILL")
			graceful("recover", "--strict-state-dir", "--state-dir", dir+"/state").want("0")
			second.wantFile("cleaned", "orphaned\nrecovered\n")
			doctor := graceful("doctor", "--strict-state-dir", "--state-dir", dir+"/state")
			if status, text := doctor.wait(), doctor.text(); status != "0" || strings.Contains(text, "link") ||
				inDir(t, dir+"/real") != "" {
				t.Errorf("doctor: status %s; left: %s; it wrote:\n%s", status, inDir(t, dir+"/real"), text)
			}
		})
	}
}

// graceful refuses a link that another user can replace. It also refuses a link to a missing directory, because the
// volume with that directory may not be mounted yet.
func TestStateDir_refusedLink(t *testing.T) {
	need(t, "linux")
	for name, c := range map[string]struct {
		root       bool
		make, says string
	}{
		"another user's": {true, "mkdir -m 700 real; ln -s real state; chown -h " + stranger + " state",
			"it is a symbolic link, not a directory, which is not followed: user " + stranger + " owns the symbolic link"},
		"in a directory of all": {false, "mkdir -m 700 real; ln -s real state; chmod 777 .",
			"it is a symbolic link, not a directory, which is not followed: group or others may write to"},
		"to nowhere": {false, "ln -s real state", "it is a symbolic link to a directory that does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.root {
				need(t, "root")
			}
			dir := openTempDir(t)
			runScript(t, dir, c.make)
			for _, args := range [][]string{{"run", "--", "touch", dir + "/started"}, {"recover"}, {"doctor"}} {
				status, text := runProgram(t, append([]string{plain, args[0], "--state-dir", dir + "/state"}, args[1:]...))
				want := map[bool]string{true: "1", false: "125"}[args[0] == "doctor"]
				if status != want || !strings.Contains(text, c.says) || isThere(dir+"/started") {
					t.Errorf("%s: status %s, want %s; it wrote:\n%s", args[0], status, want, text)
				}
			}
		})
	}
}

// A missing state directory contains no runs. recover then succeeds and creates nothing, because recover may be the
// first command, at boot or in an init container. If a file takes the place of a directory, recover fails.
func TestRecover_missingStateDir(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	for state, want := range map[string]string{"none": "0", "none/none": "0", "file": "125", "file/none": "125"} {
		status, text := runProgram(t, []string{plain, "recover", "--strict-state-dir", "--state-dir", dir + "/" + state})
		if status != want || (text == "") != (want == "0") || isThere(dir+"/none") {
			t.Errorf("%s: status %s, want %s; it wrote:\n%s", state, status, want, text)
		}
	}
	_, text := runProgram(t, []string{plain, "recover", "-v", "--state-dir", dir + "/none"})
	if !strings.Contains(text, "nothing to recover: ") || strings.Count(text, "\n") != 1 {
		t.Errorf("it wrote:\n%s", text)
	}
}
