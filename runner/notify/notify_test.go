package notify

import "testing"

func TestForManager(t *testing.T) {
	for message, want := range map[string]string{
		"READY=1":                              "READY=1",
		"READY=1\nMAINPID=7\nSTATUS=up\n":      "READY=1\nSTATUS=up",
		"MAINPID=7":                            "",
		"MAINPID=7\nMAINPIDFDID=9\nWATCHDOG=1": "WATCHDOG=1",
		"STATUS=MAINPID=7":                     "STATUS=MAINPID=7",
		"":                                     "",
	} {
		if got := forManager(message); got != want {
			t.Errorf("%q becomes %q, want %q", message, got, want)
		}
	}
}
