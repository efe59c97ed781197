package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "only root can give files away")
	}
}

func TestTheLockGoesToOne(t *testing.T) {
	d := makeDir(t)
	if _, err := d.Open(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a ledger that is not there: %v", err)
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
	// What was removed is nobody's, though we have it still.
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
		t.Error("removed another's file:", err)
	}
	if err := l.SetAside(Interrupted); err == nil {
		t.Error("set aside another's file")
	}
	l.Close()
}

func TestOfManyAtTheSameInstantOneTakesIt(t *testing.T) {
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
			t.Fatalf("%d have it", got.Load())
		}
	}
}

func TestThereIsOneHolderAtAnyTimeWhileFilesComeAndGo(t *testing.T) {
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
					t.Errorf("%d hold it", now)
				}
				err = l.Append(g)
				if now := holders.Add(-1); now != 0 {
					t.Errorf("%d more hold it", now)
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
	wg.Go(func() { // makes it and takes no lock
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
		t.Errorf("%d were set aside, and %d are there, %v", aside.Load(), len(names), err)
	}
}

func TestWhatIsSetAsideIsKeptUnderANameOfItsOwn(t *testing.T) {
	d := makeDir(t)
	taken := filepath.Join(d.path, file+Interrupted+".1")
	if err := os.Symlink("nowhere", taken); err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"", ".2", ".3"} {
		l := holding(t, d, lines(fmt.Sprint(n)))
		if err := l.SetAside(Interrupted); err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(d.path, file+Interrupted+want); l.Path() != want {
			t.Errorf("path %s, want %s", l.Path(), want)
		}
		wantRecords(t, l, fmt.Sprint(n))
		if !bytes.Equal(content(t, l), lines(fmt.Sprint(n))) {
			t.Errorf("%s has %s", l.Path(), content(t, l))
		}
		if n == 2 {
			if err := l.Remove(); err != nil {
				t.Error(err)
			}
		}
		l.Close()
	}
	for _, name := range []string{
		"x.ledger", ".ledger", "a.ledger.interrupted.ledger", "a.ledger.interrupted.ledger.interrupted", "a.ledger~",
		"a.ledger.interrupted.", "a.ledger.interrupted.x", "a.ledger.interrupted1", "a.interrupted", "ledger",
	} {
		if err := os.WriteFile(filepath.Join(d.path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // a second time is not at the end
		var got [2][]string
		var errs [2]error
		got[0], errs[0] = d.Names()
		got[1], errs[1] = d.NamesSetAside()
		want := [2][]string{{".ledger", "a.ledger.interrupted.ledger", "x.ledger"}, {
			"a.ledger.interrupted", "a.ledger.interrupted.1", "a.ledger.interrupted.2",
			"a.ledger.interrupted.ledger.interrupted",
		}}
		if diff := cmp.Diff(want, got); errs != [2]error{} || diff != "" {
			t.Errorf("%v (-want +got):\n%s", errs, diff)
		}
	}
	if l, err := d.Open(file + Interrupted); err != nil {
		t.Error(err)
	} else {
		l.Close()
	}
}

func TestWhatWasSetAsideIsTakenBackWhenNobodyHasItsName(t *testing.T) {
	names := func(d *Dir) string {
		all, err := d.list(func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, " ")
	}
	for _, suffix := range []string{Interrupted, Interrupted + ".7"} {
		d := makeDir(t)
		if err := os.WriteFile(filepath.Join(d.path, file+suffix), lines("1"), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := d.Open(file + suffix)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()

		alive, err := d.Take(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.TakeBack(); !errors.Is(err, ErrAlive) {
			t.Errorf("somebody holds the name: %v", err)
		}
		appendAll(t, alive, 2)
		alive.Close()
		if err := l.TakeBack(); !errors.Is(err, ErrNameTaken) {
			t.Errorf("a dead run has the name: %v", err)
		}
		if got := names(d); got != file+" "+file+suffix {
			t.Errorf("meanwhile there are %s", got)
		}
		if err := os.WriteFile(filepath.Join(d.path, file), nil, 0o600); err != nil { // of one who was killed on the way
			t.Fatal(err)
		}
		for range 2 { // the second time it has its name
			if err := l.TakeBack(); err != nil || l.Path() != filepath.Join(d.path, file) || names(d) != file {
				t.Errorf("path %s, there are %s, %v", l.Path(), names(d), err)
			}
		}
		wantRecords(t, l, "1")
		if _, err := d.Take(file); !errors.Is(err, ErrAlive) {
			t.Errorf("the lock of the name is not held: %v", err)
		}
		if err := l.SetAside(Interrupted); err != nil || names(d) != file+Interrupted {
			t.Errorf("set aside again there are %s, %v", names(d), err)
		}
		// What has its name aside by now is another's.
		if err := os.Rename(l.Path(), l.Path()+".8"); err != nil {
			t.Fatal(err)
		}
		if err := l.TakeBack(); err == nil || names(d) != file+Interrupted+".8" {
			t.Errorf("taken back without its name, there are %s, %v", names(d), err)
		}
	}
}

func TestWhatIsGoneNeedsNoRemoval(t *testing.T) {
	d := makeDir(t)
	l := holding(t, d, nil)
	defer l.Close()
	if err := os.RemoveAll(d.path); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(); err != nil {
		t.Error("with its directory:", err)
	}
	if err := l.SetAside(Interrupted); err == nil {
		t.Error("set aside what is gone")
	}
	if _, err := d.Take(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("taken in a directory that is gone: %v", err)
	}
}

func TestADirectoryIsTheOneThatWasLookedAt(t *testing.T) {
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

func TestADirectoryIsMadeForUsAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeDir("file/a"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a directory below a file: %v", err)
	}
	if _, err := OpenDir("a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	for range 2 { // a second time it is there
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

func TestHostileDirectoriesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string) error
		err  string
	}{
		"a link": {func(t *testing.T, path string) error {
			return os.Symlink(t.TempDir(), path)
		}, "a symbolic link, not a directory"},
		"a link to nowhere": {func(_ *testing.T, path string) error {
			return os.Symlink("nowhere", path)
		}, "a symbolic link, not a directory"},
		"a file": {func(_ *testing.T, path string) error {
			return os.WriteFile(path, nil, 0o600)
		}, "a regular file, not a directory"},
		"a FIFO": {func(_ *testing.T, path string) error {
			return unix.Mkfifo(path, 0o600)
		}, "a FIFO, not a directory"},
		"the group's": {func(_ *testing.T, path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o770))
		}, "mode is 0770"},
		"everybody's": {func(_ *testing.T, path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, fs.ModeSticky|0o702))
		}, "mode is 1702"},
		"another's": {func(t *testing.T, path string) error {
			needRoot(t)
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 12345, -1))
		}, "belongs to user 12345"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := c.make(t, path); err != nil {
				t.Fatal(err)
			}
			for _, open := range []func(string) (*Dir, error){OpenDir, MakeDir} {
				for _, path := range []string{path, path + "/"} {
					if _, err := open(path); err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("%s: error %v, want one about %q", path, err, c.err)
					}
				}
			}
		})
	}
}

