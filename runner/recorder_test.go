package runner

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/tree"
)

// FuzzReplayRun replays records that another program may have written. replayRun either refuses them, or returns a run
// that can be resumed.
func FuzzReplayRun(f *testing.F) {
	config := Config{
		Command: []string{"target"}, Env: []string{"A=\xff"}, Contain: tree.Auto,
		OnExit: []cleanup.Command{{Text: "c", Args: []string{"c"}, Limit: time.Second}},
		Policy: machine.Policy{Order: cleanup.LIFO},
	}
	first := string(firstRecord(newRun("id", config), process.Inherited{Blocked: []syscall.Signal{3}}))
	f.Add(first + `
{"event":"target started","pid":7,"start":8}
{"event":"target ended","code":3}
{"event":"tree emptied"}
{"event":"command started","id":1,"pid":9}
{"event":"command timer","id":1,"timer":2}`)
	f.Add(first + `
{"event":"recovered"}
{"event":"command lost","id":9}
{"event":"retried"}`)
	f.Add(`{"graceful":1,"begin":{"command":["x"],"contain":"auto","order":"lifo","on_exit":[{"args":["x"]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var records []json.RawMessage
		for line := range strings.SplitSeq(text, "\n") {
			records = append(records, json.RawMessage(line))
		}
		rec, err := replayRun(records)
		if err != nil {
			return
		}
		if len(rec.run.Config.Command) == 0 || rec.run.State > machine.Done {
			t.Fatalf("cannot resume %+v", rec.run)
		}
		for _, a := range machine.Resume(rec.run.Run) {
			if c, ok := a.(machine.StartCommand); ok {
				if e, known := rec.run.Cleanup.Get(c.ID); !known || len(e.Command.Args) == 0 || e.Progress != cleanup.Claimed {
					t.Fatalf("%+v would be started: %+v", a, e)
				}
			}
		}
	})
}

// The records contain each field of Config that a process needs to take over the run, because that process has only the
// records.
func TestReplayRun_everyFieldOfConfig(t *testing.T) {
	var config Config
	fill(t, reflect.ValueOf(&config).Elem(), "Config")
	config.Order, config.Contain, config.Defer = cleanup.Parallel, tree.Group, DeferOn
	config.ForwardTo, config.Survivors = machine.ForwardToTarget, machine.KeepSurvivors
	config.OnRepeat = machine.RepeatIgnore
	config.Command[0] += "\xff\x00"
	text := firstRecord(newRun("id", config), process.Inherited{})
	rec, err := replayRun([]json.RawMessage{text})
	if err != nil {
		t.Fatal(err)
	}
	// A process that takes over does not use these fields, so they are not recorded.
	config.Guard, config.StateDir, config.StrictStateDir, config.Named, config.WaitForName = "", "", false, false, 0
	config.Notify = "" // a successor of graceful is not the main process of the service
	if diff := cmp.Diff(newRun("id", config), rec.run, runOptions); diff != "" {
		t.Errorf("forgotten (-written +read):\n%s", diff)
	}
}

// fill gives each field of v a value that is not the zero value. path is the name of v.
func fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2000, 1, 2, 3, 4, 5, 6, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[int]int{7: len(path), 8: 0}))
	case reflect.String:
		v.SetString(path + " <&> \u2028\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(len(path)))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(len(path)))
	default:
		t.Fatalf("%s is a %v: is that data?", path, v.Kind())
	}
}
