package process

import "golang.org/x/sys/unix"

// board is memory that graceful and the guard share. It outlives graceful, so a successor can find out which processes
// were started. Graceful writes requests, and the guard writes events. After a write, graceful sends the guard a
// message, and the guard sends graceful SIGCHLD.
//
// slots is declared at its maximum, but only the first used slots are valid. Requests are stored in blocks that
// overlay the unused slots. The memory exists up to the end of the last block.
type board struct {
	guardPID        int32  // pid of the guard
	leading         uint32 // a graceful leads the run (Guard.Lead); the guard clears it before it starts a successor
	childless       uint32 // the guard has no child, dead or alive
	orphanCount     uint32 // number of orphans that the guard has reaped
	killRequested   uint32 // request: the guard kills its children, except commands
	watchRequested  uint32 // request: the guard records the signal that suspends the target
	suspendSignal   uint32 // the recorded signal
	resumeRequested uint32 // request: the guard sends SIGCONT to graceful when the target has ended
	usedSlots       uint32 // maximum number of slots that were in use
	blocksEnd       uint32 // offset of the end of the last block
	droppedSignals  uint64 // signals that the guard does not forward
	targetUsage     unix.Rusage
	slots           [maxSlots]slot
}

// slot describes a process that graceful asked the guard to start. The process stays a zombie until graceful asks the
// guard to reap it. The first slot is for the target.
type slot struct {
	requested       uint32 // graceful has asked for the process, and has not heard yet that it is reaped
	id              int32  // id of the command; 0: the target
	block           uint32 // offset of the block of its request
	pid             int32  // written by the kernel at the fork; 0: not started
	startFutex      uint32 // futex: settled once the process has executed its program, or has failed to
	failure         failure
	dirGone         uint32 // the working directory was gone, and the process runs in an empty one
	replacedOutputs uint32 // outputs that differ from graceful's: replacedStdout, replacedStderr
	endStatus       uint32 // hasEnded, with the code and the status of waitid(2); 0: it has not ended
	reapRequested   uint32 // graceful has handled its end
}

// maxSlots is greater than the number of commands of a run, which may all run at once. At least spareSlots free slots
// precede a block.
const maxSlots, spareSlots = 1<<16 + 8, 256

const hasEnded = 1 << 31

const replacedStdout, replacedStderr = 1, 2

// settled is the bit FUTEX_OWNER_DIED of futex(2). futexWaiters is the bit FUTEX_WAITERS.
const settled, futexWaiters = 0x40000000, 0x80000000

// Operations of futex(2).
const futexWait, futexWake = 0, 1

// blocksSize is the size of the memory for blocks, in bytes. Linux limits arguments and environment to 6 MiB.
const blocksSize = 64 << 20
