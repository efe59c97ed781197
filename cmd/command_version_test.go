package cmd

import (
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// versionOutput returns what graceful version prints with args.
func versionOutput(t *testing.T, args ...string) string {
	t.Helper()
	var out strings.Builder
	root := newRoot(new(int))
	root.SetOut(&out)
	root.SetArgs(append([]string{"version"}, args...))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestVersion_text(t *testing.T) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if got := versionOutput(t); !strings.HasPrefix(got, "graceful ") || !strings.HasSuffix(got, " "+platform+"\n") {
		t.Errorf("the output is %q", got)
	}
}

// The JSON form has all keys, even for unknown values.
func TestVersion_json(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal([]byte(versionOutput(t, "--format", "json")), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{"commit", "date", "go", "platform", "version"}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		t.Errorf("the keys are %q, want %q", keys, want)
	}
	if got["go"] != runtime.Version() || got["version"] == "" {
		t.Errorf("the output is %v", got)
	}
}
