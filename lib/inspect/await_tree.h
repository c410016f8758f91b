/* SPDX-License-Identifier: MIT */
/*
 * Where a future stands: the tree of what it awaits, read from memory.
 *
 * A future that is a coroutine says by its state at which await it is parked, and holds the
 * awaitee; that one awaits the next, down to a leaf: a timer, a socket, a channel, another
 * task. Combinators (join!, select!, FuturesUnordered, Timeout, ...) have several children. So
 * there is one node per future; pointers, pins, boxes, options, `dyn` and the like lie between
 * nodes and are not shown.
 *
 * What is read may be changing, or be no future at all: a node's status says so. Nothing here
 * allocates, recurses or reads but through target.memory; every loop is bounded by the tree's
 * limits. One tree belongs to one thread at a time. Safe in the host, also in a signal handler,
 * with a reader that is.
 */
#ifndef AF_INSPECT_AWAIT_TREE_H
#define AF_INSPECT_AWAIT_TREE_H

#include "inspect/target.h"

#define AF_NODE_NONE UINT32_MAX

enum af_node_status {
	AF_NODE_UNKNOWN = 0, /* what lies there is no value of this type: stale or torn */
	AF_NODE_UNREADABLE,  /* its memory could not be read */
	AF_NODE_NOT_STARTED, /* never polled (coroutines only) */
	AF_NODE_SUSPENDED,   /* parked at the await that `variant` names (coroutines only) */
	AF_NODE_DONE,	     /* has returned; nothing below */
	AF_NODE_PANICKED,    /* a panic passed through it */
	AF_NODE_HAND,	     /* hand-written: its fields are its only state */
	AF_NODE_SAME,	     /* was met before, as node `same_as`; nothing below */
};

/* What a node is to its parent. */
enum af_node_relation {
	AF_IS_ROOT = 0, /* has none */
	AF_IS_AWAITED,	/* the parent, a coroutine, stands at `.await` of it */
	AF_IS_CHILD,	/* the parent, written by hand (a combinator), holds and may poll it */
	AF_IS_HELD,	/* the parent holds it, but awaits something else now */
};

/* What a leaf waits for, as far as its type tells. */
enum af_wait {
	AF_WAIT_NONE = 0, /* not known, or not a leaf */
	AF_WAIT_TIMER,
	AF_WAIT_TASK,	  /* another task's end; see af_node.task */
	AF_WAIT_BLOCKING, /* work on a blocking pool's thread */
	AF_WAIT_IO,	  /* readiness of a descriptor */
	AF_WAIT_CHANNEL,  /* a message, or room for one */
	AF_WAIT_LOCK,	  /* a mutex, rwlock, semaphore, barrier */
	AF_WAIT_NOTIFY,	  /* an event: Notify, watch, cancellation */
	AF_WAIT_YIELD,	  /* its next turn only */
	AF_WAIT_SIGNAL,	  /* a signal or a child process */
	AF_WAIT_NEVER,	  /* pending() */
};

#define AF_NODE_IN_STATE 1u /* an enum combinator: `variant` is the active one */
#define AF_NODE_DISABLED 2u /* a branch of select! that is not polled (any more) */
#define AF_NODE_CUT 4u	    /* more children than the limits allow */
#define AF_NODE_LOST 8u	    /* a pointer below could not be followed: children may be missing */
#define AF_NODE_UNSURE \
	16u /* held, and perhaps dropped or given away long ago: what no poll has
			       pinned, and what is behind a pointer, unless no other task
			       reaches what lies at this address */

