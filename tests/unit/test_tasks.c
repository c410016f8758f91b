/* SPDX-License-Identifier: MIT */
/*
 * Handles of other tasks, tasks themselves, and what leaves wait for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_maker.h"

/* --- tasks */

static uint32_t join_handle(void)
{
	uint32_t header = structure("tokio::runtime::task::core::Header", 32);
	uint32_t raw = wrap("tokio::runtime::task::raw::RawTask", "ptr",
			    wrap("core::ptr::non_null::NonNull<Header>", "pointer",
				 maker_pointer(m, "*const Header", header)));
	uint32_t type = hand("tokio::runtime::task::join::JoinHandle<u64>", 8);
	maker_field(m, type, "raw", raw, 0);
	return type;
}

static void names_the_task_that_is_awaited(void **state)
{
	uint32_t c = awaiting("c", join_handle());

	heap[0] = SUSPENDED;
	heap[1] = at(100);
	read_at(c, 0);
	assert_int_equal(tree.nodes[1].task, at(100));
	assert_int_equal(tree.nodes[1].wait, AF_WAIT_TASK);
	assert_int_equal(tree.nodes[1].status, AF_NODE_HAND);
}

static void knows_handles_that_were_moved_on(void **state)
{
	uint32_t handle = join_handle(), c = coroutine("c", 32);
	suspend(c, SUSPENDED);
	maker_field(m, c, "copy", handle, 16);
	maker_field(m, c, "other", handle, 24);
	awaits(c, handle, 8);

	heap[0] = SUSPENDED;
	heap[1] = heap[2] = at(100);
	heap[3] = at(200);
	read_at(c, 0);
	assert_int_equal(tree.n_nodes, 3);
	assert_int_equal(tree.nodes[2].relation, AF_IS_HELD);
	assert_int_equal(tree.nodes[2].task, at(200));
}

/* ListEntry { pointers: { next }, value: JoinHandle } of two words. */
static void goes_over_join_sets(void **state)
{
	uint32_t entry = structure("ListEntry<T>", 16), c;
	uint32_t link = wrap("core::option::Option<NonNull<ListEntry<T>>>", "__0",
			     maker_pointer(m, "*const ListEntry<T>", entry));
	uint32_t pointers = wrap("Pointers<T>", "next", link);
	uint32_t value = wrap("core::mem::manually_drop::ManuallyDrop<T>", "value", join_handle());
	maker_field(m, entry, "pointers", pointers, 0);
	maker_field(m, entry, "value", value, 8);
	uint32_t list = wrap("tokio::util::linked_list::LinkedList<T>", "head", link);
	uint32_t lists = structure("ListsInner<T>", 16);
	maker_field(m, lists, "notified", list, 0);
	maker_field(m, lists, "idle", list, 8);
	uint32_t set = structure("tokio::task::join_set::JoinSet<u64>", 8);
	maker_field(m, set, "inner",
		    wrap("IdleNotifiedSet<T>", "lists",
			 arc(wrap("std::sync::Mutex<T>", "data", lists))),
		    0);
	c = awaiting("c", poll_fn(wrap("app::{closure_env#0}", "_ref__self", reference(set))));

	heap[0] = SUSPENDED;
	heap[1] = at(5);
	heap[5] = at(10);
	heap[10] = 1;	   /* ArcInner: strong, weak, */
	heap[12] = at(20); /* notified: one, */
	heap[13] = at(30); /* idle: two */
	heap[21] = at(100);
	heap[30] = at(40);
	heap[31] = at(200);
	heap[41] = at(300);
	read_at(c, 0);
	assert_int_equal(tree.n_nodes, 5);
	assert_int_equal(tree.nodes[2].task, at(100));
	assert_int_equal(tree.nodes[3].task, at(300));
	assert_int_equal(tree.nodes[4].task, at(200));
}

