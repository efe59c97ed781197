//go:build amd64 || arm64

package integration_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// enoughFailures is the number of reported failures after which a test stops.
const enoughFailures = 10

// callErrors maps a system call, by the name that describe returns, to errors that the call may return at any time by
// its manual page, without a mistake of the caller. It omits calls whose errors no program can survive, and which the
// Go runtime does not handle (munmap(2), futex(2)).
var callErrors = map[string][]syscall.Errno{
	"accept4":           {unix.EINTR, unix.EMFILE, unix.ENOMEM},
	"bind":              {unix.ENOMEM, unix.ENOSPC},
	"clone":             {unix.EAGAIN, unix.ENOMEM},
	"clone3":            {unix.EAGAIN, unix.ENOMEM, unix.ENOSYS, unix.EPERM},
	"close":             {unix.EINTR},
	"dup3":              {unix.EMFILE},
	"epoll_create1":     {unix.EMFILE, unix.ENOMEM},
	"epoll_ctl":         {unix.ENOMEM, unix.ENOSPC},
	"epoll_pwait":       {unix.EINTR},
	"eventfd2":          {unix.EMFILE, unix.ENOMEM},
	"execve":            {unix.EAGAIN, unix.ENOMEM, unix.EPERM},
	"faccessat":         {unix.ENOMEM},
	"faccessat2":        {unix.ENOMEM},
	"fallocate":         {unix.EINTR, unix.ENOSPC},
	"fcntl ADD_SEALS":   {unix.EPERM},
	"fcntl DUPFD":       {unix.EMFILE},
	"fcntl SETLK":       {unix.EAGAIN},
	"fcntl SETLKW":      {unix.EINTR},
	"fdatasync":         {unix.EINTR, unix.ENOSPC},
	"flock":             {unix.EINTR},
	"fstat":             {unix.ENOMEM},
	"fsync":             {unix.EINTR, unix.ENOSPC},
	"ftruncate":         {unix.EINTR, unix.EPERM},
	"getrandom":         {unix.EINTR},
	"kill":              {unix.EPERM, unix.ESRCH},
	"memfd_create":      {unix.EMFILE, unix.ENOMEM, unix.EPERM},
	"mkdirat":           {unix.ENOMEM, unix.ENOSPC, unix.EPERM},
	"mmap":              {unix.EAGAIN, unix.ENOMEM, unix.EPERM},
	"newfstatat":        {unix.ENOMEM},
	"openat":            {unix.EINTR, unix.EMFILE, unix.ENOMEM},
	"pidfd_getfd":       {unix.EMFILE, unix.EPERM, unix.ESRCH},
	"pidfd_open":        {unix.EMFILE, unix.ENOMEM},
	"pidfd_send_signal": {unix.EPERM, unix.ESRCH},
	"pipe2":             {unix.EMFILE},
	"poll":              {unix.EINTR, unix.ENOMEM},
	"ppoll":             {unix.EINTR, unix.ENOMEM},
	"pread64":           {unix.EINTR},
	"prlimit64":         {unix.EPERM},
	"pwrite64":          {unix.EINTR, unix.ENOSPC},
	"read":              {unix.EINTR},
	"readlinkat":        {unix.ENOMEM},
	"recvfrom":          {unix.EINTR},
	"recvmsg":           {unix.EINTR, unix.EMFILE, unix.ENOMEM},
	"renameat":          {unix.ENOMEM, unix.ENOSPC, unix.EPERM},
	"sendmsg":           {unix.EINTR, unix.ENOMEM, unix.EPIPE},
	"sendto":            {unix.EINTR, unix.ENOMEM, unix.EPIPE},
	"setpgid":           {unix.EPERM, unix.ESRCH},
	"setsid":            {unix.EPERM},
	"socket":            {unix.EMFILE, unix.ENOMEM},
	"socketpair":        {unix.EMFILE, unix.ENOMEM},
	"unlinkat":          {unix.ENOMEM, unix.EPERM},
	"wait4":             {unix.EINTR},
	"waitid":            {unix.EINTR},
	"write":             {unix.EINTR, unix.ENOSPC, unix.EPIPE},
}

