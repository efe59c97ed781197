package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGolden_ledgers recovers runs that were killed at various moments, from their ledgers of version 2. An earlier
// version of graceful wrote the files in testdata/golden. They do not change, because later versions must be able to
// read what earlier versions wrote.
func TestGolden_ledgers(t *testing.T) {
	need(t, "linux")
	for name, want := range map[string]struct {
		status, output string
		left           string // the ledger that remains; "": none
	}{
		"running":    {"0", "first\nsecond\n", ""},
		"configured": {"0", "first recovered\n", ""}, // with each recorded option
		"stopping":   {"1", "first\n", ""},           // the on-stop command was interrupted
		"cleaning":   {"1", "pending\n", "cleaning.ledger.interrupted"},
		"registered": {"0", "\xff\x01\nwaited\nshell \xff\x01\"\\\nregistered\nfirst\n", ""},
		"reported":   {"1", "", "reported.ledger.interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("testdata/golden", name+".ledger"))
			if err != nil {
				t.Fatal(err)
			}
			p := command(t, "graceful", "recover", "--state-dir", "state")
			if err := os.Mkdir(filepath.Join(p.dir, "state"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(p.dir, "state", name+".ledger"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			said, err := os.Create(filepath.Join(p.dir, "said"))
			if err != nil {
				t.Fatal(err)
			}
			defer said.Close()
			p.cmd.Stderr = said
			p.start().want(want.status)
			if got := p.text(); got != want.output {
				t.Errorf("the commands wrote %q, want %q; recover wrote:\n%s", got, want.output, p.waitForFile("said"))
			}
			left, _ := os.ReadDir(filepath.Join(p.dir, "state"))
			var names []string
			for _, file := range left {
				names = append(names, file.Name())
			}
			if got := strings.Join(names, " "); got != want.left {
				t.Errorf("the remaining ledgers are %q, want %q", got, want.left)
			}
		})
	}
}

// TestGolden_reports reads reports of version 1 with the current types, and validates the reports against the schema.
func TestGolden_reports(t *testing.T) {
	all := newReports(t)
	for name, want := range map[string]struct {
		reason   string
		status   int
		outcomes string
	}{
		"exited":      {"exited", 7, "succeeded failed"},
		"timed-out":   {"timed-out", 124, "succeeded"},
		"not-started": {"start-failed", 127, ""},
	} {
		r := all.read(t, filepath.Join("testdata/golden", name+".report.json"))
		if r.Reason != want.reason || r.ExitStatus != want.status || outcomes(r) != want.outcomes {
			t.Errorf("%s: the report is %+v", name, r)
		}
	}
}

// TestGolden_protocol sends requests of version 1, and compares the answers, except for the texts of errors, with
// recorded answers.
func TestGolden_protocol(t *testing.T) {
	need(t, "linux", "socat")
	text, err := os.ReadFile("testdata/golden/protocol.txt")
	if err != nil {
		t.Fatal(err)
	}
	var requests, answers []string
	for line := range strings.Lines(string(text)) {
		if request, ok := strings.CutPrefix(line, "> "); ok {
			requests = append(requests, request)
		} else if answer, ok := strings.CutPrefix(line, "< "); ok {
			answers = append(answers, answer)
		}
	}
	p := command(t, "graceful", "run", "--on-exit", ":", "--", "sh", "-c",
		`while read -r line; do printf '%s\n' "$line" | socat -t 30 - UNIX-CONNECT:$GRACEFUL_SOCKET; done <requests`)
	if err := os.WriteFile(filepath.Join(p.dir, "requests"), []byte(strings.Join(requests, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start().want("0")
	texts := regexp.MustCompile(`"error":"([^"\\]|\\.)*"`) // the texts are for people, and may differ between versions
	plain := func(answers string) string { return texts.ReplaceAllString(answers, `"error":""`) }
	if got, want := plain(p.text()), plain(strings.Join(answers, "")); got != want {
		t.Errorf("the answers are\n%s\nand not\n%s", got, want)
	}
}
