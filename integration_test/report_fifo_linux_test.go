package integration_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// readFIFO opens a FIFO for reading. It returns a function that reads the available data.
func readFIFO(t *testing.T, path string) (read func() string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() string {
		text := make([]byte, 1<<16)
		n, _ := unix.Read(fd, text)
		return string(text[:max(n, 0)])
	}
}

// If the FIFO is replaced during the run, the report goes to the original FIFO. The target and the cleanup commands do
// not have the FIFO open.
func TestReport_FIFOReplaced(t *testing.T) {
	const look = "ls -l /proc/self/fd | sed 's/.* //'"
	for name, target := range map[string]string{
		"by a link":         "mv pub/r pub/was; ln -s $PWD/private/victim pub/r",
		"by a file":         "mv pub/r pub/was; echo >pub/r",
		"and its directory": "mv pub was; mkdir pub; ln -s $PWD/private/victim pub/r; mv was/r pub/was",
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				must(s, unix.Mkfifo(s.path("pub/r"), 0o600))
				fifo := readFIFO(t, s.path("pub/r"))
				p := s.start("--guard", guard, "--report", "pub/r", "--on-exit", look+" >fds2",
					"--", "sh", "-ec", look+" >fds; "+target)
				p.want("0")
				if got := fifo(); !strings.HasPrefix(got, startOfReport) || p.text() != "" {
					t.Errorf("the reader got %q; it wrote\n%s", got, p.text())
				}
				if fds := p.waitForFile("fds") + p.waitForFile("fds2"); strings.Contains(fds, s.dir+"/pub") {
					t.Errorf("open descriptors:\n%s", fds)
				}
				s.wantUnharmed()
			})
		}
	}
}

// A FIFO without a reader at the start is opened at the end, if it is still the same FIFO. Otherwise graceful logs a
// warning, and writes no report.
func TestReport_FIFOReadLater(t *testing.T) {
	for name, change := range map[string]string{
		"": ":", "a FIFO": "mv pub/r pub/was; mkfifo pub/r", "a link": "mv pub/r pub/was; ln -s was pub/r",
	} {
		t.Run("when it is "+name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			must(s, unix.Mkfifo(s.path("pub/r"), 0o600))
			p := s.start("--report", "pub/r",
				"--", "sh", "-c", "echo >ready; until test -e go; do sleep 0.01; done")
			p.waitForFile("ready")
			s.sh(change)
			fifo := readFIFO(t, s.path("pub/r"))
			s.sh("touch go")
			p.want("0")
			got, said := fifo(), p.text()
			warning := "graceful: the run is done, but: writing report " + s.path("pub/r") +
				": it was replaced while the run went on\n"
			if name == "" {
				warning = ""
			}
			if said != warning || strings.HasPrefix(got, startOfReport) != (name == "") {
				t.Errorf("the reader got %q; it wrote\n%s", got, said)
			}
		})
	}
}

// After a takeover, the report goes to the FIFO that was at the path at the start. recover opens the FIFO by its path,
// which the ledger contains without links. For /dev/stderr recover writes to its own standard error.
func TestReport_streamAfterATakeover(t *testing.T) {
	for _, victim := range []string{"graceful", "both"} {
		t.Run("a FIFO, "+victim, func(t *testing.T) {
			t.Parallel()
			p, state := reportingRun(t, "ours/fifo")
			path := filepath.Join(p.dir, "dir/fifo")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			fifo := readFIFO(t, path)
			p.start()
			p.waitForFile("running")
			switch victim {
			case "graceful":
				p.sh("mv dir was; ln -s hostile dir")
				kill(t, p.cmd.Process.Pid)
				p.wait()
			case "both":
				p.killBothAndUnlock(t, state)
				p.sh("ln -sfn hostile ours")
				recoverIn(t, state, "0")
			}
			got := ""
			p.until("report in the FIFO", func() bool {
				got += fifo()
				return strings.HasSuffix(got, "\n}\n")
			})
			if !strings.HasPrefix(got, startOfReport) {
				t.Errorf("the reader got %q", got)
			}
			if got := inDir(t, filepath.Join(p.dir, "hostile")); got != "" {
				t.Errorf("the hostile directory has %s", got)
			}
		})
	}
	for _, path := range []string{"/dev/stderr", "/proc/self/fd/2"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			p, state := reportingRun(t, path)
			p.start()
			p.waitForFile("running")
			p.killBothAndUnlock(t, state)
			if said := recoverIn(t, state, "0"); !strings.Contains(said, startOfReport) {
				t.Errorf("recover wrote\n%s", said)
			}
		})
	}
}
