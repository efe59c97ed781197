package process

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/tempdir"
	"graceful/runner/process/atstart"
)

// maxPIDLength is the length of the longest decimal pid with a NUL. PID_MAX_LIMIT is 4194304.
const maxPIDLength = 8

// pidVariables lists the variables that contain a pid. Only the process with that pid may use them and related
// variables (sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5)).
var pidVariables = []string{"LISTEN_PID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID"}

// raised is RLIMIT_NOFILE after the initialisation of package syscall, which raises the soft limit. If the limit has
// another value later, another process has changed it (prlimit(2)).
var raised = func() (limit unix.Rlimit) {
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return limit
}()

// parts contains the texts and lists of a request, before they are laid out in a block.
type parts struct {
	dir, spare, cgroup, procs string
	paths, argv, env, script  []string
	keptFDs                   []int
	pids                      []int // indexes in env of the variables that get the pid of the process
}

// spareParent returns the directory in which a child may make an empty working directory (see enterDir): the first
// trusted directory in which this process may create files. Other users cannot replace files in a trusted directory. If
// there is none, spareParent returns os.TempDir.
var spareParent = sync.OnceValue(func() string {
	for dir := range tempdir.Trusted() {
		if unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	return os.TempDir()
})

// parts returns the parts of a request for the process. The error is EINVAL if a text contains a NUL.
func (s Spec) parts() (p parts, err error) {
	p = parts{
		paths: candidates(s.Program, s.Search), dir: s.Dir, argv: s.Argv, env: slices.Clone(s.Env), keptFDs: s.KeptFDs,
	}
	p.script = append([]string{cleanup.Shell, ""}, s.Argv[min(1, len(s.Argv)):]...)
	if s.Dir != "" {
		p.spare = fmt.Sprintf("%s/graceful-%016x", spareParent(), rand.Uint64())
	}
	if s.Cgroup != "" {
		p.cgroup, p.procs = s.Cgroup, s.Cgroup+"/cgroup.procs"
	}
	// LISTEN_PIDFDID identifies graceful, as LISTEN_PID does. Its value for the process is unknown before the fork, and
	// with the value of graceful the process would ignore the sockets. So omit the variable.
	if slices.Contains(p.env, "LISTEN_PID="+strconv.Itoa(s.OwnPID)) {
		p.env = slices.DeleteFunc(p.env, func(kv string) bool { return strings.HasPrefix(kv, "LISTEN_PIDFDID=") })
	}
	for i, kv := range p.env {
		name, value, _ := strings.Cut(kv, "=")
		if slices.Contains(pidVariables, name) && value == strconv.Itoa(s.OwnPID) {
			p.env[i] = name + "=" + strings.Repeat(" ", maxPIDLength)
			p.pids = append(p.pids, i)
		}
	}
	for _, text := range slices.Concat([]string{p.dir, p.cgroup}, p.paths, p.argv, p.env) {
		if strings.Contains(text, "\x00") {
			return p, syscall.EINVAL
		}
	}
	return p, nil
}

const wordSize = unsafe.Sizeof(place(0))

// size returns the size of the block, in bytes.
func (p parts) size() uintptr {
	size := unsafe.Sizeof(request{})
	single := []string{p.dir, p.spare, p.cgroup, p.procs}
	for _, text := range slices.Concat(single, p.paths, p.argv, p.env, p.script) {
		size += uintptr(len(text)) + 1
	}
	words := len(p.paths) + len(p.argv) + len(p.env) + len(p.script) + len(p.pids) + len(p.keptFDs) + 7
	return size + uintptr(words+1)*wordSize
}

// block is memory in which a request is laid out.
type block struct {
	data []byte
	used place // offset of the first free byte
}

// newBlock allocates a block in memory that does not move.
func newBlock(size uintptr) *block {
	words := make([]uintptr, size/wordSize+1)
	return &block{data: unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*int(wordSize))}
}

// layOut writes the request for a process into a block of at least p.size() bytes. p contains the parts of the request.
func (s Spec) layOut(p parts, b *block) *request {
	r := (*request)(unsafe.Pointer(&b.data[0]))
	*r = request{
		stdio:      [3]uintptr{s.Stdin, cmp.Or(s.Stdout, 1), cmp.Or(s.Stderr, 2)},
		newSession: s.Terminal != 0, foreground: s.Foreground,
		ignored: setOf(s.Ignored), blocked: setOf(s.Blocked), program: atFDCWD, block: uintptr(unsafe.Pointer(r)),
	}
	if r.newSession {
		r.stdio = [3]uintptr{s.Terminal, s.Terminal, s.Terminal}
	}
	if atstart.FilesKnown && unix.Getrlimit(unix.RLIMIT_NOFILE, &r.ownFileLimit) == nil && r.ownFileLimit == raised {
		r.fileLimitSet, r.fileLimit = true, unix.Rlimit(atstart.Files)
	}
	b.used = place(unsafe.Sizeof(request{}))
	r.argv, _ = b.list(p.argv)
	r.script, _ = b.list(p.script)
	r.programPaths, _ = b.list(p.paths)
	env, variables := b.list(p.env)
	r.env = env
	if len(p.pids) > 0 {
		places := make([]place, len(p.pids), len(p.pids)+1)
		for i, v := range p.pids {
			places[i] = variables[v] + place(strings.IndexByte(p.env[v], '=')) + 1
		}
		r.pids = b.words(append(places, 0))
	}
	if len(p.keptFDs) > 0 {
		r.keptFDs = b.align()
		for _, fd := range append(slices.Clone(p.keptFDs), -1) {
			*(*int32)(unsafe.Pointer(&b.data[b.used])) = int32(fd)
			b.used += 4
		}
	}
	r.dir, r.spare = b.textOrNone(p.dir), b.textOrNone(p.spare)
	r.cgroup, r.procs = b.textOrNone(p.cgroup), b.textOrNone(p.procs)
	return r
}

// list writes texts, and then the list of their offsets with a final 0. It returns the offset of the list and the
// offsets of the texts.
func (b *block) list(texts []string) (list place, places []place) {
	places = make([]place, 0, len(texts)+1)
	for _, text := range texts {
		places = append(places, b.text(text))
	}
	return b.words(append(places, 0)), places
}

func (b *block) words(places []place) place {
	at := b.align()
	b.used += place(copy(unsafe.Slice((*place)(unsafe.Pointer(&b.data[at])), len(places)), places)) * place(wordSize)
	return at
}

func (b *block) align() place {
	b.used = (b.used + place(wordSize) - 1) &^ (place(wordSize) - 1)
	return b.used
}

func (b *block) textOrNone(text string) place {
	if text == "" {
		return 0
	}
	return b.text(text)
}

// text writes a text and a NUL, and returns the offset of the text.
func (b *block) text(text string) place {
	at := b.used
	b.used += place(copy(b.data[at:], text)) + 1
	b.data[b.used-1] = 0
	return at
}

func setOf(signals []syscall.Signal) (set uint64) {
	for _, sig := range signals {
		set |= 1 << (sig - 1)
	}
	return set
}
