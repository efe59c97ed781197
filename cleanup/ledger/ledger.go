// Package ledger keeps the record of one run: JSON lines with a checksum each, in memory or in a file that outlives
// us. It knows nothing of what is in the records.
package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSize bounds a ledger: a larger one is refused before it is read, and none is made so.
const MaxSize = 256 << 20

// Interrupted ends the names of ledgers that were set aside because a command in them was interrupted.
const Interrupted = ".interrupted"

var (
	// ErrAlive tells that somebody holds the lock.
	ErrAlive = errors.New("it is locked by a live process")
	// ErrNameTaken tells that another ledger has the name.
	ErrNameTaken = errors.New("another ledger with records has its name by now")
	// ErrFull tells that there is no room below MaxSize.
	ErrFull = errors.New("it is full")
	// ErrDamaged tells that a record is damaged that is not the last one, as no crash does it.
	ErrDamaged = errors.New("it is damaged, and records come after it")
)

// Ledger is an open ledger. Processes may share one that was inherited, as long as one of them writes at a time. It
// is not for several goroutines at once.
type Ledger struct {
	fd   int
	path string
	// end is where the next record goes: behind the last that we know of. Below 0 we know of none.
	end int64
	// pending are the lines that are not known to be on the disk; they belong at end.
	pending []byte
	// reserved is where the disk space ends that was set aside; 0 where that is not known.
	reserved int64

	write func(fd int, p []byte, at int64) (int, error)
	sync  func(fd int) error
}

func newLedger(fd int, path string) *Ledger {
	return &Ledger{fd: fd, path: path, end: -1, write: write, sync: syncData}
}

// InMemory makes a ledger that ends with the last process that has it.
func InMemory() (*Ledger, error) {
	fd, err := memoryFile()
	if err != nil {
		return nil, fmt.Errorf("making a ledger in memory: %w", err)
	}
	return newLedger(fd, ""), nil
}

// Inherited is the ledger on a descriptor that we were started with. The path is that of its file, or empty when it
// is in memory.
func Inherited(fd int, path string) (*Ledger, error) {
	l := newLedger(fd, path)
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	if err == nil && path != "" && !filepath.IsAbs(path) {
		err = errors.New("the path is not absolute")
	}
	if err == nil {
		var st unix.Stat_t
		st, err = statOf(fd)
		if path == "" {
			st.Mode &^= 0o022 // a memfd has no name by which others could reach it
		}
		err = cmp.Or(err, refuse(&st, unix.S_IFREG))
	}
	if err != nil {
		return nil, fmt.Errorf("taking over %s on descriptor %d: %w", l, fd, err)
	}
	return l, nil
}

// FD is the descriptor, for a process that is to inherit the ledger.
func (l *Ledger) FD() int { return l.fd }

// Path is where the file is, or empty in memory.
func (l *Ledger) Path() string { return l.path }

// String names the ledger in messages.
func (l *Ledger) String() string {
	if l.path == "" {
		return "the ledger in memory"
	}
	return "ledger " + l.path
}

// Reserve sets aside disk space for so many more bytes, where the file system can do that, so that appending them does
// not fail for want of it. It fails when MaxSize (ErrFull) or RLIMIT_FSIZE does not allow them. In memory nothing is
// set aside.
func (l *Ledger) Reserve(space int64) error {
	err := l.prepare() // a tail that is cut off later would take the space with it
	if err == nil && space > 0 {
		err = l.reserve(l.end+int64(len(l.pending)), space)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("reserving %d bytes for %s: %w", space, l, err)
	}
	return nil
}

func (l *Ledger) reserve(from, space int64) error {
	to := from + space
	if err := refuseSize(to); err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	if limit := fileLimit(); uint64(to) > limit {
		return fmt.Errorf("no file may have more than %d (ulimit -f)", limit)
	}
	if from = max(from, l.reserved); l.path == "" || from >= to {
		return nil
	}
	if err := retry(func() error { return allocate(l.fd, from, to-from) }); err != nil {
		return err
	}
	l.reserved = to
	return nil
}

// fileLimit is RLIMIT_FSIZE, in bytes.
func fileLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) != nil {
		return math.MaxUint64
	}
	return uint64(limit.Cur)
}

