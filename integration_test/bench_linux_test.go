package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkPeers compares graceful with the other wrappers on the machine. A round measures each figure that is due
// (figure.every) for one wrapper after the other, so that a busy moment of the machine affects all wrappers.
// BenchmarkPeers prints tables. If GRACEFUL_TEST_FIGURES names a file, BenchmarkPeers also writes the figures to that
// file as JSON, for docs/plot. docs/performance.md explains the figures.
func BenchmarkPeers(b *testing.B) {
	c := newComparison(b, false)
	results := machineHere()
	for b.Loop() {
		c.measureRound()
	}
	results.add(c)
	fmt.Printf("\n%s", strings.Join(results.Table, "\n"))
	if len(results.Missing) > 0 {
		fmt.Printf("not on this machine: %s\n", strings.Join(results.Missing, ", "))
	}
	if file := os.Getenv("GRACEFUL_TEST_FIGURES"); file != "" {
		if err := results.write(file); err != nil {
			b.Fatal(err)
		}
	}
}

// The benchmark measures each figure for at least one of the peers that are installed, and every sample is above 0.
func TestPeers_everyFigureIsPositive(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	c := newComparison(t, true)
	for range 2 {
		c.measureRound()
	}
	for _, f := range c.figures {
		if len(f.samples) == 0 {
			t.Errorf("%s was measured for no peer", f.name)
		}
		for peer, samples := range f.samples {
			for _, sample := range samples {
				if sample <= 0 {
					t.Errorf("%s, %s, %d: %v", peer, f.name, f.size, sample)
				}
			}
		}
	}
	results := machineHere()
	results.add(c)
	t.Logf("\n%snot on this machine: %q", strings.Join(results.Table, "\n"), results.Missing)
}

// BenchmarkDefer measures the time to register a cleanup command, including the start of the client. For comparison it
// measures three starts of true(1), in turn. "ratio" is the time of three starts divided by graceful's time.
func BenchmarkDefer(b *testing.B) {
	run := exec.Command("graceful", "run", "--", "sh", "-c", "echo $GRACEFUL_SOCKET; exec sleep 1000")
	out, err := run.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := run.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = run.Process.Signal(unix.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		_ = run.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	b.Setenv("GRACEFUL_SOCKET", strings.TrimSpace(line))
	took := map[string]time.Duration{}
	start := func(args ...string) {
		began := time.Now()
		if err := exec.Command(args[0], args[1:]...).Run(); err != nil {
			b.Fatal(args, err)
		}
		took[args[0]] += time.Since(began)
	}
	for b.Loop() {
		start("graceful", "defer", "--", "true")
		for range 3 {
			start("true")
		}
	}
	b.ReportMetric(float64(took["graceful"].Microseconds())/float64(b.N), "µs-defer")
	b.ReportMetric(took["true"].Seconds()/took["graceful"].Seconds(), "ratio")
}

// BenchmarkPTY sends a gigabyte through the target's terminal, in turn with script(1). "ratio" is the time of script(1)
// divided by graceful's time. BenchmarkPTY also reports the resident memory of graceful and its guard after the first
// eighth of the data, and how much that memory grows until the last eighth.
func BenchmarkPTY(b *testing.B) {
	need(b, "script", "head")
	const size = 1 << 30
	wrappers := map[string][]string{
		"script":   {"script", "-qec", fmt.Sprintf("exec head -c %d /dev/zero", size), "/dev/null"},
		"graceful": {"graceful", "run", "--pty", "--", "head", "-c", strconv.Itoa(size), "/dev/zero"},
	}
	took := map[string]time.Duration{}
	first, grown := 0, 0
	b.SetBytes(2 * size)
	for b.Loop() {
		for name, args := range wrappers {
			cmd := exec.Command(args[0], args[1:]...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			resident := func() int {
				leader, guard := cmd.Process.Pid, guardOf(cmd.Process.Pid)
				return memoryOf(b, leader)["Rss"] + memoryOf(b, guard)["Rss"]
			}
			n, err := io.CopyN(io.Discard, out, size/8)
			if name == "graceful" {
				first = resident()
			}
			if err == nil {
				var more int64
				more, err = io.CopyN(io.Discard, out, size*6/8)
				n += more
			}
			if name == "graceful" {
				grown = resident() - first // graceful still runs: an eighth of the data is unread
			}
			rest, _ := io.Copy(io.Discard, out)
			if status := ended(cmd.Wait()); status != "0" || err != nil || n+rest != size {
				b.Fatalf("%s: %s, %v, %d bytes", name, status, err, n+rest)
			}
			took[name] += time.Since(began)
		}
	}
	b.ReportMetric(took["script"].Seconds()/took["graceful"].Seconds(), "ratio")
	b.ReportMetric(float64(first), "kB-resident")
	b.ReportMetric(float64(grown), "kB-grown")
}
