package eintr

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// RetryValue repeats a call after EINTR, and returns every other result.
func TestRetry(t *testing.T) {
	for _, want := range []error{nil, unix.EIO, unix.EAGAIN} {
		results := []error{unix.EINTR, unix.EINTR, want}
		calls := 0
		value, err := RetryValue(func() (int, error) {
			calls++
			return calls, results[calls-1]
		})
		if value != 3 || err != want {
			t.Errorf("call %d returned %v, want call 3 with %v", value, err, want)
		}
	}
}

func TestOpenat_closesOnExec(t *testing.T) {
	fd, err := Openat(unix.AT_FDCWD, t.TempDir(), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %d, %v", flags, err)
	}
}

func TestLstatat_doesNotFollowALink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	if st, err := Lstatat(unix.AT_FDCWD, link); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
}
