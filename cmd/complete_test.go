package cmd

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// completionTests maps a list of words to the completions of the last word.
var completionTests = map[string][]string{
	"run|--rewrite|TE":               {"TERM="},
	"run|--rewrite|USR":              {"USR1=", "USR2="},
	"run|--rewrite|TERM=QU":          {"TERM=QUIT"},
	"run|--rewrite|TERM=KI":          {"TERM=KILL"}, // KILL cannot be caught, but graceful can send it
	"run|--rewrite|KI":               nil,
	"run|--rewrite|sigt":             {"sigterm=", "sigtstp=", "sigttin=", "sigttou="},
	"run|--rewrite=TERM=0":           {"TERM=0"},
	"run|--rewrite|RTMIN+3":          {"RTMIN+3=", "RTMIN+30="},
	"run|--stop-schedule|TERM/10s/K": {"TERM/10s/KILL"},
	"run|--stop-schedule|TERM/3":     {"TERM/30s"},
	"run|--contain|sub":              {"subreaper"},
	"run|--survivors|":               {"stop", "wait", "keep"},
	"run|--forward-to|t":             {"target"},
	"run|--on-exit-order|":           {"lifo", "fifo", "parallel"},
	"run|--guard|o":                  {"on", "off"},
	"run|--log-format=j":             {"json"},
	"recover|--log-format|t":         {"text"},
	"doctor|--format|":               {"text", "json"},
	"defer|--format|":                {"text", "json"},
	"defer|--timeout|3":              {"30s"},
	"defer|serve2":                   {"serve2"},
	"cancel|":                        nil, // outside a run
	"run|--grace|1":                  {"10s", "1m"},
	"run|--on-r":                     {"--on-repeat"},
	"run|--on-repeat|":               {"forward", "ignore", "kill"},
	"run|--kill":                     {},
	"run|--|ser":                     {"serve", "serve2"},
	"run|ser":                        {"serve", "serve2"},
	"run|--grace|5s|--|ser":          {"serve", "serve2"},
	"run|--on-exit|ser":              {"serve", "serve2"},
	"run|--|serve|--gr":              nil, // the target's own flag
	"run|--|serve|ser":               nil, // files
	"run|--name|ser":                 nil,
	"comp":                           {"completion"},
	"rec":                            {"recover"},
	"completion|":                    {"bash", "fish", "powershell", "zsh"},
}

func TestComplete(t *testing.T) {
	unsetVariables(t)
	bin := t.TempDir()
	t.Setenv("PATH", bin+":/nowhere:"+bin)
	for name, mode := range map[string]os.FileMode{"serve": 0o755, "serve2": 0o755, "server.conf": 0o644} {
		if err := os.WriteFile(filepath.Join(bin, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range completionTests {
		if strings.Contains(args, "RTMIN") && runtime.GOOS != "linux" {
			continue
		}
		var text strings.Builder
		root := newRoot(new(int))
		root.SetArgs(append([]string{"__completeNoDesc"}, strings.Split(args, "|")...))
		root.SetOut(&text)
		root.SetErr(new(strings.Builder))
		if err := root.Execute(); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if got := lines[:len(lines)-1]; !slices.Equal(got, want) {
			t.Errorf("%s is completed to %q, want %q", args, got, want)
		}
	}
}
