package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A graceful without root's rights may not signal a process of another user or of a set-user-ID program. With a cgroup,
// graceful still ends such processes and removes the cgroup before cleanup. The processes are survivors or the target
// itself.
func TestContainCgroup_endsProcessesOfAnotherUser(t *testing.T) {
	need(t, "linux", "root", "setpriv", "pidns")
	for _, c := range []struct{ name, prepare, target, stop, status string }{
		{"survivor", "true", "./helper become-root pid & until [ -e pid ]; do sleep 0.01; done; exit 3", "", "3"},
		{"survivor, hidepid", "mount -o remount,hidepid=2 /proc",
			"./helper become-root pid & until [ -e pid ]; do sleep 0.01; done; exit 3", "", "3"},
		{"target", "true", "exec ./helper become-root pid", "TERM", "137"},
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(c.name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				cgroup := ownCgroup(t)
				delegate(t, cgroup, anotherUser)
				p := inNamespace(t, false, inCgroup(cgroup, append([]string{"sh", "-c", c.prepare + ` && exec "$@"`, "sh"},
					asUser(anotherUser, plain, "run", "--contain", "cgroup", "--guard", guard, "--grace", "100ms",
						"--on-exit", `ls -d "`+cgroup+`"/*/; echo >>cleaned 1`, "--", "sh", "-c", c.target)...)...)...)
				p.setUserID()
				p.start()
				if c.stop != "" {
					p.waitForFile("pid")
					if err := unix.Kill(gracefulPID(p), unix.SIGTERM); err != nil {
						t.Fatal(err)
					}
				}
				p.want(c.status)
				p.wantFile("cleaned", "1\n")
				if text := p.text(); strings.Contains(text, "giving up") || strings.Contains(text, cgroup+"/graceful") {
					t.Errorf("it wrote:\n%s", text)
				}
			})
		}
	}
}

// cgroupTree is the script of a target. The target starts a daemon, a process of another user, a process in a cgroup
// below the run's cgroup, and a process that leaves the run's cgroup. It writes their pids to the files daemon,
// other-user, nested and escaped. When all of them run, it creates the file ready.
const cgroupTree = `trap '' TERM; own=$(echo "$CGROUP"/graceful-*); mkdir -p "$own"/a/b
	helper daemon daemon; setsid setpriv --reuid=54321 --clear-groups helper stay & echo $! >other-user
	sh -c 'echo 0 >"$0"/a/b/cgroup.procs; exec helper stay' "$own" & echo $! >nested
	sh -c 'echo 0 >"$CGROUP"/cgroup.procs; exec setsid helper stay' & echo $! >escaped
	until [ -s daemon ] && grep -q helper /proc/$(cat other-user)/comm && grep -q helper /proc/$(cat nested)/comm &&
		grep -q helper /proc/$(cat escaped)/comm
	do sleep 0.01; done; echo >ready; sleep 1000`

// startCgroupTree starts a run of cgroupTree, and waits until all processes exist. The cgroup of the run is below
// cgroup. members contains the pids of the processes, except for the target's.
func startCgroupTree(t *testing.T, cgroup string, flags ...string) (p *proc, members []int) {
	t.Helper()
	need(t, "linux", "setpriv", "setsid")
	run := append([]string{"graceful", "run", "--contain", "cgroup", "--grace", "100ms", "--on-exit", `echo >>cleaned 1`},
		flags...)
	p = command(t, inCgroup(cgroup, append(run, "--", "sh", "-c", cgroupTree)...)...)
	p.cmd.Env = append(os.Environ(), "CGROUP="+cgroup)
	p.start()
	p.waitForFile("ready")
	for _, file := range []string{"daemon", "other-user", "nested", "escaped"} {
		members = append(members, p.pidIn(file))
	}
	return p, members
}

