/* SPDX-License-Identifier: MIT */
/*
 * What a type is to a walk: a future (a node), something between futures that is followed, or
 * neither. Found from the map's kinds and from names, since what a Vec or a FuturesUnordered
 * holds is behind untyped or raw pointers, which nobody may follow without knowing whose they
 * are. Names only: where the fields lie, the map says.
 */
#ifndef AF_INSPECT_SHAPE_H
#define AF_INSPECT_SHAPE_H

#include "inspect/await_tree.h"

enum af_shape {
	AF_SHAPE_UNSEEN = 0,
	AF_SHAPE_NOTHING, /* no future in it: number, text, runtime, waker */
	/* Futures. */
	AF_SHAPE_COROUTINE,
	AF_SHAPE_HAND,
	AF_SHAPE_POLL_FN, /* poll_fn(closure): what join! and select! become */
	AF_SHAPE_LEAF,	  /* waits for what af_shape_wait says; no futures of the user's below */
	AF_SHAPE_JOIN_HANDLE, /* of tokio: the task's header is in `raw` */
	AF_SHAPE_TASK,	      /* of async-task: in `ptr` */
	/* Between futures. */
	AF_SHAPE_FIELDS,     /* struct, enum: whatever reaches a future in the active variant */
	AF_SHAPE_MAYBE_DONE, /* the like, but what is done is shown as done */
	AF_SHAPE_ORDERED,    /* {data, index} */
	AF_SHAPE_POINTER,    /* &, &mut, Box */
	AF_SHAPE_DYN,	     /* the same, with a vtable */
	AF_SHAPE_FUTURE_OBJ, /* futures' box by hand: a raw `dyn Future` in `future` */
	AF_SHAPE_ARRAY,
	AF_SHAPE_SLICE, /* {data_ptr, length} */
	AF_SHAPE_VEC,
	AF_SHAPE_DEQUE,
	AF_SHAPE_ARC, /* Arc and Rc */
	AF_SHAPE_FUTURES_UNORDERED,
	AF_SHAPE_JOIN_SET,
};

/* Kept in the image's `shapes`, if it has some. */
enum af_shape af_shape_of(const struct af_target *target, uint32_t image, uint32_t type);
/* What a future of this type waits for if nothing is below it. */
enum af_wait af_shape_wait(const struct af_target *target, uint32_t image, uint32_t type);
/* The same, but only where its own name says so: then it holds for what is below as well. */
enum af_wait af_shape_own_wait(const struct af_target *target, uint32_t image, uint32_t type);

static inline bool af_shape_is_node(enum af_shape shape)
{
	return shape >= AF_SHAPE_COROUTINE && shape <= AF_SHAPE_TASK;
}

#endif
