/* SPDX-License-Identifier: MIT */
#include "record/parked.h"

#include <stdatomic.h>
#include <string.h>

#include "record/parked_guard.h"
#include "record/parked_known.h"
#include "record/parked_places.h"
#include "record/switch.h"
#include "record/syscall.h"
#include "record/thread.h"

#define TODO_MAX 32 /* values still to be looked at */
#define BUDGET 96   /* values looked at, per task */
#define PROBES 16   /* of the node table */
#define TAGS_MAX 16 /* of a value with a default: of more a walk is not remembered */
#define DROPPED_TIME UINT64_C(150000000) /* ticks, some 50 ms, for all tasks that are dropped */

/* RUNNING and COMPLETE of a task's state (tokio 1.x, runtime/task/state.rs). A shutdown sets the
   first; the other bits, and the count of references, change at any time. */
#define TOKIO_LIFECYCLE 3

/* One value that is still to be looked at, below the node `parent`. */
struct value {
	uint64_t at;
	uint32_t step;
	uint32_t parent;
	const struct af_parked_place *place; /* whose step it is */
	uint8_t base; /* in the walk's trail: the pointer that it was reached by */
	bool far;     /* behind a pointer that may be stale: read through the kernel */
};

struct walk {
	struct af_session *session;
	struct value todo[TODO_MAX];
	uint32_t n_todo;
	uint32_t leaves[AF_PARKED_LEAVES];
	uint32_t n_leaves;
	struct af_trail trail;
	uint32_t place; /* of the root */
	bool guarded;	/* pointers may be followed only inside the guard */
	bool inside;	/* ... where we are */
	bool refused;	/* ... which was closed to us */
	bool own;	/* nobody frees anything, if only we are right about what is there */
	bool careful;	/* no guard: what is behind pointers may be freed meanwhile */
	bool failed;	/* ... and was */
};

#define ROOT_READ (UINT64_C(1) << 63)
#define ROOT_TOKIO (UINT64_C(1) << 62)
#define ROOT_STEP_SHIFT 32
#define ROOT_PLACE_SHIFT 12

uint64_t af_parked_root(uint32_t place, const struct afm_root *root)
{
	const struct af_parked_place *p = &af_parked_places[place];
	if (root->step == AFM_NONE || root->step_offset >= 4096 || root->step >= 1u << 29 ||
	    !atomic_load(&p->loaded))
		return 0;
	uint64_t packed = ROOT_READ | (uint64_t)root->step << ROOT_STEP_SHIFT |
			  place << ROOT_PLACE_SHIFT | root->step_offset;
	if (root->executor != AFM_X_TOKIO)
		return packed;
	return p->tokio_state == AFM_NONE ? 0 : packed | ROOT_TOKIO;
}

/* --- nodes --------------------------------------------------------------------------- */

/* The node of `step_case` below `parent`; 0 when the table is full. */
static uint32_t node_of(struct af_session *s, uint32_t parent, uint32_t object, uint32_t step_case)
{
	uint64_t key = af_node_key(parent, object, step_case);
	uint64_t hash = key * UINT64_C(0x9e3779b97f4a7c15) >> 40;
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t slot = (uint32_t)(hash + i) % AF_NODES;
		uint64_t seen = atomic_load_explicit(&s->nodes[slot], memory_order_acquire);
		if (seen == key)
			return slot + 1;
		if (seen)
			continue;
		if (atomic_compare_exchange_strong(&s->nodes[slot], &seen, key)) {
			uint32_t at = atomic_fetch_add(&s->n_nodes, 1);
			/* Each slot is filled once, so there is room. Release: whoever reads
			   the number here sees the key. */
			if (at < AF_NODES)
				atomic_store_explicit(&s->node_order[at], slot + 1,
						      memory_order_release);
			return slot + 1;
		}
		if (seen == key)
			return slot + 1;
	}
	return 0;
}

static uint32_t parent_of(const struct af_session *s, uint32_t node)
{
	return af_node_parent(atomic_load_explicit(&s->nodes[node - 1], memory_order_relaxed));
}

static bool is_above(const struct af_session *s, uint32_t node, uint32_t other)
{
	for (uint32_t i = 0; other && i < BUDGET; i++) {
		other = parent_of(s, other);
		if (other == node)
			return true;
	}
	return false;
}

/* `node` is what is waited for. */
static void add_leaf(struct walk *w, uint32_t node)
{
	/* Not those above it, that were added for want of anything better. */
	for (uint32_t i = 0; i < w->n_leaves; i++) {
		if (is_above(w->session, w->leaves[i], node)) {
			w->leaves[i] = node;
			return;
		}
	}
	if (w->n_leaves < AF_PARKED_LEAVES)
		w->leaves[w->n_leaves++] = node;
}

