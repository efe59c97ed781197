package notify

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

const (
	// maxMessage is the maximum size of a message in bytes. The service manager ignores longer ones.
	maxMessage = 4096
	// maxFiles is the maximum number of descriptors that the kernel passes with one message (unix(7), SCM_RIGHTS).
	maxFiles = 253
	// pause is the time before the next read from the socket after an error, such as a lack of memory.
	pause = 10 * time.Millisecond
)

// Relay is the socket for the messages of a run. With a nil Relay, Tell and Close do nothing.
type Relay struct {
	Address string // address for the processes of the run

	in, out        *os.File           // in receives the messages; out is connected to the service manager
	manager        *unix.SockaddrUnix // address of the service manager
	isMember       func(pid int) bool // see Open
	log            *slog.Logger
	loggedRefusals map[string]bool // reasons of refusals that were logged
}

// Open makes the relay of a run and starts it. It returns nil if no service manager expects messages from this process:
// there is no NOTIFY_SOCKET, its address is not one of unix(7), or another process should use it (SYSTEMD_EXEC_PID,
// systemd.exec(5)). SCM_CREDENTIALS identify the sender of a message. isMember reports whether a process belongs to the
// run. The socket has an abstract address (unix(7)), which contains id, and not a file, because the target may run as
// another user or with another root directory.
func Open(id string, isMember func(pid int) bool, log *slog.Logger) (*Relay, error) {
	name, mainPID := os.Getenv(SocketVariable), os.Getenv("SYSTEMD_EXEC_PID")
	isAddress := strings.HasPrefix(name, "/") || strings.HasPrefix(name, "@")
	if !isAddress || mainPID != "" && mainPID != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	r := &Relay{
		Address: "@graceful-notify-" + id, manager: &unix.SockaddrUnix{Name: name}, isMember: isMember, log: log,
		loggedRefusals: map[string]bool{},
	}
	in, err := socket()
	if err != nil {
		return nil, err
	}
	err = unix.SetsockoptInt(in, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Bind(in, &unix.SockaddrUnix{Name: r.Address})
	}
	out := -1
	if err == nil {
		out, err = socket()
	}
	if err == nil {
		err = unix.Connect(out, r.manager)
	}
	if err != nil {
		_, _ = unix.Close(in), unix.Close(out)
		return nil, fmt.Errorf("%s=%s: %w", SocketVariable, name, err)
	}
	r.in, r.out = os.NewFile(uintptr(in), "messages of the run"), os.NewFile(uintptr(out), name)
	go r.serve()
	return r, nil
}

func socket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

// Close ends the relay.
func (r *Relay) Close() {
	if r != nil {
		_, _ = r.in.Close(), r.out.Close()
	}
}

// Tell sends a message of graceful itself, cut to maxMessage. It does not wait. If the message cannot be sent, for
// example because the queue of the service manager is full, the message is lost.
func (r *Relay) Tell(assignments ...string) {
	if r == nil {
		return
	}
	for i, text := range assignments {
		assignments[i] = oneLine(text)
	}
	message := strings.Join(assignments, "\n")
	raw, err := r.out.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = r.send(int(fd), []byte(message[:min(len(message), maxMessage)]), nil) })
	}
}

// serve relays messages in order until the relay is closed.
func (r *Relay) serve() {
	raw, err := r.in.SyscallConn()
	if err != nil {
		return
	}
	message := make([]byte, maxMessage)
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxFiles))
	for {
		var n, controls, flags int
		var receiveErr error
		err := raw.Read(func(fd uintptr) bool {
			n, controls, flags, _, receiveErr = unix.Recvmsg(int(fd), message, control, unix.MSG_CMSG_CLOEXEC)
			return receiveErr != unix.EAGAIN
		})
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil, receiveErr != nil && receiveErr != unix.EINTR:
			time.Sleep(pause)
		case receiveErr == nil:
			r.relay(string(message[:n]), control[:controls], flags)
		}
	}
}

// relay forwards a message and the descriptors in the message, or refuses them. Then relay closes graceful's copies of
// the descriptors. A sender that waits until all copies are closed (BARRIER=1) then waits only for the service manager.
// flags are those of recvmsg(2).
func (r *Relay) relay(message string, control []byte, flags int) {
	pid, files := attached(control)
	defer func() {
		for _, fd := range files {
			unix.Close(fd)
		}
	}()
	switch {
	case flags&unix.MSG_TRUNC != 0:
		r.refuse(pid, "it is too long")
		return
	case flags&unix.MSG_CTRUNC != 0:
		r.refuse(pid, "graceful cannot have so many descriptors")
		return
	case pid == 0 || !r.isMember(pid):
		r.refuse(pid, "the sender is no process of this run, or has ended")
		return
	}
	if message = forManager(message); message == "" {
		return
	}
	raw, err := r.out.SyscallConn()
	if err != nil {
		return
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		sendErr = r.send(int(fd), []byte(message), files)
		return sendErr != unix.EAGAIN
	})
	if err = errors.Join(err, sendErr); err != nil {
		r.refuse(pid, err.Error())
	}
}

// refuse logs the reason why a message is not forwarded. It logs each reason as a warning only once, because any
// process can send messages.
func (r *Relay) refuse(pid int, why string) {
	log := r.log.Warn
	if r.loggedRefusals[why] {
		log = r.log.Info
	}
	r.loggedRefusals[why] = true
	log("message to the service manager not relayed", "pid", pid, "err", why)
}

// send sends a message to the service manager. It connects again if the service manager was restarted.
func (r *Relay) send(fd int, message []byte, files []int) error {
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	send := func() error {
		return eintr.Retry(func() error { return unix.Sendmsg(fd, message, rights, nil, unix.MSG_NOSIGNAL) })
	}
	err := send()
	if err == unix.ECONNREFUSED || err == unix.ENOTCONN || err == unix.ECONNRESET {
		if err = unix.Connect(fd, r.manager); err == nil {
			err = send()
		}
	}
	return err
}

// attached returns the descriptors that came with a message, and the pid of the sender. The pid is 0 for a sender
// outside this PID namespace.
func attached(control []byte) (pid int, files []int) {
	parts, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, nil
	}
	for _, part := range parts {
		if sender, err := unix.ParseUnixCredentials(&part); err == nil {
			pid = int(sender.Pid)
		}
		if passed, err := unix.ParseUnixRights(&part); err == nil {
			files = append(files, passed...)
		}
	}
	return pid, files
}
