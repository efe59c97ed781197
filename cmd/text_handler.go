package cmd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"graceful/cleanup"
	"graceful/runner"
)

// Records with these messages have no other content than an error. Their text form is only that error, in the way in
// which other Unix commands print errors. In JSON the message shows which part of graceful reports the error.
const (
	messageCommand  = "command failed" // also for an invalid flag, variable or argument
	messageRun      = "run failed"
	messageRecover  = "recover failed"
	messageTakeOver = "takeover failed"
)

var errorMessages = []string{messageCommand, messageRun, messageRecover, messageTakeOver}

// sentences renders the text form of some messages. The text form of every other message is the message itself with its
// attributes.
var sentences = map[string]func(attr func(key string) string) string{
	"sending SIGKILL": func(attr func(string) string) string {
		text := attr("err") + ": SIGKILL"
		if attr("to") != "" {
			text += " to " + attr("to")
		}
		if attr("more") != "" {
			text += " and " + attr("more") + " more"
		}
		return text
	},
	"waiting": func(attr func(string) string) string {
		if attr("left") == "" {
			return fmt.Sprintf("waiting for %s: %s", attr("for"), attr("until"))
		}
		return fmt.Sprintf("waiting for %s: %s until %s", attr("for"), attr("left"), attr("until"))
	},
}

// textOf returns a function that returns the text of the attribute with a key, or "" if there is none. The function
// joins the items of a list with commas.
func textOf(attrs []slog.Attr) func(key string) string {
	return func(key string) string {
		i := slices.IndexFunc(attrs, func(a slog.Attr) bool { return a.Key == key })
		if i < 0 {
			return ""
		}
		value := attrs[i].Value
		if list, ok := value.Any().([]string); ok {
			return strings.Join(list, ", ")
		}
		return value.String()
	}
}

// newLogger returns a logger that writes to out. By default it logs warnings and errors, with --verbose every step, and
// with --quiet only errors.
func newLogger(out *output, c runner.Config, began time.Time) *slog.Logger {
	level := slog.LevelWarn
	switch {
	case c.Quiet:
		level = slog.LevelError
	case c.Verbose:
		level = slog.LevelInfo
	}
	out.raw, out.json = c.PTY, c.LogJSON
	h := newHandler(out, c.LogJSON, level, began)
	if text, ok := h.(*textHandler); ok {
		text.annotations = newAnnotations(c, out.catchUp)
	}
	return slog.New(h)
}

// newHandler returns a handler that writes log records from level on, in text or JSON form. In text, times count from
// began.
func newHandler(w io.Writer, json bool, level slog.Level, began time.Time) slog.Handler {
	if json {
		cut := func(_ []string, a slog.Attr) slog.Attr { return slog.Attr{Key: a.Key, Value: cutValue(a.Value)} }
		return slog.NewJSONHandler(escapingWriter{w}, &slog.HandlerOptions{Level: level, ReplaceAttr: cut})
	}
	return &textHandler{out: w, level: level, began: began}
}

// textHandler is the slog.Handler that renders records for people, each as one line:
//
//	graceful: message key=value key="a value": err (hint)
//
// The attributes err and hint have no keys and come last. A list is [a "b c"]. With --verbose the time since the start
// comes first, in seconds. Records of level slog.LevelDebug are only for annotations.
type textHandler struct {
	out         io.Writer
	level       slog.Level
	began       time.Time
	attrs       []slog.Attr
	annotations *annotations // nil: there are none
}

func (h *textHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= h.level || h.annotations != nil && h.level <= slog.LevelWarn
}

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	for i, a := range attrs {
		attrs[i].Value = cutValue(a.Value)
	}
	if r.Level < h.level {
		h.group(r, attrs)
		return nil
	}
	message, pairs, why, hint := r.Message, "", "", ""
	for _, a := range attrs {
		switch value := a.Value; a.Key {
		case "":
		case "err":
			why = value.String()
		case "hint":
			hint = value.String()
		default:
			pairs += " " + a.Key + "=" + renderValue(value)
		}
	}
	if slices.Contains(errorMessages, message) {
		message, why = why, ""
	}
	if sentence := sentences[message]; sentence != nil {
		message, pairs, why = escaped(sentence(textOf(attrs))), "", ""
	}
	text := message + pairs
	if h.level < slog.LevelWarn {
		text = fmt.Sprintf("%.3fs %s", r.Time.Sub(h.began).Seconds(), text)
	}
	if why != "" {
		text += ": " + why
	}
	if hint != "" {
		text += " (" + hint + ")"
	}
	if line := h.annotations.record(r.Level, text); line != "" {
		_, err := io.WriteString(h.out, line)
		return err
	}
	printLine(h.out, text)
	return nil
}

// group writes the line that begins or ends a group, if the record does. After a line that begins a group, it waits for
// the line to be written, as catchUp does.
func (h *textHandler) group(r slog.Record, attrs []slog.Attr) {
	line, began := h.annotations.group(r, textOf(attrs))
	if line != "" {
		_, _ = io.WriteString(h.out, line)
	}
	if began {
		h.annotations.catchUp()
	}
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = slices.Concat(h.attrs, attrs)
	return &with
}

// WithGroup ignores the group, because graceful never logs with one.
func (h *textHandler) WithGroup(string) slog.Handler { return h }

// maxValue is the maximum length of a value in a log record, in bytes, without the note about the rest. The target or a
// client may have chosen the value.
const maxValue = 2000

// cutValue cuts a text, an error or a list of texts that is longer than maxValue.
func cutValue(v slog.Value) slog.Value {
	v = v.Resolve()
	switch value := v.Any().(type) {
	case string:
		return slog.StringValue(cut(value))
	case error:
		return slog.StringValue(cut(value.Error()))
	case []string:
		return slog.AnyValue(cutList(value))
	}
	return v
}

func cut(s string) string {
	head := string(cleanup.Text(s).Cut(maxValue))
	if len(head) == len(s) {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes more)", head, len(s)-len(head))
}

func cutList(list []string) []string {
	size := 0
	for i, s := range list {
		if size += len(s) + 1; size > maxValue {
			head := append(slices.Clone(list[:i]), cut(s))
			if more := len(list) - len(head); more > 0 {
				head = append(head, fmt.Sprintf("… (%d more)", more))
			}
			return head
		}
	}
	return list
}

// escapingWriter escapes control characters in JSON with cleanup.EscapeJSON.
type escapingWriter struct{ out io.Writer }

func (w escapingWriter) Write(line []byte) (int, error) {
	_, err := w.out.Write(cleanup.EscapeJSON(line))
	return len(line), err
}

func renderValue(v slog.Value) string {
	list, ok := v.Any().([]string)
	if !ok {
		return quoteWord(v.String())
	}
	return "[" + strings.Join(convert(list, quoteWord), " ") + "]"
}

// escaped escapes a text that contains unprintable characters. Names of processes may contain them.
func escaped(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strings.Trim(strconv.Quote(s), `"`)
	}
	return s
}

// quoteWord quotes a value in Go's syntax unless the value is one printable word.
func quoteWord(s string) string {
	special := func(r rune) bool {
		return r == ' ' || r == '"' || r == '\'' || r == unicode.ReplacementChar || !unicode.IsPrint(r)
	}
	if s == "" || strings.ContainsFunc(s, special) {
		return strconv.Quote(s)
	}
	return s
}
