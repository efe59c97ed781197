package machine

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pure lists the packages that this package may import. Except for the printing functions of fmt, and for the functions
// in impure, the functions of these packages do not access the system.
var pure = []string{
	"cmp", "errors", "fmt", "iter", "maps", "math", "slices", "strconv", "strings", "time", "unicode", "unicode/utf8",
	"graceful/cleanup", "graceful/forward",
}

// impure lists the names of package time that read the clock, wait, or open files.
var impure = []string{
	"After", "AfterFunc", "LoadLocation", "Local", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until",
}

// layers lists the packages of the module, the highest layer first. A package may import packages of its own layer and
// of lower layers. A package that is not in the list belongs to the layer of its nearest parent directory in it.
var layers = [][]string{
	{"graceful", "graceful/docs/plot"},
	{"graceful/cmd"},
	{"graceful/runner/doctor"},
	{"graceful/runner"},
	{
		"graceful/runner/machine", "graceful/runner/journal", "graceful/runner/process", "graceful/runner/tree",
		"graceful/runner/terminal", "graceful/runner/report", "graceful/runner/notify",
	},
	{
		"graceful/runner/procfs", "graceful/runner/sigstate", "graceful/runner/build", "graceful/forward",
		"graceful/cleanup",
	},
}

// layerOf returns the index of a package's layer in layers. ok is false if the list contains neither the package nor a
// parent directory other than graceful and graceful/runner.
func layerOf(pkg string) (index int, ok bool) {
	for p := pkg; p != "."; p = path.Dir(p) {
		for i, layer := range layers {
			if slices.Contains(layer, p) {
				return i, p == pkg || p != "graceful" && p != "graceful/runner"
			}
		}
	}
	return 0, false
}

// importsOf maps each package that matches the pattern packages to its imports, for the operating system goos. It skips
// the test if there is no go command.
func importsOf(t *testing.T, goos, packages string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, packages)
	cmd.Env = append(os.Environ(), "GOOS="+goos)
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no go command")
	}
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		imports[words[0]] = words[1:]
	}
	return imports
}

// Package machine imports only the packages in pure. None of these starts processes or sends signals.
func TestImports_pure(t *testing.T) {
	for pkg, imports := range importsOf(t, "linux", ".") {
		for _, name := range imports {
			if !slices.Contains(pure, name) {
				t.Errorf("%s imports %s, which is not among the pure packages", pkg, name)
			}
		}
	}
}

// Package machine reads no clock, opens no file and starts no goroutine.
func TestSource_noClock(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%v: a goroutine", set.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(impure, n.Sel.Name) {
					t.Errorf("%v: time.%s", set.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

// On each system, no package imports a package of a higher layer.
func TestImports_direction(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		for pkg, imports := range importsOf(t, goos, "graceful/...") {
			layer, ok := layerOf(pkg)
			if !ok && pkg != "graceful/integration_test" { // integration_test contains only tests
				t.Errorf("%s has no layer", pkg)
				continue
			}
			for _, name := range imports {
				if name != "graceful" && !strings.HasPrefix(name, "graceful/") {
					continue
				}
				if other, _ := layerOf(name); other < layer {
					t.Errorf("%s: %s imports %s, which is in a higher layer", goos, pkg, name)
				}
			}
		}
	}
}
