package runner

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/notify"
	"graceful/runner/process"
	"graceful/runner/procfs"
)

// openRelay opens the relay if a service manager expects messages from this process.
func (p *processes) openRelay(id string) {
	isMember := func(pid int) bool { return procfs.IsBelow(pid, unix.Getpid()) }
	relay, err := notify.Open(id, isMember, p.log)
	if err != nil {
		p.log.Warn("no message to the service manager is relayed", "err", err)
	}
	p.relay = relay
}

// withRelay returns an environment that makes processes send their messages for the service manager to graceful.
func (p *processes) withRelay(env []string) []string {
	if p.relay == nil {
		return env
	}
	return process.Setenv(env, notify.SocketVariable, p.relay.Address)
}

func (p *processes) tell(assignments ...string) { p.relay.Tell(assignments...) }

// tellEnd sends a message to the service manager that the run is ending. It sends that message only once.
func (l *loop) tellEnd() {
	if !l.says.ends && (l.run.Stop.Count > 0 || l.run.State >= machine.Sweeping) {
		l.says.ends = true
		l.sys.tell("STOPPING=1", "STATUS=stopping "+l.run.Config.Name)
	}
}

// tellCommand sends a message to the service manager with the command that runs, and extends the manager's timeout by
// the time limit of a cleanup command.
func (l *loop) tellCommand(c cleanup.Entry) {
	switch {
	case c.When == cleanup.AtStop:
		l.sys.tell("STATUS=running on-stop command " + title(c))
	case l.run.State >= machine.Cleaning:
		most := (c.Command.Limit + machine.CommandKillAfter + time.Second).Microseconds()
		l.sys.tell("STATUS=running cleanup command "+title(c), fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", most))
	}
}
