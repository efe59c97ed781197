package integration_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// database is a PostgreSQL cluster with a socket in its directory. PostgreSQL refuses to run as root. If the test runs
// as root, PostgreSQL runs as the user nobody.
type database struct{ dir string }

func (d database) command(t *testing.T, args ...string) *proc {
	t.Helper()
	if os.Geteuid() == 0 {
		args = append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, args...)
	}
	p := command(t, args...)
	p.cmd.Dir = d.dir
	return p
}

func newDatabase(t *testing.T) database {
	t.Helper()
	need(t, "linux", "postgres", "psql")
	dir, err := os.MkdirTemp(binDir, "pg-") // where the user nobody may enter; the path must be short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		need(t, "setpriv")
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	d := database{dir}
	d.command(t, filepath.Join(postgresDir(), "initdb"), "--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U",
		"postgres", "-D", "data").
		start().want("0")
	return d
}

// start starts PostgreSQL under graceful, and waits until it is ready.
func (d database) start(t *testing.T, flags ...string) *proc {
	t.Helper()
	p := d.command(t, slices.Concat([]string{plain, "run"}, flags,
		[]string{"--", filepath.Join(postgresDir(), "postgres"), "-D", "data",
			"-c", "listen_addresses=", "-c", "unix_socket_directories=" + d.dir, "-c", "fsync=off"})...).start()
	p.until("server that is ready", func() bool { return strings.Contains(p.text(), "ready to accept connections") })
	return p
}

// connect opens a session that ends by itself after an hour.
func (d database) connect(t *testing.T) *proc {
	t.Helper()
	p := start(t, "psql", "-X", "-h", d.dir, "-U", "postgres", "-c", "select 'connected'", "-c", "select pg_sleep(3600)")
	p.until("session", func() bool { return strings.Contains(p.text(), "connected") })
	return p
}

// For PostgreSQL, SIGTERM means to wait for its clients, SIGINT to disconnect them, and SIGQUIT to abort and recover at
// the next start. --stop-schedule sends these signals in this order, with time after each. With an open client,
// PostgreSQL ends at SIGINT, and needs no recovery.
func TestStopSchedule_PostgreSQLWithAnOpenClient(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	server := d.start(t, "-v", "--stop-schedule", "TERM/1s/INT/1h/QUIT/2s/KILL", "--on-exit",
		"ls data/postmaster.pid; echo cleaned $GRACEFUL_ESCALATED")
	client := d.connect(t)
	server.signal(unix.SIGTERM)
	server.want("0")
	text := server.text()
	if !inOrder(text, "forwarding signal=TERM", "next step", "forwarding signal=INT", "target ended status=0") ||
		!inOrder(text, "received fast shutdown request", "database system is shut down", "\ncleaned false") ||
		strings.Contains(text, "signal=QUIT") || strings.Contains(text, "immediate shutdown request") {
		t.Errorf("PostgreSQL did not end at SIGINT:\n%s", text)
	}
	if strings.Contains(text, "\ndata/postmaster.pid") {
		t.Errorf("PostgreSQL left its lock file:\n%s", text)
	}
	if got := client.wait(); got == "0" {
		t.Errorf("PostgreSQL waited for the client:\n%s", client.text())
	}

	recovered := func(text string) bool {
		return strings.Contains(text, "was interrupted") || strings.Contains(text, "automatic recovery")
	}
	again := d.start(t, "--stop-schedule", "QUIT/1h")
	if text := again.text(); recovered(text) || !strings.Contains(text, "database system was shut down at") {
		t.Errorf("PostgreSQL had to recover:\n%s", text)
	}
	// For comparison: after SIGQUIT as the first signal of a stop, PostgreSQL has to recover.
	again.signal(unix.SIGTERM)
	again.wait()
	last := d.start(t)
	if text := last.text(); !recovered(text) {
		t.Errorf("after SIGQUIT, PostgreSQL had nothing to recover:\n%s", text)
	}
	last.signal(unix.SIGTERM)
	last.want("0")
}

// inOrder reports whether a text contains all parts in this order. (The order of lines from different processes is
// undefined.)
func inOrder(text string, parts ...string) bool {
	for _, part := range parts {
		var found bool
		if _, text, found = strings.Cut(text, part); !found {
			return false
		}
	}
	return true
}
