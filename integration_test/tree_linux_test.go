package integration_test

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/process"
)

// census is a cleanup command for a PID namespace. That namespace should contain only unshare's child, graceful,
// perhaps its guard, and the census itself (a shell). census counts all other processes, living and zombie.
const census = `n=0; read -r pid name state leader rest </proc/$PPID/stat; for p in /proc/[0-9]*; do
	read -r pid name state ppid rest <$p/stat 2>/dev/null || continue
	case $pid in 1|$$|$PPID|$leader) ;; *) n=$((n+1)); echo "left: $pid $name $state $ppid";; esac
done; echo "census: $n"`

// The tree forks as fast as it can while it is being killed, and no process is left when cleanup begins. In the case
// relay, each process lives only until it has forked. In the case breed, all processes stay.
func TestTree_forkStorm(t *testing.T) {
	for _, storm := range [][]string{{"relay", "8"}, {"breed", "3000"}} {
		t.Run(storm[0], func(t *testing.T) {
			bothModes(t, func(t *testing.T, asPID1 bool) {
				p := inNamespace(t, asPID1, append([]string{"graceful", "run", "--grace", "0", "--on-exit", census, "--", "helper"},
					storm...)...).start()
				pid := gracefulPID(p)
				p.waitForFile("storm")
				time.Sleep(50 * time.Millisecond) // let some processes fork; their number does not matter
				if err := unix.Kill(pid, unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
				p.want("137")
				if last := lastLine(p.text()); last != "census: 0" {
					t.Errorf("processes were left when the cleanup began:\n%s", p.text())
				}
			})
		})
	}
}

// Orphans are reaped as they end, while the target runs: 10,000 orphans leave no zombie.
func TestTree_reapsOrphans(t *testing.T) {
	bothModes(t, func(t *testing.T, asPID1 bool) {
		p := inNamespace(t, asPID1, "graceful", "run", "--on-exit", census, "--", "sh", "-c",
			`for i in 1 2 3 4 5 6 7 8 9 10; do (helper orphans 1000); done; echo done >done; sleep 1000`).start()
		p.waitForFile("done")
		pid := gracefulPID(p)
		p.until("reaping of all orphans", func() bool { return len(childrenOf(guardOf(pid))) == 1 }) // the target
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.want("143")
		if last := lastLine(p.text()); last != "census: 0" {
			t.Errorf("zombies are left:\n%s", p.text())
		}
	})
}

func init() { roles["fault"], roles["bequeath"] = fault, bequeath }

// fault is a role that reads from an invalid address. Before that it calls DropSentFaults, which drops fault signals of
// other processes.
func fault([]string) int {
	process.DropSentFaults()
	return *(*int)(unsafe.Add(unsafe.Pointer(nil), 8))
}

// The jobs of a shell that then executes graceful do not belong to the tree. graceful does not end them.
func TestTree_excludesEarlierChildren(t *testing.T) {
	need(t, "linux")
	p := start(t, "sh", "-c", `sleep 1000 & echo $! >before
		exec graceful run --grace 1h -- sh -c 'setsid sleep 1000 & echo $! >during'`)
	before, during := p.pidIn("before"), p.pidIn("during")
	defer unix.Kill(before, unix.SIGKILL)
	p.want("0")
	if !alive(before) {
		t.Error("a process that is not of the tree was ended")
	}
	if alive(during) {
		t.Error("a process of the tree was left")
	}
}

// graceful names a survivor that it may not signal, gives up on it, and runs the cleanup commands. If /proc shows only
// the user's own processes, graceful logs "hidden" instead of the name of the survivor.
func TestSurvivors_ofAnotherUser(t *testing.T) {
	need(t, "linux", "root", "setpriv")
	for name, c := range map[string]struct{ mount, want string }{
		"seen":    {"true", `(helper)"]`},
		"hidepid": {"mount -o remount,hidepid=2 /proc", `(hidden)"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inNamespace(t, false, "sh", "-c", c.mount+` && exec setpriv --reuid=54321 --regid=54321 --clear-groups "$@"`,
				"sh", plain, "run", "--grace", "100ms", "--on-exit", "echo >>cleaned 1", "--",
				"sh", "-c", "./helper become-root pid & until [ -e pid ]; do sleep 0.01; done; exit 3")
			p.setUserID()
			p.start().want("3")
			p.wantFile("cleaned", "1\n")
			if text := p.text(); strings.Count(text, "giving up on processes that SIGKILL does not end left=[") != 1 ||
				!strings.Contains(text, c.want) {
				t.Errorf("it wrote:\n%s", text)
			}
		})
	}
}

// With --contain group, graceful ends the process group, and does not signal processes that have left it.
func TestContainGroup_endsOnlyTheGroup(t *testing.T) {
	need(t, "linux", "setsid")
	p := start(t, "graceful", "run", "--contain", "group", "--grace", "100ms", "--on-exit", "echo cleaned", "--",
		"sh", "-c", `trap '' TERM; sleep 1000 & echo $! >inside; setsid sleep 1000 & echo $! >outside`)
	inside, outside := p.pidIn("inside"), p.pidIn("outside")
	defer unix.Kill(outside, unix.SIGKILL)
	p.want("0")
	if alive(inside) {
		t.Error("a member of the group was left")
	}
	if !strings.Contains(p.text(), "cleaned\n") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// If a process starts while graceful stops survivors, graceful also stops that process as soon as it is an orphan. (The
// parent is not a shell, because the child of a shell loses a signal that comes before its execve(2), and gets no
// second signal.)
func TestSurvivors_orphanDuringTheStop(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--", "sh", "-c",
		"helper bequeath ready & until [ -e ready ]; do sleep 0.01; done")
	p.want("0")
}

// bequeath is a role that writes its pid to a file when it is ready. At SIGTERM it starts a process that stays, and
// then bequeath itself ends.
func bequeath(args []string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	write(args[0], os.Getpid())
	<-stop
	again(nil, "stay")
	return 0
}

// The time limit also applies to a cleanup command that has moved to another process group.
func TestOnExitTimeout_commandLeftItsGroup(t *testing.T) {
	need(t, "linux", "python3")
	t.Parallel()
	p := start(t, "graceful", "run", "--on-exit",
		`exec python3 -c 'import os, time; os.setpgid(0, os.getpgid(os.getppid()))
open("moved", "w").write("moved"); time.sleep(1000)'`,
		"--on-exit-timeout", "2s", "--", "true")
	p.waitForFile("moved")
	p.want("0")
	if !strings.Contains(p.text(), "timed out id=1 ") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// graceful had a job before the run, and the job has ended. A descendant of the target with the same pid is ended with
// the tree.
func TestTree_pidOfAnEndedJob(t *testing.T) {
	need(t, "root", "pidns", "ns_last_pid", "setsid")
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			p := inNamespace(t, true, "sh", "-c", `sh -c 'sleep 0.2 & echo $! >job
				exec graceful run --guard '$0' --grace 100ms --on-exit "kill -0 \$(cat job) && echo lives >lives" -- \
				sh target'; exit $?`, guard)
			err := os.WriteFile(filepath.Join(p.dir, "target"), []byte(`job=$(cat job); while kill -0 $job; do sleep 0.01; done
				n=0; until [ $n = 10000 ]; do n=$((n+1)); echo $((job-1)) >/proc/sys/kernel/ns_last_pid
				setsid helper ignore TERM -- survivor & [ $! = $job ] && exit 3; kill -KILL $!; wait $!; done`), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			p.start().want("3")
			p.wantFile("lives", "")
		})
	}
}
