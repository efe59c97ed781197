//go:build engines

package engines

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// page contains the files and the command lines on a page of the documentation.
type page struct {
	files    map[string]string // from the name of a file to its content
	commands [][]string        // the command lines of each block
}

// readPage reads the indented blocks of a page. A block whose first line is "# NAME" is a file, and any other block
// contains commands. readPage replaces word on the page by own. If word is the name of a container or an image, own is
// a name that no other test uses, because several tests use the same daemon.
func readPage(t *testing.T, path, word, own string) (p page) {
	t.Helper()
	p.files = map[string]string{}
	text := strings.ReplaceAll(content(path), word, own)
	for _, block := range regexp.MustCompile(`(?m)(^    .*\n)+`).FindAllString(text, -1) {
		block = strings.TrimPrefix(strings.ReplaceAll("\n"+block, "\n    ", "\n"), "\n")
		if first, rest, _ := strings.Cut(block, "\n"); strings.HasPrefix(first, "# ") {
			p.files[first[len("# "):]] = rest
		} else {
			lines := strings.ReplaceAll(strings.TrimSpace(block), "\\\n", "")
			p.commands = append(p.commands, strings.Split(lines, "\n"))
		}
	}
	if len(p.commands) == 0 {
		t.Fatalf("%s has no commands", path)
	}
	return p
}

// The commands of the page succeed, in order. After each block, the program flush has written the reasons that the page
// states.
func TestDocker_page(t *testing.T) {
	needDocker(t)
	needCommands(t, "docker-compose")
	t.Parallel()
	base, err := docker.image()
	if err != nil {
		t.Fatal(err)
	}
	c := docker.newContainer(t) // provides a name, and removes the container
	dir := filepath.Join(t.TempDir(), c.name)
	p := readPage(t, "../../docs/engines/docker.md", "shop", c.name)
	for name, text := range p.files {
		write(t, filepath.Join(dir, name), strings.Replace(text, "FROM debian:12-slim\n", "FROM "+base+"\n", 1))
	}
	write(t, dir+"/serve", "#!/bin/sh\nsetsid sleep "+c.mark+" & echo ready; wait\n")
	write(t, dir+"/flush", "#!/bin/sh\necho $GRACEFUL_REASON | tee -a /state/flushed\n")
	if out, ok := output("cp", binary, dir+"/graceful"); !ok {
		t.Fatal(out)
	}
	inDir := func(line string) (string, bool) {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err == nil
	}
	t.Cleanup(func() {
		inDir("docker-compose down -v; docker rm -f " + c.name)
		inDir("docker volume rm " + c.name + "-state; docker rmi " + c.name)
	})
	if len(p.commands) != 3 {
		t.Fatalf("the page has %d blocks of commands", len(p.commands))
	}
	flushed := []string{
		`docker logs ` + c.name + ` | grep -v ready`,
		`docker run --rm --entrypoint cat -v ` + c.name + `-state:/state ` + c.name + ` /state/flushed`,
		`docker run --rm --entrypoint cat -v ` + c.name + `_state:/state ` + c.name + ` /state/flushed`,
	}
	want := []string{"stopped\n", "recovered\nrecovered\n", "stopped\nrecovered\nstopped\n"}
	for i, lines := range p.commands {
		for _, line := range lines {
			if out, ok := inDir(line); !ok {
				t.Fatalf("%s failed:\n%s", line, out)
			}
			until(t, "ready container after "+line, c.allReady)
		}
		if got, _ := inDir(flushed[i]); got != want[i] {
			t.Errorf("flush wrote %q in block %d, want %q", got, i+1, want[i])
		}
		until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
	}
}

// dockerIDs matches the lines in which docker prints the id of an image or a container. The README omits these lines.
var dockerIDs = regexp.MustCompile(`(?m)^(sha256:)?[0-9a-f]{64}\n`)

// The container of the README has the output that the README shows.
func TestDocker_readme(t *testing.T) {
	needDocker(t)
	t.Parallel()
	base, err := docker.image()
	if err != nil {
		t.Fatal(err)
	}
	c := docker.newContainer(t) // provides a name, and removes the container
	dir := t.TempDir()
	p := readPage(t, "../../README.md", "shop", c.name)
	write(t, dir+"/Dockerfile", strings.Replace(p.files["Dockerfile"], "FROM debian:12-slim\n", "FROM "+base+"\n", 1))
	write(t, dir+"/serve", "#!/bin/sh\ntrap 'echo SIGTERM: finishing requests; exit' TERM\n"+
		"echo serving\nsleep 1000 & wait\n")
	write(t, dir+"/flush", "#!/bin/sh\necho flushed\n")
	if out, ok := output("cp", binary, dir+"/graceful"); !ok {
		t.Fatal(out)
	}
	t.Cleanup(func() { output("docker", "rm", "-f", c.name); output("docker", "rmi", c.name) })
	for _, lines := range p.commands {
		if !strings.HasPrefix(lines[0], "$ docker ") {
			continue
		}
		script, want := "", ""
		for _, line := range lines {
			if command, ok := strings.CutPrefix(line, "$ "); !ok {
				want += line + "\n"
			} else if strings.HasPrefix(command, "docker stop ") { // once the target serves
				script += "until docker logs " + c.name + " | grep -q serving; do sleep 0.1; done; " + command + "\n"
			} else {
				script += command + "\n"
			}
		}
		cmd := exec.Command("timeout", "60", "sh", "-ec", script)
		cmd.Dir = dir
		out, err := cmd.Output() // without stderr, which contains an advertisement of BuildKit
		if out = dockerIDs.ReplaceAll(out, nil); err != nil || string(out) != want {
			t.Errorf("%v; the session wrote:\n%s\nwant:\n%s", err, out, want)
		}
		return
	}
	t.Error("the README has no session with docker")
}

// allReady reports whether the target of the running container with that name has started its daemon. It returns true
// if no such container is running.
func (c *container) allReady() bool {
	c.t.Helper()
	running := c.do(c.t, "ps", "--quiet", "--filter", "name="+c.name)
	return running == "" || len(processesOf(c.mark)) == 1
}
