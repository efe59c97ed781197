package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unsafeText returns the result of UnsafeParents, one parent per line, with $DIR for dir.
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

// parentCase is a state directory with its parents, and the unsafe parents that UnsafeParents finds.
type parentCase struct {
	root bool   // only root can run the script
	make string // a shell script that creates the path in $DIR
	path string // the state directory; "": a/state
	want string // see unsafeText
}

// othersMayWrite returns the error about a directory with an unsafe mode.
func othersMayWrite(name, mode string) string {
	return fmt.Sprintf("group or others may write to $DIR/%s, its owner is user %d, its mode is %s",
		name, os.Geteuid(), mode)
}

// otherOwner returns the error about a directory of another user.
func otherOwner(name, mode string) string {
	return "user 12345 owns $DIR/" + name + ", its mode is " + mode
}

var parentCases = map[string]parentCase{
	"mode 0700":                   {make: "mkdir -m 700 -p a/state"},
	"others may read":             {make: "mkdir a; chmod 755 a; mkdir a/state"},
	"sticky, others may write":    {make: "mkdir -p a/state; chmod 1777 a"},
	"sticky, the group may write": {make: "mkdir -p a/state; chmod 1775 a"},
	"all may write":               {make: "mkdir -p a/state; chmod 777 a", want: othersMayWrite("a", "0777")},
	"others may write":            {make: "mkdir -p a/state; chmod 702 a", want: othersMayWrite("a", "0702")},
	"the group may write":         {make: "mkdir -p a/state; chmod 2775 a", want: othersMayWrite("a", "2775")},
	"further up": {
		make: "mkdir -p a/b/c/state; chmod 777 a", path: "a/b/c/state", want: othersMayWrite("a", "0777"),
	},
	"the directory itself": {make: "mkdir -p a/state; chmod 777 a/state"},
	"another owner":        {root: true, make: "mkdir -p a/state; chown 12345 a", want: otherOwner("a", "0755")},
	"another owner, sticky": {
		root: true, make: "mkdir -p a/state; chown 12345 a; chmod 1777 a", want: otherOwner("a", "1777"),
	},
	"another owner, all may write": {
		root: true, make: "mkdir -p a/state; chown 12345 a; chmod 777 a", want: otherOwner("a", "0777"),
	},
	"two parents": {
		root: true, make: "mkdir -p a/b/state; chown 12345 a; chmod 770 a/b", path: "a/b/state",
		want: otherOwner("a", "0755") + "\n" + othersMayWrite("a/b", "0770"),
	},
	"a link":           {make: "mkdir -p b/state; ln -s b a"},
	"an absolute link": {make: "mkdir -p b/state; ln -s $DIR/b a"},
	"a link with another owner": {
		root: true, make: "mkdir -p b/state; ln -s b a; chown -h 12345 a",
		want: "user 12345 owns the symbolic link $DIR/a",
	},
	"a link into an unsafe directory": {
		make: "mkdir -p b/c/state; chmod 777 b; ln -s b/c a", want: othersMayWrite("b", "0777"),
	},
	"an absolute link into one": {
		make: "mkdir -p b/c/state; chmod 777 b; ln -s $DIR/b/c a", want: othersMayWrite("b", "0777"),
	},
	"a link through one": {
		make: "mkdir -p b c/state; chmod 777 b; ln -s b/../c a", want: othersMayWrite("b", "0777"),
	},
	"a link in one": {
		make: "mkdir -p b/c d/state; chmod 777 b; ln -s ../d b/a", path: "b/a/state", want: othersMayWrite("b", "0777"),
	},
	"a link to a link": {
		make: "mkdir -p b/c/state; chmod 777 b; ln -s b/c d; ln -s ./d/ a", want: othersMayWrite("b", "0777"),
	},
	"a link and one back": {
		make: "mkdir -p b/c d/state; ln -s ../../d b/c/back; ln -s b/c a", path: "a/back/state",
	},
	"a link to the directory": {
		make: "mkdir -p a b/c/x; chmod 777 b; ln -s ../b/c/x a/state", want: othersMayWrite("b", "0777"),
	},
	"a link with another owner to it": {
		root: true, make: "mkdir -p a b/x; ln -s ../b/x a/state; chown -h 12345 a/state",
		want: "user 12345 owns the symbolic link $DIR/a/state",
	},
	"a detour, which filepath.Abs removes": {make: "mkdir -p a/state b; chmod 777 b", path: "b/../a//./state"},
	"a directory off the way":              {make: "mkdir -p a/state b; chmod 777 b; ln -s a/state state"},
}

// UnsafeParents finds exactly the directories and links that let another user replace the state directory. The commands
// of Hint make them safe.
func TestUnsafeParents(t *testing.T) {
	for name, c := range parentCases {
		t.Run(name, func(t *testing.T) {
			if c.root {
				needRoot(t)
			}
			dir := t.TempDir()
			t.Chdir(dir)
			if err := os.Chmod(dir, 0o755); err != nil { // independent of the umask
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
				t.Errorf("after the commands of the hints it finds\n%s", got)
			}
		})
	}
}

// The usual places of state directories are safe.
func TestUnsafeParents_usualPlaces(t *testing.T) {
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

// If UnsafeParents cannot follow the path to its end, the list contains the unsafe parents before the failure.
func TestUnsafeParents_missingElement(t *testing.T) {
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
