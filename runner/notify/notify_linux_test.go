package notify

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is the maximum time to wait for an expected event.
const patience = 20 * time.Second

// manager is the socket of a service manager.
type manager struct {
	t    *testing.T
	file *os.File
}

func newManager(t *testing.T, path string) *manager {
	t.Helper()
	fd, err := socket()
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t, os.NewFile(uintptr(fd), path)}
	t.Cleanup(func() { m.file.Close() })
	t.Setenv(SocketVariable, path)
	t.Setenv("SYSTEMD_EXEC_PID", fmt.Sprint(os.Getpid()))
	return m
}

// next receives a message, its sender and its descriptors.
func (m *manager) next() (message string, pid int, files []int) {
	m.t.Helper()
	text, control := make([]byte, 2*maxMessage), make([]byte, 4096)
	raw, err := m.file.SyscallConn()
	if err != nil {
		m.t.Fatal(err)
	}
	var n, controls int
	_ = m.file.SetReadDeadline(time.Now().Add(patience))
	readErr := raw.Read(func(fd uintptr) bool {
		n, controls, _, _, err = unix.Recvmsg(int(fd), text, control, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN
	})
	if readErr != nil || err != nil {
		m.t.Fatalf("no message: %v, %v", readErr, err)
	}
	pid, files = attached(control[:controls])
	return string(text[:n]), pid, files
}

func (m *manager) want(message string) {
	m.t.Helper()
	if got, pid, _ := m.next(); got != message || pid != os.Getpid() {
		m.t.Fatalf("got %q of process %d, want %q", got, pid, message)
	}
}

// open opens a relay, and a socket that sends messages to it.
func open(t *testing.T, isMember func(pid int) bool, log *slog.Logger) (*Relay, int) {
	t.Helper()
	r, err := Open(fmt.Sprint(t.Name(), os.Getpid()), isMember, log)
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	t.Cleanup(r.Close)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: r.Address})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return r, fd
}

func send(t *testing.T, fd int, message string, files ...int) {
	t.Helper()
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	if err := unix.Sendmsg(fd, []byte(message), rights, nil, 0); err != nil {
		t.Fatal(err)
	}
}

func everyProcess(int) bool { return true }

// The service manager gets the messages in order, from graceful, and without MAINPID. It also gets the descriptors, and
// the relay keeps no copy of them.
func TestRelay(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "manager"))
	r, fd := open(t, everyProcess, slog.New(slog.DiscardHandler))
	send(t, fd, "READY=1\nMAINPID=1\nSTATUS=up")
	send(t, fd, "MAINPID=1") // there is no message to relay
	send(t, fd, strings.Repeat("x", maxMessage))
	m.want("READY=1\nSTATUS=up")
	m.want(strings.Repeat("x", maxMessage))
	r.Tell("STOPPING=1", "STATUS=two\nlines")
	m.want("STOPPING=1\nSTATUS=two lines")

	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	send(t, fd, "FDSTORE=1\nFDNAME=pipe", pipe[1])
	unix.Close(pipe[1])
	message, _, files := m.next()
	if message != "FDSTORE=1\nFDNAME=pipe" || len(files) != 1 {
		t.Fatalf("got %q with %d descriptors", message, len(files))
	}
	_, _ = unix.Write(files[0], []byte("y"))
	unix.Close(files[0])
	// The relay has closed its copy of the pipe. So the reader gets end of file after the byte.
	data := make([]byte, 2)
	for _, want := range []int{1, 0} {
		fds := []unix.PollFd{{Fd: int32(pipe[0]), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, int(patience.Milliseconds())); n != 1 {
			t.Fatal("a descriptor is left open")
		}
		if n, err := unix.Read(pipe[0], data); n != want || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
	}
	unix.Close(pipe[0])
}

