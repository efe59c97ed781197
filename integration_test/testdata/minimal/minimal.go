// Minimal starts a program, forwards four signals to the program, and exits with the status of the program (128+n after
// signal n). The benchmark measures the cost of such a minimal Go program.
package main

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

// run runs the program and returns the exit status.
func run() int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
	path, err := exec.LookPath(os.Args[1])
	if err != nil {
		return 127
	}
	pid, err := syscall.ForkExec(path, os.Args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 126
	}
	go func() {
		for sig := range signals {
			_ = syscall.Kill(pid, sig.(syscall.Signal))
		}
	}()
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
