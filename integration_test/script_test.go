package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start":    cmdStart,
			"signal":   cmdSignal,
			"exitcode": cmdExitcode,
			"alive":    cmdAlive,
			"waitfor":  cmdWaitfor,
			"waitgone": cmdWaitgone,
			"lines":    cmdLines,
			"guard":    cmdGuard,
		},
	})
}

type processKey struct{}

func setup(env *testscript.Env) error {
	env.Setenv("PATH", os.Getenv("PATH"))
	env.Setenv("GOCOVERDIR", coverage)
	env.Setenv("GORACE", os.Getenv("GORACE"))
	if runtime.GOOS != "linux" {
		// Name the level, because with auto graceful would log a warning in every run.
		env.Setenv("GRACEFUL_CONTAIN", "group")
	}
	started := map[string]*exec.Cmd{}
	env.Values[processKey{}] = started
	env.Defer(func() {
		for _, c := range started {
			if c.ProcessState == nil {
				_ = c.Process.Kill()
				_ = c.Wait()
			}
		}
	})
	return nil
}

// condition implements the condition needs:WHAT of a script, as in `[!needs:root] skip`. WHAT is a requirement, as in
// the arguments of need. Where skipping is forbidden, a missing requirement fails the script.
func condition(cond string) (bool, error) {
	what, ok := strings.CutPrefix(cond, "needs:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	if has(what) {
		return true, nil
	}
	if noSkip {
		return false, fmt.Errorf("%s is needed and missing", what)
	}
	return false, nil
}

// start NAME PROGRAM [ARG...] runs a program in the background, with standard output to NAME.out and standard error to
// NAME.err.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM [ARG...]")
	}
	c := exec.Command(args[1], args[2:]...)
	c.Dir = ts.MkAbs(".")
	c.Env = environ(ts)
	var err error
	c.Stdout, err = os.Create(ts.MkAbs(args[0] + ".out"))
	ts.Check(err)
	c.Stderr, err = os.Create(ts.MkAbs(args[0] + ".err"))
	ts.Check(err)
	ts.Check(c.Start())
	ts.Value(processKey{}).(map[string]*exec.Cmd)[args[0]] = c
}

// environ returns the variables of the script's environment that graceful and the programs need. (testscript does not
// export the environment.)
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "GOCOVERDIR", "GORACE", "GRACEFUL_CONTAIN"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// signal NAME|FILE SIGNAL signals a started process, or the process with the pid in a file.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME|FILE SIGNAL")
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(args[1], "SIG"))
	if sig == 0 {
		ts.Fatalf("no signal %s", args[1])
	}
	if c, ok := ts.Value(processKey{}).(map[string]*exec.Cmd)[args[0]]; ok {
		ts.Check(c.Process.Signal(sig))
		return
	}
	ts.Check(syscall.Kill(pidIn(ts, args[0]), sig))
}

// exitcode N PROGRAM [ARG...] runs a program, and fails the script unless the exit status is N. exitcode N &NAME waits
// for a started program, and checks its status in the same way. If a signal ended the program, its status is the name
// of the signal without SIG.
func cmdExitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N PROGRAM [ARG...] | exitcode N &NAME")
	}
	var err error
	if name, ok := strings.CutPrefix(args[1], "&"); ok {
		c := ts.Value(processKey{}).(map[string]*exec.Cmd)[name]
		if c == nil {
			ts.Fatalf("nothing was started as %s", name)
		}
		timer := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
		err = c.Wait()
		if !timer.Stop() {
			ts.Fatalf("%s has not ended in %v\n%s", name, patience, ts.ReadFile(name+".err"))
		}
	} else {
		err = ts.Exec(args[1], args[2:]...)
	}
	if got := ended(err); got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// alive FILE fails the script unless every pid in the file is a living process. ! alive FILE fails the script if one of
// these processes is alive. Neither form waits. A zombie is not alive.
func cmdAlive(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] alive FILE")
	}
	for _, pid := range pidsIn(ts, args[0]) {
		if alive(pid) == neg {
			ts.Fatalf("process %d: alive is %t", pid, neg)
		}
	}
}

// waitgone FILE waits until no pid in the file is a living process.
func cmdWaitgone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitgone FILE")
	}
	pids := pidsIn(ts, args[0])
	for deadline := time.Now().Add(patience); slices.ContainsFunc(pids, alive); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("not all of %v are gone in %v", pids, patience)
		}
	}
}

func pidsIn(ts *testscript.TestScript, file string) (pids []int) {
	for field := range strings.FieldsSeq(ts.ReadFile(file)) {
		pid, err := strconv.Atoi(field)
		ts.Check(err)
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		ts.Fatalf("%s holds no pid", file)
	}
	return pids
}

// guard NAME FILE fails the script unless the started graceful has a guard, and writes the pid of the guard to a file.
// ! guard NAME fails the script if the started graceful has a guard. Both commands look once, so the target must run.
func cmdGuard(ts *testscript.TestScript, neg bool, args []string) {
	if neg != (len(args) == 1) || len(args) > 2 {
		ts.Fatalf("usage: guard NAME FILE | ! guard NAME")
	}
	c := ts.Value(processKey{}).(map[string]*exec.Cmd)[args[0]]
	if c == nil {
		ts.Fatalf("nothing was started as %s", args[0])
	}
	pid := guardOf(c.Process.Pid)
	if has := pid != c.Process.Pid; has == neg {
		ts.Fatalf("%s has a guard: %t", args[0], has)
	}
	if !neg {
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), fmt.Appendln(nil, pid), 0o644))
	}
}

func pidIn(ts *testscript.TestScript, file string) int {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(file)))
	ts.Check(err)
	if pid < 2 {
		ts.Fatalf("%s holds pid %d, which no test signals", file, pid)
	}
	return pid
}

// waitfor FILE [REGEXP] waits until the file has content. With REGEXP it waits until the content matches.
func cmdWaitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitfor FILE [REGEXP]")
	}
	want := regexp.MustCompile("(?s).")
	if len(args) == 2 {
		want = regexp.MustCompile("(?m)" + args[1])
	}
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		data, _ := os.ReadFile(path)
		if want.Match(data) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s has not come to match %s in %v; it is:\n%s", filepath.Base(path), want, patience, data)
		}
	}
}

// lines N FILE [REGEXP] fails the script unless the file has N lines. With REGEXP it counts only lines that match.
func cmdLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: lines N FILE [REGEXP]")
	}
	re := regexp.MustCompile("")
	if len(args) == 3 {
		re = regexp.MustCompile(args[2])
	}
	n := 0
	text := ts.ReadFile(args[1])
	for line := range strings.Lines(text) {
		if re.MatchString(strings.TrimSuffix(line, "\n")) {
			n++
		}
	}
	if want, err := strconv.Atoi(args[0]); err != nil || n != want {
		ts.Fatalf("%d lines in %s, want %s:\n%s", n, args[1], args[0], text)
	}
}
