/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "analysis/analysis.h"
#include "cli.h"
#include "futuremap/futuremap.h"
#include "progress.h"
#include "target.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#endif

static void set(struct target *target, enum target_kind kind, int status, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void set(struct target *target, enum target_kind kind, int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(target->message, sizeof(target->message), format, args);
	va_end(args);
	target->kind = kind;
	target->status = status;
}

/* Where it is */

/* Sets target->path to directory/program if that can be executed; else errno. */
static bool try_directory(struct target *target, const char *directory, size_t length,
			  const char *program)
{
	int n = snprintf(target->path, sizeof(target->path), "%.*s%s%s", (int)length, directory,
			 length ? "/" : "", program);
	if (n < 0 || (size_t)n >= sizeof(target->path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	struct stat st;
	if (stat(target->path, &st) < 0)
		return false;
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
		return false;
	}
	return access(target->path, X_OK) == 0;
}

static bool search_path(struct target *target, const char *program)
{
	const char *path = getenv("PATH");
	if (!path)
		path = "/bin:/usr/bin";
	int error = ENOENT;
	for (;;) {
		size_t length = strcspn(path, ":");
		if (try_directory(target, path, length, program))
			return true;
		/* One that is there and cannot be run is told only if there is no other. */
		if (errno != ENOENT && errno != ENOTDIR)
			error = errno;
		if (!path[length])
			break;
		path += length + 1;
	}
	errno = error;
	return false;
}

static bool find(struct target *target, const char *program)
{
	bool found = *program && (strchr(program, '/') ? try_directory(target, "", 0, program)
						       : search_path(target, program));
	if (found) {
		const char *slash = strrchr(target->path, '/');
		target->base = slash ? slash + 1 : target->path;
		return true;
	}
	int error = *program ? errno : ENOENT;
	if (error == ENOENT || error == ENOTDIR)
		set(target, TARGET_NO_START, CLI_NOT_FOUND, "%s: no such program%s", program,
		    strchr(program, '/') ? "" : " in PATH");
	else
		set(target, TARGET_NO_START, CLI_CANNOT_EXECUTE, "%s: cannot be executed: %s",
		    program, strerror(error));
	return false;
}

/* What it is */

static bool is_script(const char *path)
{
	char start[2] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, start, sizeof(start));
	if (fd >= 0)
		close(fd);
	return n == 2 && start[0] == '#' && start[1] == '!';
}

/* The dynamic linker ignores LD_PRELOAD where a program gains privileges. */
static bool gains_privileges(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return false;
	if (st.st_mode & S_ISUID || (st.st_mode & S_ISGID && st.st_mode & S_IXGRP))
		return true;
	return getxattr(path, "security.capability", NULL, 0) > 0;
}

static const char *machine_name(unsigned machine)
{
	/* clang-format off */
	switch (machine) {
	case EM_X86_64: return "x86-64";
	case EM_386: return "32-bit x86";
	case EM_AARCH64: return "aarch64";
	case EM_ARM: return "32-bit ARM";
	case EM_RISCV: return "RISC-V";
	case EM_PPC64: return "64-bit POWER";
	case EM_S390: return "s390";
	default: return "another architecture";
	}
	/* clang-format on */
}

/* Everything that the ELF headers tell; true if there is more to look at. */
static bool check_headers(struct target *target, const struct af_object_facts *facts)
{
	const char *path = target->path;
	if (!facts->elf) {
		if (is_script(path))
			set(target, TARGET_OTHER, 0, "%s is a script", target->base);
		else
			set(target, TARGET_NO_START, CLI_CANNOT_EXECUTE,
			    "%s: not an ELF program and not a script", path);
	} else if (facts->machine == EM_386 && MACHINE == EM_X86_64) {
		set(target, TARGET_UNTRACEABLE, CLI_FAILED,
		    "%s: is a 32-bit program; asyncflame traces 64-bit programs only", path);
	} else if (facts->machine != MACHINE || facts->elf_class != ELFCLASS64) {
		set(target, TARGET_NO_START, CLI_CANNOT_EXECUTE,
		    "%s: is for %s, this machine is %s", path, machine_name(facts->machine),
		    machine_name(MACHINE));
	} else if (facts->type != ET_EXEC && facts->type != ET_DYN) {
		set(target, TARGET_NO_START, CLI_CANNOT_EXECUTE,
		    "%s: is an ELF file, but not a program", path);
	} else if (gains_privileges(path)) {
		set(target, TARGET_UNTRACEABLE, CLI_FAILED,
		    "%s: is setuid, setgid or has capabilities, which shuts asyncflame out; trace "
		    "a copy without them, as the user it is to run as",
		    path);
	} else if (!facts->has_interp && facts->type == ET_DYN && !facts->static_pie) {
		set(target, TARGET_NO_START, CLI_CANNOT_EXECUTE,
		    "%s: is a shared library, not a program", path);
	} else if (!facts->has_interp) {
		set(target, TARGET_UNTRACEABLE, CLI_FAILED,
		    "%s: is statically linked, and asyncflame is loaded by the dynamic linker; "
		    "build for a -gnu target, without -C target-feature=+crt-static",
		    path);
	} else {
		return true;
	}
	return false;
}

/* Its map */

/* The map is made now, with a person watching, and not in the companion: from the cache
   it is then there at once. Where there is no cache the companion makes it again. */
static void build_map(struct target *target, bool quiet, uint32_t *verdict)
{
	struct progress progress;
	progress_begin(&progress, quiet);
	const struct af_analysis_options options = progress_options(&progress);
	void *data;
	size_t size;
	struct af_error *error = af_analysis_build(target->path, &options, &data, &size);
	progress_end(&progress);
	if (error) {
		set(target, TARGET_UNTRACEABLE, CLI_FAILED, "%s", error->message);
		af_error_destroy(error);
		return;
	}
	*verdict = ((const struct afm_header *)data)->verdict;
	if (*verdict == AFM_FUTURES)
		(void)af_cache_store(data, size);
	free(data);
}

static void judge(struct target *target, uint32_t verdict)
{
	switch (verdict) {
	case AFM_FUTURES:
		target->kind = TARGET_TRACEABLE;
		break;
	case AFM_STRIPPED:
		set(target, TARGET_UNTRACEABLE, CLI_FAILED,
		    "%s: holds async Rust, but no debug info; build it with "
		    "CARGO_PROFILE_RELEASE_DEBUG=full (or in Cargo.toml: [profile.release] "
		    "debug = \"full\", strip = false); --children traces only what it starts",
		    target->path);
		break;
	case AFM_LINE_TABLES_ONLY:
		set(target, TARGET_UNTRACEABLE, CLI_FAILED,
		    "%s: its debug info holds line numbers only, asyncflame needs types; build it "
		    "with CARGO_PROFILE_RELEASE_DEBUG=full (or in Cargo.toml: [profile.release] "
		    "debug = \"full\"); --children traces only what it starts",
		    target->path);
		break;
	default:
		set(target, TARGET_OTHER, 0, "%s shows no sign of async Rust", target->base);
	}
}

static void check_futures(struct target *target, const struct af_object_facts *facts, bool quiet)
{
	struct af_futuremap map = {0};
	uint32_t verdict = 0;
	if (facts->build_id_size && !af_cache_load(&map, facts->build_id, facts->build_id_size)) {
		verdict = map.header->verdict;
		af_futuremap_close(&map);
	} else if (!facts->rust && !facts->async_sign) {
		verdict = AFM_NO_ASYNC;
	} else if (!facts->has_debug_info) {
		verdict = facts->async_sign ? AFM_STRIPPED : AFM_NO_ASYNC;
	} else {
		build_map(target, quiet, &verdict);
	}
	if (verdict)
		judge(target, verdict);
}

void target_check(struct target *target, const char *program, bool quiet)
{
	*target = (struct target){.base = ""};
	if (!find(target, program))
		return;
	struct af_object_facts facts = {0};
	struct af_error *error = af_analysis_facts(target->path, &facts);
	if (error) {
		/* May well be executable without being readable; but then not traceable. */
		int status = error->system == EACCES ? CLI_FAILED : CLI_CANNOT_EXECUTE;
		set(target, status == CLI_FAILED ? TARGET_UNTRACEABLE : TARGET_NO_START, status,
		    "%s", error->message);
		af_error_destroy(error);
		return;
	}
	if (check_headers(target, &facts))
		check_futures(target, &facts, quiet);
}
