package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/eintr"
)

// Append appends a record and waits until it is on the disk. If that fails, Append keeps the record, and the next call
// writes it first, because replay needs every record. Append does not keep a record that has no JSON form or that
// would exceed MaxSize (ErrFull).
func (l *Ledger) Append(record any) (err error) {
	defer func() { err = l.failed("appending to", err) }()
	raw, err := cleanup.EncodeJSON(record)
	if err != nil {
		return err
	}
	line := append(encodeLine(raw), '\n')
	if err = l.prepare(); err == nil {
		if err := checkSize(l.end + int64(len(l.pending)+len(line))); err != nil {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	l.pending = append(l.pending, line...)
	if err != nil {
		return err
	}
	return l.flush()
}

// prepare sets end for the next record. It reads the file if another process may have written to it. If a crash cut the
// last record short, prepare truncates the file to the records before that one.
func (l *Ledger) prepare() error {
	if l.end >= 0 && len(l.pending) > 0 {
		return nil // a failed flush may have written bytes after end, which the next flush overwrites
	}
	st, err := eintr.Fstat(l.fd)
	if err != nil || st.Size == l.end {
		return err
	}
	l.end = -1
	_, end, err := l.read()
	if err != nil {
		return err
	}
	if end < st.Size { // otherwise truncating would only free the reserved space
		err = eintr.Retry(func() error { return unix.Ftruncate(l.fd, end) })
		l.reserved = 0
	}
	if err == nil {
		l.end = end
	}
	return err
}

// flush writes and syncs the pending lines. All of them stay pending until the sync succeeds. After a failed sync the
// kernel may mark pages as clean although they never reached the disk. Writing the lines a second time is harmless.
func (l *Ledger) flush() error {
	const maxBusy = 100 // attempts after EAGAIN, so that the run ends even if the file never accepts data
	busy := 0
	for rest, at := l.pending, l.end; len(rest) > 0; {
		n, err := eintr.RetryValue(func() (int, error) { return l.write(l.fd, rest, at) })
		switch {
		case n > 0: // if the error persists, the next write returns it
			rest, at = rest[n:], at+int64(n)
		case err == nil:
			return io.ErrShortWrite
		case err == unix.EAGAIN && busy < maxBusy:
			busy++
			time.Sleep(time.Millisecond)
		default:
			return err
		}
	}
	if err := eintr.Retry(func() error { return l.sync(l.fd) }); err != nil {
		return err
	}
	l.end += int64(len(l.pending))
	l.pending = nil
	return nil
}

// writeAt calls pwrite(2). It returns EFBIG for a write that exceeds RLIMIT_FSIZE, which another process can lower at
// any time (prlimit(1)). Without this check the kernel would also send SIGXFSZ, and graceful would take it for a signal
// to the target.
func writeAt(fd int, p []byte, at int64) (int, error) {
	if fileLimit() < uint64(at)+uint64(len(p)) {
		return 0, unix.EFBIG
	}
	return unix.Pwrite(fd, p, at)
}

// Records returns all records. If a crash cut the last record short, Records omits that record and does not change the
// file. The next Append or Reserve truncates the file. The error wraps errDamaged if records follow a damaged one.
func (l *Ledger) Records() ([]json.RawMessage, error) {
	records, _, err := l.read()
	return records, l.failed("reading", err)
}

// read returns all records and the offset after the last one.
func (l *Ledger) read() (records []json.RawMessage, end int64, err error) {
	st, err := eintr.Fstat(l.fd)
	if err != nil {
		return nil, 0, err
	}
	if err := checkSize(st.Size); err != nil {
		return nil, 0, err
	}
	data := make([]byte, st.Size)
	for have := 0; have < len(data); {
		n, err := eintr.RetryValue(func() (int, error) { return unix.Pread(l.fd, data[have:], int64(have)) })
		switch {
		case n > 0:
			have += n
		case err == nil: // another process has truncated the file
			data = data[:have]
		default:
			return nil, 0, err
		}
	}
	return parse(data)
}

// MaxSize is the maximum size of a ledger, in bytes. A larger file is refused before it is read.
const MaxSize = 256 << 20

// Reserve allocates disk space for the next space bytes, so that appending them does not fail with ENOSPC. For a ledger
// in memory, or on a file system that cannot allocate space, it allocates nothing. Reserve fails if the space is
// missing, or if the ledger would exceed MaxSize (ErrFull) or RLIMIT_FSIZE.
func (l *Ledger) Reserve(space int64) (err error) {
	defer func() {
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		err = l.failed(fmt.Sprintf("reserving %d bytes for", space), err)
	}()
	// Truncate a torn record now, because a later truncation would free the reserved space.
	if err := l.prepare(); err != nil || space <= 0 {
		return err
	}
	from := l.end + int64(len(l.pending))
	to := from + space
	if err := checkSize(to); err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if limit := fileLimit(); uint64(to) > limit {
		return fmt.Errorf("no file may have more than %d (ulimit -f)", limit)
	}
	if from = max(from, l.reserved); l.path == "" || from >= to {
		return nil
	}
	if err := eintr.Retry(func() error { return allocate(l.fd, from, to-from) }); err != nil {
		return err
	}
	l.reserved = to
	return nil
}

// checkSize returns an error if a size in bytes exceeds MaxSize.
func checkSize(size int64) error {
	if size > MaxSize {
		return fmt.Errorf("%d bytes are more than a ledger may have (%d)", size, MaxSize)
	}
	return nil
}

// fileLimit returns RLIMIT_FSIZE in bytes, or the largest number if the limit is unknown.
func fileLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) != nil {
		return math.MaxUint64
	}
	return uint64(limit.Cur)
}
