package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// lineReader splits the requests of a connection into lines.
type lineReader struct {
	from io.Reader
	// reserve changes the shared memory of large requests by a number of bytes. It reports whether it has done so; it
	// never refuses to release memory.
	reserve  func(bytes int) bool
	buf      []byte // what was read and not consumed
	used     int    // length of the last line in buf
	reserved int    // shared memory that buf has, in bytes
}

var (
	errNoMemory  = errors.New("too many large requests at once")
	errTooLong   = fmt.Errorf("the request has more than %d bytes", MaxRequest)
	errTruncated = errors.New("the request is cut off: it ends with a newline")
	errTimeout   = fmt.Errorf("no whole request has come in %v", requestTime)
)

// line returns the next line without its newline. The line is valid until the next call. The error is io.EOF if there
// is no further line.
func (r *lineReader) line() ([]byte, error) {
	const firstSize = 1024 // bytes
	r.buf, r.used = append(r.buf[:0], r.buf[r.used:]...), 0
	for seen := 0; ; {
		if i := bytes.IndexByte(r.buf[seen:], '\n'); i >= 0 {
			r.used = seen + i + 1
			return r.buf[:r.used-1], nil
		}
		seen = len(r.buf)
		if seen >= MaxRequest {
			return nil, errTooLong
		}
		if seen == cap(r.buf) {
			size := min(max(2*seen, firstSize), MaxRequest)
			if more := size - seen; size > smallRequest {
				if !r.reserve(more) {
					return nil, errNoMemory
				}
				r.reserved += more
			}
			r.buf = append(make([]byte, 0, size), r.buf...)
		}
		n, err := r.from.Read(r.buf[seen:min(cap(r.buf), MaxRequest)])
		r.buf = r.buf[:seen+n]
		switch {
		case n > 0:
		case err == io.EOF && seen > 0:
			return nil, errTruncated
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errTimeout
		case err != nil:
			return nil, err
		}
	}
}

// release frees the shared memory of a large request after its answer. The last line becomes invalid.
func (r *lineReader) release() {
	if r.reserved > 0 {
		r.reserve(-r.reserved)
		r.buf, r.used, r.reserved = slices.Clone(r.buf[r.used:]), 0, 0
	}
}
