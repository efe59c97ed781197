package cleanup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is a string that goes through JSON byte for byte: as a JSON string where it is UTF-8, else as
// {"base64":"…"}. Arguments, environment and paths are any bytes, and encoding/json replaces what is not UTF-8.
type Text string

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return EncodeJSON(string(t))
	}
	return EncodeJSON(map[string][]byte{"base64": []byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler. It takes nothing but the two forms.
func (t *Text) UnmarshalJSON(data []byte) error {
	var plain *string
	if json.Unmarshal(data, &plain) == nil && plain != nil {
		if !Exact(data) {
			return errors.New(`the text is not UTF-8, or has half of a surrogate pair (send {"base64":"…"})`)
		}
		*t = Text(*plain)
		return nil
	}
	var form map[string]*string
	if err := json.Unmarshal(data, &form); err != nil || len(form) != 1 || form["base64"] == nil {
		return errors.New(`a text is a string or {"base64":"…"}`)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(*form["base64"])
	if err != nil {
		return fmt.Errorf("the text is not base64: %w", err)
	}
	*t = Text(raw)
	return nil
}

// Exact reports whether the strings of a valid JSON text are decoded as they stand there. encoding/json replaces two things by
// U+FFFD: bytes that are not UTF-8, and escaped surrogates without their other half. "\ufffd" itself is a valid way to write
// U+FFFD.
func Exact(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	const escape = len(`\ud83d`)
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return true
		}
		text = text[i:]
		if text[1] != 'u' {
			text = text[2:] // \\ too
			continue
		}
		half := escaped(text)
		text = text[escape:]
		if !utf16.IsSurrogate(half) {
			continue
		}
		if !bytes.HasPrefix(text, []byte(`\u`)) || utf16.DecodeRune(half, escaped(text)) == utf8.RuneError {
			return false
		}
		text = text[escape:]
	}
}

// escaped is the rune of a \u escape at the beginning of a text.
func escaped(text []byte) rune {
	r, _ := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(r)
}

// Size is how many bytes the JSON form of the text takes (MarshalJSON), quotes included.
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
	// These two are escaped as well: JavaScript takes them for ends of lines.
	return n + 3*(strings.Count(string(t), "\u2028")+strings.Count(string(t), "\u2029"))
}
