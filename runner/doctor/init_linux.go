package doctor

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// lasting lists the names of inits that do not end when one of their children ends.
var lasting = []string{"systemd", "init", "s6-svscan", "runsvdir", "runit"}

// endsWithGraceful returns the reason why the guard may not outlive a killed graceful in this PID namespace, although a
// run with a guard is possible. It returns "" if it finds no such reason. graceful may have entered the namespace from
// outside, for example by docker exec.
func endsWithGraceful() string {
	if namespace, err := procfs.Readlink("self/ns/pid"); err != nil || namespace == procfs.InitialNamespace {
		return ""
	}
	comm, _ := procfs.Read("1/comm")
	name := strings.TrimSpace(string(comm))
	switch parent := unix.Getppid(); {
	case slices.Contains(lasting, name):
		return ""
	case parent == 1:
		return fmt.Sprintf("its parent is PID 1 (%s): if that ends with graceful, the kernel kills the guard, too", name)
	case name == "graceful" || slices.Contains(procfs.FollowingInits, name):
		return fmt.Sprintf("PID 1 is %s: if graceful is that, or its child, and is killed, the kernel kills the guard, too",
			name)
	case parent == 0 && name == "pause":
		return "the containers of this pod share their processes: the runtime kills the guard if graceful, the first " +
			"process of its container, is killed"
	}
	return ""
}
