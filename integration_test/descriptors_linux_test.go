package integration_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// With any limit of descriptors, graceful either performs the whole run, or starts no process and names the limit. It
// never takes a lack of descriptors for a missing /proc.
func TestLimits_descriptors(t *testing.T) {
	need(t, "linux", "setsid")
	begun := regexp.MustCompile(`started (\d+)`)
	for _, flags := range []string{
		"", "--guard off", "--guard on", "--pty", "--state-dir state", "--report report", "--contain subreaper",
		"--guard off --defer off --log-format json", "--pty --guard on --state-dir state --report report",
	} {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			for n := 3; n <= 24; n++ {
				// The script uses no redirection, since that would need a descriptor.
				p := start(t, "sh", "-c", fmt.Sprintf(
					`ulimit -n %d; exec %s run %s --on-exit 'echo cleaned' -- sh -c 'setsid sleep 1000 & echo started $!'`,
					n, plain, flags))
				status, text := p.wait(), p.text()
				started := begun.FindStringSubmatch(text)
				refused := status == "125" && started == nil && !strings.Contains(text, "cleaned\n") &&
					strings.Contains(text, "too many open files (too few descriptors are allowed: see ulimit -n)")
				performed := status == "0" && started != nil && strings.Contains(text, "cleaned\n")
				misled := strings.Contains(text, "/proc is missing") || strings.Contains(text, "containment is limited") ||
					strings.Contains(text, "fatal error")
				if misled || refused == performed {
					t.Errorf("%d descriptors: status %s; it wrote:\n%s", n, status, text)
				}
				if started == nil {
					continue
				}
				if pid, err := strconv.Atoi(started[1]); err != nil || unix.Kill(pid, 0) == nil {
					t.Errorf("%d descriptors: process %d of the tree is still alive, %v; graceful wrote:\n%s", n, pid, err, text)
				}
			}
		})
	}
}
