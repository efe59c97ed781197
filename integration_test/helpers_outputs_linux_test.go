package integration_test

import (
	"net"
	"os"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// outlet is an output for a run, and the way to close the end from which the output is read.
type outlet struct {
	output *os.File
	close  func() // afterwards no process reads the output any more
}

// outlets returns a function for each kind of output. The function creates such an output.
func outlets() map[string]func(t *testing.T) outlet {
	return map[string]func(t *testing.T) outlet{
		"pipe":     pipeOutlet,
		"socket":   func(t *testing.T) outlet { return socketOutlet(t, func(fd int) { unix.Close(fd) }) },
		"terminal": terminalOutlet,
		"a socket that reads no more": func(t *testing.T) outlet {
			return socketOutlet(t, func(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RD) })
		},
		"TCP": tcpOutlet,
	}
}

func pipeOutlet(t *testing.T) outlet {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return outlet{w, func() { r.Close() }}
}

func socketOutlet(t *testing.T, end func(fd int)) outlet {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(pair[1]), "socket")
	t.Cleanup(func() { w.Close() })
	return outlet{w, func() { end(pair[0]) }}
}

// terminalOutlet returns a terminal that is not yet the controlling terminal of a process.
func terminalOutlet(t *testing.T) outlet {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return outlet{slave, func() { master.Close() }}
}

// tcpOutlet returns a TCP connection. close resets the connection, and waits until the output has noticed the reset.
func tcpOutlet(t *testing.T) outlet {
	t.Helper()
	w, r := tcpConnection(t)
	return outlet{w, func() {
		_ = r.SetLinger(0)
		r.Close()
		state := []unix.PollFd{{Fd: int32(w.Fd())}}
		if n, err := unix.Poll(state, int(patience.Milliseconds())); n != 1 {
			t.Errorf("the connection is not reset: %v", err)
		}
	}}
}

func tcpConnection(t *testing.T) (w *os.File, r *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if w, err = dialed.(*net.TCPConn).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); accepted.Close() })
	return w, accepted.(*net.TCPConn)
}
