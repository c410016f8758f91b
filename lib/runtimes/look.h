/* SPDX-License-Identifier: MIT */
/*
 * A look at where every task of a recorded process stands, for its trace: the block of
 * AFR_B_LOOK (record/rawtrace.h). The same reading as that of `dump`: nothing is stopped, and what
 * is told of one task belongs together.
 */
#ifndef AF_RUNTIMES_LOOK_H
#define AF_RUNTIMES_LOOK_H

#include "analysis/text.h"
#include "base/error.h"
#include "futuremap/futuremap.h"
#include "record/session.h"

struct af_look_block {
	const void *data; /* aligned to 8 */
	size_t size;
};

/*
 * Looks at the session's host, by `maps`, AF_OBJECTS of them by the objects' numbers (some have no
 * header), and appends the block's bytes to `block`. What could be read before the host went away is
 * in it, or within 0.3 seconds of the calling process's own time. `before`: the block of an earlier
 * look, or empty.
 */
struct af_error *af_look(const struct af_session *session, const struct af_futuremap *maps,
			 const struct af_look_block *before, struct af_text *block) af_must_check;

#endif
