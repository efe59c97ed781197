package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"graceful/runner/build"
)

func newVersion() *cobra.Command {
	var json bool
	c := &cobra.Command{
		Use:   "version [flags]",
		Short: "Print the version",
		Long: `Print version, commit, date of the commit, version of Go, and platform, as far as they are known.
A binary that was built outside of a clone has no commit and no date: in JSON they are null.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			info := build.Read()
			if json {
				return writeJSON(c.OutOrStdout(), info)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "graceful", info)
			return err
		},
	}
	g := newGroup("Output", "graceful version --format json | jq -r .commit")
	g.Var(formatValue(&json, "output"), "format", "form of output: text, json")
	addFlagGroups(c, g, environmentGroup("graceful version --no-env"))
	return c
}
