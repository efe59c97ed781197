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
func (sys *realSystem) openRelay(id string) {
	isMember := func(pid int) bool { return procfs.IsBelow(pid, unix.Getpid()) }
	relay, err := notify.Open(id, isMember, sys.log)
	if err != nil {
		sys.log.Warn("no message to the service manager is relayed", "err", err)
	}
	sys.relay = relay
}

// withRelay returns an environment that makes processes send their messages for the service manager to graceful.
// Without a relay it returns env itself.
func (sys *realSystem) withRelay(env []string) []string {
	if sys.relay == nil {
		return env
	}
	return process.Setenv(env, notify.SocketVariable, sys.relay.Address)
}

func (sys *realSystem) notifyManager(assignments ...string) { sys.relay.Tell(assignments...) }

// notifyEnd tells the service manager once that the run is ending: a stop has begun, or the target has ended.
func (l *loop) notifyEnd() {
	if !l.announcer.endSent && (l.run.Stop.Count > 0 || l.run.State >= machine.Stopping) {
		l.announcer.endSent = true
		l.sys.notifyManager("STOPPING=1", "STATUS=stopping "+l.run.Config.Name)
	}
}

// notifyCommand tells the service manager which command runs, unless the command is a cleanup command that starts
// before cleanup. For a cleanup command it also extends the manager's timeout by the command's time limit and the time
// to kill the command.
func (l *loop) notifyCommand(c cleanup.Entry) {
	switch {
	case c.When == cleanup.AtStop:
		l.sys.notifyManager("STATUS=running on-stop command " + title(c))
	case l.run.State >= machine.Cleaning:
		most := (c.Command.Limit + machine.CommandKillAfter + time.Second).Microseconds()
		l.sys.notifyManager("STATUS=running cleanup command "+title(c), fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", most))
	}
}
