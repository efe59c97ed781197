//go:build engines

package engines

import (
	"os"
	"os/exec"
	"sync"
	"testing"
)

var docker = &containerEngine{name: "docker", command: []string{"docker"}}

func init() {
	docker.image = sync.OnceValues(func() (string, error) {
		atEnd(func() { docker.output("rmi", "--force", imageName) })
		return docker.importImage()
	})
}

// needDocker skips the test if no Docker daemon answers. It treats missing commands like needCommands.
func needDocker(t *testing.T) {
	t.Helper()
	needCommands(t, "docker", "busybox", "tini-static")
	if out, ok := docker.output("version"); !ok {
		t.Skipf("Docker is not running: %s", out)
	}
}

// needCommands skips the test if a command is not installed, or fails it where GRACEFUL_TEST_NO_SKIP forbids that.
func needCommands(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("GRACEFUL_TEST_NO_SKIP") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
}

func TestDocker_cases(t *testing.T) {
	needDocker(t)
	docker.testAll(t, true)
}

// Each health check is a process that enters from outside. A health check that hangs does not delay a stop.
func TestDocker_healthcheck(t *testing.T) {
	needDocker(t)
	t.Parallel()
	c := docker.run(t, serviceScript, "--health-interval", "50ms", "--health-timeout", "1h",
		"--health-cmd", "[ -e /checked ] || { echo >/checked; exit 0; }; echo checking >/proc/1/fd/1; exec sleep 1000")
	until(t, "healthy container", func() bool { return c.inspect("{{.State.Health.Status}}") == "healthy" })
	c.waitForText("checking\n")
	c.stop("60")
	c.wantEnd("3", "ready\nchecking\nstopped\ncleaned stopped 0\n")
}
