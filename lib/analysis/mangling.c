/* SPDX-License-Identifier: MIT */
/*
 * rustc's v0 mangling: a grammar that is read from left to right, with references back to what
 * has been. https://rust-lang.github.io/rfcs/2603-rust-symbol-name-mangling-v0.html names the
 * productions as the functions here are called.
 */
#include "analysis/mangling.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 128
/* References can make a short symbol exponentially long. */
#define OUTPUT_MAX 8192
#define STEPS_MAX 20000

struct parser {
	const char *start, *p, *end; /* start: behind "_R", what references count from */
	struct af_text *text;
	size_t begun; /* length of the text when we began */
	unsigned int depth, steps;
	bool failed;
};

static void path(struct parser *s);
static void type(struct parser *s);

static void put(struct parser *s, const char *text)
{
	if (s->text->length - s->begun > OUTPUT_MAX)
		s->failed = true;
	if (!s->failed)
		af_text_add(s->text, text);
}

static char peek(const struct parser *s)
{
	return !s->failed && s->p < s->end ? *s->p : '\0';
}

static bool eat(struct parser *s, char c)
{
	if (peek(s) != c)
		return false;
	s->p++;
	return true;
}

static char take(struct parser *s)
{
	char c = peek(s);
	if (c)
		s->p++;
	else
		s->failed = true;
	return c;
}

/* "_" is 0, "0_" 1, ... */
static uint64_t base_62(struct parser *s)
{
	uint64_t value = 0;

	if (eat(s, '_'))
		return 0;
	while (!s->failed) {
		char c = take(s);
		if (c == '_')
			return value + 1;
		unsigned int digit = isdigit((unsigned char)c)	 ? (unsigned int)(c - '0')
				     : islower((unsigned char)c) ? 10 + (unsigned int)(c - 'a')
				     : isupper((unsigned char)c) ? 36 + (unsigned int)(c - 'A')
								 : 62;
		if (digit == 62 || __builtin_mul_overflow(value, 62, &value) ||
		    __builtin_add_overflow(value, digit, &value))
			s->failed = true;
	}
	return 0;
}

static uint64_t disambiguator(struct parser *s)
{
	return eat(s, 's') ? base_62(s) + 1 : 0;
}

static void identifier(struct parser *s)
{
	size_t length = 0;

	if (eat(s, 'u')) /* punycode: no name that anybody would know */
		put(s, "u:");
	if (!isdigit((unsigned char)peek(s)))
		s->failed = true;
	while (isdigit((unsigned char)peek(s)) && length < OUTPUT_MAX)
		length = length * 10 + (size_t)(take(s) - '0');
	eat(s, '_');
	if (s->failed || length > (size_t)(s->end - s->p)) {
		s->failed = true;
		return;
	}
	af_text_append(s->text, s->p, length);
	s->p += length;
}

/* Goes on at the place that a reference means, and comes back. */
static void back(struct parser *s, void (*read)(struct parser *s))
{
	const char *from = s->p - 1; /* of its 'B' */
	uint64_t to = base_62(s);
	const char *after = s->p;

	if (s->failed || to >= (uint64_t)(from - s->start)) {
		s->failed = true;
		return;
	}
	s->p = s->start + to;
	read(s);
	s->p = after;
}

static void constant(struct parser *s)
{
	if (eat(s, 'B')) {
		back(s, constant);
		return;
	}
	if (eat(s, 'p')) {
		put(s, "_");
		return;
	}
	char of = take(s); /* a basic type */
	bool negative = eat(s, 'n');
	uint64_t value = 0;
	while (isxdigit((unsigned char)peek(s))) {
		char c = take(s);
		value = value << 4 |
			(unsigned int)(isdigit((unsigned char)c) ? c - '0' : c - 'a' + 10);
	}
	if (!eat(s, '_'))
		s->failed = true;
	if (of == 'b') {
		put(s, value ? "true" : "false");
		return;
	}
	char digits[24], *p = digits + sizeof(digits) - 1;
	*p = '\0';
	do
		*--p = (char)('0' + value % 10);
	while (value /= 10);
	if (negative)
		*--p = '-';
	put(s, p);
}

/* Arguments up to 'E', between `open` and `close`; lifetimes are left out. */
static void arguments(struct parser *s, const char *open, const char *close, bool tuple)
{
	unsigned int n = 0;

	while (!s->failed && !eat(s, 'E')) {
		if (eat(s, 'L')) {
			base_62(s);
			continue;
		}
		put(s, n++ ? ", " : open);
		if (eat(s, 'K'))
			constant(s);
		else
			type(s);
	}
	if (!n && tuple)
		put(s, open);
	if (n == 1 && tuple)
		put(s, ",");
	if (n || tuple)
		put(s, close);
}

static void impl_path(struct parser *s)
{
	size_t length = s->text->length;

	disambiguator(s);
	path(s);
	s->text->length = length; /* says where the impl block stands, which nobody asks */
}

