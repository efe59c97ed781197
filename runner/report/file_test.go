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

// place is a directory for a test, and paths in it. Its own path contains no link.
type place struct {
	*testing.T
	dir string
}

func newPlace(t *testing.T) place {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir()) // it contains one on macOS
	p := place{t, dir}
	p.must(err)
	return p
}

func (p place) in(name string) string { return filepath.Join(p.dir, name) }

func (p place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p place) link(name, to string) {
	p.Helper()
	p.must(os.Symlink(strings.Replace(to, "DIR", p.dir, 1), p.in(name)))
}

func (p place) file(name, text string, mode os.FileMode) {
	p.Helper()
	p.must(os.WriteFile(p.in(name), []byte(text), 0o600))
	p.must(os.Chmod(p.in(name), mode))
}

func (p place) open(name string) *File {
	p.Helper()
	f, err := Open(p.in(name))
	p.must(err)
	p.Cleanup(func() { f.Close() })
	return f
}

func (p place) want(name, text string, mode os.FileMode) {
	p.Helper()
	got, err := os.ReadFile(p.in(name))
	st, err1 := os.Lstat(p.in(name))
	if err := errors.Join(err, err1); err != nil || string(got) != text || st.Mode() != mode {
		p.Fatalf("%s is %q, %v, %v; want %q, %v", name, got, st, err, text, mode)
	}
}

func writeTo(f *File, text string) error { return f.Write([]byte(text), ".draft", time.Second) }

// notFollowed is the error for a link in the place of a directory, which is not the same on every system.
func notFollowed(t *testing.T) error {
	t.Helper()
	p := newPlace(t)
	p.link("l", ".")
	_, err := openAt(unix.AT_FDCWD, p.in("l"), searchFlags|unix.O_NOFOLLOW)
	if err == nil {
		t.Fatal("a link is followed")
	}
	return err
}

// A link stays one, wherever it points to, and what is there keeps its mode.
func TestOpen_followsLinksOfOurs(t *testing.T) {
	for name, c := range map[string]struct {
		links map[string]string
		want  string // where the report is then
	}{
		"a plain file":                  {nil, "r"},
		"a link":                        {map[string]string{"r": "to"}, "to"},
		"a link that hangs":             {map[string]string{"r": "sub/new"}, "sub/new"},
		"links one after another":       {map[string]string{"r": "sub/a", "sub/a": "../to"}, "to"},
		"above a linked directory":      {map[string]string{"r": "linked/../b", "linked": "sub/deep"}, "sub/b"},
		"an absolute link":              {map[string]string{"r": "DIR/to"}, "to"},
		"names that go nowhere":         {map[string]string{"r": ".//sub/./../to"}, "to"},
		"directories, linked twice":     {map[string]string{"r": "l/m/x", "l": "sub", "sub/m": "DIR/sub/deep"}, "sub/deep/x"},
		"a directory that is not there": {map[string]string{"r": "sub/deep/new/../x"}, "sub/deep/x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.must(os.MkdirAll(p.in("sub/deep"), 0o755))
			p.file("to", "old", 0o640)
			for link, to := range c.links {
				p.link(link, to)
			}
			p.file(".draft", "of a process that was killed", 0o400)
			mode := os.FileMode(newMode)
			if c.want == "to" {
				mode = 0o640
			}
			for n := range 2 { // once more, when it is there
				f := p.open("r")
				if strings.HasPrefix(name, "a directory that is not") {
					p.must(os.MkdirAll(p.in("sub/deep/new"), 0o755))
				} else if got := f.Path(); got != p.in(c.want) {
					t.Errorf("its path is %s", got)
				}
				p.must(writeTo(f, fmt.Sprint("new ", n)))
				p.want(c.want, fmt.Sprint("new ", n), mode)
			}
			for link, to := range c.links {
				if got, err := os.Readlink(p.in(link)); err != nil || got != strings.Replace(to, "DIR", p.dir, 1) {
					t.Errorf("link %s: %s, %v", link, got, err)
				}
			}
			if _, err := os.Stat(p.in(filepath.Join(filepath.Dir(c.want), ".draft"))); err == nil {
				t.Error("the draft is left")
			}
		})
	}
}

// What cannot be opened keeps no run from starting: Write fails.
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

// 40 links are followed, and no more.
func TestOpen_followsSoManyLinks(t *testing.T) {
	p := newPlace(t)
	for n := range maxLinks + 1 {
		p.link(fmt.Sprint(n+1), fmt.Sprint(n))
	}
	p.must(writeTo(p.open(fmt.Sprint(maxLinks)), "x"))
	p.want("0", "x", newMode)
	if err := writeTo(p.open(fmt.Sprint(maxLinks+1)), "x"); err != unix.ELOOP {
		t.Errorf("one more: %v", err)
	}
}

func TestIsTrusted(t *testing.T) {
	us := uint32(os.Geteuid())
	for _, c := range []struct {
		link, dir uint32
		mode      uint32
		want      bool
	}{
		{us, 7, 0o777, true}, {7, 7, 0o1777, true}, {8, 7, 0o755, false}, {8, us, 0o755, false},
		{65534, 65534, 0o755, true}, {65534, 65534, 0o1777, false}, {65534, 65534, 0o775, false},
	} {
		var link, dir unix.Stat_t
		link.Uid, dir.Uid = c.link, c.dir
		dir.Mode |= unix.S_IFDIR
		for bit := range 12 {
			if c.mode&(1<<bit) != 0 {
				dir.Mode |= 1 << bit
			}
		}
		if got := isTrusted(link, dir); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// Reopen follows no link, in any place, but to a descriptor.
func TestReopen_followsNoLink(t *testing.T) {
	p := newPlace(t)
	p.must(os.Mkdir(p.in("dir"), 0o755))
	p.link("linked", "dir")
	p.link("r", "dir/r")
	for name, want := range map[string]error{"dir/r": nil, "new/r": unix.ENOENT, "linked/r": unix.ELOOP, "r": unix.ELOOP} {
		f := Reopen(p.in(name))
		if err := writeTo(f, name); err != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		f.Close()
	}
	p.want("dir/r", "dir/r", newMode)
	f := Reopen("/dev/stdout")
	defer f.Close()
	if f.Path() != "/dev/stdout" || f.stream < 0 {
		t.Errorf("standard output: %+v", f)
	}
}

// What another process inherits is the same destination.
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
				t.Errorf("%.9s: descriptor %d would be inherited by others: %v", name, fd, err)
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
		t.Errorf("none: %v, %v", f, err)
	}
	for _, text := range []string{"x", "1", "-1,-1,9,0,0,0,0", "-1,-1,-1,0,0,0,0"} {
		if _, err := Inherit(text, "/r"); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
