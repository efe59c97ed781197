package ledger

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// MaxSize bounds a ledger, in bytes. A larger file is refused before it is read, and no record is appended beyond it.
const MaxSize = 256 << 20

// Reserve allocates disk space, so that appending that many more bytes does not fail with ENOSPC. It allocates nothing
// in memory or where the file system cannot. Reserve fails if the bytes would exceed MaxSize (ErrFull) or RLIMIT_FSIZE.
func (l *Ledger) Reserve(space int64) error {
	err := l.prepare() // truncating the file later would free the space
	if err == nil && space > 0 {
		err = l.reserve(l.end+int64(len(l.pending)), space)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("reserving %d bytes for %s: %w", space, l, err)
	}
	return nil
}

// reserve allocates disk space behind an offset, as far as it is not allocated yet.
func (l *Ledger) reserve(from, space int64) error {
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

// fileLimit returns RLIMIT_FSIZE in bytes.
func fileLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) != nil {
		return math.MaxUint64
	}
	return uint64(limit.Cur)
}
