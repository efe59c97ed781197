//go:build engines

package engines

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const slurmPage = "../../docs/engines/slurm.md"

// slurmPageFile returns a file on the page. It replaces /usr/bin/graceful by the graceful under test.
func slurmPageFile(name string) string {
	_, text, _ := strings.Cut(content(slurmPage), "\n    # "+name+"\n")
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, indented := strings.CutPrefix(line, "    ")
		if !indented {
			break
		}
		b.WriteString(line)
	}
	return strings.ReplaceAll(b.String(), "/usr/bin/graceful", binary)
}

// The commands of the page succeed, in order, and each stop cleans up once. Then the node crashes: the boot script of
// the page finishes the run, and Slurm starts the job again.
func TestSlurm_page(t *testing.T) {
	forEachTrack(t, func(t *testing.T, j *slurmJob) {
		p := readPage(t, slurmPage, "shop", "shop")
		if len(p.files) != 4 || len(p.commands) != 4 {
			t.Fatalf("the page has %d files and %d blocks of commands", len(p.files), len(p.commands))
		}
		for name, text := range p.files {
			if !filepath.IsAbs(name) {
				write(t, filepath.Join(j.dir, name), text)
			}
		}
		write(t, j.dir+"/serve", slurmTarget)
		write(t, j.dir+"/flush", "#!/bin/sh\necho $GRACEFUL_REASON >>cleaned\n")
		for i, lines := range p.commands[:2] {
			j.pageCommand(lines[0])
			j.starts(i + 1)
			j.pageCommand(lines[1])
			j.ends(strings.Repeat("stopped\n", i+1))
		}
		srun := strings.Fields(p.commands[2][0])
		cmd := j.srun(append([]string{"-p", "page"}, srun[1:]...)...)
		j.starts(3)
		_ = syscall.Kill(j.process("srun"), syscall.SIGINT)
		_ = cmd.Wait()
		j.ends("stopped\nstopped\nstopped\n")

		j.pageCommand(p.commands[0][0])
		j.starts(4)
		j.crash(t, "n5")
		j.do("scontrol", "update", "NodeName=n5", "State=DOWN", "Reason=crash")
		write(t, j.dir+"/boot.sh", slurmPageFile("/etc/slurm/boot.sh"))
		j.do("unshare", "--mount", "sh", "-ec", `mount --bind "$1/n5/var-tmp" /var/tmp; mkdir /var/tmp/graceful-x
			ln -s nowhere /var/tmp/graceful-y; touch /var/tmp/graceful-z; exec sh "$2/boot.sh"`, "sh", j.slurmCluster.dir, j.dir)
		j.wantFile("cleaned", "stopped\nstopped\nstopped\nrecovered\n")
		j.start(t, "n5")
		j.starts(5)
		j.pageCommand(p.commands[0][1])
		j.ends("stopped\nstopped\nstopped\nrecovered\nstopped\n")
	})
}

// pageCommand runs a command of the page as the ordinary user.
func (j *slurmJob) pageCommand(line string) {
	j.t.Helper()
	words := j.user("env", "SBATCH_PARTITION=page", "sh", "-c", line)
	if out, ok := output(words[0], words[1:]...); !ok {
		j.t.Fatalf("%s: %s", line, out)
	}
}
