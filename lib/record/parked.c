/* SPDX-License-Identifier: MIT */
#include "record/parked.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "record/parked_guard.h"
#include "record/syscall.h"
#include "record/thread.h"

#define TODO_MAX 32			 /* values still to be looked at */
#define BUDGET 96			 /* values looked at, per task */
#define PROBES 16			 /* of the node table */
#define VTABLE_CACHE 1024		 /* a power of two */
#define DROPPED_TIME UINT64_C(150000000) /* ticks, some 50 ms, for all tasks that are dropped */

/* RUNNING and COMPLETE of a task's state (tokio 1.x, runtime/task/state.rs). A shutdown sets the
   first; the other bits, and the count of references, change at any time. */
#define TOKIO_LIFECYCLE 3

/* The tables of the map, copied: the file may be gone or cut short while we run. */
static struct {
	const struct afm_step *steps;
	const struct afm_step_case *cases;
	const struct afm_step_way *ways;
	const struct afm_vtable *vtables; /* by address */
	uint32_t n_vtables;
	uint32_t tokio_state; /* offset of Header.state, or AFM_NONE */
	uint64_t load_bias;
} map;

/* Address << 17 | step + 1: vtables met before. Any thread may write any slot. */
static _Atomic uint64_t vtable_cache[VTABLE_CACHE];

/* One value that is still to be looked at, below the node `parent`. */
struct value {
	uint64_t at;
	uint32_t step;
	uint32_t parent;
	bool far; /* behind a pointer that may be stale: read through the kernel */
};

struct walk {
	struct af_session *session;
	struct value todo[TODO_MAX];
	uint32_t n_todo;
	uint32_t leaves[AF_PARKED_LEAVES];
	uint32_t n_leaves;
	bool guarded; /* pointers may be followed only inside the guard */
	bool inside;  /* ... where we are */
	bool refused; /* ... which was closed to us */
	bool careful; /* no guard: what is behind pointers may be freed meanwhile */
	bool failed;  /* ... and was */
};

static void *copy_table(const struct af_futuremap *from, const struct afm_table *table, size_t size)
{
	size_t bytes = table->count * size;
	void *copy =
		mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return NULL;
	memcpy(copy, af_futuremap_table(from, table), bytes);
	mprotect(copy, bytes + 1, PROT_READ);
	return copy;
}

bool af_parked_start(const struct af_futuremap *from, uint64_t load_bias)
{
	const struct afm_header *h = from->header;
	uint64_t state;
	map.steps = copy_table(from, &h->steps, sizeof(*map.steps));
	map.cases = copy_table(from, &h->step_cases, sizeof(*map.cases));
	map.ways = copy_table(from, &h->step_ways, sizeof(*map.ways));
	map.vtables = copy_table(from, &h->vtables, sizeof(*map.vtables));
	map.n_vtables = (uint32_t)h->vtables.count;
	map.load_bias = load_bias;
	map.tokio_state = AFM_NONE;
	if (af_futuremap_layout(from, "tokio.Header.state", &state) && state < 4096)
		map.tokio_state = (uint32_t)state;
	return map.steps && map.cases && map.ways && map.vtables;
}

#define ROOT_READ (UINT64_C(1) << 63)
#define ROOT_TOKIO (UINT64_C(1) << 62)
#define ROOT_STEP_SHIFT 32

uint64_t af_parked_root(const struct afm_root *root)
{
	if (root->step == AFM_NONE || root->step_offset >= 4096 || root->step >= 1u << 29 ||
	    !map.steps || !map.cases || !map.ways || !map.vtables)
		return 0;
	if (root->executor == AFM_X_TOKIO)
		return map.tokio_state == AFM_NONE
			       ? 0
			       : ROOT_READ | ROOT_TOKIO | (uint64_t)root->step << ROOT_STEP_SHIFT |
					 root->step_offset;
	return ROOT_READ | (uint64_t)root->step << ROOT_STEP_SHIFT | root->step_offset;
}

/* --- nodes --------------------------------------------------------------------------- */

