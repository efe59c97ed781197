package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wrappers are what people put before a program today, and we, with and without a guard.
var wrappers = []struct {
	name string
	args []string
}{
	{"bare", nil},
	{"graceful", []string{"graceful", "run", "--"}},
	{"graceful without a guard", []string{"graceful", "run", "--guard", "off", "--"}},
	{"tini", []string{"tini", "-s", "--"}},
	{"dumb-init", []string{"dumb-init", "--"}},
	{"timeout", []string{"timeout", "1000"}},
}

// What a launch costs.
func BenchmarkLaunch(b *testing.B) {
	for _, w := range wrappers {
		b.Run(w.name, func(b *testing.B) {
			args := append(w.args[:len(w.args):len(w.args)], "true")
			need(b, args[0])
			for b.Loop() {
				if err := exec.Command(args[0], args[1:]...).Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// How long a signal takes to the program and the program's answer back, and what memory is held meanwhile: private to
// us, and all that is resident, shared pages of the program file included.
func BenchmarkSignal(b *testing.B) {
	need(b, "linux")
	for _, w := range wrappers {
		if w.name == "timeout" { // it hands on no other than the signals that end
			continue
		}
		b.Run(w.name, func(b *testing.B) {
			args := append(w.args[:len(w.args):len(w.args)], "helper", "answer")
			need(b, args[0])
			cmd := exec.Command(args[0], args[1:]...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			answers := bufio.NewScanner(out)
			answers.Scan() // it listens
			for b.Loop() {
				if err := cmd.Process.Signal(unix.SIGUSR1); err != nil {
					b.Fatal(err)
				}
				if !answers.Scan() {
					b.Fatal("no answer")
				}
			}
			if w.args != nil {
				private, resident := memory(b, cmd.Process.Pid)
				if pid := supervisorOf(cmd.Process.Pid); pid != cmd.Process.Pid {
					p, r := memory(b, pid)
					private, resident = private+p, resident+r
				}
				b.ReportMetric(float64(private), "kB-private")
				b.ReportMetric(float64(resident), "kB-resident")
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		})
	}
}

// What it costs to register a cleanup command, the client's start included, in comparison with starting true(1) three
// times, in turns. "ratio" is the latter by ours.
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

// memory reads what a process holds, in kB (proc(5), smaps_rollup).
func memory(b *testing.B, pid int) (private, resident int) {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); len(f) > 0 {
			n, _ := strconv.Atoi(f[0])
			switch name {
			case "Rss":
				resident = n
			case "Private_Clean", "Private_Dirty":
				private += n
			}
		}
	}
	return private, resident
}

// What a terminal of its own costs: a gigabyte through it, in comparison with script(1), in turns, since the machine
// has other things to do. "ratio" is script's time by ours; the memory is ours after the first eighth, and what has
// come to it at the end.
func BenchmarkPty(b *testing.B) {
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
				_, front := memory(b, cmd.Process.Pid)
				_, supervisor := memory(b, supervisorOf(cmd.Process.Pid))
				return front + supervisor
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
				grown = resident() - first // it has an eighth to write
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