// However a run ends, no member of its tree is left: neither in the cgroup, nor below it, nor moved out of it. The
// cgroup is removed, and cleanup runs once.
func TestContainCgroup_emptiedAndRemoved(t *testing.T) {
	for _, c := range []struct {
		name, status string
		flags        []string
		end          func(p *proc)
	}{
		{"stopped", "137", []string{"--guard", "on"}, func(p *proc) { p.signal(unix.SIGTERM) }},
		{"stopped, no guard", "137", []string{"--guard", "off"}, func(p *proc) { p.signal(unix.SIGTERM) }},
		{"guard killed", "137", []string{"--guard", "on"}, func(p *proc) { p.loseGuard(); p.signal(unix.SIGTERM) }},
		{"graceful killed", "KILL", []string{"--guard", "on"}, func(p *proc) { p.guard(); kill(p.t, p.cmd.Process.Pid) }},
		{"both killed", "KILL", []string{"--guard", "on", "--state-dir", "state"}, func(p *proc) {
			killBoth(p.t, p.cmd.Process.Pid)
			p.want("KILL")
			recoverIn(p.t, filepath.Join(p.dir, "state"), "0")
			if left := cgroupsBelow(p.cmd.Env[len(p.cmd.Env)-1][len("CGROUP="):]); len(left) > 0 {
				p.t.Errorf("recover left the cgroups %q", left)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cgroup := ownCgroup(t)
			p, members := startCgroupTree(t, cgroup, c.flags...)
			if below := cgroupsBelow(cgroup); len(below) != 3 {
				t.Fatalf("the cgroups are %q, want 3", below)
			}
			c.end(p)
			if p.cmd.ProcessState == nil {
				p.want(c.status)
			}
			p.untilReaped(members...)
			p.untilRemoved(cgroup)
			p.until("cleanup", func() bool { return p.waitForFile("cleaned") != "" })
			p.wantFile("cleaned", "1\n")
		})
	}
}

// recover ends members that only the cgroup identifies: they are orphans, and their environment does not contain the
// run's id.
func TestRecover_findsMembersByTheCgroup(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	cgroup := ownCgroup(t)
	p := start(t, inCgroup(cgroup, "graceful", "run", "--contain", "cgroup", "--state-dir", "state", "--", "sh", "-c",
		"setsid env -i /bin/sleep 1000 & echo $! >pid; until grep -q sleep /proc/$!/comm; do sleep 0.01; done; "+
			"echo $$ >target; exec sleep 1000")...)
	target, member := p.pidIn("target"), p.pidIn("pid")
	killBoth(t, p.cmd.Process.Pid)
	p.want("KILL")
	kill(t, target)
	p.untilReaped(target)
	recoverIn(t, filepath.Join(p.dir, "state"), "0")
	p.untilReaped(member)
	p.untilRemoved(cgroup)
}

// graceful also removes the cgroup if the target leaves no process, or cannot be started.
func TestContainCgroup_removedWithoutSurvivors(t *testing.T) {
	for _, command := range []string{"true", "no-such-program", "/etc/passwd"} {
		cgroup := ownCgroup(t)
		p := start(t, inCgroup(cgroup, "graceful", "run", "--contain", "cgroup", "--on-exit", "echo >>cleaned 1", "--",
			command)...)
		p.want(map[string]string{"true": "0", "no-such-program": "127", "/etc/passwd": "126"}[command])
		p.wantFile("cleaned", "1\n")
		if left := cgroupsBelow(cgroup); len(left) > 0 {
			t.Errorf("%s: left %q", command, left)
		}
	}
}

// A nested run has a cgroup below the cgroup of the outer run.
func TestContainCgroup_nested(t *testing.T) {
	t.Parallel()
	cgroup := ownCgroup(t)
	p := start(t, inCgroup(cgroup, "graceful", "run", "--contain", "cgroup", "--", "graceful", "run", "--contain",
		"cgroup", "--", "sh", "-c", "tail -n 1 /proc/self/cgroup; exit 3")...)
	p.want("3")
	if strings.Count(p.text(), "/graceful-") != 3 { // the cgroups of the test, of the outer run and of the inner run
		t.Errorf("it wrote:\n%s", p.text())
	}
	p.untilRemoved(cgroup)
}

// Only the target is in the cgroup: the guard and the cleanup commands are outside. The target does not inherit
// graceful's descriptors of the cgroup.
func TestContainCgroup_holdsOnlyTheTarget(t *testing.T) {
	t.Parallel()
	cgroup := ownCgroup(t)
	p := start(t, inCgroup(cgroup, "graceful", "run", "--contain", "cgroup", "--on-exit",
		"tail -n 1 /proc/self/cgroup >after",
		"--", "sh", "-c",
		`tail -n 1 /proc/self/cgroup >target; ls -l /proc/$$/fd | grep -e /graceful- -e cgroup.procs
			tail -n 1 /proc/$PPID/cgroup >parent`)...)
	p.want("0")
	if text := p.text(); text != "" {
		t.Errorf("the target has descriptors of the cgroup:\n%s", text)
	}
	own := "/" + filepath.Base(cgroup)
	if !strings.Contains(p.waitForFile("target"), own+"/graceful-") ||
		!strings.HasSuffix(p.waitForFile("after"), own+"\n") ||
		!strings.HasSuffix(p.waitForFile("parent"), own+"\n") {
		t.Errorf("target %q, parent %q, cleanup %q", p.waitForFile("target"), p.waitForFile("parent"), p.waitForFile("after"))
	}
}

// If --contain cgroup is impossible, graceful reports the reason and exits with 125. It starts nothing and leaves
// nothing, with a guard and without.
func TestContainCgroup_unavailable(t *testing.T) {
	need(t, "linux", "root", "unshare", "setpriv")
	for name, c := range map[string]struct{ prepare, want string }{
		"not mounted": {unmounted, "containment cgroup: no cgroup v2 is mounted"},
		"read-only": {unmounted + `mount -t cgroup2 none m; mount -o remount,ro,bind m`,
			"read-only file system (in a container: it must be mounted read-write)"},
		"another part": {unmounted + `mount -t cgroup2 none m; mkdir m/"$OWN"/x; mount --bind m/"$OWN"/x 'odd \ place'
			umount m`, "does not show our own cgroup (/"},
		"another user's": {"set -- setpriv --reuid=54321 --clear-groups \"$@\"",
			"permission denied (it must be delegated to the user of graceful: systemd-run --user --scope -p Delegate=yes)"},
		"only the directory delegated": {"chown 54321 \"$CGROUP\"; set -- setpriv --reuid=54321 --clear-groups \"$@\"",
			"cgroup.procs: permission denied"},
		"too many": {`echo 0 >"$CGROUP"/cgroup.max.descendants`,
			"resource temporarily unavailable (see cgroup.max.depth and cgroup.max.descendants there and above)"},
		"threaded": {`mkdir "$CGROUP"/t; echo threaded >"$CGROUP"/t/cgroup.type`,
			`is of type "domain threaded", and a process can be in none below it`},
	} {
		for _, guard := range []string{"auto", "on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				cgroup := ownCgroup(t)
				p := command(t, inCgroup(cgroup, "unshare", "--mount", "sh", "-ec", c.prepare+"\n"+`exec "$@"`, "sh",
					plain, "run", "--contain", "cgroup", "--guard", guard, "--state-dir", "state", "--on-exit", "echo cleaned", "--",
					"echo", "started")...)
				if err := os.Chmod(p.dir, os.ModeSticky|0o777); err != nil {
					t.Fatal(err)
				}
				p.cmd.Env = append(os.Environ(), "CGROUP="+cgroup)
				p.start().want("125")
				if text := p.text(); !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 {
					t.Errorf("it wrote:\n%s\nwant %s", text, c.want)
				}
				if left, _ := filepath.Glob(cgroup + "/graceful-*"); len(left) > 0 {
					t.Errorf("left cgroups: %q", left)
				}
				if left, _ := filepath.Glob(filepath.Join(p.dir, "state/*")); len(left) > 0 {
					t.Errorf("left in the state directory: %q", left)
				}
			})
		}
	}
}

