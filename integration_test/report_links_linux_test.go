package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const startOfReport = "{\n  \"report\": 1,"

// attacker is the id of a user that creates links in the path of a report.
const attacker = "12345"

// scene is a directory with two subdirectories, and a block device named block. Every user may write to pub. The
// subdirectory private belongs to root, and contains a victim.
type scene struct {
	*testing.T
	dir string
}

func newScene(t *testing.T) scene {
	t.Helper()
	need(t, "linux", "root", "setpriv")
	s := scene{t, t.TempDir()}
	for up := s.dir; up != os.TempDir(); up = filepath.Dir(up) {
		must(s, os.Chmod(up, 0o755))
	}
	s.sh("mkdir -m 1777 pub; mkdir -m 700 private; echo kept >private/victim; chmod 600 private/victim")
	s.sh("mknod block b 240 77") // a device number for experiments, without a driver
	return s
}

func (s scene) path(path string) string { return filepath.Join(s.dir, path) }

func (s scene) run(args ...string) {
	s.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Dir = s.dir
	if out, err := c.CombinedOutput(); err != nil {
		s.Fatalf("%q: %v: %s", args, err, out)
	}
}

func (s scene) sh(script string) { s.Helper(); s.run("sh", "-ec", script) }

// attack runs a script as the attacker.
func (s scene) attack(script string) { s.Helper(); s.run(attackers("sh", "-ec", script)...) }

func attackers(command ...string) []string {
	return append([]string{"setpriv", "--reuid", attacker, "--clear-groups", "--"}, command...)
}

// start starts a run in the directory.
func (s scene) start(args ...string) *proc {
	s.Helper()
	p := command(s.T, append([]string{"graceful", "run"}, args...)...)
	p.dir, p.cmd.Dir = s.dir, s.dir
	return p.start()
}

// wantUnharmed fails the test if the victim has changed, or if private contains another file.
func (s scene) wantUnharmed() {
	s.Helper()
	st, err := os.Lstat(s.path("private/victim"))
	text, err1 := os.ReadFile(s.path("private/victim"))
	there := inDir(s.T, s.path("private"))
	if err != nil || err1 != nil || string(text) != "kept\n" || st.Mode() != 0o600 || there != "victim" {
		s.Errorf("the victim is %q, %v, %v; in its directory are %q", text, st, err, there)
	}
}

// wantReport fails the test unless path is a regular file with the given mode, contains a report, and has no draft next
// to it.
func (s scene) wantReport(path string, mode os.FileMode) {
	s.Helper()
	st, err := os.Lstat(s.path(path))
	if err != nil || !st.Mode().IsRegular() {
		s.Fatalf("%s is no report: %v, %v", path, st, err)
	}
	text, err := os.ReadFile(s.path(path))
	if err != nil || st.Mode() != mode || !strings.HasPrefix(string(text), startOfReport) {
		s.Errorf("%s is %.40q, %v, %v; want a report of mode %v", path, text, st.Mode(), err, mode)
	}
	if drafts, _ := filepath.Glob(s.path(filepath.Dir(path) + "/.graceful-*")); len(drafts) > 0 {
		s.Errorf("left drafts: %q", drafts)
	}
}

// A link is followed only if it belongs to graceful's user or to the owner of its directory. If another link is in the
// path, graceful names that link and starts nothing, wherever the link leads.
func TestReport_linkOfAnotherUser(t *testing.T) {
	for name, c := range map[string]struct{ before, attack, report, link string }{
		"to a file":                   {"", "ln -s $PWD/private/victim pub/r", "pub/r", "pub/r"},
		"to a file by a relative one": {"", "ln -s ../private/victim pub/r", "pub/r", "pub/r"},
		"to a file that is not there": {"", "ln -s $PWD/private/new pub/r", "pub/r", "pub/r"},
		"to a block device":           {"", "ln -s $PWD/block pub/r", "pub/r", "pub/r"},
		"to a descriptor":             {"", "ln -s /dev/stderr pub/r", "pub/r", "pub/r"},
		"to a directory":              {"", "ln -s ../private pub/d", "pub/d/victim", "pub/d"},
		"where a directory will be":   {"", "ln -s nowhere pub/d", "pub/d/r", "pub/d"},
		"after a trusted link":        {"ln -s pub/r ours", "ln -s ../private/victim pub/r", "ours", "pub/r"},
		"where no bit is sticky":      {"chmod 777 pub", "ln -s ../private/victim pub/r", "pub/r", "pub/r"},
		"in a directory of a third":   {"chown 54321 pub", "ln -s ../private/victim pub/r", "pub/r", "pub/r"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.sh(c.before)
			s.attack(c.attack)
			want := fmt.Sprintf("graceful: setting up the run: --report %s: the link %s belongs to user %s (links are "+
				"followed only if they belong to us or to their directory's owner)\n", s.path(c.report), s.path(c.link), attacker)
			for _, guard := range []string{"on", "off"} {
				p := s.start("--guard", guard, "--state-dir", "state", "--on-exit", "echo >started", "--report", c.report,
					"--", "touch", "started")
				p.want("125")
				if got := p.text(); got != want {
					t.Errorf("guard %s: it wrote\n%s\nand not\n%s", guard, got, want)
				}
			}
			s.wantUnharmed()
			if all := inDir(t, s.dir); strings.Contains(all, "started") || strings.Contains(all, "state") {
				t.Errorf("the directory has %s", all)
			}
		})
	}
}

