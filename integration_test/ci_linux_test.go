package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ciRunner describes the actions of a CI runner when a job is cancelled. docs/engines/ci.md names the sources.
type ciRunner struct {
	cookies       []string      // variables of the step, by which the runner finds the processes of the step
	step          string        // a shell script that starts graceful, which is "$@"
	cancel        func(*ciStep) // sends the signals of the runner
	window        time.Duration // from the first signal to SIGKILL
	killedCookies []string      // at the end of the job a process with all of these variables gets SIGKILL; nil: none does
}

var ciRunners = map[string]ciRunner{
	"GitHub": {
		cookies: []string{"RUNNER_TRACKING_ID=github_7"},
		step:    `exec "$@"`,
		window:  10 * time.Second,
		cancel: func(s *ciStep) {
			s.kill(s.leader, unix.SIGINT)
			if !s.endsIn(7500*time.Millisecond, s.leader) {
				s.kill(s.leader, unix.SIGTERM)
			}
			if !s.endsIn(2500*time.Millisecond, s.leader) {
				s.kill(s.leader, unix.SIGKILL)
			}
		},
		killedCookies: []string{"RUNNER_TRACKING_ID=github_7"},
	},
	// The script runs in a subshell. The runner reads the output until no process can write to it any more.
	"GitLab": {
		step:   `: | eval '"$@"; exit $?'`,
		window: 10 * time.Minute,
		cancel: func(s *ciStep) { s.killGroup(s.leader, unix.SIGTERM, 10*time.Minute) },
	},
	"Buildkite": {
		step:   `trap 'kill -- $$' INT TERM QUIT; exec "$@"`,
		window: 9 * time.Second,
		cancel: func(s *ciStep) { s.killGroup(s.leader, unix.SIGTERM, 9*time.Second) },
	},
	"Jenkins": {
		cookies: []string{"BUILD_ID=7", "JENKINS_NODE_COOKIE=n", "JENKINS_SERVER_COOKIE=s"},
		step:    `"$@"; exit $?`,
		window:  10 * time.Second, // there is no SIGKILL
		cancel:  func(s *ciStep) { s.killAll("BUILD_ID=7", "JENKINS_NODE_COOKIE=n", "JENKINS_SERVER_COOKIE=s") },
	},
	"Jenkins, a pipeline": {
		cookies: []string{"BUILD_ID=7", "JENKINS_NODE_COOKIE=n", "JENKINS_SERVER_COOKIE=durable-7"},
		step:    `"$@"; exit $?`,
		window:  10 * time.Second,
		cancel:  func(s *ciStep) { s.killAll("JENKINS_SERVER_COOKIE=durable-7") },
	},
}

// ciStep is a running step of a job. The test divides the times of the CI system by scale.
type ciStep struct {
	*proc
	graceful int // pid of graceful
	leader   int // pid of the first process of the step; ciRunner.start makes it a process group leader
	scale    float64
	killed   bool // the runner has sent SIGKILL
}

// ciCleanup is a cleanup command that records its beginning, those of the target and the processes of startFamily that
// still exist, and its end. The number of seconds that it sleeps replaces %f.
const ciCleanup = `echo $GRACEFUL_HOOK_ID begins >>cleaned
	sleep %f
	for pid in $GRACEFUL_TARGET_PID $(cat daemon job 2>/dev/null); do
		! kill -0 $pid 2>/dev/null || echo $pid is left >>cleaned
	done
	echo $GRACEFUL_HOOK_ID ends >>cleaned`

// start starts a step whose target is a shell script, and waits until the target is ready. The deadline is nine tenths
// of the runner's window, similar to the jobs in docs/engines/ci.md. Each cleanup command runs for a tenth of the
// window.
func (r ciRunner) start(t *testing.T, target string, scale float64) *ciStep {
	t.Helper()
	s := &ciStep{scale: scale}
	onExit := fmt.Sprintf(ciCleanup, s.scaled(r.window/10).Seconds())
	flags := []string{
		"--deadline", s.scaled(r.window * 9 / 10).String(), "--on-exit-timeout", s.scaled(r.window / 3).String(),
		"--on-exit", onExit, "--on-exit", onExit,
	}
	args := slices.Concat([]string{"env"}, r.cookies, []string{"setsid", "bash", "-c", r.step, "bash", "graceful", "run"},
		flags, []string{"--", "sh", "-c", target})
	s.proc = called(t, args...).start()
	s.waitForFile("ready")
	s.graceful = gracefulPID(s.proc)
	var err error
	if s.leader, err = unix.Getpgid(s.graceful); err != nil || s.leader == unix.Getpgrp() {
		t.Fatalf("the process group of graceful is %d, %v", s.leader, err)
	}
	return s
}

