/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	struct af_error error;
	char message[16];
} out_of_memory = {{ENOMEM}, "out of memory"};

static struct af_error *create(int system, const char *format, va_list args)
{
	char text[2048];
	int length = vsnprintf(text, sizeof(text), format, args);
	if (length < 0)
		length = 0, text[0] = '\0';
	if ((size_t)length >= sizeof(text))
		length = sizeof(text) - 1;
	const char *why = system ? strerror(system) : "";
	size_t size = (size_t)length + strlen(why) + 3;
	struct af_error *error = malloc(sizeof(*error) + size);
	if (!error)
		return &out_of_memory.error;
	error->system = system;
	snprintf(error->message, size, "%s%s%s", text, system ? ": " : "", why);
	return error;
}

struct af_error *af_error_create(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	struct af_error *error = create(0, format, args);
	va_end(args);
	return error;
}

struct af_error *af_error_system(int system, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	struct af_error *error = create(system, format, args);
	va_end(args);
	return error;
}

void af_error_destroy(struct af_error *error)
{
	if (error != &out_of_memory.error)
		free(error);
}
