package process

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// CheckSize returns an error if Linux does not execute a program with these arguments and this environment, or if their
// size is within a margin of the limit. See "Limits on size of arguments and environment" in execve(2). The target
// inherits the limits of graceful.
func CheckSize(args, env []string) error {
	const (
		pagesOfString = 32 // MAX_ARG_STRLEN in pages
		pointer       = 8  // bytes; argv and envp contain a pointer for each string
		most          = 6 << 20
		margin        = 4096 // leaves room for the path of the program
	)
	longest := pagesOfString*os.Getpagesize() - 1 // without the final NUL
	total := margin
	for _, text := range slices.Concat(args, env) {
		if len(text) > longest {
			return fmt.Errorf("an argument or a variable has %d bytes: no program can be started with more than %d",
				len(text), longest)
		}
		total += len(text) + 1 + pointer
	}
	allowed := most
	var stack unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_STACK, &stack) == nil && uint64(stack.Cur)/4 < most {
		allowed = max(int(stack.Cur/4), pagesOfString*os.Getpagesize())
	}
	if total > allowed {
		return fmt.Errorf("its arguments and environment take %d bytes: no program can be started with more than %d",
			total, allowed)
	}
	return nil
}
