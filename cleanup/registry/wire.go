// Package registry is how cleanup commands are registered from within a run: a socket, what is said over it, and both of
// its ends. What becomes of a request it does not decide. docs/protocol.md is for clients in other languages.
package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"graceful/cleanup"
)

// Version is that of the protocol. It changes when a client that does not know of the change would go wrong.
const Version = 1

// MaxRequest bounds a request, its newline included: argument lists and environments of 2 MiB are the most that Linux
// executes by default, and in JSON they are longer.
const MaxRequest = 4 << 20

// Request is a line of JSON.
type Request struct {
	Version int    `json:"graceful"`
	Do      string `json:"do"` // defer, cancel, list

	// For defer; either Command or Shell.
	Command   []cleanup.Text `json:"command,omitempty"`
	Shell     cleanup.Text   `json:"shell,omitempty"`
	Dir       cleanup.Text   `json:"dir,omitempty"` // absolute; "": the run's
	Env       []cleanup.Text `json:"env,omitzero"`  // NAME=value; nil: the run's
	Name      cleanup.Text   `json:"name,omitempty"`
	TimeoutMS int64          `json:"timeout_ms,omitempty"` // 0: as the run's other commands
	WhenExits int            `json:"when_exits,omitempty"`
	Start     uint64         `json:"start,omitempty"` // when that process was started (proc_pid_stat(5), starttime); 0: not known
	Key       string         `json:"key,omitempty"`   // who asks again with the same one gets the same id

	// For cancel.
	ID int `json:"id,omitempty"`
}

// What can be asked for.
const (
	Defer  = "defer"
	Cancel = "cancel"
	List   = "list"
)

// Response is a line of JSON, too.
type Response struct {
	Version  int       `json:"graceful"`
	ID       int       `json:"id,omitempty"`
	Error    string    `json:"error,omitempty"` // nothing was done
	Busy     bool      `json:"busy,omitempty"`  // and asking again may help
	Commands *[]Listed `json:"commands,omitempty"`
}

// Listed is a cleanup command that has not ended.
type Listed struct {
	ID        int            `json:"id"`
	State     string         `json:"state"` // pending, running
	Name      cleanup.Text   `json:"name"`
	Text      cleanup.Text   `json:"text"` // as it is shown
	Command   []cleanup.Text `json:"command"`
	Dir       cleanup.Text   `json:"dir"` // empty: the run's
	TimeoutMS int64          `json:"timeout_ms"`
	WhenExits int            `json:"when_exits"` // 0: it runs with the others
}

// maxName and maxKey bound what is only told or compared, in bytes.
const (
	maxName = 256
	maxKey  = 64
)

// decode reads a request. The error is for who has sent it.
func decode(line []byte) (r Request, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		var v struct {
			Version int `json:"graceful"`
		}
		if json.Unmarshal(line, &v) == nil && v.Version != 0 && v.Version != Version {
			return Request{}, errVersion(v.Version)
		}
		return Request{}, fmt.Errorf("reading the request: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Request{}, errors.New("reading the request: something comes after it")
	}
	return r, r.check()
}

func errVersion(v int) error {
	return fmt.Errorf("the request is of version %d, and this graceful knows %d", v, Version)
}

// check finds what no run could do.
func (r Request) check() error {
	switch {
	case r.Version != Version:
		return errVersion(r.Version)
	case r.Do == Cancel && r.ID <= 0:
		return errors.New("cancel: an id is a number from 1 on")
	case r.Do == Cancel, r.Do == List:
		return nil
	case r.Do != Defer:
		return fmt.Errorf("there is no request %q (defer, cancel, list)", r.Do)
	case (len(r.Command) == 0) == (r.Shell == ""):
		return errors.New("defer: it has either a command or shell, and not empty")
	case r.Shell != "" && strings.TrimSpace(string(r.Shell)) == "", r.Shell == "" && r.Command[0] == "":
		return errors.New("defer: the command is empty")
	case r.Dir != "" && r.Dir[0] != '/':
		return fmt.Errorf("defer: the directory %q does not begin with a slash", r.Dir)
	case r.TimeoutMS < 0 || r.TimeoutMS > int64(1<<63-1)/int64(time.Millisecond):
		return fmt.Errorf("defer: %d ms are no time", r.TimeoutMS)
	case r.WhenExits < 0:
		return fmt.Errorf("defer: %d is no pid", r.WhenExits)
	case len(r.Name) > maxName || len(r.Key) > maxKey:
		return fmt.Errorf("defer: a name has %d bytes at the most, a key %d", maxName, maxKey)
	}
	for _, text := range slices.Concat(r.Command, r.Env, []cleanup.Text{r.Shell, r.Dir, r.Name}) {
		if strings.Contains(string(text), "\x00") {
			return errors.New("defer: there is a NUL byte in it")
		}
	}
	return nil
}

// Entry is the command that a request registers. A limit of 0 is the run's.
func (r Request) Entry() cleanup.Entry {
	e := cleanup.Entry{
		Command: cleanup.ShellForm(string(r.Shell)),
		Registration: cleanup.Registration{
			Name: string(r.Name), Dir: string(r.Dir), Key: r.Key, Exits: cleanup.Process{PID: r.WhenExits, Start: r.Start},
		},
	}
	if r.Shell == "" {
		e.Command = cleanup.ExecForm(cleanup.Strings(r.Command))
	}
	if r.Env != nil {
		e.Env = append([]string{}, cleanup.Strings(r.Env)...)
	}
	e.Command.Limit = time.Duration(r.TimeoutMS) * time.Millisecond
	return e
}

// encode makes a line of a request or a response.
func encode(v any) []byte {
	text, err := cleanup.EncodeJSON(v)
	if err != nil {
		panic(err) // every value of these types has a JSON form
	}
	return append(text, '\n')
}
