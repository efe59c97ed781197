package registry

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
)

// If the server is killed before it answers, Ask repeats the request with the same key.
func TestAsk_repeatsWithTheSameKey(t *testing.T) {
	s, address := start(t)
	keys := make(chan string, 2)
	go func() {
		c := <-s.Calls
		keys <- c.Key
		c.conn.file.Close()
		c.conn.unwritten <- nil
		c = <-s.Calls
		keys <- c.Key
		c.Answer(Response{ID: 3})
	}()
	got, err := Ask(address, Request{Do: Defer, Shell: "x", Name: cleanup.Text("n")})
	if first, second := <-keys, <-keys; err != nil || got.ID != 3 || first == "" || first != second {
		t.Errorf("%+v, %v; keys %q, %q", got, err, first, second)
	}
}

// Ask gives up if the server is suspended. Such a server does not answer, and connect(2) blocks when the backlog is
// full.
func TestAsk_timeout(t *testing.T) {
	defer func(was time.Duration) { answerTime = was }(answerTime)
	answerTime = 50 * time.Millisecond
	address := filepath.Join(t.TempDir(), "socket")
	fd, err := newSocket()
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: address}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 3 { // the first connection fills the backlog
		if _, err := Ask(address, Request{Do: List}); err == nil || !strings.Contains(err.Error(), "no answer in 50ms") {
			t.Errorf("%v", err)
		}
	}
}
