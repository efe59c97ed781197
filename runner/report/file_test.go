package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// place is a directory for one test. Its path contains no link.
type place struct {
	*testing.T
	dir string
}

// newPlace creates a place. The test framework removes it after the test.
func newPlace(t *testing.T) place {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir()) // on macOS it contains a link
	p := place{t, dir}
	p.must(err)
	return p
}

// in returns the path of a file in the place.
func (p place) in(name string) string { return filepath.Join(p.dir, name) }

// must fails the test unless err is nil.
func (p place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// link creates a symbolic link. DIR in its text is replaced by the path of the place.
func (p place) link(name, to string) {
	p.Helper()
	p.must(os.Symlink(strings.Replace(to, "DIR", p.dir, 1), p.in(name)))
}

// file creates a file with a mode, whatever the umask is.
func (p place) file(name, text string, mode os.FileMode) {
	p.Helper()
	p.must(os.WriteFile(p.in(name), []byte(text), 0o600))
	p.must(os.Chmod(p.in(name), mode))
}

// open opens a destination, and closes that destination when the test ends.
func (p place) open(name string) *File {
	p.Helper()
	f, err := Open(p.in(name))
	p.must(err)
	p.Cleanup(func() { f.Close() })
	return f
}

// want fails the test unless the file has this content and mode.
func (p place) want(name, text string, mode os.FileMode) {
	p.Helper()
	got, err := os.ReadFile(p.in(name))
	st, err1 := os.Lstat(p.in(name))
	if err := errors.Join(err, err1); err != nil || string(got) != text || st.Mode() != mode {
		p.Fatalf("%s is %q, %v, %v; want %q, %v", name, got, st, err, text, mode)
	}
}

// writeTo writes a report to a destination.
func writeTo(f *File, text string) error { return f.Write([]byte(text), ".draft", time.Second) }

// A destination that cannot be opened does not prevent a run. Write returns the error.
func TestOpen_leavesFailuresToWrite(t *testing.T) {
	p := newPlace(t)
	p.link("loop", "loop")
	p.file("file", "", 0o644)
	p.must(os.Mkdir(p.in("dir"), 0o755))
	p.must(unix.Mkfifo(p.in("fifo"), 0o600))
	for name, want := range map[string]error{
		"loop": unix.ELOOP, "file/r": unix.ENOTDIR, "dir": unix.EISDIR, "none/r": unix.ENOENT, "fifo": unix.ENXIO,
		strings.Repeat("x", 300): unix.ENAMETOOLONG,
	} {
		if err := writeTo(p.open(name), "x"); !errors.Is(err, want) {
			t.Errorf("%.9s: %v, want %v", name, err, want)
		}
	}
	for path, want := range map[string]error{
		"/": unix.EISDIR, "/..": unix.EISDIR, "/dev/fd/77": unix.EBADF, "/proc/self/fd/77": unix.EBADF,
	} {
		f, err := Open(path)
		p.must(err)
		if err := writeTo(f, "x"); err != want {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		f.Close()
	}
}

// Reopen follows no link in any part of a path, except a link to a descriptor.
func TestReopen_followsNoLink(t *testing.T) {
	p := newPlace(t)
	p.must(os.Mkdir(p.in("dir"), 0o755))
	p.link("linked", "dir")
	p.link("r", "dir/r")
	for name, want := range map[string]error{
		"dir/r": nil, "new/r": unix.ENOENT, "linked/r": unix.ELOOP, "r": unix.ELOOP,
	} {
		f := Reopen(p.in(name))
		if err := writeTo(f, name); err != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		f.Close()
	}
	p.want("dir/r", "dir/r", newMode)
	if f := Reopen("/dev/stdin"); f.Path() != "/dev/stdin" || f.stream < 0 {
		t.Errorf("standard input: %+v", f)
	}
}

// Inherit returns a File that equals the one that Inheritance has described, and Write writes to the same destination.
func TestInherit(t *testing.T) {
	p := newPlace(t)
	p.must(unix.Mkfifo(p.in("fifo"), 0o600))
	for name, want := range map[string]error{
		"r": nil, "new/r": nil, "fifo": unix.ENXIO, strings.Repeat("x", 300): unix.ENAMETOOLONG,
	} {
		f := p.open(name)
		text, fds := f.Inheritance()
		for _, fd := range fds {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
				t.Fatal(err)
			}
		}
		g, err := Inherit(text, f.Path())
		p.must(err)
		if fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", f) {
			t.Errorf("%.9s: %+v, not %+v", name, g, f)
		}
		for _, fd := range fds {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("%.9s: descriptor %d stays open on exec: %v", name, fd, err)
			}
		}
		if name == "new/r" {
			p.must(os.Mkdir(p.in("new"), 0o755))
		}
		if err := writeTo(g, "new"); !errors.Is(err, want) {
			t.Errorf("%.9s: %v, want %v", name, err, want)
		}
	}
	p.want("new/r", "new", newMode)
	if f, err := Inherit("", "/r"); f != nil || err != nil {
		t.Errorf("an empty text: %v, %v", f, err)
	}
	for _, text := range []string{"x", "1", "-1,-1,9,0,0,0,0", "-1,-1,-1,0,0,0,0"} {
		if _, err := Inherit(text, "/r"); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
