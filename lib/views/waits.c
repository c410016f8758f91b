/* SPDX-License-Identifier: MIT */
#include "views/waits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "views/json.h"

#define NAME_MAX_BYTES 160 /* as in chrome.c: generic names run to thousands of bytes */
#define NODE_MAX (1u << 21)
#define BRANCHES_MAX 128 /* of one wait */

struct af_wait_node {
	char *name;  /* escaped, "waiting: " and the innermost level; NULL: not made yet */
	char *stack; /* a JSON array */
	char *at;    /* escaped path/file.rs:LINE, or "" */
};

void af_wait_texts_init(struct af_wait_texts *texts, const struct af_trace *trace)
{
	*texts = (struct af_wait_texts){.trace = trace};
}

void af_wait_texts_deinit(struct af_wait_texts *texts)
{
	for (size_t i = 0; i < texts->n_nodes; i++) {
		free(texts->nodes[i].name);
		free(texts->nodes[i].stack);
		free(texts->nodes[i].at);
	}
	free(texts->nodes);
	free(texts->text);
	*texts = (struct af_wait_texts){0};
}

static char *shortened(const char *name)
{
	char cut[NAME_MAX_BYTES + 8];
	if (strlen(name) <= NAME_MAX_BYTES)
		return af_json_escaped(name);
	size_t length = NAME_MAX_BYTES;
	while (length && ((unsigned char)name[length] & 0xc0) == 0x80)
		length--; /* not within a character */
	snprintf(cut, sizeof(cut), "%.*s\xe2\x80\xa6", (int)length, name);
	return af_json_escaped(cut);
}

/* "name at path/file.rs:LINE", escaped. */
static char *level_text(const struct af_level *level)
{
	char *name = shortened(level->name), *file = af_json_escaped(level->file), *text = NULL;
	int n = -1;
	if (name && file && level->line)
		n = asprintf(&text, "%s%s at %s:%u", name, level->started ? "" : " (not started)",
			     file, level->line);
	else if (name && file)
		n = asprintf(&text, "%s", name);
	free(name);
	free(file);
	return n < 0 ? NULL : text;
}

static char *place_text(const struct af_level *level)
{
	char *file = af_json_escaped(level->file), *text = NULL;
	if (!file || asprintf(&text, "%s:%u", file, level->line) < 0)
		text = NULL;
	free(file);
	return text;
}

static bool append(char **text, const char *separator, const char *more)
{
	char *longer = NULL;
	if (asprintf(&longer, "%s%s%s", *text, separator, more) < 0)
		return false;
	free(*text);
	*text = longer;
	return true;
}

/* The levels from the task down to `number`. */
static uint32_t find_levels(const struct af_trace *trace, uint32_t number,
			    struct af_level levels[AF_LEVELS_MAX])
{
	struct af_level upwards[AF_LEVELS_MAX];
	uint32_t n = 0;
	while (n < AF_LEVELS_MAX && af_trace_level(trace, number, &upwards[n]))
		number = upwards[n++].parent;
	for (uint32_t i = 0; i < n; i++)
		levels[i] = upwards[n - 1 - i];
	return n;
}

static bool make_node(const struct af_wait_texts *texts, uint32_t number, struct af_wait_node *node)
{
	struct af_level levels[AF_LEVELS_MAX];
	const struct af_level *place = NULL;
	uint32_t n = find_levels(texts->trace, number, levels);
	struct af_wait_node made = {.stack = strdup("[")};
	bool good = made.stack;
	for (uint32_t i = 0; i < n && good; i++) {
		char *text = level_text(&levels[i]);
		good = text && append(&made.stack, i ? ",\"" : "\"", text) &&
		       append(&made.stack, "\"", "");
		free(text);
		if (levels[i].line && levels[i].started)
			place = &levels[i];
	}
	char *innermost = n ? shortened(levels[n - 1].name) : strdup("");
	good = good && innermost && append(&made.stack, "]", "") &&
	       asprintf(&made.name, "waiting%s%s", n ? ": " : "", innermost) >= 0;
	made.at = place ? place_text(place) : strdup("");
	free(innermost);
	if (!good || !made.at) {
		free(made.name);
		free(made.stack);
		free(made.at);
		return false;
	}
	*node = made;
	return true;
}

