/* SPDX-License-Identifier: MIT */
#include "analysis/beside.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include "analysis/sites.h"
#include "patch/plan/flow.h"

struct af_beside {
	struct af_builder *b;
	bool threaded;
	pthread_t thread;
	sem_t called; /* `callers` are there */
	struct af_callers callers;
	bool callers_ok;
	struct af_sites *sites;
};

static void *run(void *arg)
{
	struct af_beside *beside = arg;

	beside->callers_ok = af_callers_find(beside->b, &beside->callers);
	sem_post(&beside->called);
	af_sites_plan(beside->sites);
	return NULL;
}

void af_beside_start(struct af_builder *b)
{
	struct af_beside *beside = calloc(1, sizeof(*beside));

	if (beside)
		beside->sites = af_sites_create(b);
	if (!beside || !beside->sites) {
		free(beside);
		b->failed = true;
		return;
	}
	beside->b = b;
	b->beside = beside;
	sem_init(&beside->called, 0, 0);
	af_flow_prepare();
	/* Without a second core it is done when it is asked for. */
	beside->threaded = af_cores() > 1 && !pthread_create(&beside->thread, NULL, run, beside);
}

void af_beside_callers(struct af_builder *b, struct af_callers *callers)
{
	struct af_beside *beside = b->beside;

	if (!beside)
		return;
	if (!beside->threaded)
		beside->callers_ok = af_callers_find(b, &beside->callers);
	else
		while (sem_wait(&beside->called))
			; /* a signal */
	*callers = beside->callers;
	beside->callers = (struct af_callers){0};
	b->failed |= !beside->callers_ok;
}

static void join(struct af_beside *beside)
{
	if (beside->threaded)
		pthread_join(beside->thread, NULL);
	beside->threaded = false;
}

void af_beside_sites(struct af_builder *b)
{
	struct af_beside *beside = b->beside;

	if (!beside)
		return;
	if (beside->threaded)
		join(beside);
	else
		af_sites_plan(beside->sites);
	af_sites_complete(b, beside->sites);
}

void af_beside_stop(struct af_builder *b)
{
	struct af_beside *beside = b->beside;

	if (!beside)
		return;
	join(beside);
	sem_destroy(&beside->called);
	vector_deinit(&beside->callers);
	af_sites_destroy(beside->sites);
	free(beside);
	b->beside = NULL;
}
