package cmd

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"graceful/runner"
	"graceful/runner/machine"
)

// flaggedCommands returns the subcommands that have flags.
func flaggedCommands() (all []*cobra.Command) {
	for _, c := range newRoot(new(int)).Commands() {
		if c.Flags().HasFlags() {
			all = append(all, c)
		}
	}
	return all
}

// foreignFlags lists flags of other programs that the documents name.
var foreignFlags = []string{
	"--all", "--allow-untrusted", "--attachable", "--batch", "--cap-drop", "--disable-status", "--driver",
	"--endpoint-mode", "--entrypoint", "--env", "--force", "--from", "--grace-period", "--health-cmd",
	"--health-interval", "--ignore-missing", "--init", "--init-user", "--job-name", "--memory", "--mount",
	"--network", "--open-mode", "--output", "--path", "--pid", "--pids-limit", "--port", "--previous",
	"--read-only", "--replicas", "--requeue", "--retry", "--rm", "--scope", "--security-opt", "--signal",
	"--stop-grace-period", "--stop-signal", "--stop-timeout", "--strip-components", "--time", "--update-monitor",
	"--update-order", "--user",
}

// document returns the text of a file.
func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkFlagNames reports each flag in text that neither graceful nor foreignFlags defines.
func checkFlagNames(t *testing.T, path, text string) {
	t.Helper()
	known := append([]string{"--help"}, foreignFlags...)
	for _, c := range flaggedCommands() {
		c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
	}
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(text, -1) {
		if !slices.Contains(known, flag) {
			t.Errorf("%s names %s, which does not exist", path, flag)
		}
	}
}

