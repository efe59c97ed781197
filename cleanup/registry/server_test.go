package registry

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
)

// start starts a server in a directory of the test. The test must answer the calls.
func start(t *testing.T) (*Server, string) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	socket, err := Listen(fmt.Sprintf("%016x", time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(socket.FD, unknownStart)
	t.Cleanup(func() {
		s.Close()
		unix.Close(socket.Lock)
		Remove(socket.Address)
	})
	return s, socket.Address
}

// unknownStart is a startOf for Serve. It returns 0: the start time is unknown.
func unknownStart(int) uint64 { return 0 }

// startAnswering starts a server that answers each call with the id in its request.
func startAnswering(t *testing.T) (*Server, string) {
	t.Helper()
	s, address := start(t)
	stop := make(chan bool)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case c := <-s.Calls:
				c.Answer(Response{ID: c.ID})
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		done.Wait()
	})
	return s, address
}

// dial connects a client.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// answers returns everything that the server sends until it closes the connection.
func answers(t *testing.T, c net.Conn) string {
	t.Helper()
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return string(text)
}

// wantServed fails the test unless the server answers another client within 5 seconds.
func wantServed(t *testing.T, address string) {
	t.Helper()
	began := time.Now()
	if got, err := Ask(address, Request{Do: Cancel, ID: 7}); err != nil || got.ID != 7 {
		t.Errorf("another client got %+v, %v", got, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("another client waited for %v", took)
	}
}

// The server answers an invalid request with an error. It closes that connection and no other.
func TestServe_invalidRequest(t *testing.T) {
	_, address := startAnswering(t)
	valid := `{"graceful":1,"do":"cancel","id":5}` + "\n"
	for name, c := range map[string]struct{ send, want string }{
		"malformed":      {"hello\n", `"error":"reading the request`},
		"half-sent":      {`{"graceful":1,"do":"li`, `"error":"the request is cut off`},
		"nothing at all": {"", ""},
		"oversized": {
			`{"graceful":1,"do":"defer","shell":"` + strings.Repeat("x", MaxRequest) + `"}` + "\n",
			`"error":"the request has more than`,
		},
		"a valid one first": {valid + "hello\n", `{"graceful":1,"id":5}` + "\n" + `{"graceful":1,"error":"reading`},
		"two valid ones":    {valid + valid, `{"graceful":1,"id":5}` + "\n" + `{"graceful":1,"id":5}` + "\n"},
	} {
		conn := dial(t, address)
		_, err := io.WriteString(conn, c.send)
		if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			t.Fatal(err)
		}
		_ = conn.(*net.UnixConn).CloseWrite()
		if got := answers(t, conn); !strings.Contains(got, c.want) {
			t.Errorf("%s: %.200q, want %q", name, got, c.want)
		}
		wantServed(t, address)
	}
}

// The server refuses a request that never ends, and frees the memory that the request has used.
func TestServe_endlessRequests(t *testing.T) {
	s, address := startAnswering(t)
	var all sync.WaitGroup
	for range 20 {
		conn := dial(t, address)
		all.Go(func() {
			chunk := bytes.Repeat([]byte("x"), 64<<10)
			for {
				if _, err := conn.Write(chunk); err != nil {
					return
				}
			}
		})
	}
	wantServed(t, address)
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared != 0 {
		t.Errorf("%d bytes are still reserved", s.shared)
	}
}

