package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// helper combines the test programs. Its first argument selects one:
//
//	ignore SIGNAL... -- FILE   ignores the signals, writes its pid to FILE, and stays
//	count FILE                 writes its pid to FILE.pid, then a line for each signal to FILE, and stays
//	daemon FILE                double-forks and calls setsid, writes the daemon's pid to FILE
//	threads FILE               starts a child from a thread that is not the first one, writes the child's pid to FILE,
//	                           and stays
//	orphans N                  leaves N children behind, all of which end at once
//	relay N                    starts N chains of processes, and stays; each process forks and ends as fast as it can
//	breed N                    a process tree that forks as fast as it can, up to N, and stays; like relay it ignores
//	                           SIGTERM, and writes its pid to ./storm when it begins
//	exhaust FILE               forks until it may not, writes the number of forks to FILE, prints a line, and goes on
//	die SIGNAL-NUMBER          ends by that signal
//	become-root FILE           set-user-ID root: sets all its user ids to root, writes its pid to FILE, and stays
//	answer                     writes a line when it is ready, and one for each SIGUSR1; stays
//	stay                       stays until a signal ends it
//
// The map roles contains further roles.
func helper(args []string) int {
	switch args[0] {
	case "ignore":
		for i, name := range args[1:] {
			if name == "--" {
				write(args[i+2], os.Getpid())
				break
			}
			signal.Ignore(unix.SignalNum("SIG" + name))
		}
		stay()
	case "count":
		count(args[1])
	case "daemon":
		// Start a child that leaves the session, and a grandchild that outlives the child. Both are this program.
		if len(args) == 3 {
			if args[2] == "child" {
				again(nil, "daemon", args[1], "grandchild")
				return 0
			}
			signal.Ignore(unix.SIGHUP)
			write(args[1], os.Getpid())
			stay()
		}
		again(&syscall.SysProcAttr{Setsid: true}, "daemon", args[1], "child")
	case "threads":
		done := make(chan int)
		go func() { // the main goroutine occupies the first thread
			runtime.LockOSThread()
			done <- again(&syscall.SysProcAttr{Setsid: true}, "stay")
			stay()
		}()
		write(args[1], <-done)
		stay()
	case "orphans":
		n, _ := strconv.Atoi(args[1])
		forks(n)
	case "relay", "breed":
		n, _ := strconv.Atoi(args[1])
		signal.Ignore(unix.SIGTERM)
		write("storm", os.Getpid())
		if args[0] == "relay" {
			relay(n)
		}
		breed(n)
	case "exhaust":
		exhaust(args[1])
	case "die":
		n, _ := strconv.Atoi(args[1])
		die(syscall.Signal(n))
	case "become-root":
		if err := unix.Setuid(0); err != nil {
			panic(err)
		}
		write(args[1], os.Getpid())
		stay()
	case "answer":
		answer()
	case "stay":
		stay()
	default:
		if role := roles[args[0]]; role != nil {
			return role(args[1:])
		}
		fmt.Fprintln(os.Stderr, "helper: unknown", args)
		return 2
	}
	return 0
}

var roles = map[string]func(args []string) int{}

// Lock the main goroutine to its thread, for the roles that need to know the first thread of the process. During init
// the main goroutine runs on the first thread. Later it may run on any thread.
func init() {
	if len(os.Args) > 2 && (os.Args[1] == "lose-thread" || os.Args[1] == "threads") {
		runtime.LockOSThread()
	}
}

// stay waits for a signal that ends the process. (The runtime reports an empty select as a deadlock.)
func stay() {
	for {
		time.Sleep(time.Hour)
	}
}

// write creates a file with a number atomically. A reader never sees only a part of the number.
func write(file string, n int) {
	tmp := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(tmp, fmt.Appendln(nil, n), 0o644); err != nil {
		panic(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		panic(err)
	}
}

func again(attr *syscall.SysProcAttr, args ...string) int {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(self, args...)
	c.Args[0] = "helper"
	c.SysProcAttr = attr
	if err := c.Start(); err != nil {
		panic(err)
	}
	return c.Process.Pid
}

// count writes a line for each signal. It opens the file before it writes its pid.
func count(file string) {
	c := make(chan os.Signal, 4096)
	signal.Notify(c)
	signal.Reset(unix.SIGURG) // the runtime uses SIGURG
	out, err := os.Create(file)
	if err != nil {
		panic(err)
	}
	write(file+".pid", os.Getpid())
	for sig := range c {
		if sig != unix.SIGURG {
			fmt.Fprintln(out, int(sig.(syscall.Signal)))
		}
	}
}

func answer() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1)
	for fmt.Println("ready"); ; fmt.Println("got it") {
		<-c
	}
}

func die(sig syscall.Signal) {
	// Avoid core dumps of hundreds of test processes.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	// Let a shell send the signal to itself. The Go runtime would turn some signals into a crash.
	err := syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf("kill -%d $$; exit 99", int(sig))}, os.Environ())
	panic(err)
}
