package cleanup

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is a string whose JSON form keeps every byte. That form is a JSON string for valid UTF-8, and otherwise
// {"base64":"…"}. Arguments, environment and paths may contain any bytes, and encoding/json replaces those that are not
// UTF-8.
type Text string

// Texts converts strings for JSON. It returns nil if there are none.
func Texts(from []string) []Text { return convert[Text](from) }

// Strings converts texts back to strings. It returns nil if there are none.
func Strings(from []Text) []string { return convert[string](from) }

func convert[To, From ~string](from []From) (to []To) {
	for _, s := range from {
		to = append(to, To(s))
	}
	return to
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return EncodeJSON(string(t))
	}
	return EncodeJSON(map[string][]byte{"base64": []byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler. It accepts only the two forms of Text, and refuses a string that
// cannot be decoded exactly.
func (t *Text) UnmarshalJSON(data []byte) error {
	var plain *string
	if json.Unmarshal(data, &plain) == nil && plain != nil {
		if !isExact(data) {
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

// Size returns the length of the JSON form in bytes, with its quotes or braces.
func (t Text) Size() int {
	form, _ := t.MarshalJSON() // every text has a JSON form
	return len(form)
}

// Cut returns the beginning of a text: at most n bytes, and only whole characters. If the text is not UTF-8, or its
// first character is longer than n bytes, the result may end within a character.
func (t Text) Cut(n int) Text {
	if len(t) <= n {
		return t
	}
	for back := range utf8.UTFMax {
		if back < n && utf8.RuneStart(t[n-back]) {
			return t[:n-back]
		}
	}
	return t[:n] // not UTF-8, or shorter than the first character
}

// isExact reports whether decoding a valid JSON text keeps every character of its strings. encoding/json replaces bytes
// that are not UTF-8, and escaped surrogates without their other half, by U+FFFD. The escape "\ufffd" itself is exact.
func isExact(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return true
		}
		text = text[i:]
		next := len(`\\`) // digits follow \u, and they contain no backslash
		if half := unescape(text); utf16.IsSurrogate(half) {
			if utf16.DecodeRune(half, unescape(text[len(`\ud83d`):])) == utf8.RuneError {
				return false
			}
			next = len(`\ud83d\ude00`)
		}
		text = text[next:]
	}
}

// unescape returns the rune of the \u escape at the beginning of a valid JSON text; 0 if the text begins otherwise.
func unescape(text []byte) rune {
	if !bytes.HasPrefix(text, []byte(`\u`)) {
		return 0
	}
	r, _ := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(r)
}
