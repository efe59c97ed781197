package process

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inherited contains the ignored signals and the signal mask from the start of graceful. The target inherits both. The
// Go runtime changes both before main begins.
type Inherited struct {
	Ignored []syscall.Signal // signals with SIG_IGN
	Blocked []syscall.Signal
}

// SelfPath returns a path of graceful's executable, even where /proc is missing.
func SelfPath() (string, error) {
	if unix.Access(SelfExe, unix.X_OK) == nil {
		return SelfExe, nil
	}
	if path, err := os.Executable(); err == nil {
		return path, nil
	}
	return LookPath(os.Args[0], SearchPath(os.Environ()))
}

// StartSelf starts graceful at path, in a process group of its own and with RuntimeEnv. Standard input is empty.
// Standard output and standard error lead to the file output. The caller must reap the process.
func StartSelf(path string, args []string, output *os.File) (pid int, err error) {
	stdin, err := EmptyInput()
	if err != nil {
		return 0, err
	}
	defer stdin.Close()
	pid, err = syscall.ForkExec(path, append([]string{"graceful"}, args...), &syscall.ProcAttr{
		Env:   RuntimeEnv(os.Environ()),
		Files: []uintptr{stdin.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", path, err)
	}
	return pid, nil
}

// RuntimeEnv returns the environment for another process of graceful. It contains only variables of the Go runtime, of
// Go's library, and of tests, because CI runners find the processes of a cancelled job by a variable in their
// environment. A new graceful reads the target's environment from the ledger.
func RuntimeEnv(environ []string) (env []string) {
	variables := []string{"GODEBUG", "GOTRACEBACK", "GOCOVERDIR", "GORACE", "TZ"}
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(variables, name) {
			env = append(env, kv)
		}
	}
	return env
}

// Inheritance returns the descriptors above 2 that graceful's caller has left open for the target. They are those
// without FD_CLOEXEC. If /dev/fd is missing, Inheritance returns nil.
func Inheritance() (fds []int) {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// OpenNull opens /dev/null. If that device is missing, OpenNull returns the replacement that makeNull makes.
func OpenNull() (*os.File, error) {
	file, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		st, err := file.Stat()
		if err == nil && st.Mode()&os.ModeCharDevice != 0 { // not a regular file that was created there by mistake
			return file, nil
		}
		file.Close()
	}
	return makeNull()
}

// EmptyInput returns a file from which every read returns end of file.
func EmptyInput() (*os.File, error) {
	r, w, err := os.Pipe()
	if err == nil {
		err = w.Close()
	}
	return r, err
}

// spareThreads is the number of threads that a run may need at once, besides those that the runtime and os/signal
// occupy. One thread makes a system call, one thread waits for a timer, and one thread runs goroutines that become
// ready meanwhile.
const spareThreads = 3

// SettleThreads creates every thread that the run needs, before the target starts. Otherwise the target's tree could
// use up RLIMIT_NPROC or the shared pids limit, and the runtime aborts when it cannot create a thread. The caller must
// have started everything that occupies a thread. Threads of the runtime never end. With one processor (package
// oneprocessor) the runtime needs no more threads than can block at once.
//
// SettleThreads also makes the garbage collector run only when the used memory reaches a limit, not every two minutes.
func SettleThreads() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(24 << 20)
	var ready, done sync.WaitGroup
	hold := make(chan struct{})
	for range spareThreads {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread() // the thread runs no other goroutine
			defer runtime.UnlockOSThread()
			ready.Done()
			<-hold
		})
	}
	ready.Wait()
	close(hold)
	done.Wait()
}
