/* SPDX-License-Identifier: MIT */
#include "companion_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analysis/analysis.h"
#include "cli.h"

void companion_maps_init(struct companion_maps *maps, struct af_session *session)
{
	*maps = (struct companion_maps){.session = session, .working = -1, .memory = -1};
}

static const char *verdict_text(uint32_t verdict)
{
	switch (verdict) {
	case AFM_STRIPPED:
		return "async Rust without debug info; build with CARGO_PROFILE_RELEASE_DEBUG=full "
		       "(or [profile.release] debug = \"full\", strip = false)";
	case AFM_LINE_TABLES_ONLY:
		return "async Rust with line tables only; build with CARGO_PROFILE_RELEASE_DEBUG=full "
		       "(or [profile.release] debug = \"full\")";
	default:
		return "";
	}
}

/* --- the file of an object ----------------------------------------------------------- */

/* The file that is mapped at `address` in the host; false if there is none. */
static bool mapped_file(uint32_t pid, uint64_t address, char *path, size_t size)
{
	char name[64], *line = NULL;
	size_t room = 0;
	bool found = false;
	snprintf(name, sizeof(name), "/proc/%u/maps", pid);
	FILE *maps = fopen(name, "re");
	while (maps && !found && getline(&line, &room, maps) > 0) {
		unsigned long long start, end;
		int at = 0;
		if (sscanf(line, "%llx-%llx %*s %*s %*s %*s %n", &start, &end, &at) < 2 || !at ||
		    address < start || address >= end || line[at] != '/')
			continue;
		line[strcspn(line, "\n")] = '\0';
		found = (size_t)snprintf(path, size, "%s", line + at) < size;
	}
	free(line);
	if (maps)
		fclose(maps);
	return found;
}

/* Through /proc where the path is not the host's: right even if the file was replaced. */
static bool find_file(const struct companion_maps *maps, uint32_t number, char *path, size_t size)
{
	const struct af_session *s = maps->session;
	if (!number) {
		bool readable = !s->parent_pid && access(s->executable, R_OK) == 0;
		if (readable)
			snprintf(path, size, "%.*s", AF_PATH_MAX - 1, s->executable);
		else
			snprintf(path, size, "/proc/%u/exe", s->host_pid);
		return true;
	}
	char there[AF_PATH_MAX];
	if (!mapped_file(s->host_pid, s->objects[number].start, there, sizeof(there)))
		return false;
	if (access(there, R_OK) == 0)
		snprintf(path, size, "%s", there);
	else
		snprintf(path, size, "/proc/%u/root%s", s->host_pid, there);
	return true;
}

/* --- publishing ---------------------------------------------------------------------- */

