/* SPDX-License-Identifier: MIT */
/*
 * Which types are known by name. Modules move between versions, so a type is known by its
 * crate and its own name; what has that name but other fields is shown by its fields.
 */
#include <string.h>

#include "inspect/locals.h"
#include "inspect/value_show.h"

/* Newtypes that are shown as what they hold. */
static bool show_inner(struct af_show *s, struct af_spot at)
{
	if (!af_show_scalar(s, &at))
		return false;
	af_show_value(s, at);
	return true;
}

/* Atomic<bool>, AtomicBool hold a u8, AtomicPtr<T> is read as a pointer. */
static bool show_atomic(struct af_show *s, struct af_spot at)
{
	const char *name = af_show_type_name(s, at.type);
	uint64_t number;

	if (!strstr(name, "AtomicBool") && !strstr(name, "Atomic<bool>"))
		return show_inner(s, at);
	switch (af_show_number(s, at, "", &number)) {
	case AF_READ_NONE:
		return false;
	case AF_READ_FAILED:
		af_line_put(s->line, AF_UNREADABLE);
		return true;
	case AF_READ_FINE:
		af_line_put(s->line, number > 1 ? AF_INVALID : number ? "true" : "false");
	}
	return true;
}

static bool show_pin(struct af_show *s, struct af_spot at)
{
	/* The field has been called both in its time. */
	if (!af_show_path(s, "pointer", &at) && !af_show_path(s, "__pointer", &at))
		return false;
	af_show_value(s, at);
	return true;
}

static bool show_cell(struct af_show *s, struct af_spot at)
{
	struct af_spot value = at;

	if (!af_show_path(s, "value.value", &value))
		return false;
	af_line_put(s->line, "Cell { value: ");
	af_show_value(s, value);
	af_line_put(s->line, " }");
	return true;
}

/* Enums that show what their variant holds, and not which it is. */
static bool show_held(struct af_show *s, struct af_spot at)
{
	const struct afm_type *type = af_show_type(s, at.type);

	if (!type->n_variants)
		return false;
	const struct afm_variant *v = af_show_variant(s, at);
	if (!v)
		return true;
	if (v->n_fields == 1) {
		const struct afm_field *field = af_futuremap_fields(s->map, v->first_field);
		af_show_value(s, (struct af_spot){field->type, at.address + field->offset});
	} else {
		af_line_put(s->line, af_futuremap_string(s->map, v->name));
	}
	return true;
}

static bool show_weak(struct af_show *s, struct af_spot at)
{
	af_line_put(s->line, "(Weak)");
	return true;
}

static bool show_phantom(struct af_show *s, struct af_spot at)
{
	const struct afm_type *type = af_show_type(s, at.type);

	af_line_put(s->line, "PhantomData<");
	if (type->template_arg != AFM_NONE)
		af_line_put(s->line, af_show_type_name(s, type->template_arg));
	af_line_put(s->line, ">");
	return true;
}

static bool show_heap(struct af_show *s, struct af_spot at)
{
	return af_show_path(s, "data", &at) && af_show_vec(s, at);
}

static bool show_length(struct af_show *s, struct af_spot at)
{
	uint64_t length;
	enum af_read read = af_show_number(s, at, "len", &length);

	if (read == AF_READ_NONE)
		return false;
	af_show_type_head(s, af_show_type_name(s, at.type));
	af_line_put(s->line, "(");
	if (read == AF_READ_FINE)
		af_line_unsigned(s->line, length);
	else
		af_line_put(s->line, AF_UNREADABLE);
	af_line_put(s->line, ")");
	return true;
}

static bool show_range(struct af_show *s, struct af_spot at)
{
	struct af_spot start = at, end = at, exhausted = at;

	if (!af_show_path(s, "start", &start) || !af_show_path(s, "end", &end))
		return false;
	af_show_value(s, start);
	af_line_put(s->line, af_show_path(s, "exhausted", &exhausted) ? "..=" : "..");
	af_show_value(s, end);
	return true;
}

/* What lies at an address for a length, where the members at `paths` say so. */
static bool show_view(struct af_show *s, struct af_spot at, const char *const paths[2], bool c_text)
{
	uint64_t parts[2];

	switch (af_show_numbers(s, at, paths, parts, 2)) {
	case AF_READ_NONE:
		return false;
	case AF_READ_FAILED:
		af_line_put(s->line, AF_UNREADABLE);
		return true;
	case AF_READ_FINE:
		if (c_text)
			af_show_c_text(s, parts[0], parts[1]);
		else
			af_show_text(s, AF_QUOTE_BYTES, parts[0], parts[1]);
	}
	return true;
}

