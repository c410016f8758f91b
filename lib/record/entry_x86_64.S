/* SPDX-License-Identifier: MIT */
/*
 * Enter and exit: what every poll runs through.
 *
 * A patched function jumps to its cell, which loads r11 with the address of its second half and
 * jumps to one of the stubs here, or to an af_main_ entry before it, which finds the hook, r10, by
 * r11; where there are several tables of hooks this is done before. The stub makes a frame and calls that
 * second half. It calls the enter part of the stub, which opens the span and returns to the
 * displaced prologue, which runs on into the function; this returns to the stub, which closes the
 * span and returns: call-wrap. It is a frame like any other, with its own unwinding rows, in the
 * text of this library, so no unwinder has to be told of generated code; return addresses of the
 * function's own never point into it.
 *
 * The call through r11 is one for all functions and often predicted wrongly. So it comes first,
 * where little has been fetched yet that would be in vain; behind the time stamp, whose microcode keeps
 * what follows from being fetched, it costs half as much again. The cell's own call and the return
 * from the enter part are predicted.
 *
 *     rbp + 8   return address          rbp - 16  rdi
 *     rbp       caller's rbp            rbp - 24  rsi
 *     rbp - 8   r10: struct af_hook *   rbp - 32  rdx     (rsp: 16-aligned for the call)
 *
 * At entry rdi, rsi, rdx, rcx, r8, r9 and the vector registers are the poll's; rax, r10,
 * r11 and the flags are free (psABI x86-64). After the call rax, rdx, rcx, xmm0 and xmm1
 * hold the result; rdi, rsi, r8 to r11 are free.
 *
 * Slots are taken by one xadd without a lock prefix: only a signal handler of the same
 * thread can come between, and it cannot split an instruction. word0 is stored last; x86
 * keeps the order of stores, so whoever sees it sees word1.
 */
#include "record/thread.h"

#define KIND_ENTER 1
#define KIND_ENTER_TASK 3
#define KIND_EXIT_STATE 5
#define KIND_EXIT_POLL 6
#define KIND_UNWIND 7

	.text

.macro begin_stub name main personality=af_stub_personality
	.globl	\main
	.hidden	\main
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.p2align 6
\main:
	.cfi_startproc
	.cfi_personality 0x1b, \personality
	movq	af_main_hooks(%rip), %r10
	leaq	(%r10,%r11,2), %r10
\name:
	pushq	%rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	pushq	%r10
	pushq	%rdi
	pushq	%rsi
	pushq	%rdx
.endm

.macro end_stub name
	.cfi_endproc
	.size	\name, . - \name
.endm

/* r11 = a slot. Clobbers \scratch. The slow path keeps every register. */
.macro take_slot scratch
.Lagain\@:
	movq	af_thread@gottpoff(%rip), \scratch
	addq	af_gate(%rip), \scratch	/* 0 in a process that was just forked */
	movl	$16, %r11d
	xaddq	%r11, %fs:AF_THREAD_CURSOR(\scratch)
	testl	$AF_SLOT_MASK, %r11d
	jnz	.Lhave\@
	call	af_refill
	jmp	.Lagain\@
.Lhave\@:
.endm

/* rax = ticks << 8. Clobbers rdx. */
.macro read_ticks
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	subq	af_record_base(%rip), %rax
	shlq	$8, %rax
.endm

/* Calls the function. After it: its result in rdi and rsi, the hook in r10, the slot of the exit
   record in r11, the time in r9. */
.macro call_function
	call	*%r11
	movq	%rax, %rdi
	movq	%rdx, %rsi
	movq	AF_FRAME_HOOK(%rbp), %r10
	take_slot %r8			/* before the time: see af_chunk.taken */
	read_ticks
	movq	%rax, %r9
.endm

/* The enter part, which the cell calls: within the stub's frame, whose rows hold here too, though
   two return addresses lie below it. */
.macro begin_enter name
	.globl	\name
	.hidden	\name
	.p2align 6
\name:
	take_slot %rax
.endm

/* Commits the enter record (word1 in rdx, kind in r10) and goes on into the function. */
.macro end_enter
	movq	%rdx, 8(%r11)
	read_ticks
	orq	%r10, %rax
	movq	%rax, (%r11)
	movq	AF_FRAME_RDX(%rbp), %rdx
	ret
.endm

/* Commits the exit record: word1 in rax, kind in \kind, ticks in r9; returns. */
.macro exit_and_return kind
	orq	AF_HOOK_PAYLOAD(%r10), %rax
	movq	%rax, 8(%r11)
	orq	$\kind, %r9
	movq	%r9, (%r11)
	movq	%rdi, %rax
	movq	%rsi, %rdx
	leave
	.cfi_def_cfa %rsp, 8
	ret
.endm

/* A coroutine: its `__state` says at entry whether this is its first poll, and after
   return whether it is done or where it is parked. */
begin_stub af_stub_coroutine af_main_coroutine
.Lcoroutine:
	testb	$AF_HOOK_UNDECIDED, AF_HOOK_FLAGS(%r10)
	jnz	2f
