//go:build engines

package engines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// swarmUpdates names the variable with the number of updates of each service in TestSwarm_update. If the variable is
// set, the test also runs the entrypoints that are only measured (see swarmEntrypoints).
const swarmUpdates = "GRACEFUL_TEST_SWARM_UPDATES"

const replicas = 3

// swarm creates a swarm of this machine alone, unless the machine already belongs to a swarm.
var swarm = sync.OnceValue(func() error {
	if state, _ := docker.output("info", "--format", "{{.Swarm.LocalNodeState}}"); state == "active" {
		return nil
	}
	_, bridged := docker.output("network", "inspect", "docker_gwbridge")
	if out, ok := output("timeout", "60", "docker", "swarm", "init", "--advertise-addr", "127.0.0.1"); !ok {
		return fmt.Errorf("docker swarm init: %s", out)
	}
	atEnd(func() {
		if others, ok := docker.output("service", "ls", "--quiet"); ok && others == "" {
			docker.output("swarm", "leave", "--force")
			if !bridged {
				docker.output("network", "rm", "docker_gwbridge")
			}
		}
	})
	return nil
})

// loadImage builds an image with the service of loadtest and its client. It is based on the image of all tests.
var loadImage = sync.OnceValues(func() (string, error) {
	base, err := docker.image()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(binary), "loadimage")
	cmd := exec.Command("go", "build", "-tags", "engines", "-o", dir+"/loadtest", "./loadtest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building loadtest: %w\n%s", err, out)
	}
	dockerfile := "FROM " + base + "\nCOPY loadtest /loadtest\nCMD [\"/loadtest\", \"serve\"]\n"
	if err := os.WriteFile(dir+"/Dockerfile", []byte(dockerfile), 0o644); err != nil {
		return "", err
	}
	name := imageName + "-load"
	if out, ok := docker.output("build", "--tag", name, dir); !ok {
		return "", fmt.Errorf("docker build: %s", out)
	}
	atEnd(func() { docker.output("rmi", "--force", name) })
	return name, nil
})

// swarmService is the service of the page, with a client that uses it.
type swarmService struct {
	*container        // the container of the client
	page       page   // the page, whose commands contain the names of this service
	cleaned    string // a directory that contains a file for each task that was cleaned up
}

// newSwarmService creates the network and the service of the page, with another drain and more flags. It also starts a
// client.
func newSwarmService(t *testing.T, drain, flags string) *swarmService {
	t.Helper()
	image, err := loadImage()
	if err != nil {
		t.Fatal(err)
	}
	c := docker.newContainer(t)
	s := &swarmService{container: c, cleaned: t.TempDir(),
		page: readPage(t, "../../docs/engines/swarm.md", "shop", c.name+"-service")}
	name := c.name + "-service"
	c.do(t, "tag", image, name)
	t.Cleanup(func() {
		if t.Failed() {
			tasks, _ := c.output("service", "ps", "--no-trunc", name)
			t.Log(tasks)
		}
		c.output("service", "rm", name)
		c.output("rm", "--force", c.name) // otherwise the network cannot be removed
		for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(200 * time.Millisecond) {
			if out, ok := c.output("network", "rm", name+"-net"); ok || strings.Contains(out, "not found") {
				break
			}
		}
		c.output("rmi", name)
	})
	for _, lines := range s.page.commands {
		for i := range lines {
			lines[i] = strings.Replace(lines[i], "GRACEFUL_DRAIN=6s", "GRACEFUL_DRAIN="+drain, 1)
		}
	}
	s.perform("docker network create", "")
	s.perform("docker service create", "--no-resolve-image --quiet "+flags+
		" --mount type=bind,src="+s.cleaned+`,dst=/state --env GRACEFUL_ON_EXIT='echo $GRACEFUL_REASON >>/state/$HOSTNAME'`)
	c.do(t, "run", "--detach", "--name", c.name, "--network", name+"-net", image, "/loadtest", "call", name)
	c.waitForText("ready\n")
	return s
}