/* Nothing is known below `node`: it stands for what is waited for, unless something below
   it is found elsewhere. */
static void add_end(struct walk *w, uint32_t node)
{
	if (!node)
		return;
	for (uint32_t i = 0; i < w->n_leaves; i++)
		if (w->leaves[i] == node || is_above(w->session, node, w->leaves[i]))
			return;
	add_leaf(w, node);
}

/* --- the way down -------------------------------------------------------------------- */

/* The kernel finds out without a fault whether there is anything. */
static uint64_t load_far(struct walk *w, uint64_t at, unsigned size)
{
	uint64_t number = 0;
	if (w->own) {
		w->failed |= size && !af_are_readable(at, size);
		return w->failed ? 0 : af_load_tag(at, size);
	}
	struct {
		uint64_t base, length;
	} to = {(uint64_t)&number, size}, from = {at, size};
	if (size && af_syscall6(SYS_process_vm_readv, w->session->host_pid, (long)&to, 1,
				(long)&from, 1, 0) != size)
		w->failed = true;
	return number;
}

static uint64_t load(struct walk *w, const struct value *value, uint32_t offset, unsigned size)
{
	return value->far ? load_far(w, value->at + offset, size)
			  : af_load_tag(value->at + offset, size);
}

/* The case that holds; AFM_NONE if the tag is none that the type has. */
static uint32_t find_case(const struct af_parked_place *p, const struct afm_step *step,
			  uint64_t tag)
{
	if (!step->tag_size)
		return step->first_case;
	if (step->flags & AFM_SF_DENSE)
		return tag < step->n_cases ? step->first_case + (uint32_t)tag : AFM_NONE;
	for (uint32_t i = step->first_case; i < step->first_case + step->n_cases; i++)
		if ((p->cases[i].flags & AFM_SCF_DEFAULT) || p->cases[i].tag == tag)
			return i;
	return AFM_NONE;
}

static bool may_follow(struct walk *w)
{
	if (w->careful)
		return !w->refused;
	if (!w->guarded || w->inside)
		return true;
	if (!w->refused && af_guard_enter(w->place))
		w->inside = true;
	else
		w->refused = true;
	return w->inside;
}

static uint64_t load_vtable(struct walk *w, const struct value *value, uint32_t offset)
{
	uint64_t vtable = load(w, value, offset, 8);
	af_trail_value(&w->trail, value->base, value->at + offset, 8, vtable, true);
	return vtable;
}

/* Puts what a way leads to on the list; false where it cannot be followed. */
static bool follow(struct walk *w, const struct afm_step_way *way, const struct value *value,
		   uint32_t parent)
{
	struct value next = {.at = value->at + way->offset,
			     .step = way->next,
			     .parent = parent,
			     .place = value->place,
			     .base = value->base,
			     .far = value->far};
	if (way->via != AFM_V_VALUE) {
		if (!may_follow(w)) {
			af_trail_give_up(&w->trail);
			return false;
		}
		next.at = load(w, value, way->offset, 8);
		next.far = w->careful;
		next.base = (uint8_t)af_trail_pointer(&w->trail, value->base,
						      value->at + way->offset, next.at);
		if (way->via == AFM_V_DYN)
			next.step = af_parked_vtable_step(load_vtable(w, value, way->vtable),
							  &next.place);
		/* Dangling, as a Box of nothing is, or not an address at all. */
		if (next.step == AFM_NONE || !af_is_plausible(next.at))
			return false;
	}
	if (w->n_todo == TODO_MAX)
		return false;
	w->todo[w->n_todo++] = next;
	return true;
}

/* What the tag has decided. A default case holds for any number of tags, so it is all those that it
   is not. */
static void note_case(struct walk *w, const struct value *value, uint64_t tag, uint32_t found)
{
	const struct afm_step *step = &value->place->steps[value->step];
	const struct afm_step_case *cases = value->place->cases;
	uint64_t at = value->at + step->tag_offset;
	uint32_t last = step->first_case + step->n_cases - 1;
	bool has_default = !(step->flags & AFM_SF_DENSE) && (cases[last].flags & AFM_SCF_DEFAULT);
	if (found == AFM_NONE || (has_default && step->n_cases > TAGS_MAX))
		af_trail_give_up(&w->trail);
	else if (!has_default)
		af_trail_value(&w->trail, value->base, at, step->tag_size, tag, true);
	for (uint32_t i = step->first_case; has_default && i <= found && i < last; i++)
		af_trail_value(&w->trail, value->base, at, step->tag_size, cases[i].tag,
			       i == found);
}

