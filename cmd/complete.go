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

// What the shells complete. cobra asks for it as `graceful __complete ...` and writes the scripts that do.

// completeFlags has each flag of a command completed by the kind of its value.
func completeFlags(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		var complete cobra.CompletionFunc
		switch value := f.Value.(type) {
		case interface{ choices() []string }:
			complete = completeWord(value.choices()...)
		case durationValue:
			complete = completeWord("5s", "10s", "30s", "1m")
		case remapValue:
			complete = completeWord("143=0", "130=0")
		case rewriteValue:
			complete = completeRewriting
		case scheduleValue:
			complete = completeSchedule
		case *commandsValue:
			complete = completeCommand
		case pidValue:
			complete = cobra.NoFileCompletions
		case textValue:
			switch value.name {
			case "DIR":
				complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
			case "NAME":
				complete = cobra.NoFileCompletions
			}
		}
		if complete == nil {
			return // files
		}
		if err := c.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // registered twice
		}
	})
}

// completeWord completes one of a few words, in their order.
func completeWord(words ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
		return startingWith(text, words, "", ""), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeRewriting completes both sides of FROM=TO, but no list of them: bash breaks words at =, and what cobra's script
// makes of a comma before one is wrong.
func completeRewriting(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
	if from, to, ok := strings.Cut(text, "="); ok {
		return startingWith(to, append(forward.Names(), "0"), from+"=", ""), cobra.ShellCompDirectiveNoFileComp
	}
	return startingWith(text, audible(), "", "="), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeSchedule completes the last item.
func completeSchedule(_ *cobra.Command, _ []string, text string) ([]string, cobra.ShellCompDirective) {
	done, last := text[:strings.LastIndexByte(text, '/')+1], text[strings.LastIndexByte(text, '/')+1:]
	words := slices.DeleteFunc(append(forward.Names(), "5s", "10s", "30s", "1m"), func(w string) bool { return w == "STOP" })
	return startingWith(last, words, done, ""), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// audible lists the signals that can come.
func audible() (names []string) {
	for _, sig := range forward.Audible() {
		names = append(names, forward.Name(sig))
	}
	return names
}

// startingWith is the words that text may become, in its case, and with SIG where it has that. Shells drop what does not
// begin as it does. Real-time signals are too many to be shown to one who does not ask.
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

// completeCommand completes a command from PATH, and its arguments as files.
func completeCommand(_ *cobra.Command, args []string, text string) (commands []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 || text == "" || strings.ContainsAny(text, `/[" `) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		found, _ := os.ReadDir(dir)
		for _, f := range found {
			if info, err := os.Stat(filepath.Join(dir, f.Name())); strings.HasPrefix(f.Name(), text) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				commands = append(commands, f.Name())
			}
		}
	}
	slices.Sort(commands)
	return slices.Compact(commands), cobra.ShellCompDirectiveDefault
}
