package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSetAside(t *testing.T) {
	d := makeDir(t)
	taken := filepath.Join(d.path, file+Interrupted+".1")
	if err := os.Symlink("nowhere", taken); err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"", ".2", ".3"} {
		l := openWith(t, d, lines(fmt.Sprint(n)))
		if err := l.SetAside(Interrupted); err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(d.path, file+Interrupted+want); l.Path() != want {
			t.Errorf("path %s, want %s", l.Path(), want)
		}
		wantRecords(t, l, fmt.Sprint(n))
		if !bytes.Equal(content(t, l), lines(fmt.Sprint(n))) {
			t.Errorf("%s has %s", l.Path(), content(t, l))
		}
		if n == 2 {
			if err := l.Remove(); err != nil {
				t.Error(err)
			}
		}
		l.Close()
	}
	for _, name := range []string{
		"x.ledger", ".ledger", "a.ledger.interrupted.ledger", "a.ledger.interrupted.ledger.interrupted", "a.ledger~",
		"a.ledger.interrupted.", "a.ledger.interrupted.x", "a.ledger.interrupted1", "a.interrupted", "ledger",
	} {
		if err := os.WriteFile(filepath.Join(d.path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second listing must not begin where the first one has ended
		var got [2][]string
		var errs [2]error
		got[0], errs[0] = d.Names()
		got[1], errs[1] = d.NamesSetAside()
		want := [2][]string{{".ledger", "a.ledger.interrupted.ledger", "x.ledger"}, {
			"a.ledger.interrupted", "a.ledger.interrupted.1", "a.ledger.interrupted.2",
			"a.ledger.interrupted.ledger.interrupted",
		}}
		if diff := cmp.Diff(want, got); errs != [2]error{} || diff != "" {
			t.Errorf("%v (-want +got):\n%s", errs, diff)
		}
	}
	if l, err := d.Open(file + Interrupted); err != nil {
		t.Error(err)
	} else {
		l.Close()
	}
}

func TestTakeBack(t *testing.T) {
	names := func(d *Dir) string {
		all, err := d.list(func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, " ")
	}
	for _, suffix := range []string{Interrupted, Interrupted + ".7"} {
		d := makeDir(t)
		if err := os.WriteFile(filepath.Join(d.path, file+suffix), lines("1"), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := d.Open(file + suffix)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()

		alive, err := d.Take(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.TakeBack(); !errors.Is(err, ErrAlive) {
			t.Errorf("another Ledger holds the lock of the name: %v", err)
		}
		appendAll(t, alive, 2)
		alive.Close()
		if err := l.TakeBack(); !errors.Is(err, errNameTaken) {
			t.Errorf("a ledger with records has the name: %v", err)
		}
		if got := names(d); got != file+" "+file+suffix {
			t.Errorf("the directory has %s", got)
		}
		err = os.WriteFile(filepath.Join(d.path, file), nil, 0o600) // as a killed process leaves it
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time the ledger has its original name
			if err := l.TakeBack(); err != nil || l.Path() != filepath.Join(d.path, file) || names(d) != file {
				t.Errorf("path %s, the directory has %s, %v", l.Path(), names(d), err)
			}
		}
		wantRecords(t, l, "1")
		if _, err := d.Take(file); !errors.Is(err, ErrAlive) {
			t.Errorf("the lock of the name is not held: %v", err)
		}
		if err := l.SetAside(Interrupted); err != nil || names(d) != file+Interrupted {
			t.Errorf("after SetAside the directory has %s, %v", names(d), err)
		}
		// TakeBack fails if another process has renamed the ledger's file.
		if err := os.Rename(l.Path(), l.Path()+".8"); err != nil {
			t.Fatal(err)
		}
		if err := l.TakeBack(); err == nil || names(d) != file+Interrupted+".8" {
			t.Errorf("renamed another file: the directory has %s, %v", names(d), err)
		}
	}
}

func TestRemove_afterTheFileIsGone(t *testing.T) {
	d := makeDir(t)
	l := openWith(t, d, nil)
	defer l.Close()
	if err := os.RemoveAll(d.path); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(); err != nil {
		t.Error("with its directory:", err)
	}
	if err := l.SetAside(Interrupted); err == nil {
		t.Error("SetAside succeeded without the file")
	}
	if _, err := d.Take(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Take in a directory that is gone: %v", err)
	}
}