static void nested_path(struct parser *s)
{
	char space = take(s);
	char number[32], *p = number + sizeof(number) - 1;

	path(s);
	uint64_t n = disambiguator(s);
	put(s, "::");
	if (islower((unsigned char)space)) {
		identifier(s);
		return;
	}
	size_t before = s->text->length;
	identifier(s);
	if (s->failed)
		return;
	s->text->length = before;
	put(s, space == 'C' ? "{closure#" : "{shim#");
	*p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	put(s, p);
	put(s, "}");
}

static void path(struct parser *s)
{
	if (++s->depth > DEPTH_MAX || ++s->steps > STEPS_MAX)
		s->failed = true;
	switch (take(s)) {
	case 'C':
		disambiguator(s);
		identifier(s);
		break;
	case 'M':
		impl_path(s);
		put(s, "<");
		type(s);
		put(s, ">");
		break;
	case 'X':
		impl_path(s);
		/* fallthrough */
	case 'Y':
		put(s, "<");
		type(s);
		put(s, " as ");
		path(s);
		put(s, ">");
		break;
	case 'N':
		nested_path(s);
		break;
	case 'I':
		path(s);
		arguments(s, "<", ">", false);
		break;
	case 'B':
		back(s, path);
		break;
	default:
		s->failed = true;
	}
	s->depth--;
}

static const char *basic(char c)
{
	/* clang-format off */
	static const char *const names[26] = {
		['a' - 'a'] = "i8",  ['b' - 'a'] = "bool", ['c' - 'a'] = "char",  ['d' - 'a'] = "f64",
		['e' - 'a'] = "str", ['f' - 'a'] = "f32",  ['h' - 'a'] = "u8",	  ['i' - 'a'] = "isize",
		['j' - 'a'] = "usize", ['l' - 'a'] = "i32", ['m' - 'a'] = "u32",  ['n' - 'a'] = "i128",
		['o' - 'a'] = "u128", ['s' - 'a'] = "i16", ['t' - 'a'] = "u16",	  ['u' - 'a'] = "()",
		['v' - 'a'] = "...", ['x' - 'a'] = "i64",  ['y' - 'a'] = "u64",	  ['z' - 'a'] = "!",
		['p' - 'a'] = "_",
	};
	/* clang-format on */
	return c >= 'a' && c <= 'z' ? names[c - 'a'] : NULL;
}

static void function(struct parser *s)
{
	if (eat(s, 'G'))
		base_62(s);
	eat(s, 'U');
	if (eat(s, 'K') && !eat(s, 'C')) {
		size_t length = s->text->length;
		identifier(s);
		s->text->length = length;
	}
	arguments(s, "fn(", ")", true);
	if (eat(s, 'u'))
		return;
	put(s, " -> ");
	type(s);
}

static void dyn_trait(struct parser *s)
{
	unsigned int n = 0;

	put(s, "dyn ");
	if (eat(s, 'G'))
		base_62(s);
	while (!s->failed && !eat(s, 'E')) {
		put(s, n++ ? " + " : "");
		path(s);
		while (eat(s, 'p')) {
			put(s, "<");
			identifier(s);
			put(s, "=");
			type(s);
			put(s, ">");
		}
	}
	if (!eat(s, 'L'))
		s->failed = true;
	base_62(s);
}

static void type(struct parser *s)
{
	const char *name = basic(peek(s));
	char c;

	if (name) {
		s->p++;
		put(s, name);
		return;
	}
	if (++s->depth > DEPTH_MAX || ++s->steps > STEPS_MAX)
		s->failed = true;
	switch (c = peek(s)) {
	case 'A':
	case 'S':
		s->p++;
		put(s, "[");
		type(s);
		if (c == 'A') {
			put(s, "; ");
			constant(s);
		}
		put(s, "]");
		break;
	case 'T':
		s->p++;
		arguments(s, "(", ")", true);
		break;
	case 'R':
	case 'Q':
		s->p++;
		if (eat(s, 'L'))
			base_62(s);
		put(s, c == 'R' ? "&" : "&mut ");
		type(s);
		break;
	case 'P':
	case 'O':
		s->p++;
		put(s, c == 'P' ? "*const " : "*mut ");
		type(s);
		break;
	case 'F':
		s->p++;
		function(s);
		break;
	case 'D':
		s->p++;
		dyn_trait(s);
		break;
	case 'B':
		s->p++;
		back(s, type);
		break;
	default:
		path(s);
	}
	s->depth--;
}

bool af_mangling_v0_impl(const char *symbol, struct af_text *text)
{
	struct parser s = {.text = text, .begun = text->length};

	if (strncmp(symbol, "_R", 2))
		return false;
	s.start = s.p = symbol + 2;
	s.end = s.p + strlen(s.p);
	/* Down the path's spine to the innermost impl block. */
	while (eat(&s, 'N') || eat(&s, 'I'))
		if (s.p[-1] == 'N')
			take(&s);
	char kind = take(&s);
	if (kind != 'M' && kind != 'X')
		return false;
	impl_path(&s);
	if (kind == 'X')
		put(&s, "<");
	type(&s);
	if (kind == 'X') {
		put(&s, " as ");
		path(&s);
		put(&s, ">");
	}
	if (s.failed || text->length == s.begun) {
		text->length = s.begun;
		return false;
	}
	return true;
}