static const struct af_wait_node *node_text(struct af_wait_texts *texts, uint32_t number)
{
	if (number >= NODE_MAX)
		return NULL;
	if (number >= texts->n_nodes) {
		size_t room = (size_t)number + number / 2 + 16;
		struct af_wait_node *more = realloc(texts->nodes, room * sizeof(*more));
		if (!more)
			return NULL;
		memset(more + texts->n_nodes, 0, (room - texts->n_nodes) * sizeof(*more));
		texts->nodes = more;
		texts->n_nodes = room;
	}
	struct af_wait_node *node = &texts->nodes[number];
	if (!node->name && !make_node(texts, number, node))
		return NULL;
	return node;
}

static bool put(struct af_wait_texts *texts, size_t *length, const char *a, const char *b,
		const char *c)
{
	size_t need = strlen(a) + strlen(b) + strlen(c);
	if (*length + need + 1 > texts->room) {
		size_t room = (*length + need + 1) * 2;
		char *more = realloc(texts->text, room);
		if (!more)
			return false;
		texts->text = more;
		texts->room = room;
	}
	*length += (size_t)sprintf(texts->text + *length, "%s%s%s", a, b, c);
	return true;
}

/* Nothing was read: perhaps the state that its last poll left says where it stands. */
static bool put_parked(struct af_wait_texts *texts, size_t *length, const struct af_wait *wait)
{
	const struct af_function *function = af_trace_function(texts->trace, wait->task->parked_in);
	struct af_level level = {.name = function->name, .started = true};
	level.file = "";
	if (!function->hand && (wait->task->parked == AF_STATE_NONE ||
				!af_function_await(texts->trace, function, wait->task->parked,
						   &level.file, &level.line)))
		return put(texts, length, "\"name\":\"waiting\",\"args\":{", "", "");
	char *name = shortened(level.name), *at = place_text(&level), *text = level_text(&level);
	bool good = name && at && text &&
		    put(texts, length, "\"name\":\"waiting: ", name, "\",\"args\":{") &&
		    (!level.line || put(texts, length, "\"at\":\"", at, "\",")) &&
		    put(texts, length, "\"stack\":[\"", text, "\"],");
	free(name);
	free(at);
	free(text);
	return good;
}

static bool put_more(struct af_wait_texts *texts, size_t *length, uint32_t more)
{
	char number[16];
	snprintf(number, sizeof(number), "%u", more);
	return !more || put(texts, length, "\"more\":", number, ",");
}

static bool put_stacks(struct af_wait_texts *texts, size_t *length, const struct af_wait *wait)
{
	const struct af_wait_node *node = node_text(texts, wait->nodes[0]);
	if (!node || !put(texts, length, "\"name\":\"", node->name, "\",\"args\":{") ||
	    (*node->at && !put(texts, length, "\"at\":\"", node->at, "\",")) ||
	    !put(texts, length, "\"stack\":", node->stack, ","))
		return false;
	uint32_t n = wait->n_nodes <= BRANCHES_MAX ? wait->n_nodes : BRANCHES_MAX;
	for (uint32_t i = 1; i < n; i++) {
		node = node_text(texts, wait->nodes[i]);
		if (!node || !put(texts, length, i == 1 ? "\"also\":[" : ",", node->stack,
				  i + 1 == n ? "]," : ""))
			return false;
	}
	return put_more(texts, length, wait->n_nodes - n);
}

const char *af_wait_members(struct af_wait_texts *texts, const struct af_wait *wait)
{
	size_t length = 0;
	char task[96];
	snprintf(task, sizeof(task), "\"task\":%u%s%s%s}", wait->task->number,
		 wait->unknown_begin ? ",\"unknown_begin\":true" : "",
		 wait->cut ? ",\"recording_off\":true" : "",
		 wait->open	 ? ",\"open\":true"
		 : wait->dropped ? ",\"dropped\":true"
				 : "");
	bool good =
		wait->n_nodes ? put_stacks(texts, &length, wait) : put_parked(texts, &length, wait);
	return good && put(texts, &length, task, "", "") ? texts->text : NULL;
}
