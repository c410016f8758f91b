/* SPDX-License-Identifier: MIT */
/*
 * Functions by which threads wait, found by their symbols: the standard library's debug info knows no
 * parameters. A function that is wrapped must not have arguments on the stack, as it would not
 * find them. So each is one whose whole signature is known, and needs no more than the registers.
 */
#include <elf.h>
#include <stdlib.h>

#include "analysis/build.h"
#include "analysis/elffile.h"

/* Parts of a mangled path, in their order, the last one its end: (&self) and what stands behind. */
static const struct {
	const char *parts[5];
	uint32_t flags;
} known[] = {
	{{"3std", "6thread", "4park"}, 0},
	{{"3std", "6thread", "12park_timeout"}, 0}, /* Duration */
	{{"3std", "6thread", "5sleep"}, 0},	    /* Duration */
	{{"3std", "6thread", "9yield_now"}, 0},
	{{"3std", "3sys", "7Condvar", "4wait"}, 0},		      /* &Mutex */
	{{"3std", "3sys", "7Condvar", "12wait_timeout"}, 0},	      /* &Mutex, Duration */
	{{"3std", "3sys", "7Condvar", "21wait_optional_timeout"}, 0}, /* ..., Option<Duration> */
	{{"3std", "3sys", "5futex", "10futex_wait"}, 0}, /* &AtomicU32, u32, Option<Duration> */
	{{"7parking", "6Parker", "4park"}, 0},
	{{"7parking", "6Parker", "12park_timeout"}, 0},		   /* Duration */
	{{"7parking", "6Parker", "13park_deadline"}, 0},	   /* Instant */
	{{"7parking", "5Inner", "4park"}, 0},			   /* Option<Duration> */
	{{"8async_io", "7reactor", "11ReactorLock", "5react"}, 0}, /* Option<Duration> */
	{{"5tokio", "7runtime", "4park", "16CachedParkThread", "4park"}, 0},
	{{"5tokio", "7runtime", "4park", "16CachedParkThread", "12park_timeout"}, 0}, /* Duration */
	{{"5tokio", "7runtime", "4park", "5Inner", "4park"}, 0},
	{{"5tokio", "7runtime", "4park", "5Inner", "12park_timeout"}, 0}, /* Duration */
	/* A current-thread runtime's loop runs inside a closure. Box<Core>, &Handle; and
	   of what runs it: *const T, a closure. */
	{{"5tokio", "7runtime", "14current_thread", "7Context", "4park"}, AFM_PK_INSIDE},
	{{"5tokio", "7runtime", "14current_thread", "7Context", "10park_yield"}, AFM_PK_INSIDE},
	{{"5tokio", "7context", "6scoped", "6Scoped", "3set"}, AFM_PK_CONTEXT},
	{{"5tokio", "10scoped_tls", "9ScopedKey", "3set"}, AFM_PK_CONTEXT},
};

/* A part is written with its length; legacy symbols may have generics in it, and a greater one:
   15Scoped$LT$T$GT$. */
static const char *find_part(const char *at, const char *part, bool legacy)
{
	const char *name = part;
	const char *found = strstr(at, part);

	while (*name >= '0' && *name <= '9')
		name++;
	for (const char *p = at; legacy && !found && (p = strstr(p, name)); p++)
		if (p > at && p[-1] >= '0' && p[-1] <= '9' && p[strlen(name)] == '$')
			return p + strlen(name);
	return found ? found + strlen(part) : NULL;
}

/* Whether a path ends with `name`: before the hash of a legacy symbol; in a v0 one at the end, or
   before the crate that made the instance, or with generics, of a generic type's impl. */
static bool ends_with(const char *at, const char *name, bool legacy)
{
	size_t length = strlen(name);

	for (; (at = strstr(at, name)); at++) {
		const char *behind = at + length;
		bool digit = at[-1] >= '0' && at[-1] <= '9';
		if (legacy ? !strncmp(behind, "17h", 3)
			   : !digit && (!*behind || *behind == '.' || *behind == 'C' ||
					*behind == 'B' || at[-1] == 'E'))
			return true;
	}
	return false;
}

