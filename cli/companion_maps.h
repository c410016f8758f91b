/* SPDX-License-Identifier: MIT */
/*
 * The maps that a companion's host wants: found in the cache or made. Those that are wanted at
 * the start are made while the host waits; one of a library that is loaded later, by a
 * process of its own, so that the draining goes on.
 */
#ifndef AF_CLI_COMPANION_MAPS_H
#define AF_CLI_COMPANION_MAPS_H

#include <stdbool.h>
#include <sys/types.h>

#include "futuremap/futuremap.h"
#include "record/session.h"

struct companion_maps {
	struct af_session *session;
	struct af_futuremap maps[AF_OBJECTS]; /* by number; header NULL: none */
	char message[512];		      /* why the executable has none, "" */
	/* The one that is being made: */
	int working; /* a pipe that ends when it is done; -1: none is */
	int memory;  /* where it comes */
	pid_t worker;
	uint32_t number;
};

void companion_maps_init(struct companion_maps *maps, struct af_session *session);
/* Everything that is in the list: how many there are to be traced. */
unsigned companion_maps_settle(struct companion_maps *maps);
/* What has come into the list since: goes on with it, and comes back at once. */
void companion_maps_look(struct companion_maps *maps);

#endif
