package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inherit starts another process that inherits the ledger, and waits until that process has appended a record. end ends
// the process.
func inherit(t *testing.T, l *Ledger) (end func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(l.FD())
	if err != nil {
		t.Fatal(err)
	}
	shared := os.NewFile(uintptr(fd), "ledger")
	defer shared.Close()
	c := exec.Command(self)
	c.Env = append(os.Environ(), "LEDGER_TEST="+l.Path(), "GORACE=atexit_sleep_ms=0")
	c.ExtraFiles = []*os.File{shared}
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var printed string
	if _, err := fmt.Fscanln(out, &printed); err != nil || printed != "<nil>" {
		t.Errorf("the other process printed %s, %v", printed, err)
	}
	return func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestInherited_keepsTheLock(t *testing.T) {
	d := makeDir(t)
	l, err := d.Take(file)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, "one")
	end := inherit(t, l)
	defer func() { end() }()
	wantRecords(t, l, `"one"`, `"another"`)
	l.Close()
	for _, open := range []func(string) (*Ledger, error){d.Open, d.Take} {
		if _, err := open(file); !errors.Is(err, ErrAlive) {
			t.Errorf("while another process has the ledger open: %v", err)
		}
	}
	end()
	end = func() {}
	again, err := d.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	wantRecords(t, again, `"one"`, `"another"`)
}

func TestInherited_inMemory(t *testing.T) {
	l, err := InMemory()
	if errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendAll(t, l, "one")
	inherit(t, l)()
	appendAll(t, l, "two")
	wantRecords(t, l, `"one"`, `"another"`, `"two"`)
	if err := errors.Join(l.Remove(), l.SetAside(Interrupted), l.Reserve(4096)); err != nil || l.Path() != "" {
		t.Errorf("path %q, %v", l.Path(), err)
	}
}

// Two Ledgers that share an open file, as two processes do after a fork, append after each other's records.
func TestInherited_appendsAfterTheOtherLedger(t *testing.T) {
	one := openWith(t, makeDir(t), nil)
	defer one.Close()
	fd, err := unix.Dup(one.FD())
	if err != nil {
		t.Fatal(err)
	}
	two, err := Inherited(fd, one.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	wantRecords(t, two)
	appendAll(t, one, 1)
	appendAll(t, two, 2)
	appendAll(t, one, 3, 4)
	wantRecords(t, two, "1", "2", "3", "4")
	appendAll(t, two, 5)

	// The file ends as if a process had been killed while it wrote a record.
	if _, err := unix.Pwrite(one.fd, []byte(head), two.end); err != nil {
		t.Fatal(err)
	}
	appendAll(t, two, 6)
	if want := lines("1", "2", "3", "4", "5", "6"); !bytes.Equal(content(t, one), want) {
		t.Errorf("the file has %q", content(t, one))
	}

	// The next Append does not overwrite a file that was damaged in the meantime.
	damaged := append(lines("1", "2", "3", "4", "5", "6"), append([]byte("x\n"), lines("7")...)...)
	if err := os.WriteFile(one.path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := two.Append(8); !errors.Is(err, errDamaged) {
			t.Errorf("error %v", err)
		}
	}
	if !bytes.Equal(content(t, one), damaged) {
		t.Errorf("the file has %q", content(t, one))
	}
}

func TestInherited_refusesUnsafeFiles(t *testing.T) {
	l := openWith(t, makeDir(t), nil)
	defer l.Close()
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	for _, c := range []struct {
		fd        int
		path, err string
	}{
		{-1, "", "bad file descriptor"},
		{int(pipe.Fd()), "", "a FIFO, not a regular file"},
		{int(pipe.Fd()), l.path, "a FIFO, not a regular file"},
		{l.fd, file, "not absolute"},
	} {
		if _, err := Inherited(c.fd, c.path); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("descriptor %d, path %q: error %v, want one about %q", c.fd, c.path, err, c.err)
		}
	}
	if err := os.Chmod(l.path, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := Inherited(l.fd, l.path); err == nil || !strings.Contains(err.Error(), "may write to it") {
		t.Errorf("a file that the group may write to: error %v", err)
	}
}

func TestDir_closesDescriptorsOnExec(t *testing.T) {
	d := makeDir(t)
	l := openWith(t, d, nil)
	defer l.Close()
	fd, err := unix.Dup(l.fd)
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := Inherited(fd, l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	fds := map[string]int{"directory": d.fd, "file": l.FD(), "inherited": inherited.FD()}
	if m, err := InMemory(); err == nil {
		defer m.Close()
		fds["in memory"] = m.FD()
	}
	for name, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: descriptor flags %d, %v", name, flags, err)
		}
	}
}
