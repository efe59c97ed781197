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

	"graceful/runner"
)

// Messages of log records that only carry an error. Their text form is the error alone, as for other Unix commands; in
// JSON they tell where the error comes from.
const (
	messageCommand  = "command failed" // also: a flag, a variable or an argument is invalid
	messageRun      = "run failed"
	messageRecover  = "recover failed"
	messageTakeOver = "takeover failed"
)

var errorMessages = []string{messageCommand, messageRun, messageRecover, messageTakeOver}

// newLogger returns a logger to out. It logs warnings and errors, and with --verbose every step.
func newLogger(out *output, c runner.Config, began time.Time) *slog.Logger {
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelInfo
	}
	out.raw, out.json = c.PTY, c.LogJSON
	return slog.New(newHandler(out, c.LogJSON, level, began))
}

// newHandler returns a handler for either form of log records.
func newHandler(w io.Writer, json bool, level slog.Level, began time.Time) slog.Handler {
	if json {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return &textHandler{out: w, level: level, began: began}
}

// textHandler is the slog.Handler that renders records for people, each as one line:
//
//	graceful: message key=value key="a value": err (hint)
//
// The attributes err and hint lose their keys and stand last. A list is [a "b c"]. With --verbose the time since the
// start stands first, in seconds.
type textHandler struct {
	out   io.Writer
	level slog.Level
	began time.Time
	attrs []slog.Attr
}

func (h *textHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	message, pairs, why, hint := r.Message, "", "", ""
	for _, a := range attrs {
		switch value := a.Value.Resolve(); a.Key {
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
	printLine(h.out, text)
	return nil
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = slices.Concat(h.attrs, attrs)
	return &with
}

// WithGroup ignores the group: graceful's records have none.
func (h *textHandler) WithGroup(string) slog.Handler { return h }

func renderValue(v slog.Value) string {
	list, ok := v.Any().([]string)
	if !ok {
		return quoteWord(v.String())
	}
	return "[" + strings.Join(convert(list, quoteWord), " ") + "]"
}

// quoteWord returns a value that is one printable word unchanged, and quotes every other one in Go's syntax.
func quoteWord(s string) string {
	special := func(r rune) bool {
		return r == ' ' || r == '"' || r == '\'' || r == unicode.ReplacementChar || !unicode.IsPrint(r)
	}
	if s == "" || strings.ContainsFunc(s, special) {
		return strconv.Quote(s)
	}
	return s
}
