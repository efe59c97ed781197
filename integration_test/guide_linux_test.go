package integration_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// signalled is the script of a target with a child. Both write a line when they get SIGTERM. If only the target gets
// the signal, the child soon ends by itself.
const signalled = `sh -c 'trap "echo child; echo >got; exit" TERM; echo >expects; n=0
		while [ $n -lt 100 ]; do sleep 0.01; n=$((n+1)); done' &
	trap 'sleep 0.3; [ ! -e got ] || wait; echo target; exit 0' TERM
	until [ -e expects ]; do sleep 0.01; done
	echo >ready; while :; do sleep 0.01; done`

// docs/guide.md lists equivalent command lines of other wrappers and of graceful. With both, the exit status is the
// same, and the same processes get a signal.
func TestGuide_same(t *testing.T) {
	need(t, "linux")
	const term, usr2 = unix.SIGTERM, unix.SIGUSR2
	alone := "--forward-to target --survivors keep"
	for _, c := range []struct {
		other, ours, target string
		signal              syscall.Signal // sent to the wrapper; 0: none
		status, got         string
	}{
		{"tini -s --", "", "exit 3", 0, "3", ""},
		{"tini -s --", "", "kill $$", 0, "143", ""},
		{"tini -s -e 143 --", "--remap-exit 143=0", "kill $$", 0, "0", ""},
		{"tini -s -g --", "", signalled, term, "0", "child target"},
		{"tini -s --", alone, signalled, term, "0", "target"},
		{"dumb-init", "", signalled, term, "0", "child target"},
		{"dumb-init -c", alone, signalled, term, "0", "target"},
		{"dumb-init -r 12:15", "--rewrite 12=15", signalled, usr2, "0", "child target"},
		{"dumb-init -r 12:0", "--rewrite 12=0", "echo >ready; sleep 0.3; exit 4", usr2, "4", ""},
		{"timeout .2", "--timeout .2", "sleep 1000", 0, "124", ""},
		{"timeout 1.5m", "--timeout 1.5m", "exit 3", 0, "3", ""},
		{"timeout 0.0", "--timeout 0.0", "sleep 0.1; exit 3", 0, "3", ""},
		{"timeout -k 1m 1m", "--timeout 1m --grace 1m", signalled, term, "0", "child target"},
		{"timeout -s USR1 .3", "--timeout .3 --rewrite TERM=USR1",
			`trap "echo target; exit" USR1; while :; do sleep 0.01; done`, 0, "124", "target"},
	} {
		t.Run(c.other, func(t *testing.T) {
			t.Parallel()
			other := strings.Fields(c.other)
			need(t, other[0])
			for _, wrapper := range [][]string{other, strings.Fields("graceful run " + c.ours + " --")} {
				p := start(t, append(wrapper, "sh", "-c", c.target)...)
				if c.signal != 0 {
					p.waitForFile("ready")
					p.signal(c.signal)
				}
				p.want(c.status)
				var got []string
				for line := range strings.Lines(p.text()) {
					if line = strings.TrimSpace(line); line == "child" || line == "target" {
						got = append(got, line)
					}
				}
				if strings.Join(slices.Compact(got), " ") != c.got { // timeout signals the target, and then its group
					t.Errorf("%q: %q got the signal, want %q; it wrote:\n%s", wrapper, got, c.got, p.text())
				}
			}
		})
	}
}
