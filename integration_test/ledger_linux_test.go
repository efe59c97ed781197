package integration_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// After a reboot only the ledger is left. A crash may have cut its last record short at any byte. recover runs each
// command once, except for a command whose start is recorded: recover reports that command as interrupted.
func TestRecover_ledgerTornAtAnyByte(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p, lines := startAndKill(t, "command", "cleaning", "--on-exit", "echo 1 >>log", "--on-exit", "echo 2 >>log",
		"--on-exit", "echo 3 >>log; echo $$ >cleaning; exec sleep 1000", "--", "true")
	kill(t, p.pidIn("cleaning"))
	var events []string
	for _, line := range lines[1:] {
		var l struct{ Record struct{ Event string } }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		events = append(events, l.Record.Event)
	}
	if got := strings.Join(events, ", "); got != "target started, target ended, tree emptied, command started" {
		t.Fatalf("the ledger has: %s", got)
	}
	for last := 2; last <= len(lines); last++ {
		t.Run(events[last-2], func(t *testing.T) {
			t.Parallel()
			for cut := range len(lines[last-1]) + 1 {
				work := t.TempDir()
				first := rewriteRecord(t, lines[0], func(_, begin map[string]any) { markRebooted(begin); begin["dir"] = work })
				text := first + strings.Join(lines[1:last-1], "") + lines[last-1][:cut]
				claimed := last > 4 || last == 4 && cut == len(lines[3])
				log, status := "3\n2\n1\n", "0"
				if claimed {
					log, status = "2\n1\n", "1"
				}
				if !claimed { // recover runs command 3, which then must not sleep for 1000 s
					first = strings.Replace(first, "exec sleep 1000", "true", 1)
					text = rewriteRecord(t, first, func(_, begin map[string]any) {}) +
						text[len(first)+len("exec sleep 1000")-len("true"):]
				}
				dir := stateDir(t, text)
				said := recoverIn(t, dir, status)
				if got, _ := os.ReadFile(filepath.Join(work, "log")); string(got) != log ||
					claimed != strings.Contains(said, "interrupted") {
					t.Fatalf("cut at byte %d: the commands wrote %q, want %q; recover wrote:\n%s", cut, got, log, said)
				}
				if said := recoverIn(t, dir, "0"); said != "" {
					t.Fatalf("a second recover wrote:\n%s", said)
				}
				if got, _ := os.ReadFile(filepath.Join(work, "log")); string(got) != log {
					t.Fatalf("a second recover ran commands: %q", got)
				}
			}
		})
	}
}

// spoiled is a way to damage a state directory.
type spoiled struct {
	spoil func(t *testing.T, dir string)
	want  string // part of the error of recover and of run
}

// spoiledFiles contains ways to change the type, the owner, the mode or the size of the directory or the ledger.
var spoiledFiles = map[string]spoiled{
	"a file for a directory": {func(t *testing.T, dir string) {
		must(t, os.RemoveAll(dir))
		must(t, os.WriteFile(dir, nil, 0o600))
	}, "it is a regular file"},
	"a link for a directory": {func(t *testing.T, dir string) {
		need(t, "root")
		must(t, os.Rename(dir, dir+".real"))
		must(t, os.Symlink(dir+".real", dir))
		must(t, os.Lchown(dir, 54321, 54321))
	}, "it is a symbolic link"},
	"a group's directory": {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o770)) }, "may write to it"},
	"another user's": {func(t *testing.T, dir string) { need(t, "root"); must(t, os.Chown(dir, 54321, 54321)) },
		"belongs to user 54321"},
	"another user's ledger": {func(t *testing.T, dir string) {
		need(t, "root")
		must(t, os.Chown(ledgerIn(dir), 54321, 54321))
	}, "belongs to user 54321"},
	"a group's ledger": {func(t *testing.T, dir string) { must(t, os.Chmod(ledgerIn(dir), 0o660)) }, "may write to it"},
	"a link for a ledger": {func(t *testing.T, dir string) {
		must(t, os.Rename(ledgerIn(dir), dir+"/y"))
		must(t, os.Symlink("y", ledgerIn(dir)))
	}, "it is a symbolic link"},
	"a FIFO for a ledger": {func(t *testing.T, dir string) {
		must(t, os.Remove(ledgerIn(dir)))
		must(t, unix.Mkfifo(ledgerIn(dir), 0o600))
	}, "it is a FIFO"},
	"a device for a ledger": {func(t *testing.T, dir string) {
		need(t, "root")
		must(t, os.Remove(ledgerIn(dir)))
		must(t, unix.Mknod(ledgerIn(dir), unix.S_IFCHR|0o600, 0x103))
	}, "it is a device"},
	"a directory for it": {func(t *testing.T, dir string) {
		must(t, os.Remove(ledgerIn(dir)))
		must(t, os.Mkdir(ledgerIn(dir), 0o700))
	}, "it is a directory"},
	"a ledger of 1 GB": {func(t *testing.T, dir string) { must(t, os.Truncate(ledgerIn(dir), 1<<30)) },
		"1073741824 bytes"},
}

// spoiledRecords returns ways to change the text of the ledger. lines contains the lines of the ledger, and good is its
// original text.
func spoiledRecords(lines []string, good string) map[string]spoiled {
	return map[string]spoiled{
		"an unknown version": {func(t *testing.T, dir string) {
			overwrite(t, ledgerIn(dir), rewriteRecord(t, lines[0], func(r, _ map[string]any) { r["graceful"] = 99 }))
		}, "version is 99"},
		"a bad sum in the middle": {func(t *testing.T, dir string) {
			overwrite(t, ledgerIn(dir), strings.Replace(good, `{"sum":"`, `{"sum":"x`, 1))
		}, "damaged"},
		"no ledger at all": {func(t *testing.T, dir string) { overwrite(t, ledgerIn(dir), lines[1]) }, "version is 0"},
		"an unknown event": {func(t *testing.T, dir string) {
			overwrite(t, ledgerIn(dir), lines[0]+rewriteRecord(t, lines[1], func(r, _ map[string]any) { r["event"] = "x" }))
		}, "unknown event"},
	}
}

// recover and run refuse a state directory or a ledger if its type is wrong, if other users can change it, or if it is
// damaged, too large, or of an unknown version.
func TestStateDir_refused(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p, lines := startAndKill(t, "target", "target", "--on-exit", "echo >>ran", "--", "sh", "-c",
		"echo $$ >target; exec sleep 1000")
	kill(t, p.pidIn("target"))
	good := rewriteRecord(t, lines[0], func(_, begin map[string]any) { markRebooted(begin) }) + lines[1]
	all := spoiledRecords(lines, good)
	maps.Copy(all, spoiledFiles)
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			must(t, os.Rename(stateDir(t, good), dir))
			c.spoil(t, dir)
			r := start(t, "graceful", "recover", "--state-dir", dir)
			status := r.wait()
			if text := r.text(); status != "1" && status != "125" || !strings.Contains(text, c.want) ||
				strings.Count(text, "\n") != 1 {
				t.Errorf("recover ended with %s, and wrote:\n%s", status, text)
			}
			n := start(t, "graceful", "run", "--name", "x", "--state-dir", dir, "--", "touch", filepath.Join(p.dir, "started"))
			n.want("125")
			if text := n.text(); !strings.Contains(text, c.want) {
				t.Errorf("run wrote:\n%s", text)
			}
			p.wantFile("ran", "")
			p.wantFile("started", "")
		})
	}
}
