package cleanup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// EncodeJSON returns the JSON form of v. Unlike json.Marshal it does not escape <, > and &, which are frequent in
// commands, but it escapes what EscapeJSON escapes.
func EncodeJSON(v any) ([]byte, error) {
	text, err := encode(v, "")
	return bytes.TrimSuffix(text, []byte("\n")), err
}

// EncodeIndentedJSON returns the JSON form of v for people, indented and with a final newline. It escapes like
// EncodeJSON.
func EncodeIndentedJSON(v any) ([]byte, error) { return encode(v, "  ") }

// encode returns the JSON form of v with a final newline.
func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return EscapeJSON(b.Bytes()), err
}

// EscapeJSON escapes the characters of a JSON text that control a terminal or the direction of text. encoding/json has
// escaped those below U+0020, but only two of those from U+007F on (U+2028 and U+2029).
func EscapeJSON(text []byte) []byte {
	controls := func(r rune) bool { return r >= 0x7f && unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) }
	if bytes.IndexFunc(text, controls) < 0 {
		return text
	}
	var b []byte
	for _, r := range string(text) {
		switch first, second := utf16.EncodeRune(r); {
		case !controls(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			b = fmt.Appendf(b, `\u%04x\u%04x`, first, second)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

// entryJSON is the only JSON form of an entry. It holds the registration of the command, not the outcome.
type entryJSON struct {
	When    When          `json:"when"`
	Text    Text          `json:"text"`
	Args    []Text        `json:"args"`
	Limit   time.Duration `json:"limit"`
	Name    Text          `json:"name,omitempty"`
	Dir     Text          `json:"dir,omitempty"`
	Env     []Text        `json:"env,omitzero"` // absent: that of the entry EnvOf, or else that of the run
	EnvOf   int           `json:"env_of,omitempty"`
	Awaited Process       `json:"exits,omitzero"`
	Key     Text          `json:"key,omitempty"`
}

// MarshalJSON implements json.Marshaler. It omits Env if EnvOf names another entry with the same environment.
func (e Entry) MarshalJSON() ([]byte, error) {
	form := entryJSON{
		e.When, Text(e.Command.Text), Texts(e.Command.Args), e.Command.Limit,
		Text(e.Name), Text(e.Dir), nil, e.EnvOf, e.Awaited, Text(e.Key),
	}
	if e.EnvOf == 0 && e.Env != nil {
		form.Env = append([]Text{}, Texts(e.Env)...)
	}
	return EncodeJSON(form)
}

// UnmarshalJSON implements json.Unmarshaler. If EnvOf is not 0, Env stays nil, and the caller must copy Env from the
// entry with that id.
func (e *Entry) UnmarshalJSON(data []byte) error {
	var form entryJSON
	if err := json.Unmarshal(data, &form); err != nil {
		return err
	}
	if form.When > AtStop {
		return fmt.Errorf("a command has the unknown moment %d", form.When)
	}
	*e = Entry{
		When:    form.When,
		Command: Command{Text: string(form.Text), Args: Strings(form.Args), Limit: form.Limit},
		Registration: Registration{
			Name: string(form.Name), Dir: string(form.Dir), EnvOf: form.EnvOf, Awaited: form.Awaited, Key: string(form.Key),
		},
	}
	if form.Env != nil {
		e.Env = append([]string{}, Strings(form.Env)...)
	}
	return nil
}
