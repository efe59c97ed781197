package cmd

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/machine"
)

func TestScheduleValue(t *testing.T) {
	step := func(sig int, wait time.Duration) machine.Step { return machine.Step{Signal: sig, Wait: wait} }
	const term, intr, quit, none = int(unix.SIGTERM), int(unix.SIGINT), int(unix.SIGQUIT), machine.NoSignal
	for text, want := range map[string][]machine.Step{
		"TERM/3s/INT/5s/QUIT/2s/KILL": {step(term, 3*s), step(intr, 5*s), step(quit, 2*s)},
		"TERM/3s/INT/5s/QUIT/2s":      {step(term, 3*s), step(intr, 5*s), step(quit, 2*s)}, // KILL ends every schedule
		"sigterm/3/-INT/5/-3/2/-9":    {step(term, 3*s), step(intr, 5*s), step(quit, 2*s)}, // the syntax of start-stop-daemon
		"TERM/3/KILL/5":               {step(term, 3*s)},
		"10":                          {step(0, 10*s)},
		"1m30s":                       {step(0, 90*s)},
		"0":                           {step(0, 0)},
		"10/TERM/5":                   {step(none, 10*s), step(term, 5*s)},
		"10/KILL":                     {step(none, 10*s)},
		"2/3":                         {step(none, 5*s)},
		"KILL":                        {step(none, 0)},
		"KILL/5":                      {step(none, 0)},
		"TERM":                        {step(term, 0)},
		"TERM/.5/KILL/0.1":            {step(term, s/2)},
		"2.5":                         {step(0, 5*s/2)},
		"TERM/INT/2/3/RTMIN+3/500ms":  {step(term, 0), step(intr, 5*s), step(37, s/2)},
	} {
		if strings.Contains(text, "RTMIN") && runtime.GOOS != "linux" {
			continue
		}
		if got, err := parseSchedule(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                  "it is empty (TERM/10s/INT/5s/KILL)",
		"/":                 "an item before or after a slash is empty (TERM/10s/INT/5s/KILL)",
		"TERM/":             "an item before or after a slash is empty (TERM/10s/INT/5s/KILL)",
		"TERM//KILL":        "an item before or after a slash is empty (TERM/10s/INT/5s/KILL)",
		"TREM/5s":           `"TREM" is neither a signal nor a time (did you mean TERM?)`,
		"SIGTREM/5s":        `"SIGTREM" is neither a signal nor a time (did you mean TERM?)`,
		"-SIGQIUT":          `"-SIGQIUT" is neither a signal nor a time (did you mean QUIT?)`,
		"TERM/5 s":          `"5 s" is neither a signal nor a time (did you mean 5s?)`,
		"TERM/-5s":          `"-5s" is neither a signal nor a time`,
		"TERM/soon":         `"soon" is neither a signal nor a time`,
		"TERM/forever/KILL": `"forever" is refused: a stop must end; give a time`,
		"KILL/5s/TERM":      "only one time may follow KILL: no process is left to stop",
		"KILL/5s/5s":        "only one time may follow KILL: no process is left to stop",
		"KILL/KILL":         "only one time may follow KILL: no process is left to stop",
		"STOP/5s":           "STOP does not end a process: it suspends it",
	} {
		if got, err := parseSchedule(text); err == nil || err.Error() != want {
			t.Errorf("%s is %v, %v; want the error %s", text, got, err, want)
		}
	}
}
