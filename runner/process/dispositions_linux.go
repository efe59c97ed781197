package process

import (
	"encoding/binary"
	"errors"
	_ "os/signal" // for signalEnable
	"reflect"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/sigstate"
)

// ReadInherited finds out which signals were ignored and blocked when graceful was started. The target must inherit the
// same: systemd starts services with SIGPIPE ignored, and a shell starts background jobs with SIGQUIT ignored.
//
// The kernel no longer has this information. Before main begins, the runtime installs a handler for most signals and
// unblocks those that it needs. The runtime saves the old values in fwdSig and m.sigmask. Both are unexported, and a
// stripped binary has no symbols. So this code makes the runtime store a known value in them, and searches memory for
// that value.
func ReadInherited() (in Inherited) {
	ignored, _ := ignoredAtStart()
	for sig := syscall.Signal(1); sig <= forward.Last; sig++ {
		if ignored[sig] {
			in.Ignored = append(in.Ignored, sig)
		}
		if sigstate.Has(maskAtStart, sig) {
			in.Blocked = append(in.Blocked, sig)
		}
	}
	return in
}

// ReadInheritedError returns the reason why ReadInherited may miss some signals, or nil.
func ReadInheritedError() error {
	_, err := ignoredAtStart()
	return errors.Join(err, errMaskAtStart)
}

const sigDfl, sigIgn = 0, 1 // SIG_DFL, SIG_IGN

// ignoredAtStart returns an array that is true at the numbers of the signals that were ignored at the start. If it
// returns an error, the array is true only for ignored signals for which the runtime has no handler.
var ignoredAtStart = sync.OnceValues(func() (ignored [forward.Last + 1]bool, err error) {
	found, err := runtimeHandlers()
	for sig, handler := range found {
		ignored[sig] = handler == sigIgn
	}
	unhandled := []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT}
	if err != nil {
		unhandled = append(unhandled, unix.SIGHUP, unix.SIGINT) // if these two are ignored, the runtime leaves them so
	}
	for _, sig := range unhandled {
		var action sigaction
		err := rtSigaction(sig, nil, &action)
		ignored[sig] = err == nil && action[0] == sigIgn
	}
	return ignored, err
})

// sigaction is at least as long as the kernel's struct sigaction on every architecture. On the supported ones its
// first word is the handler (not on MIPS).
type sigaction [8]uintptr

const sigsetSize = 8 // in bytes

func rtSigaction(sig syscall.Signal, to, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(to)),
		uintptr(unsafe.Pointer(old)), sigsetSize, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// runtimeHandlers reads runtime.fwdSig: the handlers that the runtime found at its start, by signal number. When the
// runtime is asked to catch an ignored signal, it stores the present handler there.
func runtimeHandlers() (handlers [forward.Last + 1]uintptr, err error) {
	const (
		probe = forward.Last // almost no program sends it
		word  = int(unsafe.Sizeof(uintptr(0)))
	)
	_, data, err := runtimeVariables()
	if err != nil {
		return handlers, err
	}
	before := snapshot(data)
	signalIgnore(uint32(probe))
	var action sigaction // as the runtime sets it for its own signal; the handler is replaced below
	if err := rtSigaction(unix.SIGURG, nil, &action); err != nil {
		return handlers, err
	}
	mark := reflect.ValueOf(emptyHandler).Pointer()
	action[0] = mark
	if err := rtSigaction(probe, &action, nil); err != nil {
		return handlers, err
	}
	signalEnable(uint32(probe))
	after := snapshot(data)
	at := func(data []byte, offset int) *uintptr { return (*uintptr)(unsafe.Pointer(&data[offset])) }
	for last := int(probe) * word; last+word <= len(after); last += word {
		if *at(after, last) != mark || *at(before, last) == mark {
			continue
		}
		for sig := range handlers {
			handlers[sig] = *at(before, last-(int(probe)-sig)*word)
			if handlers[sig] > sigIgn { // no handler survives execve(2), so this memory is not fwdSig
				return [forward.Last + 1]uintptr{}, errors.New("these are no inherited signal handlers")
			}
		}
		*at(data, last) = handlers[probe]
		return handlers, nil
	}
	return handlers, errors.New("this Go runtime stores the signal handlers in another place")
}

// emptyHandler is a signal handler that does nothing. runtimeHandlers searches memory for the address of emptyHandler,
// which no other variable contains.
//
//go:norace
//go:nosplit
//go:noinline
func emptyHandler() {}

