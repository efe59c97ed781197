package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// A line consists of head, the checksum in sumDigits hexadecimal digits, neck, the record, and a closing brace.
const (
	head      = `{"sum":"`
	sumDigits = 8
	neck      = `","record":`
)

// Overhead is the length of a line without the JSON form of its record, in bytes.
const Overhead = len(head) + sumDigits + len(neck) + len("}\n")

// encodeLine returns the line of a record, without its newline. The checksum is CRC-32C (RFC 3720). crc32.MakeTable
// computes the table of the checksum on its first call, so that processes that never need the table do not compute it.
func encodeLine(raw []byte) []byte {
	sum := crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf(nil, "%s%0*x%s%s}", head, sumDigits, sum, neck, raw)
}

// decodeLine returns the record in a line. ok is false if the record is not valid JSON, or if encodeLine would return a
// different line for that record.
func decodeLine(line []byte) (record json.RawMessage, ok bool) {
	start, end := len(head)+sumDigits+len(neck), len(line)-len("}")
	if end < start {
		return nil, false
	}
	raw := line[start:end:end]
	return raw, bytes.Equal(encodeLine(raw), line) && json.Valid(raw)
}

// parse returns the records in data and the offset after the last one. The bytes after that offset, if any, are what a
// crash has left of a last record. If these bytes contain a whole record, parse returns errDamaged. So the loss of a
// record before the last one is never overlooked.
func parse(data []byte) (records []json.RawMessage, end int64, err error) {
	for {
		line, _, whole := bytes.Cut(data[end:], []byte("\n"))
		raw, ok := decodeLine(line)
		if !whole || !ok {
			break
		}
		records = append(records, raw)
		end += int64(len(line)) + 1
	}
	// Search the whole line for a record, since the newline before the record may be damaged. The search never matches
	// text inside a record, because quotes in strings are escaped, and another brace follows a nested object.
	rest := data[end : bytes.LastIndexByte(data, '\n')+1]
	for i := bytes.Index(rest, []byte(head)); i >= 0; i = bytes.Index(rest, []byte(head)) {
		line, _, _ := bytes.Cut(rest[i:], []byte("\n"))
		if _, ok := decodeLine(line); ok {
			return nil, 0, fmt.Errorf("line %d: %w", len(records)+1, errDamaged)
		}
		rest = rest[i+1:]
	}
	return records, end, nil
}
