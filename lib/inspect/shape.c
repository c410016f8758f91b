/* SPDX-License-Identifier: MIT */
/*
 * Types by name. The tables hold beginnings of qualified names as debug info has them; the first
 * that fits decides.
 */
#include "inspect/shape.h"

struct known {
	const char *name;
	uint8_t shape; /* enum af_shape */
	uint8_t wait;  /* enum af_wait */
};

static const struct known known_types[] = {
	/* Futures whose poll only passes on. */
	{"core::pin::Pin<", AF_SHAPE_FIELDS, 0},
	{"core::future::from_generator::GenFuture<", AF_SHAPE_FIELDS, 0}, /* rustc < 1.64 */
	{"core::panic::unwind_safe::AssertUnwindSafe<", AF_SHAPE_FIELDS, 0},
	{"futures_util::future::try_future::into_future::IntoFuture<", AF_SHAPE_FIELDS, 0},
	{"futures_task::future_obj::FutureObj<", AF_SHAPE_FIELDS, 0},
	{"futures_task::future_obj::LocalFutureObj<", AF_SHAPE_FUTURE_OBJ, 0},
	{"async_executor::CallOnDrop<", AF_SHAPE_FIELDS, 0},
	{"async_executor::AsyncCallOnDrop<", AF_SHAPE_FIELDS, 0},
	{"async_std::task::builder::SupportTaskLocals<", AF_SHAPE_FIELDS, 0},
	{"async_std::task::join_handle::JoinHandle<", AF_SHAPE_FIELDS, 0},
	{"async_global_executor::executor::Task<", AF_SHAPE_FIELDS, 0},
	{"core::future::poll_fn::PollFn<", AF_SHAPE_POLL_FN, 0},
	{"futures_util::future::poll_fn::PollFn<", AF_SHAPE_POLL_FN, 0},
	{"futures_lite::future::PollFn<", AF_SHAPE_POLL_FN, 0},
	{"tokio::future::poll_fn::PollFn<", AF_SHAPE_POLL_FN, 0},
	/* Containers. */
	{"alloc::vec::Vec<", AF_SHAPE_VEC, 0},
	{"alloc::collections::vec_deque::VecDeque<", AF_SHAPE_DEQUE, 0},
	{"alloc::sync::Arc<", AF_SHAPE_ARC, 0},
	{"alloc::rc::Rc<", AF_SHAPE_ARC, 0},
	{"alloc::sync::Weak<", AF_SHAPE_NOTHING, 0},
	{"alloc::rc::Weak<", AF_SHAPE_NOTHING, 0},
	{"core::marker::PhantomData<", AF_SHAPE_NOTHING, 0},
	{"core::task::wake::", AF_SHAPE_NOTHING, 0},
	/* Combinators with a list or a state of their own. */
	{"futures_util::stream::futures_unordered::FuturesUnordered<", AF_SHAPE_FUTURES_UNORDERED,
	 0},
	{"futures_util::stream::futures_ordered::OrderWrapper<", AF_SHAPE_ORDERED, 0},
	{"futures_util::future::maybe_done::MaybeDone<", AF_SHAPE_MAYBE_DONE, 0},
	{"futures_util::future::try_maybe_done::TryMaybeDone<", AF_SHAPE_MAYBE_DONE, 0},
	{"tokio::future::maybe_done::MaybeDone<", AF_SHAPE_MAYBE_DONE, 0},
	{"tokio::future::try_join::TryMaybeDone<", AF_SHAPE_MAYBE_DONE, 0},
	{"async_std::utils::maybe_done::MaybeDone<", AF_SHAPE_MAYBE_DONE, 0},
	{"async_std::future::maybe_done::MaybeDone<", AF_SHAPE_MAYBE_DONE, 0},
	/* Other tasks. */
	{"tokio::runtime::task::join::JoinHandle<", AF_SHAPE_JOIN_HANDLE, AF_WAIT_TASK},
	{"tokio::task::join_set::JoinSet<", AF_SHAPE_JOIN_SET, AF_WAIT_TASK},
	{"async_task::task::Task<", AF_SHAPE_TASK, AF_WAIT_TASK},
	/* Leaves, and where their insides lead to the runtime or to other tasks. */
	{"tokio::runtime::blocking::task::BlockingTask<", AF_SHAPE_LEAF, AF_WAIT_BLOCKING},
	{"tokio::time::sleep::Sleep", AF_SHAPE_LEAF, AF_WAIT_TIMER},
	{"tokio::sync::oneshot::Receiver<", AF_SHAPE_LEAF, AF_WAIT_CHANNEL},
	{"tokio::sync::broadcast::Recv<", AF_SHAPE_LEAF, AF_WAIT_CHANNEL},
	{"tokio::sync::mpsc::", AF_SHAPE_NOTHING, AF_WAIT_CHANNEL},
	{"tokio::sync::batch_semaphore::Acquire", AF_SHAPE_LEAF, AF_WAIT_LOCK},
	{"tokio::sync::notify::Notified", AF_SHAPE_LEAF, AF_WAIT_NOTIFY},
	{"tokio_util::sync::cancellation_token::WaitForCancellationFuture", AF_SHAPE_LEAF,
	 AF_WAIT_NOTIFY},
	{"tokio::runtime::io::scheduled_io::Readiness", AF_SHAPE_LEAF, AF_WAIT_IO},
	{"tokio::task::local::LocalSet", AF_SHAPE_LEAF, AF_WAIT_TASK},
	/* Around every task where tokio can dump tasks itself. */
	{"tokio::runtime::task::trace::Root<", AF_SHAPE_FIELDS, 0},
	{"tokio::runtime::", AF_SHAPE_NOTHING, 0},
	{"futures_channel::oneshot::Receiver<", AF_SHAPE_LEAF, AF_WAIT_CHANNEL},
	{"futures_channel::", AF_SHAPE_NOTHING, AF_WAIT_CHANNEL},
	{"async_channel::", AF_SHAPE_NOTHING, AF_WAIT_CHANNEL},
	{"flume::", AF_SHAPE_NOTHING, AF_WAIT_CHANNEL},
	{"event_listener::EventListener", AF_SHAPE_LEAF, AF_WAIT_NOTIFY},
	{"event_listener::", AF_SHAPE_NOTHING, 0},
	{"async_io::Timer", AF_SHAPE_LEAF, AF_WAIT_TIMER},
	{"futures_timer::native::delay::Delay", AF_SHAPE_LEAF, AF_WAIT_TIMER},
	{"core::future::pending::Pending<", AF_SHAPE_LEAF, AF_WAIT_NEVER},
	{"futures_util::future::pending::Pending<", AF_SHAPE_LEAF, AF_WAIT_NEVER},
	{"async_std::future::pending::Pending<", AF_SHAPE_LEAF, AF_WAIT_NEVER},
	{"async_executor::", AF_SHAPE_NOTHING, 0},
};

