package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A reader finds either the old report or the new one, never a part.
func TestReport_isReplacedAtomically(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "report")
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 15 {
			p := start(t, "graceful", "run", "--guard", "off", "--contain", "group", "--report", file, "--", "true",
				strings.Repeat("x", 100_000))
			if got := p.wait(); got != "0" {
				t.Errorf("exit status %s", got)
			}
		}
	}()
	defer func() { <-done }()
	seen := map[string]bool{}
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !json.Valid(text) {
			t.Fatalf("%v: %d bytes:\n%.200s", err, len(text), text)
		}
		seen[string(text)] = true
	}
	t.Logf("read %d different contents", len(seen))
}

// tmpfs is the beginning of a script. It mounts a file system of 64 KB at $DIR/small.
const tmpfs = `mkdir -p $DIR/small && mount -t tmpfs -o size=64k,mode=777 none $DIR/small && `

// unwritable is a destination of a report that cannot be written. Two destinations can be written, for comparison:
// their want is empty. before, around and file may contain $DIR, the directory of the test.
type unwritable struct {
	need   []string // requirements of the test
	before string   // a script that prepares the destination
	around []string // the words before graceful
	file   string   // the value of --report
	want   string   // the reason; "": the report can be written
}

// unwritables returns the destinations, by their descriptions.
func unwritables() map[string]unwritable {
	root := []string{"root", "unshare", "norace"}
	mount := func(before string) []string {
		return []string{"unshare", "--mount", "sh", "-c",
			before + ` "$@"; status=$?; ls -A $DIR $DIR/small 2>/dev/null | grep graceful; exit $status`, "sh"}
	}
	return map[string]unwritable{
		"to a directory": {before: "mkdir $DIR/r", file: "$DIR/r", want: "is a directory"},
		"to a directory of another": {need: append(root, "setpriv"), before: "mkdir $DIR/r",
			around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/r", want: "is a directory"},
		"to a directory that is not": {file: "$DIR/a/r", want: "no such file or directory"},
		"below a file":               {before: "echo >$DIR/a", file: "$DIR/a/r", want: "not a directory"},
		"to the full device":         {file: "/dev/full", want: "no space left on device"},
		"to a FIFO without a reader": {before: "mkfifo $DIR/r", file: "$DIR/r", want: "no such device or address"},
		"to a closed descriptor":     {file: "/dev/fd/77", want: "bad file descriptor"},
		"to a name that is too long": {file: "$DIR/" + strings.Repeat("x", 300), want: "file name too long"},
		"to a file system without room": {need: root,
			around: mount(tmpfs + "head -c 1M /dev/zero >$DIR/small/zero 2>$DIR/said;"), file: "$DIR/small/r",
			want: "no space left on device"},
		"to a file system without much": {need: root, around: mount(tmpfs + "head -c 60000 /dev/zero >$DIR/small/zero;"),
			file: "$DIR/small/r", want: "no space left on device"},
		"to a read-only file system": {need: root, around: readOnly, file: "$DIR/r", want: "read-only file system"},
		"beyond a limit of files": {need: []string{"prlimit", "norace"}, around: []string{"prlimit", "--fsize=2000"},
			file: "$DIR/r", want: "file too large"},
		"to another's in a sticky one": {need: append(root, "setpriv"),
			before: "mkdir -m 1777 $DIR/s; echo 1 >$DIR/s/r; chown 54321 $DIR/s $DIR/s/r; chmod a+w $DIR/s/r",
			around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/s/r", want: "operation not permitted"},
		"to a forbidden directory": {need: append(root, "setpriv"),
			around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/r", want: "permission denied"},
		"over a mount": {need: root, before: "echo 1 >$DIR/r; echo 2 >$DIR/q",
			around: mount("mount --bind $DIR/q $DIR/r;"), file: "$DIR/r", want: "device or resource busy"},
		"over a file that cannot be opened": {need: append(root, "setpriv"),
			before: "chmod 777 $DIR; echo 1 >$DIR/r; chmod 0444 $DIR/r; chown 54322 $DIR/r",
			around: []string{"setpriv", "--reuid=54322", "--clear-groups"}, file: "$DIR/r"},
		"to nowhere": {file: "/dev/null"},
	}
}

// If a report cannot be written, graceful logs a warning. The exit status of the run does not change, and no draft is
// left.
func TestReport_cannotBeWritten(t *testing.T) {
	for name, c := range unwritables() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			need(t, append(c.need, "linux")...)
			dir := t.TempDir()
			for up := dir; up != os.TempDir(); up = filepath.Dir(up) {
				if err := os.Chmod(up, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			in := func(s string) string { return strings.ReplaceAll(s, "$DIR", dir) }
			if out, err := exec.Command("sh", "-c", in(c.before)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			before := inDir(t, dir)
			for _, guard := range []string{"on", "off"} {
				if strings.HasPrefix(c.want, "file too") && guard == "on" {
					continue // a run with a guard has a ledger, which exceeds the limit, too
				}
				c.checkWarning(t, in, guard)
			}
			if after := inDir(t, dir); c.around == nil && after != before || strings.Contains(after, "graceful") {
				t.Errorf("the directory had %q, and has %q", before, after)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "s", ".graceful-*")); len(left) > 0 {
				t.Errorf("left drafts: %q", left)
			}
		})
	}
}

// checkWarning checks the exit status and the output of a run whose report has the destination c. in replaces $DIR, and
// guard is the value of --guard.
func (c unwritable) checkWarning(t *testing.T, in func(string) string, guard string) {
	t.Helper()
	var around []string
	for _, word := range c.around {
		around = append(around, in(word))
	}
	p := command(t, slices.Concat(around,
		[]string{plain, "run", "--guard", guard, "--report", in(c.file), "--on-exit", "echo cleaned", "--",
			"sh", "-c", "exit 7", strings.Repeat("x", 20_000)})...)
	p.cmd.Dir = "/"
	p.start().want("7")
	want := "cleaned\n"
	if c.want != "" {
		want += fmt.Sprintf("graceful: the run is done, but: writing report %s: %s\n", in(c.file), c.want)
	}
	if got := p.text(); got != want {
		t.Errorf("guard %s: it wrote\n%s\nand not\n%s", guard, got, want)
	}
}

// A report to a FIFO is written as fast as its reader reads. A reader that does not read delays graceful only for a
// short time. graceful then logs a warning, as for a reader that goes away. The exit status does not change.
func TestReport_FIFO(t *testing.T) {
	all := newReports(t)
	for name, want := range map[string]string{
		"read": "", "reader does not read": "i/o timeout", "reader goes away": "broken pipe",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := command(t, "graceful", "run", "--report", "fifo", "--", "sh", "-c", "echo >ready; exit 7",
				strings.Repeat("x", 100_000))
			path := filepath.Join(p.dir, "fifo")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			fifo, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer fifo.Close()
			p.start()
			switch want {
			case "":
				var text bytes.Buffer
				p.waitForFile("ready")
				p.until("report", func() bool {
					_, _ = text.ReadFrom(fifo)
					return json.Valid(text.Bytes())
				})
				all.parse(t, text.Bytes())
			case "broken pipe":
				p.until("beginning of a report", func() bool {
					n, _ := unix.Read(int(fifo.Fd()), make([]byte, 1))
					return n > 0
				})
				fifo.Close()
			}
			p.want("7")
			if text := p.text(); (want == "") != (text == "") || !strings.Contains(text, want) || strings.Count(text, "\n") > 1 {
				t.Errorf("it wrote\n%s", text)
			}
		})
	}
}

