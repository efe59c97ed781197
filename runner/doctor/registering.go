package doctor

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/runner"
	"graceful/runner/procfs"
)

func examineShell(c *Check) {
	c.Detail = cleanup.Shell
	if err := runner.ProbeShell(); err != nil {
		c.lower(No, fmt.Sprintf("%s: %v", cleanup.Shell, err), `use the exec form: ["./flush", "--all"]`)
	}
}

// examineSocket makes a socket as a run does, and requests the list of registered commands from it. The list is empty.
func examineSocket(c *Check) {
	s, err := registry.Listen(runner.NewID())
	if err != nil {
		c.lower(No, err.Error(), "")
		return
	}
	address := s.Address
	defer registry.Remove(address)
	if s.Lock >= 0 {
		defer unix.Close(s.Lock)
	}
	server := registry.Serve(s.FD, procfs.StartOf)
	defer server.Close()
	go answerOne(server)
	answer, err := registry.Ask(address, registry.Request{Do: registry.List})
	if answer.Error != "" {
		c.lower(Partly, answer.Error, "mount -t proc proc /proc, in this PID namespace")
	}
	if err != nil {
		c.lower(No, err.Error(), "")
		return
	}
	c.Detail = "in " + filepath.Dir(filepath.Dir(address))
	if address[0] == '@' {
		c.Detail = "its address is abstract, since no directory can hold it: this network namespace shares it"
	}
}

// answerOne answers the first request as a run without commands would.
func answerOne(server *registry.Server) {
	call := <-server.Calls
	answer := registry.Response{Commands: &[]registry.Listed{}}
	if err := runner.ProbeRequest(call); err != nil {
		answer = registry.Response{Error: err.Error()}
	}
	call.Answer(answer)
}
