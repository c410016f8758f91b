/* SPDX-License-Identifier: MIT */
/*
 * DWARF as this program reads it: files, units, abbreviations, DIEs and their attributes.
 *
 * A `file` is one set of debug sections: the object's own (or its separate debug file's), a
 * dwz alternate file, a .dwo, a .debug_types section. A DIE is named by 64 bits: the file's
 * number above its offset in that file's .debug_info, so that offsets of different files
 * never meet. Everything is read in place and with bounds; nothing is cached per DIE.
 * DWARF 2 to 5, 32-bit format, little endian.
 */
#ifndef AF_ANALYSIS_DEBUGINFO_H
#define AF_ANALYSIS_DEBUGINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analysis/bytes.h"
#include "analysis/vector.h"
#include "base/error.h"

/* clang-format off */
enum af_section_id {
	AF_SEC_INFO, AF_SEC_ABBREV, AF_SEC_STR, AF_SEC_LINE, AF_SEC_LINE_STR, AF_SEC_STR_OFFSETS,
	AF_SEC_ADDR, AF_SEC_RANGES, AF_SEC_RNGLISTS, AF_SEC_LOC, AF_SEC_LOCLISTS, AF_SEC_TYPES,
	AF_SEC_COUNT
};
/* clang-format on */

struct af_section {
	const uint8_t *data;
	size_t size;
	size_t terminated; /* bytes up to the last NUL: a string that begins here ends here */
	void *owned;	   /* what to free, where it was decompressed */
};

/* What the index pass does at a DIE; chosen once per abbreviation. */
/* clang-format off */
enum af_role {
	AF_ROLE_SKIP, AF_ROLE_NAMESPACE, AF_ROLE_TYPE, AF_ROLE_SUBPROGRAM, AF_ROLE_VARIABLE,
	AF_ROLE_INLINED,
};
/* clang-format on */

struct af_attribute {
	uint16_t name, form; /* DW_AT_*, DW_FORM_* */
	int16_t size;	     /* bytes of the value, -1 where they must be looked at */
	uint16_t constant;   /* DW_FORM_implicit_const: index in `constants` */
};

/* Values without a fixed size, by how they are passed over. */
/* clang-format off */
enum af_skip_kind {
	AF_SKIP_NONE, AF_SKIP_LEB, AF_SKIP_BLOCK, AF_SKIP_BLOCK1, AF_SKIP_BLOCK2, AF_SKIP_BLOCK4,
	AF_SKIP_STRING, AF_SKIP_INDIRECT, AF_SKIP_UNKNOWN,
};
/* clang-format on */

/* To skip the attributes of a DIE: `fixed` bytes, then one value of this kind, and so on with
   the next one until the kind is none. */
struct af_skip {
	uint16_t fixed;
	uint8_t kind; /* enum af_skip_kind */
};

/* Where one attribute lies: behind `steps` skips and `fixed` bytes; `attribute` is its index in
   `attributes`, UINT32_MAX if the abbreviation does not have it. */
struct af_place {
	uint32_t attribute;
	uint16_t steps, fixed;
};

/* The first 16 bytes are all that most DIEs ask for in the index pass. */
struct af_abbrev {
	struct af_skip skip; /* the first step; the others begin at `more_skips` in `skips` */
	uint8_t role;	     /* enum af_role */
	bool children;
	uint32_t more_skips;
	uint16_t tag; /* DW_TAG_*; 0: no such code */
	bool has_ranges, has_inline;
	bool plain_name;   /* DW_AT_name is a DW_FORM_strp */
	bool plain_origin; /* the origin is a DW_FORM_ref4 */
	bool plain_low_pc; /* DW_AT_low_pc is a DW_FORM_addr of 8 bytes */
	/* fingerprint.c: its bytes, taken together with what they are (`kinds`), say what all
	   copies of the DIE say, but for those that are not set in `common`. */
	bool comparable;
	struct af_place name;
	struct af_place origin; /* DW_AT_abstract_origin, or else DW_AT_specification */
	struct af_place low_pc;
	uint32_t first_attribute, n_attributes;
	uint64_t kinds;
	uint64_t common[2]; /* of the first 16 bytes; the others all are */
};

struct af_abbrevs {
	uint64_t offset;			    /* in .debug_abbrev */
	uint8_t version, address_size, offset_size; /* of the units that it was read for */
	bool dense;				    /* code n is items[n - 1] */
	VECTOR(struct af_abbrev) items;		    /* by code */
	VECTOR(uint64_t) codes;			    /* parallel to items, unless dense */
	VECTOR(struct af_attribute) attributes;
	VECTOR(int64_t) constants;
	VECTOR(struct af_skip) skips;
};

struct af_file;
struct af_line_files;

