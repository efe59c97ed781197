package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

func TestTake_lock(t *testing.T) {
	d := makeDir(t)
	if _, err := d.Open(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a ledger that does not exist: %v", err)
	}
	l, err := d.Take(file)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := eintr.Fstat(l.fd); err != nil || st.Mode&0o7777 != 0o600 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
	if _, err := d.Open(file); !errors.Is(err, ErrAlive) {
		t.Errorf("opened a second time: %v", err)
	}
	if _, err := d.Take(file); !errors.Is(err, ErrAlive) {
		t.Errorf("taken a second time: %v", err)
	}
	l.Close()
	if l, err = d.Open(file); err != nil {
		t.Fatal(err)
	}
	// A removed ledger cannot be opened, although this process still has it open.
	if err := l.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a ledger that was removed: %v", err)
	}
	next, err := d.Take(file)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := l.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(next.path); err != nil {
		t.Error("Remove removed another ledger:", err)
	}
	if err := l.SetAside(Interrupted); err == nil {
		t.Error("SetAside renamed another ledger")
	}
	l.Close()
}

func TestTake_concurrently(t *testing.T) {
	d := makeDir(t)
	for n := range 50 {
		var wg sync.WaitGroup
		var got atomic.Int32
		start := make(chan bool)
		for range 8 {
			wg.Go(func() {
				<-start
				l, err := d.Take(fmt.Sprintf("%d.ledger", n))
				switch {
				case err == nil:
					got.Add(1)
					t.Cleanup(func() { l.Close() })
				case !errors.Is(err, ErrAlive):
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d callers have the lock", got.Load())
		}
	}
}

func TestTake_whileFilesAreCreatedAndRemoved(t *testing.T) {
	d := makeDir(t)
	var holders, aside atomic.Int32
	var wg sync.WaitGroup
	end := time.Now().Add(300 * time.Millisecond)
	for g := range 4 {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); {
				l, err := d.Take(file)
				if errors.Is(err, ErrAlive) {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				n++
				if now := holders.Add(1); now != 1 {
					t.Errorf("%d callers hold the lock", now)
				}
				err = l.Append(g)
				if now := holders.Add(-1); now != 0 {
					t.Errorf("%d other callers hold the lock", now)
				}
				switch {
				case n%16 == 1:
					err = errors.Join(err, l.SetAside(Interrupted))
					aside.Add(1)
				case n%4 != 0:
					err = errors.Join(err, l.Remove())
				}
				if err := errors.Join(err, l.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() { // creates the file and does not lock it
		for time.Now().Before(end) {
			f, err := os.OpenFile(filepath.Join(d.path, file), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Error(err)
				continue
			}
			f.Close()
		}
	})
	wg.Wait()
	if names, err := d.NamesSetAside(); err != nil || len(names) != int(aside.Load()) || len(names) == 0 {
		t.Errorf("%d ledgers were set aside, and %d exist, %v", aside.Load(), len(names), err)
	}
}

func TestDir_afterItsPathHasChanged(t *testing.T) {
	d := makeDir(t)
	moved := d.path + "-moved"
	if err := os.Rename(d.path, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.path, 0o777); err != nil {
		t.Fatal(err)
	}
	l, err := d.Take(file)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if names, err := d.Names(); err != nil || len(names) != 1 {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(moved, file)); err != nil {
		t.Error(err)
	}
}

func TestMakeDir(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeDir("file/a"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a directory below a file: %v", err)
	}
	if _, err := OpenDir("a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that does not exist: %v", err)
	}
	for range 2 { // the second time the directory exists
		d, err := MakeDir("a/b")
		if err != nil {
			t.Fatal(err)
		}
		if !filepath.IsAbs(d.path) {
			t.Errorf("path %s", d.path)
		}
		for _, dir := range []string{"a", "a/b"} {
			if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
				t.Errorf("%s: %v, %v", dir, info.Mode(), err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
