package runner

import (
	"testing"
	"testing/synctest"
	"time"

	"graceful/runner/procfs"
)

// If new processes appear faster than they are killed, graceful gives up after twice the patience. A process that stays
// alive gets the whole patience, and an exiting process gets machine.AbandonAfter.
func TestSweeper_membersKeepForking(t *testing.T) {
	const patience = 200 * time.Millisecond
	for name, c := range map[string]struct {
		born func(pass int) []procfs.Process
		want time.Duration // time until a pass returns hopeless
	}{
		"storm": {func(pass int) []procfs.Process { return processesOf(1000 + pass) }, 2 * patience},
		"storm that ends too": {func(pass int) []procfs.Process {
			p := processesOf(1000+pass, 2000+pass)
			p[0].Exiting = true
			return p
		}, 2 * patience},
		"a process that stays": {func(int) []procfs.Process { return processesOf(7) }, patience},
		"a process that ends slowly": {func(int) []procfs.Process {
			p := processesOf(7)
			p[0].Exiting = true
			return p
		}, 10 * time.Second},
		"late but slow": {func(pass int) []procfs.Process {
			if pass < 10 {
				return processesOf(7)
			}
			return processesOf(8)
		}, patience + 100*time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s sweeper
			s.start()
			began := time.Now()
			for pass := 0; !s.recordPass(c.born(pass), nil, 0, patience, false); pass++ {
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(began); took != c.want {
				t.Errorf("%s: given up after %v, want %v", name, took, c.want)
			}
		})
	}
}

func processesOf(pids ...int) (all []procfs.Process) {
	for _, pid := range pids {
		all = append(all, procfs.Process{Identity: procfs.Identity{PID: pid, Start: 1}, Name: "p"})
	}
	return all
}

// If a pass may have missed processes, there may be more processes to kill, and the processes that it has found need
// not be new. So graceful gives up only after machine.AbandonAfter.
func TestSweeper_late(t *testing.T) {
	const patience = 200 * time.Millisecond
	for _, c := range []struct {
		storm, late bool
		want        time.Duration
	}{
		{false, false, patience}, {false, true, 10 * time.Second},
		{true, false, 2 * patience}, {true, true, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s sweeper
			s.start()
			began := time.Now()
			var found []procfs.Process
			for pass := 1; !s.recordPass(found, nil, 0, patience, c.late); pass++ {
				if time.Sleep(10 * time.Millisecond); c.storm {
					found = processesOf(1000 + pass)
				}
			}
			if took := time.Since(began); took != c.want {
				t.Errorf("%+v: given up after %v", c, took)
			}
		})
	}
}
