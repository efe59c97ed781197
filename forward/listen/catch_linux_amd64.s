#include "textflag.h"

// func onSignal()
// The kernel calls it as a function of C: the signal's number is in DI. It need not preserve registers: the kernel
// restores all of them. It returns to the restorer, which calls rt_sigreturn(2).
TEXT ·onSignal(SB),NOSPLIT|NOFRAME,$0
	DECL	DI
	LOCK
	BTSQ	DI, ·arrived(SB)
	MOVL	$3, R8 // tries
try:
	MOVL	·wakeFD(SB), DI
	LEAQ	·one(SB), SI
	MOVL	$8, DX
	MOVL	$1, AX // write(2)
	SYSCALL
	TESTQ	AX, AX
	JGE	done
	DECL	R8
	JNZ	try
done:
	RET

// func handlerAddress() uintptr
TEXT ·handlerAddress(SB),NOSPLIT,$0-8
	LEAQ	·onSignal(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
