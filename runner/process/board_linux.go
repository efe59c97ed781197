package process

import "golang.org/x/sys/unix"

// board is memory that graceful and the guard share. It also tells a new graceful which processes have been started.
// Graceful writes what the guard is to do, and the guard writes what has happened. Each wakes the other afterwards:
// graceful with a message, the guard with SIGCHLD.
//
// The slots have no end that is used up: the blocks of requests lie behind those that are in use. The memory exists up
// to the end of the last block.
type board struct {
	guard     int32  // its pid
	leads     uint32 // graceful listens to signals and performs the run; the guard clears it before it starts another
	childless uint32 // the guard has no child, dead or alive
	orphans   uint32 // how many orphans the guard has reaped
	kill      uint32 // the guard is to kill its children that are no commands
	watched   uint32 // the guard reports by which signal the target was suspended
	suspended uint32 // that signal
	resume    uint32 // the guard sends SIGCONT to graceful when the target has ended
	used      uint32 // how many slots have been in use
	to        uint32 // where the last block ends: offset
	drops     uint64 // signals that the guard does not pass on
	usage     unix.Rusage
	slots     [maxSlots]slot
}

// slot is a process that the guard was asked to start. It stays a zombie until graceful asks to reap it. The target has
// the first slot.
type slot struct {
	asked    uint32 // graceful has asked to start it, and not learned yet that it is reaped
	id       int32  // of the command; 0: the target
	block    uint32 // where the block of its request lies: offset
	pid      int32  // written by the kernel at the fork; 0: not started
	starting uint32 // futex: settled when it has executed its program, or has failed to
	failed   failure
	dirGone  uint32 // its working directory was gone: it is in an empty one
	replaced uint32 // which of its outputs are not graceful's: replacedStdout, replacedStderr
	end      uint32 // hasEnded, and the code and the status of waitid(2); 0: it has not ended
	reap     uint32 // graceful has handled its end
}

// maxSlots is more than the commands that a run may have, which may all run at once. spareSlots are free in front of a
// block.
const maxSlots, spareSlots = 1<<16 + 8, 256

const hasEnded = 1 << 31

const replacedStdout, replacedStderr = 1, 2

// settled is FUTEX_OWNER_DIED of futex(2), and futexWaiters is FUTEX_WAITERS.
const settled, futexWaiters = 0x40000000, 0x80000000

// Operations of futex(2).
const futexWait, futexWake = 0, 1

// blocksSize is room for the largest block and others. Linux limits arguments and environment to 6 MiB.
const blocksSize = 64 << 20
