package runner

import (
	"errors"
	"strings"
	"testing"

	"graceful/runner/journal"
)

// The place where the run began and the place of this process determine where processes of a dead run may exist.
func TestLocate(t *testing.T) {
	const own, other, boot, ours, theirs = "0a", "0b", "b1", "b1 pid:[1]", "b1 pid:[2]"
	const unknown location = -1 // an error
	at := func(boot, machine string, front int) journal.Begin {
		b := journal.Begin{Boot: boot, Front: front}
		if machine != "-" { // an earlier version
			b.Machine = &machine
		}
		return b
	}
	followed := func(b journal.Begin) journal.Begin { b.Followed = true; return b }
	for _, c := range []struct {
		began, now journal.Begin
		want, sure location // results without and with the user's assertion that no process exists
	}{
		{at(ours, own, 9), at(ours, own, 0), locationHere, locationHere},
		{at(ours, other, 9), at(ours, own, 0), locationHere, locationHere}, // another /etc/machine-id
		{at(ours, "-", 9), at(ours, own, 0), locationHere, locationHere},
		{at(ours, own, 1), at(ours, own, 0), locationHere, locationHere},
		{at(boot, own, 9), at(ours, own, 0), locationHere, locationNone},
		{at(theirs, own, 9), at(ours, own, 0), locationOther, locationNone},
		{at(theirs, "-", 9), at(ours, "", 0), locationOther, locationNone},
		{at(theirs, other, 1), at(ours, own, 0), locationNone, locationNone},
		{at("b1 pid:[3]", own, 9), at(ours, own, 0), unknown, locationNone},
		{followed(at(ours, own, 7)), at(ours, own, 0), locationHere, locationHere},
		{followed(at("b1 pid:[3]", own, 7)), at(ours, own, 0), locationNone, locationNone},
		{followed(at("b2 pid:[1]", other, 7)), at(ours, own, 0), unknown, locationNone},
		{at("b2 pid:[1]", own, 9), at(ours, own, 0), locationNone, locationNone},
		{at("b2 pid:[1]", other, 9), at(ours, own, 0), unknown, locationNone},
		{at("b2 pid:[1]", other, 1), at(ours, own, 0), unknown, locationNone},
		{at("b2 pid:[1]", "", 9), at(ours, "", 0), unknown, locationNone},
		{at("b2 pid:[1]", "", 1), at(ours, "", 0), locationNone, locationNone},
		{at("b2 pid:[1]", own, 9), at(ours, "", 0), unknown, locationNone},
		{at("b2 pid:[1]", own, 1), at(ours, "", 0), locationNone, locationNone},
		{at("b2 pid:[1]", "-", 9), at(ours, own, 0), locationNone, locationNone},
		{at(ours, own, 9), at("", own, 0), unknown, locationNone},
		{at("", own, 9), at(ours, own, 0), locationNone, locationNone},
		{at("", "", 9), at("", "", 0), locationNone, locationNone}, // a system without /proc
	} {
		for elsewhere, want := range map[bool]location{false: c.want, true: c.sure} {
			got, err := locate(c.began, c.now, circumstances{elsewhere: elsewhere}, func(namespace string) (location, error) {
				if namespace == "pid:[2]" {
					return locationOther, nil
				}
				return locationNone, errors.New("it cannot be seen")
			})
			if err != nil {
				got = unknown
			}
			if got != want || err != nil && !strings.Contains(err.Error(), "it") {
				t.Errorf("began at %+v, now %+v, elsewhere %t: %v, %v, want %v", c.began, c.now, elsewhere, got, err, want)
			}
		}
	}
}

// If machines share the file system, a run whose graceful was PID 1 counts as dead only on the machine where it began.
func TestLocate_shared(t *testing.T) {
	at := func(boot, machine string) journal.Begin {
		return journal.Begin{Boot: boot, Machine: &machine, Front: 1}
	}
	for _, c := range []struct {
		began, now journal.Begin
		err        bool
	}{
		{at("b1 pid:[2]", ""), at("b1 pid:[1]", ""), false},
		{at("b2 pid:[2]", ""), at("b1 pid:[1]", ""), true},
		{at("b2 pid:[2]", "0a"), at("b1 pid:[1]", ""), true},
		{at("b2 pid:[2]", "0a"), at("b1 pid:[1]", "0b"), true},
		{at("b2 pid:[2]", "0a"), at("b1 pid:[1]", "0a"), false},
	} {
		got, err := locate(c.began, c.now, circumstances{shared: true}, nil)
		if got != locationNone || (err != nil) != c.err {
			t.Errorf("began at %+v, now %+v: %v, %v", c.began, c.now, got, err)
		}
	}
}
