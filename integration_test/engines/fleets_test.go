//go:build engines

package engines

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

const fleetsPage = "../../docs/engines/fleets.md"

// The commands about names on the page, without an engine: two runs with different names are alive at once. A third run
// with a name in use is refused, and a fourth one waits until that name is free.
func TestFleets_names(t *testing.T) {
	t.Parallel()
	dir, mark := t.TempDir(), fmt.Sprint(1_000_000_000+rand.IntN(1_000_000_000))
	write(t, dir+"/serve", "#!/bin/sh\nexec sleep "+mark+"\n")
	commands := readPage(t, fleetsPage, "graceful run", "exec "+binary+" run").commands[0]
	if len(commands) != 4 {
		t.Fatalf("the page has the commands %q", commands)
	}
	running := func(n int) func() bool { return func() bool { return len(processesOf(mark)) == n } }
	var runs []*exec.Cmd
	start := func(line string) {
		cmd := exec.Command("sh", "-c", strings.TrimSuffix(line, " &"))
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			output("kill", fmt.Sprint(cmd.Process.Pid))
			_ = cmd.Wait()
		})
		runs = append(runs, cmd)
	}
	start(commands[0])
	until(t, "first run", running(1))
	start(commands[1])
	until(t, "second run", running(2))
	refused := exec.Command("sh", "-c", strings.Replace(commands[2], "exec ", "", 1))
	refused.Dir = dir
	out, err := refused.CombinedOutput()
	lives, status := "a run named shop-1 lives", "\n125\n"
	if err != nil || !strings.Contains(string(out), lives) || !strings.HasSuffix(string(out), status) {
		t.Errorf("the third command writes %q", out)
	}
	first := processesOf(mark)
	start(commands[3])
	output("kill", fmt.Sprint(runs[0].Process.Pid))
	_ = runs[0].Wait()
	until(t, "start of the run that has waited", func() bool {
		now := processesOf(mark)
		return len(now) == 2 && fmt.Sprint(now) != fmt.Sprint(first)
	})
	for _, run := range runs[1:] {
		output("kill", fmt.Sprint(run.Process.Pid))
	}
	until(t, "end of all processes", running(0))
}

// Instances of one unit share a directory. If one of them is killed, its run is finished, and the other instance
// continues.
func TestFleets_systemd(t *testing.T) {
	u := newService(t, "Type=exec\nExecStart=/bin/true\n")
	for path, unit := range units(t, fleetsPage) {
		write(t, u.dir+"/a-unit", unit)
		u.do("cp", "/test/"+u.name+"/a-unit", path)
	}
	u.do("systemctl", "daemon-reload")
	write(t, u.dir+"/flush", "#!/bin/sh\necho $1 $GRACEFUL_REASON >>/test/"+u.name+"/flushed\n")
	write(t, u.dir+"/serve", "#!/bin/sh\nsetsid sleep 1000 & echo ready >>/test/"+u.name+"/ready\n"+slowly+"\n")
	for _, name := range []string{"flush", "serve"} {
		u.do("cp", "/test/"+u.name+"/"+name, "/usr/bin/"+name)
	}
	a := &service{systemd: u.systemd, t: t, name: "shop@a", dir: u.dir}
	b := &service{systemd: u.systemd, t: t, name: "shop@b", dir: u.dir}
	a.start()
	b.start()
	u.wantFile("ready", "ready\nready\n")
	a.killMain()
	u.wantFile("flushed", "a recovered\n")
	b.becomes("ActiveState", "active")
	b.stop()
	u.wantFile("flushed", "a recovered\nb stopped\n")
}

// If a task of Swarm is killed, the next task of the same slot finishes the run of the killed task.
func TestFleets_swarm(t *testing.T) {
	needDocker(t)
	if err := swarm(); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	image, err := loadImage()
	if err != nil {
		t.Fatal(err)
	}
	c := docker.newContainer(t) // provides a name
	name := c.name + "-fleet"
	c.do(t, "tag", image, name)
	t.Cleanup(func() {
		if t.Failed() {
			tasks, _ := c.output("service", "ps", "--no-trunc", name)
			logs, _ := c.output("service", "logs", name)
			t.Log(tasks, "\n", logs)
		}
		c.output("service", "rm", name)
		until(t, "end of all tasks", func() bool {
			out, ok := c.output("ps", "--all", "--quiet", "--filter", "label=com.docker.swarm.service.name="+name)
			return ok && out == ""
		})
		c.output("volume", "rm", "--force", name+"-state")
		c.output("rmi", name)
	})
	create := ""
	for _, lines := range readPage(t, fleetsPage, "shop", name).commands {
		if rest, found := strings.CutPrefix(lines[0], "docker service create "); found {
			create = "docker service create --quiet --no-resolve-image --restart-delay 0s " +
				`--env GRACEFUL_ON_EXIT='echo $GRACEFUL_NAME $GRACEFUL_REASON >>/state/cleaned' ` + rest
		}
	}
	if out, ok := output("timeout", "120", "sh", "-c", create); !ok {
		t.Fatalf("%s failed:\n%s", create, out)
	}
	task := func(slot string) string { return c.do(t, "ps", "--quiet", "--filter", "name="+name+"."+slot+".") }
	cleaned := func() string {
		out, _ := c.output("run", "--rm", "--volume", name+"-state:/state", "--entrypoint", "cat", image, "/state/cleaned")
		return out
	}
	until(t, "two tasks", func() bool { return task("1") != "" && task("2") != "" })
	killed := task("1")
	c.do(t, "kill", killed)
	until(t, "next task of the slot", func() bool { next := task("1"); return next != "" && next != killed })
	until(t, "cleanup", func() bool { return cleaned() == name+"-1 recovered" })
	c.do(t, "service", "scale", "--detach", name+"=1")
	until(t, "stop of one task", func() bool { return strings.Contains(cleaned(), " stopped") })
	if got := cleaned(); !strings.HasPrefix(got, name+"-1 recovered\n"+name+"-") {
		t.Errorf("the cleanup commands wrote %q", got)
	}
}
