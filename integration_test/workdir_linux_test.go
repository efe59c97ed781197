package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// cwd returns the working directory of a process, or "" if there is no such process.
func cwd(pid int) string {
	dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return dir
}

// While the target runs elsewhere, graceful leaves its working directory, so that the file system can be unmounted, or
// the directory removed. Cleanup commands run in that directory. If it no longer exists, they run in an empty
// directory.
func TestWorkDir_isLeft(t *testing.T) {
	need(t, "linux")
	for _, guard := range []string{"on", "off"} {
		for _, gone := range []bool{false, true} {
			for end, status := range map[string]string{
				"stopped": "143", "graceful killed": "KILL", "guard killed": "143", "all killed": "KILL",
			} {
				if guard == "off" && end != "stopped" {
					continue
				}
				t.Run(fmt.Sprintf("guard %s, gone: %t, %s", guard, gone, end), func(t *testing.T) {
					t.Parallel()
					p := start(t, "sh", "-c", `mkdir here; cd here; echo >file
						exec graceful run --guard `+guard+` --state-dir "$0"/state \
							--on-exit 'readlink /proc/self/cwd; ls; echo cleaned' -- \
							sh -c 'cd ..; echo $$ >target; exec sleep 1000'`,
						t.TempDir())
					target := p.pidIn("target")
					processes := []int{p.cmd.Process.Pid}
					if guard == "on" {
						processes = append(processes, p.guard())
					}
					for _, pid := range processes {
						p.until("leaving of the directory", func() bool { return cwd(pid) == "/" })
					}
					here := filepath.Join(p.dir, "here")
					want := here + "\nfile\ncleaned\n"
					if gone {
						if err := os.RemoveAll(here); err != nil {
							t.Fatal(err)
						}
						want = " (deleted)\ncleaned\n"
					}
					switch end {
					case "all killed":
						kill(t, processes[1])
						fallthrough
					case "graceful killed":
						kill(t, p.cmd.Process.Pid)
					case "guard killed":
						p.loseGuard()
						fallthrough
					default:
						p.signal(unix.SIGTERM)
					}
					p.want(status)
					if end == "all killed" {
						r := start(t, "graceful", "recover", "--state-dir", p.cmd.Args[3]+"/state")
						r.want("0")
						p = r
					}
					for _, pid := range processes {
						p.until("end of the guard", func() bool { return !alive(pid) })
					}
					text := p.text()
					if !strings.Contains(withoutLog(text), want) || gone != strings.Contains(text, "in an empty directory") {
						t.Errorf("it wrote:\n%s", text)
					}
					p.untilReaped(target)
				})
			}
		}
	}
}

// If no path leads to its working directory, graceful does not leave that directory.
func TestWorkDir_removedBeforeTheStart(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "sh", "-c", `mkdir here; cd here; rmdir ../here
		exec graceful run --on-exit 'readlink /proc/self/cwd' -- sh -c 'cd "$0"; echo $$ >target; exec sleep 1000' "$OLDPWD"`)
	p.pidIn("target")
	guard := p.guard()
	want := filepath.Join(p.dir, "here") + " (deleted)"
	for _, pid := range []int{p.cmd.Process.Pid, guard} {
		if got := cwd(pid); got != want {
			t.Errorf("process %d is in %q, want %q", pid, got, want)
		}
	}
	p.signal(unix.SIGTERM)
	p.want("143")
	if got := p.text(); !strings.HasSuffix(got, want+"\n") {
		t.Errorf("it wrote %q", got)
	}
}
