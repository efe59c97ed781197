package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// Interrupted is the suffix of ledgers that are set aside because a command in them was interrupted, or not started.
const Interrupted = ".interrupted"

// errOtherFile means that another process has removed, renamed or replaced the file of a ledger.
var errOtherFile = errors.New("the file with that name is gone, or another one")

// Remove unlinks the file. It does nothing in memory, or if the name is gone or belongs to another file.
func (l *Ledger) Remove() error {
	err := l.withDir(func(d *Dir, file string) error { return unix.Unlinkat(d.fd, file, 0) })
	if err == errOtherFile || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return l.failed("removing", err)
}

// SetAside appends a suffix to the file's name. If the new name is taken, SetAside also appends a number. For a ledger
// in memory it does nothing.
func (l *Ledger) SetAside(suffix string) error {
	err := l.withDir(func(d *Dir, file string) error {
		// No other process can take the free name before renameat(2). No other user may write to the directory, and
		// only the process that holds the lock of a file uses names that begin with the name of that file.
		free := file + suffix
		_, err := eintr.Lstatat(d.fd, free)
		for n := 1; err == nil; n++ {
			free = fmt.Sprintf("%s%s.%d", file, suffix, n)
			_, err = eintr.Lstatat(d.fd, free)
		}
		if err == unix.ENOENT {
			err = unix.Renameat(d.fd, file, d.fd, free)
		}
		if err != nil {
			return err
		}
		l.path = filepath.Join(d.path, free)
		return d.sync()
	})
	return l.failed("setting aside", err)
}

// IsSetAside reports whether the file has a name that SetAside gives with the suffix Interrupted.
func (l *Ledger) IsSetAside() bool {
	file := filepath.Base(l.path)
	return originalName(file) != file
}

// TakeBack undoes SetAside: other processes find the file and its lock by the original name again. It does nothing if
// the file was not set aside. It fails with ErrAlive if the lock of the original name is taken, and with errNameTaken
// if another ledger that contains records has that name.
func (l *Ledger) TakeBack() error {
	if !l.IsSetAside() {
		return nil
	}
	err := l.withDir(func(d *Dir, file string) error {
		name := originalName(file)
		// To lock a name, lock the file with that name. Take creates an empty file if there is none.
		holder, err := d.Take(name)
		if err != nil {
			return err
		}
		defer holder.Close()
		if st, err := eintr.Fstat(holder.fd); err != nil {
			return err
		} else if st.Size > 0 {
			return fmt.Errorf("%s: %w", name, errNameTaken)
		}
		if err := unix.Renameat(d.fd, file, d.fd, name); err != nil {
			return errors.Join(err, holder.Remove())
		}
		l.path = filepath.Join(d.path, name)
		return d.sync()
	})
	return l.failed("taking back", err)
}

// withDir calls do with the directory of the file and the file's name. It fails with errOtherFile if the name does not
// belong to this file. It opens the directory anew, because a process that inherited the ledger has only the path.
// For a ledger in memory withDir does nothing.
func (l *Ledger) withDir(do func(d *Dir, file string) error) error {
	if l.path == "" {
		return nil
	}
	dir, file := filepath.Split(l.path)
	d, err := OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	current, err := d.isNameOf(file, l.fd)
	if err == nil && !current {
		err = errOtherFile
	}
	if err != nil {
		return err
	}
	return do(d, file)
}