func (s *ciStep) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) / s.scale) }

func (s *ciStep) kill(pid int, sig unix.Signal) {
	if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
		s.t.Fatal(err)
	}
	s.killed = s.killed || sig == unix.SIGKILL
}

// endsIn waits for the end of a process, at most for the scaled time. It reports whether the process has ended.
func (s *ciStep) endsIn(patience time.Duration, pid int) bool {
	for late := time.Now().Add(s.scaled(patience)); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			return false
		}
	}
	return true
}

// killGroup sends a signal to the process group of the step, and SIGKILL if graceful has not ended within patience,
// scaled. It waits for graceful and not for the shell, which may end earlier: GitLab's runner waits until no process
// can write to the output of the step.
func (s *ciStep) killGroup(group int, sig unix.Signal, patience time.Duration) {
	s.kill(-group, sig)
	if !s.endsIn(patience, s.graceful) {
		s.kill(-group, unix.SIGKILL)
	}
}

// killAll takes a snapshot of all processes of the step and their children. For each process that has all of the
// cookies, killAll sends SIGTERM to the descendants in the snapshot, and then to the process itself. After each signal
// it waits until the signalled process has been reaped, but at most 5 s, scaled, for a process with the cookies and its
// descendants together.
func (s *ciStep) killAll(cookies ...string) {
	children := map[int][]int{}
	all := descendantsOf(s.cmd.Process.Pid)
	slices.Sort(all)
	for _, pid := range all {
		children[pid] = childrenOf(pid)
	}
	var killRecursively func(pid int, late time.Time)
	killRecursively = func(pid int, late time.Time) {
		for _, child := range children[pid] {
			killRecursively(child, late)
		}
		s.kill(pid, unix.SIGTERM)
		for time.Now().Before(late) && unix.Kill(pid, 0) == nil {
			time.Sleep(time.Millisecond)
		}
	}
	for _, pid := range all {
		if hasCookies(pid, cookies) {
			killRecursively(pid, time.Now().Add(s.scaled(5*time.Second)))
		}
	}
}

// killByCookies sends SIGKILL to the processes of the step that have all of the cookies, and returns the names of the
// processes.
func (s *ciStep) killByCookies(cookies []string) (found []string) {
	for _, pid := range descendantsOf(s.cmd.Process.Pid) {
		if hasCookies(pid, cookies) {
			found = append(found, comm(pid))
			s.kill(pid, unix.SIGKILL)
		}
	}
	return found
}

// hasCookies reports whether a process has all of these variables. It returns false if there are no variables to look
// for.
func hasCookies(pid int, cookies []string) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	environ := bytes.Split(text, []byte{0})
	return len(cookies) > 0 && !slices.ContainsFunc(cookies, func(cookie string) bool {
		return !slices.ContainsFunc(environ, func(kv []byte) bool { return string(kv) == cookie })
	})
}

// Each CI system cancels a job. Cleanup ends before the SIGKILL of the runner, each command runs once, and no process
// is left. The target ends at a stop signal, or ignores it.
func TestCI_cancel(t *testing.T) {
	need(t, "setsid", "bash")
	for name, runner := range ciRunners {
		for what, target := range map[string]string{
			"the target stops":   startFamily + waitForever,
			"the target ignores": `trap "" INT TERM; ` + startFamily + waitForever,
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				// If the machine is too slow for the scaled times, the test tries longer ones.
				for window := time.Second; !runner.cancels(t, target, window); window *= 2 {
					if window > 10*time.Second {
						t.Fatalf("cleanup did not end before SIGKILL in %v", window)
					}
				}
			})
		}
	}
}

// cancels cancels a step. It returns false if the machine was too slow: the runner sent SIGKILL, a command exceeded its
// time limit, or cleanup was not complete when the runner looked for processes with killedCookies. Unless there was a
// SIGKILL or a command that exceeded its limit, cancels also checks the final content of the file cleaned. In any case
// it checks that no process is left.
func (r ciRunner) cancels(t *testing.T, target string, window time.Duration) bool {
	t.Helper()
	s := r.start(t, target, r.window.Seconds()/window.Seconds())
	all := treeOf(t, s.cmd.Process.Pid)
	r.cancel(s)
	// The state before the runner kills by cookies, which also sets s.killed.
	cleaned, _ := os.ReadFile(s.dir + "/cleaned")
	inTime := !s.killed
	if found := s.killByCookies(r.killedCookies); len(found) > 0 && inTime {
		t.Errorf("the runner has killed %q", found)
	}
	s.wait() // the command ends when all processes have ended: see called
	s.untilEnded(all)
	text := s.text()
	if s.killed || strings.Contains(text, "command timed out") || strings.Contains(text, "command abandoned") {
		return false // the machine was too slow for the scaled limits
	}
	const want = "2 begins\n2 ends\n1 begins\n1 ends\n"
	s.wantFile("cleaned", want)
	return string(cleaned) == want || r.killedCookies == nil
}

