//go:build amd64 || arm64

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The target is suspended when the stop begins, and graceful is killed at one of the kill(2) calls of the stop. The
// target gets SIGTERM and SIGCONT, so it continues, and handles SIGTERM. It is not killed.
func TestTakeover_suspendedTarget(t *testing.T) {
	need(t, "linux", "norace")
	const target = `trap "echo term >>terms; exit 3" TERM
		sh -c 'until grep -q "^State:.T" /proc/$PPID/status; do :; done; echo >ready' &
		kill -STOP $$; exit 4`
	for at := 1; at <= 3; at++ {
		t.Run(fmt.Sprint("kill ", at), func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp(binDir, "run-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			got, err := trace(t, dir, order{
				Command: slices.Concat([]string{plain, "run", "--grace", "5s"}, guardFlags,
					[]string{"--on-exit", "echo $GRACEFUL_EXIT_CODE >>log", "--", "sh", "-c", target}),
				Guarded: true, Call: "kill", At: at, Ready: "ready",
			})
			if err != nil {
				t.Fatal(err)
			}
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			terms, _ := os.ReadFile(filepath.Join(dir, "terms"))
			if got.Where != "kill" || string(log) != "3\n" || len(terms) == 0 {
				t.Errorf("killed at %q: exit code of the target %q, want 3; it wrote %q", got.Where, log, terms)
			}
		})
	}
}