struct af_unit {
	struct af_file *file;
	uint32_t offset, first_die, end; /* in .debug_info */
	uint16_t language;		 /* DW_LANG_*; 0 if it has none */
	uint8_t version, type;		 /* type: DW_UT_* */
	uint8_t address_size, offset_size;
	bool rust; /* written by rustc, or by nobody in particular (partial unit) */
	struct af_abbrevs *abbrevs;
	uint64_t signature;   /* type units; skeletons: of their .dwo */
	uint32_t type_offset; /* type units: of the type, from the unit's start */
	uint64_t str_offsets_base, addr_base, rnglists_base, loclists_base;
	uint64_t loc_base; /* .dwp of DWARF 4: its part of .debug_loc.dwo */
	uint64_t low_pc;
	uint64_t stmt_list;   /* UINT64_MAX: none */
	uint64_t ranges_base; /* DWARF 4, split: what DW_AT_ranges of the .dwo counts from */
	const char *name, *comp_dir, *producer, *dwo_name;
	const struct af_unit *skeleton; /* in the object, for a unit of a .dwo or .dwp */
	struct af_line_files *lines;	/* read when first asked for */
};

struct af_debuginfo;

/* A unit of a .dwp: where its part of each section begins. */
struct af_package_row {
	uint32_t info;
	uint32_t offsets[AF_SEC_COUNT];
};

#define AF_UNIT_BLOCK 65536

struct af_file {
	struct af_debuginfo *info;
	uint32_t number; /* in debuginfo.files */
	struct af_section sections[AF_SEC_COUNT];
	struct af_file *alternate;     /* dwz: what DW_FORM_GNU_*_alt and *_sup refer to */
	const struct af_section *addr; /* .debug_addr of the object that a .dwo belongs to */
	VECTOR(struct af_package_row) package; /* .dwp: by info */
	VECTOR(struct af_unit) units;	       /* by offset */
	VECTOR(uint32_t)
	unit_starts; /* of each AF_UNIT_BLOCK bytes: the first unit that ends in it
					 or behind */
	VECTOR(struct af_abbrevs *) abbrevs; /* by offset in .debug_abbrev */
};

/* A type that a type unit describes. */
struct af_signature {
	uint64_t signature, die; /* die: af_die_id */
};

struct af_debuginfo {
	VECTOR(struct af_file *) files;		/* [0] is the object's own */
	VECTOR(struct af_signature) signatures; /* ascending */
};

typedef uint64_t af_die_id; /* file number << 32 | offset */
#define AF_DIE_NONE UINT64_MAX

struct af_die {
	struct af_unit *unit;
	const struct af_abbrev *abbrev; /* NULL: not a DIE */
	uint32_t offset;
	const uint8_t *attributes;
};

struct af_value {
	uint16_t form;	     /* 0: the attribute is not there */
	uint64_t number;     /* constants, references, offsets, indices, flags, addresses */
	const uint8_t *data; /* blocks and inline strings */
	uint64_t size;
};

/* debuginfo.c: files and units. */
void af_debuginfo_init(struct af_debuginfo *info);
void af_debuginfo_deinit(struct af_debuginfo *info);
/* Adds a file without units. Takes over what `sections` own. NULL when memory is short. */
struct af_file *af_debuginfo_add(struct af_debuginfo *info,
				 const struct af_section sections[AF_SEC_COUNT]);
/* Reads the headers of its units; `types`: the section is .debug_types. */
struct af_error *af_file_read_units(struct af_file *file, bool types) af_must_check;
/* Makes the types of type units known by their signatures; once all units are read. */
struct af_error *af_debuginfo_sign_types(struct af_debuginfo *info) af_must_check;
/* The unit that holds `offset`, or NULL. */
struct af_unit *af_file_unit(const struct af_file *file, uint64_t offset);

/* abbrev.c */
/* The table of a unit whose version, sizes and file are set; kept by the file. */
struct af_error *af_abbrevs_get(const struct af_unit *unit, uint64_t offset,
				struct af_abbrevs **abbrevs) af_must_check;
void af_abbrevs_destroy(struct af_abbrevs *abbrevs);
const struct af_abbrev *af_abbrevs_find_sparse(const struct af_abbrevs *abbrevs, uint64_t code);

static inline const struct af_abbrev *af_abbrevs_find(const struct af_abbrevs *a, uint64_t code)
{
	if (__builtin_expect(a->dense, 1))
		return code - 1 < a->items.count ? &a->items.items[code - 1] : NULL;
	return af_abbrevs_find_sparse(a, code);
}

/* attribute.c: values. Every form of DWARF 2 to 5 and GNU's; unknown ones fail the cursor. */
void af_form_skip(const struct af_unit *unit, struct af_bytes *bytes, uint64_t form);
void af_form_read(const struct af_unit *unit, struct af_bytes *bytes,
		  const struct af_attribute *attribute, struct af_value *value);
/* Bytes of a form of fixed size in this unit's encoding, or -1. */
int af_form_size(uint64_t form, unsigned int address_size, unsigned int offset_size,
		 unsigned int version);
/* How to pass a form without one. */
enum af_skip_kind af_form_skip_kind(uint64_t form);
/* What af_attributes_end does from the first value without a fixed size on. */
const uint8_t *af_skip_steps(const struct af_unit *unit, const struct af_abbrev *abbrev,
			     const uint8_t *pos, const uint8_t *end);
/* The end of the first `steps` values without a fixed size, of attributes that were passed before:
   they do end before `end`. */
