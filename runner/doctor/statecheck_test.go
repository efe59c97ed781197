package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The check leaves an existing directory unchanged, and does not create a missing one.
func TestExamineState(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		no        bool // the guarantee does not hold
		why, text string
	}{
		"empty":     {false, "", "0 live, 0 killed, 0 interrupted, 0 unreadable"},
		"missing/a": {false, "it does not exist", ""},
		"file":      {true, "not a directory", ""},
	} {
		s := examineState(filepath.Join(dir, name), false)
		if (s.Holds == No) != c.no || !strings.Contains(s.Why, c.why) || !strings.Contains(s.Detail, c.text) {
			t.Errorf("%s: the check is %+v", name, s.Check)
		}
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(found) > 0 {
		t.Errorf("the check left %q, %v", found, err)
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(found) != 2 {
		t.Errorf("the check left %q, %v", found, err)
	}
}

func TestNearest(t *testing.T) {
	dir := t.TempDir()
	if have := nearest(filepath.Join(dir, "a", "b")); have != dir {
		t.Errorf("nearest is %s, want %s", have, dir)
	}
}