/* Of coroutines and closures these crates hold: what their code waits for. */
static const struct known known_places[] = {
	{"tokio::time::", 0, AF_WAIT_TIMER},
	{"tokio::net::", 0, AF_WAIT_IO},
	{"tokio::io::", 0, AF_WAIT_IO},
	{"tokio::runtime::io::", 0, AF_WAIT_IO},
	{"tokio::sync::mpsc::", 0, AF_WAIT_CHANNEL},
	{"tokio::sync::oneshot::", 0, AF_WAIT_CHANNEL},
	{"tokio::sync::broadcast::", 0, AF_WAIT_CHANNEL},
	{"tokio::sync::watch::", 0, AF_WAIT_NOTIFY},
	{"tokio::sync::notify::", 0, AF_WAIT_NOTIFY},
	{"tokio::sync::", 0, AF_WAIT_LOCK},
	{"tokio::task::yield_now::", 0, AF_WAIT_YIELD},
	{"tokio::task::join_set::", 0, AF_WAIT_TASK},
	{"tokio::fs::", 0, AF_WAIT_BLOCKING},
	{"tokio::signal::", 0, AF_WAIT_SIGNAL},
	{"tokio::process::", 0, AF_WAIT_SIGNAL},
	{"async_channel::", 0, AF_WAIT_CHANNEL},
	{"async_lock::", 0, AF_WAIT_LOCK},
	{"async_io::", 0, AF_WAIT_IO},
	{"async_net::", 0, AF_WAIT_IO},
	{"async_signal::", 0, AF_WAIT_SIGNAL},
	{"async_process::", 0, AF_WAIT_SIGNAL},
	{"blocking::", 0, AF_WAIT_BLOCKING},
	{"futures_util::lock::", 0, AF_WAIT_LOCK},
	{"futures_channel::", 0, AF_WAIT_CHANNEL},
	{"futures_lite::future::YieldNow", 0, AF_WAIT_YIELD},
	{"async_std::task::yield_now::", 0, AF_WAIT_YIELD},
	{"async_std::task::sleep::", 0, AF_WAIT_TIMER},
	{"async_std::net::", 0, AF_WAIT_IO},
	{"async_std::sync::", 0, AF_WAIT_LOCK},
};

