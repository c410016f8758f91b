/* SPDX-License-Identifier: MIT */
/*
 * A process that is looked into: alive, or as a core file left it. What is mapped where, what
 * its memory holds, which threads it has.
 *
 * Nothing here stops, changes or runs anything in the process. A live process goes on while
 * it is read, so two reads may show two moments; freeze.h and snapshot.h are about that.
 * Everything that is read is taken to be hostile: sizes are limited, text is escaped by who
 * prints it. One thread at a time.
 */
#ifndef AF_RUNTIMES_PROCESS_H
#define AF_RUNTIMES_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "analysis/text.h"
#include "analysis/vector.h"
#include "base/error.h"
#include "inspect/core.h"
#include "inspect/target.h"

/* One line of /proc/PID/maps, or one loaded segment of a core. */
struct af_mapping {
	uint64_t start, end; /* addresses; end is the first behind it */
	uint64_t offset;     /* of `start` in the file, bytes */
	uint64_t present;    /* bytes from `start` on that can be read: of a core not all */
	const char *path;    /* NULL: of no file; "[heap]" and the like as the kernel says */
	bool readable, writable, executable, shared, deleted;
};

/* Registers by their DWARF number (System V ABI, AMD64, figure 3.36): 6 rbp, 7 rsp, 16 the
   address of the next instruction. */
#define AF_REGISTERS 17
#define AF_REGISTER_SP 7
#define AF_REGISTER_PC 16

struct af_process_thread {
	pid_t tid;
	char name[16];	/* "" in a core: the kernel does not keep it */
	uint32_t known; /* bit n: registers[n] is known */
	uint64_t registers[AF_REGISTERS];
};

/* A file that is mapped with code in it: the executable or a shared object. */
struct af_module {
	const char *path;	 /* as the process knows it */
	uint64_t start, end;	 /* from its first to its last mapping */
	uint64_t text, text_end; /* what of it is code */
	uint64_t bias;		 /* run-time address minus link-time address */
	bool executable;	 /* the program itself */
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t build_id_size;
	char *file;	  /* how we can open it; NULL: not known */
	uint32_t verdict; /* enum afm_verdict; 0: was not looked at, or failed */
	uint32_t image;	  /* index in target.images, or AFM_NONE: it has no map */
};

#define AF_LINE 16384u /* bytes: in such pieces memory is noted */

/* Memory as it was while the process was stopped. */
struct af_copy {
	uint64_t address, size;
	uint8_t *data;
};

struct af_process {
	pid_t pid;	  /* 0 where a core does not say */
	const char *core; /* path of the core; NULL: alive */
	char *executable; /* path of the program, as the process knows it; may be NULL */
	VECTOR(struct af_mapping) mappings;	  /* by address, none overlaps another */
	VECTOR(struct af_module) modules;	  /* the executable first */
	VECTOR(struct af_image) images;		  /* maps of modules */
	VECTOR(struct af_process_thread) threads; /* by tid */
	VECTOR(char *) notes;	 /* what could not be seen, one line each, for people */
	struct af_memory memory; /* reads as af_process_read_all does */
	uint64_t stood_still;	 /* ns for which it was stopped; freeze.h */
	uint64_t stood_at;	 /* CLOCK_MONOTONIC, ns, when all of it stood; 0: never */

	/* private */
	int mem, directory;   /* live: /proc/PID/mem (bound to this memory, not to the pid) */
	uint64_t started;     /* live: field 22 of /proc/PID/stat */
	bool no_vm_readv;     /* process_vm_readv is refused here */
	VECTOR(char *) texts; /* live: paths of mappings lie in here */
	struct af_core file;
	VECTOR(struct af_copy) copies, copying; /* freeze.c: by address */
	bool rehearsing; /* what is read is noted: lines of AF_LINE bytes, once each */
	VECTOR(uint64_t) touched;
	struct af_map is_touched;
	uint8_t *arena;
	uint64_t arena_size;
};

/*
 * Opens process `pid` (a thread's id means its process). An error says what is wrong and what
 * would mend it: no such process, not permitted, another architecture, a zombie.
 */
struct af_error *af_process_open_live(struct af_process *process, pid_t pid) af_must_check;
/* The same from a core file. What a core that is cut off lacks is in `notes`. */
struct af_error *af_process_open_core(struct af_process *process, const char *path) af_must_check;
/* Lets go of everything. Accepts a zeroed one. */
void af_process_close(struct af_process *process);

/* Whether `number` is its pid, here or in the namespace that it is in. */
bool af_process_has_number(struct af_process *process, uint32_t number);

/* Reads up to `size` bytes at `address`: how many could be read, from the first on. */
size_t af_process_read(struct af_process *process, uint64_t address, void *to, size_t size);
static inline bool af_process_read_all(struct af_process *process, uint64_t address, void *to,
				       size_t size)
{
	return af_process_read(process, address, to, size) == size;
}

/* One piece of a batch. */
struct af_piece {
	uint64_t address;
	void *to;
	size_t size;
	bool read; /* set: all of it was read */
};
/* Reads pieces in order, many with one call to the kernel. Next to each other in `pieces` is
   next to each other in time. */
void af_process_read_pieces(struct af_process *process, struct af_piece *pieces, size_t n);

/* The mapping that holds `address`, or NULL. */
const struct af_mapping *af_process_mapping(const struct af_process *process, uint64_t address);
/* The module that holds `address`, or NULL. */
struct af_module *af_process_module(struct af_process *process, uint64_t address);
/* Its memory and its maps, as inspect wants them. `memory` NULL: the process's own. */
struct af_target af_process_target(struct af_process *process, struct af_memory *memory);

/* Live: the threads there are now, with what can be known of their registers without
   stopping them: sp and pc of those that are in a system call. */
void af_process_list_threads(struct af_process *process);
/* Live, not frozen: reads where the thread is now. */
void af_process_read_thread(struct af_process *process, struct af_process_thread *thread);
/* Whether it is elsewhere than `thread` says. */
bool af_process_thread_moved(struct af_process *process, const struct af_process_thread *thread);
/* Live: how often a thread has been switched away from a processor so far; 0: not known. One that
   slept at two moments, and was not switched in between, has not run. */
uint64_t af_process_thread_switches(struct af_process *process, pid_t tid);
/* Live: reads mappings and threads anew. */
struct af_error *af_process_refresh(struct af_process *process) af_must_check;
/* NULL while the process that was opened is still there and still runs the same program. */
struct af_error *af_process_still_there(struct af_process *process) af_must_check;

/* Adds a line to `notes`. */
void af_process_note(struct af_process *process, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
