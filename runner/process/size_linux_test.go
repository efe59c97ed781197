package process

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// CheckSize accepts sizes that the kernel accepts. Both refuse sizes just above the limits.
func TestCheckSize(t *testing.T) {
	program, err := exec.LookPath("true")
	if err != nil {
		t.Skip("true: ", err)
	}
	longest := 32*os.Getpagesize() - 1
	var stack unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &stack); err != nil {
		t.Fatal(err)
	}
	allowed := min(stack.Cur/4, 6<<20)
	many := func(bytes uint64) []string { return strings.Split(strings.Repeat("123456789 ", int(bytes/18)), " ") }
	for name, c := range map[string]struct {
		args []string
		want bool
	}{
		"longest argument": {[]string{"true", strings.Repeat("x", longest)}, true},
		"too long":         {[]string{"true", strings.Repeat("x", longest+1)}, false},
		"most arguments":   {many(allowed - 5000), true},
		"too many":         {many(allowed + 5000), false},
	} {
		env := []string{"A=1"}
		cmd := exec.Cmd{Path: program, Args: c.args, Env: env}
		if got, err := CheckSize(c.args, env) == nil, cmd.Run(); got != c.want || errors.Is(err, unix.E2BIG) == c.want {
			t.Errorf("%s: accepted %t, want %t; execve: %v", name, got, c.want, err)
		}
	}
}
