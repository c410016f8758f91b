/* SPDX-License-Identifier: MIT */
/*
 * The flight recorder: the newest records are kept in memory, and written out as a trace when
 * somebody asks: SIGUSR2 to the wrapper or to the companion, asyncflame_snapshot() in the
 * program, a poll that is slower than --slow-poll. At the program's end the last of them is
 * its trace. In the companion, one thread; traces are made by a child of it, so that
 * draining goes on.
 */
#ifndef AF_CLI_FLIGHT_H
#define AF_CLI_FLIGHT_H

#include "look.h"
#include "slow_polls.h"

struct flight {
	struct af_writer *writer;
	const struct look *look; /* what it has seen is in snapshots too */
	struct af_session *session;
	const char *output;	/* snapshot 1 of out.json is out.1.json */
	struct slow_polls slow; /* if session->slow_poll */
	uint32_t snapshots, by_slow_polls;
	uint32_t wanted;    /* of session->wanted, served */
	int64_t asked;	    /* ns: when the wrapper was asked last */
	uint64_t next_slow; /* ms: from when on slow polls count again */
};

/* `output`, `look` and `maps`, by object, must outlive it. Catches SIGUSR2. */
void flight_init(struct flight *flight, struct af_writer *writer, const struct look *look,
		 const struct af_futuremap *maps, const char *output);
/* Writes a snapshot if there is reason to. Before each draining. */
void flight_look(struct flight *flight);
/* Waits for the traces that are being made. */
void flight_finish(struct flight *flight);

/* A file like `output` with `middle` before its suffix: out.json, 1 -> out.1.json. */
void flight_name(char *name, size_t size, const char *output, const char *middle);

#endif
