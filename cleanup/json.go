package cleanup

import (
	"bytes"
	"encoding/json"
)

// EncodeJSON returns the JSON form of v. Unlike json.Marshal it does not escape <, > and &, which are frequent in
// commands.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// EncodeIndentedJSON returns the JSON form of v for people, indented and with a final newline. It escapes as
// EncodeJSON.
func EncodeIndentedJSON(v any) ([]byte, error) {
	text, err := EncodeJSON(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
