package ledger

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

func TestReserve(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reserves disk space")
	}
	const space = 1 << 20
	one := openWith(t, makeDir(t), append(lines("1"), "torn"...))
	defer one.Close()
	reserved := func() int64 {
		st, err := eintr.Fstat(one.fd)
		if err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	for _, n := range []int64{-1, 0, space} {
		if err := one.Reserve(n); err != nil {
			t.Fatal(err)
		}
	}
	if reserved() == 0 {
		skip(t, "this file system does not allocate space")
	}
	wantRecords(t, one, "1")
	if !bytes.Equal(content(t, one), lines("1")) {
		t.Errorf("reserving left %q", content(t, one))
	}
	two, err := Inherited(one.FD(), one.Path())
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, two, 2)
	appendAll(t, one, 3)
	wantRecords(t, two, "1", "2", "3")
	if got := reserved(); got < space {
		t.Errorf("%d bytes are reserved, want %d", got, space)
	}
	// Truncating a torn record also frees the reserved space, so Reserve allocates it again.
	if err := os.WriteFile(one.path, append(lines("1", "2", "3"), "torn"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := one.Reserve(2 * space); err != nil {
		t.Fatal(err)
	}
	if got := reserved(); got < 2*space {
		t.Errorf("%d bytes are reserved after a torn record, want %d", got, 2*space)
	}
	wantRecords(t, one, "1", "2", "3")
	// Reserve fails on a descriptor that was opened read-only.
	readOnly, err := os.Open(one.path)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if l, err := Inherited(int(readOnly.Fd()), one.path); err != nil || l.Reserve(space) == nil {
		t.Errorf("reserved on a descriptor for reading, %v", err)
	}
}

func TestReserve_bounds(t *testing.T) {
	inFile := openWith(t, makeDir(t), lines("1"))
	defer inFile.Close()
	ledgers := []*Ledger{inFile}
	if inMemory, err := InMemory(); err == nil {
		defer inMemory.Close()
		appendAll(t, inMemory, 1)
		ledgers = append(ledgers, inMemory)
	}
	const low = 1 << 20
	have := int64(len(lines("1")))
	for _, l := range ledgers {
		if err := l.Reserve(MaxSize - have + 1); !errors.Is(err, ErrFull) {
			t.Errorf("%s: one byte more than MaxSize: %v", l, err)
		}
		if l.path == "" { // no disk space is taken
			if err := l.Reserve(MaxSize - have); err != nil {
				t.Errorf("MaxSize: %v", err)
			}
		}
		more, all := withFileLimit(t, func() (error, error) { return l.Reserve(low - have + 1), l.Reserve(low - have) })
		if more == nil || !strings.Contains(more.Error(), "no file may have more than 1048576 (ulimit -f)") || all != nil {
			t.Errorf("%s: one byte more than RLIMIT_FSIZE: %v; RLIMIT_FSIZE: %v", l, more, all)
		}
		wantRecords(t, l, "1")
	}
}

// withFileLimit calls f while RLIMIT_FSIZE is 1 MiB, and returns the errors of f.
func withFileLimit(t *testing.T, f func() (error, error)) (error, error) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := was
	limit.Cur = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	return f()
}
