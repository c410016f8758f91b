/* SPDX-License-Identifier: MIT */
/*
 * Locks and cells: what they guard is shown while nobody may be changing it.
 */
#include "inspect/value_show.h"

#define FUTEX_RWLOCK_READERS ((UINT64_C(1) << 30) - 1) /* of std's; all set: a writer */
#define PARKING_LOT_LOCKED 1u
#define PARKING_LOT_WRITER 8u

/* Name { data: ..: left open. */
static void put_guarded(struct af_show *s, struct af_spot lock, const char *label,
			struct af_spot data, const char *instead)
{
	af_show_type_head(s, af_show_type_name(s, lock.type));
	af_line_put(s->line, " { ");
	if (!af_show_enter(s))
		return;
	af_line_put(s->line, label);
	if (instead)
		af_line_put(s->line, instead);
	else
		af_show_value(s, data);
	af_show_leave(s);
}

static bool is_readable(struct af_show *s, enum af_read read)
{
	if (read == AF_READ_FAILED)
		af_line_put(s->line, AF_UNREADABLE);
	return read == AF_READ_FINE;
}

static bool show_std(struct af_show *s, struct af_spot at, const char *old_state,
		     const char *new_state, bool is_mutex)
{
	struct af_spot data = at;
	uint64_t state, poison;
	enum af_read read = af_show_number(s, at, new_state, &state);

	if (read == AF_READ_NONE)
		read = af_show_number(s, at, old_state, &state);
	if (read == AF_READ_NONE || !af_show_path(s, "data.value", &data))
		return false;
	if (read == AF_READ_FINE)
		read = af_show_number(s, at, "poison.failed", &poison);
	if (read == AF_READ_NONE)
		return false;
	if (!is_readable(s, read))
		return true;
	bool locked =
		is_mutex ? state != 0 : (state & FUTEX_RWLOCK_READERS) == FUTEX_RWLOCK_READERS;
	put_guarded(s, at, "data: ", data, locked ? "<locked>" : NULL);
	af_line_put(s->line, poison ? ", poisoned: true, .. }" : ", poisoned: false, .. }");
	return true;
}

bool af_show_std_mutex(struct af_show *s, struct af_spot at)
{
	return show_std(s, at, "inner.__0.futex", "inner.futex", true);
}

bool af_show_std_rwlock(struct af_show *s, struct af_spot at)
{
	return show_std(s, at, "inner.__0.state", "inner.state", false);
}

/* Both are semaphores: 1 permit, or as many as there may be readers. The permits are counted
   in the upper bits; none left means a writer, or the last reader that there can be. */
bool af_show_tokio_lock(struct af_show *s, struct af_spot at)
{
	struct af_spot data = at;
	uint64_t permits;

	if (!af_show_path(s, "c.value", &data))
		return false;
	enum af_read read = af_show_number(s, at, "s.permits", &permits);
	if (read == AF_READ_NONE)
		return false;
	if (!is_readable(s, read))
		return true;
	put_guarded(s, at, "data: ", data, permits >> 1 ? NULL : "<locked>");
	af_line_put(s->line, " }");
	return true;
}

/* parking_lot's, by lock_api. A mutex' state is one byte, a rwlock's a word. */
bool af_show_lock_api(struct af_show *s, struct af_spot at)
{
	struct af_spot data = at, raw = at;
	uint64_t state;

	if (!af_show_path(s, "data.value", &data) || !af_show_path(s, "raw.state", &raw) ||
	    !af_show_scalar(s, &raw))
		return false;
	uint64_t mask =
		af_show_type(s, raw.type)->size == 1 ? PARKING_LOT_LOCKED : PARKING_LOT_WRITER;
	enum af_read read = af_show_number(s, raw, "", &state);
	if (read == AF_READ_NONE)
		return false;
	if (!is_readable(s, read))
		return true;
	put_guarded(s, at, "data: ", data, state & mask ? "<locked>" : NULL);
	af_line_put(s->line, " }");
	return true;
}

bool af_show_refcell(struct af_show *s, struct af_spot at)
{
	struct af_spot data = at;
	uint64_t borrow;

	if (!af_show_path(s, "value.value", &data))
		return false;
	enum af_read read = af_show_number(s, at, "borrow", &borrow);
	if (read == AF_READ_NONE)
		return false;
	if (!is_readable(s, read))
		return true;
	put_guarded(s, at, "value: ", data, (int64_t)borrow < 0 ? "<borrowed>" : NULL);
	af_line_put(s->line, " }");
	return true;
}
