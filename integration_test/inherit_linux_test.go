package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// probe prints the inherited properties of a process that graceful might change by mistake.
const probe = `
grep -E '^(SigBlk|SigIgn|SigCgt|Umask|Cap|NoNewPrivs|Cpus_allowed|Groups|Uid|Gid)' /proc/self/status
ulimit -a; ulimit -Ha; umask; pwd; nice
cd /proc/self/fd; for fd in *; do echo "$fd -> $(readlink $fd)"; done | grep -v -e /proc/ -e pipe: -e '> $'
grep flags /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2
cat /proc/self/oom_score_adj /proc/self/timerslack_ns; echo "args: $*"`

// The target inherits the same properties with and without graceful. The test runs the same probe both ways in the same
// environment. It also tests a stripped binary of graceful, as in distributions.
func TestInherit_target(t *testing.T) {
	need(t, "linux", "env", "nohup")
	stripped := filepath.Join(t.TempDir(), "graceful")
	if err := build(stripped, "-ldflags=-s -w"); err != nil {
		t.Fatal(err)
	}
	for name, around := range map[string][]string{
		"nothing special":                      {},
		"nohup":                                {"nohup"},
		"nice":                                 {"nice", "-n", "7"},
		"signals blocked by the parent":        {"env", "--block-signal=TERM,INT,USR1,CHLD,PROF,RTMIN+3"},
		"signals ignored by the parent":        {"env", "--ignore-signal=TERM,QUIT,USR1,PIPE,WINCH,TSTP,TTOU,IO,RTMIN+5"},
		"children ignored by the parent":       {"env", "--ignore-signal=CHLD"},
		"children and others ignored":          {"env", "--ignore-signal=CHLD,PIPE,HUP", "--block-signal=USR2"},
		"faults and the runtime's own ignored": {"env", "--ignore-signal=ILL,TRAP,BUS,FPE,SEGV,SYS,STKFLT,PROF,URG"},
		"descriptors, limits and umask": {"sh", "-c",
			`ulimit -Sn 77; ulimit -Hn 99; umask 027; exec "$@" 7</etc/passwd 9>>/dev/null`, "sh"},
		"a soft limit below the hard one":    {"sh", "-c", `ulimit -Sn 64; exec "$@"`, "sh"},
		"as a background job of a shell":     {"sh", "-c", `"$@" & wait $!`, "sh"},
		"socket activation for this process": {"sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3</etc/passwd`, "sh"},
		"a standard error that does not block": {"python3", "-c",
			"import os, sys; os.set_blocking(2, False); os.execvp(sys.argv[1], sys.argv[1:])"},
		"no directory": {"sh", "-c", `mkdir gone; cd gone; rmdir ../gone; exec "$@"`, "sh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if around := strings.Join(around, " "); strings.Contains(around, "-signal") {
				need(t, "env-signals")
			}
			if len(around) > 0 {
				need(t, around[0])
			}
			for _, probe := range [][]string{
				{"sh", "-c", probe, "sh", "\xff\xfe", "a  b", ""},
				{"grep", "^Sig[BI]", "/proc/self/status"}, // without a shell, because a shell changes some signals
			} {
				bare := outputOf(t, around, nil, probe)
				for _, wrapper := range [][]string{
					{"graceful", "run"}, {"graceful", "run", "--guard", "off"}, {stripped, "run"},
				} {
					wrapper = append(wrapper, "--quiet") // otherwise graceful warns about an ignored SIGTERM
					if wrapped := outputOf(t, around, append(wrapper, "--"), probe); bare != wrapped {
						t.Errorf("bare:\n%s\nunder %v:\n%s", bare, wrapper, wrapped)
					}
				}
			}
		})
	}
}

// outputOf returns the output and the status of a probe under a wrapper. The words in around come before the wrapper.
// Paths that differ between two calls are replaced.
func outputOf(t *testing.T, around, wrapper, probe []string) string {
	t.Helper()
	p := command(t, slices.Concat(around, wrapper, probe)...)
	if !strings.Contains(t.Name(), "no_directory") {
		p.cmd.Dir = "/"
	}
	status := p.start().wait()
	return strings.NewReplacer(p.output.Name(), "OUTPUT", p.dir, "DIR").Replace(p.text()) + "status " + status
}

