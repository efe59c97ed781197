package cleanup

import (
	"encoding/json"
	"testing"
)

// The decoder refuses an entry with an unknown When, because a later version of graceful, or another program, may have
// written the ledger.
func TestEntryUnmarshalJSON_unknownMoment(t *testing.T) {
	var e Entry
	if err := json.Unmarshal([]byte(`{"when":3,"text":"true","args":["true"]}`), &e); err == nil {
		t.Errorf("the entry is %+v, want an error", e)
	}
}
