package kubernetes

import (
	"fmt"
	"os"
	"slices"
	"testing"

	core "k8s.io/api/core/v1"
)

// pagePod returns a pod from a manifest on the page.
func pagePod(t *testing.T, file string) *core.PodSpec {
	t.Helper()
	_, spec, err := decode(manifests(t)[file])
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// The pod becomes ready, and is deleted. The service gets SIGTERM after the drain. Then cleanup runs.
func testDeployment(t *testing.T, n *node) {
	p := n.newPod(t, pagePod(t, "deployment.yaml"))
	p.start()
	p.waitFor("ready")
	until(t, "ready pod", p.isReady)
	removed := p.remove()
	p.wantEnd(removed, "ready", "stopped", "cleaned stopped 0")
	if took := p.between(removed, "stopped"); took < 10 {
		t.Errorf("the service had SIGTERM after %.2f s, want 10 s of drain", took)
	}
}

// isReady reports whether the readiness probe of the pod has succeeded.
func (p *staticPod) isReady() bool {
	status := p.status()
	return status != nil && slices.ContainsFunc(status.Conditions, func(c core.PodCondition) bool {
		return c.Type == core.PodReady && c.Status == core.ConditionTrue
	})
}

// graceful is killed, and the next container finishes the run. Then the pod is deleted.
func testStatefulSet(t *testing.T, n *node) {
	p := n.newPod(t, pagePod(t, "statefulset.yaml"), "state")
	p.start()
	p.waitFor("ready")
	p.killGraceful()
	p.waitFor("ready", "cleaned recovered 0", "ready")
	p.wantRestart(137)
	p.wantEnd(p.remove(), "ready", "cleaned recovered 0", "ready", "stopped", "cleaned stopped 0")
}

// graceful is killed while the pod holds the lock. The next pod releases the lock before it takes the lock again.
func testJob(t *testing.T, n *node) {
	p := n.newPod(t, pagePod(t, "job.yaml"))
	p.start()
	p.waitFor("locked", "ready")
	p.killGraceful()
	until(t, "failed pod", func() bool { s := p.status(); return s != nil && s.Phase == core.PodFailed })
	if status := p.status().ContainerStatuses[0].State.Terminated.ExitCode; status != 137 {
		t.Errorf("the status is %d", status)
	}
	p.wantEnd(p.remove(), "locked", "ready")
	p.start()
	p.waitFor("locked", "ready", "unlocked recovered", "locked", "ready")
	p.wantEnd(p.remove(), "locked", "ready", "unlocked recovered", "locked", "ready", "unlocked stopped")
}

// The sidecar is stopped after the service has ended and cleaned up.
func testSidecar(t *testing.T, n *node) {
	p := n.newPod(t, pagePod(t, "sidecar.yaml"))
	p.start()
	p.waitFor("proxy ready", "ready")
	removed := p.remove()
	p.wantEnd(removed, "proxy ready", "ready", "stopped", "cleaned stopped 0", "proxy stopped", "proxy left stopped")
	if took := p.between(removed, "stopped"); took < 5 {
		t.Errorf("the service had SIGTERM after %.2f s, want 5 s of preStop", took)
	}
}

// All processes of a pod are killed. The initContainer of the next pod finishes the run, because --from-other-machines
// asserts that the other PID namespace is gone. Without that flag, the initContainer fails, and the service is not
// started.
func testRecover(t *testing.T, n *node) {
	spec := pagePod(t, "recover.yaml")
	served, grace, args := spec.Containers[0].Args, *spec.TerminationGracePeriodSeconds, spec.InitContainers[0].Command
	p := n.newPod(t, spec)
	*spec.TerminationGracePeriodSeconds, spec.Containers[0].Args = 2, []string{"/usr/bin/stubborn"}
	p.start()
	p.waitFor("ready")
	defer p.holdNamespace()()
	p.wantEnd(p.remove(), "ready")

	*spec.TerminationGracePeriodSeconds, spec.Containers[0].Args = grace, served
	spec.InitContainers[0].Command = slices.DeleteFunc(slices.Clone(args), func(word string) bool {
		return word == "--from-other-machines"
	})
	p.start()
	until(t, "failed initContainer", func() bool {
		s := p.status()
		if s == nil || len(s.InitContainerStatuses) == 0 {
			return false
		}
		state, last := s.InitContainerStatuses[0].State.Terminated, s.InitContainerStatuses[0].LastTerminationState.Terminated
		return state != nil && state.ExitCode == 1 || last != nil && last.ExitCode == 1
	})
	t.Logf("the log of recover without --from-other-machines:\n%s", p.logs(p.name, "recover"))
	p.wantEnd(p.remove(), "ready")

	spec.InitContainers[0].Command = args
	p.start()
	p.waitFor("ready", "cleaned recovered 0", "ready")
	p.wantEnd(p.remove(), "ready", "cleaned recovered 0", "ready", "stopped", "cleaned stopped 0")
}

// holdNamespace keeps the PID namespace of the pod alive until the caller calls the returned function. Otherwise the
// kernel may reuse the number of that namespace for the next pod, and the run would seem to have begun there.
func (p *staticPod) holdNamespace() (release func()) {
	p.t.Helper()
	runs := p.runs()
	if len(runs) != 1 {
		p.t.Fatalf("the runs of the pod are %d", runs)
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", runs[0]))
	if err != nil {
		p.t.Fatal(err)
	}
	return func() { _ = namespace.Close() }
}