static void tells_what_leaves_wait_for(void **state)
{
	uint32_t sleep = hand("tokio::time::sleep::Sleep", 8);
	uint32_t timeout = hand("tokio::time::timeout::Timeout<F>", 16);
	maker_field(m, timeout, "delay", sleep, 8);
	maker_field(m, timeout, "value", leaf, 0);
	uint32_t acquire = hand("tokio::sync::batch_semaphore::Acquire", 8);
	uint32_t send = awaiting("tokio::sync::mpsc::bounded::{impl#1}::send::{async_fn_env#0}<T>",
				 acquire);

	read_at(timeout, 0);
	assert_int_equal(tree.n_nodes, 3);
	assert_int_equal(tree.nodes[1].wait, AF_WAIT_TIMER);
	assert_int_equal(tree.nodes[2].wait, AF_WAIT_NONE);
	assert_int_equal(af_await_tree_innermost(&tree), 2);
	heap[0] = SUSPENDED;
	read_at(acquire, 0);
	assert_int_equal(tree.nodes[0].wait, AF_WAIT_LOCK);
	read_at(send, 0);
	assert_int_equal(tree.nodes[1].wait, AF_WAIT_CHANNEL);
	uint32_t listener = hand("event_listener::EventListener<()>", 8);
	uint32_t lock = hand("async_lock::mutex::Lock<u64>", 8);
	uint32_t wrapper = hand("event_listener_strategy::FutureWrapper<F>", 8);
	maker_field(m, wrapper, "inner", listener, 0);
	maker_field(m, lock, "inner", wrapper, 0);
	read_at(awaiting("c", lock), 0);
	assert_int_equal(tree.nodes[3].wait, AF_WAIT_LOCK);
	read_at(awaiting("c", wrapper), 0);
	assert_int_equal(tree.nodes[2].wait, AF_WAIT_NOTIFY);
	/* Of a pipe, whoever reads it. */
	uint32_t read = hand("tokio::io::util::read_to_end::ReadToEnd<R>", 8);
	read_at(awaiting("tokio::process::{impl#5}::read_to_end::{async_fn_env#0}<R>", read), 0);
	assert_int_equal(tree.nodes[1].wait, AF_WAIT_IO);
}

static void tells_by_what_a_leaf_owns(void **state)
{
	uint32_t receiver = wrap("futures_channel::mpsc::Receiver<T>", "inner", u64_type);
	uint32_t stream = wrap("tokio::net::tcp::stream::TcpStream", "io", u64_type);
	uint32_t framed = structure("app::Framed<TcpStream>", 16);
	maker_field(m, framed, "inner", stream, 0);
	maker_field(m, framed, "codec", u64_type, 8);
	uint32_t both = structure("app::Both", 16);
	maker_field(m, both, "one", receiver, 0);
	maker_field(m, both, "other", stream, 8);
	const struct {
		uint32_t of;
		enum af_wait wait;
	} borrowed[] = {
		{wrap("app::Map<Receiver<T>, F>", "stream", receiver), AF_WAIT_CHANNEL},
		{framed, AF_WAIT_IO},
		{both, AF_WAIT_NONE},
		{u64_type, AF_WAIT_NONE},
	};

	for (size_t i = 0; i < sizeof(borrowed) / sizeof(borrowed[0]); i++) {
		uint32_t next = hand("app::Next<S>", 8);
		maker_field(m, next, "stream", reference(borrowed[i].of), 0);
		read_at(next, 0);
		assert_int_equal(tree.nodes[0].wait, borrowed[i].wait);
	}
	uint32_t owns = hand("app::Worker", 24);
	maker_field(m, owns, "answers", wrap("tokio::sync::oneshot::Sender<T>", "inner", u64_type),
		    0);
	maker_field(m, owns, "io", stream, 8);
	read_at(owns, 0);
	assert_int_equal(tree.nodes[0].wait, AF_WAIT_IO);
	/* Not of a lock, which it only owns, nor where a future was, which may have ended. */
	uint32_t locked = wrap("app::Locked", "lock",
			       wrap("futures_util::lock::bilock::BiLock<T>", "inner", stream));
	uint32_t next = hand("app::Next<Locked>", 8);
	maker_field(m, next, "stream", reference(locked), 0);
	read_at(next, 0);
	assert_int_equal(tree.nodes[0].wait, AF_WAIT_NONE);
	uint32_t inner = optional(leaf), fuse = hand("app::Fuse<F>", 24);
	maker_field(m, fuse, "io", stream, 0);
	maker_field(m, fuse, "inner", inner, 8);
	read_at(fuse, 0);
	assert_int_equal(tree.n_nodes, 1);
	assert_int_equal(tree.nodes[0].wait, AF_WAIT_NONE);
	/* It says nothing of a future below it. */
	uint32_t around = hand("app::Around", 16);
	maker_field(m, around, "commands", receiver, 0);
	maker_field(m, around, "future", leaf, 8);
	read_at(around, 0);
	assert_int_equal(tree.n_nodes, 2);
	assert_int_equal(tree.nodes[0].wait, AF_WAIT_NONE);
	assert_int_equal(tree.nodes[1].wait, AF_WAIT_NONE);
}

