package integration_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	runnerprocess "graceful/runner/process"
)

// The role end-by N ends by signal N, whatever the disposition and the mask of that signal are.
func init() {
	roles["end-by"] = func(args []string) int {
		n, _ := strconv.Atoi(args[0])
		runnerprocess.EndBy(syscall.Signal(n))
		return 99
	}
}

// wantSignal fails the test unless a program has ended by a signal, without a core dump and without a message.
func (p *proc) wantSignal(sig syscall.Signal) {
	p.t.Helper()
	p.wait()
	how := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !how.Signaled() || how.Signal() != sig || how.CoreDump() {
		p.t.Errorf("%.200q: wait status %#x, want signal %d", p.cmd.Args, uint32(how), sig)
	}
	if text := p.text(); text != "" {
		p.t.Errorf("signal %d: it wrote %q", sig, firstLine(text))
	}
	if cores, _ := filepath.Glob(filepath.Join(p.dir, "core*")); len(cores) > 0 {
		p.t.Errorf("signal %d: core dumps %q", sig, cores)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// withCores prepends the command that lets a program dump core, as far as the hard limit allows.
func withCores(args ...string) []string {
	return append([]string{"sh", "-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$@"`, "sh"}, args...)
}

// With --reraise, graceful first runs the cleanup command. Then it ends by the signal that has ended the target.
func TestReraise_eachSignal(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		for sig := syscall.Signal(1); sig <= 64; sig++ {
			if slices.Contains(harmless, sig) {
				continue
			}
			p := start(t, withCores("graceful", "run", "--guard", guard, "--reraise", "--on-exit",
				"echo >>cleaned $GRACEFUL_EXIT_CODE", "--",
				"helper", "die", strconv.Itoa(int(sig)))...)
			p.wantSignal(sig)
			p.wantFile("cleaned", fmt.Sprintln(128+int(sig)))
		}
	}
}

// graceful ends by the signal even if graceful was started with that signal ignored or blocked.
func TestReraise_ignoredOrBlockedSignal(t *testing.T) {
	need(t, "linux", "env-signals")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		for _, sig := range []syscall.Signal{
			unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGSEGV, 40,
		} {
			for _, how := range []string{"ignore", "block"} {
				name := strconv.Itoa(int(sig))
				p := start(t, withCores("env", "--"+how+"-signal="+name, "graceful", "run", "--guard", guard, "--reraise",
					"--quiet", "--", "helper", "end-by", name)...)
				p.wantSignal(sig)
			}
		}
	}
}

// If graceful kills the target at the end of the grace period, graceful also ends by SIGKILL.
func TestReraise_killedByGraceful(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		p := start(t, "graceful", "run", "--guard", guard, "--reraise", "--grace", "0", "--on-exit",
			"echo >>cleaned $GRACEFUL_ESCALATED", "--", "helper", "ignore", "TERM", "--", "pid")
		p.waitForFile("pid")
		p.signal(unix.SIGTERM)
		p.wantSignal(unix.SIGKILL)
		p.wantFile("cleaned", "true\n")
	}
}

// --reraise also has an effect after the guard was killed.
func TestReraise_afterTheGuardIsKilled(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--reraise", "--guard", "on", "--on-exit", "echo >>cleaned", "--", "sh", "-c",
		"echo >ready; exec sleep 1000")
	p.waitForFile("ready")
	p.loseGuard()
	p.signal(unix.SIGTERM)
	p.want("TERM")
	p.wantFile("cleaned", "\n")
}

// Even with --reraise, graceful exits with a status if --timeout or --remap-exit determines the status, or if no signal
// ended the target.
func TestReraise_exitStatus(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		for _, c := range []struct{ status, flags, target string }{
			{"124", "--timeout 100ms", "sleep 1000"},
			{"143", "--timeout 100ms --remap-exit 124=143", "sleep 1000"},
			{"0", "--remap-exit 143=0", "helper die 15"},
			{"7", "--remap-exit 143=7", "helper die 15"},
			{"143", "", "sh -c 'exit 143'"},
			{"3", "", "sh -c 'exit 3'"},
			{"127", "", "no-such-program"},
		} {
			p := start(t, "sh", "-c", "exec graceful run --reraise --on-exit 'echo >>cleaned' --guard "+guard+" "+c.flags+" -- "+
				c.target)
			p.want(c.status)
			p.wantFile("cleaned", "\n")
		}
	}
}

// A signal that PID 1 of a namespace sends to itself does not end PID 1. So graceful exits with 128+n instead.
func TestReraise_asPID1(t *testing.T) {
	need(t, "linux", "pidns")
	t.Parallel()
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGSEGV, unix.SIGKILL, 64} {
		p := start(t, append([]string{"unshare"},
			pidNamespace("graceful", "run", "--reraise", "--on-exit", "echo >>cleaned", "--", "helper", "die",
				strconv.Itoa(int(sig)))...)...)
		p.want(strconv.Itoa(128 + int(sig)))
		p.wantFile("cleaned", "\n")
	}
}