// Cleanup commands inherit the same properties as the target, with three exceptions. Standard input is empty. SIGTTOU
// is ignored, so that SIGTTOU does not suspend them. Descriptors other than 0, 1 and 2 are closed, so that a reader of
// a pipe waits only as long as the target lives.
func TestInherit_cleanupCommands(t *testing.T) {
	need(t, "linux", "env-signals")
	t.Parallel()
	p := start(t, "env", "--ignore-signal=HUP,QUIT,USR1,PIPE", "--block-signal=USR2", "sh", "-c", `
		exec 7</etc/passwd; ulimit -Sn 77; umask 027
		exec graceful run --on-exit '{ grep -e ^SigBlk -e ^SigIgn /proc/self/status; ulimit -n; umask; } >hook
		ls /proc/self/fd >hook.fds' -- \
			sh -c '{ grep -e ^SigBlk -e ^SigIgn /proc/self/status; ulimit -n; umask; } >target; ls /proc/self/fd >target.fds'`)
	p.want("0")
	const ttou = 1 << (unix.SIGTTOU - 1)
	var ignored uint64
	target, hook := p.waitForFile("target"), p.waitForFile("hook")
	if _, err := fmt.Sscanf(target[strings.Index(target, "SigIgn:"):], "SigIgn: %x", &ignored); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(target, fmt.Sprintf("%016x", ignored), fmt.Sprintf("%016x", ignored|ttou), 1)
	if hook != want {
		t.Errorf("the target has\n%s\nthe cleanup command\n%s", target, hook)
	}
	if fds := strings.Fields(p.waitForFile("target.fds")); !slices.Contains(fds, "7") {
		t.Errorf("the target has the descriptors %q", fds)
	}
	p.wantFile("hook.fds", "0\n1\n2\n3\n") // descriptor 3 is the directory that ls(1) reads
}

// A stop signal that was ignored when graceful was started does not stop the run, unless --stop-on names that signal.
func TestStopOn_signalThatTheParentIgnored(t *testing.T) {
	need(t, "linux", "env-signals")
	t.Parallel()
	for _, named := range []bool{false, true} {
		flag := "--grace=100ms"
		if named {
			flag = "--stop-on=TERM,INT"
		}
		p := start(t, "env", "--ignore-signal=TERM", "graceful", "run", "-v", "--grace", "100ms", flag, "--on-exit",
			"echo >>cleaned $GRACEFUL_STOP_SIGNAL", "--", "sh", "-c", "echo >ready; exec sleep 1000")
		p.waitForFile("ready")
		stop, status := unix.SIGINT, "130"
		if named {
			stop, status = unix.SIGTERM, "137" // the target ignores SIGTERM, too
		}
		// Send SIGTERM until graceful has logged that signal.
		p.until("signal", func() bool {
			p.signal(unix.SIGTERM)
			return strings.Contains(p.text(), "received signal signal=TERM")
		})
		p.signal(stop)
		p.want(status)
		p.wantFile("cleaned", strings.TrimPrefix(unix.SignalName(stop), "SIG")+"\n")
		if got := strings.Contains(p.text(), "SIGTERM does not stop the run"); got == named {
			t.Errorf("named %t: it wrote:\n%s", named, p.text())
		}
	}
}

// graceful receives signals that were blocked when it was started, and forwards them to the target.
func TestForward_signalsThatTheParentBlocked(t *testing.T) {
	need(t, "linux", "env-signals")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		p := start(t, "env", "--block-signal=USR1,USR2,ALRM,WINCH,CONT,TSTP,TERM,RTMIN+3", "graceful", "run",
			"--guard", guard, "--grace", "100ms", "--", "helper", "count", "got")
		p.pidIn("got.pid")
		for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGWINCH, unix.SIGCONT, 37} {
			p.signal(sig)
			p.until(fmt.Sprint(sig), func() bool {
				got, _ := os.ReadFile(filepath.Join(p.dir, "got"))
				return slices.Contains(strings.Fields(string(got)), strconv.Itoa(int(sig)))
			})
		}
		p.signal(unix.SIGTERM)
		p.want("137")
	}
}

