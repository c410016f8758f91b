/* SPDX-License-Identifier: MIT */
/*
 * Reads every DIE of an object twice, with our decoder and with libdw, in the order of the
 * bytes, and compares: where it is, its tag, depth, whether it has children, and the
 * attributes that the analysis reads. Says how many there were, and where the two differ.
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "analysis/object.h"
#include "analysis/scan.h"

static const unsigned int numbers[] = {
	DW_AT_byte_size,   DW_AT_alignment, DW_AT_data_member_location,
	DW_AT_decl_line,   DW_AT_decl_file, DW_AT_discr_value,
	DW_AT_const_value, DW_AT_inline,    DW_AT_encoding,
};
static const unsigned int references[] = {
	DW_AT_type, DW_AT_abstract_origin, DW_AT_specification, DW_AT_containing_type, DW_AT_discr,
};
static const unsigned int strings[] = {DW_AT_name, DW_AT_linkage_name};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct totals {
	uint64_t units, dies, attributes, differences;
};

static void differ(struct totals *t, uint64_t offset, const char *what, unsigned int attribute)
{
	if (t->differences++ < 20)
		fprintf(stderr, "0x%" PRIx64 ": %s differs (attribute 0x%x)\n", offset, what,
			attribute);
}

static void compare_numbers(struct totals *t, const struct af_die *own, Dwarf_Die *other)
{
	for (size_t i = 0; i < COUNT(numbers); i++) {
		Dwarf_Attribute attribute;
		Dwarf_Word theirs = 0;
		uint64_t ours = 0;
		if (!dwarf_attr(other, numbers[i], &attribute)) {
			if (af_die_number(own, numbers[i], &ours))
				differ(t, own->offset, "presence of a number", numbers[i]);
			continue;
		}
		/* What libdw takes for no constant (a location, a block) it cannot read. */
		if (dwarf_formudata(&attribute, &theirs))
			continue;
		t->attributes++;
		if (!af_die_number(own, numbers[i], &ours) || ours != theirs)
			differ(t, own->offset, "a number", numbers[i]);
	}
}

static void compare_references(struct totals *t, const struct af_die *own, Dwarf_Die *other)
{
	for (size_t i = 0; i < COUNT(references); i++) {
		Dwarf_Attribute attribute;
		Dwarf_Die theirs;
		af_die_id ours = af_die_reference(own, references[i]);
		if (!dwarf_attr(other, references[i], &attribute)) {
			if (ours != AF_DIE_NONE)
				differ(t, own->offset, "presence of a reference", references[i]);
			continue;
		}
		if (!dwarf_formref_die(&attribute, &theirs))
			continue;
		t->attributes++;
		if (ours != dwarf_dieoffset(&theirs))
			differ(t, own->offset, "a reference", references[i]);
	}
}

static void compare_strings(struct totals *t, const struct af_die *own, Dwarf_Die *other)
{
	for (size_t i = 0; i < COUNT(strings); i++) {
		Dwarf_Attribute attribute;
		const char *ours = af_die_string(own, strings[i]);
		const char *theirs = dwarf_formstring(dwarf_attr(other, strings[i], &attribute));
		t->attributes += theirs != NULL;
		if (!ours != !theirs || (ours && strcmp(ours, theirs)))
			differ(t, own->offset, "a string", strings[i]);
	}
}

static void compare_addresses(struct totals *t, const struct af_die *own, Dwarf_Die *other)
{
	uint64_t address, size;
	Dwarf_Addr low, high, base;

	if (dwarf_lowpc(other, &low)) {
		/* Of an entry with ranges, the first one, where neither knows a low_pc. */
		if (!dwarf_hasattr(other, DW_AT_ranges) || dwarf_hasattr(other, DW_AT_entry_pc) ||
		    dwarf_ranges(other, 0, &base, &low, &high) <= 0)
			return;
	} else if (dwarf_hasattr(other, DW_AT_ranges)) {
		/* Units: low_pc is what ranges count from. */
		return;
	} else if (dwarf_highpc(other, &high)) {
		high = low;
	}
	t->attributes++;
	if (!af_die_entry(own, &address, &size) || address != low || size != high - low)
		differ(t, own->offset, "an address", DW_AT_low_pc);
}

