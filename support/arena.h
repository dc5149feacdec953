/* support/arena.h: memory by lifetime. Compiler data is never freed one by one: it lives in an
 * arena that is named for how long it lives (a program, a pass, a command) and dropped whole.
 * Sizes are bytes. The host running out of memory ends the process with a message: there is no
 * state worth saving in a compiler, and the runtime allocates its arena once, before a run. */
#ifndef PL_ARENA_H
#define PL_ARENA_H
#include "support/base.h"

typedef struct ArenaChunk ArenaChunk;

typedef struct Arena {
	ArenaChunk *top;
	u8 *at, *end;
	size_t used, peak; /* bytes handed out now and at most, for --stats */
	const char *name;
} Arena;

/* A point to go back to: everything pushed after it is dropped by arena_release. */
typedef struct ArenaMark {
	ArenaChunk *top;
	u8 *at;
	size_t used;
} ArenaMark;

/* An arena needs no set-up beyond zeroes; the name is for reports. */
#define ARENA(arena_name) ((Arena){ .name = (arena_name) })

/* `count` elements of `size` bytes, zeroed, aligned to `align` (a power of two, at most 64). */
void *arena_push(Arena *a, size_t size, size_t count, size_t align);
ArenaMark arena_mark(const Arena *a);
void arena_release(Arena *a, ArenaMark m);
/* Drops everything; the arena can be used again. */
void arena_free(Arena *a);

#define NEW(arena, T)     ((T *)arena_push((arena), sizeof(T), 1, _Alignof(T)))
#define NEWN(arena, T, n) ((T *)arena_push((arena), sizeof(T), (size_t)(n), _Alignof(T)))

/* What `from` holds belongs to `to` from now on, at the same addresses; `from` is empty. */
void arena_adopt(Arena *to, Arena *from);

/* A copy of `n` elements of `size` bytes. */
void *arena_copy(Arena *a, const void *from, size_t size, size_t n, size_t align);
#define COPYN(arena, T, from, n) \
	((T *)arena_copy((arena), (from), sizeof(T), (size_t)(n), _Alignof(T)))

#endif
