package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"graceful/cleanup"

	"golang.org/x/sys/unix"
)

// FuzzRequest lets bytes come in pieces, as they may over a socket: each line is a request that no run stumbles over, or a
// reason why it is none, and what one line is does not depend on how it came.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"graceful":1,"do":"list"}`+"\n"), uint8(1))
	f.Add([]byte(`{"graceful":1,"do":"cancel","id":3}`+"\n"+`{"graceful":1,"do":"defer","shell":"x"}`+"\n"), uint8(7))
	f.Add([]byte(`{"graceful":1,"do":"defer","command":["rm",{"base64":"/w=="}],"dir":"/","env":[],"name":"n","timeout_ms":5,"when_exits":7,"start":9,"key":"k"}`+"\n"), uint8(200))
	f.Add([]byte(`{"graceful":2}`+"\n{"), uint8(3))
	f.Add([]byte("\n\n\x00"), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		r := reader{from: pieces{bytes.NewReader(data), int(size) + 1}, share: func(int) bool { return true }}
		lines := bytes.SplitAfter(data, []byte("\n"))
		for n := 0; ; n++ {
			line, err := r.line()
			if n == len(lines)-1 {
				if whole := len(lines[n]) == 0; whole != (err == io.EOF) || !whole && err != errCut {
					t.Fatalf("behind the last line: %v", err)
				}
				return
			}
			if err != nil || string(line)+"\n" != string(lines[n]) {
				t.Fatalf("line %d is %q, %v, want %q", n, line, err, lines[n])
			}
			request, err := decode(line)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n") && !bytes.ContainsAny(line, `\`) {
					t.Fatalf("%q", err)
				}
				continue
			}
			again, err := decode(bytes.TrimSuffix(encode(request), []byte("\n")))
			if err != nil || !reflect.DeepEqual(request, again) {
				t.Fatalf("%+v became %+v, %v", request, again, err)
			}
			if e := request.Entry(); request.Do == Defer && (len(e.Command.Args) == 0 || e.Command.Args[0] == "" || e.Command.Limit < 0) {
				t.Fatalf("%q became %+v", line, e)
			}
		}
	})
}

type pieces struct {
	from io.Reader
	size int
}

func (p pieces) Read(b []byte) (int, error) { return p.from.Read(b[:min(len(b), p.size)]) }