// Unblock unblocks signals that were blocked when graceful was started. The caller must have installed their handlers.
// The runtime unblocks the signals in a separate thread. For the signals of job control among them, the runtime also
// installs its own handler. So the caller must set its handlers for these signals again after Unblock.
func Unblock(signals []syscall.Signal) {
	for _, sig := range signals {
		signalEnable(uint32(sig))
	}
}

// maskAtStart is the signal mask from the start of graceful. If reading it has failed, the mask lacks the signals that
// the runtime has unblocked.
var maskAtStart, errMaskAtStart = readMask()

// readMask reads m0.sigmask, the mask that the runtime found on the first thread. A fork makes the runtime store the
// present mask there. So readMask must run on the first thread and before any fork: when packages are initialised.
func readMask() (mask unix.Sigset_t, err error) {
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask); err != nil {
		return mask, err
	}
	data, _, err := runtimeVariables()
	if err != nil {
		return mask, err
	}
	before := snapshot(data)
	// The kernel's set is the first 64 bits of a Sigset_t.
	set := func(mask *unix.Sigset_t) *uint64 { return (*uint64)(unsafe.Pointer(mask)) }
	// Block all signals meanwhile, because the runtime would drop a signal that arrives now. The kernel's full mask
	// lacks SIGKILL and SIGSTOP.
	var all, marked unix.Sigset_t
	*set(&all) = ^uint64(0)
	present := mask
	if err := errors.Join(
		unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil), unix.PthreadSigmask(unix.SIG_SETMASK, nil, &marked),
	); err != nil {
		return mask, err
	}
	mark := *set(&marked)
	beforeFork()
	afterFork()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &present, nil); err != nil {
		return mask, err
	}
	for at := 0; at+sigsetSize <= len(before); at += 4 {
		if binary.NativeEndian.Uint64(data[at:]) == mark {
			*set(&mask) = binary.NativeEndian.Uint64(before[at:])
			return mask, nil
		}
	}
	return mask, errors.New("this Go runtime stores the signal mask in another place")
}

// runtimeVariables returns the beginnings of the two sections for variables without an initial value. One section is
// for variables with pointers, the other one for variables without pointers. The linker puts small variables first, and
// both wanted variables are small.
func runtimeVariables() (pointers, plain []byte, err error) {
	const most = 64 << 10
	inPointers, inPlain := unsafe.Pointer(&somePointer), unsafe.Pointer(&someNumber)
	section := func(inside unsafe.Pointer, begin, end uintptr) []byte {
		return unsafe.Slice((*byte)(unsafe.Add(inside, -int(uintptr(inside)-begin))), min(end-begin, most))
	}
	// runtime.moduledata contains the limits of all sections, in their order in memory.
	limits := (*[64]uintptr)(lastmoduledatap)
	for i := range len(limits) - 3 {
		bss, ebss, noptrbss, enoptrbss := limits[i], limits[i+1], limits[i+2], limits[i+3]
		if bss <= uintptr(inPointers) && uintptr(inPointers) < ebss && ebss <= noptrbss &&
			noptrbss <= uintptr(inPlain) && uintptr(inPlain) < enoptrbss {
			return section(inPointers, bss, ebss), section(inPlain, noptrbss, enoptrbss), nil
		}
	}
	return nil, nil, errors.New("this Go runtime describes its variables in another form")
}

// snapshot copies variables that other threads may change meanwhile. The race detector would report the function copy.
//
//go:norace
func snapshot(data []byte) []byte {
	const word = int(unsafe.Sizeof(uintptr(0)))
	copied := make([]uintptr, len(data)/word)
	from := unsafe.Slice((*uintptr)(unsafe.Pointer(unsafe.SliceData(data))), len(copied))
	for i := range copied {
		copied[i] = from[i]
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(copied))), len(copied)*word)
}

// The linker puts these variables into the sections that runtimeVariables looks for.
var (
	somePointer *byte
	someNumber  uintptr
)

//go:linkname lastmoduledatap runtime.lastmoduledatap
var lastmoduledatap unsafe.Pointer

// signalIgnore and signalEnable are functions of package os/signal. Unlike its exported functions, they do not start
// the goroutine that delivers signals.
//
//go:linkname signalIgnore os/signal.signal_ignore
func signalIgnore(sig uint32)

//go:linkname signalEnable os/signal.signal_enable
func signalEnable(sig uint32)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()
