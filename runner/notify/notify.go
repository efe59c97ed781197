// Package notify relays messages from the processes of a run to the service manager (sd_notify(3)). The service manager
// accepts them only from the main process of the service, which is graceful.
package notify

import "strings"

// Choice sets whether messages are relayed.
type Choice string

// Auto relays messages if the service manager expects them from graceful.
const (
	Auto Choice = "auto"
	Off  Choice = "off"
)

// Choices lists the values of Choice, the default first.
func Choices() []Choice { return []Choice{Auto, Off} }

// SocketVariable names the variable with the address for the messages.
const SocketVariable = "NOTIFY_SOCKET"

// forManager returns a message without assignments to MAINPID and similar variables, because the main process is
// graceful. It returns "" if nothing else is in the message.
func forManager(message string) string {
	var kept []string
	for line := range strings.Lines(message) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "MAINPID") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// oneLine replaces control characters, so that a text fits into the value of an assignment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}
