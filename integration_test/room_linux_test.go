package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"graceful/cleanup"
	"graceful/cleanup/registry"
)

// fill SIZE... registers cleanup commands until none is taken any more, first such with so many control characters as the
// first size says, then of the next one. Each command writes its number into the file log. The third one that runs
// writes the file blocked, and waits for the file go. It writes the number of commands into the file registered.
func init() { roles["fill"] = fill }

func fill(sizes []string) int {
	n := 0
	for _, text := range sizes {
		size, _ := strconv.Atoi(text)
		for {
			command := []string{"sh", "-c", fmt.Sprintf(`echo %d >>log
				[ $(wc -l <log) != 3 ] || { echo >blocked; until [ -e go ]; do sleep 0.01; done; }`, n+1)}
			for left := size; left > 0; left -= 100_000 { // Linux takes no word of more than 128 KiB
				command = append(command, strings.Repeat("\x01", min(left, 100_000)))
			}
			answer, err := registry.Ask(os.Getenv("GRACEFUL_SOCKET"), registry.Request{Do: registry.Defer, Command: cleanup.Texts(command)})
			if err != nil {
				panic(err)
			}
			if answer.Error != "" {
				fmt.Printf("%d: %s\n", size, answer.Error)
				break
			}
			n++
		}
	}
	write("registered", n)
	return 0
}

// ranOnce requires that each of the commands that were registered has run once.
func (p *proc) ranOnce() {
	p.t.Helper()
	log, all := linesOf(p, "log"), p.pidIn("registered")
	for n := range all {
		if ran := log[strconv.Itoa(n+1)]; ran != 1 {
			p.t.Errorf("command %d of %d ran %d times", n+1, all, ran)
		}
	}
	if len(log) != all {
		p.t.Errorf("%d commands ran, of %d", len(log), all)
	}
}

// A tree that fills the ledger is refused in time: whatever happens later still goes into the ledger, and whichever of our
// processes is killed, each command has run once.
func TestAFilledLedgerTakesAllThatHappensLater(t *testing.T) {
	for _, victim := range []string{"supervisor", "front", "both"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			flags, dir := []string{"--guard", "on"}, filepath.Join(t.TempDir(), "state")
			if victim == "both" {
				flags = append(flags, "--state-dir", dir)
			}
			p := start(t, append(append([]string{"graceful", "run"}, flags...), "--", "sh", "-c",
				"helper fill 600000 60000 6000 600 60 0; graceful defer -- true; echo $? >status")...)
			p.file("blocked")
			supervisor, last := p.supervisor(), p
			switch victim {
			case "supervisor":
				p.killAndWait(supervisor)
				p.touch("go")
				p.want("0")
			case "front":
				kill(t, p.cmd.Process.Pid)
				p.touch("go")
				p.want("KILL")
				p.until("end of the supervisor", func() bool { return !alive(supervisor) })
			case "both":
				bothKilled(t, p.cmd.Process.Pid)
				p.want("KILL")
				p.touch("go")
				last = start(t, "graceful", "recover", "--state-dir", dir)
				last.wait() // the third one may have been interrupted
			}
			p.wrote("status", "1\n")
			p.ranOnce()
			if text := p.text() + last.text(); strings.Contains(text, "writing the ledger") || !strings.Contains(text, "takes no more") {
				t.Errorf("it wrote\n%s", text)
			}
		})
	}
}
