package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/runner/procfs"
)

// statusRefused is the exit status of defer when it has registered nothing, and of cancel when it has not withdrawn a
// command.
const statusRefused = 1

// refusedError is an error for which a subcommand exits with statusRefused.
type refusedError struct{ error }

// deferFlags holds the flags of defer.
type deferFlags struct {
	shell      bool
	timeout    time.Duration
	name       string
	awaitedPID int // pid of the process whose end starts the command; 0: none
	list       bool
	verbose    bool
	json       bool
}

func newDefer() *cobra.Command {
	var f deferFlags
	c := &cobra.Command{
		Use:   "defer [flags] -- COMMAND [ARG...]",
		Short: "Inside a run: register a cleanup command",
		Long: `Register a cleanup command, from any process of a run, and print its id for graceful cancel. The
command runs at the end of the run, in the working directory and the environment of graceful defer.
The last registered command runs first; the --on-exit commands run after all of them. Once its id is
printed, a command runs exactly once, whatever is killed, under the same conditions as an --on-exit
command.

Exit status: 0; 1 if nothing was registered: outside a run, after cleanup has begun, or if the
command does not fit under --deadline; 125 if graceful itself failed. Each flag has a variable: for
--when-exits, GRACEFUL_WHEN_EXITS.`,
		RunE: func(c *cobra.Command, args []string) error {
			return f.run(c.OutOrStdout(), c.ErrOrStderr(), args)
		},
		ValidArgsFunction: completeCommand,
	}
	c.Flags().SetInterspersed(false)
	addFlagGroups(c, f.groups()...)
	return c
}

// groups returns the flags by subject.
func (f *deferFlags) groups() []flagGroup {
	what := newGroup("Registering",
		`graceful defer --name redis --timeout 20s -- docker rm -f "$container"`,
		`graceful defer --shell -- 'kill "$(cat "$dir"/pid)"; rm -r "$dir"'`,
		`graceful defer --when-exits 4711 -- rm -rf /scratch/7`)
	what.addSwitch(&f.shell, "shell", "COMMAND is one argument, for a shell")
	what.Var(positiveDurationValue(&f.timeout), "timeout",
		"time limit of the command (default: --on-exit-timeout of the run)")
	what.Var(textValue(&f.name, "NAME", cobra.NoFileCompletions), "name",
		"shown instead of the command in log, report and --list, for one that holds a secret")
	what.Var(pidValue(&f.awaitedPID), "when-exits",
		"run the command as soon as this process of the run ends; at the latest with the others")
	listing := newGroup("Listing", "graceful defer --list --format json | jq '.[].text'",
		"graceful defer --list --verbose")
	listing.addSwitch(&f.list, "list", "register nothing; list the cleanup commands that have not ended")
	listing.VarPF(boolValue(&f.verbose), "verbose", "v",
		"list the command also where it has a name").NoOptDefVal = "true"
	listing.Var(formatValue(&f.json, "output"), "format", "form of output: text, json")
	return []flagGroup{what, listing, environmentGroup("graceful defer --no-env -- rm -rf /scratch/7")}
}

func (f *deferFlags) run(stdout, stderr io.Writer, args []string) error {
	r, err := f.request(args)
	if err != nil {
		return err
	}
	answer, err := request(r)
	if err != nil {
		return refusedError{fmt.Errorf("defer: %w", err)}
	}
	if answer.Commands != nil {
		return f.writeList(stdout, *answer.Commands)
	}
	if ms := answer.TimeoutMS; ms != 0 {
		limit := time.Duration(ms) * time.Millisecond
		printLine(stderr, fmt.Sprintf("the command has %v: the run gives no more (--defer-timeout-max)", limit))
	}
	_, err = fmt.Fprintln(stdout, answer.ID)
	return err
}

// writeList writes the list of commands. Without --verbose a name replaces its command.
func (f *deferFlags) writeList(to io.Writer, list []registry.Listed) error {
	if !f.verbose {
		list = slices.Clone(list)
		for i, c := range list {
			list[i] = shown(c)
		}
	}
	if f.json {
		return writeJSON(to, list)
	}
	_, err := io.WriteString(to, listText(list))
	return err
}

// shown returns a listed command as defer prints it without --verbose. A name replaces the text and the arguments,
// which may contain a secret.
func shown(c registry.Listed) registry.Listed {
	if c.Name != "" {
		c.Text, c.Command = c.Name, nil
	}
	return c
}

// request returns the request for the flags and args. The registered command gets the working directory and the
// environment of this process.
func (f *deferFlags) request(args []string) (r registry.Request, err error) {
	switch {
	case f.list && len(args) > 0:
		return r, errors.New("defer: --list takes no command")
	case f.list:
		return registry.Request{Do: registry.List}, nil
	case len(args) == 0 || args[0] == "":
		return r, errors.New("defer: no command was given (graceful defer [flags] -- COMMAND [ARG...])")
	case f.shell && len(args) > 1:
		return r, errors.New("defer: --shell takes the command as one argument ('rm -r \"$dir\"')")
	}
	dir, err := os.Getwd()
	if err != nil {
		return r, fmt.Errorf("defer: the working directory: %w", err)
	}
	r = registry.Request{
		Do:   registry.Defer,
		Dir:  cleanup.Text(dir),
		Env:  append([]cleanup.Text{}, cleanup.Texts(os.Environ())...),
		Name: cleanup.Text(f.name),
		// A positive timeout becomes at least 1 ms, because 0 means the default.
		TimeoutMS: max(f.timeout.Milliseconds(), min(int64(f.timeout), 1)),
		WhenExits: f.awaitedPID,
	}
	if f.awaitedPID != 0 {
		r.Start = procfs.StartOf(f.awaitedPID)
	}
	if f.shell {
		r.Shell = cleanup.Text(args[0])
	} else {
		r.Command = cleanup.Texts(args)
	}
	return r, nil
}

// request sends a request to the run whose socket GRACEFUL_SOCKET names: the innermost run that contains this process.
// It returns the answer, and an error also if the run has refused the request.
func request(r registry.Request) (registry.Response, error) {
	address := os.Getenv("GRACEFUL_SOCKET")
	switch {
	case address == "" && os.Getenv("GRACEFUL_RUN_ID") != "":
		return registry.Response{}, errors.New("this run accepts no commands " +
			"(--defer off, or it found no place for its socket: graceful doctor)")
	case address == "":
		return registry.Response{}, errors.New("this is not inside a run: GRACEFUL_SOCKET is not set " +
			"(start the script by graceful run -- ./script)")
	}
	answer, err := registry.Ask(address, r)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer, err
}

func listText(list []registry.Listed) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, c := range list {
		state := c.State
		if c.WhenExits != 0 && state == "pending" {
			state = fmt.Sprintf("when %d exits", c.WhenExits)
		}
		name, text := oneLine(cmp.Or(string(c.Name), "-")), oneLine(string(c.Text))
		if c.Command == nil { // shown has replaced the command by its name
			text = "-"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", c.ID, state, name, text)
	}
	_ = w.Flush()
	return b.String()
}
