package cmd

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "graceful", version())
			return err
		},
	}
}

// version describes this build, or is "unknown".
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return describeBuild(info)
	}
	return "unknown"
}

// describeBuild names the version, the revision unless the version contains it, and the compiler.
func describeBuild(info *debug.BuildInfo) string {
	words := []string{info.Main.Version}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(info.Main.Version, s.Value[:min(12, len(s.Value))]) {
			words = append(words, s.Value)
		}
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
