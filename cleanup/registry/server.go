package registry

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// requestTime is the maximum time from a connection, or from the previous answer, until a whole request has
	// arrived. It is also the maximum time for a client to read a long answer.
	requestTime = 10 * time.Second
	// maxConns is the maximum number of connections that are served at once. Beyond that, a new connection replaces the
	// one that has been idle longest.
	maxConns = 512
	// smallRequest is the maximum size of a request or an answer that does not count against sharedMemory, in bytes.
	smallRequest = 64 << 10
	// sharedMemory is the maximum memory of all larger requests and answers together, in bytes.
	sharedMemory = 16 << 20
	// acceptPause is the time after which accept(2) is called again when a resource was missing.
	acceptPause = 10 * time.Millisecond
)

// Server receives requests. The receiver of Calls never waits for a client, because each connection has its own
// goroutine. A goroutine occupies no thread while it waits.
type Server struct {
	// Calls delivers the requests. The receiver must answer each one once (Call.Answer).
	Calls <-chan Call

	calls    chan Call
	listener *os.File
	limit    int                  // maximum number of connections
	startOf  func(pid int) uint64 // see Serve

	mu     sync.Mutex
	conns  []*connection // of the idle ones, the longest idle first
	shared int           // memory of large requests and answers, in bytes
}

// Serve starts to receive requests from fd, a socket that Listen created. startOf returns the start time of a process
// in clock ticks since boot; 0: unknown.
func Serve(fd int, startOf func(pid int) uint64) *Server {
	calls := make(chan Call)
	s := &Server{
		Calls: calls, calls: calls, listener: os.NewFile(uintptr(fd), "socket for cleanup commands"),
		limit: maxConns, startOf: startOf,
	}
	const share = 4 // connections get one in four descriptors: the run needs the others
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && uint64(files.Cur)/share < uint64(s.limit) {
		s.limit = max(int(files.Cur)/share, 1)
	}
	go s.accept()
	return s
}

// Close stops accepting connections. It does not close those that exist.
func (s *Server) Close() error { return s.listener.Close() }

// accept accepts connections until the server is closed.
func (s *Server) accept() {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return
	}
	for {
		fd := -1
		var acceptErr error
		err := raw.Read(func(listen uintptr) bool {
			fd, _, acceptErr = unix.Accept(int(listen))
			return acceptErr != unix.EAGAIN
		})
		switch {
		// The runtime could not add the socket to its poller (epoll_ctl(2)), so Read cannot wait.
		case err != nil && s.listener.SetReadDeadline(time.Time{}) == os.ErrNoDeadline:
			time.Sleep(acceptPause)
		case err != nil:
			return
		case acceptErr == nil:
			unix.CloseOnExec(fd)
			s.admit(fd)
		case acceptErr == unix.EMFILE, acceptErr == unix.ENFILE, acceptErr == unix.ENOMEM, acceptErr == unix.ENOBUFS:
			if !s.evict(0) {
				time.Sleep(acceptPause)
			}
		}
	}
}

// admit begins to serve a connection of graceful's user or root. It refuses a connection of another user, or one too
// many, with an answer.
func (s *Server) admit(fd int) {
	peer, err := peerOf(fd)
	if self := os.Geteuid(); err == nil && peer.UID != self && peer.UID != 0 {
		err = fmt.Errorf("this run belongs to user %d, and you are user %d (only that user and root may)", self, peer.UID)
	}
	err = cmp.Or(err, unix.SetNonblock(fd, true)) // the answer must not block either
	if err != nil {
		_, _ = unix.Write(fd, encode(Response{Version: version, Error: err.Error()}))
		unix.Close(fd)
		return
	}
	c := &connection{
		file: os.NewFile(uintptr(fd), "connection"), peer: peer, unwritten: make(chan []byte, 1), reserve: s.reserve,
	}
	c.peer.Start = s.startUnpinned(c)
	isPolled := c.file.SetReadDeadline(time.Time{}) == nil // false if epoll_ctl(2) has failed
	if !isPolled || !s.evict(s.limit-1) {
		c.send(Response{Error: "too many requests at once", Busy: true})
		c.file.Close()
		return
	}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	go s.serve(c)
}

// evict closes the connection that has been idle longest if there are more than limit connections. It returns false if
// there are more, but all of them wait for an answer.
func (s *Server) evict(limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) <= limit {
		return true
	}
	i := slices.IndexFunc(s.conns, func(c *connection) bool { return !c.busy })
	if i < 0 {
		return false
	}
	c := s.conns[i]
	s.conns = slices.Delete(s.conns, i, i+1)
	c.send(Response{Error: "others were waiting, and nothing came", Busy: true})
	c.file.Close()
	return true
}

// setBusy records whether a connection waits for an answer. The connection then counts as the one that has been idle
// for the shortest time. setBusy returns false if the connection was evicted before.
func (s *Server) setBusy(c *connection, busy bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.conns, c)
	if i >= 0 {
		s.conns = append(slices.Delete(s.conns, i, i+1), c)
		c.busy = busy
	}
	return i >= 0
}

// remove closes a connection that is no longer served.
func (s *Server) remove(c *connection) {
	s.mu.Lock()
	s.conns = slices.DeleteFunc(s.conns, func(other *connection) bool { return other == c })
	s.mu.Unlock()
	c.file.Close()
}

// reserve adds a number of bytes, which may be negative, to the memory of large requests and answers. It returns false,
// and adds nothing, if the sum would exceed sharedMemory.
func (s *Server) reserve(bytes int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared+bytes > sharedMemory {
		return false
	}
	s.shared += bytes
	return true
}