static void look_at(struct walk *w, struct value value)
{
	const struct af_parked_place *p = value.place;
	const struct afm_step *step = &p->steps[value.step];
	uint64_t tag = load(w, &value, step->tag_offset, step->tag_size);
	uint32_t found = find_case(p, step, tag), node = value.parent;
	if (w->trail.head && step->tag_size)
		note_case(w, &value, tag, found);
	if (found == AFM_NONE)
		return;
	if ((step->flags & AFM_SF_COROUTINE) && (tag == 1 || tag == 2))
		return; /* done: a branch that nobody waits for any more */
	const struct afm_step_case *c = &p->cases[found];
	bool level = step->flags & AFM_SF_LEVEL;
	/* MaybeDone::Done, Map::Complete and their like. */
	bool done = level && !(step->flags & AFM_SF_COROUTINE) && !c->n_ways &&
		    (step->flags & AFM_SF_HAS_WAYS);
	if (level)
		node = done ? 0 : node_of(w->session, value.parent, p->number, found);
	if (level && !node) { /* done, or the table has no room for more */
		add_end(w, value.parent);
		return;
	}
	bool goes_on = false;
	/* Last first, so that the first branch is looked at first. */
	for (uint32_t i = c->n_ways; i-- > 0;)
		goes_on |= follow(w, &p->ways[c->first_way + i], &value, node);
	if (!goes_on && level)
		add_leaf(w, node);
	else if (!goes_on)
		add_end(w, node);
}

static void commit(struct afr_record *record, enum afr_kind kind, uint64_t ticks, uint64_t word1)
{
	record->word1 = word1;
	__atomic_store_n(&record->word0, ticks << AFR_KIND_BITS | kind, __ATOMIC_RELEASE);
}

static uint64_t now(void)
{
	return __builtin_ia32_rdtsc() - af_record_base;
}

/* The slot first, then the time: see af_chunk.taken. */
void af_parked_note(enum afr_kind kind, uint64_t word1)
{
	struct afr_record *record = af_record_slot();
	commit(record, kind, now(), word1);
}

/* The time is that of the record before, if that is there: a time stamp costs as much as half of a
   poll's record, and nobody asks when a place was read. */
static void record_leaves(const struct walk *w, uint64_t payload)
{
	for (uint32_t i = 0; i < w->n_leaves; i++) {
		struct afr_record *record = af_record_slot();
		const struct af_chunk *chunk =
			(const void *)((uintptr_t)record & ~(uintptr_t)(AF_CHUNK_SIZE - 1));
		/* Before the first one lies the header's end, which is 0. */
		uint64_t before = afr_ticks(record - 1);
		commit(record, AFR_PARKED, before > chunk->taken ? before : now(),
		       payload | w->leaves[i]);
	}
}

static void begin_walk(struct walk *w)
{
	/* The guard knows threads by their numbers; and a process that was just forked has no
	   session of its own yet. */
	if ((!af_thread.number && !af_thread.sunk_from) || !af_gate.shift)
		af_record_refill();
	/* One by one: the compiler would clear the whole of it, by a call to libc's memset. */
	w->session = af_record_session();
	w->guarded = w->inside = w->refused = w->careful = w->own = w->failed = false;
	w->trail.head = NULL;
}

/* Another one in each forked process, whose nodes are others, and whenever an object comes or goes. */
static uint32_t epoch(void)
{
	return af_record_generation() + af_parked_changes();
}

static uint32_t place_of(uint64_t root)
{
	return (uint32_t)root >> ROOT_PLACE_SHIFT & (AF_PLACES - 1);
}

static uint64_t start_of(uint64_t header, uint64_t root)
{
	return header + ((uint32_t)root & ((1u << ROOT_PLACE_SHIFT) - 1));
}

static void walk_task(struct walk *w, uint64_t header, uint64_t root, bool far)
{
	w->n_todo = w->n_leaves = 0;
	w->place = place_of(root);
	w->todo[w->n_todo++] = (struct value){
		.at = start_of(header, root),
		.step = (uint32_t)(root >> ROOT_STEP_SHIFT) & 0x1fffffff,
		.place = &af_parked_places[w->place],
		.far = far,
	};
	for (uint32_t i = 0; w->n_todo && i < BUDGET; i++)
		look_at(w, w->todo[--w->n_todo]);
	/* Too much of it: as far as we have come. */
	while (w->n_todo)
		add_end(w, w->todo[--w->n_todo].parent);
}

/* As walks before have gone, or on a way of its own, which is then known. */
static void walk_known(struct walk *w, uint64_t header, uint64_t root)
{
	uint32_t now = epoch();
	uint64_t at = start_of(header, root);
	int n_leaves = af_known_walk(root, now, at, place_of(root), w->guarded, &w->inside,
				     w->leaves, AF_PARKED_LEAVES);
	if (n_leaves >= 0) {
		w->n_leaves = (uint32_t)n_leaves;
		return;
	}
	af_trail_begin(&w->trail, root, now, at);
	walk_task(w, header, root, false);
	af_trail_end(&w->trail, w->leaves, w->n_leaves);
}