static bool is_known(const char *symbol, const char *const parts[5])
{
	bool legacy = symbol[1] == 'Z';
	const char *at = symbol + 2;
	size_t n = 5;

	while (!parts[n - 1])
		n--;
	if (legacy && (*at != 'N' || strncmp(at + 1, parts[0], strlen(parts[0]))))
		return false;
	for (size_t i = 0; i + 1 < n; i++)
		if (!(at = find_part(at, parts[i], legacy)))
			return false;
	return ends_with(at, parts[n - 1], legacy);
}

static void see_symbol(void *arg, const char *name, uint64_t address, uint64_t size)
{
	struct af_builder *b = arg;

	if (size < 5 || size > UINT32_MAX || name[0] != '_' || (name[1] != 'Z' && name[1] != 'R'))
		return;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!is_known(name, known[i].parts))
			continue;
		struct afm_park *park = builder_push(b, parks);
		if (park)
			*park = (struct afm_park){.address = address,
						  .size = (uint32_t)size,
						  .name = af_strings_add(&b->strings, name),
						  .site = AFM_NONE,
						  .flags = known[i].flags};
		return;
	}
}

static int compare(const void *a, const void *b)
{
	const struct afm_park *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name;
}

static bool is_poll(const struct af_builder *b, uint64_t address)
{
	for (size_t i = 0; i < b->polls.count; i++)
		if (b->polls.items[i].address == address)
			return true;
	return false;
}

void af_parks_collect(struct af_builder *b)
{
	size_t kept = 0;

	af_object_symbols(b->object, see_symbol, b);
	vector_sort(&b->parks, compare);
	for (size_t i = 0; i < b->parks.count; i++)
		if ((!kept || b->parks.items[kept - 1].address != b->parks.items[i].address) &&
		    !is_poll(b, b->parks.items[i].address))
			b->parks.items[kept++] = b->parks.items[i];
	b->parks.count = kept;
}

static bool is_park(const struct af_builder *b, uint64_t address)
{
	size_t low = 0, high = b->parks.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (b->parks.items[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < b->parks.count && b->parks.items[low].address == address;
}

static int compare_slots(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

void af_parks_slots(struct af_builder *b)
{
	Elf_Scn *scn = NULL;

	while (b->parks.count && (scn = elf_nextscn(b->object->main.elf, scn))) {
		struct af_elf_section section;
		if (!gelf_getshdr(scn, &section.header) || section.header.sh_type != SHT_RELA ||
		    !af_elf_section_data(&b->object->main, &section))
			continue;
		for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= section.size;
		     at += sizeof(Elf64_Rela)) {
			Elf64_Rela rela;
			memcpy(&rela, section.data + at, sizeof(rela));
			if (ELF64_R_TYPE(rela.r_info) != R_X86_64_RELATIVE ||
			    !is_park(b, (uint64_t)rela.r_addend))
				continue;
			uint64_t *slot = builder_push(b, park_slots);
			if (slot)
				*slot = rela.r_offset;
		}
	}
	vector_sort(&b->park_slots, compare_slots);
}

enum af_call af_parks_called(const struct af_builder *b, uint64_t address, unsigned int size)
{
	uint64_t available;
	const uint8_t *code = af_object_bytes(b->object, address, &available);
	int32_t distance;

	if (!code || available < size || size < 5)
		return AF_CALL_UNKNOWN;
	memcpy(&distance, code + size - 4, sizeof(distance));
	uint64_t target = address + size + (uint64_t)(int64_t)distance;
	if (size == 5 && code[0] == 0xe8)
		return is_park(b, target) ? AF_CALL_PARK : AF_CALL_OTHER;
	if (size != 6 || code[0] != 0xff || code[1] != 0x15)
		return AF_CALL_UNKNOWN;
	return b->park_slots.count && bsearch(&target, b->park_slots.items, b->park_slots.count,
					      sizeof(target), compare_slots)
		       ? AF_CALL_PARK
		       : AF_CALL_OTHER;
}
