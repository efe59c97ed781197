package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// Peer is the process at the other end of a connection.
type Peer struct {
	UID, PID int // PID 0: unknown
	// Start is the start time of the process when it connected, in clock ticks since boot. 0 means that the start time is
	// unknown, or that PeerPIDFD identifies the process.
	Start uint64
}

// connection is a connection of a client.
type connection struct {
	file      *os.File
	peer      Peer
	busy      bool                 // a request waits for its answer
	unwritten chan []byte          // receives the part of an answer that is not written yet
	reserve   func(bytes int) bool // see Server.reserve
	reserved  int                  // bytes of sharedMemory that the present answer uses
}

// control calls f with the descriptor of the connection, unless the connection is closed.
func (c *connection) control(f func(fd int)) error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// Call is a request that waits for its answer.
type Call struct {
	Request
	Peer Peer
	conn *connection
}

// Gone reports whether the client has closed the connection, on Linux. A client that has closed only its sending side
// is not gone. On other systems graceful cannot distinguish the two cases, and Gone is false.
func (c Call) Gone() (gone bool) {
	_ = c.conn.control(func(fd int) {
		state := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(state, 0)
		gone = runtime.GOOS == "linux" && err == nil && n > 0 && state[0].Revents&unix.POLLHUP != 0
	})
	return gone
}

// Answer answers a call, once. It does not block: it writes as much as the socket accepts, and a goroutine writes the
// rest. The size of a large answer counts against sharedMemory, because many clients may leave their answers unread. If
// too little of sharedMemory is left, the client gets an error with Busy instead.
func (c Call) Answer(r Response) {
	r.Version = version
	line := encode(r)
	if large := len(line) > smallRequest; large && c.conn.reserve(len(line)) {
		c.conn.reserved = len(line)
	} else if large {
		line = encode(Response{Version: version, Error: "too many large answers at once", Busy: true})
	}
	c.conn.unwritten <- c.conn.write(line)
}

// send writes as much of a response as the socket accepts, and drops the rest.
func (c *connection) send(r Response) {
	r.Version = version
	c.write(encode(r))
}

// write writes as much of a line as the socket accepts, and returns the rest.
func (c *connection) write(rest []byte) []byte {
	_ = c.control(func(fd int) {
		n, _ := eintr.RetryValue(func() (int, error) { return unix.Write(fd, rest) })
		rest = rest[max(n, 0):]
	})
	return rest
}

// serve passes the requests of a connection to Calls, one after the other, and writes the rest of each answer. At the
// end of the requests, or at the first error, it closes the connection.
func (s *Server) serve(c *connection) {
	defer s.remove(c)
	r := lineReader{source: c.file, reserve: s.reserve}
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
		if !s.setBusy(c, true) {
			return
		}
		s.calls <- Call{request, c.peer, c}
		rest := <-c.unwritten
		r.release() // only after the answer: a waiting request uses memory, too
		if len(rest) > 0 {
			_ = c.file.SetWriteDeadline(time.Now().Add(requestTime))
			_, err = c.file.Write(rest)
		}
		s.reserve(-c.reserved)
		if c.reserved = 0; err != nil {
			return
		}
		s.setBusy(c, false)
	}
}

// lineReader splits the requests of a connection into lines.
type lineReader struct {
	source io.Reader
	// reserve counts a number of bytes against sharedMemory. It returns false if too little of sharedMemory is left. It
	// always accepts a negative number, which releases memory.
	reserve    func(bytes int) bool
	buf        []byte // bytes that were read and not consumed
	lineLength int    // length of the last returned line in buf, with its newline
	reserved   int    // bytes of sharedMemory that buf uses
}

var (
	errNoMemory  = errors.New("too many large requests at once")
	errTooLong   = fmt.Errorf("the request has more than %d bytes", MaxRequest)
	errTruncated = errors.New("the request is cut off: it ends with a newline")
	errTimeout   = fmt.Errorf("no whole request has come in %v", requestTime)
)

// line returns the next line without its newline. The line is valid until the next call of line or release. The error
// is io.EOF if there is no further line.
func (r *lineReader) line() ([]byte, error) {
	const firstSize = 1024 // bytes
	r.buf, r.lineLength = append(r.buf[:0], r.buf[r.lineLength:]...), 0
	for seen := 0; ; {
		if i := bytes.IndexByte(r.buf[seen:], '\n'); i >= 0 {
			r.lineLength = seen + i + 1
			return r.buf[:r.lineLength-1], nil
		}
		seen = len(r.buf)
		if seen >= MaxRequest {
			return nil, errTooLong
		}
		if seen == cap(r.buf) {
			size := min(max(2*seen, firstSize), MaxRequest)
			if more := size - seen; size > smallRequest {
				if !r.reserve(more) {
					return nil, errNoMemory
				}
				r.reserved += more
			}
			r.buf = append(make([]byte, 0, size), r.buf...)
		}
		n, err := r.source.Read(r.buf[seen:min(cap(r.buf), MaxRequest)])
		r.buf = r.buf[:seen+n]
		switch {
		case n > 0:
		case err == io.EOF && seen > 0:
			return nil, errTruncated
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errTimeout
		case err != nil:
			return nil, err
		}
	}
}

// release frees the part of sharedMemory that a large request has used, after its answer. It invalidates the line that
// the last call of line returned.
func (r *lineReader) release() {
	if r.reserved > 0 {
		r.reserve(-r.reserved)
		r.buf, r.lineLength, r.reserved = slices.Clone(r.buf[r.lineLength:]), 0, 0
	}
}