func TestARequestThatNoRunCanFulfilIsRefusedWithAReason(t *testing.T) {
	for line, want := range map[string]string{
		``:                             "reading the request",
		`{`:                            "reading the request",
		`[]`:                           "reading the request",
		`{"do":"list"}`:                "version 0, and this graceful knows 1",
		`{"graceful":2,"colour":"x"}`:  "version 2, and this graceful knows 1",
		`{"graceful":1}`:               `no request ""`,
		`{"graceful":1,"do":"lst"}`:    `no request "lst"`,
		`{"graceful":1,"do":"list"}{}`: "something comes after it",
		`{"graceful":1,"do":"defer","command":["x"],"nmae":"x"}`:                            `unknown field "nmae"`,
		`{"graceful":1,"do":"cancel"}`:                                                      "a number from 1 on",
		`{"graceful":1,"do":"defer"}`:                                                       "either a command or shell",
		`{"graceful":1,"do":"defer","command":["x"],"shell":"x"}`:                           "either a command or shell",
		`{"graceful":1,"do":"defer","command":[""]}`:                                        "empty",
		`{"graceful":1,"do":"defer","shell":" "}`:                                           "empty",
		`{"graceful":1,"do":"defer","shell":"x","dir":"."}`:                                 "slash",
		`{"graceful":1,"do":"defer","shell":"x","timeout_ms":-1}`:                           "no time",
		`{"graceful":1,"do":"defer","shell":"x","timeout_ms":9223372036854775807}`:          "no time",
		`{"graceful":1,"do":"defer","shell":"x","when_exits":-1}`:                           "no pid",
		`{"graceful":1,"do":"defer","shell":"x","env":["A=\u0000"]}`:                        "NUL",
		`{"graceful":1,"do":"defer","shell":"x","name":"` + strings.Repeat("x", 300) + `"}`: "256 bytes",
		"{\"graceful\":1,\"do\":\"defer\",\"shell\":\"\xff\"}":                              "UTF-8",
	} {
		if _, err := decode([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}

func TestWhatIsNoUTF8GoesThrough(t *testing.T) {
	r := Request{Version: Version, Do: Defer, Command: cleanup.Texts([]string{"rm", "\xff\n"}), Dir: "/\xfe", Env: cleanup.Texts([]string{"A=\x80"})}
	got, err := decode(bytes.TrimSuffix(encode(r), []byte("\n")))
	if e := got.Entry(); err != nil || e.Command.Args[1] != "\xff\n" || e.Dir != "/\xfe" || e.Env[0] != "A=\x80" {
		t.Errorf("%+v, %v", e, err)
	}
}

// serve serves at a socket of the test's, and answers each call with the id that it asks for.
func serve(t *testing.T) (*Server, string) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	fd, address, err := Listen(fmt.Sprintf("%016x", time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(fd, func(int) uint64 { return 0 })
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
		s.listen.Close()
		Remove(address)
	})
	return s, address
}

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

// answers is all that comes until the other end is closed.
func answers(t *testing.T, c net.Conn) string {
	t.Helper()
	text, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return string(text)
}

// served requires that somebody else has an answer all the same.
func served(t *testing.T, address string) {
	t.Helper()
	began := time.Now()
	if got, err := Ask(address, Request{Do: Cancel, ID: 7}); err != nil || got.ID != 7 {
		t.Errorf("somebody else got %+v, %v", got, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("somebody else waited for %v", took)
	}
}

func TestNobodyElseMayEnterTheDirectoryOfTheSocket(t *testing.T) {
	old := unix.Umask(0o777)
	defer unix.Umask(old)
	place := "/tmp"
	t.Setenv("XDG_RUNTIME_DIR", place)
	fd, address, err := Listen("0123456789abcdef0123")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var dir, socket unix.Stat_t
	_, _ = unix.Stat(strings.TrimSuffix(address, "/socket"), &dir), unix.Stat(address, &socket)
	if !strings.HasPrefix(address, place+"/graceful-") || dir.Mode&0o7777 != 0o700 || socket.Mode&0o7777 != 0o600 {
		t.Errorf("%s: %o, %o", address, dir.Mode, socket.Mode)
	}
	Remove(address)
	if unix.Stat(strings.TrimSuffix(address, "/socket"), &dir) == nil {
		t.Error("it is left")
	}
}

// A directory that others could change under our hands is none for a socket, be it named or not.
func TestAPlaceThatOthersMayWriteToIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	for mode, want := range map[uint32]bool{0o700: true, 0o755: true, 0o777: false, 0o770: false, 0o1777: true} {
		if err := unix.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if trusted(dir) != want {
			t.Errorf("%o: %t", mode, !want)
		}
	}
	if os.Geteuid() == 0 {
		_ = unix.Chmod(dir, 0o700)
		if unix.Chown(dir, 12345, -1) == nil && trusted(dir) {
			t.Error("another user's is")
		}
	}
	if trusted(dir + "/none") {
		t.Error("none is")
	}
}

func TestWithoutAnyPlaceThereIsAnAddressWithoutAFile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux has them")
	}
	fd, err := listenAt("@graceful-test-" + t.Name())
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(fd, func(int) uint64 { return 0 })
	go func() { c := <-s.Calls; c.Answer(Response{ID: c.ID}) }()
	served(t, "@graceful-test-"+t.Name())
	s.listen.Close()
	if _, err := Ask("@graceful-test-"+t.Name(), Request{Do: List}); !errors.Is(err, ErrOver) {
		t.Errorf("when it is closed: %v", err)
	}
}

func TestRequestsThatAreNoneEndTheirConnectionAlone(t *testing.T) {
	_, address := serve(t)
	good := `{"graceful":1,"do":"cancel","id":5}` + "\n"
	for name, c := range map[string]struct{ send, want string }{
		"malformed":        {"hello\n", `"error":"reading the request`},
		"half-sent":        {`{"graceful":1,"do":"li`, `"error":"the request is cut off`},
		"nothing at all":   {"", ""},
		"oversized":        {`{"graceful":1,"do":"defer","shell":"` + strings.Repeat("x", MaxRequest) + `"}` + "\n", `"error":"the request has more than`},
		"a good one first": {good + "hello\n", `{"graceful":1,"id":5}` + "\n" + `{"graceful":1,"error":"reading`},
		"two good ones":    {good + good, `{"graceful":1,"id":5}` + "\n" + `{"graceful":1,"id":5}` + "\n"},
	} {
		conn := dial(t, address)
		if _, err := io.WriteString(conn, c.send); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			t.Fatal(err)
		}
		_ = conn.(*net.UnixConn).CloseWrite()
		if got := answers(t, conn); !strings.Contains(got, c.want) {
			t.Errorf("%s: %.200q, want %q", name, got, c.want)
		}
		served(t, address)
	}
}