/* Bytes and BytesMut: a view, whoever owns it. */
static bool show_bytes(struct af_show *s, struct af_spot at)
{
	return show_view(s, at, (const char *const[]){"ptr", "len"}, false);
}

/* CString { inner: Box<[u8]> }, with the zero at its end. */
static bool show_c_string(struct af_show *s, struct af_spot at)
{
	return show_view(s, at, (const char *const[]){"inner.data_ptr", "inner.length"}, true);
}

/* std::io::Error is a pointer or a number, by its lowest bits (library/std/src/io/error/
   repr_bitpacked.rs, since 1.60): the system's error in the upper half where these are 2. What
   the others are made of debug info does not say. */
static bool show_io_error(struct af_show *s, struct af_spot at)
{
	static const char name[] = "std::io::error::Error";
	uint64_t word;

	if (strcmp(af_show_type_name(s, at.type), name))
		return false;
	switch (af_show_number(s, at, "repr.__0", &word)) {
	case AF_READ_NONE:
		return false;
	case AF_READ_FAILED:
		af_line_put(s->line, AF_UNREADABLE);
		return true;
	case AF_READ_FINE:
		break;
	}
	if ((word & 3) != 2) {
		af_line_put(s->line, "Error { .. }");
		return true;
	}
	af_line_put(s->line, "Os { code: ");
	af_line_unsigned(s->line, word >> 32);
	af_line_put(s->line, ", .. }");
	return true;
}

/* The number of the descriptor that a socket or file is, wherever in it: the first OwnedFd that
   it holds by value. */
static bool find_descriptor(const struct af_show *s, struct af_spot at, int depth, int *budget,
			    uint64_t *fd)
{
	if (at.type == AFM_NONE || depth > 10 || --*budget < 0)
		return false;
	const struct afm_type *type = af_show_type(s, at.type);
	const char *end = strstr(af_show_type_name(s, at.type), "::OwnedFd");
	uint32_t first = type->first_field, n = type->n_fields, variant;

	if (end && !end[sizeof("::OwnedFd") - 1])
		return af_show_number(s, at, "fd", fd) == AF_READ_FINE;
	if (type->n_variants) {
		if (af_target_variant(s->target, s->image, at.type, at.address, &variant) !=
		    AF_ACTIVE_FOUND)
			return false;
		first = af_futuremap_variants(s->map, variant)->first_field;
		n = af_futuremap_variants(s->map, variant)->n_fields;
	}
	for (uint32_t i = 0; i<n && * budget> 0; i++) {
		const struct afm_field *field = af_futuremap_fields(s->map, first + i);
		if (find_descriptor(s, (struct af_spot){field->type, at.address + field->offset},
				    depth + 1, budget, fd))
			return true;
	}
	return false;
}

static bool show_descriptor(struct af_show *s, struct af_spot at)
{
	uint64_t fd;
	int budget = 100;

	if (!find_descriptor(s, at, 0, &budget, &fd))
		return false;
	af_show_type_head(s, af_show_type_name(s, at.type));
	af_line_put(s->line, " { fd: ");
	if (fd > INT32_MAX)
		af_line_put(s->line, AF_INVALID);
	else
		af_line_unsigned(s->line, fd);
	af_line_put(s->line, " }");
	return true;
}

/* What a runtime's own types are made of means nothing to its users. */
static bool show_opaque(struct af_show *s, struct af_spot at)
{
	const struct afm_type *type = af_show_type(s, at.type);

	if (type->n_variants || type->future != AFM_NONE)
		return false;
	af_show_type_head(s, af_show_type_name(s, at.type));
	if (type->n_fields)
		af_line_put(s->line, " { .. }");
	return true;
}

/* Semaphore: the permits that are left, counted in the upper bits. */
static bool show_semaphore(struct af_show *s, struct af_spot at)
{
	uint64_t permits;

	if (af_show_number(s, at, "ll_sem.permits", &permits) != AF_READ_FINE)
		return false;
	af_line_put(s->line, "Semaphore { permits: ");
	af_line_unsigned(s->line, permits >> 1);
	af_line_put(s->line, " }");
	return true;
}

/* tokio's timer, by the only thing that anybody wants to know of it. */
static bool show_sleep(struct af_show *s, struct af_spot at)
{
	struct af_spot deadline = at;

	if (!af_locals_deadline(s->target, s->image, &deadline.type, &deadline.address))
		return false;
	af_line_put(s->line, "Sleep { deadline: ");
	af_show_value(s, deadline);
	af_line_put(s->line, " }");
	return true;
}

