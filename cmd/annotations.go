package cmd

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"graceful/runner"
)

// annotations makes the lines that a CI system shows as annotations and groups in the log of a job.
//
// The output of a cleanup command is in a group. Groups of GitHub and sections of GitLab cannot interleave, so the
// runner announces only commands that run alone.
type annotations struct {
	system    ciSystem
	catchUp   func() // see output.catchUp
	openGroup string // id of the command whose group is open; "": there is none, or another graceful has opened it
}

// ciSystem is the syntax of a CI system. Each function returns a line of output.
type ciSystem struct {
	record func(level slog.Level, text string) string // nil: a log record has its usual form
	begin  func(section, title string, now time.Time) string
	end    func(section string, now time.Time) string
}

// newAnnotations returns annotations for the CI system that the environment of the run indicates. It returns nil
// outside of these systems, for a log in JSON, and with --annotations off.
func newAnnotations(c runner.Config, catchUp func()) *annotations {
	switch {
	case c.LogJSON || !c.Annotations:
	case slices.Contains(c.Env, "GITHUB_ACTIONS=true"):
		return &annotations{system: github, catchUp: catchUp}
	case slices.Contains(c.Env, "GITLAB_CI=true"):
		return &annotations{system: gitlab, catchUp: catchUp}
	}
	return nil
}

// github writes workflow commands. GitHub's runner reads them at the beginning of a line (ActionCommand.cs) of standard
// output or standard error (ScriptHandler.cs).
var github = ciSystem{
	record: func(level slog.Level, text string) string {
		command := "::warning title=graceful::"
		if level >= slog.LevelError {
			command = "::error title=graceful::"
		}
		return command + escapeData(text) + "\n"
	},
	begin: func(_, title string, _ time.Time) string { return "::group::" + escapeData(title) + "\n" },
	end:   func(string, time.Time) string { return "::endgroup::\n" },
}

// escapeData escapes the data of a workflow command. (In properties, : and , would also need escapes. But the
// properties that graceful writes are constant.)
func escapeData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// gitlab writes the markers of collapsible sections. A terminal does not show the markers.
var gitlab = ciSystem{
	begin: func(section, title string, now time.Time) string {
		return fmt.Sprintf("\x1b[0Ksection_start:%d:%s[collapsed=true]\r\x1b[0K%s\n", now.Unix(), section, title)
	},
	end: func(section string, now time.Time) string {
		return fmt.Sprintf("\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", now.Unix(), section)
	},
}

// record returns the line for a log record, or "" if the record is not shown as an annotation.
func (a *annotations) record(level slog.Level, text string) string {
	if a == nil || a.system.record == nil || level < slog.LevelWarn {
		return ""
	}
	return a.system.record(level, oneLine(text))
}

// Log records with these messages begin and end a group. Their level is slog.LevelDebug.
const (
	messageCommandStarts = "cleanup command starts"
	messageCommandOver   = "cleanup command is over"
)

// group returns the line for a record that begins or ends a group, otherwise "". began reports whether the line begins
// a group. Such a line must be written before the command starts, and so before the command's output.
func (a *annotations) group(r slog.Record, attr func(key string) string) (line string, began bool) {
	// After a takeover, the new graceful ends the group of the killed one by the same name.
	id, section := attr("id"), fmt.Sprintf("graceful_%.16s_%s", attr("run"), attr("id"))
	switch {
	// If a failed start is tried again, the group of the command is open already.
	case r.Message == messageCommandStarts && a.openGroup != id:
		a.openGroup = id
		title := attr("name")
		if title == "" {
			title = attr("command")
		}
		return a.system.begin(section, "cleanup: "+oneLine(title), r.Time), true
	case r.Message == messageCommandOver && (a.openGroup == "" || a.openGroup == id):
		a.openGroup = ""
		return a.system.end(section, r.Time), false
	}
	return "", false
}
