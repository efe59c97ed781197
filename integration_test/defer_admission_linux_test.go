package integration_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filter KIND PROGRAM [ARG...] runs a program under a seccomp filter. The filter "allow" permits every call. The filter
// "peerpidfd" makes SO_PEERPIDFD unknown, as before Linux 6.5. The role needs root, because otherwise it would have to
// set no_new_privs.
func init() { roles["filter"] = filter }

func filter(args []string) int {
	const load, equal, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_RET | unix.BPF_K
	const number, optname = 0, 16 + 2*8 // offsets in struct seccomp_data
	low := uint32(optname)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		low += 4
	}
	program := []unix.SockFilter{{Code: give, K: unix.SECCOMP_RET_ALLOW}}
	if args[0] == "peerpidfd" {
		program = []unix.SockFilter{
			{Code: load, K: number}, {Code: equal, K: unix.SYS_GETSOCKOPT, Jf: 3},
			{Code: load, K: low}, {Code: equal, K: unix.SO_PEERPIDFD, Jf: 1},
			{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOPROTOOPT)},
			{Code: give, K: unix.SECCOMP_RET_ALLOW},
		}
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread() // only this thread has the filter, so it must call execve(2)
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		panic(err)
	}
	path, err := exec.LookPath(args[1])
	if err != nil {
		panic(err)
	}
	panic(syscall.Exec(path, args[1:], os.Environ()))
}

// sandboxes are ways to start a client. Most of them give it fewer rights than graceful has. around is the beginning of
// the client's command line, and need lists the requirements except root. want is the reason that graceful names when
// it refuses the client; "": graceful accepts the client.
var sandboxes = map[string]struct {
	need   []string
	around []string
	want   string
}{
	"capabilities": {[]string{"setpriv"},
		[]string{"setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"},
		"it lacks capabilities that graceful has (0x200000)"},
	"no_new_privs": {[]string{"setpriv"}, []string{"setpriv", "--no-new-privs"}, "it has no_new_privs set"},
	"seccomp":      {nil, []string{"helper", "filter", "allow"}, "it has a seccomp filter that graceful has not"},
	"user namespace": {[]string{"userns"}, []string{"unshare", "--user", "--map-root-user"},
		"it is in another user namespace"},
	"mount namespace": {[]string{"unshare"}, []string{"unshare", "--mount"}, "it is in another mount namespace"},
	"bwrap": {[]string{"bwrap"}, []string{"bwrap", "--dev-bind", "/", "/", "--cap-add", "ALL"},
		"it has no_new_privs set"},
	"root directory": {[]string{"chroot", "unshare"}, []string{"chroot", "jail"}, "it has another root directory"},
	"a PID namespace": {[]string{"pidns"}, append([]string{"unshare"}, pidNamespace()...),
		"it is in another mount namespace"}, // the one in which unshare mounts /proc
	"no sandbox":       {nil, nil, ""},
	"a namespace more": {[]string{"unshare"}, []string{"unshare", "--uts", "--ipc"}, ""}, // these remove no rights
}

