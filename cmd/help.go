package cmd

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"graceful/runner"
)

// helpWidth is the maximum width of a line of help.
const helpWidth = 100

// flagGroup is a group of flags about one subject.
type flagGroup struct {
	*pflag.FlagSet
	title    string
	examples []string // each flag that is not hidden occurs in one of them
}

func newGroup(title string, examples ...string) flagGroup {
	flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
	flags.SortFlags = false
	return flagGroup{flags, title, examples}
}

// addSwitch adds a flag that is false by default. The flag without a value means true.
func (g flagGroup) addSwitch(value *bool, name, usage string) {
	g.VarPF(boolValue(value), name, "", usage).NoOptDefVal = "true"
}

// hide omits a flag from help and from completions.
func (g flagGroup) hide(name string) { g.Lookup(name).Hidden = true }

// addLogFlags adds the flags that select what is logged, and in which form.
func (g flagGroup) addLogFlags(c *runner.Config) {
	g.VarPF(boolValue(&c.Verbose), "verbose", "v", "log every step, with the time since the start").NoOptDefVal = "true"
	g.VarPF(boolValue(&c.Quiet), "quiet", "q", "log only errors of graceful itself").NoOptDefVal = "true"
	g.Var(formatValue(&c.LogJSON, "messages"), "log-format", "form of log messages: text, json")
	c.Annotations = true
	g.Var(annotationsValue(&c.Annotations), "annotations",
		"whether log messages in text are annotations, and the output of cleanup commands is a group, where the CI "+
			"system shows that (GitHub Actions, GitLab): auto, off")
}

// checkLogFlags returns an error if log flags conflict.
func checkLogFlags(c runner.Config, given map[string]string) error {
	if c.Verbose && c.Quiet {
		return fmt.Errorf("%s: not together with %s", given["verbose"], given["quiet"])
	}
	return nil
}

// addFlagGroups adds the flags to a command, with their variables and completions, and a help that shows the flags in
// groups. Before the command runs, readVariables fills the returned map given.
func addFlagGroups(c *cobra.Command, groups ...flagGroup) (given map[string]string) {
	c.Flags().SortFlags = false
	for _, g := range groups {
		c.Flags().AddFlagSet(g.FlagSet)
	}
	completeFlags(c)
	given = map[string]string{}
	c.PreRunE = func(c *cobra.Command, _ []string) error { return readVariables(c.Flags(), given) }
	c.SetHelpFunc(func(c *cobra.Command, _ []string) { writeHelp(c.OutOrStdout(), c, groups) })
	return given
}

func writeHelp(w io.Writer, c *cobra.Command, groups []flagGroup) {
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n", c.Long, c.UseLine())
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s:\n%s\n", g.title, g.FlagUsagesWrapped(helpWidth))
		for _, example := range g.examples {
			fmt.Fprintf(w, "  e.g. %s\n", example)
		}
	}
	fmt.Fprint(w, "\nMore: man graceful. To complete flags in your shell: graceful completion --help.\n")
}
