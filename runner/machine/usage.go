package machine

// Usage is what a process and those of its children that it has waited for have used (getrusage(2)).
type Usage struct {
	UserMS              float64 `json:"user_ms"`
	SystemMS            float64 `json:"system_ms"`
	MaxRSSKB            int64   `json:"max_rss_kb"`
	MinorFaults         int64   `json:"minor_faults"`
	MajorFaults         int64   `json:"major_faults"`
	BlocksRead          int64   `json:"blocks_read"`
	BlocksWritten       int64   `json:"blocks_written"`
	VoluntarySwitches   int64   `json:"voluntary_switches"`
	InvoluntarySwitches int64   `json:"involuntary_switches"`
}
