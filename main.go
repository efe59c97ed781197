// Graceful runs a program, stops it properly and leaves nothing behind.
package main

import (
	"os"

	"graceful/cmd"
)

func main() {
	os.Exit(cmd.Main(os.Args))
}