// graceful does not replace a stream. The data that other processes write to the stream before and after the report are
// kept.
func TestReport_stream(t *testing.T) {
	all := newReports(t)
	t.Parallel()
	for _, stream := range []string{"/dev/stderr", "/dev/stdout", "/dev/fd/2", "/proc/self/fd/1", "link"} {
		p := command(t, "sh", "-c", `ln -s /dev/stderr link; echo before; graceful run --report "$0" -- true; echo after`,
			stream)
		p.start().want("0")
		text, whole := strings.CutPrefix(p.text(), "before\n")
		text, after := strings.CutSuffix(text, "after\n")
		if !whole || !after {
			t.Fatalf("%s: it wrote\n%s", stream, p.text())
		}
		all.parse(t, []byte(text))
	}
	p := command(t, "sh", "-c", `graceful run --report /dev/stdout -- true | cat >out
		graceful run --report /dev/fd/7 -- true 7>seven`)
	p.start().want("0")
	for _, file := range []string{"out", "seven"} {
		all.read(t, filepath.Join(p.dir, file))
	}
	if text := p.text(); text != "" {
		t.Errorf("it also wrote\n%s", text)
	}
}

// graceful writes no report to a descriptor that it has opened for itself, such as that of the ledger. The run
// succeeds, and graceful logs a warning.
func TestReport_descriptorsOfGraceful(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for fd := 3; fd < 10; fd++ {
		p := start(t, "graceful", "run", "--report", fmt.Sprintf("/proc/self/fd/%d", fd), "--", "true")
		p.want("0")
		if text := p.text(); !strings.HasSuffix(text, ": bad file descriptor\n") {
			t.Errorf("descriptor %d: it wrote %q", fd, text)
		}
	}
}