/* The node of `step_case` below `parent`; 0 when the table is full. */
static uint32_t node_of(struct af_session *s, uint32_t parent, uint32_t step_case)
{
	uint64_t key = af_node_key(parent, step_case);
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

static uint64_t load_tag(uint64_t at, unsigned size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)at;
	case 2:
		return *(const volatile uint16_t *)at;
	case 4:
		return *(const volatile uint32_t *)at;
	case 8:
		return *(const volatile uint64_t *)at;
	default:
		return 0;
	}
}

/* The kernel finds out without a fault whether there is anything. */
static uint64_t load_far(struct walk *w, uint64_t at, unsigned size)
{
	uint64_t number = 0;
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
			  : load_tag(value->at + offset, size);
}

/* The case that holds; AFM_NONE if the tag is none that the type has. */
static uint32_t find_case(const struct afm_step *step, uint64_t tag)
{
	if (!step->tag_size)
		return step->first_case;
	if (step->flags & AFM_SF_DENSE)
		return tag < step->n_cases ? step->first_case + (uint32_t)tag : AFM_NONE;
	for (uint32_t i = step->first_case; i < step->first_case + step->n_cases; i++)
		if ((map.cases[i].flags & AFM_SCF_DEFAULT) || map.cases[i].tag == tag)
			return i;
	return AFM_NONE;
}