#define WAIT_OF_OWNED 0x80u /* in a shape's wait: told by what it owns */
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const struct known *look_up(const struct known *table, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strncmp(name, table[i].name, strlen(table[i].name)))
			return &table[i];
	return NULL;
}

/* A closure or a coroutine: named after the function it is written in, which says nothing of
   what it holds. */
static bool is_environment(const char *name)
{
	const char *env = strstr(name, "_env#");
	return env && (size_t)(env - name) < strcspn(name, "<");
}

static bool has_field(const struct af_target *target, uint32_t image, uint32_t type,
		      const char *name)
{
	return af_target_field(target, image, type, name) != NULL;
}

static enum af_shape of_struct(const struct af_target *target, uint32_t image, uint32_t type)
{
	const struct afm_type *t = af_target_type(target, image, type);
	bool reaches = t->flags & AFM_TF_REACHES_FUTURE;

	if (t->n_fields == 2 && has_field(target, image, type, "vtable") &&
	    has_field(target, image, type, "pointer"))
		return *af_target_string(target, image, t->name) == '*' ? AF_SHAPE_NOTHING
									: AF_SHAPE_DYN;
	if (t->n_fields == 2 && has_field(target, image, type, "data_ptr") &&
	    has_field(target, image, type, "length"))
		return reaches && *af_target_string(target, image, t->name) != '*'
			       ? AF_SHAPE_SLICE
			       : AF_SHAPE_NOTHING;
	if (t->future != AFM_NONE) {
		const struct afm_future *future =
			af_futuremap_futures(&target->images[image].map, t->future);
		if (future->kind != AFM_F_HAND)
			return future->type == type ? AF_SHAPE_COROUTINE : AF_SHAPE_FIELDS;
		return AF_SHAPE_HAND;
	}
	return reaches ? AF_SHAPE_FIELDS : AF_SHAPE_NOTHING;
}

static enum af_shape of_pointer(const struct af_target *target, uint32_t image,
				const struct afm_type *t)
{
	const char *name = af_target_string(target, image, t->name);

	if (t->target == AFM_NONE ||
	    (*name != '&' && strncmp(name, "alloc::boxed::Box<", sizeof("alloc::boxed::Box<") - 1)))
		return AF_SHAPE_NOTHING; /* raw: anything, or nothing, may be behind it */
	return AF_SHAPE_POINTER;
}

