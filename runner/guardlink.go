package runner

import "golang.org/x/sys/unix"

// The link is a pair of sockets between the front and the supervisor. The supervisor sends messages to the front. The
// front sends one message, hasRelayed.

// message is a message on the link: its kind, and a value.
type message struct{ kind, value byte }

const (
	listening   byte = iota // the supervisor listens to signals; earlier, most of them would kill it
	suspending              // the front is to suspend its group by this signal of the terminal; 0: only itself
	raising                 // the front is to end by this signal
	finished                // the run is done; the value is its exit status
	relayOutput             // the front is to relay the rest of the target's output; 1: a stop has begun
	hasRelayed              // the front has relayed it
)

// send writes a message to the link.
func send(link int, kind byte, value int) error {
	return retry(func() error { _, err := unix.Write(link, []byte{kind, byte(value)}); return err })
}

// messagesFrom returns a channel of the messages on the link. It is closed when the other end is closed.
func messagesFrom(link int) <-chan message {
	messages := make(chan message)
	go func() {
		defer close(messages)
		var buffer [2]byte
		for have := 0; ; {
			n, err := unix.Read(link, buffer[have:])
			switch {
			case err == unix.EINTR:
				continue
			case err != nil || n == 0:
				return
			}
			if have += n; have == len(buffer) {
				messages <- message{buffer[0], buffer[1]}
				have = 0
			}
		}
	}()
	return messages
}

// retry calls try up to three times. It is for system calls that have no lasting reason to fail.
func retry(try func() error) (err error) {
	for range 3 {
		if err = try(); err == nil {
			return nil
		}
	}
	return err
}