static uint32_t search_vtable(uint64_t address)
{
	uint32_t low = 0, high = map.n_vtables;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (map.vtables[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == map.n_vtables || map.vtables[low].address != address)
		return AFM_NONE;
	/* One address for several types: which, cannot be told. */
	if (low + 1 < map.n_vtables && map.vtables[low + 1].address == address)
		return AFM_NONE;
	return map.vtables[low].step;
}

static uint32_t vtable_step(uint64_t vtable)
{
	_Atomic uint64_t *slot = &vtable_cache[(vtable >> 3 ^ vtable >> 13) % VTABLE_CACHE];
	uint64_t known = atomic_load_explicit(slot, memory_order_relaxed);
	if (known >> 17 == vtable && (known & 0x1ffff))
		return (uint32_t)(known & 0x1ffff) - 1;
	uint32_t step = search_vtable(vtable - map.load_bias);
	if (step < 0x1ffff && !(vtable >> 47))
		atomic_store_explicit(slot, vtable << 17 | (step + 1), memory_order_relaxed);
	return step;
}

static bool may_follow(struct walk *w)
{
	if (w->careful)
		return !w->refused;
	if (!w->guarded || w->inside)
		return true;
	if (!w->refused && af_guard_enter())
		w->inside = true;
	else
		w->refused = true;
	return w->inside;
}

/* Puts what a way leads to on the list; false where it cannot be followed. */
static bool follow(struct walk *w, const struct afm_step_way *way, const struct value *value,
		   uint32_t parent)
{
	struct value next = {.at = value->at + way->offset,
			     .step = way->next,
			     .parent = parent,
			     .far = value->far};
	if (way->via != AFM_V_VALUE) {
		if (!may_follow(w))
			return false;
		next.at = load(w, value, way->offset, 8);
		next.far = w->careful;
		if (way->via == AFM_V_DYN)
			next.step = vtable_step(load(w, value, way->vtable, 8));
		/* Dangling, as a Box of nothing is, or not an address at all. */
		if (next.step == AFM_NONE || next.at < 4096 || next.at >> 47)
			return false;
	}
	if (w->n_todo == TODO_MAX)
		return false;
	w->todo[w->n_todo++] = next;
	return true;
}

static void look_at(struct walk *w, struct value value)
{
	const struct afm_step *step = &map.steps[value.step];
	uint64_t tag = load(w, &value, step->tag_offset, step->tag_size);
	uint32_t found = find_case(step, tag), node = value.parent;
	if (found == AFM_NONE)
		return;
	if ((step->flags & AFM_SF_COROUTINE) && (tag == 1 || tag == 2))
		return; /* done: a branch that nobody waits for any more */
	const struct afm_step_case *c = &map.cases[found];
	bool level = step->flags & AFM_SF_LEVEL;
	/* MaybeDone::Done, Map::Complete and their like. */
	bool done = level && !(step->flags & AFM_SF_COROUTINE) && !c->n_ways &&
		    (step->flags & AFM_SF_HAS_WAYS);
	if (level)
		node = done ? 0 : node_of(w->session, value.parent, found);
	if (level && !node) { /* done, or the table has no room for more */
		add_end(w, value.parent);
		return;
	}
	bool goes_on = false;
	/* Last first, so that the first branch is looked at first. */
	for (uint32_t i = c->n_ways; i-- > 0;)
		goes_on |= follow(w, &map.ways[c->first_way + i], &value, node);
	if (!goes_on && level)
		add_leaf(w, node);
	else if (!goes_on)
		add_end(w, node);
}

static void record(enum afr_kind kind, uint64_t word1)
{
	struct afr_record *record = af_record_slot();
	record->word1 = word1;
	__atomic_store_n(&record->word0,
			 (__builtin_ia32_rdtsc() - af_record_base) << AFR_KIND_BITS | kind,
			 __ATOMIC_RELEASE);
}

static void begin_walk(struct walk *w)
{
	/* The guard knows threads by their numbers; and a process that was just forked has no
	   session of its own yet. */
	if ((!af_thread.number && !af_thread.sunk_from) || !af_gate.shift)
		af_record_refill();
	/* One by one: the compiler would clear the whole of it, by a call to libc's memset. */
	w->session = af_record_session();
	w->guarded = w->inside = w->refused = w->careful = w->failed = false;
}

static void walk_task(struct walk *w, uint64_t header, uint64_t root)
{
	w->n_todo = w->n_leaves = 0;
	w->todo[w->n_todo++] = (struct value){
		.at = header + (uint32_t)root,
		.step = (uint32_t)(root >> ROOT_STEP_SHIFT) & 0x1fffffff,
	};
	for (uint32_t i = 0; w->n_todo && i < BUDGET; i++)
		look_at(w, w->todo[--w->n_todo]);
	/* Too much of it: as far as we have come. */
	while (w->n_todo)
		add_end(w, w->todo[--w->n_todo].parent);
}

void af_parked_record(uint64_t header, const struct af_hook *hook)
{
	uint64_t root = hook->root;
	uint64_t state = header + map.tokio_state;
	struct walk w;
	begin_walk(&w);
	w.guarded = root & ROOT_TOKIO;
	if (!w.session)
		return;
	if (w.guarded && (load_tag(state, 8) & TOKIO_LIFECYCLE))
		return;
	walk_task(&w, header, root);
	if (w.inside)
		af_guard_leave();
	/* Somebody else has taken the task meanwhile: what we saw may be of no moment at all. */
	if (w.guarded && (load_tag(state, 8) & TOKIO_LIFECYCLE))
		return;
	for (uint32_t i = 0; i < w.n_leaves; i++)
		record(AFR_PARKED, hook->payload | w.leaves[i]);
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
	walk_task(w, header, root);
	walk_task(&again, header, root);
	return !w->failed && !again.failed && same_leaves(w, &again);
}

void af_parked_dropped(uint64_t header, uint64_t root, uint64_t dropped)
{
	uint64_t state = header + map.tokio_state, begin = __builtin_ia32_rdtsc();
	struct walk w;
	begin_walk(&w);
	/* One that is being polled is dropped by whoever polls it. */
	if (!w.session || map.tokio_state == AFM_NONE || (load_tag(state, 8) & TOKIO_LIFECYCLE))
		return;
	bool read = root && read_dropped(&w, header, root);
	atomic_fetch_add(&dropped_time, __builtin_ia32_rdtsc() - begin);
	if (load_tag(state, 8) & TOKIO_LIFECYCLE)
		return;
	for (uint32_t i = 0; read && i < w.n_leaves; i++)
		record(AFR_PARKED, (dropped & ~AFR_SUBJECT_MASK) | w.leaves[i]);
	record(AFR_DROPPED, dropped);
}
