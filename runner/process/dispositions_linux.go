package process

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/procfs"
	"graceful/runner/sigstate"
)

// ReadInherited finds out which signals were ignored and blocked when graceful was started.
//
// The kernel no longer knows. The runtime installs a handler for most signals, except for SIGHUP and SIGINT where these
// were ignored, and unblocks the signals that it needs. It keeps what it found in variables of its own. Their addresses
// are in our symbol table, and their values in our memory. systemd starts every service with SIGPIPE ignored, and a
// background job of a shell has SIGQUIT ignored: without this the target would not. In a stripped binary, or without
// /proc, only what the kernel still knows is found.
func ReadInherited() Inherited {
	var in Inherited
	handlers, mask, err := runtimeSignals()
	if err != nil {
		_ = unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask)
	}
	text, noStatus := os.ReadFile("/proc/self/status")
	status, _ := procfs.ParseStatus(string(text))
	for sig := syscall.Signal(1); sig <= forward.Last; sig++ {
		if status.Ignored&(1<<(sig-1)) != 0 || noStatus != nil && signal.Ignored(sig) ||
			err == nil && handlers[sig] == sigIgn {
			in.Ignored = append(in.Ignored, sig)
		}
		if sigstate.Has(mask, sig) {
			in.Blocked = append(in.Blocked, sig)
		}
	}
	return in
}

const sigDfl, sigIgn = 0, 1

// runtimeSignals reads runtime.fwdSig, the handlers by signal number as the runtime found them, and
// runtime.initSigmask, the mask.
func runtimeSignals() (handlers [65]uintptr, mask unix.Sigset_t, err error) {
	file, err := elf.Open("/proc/self/exe")
	if err != nil {
		return handlers, mask, err
	}
	defer file.Close()
	// A position-independent executable lies elsewhere in memory than its symbols say.
	here := runtime.FuncForPC(reflect.ValueOf(runtimeSignals).Pointer())
	symbols, err := findSymbols(file, here.Name(), "runtime.fwdSig", "runtime.initSigmask")
	if err != nil {
		return handlers, mask, err
	}
	moved := uint64(here.Entry()) - symbols[0].Value
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		return handlers, mask, err
	}
	defer memory.Close()
	if symbols[1].Size != uint64(unsafe.Sizeof(handlers)) || symbols[2].Size != 8 {
		return handlers, mask, errors.New("this Go runtime stores the signals in another form")
	}
	handlersRaw := unsafe.Slice((*byte)(unsafe.Pointer(&handlers)), symbols[1].Size)
	maskRaw := unsafe.Slice((*byte)(unsafe.Pointer(&mask)), symbols[2].Size)
	for i, into := range [][]byte{handlersRaw, maskRaw} {
		if _, err := memory.ReadAt(into, int64(symbols[i+1].Value+moved)); err != nil {
			return handlers, mask, err
		}
	}
	for _, h := range handlers {
		if h != sigDfl && h != sigIgn { // no handler survives execve(2): this is something else
			return handlers, mask, errors.New("these are no inherited signal handlers")
		}
	}
	return handlers, mask, nil
}

// findSymbols looks names up in the symbol table. elf.File.Symbols would build all ten thousand symbols.
func findSymbols(file *elf.File, names ...string) ([]elf.Symbol, error) {
	table, texts := file.Section(".symtab"), file.Section(".strtab")
	if table == nil || texts == nil {
		return nil, elf.ErrNoSymbols
	}
	entries, err := table.Data()
	strs, err2 := texts.Data()
	if err := cmp.Or(err, err2); err != nil {
		return nil, err
	}
	offsets := map[uint32]int{} // in the string table → which name
	for i, name := range names {
		at := bytes.Index(strs, []byte("\x00"+name+"\x00"))
		if at < 0 {
			return nil, fmt.Errorf("no symbol %s", name)
		}
		offsets[uint32(at+1)] = i
	}
	found := make([]elf.Symbol, len(names))
	order, size := file.ByteOrder, binary.Size(elf.Sym64{})
	if file.Class == elf.ELFCLASS32 {
		size = binary.Size(elf.Sym32{})
	}
	for ; len(entries) >= size; entries = entries[size:] {
		i, ok := offsets[order.Uint32(entries)]
		switch {
		case !ok:
		case file.Class == elf.ELFCLASS32:
			found[i] = elf.Symbol{Value: uint64(order.Uint32(entries[4:])), Size: uint64(order.Uint32(entries[8:]))}
		default:
			found[i] = elf.Symbol{Value: order.Uint64(entries[8:]), Size: order.Uint64(entries[16:])}
		}
	}
	return found, nil
}

// Unreadable says why ReadInherited may miss some of the signals; nil: it misses none.
func Unreadable() error {
	_, _, err := runtimeSignals()
	return err
}
