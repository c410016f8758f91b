/* SPDX-License-Identifier: MIT */
/*
 * A task in memory: header, state word, and where in it its future lies. For tokio and
 * async-task, by what the map found in debug info (afm_root).
 */
#ifndef AF_INSPECT_TASK_H
#define AF_INSPECT_TASK_H

#include "inspect/await_tree.h"

enum af_task_state {
	AF_TASK_INVALID = 0, /* no task of this root lies there */
	AF_TASK_UNREADABLE,
	AF_TASK_IDLE,	   /* parked: waits to be woken */
	AF_TASK_SCHEDULED, /* woken, waits for its turn; still shows where it was parked */
	AF_TASK_RUNNING,   /* is being polled now: what its memory shows is not to be trusted */
	AF_TASK_DONE,	   /* its future has ended; the output may still be there */
	AF_TASK_CANCELLED, /* its future is dropped, or about to be */
};

struct af_task {
	uint64_t header; /* address */
	uint32_t image;	 /* and the root of its map: */
	uint32_t root;	 /* index in `roots` */
	enum af_task_state state;
	uint64_t state_word;  /* as read: compare before and after */
	uint64_t references;  /* to the header */
	uint64_t future;      /* address of the future; 0 unless idle, scheduled or running */
	uint32_t future_type; /* its type, or AFM_NONE */
	bool has_id;
	uint64_t id; /* tokio's task::Id */
};

/*
 * Reads the task of root `root` of image `image` whose header is at `header`. False if it is
 * invalid or unreadable (task->state says which). Checks what can be checked: the header's
 * vtable, the state word, the stage's variant.
 */
bool af_task_read(const struct af_target *target, uint32_t image, uint32_t root, uint64_t header,
		  struct af_task *task);

/*
 * The same, and its await tree. For a task that is idle or scheduled the tree is read, and the
 * state word once more: false if it changed meanwhile (then read again, or give up). For one
 * that is running, done or cancelled the tree has a root without children.
 *
 * A reader that keeps what it has read sees no change. With a process that runs: read a batch
 * of tasks, af_memory_forget(), read them again, and believe those whose state_word and
 * tree->identity are the same. (A task that moved and came back to the same places and states
 * stands there now.)
 */
bool af_task_read_tree(const struct af_target *target, uint32_t image, uint32_t root,
		       uint64_t header, struct af_task *task, struct af_await_tree *tree);

/* The root whose function is at run-time address `poll` (what a tokio vtable's `poll`, an
   async-task vtable's `run` holds): index in the image's `roots`, or AFM_NONE. */
uint32_t af_task_root_by_poll(const struct af_target *target, uint64_t poll, uint32_t *image);

/* Whether the tokio task at `header`, of the tokio that image `image` has linked, is a closure
   on the blocking pool (spawn_blocking). */
bool af_task_is_blocking(const struct af_target *target, uint32_t image, uint64_t header);

#endif
