package process

import (
	"testing"

	"graceful/runner/machine"
)

// ReapOrphan reaps a child only when the child has ended, and makes the slot of a command free. Otherwise another
// process that gets the pid later would count as that command.
func TestReapOrphan_freesTheSlot(t *testing.T) {
	children, err := OpenChildren()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := children.Start(shell("read line; exit 5"), 1)
	if err != nil {
		t.Fatal(err)
	}
	var ending machine.Ending
	until(t, "end of the child", func() (ended bool) {
		ending, ended = children.ReapOrphan(pid)
		return ended
	})
	if ending.Code != 5 || ending.Signal != 0 {
		t.Errorf("the child ended with %+v, want code 5", ending)
	}
	if children.slotOf(pid) != nil {
		t.Error("the slot of the reaped child is not free")
	}
	if _, ended := children.ReapOrphan(pid); ended {
		t.Error("a child was reaped twice")
	}
}
