/* SPDX-License-Identifier: MIT */
/*
 * Libraries that are loaded and unloaded while the program runs.
 *
 * The dynamic loader calls an empty function of its own, r_debug.r_brk, whenever it has changed
 * its list of objects, for debuggers to stop at. Its first bytes become a jump to us. So
 * dlopen itself is left alone: it looks at who calls it (RUNPATH, $ORIGIN, namespace),
 * and a function that stands before it would be that caller.
 *
 * When we are called a new library is mapped; no code of it has run, but for functions that
 * choose an implementation (ifunc), in this thread; its constructors come afterwards. So
 * nobody can be in its text, and it is patched as safely as at the start, whatever other
 * threads do. When one was unloaded its entries are told that it is gone.
 *
 * We run with the loader's lock held: nothing here may load, look up a symbol, or wait for a
 * thread that could. Waiting for a map is bounded.
 */
#ifndef AF_PRELOAD_LOADS_H
#define AF_PRELOAD_LOADS_H

#include "record/session.h"

/* From now on. In the constructor, with one thread. `description`: of the session that is begun
   when a library with futures comes, where there is none yet (af_session_describe); else
   NULL. It stays in use. */
void af_loads_watch(const struct af_session *description);

/* This process is about to forbid itself system calls: no more is hooked. Any context. */
void af_loads_confine(void);

#endif
