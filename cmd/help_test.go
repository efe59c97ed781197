package cmd

import (
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpOf is what graceful says to such arguments, and the command that said it.
func helpOf(t *testing.T, args ...string) (string, *cobra.Command) {
	t.Helper()
	without(t)
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

func TestHelpFitsTheScreenAndShowsEachFlagAtWork(t *testing.T) {
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
			if f.Name == "help" {
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

func TestHelpListsEveryCommand(t *testing.T) {
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

// checkExample takes the flags of an example, as the shell would give them.
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

func TestTheRevisionIsSaidOnce(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for version, want := range map[string]string{
		"(devel)":                            "(devel) " + revision + " go9",
		"v1.2.3":                             "v1.2.3 " + revision + " go9",
		"v0.0.0-20260102030405-0123456789ab": "v0.0.0-20260102030405-0123456789ab go9",
		"v1.2.4-0.20260102030405-0123456789ab+dirty": "v1.2.4-0.20260102030405-0123456789ab+dirty go9",
	} {
		info := &debug.BuildInfo{GoVersion: "go9", Main: debug.Module{Version: version}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}}}
		if got := describeBuild(info); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}

func TestMistakesAreSaidInTheFormThatIsAskedFor(t *testing.T) {
	without(t)
	for _, c := range []struct {
		args, variable string
		want           bool
	}{
		{"run --log-format json --graec", "", true},
		{"run --log-format text --graec", "json", false},
		{"run --graec", "json", true},
		{"run --graec --log-format json", "", false}, // nobody got that far
		{"run --log-format xml", "", false},
		{"recover --log-format json --stat-dir", "", true},
		{"rnu --log-format json", "", false},
	} {
		t.Setenv("GRACEFUL_LOG_FORMAT", c.variable)
		root := newRoot(new(int))
		root.SetArgs(strings.Fields(c.args))
		command, err := root.ExecuteC()
		if err == nil || wantsJSON(command) != c.want {
			t.Errorf("%s (variable %q): in JSON is %t, after the error %v", c.args, c.variable, !c.want, err)
		}
	}
}
