/* SPDX-License-Identifier: MIT */
/*
 * Function symbols and function starts. Where the next function begins is asked of the symbol
 * table and of the unwind table's search table: a stripped object has only the latter.
 */
#include <elf.h>

#include "analysis/elffile.h"

static void symbols_of(const struct af_elf *file,
		       void (*each)(void *arg, const char *name, uint64_t address, uint64_t size),
		       void *arg)
{
	Elf_Scn *scn = NULL;

	while (file->elf && (scn = elf_nextscn(file->elf, scn))) {
		struct af_elf_section table, names;
		if (!gelf_getshdr(scn, &table.header) ||
		    (table.header.sh_type != SHT_SYMTAB && table.header.sh_type != SHT_DYNSYM) ||
		    !af_elf_section_data(file, &table))
			continue;
		Elf_Scn *linked = elf_getscn(file->elf, table.header.sh_link);
		if (!linked || !gelf_getshdr(linked, &names.header) ||
		    !af_elf_section_data(file, &names) || !names.size || names.data[names.size - 1])
			continue;
		for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table.size;
		     at += sizeof(Elf64_Sym)) {
			Elf64_Sym symbol;
			memcpy(&symbol, table.data + at, sizeof(symbol));
			if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || !symbol.st_value ||
			    symbol.st_shndx == SHN_UNDEF || symbol.st_name >= names.size)
				continue;
			each(arg, (const char *)names.data + symbol.st_name, symbol.st_value,
			     symbol.st_size);
		}
	}
}

void af_object_symbols(const struct af_object *object,
		       void (*each)(void *arg, const char *name, uint64_t address, uint64_t size),
		       void *arg)
{
	if (object->elf_class != ELFCLASS64)
		return;
	symbols_of(&object->main, each, arg);
	symbols_of(&object->debug, each, arg);
}

#define BUCKETS 4096

struct next_search {
	const uint64_t *addresses;
	size_t n;
	uint64_t *next;
	/* buckets[i]: the first address that is not below first + (i << shift) */
	uint32_t buckets[BUCKETS + 1];
	unsigned int shift;
};

static void fill_buckets(struct next_search *search)
{
	const uint64_t *addresses = search->addresses;
	uint64_t reach = search->n ? addresses[search->n - 1] - addresses[0] : 0;
	size_t at = 0;

	while (reach >> search->shift >= BUCKETS)
		search->shift++;
	for (uint64_t i = 0; i <= BUCKETS; i++) {
		while (at < search->n && (addresses[at] - addresses[0]) >> search->shift < i)
			at++;
		search->buckets[i] = (uint32_t)at;
	}
}

/* The wanted addresses below `address` that have no nearer neighbour yet: only the last of
   them can have this one as its next. */
static void see_function(struct next_search *search, uint64_t address)
{
	if (!search->n || address <= search->addresses[0])
		return;
	uint64_t bucket = (address - search->addresses[0]) >> search->shift;
	size_t low = bucket < BUCKETS ? search->buckets[bucket] : search->n;
	size_t high = bucket < BUCKETS ? search->buckets[bucket + 1] : search->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (search->addresses[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	/* Equal addresses share their next. */
	while (low-- > 0) {
		if (address < search->next[low])
			search->next[low] = address;
		if (!low || search->addresses[low - 1] != search->addresses[low])
			break;
	}
}

static void see_symbol(void *arg, const char *name, uint64_t address, uint64_t size)
{
	see_function(arg, address);
}

/* .eh_frame_hdr in the only encoding linkers write: version 1, a table of pairs of signed
   32-bit offsets from the section's start. */
static void see_unwind_table(const struct af_object *object, struct next_search *search)
{
	struct af_elf_section found;

	if (!af_elf_section(&object->main, ".eh_frame_hdr", &found))
		return;
	struct af_bytes b = af_bytes_make(found.data, found.size);
	uint32_t head = af_bytes_u32(&b);
	if (head != 0x3b031b01)
		return;
	af_bytes_u32(&b);
	uint64_t count = af_bytes_u32(&b);
	if (count > af_bytes_left(&b) / 8)
		return;
	for (uint64_t i = 0; i < count; i++) {
		int32_t offset = (int32_t)af_bytes_u32(&b);
		af_bytes_u32(&b);
		see_function(search, found.header.sh_addr + (uint64_t)(int64_t)offset);
	}
}

/* No function reaches beyond the section that it begins in. */
static void end_with_section(struct next_search *search, const GElf_Shdr *header)
{
	for (size_t i = 0; i < search->n; i++)
		if (search->addresses[i] >= header->sh_addr &&
		    search->addresses[i] - header->sh_addr < header->sh_size)
			search->next[i] = header->sh_addr + header->sh_size;
}

void af_object_next_functions(const struct af_object *object, const uint64_t *addresses, size_t n,
			      uint64_t *next)
{
	struct next_search search = {.addresses = addresses, .n = n, .next = next};
	Elf_Scn *scn = NULL;
	GElf_Shdr header;

	if (!n)
		return;
	fill_buckets(&search);
	memcpy(next, addresses, n * sizeof(*next));
	while ((scn = elf_nextscn(object->main.elf, scn)))
		if (gelf_getshdr(scn, &header) && (header.sh_flags & SHF_EXECINSTR))
			end_with_section(&search, &header);
	for (size_t i = 0; i < n; i++)
		see_function(&search, addresses[i]);
	af_object_symbols(object, see_symbol, &search);
	see_unwind_table(object, &search);
}
