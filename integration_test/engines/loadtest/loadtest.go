//go:build engines

// Loadtest contains a service and its client, for containers. "loadtest serve" answers requests slowly. "loadtest call
// HOST" sends requests until it gets SIGTERM. Then it writes the number of requests, and the number of failed ones.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	port          = "8080"
	requestTime   = 3500 * time.Millisecond
	requestLimit  = 30 * time.Second // longer than a busy machine needs
	requestPeriod = 50 * time.Millisecond
	answerTime    = 4 * time.Second // time for which the client keeps an answer of the DNS
)

func main() { os.Exit(run()) }

// run performs the command in os.Args and returns the exit status.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		if err := serve(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "serving:", err)
			return 1
		}
	case len(os.Args) == 3 && os.Args[1] == "call":
		call(ctx, os.Args[2])
	default:
		fmt.Fprintln(os.Stderr, "usage: loadtest serve | call HOST")
		return 2
	}
	return 0
}

// serve answers each request after requestTime, and a health check at once. At a stop it refuses new connections, and
// finishes the requests that it has received.
func serve(ctx context.Context) error {
	server := &http.Server{Addr: ":" + port, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			time.Sleep(requestTime)
		}
		fmt.Fprintln(w, "served")
	})}
	finished := make(chan struct{})
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
		close(finished)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	<-finished
	return nil
}

// client sends requests to the addresses of a host.
type client struct {
	host      string
	addresses []string
	asked     time.Time // time of the last DNS answer
	http      http.Client
	failed    atomic.Int64
}

// call sends one request every requestPeriod, each on a new connection, until ctx ends. Then it waits for the answers,
// and prints the numbers of requests and failures.
func call(ctx context.Context, host string) {
	c := &client{host: host, http: http.Client{Timeout: requestLimit, Transport: &http.Transport{DisableKeepAlives: true}}}
	var requests sync.WaitGroup
	count := 0
	for tick := time.NewTicker(requestPeriod); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if address := c.address(); address != "" {
				count++
				requests.Go(func() { c.send(address) })
				if count == 1 {
					fmt.Println("ready")
				}
			}
		}
	}
	requests.Wait()
	fmt.Printf("requests %d failed %d\n", count, c.failed.Load())
}

// address returns one of the host's addresses, or "" if the client has no address yet. The client uses an answer of the
// DNS for answerTime, and after that until a new answer comes.
func (c *client) address() string {
	if time.Since(c.asked) > answerTime {
		if found, err := net.LookupHost(c.host); err == nil {
			c.addresses, c.asked = found, time.Now()
		}
	}
	if len(c.addresses) == 0 {
		return ""
	}
	return c.addresses[rand.IntN(len(c.addresses))]
}

func (c *client) send(address string) {
	answer, err := c.http.Get("http://" + net.JoinHostPort(address, port))
	if err == nil {
		defer answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
		err = fmt.Errorf("status %s", answer.Status)
	}
	c.failed.Add(1)
	fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05.000"), err)
}