func TestHostileFilesAreRefused(t *testing.T) {
	write := func(path string, mode fs.FileMode) error {
		return errors.Join(os.WriteFile(path, lines("1"), 0o600), os.Chmod(path, mode))
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, path string) error
		err  string
	}{
		"a link": {func(t *testing.T, path string) error {
			return errors.Join(write(path+"-target", 0o600), os.Symlink(path+"-target", path))
		}, "a symbolic link, not a regular file"},
		"a link to nowhere": {func(_ *testing.T, path string) error {
			return os.Symlink("nowhere", path)
		}, "a symbolic link, not a regular file"},
		"a link to a device": {func(_ *testing.T, path string) error {
			return os.Symlink("/dev/null", path)
		}, "a symbolic link, not a regular file"},
		"a device": {func(t *testing.T, path string) error {
			needRoot(t)
			return exec.Command("mknod", path, "c", "1", "3").Run()
		}, "a device, not a regular file"},
		"a FIFO": {func(_ *testing.T, path string) error {
			return unix.Mkfifo(path, 0o600)
		}, "a FIFO, not a regular file"},
		"a socket": {func(t *testing.T, path string) error {
			t.Chdir(filepath.Dir(path)) // the names of sockets are short
			s, err := net.Listen("unix", filepath.Base(path))
			if err == nil {
				t.Cleanup(func() { s.Close() })
			}
			return err
		}, "a socket, not a regular file"},
		"a directory": {func(_ *testing.T, path string) error {
			return os.Mkdir(path, 0o700)
		}, "a directory, not a regular file"},
		"the group's": {func(_ *testing.T, path string) error {
			return write(path, 0o620)
		}, "mode is 0620"},
		"everybody's": {func(_ *testing.T, path string) error {
			return write(path, 0o602)
		}, "mode is 0602"},
		"another's": {func(t *testing.T, path string) error {
			needRoot(t)
			return errors.Join(write(path, 0o600), os.Chown(path, 12345, -1))
		}, "belongs to user 12345"},
		"one with two names": {func(_ *testing.T, path string) error {
			return errors.Join(write(path, 0o600), os.Link(path, path+"-2"))
		}, "2 names"},
		"a huge one": {func(_ *testing.T, path string) error {
			return errors.Join(write(path, 0o600), os.Truncate(path, 1<<30))
		}, "1073741824 bytes are more"},
	} {
		t.Run(name, func(t *testing.T) {
			d := makeDir(t)
			if err := c.make(t, filepath.Join(d.path, file)); err != nil {
				t.Fatal(err)
			}
			for _, open := range []func(string) (*Ledger, error){d.Open, d.Take} {
				if _, err := open(file); err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want one about %q", err, c.err)
				}
			}
		})
	}
	d := makeDir(t)
	for _, name := range []string{"", ".", "..", "/", "../a.ledger", "a/b", "a\x00b"} {
		if _, err := d.Take(name); err == nil {
			t.Errorf("%q was taken for the name of a file", name)
		}
	}
}

