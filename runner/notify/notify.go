// Package notify sends messages of graceful to the service manager, and relays those from the processes of a run
// (sd_notify(3)). By default the service manager accepts messages only from the main process of the service, which is
// graceful.
package notify

import "strings"

// Choice selects whether messages are relayed.
type Choice string

// With Auto, messages are relayed if the service manager expects them from graceful.
const (
	Auto Choice = "auto"
	Off  Choice = "off"
)

// Choices lists the values of Choice, the default first.
func Choices() []Choice { return []Choice{Auto, Off} }

// SocketVariable is the name of the variable that contains the address for messages.
const SocketVariable = "NOTIFY_SOCKET"

// forManager returns a message without the assignments to variables whose names begin with MAINPID, because the main
// process is graceful. It returns "" if the message contains nothing else.
func forManager(message string) string {
	var kept []string
	for line := range strings.Lines(message) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "MAINPID") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// oneLine replaces newlines and the other characters before the blank in ASCII by blanks, so that a text is a valid
// value in an assignment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}
