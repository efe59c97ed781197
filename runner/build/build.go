// Package build describes the build of this binary. It never changes anything.
package build

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
)

// The packaging script sets these variables, and the Dockerfile sets version and commit (go build -ldflags -X), because
// both build without version control (-buildvcs=false). In any other build the variables are empty.
var version, commit, date string

// Info describes a build.
type Info struct {
	Version  string  `json:"version"`  // v1.2.3, a pseudo-version, "(devel)", or "unknown"
	Commit   *string `json:"commit"`   // nil: unknown
	Date     *string `json:"date"`     // date of the commit: RFC 3339, UTC; nil: unknown
	Go       string  `json:"go"`       // version of Go
	Platform string  `json:"platform"` // GOOS/GOARCH
}

// Read returns the description of this binary.
func Read() Info {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return describe(info)
}

func describe(info *debug.BuildInfo) Info {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return Info{
		Version:  cmp.Or(version, info.Main.Version, "unknown"),
		Commit:   known(cmp.Or(commit, settings["vcs.revision"])),
		Date:     known(cmp.Or(date, settings["vcs.time"])),
		Go:       info.GoVersion,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// known returns nil for an empty string.
func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// String returns the description on one line, without unknown parts. If the version contains the commit, as a
// pseudo-version does, String does not repeat the commit.
func (i Info) String() string {
	words := []string{i.Version}
	if i.Commit != nil && !strings.Contains(i.Version, (*i.Commit)[:min(12, len(*i.Commit))]) {
		words = append(words, *i.Commit)
	}
	if i.Date != nil {
		words = append(words, *i.Date)
	}
	return strings.Join(append(words, i.Go, i.Platform), " ")
}
