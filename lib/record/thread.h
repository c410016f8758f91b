/* SPDX-License-Identifier: MIT */
/*
 * The hot path's data: what entry_x86_64.S and thread.c share. The offsets below are the
 * assembly's; thread.c asserts that they are the compiler's too.
 */
#ifndef AF_RECORD_THREAD_H
#define AF_RECORD_THREAD_H

#define AF_THREAD_CURSOR 0
#define AF_THREAD_LIMIT 8
/* A slot is one unless these bits of its address are 0: then it lies where the header of a
   chunk is (chunks and the sink are aligned to their size), so behind the last slot of the one
   before, or nowhere. The address alone decides: whatever a signal handler does in between. */
#define AF_SLOT_MASK 0xffc0
#define AF_GATE_OPEN 16 /* from a thread's `nobody` to its own cursor */

/* A cell, which apply.c writes: where r11 points in it, and how far behind that is the function. */
#define AF_CELL_RESUME 13
#define AF_CELL_ENTER 6

#define AF_HOOK_RESUME 0
#define AF_HOOK_PAYLOAD 8
#define AF_HOOK_SELF 16
#define AF_HOOK_STATE 20
#define AF_HOOK_KIND 24
#define AF_HOOK_TAG 28
#define AF_HOOK_FLAGS 29
#define AF_HOOK_TAG_OFFSET 32
#define AF_HOOK_ROOT_ID 36
#define AF_HOOK_MASK 40
#define AF_HOOK_PENDING 48
#define AF_HOOK_ROOT 48
#define AF_HOOK_SELF_MASK 56

#define AF_HOOK_UNDECIDED 1 /* which register holds self: decided at the first hit */

#define AF_TAG_NONE 0
#define AF_TAG_RAX 1
#define AF_TAG_RDX 2
#define AF_TAG_MEMORY1 3
#define AF_TAG_MEMORY2 4
#define AF_TAG_MEMORY4 5
#define AF_TAG_MEMORY8 6

/* Where the stubs keep the argument registers, from their rbp. */
#define AF_FRAME_HOOK (-8)
#define AF_FRAME_RDI (-16)
#define AF_FRAME_RSI (-24)
#define AF_FRAME_RDX (-32)
#define AF_FRAME_SAVED (-112) /* of functions that wait: see driven.h */

#ifndef __ASSEMBLER__

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "record/session.h"

/* One hooked function. 64 bytes: one cache line. */
struct af_hook {
	const void *resume;  /* its cell's second half, which calls the enter part */
	uint64_t payload;    /* function number << AFR_FUNCTION_SHIFT */
	int32_t self;	     /* frame offset of self: AF_FRAME_RDI or _RSI */
	uint32_t state;	     /* coroutine: offset of `__state`; tokio root: of Header.vtable */
	uint32_t kind;	     /* enum afr_kind of its enter record */
	uint8_t tag;	     /* AF_TAG_*: where Poll's tag is after return */
	uint8_t flags;	     /* AF_HOOK_UNDECIDED */
	uint8_t tag_width;   /* bytes, for the decision */
	uint8_t tries;	     /* decisions that came to nothing */
	uint32_t tag_offset; /* of Poll's tag in the returned value */
	uint32_t root_id;    /* tokio root: offset of Vtable.id_offset; else af_driven_root() */
	uint64_t mask;	     /* (word & mask) == pending: the poll returned Pending */
	union {
		uint64_t pending;
		uint64_t root; /* of a root: af_parked_root(), 0: do not read the task; of a
				  function that waits: its place */
	};
	uint64_t self_mask; /* AFR_SUBJECT_MASK, or 0 where self is unknown */
};

/* A thread's place in its chunk. No destructor, no allocation: a chunk whose thread is
   gone is found by the companion. */
struct af_thread {
	uint64_t nobody[2];	/* cursor and limit while the gate is closed; the limit is 0 */
	uint64_t cursor;	/* next slot; moved by xadd, also by signal handlers */
	uint64_t limit;		/* behind the last slot; 0 before the first chunk */
	struct af_chunk *chunk; /* NULL: none yet, or records go to the sink */
	uint64_t sunk_from;	/* where the cursor started in the sink, 0 if not there */
	uint32_t tid;
	uint32_t number; /* in the session + 1; 0 before the first chunk */
	uint32_t sequence;
	uint32_t generation; /* of the session that `chunk` belongs to */
};

