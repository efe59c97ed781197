package integration_test

import (
	"os/exec"
	"testing"
)

// What a launch costs, against the bare program and the wrappers that people use today.
func BenchmarkLaunch(b *testing.B) {
	for _, wrapper := range [][]string{{}, {"graceful", "run", "--"}, {"tini", "-s", "--"}, {"dumb-init", "--"}, {"timeout", "10"}} {
		name := "bare"
		if len(wrapper) > 0 {
			name = wrapper[0]
		}
		b.Run(name, func(b *testing.B) {
			need(b, append([]string{"true"}, wrapper[:min(1, len(wrapper))]...)...)
			args := append(wrapper, "true")
			for b.Loop() {
				if err := exec.Command(args[0], args[1:]...).Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
