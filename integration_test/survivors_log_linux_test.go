package integration_test

import (
	"strings"
	"testing"
)

// If a target forks and ends, --verbose logs that graceful stops the survivors, and the flag to wait for them. Without
// survivors to stop, or if a stop ends the target, graceful does not log that.
func TestSurvivors_log(t *testing.T) {
	need(t, "linux", "setsid")
	const said = "the target has ended by itself; stopping what it left behind"
	for name, c := range map[string]struct {
		levels []string
		flags  string
		target string
		want   bool
	}{
		"setsid":             {[]string{"subreaper", "cgroup"}, "-v", "setsid -f sleep 1000; exit 3", true},
		"a job":              {[]string{"subreaper", "cgroup", "group"}, "-v", "sleep 1000 & exit 3", true},
		"a job, JSON":        {[]string{"subreaper"}, "-v --log-format json", "sleep 1000 & exit 3", true},
		"a job, silent":      {[]string{"subreaper", "group"}, "", "sleep 1000 & exit 3", false},
		"nothing":            {[]string{"subreaper", "cgroup", "group"}, "-v", "exit 3", false},
		"waited for":         {[]string{"subreaper", "cgroup", "group"}, "-v --survivors wait", "sleep 0.1 & exit 3", false},
		"kept":               {[]string{"subreaper", "group"}, "-v --survivors keep", "sleep 0.1 & exit 3", false},
		"stopped by a limit": {[]string{"subreaper"}, "-v --timeout .1 --remap-exit 124=3", "sleep 1000 & sleep 1000", false},
	} {
		for _, level := range c.levels {
			for _, guard := range []string{"on", "off"} {
				t.Run(name+", "+level+", guard "+guard, func(t *testing.T) {
					var cgroup string
					if level == "cgroup" {
						cgroup = ownCgroup(t)
					}
					t.Parallel()
					args := []string{plain, "run", "--contain", level, "--guard", guard}
					args = append(append(args, strings.Fields(c.flags)...), "--", "sh", "-c", c.target)
					if cgroup != "" {
						args = inCgroup(cgroup, args...)
					}
					p := start(t, args...)
					p.want("3")
					text := p.text()
					if strings.Contains(text, said) != c.want {
						t.Errorf("logged: %t; it wrote:\n%s", !c.want, text)
					}
					if c.want && !strings.Contains(text, "--survivors wait waits for them instead") {
						t.Errorf("the log does not name the flag:\n%s", text)
					}
				})
			}
		}
	}
}