1:	call_function
	movslq	AF_HOOK_SELF(%r10), %rax
	movq	(%rbp,%rax), %rax
	movl	AF_HOOK_STATE(%r10), %edx
	movzbl	(%rax,%rdx), %eax
	.cfi_remember_state
	exit_and_return KIND_EXIT_STATE
	.cfi_restore_state
2:	call	af_decide
	/* Still unknown: its state cannot be read; the plain stub knows what to do. */
	testb	$AF_HOOK_UNDECIDED, AF_HOOK_FLAGS(%r10)
	jz	1b
	jmp	.Lplain_decided
begin_enter af_enter_coroutine
	movslq	AF_HOOK_SELF(%r10), %rax
	movq	(%rbp,%rax), %rax
	movl	AF_HOOK_STATE(%r10), %edx
	cmpb	$1, (%rax,%rdx)			/* carry: state 0, Unresumed */
	movq	AF_HOOK_PAYLOAD(%r10), %rdx
	movl	$KIND_ENTER, %r10d
	adcl	$0, %r10d			/* AFR_ENTER_NEW */
	orq	%rax, %rdx
	end_enter
end_stub af_stub_coroutine

/* A hand-written poll, or a root known by its address: the tag of the returned Poll says
   how it ended. */
begin_stub af_stub_plain af_main_plain
.Lplain:
	testb	$AF_HOOK_UNDECIDED, AF_HOOK_FLAGS(%r10)
	jnz	2f
.Lplain_decided:
	call_function
	movzbl	AF_HOOK_TAG(%r10), %edx
	movq	%rdi, %rax
	cmpl	$AF_TAG_RDX, %edx
	jb	3f				/* none or rax */
	movq	%rsi, %rax
	je	4f
	movl	AF_HOOK_TAG_OFFSET(%r10), %eax
	addq	AF_FRAME_RDI(%rbp), %rax	/* the caller's place for the result */
	cmpl	$AF_TAG_MEMORY2, %edx
	jb	5f
	je	6f
	cmpl	$AF_TAG_MEMORY8, %edx
	je	7f
	movl	(%rax), %eax
	jmp	4f
5:	movzbl	(%rax), %eax
	jmp	4f
6:	movzwl	(%rax), %eax
	jmp	4f
7:	movq	(%rax), %rax
	jmp	4f
3:	testl	%edx, %edx
	jnz	4f
	xorl	%eax, %eax			/* AFR_UNKNOWN */
	jmp	8f
4:	andq	AF_HOOK_MASK(%r10), %rax
	cmpq	AF_HOOK_PENDING(%r10), %rax
	sete	%al
	movzbl	%al, %eax
	incl	%eax				/* AFR_READY or AFR_PENDING */
8:	.cfi_remember_state
	exit_and_return KIND_EXIT_POLL
	.cfi_restore_state
2:	call	af_decide
	jmp	.Lplain_decided
begin_enter af_enter_plain
	movslq	AF_HOOK_SELF(%r10), %rax
	movq	(%rbp,%rax), %rdx
	andq	AF_HOOK_SELF_MASK(%r10), %rdx
	orq	AF_HOOK_PAYLOAD(%r10), %rdx
	movl	AF_HOOK_KIND(%r10), %r10d
	end_enter
end_stub af_stub_plain

/* Where the task was parked until now: a root takes one argument, in rdi, so that the C
   function may use the other registers. The vector ones it leaves alone. */
.macro read_parked
	cmpq	$0, AF_HOOK_ROOT(%r10)
	je	.Lread\@
	movq	%r10, %rsi
	call	af_parked_record
	movq	AF_FRAME_HOOK(%rbp), %r10
	movq	AF_FRAME_RDI(%rbp), %rdi
	movq	AF_HOOK_RESUME(%r10), %r11
.Lread\@:
.endm

/* tokio::runtime::task::raw::poll(ptr: NonNull<Header>): the task's id lies at
   Header + (*Header.vtable).id_offset. Read at entry, where the caller's reference keeps
   the task; never after, when it may be gone. */
begin_stub af_stub_tokio_root af_main_tokio_root
	read_parked
	call_function
	xorl	%eax, %eax
	.cfi_remember_state
	exit_and_return KIND_EXIT_POLL
	.cfi_restore_state
begin_enter af_enter_tokio_root
	movl	AF_HOOK_STATE(%r10), %eax
	movq	(%rdi,%rax), %rax		/* vtable */
	movl	AF_HOOK_ROOT_ID(%r10), %edx
	movq	(%rax,%rdx), %rax		/* id_offset */
	movq	(%rdi,%rax), %rdx		/* id */
	andq	AF_HOOK_SELF_MASK(%r10), %rdx
	orq	AF_HOOK_PAYLOAD(%r10), %rdx
	movl	$KIND_ENTER_TASK, %r10d
	end_enter
end_stub af_stub_tokio_root

/* async-task's run(ptr): a task that is known by its address. Enters as a plain one. */
begin_stub af_stub_root af_main_root
	read_parked
	jmp	.Lplain_decided
end_stub af_stub_root

/* Off, since the file is full, in a process that was forked since: it has a file of its own. The
   cell leads to its stub when it is gone through again. */
	.globl	af_off_forked
	.hidden	af_off_forked
	.type	af_off_forked, @function
	.p2align 4
