package process

import "golang.org/x/sys/unix"

// board is memory that graceful, the guard and their forked children share. The board outlives graceful, so a successor
// can find out which processes were started. Graceful writes requests. The guard, the children and the kernel write
// events. A message makes the guard look at the board at once, and SIGCHLD makes graceful look. Without a guard,
// graceful and its children share a board.
//
// slots is declared at its maximum, but only the first usedSlots of them are valid. With a guard, the requests for
// processes (type request) are stored in blocks. The blocks overlay unused slots and the memory after the board. The
// shared memory exists at least up to blocksEnd.
type board struct {
	guardPID        int32  // pid of the guard
	leading         uint32 // 1: a graceful leads the run (Guard.Lead); the guard sets 0 before it starts a successor
	childless       uint32 // 1: the guard has no child, dead or alive
	orphanCount     uint32 // number of orphans and of ended successors that the guard has reaped
	killRequested   uint32 // request: the guard kills the target and the orphans among its children
	watchRequested  uint32 // request: the guard records the signal that suspends the target
	suspendSignal   uint32 // the signal that has suspended the target; 0: none since Guard.SuspendedBy was called
	resumeRequested uint32 // request: the guard sends SIGCONT to graceful when the target has ended
	usedSlots       uint32 // number of slots that are or were in use
	blocksEnd       uint32 // offset of the end of the last block
	droppedSignals  uint64 // signals that the guard no longer forwards: signal n is bit n-1
	targetUsage     unix.Rusage
	slots           [maxSlots]slot
}

// slot describes a process that the guard starts for graceful, or that graceful itself starts without a guard. The
// process stays a zombie until graceful has handled its end. The first slot is for the target.
type slot struct {
	requested       uint32  // 1: graceful has asked for the process, and the process is not reaped yet
	id              int32   // id of the command; 0: the target
	block           uint32  // offset of the block with the request for the process
	pid             int32   // written by the kernel at the fork; 0: not started, or reaped
	startFutex      uint32  // 0; pid|futexWaiters once the process leads its group; settled at execve(2) or at the end
	failure         failure // reason why the start has failed; errno 0: none
	dirGone         uint32  // 1: the working directory is gone, so the process runs in an empty one, or has failed
	replacedOutputs uint32  // bits of the outputs that differ from graceful's: replacedStdout, replacedStderr
	endStatus       uint32  // hasEnded|code<<8|status from waitid(2); 0: the guard has recorded no end
	reapRequested   uint32  // request: the guard reaps the ended process
}

// maxSlots is greater than the number of commands of a run, which may all run at once. A new block leaves spareSlots
// unused slots free before it, or all that exist.
const maxSlots, spareSlots = 1<<16 + 8, 256

const hasEnded = 1 << 31

const replacedStdout, replacedStderr = 1, 2

// settled is the bit FUTEX_OWNER_DIED of futex(2). futexWaiters is the bit FUTEX_WAITERS.
const settled, futexWaiters = 0x40000000, 0x80000000

// Operations of futex(2).
const futexWait, futexWake = 0, 1

// blocksSize is the size of the memory for blocks after the board, in bytes. Linux limits the arguments and the
// environment of one program to 6 MiB.
const blocksSize = 64 << 20