/* No pointers into the tree: an array of nodes may be copied as it is. */
struct af_node {
	uint64_t address; /* of the future */
	uint64_t task;	  /* AF_WAIT_TASK: address of the awaited task's header; else 0 */
	uint32_t parent, first_child, last_child, next; /* nodes, or AF_NODE_NONE */
	uint32_t n_children;
	uint32_t image, type; /* the type in its image's map */
	uint32_t future;      /* in the map's `futures`, or AFM_NONE */
	uint32_t variant;     /* in the map's `variants`: state of a coroutine or an enum, or
				 AFM_NONE. Its file:line is the await's place. */
	uint32_t index;	      /* place among its siblings in a combinator or list, or AFM_NONE */
	uint32_t label;	      /* string in the map of image `label_image`: the field of the
				 parent that it was reached by; 0 if that has no name */
	uint32_t label_image;
	uint32_t same_as; /* AF_NODE_SAME: the node met first; else AF_NODE_NONE */
	uint16_t depth;	  /* 0 for the root */
	uint8_t status;	  /* enum af_node_status */
	uint8_t relation; /* enum af_node_relation */
	uint8_t wait;	  /* enum af_wait */
	uint8_t flags;	  /* AF_NODE_* bits */
	uint16_t reserved;
};

/* What to do with members of a coroutine that it does not await at the moment. Debug info does
   not tell what is stored there from what was moved out or dropped already; only sometimes a
   drop flag does. A future that is stored by value was not moved once it was polled. What is
   behind a Box may have gone elsewhere with it, or be somebody else's by now. */
enum af_held {
	AF_HELD_NONE = 0, /* only what is awaited */
	AF_HELD_VALUES,	  /* futures stored by value */
	AF_HELD_POINTERS, /* also behind boxes and references, if no drop flag says it is gone;
			     marked AF_NODE_UNSURE */
};

enum {
	AF_CUT_NODES = 1,    /* no room for more nodes */
	AF_CUT_ELEMENTS = 2, /* some list is longer than max_elements */
	AF_CUT_DEPTH = 4,    /* deeper than max_depth */
	AF_CUT_STEPS = 8,    /* more work than max_steps */
};

struct af_tree_item;
struct af_tree_seen;

struct af_await_tree {
	/* Limits, set by init; may be changed between reads. */
	uint32_t max_nodes;    /* from the size of the block */
	uint32_t max_elements; /* of one list; default 1024 */
	uint32_t max_depth;    /* nodes and what lies between, above one another; 512 */
	uint32_t max_steps;    /* values looked at; 64 per node */
	enum af_held held;     /* default AF_HELD_VALUES */

	/* The result. Nodes lie in order of a walk from the root, children in their order: to
	   print, go through the array and indent by depth. */
	struct af_node *nodes;
	uint32_t n_nodes;
	uint32_t cut;	   /* AF_CUT_* */
	uint32_t n_failed; /* reads that failed: with a running process a sign of motion */
	uint64_t n_reads;  /* reads of memory, for measurements */
	uint64_t identity; /* hash of the tree with addresses: equal for a task that did not
			       move between two reads */
	uint64_t likeness; /* hash without addresses: equal for equal stacks */

	/* Internal. */
	struct af_tree_item *items;
	struct af_tree_seen *seen;
	uint32_t n_items, max_items, seen_mask, n_seen;
	uint32_t epoch;
};

/* Bytes of a block for trees of up to `nodes` nodes. */
size_t af_await_tree_size(uint32_t nodes);
/* Builds a tree in `block` (aligned to 8, any size from af_await_tree_size(1) on); it must
   live as long as the tree. False if it is too small. */
bool af_await_tree_init(struct af_await_tree *tree, void *block, size_t size);

/*
 * Reads the future of `type` at `address` into `tree`, which forgets what it held. Always
 * leaves at least a root, whose status says if nothing could be read. True unless the root is
 * unreadable or unknown.
 */
bool af_await_tree_read(struct af_await_tree *tree, const struct af_target *target, uint32_t image,
			uint32_t type, uint64_t address);

/* The node that names the wait: from the root down as long as there is exactly one awaited
   node or child, so at the leaf or at a combinator with several. */
uint32_t af_await_tree_innermost(const struct af_await_tree *tree);

/* A static word for enum af_wait ("timer"), NULL for AF_WAIT_NONE. */
const char *af_wait_name(enum af_wait wait);

#endif
