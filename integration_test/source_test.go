package integration_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxFileLines     = 400
	maxLineRunes     = 120
	maxFunctionLines = 70
	maxRunnerExports = 30
)

// mayBeLong lists the functions that may have any number of lines, by directory and name. Next is one switch over all
// events.
var mayBeLong = map[string]bool{"runner/machine.Next": true}

// source is a Go file of this repository.
type source struct {
	path  string // path from the root of the module
	text  string
	lines *token.FileSet // the positions in tree
	tree  *ast.File
}

// sources returns all Go files.
func sources(t *testing.T) (all []source) {
	t.Helper()
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case entry.IsDir() || path.Ext(file) != ".go":
			return nil
		}
		text, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		s := source{path: file, text: string(text), lines: token.NewFileSet()}
		s.tree, err = parser.ParseFile(s.lines, file, text, parser.SkipObjectResolution)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A file has at most 400 lines and a base name that no other package has, a line has at most 120 characters, a function
// has at most 70 lines, and imports are in groups.
func TestSource_limits(t *testing.T) {
	packages := map[string]string{} // from the base name of a file to its directory
	for _, s := range sources(t) {
		dir, base := path.Split(s.path)
		if other, found := packages[base]; found {
			t.Errorf("%s: %s%s has the same base name", s.path, other, base)
		}
		packages[base] = dir
		s.checkLines(t)
		s.checkFunctions(t)
		s.checkImports(t)
	}
}

// checkLines checks the number of lines and their lengths. A tab is one character.
func (s source) checkLines(t *testing.T) {
	t.Helper()
	lines := 0
	for line := range strings.Lines(s.text) {
		lines++
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > maxLineRunes {
			t.Errorf("%s:%d: the line has %d characters, want at most %d", s.path, lines, n, maxLineRunes)
		}
	}
	if lines > maxFileLines {
		t.Errorf("%s: the file has %d lines, want at most %d", s.path, lines, maxFileLines)
	}
}

// checkFunctions checks the lengths of functions, and of the function literals in package-level variables.
func (s source) checkFunctions(t *testing.T) {
	t.Helper()
	ast.Inspect(s.tree, func(n ast.Node) bool {
		name := "the function literal"
		switch f := n.(type) {
		default:
			return true
		case *ast.FuncLit:
		case *ast.FuncDecl:
			if name = f.Name.Name; f.Recv == nil && mayBeLong[path.Dir(s.path)+"."+name] {
				return false
			}
		}
		first := s.lines.Position(n.Pos()).Line
		if lines := s.lines.Position(n.End()).Line - first + 1; lines > maxFunctionLines {
			t.Errorf("%s:%d: %s has %d lines, want at most %d", s.path, first, name, lines, maxFunctionLines)
		}
		return false // nested functions are shorter
	})
}

// checkImports checks the order of imports: the standard library, then other modules, then this module.
func (s source) checkImports(t *testing.T) {
	t.Helper()
	last := 0
	for _, i := range s.tree.Imports {
		first, _, _ := strings.Cut(strings.Trim(i.Path.Value, `"`), "/")
		group := 0
		switch {
		case first == "graceful":
			group = 2
		case strings.Contains(first, "."):
			group = 1
		}
		if group < last {
			t.Errorf("%s: the import of %s is in the wrong place", s.path, i.Path.Value)
		}
		last = group
	}
}

// Package runner exports at most 30 names, on all systems together and without methods.
func TestSource_exports(t *testing.T) {
	names := map[string]bool{}
	for _, s := range sources(t) {
		if path.Dir(s.path) == "runner" && !strings.HasSuffix(s.path, "_test.go") {
			for _, name := range s.topLevel() {
				names[name] = ast.IsExported(name)
			}
		}
	}
	maps.DeleteFunc(names, func(_ string, exported bool) bool { return !exported })
	if len(names) == 0 || len(names) > maxRunnerExports {
		t.Errorf("package runner exports %d names, want at most %d: %q", len(names), maxRunnerExports,
			slices.Sorted(maps.Keys(names)))
	}
}

// topLevel returns the names that a file declares outside of functions. It omits methods.
func (s source) topLevel() (names []string) {
	for _, d := range s.tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}
