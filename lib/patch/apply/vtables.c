/* SPDX-License-Identifier: MIT */
/*
 * tokio's task vtables in an object's data: their `shutdown` is led through the guard
 * (record/parked_guard.h). A vtable is found by its first word, the address of a task root
 * of the map, and is one if what stands where `dealloc`, `shutdown` and `id_offset` are can be these.
 */
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#include "patch/apply/apply.h"
#include "record/parked.h"
#include "record/parked_guard.h"

#define VTABLES_MAX 8192
/* Of all words that are looked at, nearly all are told to be no root by one bit. */
#define SIGNS (UINT64_C(1) << 15)

struct finder {
	const struct af_futuremap *map;
	const struct af_object_place *place;
	uint64_t poll, shutdown, dealloc, id, size; /* layout of a vtable */
	uint8_t signs[SIGNS / 8];		    /* of the roots' run-time addresses */
	struct af_guard_vtable *found;
	uint32_t n_found;
	uint8_t *seen; /* by root: its vtable has been found */
	uint32_t first_function;
	bool too_many;
};

static uint64_t sign(uint64_t address)
{
	return (address * UINT64_C(0x9e3779b97f4a7c15)) >> 49;
}
_Static_assert(SIGNS == UINT64_C(1) << (64 - 49), "a sign for each value");

/* The index of the root at this run-time address; AFM_NONE if there is none. */
static uint32_t root_at(const struct finder *f, uint64_t address)
{
	if (!(f->signs[sign(address) / 8] >> (sign(address) % 8) & 1))
		return AFM_NONE;
	uint64_t wanted = address - f->place->load_bias;
	uint32_t low = 0, high = (uint32_t)f->map->header->polls.count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (af_futuremap_polls(f->map, middle)->address < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == f->map->header->polls.count)
		return AFM_NONE;
	const struct afm_poll *poll = af_futuremap_polls(f->map, low);
	return poll->address == wanted ? poll->root : AFM_NONE;
}

static bool is_text(const struct finder *f, uint64_t address)
{
	return address - f->place->load_bias >= f->map->header->text_start &&
	       address - f->place->load_bias < f->map->header->text_end;
}

/* How its tasks are read; not where one address stands for several (af_hook_init). */
static void set_root(struct af_guard_vtable *vtable, const struct finder *f, uint32_t index)
{
	const struct afm_root *root = af_futuremap_roots(f->map, index);
	bool ambiguous = af_futuremap_polls(f->map, root->poll)->flags & AFM_PF_AMBIGUOUS;
	vtable->root = ambiguous ? 0 : af_parked_root(root);
	vtable->payload = (uint64_t)(f->first_function + root->poll) << AFR_FUNCTION_SHIFT;
}

static void look_at_segment(struct finder *f, uint64_t from, uint64_t to)
{
	for (uint64_t at = (from + 7) & ~UINT64_C(7); at + f->size <= to; at += 8) {
		uint32_t root = root_at(f, *(const uint64_t *)(at + f->poll));
		if (root == AFM_NONE)
			continue;
		uint64_t shutdown = *(const uint64_t *)(at + f->shutdown);
		if (!is_text(f, shutdown) || !is_text(f, *(const uint64_t *)(at + f->dealloc)) ||
		    *(const uint64_t *)(at + f->id) >= 4096)
			continue;
		if (f->n_found == VTABLES_MAX) {
			f->too_many = true;
			return;
		}
		void *function = (void *)shutdown;
		struct af_guard_vtable *vtable = &f->found[f->n_found++];
		vtable->address = at;
		memcpy(&vtable->shutdown, &function, sizeof(function));
		set_root(vtable, f, root);
		f->seen[root] = 1;
	}
}

/* Where the dynamic linker has put addresses: into what was writable then, if they depend on
   where the object was loaded. */
static bool holds_addresses(const struct finder *f, const ElfW(Phdr) * segment)
{
	return segment->p_type == PT_LOAD && (segment->p_flags & PF_R) &&
	       !(segment->p_flags & PF_X) && (!f->place->load_bias || (segment->p_flags & PF_W));
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct finder *f = data;
	if (info->dlpi_addr != f->place->load_bias)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		/* Segments come in ascending order, so what is found is sorted. */
		if (holds_addresses(f, segment)) {
			uint64_t at = info->dlpi_addr + segment->p_vaddr;
			look_at_segment(f, at, at + segment->p_filesz);
		}
	}
	return 1;
}

/* Every root of tokio's has its vtable among those found. */
static bool complete(const struct finder *f)
{
	for (uint32_t i = 0; i < f->map->header->roots.count; i++)
		if (af_futuremap_roots(f->map, i)->executor == AFM_X_TOKIO && !f->seen[i])
			return false;
	return true;
}

/* All or none: a vtable that is not guarded may free what somebody reads. */
static bool replace(const struct finder *f)
{
	struct af_text_writer writer;
	uint64_t guard = (uint64_t)af_guard_shutdown;
	af_text_begin(&writer, false);
	for (uint32_t i = 0; i < f->n_found; i++)
		af_text_write(&writer, f->found[i].address + f->shutdown, &guard, sizeof(guard));
	return !af_text_end(&writer);
}

void af_patch_vtables(const struct af_futuremap *map, const struct af_object_place *place)
{
	struct finder f = {.map = map, .place = place};
	uint64_t vtable;
	bool any = false;
	for (uint32_t i = 0; i < map->header->roots.count; i++) {
		const struct afm_root *root = af_futuremap_roots(map, i);
		uint64_t address = af_futuremap_polls(map, root->poll)->address + place->load_bias;
		if (root->executor != AFM_X_TOKIO)
			continue;
		f.signs[sign(address) / 8] |= 1 << (sign(address) % 8);
		any = true;
	}
	if (!any || !af_futuremap_layout(map, "tokio.Header.vtable", &vtable) ||
	    !af_futuremap_layout(map, "tokio.Vtable.poll", &f.poll) ||
	    !af_futuremap_layout(map, "tokio.Vtable.shutdown", &f.shutdown) ||
	    !af_futuremap_layout(map, "tokio.Vtable.dealloc", &f.dealloc) ||
	    !af_futuremap_layout(map, "tokio.Vtable.id_offset", &f.id) ||
	    !af_futuremap_layout(map, "tokio.Vtable.size", &f.size) || vtable > 4096 ||
	    f.size > 4096 || f.poll % 8 || f.shutdown % 8 || f.dealloc % 8 || f.id % 8 ||
	    f.poll + 8 > f.size || f.shutdown + 8 > f.size || f.dealloc + 8 > f.size ||
	    f.id + 8 > f.size)
		return;
	size_t room = VTABLES_MAX * sizeof(*f.found) + map->header->roots.count;
	f.found = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f.found == MAP_FAILED)
		return;
	f.seen = (uint8_t *)(f.found + VTABLES_MAX);
	dl_iterate_phdr(look_at_object, &f);
	if (f.n_found && !f.too_many && complete(&f)) {
		/* Known before the first can be called through; it is not open yet for
		   readers, as nothing is hooked. */
		af_guard_start(f.found, f.n_found, (uint32_t)vtable, (uint32_t)f.id);
		if (!replace(&f))
			af_guard_never();
	} else {
		munmap(f.found, room);
	}
}
