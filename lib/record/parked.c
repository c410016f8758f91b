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
#define INDEX_BITS 24			 /* of a vtable in its map */
#define DROPPED_TIME UINT64_C(150000000) /* ticks, some 50 ms, for all tasks that are dropped */

/* RUNNING and COMPLETE of a task's state (tokio 1.x, runtime/task/state.rs). A shutdown sets the
   first; the other bits, and the count of references, change at any time. */
#define TOKIO_LIFECYCLE 3

/* The tables of each place's map, copied: the file may be gone or cut short while we run. They
   stay when the object goes: it may come again, and a root's poll may be on its way here. */
static struct place {
	const struct afm_step *steps;
	const struct afm_step_case *cases;
	const struct afm_step_way *ways;
	const struct afm_vtable *vtables; /* by address */
	uint32_t n_vtables;
	uint32_t tokio_state; /* offset of Header.state, or AFM_NONE */
	uint32_t number;      /* of the object in the session */
	uint64_t load_bias;
	uint64_t low, high; /* run-time addresses of its first and its last vtable */
	_Atomic bool loaded;
} places[AF_PLACES];
static _Atomic uint32_t n_places;

/* Vtables met before: place << 24 | index in its map + 1. Any thread may write any slot. Nobody
   trusts one: the place must be loaded, and the entry this address. */
static _Atomic uint32_t vtable_cache[VTABLE_CACHE];

/* One value that is still to be looked at, below the node `parent`. */
struct value {
	uint64_t at;
	uint32_t step;
	uint32_t parent;
	const struct place *place; /* whose step it is */
	bool far;		   /* behind a pointer that may be stale: read through the kernel */
};

