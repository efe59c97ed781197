package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// After a takeover, the new graceful also writes annotations. It ends the group (GitHub) or section (GitLab) that the
// killed graceful began.
func TestAnnotations_takeover(t *testing.T) {
	for variable, want := range map[string]string{
		"GITHUB_ACTIONS": `^::group::cleanup: echo one.*
one
::warning title=graceful::graceful was killed; taking over the run
two
::endgroup::
::warning title=graceful::cleanup command failed id=1 .* status=3
$`,
		"GITLAB_CI": `^\x1b\[0Ksection_start:\d+:graceful_\w+_1\[collapsed=true\]\r\x1b\[0Kcleanup: echo one.*
one
graceful: graceful was killed; taking over the run
two
\x1b\[0Ksection_end:\d+:graceful_\w+_1\r\x1b\[0K
graceful: cleanup command failed id=1 .* status=3
$`,
	} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			p := command(t, "graceful", "run", "--guard", "on", "--on-exit",
				"echo one; echo >begun; until [ -e go ]; do sleep 0.01; done; echo two; exit 3", "--", "true")
			p.cmd.Env = append(os.Environ(), variable+"=true")
			p.start()
			p.waitForFile("begun")
			guard := guardOf(p.cmd.Process.Pid)
			p.signal(unix.SIGKILL)
			p.until("second graceful", func() bool { return strings.Contains(p.text(), "taking over") })
			if err := os.WriteFile(filepath.Join(p.dir, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			p.want("KILL")
			p.until("end of the guard", func() bool { return !alive(guard) })
			if text := p.text(); !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("it wrote %q, want %s", text, want)
			}
		})
	}
}
