package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// image returns the id of an image that it builds once. The image contains only a static busybox, which is also
// /bin/sh, and graceful, which is the entrypoint.
var image = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "graceful-image-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for from, to := range map[string]string{plain: "graceful", "/bin/busybox": "busybox"} {
		if err := copyFile(from, filepath.Join(dir, to)); err != nil {
			return "", err
		}
	}
	dockerfile := `FROM scratch
COPY graceful busybox /
COPY busybox /bin/sh
ENTRYPOINT ["/graceful", "run", "--"]
`
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return "", err
	}
	return dockerBuild(dir)
})

// dockerBuild builds an image from a directory, and returns the image's id.
func dockerBuild(dir string) (string, error) {
	var complaints strings.Builder
	cmd := exec.Command("docker", "build", "--quiet", dir)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker build: %w\n%s", err, complaints.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// needImage returns the id of image. It skips the test if Docker or busybox is missing, and fails the test if the build
// fails.
func needImage(t *testing.T) string {
	t.Helper()
	need(t, "docker", "busybox")
	id, err := image()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var containers atomic.Int64

// container starts a container of image in the background. args are flags of docker run and, after "--", the arguments
// of the entrypoint. Without the flag --entrypoint, these are the command line of the target. The container is removed
// after the test. The output of p contains only standard output.
func container(t *testing.T, args ...string) (name string, p *proc) {
	t.Helper()
	id := needImage(t)
	name = fmt.Sprintf("graceful-test-%d-%d", os.Getpid(), containers.Add(1))
	flags, words := args, []string(nil)
	for i, a := range args {
		if a == "--" {
			flags, words = args[:i], args[i+1:]
			break
		}
	}
	all := append([]string{"docker", "run", "--rm", "--name", name}, flags...)
	p = command(t, append(append(all, id), words...)...)
	p.cmd.Stderr = nil // the daemon would mix the two streams in any order
	p.start()
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", name).Run() })
	return name, p
}

func docker(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
}

const service = `trap "echo stopped; exit 3" TERM; /busybox setsid /busybox sleep 1000 & echo ready; while :
	do wait; done`

// readyContainer starts a container and waits until its target writes "ready". The cleanup command writes the reason
// and the number of remaining sleep processes.
func readyContainer(t *testing.T, args ...string) (name string, p *proc) {
	t.Helper()
	name, p = container(t, append([]string{"-e",
		`GRACEFUL_ON_EXIT=["/busybox", "sh", "-c", "echo cleaned: $GRACEFUL_REASON; ` +
			`/busybox ps -o pid,args | /busybox grep -c '[0-9] /busybox sleep'; exit 0"]`}, args...)...)
	p.until("start", func() bool { return strings.Contains(p.text(), "ready") })
	return name, p
}

func TestDocker_entrypoint(t *testing.T) {
	needImage(t)
	t.Run("statuses", testDockerStatuses)
	t.Run("docker stop", testDockerStop)
	t.Run("a target that ignores docker stop, as any user, on a read-only root", testDockerStopIgnored)
	t.Run("registered by the target, on a read-only root", testDockerDefer)
	t.Run("orphans and a target that is killed", testDockerOrphans)
	t.Run("a fork bomb up to the pids limit", testDockerForkBomb)
	t.Run("a low pids limit", testDockerFewProcesses)
}

// testDockerStatuses checks that the container's exit status is the target's, or graceful's own if no target is given.
func testDockerStatuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ command, status string }{
		{"exit 0", "0"}, {"exit 42", "42"}, {"kill -9 $$", "137"}, {"exec /nowhere", "127"},
	} {
		_, p := container(t, "--", "/busybox", "sh", "-c", c.command)
		p.want(c.status)
	}
	_, p := container(t)
	p.want("125") // no COMMAND is given
}

