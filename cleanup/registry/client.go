package registry

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// patience is how long an answer is waited for.
var patience = 30 * time.Second // but in tests

// ErrOver tells that nobody takes requests at the address.
var ErrOver = errors.New("the run is over")

// Ask sends a request and returns the answer. When the process that would have answered is killed, the one that goes on
// with the run is asked again; it knows by the key whether the request has been seen to.
func Ask(address string, r Request) (Response, error) {
	r.Version = Version
	if r.Do == Defer && r.Key == "" {
		r.Key = rand.Text()
	}
	line := encode(r)
	if len(line) > MaxRequest {
		return Response{}, fmt.Errorf("%d bytes are more than a request may have (%d): a smaller environment helps", len(line), MaxRequest)
	}
	late := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		answer, err := ask(address, line, late)
		again := errors.Is(err, errCutOff) || err == nil && answer.Busy
		if !again || time.Now().Add(pause).After(late) {
			return answer, err
		}
		time.Sleep(pause)
	}
}

// errCutOff: the connection has ended without an answer.
var errCutOff = errors.New("the connection was closed without an answer")

func ask(address string, line []byte, late time.Time) (answer Response, err error) {
	fd, err := newSocket()
	if err != nil {
		return answer, err
	}
	defer unix.Close(fd)
	left := unix.NsecToTimeval(max(time.Until(late), time.Millisecond).Nanoseconds())
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &left); err != nil {
			return answer, err
		}
	}
	err = eintr.Retry(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: address}) })
	switch {
	case err == unix.ENOENT, err == unix.ECONNREFUSED, err == unix.ENOTDIR:
		return answer, fmt.Errorf("%w (nobody listens at %s)", ErrOver, address)
	case err == unix.EACCES:
		return answer, fmt.Errorf("%s: %w (only the user of the run and root may; you are user %d)", address, err, os.Geteuid())
	case err != nil:
		return answer, fmt.Errorf("%s: %w", address, waited(err))
	}
	peer, err := peerOf(fd)
	if err == nil {
		err = trustedListener(peer.UID, os.Geteuid())
	}
	if err != nil {
		return answer, fmt.Errorf("%s: %w", address, err)
	}
	for rest := line; len(rest) > 0; {
		n, err := eintr.RetryValue(func() (int, error) { return unix.Write(fd, rest) })
		if err == unix.EPIPE || err == unix.ECONNRESET {
			break // perhaps there is an answer that says why
		}
		if err != nil {
			return answer, waited(err)
		}
		rest = rest[n:]
	}
	var text []byte
	for buffer := make([]byte, 4096); !bytes.HasSuffix(text, []byte("\n")); {
		n, err := eintr.RetryValue(func() (int, error) { return unix.Read(fd, buffer) })
		switch {
		case err == unix.ECONNRESET, err == nil && n == 0:
			return answer, errCutOff
		case err != nil:
			return answer, waited(err)
		}
		text = append(text, buffer[:n]...)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("reading the answer: %w", err)
	}
	if answer.Version != Version {
		return answer, fmt.Errorf("the answer is of version %d, and this graceful knows %d", answer.Version, Version)
	}
	return answer, nil
}

// trustedListener refuses to give our environment to another user's process: the run may be over, or GRACEFUL_SOCKET have come
// from another user. Root trusts root alone, every other user itself and root.
func trustedListener(listener, us int) error {
	if listener == us || listener == 0 {
		return nil
	}
	return fmt.Errorf("user %d listens there, and you are user %d: the environment is not sent (register as that user)", listener, us)
}

// waited names the error of a time limit.
func waited(err error) error {
	if err == unix.EAGAIN {
		return fmt.Errorf("no answer in %v", patience)
	}
	return err
}
