/* SPDX-License-Identifier: MIT */
#include "views/summary.h"

#include <stdlib.h>
#include <string.h>

#include "patch/plan/site.h"

/* Collecting */

void af_summary_init(struct af_summary *summary)
{
	*summary = (struct af_summary){.first = UINT64_MAX};
}

static void fill_place(struct af_summary_place *place, const struct af_function *function)
{
	int needed = snprintf(place->name, sizeof(place->name), "%s", function->name);
	if (needed >= (int)sizeof(place->name))
		strcpy(place->name + sizeof(place->name) - 4, "...");
	place->at[0] = '\0';
	/* Of a path that is too long the end says more than the beginning. */
	size_t length = strlen(function->file), most = sizeof(place->at) - 20;
	const char *file = function->file + (length > most ? length - most : 0);
	if (*file)
		snprintf(place->at, sizeof(place->at), "%s%s:%u", length > most ? "..." : "", file,
			 function->line);
}

/* Where in `longest` this poll belongs, counted from the end; the shortest falls out. */
static void place_poll(struct af_summary *summary, const struct af_summary_poll *poll)
{
	uint32_t at = 0;
	for (; at < summary->n_longest; at++)
		if (summary->longest[at].function == poll->function &&
		    summary->longest[at].inner_function == poll->inner_function)
			break;
	if (at < summary->n_longest && summary->longest[at].duration >= poll->duration)
		return;
	if (at == AF_SUMMARY_LONGEST)
		at--;
	else if (at == summary->n_longest)
		summary->n_longest++;
	for (; at > 0 && summary->longest[at - 1].duration < poll->duration; at--)
		summary->longest[at] = summary->longest[at - 1];
	summary->longest[at] = *poll;
}

static void consider(struct af_summary *summary, const struct af_trace *trace,
		     const struct af_span *span)
{
	uint64_t duration = span->end - span->begin;
	if (summary->n_longest == AF_SUMMARY_LONGEST &&
	    summary->longest[AF_SUMMARY_LONGEST - 1].duration >= duration)
		return;
	struct af_summary_poll poll = {
		.duration = duration,
		.begin = span->begin,
		.function = span->function,
		.inner_function = span->inner_function,
		.inner_duration = span->inner_duration,
		.open = span->result == AF_SPAN_OPEN,
	};
	const struct af_function *function = af_trace_function(trace, span->function);
	const struct af_function *inner = af_trace_function(trace, span->inner_function);
	fill_place(&poll.place, function);
	/* A task root and the future it polls go by one name: nothing to explain. */
	if (span->inner_function != span->function && strcmp(function->name, inner->name))
		fill_place(&poll.inner, inner);
	memcpy(poll.thread, span->thread->name, sizeof(poll.thread));
	place_poll(summary, &poll);
}

void af_summary_add(struct af_summary *summary, const struct af_trace *trace,
		    const struct af_span *span)
{
	if (span->begin < summary->first)
		summary->first = span->begin;
	if (span->end > summary->last)
		summary->last = span->end;
	if (span->outermost && span->result != AF_SPAN_LOST &&
	    !af_trace_function(trace, span->function)->blocking)
		consider(summary, trace, span);
}

void af_summary_done(struct af_summary *summary, const struct af_trace *trace,
		     const struct af_walk *walk)
{
	summary->walk = *walk;
	summary->info = *af_trace_info(trace);
	summary->info.executable = summary->info.directory = NULL;
	summary->tasks = af_trace_n_tasks(trace);
	if (!walk->spans)
		summary->first = 0;
}

struct collect {
	struct af_summary *summary;
	const struct af_trace *trace;
};

static bool collect_span(void *context, struct af_span *span)
{
	const struct collect *collect = context;
	af_summary_add(collect->summary, collect->trace, span);
	return true;
}

struct af_error *af_summary_collect(struct af_summary *summary, struct af_trace *trace)
{
	static const struct af_visitor visitor = {.end = collect_span};
	struct collect collect = {.summary = summary, .trace = trace};
	struct af_walk walk;
	af_summary_init(summary);
	struct af_error *error = af_trace_walk(trace, &visitor, &collect, &walk);
	if (!error)
		af_summary_done(summary, trace, &walk);
	return error;
}

