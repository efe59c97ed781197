package tree

import (
	"os"
	"syscall"
	"testing"
)

// Only members that StopGroup has not asked receive the next stop signal. A later process receives it too: its parent,
// the test, was not asked.
func TestSignalUnasked_afterStopGroup(t *testing.T) {
	for _, level := range []Level{Group, Subreaper} {
		t.Run(string(level), func(t *testing.T) {
			tr := openLevel(t, level)
			target, inside, outside := startCounterGroup(t)
			tr.Started(target.Process.Pid)
			if err := tr.StopGroup(counted); err != nil {
				t.Fatal(err)
			}
			born := startCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
			if got := counts(t, target, inside, outside, born); got != "1 1 0 0" {
				t.Errorf("from StopGroup the target, its group, another group and a later process received %s", got)
			}
			tr.SignalUnasked(counted)
			if got, want := counts(t, target, inside, outside, born), "0 0 "+outsideCount(level)+" 1"; got != want {
				t.Errorf("from SignalUnasked they received %s, want %s", got, want)
			}
			tr.Signal(counted)
			if got, want := counts(t, target, inside, outside, born), "1 1 "+outsideCount(level)+" 1"; got != want {
				t.Errorf("from Signal they received %s, want %s", got, want)
			}
		})
	}
}

// Without /proc, every member of the group counts as asked.
func TestSignalUnasked_withoutProc(t *testing.T) {
	target := startCounter(t, &syscall.SysProcAttr{Setpgid: true})
	tr := &Tree{level: Group, self: os.Getpid()}
	tr.Started(target.Process.Pid)
	if err := tr.StopGroup(counted); err != nil {
		t.Fatal(err)
	}
	tr.SignalUnasked(counted)
	if got := counts(t, target); got != "1" {
		t.Errorf("the target received %s signals", got)
	}
}
