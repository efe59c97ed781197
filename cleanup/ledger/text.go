package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Text is a string that goes through JSON byte for byte: as a JSON string where it is UTF-8, else as
// {"base64":"…"}. Arguments, environment and paths are any bytes, and encoding/json replaces what is not UTF-8.
type Text string

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return encode(string(t))
	}
	return encode(map[string][]byte{"base64": []byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler. It takes nothing but the two forms.
func (t *Text) UnmarshalJSON(data []byte) error {
	var plain *string
	if json.Unmarshal(data, &plain) == nil && plain != nil {
		// Bytes that are not UTF-8 and lone surrogates have been replaced.
		if strings.Count(*plain, "\ufffd") != bytes.Count(data, []byte("\ufffd")) {
			return errors.New("the text is not UTF-8")
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

// encode is json.Marshal that leaves <, > and & readable: commands are full of them.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