af_off_forked:
	.cfi_startproc
	subq	$8, %rsp
	.cfi_def_cfa_offset 16
	call	af_refill
	addq	$8, %rsp
	.cfi_def_cfa_offset 8
	subq	$AF_CELL_RESUME, %r11
	jmp	*%r11
	.cfi_endproc
	.size	af_off_forked, . - af_off_forked

/* Where a future that a driver polls was parked until now. Any poll: the registers of its arguments
   are kept. */
.macro read_driven
	testb	$AF_HOOK_UNDECIDED, AF_HOOK_FLAGS(%r10)
	jnz	.Lunread\@
	pushq	%rcx
	pushq	%r8
	pushq	%r9
	pushq	%r11
	movslq	AF_HOOK_SELF(%r10), %rax
	movq	(%rbp,%rax), %rdi
	movq	%r10, %rsi
	call	af_driven_poll
	popq	%r11
	popq	%r9
	popq	%r8
	popq	%rcx
	movq	AF_FRAME_RDX(%rbp), %rdx
	movq	AF_FRAME_RSI(%rbp), %rsi
	movq	AF_FRAME_RDI(%rbp), %rdi
	movq	AF_FRAME_HOOK(%rbp), %r10
.Lunread\@:
.endm

begin_stub af_stub_driven_coroutine af_main_driven_coroutine
	read_driven
	jmp	.Lcoroutine
end_stub af_stub_driven_coroutine

begin_stub af_stub_driven_plain af_main_driven_plain
	read_driven
	jmp	.Lplain
end_stub af_stub_driven_plain

/* A function that waits: nothing is recorded of it, but of the future that its caller drives, if
   it does. Instead of rdi the frame then holds that future's address. */
begin_stub af_stub_park af_main_park af_park_personality
	pushq	%rcx
	pushq	%r8
	pushq	%r9
	pushq	%r11
	pushq	%r15
	pushq	%r14
	pushq	%r13
	pushq	%r12
	pushq	%rbx
	pushq	%rax			/* to align */
	/* Of waiting threads only rsp is known from outside, and callees need not keep rbp in
	   memory. */
	.cfi_def_cfa %rsp, 16-AF_FRAME_SAVED
	movq	%r10, %rdi
	movq	%rsp, %rsi
	movq	%rbp, %rdx
	call	af_driven_wait
	movq	AF_FRAME_SAVED+48(%rbp), %r11
	movq	AF_FRAME_SAVED+56(%rbp), %r9
	movq	AF_FRAME_SAVED+64(%rbp), %r8
	movq	AF_FRAME_SAVED+72(%rbp), %rcx
	movq	AF_FRAME_RDX(%rbp), %rdx
	movq	AF_FRAME_RSI(%rbp), %rsi
	movq	AF_FRAME_RDI(%rbp), %rdi
	movq	%rax, AF_FRAME_RDI(%rbp)
	xorl	%eax, %eax
	call	*%r11
	.cfi_def_cfa %rbp, 16
	cmpq	$0, AF_FRAME_RDI(%rbp)
	je	1f
	pushq	%rax
	pushq	%rdx
	movq	AF_FRAME_RDI(%rbp), %rdi
	leaq	AF_FRAME_SAVED(%rbp), %rsi
	call	af_driven_waited
	popq	%rdx
	popq	%rax
1:	.cfi_remember_state
	leave
	.cfi_def_cfa %rsp, 8
	ret
	.cfi_restore_state
	.globl	af_enter_park
	.hidden	af_enter_park
	.p2align 4
af_enter_park:
	ret
end_stub af_stub_park

/* The slow paths keep every register but flags; their C parts use no vector registers
   (-mgeneral-regs-only). Called with rsp 16-aligned. */
.macro save_all
	.cfi_startproc
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	.cfi_def_cfa_offset 80
.endm
.macro restore_all
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
.endm

	.type	af_refill, @function
af_refill:
	save_all
	call	af_record_refill
	restore_all
	.size	af_refill, . - af_refill

	.type	af_decide, @function
af_decide:
	save_all
	movq	%r10, %rdi
	movq	AF_FRAME_RDX(%rbp), %rcx
	movq	AF_FRAME_RSI(%rbp), %rdx
	movq	AF_FRAME_RDI(%rbp), %rsi
	call	*af_record_decide(%rip)
	restore_all
	.size	af_decide, . - af_decide

/* From the personality: writes AFR_UNWIND for the hook in rdi. */
	.globl	af_record_unwind
	.hidden	af_record_unwind
	.type	af_record_unwind, @function
	.p2align 4
af_record_unwind:
	.cfi_startproc
	subq	$8, %rsp
	.cfi_def_cfa_offset 16
	take_slot %rax
	movq	AF_HOOK_PAYLOAD(%rdi), %rax
	movq	%rax, 8(%r11)
	read_ticks
	orq	$KIND_UNWIND, %rax
	movq	%rax, (%r11)
	addq	$8, %rsp
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.size	af_record_unwind, . - af_record_unwind

	.section .note.GNU-stack, "", @progbits
