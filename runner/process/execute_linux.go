package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// execute executes the first program that exists at one of the paths, as execvp(3) does. It returns only if that fails.
// The error is that of the last path that was tried. But if all paths were tried, and execve(2) has returned EACCES for
// one of them, the error is EACCES. The rules in child_linux.go apply to this file, too.
//
//go:norace
//go:nosplit
func (r *request) execute() {
	r.failure.stage = stageExec
	r.foundErrno = 0
	for at := r.programPaths; ; at += place(unsafe.Sizeof(at)) {
		path := *(*uintptr)(r.at(at))
		if path == 0 {
			break
		}
		r.executeAt(path)
		switch r.errno {
		case syscall.EACCES:
			r.foundErrno = syscall.EACCES
		case syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.ESTALE, syscall.ENODEV:
			if r.isThere(path) {
				return
			}
		default:
			return
		}
	}
	if r.foundErrno != 0 {
		r.errno = r.foundErrno
	}
}

// isThere reports whether a path exists although execve(2) has reported it as missing. In that case the interpreter or
// the loader is missing, and isThere sets failure.stage to stageInterpreter.
//
//go:norace
//go:nosplit
func (r *request) isThere(path uintptr) bool {
	errno := r.errno
	there := r.try(unix.SYS_FACCESSAT, atFDCWD, path, unix.F_OK, 0)
	r.errno = errno
	if there {
		r.failure.stage = stageInterpreter
	}
	return there
}

// executeAt executes the program at a path. If the kernel does not know the format of the file (ENOEXEC), and the file
// is a script for a shell, executeAt executes the shell with the arguments: shell, script, rest of argv.
//
//go:norace
//go:nosplit
func (r *request) executeAt(path uintptr) {
	r.execve(path, r.argv)
	if r.errno != syscall.ENOEXEC {
		return
	}
	if r.fileLimitSet {
		r.setFiles(&r.ownFileLimit)
	}
	script := r.isScript(path)
	if r.fileLimitSet {
		r.setFiles(&r.fileLimit)
	}
	if script {
		*(*uintptr)(r.at(r.script + place(unsafe.Sizeof(path)))) = path
		r.execve(*(*uintptr)(r.at(r.script)), r.script)
	}
	r.errno = syscall.ENOEXEC
}

// execve executes the program of the descriptor r.program. If there is none, or if that fails, it executes the program
// at a path.
//
//go:norace
//go:nosplit
func (r *request) execve(path uintptr, argv place) {
	if r.program != atFDCWD {
		r.buffer[0] = 0
		r.result, _, r.errno = syscall.RawSyscall6(unix.SYS_EXECVEAT, r.program, uintptr(unsafe.Pointer(&r.buffer)),
			r.address(argv), r.address(r.env), unix.AT_EMPTY_PATH, 0)
	}
	r.try(unix.SYS_EXECVE, path, r.address(argv), r.address(r.env), 0)
}

// isScript reports whether a file that the kernel cannot execute is a script for a shell, as execvp(3) and POSIX define
// it. A file with the magic number of ELF, or with a NUL in its first line, is no script. isScript reads only the
// beginning of the file. A file that cannot be read is no script.
//
//go:norace
//go:nosplit
func (r *request) isScript(path uintptr) bool {
	if !r.try(unix.SYS_OPENAT, atFDCWD, path, unix.O_RDONLY|unix.O_CLOEXEC, 0) ||
		!r.try(unix.SYS_READ, r.result, uintptr(unsafe.Pointer(&r.buffer)), unsafe.Sizeof(r.buffer), 0) {
		return false
	}
	if r.result >= 4 && r.buffer[0] == 0x7f && r.buffer[1] == 'E' && r.buffer[2] == 'L' && r.buffer[3] == 'F' {
		return false
	}
	for i := range r.buffer {
		if uintptr(i) == r.result || r.buffer[i] == '\n' {
			break
		}
		if r.buffer[i] == 0 {
			return false
		}
	}
	return true
}
