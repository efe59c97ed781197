package runner

import (
	"strings"
	"testing"

	"graceful/runner/procfs"
)

// A process that lacks a right because of a sandbox may not register a command: the command would run outside of the
// sandbox.
func TestRights_missing(t *testing.T) {
	const all = 0x1ffffffffff
	root := rights{procfs.Status{GIDs: []int{0}, Permitted: all, Bounding: all}, 0, "user:1", "mnt:1", "1 2"}
	user := rights{procfs.Status{GIDs: []int{7, 8}, Bounding: all}, 1000, "user:1", "mnt:1", "1 2"}
	netAdmin := user
	netAdmin.Status = procfs.Status{GIDs: []int{7}, Permitted: 1 << 12, Ambient: 1 << 12, Bounding: all}
	setcap := rights{procfs.Status{GIDs: []int{7}, Permitted: 1 << 12, Bounding: all}, 1000, "user:1", "mnt:1", "1 2"}
	filtered := root
	filtered.NoNewPrivs, filtered.Seccomp, filtered.Filters = true, 2, 1
	hidden := func(r *rights) { r.userNamespace, r.mountNamespace, r.rootDir = "", "", "" }
	for name, c := range map[string]struct {
		ours, theirs rights
		change       func(*rights) // applied to theirs; nil: no change
		want         string        // part of the result of missing; "": the result is ""
	}{
		"the same":                    {root, root, nil, ""},
		"a user's":                    {user, user, nil, ""},
		"more groups":                 {user, user, func(r *rights) { r.GIDs = []int{9, 8, 7} }, ""},
		"under the same filter":       {filtered, filtered, nil, ""},
		"outside of our filter":       {filtered, root, nil, ""},
		"root in a user's run":        {user, root, nil, ""},
		"hidden root in a user's run": {user, root, hidden, ""},
		// A process without the file capabilities of graceful may register commands, because the commands do not have
		// these capabilities either.
		"file capabilities of graceful": {setcap, setcap, func(r *rights) { r.Permitted = 0 }, ""},

		"no capabilities":              {root, root, func(r *rights) { r.Permitted = 0 }, "capabilities"},
		"one less":                     {root, root, func(r *rights) { r.Permitted &^= 1 << 21 }, "0x200000"},
		"an ambient one less":          {netAdmin, netAdmin, func(r *rights) { r.Permitted = 0 }, "capabilities"},
		"root of a container":          {user, root, func(r *rights) { hidden(r); r.Permitted = 0xa80425fb }, "capabilities"},
		"a smaller bounding set":       {user, user, func(r *rights) { r.Bounding = 0 }, "bounding set"},
		"no_new_privs":                 {user, user, func(r *rights) { r.NoNewPrivs = true }, "no_new_privs"},
		"a filter":                     {user, user, func(r *rights) { r.Seccomp, r.Filters = 2, 1 }, "seccomp"},
		"a filter before Linux 5.9":    {user, user, func(r *rights) { r.Seccomp = 2 }, "seccomp"},
		"strict mode":                  {filtered, filtered, func(r *rights) { r.Seccomp = 1 }, "seccomp"},
		"another filter":               {filtered, filtered, func(r *rights) { r.Filters = 2 }, "seccomp"},
		"a group less":                 {user, user, func(r *rights) { r.GIDs = []int{7} }, "group"},
		"another user namespace":       {root, root, func(r *rights) { r.userNamespace = "user:2" }, "user namespace"},
		"another mount namespace":      {root, root, func(r *rights) { r.mountNamespace = "mnt:2" }, "mount namespace"},
		"another root directory":       {root, root, func(r *rights) { r.rootDir = "1 3" }, "root directory"},
		"hidden":                       {user, user, hidden, "cannot be looked at"},
		"hidden from root":             {root, root, hidden, "cannot be looked at"},
		"root with a filter":           {user, root, func(r *rights) { hidden(r); r.Seccomp = 2 }, "seccomp"},
		"root in a mount namespace":    {user, root, func(r *rights) { r.mountNamespace = "mnt:2" }, "mount namespace"},
		"a namespace hidden by itself": {user, user, func(r *rights) { r.mountNamespace = "" }, "cannot be looked at"},
	} {
		theirs := c.theirs
		if c.change != nil {
			c.change(&theirs)
		}
		got := c.ours.missing(theirs)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q is missing, want %q", name, got, c.want)
		}
	}
}
