package cmd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"graceful/cleanup/registry"
)

func newCancel() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID...",
		Short: "Inside a run: withdraw cleanup commands",
		Long: `Withdraw cleanup commands of a run, so that they do not run. Take the ids that graceful defer printed.
The --on-exit commands have the ids from 1 on, in the order given.

Exit status: 0 if all are withdrawn; 1 if one has already started, or no command has that id; 125 if
graceful itself failed.`,
		Example: `  lock=$(graceful defer -- ./unlock)
  ./work && ./commit && graceful cancel "$lock"`,
		RunE: func(_ *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			var errs []error
			for _, id := range ids {
				if _, err := request(registry.Request{Do: registry.Cancel, ID: id}); err != nil {
					errs = append(errs, refusedError{fmt.Errorf("cancel %d: %w", id, err)})
				}
			}
			return errors.Join(errs...)
		},
		ValidArgsFunction: completeIDs,
	}
}

func parseIDs(args []string) (ids []int, err error) {
	if len(args) == 0 {
		return nil, errors.New("cancel: no id was given (graceful cancel ID..., as graceful defer printed it)")
	}
	for _, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 31)
		if err != nil || id == 0 {
			return nil, fmt.Errorf("cancel: %q is not an id (a number, as graceful defer printed it)", arg)
		}
		ids = append(ids, int(id))
	}
	return ids, nil
}

// completeIDs completes the ids of the commands that can be withdrawn.
func completeIDs(_ *cobra.Command, _ []string, text string) (ids []string, _ cobra.ShellCompDirective) {
	answer, err := request(registry.Request{Do: registry.List})
	if err != nil || answer.Commands == nil {
		return nil, noFiles
	}
	for _, c := range *answer.Commands {
		if id := strconv.Itoa(c.ID); c.State == "pending" && strings.HasPrefix(id, text) {
			ids = append(ids, id+"\t"+oneLine(string(shown(c).Text)))
		}
	}
	return ids, noFiles
}
