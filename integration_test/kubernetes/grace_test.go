package kubernetes

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// margin is the part of the grace period that a stop must leave for the kubelet and the runtime.
const margin = 2 * time.Second

// setting returns the value of a flag of graceful in a container. The value comes from the command line or, if the flag
// is not there, from the environment of the container. "" means neither.
func setting(c *core.Container, flag string) string {
	words := slices.Concat(c.Command, c.Args)
	for i, word := range words {
		if word == "--" {
			break
		}
		if word == "--"+flag && i+1 < len(words) {
			return words[i+1]
		}
		if value, found := strings.CutPrefix(word, "--"+flag+"="); found {
			return value
		}
	}
	name := "GRACEFUL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// hookTime returns the time that the preStop hook of a container takes: 0 without a hook, and an error for a hook that
// is not a sleep.
func hookTime(c *core.Container) (time.Duration, error) {
	switch {
	case c.Lifecycle == nil || c.Lifecycle.PreStop == nil:
		return 0, nil
	case c.Lifecycle.PreStop.Sleep == nil:
		return 0, fmt.Errorf("container %s: a preStop hook without a limit", c.Name)
	}
	return time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second, nil
}

// deadline returns the deadline of the run in a container. The deadline covers the whole stop: drain, grace and
// cleanup.
func deadline(c *core.Container) (time.Duration, error) {
	text := setting(c, "deadline")
	limit, err := time.ParseDuration(text)
	if err != nil || limit <= 0 {
		return 0, fmt.Errorf("container %s: deadline %q", c.Name, text)
	}
	return limit, nil
}

// checkGrace returns an error if a stop of the pod may take longer than the grace period less margin, or if a deadline
// or a limit of a hook is missing. The grace period begins before the preStop hook. When all other containers have
// ended, the kubelet stops the sidecars in reverse order, in the same grace period. A probe may have its own grace
// period, which checkGrace also checks.
func checkGrace(spec *core.PodSpec) error {
	grace := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second
	var errs []error
	var containers, sidecars time.Duration
	check := func(c *core.Container) time.Duration {
		hook, hookErr := hookTime(c)
		limit, limitErr := deadline(c)
		errs = append(errs, hookErr, limitErr)
		for name, probe := range map[string]*core.Probe{"liveness": c.LivenessProbe, "startup": c.StartupProbe} {
			if probe == nil || probe.TerminationGracePeriodSeconds == nil {
				continue
			}
			own := time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
			if hook+limit > own-margin {
				errs = append(errs, fmt.Errorf("container %s: %v of preStop + %v of deadline > %v - %v of the %s probe",
					c.Name, hook, limit, own, margin, name))
			}
		}
		return hook + limit
	}
	for i := range spec.Containers {
		containers = max(containers, check(&spec.Containers[i]))
	}
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; c.RestartPolicy != nil {
			sidecars += check(c)
		}
	}
	if containers+sidecars > grace-margin {
		errs = append(errs, fmt.Errorf("%v for containers + %v for sidecars > %v - %v of the pod", containers, sidecars,
			grace, margin))
	}
	return errors.Join(errs...)
}

// A stop of each pod on the page ends at least 2 s before the kubelet kills the pod.
func TestManifests_fitGrace(t *testing.T) {
	for file, text := range manifests(t) {
		_, spec, err := decode(text)
		if err == nil && spec != nil {
			err = checkGrace(spec)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// checkGrace finds a sum that is one second too large, in each place of a manifest. It also finds a missing deadline,
// and a preStop hook without a limit.
func TestManifests_fitGraceFinds(t *testing.T) {
	for _, c := range []struct{ file, old, changed, want string }{
		{"deployment.yaml", "value: 58s", "value: 59s", "59s for containers + 0s for sidecars > 1m0s - 2s"},
		{"deployment.yaml", "PeriodSeconds: 60", "PeriodSeconds: 59", "58s for containers + 0s for sidecars > 59s - 2s"},
		{"deployment.yaml", "GRACEFUL_DEADLINE", "GRACEFUL_DRAIN", `container shop: deadline ""`},
		{"statefulset.yaml", "value: 18s", "value: 19s", "0s of preStop + 19s of deadline > 20s - 2s of the liveness"},
		{"job.yaml", "--deadline, 28s", "--deadline=29s", "29s for containers"},
		{"sidecar.yaml", "--deadline, 10s", "--deadline, 11s", "48s for containers + 11s for sidecars > 1m0s - 2s"},
		{"sidecar.yaml", "seconds: 5", "seconds: 6", "49s for containers + 10s for sidecars"},
		{"sidecar.yaml", "{sleep: {seconds: 5}}", "{exec: {command: [leave]}}", "a preStop hook without a limit"},
		{"recover.yaml", "PeriodSeconds: 30", "PeriodSeconds: 29", "28s for containers"},
	} {
		text := manifests(t)[c.file]
		changed := strings.Replace(text, c.old, c.changed, 1)
		if changed == text {
			t.Errorf("%s has no %q", c.file, c.old)
			continue
		}
		_, spec, err := decode(changed)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
		} else if err := checkGrace(spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %q: %v, want %q", c.file, c.changed, err, c.want)
		}
	}
}

// graceful accepts the command line and the environment of each container, with another target. This shows that the
// times fit into the deadline, because otherwise graceful refuses them.
func TestManifests_accepted(t *testing.T) {
	for file, text := range manifests(t) {
		_, spec, err := decode(text)
		if err != nil || spec == nil {
			continue // a claim has no containers, and the other tests report errors
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if c.Command[0] != "/usr/bin/graceful" || c.Command[1] != "run" && c.Command[1] != "recover" {
				t.Errorf("%s: container %s runs %q", file, c.Name, c.Command)
				continue
			}
			words := slices.Concat([]string{binary}, c.Command[1:], c.Args)
			for i, word := range words {
				if strings.HasPrefix(word, "/state/") {
					words[i] = t.TempDir()
				}
			}
			if i := slices.Index(words, "--"); i >= 0 {
				words = append(words[:i+1], "true")
			}
			cmd := exec.Command(words[0], words[1:]...)
			cmd.Env = []string{"PATH=/usr/bin:/bin"}
			for _, v := range c.Env {
				if strings.HasPrefix(v.Value, "/state/") {
					v.Value = t.TempDir()
				}
				cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %q with %q: %v\n%s", file, words, cmd.Env, err, out)
			}
		}
	}
}

// The page states how much time the deadline leaves to the service.
func TestManifests_worked(t *testing.T) {
	_, spec, err := decode(manifests(t)["deployment.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	c := &spec.Containers[0]
	seconds := func(flag string) int {
		value, err := time.ParseDuration(setting(c, flag))
		if err != nil {
			t.Fatal(err)
		}
		return int(value.Seconds())
	}
	limit, drain, cleanup := seconds("deadline"), seconds("drain"), seconds("on-exit-timeout")
	sum := fmt.Sprintf("%d − %d − %d − 1 = %d s", limit, drain, cleanup, limit-drain-cleanup-1)
	if text := readPage(t); !strings.Contains(text, sum) || !strings.Contains(text, strconv.Itoa(limit+2)+" s") {
		t.Errorf("the page does not say %q", sum)
	}
}
