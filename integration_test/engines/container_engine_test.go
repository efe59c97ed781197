//go:build engines

package engines

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// containerEngine is a container engine whose command line is like Docker's.
type containerEngine struct {
	name     string
	command  []string               // the words before a subcommand
	runFlags []string               // flags of the subcommand run, for each container
	image    func() (string, error) // creates the image at the first call, and returns its name
}

// imageName is different in each run of these tests, because several runs may use the same daemon.
var imageName = fmt.Sprintf("graceful-engines-%d", os.Getpid())

const (
	imageEntrypoint = `ENTRYPOINT ["/graceful", "run", "--"]`
	// countedCleanup sets a cleanup command that writes the reason for the end of the run, and the number of remaining
	// daemons of the target.
	countedCleanup = `GRACEFUL_ON_EXIT=echo cleaned $GRACEFUL_REASON $(ps -o args | grep -c "^sleep $MARK")`
	// serviceScript is the script of a target with a daemon in a separate session.
	serviceScript = `trap 'echo stopped; exit 3' TERM; setsid sleep $MARK & echo ready; while :; do wait; done`
	// stubbornScript is the script of a target that ignores SIGTERM. Its daemon also ignores SIGTERM.
	stubbornScript = `trap '' TERM; setsid sleep $MARK & echo ready; while :; do wait; done`
)

// rootFS writes the archive of an image, once for all engines, and returns its path. The image contains only graceful,
// tini and a static busybox.
var rootFS = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(binary), "image")
	script := `set -e
		mkdir -p "$1/bin" "$1/tmp" "$1/state"; cd "$1"
		chmod 1777 tmp; chmod 755 . bin state
		cp "$2" graceful; cp /bin/busybox bin/busybox; cp /usr/bin/tini-static tini
		for name in $(bin/busybox --list); do [ $name = busybox ] || ln -s busybox bin/$name; done
		tar --numeric-owner --owner 0 --group 0 -c -f "$1.tar" .`
	out, ok := output("sh", "-c", script, "sh", dir, binary)
	if !ok {
		return "", fmt.Errorf("making the image: %s", out)
	}
	return dir + ".tar", nil
})

// importImage imports the image into the engine, under the name imageName.
func (e *containerEngine) importImage() (string, error) {
	archive, err := rootFS()
	if err != nil {
		return "", err
	}
	if out, ok := e.output("import", "--change", imageEntrypoint, archive, imageName); !ok {
		return "", fmt.Errorf("%s import: %s", e.name, out)
	}
	return imageName, nil
}

// output runs a subcommand of the engine. It returns the output, and whether the subcommand succeeded.
func (e *containerEngine) output(args ...string) (string, bool) {
	words := append(e.command[:len(e.command):len(e.command)], args...)
	return output(words[0], words[1:]...)
}

// do runs a subcommand, and fails the test unless it succeeds. It returns the output.
func (e *containerEngine) do(t *testing.T, args ...string) string {
	t.Helper()
	out, ok := e.output(args...)
	if !ok {
		t.Fatalf("%s %q failed:\n%s", e.name, args, out)
	}
	return out
}

// container represents a container that is removed after the test.
type container struct {
	*containerEngine
	t    *testing.T
	name string
	mark string // the time that its daemon sleeps; identifies the daemon on the machine
}

// newContainer chooses a name for a container that the caller starts. The container is removed after the test, with its
// anonymous volumes.
func (e *containerEngine) newContainer(t *testing.T) *container {
	t.Helper()
	mark := fmt.Sprint(1_000_000_000 + rand.IntN(1_000_000_000))
	c := &container{containerEngine: e, t: t, name: "graceful-engines-" + mark, mark: mark}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := c.output("logs", c.name)
			t.Logf("%s: the log of the container:\n%s", c.name, out)
		}
		c.output("kill", c.name) // Podman's rm --force would stop the container with a grace period
		c.output("rm", "--force", "--volumes", c.name)
	})
	return c
}

// flags returns the arguments that start the container: flags of the engine, then the command. The cleanup command of
// the run is countedCleanup, unless flags set another one.
func (c *container) flags(flags []string, command ...string) []string {
	c.t.Helper()
	image, err := c.image()
	if err != nil {
		c.t.Fatal(err)
	}
	all := []string{"run", "--name", c.name, "-e", "MARK=" + c.mark, "-e", countedCleanup}
	return slices.Concat(all, c.runFlags, flags, []string{image}, command)
}

// run starts a container in the background with a script as the target. It waits until the script has written "ready".
func (e *containerEngine) run(t *testing.T, script string, flags ...string) *container {
	t.Helper()
	c := e.newContainer(t)
	c.do(t, c.flags(append([]string{"--detach"}, flags...), "sh", "-c", script)...)
	until(t, "ready target", func() bool { return strings.Contains(c.text(), "ready\n") })
	return c
}

// text returns the standard output of the container, over all of its starts.
func (c *container) text() string {
	words := append(c.command[:len(c.command):len(c.command)], "logs", c.name)
	out, _ := exec.Command(words[0], words[1:]...).Output()
	return string(out)
}

// waitForText waits until the output of the container ends with the wanted text.
func (c *container) waitForText(end string) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("output that ends with %q", end), func() bool { return strings.HasSuffix(c.text(), end) })
}

// wantEnd waits for the end of the container. It fails the test unless status and output are the wanted ones and no
// process is left.
func (c *container) wantEnd(status, text string) {
	c.t.Helper()
	until(c.t, "end of the container", func() bool { return c.inspect("{{.State.Running}}") == "false" })
	if got := c.inspect("{{.State.ExitCode}}"); got != status {
		c.t.Errorf("the status is %s, want %s", got, status)
	}
	c.waitForText(text)
	if got := c.text(); got != text {
		c.t.Errorf("it wrote %q, want %q", got, text)
	}
	until(c.t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
}

// inspect returns information about the container in the given format.
func (c *container) inspect(format string) string {
	c.t.Helper()
	return c.do(c.t, "inspect", "--format", format, c.name)
}

// volume creates a volume that is removed after the test. Call volume before newContainer: cleanup functions run in
// reverse order, and the engine cannot remove a volume that a container uses.
func (e *containerEngine) volume(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("graceful-engines-volume-%d", rand.Int64())
	e.do(t, "volume", "create", name)
	t.Cleanup(func() { e.output("volume", "rm", "--force", name) })
	return name
}

// processesOf returns the pids of the daemons with that mark, in the PID namespace of this machine.
func processesOf(mark string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if content(file) == "sleep\x00"+mark+"\x00" {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
