/* SPDX-License-Identifier: MIT */
/* Sizes and durations as people write them: 64M, 1G, 50ms, 2s. No libc, in the host too. */
#ifndef AF_RECORD_UNITS_H
#define AF_RECORD_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct af_unit {
	const char *name;
	uint64_t times;
};

/* A whole number and one of `units`; false if it is anything else, 0, or too large. */
static inline bool af_parse_units(const char *text, const struct af_unit *units, size_t n_units,
				  uint64_t *value)
{
	uint64_t number = 0;
	const char *at = text;
	for (; *at >= '0' && *at <= '9'; at++) {
		if (number > UINT64_MAX / 100)
			return false;
		number = number * 10 + (uint64_t)(*at - '0');
	}
	for (size_t i = 0; i < n_units && at > text && number; i++) {
		size_t k = 0;
		while (units[i].name[k] && at[k] == units[i].name[k])
			k++;
		if (units[i].name[k] || at[k] || number > UINT64_MAX / units[i].times)
			continue;
		*value = number * units[i].times;
		return true;
	}
	return false;
}

/* Bytes: a number, or one with K, M, G (or KiB, MiB, GiB) of 1,024 each. */
static inline bool af_parse_size(const char *text, uint64_t *bytes)
{
	static const struct af_unit units[] = {
		{"", 1},	  {"K", 1 << 10}, {"KiB", 1 << 10}, {"M", 1 << 20},
		{"MiB", 1 << 20}, {"G", 1 << 30}, {"GiB", 1 << 30},
	};
	return af_parse_units(text, units, sizeof(units) / sizeof(units[0]), bytes);
}

/* Nanoseconds: a number with ns, us, ms or s. */
static inline bool af_parse_duration(const char *text, uint64_t *ns)
{
	static const struct af_unit units[] = {
		{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
	return af_parse_units(text, units, sizeof(units) / sizeof(units[0]), ns);
}

#endif
