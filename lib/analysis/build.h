/* SPDX-License-Identifier: MIT */
/*
 * A future map in the making: the tables that grow, and what the stations of the second pass
 * (types, futures, polls, executors, sites) share. Order of work: build.c.
 *
 * When memory runs short, `failed` is set, indices are AFM_NONE, and the work goes on
 * without harm to its end, where build.c looks.
 */
#ifndef AF_ANALYSIS_BUILD_H
#define AF_ANALYSIS_BUILD_H

#include "analysis/debuginfo.h"
#include "analysis/object.h"
#include "analysis/scan.h"
#include "analysis/text.h"
#include "futuremap/futuremap.h"
#include "patch/plan/site.h"

/* `__awaitee` in a body: where the user wrote an await of this type. */
struct af_await {
	uint32_t body; /* string: what the body is of, without generic arguments */
	uint32_t type;
	uint32_t file, line;
};

/* A namespace `{impl#N}`; `next` has the same path. */
struct af_impl {
	uint32_t file, space, next;
};

/* What a `dyn Trait` can be: the trait (string in `scratch`, without generics), and a type. */
struct af_implementor {
	uint32_t trait, type;
};

/* A range of a split function that does not hold its entry. */
struct af_part {
	uint64_t entry;
	struct af_code_range range;
};

struct af_builder {
	struct af_object *object;
	struct af_debuginfo *info;
	struct af_index *indexes; /* one per file of `info` */
	bool failed;

	struct af_strings strings;
	struct af_strings scratch; /* names for comparing, not in the map */
	VECTOR(struct afm_type) types;
	VECTOR(struct afm_field) fields;
	VECTOR(struct afm_variant) variants;
	VECTOR(struct afm_future) futures;
	VECTOR(struct afm_poll) polls;
	VECTOR(uint32_t) poll_futures;
	VECTOR(uint32_t) future_polls;
	VECTOR(struct afm_root) roots;
	VECTOR(uint32_t) root_arguments; /* strings, parallel to roots: "<T, S>" */
	VECTOR(struct afm_site) sites;
	VECTOR(struct af_part) parts; /* polls.c */
	VECTOR(struct afm_fixup) fixups;
	VECTOR(uint8_t) code;
	VECTOR(struct afm_step) steps;
	VECTOR(struct afm_step_case) step_cases;
	VECTOR(struct afm_step_way) step_ways;
	VECTOR(struct afm_vtable) vtables;
	VECTOR(struct af_implementor) implementors; /* of the traits of `vtables` */
	VECTOR(struct afm_driver) drivers;
	VECTOR(struct afm_place) places;
	VECTOR(struct afm_park) parks;
	VECTOR(struct afm_stay) stays;
	VECTOR(uint64_t) park_slots; /* of the GOT, by address: which hold a park's */
	VECTOR(struct afm_waker) wakers;
	VECTOR(struct afm_layout) layouts;

	VECTOR(struct af_await) awaits; /* awaits.c */
	VECTOR(af_die_id) declared;	/* polls of what is only declared there: declared.c */
	VECTOR(af_die_id) block_ons;	/* functions called so: polls.c finds, drivers.c reads */
	VECTOR(struct af_impl) impls;	/* impls.c: these three */
	struct af_map impl_heads;	/* hash of the path -> last in `impls` */
	struct af_map impl_names;	/* hash of the path -> string in `scratch`, 0: unknown */
	VECTOR(af_die_id) type_dies;	/* parallel to types: where each was read */
	size_t n_detailed;		/* types before this index have their fields */
	struct af_map die_types;	/* DIE -> type */
	struct af_map copies;		/* copy of a type in some unit (types.c) -> type */
	struct af_map key_types;	/* identity of a type (types.c) -> type */
	struct af_map name_types;	/* name -> type: a definition where there is one */
	struct af_map twice_named;	/* name -> 1: of two types that differ */
	struct af_map file_names;	/* unit and file number -> string */
	struct af_beside *beside;	/* beside.c */
	uint32_t verdict;
};

#define builder_push(b, table)                                                   \
	({                                                                       \
		__typeof__((b)->table.items) pushed_ = vector_push(&(b)->table); \
		if (!pushed_)                                                    \
			(b)->failed = true;                                      \
		pushed_;                                                         \
	})

/* names.c */
/* "a::b::Name": the namespaces around a DIE and its own name. Appends. */
void af_name_qualify(struct af_builder *b, const struct af_die *die, struct af_text *text);
/* The path of a DIE's namespace alone ("a::b"), "" at the top. Appends. */
void af_name_path(struct af_builder *b, const struct af_die *die, struct af_text *text);
/* How people write a type's qualified name. Appends. */
void af_name_display(struct af_builder *b, const char *qualified, struct af_text *text);
/* The last component of a qualified name: the type's own, with generic arguments. */
const char *af_name_last(const char *name);
/* String of the file that DW_AT_decl_file of this DIE means, and its line. */
void af_name_place(struct af_builder *b, const struct af_die *die, uint32_t *file, uint32_t *line);

