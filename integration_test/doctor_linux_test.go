package integration_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// endOf is how a program ended, and all that it wrote, to a pipe: not every place lets us write a file.
func endOf(t *testing.T, args []string) (status, text string) {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Dir = "/"
	out, err := c.CombinedOutput()
	return ended(err), string(out)
}

// doctor returns the names of the checks by whether they hold, of those that matter here, and what they were read from.
func doctor(t *testing.T, args []string) (status string, checks map[string][]string, text string) {
	t.Helper()
	status, text = endOf(t, args)
	var found struct {
		Checks []struct {
			Name, Holds string
			Required    bool
		}
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatalf("%v: it wrote\n%s", err, text)
	}
	checks = map[string][]string{}
	for _, c := range found.Checks {
		if c.Name != "terminal" && c.Name != "cgroup" {
			checks[c.Holds] = append(checks[c.Holds], c.Name)
		}
	}
	return status, checks, text
}

// validate holds texts against a schema of ours.
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
		t.Errorf("not as %s has it: %v\n%s", schema, err, out)
	}
}

// Where the doctor says no, there run warns or refuses, and nowhere else.
func TestTheDoctorAndRunAgree(t *testing.T) {
	need(t, "python3-jsonschema")
	var all sync.Mutex
	var texts []string
	t.Cleanup(func() { validate(t, "doctor.schema.json", texts...) })
	root := []string{"root", "norace"}
	sh := func(script string) []string { return []string{"sh", "-c", script, "sh"} }
	namespace := func(inside ...string) []string {
		return append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}, inside...)
	}
	few := func(limit string, uid string) []string {
		return namespace(append(sh(`"$@"; exit $?`), "prlimit", "--nproc="+limit, "setpriv", "--reuid="+uid,
			"--clear-groups")...)
	}
	for name, c := range map[string]struct {
		need     []string
		around   []string
		program  string // where graceful is there
		stateDir string // which may hold DIR, a directory of the test's own
		before   string // a script that makes the place, with DIR
		no       []string
		partly   []string
	}{
		"nothing special": {},
		"another user": {need: root,
			around: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}},
		"PID 1": {need: root, around: namespace(), no: []string{"parent"}, partly: []string{"guard"}},
		"another namespace's /proc": {need: root,
			around: append([]string{"unshare", "--pid", "--fork", "--kill-child"}, sh(`"$@"; exit $?`)...),
			no:     []string{"parent", "tree"}, partly: []string{"socket"}},
		"PID 1 without its /proc": {need: root, around: []string{"unshare", "--pid", "--fork", "--kill-child"},
			no: []string{"parent"}, partly: []string{"guard", "socket"}},
		"a /proc that hides others": {need: root,
			around: append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount"},
				sh(`mount -t proc -o hidepid=2 proc /proc && setpriv --reuid=54323 --regid=54323 --clear-groups "$@"; exit $?`)...),
			no: []string{"parent"}, partly: []string{"tree"}},
		"no processes for a guard": {need: root, around: few("25", "54324"), no: []string{"guard", "parent"}},
		"no processes for a run":   {need: root, around: few("12", "54325"), no: []string{"guard", "parent", "processes"}},
		"no files of any size": {need: []string{"norace", "prlimit"}, around: []string{"prlimit", "--fsize=0"},
			no: []string{"guard"}},
		"nothing but graceful": {need: root, before: "cp $GRACEFUL $DIR/graceful", around: []string{"chroot", "$DIR"},
			program: "/graceful", no: []string{"guard", "shell", "tree"}, partly: []string{"socket", "signals"}},
		"a state directory":     {before: "mkdir -m 700 $DIR/state", stateDir: "$DIR/state"},
		"one that is not there": {stateDir: "$DIR/a/state", partly: []string{"state-directory"}},
		"one that others write to": {before: "mkdir $DIR/state; chmod 777 $DIR/state", stateDir: "$DIR/state",
			no: []string{"state-directory"}},
		"one that is a link": {before: "mkdir -m 700 $DIR/state; ln -s state $DIR/link", stateDir: "$DIR/link",
			no: []string{"state-directory"}},
		"one that is a file": {before: "echo >$DIR/state", stateDir: "$DIR/state", no: []string{"state-directory"}},
		"one below a file": {before: "echo >$DIR/file", stateDir: "$DIR/file/state",
			no: []string{"state-directory"}},
		"one that is another user's": {need: root, before: "mkdir -m 700 $DIR/state; chown 54321 $DIR/state",
			stateDir: "$DIR/state", no: []string{"state-directory"}},
		"one that cannot be made": {need: root, around: readOnly, stateDir: "$DIR/state", no: []string{"state-directory"}},
		"one that cannot be written": {need: root, before: "mkdir -m 700 $DIR/state", around: readOnly,
			stateDir: "$DIR/state", no: []string{"state-directory"}},
		"one that is full": {need: root,
			around: append([]string{"unshare", "--mount"},
				sh(`mount -t tmpfs -o size=4k,mode=700 none $DIR && head -c 4096 /dev/zero >$DIR/full && exec "$@"`)...),
			stateDir: "$DIR", no: []string{"state-directory"}},
		"one that is in memory": {need: root,
			around:   append([]string{"unshare", "--mount"}, sh(`mount -t tmpfs -o mode=700 none $DIR && exec "$@"`)...),
			stateDir: "$DIR", partly: []string{"state-directory"}},
		"not a processor to spare": {need: []string{"taskset"}, around: []string{"taskset", "-c", "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, append(c.need, "unshare", "setpriv")...)
			dir := t.TempDir()
			in := func(s string) string {
				return strings.NewReplacer("$DIR", dir, "$GRACEFUL", plain).Replace(s)
			}
			if out, err := exec.Command("sh", "-c", in(c.before)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			graceful := plain
			if c.program != "" {
				graceful = c.program
			}
			var around, state []string
			for _, word := range c.around {
				around = append(around, in(word))
			}
			if c.stateDir != "" {
				state = []string{"--state-dir", in(c.stateDir)}
			}
			status, checks, text := doctor(t, slices.Concat(around, []string{graceful, "doctor", "--format", "json"}, state))
			all.Lock()
			texts = append(texts, text)
			all.Unlock()
			slices.Sort(checks["no"])
			if !slices.Equal(checks["no"], c.no) || !slices.Equal(checks["partly"], c.partly) {
				t.Errorf("no: %q, partly: %q; want %q and %q", checks["no"], checks["partly"], c.no, c.partly)
			}
			failed := slices.DeleteFunc(slices.Clone(c.no),
				func(name string) bool { return name == "shell" || name == "parent" })
			if want := map[bool]string{true: "1", false: "0"}[len(failed) > 0]; status != want {
				t.Errorf("the doctor's exit status is %s, want %s", status, want)
			}
			// Whether there are cgroups is the machine's doing.
			holds := regexp.MustCompile(`"name": "cgroup",(?s:.*?)"holds": "(.*?)"`)
			if cgroup := holds.FindStringSubmatch(text); cgroup != nil {
				status, text := endOf(t, slices.Concat(around,
					[]string{graceful, "run", "--contain", "cgroup", "--guard", "off", "--", graceful, "version"}))
				if (cgroup[1] == "yes") != (status == "0") {
					t.Errorf("cgroup: the doctor says %s; run --contain cgroup: status %s, it wrote\n%.2000s", cgroup[1], status, text)
				}
			}
			for refused, flags := range map[string][]string{
				"": nil, "shell": {"--on-exit", "echo >/dev/null"}, "parent": {"--die-with-parent"},
			} {
				status, text := endOf(t, slices.Concat(around, []string{graceful, "run"}, flags, state,
					[]string{"--", graceful, "version"}))
				no := complaints(text)
				var want []string
				for _, name := range c.no {
					if name != "shell" && name != "parent" {
						want = append(want, name)
					}
				}
				if slices.Contains(c.no, refused) { // then it says no more
					want = []string{refused}
				}
				quiet := status == "0" && strings.Count(text, "\n") == 1
				if !slices.Equal(no, want) || quiet != (len(no) == 0) {
					t.Errorf("run %q complains of %q, want %q; status %s, it wrote\n%.2000s", flags, no, want, status, text)
				}
			}
		})
	}
}

