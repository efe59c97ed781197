package cmd

import "testing"

func TestNearest(t *testing.T) {
	words := []string{
		"TERM", "QUIT", "INT", "USR1", "USR2", "grace", "on-exit", "on-exit-order", "on-exit-timeout",
	}
	for text, want := range map[string]string{
		"TREM": "TERM", "TER": "TERM", "TERMM": "TERM", "QIUT": "QUIT", "INTR": "INT",
		"graec": "grace", "Grace": "grace",
		"on-exit-time": "on-exit-timeout", "onexit": "on-exit", "on_exit_order": "on-exit-order",
		"": "", "x": "", "up": "", "frobnicate": "",
	} {
		if got := nearest(text, words); got != want {
			t.Errorf("nearest to %q is %q, want %q", text, got, want)
		}
	}
}

func TestSuggestTime(t *testing.T) {
	for text, want := range map[string]string{
		"10 s": "10s", "10sec": "10s", "10 Seconds": "10s", "5min": "5m", "2 hours": "2h", "1 day": "24h",
		"250 ms": "250ms", "3milliseconds": "3ms", "1 month": "", "soon": "", "s": "", "99999999d": "",
	} {
		if got := suggestTime(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
