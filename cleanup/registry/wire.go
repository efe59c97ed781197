// Package registry lets processes register, list and withdraw cleanup commands during a run. It contains the socket,
// the protocol, the server and the client. It never decides what a request does. docs/protocol.md describes the
// protocol for clients in other languages.
package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"graceful/cleanup"
)

// version is the version of the protocol. It changes when an older client would misunderstand the new protocol.
const version = 1

// MaxRequest is the maximum size of a request with its newline, in bytes. The limit leaves room for the longest command
// that Linux executes by default: arguments and environment together have at most 2 MiB (execve(2)), and their JSON
// form is longer.
const MaxRequest = 4 << 20

// Request is a request of a client: one line of JSON.
type Request struct {
	Version int    `json:"graceful"`
	Do      string `json:"do"` // Defer, Cancel or List

	// The following fields belong to Defer. A Defer request contains either Command or Shell.
	Command   []cleanup.Text `json:"command,omitempty"`
	Shell     cleanup.Text   `json:"shell,omitempty"`
	Dir       cleanup.Text   `json:"dir,omitempty"` // absolute; "": that of the run
	Env       []cleanup.Text `json:"env,omitzero"`  // NAME=value; nil: that of the run
	Name      cleanup.Text   `json:"name,omitempty"`
	TimeoutMS int64          `json:"timeout_ms,omitempty"` // 0: the default of the run
	WhenExits int            `json:"when_exits,omitempty"` // pid; the command runs when that process has ended
	Start     uint64         `json:"start,omitempty"`      // start time of WhenExits (proc_pid_stat(5)); 0: unknown
	Key       string         `json:"key,omitempty"`        // a repeated request with the same key gets the same id

	// The following field belongs to Cancel.
	ID int `json:"id,omitempty"`
}

// The values of Request.Do.
const (
	Defer  = "defer"
	Cancel = "cancel"
	List   = "list"
)

// Response is the answer to a request: one line of JSON.
type Response struct {
	Version int `json:"graceful"`
	ID      int `json:"id,omitempty"` // answers Defer and Cancel: id of the command
	// TimeoutMS answers Defer. It is the time limit of the command if that limit is less than the requested one, and
	// otherwise 0.
	TimeoutMS int64     `json:"timeout_ms,omitempty"`
	Error     string    `json:"error,omitempty"`    // why the request was refused
	Busy      bool      `json:"busy,omitempty"`     // with Error: the client may repeat the request
	Commands  *[]Listed `json:"commands,omitempty"` // answers List; nil: the answer to another request
}

// Listed is a cleanup command that has not ended.
type Listed struct {
	ID        int            `json:"id"`
	State     string         `json:"state"` // pending, running
	Name      cleanup.Text   `json:"name"`
	Text      cleanup.Text   `json:"text"` // for people
	Command   []cleanup.Text `json:"command"`
	Dir       cleanup.Text   `json:"dir"` // "": the run's
	TimeoutMS int64          `json:"timeout_ms"`
	WhenExits int            `json:"when_exits"`    // 0: it runs with the other commands
	Cut       bool           `json:"cut,omitempty"` // long texts are cut: see Shorten
}

// Limits for the texts in a list, in bytes of JSON. maxListed is the limit for all commands together. Each command may
// use at least minListed.
const (
	maxListed = 4 << 20
	minListed = 64
)

// Shorten cuts the texts of long commands in the list, so that the answer with the list takes less than sharedMemory.
func Shorten(list []Listed) {
	limit := max(maxListed/max(len(list), 1), minListed)
	for i := range list {
		l, size := &list[i], 0
		for _, text := range slices.Concat(l.Command, []cleanup.Text{l.Text, l.Name, l.Dir}) {
			if size += len(text); size <= limit { // otherwise the JSON form is too long, too
				size += text.Size() - len(text)
			}
		}
		if size <= limit {
			continue
		}
		const parts = 4
		l.Cut, l.Text, l.Name, l.Dir = true, cut(l.Text, limit/parts), cut(l.Name, limit/parts), cut(l.Dir, limit/parts)
		left := limit / parts
		for n, arg := range l.Command {
			if len(arg) > left || arg.Size() > left {
				l.Command = append(slices.Clone(l.Command[:n]), cut(arg, left))
				break
			}
			left -= arg.Size()
		}
	}
}

// cut returns the beginning of a text. The JSON form of the result, with its quotes or braces, is at most size bytes
// long, or 2 if size is less: that is the form of an empty text. A JSON string needs at most 6 bytes for each byte of a
// character. The form of bytes that are not UTF-8 can be longer than that if there are only one or two.
func cut(text cleanup.Text, size int) cleanup.Text {
	const quotes, longest = 2, 6
	if short := text.Cut(max(size-quotes, 0)); short.Size() <= size {
		return short
	}
	for n := (size - quotes) / longest; n > 0; n-- {
		if short := text.Cut(n); short.Size() <= size {
			return short
		}
	}
	return ""
}

// maxName, maxKey and maxDir are the maximum lengths of the name, the key and the directory in a request, in bytes.
// maxDir is one less than PATH_MAX of Linux, which includes the final NUL.
const (
	maxName = 256
	maxKey  = 64
	maxDir  = 4095
)

// decode decodes a request and checks it. The error is the answer to the client.
func decode(line []byte) (r Request, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		var other struct {
			Version int `json:"graceful"`
		}
		if json.Unmarshal(line, &other) == nil && other.Version != 0 && other.Version != version {
			return r, Request{Version: other.Version}.check()
		}
		return r, fmt.Errorf("reading the request: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return r, errors.New("reading the request: data follows it")
	}
	return r, r.check()
}

// check returns an error if the request is invalid.
func (r Request) check() error {
	switch {
	case r.Version != version:
		return fmt.Errorf("the request is of version %d, and this graceful knows %d", r.Version, version)
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
	case len(r.Dir) > maxDir:
		return fmt.Errorf("defer: the name of the directory has %d bytes, and may have %d", len(r.Dir), maxDir)
	case r.TimeoutMS < 0 || r.TimeoutMS > math.MaxInt64/int64(time.Millisecond):
		return fmt.Errorf("defer: %d ms are no time", r.TimeoutMS)
	case r.WhenExits < 0:
		return fmt.Errorf("defer: %d is not a pid", r.WhenExits)
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

// Entry returns the entry that a Defer request registers. A limit of 0 means the default of the run.
func (r Request) Entry() cleanup.Entry {
	e := cleanup.Entry{Command: cleanup.ShellForm(string(r.Shell))}
	if r.Shell == "" {
		e.Command = cleanup.ExecForm(cleanup.Strings(r.Command))
	}
	e.Command.Limit = time.Duration(r.TimeoutMS) * time.Millisecond
	e.Name, e.Dir, e.Key = string(r.Name), string(r.Dir), r.Key
	e.Awaited = cleanup.Process{PID: r.WhenExits, Start: r.Start}
	if r.Env != nil {
		e.Env = append([]string{}, cleanup.Strings(r.Env)...)
	}
	return e
}

// encode returns the line of a request or a response, with its newline.
func encode(v any) []byte {
	text, err := cleanup.EncodeJSON(v)
	if err != nil {
		panic(err) // every value of these types has a JSON form
	}
	return append(text, '\n')
}
