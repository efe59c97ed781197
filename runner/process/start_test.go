package process

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOutOfResources(t *testing.T) {
	for err, want := range map[error]bool{
		unix.EAGAIN: true, unix.ENOMEM: true, unix.EMFILE: true, unix.ENFILE: true,
		unix.ENOENT: false, unix.EACCES: false, errors.New("other"): false,
		&os.PathError{Op: "fork", Err: unix.EAGAIN}: true,
	} {
		if got := OutOfResources(err); got != want {
			t.Errorf("OutOfResources(%v) is %t", err, got)
		}
	}
}
