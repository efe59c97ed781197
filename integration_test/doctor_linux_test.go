package integration_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// runProgram runs a program and returns its exit status and its output. The output goes through a pipe, because in some
// places the program may not write to a file.
func runProgram(t *testing.T, args []string) (status, text string) {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Dir = "/"
	out, err := c.CombinedOutput()
	return ended(err), string(out)
}

// doctor runs a command line of graceful doctor. It returns the exit status, the names of the checks by their result
// (yes, no, partly), and the output. checks omits terminal and cgroup, whose results depend on the machine.
func doctor(t *testing.T, args []string) (status string, checks map[string][]string, text string) {
	t.Helper()
	status, text = runProgram(t, args)
	var found struct {
		Checks []struct {
			Name, Holds string
			Required    bool
		}
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatalf("%v: the doctor wrote\n%s", err, text)
	}
	checks = map[string][]string{}
	for _, c := range found.Checks {
		if c.Name != "terminal" && c.Name != "cgroup" {
			checks[c.Holds] = append(checks[c.Holds], c.Name)
		}
	}
	return status, checks, text
}

// validate fails the test unless the texts match a schema in docs.
func validate(t *testing.T, schema string, texts ...string) {
	t.Helper()
	c := exec.Command("python3", "-c", `import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
for text in sys.stdin.read().split("\0"):
	try: jsonschema.Draft202012Validator(schema).validate(json.loads(text))
	except Exception as e: sys.exit(f"{e}\nin\n{text}")`, filepath.Join("..", "docs", schema))
	c.Stdin = strings.NewReader(strings.Join(texts, "\x00"))
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("not valid by %s: %v\n%s", schema, err, out)
	}
}

// place is an environment in which the doctor and a run are compared.
type place struct {
	need     []string // requirements of the place
	around   []string // the command line before graceful; may contain $DIR, a directory of the test
	program  string   // the path of graceful in that place; "": plain
	stateDir string   // the value of --state-dir; may contain $DIR; "": no flag
	before   string   // a script that prepares the place; may contain $DIR, and $GRACEFUL, which is plain
	no       []string // the names of the checks with the result "no", sorted
	partly   []string // the same with the result "partly", in the order of the doctor
}

// preparedPlace describes a place after its preparation.
type preparedPlace struct {
	dir      string   // replaces $DIR
	graceful string   // the path of graceful in that place
	around   []string // the command line before graceful
	state    []string // the flag --state-dir, or empty
}

// expand replaces $DIR and $GRACEFUL in a string of a place.
func (h preparedPlace) expand(s string) string {
	return strings.NewReplacer("$DIR", h.dir, "$GRACEFUL", plain).Replace(s)
}

// prepare prepares a place in a new directory.
func (p place) prepare(t *testing.T) preparedPlace {
	t.Helper()
	h := preparedPlace{dir: t.TempDir(), graceful: plain}
	if out, err := exec.Command("sh", "-c", h.expand(p.before)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if p.program != "" {
		h.graceful = p.program
	}
	for _, word := range p.around {
		h.around = append(h.around, h.expand(word))
	}
	if p.stateDir != "" {
		h.state = []string{"--state-dir", h.expand(p.stateDir)}
	}
	return h
}

// A run warns or refuses exactly where the doctor reports "no".
func TestDoctor_agreesWithRun(t *testing.T) {
	need(t, "python3-jsonschema")
	var all sync.Mutex
	var texts []string
	t.Cleanup(func() { validate(t, "doctor.schema.json", texts...) })
	places := placesOfProcesses()
	maps.Copy(places, placesOfStateDirectories())
	for name, c := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, append(c.need, "unshare", "setpriv")...)
			h := c.prepare(t)
			text := c.checkDoctor(t, h)
			all.Lock()
			texts = append(texts, text)
			all.Unlock()
			checkCgroup(t, h, text)
			for refused, flags := range map[string][]string{
				"": nil, "shell": {"--on-exit", "echo >/dev/null"}, "parent": {"--die-with-parent"},
			} {
				c.checkRun(t, h, refused, flags)
			}
		})
	}
}

