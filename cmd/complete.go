package cmd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"graceful/forward"
)

// noFiles makes a shell complete no file names.
const noFiles = cobra.ShellCompDirectiveNoFileComp

var exampleTimes = []string{"5s", "10s", "30s", "1m"}

// completeFlags registers the completions of a command's flags. Shells run `graceful __complete ...` to get
// completions. cobra implements that command, and generates the scripts for the shells.
func completeFlags(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		complete := f.Value.(interface{ completion() cobra.CompletionFunc }).completion()
		if complete == nil {
			return
		}
		if err := c.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // the flag already has a completion
		}
	})
}

var completeDirectory = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)

// completeWord returns a function that completes one of a few words, and keeps the order of these words.
func completeWord(words ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
		return startingWith(text, words, "", ""), noFiles | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeRewrite completes FROM or TO of one pair FROM=TO. It does not complete a list of pairs, because bash breaks
// words at =, and cobra's script mishandles a comma before =.
func completeRewrite(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
	if from, to, ok := strings.Cut(text, "="); ok {
		return startingWith(to, append(forward.Names(), "0"), from+"=", ""), noFiles
	}
	names := convert(forward.Deliverable(), forward.Name)
	return startingWith(text, names, "", "="), noFiles | cobra.ShellCompDirectiveNoSpace
}

// completeSchedule completes the last item of a schedule.
func completeSchedule(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
	last := strings.LastIndexByte(text, '/') + 1
	signals := slices.DeleteFunc(forward.Names(), func(name string) bool { return name == "STOP" })
	words := append(signals, exampleTimes...)
	return startingWith(text[last:], words, text[:last], ""), noFiles | cobra.ShellCompDirectiveNoSpace
}

// startingWith returns the words that begin with text, each with before in front of it and after behind it. It gives
// the words the case and the prefix SIG of text, because a shell drops completions that do not begin with the typed
// text. If text is empty after that prefix, startingWith omits the many real-time signals.
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

// completeCommand completes the name of a command from PATH. The shell completes arguments, and commands with a path.
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