// A process in a sandbox cannot register commands, because the commands would run outside of the sandbox. The process
// also cannot list or withdraw the commands of the run. With --defer on it may register, list and withdraw commands.
// The test repeats each case without SO_PEERPIDFD, as on kernels before Linux 6.5.
func TestDefer_fromASandbox(t *testing.T) {
	need(t, "linux", "root", "norace")
	for name, s := range sandboxes {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, without SO_PEERPIDFD %t", name, old), func(t *testing.T) {
				need(t, s.need...)
				t.Parallel()
				for _, admission := range []string{"auto", "on"} {
					const each = `"$@" graceful defer -- echo registered; echo $?; "$@" graceful cancel 1; echo $?
						"$@" graceful defer --list >list; echo $?`
					args := append([]string{"graceful", "run", "--defer", admission, "--on-exit", ":", "--", "sh", "-c", each, "sh"},
						s.around...)
					if name == "root directory" {
						args = append([]string{"unshare", "--mount", "sh", "-c",
							`mkdir -p jail/bin jail/run && cp "$0" jail/bin/graceful &&
							mount --bind /run jail/run && XDG_RUNTIME_DIR= exec "$@"`, plain}, args...)
					}
					if old {
						args = append([]string{"helper", "filter", "peerpidfd"}, args...)
					}
					p := start(t, args...)
					p.want("0")
					want := "2\n0\n0\n0\nregistered\n"
					if admission == "auto" && s.want != "" {
						refusal := ": this process may not register commands: " + s.want + " (graceful run --defer on admits it)\n1\n"
						want = "graceful: defer" + refusal + "graceful: cancel 1" + refusal + "graceful: defer" + refusal
					}
					if got := p.text(); got != want {
						t.Errorf("--defer %s: it wrote\n%s\nand not\n%s", admission, got, want)
					}
				}
			})
		}
	}
}

// A client may enter a sandbox after it has connected. A process may also inherit the connection of a process that has
// ended. graceful then refuses the requests that come over the connection.
func TestDefer_overAnOldConnection(t *testing.T) {
	need(t, "linux", "root", "python3", "norace")
	const connect = `
import ctypes, json, os, signal, socket, time
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["GRACEFUL_SOCKET"])
def ask():
    s.sendall(json.dumps({"graceful": 1, "do": "defer", "command": ["echo", "registered"]}).encode() + b"\n")
    return s.makefile().readline().strip()
`
	for name, c := range map[string]struct{ then, want string }{
		"before the sandbox": {"print(ask()); ctypes.CDLL(None).prctl(38, 1, 0, 0, 0); print(ask())", `{"graceful":1,"id":1}
{"graceful":1,"error":"this process may not register commands: ` +
			`it has no_new_privs set (graceful run --defer on admits it)"}
registered
`},
		"of a process that has ended": {`
if os.fork():
    os._exit(0)
while os.path.exists("/proc/%d" % PID):
    time.sleep(0.01)
print("ended" if "cannot be looked at" in (a := ask()) else a, flush=True)
open("done", "w").write("done")`, "ended\n"},
	} {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, without SO_PEERPIDFD %t", name, old), func(t *testing.T) {
				t.Parallel()
				script := connect + "PID = os.getpid()\n" + c.then
				around := []string{"graceful"}
				if old {
					around = []string{"helper", "filter", "peerpidfd", "graceful"}
				}
				p := start(t, slices.Concat(around, []string{"run", "--survivors", "wait", "--", "python3", "-c", script})...)
				p.want("0")
				if got := p.text(); got != c.want {
					t.Errorf("it wrote\n%s\nand not\n%s", got, c.want)
				}
			})
		}
	}
}

// With --defer off the run has no socket. The client reports that, and fails.
func TestDefer_off(t *testing.T) {
	need(t, "linux")
	p := start(t, "graceful", "run", "--defer", "off", "--", "sh", "-c",
		`echo "${GRACEFUL_SOCKET-none}"; graceful defer -- echo never; echo $?`)
	p.want("0")
	const want = "none\ngraceful: defer: this run accepts no commands " +
		"(--defer off, or it found no place for its socket: graceful doctor)\n1\n"
	if got := p.text(); got != want {
		t.Errorf("it wrote\n%s\nand not\n%s", got, want)
	}
}

