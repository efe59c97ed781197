package cmd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"graceful/forward"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Shells ask for completions by `graceful __complete ...`. cobra answers that, and writes the scripts of the shells.

// noFiles tells a shell to complete no file names.
const noFiles = cobra.ShellCompDirectiveNoFileComp

var exampleTimes = []string{"5s", "10s", "30s", "1m"}

// completeFlags registers a completion for each flag of a command, by the type of its value. Without one the shell
// completes file names.
func completeFlags(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		complete := completion(f.Value)
		if complete == nil {
			return
		}
		if err := c.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // the flag has one already
		}
	})
}

func completion(value pflag.Value) cobra.CompletionFunc {
	switch value := value.(type) {
	case interface{ choices() []string }:
		return completeWord(value.choices()...)
	case durationValue:
		return completeWord(exampleTimes...)
	case remapValue:
		return completeWord("143=0", "130=0")
	case rewriteValue:
		return completeRewrite
	case scheduleValue:
		return completeSchedule
	case *commandsValue:
		return completeCommand
	case pidValue:
		return cobra.NoFileCompletions
	case textValue:
		switch value.name {
		case "DIR":
			return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case "NAME":
			return cobra.NoFileCompletions
		}
	}
	return nil
}

// completeWord completes one of a few words, and keeps their order.
func completeWord(words ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
		return startingWith(text, words, "", ""), noFiles | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeRewrite completes both sides of one FROM=TO. It does not complete a list: bash breaks words at =, and cobra's
// script handles a comma before one wrongly.
func completeRewrite(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
	if from, to, ok := strings.Cut(text, "="); ok {
		return startingWith(to, append(forward.Names(), "0"), from+"=", ""), noFiles
	}
	return startingWith(text, audibleNames(), "", "="), noFiles | cobra.ShellCompDirectiveNoSpace
}

// completeSchedule completes the last item of a schedule.
func completeSchedule(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
	last := strings.LastIndexByte(text, '/') + 1
	words := append(forward.Names(), exampleTimes...)
	words = slices.DeleteFunc(words, func(w string) bool { return w == "STOP" })
	return startingWith(text[last:], words, text[:last], ""), noFiles | cobra.ShellCompDirectiveNoSpace
}

// audibleNames lists the signals that graceful can receive.
func audibleNames() (names []string) {
	for _, sig := range forward.Audible() {
		names = append(names, forward.Name(sig))
	}
	return names
}

// startingWith returns the words that begin with text, each between before and after. They take the case of text, and
// its SIG, since a shell drops a completion that does not begin as the text does. It leaves out the real-time signals,
// which are many, unless text begins one.
func startingWith(text string, words []string, before, after string) (all []string) {
	prefix := ""
	if len(text) >= 3 && strings.EqualFold(text[:3], "SIG") {
		prefix = text[:3]
	}
	lower := text != strings.ToUpper(text)
	for _, word := range words {
		if strings.HasPrefix(word, "RT") && len(text) == len(prefix) {
			continue
		}
		if lower {
			word = strings.ToLower(word)
		}
		if word = prefix + word; strings.HasPrefix(word, text) {
			all = append(all, before+word+after)
		}
	}
	return all
}

// completeCommand completes a command from PATH. It leaves its arguments, and anything with a path, to the shell.
func completeCommand(_ *cobra.Command, args []string, text string) (commands []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 || text == "" || strings.ContainsAny(text, `/[" `) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			if strings.HasPrefix(f.Name(), text) && isExecutable(filepath.Join(dir, f.Name())) {
				commands = append(commands, f.Name())
			}
		}
	}
	slices.Sort(commands)
	return slices.Compact(commands), cobra.ShellCompDirectiveDefault
}

// isExecutable reports whether path is a regular file with an execute bit.
func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