// Relayed messages to a slow manager are not lost, and arrive in order. Tell does not wait for a slow manager, so the
// message of Tell is lost.
func TestRelay_slowManager(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "manager"))
	r, fd := open(t, everyProcess, slog.New(slog.DiscardHandler))
	const messages = 2000 // more than both sockets can queue
	go func() {
		for i := range messages {
			if unix.Send(fd, fmt.Append(nil, "STATUS=", i), 0) != nil {
				return
			}
		}
	}()
	for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // until the queue of the manager is full
		probe, _ := socket()
		err := unix.Connect(probe, &unix.SockaddrUnix{Name: os.Getenv(SocketVariable)})
		if err == nil {
			err = unix.Send(probe, nil, 0)
		}
		unix.Close(probe)
		if err == unix.EAGAIN {
			break
		}
		if time.Now().After(late) {
			t.Fatal("the queue is never full")
		}
	}
	r.Tell("STOPPING=1")
	for i := 0; i < messages; {
		if got, _, _ := m.next(); got == fmt.Sprint("STATUS=", i) {
			i++
		} else if got != "" {
			t.Fatalf("got %q, want number %d", got, i)
		}
	}
}

// A restarted manager creates a socket with the same name. The relay connects to the new socket, and forwards the next
// message.
func TestRelay_managerRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manager")
	old := newManager(t, path)
	r, fd := open(t, everyProcess, slog.New(slog.DiscardHandler))
	old.file.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.Tell("STATUS=no manager is there")
	m := newManager(t, path)
	send(t, fd, "READY=1")
	m.want("READY=1")
}

// lines is a writer that sends each line of a log to a channel.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// A message of a process outside the run, or one that is too long, is not forwarded. The log has each reason as a
// warning once, and then as information.
func TestRelay_refusals(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "manager"))
	log := make(lines, 3)
	_, fd := open(t, func(pid int) bool { return pid != os.Getpid() }, slog.New(slog.NewTextHandler(log, nil)))
	send(t, fd, "READY=1")
	send(t, fd, "READY=1")
	send(t, fd, strings.Repeat("x", maxMessage+1))
	for _, want := range []string{
		"level=WARN .* is no process of this run", "level=INFO .* is no process of this run", "level=WARN .*it is too long",
	} {
		select {
		case line := <-log:
			if !regexp.MustCompile(want).MatchString(line) {
				t.Errorf("the log has %q, want %q", line, want)
			}
		case <-time.After(patience):
			t.Fatalf("no line %q", want)
		}
	}
	if _, _, err := unix.Recvfrom(int(m.file.Fd()), make([]byte, 1), unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Errorf("a message was relayed (%v)", err)
	}
}

// If a message cannot be relayed, the log has the error.
func TestRelay_noManager(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "manager"))
	log := make(lines, 1)
	_, fd := open(t, everyProcess, slog.New(slog.NewTextHandler(log, nil)))
	m.file.Close()
	send(t, fd, "READY=1")
	select {
	case line := <-log:
		if !strings.Contains(line, "connection refused") {
			t.Errorf("the log has %q", line)
		}
	case <-time.After(patience):
		t.Fatal("the log is empty")
	}
}

// Open makes no relay if no service manager expects messages of this process. It fails if the socket is missing.
func TestOpen_noManager(t *testing.T) {
	newManager(t, filepath.Join(t.TempDir(), "manager"))
	t.Setenv("SYSTEMD_EXEC_PID", "1")
	if r, err := Open(t.Name(), everyProcess, nil); r != nil || err != nil {
		t.Errorf("a process that is not the service's main one: %v, %v", r, err)
	}
	t.Setenv("SYSTEMD_EXEC_PID", "")
	t.Setenv(SocketVariable, "vsock:2:1")
	if r, err := Open(t.Name(), everyProcess, nil); r != nil || err != nil {
		t.Errorf("an address of another kind: %v, %v", r, err)
	}
	t.Setenv(SocketVariable, filepath.Join(t.TempDir(), "none"))
	if r, err := Open(t.Name(), everyProcess, nil); r != nil || err == nil {
		t.Errorf("a missing socket: %v, %v", r, err)
	}
	var none *Relay
	none.Tell("READY=1")
	none.Close()
}
