/* SPDX-License-Identifier: MIT */
/*
 * Small types and memory for tests of await trees. A coroutine has its state in byte 0 and its
 * awaitee at 8; a leaf is a hand-written future of eight bytes. All lies in `heap`.
 *
 * A type's fields are made one after the other: what they are of is made before.
 */
#ifndef AF_TESTS_TREE_MAKER_H
#define AF_TESTS_TREE_MAKER_H

#include "inspect/task.h"
#include "map_maker.h"

#define HEAP UINT64_C(0x10000) /* where it lies */
#define HEAP_WORDS 4096
#define BIAS UINT64_C(0x500000) /* of the image */
#define SUSPENDED 3		/* the first await of a coroutine */

extern struct map_maker maker;
#define m (&maker)
extern uint64_t heap[HEAP_WORDS];
extern struct af_image image;
extern struct af_target target;
extern struct af_await_tree tree; /* of 256 nodes, made anew for each test */
extern uint64_t block[1 << 16];	  /* its storage */
extern uint32_t u8_type, u64_type, bool_type, leaf;

/* Empties all of it. */
int set_up(void **state);

uint32_t hand(const char *name, uint64_t size); /* a hand-written future */
uint32_t structure(const char *name, uint64_t size);
uint32_t wrap(const char *name, const char *field, uint32_t of);    /* of the same size */
uint32_t reference(uint32_t to);				    /* &mut */
uint32_t boxed(uint32_t of);					    /* Pin<Box<T>> */
uint32_t coroutine(const char *name, uint64_t size);		    /* without awaits so far */
void suspend(uint32_t coroutine, uint64_t state);		    /* one more of them */
void awaits(uint32_t coroutine, uint32_t awaitee, uint64_t offset); /* ... and what it awaits */
uint32_t awaiting(const char *name, uint32_t awaitee);		    /* a coroutine of one await */
uint32_t maybe_done(uint32_t of); /* tag in the first word, value in the next */
uint32_t optional(uint32_t of);	  /* the same */
uint32_t vec(uint32_t of);	  /* capacity, pointer, length */
uint32_t poll_fn(uint32_t closure);
uint32_t arc(uint32_t of);

/* The address of a word of the heap. */
uint64_t at(size_t word);
/* Reads the future at a word of the heap into `tree`. */
bool read_at(uint32_t type, size_t word);
/* The same, as text: "type:status[children]". */
const char *show(uint32_t type, size_t word);

#endif
