package kubernetes

import (
	"os"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// kubeletVariable is the name of the variable with the path of a kubelet. Building a kubelet takes minutes, so
// TestKubelet_pods runs only if the variable is set.
const kubeletVariable = "GRACEFUL_TEST_KUBELET"

// TestKubelet_pods runs pods with a real kubelet and containerd, as root. First it runs the pods of the page one after
// the other, then other pods at the same time, and at last it restarts the kubelet.
func TestKubelet_pods(t *testing.T) {
	kubelet := os.Getenv(kubeletVariable)
	if kubelet == "" {
		t.Skipf("%s names no kubelet", kubeletVariable)
	}
	n := boot(t, kubelet)
	for name, test := range map[string]func(*testing.T, *node){
		"deployment": testDeployment, "statefulset": testStatefulSet, "job": testJob, "sidecar": testSidecar,
		"recover": testRecover,
	} {
		t.Run("page/"+name, func(t *testing.T) { test(t, n) })
	}
	t.Run("pods", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *node){
			"preStop fits": testHookFits, "preStop too long": testHookTooLong,
			"liveness fits": testLivenessFits, "liveness too short": testLivenessTooShort,
			"graceful killed": testKill, "shared processes": testKillShared, "guard": testKillGuard, "emptyDir": testEmptyDir,
			"out of memory": testOutOfMemory, "restricted": testRestricted,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, n)
			})
		}
	})
	t.Run("kubelet restarted", func(t *testing.T) { testRestart(t, n) })
}

// service returns a pod that runs a program of imageScripts as the target, with variables for graceful. grace is the
// grace period of the pod in seconds.
func service(grace int64, target string, variables ...string) *core.PodSpec {
	c := core.Container{
		Name: "shop", Image: "shop:1",
		Command: []string{"/usr/bin/graceful", "run", "--"}, Args: []string{"/usr/bin/" + target},
		Env: []core.EnvVar{{Name: "GRACEFUL_ON_EXIT", Value: "/usr/bin/flush"}},
	}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		c.Env = append(c.Env, core.EnvVar{Name: name, Value: value})
	}
	return &core.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []core.Container{c}}
}

// recorded prepares a pod like newPod, and adds a state directory in the volume state to its run. If the pod has no
// volume, the volume is a directory on this machine.
func (n *node) recorded(t *testing.T, spec *core.PodSpec) *staticPod {
	t.Helper()
	c := &spec.Containers[0]
	c.Env = append(c.Env, core.EnvVar{Name: "GRACEFUL_STATE_DIR", Value: "/state/graceful"},
		core.EnvVar{Name: "GRACEFUL_NAME", Value: "shop"})
	c.VolumeMounts = []core.VolumeMount{{Name: "state", MountPath: "/state"}}
	if len(spec.Volumes) > 0 {
		return n.newPod(t, spec)
	}
	return n.newPod(t, spec, "state")
}

func sleepHook(seconds int64) *core.Lifecycle {
	return &core.Lifecycle{PreStop: &core.LifecycleHandler{Sleep: &core.SleepAction{Seconds: seconds}}}
}

// The grace period is long enough for the hook and the deadline. So graceful kills the target before the kubelet kills
// the pod, and cleanup runs.
func testHookFits(t *testing.T, n *node) {
	spec := service(12, "stubborn", "GRACEFUL_DEADLINE=6s", "GRACEFUL_ON_EXIT_TIMEOUT=2s")
	spec.Containers[0].Lifecycle = sleepHook(4)
	p := n.newPod(t, spec)
	p.start()
	p.waitFor("ready")
	removed := p.remove()
	p.wantEnd(removed, "ready", "cleaned stopped 0")
	if took := p.between(removed, "cleaned stopped 0"); took < 4+3.4 {
		t.Errorf("cleanup ran after %.2f s, want 4 s of preStop and 3.4 s for the target at least", took)
	}
}

// After the hook, the rest of the grace period is shorter than the deadline. So the kubelet kills the pod before the
// deadline. The next pod runs cleanup.
func testHookTooLong(t *testing.T, n *node) {
	spec := service(10, "stubborn", "GRACEFUL_DEADLINE=8s", "GRACEFUL_ON_EXIT_TIMEOUT=1s")
	spec.Containers[0].Lifecycle = sleepHook(7)
	p := n.recorded(t, spec)
	p.start()
	p.waitFor("ready")
	p.wantEnd(p.remove(), "ready")
	p.start()
	p.waitFor("ready", "cleaned recovered 0", "ready")
}

// liveness returns a pod whose liveness probe fails once after the test has created the file sick in /out. own is the
// grace period of the probe in seconds.
func liveness(own int64, variables ...string) *core.PodSpec {
	spec := service(60, "stubborn", variables...)
	probe := []string{"/bin/sh", "-c", "! rm /out/sick 2>/dev/null"}
	spec.Containers[0].LivenessProbe = &core.Probe{
		ProbeHandler:                  core.ProbeHandler{Exec: &core.ExecAction{Command: probe}},
		TimeoutSeconds:                30,
		PeriodSeconds:                 1,
		FailureThreshold:              1,
		TerminationGracePeriodSeconds: &own,
	}
	return spec
}

