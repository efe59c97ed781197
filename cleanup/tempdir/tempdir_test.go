package tempdir

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTrusted(t *testing.T) {
	mine, open := t.TempDir(), t.TempDir()
	if err := unix.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", mine)
	t.Setenv("TMPDIR", open)
	if dirs := slices.Collect(Trusted()); dirs[0] != mine || slices.Contains(dirs, open) {
		t.Errorf("the directories are %q", dirs)
	}
	t.Setenv("TMPDIR", "relative")
	if dirs := slices.Collect(Trusted()); slices.Contains(dirs, "relative") {
		t.Errorf("the directories are %q", dirs)
	}
}

// A directory in which another user can replace files is not trusted.
func TestIsTrusted_directory(t *testing.T) {
	dir := t.TempDir()
	for mode, want := range map[uint32]bool{0o700: true, 0o755: true, 0o777: false, 0o770: false, 0o1777: true} {
		if err := unix.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if isTrusted(dir) != want {
			t.Errorf("mode %o: trusted: %t", mode, !want)
		}
	}
	if os.Geteuid() == 0 {
		_ = unix.Chmod(dir, 0o700)
		if unix.Chown(dir, 12345, -1) == nil && isTrusted(dir) {
			t.Error("a directory of another user is trusted")
		}
	}
	if isTrusted(dir + "/none") {
		t.Error("a directory that does not exist is trusted")
	}
}
