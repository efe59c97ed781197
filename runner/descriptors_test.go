package runner

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHintAtLimit(t *testing.T) {
	for err, want := range map[error]string{
		unix.EMFILE: "ulimit -n",
		fmt.Errorf("opening /proc: %w", unix.ENFILE): "fs.file-max",
	} {
		if got := hintAtLimit(err); !strings.Contains(got, want) {
			t.Errorf("%v: the hint is %q, want %q in it", err, got, want)
		}
	}
	if got := hintAtLimit(unix.ENOENT); got != "" {
		t.Errorf("the hint at ENOENT is %q", got)
	}
}
