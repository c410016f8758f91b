/* SPDX-License-Identifier: MIT */
/*
 * The buffers under ThreadSanitizer: threads that record (through the C form of what the
 * stubs do) into few chunks, and one that drains them into a file. What the file holds must
 * be what they wrote, each record once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "record/syscall.h"
#include "record/thread.h"
#include "record/writer.h"

#define THREADS 6
#define RECORDS 200000u
#define CHUNKS 24

static struct af_session *session;
static struct af_writer writer;
static _Atomic uint32_t working;

static bool no_drain(struct af_session *s)
{
	return false;
}

/* As the stubs commit: word1, then word0 with the time. */
static void *produce(void *arg)
{
	uint64_t payload = (uint64_t)(uintptr_t)arg << 32;
	for (uint32_t i = 0; i < RECORDS; i++) {
		struct afr_record *slot = af_record_slot();
		uint64_t ticks = __builtin_ia32_rdtsc() - af_record_base;
		slot->word1 = payload | i;
		__atomic_store_n(&slot->word0, ticks << AFR_KIND_BITS | AFR_ENTER,
				 __ATOMIC_RELEASE);
	}
	atomic_fetch_sub(&working, 1);
	return NULL;
}

static void *drain(void *arg)
{
	while (atomic_load(&working))
		af_writer_drain(&writer, AF_DRAIN_FULL);
	return NULL;
}

static struct af_session *make_session(void)
{
	uint64_t head = (sizeof(struct af_session) / AF_CHUNK_SIZE + 1) * AF_CHUNK_SIZE;
	uint64_t size = head + (uint64_t)CHUNKS * AF_CHUNK_SIZE;
	char *room = mmap(NULL, size + AF_CHUNK_SIZE, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(room != MAP_FAILED);
	struct af_session *s = (void *)(room + (-(uintptr_t)room & (AF_CHUNK_SIZE - 1)));
	s->size = size;
	s->chunks_offset = head;
	s->n_chunks = CHUNKS;
	s->host_pid = (uint32_t)getpid();
	s->companion_pid = s->host_pid;
	s->base_tsc = __builtin_ia32_rdtsc();
	return s;
}

/* Chunks come in any order, records in a chunk in that of their thread. */
static void read_back(int fd, uint32_t found[THREADS])
{
	static uint8_t seen[THREADS][RECORDS];
	off_t at = sizeof(struct afr_header);
	struct afr_block block;
	static struct afr_record records[AF_CHUNK_RECORDS];
	while (pread(fd, &block, sizeof(block), at) == sizeof(block)) {
		at += sizeof(block);
		struct afr_chunk chunk;
		if (block.type == AFR_B_CHUNK) {
			assert_int_equal(pread(fd, &chunk, sizeof(chunk), at), sizeof(chunk));
			size_t size = chunk.count * sizeof(*records);
			assert_int_equal(pread(fd, records, size, at + (off_t)sizeof(chunk)), size);
			for (uint32_t i = 0; i < chunk.count; i++) {
				uint64_t thread = records[i].word1 >> 32;
				uint32_t number = (uint32_t)records[i].word1;
				assert_true(thread < THREADS && number < RECORDS);
				assert_true(!i || records[i].word1 == records[i - 1].word1 + 1);
				assert_int_equal(seen[thread][number]++, 0);
				found[thread]++;
			}
		}
		at += (off_t)((block.length + 7) & ~UINT64_C(7));
	}
}

static void test_nothing_lost_nothing_twice(void **state)
{
	char path[] = "/tmp/asyncflame-buffers.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	pthread_t threads[THREADS], drainer;
	uint32_t found[THREADS] = {0};
	assert_true(fd >= 0);
	unlink(path);
	session = make_session();
	af_record_drain = no_drain;
	assert_int_equal(af_writer_begin(&writer, fd, session), 0);
	af_record_start(session);
	atomic_store(&working, THREADS);
	pthread_create(&drainer, NULL, drain, NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, produce, (void *)i);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(drainer, NULL);
	af_writer_drain(&writer, AF_DRAIN_ALL);
	assert_int_equal(af_writer_finish(&writer, AFR_END_EXIT), 0);
	assert_int_equal(atomic_load(&session->dropped), 0);
	read_back(fd, found);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(found[i], RECORDS);
	assert_int_equal(writer.records, (uint64_t)THREADS * RECORDS);
	close(fd);
}

/* Another session, none of whose chunks is free. */
static void *record_one(void *arg)
{
	struct afr_record *slot = af_record_slot();
	slot->word1 = 7;
	return slot;
}

/* A thread that waits for a chunk is woken by each that was drained, and others take them: it goes on
   waiting. */
static void test_others_take_what_it_waits_for(void **state)
{
	pthread_t thread;
	void *slot;
	session = make_session();
	session->chunks_used = CHUNKS;
	af_record_drain = no_drain;
	af_record_start(session);
	pthread_create(&thread, NULL, record_one, NULL);
	while (!atomic_load(&session->host_waiters))
		;
	for (unsigned i = 0; i < 200; i++) {
		atomic_fetch_add(&session->freed_count, 1);
		af_syscall4(SYS_futex, (long)&session->freed_count, FUTEX_WAKE, INT32_MAX, 0);
		usleep(1000);
	}
	atomic_store(&session->free_list, 1);
	atomic_fetch_add(&session->freed_count, 1);
	af_syscall4(SYS_futex, (long)&session->freed_count, FUTEX_WAKE, INT32_MAX, 0);
	pthread_join(thread, &slot);
	assert_ptr_equal(slot, af_chunk_records(af_session_chunk(session, 0)));
	assert_int_equal(atomic_load(&session->dropped), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_lost_nothing_twice),
		cmocka_unit_test(test_others_take_what_it_waits_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