const uint8_t *af_skip_first(const struct af_unit *unit, const struct af_abbrev *abbrev,
			     unsigned int steps, const uint8_t *pos, const uint8_t *end);
/* The end of a DIE's attributes, which begin at `pos`; NULL if they do not end before `end`. */
static inline const uint8_t *af_attributes_end(const struct af_unit *unit,
					       const struct af_abbrev *abbrev, const uint8_t *pos,
					       const uint8_t *end)
{
	if (__builtin_expect(abbrev->skip.fixed > end - pos, 0))
		return NULL;
	pos += abbrev->skip.fixed;
	if (abbrev->skip.kind == AF_SKIP_NONE)
		return pos;
	return af_skip_steps(unit, abbrev, pos, end);
}

const char *af_value_string(const struct af_unit *unit, const struct af_value *value);
bool af_value_address(const struct af_unit *unit, const struct af_value *value, uint64_t *address);
af_die_id af_value_reference(const struct af_unit *unit, const struct af_value *value);
/* A constant of any form, blocks up to 8 bytes and longer ones with zeros above included. */
bool af_value_constant(const struct af_value *value, uint64_t *constant);

/* die.c: one DIE, and the DIEs below it. */
bool af_die_at(struct af_debuginfo *info, af_die_id id, struct af_die *die);
/* The DIE at `offset`, which lies in `unit`. */
bool af_die_in(struct af_unit *unit, uint32_t offset, struct af_die *die);
static inline af_die_id af_die_id_of(const struct af_die *die)
{
	return (uint64_t)die->unit->file->number << 32 | die->offset;
}
/* From its first attribute to the unit's end. */
struct af_bytes af_die_bytes(const struct af_die *die);
/* False if the DIE does not have the attribute. */
bool af_die_attribute(const struct af_die *die, unsigned int name, struct af_value *value);
/* Several at once, in one go over the DIE: values[i] is that of names[i], its form 0 if the DIE does
   not have it. */
void af_die_attributes(const struct af_die *die, const uint16_t *names, struct af_value *values,
		       unsigned int n);
const char *af_die_string(const struct af_die *die, unsigned int name);
bool af_die_number(const struct af_die *die, unsigned int name, uint64_t *number);
bool af_die_flag(const struct af_die *die, unsigned int name);
af_die_id af_die_reference(const struct af_die *die, unsigned int name);

/* Walks what lies below a DIE in order; depth 1 are its children. */
struct af_walk {
	struct af_unit *unit;
	struct af_bytes bytes;
	unsigned int depth;
	bool pending;	   /* the last DIE given has children not yet entered */
	struct af_die die; /* the last one given */
};
void af_walk_start(struct af_walk *walk, const struct af_die *die);
/* The next DIE at any depth; false at the end. */
bool af_walk_next(struct af_walk *walk, struct af_die *die, unsigned int *depth);
/* Passes over everything below the DIE given last. */
void af_walk_skip_children(struct af_walk *walk);

/* ranges.c: the code that a DIE covers, one range after another. */
struct af_ranges {
	const struct af_unit *unit;
	int kind;
	uint64_t start, end; /* where there is but one */
	uint64_t base;
	struct af_bytes bytes;
};
/* False if the DIE has neither DW_AT_low_pc nor DW_AT_ranges. */
bool af_ranges_start(struct af_ranges *ranges, const struct af_die *die);
/* [*start, *end); false at the end. What was dropped begins at 0 or 1. */
bool af_ranges_next(struct af_ranges *ranges, uint64_t *start, uint64_t *end);
/* Entry address and the bytes of the range that holds it (0 if unknown). */
bool af_die_entry(const struct af_die *die, uint64_t *address, uint64_t *size);

/* location.c: where DW_AT_location says that an object is, one place after another. */
struct af_locations {
	const struct af_unit *unit;
	int kind;
	uint64_t base;
	struct af_bytes bytes;
	uint64_t from, to;   /* code for which the place holds; 0 to UINT64_MAX: all its scope */
	const uint8_t *code; /* expression */
	uint64_t size;
};
/* False if the DIE has no location that can be read. */
bool af_locations_start(struct af_locations *locations, const struct af_die *die);
bool af_locations_next(struct af_locations *locations); /* false at the end */
/* 1 + the DWARF register that holds an object at `address`, or 0 where it is not simply in a
   register there. */
unsigned int af_location_register(const struct af_die *die, uint64_t address);

/* An object's place in a frame, from an expression: register `base` (AF_FRAME_CFA: the CFA) plus
   `offset`; with `indirect` the word there plus `then`. `value`: that is the object's value, else
   its address. */
struct af_frame_place {
	unsigned int base;
	int64_t offset, then;
	bool indirect, value;
};
#define AF_FRAME_CFA 256u
/* `frame` is what DW_OP_fbreg counts from, or NULL. False for what is more involved. */
bool af_location_place(const uint8_t *code, uint64_t size, const struct af_frame_place *frame,
		       struct af_frame_place *place);

/* lines.c: file names of the line tables. Writes a path into `path`; false if unknown. */
bool af_unit_file_name(struct af_unit *unit, uint64_t number, char *path, size_t size);
void af_line_files_destroy(struct af_line_files *files);

#endif