// If a system call fails, either the run does not begin, or all promises of the scenario hold. The Go runtime may end
// the process that made the call.
func TestEverySystemCall_fails(t *testing.T) {
	need(t, "linux", "norace", "setsid")
	step := stride(t, "GRACEFUL_TEST_FAIL_STRIDE", 40)
	for _, name := range []string{"cgroup", "grace", "quiet", "registered"} {
		for _, ofGuard := range []bool{false, true} {
			t.Run(processName[ofGuard]+" "+name, func(t *testing.T) {
				if scenarios[name].cgroup {
					ownCgroup(t) // skips the test if no cgroup can be created
				}
				t.Parallel()
				failEverywhere(t, scenarios[name], ofGuard, step)
			})
		}
	}
}

// failEverywhere lets system calls of one process fail: of the guard if ofGuard is true, of graceful otherwise. It runs
// a scenario once for each tested call and each of the call's errors in callErrors. Of the calls with one name, it
// tests only every step-th, but at least one. It stops after enoughFailures.
func failEverywhere(t *testing.T, s scenario, ofGuard bool, step int) {
	record, err := s.run(t, order{OfGuard: ofGuard})
	if err != nil {
		t.Fatal(err)
	}
	var (
		chances  []order
		mu       sync.Mutex
		all      sync.WaitGroup
		failed   int
		failures int
	)
	for _, call := range slices.Sorted(maps.Keys(record.Calls)) {
		for _, errno := range callErrors[call] {
			times := record.Calls[call]
			for n := 1 + rand.IntN(min(step, times)); n <= times; n += step {
				chances = append(chances, order{OfGuard: ofGuard, Call: call, Errno: errno, At: n})
			}
		}
	}
	for _, o := range chances {
		atOnce <- true
		mu.Lock()
		done := failures >= enoughFailures
		mu.Unlock()
		if done {
			<-atOnce
			break
		}
		all.Go(func() {
			defer func() { <-atOnce }()
			got, err := s.run(t, o)
			mu.Lock()
			defer mu.Unlock()
			if got.Where != "" {
				failed++
			}
			if err != nil {
				failures++
				t.Errorf("%s number %d fails with %v: %v", o.Call, o.At, o.Errno, err)
			}
		})
	}
	all.Wait()
	t.Logf("tried %d failures, %d calls failed", len(chances), failed)
}

// If epoll_ctl(2) fails for the descriptor of a process or of the socket, graceful polls that descriptor instead. The
// call fails at the limit in /proc/sys/fs/epoll. The guard makes no such call.
func TestEpoll_fails(t *testing.T) {
	need(t, "norace")
	const minFailed = 3 // if fewer calls fail, the tracer has missed those of graceful
	for at := 1; ; at++ {
		dir, err := os.MkdirTemp(binDir, "run-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		got, err := trace(t, dir, order{
			Command: slices.Concat([]string{plain, "run"}, guardFlags,
				[]string{"--", "sh", "-c", `sleep 1000 & graceful defer --when-exits $! -- sh -c 'echo fired >>log'
				sleep 0.2; echo killed >>log; kill $!; wait; until [ "$(wc -l <log)" = 2 ]; do sleep 0.01; done`}),
			Guarded: true, Call: "epoll_ctl", Errno: unix.ENOSPC, At: at,
		})
		output, _ := os.ReadFile(filepath.Join(dir, "output"))
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		switch {
		case err != nil:
			t.Fatal(err)
		case got.Where == "":
			if t.Logf("%d calls failed", at-1); at-1 < minFailed {
				t.Errorf("want at least %d failed calls", minFailed)
			}
			return
		case at == 1 && crashed(got.Status): // the runtime cannot survive a failure of its own call, the first one
		case string(log) != "killed\nfired\n" || got.Status != "0":
			t.Errorf("number %d: %q, status %s; it wrote:\n%s", at, log, got.Status, output)
		}
	}
}
