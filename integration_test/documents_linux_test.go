package integration_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// codeBlocks returns the indented blocks of a document, each as its lines. A line that ends with a backslash is joined
// with the next one.
func codeBlocks(t *testing.T, path string) (blocks [][]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile(`(?m)(^    .*\n)+`).FindAllString(string(text), -1) {
		block = strings.ReplaceAll(strings.ReplaceAll("\n"+block, "\n    ", "\n"), "\\\n", "")
		blocks = append(blocks, strings.Split(strings.TrimSpace(block), "\n"))
	}
	return blocks
}

var (
	assignments = regexp.MustCompile(`^([A-Z_]+=\S* )*`)
	// elsewhere lists first words of lines that this file does not run. Other tests check most of these lines:
	// TestReadme_mainCommand, TestGuide_same, the check of the packages, and the tests of the engines.
	elsewhere = strings.Fields(
		"go sha256sum dpkg rpm apk tar systemd-run docker tini dumb-init timeout catatonit ENTRYPOINT")
	// shown lists the first words of blocks that are not command lines.
	shown = strings.Fields("graceful: SIGTERM, { ok #")
	// stubs lists programs that appear only in examples. In the tests they succeed, and print one word.
	stubs = strings.Fields("nginx httpd postgres terraform make npm docker rm sleep gzip")
)

// commandsOf returns those command lines of a block that this file tests. It returns none for a block that is not a
// list of command lines. A line with an unknown first word fails the test.
func commandsOf(t *testing.T, block []string) (commands []string) {
	t.Helper()
	for i, line := range block {
		word, _, _ := strings.Cut(assignments.ReplaceAllString(line, ""), " ")
		switch {
		case i == 0 && slices.Contains(shown, word), strings.Contains(line, "[flags]"):
			return nil
		case word == "graceful" || word == "jq" || word == "source":
			commands = append(commands, line)
		case !slices.Contains(elsewhere, word):
			t.Errorf("neither a command nor a text that is known: %s", line)
		}
	}
	return commands
}