// If LISTEN_PID or WATCHDOG_PID names graceful, the target gets the variable with the target's pid. The exit statuses
// for a target that cannot be started, or that a signal ends, do not change.
func TestInherit_listenPID(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, variable := range []string{"LISTEN_PID", "WATCHDOG_PID"} {
		start(t, "sh", "-c", variable+`=$$ exec graceful run -- sh -c 'test $`+variable+` = $$ && exit 42'`).want("42")
		// A variable with a pid that is not graceful's does not change.
		start(t, "sh", "-c", variable+`=1 exec graceful run -- sh -c 'test $`+variable+` = 1 && exit 42'`).want("42")
	}
	// With LISTEN_PID, the exit statuses for a target that cannot be started, or that a signal ends, are the usual
	// ones.
	start(t, "sh", "-c", `LISTEN_PID=$$ exec graceful run -- no-such-program`).want("127")
	start(t, "sh", "-c", `LISTEN_PID=$$ exec graceful run -- ./no-such-program`).want("127")
	start(t, "sh", "-c", `LISTEN_PID=$$ exec graceful run --on-exit 'echo >cleaned' -- /`).want("126")
	start(t, "sh", "-c", `LISTEN_PID=$$ exec graceful run -- sh -c 'kill -9 $$'`).want("137")
}

// If standard descriptors are closed, the exit status is still the target's, and cleanup runs once.
func TestRun_closedStandardDescriptors(t *testing.T) {
	t.Parallel()
	for _, closed := range []string{"<&-", ">&-", "2>&-", "<&- >&- 2>&-"} {
		p := start(t, "sh", "-c", `exec graceful run -v --on-exit 'echo >>cleaned 1' -- sh -c 'echo out; echo err >&2
			exit 3' `+closed)
		p.want("3")
		p.wantFile("cleaned", "1\n")
	}
}

// The target gets an argument of 100,000 bytes that are not valid UTF-8.
func TestRun_argumentOf100KB(t *testing.T) {
	t.Parallel()
	p := start(t, "graceful", "run", "--", "sh", "-c", `printf %s "$1" | wc -c`, "sh", strings.Repeat("\xe9", 100_000))
	p.want("0")
	if got := strings.TrimSpace(p.text()); got != "100000" {
		t.Errorf("%s bytes arrived", got)
	}
}

// With a umask that removes the owner's permissions, a run can still be recovered. Cleanup commands can still use the
// empty directory that replaces a removed working directory.
func TestUmask_withoutPermissionsOfTheOwner(t *testing.T) {
	need(t, "root", "setpriv")
	t.Parallel()
	p := command(t, asUser(anotherUser, "sh", "-c", `mkdir state gone; umask 0777; cd gone; rmdir ../gone
		XDG_RUNTIME_DIR="$0" \
		exec graceful run --state-dir "$0"/state --on-exit "echo cleaned >$0/cleaned; chmod 600 $0/cleaned" -- \
		sh -c "umask 022; echo \$\$ >$0/target; exec sleep 1000"`)...)
	p.cmd.Args = append(p.cmd.Args, p.dir)
	if err := os.Chmod(p.dir, os.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	for up := filepath.Dir(p.dir); up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.start()
	target := p.pidIn("target")
	if lock, _ := filepath.Glob(p.dir + "/graceful-*/lock"); len(lock) != 1 {
		t.Errorf("the locks are %q", lock)
	} else if st, err := os.Stat(lock[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the lock: %v, %v", st.Mode(), err)
	}
	killBoth(t, p.cmd.Process.Pid)
	p.want("KILL")
	r := start(t, asUser(anotherUser, "graceful", "recover", "--state-dir", p.dir+"/state")...)
	r.want("0")
	p.untilReaped(target)
	p.wantFile("cleaned", "cleaned\n")
}
