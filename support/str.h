/* support/str.h: text: formatting into an arena, interning, a growing buffer.
 * An interned string is terminated, lives as long as its interner's arena, and equal text is the
 * same pointer, so that names are compared with ==. */
#ifndef PL_STR_H
#define PL_STR_H
#include "support/arena.h"

/* printf into `a`; terminated. */
const char *arena_printf(Arena *a, const char *format, ...) PL_PRINTF(2, 3);
const char *arena_vprintf(Arena *a, const char *format, va_list args);
const char *arena_strn(Arena *a, Str text);

Str str_of(const char *terminated);
bool str_equal(Str a, Str b);
bool str_starts(Str text, Str with);
bool str_ends(Str text, Str with);

typedef struct Interner {
	Arena *arena;
	const char **slot; /* open addressing; NULL is free */
	u32 n, cap;
} Interner;

const char *intern(Interner *in, Str text);
const char *intern_z(Interner *in, const char *terminated);
const char *intern_printf(Interner *in, const char *format, ...) PL_PRINTF(2, 3);

/* A growing text buffer in an arena; `text` is always terminated once something was put. */
typedef struct Buf {
	Arena *arena;
	char *text;
	size_t n, cap;
} Buf;

void buf_put(Buf *b, Str text);
void buf_char(Buf *b, char c);
void buf_printf(Buf *b, const char *format, ...) PL_PRINTF(2, 3);
Str buf_str(const Buf *b);

/* How many single-character edits (insert, delete, replace, swap of neighbours) turn a into b;
 * used for "did you mean". Damerau-Levenshtein, optimal string alignment. */
u32 edit_distance(Str a, Str b);
/* The nearest of the names to `name`, or NULL where none is near. */
const char *nearest_name(const char *name, const char *const *candidate, u32 n);

/* Does `path` match `pattern`? '*' matches within one dotted part, '**' across parts, '{a,b}'
 * alternatives, everything else itself. Used by parameter groups and weight rules. */
bool path_match(Str pattern, Str path);

/* How many bytes kB, MB, ..., PB, KiB, MiB, ..., PiB are; 0: it is no such unit. */
i64 unit_bytes(Str name);

/* FNV-1a, 64 bit: the same in every run and on every machine, so it may name cache entries. */
u64 hash_bytes(u64 seed, const void *bytes, size_t n);
/* Eight bytes at a time, for tables of one run: nothing that lasts is named by it. */
u64 hash_words(u64 seed, const void *bytes, size_t n);
#define HASH_SEED 0xcbf29ce484222325u

#endif