/* impls.c */
/* What people call the impl block with this path ("a::{impl#0}"): "a::Sender" or "<a::Db as
   a::Store>". NULL if it cannot be told. The string lives until the next call. */
const char *af_impls_name(struct af_builder *b, const char *path, size_t length);

/* types.c */
/* The type at a DIE; AFM_NONE if it is none, or memory is short. Its fields come later. */
uint32_t af_types_intern(struct af_builder *b, af_die_id id);
/* The same of a composed type whose af_copy_key is known. */
uint32_t af_types_copy(struct af_builder *b, af_die_id id, uint64_t key);
/* Reads the fields and variants of every type interned so far, and of those they name. */
void af_types_detail(struct af_builder *b);
/* A DIE's type attribute, followed through typedefs and qualifiers. */
af_die_id af_types_target(struct af_builder *b, const struct af_die *die);
/* The field of type `type` called `name`, outside variants; AFM_NONE if there is none. */
uint32_t af_types_field(const struct af_builder *b, uint32_t type, const char *name);
/* Whether the name of type `type` begins with `head`. */
bool af_types_named(const struct af_builder *b, uint32_t type, const char *head);

/* members.c */
/* Appends the direct members of a structure, moved by `base`, to the fields. */
void af_members_read(struct af_builder *b, const struct af_die *type, uint64_t base,
		     uint32_t *first, uint32_t *n);
/* Rust enums and coroutines: DW_TAG_variant_part with its discriminant and variants. */
void af_members_variants(struct af_builder *b, const struct af_die *part, struct afm_type *type);
void af_members_enumerators(struct af_builder *b, const struct af_die *enumeration,
			    struct afm_type *type);

/* futures.c */
/* The future of a type, made at first sight. `kind` AFM_F_HAND for hand-written ones; for
   coroutines it is found from the name. */
uint32_t af_futures_add(struct af_builder *b, uint32_t type, bool coroutine);
/* Every coroutine type of the index becomes a future. */
void af_futures_collect(struct af_builder *b);
/* After af_types_detail: states, await points, awaitees, places. */
void af_futures_complete(struct af_builder *b);

/* awaits.c */
/* Interns what `__awaitee` variables say, before af_types_detail. */
void af_awaits_collect(struct af_builder *b);
/* Gives await points that lie in a macro's source the line that the user wrote. */
void af_awaits_complete(struct af_builder *b);

/* polls.c */
/* Every function of the index that polls becomes a poll. */
void af_polls_collect(struct af_builder *b);
/* Orders polls by address, joins those that share one, links polls and futures. */
void af_polls_complete(struct af_builder *b);

/* bodies.c */
/* After af_polls_complete: what roots that are nothing but a jump jump to. */
void af_bodies_find(struct af_builder *b);

/* parks.c */
/* After af_polls_collect: functions by which threads wait. */
void af_parks_collect(struct af_builder *b);
/* Then: how else code calls them. */
void af_parks_slots(struct af_builder *b);
/* What the call at `address` calls. */
enum af_call { AF_CALL_PARK, AF_CALL_OTHER, AF_CALL_UNKNOWN };
enum af_call af_parks_called(const struct af_builder *b, uint64_t address, unsigned int size);

/* Those that af_declared_complete is for. */
void af_polls_declared(struct af_builder *b);

/* declared.c */
/* After af_types_detail: polls whose future is only declared where they are, and what is
   awaited. */
void af_declared_complete(struct af_builder *b);

/* drivers.c */
/* After af_declared_complete: functions that poll a future in their own frame. What it interns has
   no fields yet. */
void af_drivers_collect(struct af_builder *b);

/* executors.c */
/* After af_types_detail: roots' cells and named layouts. */
void af_executors_intern(struct af_builder *b);
void af_executors_complete(struct af_builder *b);
void af_vtables_collect(struct af_builder *b);
/* String in `scratch`: the path at the beginning of `trait`. */
uint32_t af_trait_name(struct af_builder *b, const char *trait);

/* wakers.c */
/* Wakers that are an Arc; before af_types_detail. */
void af_wakers_collect(struct af_builder *b);
/* Keeps those that lead to a future; after af_reach_mark. */
void af_wakers_complete(struct af_builder *b);

/* reach.c */
/* After af_futures_complete: AFM_TF_REACHES_FUTURE. */
void af_reach_mark(struct af_builder *b);

/* drops.c */
/* After af_futures_complete: which stored variables each state drops. */
void af_drops_complete(struct af_builder *b);

/* steps.c */
/* Last: the ways from task roots and vtables down to what is awaited. */
void af_steps_make(struct af_builder *b);

/* write.c */
struct af_error *af_builder_write(struct af_builder *b, const char *path, void **data,
				  size_t *size) af_must_check;
void af_builder_deinit(struct af_builder *b);

#endif
