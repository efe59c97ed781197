package procfs

import (
	"os"
	"os/exec"
	"testing"
)

// Precedes orders births within one clock tick by pid, even if the pids wrap around within that tick.
func TestMomentPrecedes(t *testing.T) {
	m := Moment{Tick: 100, PID: 32_700}
	for id, want := range map[Identity]bool{
		{PID: 40, Start: 99}: false, {PID: 40, Start: 101}: true, // regardless of the pid
		{PID: 32_700, Start: 100}: false, {PID: 32_690, Start: 100}: false, {PID: 32_701, Start: 100}: true,
		{PID: 310, Start: 100}: true, // the pids have wrapped around
	} {
		if m.Precedes(id) != want {
			t.Errorf("Precedes(%+v) is %t", id, !want)
		}
	}
	if (Moment{Tick: 100, PID: 310}).Precedes(Identity{PID: 32_700, Start: 100}) {
		t.Error("Precedes a process that was born just before pids began again")
	}
	if (Moment{Tick: 100}).Precedes(Identity{PID: 1, Start: 100}) {
		t.Error("Precedes a process of the same tick, without a last pid")
	}
	fs, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	now := fs.Now()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	self := Identity{PID: os.Getpid(), Start: StartOf(os.Getpid())}
	if p, ok := fs.Read(c.Process.Pid); !ok || !now.Precedes(p.Identity) || now.Precedes(self) {
		t.Errorf("moment %+v, a later process %+v, this process %+v", now, p.Identity, self)
	}
}
