//go:build engines

package engines

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const ociPage = "../../docs/engines/oci.md"

// oci is an OCI runtime that the test calls directly, in new namespaces.
type oci struct {
	name    string
	command []string // the words before a subcommand
}

// newOCI creates namespaces for a runtime.
func newOCI(t *testing.T, runtime string) *oci {
	t.Helper()
	needCommands(t, runtime, "busybox", "tini-static", "unshare", "nsenter")
	dir := t.TempDir()
	r := &oci{name: runtime}
	r.command = append(holdEngine(t, dir, "root"), runtime, "--root", dir+"/run")
	return r
}

// ociContainer represents a bundle, and the container that runs the bundle. The container is removed after the test.
type ociContainer struct {
	*oci
	t     *testing.T
	id    string
	mark  string   // the time that its daemon sleeps; identifies the daemon on the machine
	dir   string   // the bundle
	state string   // the state directory, on the host
	env   []string // additional variables
	page  page
}

// newContainer creates the bundle of the page, with a script as the service. The cleanup command works like
// countedCleanup, and also appends to the file cleaned in the state directory.
func (r *oci) newContainer(t *testing.T, script string, env ...string) *ociContainer {
	t.Helper()
	archive, err := rootFS()
	if err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprint(1_000_000_000 + rand.IntN(1_000_000_000))
	c := &ociContainer{oci: r, t: t, id: "graceful-engines-" + mark, mark: mark, dir: t.TempDir(), env: env}
	c.state = filepath.Join(t.TempDir(), "state")
	if out, ok := output("sh", "-ec", `mkdir "$1/rootfs" "$2"; chmod 700 "$2"; cd "$1/rootfs"; tar xf "$3"
		mkdir proc dev`, "sh", c.dir, c.state, archive); !ok {
		t.Fatal(out)
	}
	write(t, c.dir+"/rootfs/serve", "#!/bin/sh\nMARK="+mark+"\n"+script)
	write(t, c.dir+"/rootfs/flush", "#!/bin/sh\n"+
		`echo cleaned $GRACEFUL_REASON $(ps -o args | grep -c "^sleep `+mark+`") | tee -a /state/cleaned`)
	c.page = readPage(t, ociPage, "shop", c.id)
	c.configure()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: the log of the container:\n%s", c.name, c.text())
		}
		c.output("delete", "--force", c.id)
		until(t, "end of all processes", func() bool { return len(processesOf(mark)) == 0 })
	})
	return c
}

// configure writes the page's config.json for the directory of this container, with additional variables.
func (c *ociContainer) configure() {
	c.t.Helper()
	text := strings.ReplaceAll(c.page.files["config.json"], "/var/lib/"+c.id, c.state)
	var config map[string]any
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		c.t.Fatalf("config.json of the page: %v", err)
	}
	process := config["process"].(map[string]any)
	for _, variable := range append(c.env, "GRACEFUL_QUIET=1") { // of several variables with one name, the last one counts
		process["env"] = append(process["env"].([]any), variable)
	}
	data, err := json.Marshal(config)
	if err != nil {
		c.t.Fatal(err)
	}
	write(c.t, c.dir+"/config.json", string(data))
}

// output runs a subcommand of the runtime. It returns the output, and whether the subcommand succeeded.
func (r *oci) output(args ...string) (string, bool) {
	words := append(r.command[:len(r.command):len(r.command)], args...)
	return output(words[0], words[1:]...)
}

// do runs a subcommand, and fails the test unless it succeeds. It returns the output.
func (r *oci) do(t *testing.T, args ...string) string {
	t.Helper()
	out, ok := r.output(args...)
	if !ok {
		t.Fatalf("%s %q failed:\n%s", r.name, args, out)
	}
	return out
}

// perform runs a command line of the page in the directory of the bundle. The command runc on the page runs the runtime
// of c. perform returns the output, and whether the command line succeeded.
func (c *ociContainer) perform(line string) (string, bool) {
	c.t.Helper()
	line = strings.ReplaceAll(line, "/var/lib/"+c.id, c.state)
	script := `runc() { ` + strings.Join(c.command[:5], " ") + ` env -C "$PWD" ` + strings.Join(c.command[5:], " ") +
		` "$@"; }; ` + line
	cmd := exec.Command("timeout", "60", "sh", "-c", script)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// run starts the container in the background, and waits until its service is ready. If the runtime does not work on
// this machine, run skips the test.
func (c *ociContainer) run() {
	c.t.Helper()
	before := c.text()
	if out, ok := c.perform("runc run -d " + c.id + " </dev/null >>" + c.id + ".log 2>&1"); !ok {
		if c.text() == "" || strings.Contains(c.text(), "cgroup") {
			c.t.Skipf("%s does not start: %s%s", c.name, out, c.text())
		}
		c.t.Fatalf("%s run: %s%s", c.name, out, c.text())
	}
	until(c.t, "ready service", func() bool { return c.ready(before) })
}

// ready reports whether the output of the container, without the text before, ends with "ready".
func (c *ociContainer) ready(before string) bool {
	return strings.HasSuffix(strings.TrimPrefix(c.text(), before), "ready\n")
}

// text returns the output of the container, over all of its starts.
func (c *ociContainer) text() string { return content(filepath.Join(c.dir, c.id+".log")) }

// status returns the status of the container: created, running, paused or stopped. It returns "" if there is no
// container.
func (c *ociContainer) status() string {
	out, _ := c.output("state", c.id)
	var state struct{ Status string }
	_ = json.Unmarshal([]byte(out), &state)
	return state.Status
}

// wantEnd waits for the end of the container, and removes it. It fails the test unless the container has the wanted
// output and no process is left.
func (c *ociContainer) wantEnd(text string) {
	c.t.Helper()
	until(c.t, "end of the container", func() bool { return c.status() == "stopped" })
	if got := c.text(); got != text {
		c.t.Errorf("it wrote %q, want %q", got, text)
	}
	c.do(c.t, "delete", c.id)
	until(c.t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
}

// cleaned returns the text that the cleanup commands have written into the state directory.
func (c *ociContainer) cleaned() string { return content(c.state + "/cleaned") }
