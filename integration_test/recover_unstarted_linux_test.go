package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// If a run cannot start a cleanup command for lack of a directory or of processes, the run reports that. The first
// recover that can start the command runs it once.
func TestRecover_startsAnUnstartedCommand(t *testing.T) {
	need(t, "root", "setpriv", "prlimit") // graceful runs as another user: root has no limit of processes
	user := []string{"setpriv", "--reuid=54330", "--clear-groups"}
	for name, c := range map[string]struct {
		target string // the beginning of the target's script
		loop   bool   // a link to itself replaces the working directory
		limit  bool   // graceful and the guard get a limit of processes while they run
	}{
		"a directory": {"rmdir ../here; ln -s here ../here; ", true, false},
		"processes":   {"", false, true},
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				p := command(t, slices.Concat(user, []string{"sh", "-c", `mkdir here; cd here; exec "$@"`, "sh",
					plain, "run", "--guard", guard, "--state-dir", "../state", "--name", "n", "--on-exit-timeout", "300ms",
					"--on-exit", "echo cleaned", "--", "sh", "-c", c.target + "echo >../ready; exec sleep 1000"})...)
				if err := errors.Join(os.Chown(p.dir, 54330, -1), os.Chmod(filepath.Dir(p.dir), 0o755)); err != nil {
					t.Fatal(err)
				}
				p.start()
				p.waitForFile("ready")
				for _, pid := range []int{p.cmd.Process.Pid, guardOf(p.cmd.Process.Pid)} {
					if c.limit {
						start(t, append(user, "prlimit", "--pid", strconv.Itoa(pid), "--nproc=1")...).want("0")
					}
				}
				p.signal(unix.SIGTERM)
				p.want("143")
				if text := p.text(); strings.Contains(text, "cleaned\n") || !strings.Contains(text, "graceful recover starts it") {
					t.Errorf("it wrote:\n%s", text)
				}
				recovered := func(status string) string {
					r := command(t, slices.Concat(user, []string{plain, "recover", "--state-dir", "state"})...)
					r.cmd.Dir = p.dir
					r.start().want(status)
					return r.text()
				}
				if c.loop {
					if text := recovered("1"); strings.Contains(text, "cleaned\n") {
						t.Errorf("recover wrote:\n%s", text)
					}
					if err := os.Remove(filepath.Join(p.dir, "here")); err != nil {
						t.Fatal(err)
					}
				}
				if text := recovered("0"); strings.Count(text, "cleaned\n") != 1 {
					t.Errorf("recover wrote:\n%s", text)
				}
				if left, _ := os.ReadDir(filepath.Join(p.dir, "state")); len(left) > 0 {
					t.Errorf("left in the state directory: %v", left)
				}
				if text := recovered("0"); text != "" {
					t.Errorf("recover again wrote:\n%s", text)
				}
			})
		}
	}
}
