package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/registry"
)

// While a --when-exits command runs, graceful, the guard or both are killed, in one case together with the command. The
// command is not started a second time, except by recover --retry-interrupted. The other command runs afterwards.
func TestDefer_whenExitsRunsOnce(t *testing.T) {
	for _, stopping := range []bool{false, true} {
		for _, victim := range []string{"guard", "graceful", "both", "both, and the command"} {
			t.Run(fmt.Sprintf("%s, in a stop %t", victim, stopping), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "state")
				p := start(t, "graceful", "run", "--guard", "on", "--state-dir", dir, "--grace", "1h", "--", "sh", "-c",
					fmt.Sprintf(
						`%t && trap 'echo >stopping' TERM; echo $$ >target; graceful defer -- sh -c 'echo other >>log' >printed
					sh -c 'echo >up; exec sleep 1000' & until [ -e up ]; do sleep 0.01; done # it has no trap any more
					graceful defer --when-exits $! -- sh -c 'echo begun >>log; echo $$ >begun; while [ ! -e end ]; do sleep 0.01
					done; echo ended >>log' >>printed
					kill $!; while [ ! -e end ]; do sleep 0.01; done`, stopping))
				leader, guard := p.cmd.Process.Pid, p.guard()
				running, target := p.pidIn("begun"), p.pidIn("target")
				if stopping {
					p.signal(unix.SIGTERM)
					p.waitForFile("stopping")
				}
				last, want := p, "begun\nended\nother\n"
				switch victim {
				case "guard":
					p.loseGuard()
					if !stopping {
						p.signal(unix.SIGTERM)
					}
				case "graceful":
					kill(t, leader)
					p.want("KILL")
				default:
					killBoth(t, leader)
					p.want("KILL")
					if victim != "both" {
						kill(t, running)
						p.untilEnded([]int{running})
						want = "begun\nother\n"
					}
					_ = os.Remove(filepath.Join(p.dir, "stopping"))
					last = start(t, "graceful", "recover", "--state-dir", dir)
				}
				if !stopping { // without a trap, the stop that has begun by now ends the target, but not the command
					p.untilEnded([]int{target})
				} else if last != p { // recover stops the target a second time
					p.waitForFile("stopping")
				}
				p.touch("end")
				switch victim {
				case "guard":
					p.wait()
				case "graceful":
					p.untilEnded([]int{guard})
				default:
					last.want("1")
					said := map[bool]string{true: "command not seen", false: "command interrupted"}[victim == "both"]
					if !strings.Contains(last.text(), said) {
						t.Errorf("recover wrote:\n%s", last.text())
					}
				}
				p.wantFile("log", want)
				if strings.Contains(last.text(), "command interrupted") {
					recoverIn(t, dir, "0", "--retry-interrupted")
					p.wantFile("log", want+"begun\nended\n")
				}
				if left := inDir(t, dir); left != "" {
					t.Errorf("left in the state directory: %s", left)
				}
			})
		}
	}
}

// A --when-exits command starts at most 100 ms after the end of its process, even without pidfd_open(2). The test takes
// the shortest time of up to 20 runs, because a busy machine delays processes.
func TestDefer_whenExitsRunsSoon(t *testing.T) {
	for name, around := range map[string][]string{
		"with pidfd_open(2)": nil,
		"without pidfd_open(2)": {"strace", "-f", "-qq", "-o", "trace", "-e", "trace=pidfd_open", "-e",
			"inject=pidfd_open:error=ENOSYS"},
	} {
		t.Run(name, func(t *testing.T) {
			if around != nil {
				need(t, "strace", "norace")
			}
			best := time.Hour
			for range 20 {
				p := start(t, append(around, "graceful", "run", "--", "sh", "-c",
					`(sleep 0.2; date +%s%N >ended) & graceful defer --when-exits $! -- sh -c 'date +%s%N >cleaned' >/dev/null
					until [ -s cleaned ]; do sleep 0.02; done`)...)
				p.want("0")
				if best = min(best, time.Duration(p.pidIn("cleaned")-p.pidIn("ended"))); around != nil &&
					!strings.Contains(p.waitForFile("trace"), "(INJECTED)") {
					t.Fatalf("pidfd_open did not fail:\n%s", p.waitForFile("trace"))
				}
				if best <= 100*time.Millisecond {
					t.Log(best)
					return
				}
			}
			t.Errorf("the command started %v after the end of the process", best)
		})
	}
}

// await N starts N children, and registers a command for the end of each. When all are registered, it writes the file
// registered. When the file go exists, it ends its last child and waits for the command of that child. Then it does the
// same with all other children together. At the end it writes the number of commands that have run to the file ran.
func init() { roles["await"] = await }

