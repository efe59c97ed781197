package integration_test

import (
	"os/exec"
	"strings"
	"testing"
)

// mandoc accepts the manual, and shows all of its sections.
func TestManual_isWellFormed(t *testing.T) {
	need(t, "mandoc")
	if out, err := exec.Command("mandoc", "-Tlint", "-Wwarning", "../docs/graceful.1").CombinedOutput(); err != nil ||
		len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	// Render the whole manual, because a wrong macro may hide text.
	out, err := exec.Command("mandoc", "-Tascii", "-Owidth=100", "../docs/graceful.1").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{
		"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "OPTIONS OF OTHER COMMANDS", "DEADLINE", "REPORT FILE",
		"SIGNALS", "TERMINALS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO", "CAVEATS",
	} {
		bold := ""
		for _, letter := range section {
			bold += string(letter) + "\b" + string(letter)
		}
		if !strings.Contains(string(out), "\n"+strings.ReplaceAll(bold, " \b ", " ")+"\n") {
			t.Errorf("the manual has no section %s", section)
		}
	}
}
