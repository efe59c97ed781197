//go:build engines

package engines

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// podman is the Podman of one user with one runtime. Each one is a separate engine.
type podman struct {
	containerEngine
	user string // root, or a user that exists only during this test
	dir  string
}

// newPodman prepares Podman for root, or for a new user if user is not "root".
func newPodman(t *testing.T, user, runtime string) *podman {
	t.Helper()
	dir, err := os.MkdirTemp("", "podman-") // t.TempDir may be longer than the 50 characters that Podman accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p := &podman{user: user, dir: dir}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if user != "root" {
		p.user = fmt.Sprintf("graceful-%d", os.Getpid())
		if out, ok := output("useradd", "--no-create-home", "--home-dir", p.dir+"/home", p.user); !ok {
			t.Skipf("useradd: %s", out)
		}
		t.Cleanup(func() { output("userdel", p.user) })
	}
	p.command = holdEngine(t, p.dir, p.user)
	if user != "root" {
		p.command = append(p.command, "setpriv", "--reuid", p.user, "--regid", p.user, "--init-groups")
	}
	p.command = append(p.command, "env", "-i", "-C", p.dir+"/home", "HOME="+p.dir+"/home", "XDG_RUNTIME_DIR="+p.dir+"/run",
		"PATH="+os.Getenv("PATH"), "TERM=xterm", "podman", "--runtime", runtime, "--cgroup-manager", "cgroupfs")
	if user == "root" {
		p.command = append(p.command, "--root", p.dir+"/root", "--runroot", p.dir+"/run/storage", "--tmpdir", p.dir+"/tmp")
	}
	p.name = strings.Join([]string{"podman", user, runtime}, " ")
	p.runFlags = []string{"--network", "none", "--log-driver", "k8s-file"}
	if user == "root" { // Podman's own limits may be higher than the limits here allow
		p.runFlags = append(p.runFlags, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=10000:10000")
	}
	p.image = sync.OnceValues(p.importImage)
	return p
}

// needStart fails the test if the image cannot be imported, and skips the test if no container starts.
func (p *podman) needStart(t *testing.T) {
	t.Helper()
	image, err := p.image()
	if err != nil {
		t.Fatal(err)
	}
	words := append(append([]string{"run", "--rm", "--detach"}, p.runFlags...), image, "true")
	began := time.Now()
	if out, ok := p.output(words...); !ok {
		t.Skipf("%s does not start: %s", p.name, out)
	}
	t.Logf("%s starts in %.1f s", p.name, time.Since(began).Seconds())
}

// Each case holds for root and for another user, with every runtime.
func TestPodman_cases(t *testing.T) {
	needCommands(t, "podman", "busybox", "tini-static", "unshare", "nsenter", "setpriv", "useradd")
	for _, user := range []string{"root", "rootless"} {
		for _, runtime := range []string{"runc", "crun"} {
			t.Run(user+" "+runtime, func(t *testing.T) {
				needCommands(t, runtime)
				p := newPodman(t, user, runtime)
				p.needStart(t)
				p.testAll(t, user == "root")
			})
		}
	}
}