// In a user namespace, all users that are not mapped have the same id. A link and its directory may still have
// different owners, so graceful refuses the link.
func TestReport_linkOfAnUnmappedUser(t *testing.T) {
	s := newScene(t)
	need(t, "userns")
	t.Parallel()
	s.sh("chmod 755 private; chmod 666 private/victim; chown 54321 pub")
	s.attack("ln -s ../private/victim pub/r")
	p := command(t, "unshare", "--user", "--map-root-user", plain, "run", "--report", s.path("pub/r"), "--", "true")
	p.start().want("125")
	if !strings.Contains(p.text(), "/pub/r belongs to user 65534 (") {
		t.Errorf("it wrote\n%s", p.text())
	}
}

// graceful refuses to write a report to a FIFO of another user in a directory for all users, because that user may read
// the report. graceful accepts a FIFO that belongs to the owner of its directory.
func TestReport_FIFOOfAnotherUser(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.attack("mkfifo -m 666 pub/r; mkdir pub/own; mkfifo pub/own/r")
	p := s.start("--report", "pub/r", "--", "touch", "started")
	p.want("125")
	want := fmt.Sprintf("graceful: setting up the run: --report %s: it belongs to user %s "+
		"(a FIFO has to belong to us or to its directory's owner)\n", s.path("pub/r"), attacker)
	if got := p.text(); got != want {
		t.Errorf("it wrote\n%s\nand not\n%s", got, want)
	}
	s.start("--report", "pub/own/r", "--", "true").want("0")
}

// graceful does not write a report to a block device. The path may name the device, or lead to it by a link of
// graceful's user, or the target may create the device.
func TestReport_blockDevice(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.sh("ln -s block ours")
	for _, path := range []string{"block", "ours"} {
		p := s.start("--report", path, "--", "touch", "started")
		p.want("125")
		want := fmt.Sprintf("graceful: setting up the run: --report %s: it is a block device "+
			"(a report can go to a file, a FIFO or a terminal)\n", s.path(path))
		if got := p.text(); got != want {
			t.Errorf("%s: it wrote\n%s\nand not\n%s", path, got, want)
		}
	}
	p := s.start("--report", "r", "--", "mknod", "r", "b", "240", "77")
	p.want("0")
	if got := p.text(); !strings.Contains(got, "writing report "+s.path("r")+": it is a block device (") {
		t.Errorf("it wrote\n%s", got)
	}
	if st, err := os.Lstat(s.path("r")); err != nil || st.Mode().Type() != os.ModeDevice {
		t.Errorf("r is %v, %v", st, err)
	}
	if strings.Contains(inDir(t, s.dir), "started") {
		t.Error("the target was started")
	}
}

// graceful follows links of its user, and links of the owner of the directory.
func TestReport_trustedLinks(t *testing.T) {
	for name, c := range map[string]struct{ before, report, want string }{
		"graceful's user":                 {"ln -s ../to pub/r", "pub/r", "to"},
		"graceful's user, of a directory": {"mkdir sub; ln -s $PWD/sub pub/d", "pub/d/r", "sub/r"},
		"the owner's":                     {"chown 54321 pub; ln -s ../to pub/r; chown -h 54321 pub/r", "pub/r", "to"},
		"the owner's, of a directory":     {"mkdir sub; ln -s ../sub pub/d; chown -h 54321 pub pub/d", "pub/d/r", "sub/r"},
		"in a directory below another's":  {"mkdir sub; ln -s sub l; chown -h 54321 l; chown 54321 .", "l/r", "sub/r"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.sh(c.before)
			s.start("--report", c.report, "--", "true").want("0")
			s.wantReport(c.want, 0o600)
		})
	}
}

// A relative path begins in graceful's working directory, independent of the path that a shell has in PWD.
func TestReport_relativePath(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.sh("mkdir sub")
	s.attack("ln -s ../sub pub/d")
	s.sh("cd pub/d; graceful run --report r -- true")
	s.wantReport("sub/r", 0o600)
}

