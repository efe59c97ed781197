package cmd

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/runner"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ours are the commands with flags.
func ours() (all []*cobra.Command) {
	for _, c := range newRoot(new(int)).Commands() {
		if c.Flags().HasFlags() {
			all = append(all, c)
		}
	}
	return all
}

// elsewhere are flags of other programs that our documents name.
var elsewhere = []string{"--all", "--from", "--init", "--port", "--retry", "--scope", "--stop-timeout", "--user"}

func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// No flag is named that there is not, but in a `sh` or `docker` line of somebody else's.
func noOtherFlags(t *testing.T, path, text string) {
	t.Helper()
	known := append([]string{"--help"}, elsewhere...)
	for _, c := range ours() {
		c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
	}
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(text, -1) {
		if !slices.Contains(known, flag) {
			t.Errorf("%s names %s, which there is not", path, flag)
		}
	}
}

func TestTheManualHasEveryFlagAndVariable(t *testing.T) {
	const path = "../docs/graceful.1"
	text := strings.ReplaceAll(document(t, path), "Fl -", "Fl --")
	noOtherFlags(t, path, text)
	for _, c := range ours() {
		if !strings.Contains(text, ".It Cm "+c.Name()+"\n") {
			t.Errorf("graceful %s is not in it", c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !regexp.MustCompile(`(?m)^\.It .*Fl --`+f.Name+`( |$)`).MatchString(text) && f.Name != "help" {
				t.Errorf("graceful %s --%s is not in it", c.Name(), f.Name)
			}
		})
	}
	for _, name := range append([]string{"GRACEFUL_RUN_ID", "GRACEFUL_NAME"}, runner.OutcomeVariables...) {
		if !strings.Contains(text, ".It Ev "+name+"\n") {
			t.Errorf("%s is not in it", name)
		}
	}
}

// A row is: flag, variable, default, meaning.
func TestTheReadmeHasEveryFlagWithItsVariableAndDefault(t *testing.T) {
	const path = "../README.md"
	text := document(t, path)
	noOtherFlags(t, path, text)
	rows := map[string][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if m := regexp.MustCompile("^(?:`-.`, )?`--([a-z-]+)").FindStringSubmatch(cells[0]); m != nil && len(cells) == 4 {
			rows[m[1]] = cells
		}
	}
	flags := newRun(new(int)).Flags()
	flags.VisitAll(func(f *pflag.Flag) {
		row := rows[f.Name]
		if f.Name == "help" {
			return
		}
		if row == nil {
			t.Errorf("--%s has no row", f.Name)
			return
		}
		if want := "`" + variable(f.Name) + "`"; row[1] != want && f.Name != noEnv {
			t.Errorf("--%s: the variable is given as %s, not as %s", f.Name, row[1], want)
		}
		if want := "`" + f.DefValue + "`"; row[2] != want && f.DefValue != "" {
			t.Errorf("--%s: the default is given as %s, not as %s", f.Name, row[2], want)
		}
	})
}

// What the documents say that a deadline leaves to a program.
func TestTheNumbersInTheDocuments(t *testing.T) {
	manual, readme := document(t, "../docs/graceful.1"), document(t, "../README.md")
	for _, c := range []struct {
		deadline, drain, onExit, want time.Duration
		said                          string
	}{
		{28 * s, 5 * s, 5 * s, 17 * s, "17 s"},
		{9 * s, 0, 3 * s, 5100 * time.Millisecond, "5.1 s"},
		{9 * s, 0, 4 * s, 4100 * time.Millisecond, "4.1 s"},
	} {
		left, err := budget{deadline: c.deadline, onExit: times(1, c.onExit, false, "on-exit", "")}.fit()
		if left-c.drain != c.want || err != nil || !strings.Contains(manual, c.said) || !strings.Contains(readme, c.said) {
			t.Errorf("a deadline of %v leaves %v, %v; the documents are to say %s", c.deadline, left-c.drain, err, c.said)
		}
	}
}