// Append writes a record and waits until it is on the disk. When that fails the record is kept, and the next Append
// writes it first: a gap would tell of another run than there was. Only what has no JSON form or no room below
// MaxSize is not kept.
func (l *Ledger) Append(record any) error {
	raw, err := encode(record)
	if err != nil {
		return fmt.Errorf("appending to %s: %w", l, err)
	}
	line := append(wrap(raw), '\n')
	err = l.prepare()
	if err == nil {
		if err := refuseSize(l.end + int64(len(l.pending)+len(line))); err != nil {
			return fmt.Errorf("appending to %s: %w: %w", l, ErrFull, err)
		}
	}
	l.pending = append(l.pending, line...)
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		return fmt.Errorf("appending to %s: %w", l, err)
	}
	return nil
}

// prepare finds where to go on, when that is not where we stopped: another process has written, or a crash has left
// something behind the records, which is cut off.
func (l *Ledger) prepare() error {
	if l.end >= 0 && len(l.pending) > 0 {
		return nil // what is there is our own
	}
	st, err := statOf(l.fd)
	if err != nil || st.Size == l.end {
		return err
	}
	l.end = -1
	_, end, err := l.read()
	if err != nil {
		return err
	}
	if end < st.Size { // else it would only give back what was reserved
		err = retry(func() error { return unix.Ftruncate(l.fd, end) })
		l.reserved = 0
	}
	if err == nil {
		l.end = end
	}
	return err
}

// flush writes what is pending. All of it stays pending until it is synced: after a sync that failed, the kernel may
// take pages for clean that never came to the disk, and writing them again is harmless.
func (l *Ledger) flush() error {
	busy := 0
	for rest, at := l.pending, l.end; len(rest) > 0; {
		n, err := l.write(l.fd, rest, at)
		switch {
		case n > 0: // if there is an error besides, it comes again
			rest, at = rest[n:], at+int64(n)
		case err == nil:
			return io.ErrShortWrite
		case err == unix.EAGAIN && busy < 100: // not for ever: a run must end
			busy++
			time.Sleep(time.Millisecond)
		case err != unix.EINTR:
			return err
		}
	}
	if err := retry(func() error { return l.sync(l.fd) }); err != nil {
		return err
	}
	l.end += int64(len(l.pending))
	l.pending = nil
	return nil
}

// write refuses what RLIMIT_FSIZE forbids, which anybody may have lowered meanwhile (prlimit(1)): the kernel would send us
// SIGXFSZ besides, as if somebody had meant the target with it.
func write(fd int, p []byte, at int64) (int, error) {
	if fileLimit() < uint64(at)+uint64(len(p)) {
		return 0, unix.EFBIG
	}
	return unix.Pwrite(fd, p, at)
}

// Records reads all records from the beginning. Of the last one a crash may have left anything; it is left out, and
// cut off by the next Append or Reserve, not by reading.
func (l *Ledger) Records() ([]json.RawMessage, error) {
	records, _, err := l.read()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", l, err)
	}
	return records, nil
}

func (l *Ledger) read() (records []json.RawMessage, end int64, err error) {
	st, err := statOf(l.fd)
	if err != nil {
		return nil, 0, err
	}
	if err := refuseSize(st.Size); err != nil {
		return nil, 0, err
	}
	data := make([]byte, st.Size)
	for have := 0; have < len(data); {
		n, err := unix.Pread(l.fd, data[have:], int64(have))
		switch {
		case n > 0:
			have += n
		case err == nil: // somebody has cut it meanwhile
			data = data[:have]
		case err != unix.EINTR:
			return nil, 0, err
		}
	}
	return parse(data)
}

// parse returns the records and where they end. What is behind them is the remains of the last one, unless a whole
// record is found in there: such records would be lost without a word.
func parse(data []byte) (records []json.RawMessage, end int64, err error) {
	for {
		line, _, whole := bytes.Cut(data[end:], []byte("\n"))
		raw, ok := unwrap(line)
		if !whole || !ok {
			break
		}
		records = append(records, raw)
		end += int64(len(line)) + 1
	}
	// The newline before it may be what is damaged, so that it need not begin a line. No record can be mistaken for
	// one inside another: quotes are escaped in strings, and an object inside has a brace too many behind it.
	for rest := data[end:]; ; rest = rest[1:] {
		i := bytes.Index(rest, []byte(head))
		if i < 0 {
			return records, end, nil
		}
		rest = rest[i:]
		line, _, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			return records, end, nil
		}
		if _, ok := unwrap(line); ok {
			return nil, 0, fmt.Errorf("line %d: %w", len(records)+1, ErrDamaged)
		}
	}
}