static void compare(struct totals *t, const struct af_die *own, Dwarf_Die *other)
{
	t->dies++;
	if (own->abbrev->tag != dwarf_tag(other))
		differ(t, own->offset, "the tag", 0);
	if (own->abbrev->children != (dwarf_haschildren(other) == 1))
		differ(t, own->offset, "having children", 0);
	compare_numbers(t, own, other);
	compare_references(t, own, other);
	compare_strings(t, own, other);
	compare_addresses(t, own, other);
}

/* libdw's DIEs from `other` on, each against the next one of our walk. */
static bool compare_level(struct totals *t, struct af_walk *walk, Dwarf_Die *other,
			  unsigned int depth)
{
	Dwarf_Die child;
	struct af_die own;
	unsigned int own_depth;

	do {
		uint64_t offset = dwarf_dieoffset(other);
		if (!af_walk_next(walk, &own, &own_depth) || own.offset != offset ||
		    own_depth != depth) {
			differ(t, offset, "the order of entries", 0);
			return false;
		}
		compare(t, &own, other);
		if (!dwarf_child(other, &child) && !compare_level(t, walk, &child, depth + 1))
			return false;
	} while (!dwarf_siblingof(other, other));
	return true;
}

static void compare_unit(struct totals *t, struct af_debuginfo *info, Dwarf *dwarf, uint64_t offset)
{
	Dwarf_Die top, child;
	struct af_die own, extra;
	struct af_walk walk;
	unsigned int depth;

	t->units++;
	if (!dwarf_offdie(dwarf, offset, &top))
		return;
	if (!af_die_at(info, offset, &own)) {
		differ(t, offset, "the presence of a unit", 0);
		return;
	}
	compare(t, &own, &top);
	af_walk_start(&walk, &own);
	if (!dwarf_child(&top, &child) && !compare_level(t, &walk, &child, 1))
		return;
	if (af_walk_next(&walk, &extra, &depth))
		differ(t, extra.offset, "the number of entries", 0);
}

int main(int argc, char **argv)
{
	struct af_object object;
	struct af_debuginfo info;
	struct totals t = {0};
	size_t header;
	Dwarf_Off at = 0, next;

	if (argc != 2) {
		fprintf(stderr, "usage: compare_dies OBJECT\n");
		return 2;
	}
	struct af_error *error = af_object_open(&object, argv[1]);
	af_debuginfo_init(&info);
	if (!error)
		error = af_object_debuginfo(&object, &info);
	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	Dwarf *dwarf = dwarf_begin(fd, DWARF_C_READ);
	if (error || !dwarf || !info.files.count) {
		fprintf(stderr, "%s: %s\n", argv[1], error ? error->message : dwarf_errmsg(-1));
		return 2;
	}
	for (; !dwarf_nextcu(dwarf, at, &next, &header, NULL, NULL, NULL); at = next)
		compare_unit(&t, &info, dwarf, at + header);
	if (t.units != info.files.items[0]->units.count)
		differ(&t, at, "the number of units", 0);

	/* The index pass sees what the walk sees, of the units that it walks. */
	struct af_index index;
	struct af_scan_progress progress = {0};
	uint64_t scanned = 0;
	for (size_t i = 0; i < info.files.items[0]->units.count; i++)
		info.files.items[0]->units.items[i].rust = true;
	error = af_scan(info.files.items[0], &progress, &index);
	if (!error)
		scanned = index.n_dies;
	if (error || scanned != t.dies || index.n_broken)
		differ(&t, 0, "the index pass's number of entries", 0);
	if (!error)
		af_index_deinit(&index);
	af_error_destroy(error);

	printf("{\"units\": %" PRIu64 ", \"entries\": %" PRIu64 ", \"attributes\": %" PRIu64
	       ", \"differences\": %" PRIu64 "}\n",
	       t.units, t.dies, t.attributes, t.differences);
	dwarf_end(dwarf);
	close(fd);
	af_debuginfo_deinit(&info);
	af_object_close(&object);
	return t.differences != 0;
}
