package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// Peer is a process at the other end of a connection.
type Peer struct {
	UID, PID int
	Start    uint64 // its start time when it was taken, where SO_PEERPIDFD is missing; 0: unknown
}

const (
	// requestTime is how long a request may take to arrive, and a long answer to be taken.
	requestTime = 10 * time.Second
	// maxConns are served at once: the one that has been silent for longest makes room.
	maxConns = 512
	// small requests have memory of their own; all others share so much.
	smallRequest = 64 << 10
	sharedMemory = 16 << 20
)

// Call is a request that waits for its answer.
type Call struct {
	Request
	Peer Peer
	conn *conn
}

// Server takes requests. It never waits for who has connected: they are served by goroutines that wait without a thread.
type Server struct {
	// Calls are to be answered one after the other by whoever takes them.
	Calls <-chan Call

	calls   chan Call
	listen  *os.File
	limit   int
	startOf func(pid int) uint64

	mu     sync.Mutex
	conns  []*conn // the oldest first
	shared int     // memory that large requests have
}

type conn struct {
	file     *os.File
	busy     bool        // a whole request has come, and is not answered
	answered chan []byte // what is left to be written of the answer
}

// Serve takes requests from a socket that Listen has made, for as long as the process lives. startOf tells the start time of a
// process, 0 where it is unknown.
func Serve(fd int, startOf func(pid int) uint64) *Server {
	calls := make(chan Call)
	s := &Server{Calls: calls, calls: calls, listen: os.NewFile(uintptr(fd), "socket for cleanup commands"), limit: maxConns, startOf: startOf}
	var files unix.Rlimit // the run needs some itself
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && uint64(files.Cur)/4 < uint64(s.limit) {
		s.limit = max(int(files.Cur)/4, 1)
	}
	go s.accept()
	return s
}

// Close takes no more requests.
func (s *Server) Close() error { return s.listen.Close() }

