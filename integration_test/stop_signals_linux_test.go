package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// recordSignals returns a shell script that writes its pid to file with the suffix .up. Each time the script gets one
// of the signals, it appends the name of the signal to file. The script ends with status 3 when the file go exists.
func recordSignals(file string, signals ...string) string {
	script := ""
	for _, s := range signals {
		script += fmt.Sprintf("trap 'echo %s >>%s' %s; ", s, file, s)
	}
	return script + "echo $$ >" + file + ".up; until [ -e go ]; do sleep 0.01; done; exit 3"
}

// waitForSignal waits until a process has written its first signal to a file. Then it waits until graceful counts a
// further stop signal as a repeated one.
func (p *proc) waitForSignal(file string) {
	p.t.Helper()
	p.waitForFile(file)
	time.Sleep(250 * time.Millisecond)
}

// Stop signals to graceful and to its guard, or to a process and then its group, count as one stop. A stop signal to
// the guard after the stop has begun has no effect, even when a signal to graceful would count as a repeated one.
func TestStop_signalToAllProcesses(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for name, again := range map[string]func(p *proc){
		"to the guard": func(p *proc) { must(p.t, unix.Kill(p.guard(), unix.SIGTERM)) },
		"twice":        func(p *proc) { p.signal(unix.SIGTERM) },
		"then INT":     func(p *proc) { p.signal(unix.SIGINT) },
		"to the guard, later": func(p *proc) {
			p.waitForSignal("got")
			must(p.t, unix.Kill(p.guard(), unix.SIGTERM))
		},
		"to the guard alone": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "graceful", "run", "--on-repeat", "kill", "--grace", "1h", "--on-exit", "echo 1 >>cleaned", "--",
				"sh", "-c", recordSignals("got", "TERM", "INT"))
			p.waitForFile("got.up")
			want := "TERM\n"
			if again == nil {
				must(t, unix.Kill(p.guard(), unix.SIGTERM))
			} else {
				p.signal(unix.SIGTERM)
				again(p)
			}
			if name == "then INT" {
				want = "TERM\nINT\n"
				p.until("both", func() bool { return len(p.waitForFile("got")) >= len(want) })
			}
			p.waitForSignal("got")
			p.touch("go")
			p.want("3")
			if got := p.waitForFile("got"); got != want && (name != "then INT" || got != "INT\nTERM\n") {
				t.Errorf("the target got %q, want %q", got, want)
			}
			p.wantFile("cleaned", "1\n")
		})
	}
}

// If a second stop signal goes to all processes of graceful, it counts once: it kills the target, and does not cut
// cleanup short.
func TestOnRepeat_signalToAllProcesses(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for range 10 {
		p := start(t, "graceful", "run", "--on-repeat", "kill", "--grace", "1h", "--on-exit", "echo 1 >>cleaned", "--",
			"sh", "-c", recordSignals("got", "TERM"))
		p.waitForFile("got.up")
		guard := p.guard()
		p.signal(unix.SIGTERM)
		must(t, unix.Kill(guard, unix.SIGTERM))
		p.waitForSignal("got")
		p.signal(unix.SIGTERM)
		must(t, unix.Kill(guard, unix.SIGTERM))
		p.want("137")
		p.wantFile("got", "TERM\n")
		p.wantFile("cleaned", "1\n")
	}
}

// --on-repeat selects the effect of a repeated stop signal.
func TestOnRepeat_eachChoice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags       []string
		got, status string
	}{
		"default":        {nil, "TERM\nINT\n", "3"},
		"forward":        {[]string{"--on-repeat=forward"}, "TERM\nINT\n", "3"},
		"ignore":         {[]string{"--on-repeat=ignore"}, "TERM\n", "3"},
		"kill":           {[]string{"--on-repeat=kill"}, "TERM\n", "137"},
		"kill-on-repeat": {[]string{"--kill-on-repeat"}, "TERM\n", "137"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"graceful", "run", "--grace", "1h", "--on-exit", "echo 1 >>cleaned"}, c.flags...)
			p := start(t, append(args, "--", "sh", "-c", recordSignals("got", "TERM", "INT"))...)
			p.waitForFile("got.up")
			p.signal(unix.SIGTERM)
			p.waitForSignal("got")
			p.signal(unix.SIGINT)
			if c.status == "3" {
				p.until("the signal", func() bool { return len(p.waitForFile("got")) >= len(c.got) })
				time.Sleep(50 * time.Millisecond)
				p.touch("go")
			}
			p.want(c.status)
			p.wantFile("got", c.got)
			p.wantFile("cleaned", "1\n")
		})
	}
}

