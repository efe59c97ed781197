//go:build engines

package engines

import (
	"fmt"
	"strings"
	"testing"
)

// graceful is killed with each KillMode, with and without ExecStopPost in the unit. Cleanup runs once, except with
// KillMode=mixed and without ExecStopPost. docs/engines/systemd.md lists the results.
func TestSystemd_killModes(t *testing.T) {
	for _, mode := range []string{"control-group", "mixed", "process", "none"} {
		for _, recovers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s recovers %t", mode, recovers), func(t *testing.T) {
				post := ""
				if recovers {
					post = "ExecStopPost=/usr/bin/graceful recover --state-dir ${TEST}/state --name x\n"
				}
				u := newService(t, `Type=exec
KillMode=`+mode+`
ExecStart=/usr/bin/graceful run --state-dir ${TEST}/state --name x --on-exit 'echo cleaned >>$TEST/cleaned' \
	-- sh -c 'setsid sleep 1000 & echo ready >$TEST/ready; trap : TERM; wait; sleep 0.5; exit 3'
`+post)
				u.start()
				u.wantFile("ready", "ready\n")
				u.killMain()
				u.becomes("ActiveState", "failed")
				early := content(u.dir + "/cleaned")
				until(t, "end of all processes", func() bool { return !strings.Contains(u.processes(), "\n") })
				// With the other modes, the guard lives on, and recover does not wait for it.
				recoversFirst := recovers && (mode == "control-group" || mode == "mixed")
				lost := mode == "mixed" && !recovers // systemd kills the guard as soon as the main process has ended
				if cleaned := content(u.dir + "/cleaned"); cleaned != map[bool]string{false: "cleaned\n"}[lost] ||
					recoversFirst && early == "" {
					t.Errorf("cleanup: %q; before the end of the unit %q", cleaned, early)
				}
			})
		}
	}
}

// processes lists the processes of the unit, one per line.
func (u *service) processes() string {
	out, _ := u.output("sh", "-c", "cat /sys/fs/cgroup/system.slice/"+u.name+".service/cgroup.procs 2>/dev/null")
	if out == "" {
		return ""
	}
	return out + "\n"
}
