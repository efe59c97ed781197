package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// answerTime is the maximum time that Ask waits for an answer. Tests change it.
var answerTime = 30 * time.Second

var (
	// errOver means that no process listens at the address.
	errOver = errors.New("the run is over")
	// errNoAnswer means that the server closed the connection before its answer was complete.
	errNoAnswer = errors.New("the connection was closed without an answer")
)

// Ask sends a request and returns the answer. If the answer is Busy, or the server is killed before it answers, Ask
// repeats the request until answerTime is over. A process that has resumed the run recognises a registered command by
// its key.
func Ask(address string, r Request) (Response, error) {
	const maxPause = 100 * time.Millisecond
	r.Version = version
	if r.Do == Defer && r.Key == "" {
		r.Key = fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())
	}
	line := encode(r)
	if len(line) > MaxRequest {
		return Response{}, fmt.Errorf("%d bytes are more than a request may have (%d): a smaller environment helps",
			len(line), MaxRequest)
	}
	deadline := time.Now().Add(answerTime)
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		answer, err := askOnce(address, line, deadline)
		again := errors.Is(err, errNoAnswer) || err == nil && answer.Busy
		if !again || time.Now().Add(pause).After(deadline) {
			return answer, err
		}
		time.Sleep(pause)
	}
}

// askOnce sends the line of a request over a new connection and returns the answer.
func askOnce(address string, line []byte, deadline time.Time) (answer Response, err error) {
	fd, err := newSocket()
	if err != nil {
		return answer, err
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(max(time.Until(deadline), time.Millisecond).Nanoseconds())
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &timeout); err != nil {
			return answer, err
		}
	}
	if err := connect(fd, address); err != nil {
		return answer, err
	}
	if err := sendLine(fd, line); err != nil {
		return answer, err
	}
	text, err := receiveLine(fd)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("reading the answer: %w", err)
	}
	if answer.Version != version {
		return answer, fmt.Errorf("the answer is of version %d, and this graceful knows %d", answer.Version, version)
	}
	return answer, nil
}

// connect connects a socket to the listener at an address. It fails if the environment of the client must not go to the
// user of that listener.
func connect(fd int, address string) error {
	err := eintr.Retry(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: address}) })
	switch {
	case err == unix.ENOENT, err == unix.ECONNREFUSED, err == unix.ENOTDIR:
		return fmt.Errorf("%w (no process listens at %s)", errOver, address)
	case err == unix.EACCES:
		return fmt.Errorf("%s: %w (only the user of the run and root may; you are user %d)", address, err, os.Geteuid())
	case err != nil:
		return fmt.Errorf("%s: %w", address, explainTimeout(err))
	}
	// If the listener belongs to another user, the run may be over, or that user may have set GRACEFUL_SOCKET. A client
	// trusts only listeners of its own user and of root.
	peer, err := peerOf(fd)
	if self := os.Geteuid(); err == nil && peer.UID != self && peer.UID != 0 {
		err = fmt.Errorf("user %d listens there, and you are user %d: the environment is not sent (register as that user)",
			peer.UID, self)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// sendLine sends a line. It returns nil if the server has closed the connection, because the server may have sent an
// answer with the reason.
func sendLine(fd int, line []byte) error {
	for len(line) > 0 {
		n, err := eintr.RetryValue(func() (int, error) { return unix.Write(fd, line) })
		if err == unix.EPIPE || err == unix.ECONNRESET {
			return nil
		}
		if err != nil {
			return explainTimeout(err)
		}
		line = line[n:]
	}
	return nil
}

// receiveLine receives a line. The error is errNoAnswer if the server closes the connection before the end of the line.
func receiveLine(fd int) (line []byte, err error) {
	for buffer := make([]byte, 4096); !bytes.HasSuffix(line, []byte("\n")); {
		n, err := eintr.RetryValue(func() (int, error) { return unix.Read(fd, buffer) })
		switch {
		case err == unix.ECONNRESET, err == nil && n == 0:
			return nil, errNoAnswer
		case err != nil:
			return nil, explainTimeout(err)
		}
		line = append(line, buffer[:n]...)
	}
	return line, nil
}

// explainTimeout describes EAGAIN, the error when a timeout of a socket expires (socket(7), SO_RCVTIMEO). It returns
// other errors unchanged.
func explainTimeout(err error) error {
	if err == unix.EAGAIN {
		return fmt.Errorf("no answer in %v", answerTime)
	}
	return err
}
