package ledger

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unsafeText is what UnsafeParents finds, one a line, with dir as $DIR.
func unsafeText(t *testing.T, path, dir string) string {
	t.Helper()
	unsafe, err := UnsafeParents(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, parent := range unsafe {
		lines = append(lines, strings.ReplaceAll(parent.Error(), dir, "$DIR"))
	}
	return strings.Join(lines, "\n")
}

// A directory or a link on the way that lets another user replace the state directory is found, and no other. What the
// hint says makes it safe.
func TestUnsafeParents(t *testing.T) {
	us := strconv.Itoa(os.Geteuid())
	writable := func(name, mode string) string {
		return "group or others may write to $DIR/" + name + ", its owner is user " + us + ", its mode is " + mode
	}
	anothers := func(name, mode string) string { return "user 12345 owns $DIR/" + name + ", its mode is " + mode }
	for name, c := range map[string]struct {
		root bool   // only root can make it
		make string // a shell script, in $DIR
		path string // of the state directory; "": a/state
		want string
	}{
		"ours alone":           {make: "mkdir -m 700 -p a/state"},
		"that others may read": {make: "mkdir a; chmod 755 a; mkdir a/state"},
		"sticky, everybody's":  {make: "mkdir -p a/state; chmod 1777 a"},
		"sticky, the group's":  {make: "mkdir -p a/state; chmod 1775 a"},
		"everybody's":          {make: "mkdir -p a/state; chmod 777 a", want: writable("a", "0777")},
		"others'":              {make: "mkdir -p a/state; chmod 702 a", want: writable("a", "0702")},
		"the group's":          {make: "mkdir -p a/state; chmod 2775 a", want: writable("a", "2775")},
		"one further up": {
			make: "mkdir -p a/b/c/state; chmod 777 a", path: "a/b/c/state", want: writable("a", "0777"),
		},
		"the directory itself": {make: "mkdir -p a/state; chmod 777 a/state"},
		"another's":            {root: true, make: "mkdir -p a/state; chown 12345 a", want: anothers("a", "0755")},
		"another's, sticky": {
			root: true, make: "mkdir -p a/state; chown 12345 a; chmod 1777 a", want: anothers("a", "1777"),
		},
		"another's, everybody's": {
			root: true, make: "mkdir -p a/state; chown 12345 a; chmod 777 a", want: anothers("a", "0777"),
		},
		"two": {
			root: true, make: "mkdir -p a/b/state; chown 12345 a; chmod 770 a/b", path: "a/b/state",
			want: anothers("a", "0755") + "\n" + writable("a/b", "0770"),
		},
		"a link":           {make: "mkdir -p b/state; ln -s b a"},
		"an absolute link": {make: "mkdir -p b/state; ln -s $DIR/b a"},
		"another's link": {
			root: true, make: "mkdir -p b/state; ln -s b a; chown -h 12345 a",
			want: "user 12345 owns the symbolic link $DIR/a",
		},
		"a link into everybody's": {
			make: "mkdir -p b/c/state; chmod 777 b; ln -s b/c a", want: writable("b", "0777"),
		},
		"an absolute link into it": {
			make: "mkdir -p b/c/state; chmod 777 b; ln -s $DIR/b/c a", want: writable("b", "0777"),
		},
		"a link through everybody's": {
			make: "mkdir -p b c/state; chmod 777 b; ln -s b/../c a", want: writable("b", "0777"),
		},
		"a link in everybody's": {
			make: "mkdir -p b/c d/state; chmod 777 b; ln -s ../d b/a", path: "b/a/state", want: writable("b", "0777"),
		},
		"a link to a link": {
			make: "mkdir -p b/c/state; chmod 777 b; ln -s b/c d; ln -s ./d/ a", want: writable("b", "0777"),
		},
		"a link and one back": {
			make: "mkdir -p b/c d/state; ln -s ../../d b/c/back; ln -s b/c a", path: "a/back/state",
		},
		"a detour, which Abs takes out": {make: "mkdir -p a/state b; chmod 777 b", path: "b/../a//./state"},
		"one that is not on the way":    {make: "mkdir -p a/state b; chmod 777 b; ln -s a/state state"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root {
				needRoot(t)
			}
			dir := t.TempDir()
			t.Chdir(dir)
			if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is
				t.Fatal(err)
			}
			script := "umask 022; " + strings.ReplaceAll(c.make, "$DIR", dir)
			if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			path := c.path
			if path == "" {
				path = "a/state"
			}
			for _, path := range []string{path, dir + "/" + path, path + "/"} {
				if got := unsafeText(t, path, dir); got != c.want {
					t.Errorf("%s: found\n%s\nwant\n%s", path, got, c.want)
				}
			}
			unsafe, _ := UnsafeParents(path)
			for _, parent := range unsafe {
				for command := range strings.SplitSeq(parent.Hint(), ", ") {
					if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
						t.Errorf("%s: %v: %s", command, err, out)
					}
				}
			}
			if got := unsafeText(t, path, dir); got != "" {
				t.Errorf("the hints have left\n%s", got)
			}
		})
	}
}

// Where a state directory usually is there is nothing to warn of.
func TestUsualParentsAreSafe(t *testing.T) {
	for _, place := range []string{"/var/lib", "/run", "/tmp"} {
		if unix.Access(place, unix.W_OK) != nil {
			continue
		}
		dir, err := os.MkdirTemp(place, "graceful-test-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if got := unsafeText(t, filepath.Join(dir, "state"), dir); got != "" {
			t.Errorf("%s: %s", dir, got)
		}
	}
}

// What was found before the path ended is told, too.
func TestParentsThatAreMissing(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, err := range []error{
		os.Mkdir("a", 0o700), os.Chmod("a", 0o777), os.Symlink("b", "c"), os.Symlink("c", "b"),
		os.WriteFile("file", nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]error{
		"a/b/state": fs.ErrNotExist, "a/b/c/state": fs.ErrNotExist, "b/state": unix.ELOOP, "file/b/state": unix.ENOTDIR,
	} {
		unsafe, err := UnsafeParents(path)
		if !errors.Is(err, want) || (len(unsafe) == 1) != strings.HasPrefix(path, "a/") {
			t.Errorf("%s: %v, error %v, want %v", path, unsafe, err, want)
		}
	}
	if unsafe, err := UnsafeParents("/"); len(unsafe) > 0 || err != nil {
		t.Errorf("the root: %v, %v", unsafe, err)
	}
}
