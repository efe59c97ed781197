// Package tempdir finds directories for the temporary files of a run.
package tempdir

import (
	"iter"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Trusted lists those of the usual directories in which only graceful's user and root can rename or replace the files
// that graceful creates. Some may not be writable. Directories in memory come first, because they are empty after a
// restart, and because a container with a read-only root file system still has /dev/shm.
func Trusted() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run", "/dev/shm", os.Getenv("TMPDIR"), "/tmp"} {
			if filepath.IsAbs(dir) && isTrusted(dir) && !yield(dir) {
				return
			}
		}
	}
}

func isTrusted(dir string) bool {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	owned := st.Uid == 0 || int(st.Uid) == os.Geteuid()
	return err == nil && owned && (uint32(st.Mode)&0o022 == 0 || uint32(st.Mode)&unix.S_ISVTX != 0)
}
