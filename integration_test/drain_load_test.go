package integration_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A service and its clients, all with the same working directory. The file backends in that directory lists the
// instances that the clients ask. The file replaces a load balancer, which could hide a lost request.
//
//	serve NAME        answers requests on the socket NAME; SIGTERM ends it at once. It creates NAME.pid when it
//	                  listens. At the request "hold" it creates NAME.holds, and answers when the file go-on exists
//	load              sends requests continuously, and writes the number of answers to the file answered. At SIGTERM
//	                  it prints the numbers of requests and answers, and ends with 1 if an answer is missing
func init() { roles["serve"], roles["load"] = serve, load }

const answerSize = 100_000 // bytes

func answerOf(name string) string { return strings.Repeat(name, answerSize) }

func serve(args []string) int {
	name := args[0]
	listener, err := net.Listen("unix", name)
	if err != nil {
		panic(err)
	}
	write(name+".pid", os.Getpid())
	for {
		c, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			request := make([]byte, 4)
			if _, err := io.ReadFull(c, request); err != nil {
				return
			}
			if string(request) == "hold" {
				write(name+".holds", 1)
				for !isThere("go-on") {
					time.Sleep(time.Millisecond)
				}
			}
			_, _ = io.WriteString(c, answerOf(name))
		}()
	}
}

// ask sends a request to an instance. It returns an error unless the whole answer arrives. path is the instance's
// socket.
func ask(path, request string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && string(got) != answerOf(filepath.Base(path)) {
		err = fmt.Errorf("%d bytes of %d", len(got), answerSize)
	}
	return err
}

func load([]string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	var (
		sent, answered atomic.Int64
		by             sync.Map
		over           atomic.Bool
		all            sync.WaitGroup
	)
	for worker := range 4 {
		all.Go(func() {
			for n := worker; !over.Load(); n++ {
				list, err := os.ReadFile("backends")
				if err != nil {
					panic(err)
				}
				backends := strings.Fields(string(list))
				name := backends[n%len(backends)]
				sent.Add(1)
				if err := ask(name, "give"); err != nil {
					fmt.Println("lost:", err)
				} else {
					by.Store(name, true)
					answered.Add(1)
				}
				if worker == 0 {
					write("answered", int(answered.Load()))
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	<-stop
	over.Store(true)
	all.Wait()
	by.Range(func(name, _ any) bool { fmt.Println("answers by", name); return true })
	fmt.Printf("%d sent, %d answered\n", sent.Load(), answered.Load())
	if sent.Load() != answered.Load() {
		return 1
	}
	return 0
}

// instance starts an instance of the service in a directory, and waits until it listens.
func instance(t *testing.T, dir, name string, wrapper ...string) *proc {
	t.Helper()
	p := command(t, append(wrapper, "helper", "serve", name)...)
	p.cmd.Dir, p.dir = dir, dir
	p.start().waitForFile(name + ".pid")
	return p
}

// balanced starts two instances of the service, "a" and "b", in a new directory. The instance "a" runs under the
// wrapper. The file backends lists both, and the file without lists only "b".
func balanced(t *testing.T, wrapper ...string) (a *proc, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp(binDir, "load-") // the path must be short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, list := range map[string]string{"backends": "a\nb\n", "without": "b\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(list), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	instance(t, dir, "b")
	return instance(t, dir, "a", wrapper...), dir
}

// leaveBackends is a command that removes the instance "a" from the file backends.
const leaveBackends = "mv without backends"

// SIGTERM ends a service at once, while its clients send requests continuously. No request is lost if an on-stop
// command removes the service from the backends, and --drain then gives the service time for its last clients. With
// neither flag, requests are lost.
func TestDrain_losesNoRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		flags  []string
		status string // exit status of load; "1": requests were lost
	}{
		{"on-stop and drain", []string{"--on-stop", leaveBackends, "--drain", "3s"}, "0"},
		{"neither", nil, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, dir := balanced(t, append(append([]string{"graceful", "run", "--grace", "1h"}, c.flags...), "--")...)
			l := command(t, "helper", "load")
			l.cmd.Dir, l.dir = dir, dir
			l.start()
			more := func() {
				t.Helper()
				before := 0
				if isThere(filepath.Join(dir, "answered")) {
					before = l.pidIn("answered")
				}
				l.until("further answers", func() bool { return l.pidIn("answered") > before+200 })
			}
			more()
			a.signal(unix.SIGTERM)
			a.want("143")
			more()
			if c.status != "0" {
				l.until("loss", func() bool { return strings.Contains(l.text(), "lost:") })
			}
			l.signal(unix.SIGTERM)
			l.want(c.status)
			if text := l.text(); !strings.Contains(text, "answers by a\n") || !strings.Contains(text, "answers by b\n") {
				t.Errorf("an instance got no request:\n%s", text)
			}
			t.Log(lastLine(l.text()))
		})
	}
}

// During the drain, a service answers its pending request. It also answers a new request, from a client that does not
// know of the stop yet. Without a drain, the pending request is lost.
func TestDrain_answersPendingRequests(t *testing.T) {
	t.Parallel()
	for _, drain := range []bool{true, false} {
		t.Run(fmt.Sprintf("drain %t", drain), func(t *testing.T) {
			t.Parallel()
			wrapper := []string{"graceful", "run", "--grace", "1h", "--on-stop", leaveBackends}
			if drain {
				wrapper = append(wrapper, "--drain", "1h")
			}
			a, dir := balanced(t, append(wrapper, "--")...)
			result := make(chan error, 1)
			go func() { result <- ask(filepath.Join(dir, "a"), "hold") }()
			a.waitForFile("a.holds")
			a.signal(unix.SIGTERM)
			if !drain {
				a.want("143")
				if err := <-result; err == nil {
					t.Error("the request was answered without a drain")
				}
				return
			}
			a.until("departure", func() bool { return a.waitForFile("backends") == "b\n" })
			if err := ask(filepath.Join(dir, "a"), "give"); err != nil {
				t.Errorf("a late request failed: %v", err)
			}
			if err := os.WriteFile(filepath.Join(dir, "go-on"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err != nil {
				t.Errorf("the pending request failed: %v", err)
			}
			time.Sleep(250 * time.Millisecond) // an earlier signal would belong to the same stop
			a.signal(unix.SIGTERM)             // ends the drain
			a.want("143")
		})
	}
}