// A probe has its own grace period, which is longer than the deadline. So a failure of the probe has the same effect as
// any other stop.
func testLivenessFits(t *testing.T, n *node) {
	p := n.recorded(t, liveness(12, "GRACEFUL_DEADLINE=8s", "GRACEFUL_ON_EXIT_TIMEOUT=2s"))
	p.start()
	p.waitFor("ready")
	p.write(t, "volumes/"+p.name+"/out/sick", "")
	p.waitFor("ready", "cleaned stopped 0", "ready")
	p.wantRestart(137) // the status of the target
}

// The grace period of the probe is shorter than the deadline, and the grace period of the pod is longer. When the grace
// period of the probe is over, the kubelet kills the container, and the next container finishes the run.
func testLivenessTooShort(t *testing.T, n *node) {
	p := n.recorded(t, liveness(3, "GRACEFUL_DEADLINE=50s", "GRACEFUL_ON_EXIT_TIMEOUT=2s"))
	p.start()
	p.waitFor("ready")
	p.write(t, "volumes/"+p.name+"/out/sick", "")
	p.waitFor("ready", "cleaned recovered 0", "ready")
	p.wantRestart(137)
}

// wantDoctor fails the test unless graceful doctor in the container writes this about the guard. It logs the whole
// output.
func (p *staticPod) wantDoctor(why string) {
	p.t.Helper()
	text := p.exec(p.name, "shop", "/usr/bin/graceful doctor --state-dir /state/graceful")
	p.t.Logf("graceful doctor in the container:\n%s", text)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "part  guard ") && strings.Contains(line, why) {
			return
		}
	}
	p.t.Errorf("doctor does not say %q of the guard", why)
}

// wantRestart waits until the container was restarted. It fails the test unless the container was restarted once, after
// it had ended with that status.
func (p *staticPod) wantRestart(status int32) {
	p.t.Helper()
	until(p.t, "status of the restart", func() bool { _, last := p.restarts(); return last != nil })
	count, last := p.restarts()
	p.t.Logf("%d restarts, the last one after status %d (%s)", count, last.ExitCode, last.Reason)
	if count != 1 || last.ExitCode != status {
		p.t.Errorf("want 1 restart after status %d", status)
	}
}

// graceful is PID 1 of its container, and is killed from outside. The next container finishes the run.
func testKill(t *testing.T, n *node) {
	p := n.recorded(t, service(20, "stubborn", "GRACEFUL_DEADLINE=8s", "GRACEFUL_ON_EXIT_TIMEOUT=2s"))
	p.start()
	p.waitFor("ready")
	p.wantDoctor("PID 1 is graceful")
	p.killGraceful()
	p.waitFor("ready", "cleaned recovered 0", "ready")
	p.wantRestart(137)
	t.Logf("the log of the new container:\n%s", p.logs(p.name, "shop"))
	p.wantEnd(p.remove(), "ready", "cleaned recovered 0", "ready", "cleaned stopped 0")
}

// shared returns a pod with one PID namespace for all containers. Its target ends at SIGTERM at once.
func shared(variables ...string) *core.PodSpec {
	share := true
	spec := service(20, "migrate", append(variables, "GRACEFUL_DEADLINE=8s", "GRACEFUL_ON_EXIT_TIMEOUT=2s")...)
	spec.ShareProcessNamespace = &share
	return spec
}

// If the pod has its own PID namespace, graceful needs no guard, because the next container finishes the run.
func testKillShared(t *testing.T, n *node) {
	p := n.recorded(t, shared("GRACEFUL_GUARD=off"))
	p.start()
	p.waitFor("ready")
	p.killGraceful()
	p.waitFor("ready", "cleaned recovered 0", "ready")
	p.wantRestart(137)
}

// With a shared PID namespace, graceful has a guard by default. The runtime kills the guard shortly after graceful. So
// either the guard runs cleanup, or the next container does, or the cleanup command was interrupted.
func testKillGuard(t *testing.T, n *node) {
	p := n.recorded(t, shared())
	p.start()
	p.waitFor("ready")
	p.wantDoctor("the containers of this pod share their processes: the runtime kills the guard")
	p.killGraceful()
	p.wantOneCleanup()
}

// wantOneCleanup waits for the second start of the target. It fails the test unless cleanup ran once before that, by
// the guard or by the next container. If the guard was killed just when it started the command, the next container must
// report the interrupted command instead.
func (p *staticPod) wantOneCleanup() {
	p.t.Helper()
	until(p.t, "second start", func() bool { return strings.Count(strings.Join(p.events(), "\n"), "ready") == 2 })
	p.wantRestart(137)
	text, log := strings.Join(p.events(), ", "), p.logs(p.name, "shop")
	p.t.Logf("%s; the log of the new container:\n%s", text, log)
	switch text {
	case "ready, cleaned orphaned 0, ready", "ready, cleaned recovered 0, ready":
	case "ready, ready":
		if !strings.Contains(log, "cleanup command interrupted") {
			p.t.Errorf("no cleanup, and no message about it")
		}
	default:
		p.t.Errorf("want one cleanup before the second start")
	}
}

