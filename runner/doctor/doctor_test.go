package doctor

import "testing"

// Reasons are appended in the order in which they are found. A later exception does not raise No to Partly.
func TestCheckLower_keepsTheWorst(t *testing.T) {
	c := Check{Holds: Yes}
	c.lower(Partly, "a", "")
	c.lower(No, "b", "do this")
	c.lower(Partly, "c", "and that")
	if want := (Check{Holds: No, Why: "a; b; c", Hint: "do this; and that"}); c != want {
		t.Errorf("the check is %+v, want %+v", c, want)
	}
}
