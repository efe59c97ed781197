//go:build engines

package engines

import (
	"strings"
	"testing"
)

const slurmPage = "../../docs/engines/slurm.md"

// slurmPageFile returns a file of the page, with the graceful under test.
func slurmPageFile(name string) string {
	_, text, _ := strings.Cut(content(slurmPage), "\n    # "+name+"\n")
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, indented := strings.CutPrefix(line, "    ")
		if !indented {
			break
		}
		b.WriteString(line)
	}
	return strings.ReplaceAll(b.String(), "/usr/bin/graceful", binary)
}

var _ = testing.Verbose
