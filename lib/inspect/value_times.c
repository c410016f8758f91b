/* SPDX-License-Identifier: MIT */
/*
 * Duration, Instant, SystemTime.
 */
#include "inspect/value_show.h"

#define SECOND 1000000000u /* nanoseconds */

/* number.fraction and the unit; fraction counts in `place`s of 1 / (10 * place). */
static void put_decimal(struct af_line *line, uint64_t number, uint32_t fraction, uint32_t place,
			const char *unit)
{
	af_line_unsigned(line, number);
	if (fraction)
		af_line_put(line, ".");
	for (; fraction && place; place /= 10) {
		af_line_unsigned(line, fraction / place);
		fraction %= place;
	}
	af_line_put(line, unit);
}

/* As Rust's {:?} of a Duration. */
static void put_duration(struct af_line *line, uint64_t seconds, uint32_t nanos)
{
	if (seconds)
		put_decimal(line, seconds, nanos, SECOND / 10, "s");
	else if (nanos >= 1000000)
		put_decimal(line, nanos / 1000000, nanos % 1000000, 100000, "ms");
	else if (nanos >= 1000)
		put_decimal(line, nanos / 1000, nanos % 1000, 100, "\u00b5s");
	else
		put_decimal(line, nanos, 0, 0, "ns");
}

static bool read_time(struct af_show *s, struct af_spot at, const char *const *paths,
		      uint64_t *parts)
{
	switch (af_show_numbers(s, at, paths, parts, 2)) {
	case AF_READ_NONE:
		return false;
	case AF_READ_FAILED:
		af_line_put(s->line, AF_UNREADABLE);
		parts[1] = UINT64_MAX;
		return true;
	case AF_READ_FINE:
		if (parts[1] >= SECOND) {
			af_line_put(s->line, AF_INVALID);
			parts[1] = UINT64_MAX;
		}
	}
	return true;
}

bool af_show_duration(struct af_show *s, struct af_spot at)
{
	const char *const paths[] = {"secs", "nanos"};
	uint64_t parts[2];

	if (!read_time(s, at, paths, parts))
		return false;
	if (parts[1] != UINT64_MAX)
		put_duration(s->line, parts[0], (uint32_t)parts[1]);
	return true;
}

static void put_since(struct af_show *s, int64_t seconds, uint32_t nanos)
{
	int64_t then = seconds, now = s->options->now_seconds;
	uint32_t then_nanos = nanos, now_nanos = s->options->now_nanoseconds;
	bool ahead = then > now || (then == now && then_nanos > now_nanos);
	uint64_t difference;

	if (ahead) {
		then = now;
		then_nanos = now_nanos;
		now = seconds;
		now_nanos = nanos;
		af_line_put(s->line, "in ");
	}
	difference = (uint64_t)now - (uint64_t)then;
	if (now_nanos < then_nanos) {
		difference--;
		now_nanos += SECOND;
	}
	put_duration(s->line, difference, now_nanos - then_nanos);
	if (!ahead)
		af_line_put(s->line, " ago");
}

bool af_show_instant(struct af_show *s, struct af_spot at)
{
	const char *const paths[] = {"__0.t.tv_sec", "__0.t.tv_nsec"};
	uint64_t parts[2];

	af_show_path(s, "std", &at); /* tokio's holds one of std's */
	if (!read_time(s, at, paths, parts))
		return false;
	if (parts[1] == UINT64_MAX)
		return true;
	if (s->options->has_now) {
		put_since(s, (int64_t)parts[0], (uint32_t)parts[1]);
		return true;
	}
	af_line_put(s->line, "Instant { tv_sec: ");
	af_line_unsigned(s->line, parts[0]);
	af_line_put(s->line, ", tv_nsec: ");
	af_line_unsigned(s->line, parts[1]);
	af_line_put(s->line, " }");
	return true;
}

/* The civil date of a day since 1970-01-01, counted in eras of 400 years from a 1st of March. */
static void put_day(struct af_line *line, int64_t day)
{
	day += 719468;
	int64_t era = (day >= 0 ? day : day - 146096) / 146097;
	int64_t of_era = day - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153;
	int64_t of_month = of_year - (153 * month + 2) / 5 + 1;

	month += month < 10 ? 3 : -9;
	year += era * 400 + (month <= 2);
	af_line_padded(line, (uint64_t)year, 4);
	af_line_put(line, "-");
	af_line_padded(line, (uint64_t)month, 2);
	af_line_put(line, "-");
	af_line_padded(line, (uint64_t)of_month, 2);
}

bool af_show_date(struct af_show *s, struct af_spot at)
{
	const char *const paths[] = {"__0.t.tv_sec", "__0.t.tv_nsec"};
	uint64_t parts[2];

	if (!read_time(s, at, paths, parts))
		return false;
	if (parts[1] == UINT64_MAX)
		return true;
	int64_t seconds = (int64_t)parts[0];
	/* The years 1 to 9999: others are no dates that anybody means. */
	if (seconds < -INT64_C(62135596800) || seconds >= INT64_C(253402300800)) {
		af_line_put(s->line, AF_INVALID);
		return true;
	}
	int64_t day = seconds / 86400 - (seconds % 86400 < 0);
	uint64_t rest = (uint64_t)(seconds - day * 86400);
	put_day(s->line, day);
	af_line_put(s->line, "T");
	af_line_padded(s->line, rest / 3600, 2);
	af_line_put(s->line, ":");
	af_line_padded(s->line, rest / 60 % 60, 2);
	af_line_put(s->line, ":");
	af_line_padded(s->line, rest % 60, 2);
	if (parts[1]) {
		unsigned int digits = parts[1] % 1000000 == 0 ? 3 : parts[1] % 1000 == 0 ? 6 : 9;
		uint64_t divisor = digits == 3 ? 1000000 : digits == 6 ? 1000 : 1;
		af_line_put(s->line, ".");
		af_line_padded(s->line, parts[1] / divisor, digits);
	}
	af_line_put(s->line, "Z");
	return true;
}