// The memory of large requests is also bounded while they wait for their answers.
func TestServe_memoryOfWaitingRequests(t *testing.T) {
	s, address := start(t)
	// The buffer of a request of this size grows to MaxRequest, and nearly all of that is reserved.
	const size, room = 3 << 20, sharedMemory / MaxRequest
	request := []byte(`{"graceful":1,"do":"defer","shell":"` + strings.Repeat("x", size) + `"}` + "\n")
	var conns []net.Conn
	for n := range 2 * room {
		conn := dial(t, address)
		if _, err := conn.Write(request); n < room && err != nil {
			t.Fatal(err)
		}
		if conns = append(conns, conn); n >= room {
			if got := answers(t, conn); !strings.Contains(got, `"busy":true`) {
				t.Errorf("while %d other requests wait: %q", n, got)
			}
		}
	}
	for range room + 1 {
		go func() { c := <-s.Calls; c.Answer(Response{ID: len(c.Shell)}) }()
	}
	for _, conn := range conns[:room] {
		_ = conn.(*net.UnixConn).CloseWrite()
		if got := answers(t, conn); !strings.Contains(got, fmt.Sprintf(`"id":%d`, size)) {
			t.Errorf("%q", got)
		}
	}
	got, err := Ask(address, Request{Do: Defer, Shell: cleanup.Text(strings.Repeat("x", size))})
	if err != nil || got.ID != size {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestServe_evictsIdleConnections(t *testing.T) {
	_, address := startAnswering(t)
	var idle []net.Conn
	for range 1000 {
		idle = append(idle, dial(t, address))
	}
	for range 20 {
		wantServed(t, address)
	}
	if got := answers(t, idle[0]); !strings.Contains(got, `"busy":true`) {
		t.Errorf("the first one got %q", got)
	}
}

func TestServe_slowRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("the test takes requestTime")
	}
	_, address := startAnswering(t)
	conn := dial(t, address)
	go func() {
		for {
			if _, err := conn.Write([]byte("{")); err != nil {
				return
			}
			time.Sleep(requestTime / 20)
		}
	}()
	began := time.Now()
	got := answers(t, conn)
	took := time.Since(began)
	if !strings.Contains(got, "no whole request") || took < requestTime/2 || took > 2*requestTime {
		t.Errorf("after %v: %q", took, got)
	}
	wantServed(t, address)
}

func TestAnswer_longerThanTheSocketAccepts(t *testing.T) {
	s, address := start(t)
	list := make([]Listed, 50000)
	go func() {
		c := <-s.Calls
		c.Answer(Response{Commands: &list})
		c = <-s.Calls
		c.Answer(Response{ID: 7})
	}()
	got, err := Ask(address, Request{Do: List})
	if err != nil || len(*got.Commands) != len(list) {
		t.Errorf("%v", err)
	}
	wantServed(t, address)
}

// Answers that clients do not read use a bounded amount of memory.
func TestServe_memoryOfUnreadAnswers(t *testing.T) {
	s, address := start(t)
	list := []Listed{{Text: cleanup.Text(strings.Repeat("x", 3<<20))}} // encoding one long text is fast
	size := len(encode(Response{Commands: &list}))
	const clients = 10
	var conns []net.Conn
	for range clients {
		conn := dial(t, address)
		if _, err := io.WriteString(conn, `{"graceful":1,"do":"list"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for range clients {
		c := <-s.Calls
		c.Answer(Response{Commands: &list})
	}
	whole, busy := 0, 0
	for _, conn := range conns {
		_ = conn.(*net.UnixConn).CloseWrite()
		if got := answers(t, conn); strings.Contains(got, `"busy":true`) {
			busy++
		} else if len(got) == size {
			whole++
		}
	}
	if whole == 0 || whole > sharedMemory/size || busy != clients-whole {
		t.Errorf("%d of %d answers of %d bytes were kept, %d were refused", whole, clients, size, busy)
	}
	// The memory of an answer that was read is freed, even if the client keeps its connection open.
	conn := dial(t, address)
	lines := bufio.NewReader(conn)
	for n := range 2 * sharedMemory / size {
		if _, err := io.WriteString(conn, `{"graceful":1,"do":"list"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		go func() { c := <-s.Calls; c.Answer(Response{Commands: &list}) }()
		if line, err := lines.ReadString('\n'); len(line) != size || err != nil {
			t.Fatalf("answer %d has %d bytes, %v", n, len(line), err)
		}
	}
}

// Gone distinguishes a client that has closed the connection from a client that has closed only its sending side.
func TestGone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux distinguishes them")
	}
	s, address := start(t)
	for name, c := range map[string]struct {
		close func(*net.UnixConn) error
		gone  bool
	}{
		"open":                {func(*net.UnixConn) error { return nil }, false},
		"sending side closed": {(*net.UnixConn).CloseWrite, false},
		"closed":              {(*net.UnixConn).Close, true},
	} {
		conn := dial(t, address)
		if _, err := io.WriteString(conn, `{"graceful":1,"do":"list"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		if err := c.close(conn.(*net.UnixConn)); err != nil {
			t.Fatal(err)
		}
		call := <-s.Calls
		if call.Gone() != c.gone {
			t.Errorf("%s: gone: %t", name, !c.gone)
		}
		call.Answer(Response{})
	}
}
