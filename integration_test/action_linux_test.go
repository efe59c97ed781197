package integration_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// actionStep prepares a script of action.yml as GitHub's runner runs it, in a new directory. n selects the script: 0
// installs graceful, 1 runs the command, 2 finishes killed runs. env contains further variables of the script.
func actionStep(t *testing.T, n int, env ...string) *proc {
	t.Helper()
	text, err := os.ReadFile("../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	scripts := regexp.MustCompile(`(?m)^      run: (.*)$`).FindAllSubmatch(text, -1)
	if len(scripts) != 3 {
		t.Fatalf("action.yml has %d scripts", len(scripts))
	}
	p := command(t, "bash", "--noprofile", "--norc", "-eo", "pipefail", "script")
	if err := os.WriteFile(filepath.Join(p.dir, "script"), append(scripts[n][1], '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Env = append(os.Environ(), "GITHUB_ACTIONS=true", "GITHUB_ACTION_PATH="+source,
		"RUNNER_TEMP="+p.dir, "GITHUB_PATH="+filepath.Join(p.dir, "path"))
	p.cmd.Env = append(p.cmd.Env, env...)
	return p
}

// release writes a release v7.0.0 of owner/name, with the file names and the layout that .ci/packaging uses. It returns
// a file URL, which the action accepts as the URL of the GitHub server. program is the content of graceful in the
// archive. If tampered is true, the archive does not match SHA256SUMS.
func release(t *testing.T, program string, tampered bool) string {
	t.Helper()
	arch := map[string]string{"arm": "armhf"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	name := "graceful-7.0.0-linux-" + arch
	var archive bytes.Buffer
	zipped := gzip.NewWriter(&archive)
	packed := tar.NewWriter(zipped)
	header := tar.Header{Name: name + "/bin/graceful", Mode: 0o755, Size: int64(len(program))}
	if err := packed.WriteHeader(&header); err != nil {
		t.Fatal(err)
	}
	if _, err := packed.Write([]byte(program)); err != nil {
		t.Fatal(err)
	}
	packed.Close()
	zipped.Close()
	sums := fmt.Sprintf("%x  %s.deb\n%x  %[2]s.tar.gz\n", sha256.Sum256(nil), name, sha256.Sum256(archive.Bytes()))
	if tampered {
		archive.WriteByte(0)
	}
	root := t.TempDir()
	dir := filepath.Join(root, "owner/name/releases/download/v7.0.0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{name + ".tar.gz": archive.Bytes(), "SHA256SUMS": []byte(sums)} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + root
}

// fakeGo is a script in place of the go command. In a directory with main.go it writes the text "installed" to the
// output path of go build. In another directory it fails.
const fakeGo = `#!/bin/sh
[ -e main.go ] || exit
while [ "$1" != -o ]; do shift; done
printf installed >"$2"`

// The action installs a release only if the archive has the checksum that SHA256SUMS of the release lists. Otherwise
// the action fails and installs nothing. Without a version the action builds graceful from the action's own source.
func TestAction_install(t *testing.T) {
	need(t, "bash", "curl")
	const program = "installed"
	bin := t.TempDir()
	if err := writeProgram(filepath.Join(bin, "go"), []byte(fakeGo)); err != nil {
		t.Fatal(err)
	}
	good, tampered := release(t, program, false), release(t, program, true)
	for name, c := range map[string]struct{ server, version, repository, says string }{
		"a release":          {good, "v7.0.0", "owner/name", ""},
		"from source":        {good, "", "", ""},
		"another archive":    {tampered, "v7.0.0", "owner/name", "is not what SHA256SUMS says"},
		"no such release":    {good, "v7.0.1", "owner/name", "no file://"},
		"unknown repository": {good, "v7.0.0", "", "is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			p := actionStep(t, 0, "PATH="+bin+":"+os.Getenv("PATH"),
				"GITHUB_SERVER_URL="+c.server, "VERSION="+c.version, "REPOSITORY="+c.repository).start()
			if c.says != "" {
				p.want("1")
				if !strings.Contains(p.text(), c.says) || exists(p, "path") || exists(p, "graceful-bin/graceful") {
					t.Errorf("it wrote:\n%s", p.text())
				}
				return
			}
			p.want("0")
			p.wantFile("path", filepath.Join(p.dir, "graceful-bin")+"\n")
			p.wantFile("graceful-bin/graceful", program)
		})
	}
}

// When a job is cancelled, the runner signals the first process of the step. That process must be graceful, not a
// shell, so that the target can handle the signal and cleanup runs. The last step then has nothing to clean up.
func TestAction_cancel(t *testing.T) {
	need(t, "bash")
	state := "GRACEFUL_STATE_DIR=" + filepath.Join(t.TempDir(), "state")
	p := actionStep(t, 1, state, "GRACEFUL_DEADLINE=9s", "GRACEFUL_GRACE=", "GRACEFUL_ON_EXIT=echo cleaned >&2",
		"GRACEFUL_ON_EXIT_TIMEOUT=4s", "GRACEFUL_ON_REPEAT=", "GRACEFUL_NAME=",
		`COMMAND=trap "echo stopped; exit 5" INT; echo >ready; while :; do sleep 0.01; done`).start()
	p.waitForFile("ready")
	p.signal(unix.SIGINT)
	p.want("5")
	if want := "stopped\n::group::cleanup: echo cleaned >&2\ncleaned\n::endgroup::\n"; p.text() != want {
		t.Errorf("it wrote %q, want %q", p.text(), want)
	}
	last := actionStep(t, 2, state).start()
	last.want("0")
	if last.text() != "" {
		t.Errorf("recover wrote %q", last.text())
	}
}

// If all processes of graceful are killed, the last step cleans up.
func TestAction_recover(t *testing.T) {
	need(t, "bash")
	state := "GRACEFUL_STATE_DIR=" + filepath.Join(t.TempDir(), "state")
	p := actionStep(t, 1, state, "GRACEFUL_ON_EXIT=echo cleaned", "COMMAND=echo >ready; sleep 1000").start()
	p.waitForFile("ready")
	killBoth(t, p.cmd.Process.Pid)
	p.want("KILL")
	last := actionStep(t, 2, state).start()
	last.want("0")
	if want := "::group::cleanup: echo cleaned\ncleaned\n::endgroup::\n"; last.text() != want {
		t.Errorf("recover wrote %q, want %q", last.text(), want)
	}
}
