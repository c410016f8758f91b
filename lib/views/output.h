/* SPDX-License-Identifier: MIT */
/*
 * A file that is being made: buffered, and seen by others only when it is whole. It is
 * written beside its final place under another name and renamed at the end. Where the
 * path names something that is no regular file (/dev/stdout, a pipe), the temporary
 * file lies elsewhere and is copied there at the end.
 *
 * The first failure (disk full) is kept; later writes do nothing, and commit returns it.
 */
#ifndef AF_VIEWS_OUTPUT_H
#define AF_VIEWS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define AF_OUTPUT_BUFFER (256 * 1024)

struct af_output {
	char *path;	 /* as the caller gave it */
	char *target;	 /* what is renamed to; NULL: copied to `path` */
	char *temporary; /* NULL: has no name */
	int fd;
	uint64_t written; /* bytes of the file before the buffer */
	size_t used;
	char *buffer;
	struct af_error *error;
};

struct af_error *af_output_init(struct af_output *output, const char *path) af_must_check;
/* Ends the file: it appears at its path, or an error is returned and nothing appears. */
struct af_error *af_output_commit(struct af_output *output) af_must_check;
/* Gives up; after commit it does nothing. */
void af_output_deinit(struct af_output *output);

void af_output_write(struct af_output *output, const void *data, size_t size);
void af_output_string(struct af_output *output, const char *string);
void af_output_number(struct af_output *output, uint64_t number);
/* Nanoseconds as microseconds with three decimals. */
void af_output_microseconds(struct af_output *output, uint64_t ns);
static inline uint64_t af_output_tell(const struct af_output *output)
{
	return output->written + output->used;
}
/* Overwrites bytes that were written before. */
void af_output_patch(struct af_output *output, uint64_t at, const void *data, size_t size);

#endif