// --stop-on selects the signals that begin a stop. graceful forwards other signals, and they do not stop the run.
// --rewrite can drop a signal. graceful also drops a signal that was ignored when graceful was started, unless
// --stop-on names the signal.
func TestStopOn_eachChoice(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for name, c := range map[string]struct {
		flags  string
		before string         // shell commands before graceful
		other  syscall.Signal // does not stop the run
		stop   syscall.Signal // stops the run
		got    string         // the signals that the target gets
	}{
		"USR1":              {"--stop-on USR1", "", unix.SIGTERM, unix.SIGUSR1, "TERM USR1"},
		"WINCH and others":  {"--stop-on SIGWINCH,TERM", "", unix.SIGINT, unix.SIGWINCH, "INT WINCH"},
		"RTMIN+3":           {"--stop-on rtmin+3", "", unix.SIGQUIT, 37, "QUIT 37"},
		"not QUIT":          {"--stop-on TERM", "", unix.SIGQUIT, unix.SIGTERM, "QUIT TERM"},
		"rewritten to none": {"--rewrite INT=0", "", unix.SIGINT, unix.SIGTERM, "TERM"},
		"ignored before":    {"", "trap '' INT; ", unix.SIGINT, unix.SIGTERM, "TERM"},
		"ignored and named": {"--stop-on INT", "trap '' INT; ", unix.SIGUSR1, unix.SIGINT, "USR1"},
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				p := start(t, "sh", "-c", c.before+"exec graceful run --guard "+guard+" "+c.flags+` --grace 1h `+
					`--on-exit 'echo $GRACEFUL_REASON >>cleaned' -- sh -c "$0"`,
					recordSignals("got", "TERM", "INT", "QUIT", "USR1", "WINCH", "37")+"; ")
				p.waitForFile("got.up")
				p.signal(c.other)
				if first, _, both := strings.Cut(c.got, " "); both || name == "ignored and named" {
					p.until(first, func() bool { return strings.Contains(p.waitForFile("got"), first) })
				}
				time.Sleep(50 * time.Millisecond)
				if _, err := os.Stat(filepath.Join(p.dir, "cleaned")); err == nil {
					t.Fatalf("%v stopped the run", c.other)
				}
				p.signal(c.stop)
				// In the case "ignored and named" the target inherits that SIGINT is ignored, and does not write INT.
				if name != "ignored and named" {
					last := c.got[strings.LastIndex(c.got, " ")+1:]
					p.until(last, func() bool { return strings.HasSuffix(p.waitForFile("got"), last+"\n") })
				}
				time.Sleep(50 * time.Millisecond)
				p.touch("go")
				p.want("3")
				p.wantFile("got", strings.ReplaceAll(c.got, " ", "\n")+"\n")
				p.wantFile("cleaned", "stopped\n")
			})
		}
	}
}

