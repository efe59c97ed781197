package kubernetes

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// staticPod is a pod of a node. It is removed after the test.
type staticPod struct {
	*node
	t    *testing.T
	name string
	mark string // the time that its daemons sleep; identifies its processes on the machine
	spec *core.PodSpec

	starts int // how often start was called
}

// newPod prepares a pod. All of its containers mount the directory of its log as /out. claims names further volumes;
// they and the claims in spec are directories of this machine. The pod uses the network of the node, because the node
// has no network plugin.
func (n *node) newPod(t *testing.T, spec *core.PodSpec, claims ...string) *staticPod {
	t.Helper()
	mark := fmt.Sprint(1_000_000_000 + rand.IntN(1_000_000_000))
	p := &staticPod{node: n, t: t, name: "pod-" + mark, mark: mark, spec: spec}
	spec.HostNetwork = true
	for i := range spec.Volumes {
		if v := &spec.Volumes[i]; v.PersistentVolumeClaim != nil {
			v.VolumeSource = p.directory(v.Name)
		}
	}
	for _, name := range append(claims, "out") {
		spec.Volumes = append(spec.Volumes, core.Volume{Name: name, VolumeSource: p.directory(name)})
	}
	for _, list := range [][]core.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			list[i].VolumeMounts = append(list[i].VolumeMounts, core.VolumeMount{Name: "out", MountPath: "/out"})
			list[i].Env = append(list[i].Env, core.EnvVar{Name: "MARK", Value: mark})
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, strings.Join(p.events(), "\n"))
		}
		p.remove()
		until(t, "end of "+p.name, func() bool { p.kill(); return p.hasEnded() })
	})
	return p
}

// directory creates a directory on this machine for a volume.
func (p *staticPod) directory(name string) core.VolumeSource {
	path := filepath.Join(p.dir, "volumes", p.name, name)
	err := os.MkdirAll(path, 0o755)
	if err == nil && name == "out" {
		err = os.Chmod(path, 0o777) // the containers of some pods run as another user
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: path}}
}

// manifest returns the path of the file that makes the kubelet run the pod.
func (p *staticPod) manifest() string { return filepath.Join(p.dir, "manifests", p.name+".yaml") }

// start makes the kubelet run the pod. The kubelet identifies a static pod by the hash of its manifest. The annotation
// start changes that hash, so each start creates another pod of the same name.
func (p *staticPod) start() {
	p.t.Helper()
	p.starts++
	pod := &core.Pod{ObjectMeta: meta.ObjectMeta{Name: p.name, Namespace: "default"}, Spec: *p.spec}
	pod.Annotations = map[string]string{"start": strconv.Itoa(p.starts)}
	pod.APIVersion, pod.Kind = "v1", "Pod"
	text, err := yaml.Marshal(pod)
	if err == nil {
		temporary := filepath.Join(p.dir, p.name+".yaml")
		if err = os.WriteFile(temporary, text, 0o644); err == nil {
			err = os.Rename(temporary, p.manifest())
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// remove deletes the pod. It returns the time of the deletion, in the time scale of the log.
func (p *staticPod) remove() float64 {
	now := uptime()
	_ = os.Remove(p.manifest())
	return now
}

// waitForEnd waits until the kubelet has forgotten the pod, and no process of the pod is left on this machine.
func (p *staticPod) waitForEnd() {
	p.t.Helper()
	until(p.t, "end of "+p.name, p.hasEnded)
}

// hasEnded reports whether the kubelet has forgotten the pod, and no process of the pod is left.
func (p *staticPod) hasEnded() bool {
	return p.status() == nil && len(findProcesses(p.mark)) == 0 && len(p.runs()) == 0
}

// status returns the status of the pod as the kubelet reports it, or nil if the kubelet reports none.
func (p *staticPod) status() *core.PodStatus {
	for _, pod := range p.pods().Items {
		if pod.Name == p.name+"-node" {
			return &pod.Status
		}
	}
	return nil
}

// event is a line in the log of a pod.
type event struct {
	time float64 // seconds since the boot of the machine
	text string
}

func (e event) String() string { return fmt.Sprintf("%.2f %s", e.time, e.text) }

// log returns the events of the pod.
func (p *staticPod) log() (all []event) {
	text, _ := os.ReadFile(filepath.Join(p.dir, "volumes", p.name, "out", "log"))
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " ")
		seconds, _ := strconv.ParseFloat(before, 64)
		all = append(all, event{seconds, after})
	}
	return all
}

// events returns the events of the pod without the times.
func (p *staticPod) events() (texts []string) {
	for _, e := range p.log() {
		texts = append(texts, e.text)
	}
	return texts
}

// waitFor waits until the log contains exactly these events.
func (p *staticPod) waitFor(want ...string) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("%q", want), func() bool {
		got := p.events()
		if len(got) > len(want) || strings.Join(got, "\n") != strings.Join(want[:len(got)], "\n") {
			p.t.Fatalf("%s: %q, want %q", p.name, got, want)
		}
		return len(got) == len(want)
	})
}

// wantEnd waits for the end of the pod, and fails the test unless the log contains exactly these events. It logs the
// times of the events, relative to since.
func (p *staticPod) wantEnd(since float64, want ...string) {
	p.t.Helper()
	p.waitForEnd()
	end := uptime()
	p.waitFor(want...)
	for _, e := range p.log() {
		p.t.Logf("%+7.2f s  %s", e.time-since, e.text)
	}
	p.t.Logf("%+7.2f s  the pod has ended", end-since)
}

// between returns the seconds from since to the first later event with that text.
func (p *staticPod) between(since float64, text string) float64 {
	p.t.Helper()
	for _, e := range p.log() {
		if e.text == text && e.time >= since {
			return e.time - since
		}
	}
	p.t.Errorf("%s: no %q since %.2f", p.name, text, since)
	return 0
}

// runs returns the pids of the graceful processes of the pod, in the PID namespace of this machine. It omits guards,
// which have an empty environment.
func (p *staticPod) runs() (pids []int) {
	for _, pid := range findProcesses("/usr/bin/graceful") {
		environ, _ := os.ReadFile("/proc/" + pid + "/environ")
		if number, err := strconv.Atoi(pid); err == nil && strings.Contains(string(environ), "MARK="+p.mark+"\x00") {
			pids = append(pids, number)
		}
	}
	return pids
}

// kill sends SIGKILL to the graceful of each container, from outside. It returns the number of these processes.
func (p *staticPod) kill() (killed int) {
	for _, pid := range p.runs() {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

// killGraceful kills the graceful of the only container of a pod.
func (p *staticPod) killGraceful() {
	p.t.Helper()
	if killed := p.kill(); killed != 1 {
		p.t.Fatalf("%d processes of graceful were killed, want 1", killed)
	}
}

// restarts returns the number of restarts of the pod's containers, and the status with which a container ended before
// its restart, or nil.
func (p *staticPod) restarts() (count int32, last *core.ContainerStateTerminated) {
	if status := p.status(); status != nil {
		for _, c := range status.ContainerStatuses {
			count += c.RestartCount
			if c.LastTerminationState.Terminated != nil {
				last = c.LastTerminationState.Terminated
			}
		}
	}
	return count, last
}

// uptime returns the seconds since the boot of the machine.
func uptime() float64 {
	text, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(text), " ")
	seconds, _ := strconv.ParseFloat(first, 64)
	return seconds
}
