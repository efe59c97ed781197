// Package eintr repeats system calls that a signal has interrupted (EINTR, signal(7)). It decides nothing else: every
// other error goes to the caller.
package eintr

import "golang.org/x/sys/unix"

// Retry calls the function until its error is not EINTR, and returns that error.
func Retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// RetryValue does the same as Retry for a function that also returns a value.
func RetryValue[T any](call func() (T, error)) (value T, err error) {
	err = Retry(func() (err error) {
		value, err = call()
		return err
	})
	return value, err
}

// Openat opens a file in a directory, as openat(2) does with O_CLOEXEC.
func Openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	return RetryValue(func() (int, error) { return unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode) })
}

// Fstat returns the status of an open file (fstat(2)).
func Fstat(fd int) (status unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstat(fd, &status) })
	return status, err
}

// Lstatat returns the status of a file in a directory. It does not follow a link (fstatat(2), AT_SYMLINK_NOFOLLOW).
func Lstatat(dir int, name string) (status unix.Stat_t, err error) {
	err = Retry(func() error { return unix.Fstatat(dir, name, &status, unix.AT_SYMLINK_NOFOLLOW) })
	return status, err
}