// startJob starts graceful as a step of GitHub Actions, and waits for the file ready. GitHub's runner signals only the
// process that it has started, so this process is graceful itself.
func startJob(t *testing.T, step []string) *ciStep {
	t.Helper()
	p := called(t, slices.Concat([]string{"env"}, ciRunners["GitHub"].cookies, step)...).start()
	p.waitForFile("ready")
	pid := gracefulPID(p)
	return &ciStep{proc: p, graceful: pid, leader: pid, scale: 10}
}

// outlast sends all signals of GitHub's runner to a step that ignores all but the last one, SIGKILL. After each of the
// earlier signals, outlast calls arrived, which waits until the target has the signal.
func (s *ciStep) outlast(arrived func(unix.Signal)) {
	for _, step := range []struct {
		sig      unix.Signal
		patience time.Duration
	}{{unix.SIGINT, 7500 * time.Millisecond}, {unix.SIGTERM, 2500 * time.Millisecond}} {
		s.kill(s.leader, step.sig)
		arrived(step.sig)
		time.Sleep(s.scaled(step.patience))
	}
	s.kill(s.leader, unix.SIGKILL)
}

// The target ignores the stop signals, and the grace is longer than the runner waits, so the runner kills graceful.
// From then on, the runner also kills each process that has the runner's cookie in the environment, such as the target.
// The cleanup commands do not have the cookie, and complete.
func TestCI_cancelledJobIgnoresTheStop(t *testing.T) {
	t.Parallel()
	j := startJob(t, run(anHour, `trap "" INT TERM; env >environ; `+startFamily+`exec helper count got`, `
		echo $GRACEFUL_HOOK_ID $GRACEFUL_REASON $GRACEFUL_STOP_SIGNAL >>cleaned
		until [ -e swept.$GRACEFUL_HOOK_ID ]; do sleep 0.01; done
		echo $GRACEFUL_HOOK_ID is done >>cleaned`))
	cookies := ciRunners["GitHub"].killedCookies
	if !strings.Contains(j.waitForFile("environ"), cookies[0]+"\n") {
		t.Error("the target has lost the cookie")
	}
	j.waitForFile("got.pid")
	guard := guardOf(j.leader)
	j.outlast(func(sig unix.Signal) {
		j.until("signal to the target", func() bool { return counts(j.proc, "got")[sig] == 1 })
	})
	j.until("end of the guard", func() bool {
		cleaned, _ := os.ReadFile(filepath.Join(j.dir, "cleaned"))
		j.killByCookies(cookies)
		for line := range strings.Lines(string(cleaned)) { // for the commands that have begun
			if err := os.WriteFile(filepath.Join(j.dir, "swept."+line[:1]), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return !alive(guard)
	})
	j.want("137")
	j.wantFile("cleaned", "2 stopped INT\n2 is done\n1 stopped INT\n1 is done\n")
}

// A CI runner kills remaining processes by a variable in their environment, a cookie. The target has the cookies, so
// the runner may kill it. The guard has none of them. A cleanup command has only BUILD_ID.
func TestCI_onlyTheTargetHasTheCookie(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := command(t, "graceful", "run", "--on-exit", "env >cleanup", "--", "sh", "-c",
		"env >target; echo >ready; sleep 1000")
	cookies := []string{"RUNNER_TRACKING_ID=github_1", "JENKINS_NODE_COOKIE=1", "BUILD_ID=7", "JENKINS_SERVER_COOKIE=1"}
	p.cmd.Env = append(os.Environ(), cookies...)
	p.start()
	p.waitForFile("ready")
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.guard()))
	if err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGTERM)
	p.want("143")
	for _, cookie := range cookies {
		if strings.Contains(string(environ), cookie) {
			t.Errorf("the guard has %s in its environment", cookie)
		}
		if !strings.Contains(p.waitForFile("target"), cookie+"\n") {
			t.Errorf("the target lacks %s", cookie)
		}
		if in := strings.Contains(p.waitForFile("cleanup"), cookie+"\n"); in != strings.HasPrefix(cookie, "BUILD_ID") {
			t.Errorf("the cleanup command has %s: %t", cookie, in)
		}
	}
}
