//go:build engines

package engines

import (
	"fmt"
	"regexp"
	"testing"
)

const notifying = `Type=notify
KillMode=mixed
ExecStart=/usr/bin/graceful run -v --reraise --on-exit 'echo $GRACEFUL_REASON >>$TEST/cleaned' %s -- %s
`

// HAProxy with a master and workers sends READY, is reloaded, and is stopped. graceful stays the main process, and no
// process is left.
func TestSystemd_haproxy(t *testing.T) {
	u := newService(t, fmt.Sprintf(notifying, "--forward-to target --stop-schedule USR1/20s",
		"/usr/sbin/haproxy -Ws -f /test/haproxy.cfg -S /test/haproxy.master")+`ExecReload=/bin/kill -USR2 $MAINPID
`)
	write(t, u.systemd.dir+"/haproxy.cfg", `defaults
	mode http
	timeout client 5s
	timeout server 5s
	timeout connect 5s
frontend test
	bind /test/haproxy.socket
	http-request return status 200 content-type text/plain string "served\n"
`)
	served := func() string {
		return u.do("curl", "-s", "--max-time", "10", "--unix-socket", "/test/haproxy.socket", "http://test/")
	}
	u.start()
	main := u.property("MainPID")
	if got := served(); got != "served" {
		t.Errorf("it served %q", got)
	}
	worker := u.do("pgrep", "-n", "haproxy")
	u.do("systemctl", "reload", u.name)
	until(t, "a new worker", func() bool { return u.do("pgrep", "-n", "haproxy") != worker })
	u.becomes("ActiveState", "active")
	if got := served(); got != "served" {
		t.Errorf("after the reload it served %q", got)
	}
	if got := u.property("MainPID"); got != main {
		t.Errorf("the main process is %s, and was %s", got, main)
	}
	u.stop()
	if got := u.property("Result"); got != "success" {
		t.Errorf("the result is %s", got)
	}
	u.wantFile("cleaned", "stopped\n")
	if left, _ := u.output("pgrep", "haproxy"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// A shell script of another user runs systemd-notify(1) for each message. systemd-notify waits until systemd has read
// the message. graceful is the main process, and relays each message.
func TestSystemd_systemdNotify(t *testing.T) {
	u := newService(t, fmt.Sprintf(notifying, "",
		`setpriv --reuid 12345 --clear-groups sh -c 'systemd-notify --status=up; systemd-notify --ready; exec sleep 1000'`))
	u.start()
	main, status := u.do("cat", "/proc/"+u.property("MainPID")+"/comm"), u.property("StatusText")
	if main != "graceful" || status != "up" {
		t.Errorf("the main process is %s, the status %q", main, status)
	}
	u.stop()
	if got := u.property("Result"); got != "success" {
		t.Errorf("the result is %s", got)
	}
	u.wantFile("cleaned", "stopped\n")
}

// A program sends keep-alive messages until it hangs. Then systemd sends SIGABRT, and cleanup follows.
func TestSystemd_watchdog(t *testing.T) {
	u := newService(t, fmt.Sprintf(notifying, "--grace 1s", "/usr/bin/python3 /test/watchdog.py")+"WatchdogSec=2\n")
	write(t, u.systemd.dir+"/watchdog.py", `
import os, socket, sys, time
assert os.environ["WATCHDOG_PID"] == str(os.getpid()) == os.environ["SYSTEMD_EXEC_PID"]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
pipe, end = os.pipe()
socket.send_fds(s, [b"FDSTORE=1\nFDNAME=pipe"], [pipe])
s.send(b"READY=1\nMAINPID=%d" % os.getpid())
for n in range(20):
	time.sleep(0.2)
	s.send(b"WATCHDOG=1\nSTATUS=alive %d" % n)
s.send(b"STATUS=hangs")
time.sleep(1000)
`)
	write(t, u.systemd.dir+"/"+u.name+".conf", "[Service]\nFileDescriptorStoreMax=3\n")
	u.do("mkdir", "-p", "/etc/systemd/system/"+u.name+".service.d")
	u.do("cp", "/test/"+u.name+".conf", "/etc/systemd/system/"+u.name+".service.d/")
	u.do("systemctl", "daemon-reload")
	u.start()
	u.becomes("NFileDescriptorStore", "1")
	u.becomes("StatusText", "hangs") // 4 s later, which is twice the watchdog's time
	u.becomes("ActiveState", "failed")
	if got := u.property("Result"); got != "watchdog" {
		t.Errorf("the result is %s", got)
	}
	until(t, "cleanup", func() bool { return content(u.dir+"/cleaned") != "" })
	u.wantFile("cleaned", "signaled\n")
}

// Cleanup commands may take longer than TimeoutStopSec, up to their own limit, because graceful extends the time of
// systemd (EXTEND_TIMEOUT_USEC).
func TestSystemd_longCleanup(t *testing.T) {
	u := newService(t, `Type=notify
TimeoutStopSec=2
ExecStart=/usr/bin/graceful run --reraise --on-exit-timeout 20s --on-exit 'sleep 3; echo 2 >>$TEST/cleaned' \
	--on-exit 'sleep 3; echo 1 >>$TEST/cleaned' -- sh -c 'systemd-notify --ready; exec sleep 1000'
`)
	u.start()
	u.do("systemctl", "stop", "--no-block", u.name)
	until(t, "status", func() bool {
		return regexp.MustCompile(`^running cleanup command sleep 3; echo 1`).MatchString(u.property("StatusText"))
	})
	u.becomes("ActiveState", "inactive")
	if got := u.property("Result"); got != "success" {
		t.Errorf("the result is %s", got)
	}
	u.wantFile("cleaned", "1\n2\n")
}

// If graceful runs in a service, and is not the main process of the service, it sends no message, and leaves the socket
// to its target.
func TestSystemd_runInsideAService(t *testing.T) {
	u := newService(t, `Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'systemd-notify --ready --status=outer; \
	graceful run --on-exit "echo cleaned >>$TEST/cleaned" -- sh -c "echo \$NOTIFY_SOCKET >$TEST/socket"; sleep 1000'
`)
	u.start()
	u.wantFile("cleaned", "cleaned\n")
	u.wantFile("socket", "/run/systemd/notify\n")
	if state, status := u.property("SubState"), u.property("StatusText"); state != "running" || status != "outer" {
		t.Errorf("the service is %s, with status %q", state, status)
	}
	u.stop()
}