// script writes a script with commands of a document, and stubs of the programs that the commands name. It returns the
// path of the script.
func (p *proc) script(lines []string) string {
	p.t.Helper()
	text := "set -e\nPATH=$PWD/stubs:$PATH\n" + strings.Join(lines, "\n") + "\n"
	text = regexp.MustCompile(`--state-dir [^\s;]+`).ReplaceAllString(text, "--state-dir "+p.dir+"/state")
	// The doctor exits with 1 if a required promise does not hold on this machine.
	text = regexp.MustCompile(`(?m)^graceful doctor[^|\n]*$`).ReplaceAllString(text, "$0 || [ $$? = 1 ]")
	text = strings.ReplaceAll(text, "4711", "$$")
	p.stub(filepath.Join(p.dir, "stubs"), stubs)
	p.stub(p.dir, regexp.MustCompile(`\./[a-z][a-z.-]*`).FindAllString(text, -1))
	path := filepath.Join(p.dir, "commands.bash")
	if err := writeProgram(path, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// stub makes programs in a directory. They succeed, and print one word.
func (p *proc) stub(dir string, names []string) {
	p.t.Helper()
	err := os.MkdirAll(dir, 0o755)
	for _, name := range names {
		if err == nil {
			err = writeProgram(filepath.Join(dir, name), []byte("#!/bin/sh\necho stub\n"))
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// runBlock runs commands of a document, and fails the test unless they succeed. If inside is true, the commands run as
// the target of graceful run.
func runBlock(t *testing.T, lines []string, inside bool) {
	t.Helper()
	need(t, "bash", "jq")
	p := command(t, "bash")
	args := []string{p.script(lines)}
	if inside {
		args = slices.Concat([]string{"-c", `exec graceful run -- bash "$0"`}, args)
	}
	p.cmd.Args = append(p.cmd.Args, args...)
	p.cmd.Env = append(os.Environ(), "GRACEFUL_RUN_ID=", "GRACEFUL_SOCKET=")
	if status := p.start().wait(); status != "0" {
		t.Errorf("exit status %s; it wrote:\n%s", status, p.text())
	}
}

// The commands that README, guide and guarantees show are accepted, and succeed. Other tests run the sessions, and the
// commands that begin with a word of elsewhere.
func TestDocuments_commands(t *testing.T) {
	need(t, "linux")
	for _, path := range []string{"../README.md", "../docs/guide.md", "../docs/guarantees.md"} {
		ran := 0
		for _, block := range codeBlocks(t, path) {
			lines, inside := block, strings.HasPrefix(block[0], "#!")
			if strings.HasPrefix(block[0], "$ ") {
				continue // TestDocuments_sessions
			}
			if !inside {
				if lines = commandsOf(t, block); len(lines) == 0 {
					continue
				}
			}
			ran++
			t.Run(filepath.Base(path)+"/"+lines[0], func(t *testing.T) {
				t.Parallel()
				runBlock(t, lines, inside)
			})
		}
		if ran == 0 && path != "../README.md" {
			t.Errorf("%s shows no commands", path)
		}
	}
}

// The examples in the help of each command are accepted, and succeed.
func TestHelp_examples(t *testing.T) {
	need(t, "linux")
	for _, name := range []string{"", "run", "defer", "cancel", "recover", "doctor", "version"} {
		p := start(t, append([]string{"graceful", "help"}, strings.Fields(name)...)...)
		p.want("0")
		var examples []string
		for _, m := range regexp.MustCompile(`(?m)^  e\.g\. (.*)$`).FindAllStringSubmatch(p.text(), -1) {
			examples = append(examples, m[1])
		}
		inside := name == "defer" || name == "cancel"
		if m := regexp.MustCompile(`(?s)\nExamples:\n(.*?)\n\n`).FindStringSubmatch(p.text()); m != nil {
			if examples = strings.Split(strings.TrimSpace(m[1]), "\n  "); inside {
				examples = []string{strings.Join(examples, "\n")}
			} else {
				examples = commandsOf(t, examples)
			}
		}
		if len(examples) == 0 {
			t.Errorf("the help of %q shows no example", name)
		}
		for _, example := range examples {
			t.Run(example, func(t *testing.T) {
				t.Parallel()
				runBlock(t, []string{example}, inside)
			})
		}
	}
}

// The sessions in README and guide, except for sessions with docker, produce the output that they show. The test
// ignores pids, and the line in which bash reports a killed job. It accepts graceful's log lines at any position,
// because another thread writes them.
func TestDocuments_sessions(t *testing.T) {
	need(t, "linux", "bash", "pgrep")
	killed, pids := regexp.MustCompile(`(?m)^.* Killed .*\n`), regexp.MustCompile(`\(\d+\)`)
	plain := func(text string) string {
		lines := slices.Collect(strings.Lines(pids.ReplaceAllString(killed.ReplaceAllString(text, ""), "(PID)")))
		isLog := func(line string) int { return strings.Index(line, "graceful: ") }
		slices.SortStableFunc(lines, func(a, b string) int { return min(isLog(b), 1) - min(isLog(a), 1) })
		return strings.Join(lines, "")
	}
	sessions := 0
	for _, block := range slices.Concat(codeBlocks(t, "../README.md"), codeBlocks(t, "../docs/guide.md")) {
		if !strings.HasPrefix(block[0], "$ ") || strings.HasPrefix(block[0], "$ docker ") {
			continue
		}
		sessions++
		t.Run(block[0], func(t *testing.T) {
			t.Parallel()
			p := command(t, "bash")
			input, writer := io.Pipe()
			p.cmd.Stdin = input
			defer writer.Close()
			p.start()
			want := ""
			for i, line := range block {
				typed, isCommand := strings.CutPrefix(line, "$ ")
				if isCommand {
					fmt.Fprintln(writer, typed)
				} else {
					want += line + "\n"
				}
				if i+1 == len(block) || strings.HasPrefix(block[i+1], "$ ") {
					p.until("output of "+typed, func() bool { return plain(p.text()) == plain(want) })
				}
			}
		})
	}
	if sessions != 6 {
		t.Errorf("there are %d sessions", sessions)
	}
}

// The README has a block with two commands for a clone. The test runs the first command, which runs a program with
// graceful. (The second command runs the tests.)
func TestReadme_mainCommand(t *testing.T) {
	need(t, "linux", "bash")
	for _, block := range codeBlocks(t, "../README.md") {
		if strings.HasPrefix(block[0], "go run ") {
			p := command(t, "bash", "-c", block[0])
			p.cmd.Dir = ".."
			p.start().want("0")
			p.until("cleaned", func() bool { return strings.HasSuffix(p.text(), "cleaned\n") })
			return
		}
	}
	t.Error("it is not there")
}
