package registry

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Only the user may enter the directory of the socket, whatever the umask is. Remove removes the directory.
func TestListen_mode(t *testing.T) {
	old := unix.Umask(0o777)
	defer unix.Umask(old)
	place := "/tmp"
	t.Setenv("XDG_RUNTIME_DIR", place)
	s, err := Listen("0123456789abcdef0123")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(s.FD), unix.Close(s.Lock) }()
	address := s.Address
	var dir, socket unix.Stat_t
	_, _ = unix.Stat(strings.TrimSuffix(address, "/socket"), &dir), unix.Stat(address, &socket)
	if !strings.HasPrefix(address, place+"/graceful-") || dir.Mode&0o7777 != 0o700 || socket.Mode&0o7777 != 0o600 {
		t.Errorf("%s: %o, %o", address, dir.Mode, socket.Mode)
	}
	Remove(address)
	if unix.Stat(strings.TrimSuffix(address, "/socket"), &dir) == nil {
		t.Error("Remove has left the directory")
	}
}

// RemoveDead removes the directories of killed runs, and no others.
func TestRemoveDead(t *testing.T) {
	place := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", place)
	var sockets []Socket
	for _, id := range []string{"dead", "living", "earlier", "ending", "held"} {
		s, err := Listen(id)
		if err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, s)
	}
	unix.Close(sockets[0].Lock) // the kernel does that when a process ends
	defer unix.Close(Hold(sockets[4].Address))
	unix.Close(sockets[4].Lock)
	_ = os.Remove(filepath.Join(place, "graceful-earlier", lockName))
	for _, name := range []string{"other", "graceful-file"} {
		if err := os.WriteFile(filepath.Join(place, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("graceful-dead", filepath.Join(place, "graceful-link")); err != nil {
		t.Fatal(err)
	}
	Remove(sockets[3].Address)
	RemoveDead(sockets[3].Address)
	var names []string
	entries, _ := os.ReadDir(place)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"graceful-earlier", "graceful-file", "graceful-held", "graceful-link", "graceful-living", "other"}
	if !slices.Equal(names, want) {
		t.Errorf("left names %v, want %v", names, want)
	}
	for _, s := range sockets {
		unix.Close(s.FD)
	}
}

func TestListenAt_abstractAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has abstract addresses")
	}
	address := "@graceful-test-" + t.Name()
	fd, err := listenAt(address)
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(fd, unknownStart)
	go func() { c := <-s.Calls; c.Answer(Response{ID: c.ID}) }()
	wantServed(t, address)
	s.Close()
	if _, err := Ask(address, Request{Do: List}); !errors.Is(err, errOver) {
		t.Errorf("after Close: %v", err)
	}
}
