package cleanup

import (
	"encoding/json"
	"strings"
	"testing"
)

// A text has the same bytes, whatever its encoder has escaped. Python's json.dumps escapes every rune that is not
// ASCII.
func TestTextUnmarshalJSON_escapes(t *testing.T) {
	for escaped, want := range map[string]Text{
		`"\ufffd"`: "\ufffd", `"\uFFFD\u00e4"`: "\ufffdä", "\"\ufffd\\ufffd\"": "\ufffd\ufffd",
		`"\ud83d\ude00\uD83D\uDE00"`: "😀😀", `"\\ud800"`: `\ud800`, `"\\\\\u0041"`: `\\A`,
		`"\/\b\f\n\r\t\"\u0001\u001f"`: "/\b\f\n\r\t\"\x01\x1f",
	} {
		var got Text
		if err := json.Unmarshal([]byte(escaped), &got); err != nil || got != want {
			t.Errorf("%s was read as %q (%v), want %q", escaped, got, err, want)
		}
	}
}

func TestTextUnmarshalJSON_invalid(t *testing.T) {
	for _, bad := range []string{
		`null`, `1`, `true`, `[]`, `["a"]`, `{}`, `{"base64":null}`, `{"base64":1}`, `{"base64":"!"}`, `{"base64":"YQ"}`,
		`{"base64":"YR=="}`, `{"base64":"YQ==","a":"b"}`, `{"BASE64":"YQ=="}`, `{"a":"YQ=="}`, `"\ud800"`, "\"\xff\"",
		`"\udcff"`, `"a\ud83dx"`, `"\ud83d\u0041"`, `"\ud83d\n"`, `"\ude00\ud83d"`, `"\ufffd\udcff"`, "\"\\ufffd\xff\"",
	} {
		var got struct{ T Text }
		if err := json.Unmarshal([]byte(`{"T":`+bad+`}`), &got); err == nil {
			t.Errorf("%s was read as %q", bad, got.T)
		}
	}
}

// The JSON form of a process in the ledger must not change.
func TestProcessJSON(t *testing.T) {
	const want = `{"PID":7,"Start":1}`
	if got, err := EncodeJSON(Process{PID: 7, Start: 1}); err != nil || string(got) != want {
		t.Errorf("the JSON form is %s, %v; want %s", got, err, want)
	}
}

func TestEncodeIndentedJSON(t *testing.T) {
	got, err := EncodeIndentedJSON(map[string]any{"a": "<&>", "b": []int{}, "c": []int{1}})
	want := "{\n  \"a\": \"<&>\",\n  \"b\": [],\n  \"c\": [\n    1\n  ]\n}\n"
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestEscapeJSON(t *testing.T) {
	for text, want := range map[string]string{
		"a\x7fb": `"a\u007fb"`, "\u009b31m\u202e": `"\u009b31m\u202e"`, "\U000e0001": `"\udb40\udc01"`,
		"ä😀\ufffd": `"ä😀\ufffd"`, "\u2028": `"\u2028"`,
	} {
		want = strings.ReplaceAll(want, `\ufffd`, "\ufffd")
		got, err := EncodeJSON(map[string]any{"t": Text(text), "s": text})
		var back map[string]Text
		if err != nil || string(got) != `{"s":`+want+`,"t":`+want+`}` || json.Unmarshal(got, &back) != nil ||
			back["t"] != Text(text) {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestTextCut(t *testing.T) {
	for _, c := range []struct {
		text Text
		n    int
		want Text
	}{
		{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"aä", 2, "a"}, {"a😀", 4, "a"}, {"ä", 1, "\xc3"},
		{"\xbf\xbf\xbf\xbf\xbf\xbf", 5, "\xbf\xbf\xbf\xbf\xbf"},
	} {
		if got := c.text.Cut(c.n); got != c.want {
			t.Errorf("%q cut at %d is %q, want %q", c.text, c.n, got, c.want)
		}
	}
}
