package report

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The target cannot redirect the report, because Write uses the directory that Open has found. If that directory was
// removed, Write uses the present directory at its path, unless the path contains a link.
func TestWrite_pathHasChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(place)
		want   string
		err    error
	}{
		"the file is a link":      {func(p place) { p.link("dir/r", "../victim") }, "dir/r", nil},
		"the file is a FIFO":      {func(p place) { p.must(unix.Mkfifo(p.in("dir/r"), 0o600)) }, "dir/r", nil},
		"the file is a hard link": {func(p place) { p.must(os.Link(p.in("victim"), p.in("dir/r"))) }, "dir/r", nil},
		"the directory is a link": {func(p place) {
			p.must(os.Rename(p.in("dir"), p.in("moved")))
			p.link("dir", "hostile")
		}, "moved/r", nil},
		"the directory is another": {func(p place) {
			p.must(os.Rename(p.in("dir"), p.in("moved")))
			p.must(os.Mkdir(p.in("dir"), 0o755))
		}, "moved/r", nil},
		"the directory was created again": {func(p place) {
			p.must(os.Remove(p.in("dir")))
			p.must(os.Mkdir(p.in("dir"), 0o755))
		}, "dir/r", nil},
		"the directory was replaced by a link": {func(p place) {
			p.must(os.Remove(p.in("dir")))
			p.link("dir", "hostile")
		}, "", unix.ENOTDIR},
		"the directory was removed": {func(p place) { p.must(os.Remove(p.in("dir"))) }, "", unix.ENOENT},
		"the file is a directory":   {func(p place) { p.must(os.Mkdir(p.in("dir/r"), 0o755)) }, "", unix.EISDIR},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.must(os.Mkdir(p.in("dir"), 0o755))
			p.must(os.Mkdir(p.in("hostile"), 0o755))
			p.file("victim", "kept", 0o600)
			f := p.open("dir/r")
			c.change(p)
			if err := writeTo(f, "new"); !errors.Is(err, c.err) || (err != nil) != (c.err != nil) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if c.want != "" {
				p.want(c.want, "new", newMode)
			}
			p.want("victim", "kept", 0o600)
			if names, err := os.ReadDir(p.in("hostile")); err != nil || len(names) > 0 {
				t.Errorf("hostile has %v, %v", names, err)
			}
		})
	}
}

// Write enters directories that the target has created, but follows no links to directories.
func TestWrite_intoNewDirectories(t *testing.T) {
	p := newPlace(t)
	f, g := p.open("a/b/r"), p.open("c/r")
	p.must(os.MkdirAll(p.in("a/b"), 0o755))
	p.must(writeTo(f, "new"))
	p.want("a/b/r", "new", newMode)
	p.link("c", "a")
	if err := writeTo(g, "new"); err != unix.ENOTDIR {
		t.Errorf("below a link: %v", err)
	}
}

// The mode of a report does not depend on the umask.
func TestWrite_mode(t *testing.T) {
	p := newPlace(t)
	for _, umask := range []int{0, 0o77, 0o777} {
		old := unix.Umask(umask)
		err := writeTo(p.open("r"), "new")
		p.file("kept", "old", 0o664)
		err1 := writeTo(p.open("kept"), "new")
		unix.Umask(old)
		p.must(errors.Join(err, err1))
		p.want("r", "new", newMode)
		p.want("kept", "new", 0o664)
		p.must(os.Remove(p.in("r")))
	}
}

// readFIFO opens a FIFO for reading, without waiting for a writer, until the end of the test.
func readFIFO(p place, name string) *os.File {
	p.Helper()
	r, err := os.OpenFile(p.in(name), os.O_RDONLY|unix.O_NONBLOCK, 0)
	p.must(err)
	p.Cleanup(func() { r.Close() })
	return r
}

// wantFrom fails the test unless one read from r returns exactly this text.
func wantFrom(p place, r *os.File, want string) {
	p.Helper()
	got := make([]byte, 100)
	n, _ := unix.Read(int(r.Fd()), got)
	if string(got[:max(n, 0)]) != want {
		p.Errorf("the reader got %q", got[:max(n, 0)])
	}
}

// Open opens a FIFO that has a reader. Write opens any other FIFO, unless another file has its name by then.
func TestWrite_toAFIFO(t *testing.T) {
	p := newPlace(t)
	p.must(unix.Mkfifo(p.in("fifo"), 0o600))
	late, gone := p.open("fifo"), p.open("fifo")
	r := readFIFO(p, "fifo")
	f := p.open("fifo")
	p.must(writeTo(late, "late"))
	wantFrom(p, r, "late")
	p.must(os.Rename(p.in("fifo"), p.in("moved")))
	p.file("fifo", "kept", 0o644)
	p.must(writeTo(f, "new"))
	wantFrom(p, r, "new")
	if err := writeTo(gone, "x"); err != errReplaced {
		t.Errorf("another file: %v", err)
	}
	p.want("fifo", "kept", 0o644)
	p.must(os.Remove(p.in("fifo")))
	p.link("fifo", "moved")
	if err := writeTo(gone, "x"); err != errReplaced {
		t.Errorf("a link: %v", err)
	}
	wantFrom(p, r, "")
}