// The client sends its environment only to a listener of its own user or of root, because the environment may contain
// secrets. The root user sends its environment only to root.
func TestDefer_listenerOfAnotherUser(t *testing.T) {
	need(t, "root", "setpriv", "socat", "norace")
	as := func(uid int) string {
		if uid == 0 {
			return ""
		}
		return fmt.Sprintf("setpriv --reuid %d --clear-groups ", uid)
	}
	for _, c := range []struct {
		listener, client int
		sent             bool
	}{{0, 0, true}, {0, 12345, true}, {12345, 12345, true}, {12345, 0, false}, {12345, 12346, false}} {
		t.Run(fmt.Sprintf("user %d to user %d", c.client, c.listener), func(t *testing.T) {
			t.Parallel()
			p := command(t, "sh", "-c", as(c.listener)+`socat -u UNIX-LISTEN:socket,unlink-early OPEN:got,append & listener=$!
				while [ ! -S socket ]; do sleep 0.01; done; chmod 777 socket
				SECRET=xyz GRACEFUL_SOCKET=$PWD/socket `+as(c.client)+`graceful defer -- true 2>said & client=$!
				while ! grep -q xyz got && kill -0 $client; do sleep 0.01; done 2>/dev/null
				kill $listener 2>/dev/null; wait $client; true`)
			err := errors.Join(os.Chmod(filepath.Dir(p.dir), 0o755), os.Chmod(p.dir, 0o777),
				os.WriteFile(p.dir+"/got", nil, 0o666), os.Chmod(p.dir+"/got", 0o666))
			if err != nil {
				t.Fatal(err)
			}
			p.start().want("0")
			got, _ := os.ReadFile(p.dir + "/got")
			if sent := strings.Contains(string(got), "SECRET=xyz"); sent != c.sent {
				t.Errorf("the secret was sent: %t; the client wrote %s", sent, p.waitForFile("said"))
			}
			if refusal := fmt.Sprintf("user %d listens there, and you are user %d", c.listener, c.client); !c.sent &&
				!strings.Contains(p.waitForFile("said"), refusal) {
				t.Errorf("the client wrote %s", p.waitForFile("said"))
			}
		})
	}
}

// With --no-env, hostile variables in the environment configure nothing. With --no-env=false they do.
func TestNoEnv_ignoresEveryVariable(t *testing.T) {
	t.Parallel()
	hostile := []string{
		"GRACEFUL_ON_EXIT=echo hostile", "GRACEFUL_ON_STOP=echo hostile", "GRACEFUL_REPORT=hostile",
		"GRACEFUL_STATE_DIR=hostile", "GRACEFUL_NAME=hostile",
		"GRACEFUL_TIMEOUT=nonsense", "GRACEFUL_GUARD=nonsense", "GRACEFUL_LOG_FORMAT=json", "GRACEFUL_VERBOSE=true",
		"GRACEFUL_REMAP_EXIT=3=0",
		"GRACEFUL_FORMAT=nonsense", "GRACEFUL_NO_ENV=nonsense", "GRACEFUL_SHELL=true",
	}
	for _, c := range []struct {
		args         []string
		status, want string
	}{
		{[]string{"run", "--no-env", "--", "sh", "-c", "echo $GRACEFUL_NAME; exit 3"}, "3", "sh\n"},
		{[]string{"run", "--no-env", "--guard", "nonsense"}, "125",
			"graceful: --guard: \"nonsense\" is not a valid guard (auto, on, off)\n"},
		{[]string{"recover", "--no-env"}, "125",
			"graceful: recover: no state directory was given (graceful recover --state-dir DIR)\n"},
		{[]string{"defer", "--no-env", "--", "a", "b"}, "1",
			"graceful: defer: this is not inside a run: GRACEFUL_SOCKET is not set " +
				"(start the script by graceful run -- ./script)\n"},
		{[]string{"run", "--no-env=false", "--", "true"}, "125", "GRACEFUL_GUARD: \\\"nonsense\\\" is not a valid guard"},
	} {
		p := command(t, append([]string{"graceful"}, c.args...)...)
		p.cmd.Env = append(os.Environ(), hostile...)
		p.start().want(c.status)
		if got := p.text(); got != c.want && (c.status != "125" || !strings.Contains(got, c.want)) {
			t.Errorf("%q: it wrote\n%s\nand not\n%s", c.args, got, c.want)
		}
		if exists(p, "hostile") {
			t.Errorf("%q created a file", c.args)
		}
	}
}
