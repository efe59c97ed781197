//go:build amd64 || arm64

package integration_test

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// threeSignals contains signals of three kinds. graceful forwards SIGUSR1, and SIGTERM stops the run. 35 is a real-time
// signal, which the kernel queues.
var threeSignals = []syscall.Signal{unix.SIGUSR1, unix.SIGTERM, 35}

// Signals to graceful reach the target exactly once, even if they are sent as soon as the target's process exists.
func TestForward_signalsDuringTheStart(t *testing.T) {
	need(t, "linux", "norace", "env-signals", "python3")
	step := stride(t, "GRACEFUL_TEST_SIGNAL_STRIDE", 40)
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			points := 0
			for at := 1; ; at += step {
				atOnce <- true
				dir := t.TempDir()
				got, err := trace(t, dir, order{
					At: at, Signals: threeSignals, Ready: "got.pid", Guarded: guard == "on",
					// The signals are blocked, so the target receives those that arrive before its first sigwait, too.
					Command: []string{"env", "--block-signal=USR1,USR2,TERM,RTMIN+1", "graceful", "run", "--guard", guard,
						"--grace", "1h", "--", "python3", "-c", receive},
				})
				<-atOnce
				text, _ := os.ReadFile(dir + "/got")
				if want := "[(10, 1), (15, 1), (35, 1)]"; err != nil || got.Status != "0" || string(text) != want {
					output, _ := os.ReadFile(dir + "/output")
					t.Fatalf("sent at stop %d, %q: status %s, %v; got %q; it wrote %q", at, got.Where, got.Status, err, text,
						output)
				}
				if got.Where == "" {
					break
				}
				points++
			}
			if points < 2 {
				t.Errorf("the signals were sent at %d stops, want at least 2", points)
			}
		})
	}
}

// receive is the script of a target that takes blocked signals. When the target has received each of threeSignals, it
// sends signal 12 to its parent. graceful forwards signal 12 after all earlier signals, also if the parent is the
// guard. When signal 12 arrives, the target writes how many times it has received each other signal, and ends.
const receive = `
import os, signal
got, three = {}, {10, 15, 35}
open("got.pid", "w").write(str(os.getpid()))
while True:
    sig = int(signal.sigwait(three | {12}))
    if sig == 12:
        break
    got[sig] = got.get(sig, 0) + 1
    if len(got) == 3:
        os.kill(os.getppid(), 12)
open("got", "w").write(str(sorted(got.items())))`
