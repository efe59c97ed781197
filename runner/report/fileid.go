package report

import "golang.org/x/sys/unix"

// fileID identifies a file among those that exist at the same time. The zero value is no file.
type fileID struct {
	kind     uint32 // see kindOf
	dev, ino uint64
}

// fileIDOf returns the identity of a file. It returns zero for the zero value.
func fileIDOf(st unix.Stat_t) fileID {
	return fileID{kindOf(st), uint64(st.Dev), uint64(st.Ino)}
}

// kindOf returns the kind of a file: the S_IFMT bits of its mode.
func kindOf(st unix.Stat_t) uint32 { return uint32(st.Mode) & unix.S_IFMT }