func TestFileNames(t *testing.T) {
	for name, want := range map[string]string{
		"web-1_A.b": "web-1_A.b.ledger", "": "%.ledger", ".": "%2E.ledger", "..": "%2E..ledger", "..a": "%2E.a.ledger",
		"a/b": "a%2Fb.ledger", "%": "%25.ledger", "~": "%7E.ledger", "\x00\n": "%00%0A.ledger", "ä\xff": "%C3%A4%FF.ledger",
		strings.Repeat("a", 193): strings.Repeat("a", 193) + ".ledger",
		strings.Repeat("a", 194): strings.Repeat("a", 128) + "~" +
			"aa73b13a51ab2ca9733957448439927115ed8afba1e2def0792eb50eb68d1655.ledger",
	} {
		if got := FileName(name); got != want {
			t.Errorf("%q becomes %s, want %s", name, got, want)
		}
	}
	seen := map[string]string{}
	see := func(name string) {
		got := FileName(name)
		if other, ok := seen[got]; ok {
			t.Fatalf("%q and %q become %s", name, other, got)
		}
		seen[got] = name
		if len(got) > maxName || got[0] == '.' || strings.ContainsAny(got, "/\x00") || !strings.HasSuffix(got, ext) {
			t.Fatalf("%q becomes %s", name, got)
		}
	}
	see("")
	for a := range 256 {
		see(string([]byte{byte(a)}))
		see(strings.Repeat(string([]byte{byte(a)}), 1000))
		for _, b := range []byte("a2E.%~/\xff") {
			see(string([]byte{byte(a), b}))
		}
	}
	for n := 3; n < 300; n++ {
		see(strings.Repeat("a", n))
		see(strings.TrimSuffix(FileName(strings.Repeat("b", n)), ext))
	}
}