// An emptyDir outlives the containers of a pod, but not the pod. So the next container finishes a killed run, and the
// next pod does not.
func testEmptyDir(t *testing.T, n *node) {
	spec := service(2, "stubborn", "GRACEFUL_DEADLINE=50s", "GRACEFUL_ON_EXIT_TIMEOUT=2s")
	spec.Volumes = []core.Volume{{Name: "state", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}}}
	p := n.recorded(t, spec)
	p.start()
	p.waitFor("ready")
	p.killGraceful()
	p.waitFor("ready", "cleaned recovered 0", "ready")
	p.wantEnd(p.remove(), "ready", "cleaned recovered 0", "ready")
	p.start()
	p.waitFor("ready", "cleaned recovered 0", "ready", "ready")
}

// graceful runs as a user other than root, without capabilities, and with a read-only root directory. It creates the
// state directory in the volume, and the next container finishes the run.
func testRestricted(t *testing.T, n *node) {
	yes, no, id := true, false, int64(1000)
	spec := service(20, "stubborn", "GRACEFUL_DEADLINE=8s", "GRACEFUL_ON_EXIT_TIMEOUT=2s")
	spec.SecurityContext = &core.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &id, RunAsGroup: &id, FSGroup: &id,
		SeccompProfile: &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault}}
	spec.Containers[0].SecurityContext = &core.SecurityContext{ReadOnlyRootFilesystem: &yes,
		AllowPrivilegeEscalation: &no, Capabilities: &core.Capabilities{Drop: []core.Capability{"ALL"}}}
	spec.Volumes = []core.Volume{{Name: "state", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}}}
	p := n.recorded(t, spec)
	p.start()
	p.waitFor("ready")
	p.killGraceful()
	p.waitFor("ready", "cleaned recovered 0", "ready")
	p.wantRestart(137)
	t.Logf("the log of the new container:\n%s", p.logs(p.name, "shop"))
	p.wantEnd(p.remove(), "ready", "cleaned recovered 0", "ready", "cleaned stopped 0")
}

// With cgroups v1 the kernel kills only the largest process. That is the target, and then cleanup runs.
func testOutOfMemory(t *testing.T, n *node) {
	if _, err := os.Stat("/sys/fs/cgroup/memory/memory.limit_in_bytes"); err != nil {
		t.Skip("cgroups v2: what memory.oom.group does is not tested")
	}
	spec := service(20, "", "GRACEFUL_DEADLINE=8s", "GRACEFUL_ON_EXIT_TIMEOUT=2s")
	spec.RestartPolicy = core.RestartPolicyNever
	c := &spec.Containers[0]
	c.Args = []string{"/bin/sh", "-c", "setsid sleep $MARK & say ready; exec dd if=/dev/zero of=/dev/null bs=256M"}
	c.Resources.Limits = core.ResourceList{core.ResourceMemory: resource.MustParse("64Mi")}
	p := n.newPod(t, spec)
	p.start()
	p.waitFor("ready", "cleaned signaled 0")
	until(t, "failed pod", func() bool { s := p.status(); return s != nil && s.Phase == core.PodFailed })
	last := p.status().ContainerStatuses[0].State.Terminated
	t.Logf("status %d, %s; memory.oom.group was not tried: cgroups v1 has none", last.ExitCode, last.Reason)
	if last.ExitCode != 137 {
		t.Errorf("the status is %d", last.ExitCode)
	}
}

// When the kubelet is restarted, running pods continue. If the kubelet is restarted while it stops a static pod whose
// manifest was removed, the pod has 2 s. The container does not get a second SIGTERM, which would end the drain.
func testRestart(t *testing.T, n *node) {
	p := n.recorded(t, service(60, "stubborn", "GRACEFUL_DEADLINE=50s", "GRACEFUL_DRAIN=30s",
		"GRACEFUL_ON_EXIT_TIMEOUT=2s", "GRACEFUL_ON_STOP=say stopping", "GRACEFUL_VERBOSE=true"))
	p.start()
	p.waitFor("ready")
	n.restartKubelet(t)
	until(t, "pod after the restart", func() bool { return p.status() != nil })
	removed := p.remove()
	p.waitFor("ready", "stopping")
	n.restartKubelet(t)
	p.wantEnd(removed, "ready", "stopping")
	if took := uptime() - removed; took > 30 {
		t.Errorf("the stop took %.2f s", took)
	}
	p.start()
	p.waitFor("ready", "stopping", "cleaned recovered 0", "ready")
}
