// Graceful runs a program, stops it properly and leaves nothing behind.
package main

import (
	"os"

	"graceful/cmd"
	_ "graceful/cmd/oneprocessor"
)

func main() {
	os.Exit(cmd.Main(os.Args))
}
