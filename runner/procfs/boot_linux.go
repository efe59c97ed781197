package procfs

import (
	"os"
	"strings"
	"sync"
)

// Boot names the time during which an Identity means one process: since the machine was started, and in one PID namespace. It
// is empty where that cannot be found out.
var Boot = sync.OnceValue(func() string {
	id, err := ReadFile("/proc/sys/kernel/random/boot_id")
	namespace, err2 := os.Readlink("/proc/self/ns/pid")
	if err != nil || err2 != nil {
		return ""
	}
	return strings.TrimSpace(string(id)) + " " + namespace
})

// StartOf returns when a process was started, in clock ticks since boot, or 0.
func StartOf(pid int) uint64 {
	if fs := Open(); fs != nil {
		p, _ := fs.Read(pid)
		return p.Start
	}
	return 0
}
