#include "textflag.h"

// func onSignal()
// The kernel calls it as a function of C: the signal's number is in R0. It need not preserve registers: the kernel
// restores all of them. It returns to the restorer or to the vdso(7), which call rt_sigreturn(2).
TEXT ·onSignal(SB),NOSPLIT|NOFRAME,$0
	SUBW	$1, R0
	MOVD	$1, R1
	LSL	R0, R1
	MOVD	$·arrived(SB), R2
again:
	LDAXR	(R2), R3
	ORR	R1, R3
	STLXR	R3, (R2), R4
	CBNZW	R4, again
	MOVD	$3, R5 // tries
try:
	MOVW	·wakeFD(SB), R0
	MOVD	$·one(SB), R1
	MOVD	$8, R2
	MOVD	$64, R8 // write(2)
	SVC
	CMP	$0, R0
	BGE	done
	SUBS	$1, R5
	BNE	try
done:
	RET

// func handlerAddress() uintptr
TEXT ·handlerAddress(SB),NOSPLIT,$0-8
	MOVD	$·onSignal(SB), R0
	MOVD	R0, ret+0(FP)
	RET