// endless: what never ends is cut off, and costs no more memory than is set aside.
func TestEndlessRequestsAreCutOff(t *testing.T) {
	s, address := serve(t)
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
	served(t, address)
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared != 0 {
		t.Errorf("%d bytes are still taken", s.shared)
	}
}

// Also when nobody comes to answering: what is read, and waits, takes memory too.
func TestLargeRequestsThatWaitAreBounded(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	fd, address, err := Listen("0123")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(fd, func(int) uint64 { return 0 })
	defer s.listen.Close()
	const size, room = 3 << 20, sharedMemory / MaxRequest // a request has memory for as much as it may be
	request := []byte(`{"graceful":1,"do":"defer","shell":"` + strings.Repeat("x", size) + `"}` + "\n")
	var conns []net.Conn
	for n := range 2 * room {
		conn := dial(t, address)
		if _, err := conn.Write(request); n < room && err != nil {
			t.Fatal(err)
		}
		if conns = append(conns, conn); n >= room {
			if got := answers(t, conn); !strings.Contains(got, `"busy":true`) {
				t.Errorf("beside %d others: %q", n, got)
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
	if got, err := Ask(address, Request{Do: Defer, Shell: cleanup.Text(strings.Repeat("x", size))}); err != nil || got.ID != size {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestThoseWhoAreSilentMakeRoom(t *testing.T) {
	_, address := serve(t)
	var idle []net.Conn
	for range 1000 {
		idle = append(idle, dial(t, address))
	}
	for range 20 {
		served(t, address)
	}
	if got := answers(t, idle[0]); !strings.Contains(got, `"busy":true`) {
		t.Errorf("the first of them was told %q", got)
	}
}

func TestASlowRequestIsGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	_, address := serve(t)
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
	if took := time.Since(began); !strings.Contains(got, "no whole request") || took < requestTime/2 || took > 2*requestTime {
		t.Errorf("after %v: %q", took, got)
	}
	served(t, address)
}

func TestALongAnswerIsWrittenInThePaceOfItsReader(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	fd, address, err := Listen("0123")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(fd, func(int) uint64 { return 0 })
	defer s.listen.Close()
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
	served(t, address)
}

// When who would have answered is killed, who comes after him is asked again.
func TestWhoHasNoAnswerAsksAgainWithTheSameKey(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	fd, address, err := Listen("0123")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(fd, func(int) uint64 { return 0 })
	defer s.listen.Close()
	keys := make(chan string, 2)
	go func() {
		c := <-s.Calls
		keys <- c.Key
		c.conn.file.Close()
		c.conn.answered <- nil
		c = <-s.Calls
		keys <- c.Key
		c.Answer(Response{ID: 3})
	}()
	got, err := Ask(address, Request{Do: Defer, Shell: "x", Name: cleanup.Text("n")})
	if first, second := <-keys, <-keys; err != nil || got.ID != 3 || first == "" || first != second {
		t.Errorf("%+v, %v; keys %q, %q", got, err, first, second)
	}
}

// Who is stopped does not answer, and need not even take the connection.
func TestWhoeverAsksWaitsForSoLongAndNoLonger(t *testing.T) {
	defer func(was time.Duration) { patience = was }(patience)
	patience = 50 * time.Millisecond
	address := filepath.Join(t.TempDir(), "socket")
	fd, err := newSocket()
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: address}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 3 { // the first of them fills the queue
		if _, err := Ask(address, Request{Do: List}); err == nil || !strings.Contains(err.Error(), "no answer in 50ms") {
			t.Errorf("%v", err)
		}
	}
}

// Who may be told something is there, also when he has nothing more to say.
func TestWhoHasGoneIsKnown(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux tells")
	}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	fd, address, err := Listen("0123")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(fd, func(int) uint64 { return 0 })
	defer s.listen.Close()
	for name, c := range map[string]struct {
		close func(*net.UnixConn) error
		gone  bool
	}{
		"there":             {func(*net.UnixConn) error { return nil }, false},
		"there, and silent": {(*net.UnixConn).CloseWrite, false},
		"gone":              {(*net.UnixConn).Close, true},
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
