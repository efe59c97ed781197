// Package oneprocessor limits the Go runtime to one processor. With more processors the runtime creates threads at the
// start that graceful never needs. The package imports no other package except runtime, so Go initialises it before
// most others (The Go Programming Language Specification, Program initialization).
package oneprocessor

import "runtime"

func init() { runtime.GOMAXPROCS(1) }
