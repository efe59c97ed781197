// Package oneprocessor has the Go runtime use one processor. With two it makes threads at the start that graceful never
// needs. The package imports nothing else, so that it is initialised before most others (The Go Programming Language
// Specification, Program initialization).
package oneprocessor

import "runtime"

func init() { runtime.GOMAXPROCS(1) }
