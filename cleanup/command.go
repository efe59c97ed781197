// Package cleanup holds the cleanup commands of a run: what they are, which may start when, and that each is claimed
// once. It never starts a process or waits for one.
package cleanup

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Shell runs commands in shell form.
const Shell = "/bin/sh"

// example is an exec form, for error messages.
const example = `["./flush", "--all"]`

// Command is one cleanup command.
type Command struct {
	// Text is what the user wrote. It names the command in messages.
	Text string
	// Args is the argument list to execute: at least one argument, none with a NUL byte.
	Args []string
	// Limit bounds the run time of the command.
	Limit time.Duration
}

// Parse parses a command as a user writes it. A JSON array of strings is the argument list to execute (exec form).
// Shell runs every other text (shell form).
func Parse(text string) (Command, error) {
	if strings.TrimSpace(text) == "" {
		return Command{}, errors.New("the command is empty")
	}
	if strings.Contains(text, "\x00") {
		return Command{}, errors.New("the command contains a NUL byte")
	}
	trimmed := strings.TrimSpace(text)
	if !strings.HasPrefix(trimmed, "[") {
		return ShellForm(text), nil
	}
	var words []*string // nil: null, which is not a string
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		// `[ -e lock ] && rm lock` is a shell command although it begins like an array.
		if strings.HasPrefix(trimmed, "[ ") || strings.HasPrefix(trimmed, "[[") {
			return ShellForm(text), nil
		}
		return Command{}, fmt.Errorf("not a JSON array of strings: %w (exec form: %s)", err, example)
	}
	if !Exact([]byte(text)) { // graceful would execute other arguments
		return Command{}, errors.New("the exec form is JSON and so must be UTF-8, without halves of surrogate pairs " +
			"(the shell form takes any bytes)")
	}
	var args []string
	for _, w := range words {
		if w == nil {
			return Command{}, fmt.Errorf("not a JSON array of strings: null is none (exec form: %s)", example)
		}
		args = append(args, *w)
	}
	if len(args) == 0 || args[0] == "" {
		return Command{}, fmt.Errorf("the exec form names no program (exec form: %s)", example)
	}
	if strings.Contains(strings.Join(args, ""), "\x00") {
		return Command{}, errors.New("the command contains a NUL byte")
	}
	return Command{Text: text, Args: args}, nil
}

// ShellForm returns a command that Shell runs.
func ShellForm(text string) Command {
	return Command{Text: text, Args: []string{Shell, "-c", text}}
}

// NeedsShell reports whether the command is in shell form.
func (c Command) NeedsShell() bool {
	return len(c.Args) == 3 && c.Args[0] == Shell && c.Args[1] == "-c" && c.Args[2] == c.Text
}

// ExecForm returns a command with an argument list to execute.
func ExecForm(args []string) Command { return Command{Text: quoteAll(args), Args: args} }

// quoteAll formats an argument list as a user types it in a shell.
func quoteAll(args []string) string {
	var words []string
	for _, arg := range args {
		if arg == "" || strings.ContainsFunc(arg, needsQuotes) {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// needsQuotes reports whether a shell may give a rune a meaning of its own.
func needsQuotes(r rune) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+"
	return !strings.ContainsRune(plain, r)
}
