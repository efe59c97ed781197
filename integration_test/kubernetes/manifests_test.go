// Package kubernetes tests the manifests of docs/engines/kubernetes.md, and runs them with a kubelet. It is a separate
// module, so that graceful itself does not depend on the types of Kubernetes.
package kubernetes

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const page = "../../docs/engines/kubernetes.md"

// readPage returns the text of the page.
func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// manifests returns the text of each manifest on the page, by the file name in the first line of the manifest.
func manifests(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, block := range regexp.MustCompile(`(?m)^    # \S+\.yaml\n(?:    .*\n)+`).FindAllString(readPage(t), -1) {
		first, rest, _ := strings.Cut(strings.ReplaceAll("\n"+block, "\n    ", "\n")[1:], "\n")
		all[strings.TrimPrefix(first, "# ")] = rest
	}
	if len(all) != 6 {
		t.Fatalf("the page has %d manifests, want 6", len(all))
	}
	return all
}

// decode decodes a manifest. It fails if the manifest has a field that its kind does not have. It returns the object,
// and the PodSpec in it, or nil for a kind without pods.
func decode(text string) (meta.Object, *core.PodSpec, error) {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
		return nil, nil, err
	}
	var object meta.Object
	var spec *core.PodSpec
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 Pod":
		o := &core.Pod{}
		object, spec = o, &o.Spec
	case "v1 PersistentVolumeClaim":
		object = &core.PersistentVolumeClaim{}
	case "apps/v1 Deployment":
		o := &apps.Deployment{}
		object, spec = o, &o.Spec.Template.Spec
	case "apps/v1 StatefulSet":
		o := &apps.StatefulSet{}
		object, spec = o, &o.Spec.Template.Spec
	case "batch/v1 Job":
		o := &batch.Job{}
		object, spec = o, &o.Spec.Template.Spec
	default:
		return nil, nil, fmt.Errorf("unknown kind %q %q", kind.APIVersion, kind.Kind)
	}
	return object, spec, yaml.UnmarshalStrict([]byte(text), object)
}

// Each manifest has only fields that its kind has. The selector of a workload selects its pods, and each mount of a
// container names a volume of the pod or a claim of the workload.
func TestManifests_decode(t *testing.T) {
	for file, text := range manifests(t) {
		object, spec, err := decode(text)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		volumes := map[string]bool{}
		switch o := object.(type) {
		case *apps.Deployment:
			checkSelector(t, file, o.Spec.Selector, o.Spec.Template.Labels)
		case *apps.StatefulSet:
			checkSelector(t, file, o.Spec.Selector, o.Spec.Template.Labels)
			for _, claim := range o.Spec.VolumeClaimTemplates {
				volumes[claim.Name] = true
			}
		}
		if spec == nil {
			continue
		}
		for _, v := range spec.Volumes {
			volumes[v.Name] = true
		}
		for _, c := range append(spec.InitContainers, spec.Containers...) {
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					t.Errorf("%s: container %s mounts %s, which is no volume", file, c.Name, m.Name)
				}
			}
		}
	}
}

// checkSelector fails the test unless the selector of a workload selects pods with these labels.
func checkSelector(t *testing.T, file string, selector *meta.LabelSelector, podLabels map[string]string) {
	t.Helper()
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil || s.Empty() {
		t.Errorf("%s: selector %v: %v", file, selector, err)
		return
	}
	if !s.Matches(labels.Set(podLabels)) {
		t.Errorf("%s: the pods have the labels %v, which selector %v does not select", file, podLabels, s)
	}
}

// A misspelled field, or a field in the wrong place, is an error.
func TestManifests_strict(t *testing.T) {
	for _, c := range []struct{ file, old, changed string }{
		{"deployment.yaml", "terminationGracePeriodSeconds", "terminationGracePeriod"},
		{"deployment.yaml", "livenessProbe", "livelinessProbe"},
		{"statefulset.yaml", "{fieldRef: {fieldPath: metadata.name}}", "{fieldPath: metadata.name}"},
		{"sidecar.yaml", "  restartPolicy: Always", "  restart: Always"},
		{"job.yaml", "podFailurePolicy", "failurePolicy"},
	} {
		text := strings.Replace(manifests(t)[c.file], c.old, c.changed, 1)
		if _, _, err := decode(text); err == nil || !strings.Contains(err.Error(), "unknown field") {
			t.Errorf("%s with %s: %v, want an unknown field", c.file, c.changed, err)
		}
	}
}
