/* SPDX-License-Identifier: MIT */
#include "views/function_texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "views/json.h"

#define NAME_MAX_BYTES 160
#define FUTURE_MAX_BYTES 240

bool af_function_texts_init(struct af_function_texts *texts, struct af_trace *trace)
{
	texts->trace = trace;
	texts->n = af_trace_info(trace)->n_functions + 1;
	texts->items = calloc(texts->n, sizeof(*texts->items));
	return texts->items;
}

void af_function_texts_deinit(struct af_function_texts *texts)
{
	for (uint32_t i = 0; texts->items && i < texts->n; i++)
		free(texts->items[i].head);
	free(texts->items);
}

static char *limited(const char *name, size_t limit, uint32_t number)
{
	if (strlen(name) <= limit)
		return af_json_escaped(name);
	char *text = malloc(limit + 32);
	if (text) {
		size_t length = af_json_escape(text, limit, name);
		snprintf(text + length, 32, "\xe2\x80\xa6#%u", number);
	}
	return text;
}

static bool make_head(struct af_function_texts *texts, uint32_t number,
		      struct af_function_text *text)
{
	const struct af_function *function = af_trace_function(texts->trace, number);
	bool again = text->head != NULL;
	char *name = limited(function->name, NAME_MAX_BYTES, number);
	char *future = limited(function->future, again ? FUTURE_MAX_BYTES : SIZE_MAX, number);
	char *file = af_json_escaped(function->file);
	char *library = af_json_escaped(function->library);
	char line[16] = "", *head = NULL;
	if (function->line)
		snprintf(line, sizeof(line), ":%u", function->line);
	int length = -1;
	if (name && future && file && library)
		length = asprintf(&head,
				  "\"name\":\"%s\",\"cat\":\"poll\",\"args\":{\"future\":\"%s\","
				  "\"at\":\"%s%s\"%s%s%s%s%s",
				  name, future, file, line, function->root ? ",\"root\":true" : "",
				  function->trap ? ",\"hook\":\"int3\"" : "",
				  *library ? ",\"library\":\"" : "", library, *library ? "\"" : "");
	free(name);
	free(future);
	free(file);
	free(library);
	if (length < 0)
		return false;
	free(text->head);
	text->head = head;
	text->length = (size_t)length;
	text->once = !again && strlen(function->future) > FUTURE_MAX_BYTES;
	return true;
}

struct af_function_text *af_function_text(struct af_function_texts *texts, uint32_t number)
{
	uint32_t i = number < texts->n - 1 ? number : texts->n - 1;
	struct af_function_text *text = &texts->items[i];
	if (text->head)
		return text;
	text->state = AF_STATE_NONE;
	return make_head(texts, number, text) ? text : NULL;
}

bool af_function_text_shorten(struct af_function_texts *texts, uint32_t number,
			      struct af_function_text *text)
{
	return make_head(texts, number, text);
}

const char *af_function_text_parked(struct af_function_texts *texts, struct af_function_text *text,
				    uint32_t number, uint64_t state)
{
	if (state == text->state)
		return text->parked;
	const char *file;
	uint32_t line;
	text->state = state;
	text->parked[0] = '\0';
	if (af_function_await(texts->trace, af_trace_function(texts->trace, number), state, &file,
			      &line)) {
		size_t room = sizeof(text->parked) - 16;
		size_t length = af_json_escape(text->parked, room, file);
		snprintf(text->parked + length, 16, ":%u", line);
	}
	return text->parked;
}
