package runner

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/tree"
)

// Whoever takes a run over knows of it what was written: an option that is not, is one that would be forgotten.
func TestAllThatARunWasAskedForIsWrittenDown(t *testing.T) {
	var config Config
	fill(t, reflect.ValueOf(&config).Elem(), "Config")
	config.Order, config.Contain, config.ForwardTo, config.Survivors = cleanup.Parallel, tree.Group, machine.ForwardToTarget, machine.KeepSurvivors
	config.Defer = DeferOn
	config.Command[0] += "\xff\x00"
	text := firstRecord(newRun("id", config), process.Inherited{})
	m, err := remember([]json.RawMessage{text})
	if err != nil {
		t.Fatal(err)
	}
	// These are settled before it is written.
	config.Guard, config.StateDir, config.StrictStateDir, config.Named = "", "", false, false
	if diff := cmp.Diff(newRun("id", config), m.run, runOptions); diff != "" {
		t.Errorf("forgotten (-written +read):\n%s", diff)
	}
}

// fill gives every field a value of its own that is not the zero value.
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
