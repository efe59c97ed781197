package build

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	revision = "0123456789abcdef0123456789abcdef01234567"
	moment   = "2026-01-02T03:04:05Z"
	platform = runtime.GOOS + "/" + runtime.GOARCH
)

func built(version string) *debug.BuildInfo {
	return &debug.BuildInfo{
		GoVersion: "go9",
		Main:      debug.Module{Version: version},
		Settings:  []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.time", Value: moment}},
	}
}

// The commit occurs once, even if the version contains it.
func TestInfoString(t *testing.T) {
	for version, want := range map[string]string{
		"(devel)":                            "(devel) " + revision,
		"v1.2.3":                             "v1.2.3 " + revision,
		"v0.0.0-20260102030405-0123456789ab": "v0.0.0-20260102030405-0123456789ab",
		"v1.2.4-0.20260102030405-0123456789ab+dirty": "v1.2.4-0.20260102030405-0123456789ab+dirty",
	} {
		if got, want := describe(built(version)).String(), want+" "+moment+" go9 "+platform; got != want {
			t.Errorf("String is %q, want %q", got, want)
		}
	}
	got := describe(&debug.BuildInfo{GoVersion: "go9"}).String()
	if want := "unknown go9 " + platform; got != want {
		t.Errorf("without version control String is %q, want %q", got, want)
	}
}

// Values that the linker has set replace those of the go command.
func TestDescribe_linker(t *testing.T) {
	defer func() { version, commit, date = "", "", "" }()
	version, commit, date = "v1.2.3", "fedcba", "2026-02-03T04:05:06Z"
	want := Info{Version: "v1.2.3", Commit: &commit, Date: &date, Go: "go9", Platform: platform}
	if diff := cmp.Diff(want, describe(built("(devel)"))); diff != "" {
		t.Error(diff)
	}
}
