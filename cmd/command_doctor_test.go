package cmd

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"graceful/runner/doctor"
)

// Each name in the findings of doctor.Examine has a text. The test reads the names from the source of package doctor,
// so that it does not miss a new one.
func TestFindingsText_knowsEveryName(t *testing.T) {
	texts := map[string]map[string]string{"Check": promises, "Tree": treeFates, "Cleanup": cleanupFates}
	known := 0
	for constant, name := range exportedNames(t, "../runner/doctor") {
		has := events // their constants have no common prefix
		for prefix := range texts {
			if strings.HasPrefix(constant, prefix) {
				has = texts[prefix]
			}
		}
		if has[name] == "" {
			t.Errorf("doctor.%s has no text", constant)
		}
		known++
	}
	if want := len(promises) + len(events) + len(treeFates) + len(cleanupFates); known != want {
		t.Errorf("package doctor has %d names, and there are %d texts", known, want)
	}
}

// exportedNames returns the values of the exported string constants of the package in a directory, by their
// identifiers. It omits constants with a declared type.
func exportedNames(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			for i := 0; ok && spec.Type == nil && i < len(spec.Values); i++ {
				if value, ok := stringLiteral(spec.Values[i]); ok && spec.Names[i].IsExported() {
					names[spec.Names[i].Name] = value
				}
			}
			return true
		})
	}
	return names
}

// Each check takes one line, even if a path in it contains newlines. The summary is the worst result of the required
// checks.
func TestFindingsText(t *testing.T) {
	f := doctor.Findings{
		Checks: []doctor.Check{
			{Name: doctor.CheckTree, Required: true, Holds: doctor.Yes, Detail: "level subreaper"},
			{Name: doctor.CheckGuard, Required: true, Holds: doctor.Partly, Why: "as PID 1", Hint: "take another"},
			{Name: doctor.CheckShell, Holds: doctor.No, Why: "a\nb"},
		},
		Survival: []doctor.Fate{{When: doctor.AllKilled, Tree: doctor.TreeLeft, Cleanup: doctor.CleanupLost}},
	}
	for _, c := range []struct {
		guard doctor.Holds
		text  string
	}{
		{doctor.Yes, "all required promises hold here"},
		{doctor.Partly, "all required promises hold here, with exceptions: guard"},
		{doctor.No, "not all required promises hold here: guard"},
	} {
		f.Checks[1].Holds = c.guard
		mark := map[doctor.Holds]string{doctor.Yes: "ok  ", doctor.Partly: "part", doctor.No: "no  "}[c.guard]
		want := "ok    tree   every process that the target starts ends with it: level subreaper\n" +
			mark + "  guard  when graceful is killed, the tree is ended and cleanup commands run: " +
			"as PID 1 (take another)\n" +
			"no    shell  cleanup commands may be in shell form: a\\nb\n"
		text := findingsText(f)
		if !strings.HasPrefix(text, want) || !strings.HasSuffix(text, "\n"+c.text+"\n") {
			t.Errorf("the text is\n%s\nwant\n%s...\n%s", text, want, c.text)
		}
		var b bytes.Buffer
		var out findingsJSON
		if err := writeJSON(&b, findingsOf(f)); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b.Bytes(), &out); err != nil || out.Holds != c.guard {
			t.Errorf("%v: it is\n%s", err, &b)
		}
	}
}

// The JSON form has exactly the fields of docs/doctor.schema.json. No field is optional.
func TestFindingsJSON_hasTheFieldsOfTheSchema(t *testing.T) {
	type object struct {
		Required   []string
		Properties map[string]json.RawMessage
	}
	var schema struct {
		object
		Defs struct{ Check object } `json:"$defs"`
	}
	text, err := os.ReadFile("../docs/doctor.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var system object
	var guarantees struct{ Items object }
	for name, part := range map[string]any{"system": &system, "guarantees": &guarantees} {
		if err := json.Unmarshal(schema.Properties[name], part); err != nil {
			t.Fatal(err)
		}
	}
	out := findingsOf(doctor.Findings{Checks: []doctor.Check{{}}, Survival: []doctor.Fate{{}}})
	for name, c := range map[string]struct {
		value any
		want  object
	}{
		"the document": {out, schema.object},
		"system":       {out.System, system},
		"a check":      {out.Checks[0], schema.Defs.Check},
		"a guarantee":  {out.Guarantees[0], guarantees.Items},
	} {
		text, err := json.Marshal(c.value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		have := slices.Sorted(maps.Keys(fields))
		required, all := slices.Sorted(slices.Values(c.want.Required)), slices.Sorted(maps.Keys(c.want.Properties))
		if !slices.Equal(have, required) || !slices.Equal(have, all) {
			t.Errorf("%s has %q; the schema requires %q and allows %q", name, have, required, all)
		}
	}
}
