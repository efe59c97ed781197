package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// jail builds a root directory with graceful, a static busybox and some links to busybox.
func jail(t *testing.T, links ...string) string {
	t.Helper()
	need(t, "linux", "userns", "busybox", "chroot")
	root := t.TempDir()
	busybox := "/bin/busybox"
	for from, to := range map[string]string{plain: "graceful", busybox: "busybox"} {
		if err := copyFile(from, filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "bin", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range links {
		if err := os.Symlink("/busybox", filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// inJail returns a command line that runs a program in the root directory of jail.
func inJail(root string, args ...string) []string {
	return append([]string{"unshare", "--user", "--map-root-user", "--mount", "chroot", root}, args...)
}

// Without /bin/sh, a cleanup command in exec form runs. A run with a command in shell form is refused, and starts
// nothing.
func TestRun_withoutAShell(t *testing.T) {
	root := jail(t)
	p := command(t, inJail(root, "/graceful", "run", "--on-exit", `["/busybox", "echo", "cleaned"]`, "--", "/busybox",
		"sh", "-c", "exit 3")...)
	p.start().want("3")
	if !strings.Contains(p.text(), "cleaned") {
		t.Errorf("the exec form did not run:\n%s", p.text())
	}
	for _, flag := range []string{"--on-exit", "--on-stop"} {
		p = command(t, inJail(root, "/graceful", "run", flag, "echo cleaned", "--", "/busybox", "echo", "started")...)
		p.start().want("125")
		if text := p.text(); strings.Contains(text, "started\n") ||
			!strings.Contains(text, `command "echo cleaned" needs /bin/sh`) {
			t.Errorf("%s: want a refusal with a reason:\n%s", flag, text)
		}
	}
}

// Without /proc, the level of containment is lower, and graceful reports that. As PID 1, graceful needs no /proc.
func TestContain_withoutProc(t *testing.T) {
	root := jail(t, "bin/sh")
	if err := os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o666); err != nil { // read by background jobs of a shell
		t.Fatal(err)
	}
	// graceful logs a warning at the start, and ends only the process group.
	p := command(t, inJail(root, "/graceful", "run", "--on-exit", "echo cleaned", "--", "/busybox", "sh", "-c",
		"/busybox sleep 1000 & exit 3")...)
	p.start().want("3")
	if text := p.text(); !strings.Contains(text, "containment is limited level=group: /proc is missing") ||
		withoutLog(text) != "cleaned\n" {
		t.Errorf("it wrote:\n%s", text)
	}
	// If a level of containment was requested by name and is not available, graceful reports an error.
	p = command(t, inJail(root, "/graceful", "run", "--contain", "subreaper", "--", "/busybox", "echo", "started")...)
	p.start().want("125")
	if text := p.text(); strings.Contains(text, "started") || !strings.Contains(text, "/proc is missing") {
		t.Errorf("it wrote:\n%s", text)
	}
	// As PID 1, graceful finds all processes without /proc.
	need(t, "pidns")
	p = command(t, append([]string{"unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount",
		"chroot", root},
		"/graceful", "run", "--on-exit", "/busybox echo cleaned", "--", "/busybox", "sh", "-c",
		"/busybox setsid /busybox sleep 1000 & exit 3")...)
	p.start().want("3")
	if text := p.text(); text != "cleaned\n" {
		t.Errorf("it wrote:\n%s", text)
	}
}

// The /proc of another PID namespace shows other processes under the pids of the run. graceful reports that.
func TestContain_procOfAnotherPIDNamespace(t *testing.T) {
	need(t, "linux", "pidns")
	p := start(t, "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--",
		"sh", "-c", "graceful run -- true; exit $?")
	p.want("0")
	if !strings.Contains(p.text(), "shows another PID namespace") {
		t.Errorf("it does not report the other namespace:\n%s", p.text())
	}
}

// A run and its cleanup commands work on a read-only file system.
func TestRun_onAReadOnlyFileSystem(t *testing.T) {
	root := jail(t, "bin/sh")
	script := `mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec chroot "$0" \
		/graceful run --on-exit 'echo cleaned' -- /busybox sh -c '! /busybox touch /x 2>/dev/null && exit 3'`
	p := command(t, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, root)
	p.start().want("3")
	if !strings.Contains(p.text(), "\ncleaned\n") { // graceful's warnings may come at any time
		t.Errorf("it wrote:\n%s", p.text())
	}
}
