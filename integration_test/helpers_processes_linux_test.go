package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// comm returns the name of a process (proc(5)), or "" if there is no such process.
func comm(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(name))
}

func childrenOf(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(data)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	return pids
}

// descendantsOf lists all descendants of a process.
func descendantsOf(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, childrenOf(all[i])...)
	}
	return all[1:]
}

// helperBelow returns the pid of the first descendant that runs the helper, or 0.
func helperBelow(pid int) int {
	for _, pid := range descendantsOf(pid) {
		if comm(pid) == "helper" {
			return pid
		}
	}
	return 0
}

// processState returns the state letter of a process (proc(5)), or "" if there is no such process.
func processState(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	letter, _, _ := strings.Cut(rest, " ")
	return letter
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	parent, _ := strconv.Atoi(strings.Fields(fields)[1])
	return parent
}

// startTime returns the start time of a process in clock ticks since the boot (proc(5)).
func startTime(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	n, err := strconv.Atoi(strings.Fields(rest)[19])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// treeOf returns a process and its descendants. When the test ends and has failed, the descendants that are still alive
// are killed.
func treeOf(t *testing.T, pid int) []int {
	all := append([]int{pid}, descendantsOf(pid)...)
	t.Cleanup(func() {
		for _, pid := range all[1:] {
			if t.Failed() && alive(pid) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	})
	return all
}

// untilEnded waits until none of the processes is alive. They may still be zombies.
func (p *proc) untilEnded(pids []int) {
	p.t.Helper()
	p.until("end of all processes", func() bool { return !slices.ContainsFunc(pids, alive) })
}

func kill(t testing.TB, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			t.Fatal(err)
		}
	}
}

// untilReaped waits until the processes do not exist any more, not even as zombies.
func (p *proc) untilReaped(pids ...int) {
	p.t.Helper()
	for _, pid := range pids {
		p.until(fmt.Sprintf("end of process %d (%s)", pid, comm(pid)), func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	}
}

// killAndWait kills a process, and waits until it is not alive. The parent may reap the process later.
func (p *proc) killAndWait(pid int) {
	p.t.Helper()
	kill(p.t, pid)
	p.until(fmt.Sprintf("end of process %d", pid), func() bool { return !alive(pid) })
}
