package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/registry"
)

// Only root can register and withdraw commands of a run of root. Another user would gain all rights of root.
func TestDefer_refusesAnotherUser(t *testing.T) {
	need(t, "root", "setpriv")
	args := []string{"graceful", "run", "--", "sh", "-c",
		`setpriv --reuid 12345 --clear-groups graceful defer -- echo never; echo $?
		setpriv --reuid 12345 --clear-groups graceful cancel 1; echo $?`}
	for name, p := range map[string]*proc{
		"by the directory":   command(t, args...),
		"by the credentials": nowhereToWrite(t, args...),
	} {
		p.start().want("0")
		if text := p.text(); strings.Count(text, "1\n") < 2 || !strings.Contains(text, "user 12345") ||
			strings.Contains(text, "never\n") {
			t.Errorf("%s: it wrote:\n%s", name, text)
		} else {
			t.Logf("%s: %s", name, text)
		}
	}
}

// Under sudo, root registers commands only with runs of root, because another user's run would receive root's
// environment.
func TestDefer_underSudo(t *testing.T) {
	need(t, "root", "sudo", "setpriv", "userns")
	const userNobody = 65534
	work := "mkdir -p sub; cd sub; export X=y; graceful=" + plain + "; "
	for name, c := range map[string]struct {
		user         int
		target, want string
	}{
		"root's run": {0, `sudo -E "$graceful" defer -- sh -c 'echo $(id -u): $X in ${PWD##*/}, from $SUDO_USER'`,
			`^1\n0: y in sub, from root\n$`},
		"root's run, as another user": {0, `sudo -E -u nobody "$graceful" defer -- echo never; echo $?`,
			`^graceful: defer: .*/socket: permission denied \(only the user of the run and root may; ` +
				`you are user 65534\)\n1\n$`},
		"another user's run": {userNobody, `sudo -E "$graceful" defer -- echo never; echo $?`,
			`^graceful: defer: .*: user 65534 listens there, and you are user 0: ` +
				`the environment is not sent \(register as that user\)\n1\n$`},
		"without -E": {userNobody, `sudo "$graceful" defer -- echo never; echo $?`,
			`^graceful: defer: this is not inside a run: GRACEFUL_SOCKET is not set .*\n1\n$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := command(t, append([]string{"unshare", "--mount", "sh", "-c", `echo 'ALL ALL=(ALL) NOPASSWD:SETENV: ALL' >sudoers
				chmod 440 sudoers; mount --bind sudoers /etc/sudoers; exec "$@"`, "sh"},
				asUser(c.user, plain, "run", "--", "sh", "-c", work+c.target)...)...)
			// Other users must be able to reach the directory.
			if err := errors.Join(os.Chmod(p.dir, 0o777), os.Chmod(filepath.Dir(p.dir), 0o755)); err != nil {
				t.Fatal(err)
			}
			p.start().want("0")
			if text := p.text(); !regexp.MustCompile(c.want).MatchString(text) {
				t.Errorf("it wrote:\n%s", text)
			}
		})
	}
}

// Idle connections do not prevent other processes from registering, and graceful needs no further threads for them.
func TestDefer_besideIdleConnections(t *testing.T) {
	need(t, "python3")
	p := start(t, "graceful", "run", "--guard", "on", "--", "sh", "-c",
		`echo >ready; while [ ! -e go ]; do sleep 0.01; done
		python3 -c 'import os, socket, time
path = os.environ["GRACEFUL_SOCKET"]
idle = [socket.socket(socket.AF_UNIX) for _ in range(1000)]
for s in idle: s.connect(path)
open("idle", "w").write("1000")
time.sleep(1000)' & 
		while [ ! -s idle ]; do sleep 0.01; done
		for n in 1 2 3 4 5; do graceful defer -- echo $n; done >ids; echo >done; while [ ! -e end ]; do sleep 0.01; done`)
	p.waitForFile("ready")
	threads := func() string {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		_, rest, _ := strings.Cut(string(status), "Threads:\t")
		n, _, _ := strings.Cut(rest, "\n")
		return n
	}
	before := threads()
	p.touch("go")
	p.waitForFile("done")
	if after := threads(); after != before {
		t.Errorf("graceful had %s threads, and has %s", before, after)
	}
	p.touch("end")
	p.want("0")
	if got := p.text(); got != "5\n4\n3\n2\n1\n" {
		t.Errorf("it wrote:\n%s", got)
	}
}

// The sender of an invalid request gets an error, also if the request never ends. Other clients are served meanwhile.
func TestDefer_besideInvalidRequests(t *testing.T) {
	t.Parallel()
	p := start(t, "graceful", "run", "--guard", "on", "--", "sh", "-c",
		`echo $GRACEFUL_SOCKET >socket; until [ -e go ]; do sleep 0.01; done
		for n in 1 2 3; do graceful defer -- echo $n >>ids; done; echo >done; until [ -e end ]; do sleep 0.01; done`)
	address := strings.TrimSpace(p.waitForFile("socket"))
	head := `{"graceful":1,"do":"defer","shell":"echo never`
	answers := map[string]chan string{}
	for name, send := range map[string]func(net.Conn) error{
		"reading the request: invalid character": func(c net.Conn) error {
			_, err := io.WriteString(c, "hello\n")
			return err
		},
		"the request is cut off": func(c net.Conn) error {
			_, err := io.WriteString(c, head)
			return errors.Join(err, c.(*net.UnixConn).CloseWrite())
		},
		"the request has more than": func(c net.Conn) error {
			_, _ = io.WriteString(c, head+strings.Repeat(" ", registry.MaxRequest)+`"}`+"\n")
			return nil
		},
		"more than 4194304 bytes": func(c net.Conn) error { // this request never ends
			for {
				if _, err := c.Write(make([]byte, 1<<16)); err != nil {
					return nil
				}
			}
		},
		"no whole request has come in": func(c net.Conn) error {
			for _, b := range []byte(head) {
				if _, err := c.Write([]byte{b}); err != nil {
					return nil
				}
				time.Sleep(500 * time.Millisecond)
			}
			return nil
		},
	} {
		c, err := net.Dial("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		answers[name] = make(chan string, 1)
		go func() {
			if err := send(c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}()
		go func() {
			text, _ := io.ReadAll(c)
			answers[name] <- string(text)
		}()
	}
	p.touch("go")
	p.waitForFile("done")
	for want, answer := range answers {
		if got := <-answer; strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, `{"graceful":1,"error":"`) ||
			!strings.Contains(got, want) {
			t.Errorf("the answer is %q, want an error about %s", got, want)
		}
	}
	p.touch("end")
	p.want("0")
	if p.wantFile("ids", "1\n2\n3\n"); p.text() != "3\n2\n1\n" {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// While graceful is suspended, clients send requests, and go away before they get an answer. Their requests register no
// command.
func TestDefer_clientHasGone(t *testing.T) {
	p := start(t, "graceful", "run", "--guard", "on", "--", "sh", "-c",
		`echo $GRACEFUL_SOCKET >socket; until [ -e go ]; do sleep 0.01; done; graceful defer -- echo real`)
	address, graceful := strings.TrimSpace(p.waitForFile("socket")), p.cmd.Process.Pid
	if err := unix.Kill(graceful, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.until("suspension", func() bool { return processState(graceful) == "T" })
	for range 20 {
		c, err := net.Dial("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, `{"graceful":1,"do":"defer","shell":"echo ghost"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := unix.Kill(graceful, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.touch("go")
	p.want("0")
	if text := p.text(); !regexp.MustCompile(`^\d+\nreal\n$`).MatchString(text) {
		t.Errorf("it wrote:\n%s", text)
	}
}

// The clients in docs/protocol.md work as described.
func TestProtocolPage_clients(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	code := func(language string) string {
		_, rest, ok := strings.Cut(string(text), "```"+language+"\n")
		block, _, _ := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("the page has no block of %s", language)
		}
		return block
	}
	// Also test an abstract address. graceful uses one if no directory is writable.
	for name, prepare := range map[string]func(*testing.T, ...string) *proc{
		"":                 func(t *testing.T, args ...string) *proc { return command(t, args...) },
		" without a place": nowhereToWrite,
	} {
		t.Run("python"+name, func(t *testing.T) {
			need(t, "python3")
			client := code("python")
			if n := len(slices.Collect(strings.Lines(client))); n > 25 {
				t.Errorf("the client has %d lines", n)
			}
			p := prepare(t, "graceful", "run", "--", "sh", "-c",
				`cd sub; X=y R=`+"'\ufffd'"+` B=$(printf '\377') python3 ../client.py sh -c 'echo $X $R $B $0 ${PWD##*/}' `+
					"'\ufffd\xff'")
			if err := errors.Join(os.Mkdir(filepath.Join(p.dir, "sub"), 0o755),
				os.WriteFile(filepath.Join(p.dir, "client.py"), []byte(client), 0o644)); err != nil {
				t.Fatal(err)
			}
			p.start().want("0")
			if got := p.text(); got != "1\ny \ufffd \xff \ufffd\xff sub\n" {
				t.Errorf("it wrote:\n%s", got)
			}
		})
		t.Run("shell"+name, func(t *testing.T) {
			need(t, "socat")
			p := prepare(t, "graceful", "run", "--", "sh", "-c", code("sh"))
			if err := os.Mkdir(filepath.Join(p.dir, "scratch"), 0o755); err != nil {
				t.Fatal(err)
			}
			p.start().want("0")
			tried := !exists(p, "scratch") || strings.Contains(p.text(), "cannot remove 'scratch': Read-only")
			if got := p.text(); !strings.HasPrefix(got, `{"graceful":1,"id":1}`+"\n") || !tried {
				t.Errorf("it wrote:\n%s", got)
			}
		})
	}
}

// graceful accepts requests of other encoders, which escape other characters.
func TestDefer_foreignEncoders(t *testing.T) {
	const text = "\ufffd ä 😀 \u2028 \"\\\\ \x7f"
	const python = `python3 -c 'import json, os
request = {"graceful": 1, "do": "defer", "command": ["printf", "%%s\\n", os.environ["TEXT"]]}
print(json.dumps(request%s))'`
	for name, c := range map[string]struct {
		need   string
		encode string // prints a request for a command that prints $TEXT
	}{
		"python, ASCII": {"python3", fmt.Sprintf(python, "")},
		"python, UTF-8": {"python3", fmt.Sprintf(python, ", ensure_ascii=False")},
		"node": {"node", `node -e '
			console.log(JSON.stringify({graceful: 1, do: "defer", command: ["printf", "%s\\n", process.env.TEXT]}))'`},
		"jq":        {"jq", `jq -cn '{graceful: 1, do: "defer", command: ["printf", "%s\\n", $ENV.TEXT]}'`},
		"jq, ASCII": {"jq", `jq -acn '{graceful: 1, do: "defer", command: ["printf", "%s\\n", $ENV.TEXT]}'`},
		"by hand": {"socat", `printf '%s\n' '{"do" : "d\u0065fer","graceful":1, ` +
			`"command":["\u0070rintf","%s\u000a","\uFFFD \u00E4 \uD83D\uDE00 \u2028 \"\u005c\\ \u007F"] }'`},
		"by hand, base64": {"socat", `printf '%s\n' '{"graceful":1,"do":"defer",` +
			`"command":["printf","%s\\n",{"base64":"'$(printf %s "$TEXT" | base64 -w0)'"}]}'`},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, "linux", "socat", c.need)
			t.Parallel()
			p := command(t, "graceful", "run", "--", "sh", "-c", c.encode+" | socat -t 30 - UNIX-CONNECT:$GRACEFUL_SOCKET")
			p.cmd.Env = append(os.Environ(), "TEXT="+text, "LC_ALL=C.UTF-8")
			p.start().want("0")
			if got, want := p.text(), `{"graceful":1,"id":1}`+"\n"+text+"\n"; got != want {
				t.Errorf("it wrote\n%q, want\n%q", got, want)
			}
		})
	}
}
