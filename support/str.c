/* support/str.c: see str.h. */
#include "support/str.h"

#include <string.h>

const char *arena_vprintf(Arena *a, const char *format, va_list args)
{
	va_list again;
	va_copy(again, args);
	int n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	char *p = arena_push(a, 1, (size_t)n + 1, 1);
	vsnprintf(p, (size_t)n + 1, format, args);
	return p;
}

const char *arena_printf(Arena *a, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	const char *p = arena_vprintf(a, format, args);
	va_end(args);
	return p;
}

const char *arena_strn(Arena *a, Str text)
{
	char *p = arena_push(a, 1, text.n + 1, 1);
	if (text.n)
		memcpy(p, text.s, text.n);
	return p;
}

Str str_of(const char *terminated)
{
	return (Str){ terminated, strlen(terminated) };
}

bool str_equal(Str a, Str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.s, b.s, a.n) == 0);
}

bool str_starts(Str text, Str with)
{
	return text.n >= with.n && (with.n == 0 || memcmp(text.s, with.s, with.n) == 0);
}

bool str_ends(Str text, Str with)
{
	return text.n >= with.n && str_equal((Str){ text.s + text.n - with.n, with.n }, with);
}

i64 unit_bytes(Str name)
{
	static const struct {
		const char *name;
		i64 bytes;
	} unit[] = {
		{ "kB", 1000 },
		{ "MB", 1000000 },
		{ "GB", 1000000000 },
		{ "TB", 1000000000000 },
		{ "PB", 1000000000000000 },
		{ "KiB", (i64)1 << 10 },
		{ "MiB", (i64)1 << 20 },
		{ "GiB", (i64)1 << 30 },
		{ "TiB", (i64)1 << 40 },
		{ "PiB", (i64)1 << 50 },
	};
	for (u32 i = 0; i < COUNT(unit); i++)
		if (str_equal(str_of(unit[i].name), name))
			return unit[i].bytes;
	return 0;
}

u64 hash_bytes(u64 seed, const void *bytes, size_t n)
{
	const u8 *p = bytes;
	for (size_t i = 0; i < n; i++)
		seed = (seed ^ p[i]) * 0x100000001b3u;
	return seed;
}

u64 hash_words(u64 seed, const void *bytes, size_t n)
{
	const u8 *p = bytes;
	for (size_t i = 0; i < n; i += sizeof(u64)) {
		u64 word = 0;
		if (n - i >= sizeof word)
			memcpy(&word, p + i, sizeof word);
		else
			memcpy(&word, p + i, n - i);
		seed = (seed ^ word) * 0x9e3779b97f4a7c15u;
		seed ^= seed >> 29;
	}
	return seed;
}

static void intern_grow(Interner *in)
{
	u32 cap = in->cap ? in->cap * 2 : 64;
	const char **slot = NEWN(in->arena, const char *, cap);
	for (u32 i = 0; i < in->cap; i++) {
		if (!in->slot[i])
			continue;
		u32 at = (u32)hash_bytes(HASH_SEED, in->slot[i], strlen(in->slot[i])) & (cap - 1);
		while (slot[at])
			at = (at + 1) & (cap - 1);
		slot[at] = in->slot[i];
	}
	in->slot = slot;
	in->cap = cap;
}

const char *intern(Interner *in, Str text)
{
	if ((in->n + 1) * 2 > in->cap)
		intern_grow(in);
	u32 at = (u32)hash_bytes(HASH_SEED, text.s, text.n) & (in->cap - 1);
	for (; in->slot[at]; at = (at + 1) & (in->cap - 1))
		if (str_equal(str_of(in->slot[at]), text))
			return in->slot[at];
	in->n++;
	return in->slot[at] = arena_strn(in->arena, text);
}

const char *intern_z(Interner *in, const char *terminated)
{
	return intern(in, str_of(terminated));
}

const char *intern_printf(Interner *in, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	char small[256];
	int n = vsnprintf(small, sizeof small, format, args);
	va_end(args);
	const char *p;
	if ((size_t)n < sizeof small) {
		p = intern(in, (Str){ small, (size_t)n });
	} else {
		Arena tmp = ARENA("intern");
		p = intern_z(in, arena_vprintf(&tmp, format, again));
		arena_free(&tmp);
	}
	va_end(again);
	return p;
}