/* The path of the code in a name: of `PollFn<path>` that of the closure. */
static const char *place_of(const char *name)
{
	const char *poll_fn = strstr(name, "::PollFn<");
	return poll_fn && poll_fn < name + sizeof("futures_util::future::poll_fn")
		       ? poll_fn + sizeof("::PollFn<") - 1
		       : name;
}

/* What a future that is written by hand, with none below it, owns or borrows to drive it tells what
   it waits for, as of `Next { stream: &mut Framed<TcpStream, C> }`: the one kind that is known of all
   that it reaches. Senders are for answers, unless they are borrowed. Where there may be a future,
   only that would tell. */
#define OWNED_DEPTH 6
#define OWNED_STEPS 128
#define WAIT_UNKNOWN (1u << 31) /* beside the bits of waits */

struct owned {
	const struct af_target *target;
	uint32_t image, steps;
	unsigned int waits; /* bits */
	bool senders;	    /* count as well */
};

static void see_owned(struct owned *o, uint32_t type, unsigned int depth);

static void see_fields(struct owned *o, uint32_t first, uint32_t n, unsigned int depth)
{
	const struct af_futuremap *map = &o->target->images[o->image].map;

	for (uint32_t i = 0; i < n; i++)
		see_owned(o, af_futuremap_fields(map, first + i)->type, depth);
}

static void see_owned(struct owned *o, uint32_t type, unsigned int depth)
{
	const struct af_futuremap *map = &o->target->images[o->image].map;
	if (type == AFM_NONE || !depth || o->steps++ > OWNED_STEPS)
		return;
	const struct afm_type *t = af_futuremap_types(map, type);
	const char *name = af_futuremap_string(map, t->name);
	const struct known *known = NULL;

	if (t->kind == AFM_T_STRUCT && !is_environment(name)) {
		known = look_up(known_types, COUNT(known_types), name);
		if (!known || !known->wait)
			known = look_up(known_places, COUNT(known_places), name);
	}
	bool reaches = t->flags & AFM_TF_REACHES_FUTURE;
	if (known && known->wait) {
		if (o->senders || !strstr(name, "Sender<"))
			o->waits |= 1u << known->wait;
		return;
	}
	if (t->kind == AFM_T_POINTER &&
	    (!strncmp(name, "&mut ", 5) || !strncmp(name, "alloc::boxed::Box<", 18)))
		see_owned(o, t->target, depth - 1);
	else if (t->kind == AFM_T_POINTER && reaches)
		o->waits |= WAIT_UNKNOWN;
	if (t->future != AFM_NONE || (reaches && t->kind == AFM_T_STRUCT &&
				      of_struct(o->target, o->image, type) == AF_SHAPE_DYN)) {
		o->waits |= WAIT_UNKNOWN;
		return;
	}
	see_fields(o, t->first_field, t->n_fields, depth - 1);
	for (uint32_t v = 0; v < t->n_variants; v++) {
		const struct afm_variant *variant =
			af_futuremap_variants(map, t->first_variant + v);
		see_fields(o, variant->first_field, variant->n_fields, depth - 1);
	}
}

static unsigned int owned_wait(const struct af_target *target, uint32_t image, uint32_t type)
{
	const struct afm_type *t = af_target_type(target, image, type);
	const struct af_futuremap *map = &target->images[image].map;
	struct owned o = {.target = target, .image = image};

	for (uint32_t i = 0; i < t->n_fields; i++) {
		uint32_t of = af_futuremap_fields(map, t->first_field + i)->type;
		if (of == AFM_NONE)
			continue;
		const struct afm_type *field = af_futuremap_types(map, of);
		o.senders = !strncmp(af_futuremap_string(map, field->name), "&mut ", 5);
		see_owned(&o, of, OWNED_DEPTH);
	}
	/* One bit, and not another. Where not all was seen, another could be there. That it owns a
	   lock does not say that it waits for that. */
	if (!o.waits || (o.waits & (o.waits - 1)) || o.steps > OWNED_STEPS ||
	    (o.waits & (WAIT_UNKNOWN | 1u << AF_WAIT_LOCK)))
		return AF_WAIT_NONE;
	return (unsigned int)__builtin_ctz(o.waits);
}

