package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// exists reports whether a file in the directory of a program exists.
func exists(p *proc, name string) bool {
	_, err := os.Stat(filepath.Join(p.dir, name))
	return err == nil
}

// isThere reports whether a file exists.
func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// touch creates a file in the directory of the program. The file contains only a newline.
func (p *proc) touch(name string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte("\n"), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// linesOf returns how often a file in the directory of a program contains each line. The file may be missing.
func linesOf(p *proc, name string) map[string]int {
	data, _ := os.ReadFile(filepath.Join(p.dir, name))
	counts := map[string]int{}
	for line := range strings.Lines(string(data)) {
		counts[strings.TrimSpace(line)]++
	}
	return counts
}

// sum adds the counts of linesOf.
func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// overwrite replaces the content of a file that only its owner may read.
func overwrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
