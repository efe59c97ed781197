package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"graceful/cleanup"
	"graceful/cleanup/registry"
)

// fill SIZE... registers cleanup commands until the run refuses more. A size is the number of control characters in a
// command: fill begins with the first size, and takes the next one after each refusal. Each command writes its number
// to the file log. The third command that runs creates the file blocked, and waits for the file go. At the end fill
// writes the number of commands to the file registered.
func init() { roles["fill"] = fill }

func fill(sizes []string) int {
	n := 0
	for _, text := range sizes {
		size, _ := strconv.Atoi(text)
		for {
			command := []string{"sh", "-c", fmt.Sprintf(`echo %d >>log
				[ $(wc -l <log) != 3 ] || { echo >blocked; until [ -e go ]; do sleep 0.01; done; }`, n+1)}
			for left := size; left > 0; left -= 100_000 { // Linux accepts no argument of more than 128 KiB
				command = append(command, strings.Repeat("\x01", min(left, 100_000)))
			}
			request := registry.Request{Do: registry.Defer, Command: cleanup.Texts(command)}
			answer, err := registry.Ask(os.Getenv("GRACEFUL_SOCKET"), request)
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

// wantEachOnce fails the test unless each command that fill has registered has run once.
func (p *proc) wantEachOnce() {
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

// The tree fills the ledger, and graceful refuses further commands early enough. All later events still fit into the
// ledger, and each command runs once, whichever process of graceful is killed. (The test uses plain. With the race
// detector, the test would take minutes.)
func TestDefer_fullLedger(t *testing.T) {
	for _, victim := range []string{"guard", "graceful", "both"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			flags, dir := []string{"--guard", "on"}, filepath.Join(t.TempDir(), "state")
			if victim == "both" {
				flags = append(flags, "--state-dir", dir)
			}
			p := start(t, append(append([]string{plain, "run"}, flags...), "--", "sh", "-c",
				"helper fill 600000 60000 6000 600 60 0; graceful defer -- true; echo $? >status")...)
			p.waitForFile("blocked")
			guard, last := p.guard(), p
			switch victim {
			case "guard":
				p.loseGuard()
				p.touch("go")
				p.want("0")
			case "graceful":
				kill(t, p.cmd.Process.Pid)
				p.touch("go")
				p.want("KILL")
				p.until("end of the guard", func() bool { return !alive(guard) })
			case "both":
				killBoth(t, p.cmd.Process.Pid)
				p.want("KILL")
				p.touch("go")
				last = start(t, plain, "recover", "--state-dir", dir)
				last.wait() // with any status: recover exits with 1 if the third command was interrupted
			}
			p.wantFile("status", "1\n")
			p.wantEachOnce()
			text := p.text() + last.text()
			if strings.Contains(text, "writing the ledger") || !strings.Contains(text, "takes no more") {
				t.Errorf("it wrote\n%s", text)
			}
		})
	}
}

// If the disk is full, or files may not grow, a command is refused unless there is space to record its events.
func TestDefer_fullDisk(t *testing.T) {
	const limit = "300000"
	onDisk := []string{"--state-dir", "state"}
	limited, tooLarge := []string{"prlimit", "--fsize=" + limit}, "no file may have more than "+limit
	small := `mkdir -m 700 state && mount -t tmpfs -o size=` + limit + `,mode=700 none state && exec "$@"`
	for name, c := range map[string]struct {
		need   []string
		around []string
		flags  []string
		want   string
	}{
		"a full disk": {
			[]string{"root", "unshare"}, []string{"unshare", "--mount", "sh", "-c", small, "sh"}, onDisk,
			"no space left on device",
		},
		"ulimit -f":            {[]string{"prlimit"}, limited, onDisk, tooLarge},
		"ulimit -f, in memory": {[]string{"prlimit"}, limited, nil, tooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, append(c.need, "norace")...)
			run, target := []string{plain, "run", "--guard", "on"}, []string{"--", "helper", "fill", "0"}
			p := start(t, slices.Concat(c.around, run, c.flags, target)...)
			p.waitForFile("blocked")
			p.loseGuard()
			p.touch("go")
			p.want("0")
			p.wantEachOnce()
			if text := p.text(); strings.Contains(text, "writing the ledger") || !strings.Contains(text, c.want) {
				t.Errorf("it wrote\n%s", text)
			}
			if n := p.pidIn("registered"); n < 50 || n > 150 {
				t.Errorf("%d commands were registered", n)
			}
		})
	}
}

// A run that does not fit into its ledger is refused, and nothing starts.
func TestRun_tooLargeForItsLedger(t *testing.T) {
	commands := []string{"graceful", "run"}
	for range 1<<16 + 1 {
		commands = append(commands, "--on-exit=:")
	}
	for name, args := range map[string][]string{
		"65537 commands": append(commands, "--", "touch", "started"),
		"6 MB of control characters, twice each": {"sh", "-c", `ulimit -s unlimited || exit
			x=$(head -c 125000 /dev/zero | tr '\0' '\1'); for n in $(seq 48); do set -- "$@" --on-exit "$x"; done
			exec graceful run "$@" -- touch started`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, args...)
			p.want("125")
			const refusal = "graceful: setting up the run: the run is too large: "
			if text := p.text(); !strings.HasPrefix(text, refusal) || strings.Count(text, "\n") != 1 {
				t.Errorf("it wrote\n%.1000s", text)
			}
			if exists(p, "started") {
				t.Error("the target was started")
			}
			t.Logf("%.300s", p.text())
		})
	}
}