// A process that was moved into the cgroup is ended with the tree, although it does not descend from graceful or the
// target.
func TestContainCgroup_processMovedIntoIt(t *testing.T) {
	for _, c := range []struct{ ignores, grace, end string }{{"HUP", "1h", "TERM"}, {"TERM", "100ms", "KILL"}} {
		t.Run(c.end, func(t *testing.T) {
			t.Parallel()
			cgroup := ownCgroup(t)
			stranger := start(t, "helper", "ignore", c.ignores, "--", "pid")
			p := command(t, inCgroup(cgroup, "graceful", "run", "--contain", "cgroup", "--grace", c.grace, "--", "sh", "-c",
				fmt.Sprintf(`own=$(echo "$CGROUP"/graceful-*); echo %d >"$own"/cgroup.procs`, stranger.pidIn("pid")))...)
			p.cmd.Env = append(os.Environ(), "CGROUP="+cgroup)
			p.start().want("0")
			if got := stranger.wait(); got != c.end {
				t.Errorf("the process ended with %s", got)
			}
			if left := cgroupsBelow(cgroup); len(left) > 0 {
				t.Errorf("left cgroups: %q", left)
			}
		})
	}
}

// If the target moves processes of graceful into the cgroup, graceful does not kill its own processes when it kills the
// cgroup.
func TestContainCgroup_gracefulMovedIntoIt(t *testing.T) {
	need(t, "linux", "setsid")
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			cgroup := ownCgroup(t)
			p := command(t, inCgroup(cgroup, "graceful", "run", "--contain", "cgroup", "--guard", guard, "--grace", "10ms",
				"--on-exit", "echo 1 >>cleaned", "--", "sh", "-c", `own=$(echo "$CGROUP"/graceful-*)
					for pid in $PPID $([ $0 = off ] || sed -n 's/^PPid:.//p' /proc/$PPID/status)
					do echo $pid >"$own"/cgroup.procs; done
					setsid helper ignore TERM -- pid & until [ -s pid ]; do sleep 0.01; done; exit 3`, guard)...)
			p.cmd.Env = append(os.Environ(), "CGROUP="+cgroup)
			p.start().want("3")
			p.wantFile("cleaned", "1\n")
			if left := cgroupsBelow(cgroup); len(left) > 0 || p.text() != "" && !strings.Contains(p.text(), "SIGKILL to") {
				t.Errorf("left cgroups %q; it wrote:\n%s", left, p.text())
			}
		})
	}
}

