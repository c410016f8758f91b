/* SPDX-License-Identifier: MIT */
/*
 * HashMap and HashSet (hashbrown), BTreeMap and BTreeSet, in the order of their iterators.
 *
 * hashbrown: one control byte a bucket, with its top bit clear where the bucket is in use.
 * Bucket i lies below the control bytes, at ctrl - (i + 1) * size.
 *
 * BTreeMap: nodes of up to 11 keys and values; an inner node is a leaf followed by its 12
 * children's addresses. All leaves are at height 0.
 */
#include "inspect/value_show.h"

#define CONTROL_BYTES_MAX (1 << 16) /* more are not looked through for the few shown */
#define NODE_KEYS 11
#define HEIGHT_MAX 16

/* The entries of a map that is being shown. */
struct entries {
	struct af_show *s;
	uint64_t length, shown;
	bool is_set;
};

static bool begin_entries(struct entries *e)
{
	af_line_put(e->s->line, "{");
	return e->length && af_show_enter(e->s);
}

/* False where no more are to come. */
static bool put_entry(struct entries *e, struct af_spot key, struct af_spot value)
{
	struct af_show *s = e->s;

	if (e->shown >= e->length || e->shown >= s->options->max_elements || af_show_is_over(s))
		return false;
	if (e->shown++)
		af_line_put(s->line, ", ");
	af_show_value(s, key);
	if (!e->is_set) {
		af_line_put(s->line, ": ");
		af_show_value(s, value);
	}
	return true;
}

static void end_entries(struct entries *e, bool entered, const char *failed)
{
	struct af_show *s = e->s;

	if (entered) {
		if (e->shown < e->length) {
			af_line_put(s->line, e->shown ? ", " : "");
			if (failed) {
				af_line_put(s->line, failed);
			} else {
				af_line_put(s->line, ".. ");
				af_line_unsigned(s->line, e->length - e->shown);
				af_line_put(s->line, " more");
			}
		}
		af_show_leave(s);
	}
	af_line_put(s->line, "}");
}

/* NULL or why it ended before its time. */
static const char *walk_buckets(struct entries *e, uint64_t ctrl, uint64_t buckets,
				struct af_spot key, struct af_spot value, uint64_t size)
{
	uint8_t bytes[64];

	for (uint64_t i = 0; i < buckets && e->shown < e->length; i++) {
		uint64_t in = i % sizeof(bytes);
		if (i >= CONTROL_BYTES_MAX)
			return NULL;
		if (!in) {
			size_t n =
				buckets - i < sizeof(bytes) ? (size_t)(buckets - i) : sizeof(bytes);
			if (!af_memory_read(e->s->target->memory, ctrl + i, bytes, n))
				return AF_UNREADABLE;
		}
		if (bytes[in] & 0x80)
			continue;
		uint64_t entry = ctrl - (i + 1) * size;
		if (!put_entry(e, (struct af_spot){key.type, entry + key.address},
			       (struct af_spot){value.type, entry + value.address}))
			return NULL;
	}
	/* All buckets seen, and not as many in use as it says. */
	return e->shown < e->length ? AF_INVALID : NULL;
}

bool af_show_hash_map(struct af_show *s, struct af_spot at)
{
	const char *const paths[] = {"table.bucket_mask", "table.ctrl", "table.items"};
	uint64_t numbers[3];
	struct entries e = {.s = s};

	af_show_path(s, "base", &at);
	e.is_set = af_show_path(s, "map", &at);
	if (!af_show_path(s, "table", &at))
		return false;
	uint32_t pair = af_show_type(s, at.type)->template_arg;
	if (pair == AFM_NONE)
		return false;
	struct af_spot key = {pair, 0}, value = {pair, 0};
	if (!af_show_path(s, "__0", &key) || !af_show_path(s, "__1", &value))
		return false;

	enum af_read read = af_show_numbers(s, at, paths, numbers, 3);
	if (read == AF_READ_NONE)
		return false;
	uint64_t buckets = numbers[0] + 1;
	e.length = numbers[2];
	if (read == AF_READ_FAILED) {
		af_line_put(s->line, AF_UNREADABLE);
	} else if (!buckets || buckets & (buckets - 1) || e.length > buckets || !numbers[1] ||
		   buckets >> 40) {
		af_line_put(s->line, AF_INVALID);
	} else {
		bool entered = begin_entries(&e);
		const char *failed = NULL;
		if (entered)
			failed = walk_buckets(&e, numbers[1], buckets, key, value,
					      af_show_size(s, pair));
		end_entries(&e, entered, failed);
	}
	return true;
}

/* What a node of this map looks like. */
struct layout {
	uint64_t length, keys, values, children; /* offsets */
	uint32_t key, value;			 /* types */
	uint64_t key_size, value_size;
};