func (s *Server) accept() {
	raw, err := s.listen.SyscallConn()
	if err != nil {
		return
	}
	for {
		fd := -1
		var failed error
		err := raw.Read(func(listen uintptr) bool {
			fd, _, failed = unix.Accept(int(listen))
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil && s.listen.SetReadDeadline(time.Time{}) == os.ErrNoDeadline: // it cannot be waited for (epoll_ctl(2))
			time.Sleep(10 * time.Millisecond)
		case err != nil:
			return
		case failed == nil:
			unix.CloseOnExec(fd)
			s.welcome(fd)
		case failed == unix.EMFILE, failed == unix.ENFILE, failed == unix.ENOMEM, failed == unix.ENOBUFS:
			if !s.makeRoom(0) {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}

// welcome serves who may be served: our own user and root.
func (s *Server) welcome(fd int) {
	peer, err := peerOf(fd)
	if ours := os.Geteuid(); err == nil && peer.UID != ours && peer.UID != 0 {
		err = fmt.Errorf("this run belongs to user %d, and you are user %d (only that user and root may)", ours, peer.UID)
	}
	if err == nil {
		peer.Start = s.startUnpinned(fd, peer)
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.SetNonblock(fd, true)
		_, _ = unix.Write(fd, encode(Response{Version: Version, Error: err.Error()}))
		unix.Close(fd)
		return
	}
	c := &conn{file: os.NewFile(uintptr(fd), "connection"), answered: make(chan []byte, 1)}
	if c.file.SetReadDeadline(time.Time{}) != nil || !s.makeRoom(s.limit-1) { // or it cannot be waited for
		c.say(Response{Error: "too many requests at once", Busy: true})
		c.file.Close()
		return
	}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	go s.serve(c, peer)
}

// makeRoom closes who is silent for longest until so many connections are left, or only such as wait for an answer.
func (s *Server) makeRoom(left int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) <= left {
		return true
	}
	i := slices.IndexFunc(s.conns, func(c *conn) bool { return !c.busy })
	if i < 0 {
		return false
	}
	c := s.conns[i]
	s.conns = slices.Delete(s.conns, i, i+1)
	c.say(Response{Error: "others were waiting, and nothing came", Busy: true})
	c.file.Close()
	return true
}

// serve answers the requests of a connection, one after the other.
func (s *Server) serve(c *conn, peer Peer) {
	defer func() {
		s.mu.Lock()
		s.conns = slices.DeleteFunc(s.conns, func(other *conn) bool { return other == c })
		s.mu.Unlock()
		c.file.Close()
	}()
	r := reader{from: c.file, share: s.share}
	defer r.giveBack()
	for {
		_ = c.file.SetReadDeadline(time.Now().Add(requestTime))
		line, err := r.line()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				c.say(Response{Error: err.Error(), Busy: errors.Is(err, errMemory)})
			}
			return
		}
		request, err := decode(line)
		if err != nil {
			c.say(Response{Error: err.Error()})
			return
		}
		s.mu.Lock()
		c.busy = slices.Contains(s.conns, c)
		s.mu.Unlock()
		if !c.busy { // somebody has been given our place
			return
		}
		s.calls <- Call{request, peer, c}
		rest := <-c.answered
		r.giveBack() // and not before: what waits to be answered takes memory too
		if len(rest) > 0 {
			_ = c.file.SetWriteDeadline(time.Now().Add(requestTime))
			if _, err := c.file.Write(rest); err != nil {
				return
			}
		}
		s.mu.Lock()
		c.busy = false
		if i := slices.Index(s.conns, c); i >= 0 { // it has not been silent for long
			s.conns = append(slices.Delete(s.conns, i, i+1), c)
		}
		s.mu.Unlock()
	}
}

// Gone tells, on Linux, that nobody waits for the answer: who has asked has closed the connection, and not only his side of
// it. Others do not tell the two apart.
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

// Answer answers a call, once, and does not wait: what is not too long for the socket is on its way when it returns.
func (c Call) Answer(r Response) { c.conn.answered <- c.conn.say(r) }

// say writes what the socket takes of a response, and returns the rest.
func (c *conn) say(r Response) (rest []byte) {
	r.Version = Version
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

// share gives memory to a large request, or takes it back.
func (s *Server) share(more int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared+more > sharedMemory {
		return false
	}
	s.shared += more
	return true
}

// reader cuts what comes into lines.
type reader struct {
	from  io.Reader
	share func(more int) bool
	buf   []byte // what has come and was not given away
	used  int    // of it, by the last line
	taken int    // shared memory
}

var (
	errMemory  = errors.New("too many large requests at once")
	errTooLong = fmt.Errorf("the request has more than %d bytes", MaxRequest)
	errCut     = errors.New("the request is cut off: it ends with a newline")
	errSlow    = fmt.Errorf("no whole request has come in %v", requestTime)
)

// line returns the next line, which is valid until the next call. The error is io.EOF when there is none.
func (r *reader) line() ([]byte, error) {
	r.buf, r.used = append(r.buf[:0], r.buf[r.used:]...), 0
	for seen := 0; ; {
		if i := bytes.IndexByte(r.buf[seen:], '\n'); i >= 0 {
			r.used = seen + i + 1
			return r.buf[:r.used-1], nil
		}
		seen = len(r.buf)
		if seen >= MaxRequest {
			return nil, errTooLong
		}
		if seen == cap(r.buf) {
			size := min(max(2*seen, 1024), MaxRequest)
			if more := size - seen; size > smallRequest {
				if !r.share(more) {
					return nil, errMemory
				}
				r.taken += more
			}
			r.buf = append(make([]byte, 0, size), r.buf...)
		}
		n, err := r.from.Read(r.buf[seen:min(cap(r.buf), MaxRequest)])
		r.buf = r.buf[:seen+n]
		switch {
		case n > 0:
		case err == io.EOF && seen > 0:
			return nil, errCut
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errSlow
		case err != nil:
			return nil, err
		}
	}
}

// giveBack lets go of the memory of a large request, once that has been dealt with.
func (r *reader) giveBack() {
	if r.taken > 0 {
		r.share(-r.taken)
		r.buf, r.used, r.taken = slices.Clone(r.buf[r.used:]), 0, 0
	}
}
