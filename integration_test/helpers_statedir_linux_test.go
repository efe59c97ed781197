package integration_test

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stateDir creates a state directory with one ledger, x.ledger, which contains text.
func stateDir(t *testing.T, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.ledger"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ledgerIn returns the path of the ledger of stateDir.
func ledgerIn(dir string) string { return filepath.Join(dir, "x.ledger") }

// rewriteRecord changes the record in a line of a ledger, and returns the new line with the right checksum. change gets
// the record, and the member begin of the record or nil.
func rewriteRecord(t *testing.T, line string, change func(record, begin map[string]any)) string {
	t.Helper()
	var l struct{ Record map[string]any }
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&l); err != nil {
		t.Fatal(err)
	}
	begin, _ := l.Record["begin"].(map[string]any)
	change(l.Record, begin)
	text, err := json.Marshal(l.Record)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{\"sum\":\"%08x\",\"record\":%s}\n", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)), text)
}

// markRebooted changes the first record of a run as if this machine had been rebooted since the run. begin is the
// member begin of that record. If the machine has no id, recover would leave such a run alone. So markRebooted then
// removes the machine from the record, as in a record of an earlier version.
func markRebooted(begin map[string]any) {
	begin["boot"] = "another"
	if begin["machine"] == "" {
		delete(begin, "machine")
	}
}

// startAndKill starts a run named x. It waits until a file in the run's directory has content, and the ledger records
// the start of what: "target" or "command". Then it kills graceful and the guard. The other processes of the run live
// on. lines contains the lines of the ledger.
func startAndKill(t *testing.T, what, file string, args ...string) (p *proc, lines []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	p = start(t, append([]string{"graceful", "run", "--state-dir", dir, "--name", "x"}, args...)...)
	p.waitForFile(file)
	book := filepath.Join(dir, "x.ledger")
	p.until("record of the start", func() bool {
		data, _ := os.ReadFile(book)
		return strings.Contains(string(data), fmt.Sprintf(`"event":"%s started"`, what))
	})
	killBoth(t, p.cmd.Process.Pid)
	p.want("KILL")
	data, err := os.ReadFile(book)
	if err != nil {
		t.Fatal(err)
	}
	return p, slices.Collect(strings.Lines(string(data)))
}

// recoverIn runs graceful recover for a state directory, and returns its output. The test fails unless status is the
// exit status of recover.
func recoverIn(t testing.TB, dir, status string, flags ...string) string {
	t.Helper()
	p := start(t, append([]string{"graceful", "recover", "--state-dir", dir}, flags...)...)
	if got := p.wait(); got != status {
		t.Fatalf("recover %q: exit status %s, want %s; it wrote:\n%s", flags, got, status, p.text())
	}
	return p.text()
}

// unlocked reports whether no process holds the lock of any ledger in a directory. A child that is being started holds
// the lock until its execve(2).
func unlocked(t *testing.T, dir string) bool {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*.ledger"))
	return !slices.ContainsFunc(files, func(file string) bool {
		f, err := os.Open(file)
		if err != nil {
			return false
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
	})
}

// stateOf returns the state directory in the arguments of a run.
func stateOf(p *proc) string {
	i := slices.Index(p.cmd.Args, "--state-dir")
	return p.cmd.Args[i+1]
}

// inDir returns the names of the files in a directory, separated by blanks.
func inDir(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// bootOf returns the boot id and the PID namespace in which a run began. line is the first line of its ledger.
func bootOf(t *testing.T, line string) string {
	t.Helper()
	var l struct {
		Record struct{ Begin struct{ Boot string } }
	}
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		t.Fatal(err)
	}
	return l.Record.Begin.Boot
}
