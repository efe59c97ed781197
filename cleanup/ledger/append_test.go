package ledger

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// failing returns a write function that writes up to room bytes in all, and then fails with err.
func failing(room int, err error) func(int, []byte, int64) (int, error) {
	return func(fd int, p []byte, at int64) (int, error) {
		n := min(room, len(p))
		if n == 0 {
			return -1, err
		}
		room -= n
		return unix.Pwrite(fd, p[:n], at)
	}
}

func TestAppend_writesRecordsThatFailed(t *testing.T) {
	d := makeDir(t)
	for room := range len(lines("2", "3")) {
		l := openWith(t, d, lines("1"))
		l.write = failing(room, unix.ENOSPC)
		first, second := l.Append(2), l.Append(3)
		if got := room >= len(lines("2")); (first == nil) != got || !errors.Is(second, unix.ENOSPC) {
			t.Fatalf("room for %d bytes: errors %v, %v", room, first, second)
		}
		_, err := l.Records() // does not change the offset of the next record
		l.write = unix.Pwrite
		appendAll(t, l, 4)
		if want := lines("1", "2", "3", "4"); err != nil || !bytes.Equal(content(t, l), want) {
			t.Fatalf("room for %d bytes: %v, the file has %q", room, err, content(t, l))
		}
		l.Close()
	}
}

func TestAppend_writesAgainAfterAFailedSync(t *testing.T) {
	l := openWith(t, makeDir(t), nil)
	defer l.Close()
	var written bytes.Buffer
	l.write = func(fd int, p []byte, at int64) (int, error) {
		written.Write(p)
		return unix.Pwrite(fd, p, at)
	}
	syncs, result := 0, []error{unix.EINTR, unix.EIO, nil}
	l.sync = func(int) error { syncs++; return result[syncs-1] }
	if err := l.Append(1); !errors.Is(err, unix.EIO) {
		t.Errorf("error %v", err)
	}
	appendAll(t, l, 2)
	wantRecords(t, l, "1", "2")
	if want := lines("1", "1", "2"); syncs != 3 || !bytes.Equal(written.Bytes(), want) {
		t.Errorf("%d syncs; written was %q", syncs, written.String())
	}
}

func TestAppend_afterInterruptedAndShortWrites(t *testing.T) {
	l := openWith(t, makeDir(t), nil)
	defer l.Close()
	calls := 0
	l.write = func(fd int, p []byte, at int64) (int, error) {
		switch calls++; calls % 3 {
		case 0:
			return -1, unix.EINTR
		case 1:
			return -1, unix.EAGAIN
		}
		return unix.Pwrite(fd, p[:1], at)
	}
	appendAll(t, l, 1, 2)
	wantRecords(t, l, "1", "2")

	l.write = failing(0, unix.EAGAIN)
	if err := l.Append(3); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("write always returns EAGAIN: %v", err)
	}
	l.write = func(int, []byte, int64) (int, error) { return 0, nil }
	if err := l.Append(4); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("write always returns 0: %v", err)
	}
	l.write = unix.Pwrite
	appendAll(t, l, 5)
	wantRecords(t, l, "1", "2", "3", "4", "5")
}

func TestAppend_maxSize(t *testing.T) {
	l := openWith(t, makeDir(t), nil)
	defer l.Close()
	if err := os.Truncate(l.path, MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Records(); err == nil || !strings.Contains(err.Error(), "268435457 bytes are more") {
		t.Errorf("error %v", err)
	}
	// The test makes the file large by a hole instead of many records.
	l.end = MaxSize - int64(len(lines("1")))
	if err := os.Truncate(l.path, l.end); err != nil {
		t.Fatal(err)
	}
	if err := l.Append("1"); err == nil || !strings.Contains(err.Error(), "are more") {
		t.Errorf("error %v", err)
	}
	appendAll(t, l, 1) // it fits: Append has not kept the larger record
	if st, err := eintr.Fstat(l.fd); err != nil || st.Size != MaxSize {
		t.Errorf("the file has %d bytes, %v", st.Size, err)
	}
}