// checkDoctor checks the findings and the exit status of the doctor in a place. It returns the output of the doctor.
func (p place) checkDoctor(t *testing.T, h preparedPlace) (text string) {
	t.Helper()
	status, checks, text := doctor(t, slices.Concat(h.around, []string{h.graceful, "doctor", "--format", "json"}, h.state))
	slices.Sort(checks["no"])
	if !slices.Equal(checks["no"], p.no) || !slices.Equal(checks["partly"], p.partly) {
		t.Errorf("no: %q, partly: %q; want %q and %q", checks["no"], checks["partly"], p.no, p.partly)
	}
	if want := map[bool]string{true: "1", false: "0"}[len(p.required()) > 0]; status != want {
		t.Errorf("the doctor's exit status is %s, want %s", status, want)
	}
	return text
}

// required returns the checks in p.no that a run without flags needs.
func (p place) required() []string {
	return slices.DeleteFunc(slices.Clone(p.no), func(name string) bool { return name == "shell" || name == "parent" })
}

// checkCgroup checks that run --contain cgroup succeeds exactly if the doctor reports "yes" for the check cgroup. text
// is the output of the doctor. Whether a run can have a cgroup depends on the machine.
func checkCgroup(t *testing.T, h preparedPlace, text string) {
	t.Helper()
	holds := regexp.MustCompile(`"name": "cgroup",(?s:.*?)"holds": "(.*?)"`)
	if cgroup := holds.FindStringSubmatch(text); cgroup != nil {
		status, text := runProgram(t, slices.Concat(h.around,
			[]string{h.graceful, "run", "--contain", "cgroup", "--guard", "off", "--", h.graceful, "version"}))
		if (cgroup[1] == "yes") != (status == "0") {
			t.Errorf("cgroup: the doctor reports %s; run --contain cgroup: status %s, output:\n%.2000s", cgroup[1], status,
				text)
		}
	}
}

// checkRun checks the warnings and refusals of a run with flags. refused is the check that these flags require; "":
// none. If that check fails, the run reports only that check.
func (p place) checkRun(t *testing.T, h preparedPlace, refused string, flags []string) {
	t.Helper()
	status, text := runProgram(t, slices.Concat(h.around, []string{h.graceful, "run"}, flags, h.state,
		[]string{"--", h.graceful, "version"}))
	no := complaints(text)
	want := p.required()
	if slices.Contains(p.no, refused) {
		want = []string{refused}
	}
	quiet := status == "0" && strings.Count(text, "\n") == 1
	if !slices.Equal(no, want) || quiet != (len(no) == 0) {
		t.Errorf("run %q complains of %q, want %q; status %s, it wrote\n%.2000s", flags, no, want, status, text)
	}
}

// complaints returns the sorted names of the checks for which a run logs a warning or an error. text is the output of
// the run. If the run was refused because of the shell, the parent or the state directory, complaints returns only that
// name.
func complaints(text string) (names []string) {
	for _, c := range []struct{ text, name string }{
		{"needs /bin/sh", "shell"},
		{"the process that started graceful", "parent"},
		{"setting up the run: ", "state-directory"},
		{"there is no guard", "guard"}, // also if the guard could not create a thread
		{"\nfatal error: newosproc", "processes"},
		{"containment is limited level=group", "tree"},
	} {
		if !strings.Contains(text, c.text) {
			continue
		}
		switch names = append(names, c.name); c.name {
		case "shell", "parent", "state-directory":
			return names
		case "guard":
			text = strings.ReplaceAll(text, "newosproc", "")
		case "processes":
			names = append(names, "guard") // the run was refused before it started a guard
		}
	}
	slices.Sort(names)
	return names
}

// A stripped binary also finds out which signals were ignored when it was started. The target then ignores them, too.
func TestDoctor_strippedBinary(t *testing.T) {
	need(t, "env-signals")
	t.Parallel()
	stripped := filepath.Join(t.TempDir(), "graceful")
	if err := build(stripped, "-ldflags=-s"); err != nil {
		t.Fatal(err)
	}
	for _, graceful := range []string{plain, stripped} {
		_, checks, _ := doctor(t, []string{"env", "--ignore-signal=PIPE", graceful, "doctor", "--format", "json"})
		if !slices.Contains(checks["yes"], "signals") {
			t.Errorf("%s: want yes, have %q", graceful, checks)
		}
		_, text := runProgram(t, []string{"env", "--ignore-signal=PIPE", graceful, "run", "--", "grep", "^SigIgn:.*1...$",
			"/proc/self/status"})
		if !strings.HasPrefix(text, "SigIgn") {
			t.Errorf("%s: the target has %q", graceful, text)
		}
	}
}