/* keys: [MaybeUninit<K>; 11] */
static bool read_row(const struct af_show *s, uint32_t leaf, const char *name, uint64_t *offset,
		     uint32_t *type, uint64_t *size)
{
	struct af_spot row = {leaf, 0};

	if (!af_show_path(s, name, &row))
		return false;
	const struct afm_type *array = af_show_type(s, row.type);
	if (array->kind != AFM_T_ARRAY || array->target == AFM_NONE || array->length != NODE_KEYS)
		return false;
	*offset = row.address;
	*type = af_show_type(s, array->target)->template_arg;
	*size = af_show_size(s, array->target);
	return *type != AFM_NONE;
}

static bool read_layout(const struct af_show *s, uint32_t leaf, struct layout *layout)
{
	struct af_spot length = {leaf, 0};

	if (!af_show_path(s, "len", &length) || af_show_type(s, length.type)->size != 2)
		return false;
	layout->length = length.address;
	layout->children = (af_show_type(s, leaf)->size + 7) & ~UINT64_C(7);
	return read_row(s, leaf, "keys", &layout->keys, &layout->key, &layout->key_size) &&
	       read_row(s, leaf, "vals", &layout->values, &layout->value, &layout->value_size);
}

/* In order, without recursion: the way down is kept. NULL or why it ended. */
static const char *walk_tree(struct entries *e, const struct layout *layout, uint64_t root,
			     uint64_t height)
{
	struct af_memory *memory = e->s->target->memory;
	struct {
		uint64_t node, length, next;
	} way[HEIGHT_MAX + 1];
	uint64_t level = 0, node = root;

	if (height >= HEIGHT_MAX)
		return AF_INVALID;
	for (bool down = true;;) {
		if (down) {
			way[level].node = node;
			way[level].next = 0;
			if (!node)
				return AF_INVALID;
			if (!af_memory_read_number(memory, node + layout->length, 2,
						   &way[level].length))
				return AF_UNREADABLE;
			if (!way[level].length || way[level].length > NODE_KEYS)
				return AF_INVALID;
			if (level < height) {
				if (!af_memory_read_u64(memory, node + layout->children, &node))
					return AF_UNREADABLE;
				level++;
				continue;
			}
		}
		if (way[level].next == way[level].length) {
			if (!level--)
				return e->shown < e->length ? AF_INVALID : NULL;
			down = false;
			continue;
		}
		uint64_t i = way[level].next++;
		uint64_t keys = way[level].node + layout->keys;
		uint64_t values = way[level].node + layout->values;
		if (!put_entry(e, (struct af_spot){layout->key, keys + i * layout->key_size},
			       (struct af_spot){layout->value, values + i * layout->value_size}))
			return NULL;
		down = level < height;
		if (!down)
			continue;
		if (!af_memory_read_u64(memory, way[level].node + layout->children + 8 * (i + 1),
					&node))
			return AF_UNREADABLE;
		level++;
	}
}

bool af_show_tree_map(struct af_show *s, struct af_spot at)
{
	struct entries e = {.s = s};
	struct layout layout;
	struct af_spot root;

	e.is_set = af_show_path(s, "map", &at);
	root = at;
	if (!af_show_path(s, "root", &root))
		return false;
	/* Option<NodeRef>: None with the pointer null. */
	const struct afm_type *option = af_show_type(s, root.type);
	const struct afm_field *some = NULL;
	for (uint32_t i = 0; i < option->n_variants; i++) {
		const struct afm_variant *v =
			af_futuremap_variants(s->map, option->first_variant + i);
		if (v->n_fields == 1)
			some = af_futuremap_fields(s->map, v->first_field);
	}
	if (!some || some->type == AFM_NONE)
		return false;
	struct af_spot reference = {some->type, root.address + some->offset}, node;
	node = reference;
	if (!af_show_path(s, "node", &node) || !af_show_scalar(s, &node))
		return false;
	uint32_t leaf = af_show_type(s, node.type)->target;
	if (leaf == AFM_NONE || !read_layout(s, leaf, &layout))
		return false;

	uint64_t height, pointer;
	enum af_read read = af_show_number(s, at, "length", &e.length);
	if (read == AF_READ_NONE)
		return false;
	if (read == AF_READ_FAILED || af_show_number(s, node, "", &pointer) != AF_READ_FINE ||
	    af_show_number(s, reference, "height", &height) != AF_READ_FINE) {
		af_line_put(s->line, AF_UNREADABLE);
	} else if (e.length >> 40 || (e.length && !pointer)) {
		af_line_put(s->line, AF_INVALID);
	} else {
		bool entered = begin_entries(&e);
		const char *failed = NULL;
		if (entered)
			failed = walk_tree(&e, &layout, pointer, height);
		end_entries(&e, entered, failed);
	}
	return true;
}
