package integration_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// As PID 1, graceful exits with the usual statuses, ignores fault signals that other processes send, and ends all
// processes of the namespace at a stop.
func TestPID1_run(t *testing.T) {
	t.Run("statuses", func(t *testing.T) {
		inNamespace(t, true, "graceful", "run", "--", "sh", "-c", "exit 7").start().want("7")
		inNamespace(t, true, "graceful", "run", "--", "sh", "-c", "kill -9 $$").start().want("137")
		inNamespace(t, true, "graceful", "run", "--", "no-such-program").start().want("127")
	})
	// The numbers in the script are ILL, TRAP, BUS, FPE, SEGV, STKFLT and SYS. The kernel drops such a signal for a PID 1
	// without a handler.
	t.Run("faults that are sent", func(t *testing.T) {
		inNamespace(t, true, "graceful", "run", "--", "sh", "-c",
			"for sig in 4 5 7 8 11 16 31; do kill -$sig 1 || exit 9; done; exit 3").start().want("3")
		inNamespace(t, true, "helper", "fault").start().want("SEGV") // a fault of PID 1 itself ends it
	})
	for _, sig := range []string{"TERM", "INT", "QUIT"} {
		t.Run("stop by "+sig, func(t *testing.T) {
			p := inNamespace(t, true, "graceful", "run", "--grace", "1h", "--on-exit", "echo cleaned; "+census, "--",
				"sh", "-c", "trap 'exit 3' "+sig+"; setsid helper ignore -- ready & while :; do wait; done").start()
			p.waitForFile("ready")
			if err := unix.Kill(gracefulPID(p), unix.SignalNum("SIG"+sig)); err != nil {
				t.Fatal(err)
			}
			p.want("3")
			if want := "cleaned\ncensus: 0\n"; !strings.HasSuffix(p.text(), want) {
				t.Errorf("it wrote:\n%s", p.text())
			}
		})
	}
}

// When the target has ended, graceful as PID 1 also stops the other processes of the namespace. A helper that a shell
// started, before the shell executed graceful, gets SIGTERM. A process that entered the namespace from outside gets
// SIGHUP and SIGTERM.
func TestPID1_stopsOtherProcesses(t *testing.T) {
	need(t, "root", "pidns", "nsenter")
	t.Parallel()
	for _, guard := range []string{"auto", "on"} {
		for _, contain := range []string{"auto", "cgroup"} {
			t.Run(guard+" "+contain, func(t *testing.T) {
				t.Parallel()
				// note is the script of the helper and of the outsider. The helper ends only after both have got
				// SIGTERM.
				note := `for s in HUP TERM; do trap "echo $s >>$0; got=$s" $s; done; echo $$ >$0.up; ` +
					`until [ "$got" = TERM ] && grep -q TERM outsider; do sleep 0.01; done`
				p := command(t, append([]string{"unshare"}, pidNamespace("sh", "-c", `sh -c "$note" helper & exec "$@"`,
					"sh", "graceful", "run", "--guard", guard, "--contain", contain, "--grace", "1h", "--on-exit",
					"echo 1 >>cleaned", "--", "sh", "-c", "echo >target; until [ -e go ]; do sleep 0.01; done; exit 6")...)...)
				p.cmd.Env = append(os.Environ(), "note="+note)
				p.start()
				p.waitForFile("target")
				p.waitForFile("helper.up")
				inside := strconv.Itoa(childrenOf(p.cmd.Process.Pid)[0])
				outsider := command(t, "nsenter", "--target", inside, "--pid", "--mount", "--wd=.", "sh", "-c", note, "outsider")
				outsider.cmd.Dir, outsider.cmd.Env = p.dir, p.cmd.Env
				outsider.start()
				p.waitForFile("outsider.up")
				p.touch("go")
				p.want("6")
				p.wantFile("helper", "TERM\n")
				p.wantFile("cleaned", "1\n")
				p.wantFile("outsider", "HUP\nTERM\n")
				outsider.wait()
			})
		}
	}
}
