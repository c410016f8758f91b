/* SPDX-License-Identifier: MIT */
/*
 * Growing arrays of small structures. `vector_push` gives the place of a new, zeroed element
 * or NULL when memory is short; places move when the array grows, so keep indices.
 */
#ifndef AF_ANALYSIS_VECTOR_H
#define AF_ANALYSIS_VECTOR_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define VECTOR(type)                    \
	struct {                        \
		type *items;            \
		size_t count, capacity; \
	}

/* Room for `more` elements behind the last; false when memory is short. */
static inline int af_vector_reserve(void **items, size_t count, size_t *capacity, size_t size,
				    size_t more)
{
	if (more <= *capacity - count)
		return 1;
	size_t wanted = *capacity + *capacity / 2 + 16;
	if (wanted < count + more)
		wanted = count + more;
	void *grown = reallocarray(*items, wanted, size);
	if (!grown)
		return 0;
	*items = grown;
	*capacity = wanted;
	return 1;
}

#define vector_reserve(v, more)                                                                  \
	af_vector_reserve((void **)&(v)->items, (v)->count, &(v)->capacity, sizeof(*(v)->items), \
			  (more))

#define vector_push(v)                                                                         \
	(vector_reserve((v), 1) ? (__typeof__((v)->items))memset(&(v)->items[(v)->count++], 0, \
								 sizeof(*(v)->items))          \
				: NULL)

/* Sorts; an empty one has no items to hand to qsort. */
#define vector_sort(v, compare)                                                        \
	do {                                                                           \
		if ((v)->count > 1)                                                    \
			qsort((v)->items, (v)->count, sizeof(*(v)->items), (compare)); \
	} while (0)

#define vector_deinit(v)                      \
	do {                                  \
		free((v)->items);             \
		memset((v), 0, sizeof(*(v))); \
	} while (0)

#endif