/* Cell { header: { state, vtable }, core: { task_id, stage } }; its future awaits a leaf. */
static uint32_t tokio_root(uint32_t *future)
{
	*future = awaiting("c", leaf);
	uint32_t stage = structure("tokio::runtime::task::core::Stage<T>", 24);
	m->types[stage].discr_offset = 0;
	m->types[stage].discr_size = 4;
	maker_variant(m, stage, "Running", 0, 0);
	maker_field(m, stage, "__0", *future, 8);
	maker_variant(m, stage, "Finished", 1, 0);
	maker_variant(m, stage, "Consumed", 2, 0);
	uint32_t header = structure("tokio::runtime::task::core::Header", 16);
	uint32_t core = structure("tokio::runtime::task::core::Core<T, S>", 32);
	uint32_t stage_cell = wrap("UnsafeCell<Stage<T>>", "value", stage);
	maker_field(m, core, "task_id", u64_type, 0);
	maker_field(m, core, "stage", stage_cell, 8);
	uint32_t cell = structure("tokio::runtime::task::core::Cell<T, S>", 48);
	maker_field(m, cell, "header", header, 0);
	maker_field(m, cell, "core", core, 16);
	maker_layout(m, "tokio.Header.state", 0);
	maker_layout(m, "tokio.Header.vtable", 8);
	maker_layout(m, "tokio.Vtable.poll", 0);
	return maker_root(m, 0x1000,
			  (struct afm_root){
				  .executor = AFM_X_TOKIO,
				  .future_type = *future,
				  .cell_type = cell,
			  });
}

static void reads_tasks_of_tokio(void **state)
{
	uint32_t future, root = tokio_root(&future);
	struct af_task task;

	read_at(leaf, 0);
	heap[10] = 2 << 6 | 8; /* two references, somebody wants its result */
	heap[11] = at(50);
	heap[12] = 77;
	heap[14] = SUSPENDED;
	heap[50] = BIAS + 0x1000;
	assert_true(af_task_read_tree(&target, 0, root, at(10), &task, &tree));
	assert_int_equal(task.state, AF_TASK_IDLE);
	assert_int_equal(task.references, 2);
	assert_true(task.has_id && task.id == 77);
	assert_int_equal(task.future, at(14));
	assert_int_equal(tree.n_nodes, 2);

	heap[10] |= 4;
	assert_true(af_task_read_tree(&target, 0, root, at(10), &task, &tree));
	assert_int_equal(task.state, AF_TASK_SCHEDULED);
	assert_int_equal(tree.n_nodes, 2);
	heap[10] |= 1;
	assert_true(af_task_read_tree(&target, 0, root, at(10), &task, &tree));
	assert_int_equal(task.state, AF_TASK_RUNNING);
	assert_int_equal(tree.n_nodes, 1);
	assert_int_equal(tree.nodes[0].status, AF_NODE_UNKNOWN);
	heap[10] = 1 << 6 | 32;
	assert_true(af_task_read(&target, 0, root, at(10), &task));
	assert_int_equal(task.state, AF_TASK_CANCELLED);
	heap[10] = 1 << 6;
	heap[13] = 1;
	assert_true(af_task_read_tree(&target, 0, root, at(10), &task, &tree));
	assert_int_equal(task.state, AF_TASK_DONE);
	assert_int_equal(tree.nodes[0].status, AF_NODE_DONE);
}

