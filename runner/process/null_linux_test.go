package process

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Without /dev/null, the output of a process is discarded, whatever its size is. That holds even after the process that
// made the descriptor has closed it. A read returns end of file at once.
func TestMakeNull(t *testing.T) {
	null, err := makeNull()
	if err != nil {
		t.Fatal(err)
	}
	kind, err := unix.GetsockoptInt(int(null.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_DGRAM {
		t.Fatalf("not a datagram socket: %d, %v", kind, err)
	}
	var errs bytes.Buffer
	c := exec.Command("sh", "-ec", `read -r line && exit 3
		i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done
		dd if=/dev/zero bs=100k count=1000; echo`)
	c.Stdin, c.Stdout, c.Stderr = null, null, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	null.Close()
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, &errs)
	}
}

func TestOpenNull(t *testing.T) {
	null, err := OpenNull()
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	device, err := os.Stat(os.DevNull)
	if err != nil {
		t.Skip(err)
	}
	if st, err := null.Stat(); err != nil || !os.SameFile(st, device) {
		t.Errorf("the file is %v, %v", st, err)
	}
	if _, err := null.WriteString("x"); err != nil {
		t.Error(err)
	}
}
