package cmd

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// render returns a record in text or JSON form, on one line.
func render(t *testing.T, json bool, level slog.Level, message string, attrs ...any) string {
	t.Helper()
	var line strings.Builder
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	r := slog.NewRecord(began.Add(1500*time.Millisecond), slog.LevelWarn, message, 0)
	r.Add(attrs...)
	if err := newHandler(&line, json, level, began).Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutSuffix(line.String(), "\n")
	if !ok || strings.Contains(text, "\n") {
		t.Errorf("the record is not one line: %q", line.String())
	}
	return text
}

func TestTextHandler(t *testing.T) {
	for _, c := range []struct {
		attrs []any
		want  string
	}{
		{nil, "message"},
		{[]any{"pid", 7, "err", errors.New("is gone"), "hint", "look there"}, "message pid=7: is gone (look there)"},
		{[]any{"hint", "look", "err", errors.New("gone"), "pid", 7}, "message pid=7: gone (look)"},
		{[]any{"hint", "", "err", ""}, "message"},
		{[]any{"err", "one\nline"}, `message: one\nline`},
		{[]any{"id", 1, "command", "./flush.sh", "status", 3}, "message id=1 command=./flush.sh status=3"},
		{[]any{"after", 1500 * time.Millisecond, "left", true}, "message after=1.5s left=true"},
		{[]any{"command", `rm -r "$dir"`}, `message command="rm -r \"$dir\""`},
		{[]any{"a", "", "b", "it's", "c", `\`, "d", "Grüße"}, `message a="" b="it's" c=\ d=Grüße`},
		{[]any{"name", "ä b", "key", "a=b"}, `message name="ä b" key=a=b`},
		{[]any{"name", "a\x1b[31m\u202e\xff\u00a0"}, `message name="a\x1b[31m\u202e\xff\u00a0"`},
		{[]any{"a b", 1, "c\n", 2}, `message a b=1 c\n=2`},
		{[]any{"command", []string{"true"}}, "message command=[true]"},
		{[]any{"to", []string{"a", "b\r\n", ""}}, `message to=[a "b\r\n" ""]`},
		{[]any{"to", []string(nil)}, "message to=[]"},
		{[]any{slog.Attr{}, "n", nil}, "message n=<nil>"},
	} {
		if got := render(t, false, slog.LevelWarn, "message", c.attrs...); got != "graceful: "+c.want {
			t.Errorf("%v is %s, want %s", c.attrs, got, c.want)
		}
		want := "graceful: 1.500s " + c.want
		if got := render(t, false, slog.LevelInfo, "message", c.attrs...); got != want {
			t.Errorf("with --verbose %v is %s, want %s", c.attrs, got, want)
		}
	}
}

// If a record contains only an error, its text form is that error.
func TestTextHandler_errorMessages(t *testing.T) {
	for _, message := range errorMessages {
		want := "graceful: --grace: it is wrong"
		if got := render(t, false, slog.LevelWarn, message, "err", errors.New("--grace: it is wrong")); got != want {
			t.Errorf("the record is %s, want %s", got, want)
		}
	}
}

// loggedMessages returns the messages of the log calls in the Go files of dir, with the keys of their attributes. A
// message or key that is not constant is an error.
func loggedMessages(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	set, constants, calls := token.NewFileSet(), map[string]string{}, []*ast.CallExpr{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, dir+"/"+f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i := range n.Values {
					constants[n.Names[i].Name], _ = stringLiteral(n.Values[i])
				}
			case *ast.CallExpr:
				if isLogCall(n) {
					calls = append(calls, n)
				}
			}
			return true
		})
	}
	messages := map[string][]string{}
	for _, call := range calls {
		message, ok := stringLiteral(call.Args[0])
		if name, isName := call.Args[0].(*ast.Ident); isName {
			message, ok = constants[name.Name], constants[name.Name] != ""
		}
		if !ok {
			t.Errorf("%s: the message is not constant", set.Position(call.Pos()))
		}
		for i := 1; i < len(call.Args); i += 2 {
			key, ok := stringLiteral(call.Args[i])
			if !ok {
				t.Errorf("%s: the key of an attribute is not constant", set.Position(call.Args[i].Pos()))
			}
			messages[message] = append(messages[message], key)
		}
	}
	return messages
}

func stringLiteral(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

// isLogCall reports whether a call logs a record. Such a call is log.Warn or a similar method of a logger named log.
func isLogCall(call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, f.Sel.Name) {
		return false
	}
	switch logger := f.X.(type) {
	case *ast.Ident:
		return logger.Name == "log"
	case *ast.SelectorExpr:
		return logger.Sel.Name == "log"
	}
	return false
}

// Every message is constant. The text form and the JSON form contain its attributes.
func TestLogMessages_inBothForms(t *testing.T) {
	for _, dir := range []string{".", "../runner"} {
		messages := loggedMessages(t, dir)
		if len(messages) == 0 {
			t.Fatalf("found no log call in %s", dir)
		}
		for message, keys := range messages {
			inBothForms(t, message, keys)
		}
	}
}

// inBothForms fails the test unless the text form and the JSON form of a record contain the message and all attributes.
func inBothForms(t *testing.T, message string, keys []string) {
	t.Helper()
	var attrs []any
	for _, key := range keys {
		attrs = append(attrs, key, "value of "+key)
	}
	text := render(t, false, slog.LevelWarn, message, attrs...)
	record := map[string]string{}
	if err := json.Unmarshal([]byte(render(t, true, slog.LevelWarn, message, attrs...)), &record); err != nil {
		t.Fatal(err)
	}
	if record["msg"] != message || !slices.Contains(errorMessages, message) && sentences[message] == nil &&
		!strings.Contains(text, message) {
		t.Errorf("%q is %q and %q", message, text, record)
	}
	for _, key := range keys {
		if value := "value of " + key; record[key] != value || !strings.Contains(text, value) {
			t.Errorf("%s: %s is missing in %q or %q", message, key, text, record)
		}
	}
}

// A logged record has a bounded length, and cannot control a terminal.
func TestHandlers_hostileValues(t *testing.T) {
	long := strings.Repeat("\x7f", 600_000)
	var many []string
	for range 50_000 {
		many = append(many, "1 (a)")
	}
	for _, json := range []bool{false, true} {
		line := render(t, json, slog.LevelWarn, "message", "command", long, "left", many, "args", []string{"a", long, "b"},
			"err", errors.New(long), "hint", long, "to", "a\u009b31m\u202eb")
		for _, more := range []string{"… (598000 bytes more)", "more)", `a\u009b31m\u202eb`} {
			if !strings.Contains(line, more) {
				t.Errorf("json %t: no %q in %.300s", json, more, line)
			}
		}
		if len(line) > 100_000 || strings.ContainsAny(line, "\x7f\u009b\u202e") {
			t.Errorf("json %t: %d bytes: %.300s", json, len(line), line)
		}
	}
}
