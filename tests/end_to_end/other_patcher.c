/* SPDX-License-Identifier: MIT */
/*
 * Another patcher in the same process, as Frida or a debugger would be: its constructor runs
 * before asyncflame's, and puts a jump at the entry of the function at link-time address
 * PATCH_ADDRESS (its first PATCH_LENGTH bytes, which can run anywhere) or, with PATCH_TRAP, an
 * int3 and a handler that goes on as if it were not there.
 */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static uint8_t *moved;

static int first_object(struct dl_phdr_info *info, size_t size, void *bias)
{
	*(uint64_t *)bias = info->dlpi_addr;
	return 1;
}

static void on_trap(int number, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)moved;
}

/* The displaced bytes and an absolute jump back, within reach of a 32-bit displacement. */
static uint8_t *move(uint8_t *entry, size_t length)
{
	uint8_t *at = entry;
	do
		at -= 1 << 20;
	while ((moved = mmap((void *)((uintptr_t)at & ~4095ul), 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)) ==
	       MAP_FAILED);
	uint8_t *back = entry + length;
	memcpy(moved, entry, length);
	memcpy(moved + length, "\xff\x25\0\0\0", 6);
	memcpy(moved + length + 6, &back, 8);
	mprotect(moved, 4096, PROT_READ | PROT_EXEC);
	return moved;
}

__attribute__((constructor)) static void patch(void)
{
	const char *address = getenv("PATCH_ADDRESS"), *length = getenv("PATCH_LENGTH");
	uint64_t bias;

	/* The wrapper and the companion are preloaded, too. */
	if (strcmp(program_invocation_short_name, "entries") || !address || !length ||
	    !dl_iterate_phdr(first_object, &bias))
		return;
	uint8_t *entry = (uint8_t *)(strtoul(address, NULL, 16) + bias);
	int32_t distance = (int32_t)(move(entry, strtoul(length, NULL, 10)) - (entry + 5));
	uint8_t *page = (uint8_t *)((uintptr_t)entry & ~4095ul);
	mprotect(page, 8192, PROT_READ | PROT_WRITE);
	if (getenv("PATCH_TRAP")) {
		struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
		sigaction(SIGTRAP, &action, NULL);
		*entry = 0xcc;
	} else {
		*entry = 0xe9;
		memcpy(entry + 1, &distance, 4);
	}
	mprotect(page, 8192, PROT_READ | PROT_EXEC);
}
