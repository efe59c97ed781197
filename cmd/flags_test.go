package cmd

import (
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDurationValue(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10s": 10 * s, "1m30s": 90 * s, "250ms": s / 4, "0": 0, "0s": 0, "7": 7 * s,
		"2.5": 5 * s / 2, ".5": s / 2, "2.": 2 * s, "0.0": 0, ".0": 0, "00.25": s / 4, "0.000000001": 1, "1.5m": 90 * s,
	} {
		var got time.Duration
		if err := durationValue(&got).Set(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1s", "-5", "10 s", "99999999999999999999", "1e9",
		"1e3", "inf", "nan", "NaN", "0x10", "1_0", "+1", "-1", "-.5", ".", "1.2.3", "1,5", " 1", "1.5e0", "0x1p-2",
		"9300000000.5", "0.0000000009", ".9ns", "0.0000000001s",
	} {
		got := time.Hour
		if err := durationValue(&got).Set(text); err == nil || got != time.Hour {
			t.Errorf("%q is valid: %v", text, got)
		}
	}
	for _, text := range []string{"0", "0.0", ".0s"} {
		if err := positiveDurationValue(new(time.Duration)).Set(text); err == nil {
			t.Errorf("%s is valid, want an error", text)
		}
	}
}

// The errors repeat the given text, and suggest the most similar valid time.
func TestDurationValue_errors(t *testing.T) {
	for text, want := range map[string]string{
		"1e3":    `"1e3" is not a time (10s, 1m30s, 500ms)`,
		"":       `"" is not a time (10s, 1m30s, 500ms)`,
		"+1":     `"+1" is not a time (10s, 1m30s, 500ms)`,
		"1.2.3":  `"1.2.3" is not a time (10s, 1m30s, 500ms)`,
		"1.5 s":  `"1.5 s" is not a time (did you mean 1.5s?)`,
		".5sec":  `".5sec" is not a time (did you mean .5s?)`,
		"2 days": `"2 days" is not a time (did you mean 48h?)`,
		"1.5d":   `"1.5d" is not a time (10s, 1m30s, 500ms)`,
		"-.5s":   `"-.5s" is less than 0`,
		".1ns":   `".1ns" is less than 1ns, the shortest time`,
	} {
		if err := durationValue(new(time.Duration)).Set(text); err == nil || err.Error() != want {
			t.Errorf("%q: the error is %v, want %s", text, err, want)
		}
	}
}

func TestRewriteValue(t *testing.T) {
	for text, want := range map[string]map[int]int{
		"TERM=QUIT":             {15: 3},
		"15=3":                  {15: 3},
		"SIGTERM=SIGQUIT,HUP=0": {15: 3, 1: 0},
		"INT=TERM  USR1=none":   {2: 15, int(unix.SIGUSR1): 0},
		"TERM=KILL":             {15: 9},
		"RTMIN+1=USR1":          {35: int(unix.SIGUSR1)},
	} {
		if strings.Contains(text, "RTMIN") && runtime.GOOS != "linux" {
			continue
		}
		var got map[int]int
		if err := rewriteValue(&got).Set(text); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s is %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                    "it is empty (TERM=QUIT, or HUP=0 to drop it)",
		"TERM":                `"TERM" is not of the form FROM=TO (TERM=QUIT, or HUP=0 to drop it)`,
		"15:3":                `"15:3" is not of the form FROM=TO (TERM=QUIT, or HUP=0 to drop it)`,
		"TREM=QUIT":           `"TREM=QUIT": "TREM" is not a signal (did you mean TERM?)`,
		"TERM=QIUT":           `"TERM=QIUT": "QIUT" is not a signal (did you mean QUIT?)`,
		"TERM=":               `"TERM=": "" is not a signal`,
		"TERM=nothing":        `"TERM=nothing": "nothing" is not a signal`,
		"0=TERM":              `"0=TERM": "0" is not a signal`,
		"PIPE=TERM":           `"PIPE=TERM": PIPE is for graceful itself, which never forwards it`,
		"CLD=TERM":            `"CLD=TERM": CHLD is for graceful itself, which never forwards it`,
		"KILL=TERM":           `"KILL=TERM": KILL cannot be caught`,
		"SEGV=TERM":           `"SEGV=TERM": SEGV cannot be caught`,
		"TERM=INT,15=QUIT":    `"15=QUIT": TERM has been given before`,
		"TERM=INT SIGTERM=15": `"SIGTERM=15": TERM has been given before`,
	} {
		var got map[int]int
		if err := rewriteValue(&got).Set(text); err == nil || err.Error() != want {
			t.Errorf("%s is %v, %v; want the error %s", text, got, err, want)
		}
	}
}

func TestRemapValue(t *testing.T) {
	var got map[int]int
	v := remapValue(&got)
	for _, text := range []string{"143=0", "130=0 255=1"} {
		if err := v.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	if want := map[int]int{143: 0, 130: 0, 255: 1}; !maps.Equal(got, want) {
		t.Errorf("the statuses are %v, want %v", got, want)
	}
	for text, want := range map[string]string{
		"":      "it is empty (143=0)",
		"143":   `"143" is not of the form FROM=TO (143=0)`,
		"256=0": `"256=0": "256" is not an exit status (0 to 255)`,
		"1=-1":  `"1=-1": "-1" is not an exit status (0 to 255)`,
		"TERM=": `"TERM=": "TERM" is not an exit status (0 to 255)`,
		"143=1": `"143=1": 143 has been given before`,
	} {
		if err := v.Set(text); err == nil || err.Error() != want {
			t.Errorf("%s: the error is %v, want %s", text, err, want)
		}
	}
}

// --die-with-parent is a switch that also accepts the pid of a process.
func TestParentValue(t *testing.T) {
	for text, want := range map[string]string{
		"true": "true", "1": "true", "false": "false", "0": "false", "4711": "4711", "2": "2",
	} {
		var on bool
		pid := 99
		v := parentValue(&on, &pid)
		if err := v.Set(text); err != nil || v.String() != want || want == "true" && pid != 0 {
			t.Errorf("%s is %s (%d), %v", text, v, pid, err)
		}
	}
	for _, text := range []string{"", "-3", "maybe", "99999999999"} {
		if err := parentValue(new(bool), new(int)).Set(text); err == nil {
			t.Errorf("%q is valid", text)
		}
	}
}
