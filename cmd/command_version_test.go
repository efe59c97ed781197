package cmd

import (
	"runtime/debug"
	"testing"
)

// The revision occurs once, also where the version is made of it.
func TestDescribeBuild(t *testing.T) {
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for version, want := range map[string]string{
		"(devel)":                            "(devel) " + revision + " go9",
		"v1.2.3":                             "v1.2.3 " + revision + " go9",
		"v0.0.0-20260102030405-0123456789ab": "v0.0.0-20260102030405-0123456789ab go9",
		"v1.2.4-0.20260102030405-0123456789ab+dirty": "v1.2.4-0.20260102030405-0123456789ab+dirty go9",
	} {
		info := &debug.BuildInfo{
			GoVersion: "go9",
			Main:      debug.Module{Version: version},
			Settings:  []debug.BuildSetting{{Key: "vcs.revision", Value: revision}},
		}
		if got := describeBuild(info); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}