// With --survivors keep, survivors live on outside of the cgroup, which is removed. With wait, graceful also waits for
// another user's survivor.
func TestSurvivors_inACgroup(t *testing.T) {
	need(t, "linux", "root", "setpriv", "setsid")
	const survivor = `setsid setpriv --reuid=54321 --clear-groups sh -c 'echo $$
		exec helper stay' >pid & until [ -s pid ]; do sleep 0.01; done; exit 3`
	t.Run("keep", func(t *testing.T) {
		t.Parallel()
		cgroup := ownCgroup(t)
		p := start(t, inCgroup(cgroup, "graceful", "run", "--contain", "cgroup", "--survivors", "keep", "--on-exit",
			"setsid sleep 1000 & echo $! >left", "--", "sh", "-c", survivor)...)
		p.want("3")
		if left := cgroupsBelow(cgroup); len(left) > 0 {
			t.Errorf("left cgroups: %q", left)
		}
		if pid := p.pidIn("pid"); !alive(pid) {
			t.Error("the survivor was ended")
		}
		p.untilReaped(p.pidIn("left")) // graceful does not keep processes that a cleanup command leaves
	})
	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		cgroup := ownCgroup(t)
		p := start(t, inCgroup(cgroup, "graceful", "run", "-v", "--contain", "cgroup", "--survivors", "wait", "--grace",
			"100ms",
			"--", "sh", "-c", survivor)...)
		p.until("sweeping", func() bool { return strings.Contains(p.text(), "sweeping was=running") })
		pid := p.pidIn("pid")
		if !alive(pid) {
			t.Error("the survivor was ended")
		}
		kill(t, pid)
		p.want("3")
		p.untilRemoved(cgroup)
	})
}
