package procfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// During execve(2) a process has no environment, or an empty one. Environ finds it although the process executes all
// the time.
func TestEnviron_duringExec(t *testing.T) {
	fs := Open()
	script := filepath.Join(t.TempDir(), "again")
	if err := os.WriteFile(script, []byte("exec sh $0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", script)
	c.Env = append(os.Environ(), "EXECUTES=yes")
	for i := range 5000 { // a large environment makes execve slow
		c.Env = append(c.Env, fmt.Sprintf("MORE%d=", i))
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	for range 2000 {
		if v, ok := fs.Environ(c.Process.Pid, "EXECUTES"); !ok || v != "yes" {
			t.Fatalf("Environ is %q, %t", v, ok)
		}
	}
}

// A process that is just ending has no environment, and its files in /proc belong to root. A user without rights must
// see it as dead, and not as a living process of another user.
func TestEnviron_endingProcess(t *testing.T) {
	const (
		user     = 54321
		attempts = 3000
	)
	if os.Geteuid() != 0 {
		t.Log("not root: tried as this user only")
	}
	fs := Open()
	if fs == nil {
		t.Skip("/proc does not show our own processes")
	}
	living := make(chan int)
	go func() {
		defer close(living)
		runtime.LockOSThread() // never unlocked: the thread ends with its rights
		if os.Geteuid() == 0 { // the raw system call changes this thread only
			if _, _, err := syscall.RawSyscall(unix.SYS_SETRESUID, user, user, user); err != 0 {
				t.Error(err)
				return
			}
		}
		for range attempts {
			attr := &syscall.ProcAttr{Env: []string{"OURS=1"}}
			pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, attr)
			if err != nil {
				t.Error(err)
				return
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			_, ours := fs.Environ(pid, "OURS")
			if p, ok := fs.Read(pid); !ours && (!ok || !p.Dead) {
				living <- pid
			}
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}()
	n := 0
	for range living {
		n++
	}
	if n > 0 {
		t.Errorf("%d of %d killed processes looked like living ones of another user", n, attempts)
	}
}
