package ledger

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
)

const (
	// ext is the suffix of ledgers.
	ext = ".ledger"
	// maxName bounds the file name of a ledger, in bytes. It leaves room for the suffix of SetAside.
	maxName = 200
)

// FileName returns the file name for the name of a run, which may hold any bytes. Different runs have different file
// names; on a file system that ignores case, names that differ only in case share a file.
func FileName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	stem := cmp.Or(b.String(), "%") // no other name becomes "%"
	if len(stem+ext) > maxName {
		hash := fmt.Sprintf("~%x", sha256.Sum256([]byte(name))) // no short name has a tilde
		stem = stem[:maxName-len(hash+ext)] + hash
	}
	return stem + ext
}

// originalName returns the name that a ledger had before SetAside. It returns other names unchanged.
func originalName(name string) string {
	i := strings.LastIndex(name, ext+Interrupted)
	if i < 0 {
		return name
	}
	number, numbered := strings.CutPrefix(name[i+len(ext+Interrupted):], ".")
	if _, err := strconv.ParseUint(number, 10, 64); numbered && err == nil || !numbered && number == "" {
		return name[:i+len(ext)]
	}
	return name
}
