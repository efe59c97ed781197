// Package notify relays messages of a run's processes to the service manager (sd_notify(3)), which takes them only from
// the main process of the service. That process is graceful.
package notify

import "strings"

// Choice says whether messages are relayed.
type Choice string

// Auto relays messages if the service manager wants them of graceful.
const (
	Auto Choice = "auto"
	Off  Choice = "off"
)

// Choices lists the values of Choice, the default first.
func Choices() []Choice { return []Choice{Auto, Off} }

// SocketVariable names the variable with the address for the messages.
const SocketVariable = "NOTIFY_SOCKET"

// forManager returns a message without its assignments to MAINPID and the like: the main process is graceful, whatever
// its target says. It is empty when nothing is left.
func forManager(message string) string {
	var kept []string
	for line := range strings.Lines(message) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "MAINPID") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// oneLine makes a text fit into the value of an assignment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}
