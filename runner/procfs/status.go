package procfs

import (
	"fmt"
	"strconv"
	"strings"
)

// Status contains the rights and the ignored signals of a process, from /proc/PID/status (proc_pid_status(5)).
type Status struct {
	Ignored    uint64 // ignored signals, as a bit mask: signal n is bit n-1
	GIDs       []int  // the effective group, then the supplementary groups
	Permitted  uint64 // permitted capabilities, as a bit mask: capability n is bit n (capabilities(7))
	Bounding   uint64 // bounding set, in the same form
	Ambient    uint64 // ambient set, in the same form
	NoNewPrivs bool
	Seccomp    int // mode: 0 none, 1 strict, 2 filter
	Filters    int // number of seccomp filters; 0 before Linux 5.9
}

// ParseStatus parses the text of a status file. It returns an error if a known line is invalid, or if the text contains
// no known line.
func ParseStatus(text string) (s Status, err error) {
	masks := map[string]*uint64{
		"SigIgn": &s.Ignored, "CapPrm": &s.Permitted, "CapBnd": &s.Bounding, "CapAmb": &s.Ambient,
	}
	numbers := map[string]*int{"Seccomp": &s.Seccomp, "Seccomp_filters": &s.Filters}
	found := 0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimSpace(value)
		switch {
		case name == "Gid": // real, effective, saved, file system
			if f := strings.Fields(value); len(f) > 1 {
				err = s.addGroups(f[1])
			}
		case name == "Groups":
			err = s.addGroups(value)
		case name == "NoNewPrivs":
			s.NoNewPrivs = value != "0"
		case masks[name] != nil:
			*masks[name], err = strconv.ParseUint(value, 16, 64)
		case numbers[name] != nil:
			*numbers[name], err = strconv.Atoi(value)
		default:
			continue
		}
		if err != nil {
			return Status{}, fmt.Errorf("%s: %w", name, err)
		}
		found++
	}
	if found == 0 {
		return Status{}, fmt.Errorf("no known line in %.40q", text)
	}
	return s, nil
}

func (s *Status) addGroups(list string) error {
	for word := range strings.FieldsSeq(list) {
		gid, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		s.GIDs = append(s.GIDs, gid)
	}
	return nil
}
