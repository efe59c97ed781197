package ledger

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// Overhead is the size of a line in a ledger without its record, in bytes.
const Overhead = len(head) + 8 + len(neck) + len("}\n")

// Size returns the size of the JSON form of the text (MarshalJSON), quotes included, in bytes.
func (t Text) Size() int {
	if !utf8.ValidString(string(t)) {
		return len(`{"base64":""}`) + base64.StdEncoding.EncodedLen(len(t))
	}
	n := len(`""`) + len(t)
	for i := range len(t) {
		switch c := t[i]; {
		case c == '"' || c == '\\' || c == '\b' || c == '\f' || c == '\n' || c == '\r' || c == '\t':
			n += len(`\n`) - 1
		case c < ' ':
			n += len(`\u0001`) - 1
		}
	}
	// encoding/json escapes these two as well, since JavaScript takes them for ends of lines.
	return n + 3*(strings.Count(string(t), "\u2028")+strings.Count(string(t), "\u2029"))
}
