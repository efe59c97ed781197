package procfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// During execve(2) a process has no environment, or an incomplete one. Environ nevertheless finds the variable of a
// process that calls execve(2) all the time.
func TestEnviron_duringExec(t *testing.T) {
	fs, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "again")
	if err := os.WriteFile(script, []byte("exec sh $0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", script)
	c.Env = append(os.Environ(), "EXECUTES=yes")
	for i := range 5000 { // a large environment makes execve(2) slow
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

// An ending process has no environment, and its files in /proc belong to root. If Environ finds no variable of a killed
// process, Read must then return the process as dead, not as a live process of another user.
func TestEnviron_endingProcess(t *testing.T) {
	const (
		user     = 54321
		attempts = 3000
	)
	if os.Geteuid() != 0 {
		t.Log("not root: tried as this user only")
	}
	fs, err := Open()
	if err != nil {
		t.Skip("/proc does not show our own processes: ", err)
	}
	living := make(chan int)
	go func() {
		defer close(living)
		runtime.LockOSThread() // never unlocked, so the thread ends with its changed rights
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

// Environs waits once for all processes with incomplete environments, and does not wait for them again for a while.
func TestEnvirons_unreadable(t *testing.T) {
	root := t.TempDir()
	var pids []int
	for pid := 1000; pid < 1100; pid++ {
		dir := filepath.Join(root, fmt.Sprint(pid))
		stat := fmt.Sprintf("%d (p) S 1 %d 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0 0 4096 0%s 100 200 0",
			pid, pid, pid, strings.Repeat(" 0", 22))
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/stat", []byte(stat), 0o644),
			os.WriteFile(dir+"/environ", []byte("A=1\x00"), 0o644)); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	fs := Fake(root, true)
	if p, ok := fs.Read(1000); !ok || p.hasEnviron(4) || !p.hasEnviron(100) {
		t.Fatalf("the process is %+v", p)
	}
	begun := time.Now()
	for range 100 {
		if got := fs.Environs(pids, "B"); len(got) > 0 {
			t.Fatalf("found %v", got)
		}
	}
	if took := time.Since(begun); took > 10*time.Second { // waiting for each process alone would take 5 s in each call
		t.Errorf("it took %v", took)
	}
	if got := fs.Environs(pids, "A"); len(got) != len(pids) {
		t.Errorf("found %v", got)
	}
}
