/* SPDX-License-Identifier: MIT */
/*
 * tokio's task vtables in an object's data: their `shutdown` is led through the guard
 * (record/parked_guard.h). A vtable is found by its first word, the address of a task root
 * of the map, and is one if what stands where `dealloc`, `shutdown` and `id_offset` are can be these.
 *
 * A library that has just been mapped is not relocated yet (glibc before 2.41): its vtables are
 * zero, and stand in its relocations. Then what is written to memory is still to come, so
 * our address is put into the relocation of `shutdown`. Only R_X86_64_RELATIVE can be meant.
 */
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#include "patch/apply/apply.h"
#include "record/parked.h"
#include "record/parked_guard.h"

#define VTABLES_MAX 8192
/* Of all words that are looked at, nearly all are told to be no root by one bit. */
#define SIGNS (UINT64_C(1) << 15)

struct relocations {
	Elf64_Rela *first;
	size_t count;
};

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
	struct relocations relocations;
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
	vtable->root = ambiguous ? 0 : af_parked_root(f->place->index, root);
	vtable->payload = (uint64_t)(f->first_function + root->poll) << AFR_FUNCTION_SHIFT;
}

/* The pending relocation of the word at `at`, or NULL. */
static Elf64_Rela *relocation_of(const struct finder *f, uint64_t at)
{
	const struct relocations *r = &f->relocations;
	uint64_t wanted = at - f->place->load_bias;
	size_t low = 0, high = r->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (r->first[middle].r_offset < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->count && r->first[low].r_offset == wanted ? &r->first[low] : NULL;
}

/* What stands at `at` when the object is relocated. */
static uint64_t relocated(const struct finder *f, uint64_t at)
{
	const Elf64_Rela *relocation = relocation_of(f, at);
	if (relocation)
		return f->place->load_bias + (uint64_t)relocation->r_addend;
	return *(const uint64_t *)at;
}

/* Whether the vtable whose word `poll` is at `poll` is one; then it is kept. */
static void look_at_vtable(struct finder *f, uint64_t poll, uint32_t root)
{
	uint64_t at = poll - f->poll;
	uint64_t shutdown = relocated(f, at + f->shutdown);
	if (!is_text(f, shutdown) || !is_text(f, relocated(f, at + f->dealloc)) ||
	    *(const uint64_t *)(at + f->id) >= 4096)
		return;
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

static void look_at_segment(struct finder *f, uint64_t from, uint64_t to)
{
	for (uint64_t at = (from + 7) & ~UINT64_C(7); at + f->size <= to; at += 8) {
		uint32_t root = root_at(f, *(const uint64_t *)(at + f->poll));
		if (root != AFM_NONE)
			look_at_vtable(f, at + f->poll, root);
	}
}

/* Vtables that will be in this segment once the object is relocated. */
static void look_at_relocations(struct finder *f, uint64_t from, uint64_t to)
{
	const struct relocations *r = &f->relocations;
	for (size_t i = 0; i < r->count && !f->too_many; i++) {
		uint64_t poll = f->place->load_bias + r->first[i].r_offset;
		if (poll < from + f->poll || poll > to || to - poll < f->size - f->poll)
			continue;
		uint32_t root = root_at(f, f->place->load_bias + (uint64_t)r->first[i].r_addend);
		if (root != AFM_NONE)
			look_at_vtable(f, poll, root);
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
			if (f->relocations.count)
				look_at_relocations(f, at, at + segment->p_filesz);
			else
				look_at_segment(f, at, at + segment->p_filesz);
		}
	}
	return 1;
}

/* The object's relative relocations, if it is still to be relocated and they are in order (the
   linker sorts them). */
static struct relocations pending(const struct af_object_place *place)
{
	struct relocations r = {0};
	uint64_t table = 0, size = 0, count = 0;
	for (const Elf64_Dyn *d = place->dynamic; d && d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_RELA)
			table = d->d_un.d_ptr;
		else if (d->d_tag == DT_RELASZ)
			size = d->d_un.d_val;
		else if (d->d_tag == DT_RELACOUNT)
			count = d->d_un.d_val;
	}
	if (table && table < place->load_bias) /* some linkers' loaders leave it as it is */
		table += place->load_bias;
	if (table < place->start || table > place->end || size > place->end - table ||
	    count > size / sizeof(*r.first) || !count)
		return r;
	Elf64_Rela *first = (Elf64_Rela *)table;
	for (size_t i = 0; i < count; i++)
		if (ELF64_R_TYPE(first[i].r_info) != R_X86_64_RELATIVE || first[i].r_offset % 8 ||
		    first[i].r_offset >= place->end - place->load_bias ||
		    (i && first[i].r_offset <= first[i - 1].r_offset))
			return r;
	if (*(uint64_t *)(place->load_bias + first->r_offset) ==
	    place->load_bias + (uint64_t)first->r_addend)
		return r; /* done */
	return (struct relocations){first, count};
}

/* Every root of tokio's has its vtable among those found. */
static bool complete(const struct finder *f)
{
	for (uint32_t i = 0; i < f->map->header->roots.count; i++)
		if (af_futuremap_roots(f->map, i)->executor == AFM_X_TOKIO && !f->seen[i])
			return false;
	return true;
}

/* Where what comes into `shutdown` of this vtable is to be written, and with what. */
static uint64_t place_of(const struct finder *f, const struct af_guard_vtable *vtable,
			 uint64_t *value)
{
	uint64_t at = vtable->address + f->shutdown;
	Elf64_Rela *relocation = relocation_of(f, at);
	*value = (uint64_t)af_guard_shutdown - (relocation ? f->place->load_bias : 0);
	return relocation ? (uint64_t)&relocation->r_addend : at;
}

/* All or none: a vtable that is not guarded may free what somebody reads. */
static bool replace(const struct finder *f)
{
	struct af_text_writer writer;
	af_text_begin(&writer, false);
	for (uint32_t i = 0; i < f->n_found; i++) {
		uint64_t value, at = place_of(f, &f->found[i], &value);
		af_text_write(&writer, at, &value, sizeof(value));
	}
	return !af_text_end(&writer);
}

void af_patch_vtables(const struct af_futuremap *map, const struct af_object_place *place,
		      uint32_t first_function)
{
	struct finder f = {.map = map, .place = place, .first_function = first_function};
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
	f.relocations = pending(place);
	dl_iterate_phdr(look_at_object, &f);
	/* Known before the first can be called through; it is not open yet for readers, as
	   nothing is hooked. */
	if (f.n_found && !f.too_many && complete(&f) &&
	    af_guard_start(place->index, f.found, f.n_found, (uint32_t)vtable, (uint32_t)f.id) &&
	    !replace(&f))
		af_guard_stop(place->index);
	munmap(f.found, room);
}
