package runner

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
	"graceful/runner/tree"
)

// leaveDescriptors lowers RLIMIT_NOFILE until the test ends, so that n descriptors are free.
func leaveDescriptors(t *testing.T, n int) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	limit := uint64(0)
	for free := 0; free < n; limit++ {
		if _, err := unix.FcntlInt(uintptr(limit), unix.F_GETFD, 0); err != nil {
			free++
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
}

// If awaitExit has no descriptor left, or may not use another one, it returns false and reports no end. The process
// still counts as alive, so that the loop polls it.
func TestAwaitExit_withoutDescriptors(t *testing.T) {
	held, _, err := tree.Open(tree.Auto)
	if err != nil {
		t.Fatal(err)
	}
	sys := &realSystem{Tree: held, exits: make(chan procfs.Identity, 1), pidfdSlots: make(chan struct{}, 1)}
	living := func() (procfs.Identity, *exec.Cmd) {
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		return sys.Child(c.Process.Pid).Identity, c
	}
	first, command := living()
	second, _ := living()
	if !sys.awaitExit(first) || sys.awaitExit(second) {
		t.Error("watched more or fewer processes than the limit allows")
	}
	_ = command.Process.Kill()
	if got := <-sys.exits; got != first || len(sys.pidfdSlots) != 0 {
		t.Errorf("the end of %v is reported; %d descriptors are in use", got, len(sys.pidfdSlots))
	}
	_ = command.Wait()
	if sys.awaitExit(first) || sys.Alive(first) || len(sys.pidfdSlots) != 0 {
		t.Error("awaitExit accepts a reaped process")
	}
	for n := range 2 {
		leaveDescriptors(t, n)
		if watched, lives := sys.awaitExit(second), sys.Alive(second); watched || !lives || len(sys.pidfdSlots) != 0 {
			t.Errorf("with %d descriptors: watched: %t, alive: %t, in use: %d", n, watched, lives, len(sys.pidfdSlots))
		}
	}
	if len(sys.exits) > 0 {
		t.Error("the end of a running process was reported")
	}
}
