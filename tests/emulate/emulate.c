/* SPDX-License-Identifier: MIT */
/*
 * Runs what a patch displaces, as it was and relocated, on random states, and compares.
 *
 *   emulate [-e EVERY] [-n STATES] [-s SEED] [-p] OBJECT    functions of its symbol table
 *   emulate -r COUNT [-n STATES] [-s SEED]                  random bytes instead
 *
 * Writes one JSON object of counts; what differs goes to stderr, and the status is 1. -p also
 * writes "ENTRY ADDRESS REPLACED" for each site that was accepted, before the counts.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "subject.h"

static void report(const struct counts *c)
{
	printf("{\"functions\": %lu, \"accepted\": %lu, \"near\": %lu, \"short\": %lu, "
	       "\"compared\": %lu, \"no_access\": %lu, \"not_emulated\": %lu, \"unsteady\": %lu, "
	       "\"calls\": %lu, \"jumps\": %lu, \"conditional\": %lu, \"relative\": %lu, "
	       "\"differences\": %lu, \"refused\": {",
	       c->functions, c->accepted, c->near, c->brief, c->compared, c->faulted, c->unknown,
	       c->unsteady, c->calls, c->jumps, c->conditional, c->relative, c->differences);
	const char *comma = "";
	for (int i = 0; i < AF_REFUSAL_COUNT; i++) {
		if (!c->refused[i])
			continue;
		printf("%s\"%s\": %lu", comma, af_refusal_text(i), c->refused[i]);
		comma = ", ";
	}
	puts("}}");
}

int main(int argc, char **argv)
{
	struct subject s = {.states = 3};
	uint64_t random = 0;
	unsigned every = 1;
	int option;

	while ((option = getopt(argc, argv, "e:n:s:r:p")) != -1) {
		switch (option) {
		case 'e':
			every = strtoul(optarg, NULL, 0);
			break;
		case 'n':
			s.states = strtoul(optarg, NULL, 0);
			break;
		case 's':
			chance_seed = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			random = strtoull(optarg, NULL, 0);
			break;
		case 'p':
			s.print = true;
			break;
		default:
			return 2;
		}
	}
	if (!every || (random ? optind != argc : optind + 1 != argc))
		errx(2, "usage: emulate [-e EVERY] [-n STATES] [-s SEED] [-p] OBJECT | -r COUNT");
	if (random)
		run_random(&s, random);
	else
		run_object(&s, argv[optind], every);
	report(&s.counts);
	machine_destroy(s.machine);
	af_planner_destroy(s.planner);
	return s.counts.differences != 0;
}
