//go:build engines

package engines

import (
	"os"
	"strings"
	"testing"
)

// units returns the units on a page of the documentation, by their paths. A unit is indented, and begins with a comment
// that contains its path.
func units(t *testing.T, path string) map[string]string {
	t.Helper()
	found, name := map[string]string{}, ""
	for line := range strings.Lines(content(path)) {
		text, indented := strings.CutPrefix(line, "    ")
		unit, begins := strings.CutPrefix(text, "# /")
		switch {
		case indented && begins:
			name = "/" + strings.TrimSpace(unit)
		case indented && name != "":
			found[name] += text
		case line == "\n" && name != "":
			found[name] += line
		default:
			name = ""
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has no unit", path)
	}
	return found
}

// slowly is the last part of a target's script. The target takes so long to end that, with KillMode=mixed, systemd
// kills the guard before the target ends.
const slowly = `trap "sleep 0.5; exit 0" TERM; sleep 1000 & wait`

// The units of the page work: cleanup runs when the service is stopped, when graceful is killed, and when the machine
// boots after all processes were killed.
func TestSystemd_page(t *testing.T) {
	u := newService(t, "Type=exec\nExecStart=/bin/true\n")
	for path, unit := range units(t, "../../docs/engines/systemd.md") {
		write(t, u.dir+"/a-unit", unit)
		u.do("cp", "/test/"+u.name+"/a-unit", path)
	}
	u.do("systemctl", "daemon-reload")
	write(t, u.dir+"/flush", "#!/bin/sh\necho $GRACEFUL_REASON >>/test/"+u.name+"/flushed\n")
	write(t, u.dir+"/serve", "#!/bin/sh\nsystemd-notify --ready; setsid sleep 1000 & "+slowly+"\n")
	for _, name := range []string{"flush", "serve"} {
		u.do("cp", "/test/"+u.name+"/"+name, "/usr/bin/"+name)
	}
	serve := &service{systemd: u.systemd, t: t, name: "serve", dir: u.dir}
	serve.start()
	serve.stop()
	if got := serve.property("Result"); got != "success" {
		t.Errorf("a stop ends with %s", got)
	}
	serve.wantFile("flushed", "stopped\n")
	serve.start()
	serve.killMain()
	serve.wantFile("flushed", "stopped\nrecovered\n")
	serve.becomes("NRestarts", "1")
	serve.becomes("ActiveState", "active")
	// All processes are killed at once, as when the machine stops. Then the machine boots without the service.
	u.do("systemctl", "mask", "--runtime", "serve")
	u.do("systemctl", "kill", "-s", "KILL", "serve")
	until(t, "end of all processes", func() bool { return serve.processes() == "" })
	u.do("systemctl", "start", "graceful-recover@var-lib-serve")
	serve.wantFile("flushed", "stopped\nrecovered\nrecovered\n")
	u.do("systemctl", "unmask", "--runtime", "serve")
}

// A run works in a sandbox of systemd, as a user that exists only while the service runs: commands can be registered, a
// stop cleans up, and recover finishes a killed run.
func TestSystemd_sandbox(t *testing.T) {
	u := newService(t, `Type=notify
DynamicUser=yes
StateDirectory=sandboxed
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictSUIDSGID=yes
MemoryDenyWriteExecute=yes
LockPersonality=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
KillMode=mixed
ExecStart=/usr/bin/graceful run --state-dir ${STATE_DIRECTORY} --name x \
	--on-exit 'echo $GRACEFUL_REASON >>$TEST/cleaned' -- sh -c 'graceful defer -- sh -c "echo deferred >>$TEST/cleaned"; \
	setsid sleep 1000 & systemd-notify --ready; `+slowly+`'
ExecStopPost=/usr/bin/graceful recover --state-dir ${STATE_DIRECTORY}
ReadWritePaths=/test
`)
	u.do("chmod", "1777", "/test/"+u.name)
	u.start()
	u.stop()
	u.wantFile("cleaned", "deferred\nstopped\n")
	u.start()
	u.killMain()
	u.wantFile("cleaned", "deferred\nstopped\ndeferred\nrecovered\n")
	until(t, "end of all processes", func() bool { return u.processes() == "" })
}

// The target gets the sockets, and LISTEN_PID contains the target's pid.
func TestSystemd_socketActivation(t *testing.T) {
	u := newService(t, `Type=exec
KillMode=mixed
ExecStart=/usr/bin/graceful run --reraise --on-exit 'echo cleaned >>$TEST/cleaned' -- python3 /test/accept.py
`)
	write(t, u.systemd.dir+"/accept.py", `
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
s = socket.socket(fileno=3)
while True:
	c, _ = s.accept()
	c.send(b"accepted\n")
	c.close()
`)
	write(t, u.dir+"/socket", "[Socket]\nListenStream=/test/accept.socket\n")
	u.do("cp", "/test/"+u.name+"/socket", "/etc/systemd/system/"+u.name+".socket")
	u.do("systemctl", "daemon-reload")
	u.do("systemctl", "start", u.name+".socket")
	for range 2 {
		if got := u.do("socat", "-T5", "UNIX-CONNECT:/test/accept.socket", "-"); got != "accepted" {
			t.Errorf("the socket answers %q", got)
		}
	}
	u.do("systemctl", "stop", u.name+".socket", u.name)
	if got := u.property("Result"); got != "success" {
		t.Errorf("the result is %s", got)
	}
	u.wantFile("cleaned", "cleaned\n")
}

// Cleanup runs once when a scope is stopped, and when graceful in the scope is killed. systemd stops a scope by SIGTERM
// to all of its processes at once, including processes that start meanwhile. The target ends some time later, so that
// the signal does not reach the cleanup command.
func TestSystemd_scope(t *testing.T) {
	u := newService(t, "Type=exec\nExecStart=/bin/true\n")
	for _, end := range []string{"stop", "kill -s KILL --kill-whom=main"} {
		_ = os.Remove(u.dir + "/ready")
		run := `systemd-run --scope --unit ` + u.name + `-scope graceful run -v --on-exit "echo cleaned >>$1/cleaned" -- \
			sh -c "setsid sleep 1000 & echo ready >$1/ready; trap : TERM; wait; sleep 0.3" >>$1/err 2>&1 &`
		u.do("sh", "-c", run, "sh", "/test/"+u.name)
		u.wantFile("ready", "ready\n")
		if strings.HasPrefix(end, "kill") { // a scope has no main process, so kill graceful, its first process
			u.do("sh", "-c", "kill -KILL $(head -n 1 /sys/fs/cgroup/system.slice/"+u.name+"-scope.scope/cgroup.procs)")
		} else {
			u.do("systemctl", "stop", u.name+"-scope.scope")
		}
		until(t, "end of the scope", func() bool {
			_, there := u.output("test", "-e", "/sys/fs/cgroup/system.slice/"+u.name+"-scope.scope")
			return !there
		})
	}
	u.wantFile("cleaned", "cleaned\ncleaned\n")
}
