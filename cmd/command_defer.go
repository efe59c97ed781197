package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner"

	"github.com/spf13/cobra"
)

// statusRefused is the exit status of defer and cancel when nothing was registered, or not all was withdrawn.
const statusRefused = 1

// outside is what is wrong where there is no run.
const outside = "this is not inside a run: GRACEFUL_SOCKET is not set (start the script by graceful run -- ./script)"

// deferFlags is what the flags of defer say.
type deferFlags struct {
	shell   bool
	timeout time.Duration
	name    string
	exits   int
	list    bool
	format  logFormat
}

func newDefer(status *int) *cobra.Command {
	f := deferFlags{format: logText}
	c := &cobra.Command{
		Use:   "defer [flags] -- COMMAND [ARG...]",
		Short: "Inside a run: register a cleanup command",
		Long: `Register a cleanup command, from any process of a run, and print its id, by which graceful cancel
takes it back. It runs when the run is over, the last registered command first, and --on-exit ones
after these; in the working directory and the environment that graceful defer was called in. Once
its id is printed it runs exactly once, whatever is killed (where --on-exit commands do).

Exit status: 0; 1 when nothing was registered: outside a run, or once cleaning up has begun, or when
it does not fit under --deadline; 125 if graceful itself failed. Each flag can be given as a
variable, --when-exits as GRACEFUL_WHEN_EXITS.`,
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := readVariables(c.Flags()); err != nil {
				return err
			}
			request, err := f.request(args)
			if err != nil {
				return err
			}
			answer, err := ask(request)
			if err != nil {
				return refuse(status, fmt.Errorf("defer: %w", err))
			}
			switch {
			case answer.Commands == nil:
				_, err = fmt.Fprintln(c.OutOrStdout(), answer.ID)
			case f.format == logJSON:
				err = writeList(c.OutOrStdout(), *answer.Commands)
			default:
				_, err = io.WriteString(c.OutOrStdout(), listText(*answer.Commands))
			}
			return err
		},
	}
	c.Flags().SetInterspersed(false)
	what := newGroup("Registering",
		`graceful defer --name redis --timeout 20s -- docker rm -f "$container"`,
		`graceful defer --shell -- 'kill "$(cat "$dir"/pid)"; rm -r "$dir"'`,
		`graceful defer --when-exits 4711 -- rm -rf /scratch/7`)
	what.on(&f.shell, "shell", "", "COMMAND is one word, for a shell")
	what.Var(durationValue{value: &f.timeout, positive: true}, "timeout", "time that it may take (default: --on-exit-timeout of the run)")
	what.Var(textValue{&f.name, "NAME"}, "name", "name of the command, for log, report and --list")
	what.Var(pidValue{&f.exits}, "when-exits", "process of the run as soon as whose end it runs; at the latest with the others")
	listing := newGroup("Looking", "graceful defer --list --format json | jq '.[].command'")
	listing.on(&f.list, "list", "", "register nothing, and tell which cleanup commands have not ended")
	listing.Var(enumValue[logFormat]{&f.format, "FORM", "form of output", logFormats}, "format", "form of output: text, json")
	describe(c, []flagGroup{what, listing, environmentGroup("graceful defer --no-env -- rm -rf /scratch/7")})
	c.ValidArgsFunction = completeCommand
	return c
}

