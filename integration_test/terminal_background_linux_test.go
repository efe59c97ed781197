package integration_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// graceful runs in the background of a terminal with TOSTOP, which suspends background processes that write to the
// terminal. The messages, the output of cleanup commands, and the report all arrive, even after the guard was killed.
func TestTerminal_backgroundWithTostop(t *testing.T) {
	need(t, "stty")
	for name, killed := range map[string]bool{"none killed": false, "guard killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backgroundTerminal(t, killed)
		})
	}
}

// backgroundTerminal runs graceful in the background of a shell in a new terminal. If killed is true, the guard is
// killed before the cleanup commands end.
func backgroundTerminal(t *testing.T, killed bool) {
	master, slave, err := pty.Open()
	if err != nil {
		need(t, "pseudo-terminal")
	}
	defer master.Close()
	p := command(t, "sh", "-c", `set -m; stty tostop
		sh -c 'echo bare' & wait $!; echo $? >bare; kill -KILL %1
		graceful run -v --report /dev/tty --on-exit 'echo written to the terminal; echo >>cleaned 1' \
			--on-exit 'echo $PPID >cleaning; until [ -e told ]; do sleep 0.01; done' -- sh -c 'until [ -e told ] || [ "$0" ]
			do sleep 0.01; done; exit 3' "$0" &
		wait $!; echo $? >status`, map[bool]string{true: "at once"}[killed])
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	p.start()
	slave.Close()
	shown := make(chan bool)
	go func() { // otherwise a process that writes to the terminal could wait for a reader
		defer close(shown)
		_, _ = io.Copy(p.output, master) // until the last process has closed the terminal
	}()
	p.until("message while the target runs", func() bool { return strings.Contains(p.text(), "running was=starting") })
	if killed {
		p.killAndWait(p.pidIn("cleaning"))
	}
	if err := os.WriteFile(filepath.Join(p.dir, "told"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.want("0")
	<-shown
	p.wantFile("bare", "150\n") // suspended by SIGTTOU: TOSTOP works in this terminal
	p.wantFile("status", "3\n")
	p.wantFile("cleaned", "1\n")
	if got := p.text(); !strings.Contains(got, "done was=cleaning") || !strings.Contains(got, "written to the terminal") ||
		!strings.Contains(got, `"report": 1`) || strings.Contains(got, "TTOU") {
		t.Errorf("the terminal shows:\n%s", got)
	}
}
