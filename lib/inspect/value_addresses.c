/* SPDX-License-Identifier: MIT */
/*
 * Addresses of the internet. An address is its octets whatever it is made of; the socket
 * addresses of std were libc's structures until 1.64, ports in network order included.
 */
#include <string.h>

#include "inspect/value_show.h"

/* The octets of a value that is nothing else. */
static bool read_octets(struct af_show *s, struct af_spot at, uint8_t *octets, size_t n)
{
	if (af_memory_read(s->target->memory, at.address, octets, n))
		return true;
	af_line_put(s->line, AF_UNREADABLE);
	return false;
}

static void put_ipv4(struct af_line *line, const uint8_t *octets)
{
	for (int i = 0; i < 4; i++) {
		af_line_put(line, i ? "." : "");
		af_line_unsigned(line, octets[i]);
	}
}

static void put_group(struct af_line *line, const uint8_t *octets)
{
	unsigned int group = octets[0] << 8 | octets[1];
	bool begun = false;

	for (int shift = 12; shift >= 0; shift -= 4) {
		unsigned int digit = group >> shift & 15;
		begun |= digit || !shift;
		if (begun)
			af_line_append(line, &"0123456789abcdef"[digit], 1);
	}
}

/* RFC 5952: the first of the longest runs of zero groups is left out. */
static void put_ipv6(struct af_line *line, const uint8_t *octets)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	int from = 8, longest = 1;

	if (!memcmp(octets, mapped, sizeof(mapped))) {
		af_line_put(line, "::ffff:");
		put_ipv4(line, octets + 12);
		return;
	}
	for (int i = 0, run; i < 8; i += run + 1) {
		for (run = 0; i + run < 8 && !octets[2 * (i + run)] && !octets[2 * (i + run) + 1];)
			run++;
		if (run > longest) {
			longest = run;
			from = i;
		}
	}
	for (int i = 0; i < 8; i++) {
		if (i == from) {
			af_line_put(line, "::");
			i += longest - 1;
			continue;
		}
		af_line_put(line, i && i != from + longest ? ":" : "");
		put_group(line, octets + 2 * i);
	}
}

bool af_show_ipv4(struct af_show *s, struct af_spot at)
{
	uint8_t octets[4];

	if (af_show_type(s, at.type)->size != sizeof(octets))
		return false;
	if (read_octets(s, at, octets, sizeof(octets)))
		put_ipv4(s->line, octets);
	return true;
}

bool af_show_ipv6(struct af_show *s, struct af_spot at)
{
	uint8_t octets[16];

	if (af_show_type(s, at.type)->size != sizeof(octets))
		return false;
	if (read_octets(s, at, octets, sizeof(octets)))
		put_ipv6(s->line, octets);
	return true;
}

/* The port of a socket address, and the spot of its address. */
static enum af_read read_socket(struct af_show *s, struct af_spot at, const char *old_port,
				const char *old_ip, uint64_t *port, struct af_spot *ip)
{
	enum af_read read = af_show_number(s, at, "port", port);

	*ip = at;
	if (read != AF_READ_NONE)
		return af_show_path(s, "ip", ip) ? read : AF_READ_NONE;
	read = af_show_number(s, at, old_port, port);
	*port = __builtin_bswap16((uint16_t)*port);
	return read != AF_READ_NONE && af_show_path(s, old_ip, ip) ? read : AF_READ_NONE;
}

static void put_port(struct af_line *line, uint64_t port)
{
	af_line_put(line, ":");
	af_line_unsigned(line, port);
}

bool af_show_socket_v4(struct af_show *s, struct af_spot at)
{
	uint8_t octets[4];
	uint64_t port = 0;
	struct af_spot ip;
	enum af_read read =
		read_socket(s, at, "inner.sin_port", "inner.sin_addr.s_addr", &port, &ip);

	if (read == AF_READ_NONE)
		return false;
	if (read == AF_READ_FAILED) {
		af_line_put(s->line, AF_UNREADABLE);
	} else if (read_octets(s, ip, octets, sizeof(octets))) {
		put_ipv4(s->line, octets);
		put_port(s->line, port);
	}
	return true;
}

bool af_show_socket_v6(struct af_show *s, struct af_spot at)
{
	uint8_t octets[16];
	uint64_t port = 0, scope = 0;
	struct af_spot ip;
	enum af_read read =
		read_socket(s, at, "inner.sin6_port", "inner.sin6_addr.s6_addr", &port, &ip);

	if (read == AF_READ_NONE)
		return false;
	enum af_read scoped = af_show_number(s, at, "scope_id", &scope);
	if (scoped == AF_READ_NONE)
		scoped = af_show_number(s, at, "inner.sin6_scope_id", &scope);
	if (read == AF_READ_FAILED || scoped == AF_READ_FAILED) {
		af_line_put(s->line, AF_UNREADABLE);
	} else if (read_octets(s, ip, octets, sizeof(octets))) {
		af_line_put(s->line, "[");
		put_ipv6(s->line, octets);
		if (scope) {
			af_line_put(s->line, "%");
			af_line_unsigned(s->line, scope);
		}
		af_line_put(s->line, "]");
		put_port(s->line, port);
	}
	return true;
}