/* Printing */

struct paint {
	const char *bold, *dim, *loud, *end;
};

static const struct paint plain = {"", "", "", ""};
static const struct paint coloured = {"\033[1m", "\033[2m", "\033[1;31m", "\033[0m"};

/* 1234567 as "1,234,567". */
static const char *grouped(uint64_t number, char text[32])
{
	char *at = text + 31;
	*at = '\0';
	for (int digits = 0; number || !digits; digits++, number /= 10) {
		if (digits && digits % 3 == 0)
			*--at = ',';
		*--at = (char)('0' + number % 10);
	}
	return at;
}

static const char *duration(uint64_t ns, char text[32])
{
	if (ns < 1000)
		snprintf(text, 32, "%u ns", (unsigned)ns);
	else if (ns < 1000000)
		snprintf(text, 32, "%.2f us", (double)ns / 1e3);
	else if (ns < 1000000000)
		snprintf(text, 32, "%.2f ms", (double)ns / 1e6);
	else
		snprintf(text, 32, "%.2f s", (double)ns / 1e9);
	return text;
}

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static void print_counts(const struct af_summary *summary, FILE *to, const struct paint *paint)
{
	char polls[32], tasks[32], threads[32], time[32];
	const struct af_walk *walk = &summary->walk;
	fprintf(to, "%sasyncflame: %s poll%s of %s task%s on %s thread%s in %s%s\n", paint->bold,
		grouped(walk->spans, polls), plural(walk->spans), grouped(summary->tasks, tasks),
		plural(summary->tasks), grouped(summary->info.n_threads, threads),
		plural(summary->info.n_threads), duration(walk->end, time), paint->end);
	if (walk->panicked)
		fprintf(to, "  %s poll%s panicked\n", grouped(walk->panicked, polls),
			plural(walk->panicked));
}

/* The commonest reasons first. */
static void print_hooks(const struct af_summary *summary, FILE *to, const struct paint *paint)
{
	const struct afr_hooks *hooks = &summary->info.hooks;
	char a[32], b[32];
	if (!summary->info.has_hooks)
		return;
	fprintf(to, "  hooked %s of %s poll functions\n", grouped(hooks->hooked, a),
		grouped(hooks->functions, b));
	if (hooks->trapped)
		fprintf(to, "    %s%s of them by int3: 1 to 3 us a poll%s\n", paint->dim,
			grouped(hooks->trapped, a), paint->end);
	if (hooks->left_out)
		fprintf(to,
			"    %snot hooked: %7s  load%s of libraries with futures, for which there was no room%s\n",
			paint->dim, grouped(hooks->left_out, a), plural(hooks->left_out),
			paint->end);
	bool shown[AF_REFUSAL_COUNT] = {false};
	for (;;) {
		uint32_t most = 0;
		for (uint32_t i = 1; i < AF_REFUSAL_COUNT; i++)
			if (!shown[i] && hooks->refused[i] &&
			    (!most || hooks->refused[i] > hooks->refused[most]))
				most = i;
		if (!most)
			break;
		shown[most] = true;
		fprintf(to, "    %snot hooked: %7s  %s%s\n", paint->dim,
			grouped(hooks->refused[most], a), af_refusal_text(most), paint->end);
	}
}

static void print_pauses(const struct af_summary *summary, FILE *to)
{
	const struct af_walk *walk = &summary->walk;
	char time[32], pauses[32];
	if (walk->pauses)
		fprintf(to, "  recording was off for %s: %s pause%s of the program's\n",
			duration(walk->off, time), grouped(walk->pauses, pauses),
			plural(walk->pauses));
}

static void print_left_out(const struct af_summary *summary, FILE *to)
{
	char tasks[32];
	uint32_t n = summary->info.left_out;
	if (n)
		fprintf(to,
			"  %s task%s could not be read at the end: where %s stood is not known\n",
			grouped(n, tasks), plural(n), n == 1 ? "it" : "they");
}

