// Plot draws the plots of docs/performance.md, and fills in its tables, from the JSON that BenchmarkPeers in
// integration_test writes.
//
//	go run ./docs/plot                   draws from docs/performance.json
//	go run ./docs/plot -measure 200x     measures that many rounds first, and writes docs/performance.json
//
// Run it in the root of the module.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	docs      = "docs"
	dataFile  = "performance.json"
	pageFile  = "performance.md"
	beginMark = "<!-- measured: begin -->\n"
	endMark   = "<!-- measured: end -->\n"
)

// results is the part of the benchmark's JSON form that this program uses.
type results struct {
	Date, Machine, Load string
	Rounds              int
	Missing, Table      []string
	Figures             []figure
}

// figure contains one measurement for all peers. Size is the size of the tree, or the number of cleanup commands.
type figure struct {
	Name, Unit string
	Size       int
	Peers      []summary
}

// summary contains the statistics of a peer's samples, in the figure's unit. Ratio is the median divided by that of the
// peer that is the base of the figure; 0: unknown.
type summary struct {
	Peer             string
	P10, Median, P90 float64
	Ratio            float64
	Samples          int
}

func main() {
	measure := flag.String("measure", "", "measure first: `rounds`, as 200x")
	flag.Parse()
	if err := run(*measure); err != nil {
		log.Fatal("plot: ", err)
	}
}

func run(rounds string) error {
	data := filepath.Join(docs, dataFile)
	if rounds != "" {
		if err := measure(rounds, data); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(data)
	if err != nil {
		return err
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	for name, svg := range r.draw() {
		if err := os.WriteFile(filepath.Join(docs, name), svg, 0o644); err != nil {
			return err
		}
	}
	return r.fillPage(filepath.Join(docs, pageFile))
}

// measure runs the benchmark, without a time limit, and has it write its results to data.
func measure(rounds, data string) error {
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "Peers", "-benchtime", rounds, "-timeout", "0",
		"./integration_test")
	cmd.Env = append(os.Environ(), "GRACEFUL_TEST_FIGURES="+data)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// fillPage replaces the text between the marks of the page.
func (r results) fillPage(page string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(text, []byte(beginMark))
	_, after, ends := bytes.Cut(rest, []byte(endMark))
	if !begins || !ends {
		return errors.New(page + " has no marks for the table")
	}
	filled := string(before) + beginMark + r.section() + endMark + string(after)
	return os.WriteFile(page, []byte(filled), 0o644)
}

// section returns the text between the marks: the place and time of the measurement, and the table.
func (r results) section() string {
	missing := ""
	if len(r.Missing) > 0 {
		missing = "\nNot on this machine: " + strings.Join(r.Missing, ", ") + ".\n"
	}
	return fmt.Sprintf("%s, %d rounds, load average %s before.\n%s.\n%s\n%s\n",
		r.Date, r.Rounds, r.Load, r.Machine, missing, strings.Join(r.Table, "\n"))
}

// draw returns a map from file names to plots.
func (r results) draw() map[string][]byte {
	return map[string][]byte{
		"launch.svg": bars("Wall time of a launch of /bin/true, in ms: median, and p10 to p90", r.launches()),
		"descendants.svg": lines("Time from SIGKILL to the end of the last process, in ms",
			"descendants, each in a session of its own", r.series("tree kill")),
		"commands.svg": lines("Wall time of a run of /bin/true with cleanup commands, in ms",
			"cleanup commands (/bin/true)", r.series("cleanup")),
	}
}

// launches returns each peer's summary of the figure launch, converted from µs to ms.
func (r results) launches() (all []summary) {
	for _, f := range r.Figures {
		if f.Name == "launch" {
			for _, s := range f.Peers {
				s.P10, s.Median, s.P90 = s.P10/1e3, s.Median/1e3, s.P90/1e3
				all = append(all, s)
			}
		}
	}
	return all
}

// series returns a curve for each peer of the figures with a name: the median for each size. The curves have the order
// in which the peers first occur.
func (r results) series(name string) (all []curve) {
	place := map[string]int{}
	for _, f := range r.Figures {
		if f.Name != name {
			continue
		}
		for _, s := range f.Peers {
			i, known := place[s.Peer]
			if !known {
				i = len(all)
				place[s.Peer] = i
				all = append(all, curve{name: s.Peer})
			}
			all[i].points = append(all[i].points, point{float64(f.Size), s.Median})
		}
	}
	return all
}
