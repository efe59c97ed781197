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

// containerEngine is a container engine with a command line like Docker's.
type containerEngine struct {
	name     string
	command  []string // the words before a subcommand
	runFlags []string // for each container
	image    func() (string, error)
}

// imageName is unique, since other runs of these tests may use the same daemon.
var imageName = fmt.Sprintf("graceful-engines-%d", os.Getpid())

const (
	imageEntrypoint = `ENTRYPOINT ["/graceful", "run", "--"]`
	// countedCleanup writes the reason of the end, and how many processes of the target are left.
	countedCleanup = `GRACEFUL_ON_EXIT=echo cleaned $GRACEFUL_REASON $(ps -o args | grep -c "^sleep $MARK")`
	// serviceScript is a target with a daemon in a session of its own.
	serviceScript = `trap 'echo stopped; exit 3' TERM; setsid sleep $MARK & echo ready; while :; do wait; done`
	// stubbornScript ignores SIGTERM, and so does its daemon.
	stubbornScript = `trap '' TERM; setsid sleep $MARK & echo ready; while :; do wait; done`
)

// rootFS writes, once for all engines, the archive of an image from nothing but graceful, tini and a static busybox.
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

// importImage gives the engine the image, which then has the name imageName.
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

// output runs a subcommand of the engine and returns what it writes, and whether it succeeded.
func (e *containerEngine) output(args ...string) (string, bool) {
	words := append(e.command[:len(e.command):len(e.command)], args...)
	return output(words[0], words[1:]...)
}

// do runs a subcommand that must succeed.
func (e *containerEngine) do(t *testing.T, args ...string) string {
	t.Helper()
	out, ok := e.output(args...)
	if !ok {
		t.Fatalf("%s %q failed:\n%s", e.name, args, out)
	}
	return out
}

// container is a container that is removed after the test.
type container struct {
	*containerEngine
	t    *testing.T
	name string
	mark string // the time that its daemon sleeps: it tells its processes from all others of the machine
}

// newContainer names a container that the caller starts. It is removed after the test, with its anonymous volumes.
func (e *containerEngine) newContainer(t *testing.T) *container {
	t.Helper()
	mark := fmt.Sprint(1_000_000_000 + rand.IntN(1_000_000_000))
	c := &container{containerEngine: e, t: t, name: "graceful-engines-" + mark, mark: mark}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := c.output("logs", c.name)
			t.Logf("%s: the log of the container:\n%s", c.name, out)
		}
		c.output("kill", c.name) // Podman's rm --force is a stop
		c.output("rm", "--force", "--volumes", c.name)
	})
	return c
}

// flags returns what starts the container, with the flags given and then the command. Its cleanup command counts.
func (c *container) flags(flags []string, command ...string) []string {
	c.t.Helper()
	image, err := c.image()
	if err != nil {
		c.t.Fatal(err)
	}
	all := []string{"run", "--name", c.name, "-e", "MARK=" + c.mark, "-e", countedCleanup}
	return slices.Concat(all, c.runFlags, flags, []string{image}, command)
}

// run starts a script as the target of a container in the background, and waits until it has written "ready".
func (e *containerEngine) run(t *testing.T, script string, flags ...string) *container {
	t.Helper()
	c := e.newContainer(t)
	c.do(t, c.flags(append([]string{"--detach"}, flags...), "sh", "-c", script)...)
	until(t, "ready target", func() bool { return strings.Contains(c.text(), "ready\n") })
	return c
}

// text returns what the container has written to its standard output, by all of its starts.
func (c *container) text() string {
	words := append(c.command[:len(c.command):len(c.command)], "logs", c.name)
	out, _ := exec.Command(words[0], words[1:]...).Output()
	return string(out)
}

// waitForText waits until the end of what the container has written is as wanted.
func (c *container) waitForText(end string) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("output that ends with %q", end), func() bool { return strings.HasSuffix(c.text(), end) })
}

// wantEnd waits for the container's end and requires its status, all that it has written, and that no process is left.
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

// inspect returns what the engine knows of the container.
func (c *container) inspect(format string) string {
	c.t.Helper()
	return c.do(c.t, "inspect", "--format", format, c.name)
}

// volume makes a volume that is removed after the test. The caller calls it before it makes containers that use it.
func (e *containerEngine) volume(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("graceful-engines-volume-%d", rand.Int64())
	e.do(t, "volume", "create", name)
	t.Cleanup(func() { e.output("volume", "rm", "--force", name) })
	return name
}

// processesOf returns the pids, on this machine, of the daemons with that mark.
func processesOf(mark string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if content(file) == "sleep\x00"+mark+"\x00" {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
