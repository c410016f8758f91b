/* SPDX-License-Identifier: MIT */
#include "runtimes/scan.h"

#include <fcntl.h>
#include <unistd.h>

#define CHUNK (256u << 10)
#define PAGE 4096u
#define PAGES 512u		  /* of /proc/PID/pagemap at once */
#define THERE ((uint64_t)3 << 62) /* in memory, or swapped out; proc_pid_pagemap(5) */
#define GAP ((uint64_t)256 << 20) /* values further apart belong to different ranges */

void af_words_add(struct af_words *words, uint64_t value, uint32_t number)
{
	struct af_word *word = vector_push(&words->items);
	if (word)
		*word = (struct af_word){value, number};
	else
		words->failed = true;
}

static int compare_words(const void *a, const void *b)
{
	const struct af_word *x = a, *y = b;
	return x->value < y->value ? -1 : x->value > y->value;
}

void af_words_sort(struct af_words *words)
{
	const uint32_t most = sizeof(words->ranges) / sizeof(words->ranges[0]);
	vector_sort(&words->items, compare_words);
	words->n_ranges = 0;
	for (size_t i = 0; i < words->items.count; i++) {
		uint64_t value = words->items.items[i].value;
		uint32_t n = words->n_ranges;
		if (n && (value - words->ranges[n - 1].last < GAP || n == most)) {
			words->ranges[n - 1].last = value;
		} else {
			words->ranges[n].first = words->ranges[n].last = value;
			words->n_ranges++;
		}
	}
}

void af_words_deinit(struct af_words *words)
{
	vector_deinit(&words->items);
	memset(words, 0, sizeof(*words));
}

/* `value` is in one of the ranges: is it one of the words? */
static void look_up(const struct af_words *words, uint64_t value, uint64_t address,
		    af_scan_found found, void *arg)
{
	size_t low = 0, high = words->items.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (words->items.items[middle].value < value)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < words->items.count && words->items.items[low].value == value; low++)
		found(arg, address, words->items.items[low].number);
}

static void scan_bytes(const uint64_t *data, size_t n, uint64_t address,
		       const struct af_words *words, af_scan_found found, void *arg)
{
	/* Nearly always there is one range: one subtraction and one comparison a word. */
	for (uint32_t r = 0; r < words->n_ranges; r++) {
		uint64_t first = words->ranges[r].first, span = words->ranges[r].last - first;
		for (size_t i = 0; i < n; i++)
			if (data[i] - first <= span)
				look_up(words, data[i], address + i * 8, found, arg);
	}
}

void af_scan_range(struct af_process *p, uint64_t start, uint64_t end, const struct af_words *words,
		   af_scan_found found, void *arg)
{
	uint64_t *buffer = malloc(CHUNK);
	start = (start + 7) & ~(uint64_t)7;
	while (buffer && start < end && words->n_ranges) {
		size_t n = end - start < CHUNK ? end - start : CHUNK;
		size_t got = af_process_read(p, start, buffer, n);
		if (!got && n > PAGE) /* a core's reader gives all or nothing */
			got = af_process_read(p, start, buffer, PAGE - start % PAGE);
		scan_bytes(buffer, got / 8, start, words, found, arg);
		/* On behind the page that could not be read. */
		start = got == n ? start + n : ((start + got) & ~(uint64_t)(PAGE - 1)) + PAGE;
	}
	free(buffer);
}

void af_scan_constants(struct af_process *p, const struct af_module *module,
		       const struct af_words *words, af_scan_found found, void *arg)
{
	for (size_t i = 0; i < p->mappings.count; i++) {
		const struct af_mapping *m = &p->mappings.items[i];
		if (m->start < module->start || m->start >= module->end || !m->readable ||
		    m->executable)
			continue;
		af_scan_range(p, m->start, m->end < module->end ? m->end : module->end, words,
			      found, arg);
	}
}

bool af_scan_is_writable(const struct af_mapping *m)
{
	if (!m->readable || !m->writable || m->shared)
		return false;
	/* The kernel's own, and devices' memory, where reading may do something. */
	return !m->path || (strncmp(m->path, "[v", 2) && strncmp(m->path, "/dev/", 5));
}

/* Entries of pagemap for up to PAGES pages from `address` on; 0 where it cannot be read. */
static size_t read_pagemap(int fd, uint64_t address, uint64_t end, uint64_t *entries)
{
	size_t n = (end - address) / PAGE < PAGES ? (end - address) / PAGE : PAGES;
	ssize_t got = pread(fd, entries, n * 8, (off_t)(address / PAGE * 8));
	return got > 0 ? (size_t)got / 8 : 0;
}

static bool next_run(int fd, uint64_t limit, uint64_t *start, uint64_t *end)
{
	uint64_t entries[PAGES];
	bool inside = false;
	for (uint64_t at = *start; at < limit;) {
		size_t n = read_pagemap(fd, at, limit, entries);
		if (!n) { /* not to be had: take it as all there */
			*start = inside ? *start : at;
			*end = limit;
			return true;
		}
		for (size_t i = 0; i < n; i++, at += PAGE) {
			bool there = entries[i] & THERE;
			if (there && !inside) {
				*start = at;
				inside = true;
			} else if (!there && inside) {
				*end = at;
				return true;
			}
		}
	}
	*end = limit;
	return inside;
}

bool af_scan_next_run(struct af_process *p, const struct af_mapping *m, uint64_t *start,
		      uint64_t *end)
{
	uint64_t limit = m->start + m->present;
	if (*start >= limit)
		return false;
	if (p->core) {
		*end = limit;
		return true;
	}
	int fd = openat(p->directory, "pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*end = limit;
		return true;
	}
	bool found = next_run(fd, limit, start, end);
	close(fd);
	return found;
}

void af_scan_writable(struct af_process *p, const struct af_words *words, af_scan_found found,
		      void *arg)
{
	for (size_t i = 0; i < p->copies.count; i++)
		scan_bytes((const void *)p->copies.items[i].data, p->copies.items[i].size / 8,
			   p->copies.items[i].address, words, found, arg);
	for (size_t i = 0; i < p->mappings.count && !p->copies.count; i++) {
		const struct af_mapping *m = &p->mappings.items[i];
		uint64_t start = m->start, end;
		for (; af_scan_is_writable(m) && af_scan_next_run(p, m, &start, &end); start = end)
			af_scan_range(p, start, end, words, found, arg);
	}
}
