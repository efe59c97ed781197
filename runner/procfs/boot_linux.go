package procfs

import (
	"os"
	"strings"
	"sync"
)

// Boot returns a text that changes with the boot of the machine and with the PID namespace. Identities may be compared
// only if their texts are equal. It returns "" if the text cannot be read.
var Boot = sync.OnceValue(func() string {
	id, err := ReadFile("/proc/sys/kernel/random/boot_id")
	namespace, nsErr := os.Readlink("/proc/self/ns/pid")
	if err != nil || nsErr != nil {
		return ""
	}
	return strings.TrimSpace(string(id)) + " " + namespace
})

// StartOf returns the start time of a process in clock ticks (UserHZ) since boot; 0: unknown.
func StartOf(pid int) uint64 {
	if fs := Open(); fs != nil {
		p, _ := fs.Read(pid)
		return p.Start
	}
	return 0
}