// testDockerStop checks that docker stop stops the target, and that its descendants end before the cleanup commands
// run.
func testDockerStop(t *testing.T) {
	t.Parallel()
	name, p := readyContainer(t, "--", "/busybox", "sh", "-c", service)
	docker(t, "stop", "--time", "60", name)
	p.want("3")
	if want := "ready\nstopped\ncleaned: stopped\n0\n"; p.text() != want {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// testDockerStopIgnored checks that, after the grace period, graceful kills a target that ignores the signal. The
// container runs as a user without an account, and has a read-only root directory.
func testDockerStopIgnored(t *testing.T) {
	t.Parallel()
	name, p := readyContainer(t, "--user", "12345:54321", "--read-only", "-e", "GRACEFUL_GRACE=200ms", "--",
		"/busybox", "sh", "-c", `trap "" TERM; echo ready; while :; do /busybox sleep 1000; done`)
	docker(t, "stop", "--time", "60", name)
	p.want("137")
	if !strings.Contains(p.text(), "cleaned: stopped\n0\n") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// testDockerDefer checks the place of the socket, and that a registered command runs.
func testDockerDefer(t *testing.T) {
	t.Parallel()
	for socket, flags := range map[string][]string{
		"/dev/shm/graceful-": {"--user", "12345:54321"},
		"@graceful-":         {"--ipc", "none"},
	} {
		_, p := container(t, append(flags, "--read-only", "--", "/busybox", "sh", "-c",
			"echo $GRACEFUL_SOCKET; exec /graceful defer -- /graceful version")...)
		p.want("0")
		if text := p.text(); !strings.HasPrefix(text, socket) || !strings.Contains(text, "\n1\ngraceful ") {
			t.Errorf("%v: it wrote:\n%s", flags, text)
		}
	}
}

// testDockerOrphans checks that graceful as PID 1 reaps orphans, and cleans up after SIGKILL to its target.
func testDockerOrphans(t *testing.T) {
	t.Parallel()
	name, p := readyContainer(t, "--", "/busybox", "sh", "-c",
		`for i in 1 2 3 4 5; do (/busybox setsid /busybox sleep 1000 & /busybox true &); done; echo ready
				exec /busybox sleep 999`)
	// Accept two further statuses of the shell, which docker exec starts inside the container. With 129, SIGHUP of
	// graceful has ended the shell. With 137, PID 1 has ended before the shell.
	out, err := exec.Command("docker", "exec", name, "/busybox", "sh", "-c",
		`n=0; while /busybox ps -o stat | /busybox grep -q Z; do /busybox usleep 10000; n=$((n+1))
				test $n -lt 3000 || exit 1; done
			for p in /proc/[0-9]*; do read pid name rest <$p/stat
			case $(/busybox tr "\0" " " <$p/cmdline) in "/busybox sleep 999 ") kill -9 $pid;; esac
			done 2>/dev/null`).CombinedOutput()
	if got := ended(err); got != "0" && got != "129" && got != "137" {
		t.Fatalf("docker exec: %s\n%s", got, out)
	}
	p.want("137")
	if !strings.Contains(p.text(), "cleaned: signaled\n0\n") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// testDockerForkBomb checks that graceful kills the tree and runs cleanup, even if the tree has used up the container's
// limit of processes.
func testDockerForkBomb(t *testing.T) {
	t.Parallel()
	name, p := readyContainer(t, "--pids-limit", "40", "-e", "GRACEFUL_GRACE=200ms", "--", "/busybox", "sh",
		"-c", `trap "" TERM; f() { while :; do /busybox sleep 1000 & done; }; f 2>/dev/null & f 2>/dev/null & echo ready
				while :; do wait; done`)
	docker(t, "kill", "--signal", "TERM", name)
	p.wait() // the status depends on the shell that fails
	if !strings.Contains(p.text(), "cleaned: stopped\n0\n") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// testDockerFewProcesses checks that a limit of 11 processes and threads is enough for an init, graceful with a guard,
// and a target or a command. A takeover needs no additional ones.
func testDockerFewProcesses(t *testing.T) {
	t.Parallel()
	_, p := container(t, "--init", "--pids-limit", "11", "-e", "GRACEFUL_GUARD=on", "-e",
		`GRACEFUL_ON_EXIT=["/busybox", "echo", "cleaned"]`, "--", "/busybox", "echo", "target")
	p.want("0")
	if p.text() != "target\ncleaned\n" {
		t.Errorf("it wrote:\n%s", p.text())
	}
	_, p = container(t, "--pids-limit", "11", "--tmpfs", "/tmp", "--entrypoint", "/busybox", "--", "sh", "-c", `
		/graceful run --guard on --on-exit '["/busybox", "touch", "/tmp/cleaned"]' -- /busybox sh -c '
			echo >/tmp/ready; exec /busybox sleep 1000' & graceful=$!
		until [ -e /tmp/ready ]; do :; done; kill -9 $graceful; until [ -e /tmp/cleaned ]; do :; done; echo cleaned`)
	p.want("0")
	if !strings.HasSuffix(p.text(), "cleaned\n") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// An image from Dockerfile.prebuilt, as it is released, has all labels. Its graceful runs, even as another user with a
// read-only root directory. The binary in the image was built outside of a container.
func TestImage_shipped(t *testing.T) {
	need(t, "docker")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		plain: "dist/graceful", "../Dockerfile.prebuilt": "Dockerfile",
	} {
		if err := copyFile(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	id, err := dockerBuild(dir)
	if err != nil {
		t.Fatal(err)
	}
	labels, err := exec.Command("docker", "inspect", "--format", "{{json .Config.Labels}}", id).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"title", "description", "version", "revision", "licenses", "source"} {
		if !strings.Contains(string(labels), `"org.opencontainers.image.`+key+`":`) {
			t.Errorf("the label %s is missing in %s", key, labels)
		}
	}
	start(t, "docker", "run", "--rm", id, "/graceful", "version").want("0")
	start(t, "docker", "run", "--rm", "--user", "1234", "--read-only", id, "/graceful", "no-such-command").want("125")
}
