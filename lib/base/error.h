/* SPDX-License-Identifier: MIT */
/*
 * Errors as values, for what analyses and presents (never in the host): NULL is
 * success, anything else says where and why in one line for a person, and belongs to
 * the caller.
 */
#ifndef AF_BASE_ERROR_H
#define AF_BASE_ERROR_H

struct af_error {
	int system;	/* errno behind it, or 0 */
	char message[]; /* one line, no newline, no trailing full stop */
};

#define af_must_check __attribute__((warn_unused_result))

/* Never returns NULL: out of memory is a static error that destroy knows. */
struct af_error *af_error_create(const char *format, ...)
	__attribute__((format(printf, 1, 2))) af_must_check;
/* The same with ": strerror(system)" behind the message. */
struct af_error *af_error_system(int system, const char *format, ...)
	__attribute__((format(printf, 2, 3))) af_must_check;
void af_error_destroy(struct af_error *error); /* accepts NULL */

#endif