const (
	head = `{"sum":"`
	neck = `","record":`
)

// Each process of ours would pay for the table when it starts, and most never use it.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

func wrap(raw []byte) []byte {
	return fmt.Appendf(nil, "%s%08x%s%s}", head, crc32.Checksum(raw, castagnoli()), neck, raw)
}

// unwrap returns the record in a line, if wrapping it makes that line again, to the byte.
func unwrap(line []byte) (json.RawMessage, bool) {
	start, end := len(head)+8+len(neck), len(line)-1
	if end < start {
		return nil, false
	}
	raw := line[start:end:end]
	return raw, bytes.Equal(wrap(raw), line) && json.Valid(raw)
}

// Remove unlinks the file, unless its name is gone or another file's.
func (l *Ledger) Remove() error {
	err := l.inDir(func(d *Dir, file string, ours bool) error {
		if !ours {
			return nil
		}
		return unix.Unlinkat(d.fd, file, 0)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", l, err)
	}
	return nil
}

// SetAside renames the file to its name with the suffix, and a number where that is taken. In memory there is
// nothing to set aside.
func (l *Ledger) SetAside(suffix string) error {
	err := l.inDir(func(d *Dir, file string, ours bool) error {
		if !ours {
			return errors.New("the file with that name is gone, or another one")
		}
		// Nobody takes a name between that was free: nobody else writes to the directory, and of us only who holds
		// the lock of a file makes names of its name.
		free := file + suffix
		_, err := statAt(d.fd, free)
		for n := 1; err == nil; n++ {
			free = fmt.Sprintf("%s%s.%d", file, suffix, n)
			_, err = statAt(d.fd, free)
		}
		if err == unix.ENOENT {
			err = unix.Renameat(d.fd, file, d.fd, free)
		}
		if err != nil {
			return err
		}
		l.path = filepath.Join(d.path, free)
		return d.sync()
	})
	if err != nil {
		return fmt.Errorf("setting aside %s: %w", l, err)
	}
	return nil
}

// TakeBack undoes SetAside: the file has its name again, and who looks for that finds us at work, or what we have
// left. One that was not set aside has it already. ErrAlive: somebody holds the lock of the name.
func (l *Ledger) TakeBack() error {
	err := l.inDir(func(d *Dir, file string, ours bool) error {
		name := nameBefore(file)
		if name == file {
			return nil
		}
		if !ours {
			return errors.New("the file with that name is gone, or another one")
		}
		// Who makes names of a name holds its lock: that of a file that is empty, if there is none yet.
		holder, err := d.Take(name)
		if err != nil {
			return err
		}
		defer holder.Close()
		st, err := statOf(holder.fd)
		switch {
		case err != nil:
			return err
		case st.Size > 0:
			return fmt.Errorf("%s: %w", name, ErrNameTaken)
		}
		if err := unix.Renameat(d.fd, file, d.fd, name); err != nil {
			return errors.Join(err, holder.Remove())
		}
		l.path = filepath.Join(d.path, name)
		return d.sync()
	})
	if err != nil {
		return fmt.Errorf("taking back %s: %w", l, err)
	}
	return nil
}

// inDir calls with the directory of the file, its name there, and whether that is still our file's. The directory is
// opened anew: a process that inherited the ledger has no other way to it.
func (l *Ledger) inDir(do func(d *Dir, file string, ours bool) error) error {
	if l.path == "" {
		return nil
	}
	dir, file := filepath.Split(l.path)
	d, err := OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	ours, err := d.names(file, l.fd)
	if err != nil {
		return err
	}
	return do(d, file, ours)
}

// Close closes our descriptor. The lock goes with the last one.
func (l *Ledger) Close() error { return unix.Close(l.fd) }