func newCancel(status *int) *cobra.Command {
	c := &cobra.Command{
		Use:   "cancel ID...",
		Short: "Inside a run: withdraw cleanup commands",
		Long: `Withdraw cleanup commands of a run, by the ids that graceful defer has printed; those of --on-exit count
from 1 in the order given. A command that is withdrawn does not run.

Exit status: 0 when all are withdrawn; 1 when one has been started already, or there is none of that
id; 125 if graceful itself failed.`,
		Example: `  lock=$(graceful defer -- ./unlock)
  ./work && ./commit && graceful cancel "$lock"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("cancel: no id was given (graceful cancel ID..., as graceful defer has printed it)")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			var ids []int
			for _, arg := range args {
				id, err := strconv.ParseUint(arg, 10, 31)
				if err != nil || id == 0 {
					return fmt.Errorf("cancel: %q is no id (a number, as graceful defer has printed it)", arg)
				}
				ids = append(ids, int(id))
			}
			var errs []error
			for _, id := range ids {
				if _, err := ask(registry.Request{Do: registry.Cancel, ID: id}); err != nil {
					errs = append(errs, fmt.Errorf("cancel %d: %w", id, err))
				}
			}
			return refuse(status, errs...)
		},
	}
	c.ValidArgsFunction = completeIDs
	return c
}

// completeIDs completes the ids of commands that can be withdrawn.
func completeIDs(_ *cobra.Command, _ []string, text string) (ids []string, _ cobra.ShellCompDirective) {
	answer, err := ask(registry.Request{Do: registry.List})
	if err != nil || answer.Commands == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, c := range *answer.Commands {
		if id := strconv.Itoa(c.ID); c.State == "pending" && strings.HasPrefix(id, text) {
			ids = append(ids, id+"\t"+oneLine(string(c.Text)))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// request is what is asked for, with where we are and what we have got from our parent.
func (f deferFlags) request(args []string) (r registry.Request, err error) {
	switch {
	case f.list && len(args) > 0:
		return r, errors.New("defer: --list takes no command")
	case f.list:
		return registry.Request{Do: registry.List}, nil
	case len(args) == 0 || args[0] == "":
		return r, errors.New("defer: no command was given (graceful defer [flags] -- COMMAND [ARG...])")
	case f.shell && len(args) > 1:
		return r, errors.New("defer: --shell takes the command as one word ('rm -r \"$dir\"')")
	}
	dir, err := os.Getwd()
	if err != nil {
		return r, fmt.Errorf("defer: the working directory: %w", err)
	}
	r = registry.Request{
		Do: registry.Defer, Dir: ledger.Text(dir), Env: registry.Texts(os.Environ()), Name: ledger.Text(f.name),
		TimeoutMS: max(f.timeout.Milliseconds(), min(int64(f.timeout), 1)), WhenExits: f.exits,
	}
	if f.exits != 0 {
		r.Start = runner.StartOf(f.exits)
	}
	if f.shell {
		r.Shell = ledger.Text(args[0])
	} else {
		r.Command = registry.Texts(args)
	}
	return r, nil
}

// ask asks the innermost run that we are in.
func ask(r registry.Request) (registry.Response, error) {
	address := os.Getenv("GRACEFUL_SOCKET")
	if address == "" && os.Getenv("GRACEFUL_RUN_ID") != "" {
		return registry.Response{}, errors.New("this run takes no commands (--defer off, or it found no place for its socket: graceful doctor)")
	}
	if address == "" {
		return registry.Response{}, errors.New(outside)
	}
	answer, err := registry.Ask(address, r)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer, err
}

// refuse says what was not done.
func refuse(status *int, errs ...error) error {
	if len(errs) == 0 {
		return nil
	}
	out := newOutput(syscall.Stderr)
	defer out.flush()
	for _, err := range errs {
		say(out, err.Error())
	}
	*status = statusRefused
	return nil
}

func writeList(to io.Writer, list []registry.Listed) error {
	e := json.NewEncoder(to)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

func listText(list []registry.Listed) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, c := range list {
		state := c.State
		if c.WhenExits != 0 && state == "pending" {
			state = fmt.Sprintf("when %d exits", c.WhenExits)
		}
		name := string(c.Name)
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", c.ID, state, oneLine(name), oneLine(string(c.Text)))
	}
	_ = w.Flush()
	return b.String()
}

// pidValue is a process.
type pidValue struct{ value *int }

func (v pidValue) Set(s string) error {
	pid, err := strconv.ParseUint(s, 10, 31)
	if err != nil || pid == 0 {
		return fmt.Errorf("%q is no pid", s)
	}
	*v.value = int(pid)
	return nil
}

func (v pidValue) String() string {
	if v.value == nil || *v.value == 0 {
		return ""
	}
	return strconv.Itoa(*v.value)
}

func (v pidValue) Type() string { return "PID" }