struct walk {
	struct af_session *session;
	struct value todo[TODO_MAX];
	uint32_t n_todo;
	uint32_t leaves[AF_PARKED_LEAVES];
	uint32_t n_leaves;
	uint32_t place; /* of the root */
	bool guarded;	/* pointers may be followed only inside the guard */
	bool inside;	/* ... where we are */
	bool refused;	/* ... which was closed to us */
	bool careful;	/* no guard: what is behind pointers may be freed meanwhile */
	bool failed;	/* ... and was */
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

/* The same build at another address has the same tables. */
static const struct place *twin(uint32_t place, uint32_t number)
{
	for (uint32_t i = 0; i < atomic_load(&n_places); i++)
		if (i != place && places[i].steps && places[i].number == number)
			return &places[i];
	return NULL;
}

static void copy_tables(struct place *p, const struct af_futuremap *from)
{
	const struct afm_header *h = from->header;
	uint64_t state;
	p->steps = copy_table(from, &h->steps, sizeof(*p->steps));
	p->cases = copy_table(from, &h->step_cases, sizeof(*p->cases));
	p->ways = copy_table(from, &h->step_ways, sizeof(*p->ways));
	p->vtables = copy_table(from, &h->vtables, sizeof(*p->vtables));
	p->n_vtables = (uint32_t)h->vtables.count;
	p->tokio_state = AFM_NONE;
	if (af_futuremap_layout(from, "tokio.Header.state", &state) && state < 4096)
		p->tokio_state = (uint32_t)state;
}

bool af_parked_start(uint32_t place, const struct af_futuremap *from, uint64_t load_bias,
		     uint32_t number)
{
	struct place *p = &places[place];
	if (!p->steps) {
		const struct place *same = twin(place, number);
		if (same) {
			p->steps = same->steps;
			p->cases = same->cases;
			p->ways = same->ways;
			p->vtables = same->vtables;
			p->n_vtables = same->n_vtables;
			p->tokio_state = same->tokio_state;
		} else {
			copy_tables(p, from);
		}
		p->number = number;
		p->load_bias = load_bias;
	}
	if (!p->steps || !p->cases || !p->ways || !p->vtables)
		return false;
	if (p->n_vtables) {
		p->low = p->vtables[0].address + load_bias;
		p->high = p->vtables[p->n_vtables - 1].address + load_bias;
	}
	atomic_store(&p->loaded, true);
	if (place >= atomic_load(&n_places))
		atomic_store(&n_places, place + 1);
	return true;
}

#define ROOT_READ (UINT64_C(1) << 63)
#define ROOT_TOKIO (UINT64_C(1) << 62)
#define ROOT_STEP_SHIFT 32
#define ROOT_PLACE_SHIFT 12

uint64_t af_parked_root(uint32_t place, const struct afm_root *root)
{
	const struct place *p = &places[place];
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
static uint32_t find_case(const struct place *p, const struct afm_step *step, uint64_t tag)
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

/* Its index in the place's map; AFM_NONE if it is not there. */
static uint32_t search_vtable(const struct place *p, uint64_t address)
{
	uint32_t low = 0, high = p->n_vtables;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (p->vtables[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == p->n_vtables || p->vtables[low].address != address)
		return AFM_NONE;
	/* One address for several types: which, cannot be told. */
	if (low + 1 < p->n_vtables && p->vtables[low + 1].address == address)
		return AFM_NONE;
	return low;
}

/* In whichever object it is: a task of one may hold futures of another. Sets *place; returns
   the index in its map, or AFM_NONE. */
static uint32_t search_places(uint64_t vtable, const struct place **place)
{
	uint32_t n = atomic_load_explicit(&n_places, memory_order_acquire);
	for (uint32_t i = 0; i < n; i++) {
		const struct place *p = &places[i];
		if (!atomic_load_explicit(&p->loaded, memory_order_acquire) || vtable < p->low ||
		    vtable > p->high)
			continue;
		uint32_t index = search_vtable(p, vtable - p->load_bias);
		if (index == AFM_NONE)
			continue;
		*place = p;
		return index;
	}
	return AFM_NONE;
}

/* The step of the type that has this vtable, and whose it is. */
static uint32_t vtable_step(uint64_t vtable, const struct place **place)
{
	_Atomic uint32_t *slot = &vtable_cache[(vtable >> 3 ^ vtable >> 13) % VTABLE_CACHE];
	uint32_t known = atomic_load_explicit(slot, memory_order_relaxed);
	const struct place *p = &places[known >> INDEX_BITS];
	uint32_t index = (known & ((1u << INDEX_BITS) - 1)) - 1;
	if (known && atomic_load_explicit(&p->loaded, memory_order_acquire) &&
	    p->vtables[index].address + p->load_bias == vtable) {
		*place = p;
		return p->vtables[index].step;
	}
	index = search_places(vtable, place);
	if (index == AFM_NONE)
		return AFM_NONE;
	if (index + 1 < 1u << INDEX_BITS)
		atomic_store_explicit(slot, (uint32_t)(*place - places) << INDEX_BITS | (index + 1),
				      memory_order_relaxed);
	return (*place)->vtables[index].step;
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

/* Puts what a way leads to on the list; false where it cannot be followed. */
static bool follow(struct walk *w, const struct afm_step_way *way, const struct value *value,
		   uint32_t parent)
{
	struct value next = {.at = value->at + way->offset,
			     .step = way->next,
			     .parent = parent,
			     .place = value->place,
			     .far = value->far};
	if (way->via != AFM_V_VALUE) {
		if (!may_follow(w))
			return false;
		next.at = load(w, value, way->offset, 8);
		next.far = w->careful;
		if (way->via == AFM_V_DYN)
			next.step = vtable_step(load(w, value, way->vtable, 8), &next.place);
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
	const struct place *p = value.place;
	const struct afm_step *step = &p->steps[value.step];
	uint64_t tag = load(w, &value, step->tag_offset, step->tag_size);
	uint32_t found = find_case(p, step, tag), node = value.parent;
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

static uint32_t place_of(uint64_t root)
{
	return (uint32_t)root >> ROOT_PLACE_SHIFT & (AF_PLACES - 1);
}

static void walk_task(struct walk *w, uint64_t header, uint64_t root)
{
	w->n_todo = w->n_leaves = 0;
	w->place = place_of(root);
	w->todo[w->n_todo++] = (struct value){
		.at = header + ((uint32_t)root & ((1u << ROOT_PLACE_SHIFT) - 1)),
		.step = (uint32_t)(root >> ROOT_STEP_SHIFT) & 0x1fffffff,
		.place = &places[w->place],
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
	uint64_t state = header + places[place_of(root)].tokio_state;
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

/* Not where the same build is still there at another place. */
void af_parked_stop(uint32_t place)
{
	uint32_t number = places[place].number;
	bool was = atomic_exchange(&places[place].loaded, false);
	for (uint32_t i = 0; i < atomic_load(&n_places); i++)
		was = was && !(atomic_load(&places[i].loaded) && places[i].number == number);
	struct af_session *s = was ? af_record_session() : NULL;
	if (s && !atomic_load(&s->confined))
		record(AFR_UNLOADED, number);
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

void af_parked_dropped(uint32_t place, uint64_t header, uint64_t root, uint64_t dropped)
{
	uint32_t offset = places[place].tokio_state;
	uint64_t state = header + offset, begin = __builtin_ia32_rdtsc();
	struct walk w;
	begin_walk(&w);
	/* One that is being polled is dropped by whoever polls it. */
	if (!w.session || offset == AFM_NONE || (load_tag(state, 8) & TOKIO_LIFECYCLE))
		return;
	bool read = root && read_dropped(&w, header, root);
	atomic_fetch_add(&dropped_time, __builtin_ia32_rdtsc() - begin);
	if (load_tag(state, 8) & TOKIO_LIFECYCLE)
		return;
	for (uint32_t i = 0; read && i < w.n_leaves; i++)
		record(AFR_PARKED, (dropped & ~AFR_SUBJECT_MASK) | w.leaves[i]);
	record(AFR_DROPPED, dropped);
}
