package procfs

import (
	"os"
	"os/exec"
	"testing"
)

func TestBirthsAroundAMoment(t *testing.T) {
	m := Moment{Tick: 100, PID: 32_700}
	for id, want := range map[Identity]bool{
		{PID: 40, Start: 99}: false, {PID: 40, Start: 101}: true, // whatever its pid
		{PID: 32_700, Start: 100}: false, {PID: 32_690, Start: 100}: false, {PID: 32_701, Start: 100}: true,
		{PID: 310, Start: 100}: true, // pids have begun again
	} {
		if m.Precedes(id) != want {
			t.Errorf("%+v was born later: %t", id, !want)
		}
	}
	if (Moment{Tick: 100, PID: 310}).Precedes(Identity{PID: 32_700, Start: 100}) {
		t.Error("one that was born just before pids began again was born later")
	}
	if (Moment{Tick: 100}).Precedes(Identity{PID: 1, Start: 100}) {
		t.Error("without a last pid, one of the same tick was born later")
	}
	now := Open().Now()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	if p, ok := Open().Read(c.Process.Pid); !ok || !now.Precedes(p.Identity) || now.Precedes(Identity{PID: os.Getpid(), Start: StartOf(os.Getpid())}) {
		t.Errorf("moment %+v, a later process %+v", now, p.Identity)
	}
}
