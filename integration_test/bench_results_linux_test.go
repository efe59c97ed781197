package integration_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// results contains the measurements of a benchmark, and describes the machine. docs/plot reads the JSON form of
// results.
type results struct {
	Date    string         `json:"date"`
	Machine string         `json:"machine"`
	Load    string         `json:"load"` // load average of the minute before the benchmark
	Rounds  int            `json:"rounds"`
	Missing []string       `json:"missing"` // as comparison.missing
	Table   []string       `json:"table"`   // lines of Markdown
	Figures []figureResult `json:"figures"`
}

// figureResult contains the results of one figure for all peers that support it. Size is the number of processes in the
// tree, of orphans, or of cleanup commands. 0: it does not apply.
type figureResult struct {
	Name  string    `json:"name"`
	Unit  string    `json:"unit"`
	Size  int       `json:"size,omitempty"`
	Peers []summary `json:"peers"`
}

// summary contains the statistics of a peer's samples, in the unit of the figure.
type summary struct {
	Peer    string  `json:"peer"`
	Samples int     `json:"samples"`
	P10     float64 `json:"p10"`
	Median  float64 `json:"median"`
	P90     float64 `json:"p90"`
	Ratio   float64 `json:"ratio,omitempty"` // median divided by that of the base peer; 0: no base
}

// machineHere returns results that contain only the date, the machine and its present load.
func machineHere() results {
	var name unix.Utsname
	_ = unix.Uname(&name)
	var memory unix.Sysinfo_t
	_ = unix.Sysinfo(&memory)
	model := runtime.GOARCH
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpus)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
		}
	}
	return results{
		Date: time.Now().UTC().Format(time.DateOnly),
		Machine: fmt.Sprintf("%s, %d CPUs, %d GiB, Linux %s, %s", model, runtime.NumCPU(),
			uint64(memory.Totalram)*uint64(memory.Unit)>>30, unix.ByteSliceToString(name.Release[:]), runtime.Version()),
		Load: loadAverage(),
	}
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// add summarizes the samples of each figure and peer, and makes the tables.
func (r *results) add(c *comparison) {
	r.Rounds, r.Missing = c.round, c.missing
	for _, f := range c.figures {
		result := figureResult{Name: f.name, Unit: f.unit, Size: f.size}
		base := ratioBase
		if f.name == treeKill {
			base = treeKillBase
		}
		floor := percentile(f.samples[base], 50)
		for _, p := range c.peers {
			samples := f.samples[p.name]
			if len(samples) == 0 {
				continue
			}
			s := summary{
				Peer: p.name, Samples: len(samples),
				P10: percentile(samples, 10), Median: percentile(samples, 50), P90: percentile(samples, 90),
			}
			if floor > 0 {
				s.Ratio = rounded(s.Median / floor)
			}
			result.Peers = append(result.Peers, s)
		}
		r.Figures = append(r.Figures, result)
	}
	r.tabulate(c.peers)
}

func (r *results) write(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// percentile returns the sample at a percentile (0 to 100), rounded, or 0 without samples.
func percentile(samples []float64, hundredths int) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	return rounded(sorted[((len(sorted)-1)*hundredths+50)/100])
}

// rounded keeps three significant digits, and all digits before the decimal point.
func rounded(x float64) float64 {
	if x == 0 {
		return 0
	}
	scale := math.Pow(10, max(0, 2-math.Floor(math.Log10(math.Abs(x)))))
	return math.Round(x*scale) / scale
}

// tabulate makes tables with at most two figures each, because more figures do not fit on a line.
func (r *results) tabulate(peers []peer) {
	find := func(name string, size int) *figureResult {
		for i, f := range r.Figures {
			if f.Name == name && (size == 0 || f.Size == size) {
				return &r.Figures[i]
			}
		}
		return &figureResult{Name: name}
	}
	for _, pair := range [][]*figureResult{
		{find(launch, 0), find(systemCalls, 0)},
		{find(threads, 0), find(memory, 0)},
		{find(signalling, 0), find(orphans, 0)},
		{find(treeKill, tableTree)},
	} {
		if rows := tableOf(peers, pair); len(rows) > 2 {
			r.Table = append(append(r.Table, rows...), "")
		}
	}
}

// tableOf returns a table with a row for each peer for which at least one of the figures is measured.
func tableOf(peers []peer, figures []*figureResult) (lines []string) {
	head, rule := fmt.Sprintf("| %-21s |", "peer"), "|"+strings.Repeat("-", 23)+"|"
	for _, f := range figures {
		title := f.Name
		if f.Size > 0 {
			title = fmt.Sprintf("%s, %d", title, f.Size)
		}
		if f.Unit != "" {
			title += " (" + f.Unit + ")"
		}
		head += fmt.Sprintf(" %20s |   p10 |   p90 | ratio |", title)
		rule += strings.Repeat("-", 21) + ":|" + strings.Repeat("------:|", 3)
	}
	lines = []string{head, rule}
	for _, p := range peers {
		row, measured := fmt.Sprintf("| %-21s |", p.name), false
		for _, f := range figures {
			i := slices.IndexFunc(f.Peers, func(s summary) bool { return s.Peer == p.name })
			if i < 0 {
				row += fmt.Sprintf(" %20s | %5s | %5s | %5s |", "", "", "", "")
				continue
			}
			s := f.Peers[i]
			row += fmt.Sprintf(" %20s | %5s | %5s | %5s |", number(s.Median), number(s.P10), number(s.P90), number(s.Ratio))
			measured = true
		}
		if measured {
			lines = append(lines, row)
		}
	}
	return lines
}

// number formats a number of the table. For 0, which means a ratio without a base, it returns "-".
func number(x float64) string {
	if x == 0 {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}