/* What the table knows of a name; `shape` is what the map says. */
static const struct known *known_type(const char *name, enum af_shape shape)
{
	if (shape == AF_SHAPE_COROUTINE || shape == AF_SHAPE_DYN || is_environment(name))
		return NULL;
	return look_up(known_types, COUNT(known_types), name);
}

static uint16_t classify_struct(const struct af_target *target, uint32_t image, uint32_t type)
{
	const char *name =
		af_target_string(target, image, af_target_type(target, image, type)->name);
	enum af_shape shape = of_struct(target, image, type);
	const struct known *known = known_type(name, shape), *place;
	unsigned int wait = AF_WAIT_NONE;

	if (known) {
		bool future = shape == AF_SHAPE_HAND;
		shape = known->shape;
		wait = known->wait;
		if (shape == AF_SHAPE_NOTHING && future)
			shape = AF_SHAPE_LEAF;
	}
	if (!wait) {
		place = look_up(known_places, COUNT(known_places), place_of(name));
		wait = place ? place->wait : AF_WAIT_NONE;
	}
	if (!wait && shape == AF_SHAPE_HAND) {
		wait = owned_wait(target, image, type);
		wait |= wait ? WAIT_OF_OWNED : 0;
	}
	return (uint16_t)(shape | wait << 8);
}

static uint16_t classify(const struct af_target *target, uint32_t image, uint32_t type)
{
	const struct afm_type *t = af_target_type(target, image, type);

	switch (t->kind) {
	case AFM_T_POINTER:
		return (uint16_t)of_pointer(target, image, t);
	case AFM_T_ARRAY:
		return t->flags & AFM_TF_REACHES_FUTURE ? AF_SHAPE_ARRAY : AF_SHAPE_NOTHING;
	case AFM_T_STRUCT:
		return classify_struct(target, image, type);
	default: /* what is in a union nobody knows */
		return AF_SHAPE_NOTHING;
	}
}

static uint16_t get(const struct af_target *target, uint32_t image, uint32_t type)
{
	uint16_t *shapes = target->images[image].shapes;

	if (!shapes)
		return classify(target, image, type);
	/* Threads that race here store the same. */
	uint16_t known = __atomic_load_n(&shapes[type], __ATOMIC_RELAXED);
	if (!known) {
		known = classify(target, image, type);
		__atomic_store_n(&shapes[type], known, __ATOMIC_RELAXED);
	}
	return known;
}

enum af_shape af_shape_of(const struct af_target *target, uint32_t image, uint32_t type)
{
	return get(target, image, type) & 0xff;
}

enum af_wait af_shape_wait(const struct af_target *target, uint32_t image, uint32_t type)
{
	return get(target, image, type) >> 8 & ~WAIT_OF_OWNED;
}

enum af_wait af_shape_own_wait(const struct af_target *target, uint32_t image, uint32_t type)
{
	unsigned int wait = get(target, image, type) >> 8;
	return wait & WAIT_OF_OWNED ? AF_WAIT_NONE : wait;
}

const char *af_wait_name(enum af_wait wait)
{
	static const char *const names[] = {
		[AF_WAIT_TIMER] = "timer",	 [AF_WAIT_TASK] = "task",
		[AF_WAIT_BLOCKING] = "blocking", [AF_WAIT_IO] = "I/O",
		[AF_WAIT_CHANNEL] = "channel",	 [AF_WAIT_LOCK] = "lock",
		[AF_WAIT_NOTIFY] = "notify",	 [AF_WAIT_YIELD] = "yield",
		[AF_WAIT_SIGNAL] = "signal",	 [AF_WAIT_NEVER] = "never",
	};
	return (size_t)wait < COUNT(names) ? names[wait] : NULL;
}