// The link /proc/PID/root leads into the mount namespace of that process. A report with such a path goes there.
func TestReport_belowTheRootOfAnotherProcess(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	need(t, "unshare")
	s.sh("mkdir mounted")
	other := command(t, "unshare", "--mount",
		"sh", "-c", "mount -t tmpfs none mounted; echo $$ >mounted-by; exec sleep 1000")
	other.dir, other.cmd.Dir = s.dir, s.dir
	pid := other.start().pidIn("mounted-by")
	root := fmt.Sprintf("/proc/%d/root", pid)
	s.start("--report", root+s.path("mounted/r"), "--", "true").want("0")
	if got := inDir(t, s.path("mounted")); got != "" {
		t.Errorf("the directory in this mount namespace has %s", got)
	}
	if _, err := os.Stat(root + s.path("mounted/r")); err != nil {
		t.Error(err)
	}
}

// The target changes the path of the report. The report still goes to the directory to which the path led at the start,
// and replaces any file with its name there. If the directory did not exist at the start, or was removed, the report
// goes to the directory that the target has made at the same path.
func TestReport_pathChangedDuringTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		before, target, report, want string
		ours                         bool // the target runs as graceful's user
	}{
		"the file is a link":         {"", "ln -s $PWD/private/victim pub/r", "pub/r", "pub/r", false},
		"the file is a trusted link": {"", "ln -s $PWD/private/victim pub/r", "pub/r", "pub/r", true},
		"the file hangs":             {"", "ln -s $PWD/private/new pub/r", "pub/r", "pub/r", false},
		"the file is a FIFO":         {"", "mkfifo -m 666 pub/r", "pub/r", "pub/r", false},
		"the file is a hard link":    {"", "ln private/victim pub/r", "pub/r", "pub/r", true},
		"the file was a hard link":   {"ln private/victim pub/r", ":", "pub/r", "pub/r", false},
		"the directory is a link": {"mkdir pub/d; chown " + attacker + " pub/d", "mv pub/d pub/was; ln -s ../private pub/d",
			"pub/d/victim", "pub/was/victim", false},
		"a directory further up": {"mkdir -p pub/d/e; chown -R " + attacker + " pub/d",
			"mv pub/d pub/was; mkdir pub/d; ln -s ../../private pub/d/e", "pub/d/e/victim", "pub/was/e/victim", false},
		"the directory is a trusted link": {"mkdir d", "mv d was; ln -s private d", "d/victim", "was/victim", true},
		"the link is another one":         {"mkdir d; ln -s d l", "ln -sfn private l", "l/victim", "d/victim", true},
		"the directory is made":           {"", "mkdir -p pub/out/sub", "pub/out/sub/r", "pub/out/sub/r", false},
		"the directory is made again":     {"mkdir d; echo >d/r", "rm -r d; mkdir d", "d/r", "d/r", true},
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				s.sh(c.before)
				target := []string{"sh", "-ec", c.target}
				if !c.ours {
					target = attackers(target...)
				}
				p := s.start(append([]string{"--guard", guard, "--report", c.report, "--"}, target...)...)
				p.want("0")
				if got := p.text(); got != "" {
					t.Errorf("it wrote\n%s", got)
				}
				s.wantReport(c.want, 0o600)
				s.wantUnharmed()
			})
		}
	}
}

// If the directory of the report did not exist at the start, graceful follows no link in its place, not even a link of
// graceful's user. graceful then logs a warning.
func TestReport_linkInsteadOfADirectory(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for n, target := range [][]string{
		attackers("ln", "-s", "../private", "pub/d0"), {"ln", "-s", "../private", "pub/d1"},
	} {
		report := fmt.Sprintf("pub/d%d/victim", n)
		p := s.start(append([]string{"--report", report, "--"}, target...)...)
		p.want("0")
		want := fmt.Sprintf("graceful: the run is done, but: writing report %s: not a directory\n", s.path(report))
		if p.text() != want {
			t.Errorf("it wrote\n%s\nand not\n%s", p.text(), want)
		}
	}
	s.wantUnharmed()
}

// A report has the mode 0600, whatever the umask is. If it replaces a file of graceful's user, it gets the permissions
// of that file, without the set-user-ID bit.
func TestReport_mode(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, c := range []struct {
		before, umask string
		want          os.FileMode
	}{
		{"", "000", 0o600}, {"", "077", 0o600}, {"", "777", 0o600},
		{"echo >r; chmod 644 r", "077", 0o644}, {"echo >r; chmod 664 r", "000", 0o664},
		{"echo >r; chmod 400 r", "000", 0o400},
		{"echo >r; chmod 666 r; chown " + attacker + " r", "000", 0o600},
		{"echo >to; chmod 4755 to; ln -s to r", "000", 0}, // 0: the report replaces the destination of the link
	} {
		for _, guard := range []string{"on", "off"} {
			s.sh("rm -f r to; " + c.before)
			s.sh(fmt.Sprintf("umask %s; graceful run --guard %s --report r -- true", c.umask, guard))
			if c.want == 0 {
				s.wantReport("to", 0o755)
			} else {
				s.wantReport("r", c.want)
			}
		}
	}
}
