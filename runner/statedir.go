package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"graceful/cleanup/ledger"
)

// replaceable is the warning, or the error, that a parent of the state directory is unsafe.
const replaceable = "the state directory can be replaced by others"

// checkParents warns when another user can replace the state directory, which exists. When strict is set, that is an
// error. A Kubernetes volume is writable by all, or by a group, so it is no error by default.
func checkParents(path string, strict bool, log *slog.Logger) error {
	unsafe, err := ledger.UnsafeParents(path)
	if err != nil || len(unsafe) == 0 {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	why, hint := describeParents(unsafe)
	why = path + ": " + why
	if strict {
		return fmt.Errorf("%s: %s (%s)", replaceable, why, hint)
	}
	log.Warn(replaceable, "err", why, "hint", hint+", or --strict-state-dir to refuse")
	return nil
}

// examineParents does the same for the doctor. The state directory need not exist.
func examineParents(path string, strict bool, c *Check) {
	unsafe, err := ledger.UnsafeParents(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.but(No, err.Error(), "")
	}
	if len(unsafe) == 0 {
		return
	}
	holds := Partly
	if strict {
		holds = No
	}
	why, hint := describeParents(unsafe)
	c.but(holds, "it can be replaced by others: "+why, hint)
}

func describeParents(unsafe []*ledger.ParentError) (why, hint string) {
	var reasons, hints []string
	for _, parent := range unsafe {
		reasons, hints = append(reasons, parent.Error()), append(hints, parent.Hint())
	}
	return strings.Join(reasons, "; "), strings.Join(hints, ", ")
}