func await(args []string) int {
	n, _ := strconv.Atoi(args[0])
	for range n {
		if child, _ := rawFork(); child {
			rawStay()
		}
	}
	children := childrenOf(os.Getpid())
	for i, pid := range children {
		request := registry.Request{Do: registry.Defer, Shell: cleanup.Text(fmt.Sprintf("echo %d >>log", i)), WhenExits: pid}
		if answer, err := registry.Ask(os.Getenv("GRACEFUL_SOCKET"), request); err != nil || answer.Error != "" {
			panic(fmt.Sprint(err, answer.Error))
		}
	}
	write("registered", len(children))
	ran := func() int {
		log, _ := os.ReadFile("log")
		return bytes.Count(log, []byte("\n"))
	}
	waitFor := func(happened func() bool) {
		for deadline := time.Now().Add(patience); !happened() && time.Now().Before(deadline); {
			time.Sleep(2 * time.Millisecond)
		}
	}
	waitFor(func() bool { return isThere("go") })
	last := len(children) - 1
	for _, some := range [][]int{children[last:], children[:last]} {
		before := ran()
		for _, pid := range some {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for range some {
			_, _ = unix.Wait4(-1, nil, 0, nil)
		}
		waitFor(func() bool { return ran() == before+len(some) })
	}
	write("ran", ran())
	return 0
}

// Each command for the end of a process runs once, even if there are more such commands than graceful may have
// descriptors. graceful leaves a quarter of the descriptors free.
func TestDefer_whenExitsOfManyProcesses(t *testing.T) {
	for _, c := range []struct{ processes, descriptors int }{{1000, 0}, {1500, 256}, {100, 64}} {
		t.Run(fmt.Sprintf("%d, ulimit -n %d", c.processes, c.descriptors), func(t *testing.T) {
			began := time.Now()
			p := start(t, "sh", "-c", fmt.Sprintf(
				`[ %d = 0 ] || ulimit -n %[1]d; exec graceful run --on-exit 'echo last >>log' -- helper await %d`,
				c.descriptors, c.processes))
			p.waitForFile("registered")
			registered := time.Since(began)
			p.wantFile("log", "") // no process has ended
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
			if err != nil || c.descriptors > 0 && len(open) > c.descriptors*3/4 {
				t.Errorf("%d descriptors are open, %v", len(open), err)
			}
			p.touch("go")
			p.want("0")
			if log := linesOf(p, "log"); p.pidIn("ran") != c.processes || len(log) != c.processes+1 ||
				sum(log) != c.processes+1 || p.text() != "" {
				t.Errorf("%d commands ran before the end, %d in all; it wrote:\n%s", p.pidIn("ran"), sum(log), p.text())
			}
			t.Logf("registered in %v, all over after %v; %d descriptors", registered, time.Since(began), len(open))
		})
	}
}

// A client in another PID namespace, outside or inside of the run's namespace, cannot use --when-exits, because its
// pids differ from graceful's.
func TestDefer_whenExitsFromAnotherPIDNamespace(t *testing.T) {
	p := inNamespace(t, false, "graceful", "run", "--defer", "on", "--", "sh", "-c",
		`echo $GRACEFUL_SOCKET >socket; echo $$ >pid
		unshare --pid --fork --mount-proc graceful defer --when-exits 1 -- echo never; echo $?; echo >done
		until [ -e end ]; do sleep 0.01; done`).start()
	p.waitForFile("done")
	answer, err := registry.Ask(strings.TrimSpace(p.waitForFile("socket")),
		registry.Request{Do: registry.Defer, Shell: "echo never", WhenExits: p.pidIn("pid")})
	p.touch("end")
	p.want("0")
	const refusal = "the caller is in another PID namespace"
	if text := p.text(); err != nil || !strings.HasPrefix(answer.Error, refusal) || !strings.Contains(text, refusal) ||
		!strings.HasSuffix(text, "\n1\n") {
		t.Errorf("the answer is %+v, %v; it wrote:\n%s", answer, err, text)
	}
}

// While graceful is suspended, the awaited process ends, and a member of the tree or another process gets its pid. Then
// graceful continues or is killed. The command runs once, for the end of the first process. A further command for the
// pid is accepted if the process that has the pid now is a member of the tree, and refused otherwise.
func TestDefer_whenExitsOfAReusedPID(t *testing.T) {
	need(t, "root", "pidns", "ns_last_pid")
	const again = `again() { n=0; while [ $n -lt 10000 ]; do n=$((n+1))
		echo $(($1-1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 & [ $! = $1 ] && return; kill $!; wait $!; done
		echo missed >>log; }
	`
	for _, c := range []struct{ to, then, want string }{
		{"again $pid", "CONT", "fired\nlives\n0\n"},
		{"again $pid", "KILL", "fired\n"},
		{"echo $pid >free; until [ -e taken ]; do sleep 0.01; done", "CONT", "fired\nlives\n1\n"},
		{"echo $pid >free; until [ -e taken ]; do sleep 0.01; done", "KILL", "fired\n"},
	} {
		t.Run(strings.Fields(c.to)[0]+" "+c.then, func(t *testing.T) {
			t.Parallel()
			// The sleep below gives the two processes with the pid different start times, which have a resolution of
			// 1/100 s.
			p := inNamespace(t, false, "sh", "-c", again+`"$@" & run=$!
				until [ -s free ] || [ -s log ]; do sleep 0.01; done; [ ! -s free ] || again $(cat free)
				echo >taken; wait $run; until [ -s log ]; do sleep 0.01; done`,
				"sh", "graceful", "run", "--guard", "on", "--", "sh", "-c", again+fmt.Sprintf(
					`sleep 1000 & pid=$!; sleep 0.1; graceful defer --when-exits $pid -- sh -c 'echo fired >>log' >id
					read -r _ _ _ leader _ </proc/$PPID/stat
					kill -STOP $leader; kill $pid; wait $pid; %s; kill -%[2]s $leader; [ %[2]s = CONT ] || exec sleep 1000
					until [ -s log ]; do sleep 0.01; done
					kill -0 $pid && echo lives >>log; graceful defer --when-exits $pid -- true >id; echo $? >>log`, c.to, c.then))
			p.start().wait()
			p.wantFile("log", c.want)
			refused := strings.Contains(p.text(), "is not a member of this run")
			if refused != strings.HasSuffix(c.want, "1\n") {
				t.Errorf("it wrote:\n%s", p.text())
			}
		})
	}
}
