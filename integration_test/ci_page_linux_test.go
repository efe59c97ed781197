package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The commands in docs/engines/ci.md work: graceful run runs the target and the cleanup command once, and recover
// succeeds and writes nothing where there is no dead run. The page contains the jobs of testdata/ci/github.yml, which
// actionlint checks.
func TestCI_page(t *testing.T) {
	page, err := os.ReadFile("../docs/engines/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	workflow, err := os.ReadFile("testdata/ci/github.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, jobs, _ := strings.Cut(string(workflow), "\nname:")
	jobs = "    name:" + strings.ReplaceAll(strings.TrimSuffix(jobs, "\n"), "\n", "\n    ")
	if !strings.Contains(string(page), jobs) {
		t.Errorf("the page lacks\n%s", jobs)
	}

	text := strings.ReplaceAll(string(page), "\n        --", " --") // a folded line of YAML
	run := regexp.MustCompile(`(?m)^ .*(exec graceful run .*)$`).FindAllStringSubmatch(text, -1)
	text = regexp.MustCompile(`>-\n +`).ReplaceAllString(text, "")
	recovers := regexp.MustCompile(`(?m)^ .*(graceful recover .*)$`).FindAllStringSubmatch(text, -1)
	if len(run) != 4 || len(recovers) != 4 {
		t.Fatalf("the page has %d commands with run and %d with recover", len(run), len(recovers))
	}
	for i := range run {
		for _, command := range []string{run[i][1], recovers[i][1]} {
			command = strings.TrimSuffix(command, "'") // the end of a string in the Jenkinsfile
			p := inCI(t, strings.ReplaceAll(command, "/var/lib/buildkite-agent", "."))
			p.start().want("0")
			if strings.Contains(command, "recover") {
				if p.text() != "" {
					t.Errorf("%s: it wrote %q", command, p.text())
				}
				continue
			}
			p.wantFile("calls", "test\ndocker compose down\n")
		}
	}
}

// inCI prepares a shell command in a directory that contains stubs of the programs on the page. The variables of the CI
// systems name that directory.
func inCI(t *testing.T, line string) *proc {
	t.Helper()
	p := command(t, "bash", "-ec", line)
	for name, text := range map[string]string{
		"integration-tests.sh": "#!/bin/sh\necho test >>calls\n",
		"docker":               "#!/bin/sh\necho docker $1 $2 >>calls\n",
	} {
		if err := writeProgram(filepath.Join(p.dir, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd.Env = append(os.Environ(), "PATH="+p.dir+":"+os.Getenv("PATH"))
	for _, variable := range []string{"RUNNER_TEMP", "CI_PROJECT_DIR", "WORKSPACE_TMP"} {
		p.cmd.Env = append(p.cmd.Env, variable+"="+p.dir)
	}
	return p
}
