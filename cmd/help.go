package cmd

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is how wide a line of help may be.
const helpWidth = 100

// flagGroup is flags that are about the same thing.
type flagGroup struct {
	*pflag.FlagSet
	title    string
	examples []string // with each of the flags at least once
}

func newGroup(title string, examples ...string) flagGroup {
	flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
	flags.SortFlags = false
	return flagGroup{flags, title, examples}
}

// on adds a switch.
func (g flagGroup) on(value *bool, name, short, usage string) {
	g.VarPF(boolValue{value}, name, short, usage).NoOptDefVal = "true"
}

// describe gives a command its flags, and a help that shows them in their groups.
func describe(c *cobra.Command, groups []flagGroup) {
	c.Flags().SortFlags = false
	for _, g := range groups {
		c.Flags().AddFlagSet(g.FlagSet)
	}
	completeFlags(c)
	c.SetHelpFunc(func(c *cobra.Command, _ []string) { writeHelp(c.OutOrStdout(), c, groups) })
}

func writeHelp(w io.Writer, c *cobra.Command, groups []flagGroup) {
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n", c.Long, c.UseLine())
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s:\n%s\n", g.title, g.FlagUsagesWrapped(helpWidth))
		for _, example := range g.examples {
			fmt.Fprintf(w, "  e.g. %s\n", example)
		}
	}
	fmt.Fprint(w, "\nMore: man graceful. For the shell to complete all this: graceful completion --help.\n")
}
