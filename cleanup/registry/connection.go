package registry

import (
	"errors"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// Peer is the process at the other end of a connection.
type Peer struct {
	UID, PID int
	// Start is the start time when it connected, in clock ticks since boot. 0: unknown, or PeerPIDFD identifies it.
	Start uint64
}

// connection is a connection of a client.
type connection struct {
	file     *os.File
	peer     Peer
	busy     bool        // a request waits for its answer
	answered chan []byte // receives the part of an answer that is not written yet
}

// Call is a request that waits for its answer.
type Call struct {
	Request
	Peer Peer
	conn *connection
}

// Gone reports whether the client has closed the connection, on Linux. Closing only its sending side does not count.
// Other systems do not distinguish the two: there Gone is false.
func (c Call) Gone() (gone bool) {
	raw, err := c.conn.file.SyscallConn()
	if err != nil || runtime.GOOS != "linux" {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		state := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(state, 0)
		gone = err == nil && n > 0 && state[0].Revents&unix.POLLHUP != 0
	})
	return gone
}

// Answer answers a call, once. It does not wait: it writes what the socket takes, and a goroutine writes the rest.
func (c Call) Answer(r Response) { c.conn.answered <- c.conn.send(r) }

// send writes as much of a response as the socket takes, and returns the rest.
func (c *connection) send(r Response) (rest []byte) {
	r.Version = version
	rest = encode(r)
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) {
		n, _ := eintr.RetryValue(func() (int, error) { return unix.Write(int(fd), rest) })
		rest = rest[max(n, 0):]
	})
	return rest
}

// serve passes the requests of a connection to Calls, one after the other, and completes the answers.
func (s *Server) serve(c *connection) {
	defer s.remove(c)
	r := lineReader{from: c.file, reserve: s.reserve}
	defer r.release()
	for {
		_ = c.file.SetReadDeadline(time.Now().Add(requestTime))
		line, err := r.line()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				c.send(Response{Error: err.Error(), Busy: errors.Is(err, errNoMemory)})
			}
			return
		}
		request, err := decode(line)
		if err != nil {
			c.send(Response{Error: err.Error()})
			return
		}
		if !s.markBusy(c) {
			return
		}
		s.calls <- Call{request, c.peer, c}
		rest := <-c.answered
		r.release() // not before the answer: a request that waits takes memory, too
		if len(rest) > 0 {
			_ = c.file.SetWriteDeadline(time.Now().Add(requestTime))
			if _, err := c.file.Write(rest); err != nil {
				return
			}
		}
		s.markIdle(c)
	}
}
