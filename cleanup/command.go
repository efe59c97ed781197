// Package cleanup holds the cleanup commands and the on-stop commands of a run. It decides which command may start
// when, and claims each command before its start. It never starts a process or waits for one.
package cleanup

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Shell runs commands in shell form.
const Shell = "/bin/sh"

// example is an exec form, for error messages.
const example = `["./flush", "--all"]`

// Command is a cleanup command or an on-stop command.
type Command struct {
	// Text is the command as the user wrote it, or as ExecForm writes it. See Entry.Shown.
	Text string
	// Args is the argument list to execute. It has at least one argument, and no argument contains a NUL byte.
	Args []string
	// Limit is the maximum run time of the command. In a request, 0 means the default of the run.
	Limit time.Duration
}

// Parse parses a command as a user writes it. A JSON array of strings is the argument list to execute (exec form).
// Shell runs a text that does not begin with a bracket (shell form). It also runs a text that cannot be decoded as such
// an array, but begins like a test in a shell: "[ " or "[[". Any other text is an error, and so is an empty text or one
// with a NUL byte.
func Parse(text string) (Command, error) {
	fail := func(format string, args ...any) (Command, error) { return Command{}, fmt.Errorf(format, args...) }
	const nul = "the command contains a NUL byte"
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "":
		return fail("the command is empty")
	case strings.Contains(text, "\x00"):
		return fail(nul)
	case !strings.HasPrefix(trimmed, "["):
		return ShellForm(text), nil
	}
	var words []*string // nil: null, which is not a string
	err := json.Unmarshal([]byte(text), &words)
	switch {
	case err != nil && (strings.HasPrefix(trimmed, "[ ") || strings.HasPrefix(trimmed, "[[")):
		return ShellForm(text), nil // `[ -e lock ] && rm lock` is a shell command although it begins like an array
	case err != nil:
		return fail("not a JSON array of strings: %w (exec form: %s)", err, example)
	case !isExact([]byte(text)): // graceful would execute other arguments
		return fail("the exec form is JSON and so must be UTF-8, without halves of surrogate pairs " +
			"(the shell form takes any bytes)")
	case slices.Contains(words, nil):
		return fail("not a JSON array of strings: null is none (exec form: %s)", example)
	case len(words) == 0 || *words[0] == "":
		return fail("the exec form names no program (exec form: %s)", example)
	}
	var args []string
	for _, word := range words {
		if strings.Contains(*word, "\x00") {
			return fail(nul)
		}
		args = append(args, *word)
	}
	return Command{Text: text, Args: args}, nil
}

// ShellForm returns a command that Shell runs.
func ShellForm(text string) Command { return Command{Text: text, Args: []string{Shell, "-c", text}} }

// NeedsShell reports whether the command is in shell form.
func (c Command) NeedsShell() bool { return slices.Equal(c.Args, ShellForm(c.Text).Args) }

// ExecForm returns a command with an argument list to execute. Its text is the list in the form in which a user types
// it in a shell.
func ExecForm(args []string) Command {
	// plain lists the characters that need no quotes in an argument.
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+"
	var words []string
	for _, arg := range args {
		if arg == "" || strings.Trim(arg, plain) != "" {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return Command{Text: strings.Join(words, " "), Args: args}
}