/* Where the cache cannot be used the host reads the map through our descriptor. */
static bool publish_in_memory(struct companion_maps *maps, uint32_t number, const void *data,
			      size_t size)
{
	int fd = memfd_create("asyncflame-map", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return false;
	snprintf(maps->session->objects[number].map_path, AF_MAP_PATH_MAX, "/proc/%d/fd/%d",
		 getpid(), fd);
	return true;
}

static bool publish_in_cache(struct companion_maps *maps, uint32_t number,
			     const struct afm_header *header)
{
	char name[2 * AFM_BUILD_ID_MAX + 16], directory[AF_MAP_PATH_MAX], link[64];
	int fd = af_cache_open_dir(false, NULL);
	if (fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, directory, sizeof(directory) - 1);
	close(fd);
	if (n <= 0 || n == sizeof(directory) - 1)
		return false;
	directory[n] = '\0';
	af_cache_name(name, sizeof(name), header->build_id, header->build_id_size);
	return snprintf(maps->session->objects[number].map_path, AF_MAP_PATH_MAX, "%s/%s",
			directory, name) < AF_MAP_PATH_MAX;
}

/* What the host is told, last. */
static void set_state(struct companion_maps *maps, uint32_t number, enum af_map_state state)
{
	struct af_session *s = maps->session;
	struct af_session_object *o = &s->objects[number];
	if (state == AF_MAP_READY && atomic_load(&o->map_state) == AF_MAP_WANTED)
		o->first_function = atomic_fetch_add(
			&s->functions, (uint32_t)maps->maps[number].header->polls.count);
	atomic_store(&o->map_state, state);
	syscall(SYS_futex, &o->map_state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Why this object is not traced. Of the executable it is the companion who reports it, too. */
static void say_why(struct companion_maps *maps, uint32_t number, const char *why)
{
	const struct af_session *s = maps->session;
	char path[AF_PATH_MAX + 64];
	if (!number)
		snprintf(maps->message, sizeof(maps->message), "%s", why);
	if (!*why || !s->main_program || s->quiet)
		return;
	if (!number)
		snprintf(path, sizeof(path), "%.*s", AF_PATH_MAX - 1, s->executable);
	else if (!find_file(maps, number, path, sizeof(path)))
		snprintf(path, sizeof(path), "a library");
	cli_say("%s is not traced: %s", path, why);
}

/* The map is there, in `data`, which stays. */
static void have_map(struct companion_maps *maps, uint32_t number, const void *data, size_t size)
{
	const struct af_session_object *o = &maps->session->objects[number];
	const struct afm_header *header = data;
	if (number && (o->build_id_size != header->build_id_size ||
		       memcmp(o->build_id, header->build_id, header->build_id_size))) {
		say_why(maps, number, "its file was replaced since it was loaded");
		set_state(maps, number, AF_MAP_FAILED);
		return;
	}
	bool kept = !af_cache_store(data, size) && publish_in_cache(maps, number, header);
	if (header->verdict != AFM_FUTURES) {
		say_why(maps, number, verdict_text(header->verdict));
		set_state(maps, number, AF_MAP_NOTHING);
	} else if (kept || publish_in_memory(maps, number, data, size)) {
		maps->maps[number] = (struct af_futuremap){data, size};
		set_state(maps, number, AF_MAP_READY);
	} else {
		say_why(maps, number, "no memory for the map");
		set_state(maps, number, AF_MAP_FAILED);
	}
}

/* --- getting them -------------------------------------------------------------------- */

/* The host has it already, or its parent had. */
static bool known(struct companion_maps *maps, uint32_t number)
{
	struct af_session_object *o = &maps->session->objects[number];
	char path[AF_MAP_PATH_MAX];
	memcpy(path, o->map_path, sizeof(path));
	path[sizeof(path) - 1] = '\0';
	return atomic_load(&o->map_state) == AF_MAP_READY && path[0] &&
	       !af_futuremap_open(&maps->maps[number], AT_FDCWD, path, false);
}

static bool cached(struct companion_maps *maps, uint32_t number)
{
	struct af_session_object *o = &maps->session->objects[number];
	struct af_futuremap map;
	uint8_t build_id[AFM_BUILD_ID_MAX];
	uint32_t size = o->build_id_size;
	memcpy(build_id, o->build_id, sizeof(build_id));
	if (!size || size > sizeof(build_id) || af_cache_load(&map, build_id, size))
		return false;
	if (map.header->verdict != AFM_FUTURES) {
		say_why(maps, number, verdict_text(map.header->verdict));
		set_state(maps, number, AF_MAP_NOTHING);
		af_futuremap_close(&map);
		return true;
	}
	if (!publish_in_cache(maps, number, map.header)) {
		af_futuremap_close(&map);
		return false;
	}
	maps->maps[number] = map;
	set_state(maps, number, AF_MAP_READY);
	return true;
}

static struct af_error *build(struct companion_maps *maps, uint32_t number, void **data,
			      size_t *size)
{
	char path[AF_PATH_MAX + 64];
	if (!find_file(maps, number, path, sizeof(path)))
		return af_error_create("its file is gone");
	return af_analysis_build(path, NULL, data, size);
}

static void settle(struct companion_maps *maps, uint32_t number)
{
	void *data;
	size_t size;
	if (known(maps, number) || cached(maps, number))
		return;
	struct af_error *error = build(maps, number, &data, &size);
	if (!error) {
		have_map(maps, number, data, size);
		return;
	}
	say_why(maps, number, error->message);
	set_state(maps, number, AF_MAP_FAILED);
	af_error_destroy(error);
}

static uint32_t listed(const struct af_session *s)
{
	uint32_t n = atomic_load(&s->n_objects);
	return n < AF_OBJECTS ? n : AF_OBJECTS;
}

unsigned companion_maps_settle(struct companion_maps *maps)
{
	struct af_session *s = maps->session;
	unsigned ready = 0;
	for (uint32_t i = 0; i < listed(s); i++) {
		uint32_t state = atomic_load(&s->objects[i].map_state);
		if (state == AF_MAP_WANTED || state == AF_MAP_READY)
			settle(maps, i);
		ready += atomic_load(&s->objects[i].map_state) == AF_MAP_READY;
	}
	return ready;
}

/* --- while the host runs ------------------------------------------------------------- */

/* In the worker: the map comes into the memory, or what is wrong. */
static void work(struct companion_maps *maps, uint32_t number, int answer)
{
	void *data;
	size_t size;
	struct af_error *error = build(maps, number, &data, &size);
	if (error)
		dprintf(answer, "%s", error->message);
	else if (write(maps->memory, data, size) != (ssize_t)size)
		dprintf(answer, "no memory for the map");
	_exit(0);
}

static void begin_work(struct companion_maps *maps, uint32_t number)
{
	int ends[2];
	maps->memory = memfd_create("asyncflame-map", MFD_CLOEXEC);
	if (maps->memory < 0 || pipe2(ends, O_CLOEXEC) < 0) {
		if (maps->memory >= 0)
			close(maps->memory);
		set_state(maps, number, AF_MAP_FAILED);
		return;
	}
	maps->number = number;
	maps->worker = fork();
	if (!maps->worker)
		work(maps, number, ends[1]);
	close(ends[1]);
	maps->working = ends[0];
}

/* The worker is gone: with or without a map. */
static void end_work(struct companion_maps *maps)
{
	char why[512];
	struct af_futuremap map;
	ssize_t n = read(maps->working, why, sizeof(why) - 1);
	why[n > 0 ? n : 0] = '\0';
	close(maps->working);
	maps->working = -1;
	if (maps->worker > 0)
		waitpid(maps->worker, NULL, 0); /* or somebody else has */
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", maps->memory);
	const char *bad = af_futuremap_open(&map, AT_FDCWD, path, false);
	close(maps->memory);
	if (!bad) {
		have_map(maps, maps->number, map.header, map.size);
		return;
	}
	say_why(maps, maps->number, *why ? why : "its map could not be made");
	set_state(maps, maps->number, AF_MAP_FAILED);
}

void companion_maps_look(struct companion_maps *maps)
{
	struct af_session *s = maps->session;
	if (maps->working >= 0) {
		struct pollfd done = {.fd = maps->working, .events = POLLIN};
		if (poll(&done, 1, 0) <= 0)
			return;
		end_work(maps);
	}
	for (uint32_t i = 0; i < listed(s) && maps->working < 0; i++) {
		uint32_t state = atomic_load(&s->objects[i].map_state);
		if (state == AF_MAP_READY && !maps->maps[i].header)
			(void)known(maps, i);
		else if (state == AF_MAP_WANTED && !cached(maps, i))
			begin_work(maps, i);
	}
}