// The doctor leaves no process behind: reap, as PID 1, ends only when all other processes have ended.
func TestDoctor_leavesNoProcess(t *testing.T) {
	p := inNamespace(t, true, "helper", "reap", "sh", "-c", `graceful doctor; echo "status $?"`).start()
	p.want("0")
	if text := p.text(); !strings.HasSuffix(text, "\nall required promises hold here\nstatus 0\n") {
		t.Errorf("it wrote\n%s", text)
	}
}

// A doctor that is killed leaves the ledger of its own run. recover removes that ledger, and runs no command.
func TestDoctor_killed(t *testing.T) {
	need(t, "strace", "norace")
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state") // strace kills only at an unlinkat(2) in this directory
	p := command(t, "strace", "-f", "-qq", "-P", state, "-e", "inject=unlinkat:signal=KILL:when=1", plain, "doctor",
		"--state-dir", state)
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	p.start().want("KILL")
	left, _ := filepath.Glob(filepath.Join(state, "doctor.*.ledger"))
	if len(left) != 1 {
		t.Fatalf("the doctor left %q; it wrote\n%s", left, p.text())
	}
	status, text := runProgram(t, []string{plain, "recover", "--state-dir", state})
	if entries, err := os.ReadDir(state); status != "0" || text != "" || err != nil || len(entries) > 0 {
		t.Errorf("recover: status %s, %q, %v; in the directory are %v", status, text, err, entries)
	}
}

// The doctor enters a container from outside, as with docker exec. If PID 1 ends as soon as its child ends, the kernel
// kills the guard of a killed graceful, too. If the doctor knows PID 1 as such an init by its name, it names PID 1. It
// does not know a shell.
func TestDoctor_fromOutsideOfTheContainer(t *testing.T) {
	need(t, "root", "pidns", "tini", "nsenter", "norace")
	for name, around := range map[string][]string{
		"tini": {"tini", "--"}, "graceful": nil, "sh": {"sh", "-c", `"$@"; exit`, "sh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inNamespace(t, true, append(around, "graceful", "run", "--", "sh", "-c", "echo $$ >target; exec sleep 1000")...)
			p.start()
			p.waitForFile("target")
			doctor := start(t, "nsenter", "-t", strconv.Itoa(childrenOf(p.cmd.Process.Pid)[0]), "-p", "-m", "graceful", "doctor")
			doctor.wait()
			want := " PID 1 is " + name + ": "
			if said := strings.Contains(doctor.text(), want); said != (name != "sh") {
				t.Errorf("%q: %t; it wrote:\n%s", want, said, doctor.text())
			}
		})
	}
}

// In the foreground of a terminal, the doctor reports the terminal as ok, and does not mention SIGTTOU. It leaves the
// modes and the foreground process group of the terminal unchanged.
func TestDoctor_terminal(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	x := inTerminal(t, 24, 80, "sh", "-c", `record() { stty -g; cut -d" " -f8 /proc/$$/stat; } # field 8: tpgid
		record >before; "$@"; record >after`, "sh", plain, "doctor")
	x.want("0")
	x.shows("required promises hold here") // the last line
	if text := x.text(); !strings.Contains(text, "ok    terminal ") || strings.Contains(text, "SIGTTOU") {
		t.Errorf("it wrote\n%s", text)
	}
	before := x.waitForFile("before")
	if group := strconv.Itoa(x.cmd.Process.Pid); !strings.HasSuffix(before, "\n"+group+"\n") {
		t.Fatalf("the foreground group is not %s: %q", group, before)
	}
	x.wantFile("after", before)
}

// The doctor reports whether graceful may signal processes of other users (CAP_KILL).
func TestDoctor_withoutTheRightToSignalOthers(t *testing.T) {
	need(t, "root", "setpriv")
	t.Parallel()
	for flag, want := range map[string]string{"-kill": "no    users", "+kill": "ok    users"} {
		p := start(t, "setpriv", "--bounding-set="+flag, "graceful", "doctor")
		p.wait()
		if !strings.Contains(p.text(), want) {
			t.Errorf("%s: no %q in\n%s", flag, want, p.text())
		}
	}
}
