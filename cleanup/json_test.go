package cleanup

import (
	"encoding/json"
	"testing"
)

// A ledger may be of a later version, or made up.
func TestEntryUnmarshalJSON_unknownMoment(t *testing.T) {
	var e Entry
	if err := json.Unmarshal([]byte(`{"when":3,"text":"true","args":["true"]}`), &e); err == nil {
		t.Errorf("it is %+v", e)
	}
}
