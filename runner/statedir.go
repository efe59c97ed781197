package runner

import (
	"fmt"
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
	why, hint, err := UnsafeParents(path)
	if err != nil || why == "" {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	why = path + ": " + why
	if strict {
		return fmt.Errorf("%s: %s (%s)", replaceable, why, hint)
	}
	log.Warn(replaceable, "err", why, "hint", hint+", or --strict-state-dir to refuse")
	return nil
}

// UnsafeParents describes the parents of the state directory at path that let another user replace it, and what to do
// about them. why is empty if there are none. The error is fs.ErrNotExist if an element of the path does not exist; why
// then describes the elements before it.
func UnsafeParents(path string) (why, hint string, err error) {
	unsafe, err := ledger.UnsafeParents(path)
	var reasons, hints []string
	for _, parent := range unsafe {
		reasons, hints = append(reasons, parent.Error()), append(hints, parent.Hint())
	}
	return strings.Join(reasons, "; "), strings.Join(hints, ", "), err
}