// complaints are the names of the checks for what a run warns of or refuses, sorted.
func complaints(text string) (names []string) {
	for _, c := range []struct{ text, name string }{
		{"needs /bin/sh", "shell"},
		{"the process that started graceful", "parent"},
		{"setting up the run: ", "state-directory"},
		{"there is no guard", "guard"}, // also where the supervisor had no thread
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
			names = append(names, "guard") // it did not come to that
		}
	}
	slices.Sort(names)
	return names
}

var readOnly = []string{"unshare", "--mount", "sh", "-c",
	`mount --bind $DIR $DIR && mount -o remount,ro,bind $DIR && exec "$@"`, "sh"}

// In a stripped binary the doctor finds what a run loses.
func TestTheDoctorKnowsAStrippedBinary(t *testing.T) {
	need(t, "env-signals")
	t.Parallel()
	stripped := filepath.Join(t.TempDir(), "graceful")
	if err := build(stripped, "-ldflags=-s"); err != nil {
		t.Fatal(err)
	}
	for graceful, want := range map[string]string{plain: "yes", stripped: "partly"} {
		_, checks, _ := doctor(t, []string{"env", "--ignore-signal=PIPE", graceful, "doctor", "--format", "json"})
		if !slices.Contains(checks[want], "signals") {
			t.Errorf("%s: want %s, have %q", graceful, want, checks)
		}
		_, text := endOf(t, []string{"env", "--ignore-signal=PIPE", graceful, "run", "--", "grep", "^SigIgn:.*1...$",
			"/proc/self/status"})
		if found := strings.HasPrefix(text, "SigIgn"); found != (want == "yes") {
			t.Errorf("%s: the target has %q", graceful, text)
		}
	}
}

