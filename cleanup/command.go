// Package cleanup holds the cleanup commands of a run: what they are, which may start when, and that each is
// taken once. It starts no process and waits for none.
package cleanup

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Shell runs the shell form of a command.
const Shell = "/bin/sh"

const example = `["./flush", "--all"]`

// Command is one cleanup command.
type Command struct {
	// Text is what the user wrote; it names the command in messages.
	Text string
	// Args is what is executed: at least one word, none with a NUL byte.
	Args []string
	// Limit bounds its run time.
	Limit time.Duration
}

// Parse reads a command as a user writes it: a JSON array of strings is executed as it stands (exec form),
// everything else is run by Shell (shell form).
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
	var words []*string // null is no string
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		// `[ -e lock ] && rm lock` begins like an array and is shell.
		if strings.HasPrefix(trimmed, "[ ") || strings.HasPrefix(trimmed, "[[") {
			return ShellForm(text), nil
		}
		return Command{}, fmt.Errorf("not a JSON array of strings: %w (exec form: %s)", err, example)
	}
	if !Exact([]byte(text)) { // something else would run
		return Command{}, errors.New("the exec form is JSON and so must be UTF-8, without halves of surrogate pairs (the shell form takes any bytes)")
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

// ShellForm is a command that Shell runs.
func ShellForm(text string) Command {
	return Command{Text: text, Args: []string{Shell, "-c", text}}
}

// NeedsShell tells whether the command is in shell form.
func (c Command) NeedsShell() bool {
	return len(c.Args) == 3 && c.Args[0] == Shell && c.Args[1] == "-c" && c.Args[2] == c.Text
}

// ExecForm is a command that is executed as it stands.
func ExecForm(args []string) Command { return Command{Text: textOf(args), Args: args} }

// textOf shows an argument list as one would type it.
func textOf(args []string) string {
	var words []string
	for _, arg := range args {
		if plain := strings.IndexFunc(arg, func(r rune) bool { return !strings.ContainsRune(plainRunes, r) }) < 0; arg == "" || !plain {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

const plainRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+"
