package cmd

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpOf returns the output of graceful with these arguments, and the subcommand that printed it.
func helpOf(t *testing.T, args ...string) (string, *cobra.Command) {
	t.Helper()
	unsetVariables(t)
	var text strings.Builder
	root := newRoot(new(int))
	root.SetArgs(args)
	root.SetOut(&text)
	c, err := root.ExecuteC()
	if err != nil {
		t.Fatal(err)
	}
	return text.String(), c
}

func TestHelp_fitsAndShowsEachFlag(t *testing.T) {
	for _, name := range []string{"run", "defer", "recover", "doctor"} {
		text, c := helpOf(t, name, "--help")
		for line := range strings.Lines(text) {
			if width := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > helpWidth {
				t.Errorf("%s: %d columns: %s", name, width, line)
			}
		}
		var examples strings.Builder
		for line := range strings.Lines(text) {
			if example, ok := strings.CutPrefix(line, "  e.g. graceful "+name+" "); ok {
				examples.WriteString(strings.ReplaceAll(example, "\n", " "))
				checkExample(t, c, strings.TrimSpace(example))
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Hidden {
				return
			}
			if !regexp.MustCompile(`(?m)^ +(-., )?--` + f.Name + `\b.*\w`).MatchString(text) {
				t.Errorf("%s: --%s is not explained", name, f.Name)
			}
			if !strings.Contains(examples.String(), "--"+f.Name+" ") {
				t.Errorf("%s: --%s has no example", name, f.Name)
			}
		})
	}
}

func TestHelp_listsEveryCommand(t *testing.T) {
	text, _ := helpOf(t, "help")
	names := []string{"completion", "help"}
	for _, c := range newRoot(new(int)).Commands() {
		names = append(names, c.Name())
	}
	for _, name := range names {
		if !strings.Contains(text, "\n  "+name+" ") {
			t.Errorf("graceful help does not list %s:\n%s", name, text)
		}
	}
}

// checkExample fails the test unless the flags of an example can be parsed. It splits the example into words at blanks
// outside of single quotes.
func checkExample(t *testing.T, c *cobra.Command, example string) {
	t.Helper()
	args := []string{}
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(example, -1) {
		args = append(args, m[1]+m[2])
	}
	root := newRoot(new(int))
	same, _, err := root.Find([]string{c.Name()})
	if err == nil {
		err = same.ParseFlags(args)
	}
	if err != nil {
		t.Errorf("%s: %v", example, err)
	}
}