func TestManual_hasEveryFlagAndVariable(t *testing.T) {
	const path = "../docs/graceful.1"
	text := strings.ReplaceAll(document(t, path), "Fl -", "Fl --")
	checkFlagNames(t, path, text)
	for _, c := range flaggedCommands() {
		if !strings.Contains(text, ".It Cm "+c.Name()+"\n") {
			t.Errorf("graceful %s is not in it", c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !regexp.MustCompile(`(?m)^\.It .*Fl --`+f.Name+`( |$)`).MatchString(text) && f.Name != "help" && !f.Hidden {
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

// The guide contains a table row for each flag of run: flag, variable, default, meaning.
func TestGuide_hasEveryFlagWithVariableAndDefault(t *testing.T) {
	rows := map[string][]string{}
	for line := range strings.Lines(document(t, "../docs/guide.md")) {
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		m := regexp.MustCompile("^(?:`-.`, )?`--([a-z-]+)").FindStringSubmatch(cells[0])
		if m != nil && len(cells) == 4 {
			rows[m[1]] = cells
		}
	}
	flags := newRun(new(int)).Flags()
	flags.VisitAll(func(f *pflag.Flag) {
		row := rows[f.Name]
		if f.Name == "help" || f.Hidden {
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

// The guide contains an example for each flag of each command.
func TestGuide_hasAnExampleForEveryFlag(t *testing.T) {
	examples := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^    .*?graceful ([a-z]+) (.*)$`).FindAllStringSubmatch(
		document(t, "../docs/guide.md"), -1) {
		examples[m[1]] += m[2] + "\n"
	}
	for _, c := range flaggedCommands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			shown := regexp.MustCompile(`--` + f.Name + `[ =\n]`).MatchString(examples[c.Name()])
			if !shown && f.Name != "help" && f.Name != noEnv && !f.Hidden {
				t.Errorf("graceful %s --%s is in no example", c.Name(), f.Name)
			}
		})
	}
	if !strings.Contains(examples["run"], "--"+noEnv) {
		t.Errorf("--%s is in no example", noEnv)
	}
}

// pages returns the paths of all pages of the documentation.
func pages(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/engines/*.md", "../.github/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		paths = append(paths, found...)
	}
	return paths
}

// Each flag that a page names exists.
func TestPages_flags(t *testing.T) {
	for _, path := range pages(t) {
		switch filepath.Base(path) {
		case "guide.md", "performance.md": // TestGuide_flags checks the guide; the other page has flags of other programs
		default:
			checkFlagNames(t, path, document(t, path))
		}
	}
}

// Each link into the repository leads to an existing file, and to an existing heading in it.
func TestPages_links(t *testing.T) {
	for _, path := range pages(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(document(t, path), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			file, heading, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			} else if heading != "" && !slices.Contains(headings(document(t, target)), heading) {
				t.Errorf("%s links to %s, which has no such heading", path, m[1])
			}
		}
	}
}

// headings returns the headings of a page as links name them: in lower case, without punctuation, with dashes for
// blanks.
func headings(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return all
}

// maxReadmeWords is the maximum number of words in the README, so that a newcomer reads it in a few minutes.
const maxReadmeWords = 1500

func TestReadme_isShort(t *testing.T) {
	if n := len(strings.Fields(document(t, "../README.md"))); n > maxReadmeWords {
		t.Errorf("the README has %d words", n)
	}
}

// toolOptions maps each tool that has a table in docs/guide.md to its options and variables.
var toolOptions = map[string]string{
	"tini": "-s -g -p -v -w -e -l TINI_SUBREAPER TINI_KILL_PROCESS_GROUP TINI_VERBOSITY --version -h",
	"dumb-init": "-c --single-child -r --rewrite -v --verbose -V --version -h --help " +
		"DUMB_INIT_SETSID DUMB_INIT_DEBUG",
	"timeout":   "-k --kill-after -s --signal -v --verbose -f --foreground -p --preserve-status --version --help DURATION",
	"catatonit": "-P -g -L -V --version -h CATATONIT_DEBUG",
}

// In the guide, the first cell of a table row and a command line of another tool contain options of that tool. Every
// other flag in the guide belongs to graceful, or is in foreignFlags. The tables contain all options in toolOptions.
func TestGuide_flags(t *testing.T) {
	const path = "../docs/guide.md"
	var ours strings.Builder
	options := map[string]string{} // maps each tool to the joined first cells of its table
	tool := ""
	for line := range strings.Lines(document(t, path)) {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			tool = strings.TrimSpace(name)
		}
		if cells := strings.SplitN(line, "|", 3); cells[0] == "" && len(cells) == 3 {
			options[tool] += cells[1]
			line = cells[2]
		} else if strings.HasPrefix(line, "    "+tool+" ") {
			continue
		}
		ours.WriteString(line)
	}
	known := append([]string{"GRACEFUL_RUN_ID", "GRACEFUL_SOCKET"}, foreignFlags...)
	for _, c := range flaggedCommands() {
		c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name, variable(f.Name)) })
	}
	known = append(append(known, runner.OutcomeVariables...), machine.StopBudget)
	for _, word := range regexp.MustCompile(`--[a-z][a-z-]*|GRACEFUL_[A-Z_]+`).FindAllString(ours.String(), -1) {
		if !slices.Contains(known, word) {
			t.Errorf("%s names %s, which does not exist", path, word)
		}
	}
	for tool, all := range toolOptions {
		for _, option := range strings.Fields(all) {
			if !regexp.MustCompile("[` ]" + option + "[`= :]").MatchString(options[tool]) {
				t.Errorf("%s: %s is not in the table", tool, option)
			}
		}
	}
}

// The manual and the guide state how much time a deadline leaves for the target.
func TestDocuments_deadlineNumbers(t *testing.T) {
	manual, guide := document(t, "../docs/graceful.1"), document(t, "../docs/guide.md")
	for _, c := range []struct {
		deadline, drain, onExit, want time.Duration
		text                          string
	}{
		{28 * s, 5 * s, 5 * s, 17 * s, "17 s"},
		{9 * s, 0, 3 * s, 5100 * time.Millisecond, "5.1 s"},
		{9 * s, 0, 4 * s, 4100 * time.Millisecond, "4.1 s"},
	} {
		left, err := budget{deadline: c.deadline, onExit: commandTime(1, c.onExit, false, "on-exit", "")}.fit()
		if left-c.drain != c.want || err != nil {
			t.Errorf("a deadline of %v leaves %v, %v; want %v", c.deadline, left-c.drain, err, c.want)
		}
		if !strings.Contains(manual, c.text) || !strings.Contains(guide, c.text) {
			t.Errorf("a deadline of %v leaves %s; a document does not say so", c.deadline, c.text)
		}
	}
}

// The guide and the manual warn about surprises: --pty reads standard input and writes CR LF, and Terraform aborts at a
// second stop signal. Both pages also say that Type=notify works as without graceful.
func TestDocuments_warnings(t *testing.T) {
	for _, path := range []string{"../docs/guide.md", "../docs/graceful.1"} {
		text := strings.Join(strings.Fields(document(t, path)), " ")
		for _, warning := range []string{
			`a script that a shell reads from( its)? standard input.{0,120}/dev/null`, `end with CR LF`,
			`Type=notify.{0,20} works as without (graceful|\.Nm)`,
			`Terraform takes a second signal.{0,200}on-repeat (Cm )?ignore`,
		} {
			if !regexp.MustCompile(warning).MatchString(text) {
				t.Errorf("%s: the document lacks %q", path, warning)
			}
		}
	}
}
