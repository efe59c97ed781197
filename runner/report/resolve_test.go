package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Open follows links of graceful's user. Write replaces the file to which a link leads, keeps the link, and keeps the
// mode of an existing file.
func TestOpen_followsLinksOfTheUser(t *testing.T) {
	for name, c := range map[string]struct {
		links map[string]string
		want  string // where Write writes the report
	}{
		"a plain file":             {nil, "r"},
		"a link":                   {map[string]string{"r": "to"}, "to"},
		"a dangling link":          {map[string]string{"r": "sub/new"}, "sub/new"},
		"a link to a link":         {map[string]string{"r": "sub/a", "sub/a": "../to"}, "to"},
		"above a linked directory": {map[string]string{"r": "linked/../b", "linked": "sub/deep"}, "sub/b"},
		"an absolute link":         {map[string]string{"r": "DIR/to"}, "to"},
		"empty names and dots":     {map[string]string{"r": ".//sub/./../to"}, "to"},
		"links as directories": {
			map[string]string{"r": "l1/l2/x", "l1": "sub", "sub/l2": "DIR/sub/deep"}, "sub/deep/x",
		},
		"a directory that does not exist": {map[string]string{"r": "sub/deep/new/../x"}, "sub/deep/x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.must(os.MkdirAll(p.in("sub/deep"), 0o755))
			p.file("to", "old", 0o640)
			for link, to := range c.links {
				p.link(link, to)
			}
			p.file(".draft", "of a process that was killed", 0o400)
			mode := os.FileMode(newMode)
			if c.want == "to" {
				mode = 0o640
			}
			for n := range 2 { // the second time the file exists
				f := p.open("r")
				if strings.HasPrefix(name, "a directory that does not") {
					p.must(os.MkdirAll(p.in("sub/deep/new"), 0o755))
				} else if got := f.Path(); got != p.in(c.want) {
					t.Errorf("the path is %s", got)
				}
				p.must(writeTo(f, fmt.Sprint("new ", n)))
				p.want(c.want, fmt.Sprint("new ", n), mode)
			}
			for link, to := range c.links {
				if got, err := os.Readlink(p.in(link)); err != nil || got != strings.Replace(to, "DIR", p.dir, 1) {
					t.Errorf("link %s: %s, %v", link, got, err)
				}
			}
			if _, err := os.Stat(p.in(filepath.Join(filepath.Dir(c.want), ".draft"))); err == nil {
				t.Error("Write has left the draft")
			}
		})
	}
}

// Open follows maxLinks links. With one link more, Write returns ELOOP.
func TestOpen_maxLinks(t *testing.T) {
	p := newPlace(t)
	for n := range maxLinks + 1 {
		p.link(fmt.Sprint(n+1), fmt.Sprint(n))
	}
	p.must(writeTo(p.open(fmt.Sprint(maxLinks)), "x"))
	p.want("0", "x", newMode)
	if err := writeTo(p.open(fmt.Sprint(maxLinks+1)), "x"); err != unix.ELOOP {
		t.Errorf("one link more: %v", err)
	}
}

func TestIsTrusted(t *testing.T) {
	us := uint32(os.Geteuid())
	for _, c := range []struct {
		link, dir uint32
		mode      uint32
		want      bool
	}{
		{us, 7, 0o777, true}, {7, 7, 0o1777, true}, {8, 7, 0o755, false}, {8, us, 0o755, false},
		{65534, 65534, 0o755, true}, {65534, 65534, 0o1777, false}, {65534, 65534, 0o775, false},
	} {
		var link, dir unix.Stat_t
		link.Uid, dir.Uid = c.link, c.dir
		dir.Mode |= unix.S_IFDIR
		for bit := range 12 {
			if c.mode&(1<<bit) != 0 {
				dir.Mode |= 1 << bit
			}
		}
		if got := isTrusted(link, dir); got != c.want {
			t.Errorf("isTrusted(%+v) is %t", c, got)
		}
	}
}