// Nobody is left of what the doctor starts: who waits for all of a namespace to end ends with it.
func TestTheDoctorLeavesNobodyBehind(t *testing.T) {
	p := inNamespace(t, true, "helper", "reap", "sh", "-c", `graceful doctor; echo "status $?"`).start()
	p.want("0")
	if text := p.text(); !strings.HasSuffix(text, "\nall required promises hold here\nstatus 0\n") {
		t.Errorf("it wrote\n%s", text)
	}
}

// The doctor's own ledger is harmless should it be killed while it has that.
func TestWhatAKilledDoctorLeavesIsTakenAwayByRecover(t *testing.T) {
	need(t, "strace", "norace")
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state") // what is removed elsewhere (a run's cgroup) is none of it
	p := command(t, "strace", "-f", "-qq", "-P", state, "-e", "inject=unlinkat:signal=KILL:when=1", plain, "doctor",
		"--state-dir", state)
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	p.start().want("KILL")
	left, _ := filepath.Glob(filepath.Join(state, "doctor.*.ledger"))
	if len(left) != 1 {
		t.Fatalf("it has left %q; it wrote\n%s", left, p.text())
	}
	status, text := endOf(t, []string{plain, "recover", "--state-dir", state})
	if entries, err := os.ReadDir(state); status != "0" || text != "" || err != nil || len(entries) > 0 {
		t.Errorf("recover: status %s, %q, %v; in the directory are %v", status, text, err, entries)
	}
}

// A terminal is told, and not touched.
func TestTheDoctorTellsATerminal(t *testing.T) {
	need(t, "script")
	_, text := endOf(t, []string{"script", "-qec", plain + " doctor", "/dev/null"})
	if !strings.Contains(text, "ok    terminal ") || strings.Contains(text, "SIGTTOU") {
		t.Errorf("it wrote\n%s", text)
	}
}