/*
 * What a forked process must not inherit, on a page of its own that the kernel wipes in
 * every process made by fork, _Fork or clone, seen by libc or not (MADV_WIPEONFORK; memory
 * that is shared, as with vfork, is not wiped). The stubs add `shift` to the address of the
 * thread's cursor: in a new process they find `nobody`, which is always at its limit, and
 * the slow path gives the process a session of its own. So it never writes into a chunk of
 * its parent's, at the cost of one addition.
 */
struct af_gate {
	uint64_t shift;		    /* AF_GATE_OPEN, or 0: closed */
	_Atomic uint32_t state;	    /* thread.c's; futex */
	_Atomic uint32_t lock;	    /* preload/own.c's; see lock.h */
	_Atomic uint32_t switching; /* switch.c's; the same */
	char page[4096 - 24];
};
extern struct af_gate af_gate;

/* The stubs: where a patched function's cell jumps to with r10 = its hook, r11 = hook->resume.
   Not to be called from C. See entry_x86_64.S. */
void af_stub_coroutine(void);	     /* `__state` of one byte */
void af_stub_plain(void);	     /* hand-written polls, and roots known by address */
void af_stub_tokio_root(void);	     /* tokio: the task's id is read */
void af_stub_root(void);	     /* another executor's root, whose task can be read */
void af_stub_driven_coroutine(void); /* the same two, of futures that can be read before */
void af_stub_driven_plain(void);
void af_stub_park(void); /* a function that waits */
/* The same, where r10 is not set yet: it becomes af_main_hooks + 2 * r11. */
void af_main_coroutine(void);
void af_main_plain(void);
void af_main_tokio_root(void);
void af_main_root(void);
void af_main_driven_coroutine(void);
void af_main_driven_plain(void);
void af_main_park(void);
extern uint64_t af_main_hooks;
/* What the second half of a cell calls: the enter part of its stub (a root's is the plain one). */
void af_enter_coroutine(void);
void af_enter_plain(void);
void af_enter_tokio_root(void);
void af_enter_park(void);

/* Where the way past a stub leads, with r11 as above, if a forked process has still to record. */
void af_off_forked(void);

/* Starts recording into `session` (mapped, its chunks free). Before any stub can run. */
void af_record_start(struct af_session *session);
/* The session that this process records into; NULL in a forked one that has not recorded
   yet, or cannot. */
struct af_session *af_record_session(void);
/* Of that session: one more in every forked process that records. To be read after it. */
uint32_t af_record_generation(void);
/* In a fork's child, where the kernel may not have wiped the gate (before Linux 4.14). */
void af_record_forked(void);

/* The calling thread is about to forbid itself system calls: what will be needed is made now,
   and from here on only futex and rt_sigprocmask are called. Any thread, any context. */
void af_record_confine(void);

/* Gives a forked process its own session, or NULL, at the first record in it. Called with
   all signals blocked, by any thread, in any context, once per process: no libc, no vector
   register. The parent's session is still mapped; the callee unmaps it. Set before
   af_record_start. */
extern struct af_session *(*af_record_fork)(struct af_session *parents);

/* Drains, where the companion is gone: then no thread waits for it. False if it works on,
   or nobody can drain. Called with all signals blocked; as bare as af_record_fork. */
extern bool (*af_record_drain)(struct af_session *session);

/* Decides at a function's first hit which register holds self (facts: a size of the
   return value between 9 and 16 bytes does not tell): set by the patcher, called by the
   slow path of the stubs with the registers as they were at entry. */
extern void (*af_record_decide)(struct af_hook *hook, uint64_t rdi, uint64_t rsi, uint64_t rdx);

/* The time of the hot path: the counter at session start. */
extern uint64_t af_record_base;

/* For what records from C (parked.c): a slot of this thread's chunk, in which word0 has to be
   written last. */
struct afr_record *af_record_slot(void);
/* Gives this thread a chunk where it has none, or its is full. */
void af_record_refill(void);

extern __thread struct af_thread af_thread __attribute__((tls_model("initial-exec")));

#endif
#endif