static char *buf_room(Buf *b, size_t more)
{
	if (b->n + more + 1 > b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 128;
		while (cap < b->n + more + 1)
			cap *= 2;
		char *p = arena_push(b->arena, 1, cap, 1);
		if (b->n)
			memcpy(p, b->text, b->n);
		b->text = p;
		b->cap = cap;
	}
	return b->text + b->n;
}

void buf_put(Buf *b, Str text)
{
	char *p = buf_room(b, text.n);
	if (text.n)
		memcpy(p, text.s, text.n);
	b->n += text.n;
	b->text[b->n] = 0;
}

void buf_char(Buf *b, char c)
{
	buf_put(b, (Str){ &c, 1 });
}

void buf_printf(Buf *b, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	char *p = buf_room(b, (size_t)n);
	vsnprintf(p, (size_t)n + 1, format, args);
	b->n += (size_t)n;
	va_end(args);
}

Str buf_str(const Buf *b)
{
	return (Str){ b->text ? b->text : "", b->n };
}

u32 edit_distance(Str a, Str b)
{
	enum { MOST = 63 };
	if (a.n > MOST || b.n > MOST)
		return a.n == b.n && str_equal(a, b) ? 0 : MOST;
	u32 row[3][MOST + 1];
	for (u32 j = 0; j <= b.n; j++)
		row[0][j] = j;
	for (u32 i = 1; i <= a.n; i++) {
		u32 *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
		now[0] = i;
		for (u32 j = 1; j <= b.n; j++) {
			u32 best = last[j - 1] + (a.s[i - 1] != b.s[j - 1]);
			best = MIN(best, last[j] + 1);
			best = MIN(best, now[j - 1] + 1);
			if (i > 1 && j > 1 && a.s[i - 1] == b.s[j - 2] && a.s[i - 2] == b.s[j - 1])
				best = MIN(best, before[j - 2] + 1);
			now[j] = best;
		}
	}
	return row[a.n % 3][b.n];
}

/* One is made of parts of the other between underscores: num_layers and layers. */
static bool part_of(const char *whole, const char *part)
{
	size_t n = strlen(part);
	for (const char *at = n >= 4 ? strstr(whole, part) : NULL; at; at = strstr(at + 1, part))
		if ((at == whole || at[-1] == '_') && (!at[n] || at[n] == '_'))
			return true;
	return false;
}

const char *nearest_name(const char *name, const char *const *candidate, u32 n)
{
	const char *best = NULL;
	/* of a name of one letter, every other is a neighbour: none is meant; else every third letter may be another */
	u32 length = (u32)strlen(name), least = length < 2 ? 1 : length <= 3 ? 2 : length / 3 + 1;
	for (u32 i = 0; i < n; i++) {
		u32 d = edit_distance(str_of(name), str_of(candidate[i]));
		if (part_of(name, candidate[i]) || part_of(candidate[i], name))
			d = MIN(d, 2);
		if (d < least) {
			least = d;
			best = candidate[i];
		}
	}
	return best;
}

static bool match_here(const char *p, const char *pe, const char *t, const char *te)
{
	while (p < pe) {
		if (*p == '*') {
			bool across = p + 1 < pe && p[1] == '*';
			p += across ? 2 : 1;
			for (;; t++) {
				if (match_here(p, pe, t, te))
					return true;
				if (t == te || (!across && *t == '.'))
					return false;
			}
		}
		if (*p == '{') {
			const char *close = memchr(p, '}', (size_t)(pe - p));
			if (close) {
				const char *from = p + 1;
				for (const char *q = from; q <= close; q++) {
					if (q != close && *q != ',')
						continue;
					size_t n = (size_t)(q - from);
					if ((size_t)(te - t) >= n && memcmp(from, t, n) == 0 &&
					    match_here(close + 1, pe, t + n, te))
						return true;
					from = q + 1;
				}
				return false;
			}
		}
		if (t == te || *p != *t)
			return false;
		p++;
		t++;
	}
	return t == te;
}

bool path_match(Str pattern, Str path)
{
	return match_here(pattern.s, pattern.s + pattern.n, path.s, path.s + path.n);
}
