// Package ledger stores the records of one run: JSON lines with a checksum each, in memory or in a file that outlives
// graceful. It does not interpret the records. Package journal does.
package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

var (
	// ErrAlive means that the lock is held through another open file, usually by another process.
	ErrAlive = errors.New("it is locked by a live process")
	// errNameTaken means that another ledger, which contains records, has the name that TakeBack needs.
	errNameTaken = errors.New("another ledger with records has its name by now")
	// ErrFull means that a record would make the ledger larger than MaxSize.
	ErrFull = errors.New("it is full")
	// errDamaged means that a record before the last one is damaged. A crash damages only the last record.
	errDamaged = errors.New("it is damaged, and records come after it")
)

// Ledger is an open ledger. Processes may share an inherited Ledger if only one of them writes at a time. A Ledger is
// not safe for concurrent use.
type Ledger struct {
	fd   int
	path string // empty: in memory
	// end is the offset after the last known record. flush writes the pending lines there. A negative end means unknown.
	end int64
	// pending contains the lines that may not be on the disk yet.
	pending []byte
	// reserved is the offset up to which disk space is allocated. 0 means none or unknown.
	reserved int64

	write func(fd int, p []byte, at int64) (int, error)
	sync  func(fd int) error
}

func newLedger(fd int, path string) *Ledger {
	return &Ledger{fd: fd, path: path, end: -1, write: writeAt, sync: syncData}
}

// InMemory creates a ledger in memory. The ledger ceases to exist when the last process closes it.
func InMemory() (*Ledger, error) {
	fd, err := memoryFile()
	if err != nil {
		return nil, fmt.Errorf("making a ledger in memory: %w", err)
	}
	return newLedger(fd, ""), nil
}

// Inherited returns the ledger of an inherited descriptor. path is the absolute path of its file, or "" for a ledger in
// memory. Inherited fails if the path is not absolute, and as checkTrust does for a regular file.
func Inherited(fd int, path string) (*Ledger, error) {
	l := newLedger(fd, path)
	_, flagsErr := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	st, statErr := eintr.Fstat(fd)
	var pathErr error
	if path == "" {
		st.Mode &^= 0o022 // no other user can reach a memfd, which has no name
	} else if !filepath.IsAbs(path) {
		pathErr = errors.New("the path is not absolute")
	}
	if err := cmp.Or(flagsErr, pathErr, statErr, checkTrust(&st, unix.S_IFREG)); err != nil {
		return nil, fmt.Errorf("taking over %s on descriptor %d: %w", l, fd, err)
	}
	return l, nil
}

// FD returns the descriptor of the file. Inherited takes the descriptor in a process that inherits the ledger.
func (l *Ledger) FD() int { return l.fd }

// Path returns the path of the file; "" for a ledger in memory.
func (l *Ledger) Path() string { return l.path }

// String names the ledger in messages.
func (l *Ledger) String() string {
	if l.path == "" {
		return "the ledger in memory"
	}
	return "ledger " + l.path
}

// failed adds the operation and the ledger to an error. It returns nil for nil.
func (l *Ledger) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, l, err)
}

// Close closes the descriptor. The kernel releases the lock when the last process closes the file.
func (l *Ledger) Close() error { return unix.Close(l.fd) }