// A member of the target's group gets each stop signal once: together with the target, and not again as a survivor or
// after a takeover. A survivor outside of the group gets the signal once, after the end of the target. With --survivors
// wait that survivor gets none.
func TestStop_signalReachesEachProcessOnce(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	// SIGTERM ends the target. A member of its group and a process outside of the group remain alive.
	const tree = `sh -c "$member" >/dev/null group & setsid sh -c "$member" outside & ` +
		`trap 'echo TERM >>target; exit 4' TERM; until [ -e group.up ] && [ -e outside.up ]; do sleep 0.01; done; ` +
		`echo $$ >target.up; while :; do sleep 0.01; done`
	member := `trap 'echo TERM >>$0' TERM; trap 'echo INT >>$0' INT; echo $$ >$0.up; ` +
		`until [ -e go ]; do sleep 0.01; done`
	for name, c := range map[string]struct {
		flags string
		then  func(p *proc)
		want  string // the signals that group and outside get; in the case "wait", group gets TERM instead
	}{
		"plain": {"--grace 1h", func(*proc) {}, "TERM\n"},
		"schedule": {"-v --stop-schedule TERM/300ms/INT/300ms/TERM/1h", func(p *proc) {
			p.until("last step", func() bool { return strings.Count(p.text(), "next step of the stop schedule") == 2 })
		}, "TERM\n"},
		"wait":      {"--grace 1h --survivors wait", func(*proc) {}, ""},
		"repeated":  {"--grace 1h", func(p *proc) { p.signal(unix.SIGTERM) }, "TERM\nTERM\n"},
		"takeover":  {"--grace 1h", func(p *proc) { kill(p.t, p.cmd.Process.Pid) }, "TERM\n"},
		"no guard":  {"--grace 1h", (*proc).loseGuard, "TERM\n"},
		"rewritten": {"--grace 1h --rewrite USR1=TERM --stop-on USR1", func(*proc) {}, "TERM\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := command(t, "sh", "-c", "exec graceful run --guard on "+c.flags+
				` --on-exit 'echo 1 >>cleaned' -- sh -c "$0"`, tree)
			p.cmd.Env = append(os.Environ(), "member="+member)
			p.start()
			p.waitForFile("target.up")
			guard := p.guard()
			if name == "rewritten" {
				p.signal(unix.SIGUSR1)
			} else {
				p.signal(unix.SIGTERM)
			}
			p.waitForFile("target")
			p.waitForSignal("group")
			if name != "wait" {
				p.waitForSignal("outside")
			}
			c.then(p)
			time.Sleep(200 * time.Millisecond)
			p.until("the signals", func() bool { return len(p.waitForFile("group")) >= len(c.want) })
			p.touch("go")
			if name == "takeover" {
				p.want("KILL")
				p.until("end of the guard", func() bool { return !alive(guard) })
			} else {
				p.want("4")
			}
			p.wantFile("target", "TERM\n")
			if name == "wait" {
				p.wantFile("group", "TERM\n") // it got SIGTERM together with the target
			} else {
				p.wantFile("group", c.want)
			}
			p.wantFile("outside", c.want)
			p.wantFile("cleaned", "1\n")
		})
	}
}

// After a takeover, the new graceful does not repeat the stop signal that the first one sent.
func TestTakeover_repeatsNoSignal(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--on-exit", "echo 1 >>cleaned", "--", "sh", "-c",
		recordSignals("got", "TERM"))
	p.waitForFile("got.up")
	guard := p.guard()
	p.signal(unix.SIGTERM)
	p.waitForSignal("got")
	kill(t, p.cmd.Process.Pid)
	p.until("takeover", func() bool { return strings.Contains(p.text(), "taking over") })
	time.Sleep(100 * time.Millisecond)
	p.touch("go")
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.wantFile("got", "TERM\n")
	p.wantFile("cleaned", "1\n")
}

// Survivors get SIGTERM, not the signal of --rewrite or --stop-schedule for the target.
func TestSurvivors_getSIGTERM(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, flags := range [][]string{{"--grace", "1h", "--rewrite", "TERM=QUIT"}, {"--stop-schedule", "QUIT/1h"}} {
		p := start(t, slices.Concat([]string{"graceful", "run"}, flags, []string{"--", "sh", "-c", `
			setsid sh -c 'trap "echo TERM >got; exit" TERM; trap "" QUIT; echo >up; while :; do sleep 0.01; done' &
			until [ -e up ]; do sleep 0.01; done; trap 'exit 5' QUIT; echo >ready; while :; do sleep 0.01; done`})...)
		p.waitForFile("ready")
		p.signal(unix.SIGTERM)
		p.want("5")
		p.wantFile("got", "TERM\n")
	}
}