void af_parked_record(uint64_t header, const struct af_hook *hook)
{
	uint64_t root = hook->root;
	uint64_t state = header + af_parked_places[place_of(root)].tokio_state;
	struct walk w;
	begin_walk(&w);
	w.guarded = root & ROOT_TOKIO;
	if (!w.session)
		return;
	if (w.guarded && (af_load_tag(state, 8) & TOKIO_LIFECYCLE))
		return;
	walk_known(&w, header, root);
	if (w.inside)
		af_guard_leave();
	/* Somebody else has taken the task meanwhile: what we saw may be of no moment at all. */
	if (w.guarded && (af_load_tag(state, 8) & TOKIO_LIFECYCLE))
		return;
	record_leaves(&w, hook->payload);
}

/* --- what threads drive themselves --------------------------------------------------- */

uint64_t af_parked_future(uint32_t place, uint32_t step)
{
	if (step >= 1u << 29 || !atomic_load(&af_parked_places[place].loaded))
		return 0;
	return ROOT_READ | (uint64_t)step << ROOT_STEP_SHIFT | place << ROOT_PLACE_SHIFT;
}

void af_parked_read(uint64_t at, uint64_t root, uint64_t payload)
{
	struct walk w;
	begin_walk(&w);
	if (!w.session || !root)
		return;
	walk_known(&w, at, root);
	record_leaves(&w, payload);
}

/* Whether it has been polled before, and is not done: of a coroutine its state tells. */
static bool is_suspended(struct walk *w, uint64_t at, uint64_t root)
{
	const struct af_parked_place *p = &af_parked_places[place_of(root)];
	const struct afm_step *step = &p->steps[(uint32_t)(root >> ROOT_STEP_SHIFT) & 0x1fffffff];
	unsigned size = step->tag_size ? step->tag_size : 1;
	uint64_t tag = load_far(w, at + step->tag_offset, size);
	return !w->failed && (!(step->flags & AFM_SF_COROUTINE) || tag >= 3);
}

bool af_parked_read_doubtful(uint64_t at, uint64_t root, bool far, uint64_t payload)
{
	struct walk w;
	begin_walk(&w);
	if (!w.session || !root)
		return false;
	w.careful = w.own = true;
	if (!is_suspended(&w, at, root))
		return false;
	walk_task(&w, at, root, far);
	if (w.failed || !w.n_leaves)
		return false;
	record_leaves(&w, payload);
	return true;
}

void af_parked_stop(uint32_t place)
{
	struct af_session *s = af_parked_places_stop(place) ? af_record_session() : NULL;
	if (s && !atomic_load(&s->confined))
		af_parked_note(AFR_UNLOADED, af_parked_places[place].number);
}

/* --- the end ------------------------------------------------------------------------- */

static _Atomic uint64_t dropped_time; /* ticks spent so far */

static bool same_leaves(const struct walk *a, const struct walk *b)
{
	bool same = a->n_leaves == b->n_leaves;
	for (uint32_t i = 0; i < a->n_leaves && same; i++)
		same = a->leaves[i] == b->leaves[i];
	return same;
}

/* Twice, the same: so it stood there in between, and nobody polled it. */
static bool read_dropped(struct walk *w, uint64_t header, uint64_t root)
{
	struct walk again;
	begin_walk(w);
	begin_walk(&again);
	w->careful = again.careful = true;
	/* It is not ours to forbid ourselves what a sandbox kills for. */
	w->refused = again.refused =
		atomic_load(&w->session->confined) || atomic_load(&dropped_time) > DROPPED_TIME;
	walk_task(w, header, root, false);
	walk_task(&again, header, root, false);
	return !w->failed && !again.failed && same_leaves(w, &again);
}

void af_parked_dropped(uint32_t place, uint64_t header, uint64_t root, uint64_t dropped)
{
	if (af_switch_is_off())
		return;
	uint32_t offset = af_parked_places[place].tokio_state;
	uint64_t state = header + offset, begin = __builtin_ia32_rdtsc();
	struct walk w;
	begin_walk(&w);
	/* One that is being polled is dropped by whoever polls it. */
	if (!w.session || offset == AFM_NONE || (af_load_tag(state, 8) & TOKIO_LIFECYCLE))
		return;
	bool read = root && read_dropped(&w, header, root);
	atomic_fetch_add(&dropped_time, __builtin_ia32_rdtsc() - begin);
	if (af_load_tag(state, 8) & TOKIO_LIFECYCLE)
		return;
	if (read)
		record_leaves(&w, dropped & ~AFR_SUBJECT_MASK);
	af_parked_note(AFR_DROPPED, dropped);
}
