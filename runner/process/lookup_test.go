package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for file, mode := range map[string]os.FileMode{
		"good/prog": 0o755, "bad/prog": 0o644, "bad/only": 0o644, "here": 0o755,
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "dirs/prog"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, want string
		err              error
	}{
		{"prog", "good", "good/prog", nil},
		{"prog", "nowhere:bad:dirs:good", "good/prog", nil}, // files that cannot be executed are skipped
		{"only", "bad:good", "", unix.EACCES},
		{"prog", "dirs", "", unix.ENOENT},
		{"none", "good:bad", "", unix.ENOENT},
		{"here", "good:", "./here", nil}, // an empty element is the current directory
		{"here", "", "./here", nil},
		{"", "good", "", unix.ENOENT},
		{"./bad/prog", "good", "./bad/prog", nil}, // execve(2) returns the error
	} {
		got, err := LookPath(c.name, c.path)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("LookPath(%q, %q) = %q, %v; want %q, %v", c.name, c.path, got, err, c.want, c.err)
		}
	}
}

func TestSearchPath_withoutPATH(t *testing.T) {
	for want, env := range map[string][]string{"/bin:/usr/bin": {"A=1"}, "": {"PATH="}, "/x": {"PATH=/x"}} {
		if got := SearchPath(env); got != want {
			t.Errorf("%q: %q, want %q", env, got, want)
		}
	}
}
