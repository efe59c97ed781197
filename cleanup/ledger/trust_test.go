package ledger

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// needRoot skips a test that cannot change the owner of a file.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "only root can change the owner of a file")
	}
}

func TestOpenDir_refusesUnsafeDirectories(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string) error
		err  string
	}{
		"a link in a directory that others may write to": {func(t *testing.T, path string) error {
			return errors.Join(os.Chmod(filepath.Dir(path), 0o777), os.Symlink(t.TempDir(), path))
		}, "a symbolic link, not a directory, which is not followed: group or others may write to "},
		"another user's link": {func(t *testing.T, path string) error {
			needRoot(t)
			return errors.Join(os.Symlink(t.TempDir(), path), os.Lchown(path, 12345, -1))
		}, "a symbolic link, not a directory, which is not followed: user 12345 owns the symbolic link "},
		"a link in another user's directory": {func(t *testing.T, path string) error {
			needRoot(t)
			return errors.Join(os.Symlink(t.TempDir(), path), os.Chown(filepath.Dir(path), 12345, -1))
		}, "a symbolic link, not a directory, which is not followed: user 12345 owns "},
		"a link to another user's link": {func(t *testing.T, path string) error {
			needRoot(t)
			return errors.Join(os.Symlink("other", path), os.Symlink(t.TempDir(), filepath.Dir(path)+"/other"),
				os.Lchown(filepath.Dir(path)+"/other", 12345, -1))
		}, "which is not followed: user 12345 owns the symbolic link "},
		"a link to nowhere": {func(_ *testing.T, path string) error {
			return os.Symlink("nowhere", path)
		}, "a symbolic link to a directory that does not exist"},
		"a link to itself": {func(_ *testing.T, path string) error {
			return os.Symlink(filepath.Base(path), path)
		}, "too many levels of symbolic links"},
		"a link to a file": {func(_ *testing.T, path string) error {
			return errors.Join(os.WriteFile(path+"-file", nil, 0o600), os.Symlink(path+"-file", path))
		}, "a regular file, not a directory"},
		"a link to a directory of all": {func(_ *testing.T, path string) error {
			return errors.Join(os.Mkdir(path+"-dir", 0o700), os.Chmod(path+"-dir", 0o777), os.Symlink(path+"-dir", path))
		}, "mode is 0777"},
		"a file": {func(_ *testing.T, path string) error {
			return os.WriteFile(path, nil, 0o600)
		}, "a regular file, not a directory"},
		"a FIFO": {func(_ *testing.T, path string) error {
			return unix.Mkfifo(path, 0o600)
		}, "a FIFO, not a directory"},
		"a group may write": {func(_ *testing.T, path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o770))
		}, "mode is 0770"},
		"others may write": {func(_ *testing.T, path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, fs.ModeSticky|0o702))
		}, "mode is 1702"},
		"another user owns it": {func(t *testing.T, path string) error {
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

// OpenDir follows a symbolic link that no other user can replace.
func TestOpenDir_followsLinks(t *testing.T) {
	for name, script := range map[string]string{
		"relative":                "mkdir -m 700 private private/x; ln -s private/x state",
		"absolute":                `mkdir -m 700 x; ln -s "$PWD/x" state`,
		"with a slash":            "mkdir -m 700 x; ln -s x/ state",
		"in a sticky directory":   "mkdir -m 700 x; chmod 1777 .; ln -s x state",
		"to a link":               "mkdir -m 700 x a a/b; ln -s a/b/link state; ln -s ../../x a/b/link",
		"in a linked directory":   "mkdir -m 700 x a a/b; ln -s a/b c; ln -s ../../x a/b/link; ln -s c/link state",
		"up from a linked parent": "mkdir -m 700 a a/b a/x x; ln -s a/b c; ln -s c/../x state; rmdir x",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := exec.Command("sh", "-ec", script)
			if c.Dir = dir; c.Run() != nil {
				t.Fatal("the script has failed")
			}
			d, err := MakeDir(dir + "/state")
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			l, err := d.Take(file)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := l.SetAside(Interrupted); err != nil { // opens the directory again
				t.Error(err)
			}
			if found, _ := os.ReadDir(dir + "/state"); len(found) != 1 || found[0].Name() != file+Interrupted {
				t.Errorf("the ledgers set aside are %v", found)
			}
		})
	}
}

// writeFile creates a ledger with one record and this mode, whatever the umask is.
func writeFile(path string, mode fs.FileMode) error {
	return errors.Join(os.WriteFile(path, lines("1"), 0o600), os.Chmod(path, mode))
}

// unsafeFiles maps names of tests to files that Open and Take refuse. err is a part of the error.
var unsafeFiles = map[string]struct {
	make func(t *testing.T, path string) error
	err  string
}{
	"a link": {func(t *testing.T, path string) error {
		return errors.Join(writeFile(path+"-target", 0o600), os.Symlink(path+"-target", path))
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
		t.Chdir(filepath.Dir(path)) // change to the directory, because the address of a socket is limited in length
		s, err := net.Listen("unix", filepath.Base(path))
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return err
	}, "a socket, not a regular file"},
	"a directory": {func(_ *testing.T, path string) error {
		return os.Mkdir(path, 0o700)
	}, "a directory, not a regular file"},
	"a group may write": {func(_ *testing.T, path string) error {
		return writeFile(path, 0o620)
	}, "mode is 0620"},
	"others may write": {func(_ *testing.T, path string) error {
		return writeFile(path, 0o602)
	}, "mode is 0602"},
	"another user owns it": {func(t *testing.T, path string) error {
		needRoot(t)
		return errors.Join(writeFile(path, 0o600), os.Chown(path, 12345, -1))
	}, "belongs to user 12345"},
	"two names": {func(_ *testing.T, path string) error {
		return errors.Join(writeFile(path, 0o600), os.Link(path, path+"-2"))
	}, "2 names"},
	"a huge file": {func(_ *testing.T, path string) error {
		return errors.Join(writeFile(path, 0o600), os.Truncate(path, 1<<30))
	}, "1073741824 bytes are more"},
}

func TestOpen_refusesUnsafeFiles(t *testing.T) {
	for name, c := range unsafeFiles {
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
			t.Errorf("%q was accepted as a file name", name)
		}
	}
}