static void believes_no_stale_header(void **state)
{
	uint32_t future, root = tokio_root(&future);
	struct af_task task;

	read_at(leaf, 0);
	heap[10] = 1 << 6;
	heap[11] = at(50);
	heap[50] = BIAS + 0x1000;
	assert_true(af_task_read(&target, 0, root, at(10), &task));
	heap[13] = 9; /* no stage */
	assert_false(af_task_read(&target, 0, root, at(10), &task));
	assert_int_equal(task.state, AF_TASK_INVALID);
	heap[13] = 0;
	heap[10] = 8; /* nobody's */
	assert_false(af_task_read(&target, 0, root, at(10), &task));
	heap[10] = 1 << 6 | 3; /* running and complete */
	assert_false(af_task_read(&target, 0, root, at(10), &task));
	heap[10] = 1 << 6;
	heap[50] = BIAS + 0x2000; /* of another root */
	assert_false(af_task_read(&target, 0, root, at(10), &task));
	heap[11] = 0x7000000;
	assert_false(af_task_read(&target, 0, root, at(10), &task));
	assert_int_equal(task.state, AF_TASK_UNREADABLE);
	assert_false(af_task_read(&target, 0, root, at(10) + 4, &task));
}

static void reads_tasks_of_async_task(void **state)
{
	uint32_t future = awaiting("c", leaf), header = structure("Header<()>", 16);
	struct af_task task;
	maker_field(m, header, "state", u64_type, 8);
	maker_field(m, header, "vtable", u64_type, 0);
	maker_layout(m, "async_task.TaskVTable.run", 16);
	uint32_t root = maker_root(m, 0x1000,
				   (struct afm_root){
					   .executor = AFM_X_ASYNC_TASK,
					   .future_type = future,
					   .future_offset = 24,
					   .cell_type = header,
				   });

	read_at(leaf, 0);
	heap[10] = at(50);
	heap[11] = 1 << 8 | 16;
	heap[13] = SUSPENDED;
	heap[52] = BIAS + 0x1000;
	assert_true(af_task_read_tree(&target, 0, root, at(10), &task, &tree));
	assert_int_equal(task.state, AF_TASK_IDLE);
	assert_int_equal(tree.n_nodes, 2);
	heap[11] |= 4;
	assert_true(af_task_read_tree(&target, 0, root, at(10), &task, &tree));
	assert_int_equal(task.state, AF_TASK_DONE);
	assert_int_equal(tree.n_nodes, 1);
	heap[11] = 1 << 8 | 8;
	assert_true(af_task_read(&target, 0, root, at(10), &task));
	assert_int_equal(task.state, AF_TASK_CANCELLED);
	heap[11] = 8;
	assert_false(af_task_read(&target, 0, root, at(10), &task));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		TEST(names_the_task_that_is_awaited),
		TEST(knows_handles_that_were_moved_on),
		TEST(goes_over_join_sets),
		TEST(tells_what_leaves_wait_for),
		TEST(tells_by_what_a_leaf_owns),
		TEST(reads_tasks_of_tokio),
		TEST(believes_no_stale_header),
		TEST(reads_tasks_of_async_task),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