/* `own` with a star at its end: all that begin so. */
static const struct known {
	const char *crate, *own;
	bool (*show)(struct af_show *s, struct af_spot at);
} known[] = {
	{"alloc", "Arc", af_show_counted},
	{"alloc", "BTreeMap", af_show_tree_map},
	{"alloc", "BTreeSet", af_show_tree_map},
	{"alloc", "BinaryHeap", show_heap},
	{"alloc", "CString", show_c_string},
	{"alloc", "Cow", show_held},
	{"alloc", "LinkedList", show_length},
	{"alloc", "Rc", af_show_counted},
	{"alloc", "String", af_show_string},
	{"alloc", "Vec", af_show_vec},
	{"alloc", "VecDeque", af_show_deque},
	{"alloc", "Weak", show_weak},
	{"bytes", "Bytes", show_bytes},
	{"bytes", "BytesMut", show_bytes},
	{"core", "Atomic*", show_atomic},
	{"core", "Cell", show_cell},
	{"core", "Duration", af_show_duration},
	{"core", "IpAddr", show_held},
	{"core", "Ipv4Addr", af_show_ipv4},
	{"core", "Ipv6Addr", af_show_ipv6},
	{"core", "Nanoseconds", show_inner},
	{"core", "NonZero*", show_inner},
	{"core", "PhantomData", show_phantom},
	{"core", "Pin", show_pin},
	{"core", "Range", show_range},
	{"core", "RangeInclusive", show_range},
	{"core", "RefCell", af_show_refcell},
	{"core", "SocketAddr", show_held},
	{"core", "SocketAddrV4", af_show_socket_v4},
	{"core", "SocketAddrV6", af_show_socket_v6},
	{"core", "Usize*", show_inner},
	{"core", "Wrapping", show_inner},
	{"hashbrown", "HashMap", af_show_hash_map},
	{"hashbrown", "HashSet", af_show_hash_map},
	{"lock_api", "Mutex", af_show_lock_api},
	{"lock_api", "RwLock", af_show_lock_api},
	{"std", "CString", show_c_string}, /* before 1.64 */
	{"std", "Error", show_io_error},
	{"std", "File", show_descriptor},
	{"std", "HashMap", af_show_hash_map},
	{"std", "HashSet", af_show_hash_map},
	{"std", "Instant", af_show_instant},
	{"std", "IpAddr", show_held},
	{"std", "Ipv4Addr", af_show_ipv4},
	{"std", "Ipv6Addr", af_show_ipv6},
	{"std", "Mutex", af_show_std_mutex},
	{"std", "OsString", af_show_string},
	{"std", "OwnedFd", show_descriptor},
	{"std", "PathBuf", af_show_string},
	{"std", "RwLock", af_show_std_rwlock},
	{"std", "SocketAddr", show_held},
	{"std", "SocketAddrV4", af_show_socket_v4},
	{"std", "SocketAddrV6", af_show_socket_v6},
	{"std", "SystemTime", af_show_date},
	{"std", "TcpListener", show_descriptor},
	{"std", "TcpStream", show_descriptor},
	{"std", "UdpSocket", show_descriptor},
	{"std", "Unix*", show_descriptor},
	{"tokio", "Instant", af_show_instant},
	{"tokio", "Mutex", af_show_tokio_lock},
	{"tokio", "RwLock", af_show_tokio_lock},
	{"tokio", "Semaphore", show_semaphore},
	{"tokio", "Sleep", show_sleep},
	{"tokio", "TcpListener", show_descriptor},
	{"tokio", "TcpStream", show_descriptor},
	{"tokio", "UdpSocket", show_descriptor},
	{"tokio", "Unix*", show_descriptor},
};

static bool matches(const struct known *k, const char *crate, size_t crate_length, const char *own,
		    size_t length)
{
	/* Most are told apart by a letter. */
	if (k->own[0] != own[0] || k->crate[0] != crate[0])
		return false;
	size_t n = strlen(k->own);
	if (strncmp(k->crate, crate, crate_length) || k->crate[crate_length])
		return false;
	if (k->own[n - 1] == '*')
		return length >= n - 1 && !strncmp(k->own, own, n - 1);
	return length == n && !strncmp(k->own, own, n);
}

bool af_show_known(struct af_show *s, struct af_spot at)
{
	const char *name = af_show_type_name(s, at.type);
	size_t crate_length = strcspn(name, ":<([{&* ");

	if (strncmp(name + crate_length, "::", 2))
		return false;
	/* The last part before the arguments; methods' local types have braces before. */
	const char *own = name + crate_length + 2;
	for (const char *p = own; *p && *p != '<'; p++)
		if (p[0] == ':' && p[1] == ':')
			own = p + 2;
	size_t length = strcspn(own, "<");
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (matches(&known[i], name, crate_length, own, length))
			if (known[i].show(s, at))
				return true;
	return !strncmp(name, "tokio::", 7) && show_opaque(s, at);
}