static void print_loss(FILE *to, const struct paint *paint, uint64_t count, const char *what)
{
	char text[32];
	if (count)
		fprintf(to, "  %sLOST: %s %s%s\n", paint->loud, grouped(count, text), what,
			paint->end);
}

static void print_losses(const struct af_summary *summary, FILE *to, const struct paint *paint)
{
	const struct af_trace_info *info = &summary->info;
	const struct af_walk *walk = &summary->walk;
	uint64_t unfinished = info->has_end && info->end.unfinished > walk->unfinished
				      ? info->end.unfinished
				      : walk->unfinished;
	char text[32];
	bool stopped = info->end.limit == AFR_LIMIT_STOPPED;
	bool overwritten = info->end.limit == AFR_LIMIT_OVERWRITTEN;
	if (stopped && info->stopped != UINT64_MAX)
		fprintf(to,
			"  %sLOST: all that came after the recording had reached its --max-size, %s "
			"after its start%s\n",
			paint->loud, duration(info->stopped, text), paint->end);
	else
		print_loss(to, paint, info->end.dropped,
			   "records were dropped: the buffers were full");
	if (overwritten)
		fprintf(to, "  only the newest part of the recording was kept, as asked\n");
	else
		print_loss(to, paint, walk->stray, "polls have no begin: their begin was dropped");
	print_loss(to, paint, walk->lost, "polls have no end: their end was dropped");
	print_loss(to, paint, walk->bad, "records make no sense");
	print_loss(to, paint, info->bad_maps, "future maps could not be read: names are missing");
	if (info->cut)
		fprintf(to, "  %sthe recording was cut off: everything up to there is shown%s\n",
			paint->loud, paint->end);
	if (info->clock_estimated)
		fprintf(to, "  %sthe clock's rate is estimated: durations may be off%s\n",
			paint->loud, paint->end);
	if (walk->open)
		fprintf(to, "  %s poll%s had not returned at the end\n", grouped(walk->open, text),
			plural(walk->open));
	if (walk->inherited)
		fprintf(to, "  %s poll%s had begun before the fork, in process %u\n",
			grouped(walk->inherited, text), plural(walk->inherited), info->parent_pid);
	if (unfinished)
		fprintf(to, "  %s record%s half written at the end\n", grouped(unfinished, text),
			unfinished == 1 ? " was" : "s were");
}

static void print_longest(const struct af_summary *summary, FILE *to, const struct paint *paint)
{
	if (summary->n_longest)
		fprintf(to, "  longest polls:\n");
	for (uint32_t i = 0; i < summary->n_longest; i++) {
		const struct af_summary_poll *poll = &summary->longest[i];
		char time[32];
		fprintf(to, "    %s%10s%s  %s", paint->bold, duration(poll->duration, time),
			paint->end, poll->place.name);
		if (poll->place.at[0])
			fprintf(to, "  %s", poll->place.at);
		fprintf(to, "  %s[%s]%s%s\n", paint->dim, poll->thread[0] ? poll->thread : "?",
			poll->open ? " had not returned" : "", paint->end);
		if (poll->inner.name[0])
			fprintf(to, "               %sof these %s in%s %s  %s\n", paint->dim,
				duration(poll->inner_duration, time), paint->end, poll->inner.name,
				poll->inner.at);
	}
}

void af_summary_print(const struct af_summary *summary, FILE *to, bool colour,
		      const char *trace_path)
{
	const struct paint *paint = colour ? &coloured : &plain;
	print_counts(summary, to, paint);
	print_hooks(summary, to, paint);
	print_pauses(summary, to);
	print_left_out(summary, to);
	print_losses(summary, to, paint);
	print_longest(summary, to, paint);
	if (!trace_path)
		return;
	fprintf(to, "  trace: %s%s%s\n", paint->bold, trace_path, paint->end);
	fprintf(to, "  open it in https://ui.perfetto.dev (nothing is uploaded)\n");
}
