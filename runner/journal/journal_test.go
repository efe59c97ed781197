package journal

import (
	"encoding/json"
	"slices"
	"testing"

	"graceful/cleanup"
	"graceful/runner/machine"
)

// The record of a command distinguishes an empty environment from no environment (nil), which means the environment of
// the run.
func TestRecord_emptyEnvironment(t *testing.T) {
	for _, env := range [][]string{nil, {}, {"A=1"}} {
		e := cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}}}
		e.Env = env
		record, err := Record(machine.Registered{Entry: e}, true, false, Clock{})
		if err != nil {
			t.Fatal(err)
		}
		var h header
		if err := json.Unmarshal(record, &h); err != nil {
			t.Fatal(err)
		}
		again, err := h.event(record, machine.Run{})
		if err != nil {
			t.Fatal(err)
		}
		if got := again.(machine.Registered).Entry.Env; (got == nil) != (env == nil) || !slices.Equal(got, env) {
			t.Errorf("%#v became %#v", env, got)
		}
	}
}

// Each type of event has its own tag, and eventTypes finds the type by the tag. Record refuses a value without a tag.
func TestTags_unique(t *testing.T) {
	seen := map[string]bool{}
	for kind, tag := range tags {
		if seen[tag] || eventTypes()[tag] != kind {
			t.Errorf("%v: the tag %q belongs to another event too", kind, tag)
		}
		seen[tag] = true
	}
	if _, err := Record(struct{}{}, true, true, Clock{}); err == nil {
		t.Error("a value without a tag has a record")
	}
}