// perform runs the command of the page that begins with this text, and inserts flags after that text.
func (s *swarmService) perform(begin, flags string) {
	s.t.Helper()
	for _, lines := range s.page.commands {
		for _, line := range lines {
			if rest, found := strings.CutPrefix(line, begin+" "); found {
				if out, ok := output("timeout", "300", "sh", "-c", begin+" "+flags+" "+rest); !ok {
					s.t.Fatalf("%s failed:\n%s", line, out)
				}
				return
			}
		}
	}
	s.t.Fatalf("the page has no command that begins with %q", begin)
}

// result ends the client. It returns the numbers of sent and of failed requests.
func (s *swarmService) result() (requests, failed int) {
	s.t.Helper()
	s.stop("60")
	text := strings.TrimPrefix(s.text(), "ready\n")
	if _, err := fmt.Sscanf(text, "requests %d failed %d", &requests, &failed); err != nil {
		s.t.Fatalf("the client wrote %q", text)
	}
	return requests, failed
}

// cleanups removes the service and its network. It returns the number of tasks that have run their cleanup command, and
// fails the test unless each of them was stopped and has run it once.
func (s *swarmService) cleanups() int {
	s.t.Helper()
	s.perform("docker service rm", "")
	until(s.t, "end of all tasks", func() bool { return len(s.tasks("--all")) == 0 })
	s.do(s.t, "rm", s.name)
	s.perform("docker network rm", "")
	tasks, _ := filepath.Glob(s.cleaned + "/*")
	for _, task := range tasks {
		if reason := content(task); reason != "stopped\n" {
			s.t.Errorf("the cleanup command of task %s wrote %q", filepath.Base(task), reason)
		}
	}
	return len(tasks)
}

// swarmEntrypoints lists the entrypoints that the page compares, with the drain and the flags of their services. Of an
// entrypoint that is only measured, the test requires nothing.
var swarmEntrypoints = []struct {
	name, drain, flags string
	measured           bool
}{
	{name: "graceful", drain: "6s"},
	{name: "graceful without a drain", drain: "0", measured: true},
	{name: "tini", drain: "0", flags: `--entrypoint "/tini -- /loadtest serve"`, measured: true},
}

// tasks returns the running containers of the service. With --all it also returns containers that have ended.
func (s *swarmService) tasks(flags ...string) []string {
	s.t.Helper()
	filter := "label=com.docker.swarm.service.name=" + s.name + "-service"
	return strings.Fields(s.do(s.t, append([]string{"ps", "--quiet", "--filter", filter}, flags...)...))
}

// A service is updated while a client uses it. The client keeps answers of the DNS. No request fails, and the cleanup
// command of each task runs once.
func TestSwarm_update(t *testing.T) {
	needDocker(t)
	if err := swarm(); err != nil {
		t.Skip(err)
	}
	updates, measured := 1, false
	if n, err := strconv.Atoi(os.Getenv(swarmUpdates)); err == nil {
		updates, measured = n, true
	}
	for _, order := range []string{"stop-first", "start-first"} {
		for _, with := range swarmEntrypoints {
			if with.measured && !measured {
				continue
			}
			t.Run(order+" "+with.name, func(t *testing.T) {
				t.Parallel()
				s := newSwarmService(t, with.drain, with.flags)
				for range updates {
					s.perform("docker service update --update-order "+order, "--quiet")
					until(t, "end of the old tasks", func() bool { return len(s.tasks()) == replicas })
				}
				requests, failed := s.result()
				cleanups := s.cleanups()
				t.Logf("%d updates: %d of %d requests failed, %d cleanups", updates, failed, requests, cleanups)
				if want := replicas * (updates + 1); !with.measured && (failed > 0 || cleanups != want) {
					t.Errorf("%d failed requests, want 0; %d cleanups, want %d", failed, cleanups, want)
				}
			})
		}
	}
}
