/* support/arena.c: chunks in a list, bumped from the front. A chunk doubles the one before up to
 * 1 MiB, so that a small command stays small and a large program makes few system calls. The first chunk stays
 * until arena_free, so that scratch which is marked and released in a loop is not given back each time. Chunks that are
 * given back wait for the next arena, up to POOLED bytes: passes take and drop the same memory over and over. Exported libraries,
 * which are unloaded, keep none (cmake/runtime.cmake). */
#include "support/arena.h"
#include "support/no_memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#define ARENA_POOL     0 /* the sanitizer tells who took what was lost, or used when it was given back */
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif
#ifndef ARENA_POOL
#define ARENA_POOL (32 << 20)
#endif

struct ArenaChunk {
	ArenaChunk *below;
	size_t size; /* bytes that follow this header */
	_Alignas(64) u8 data[];
};

enum { LEAST = 4096, CLASSES = 9, MOST = LEAST << (CLASSES - 1) };
static const size_t POOLED = ARENA_POOL;
static struct {
	pthread_mutex_t lock;
	ArenaChunk *free[CLASSES]; /* of LEAST << i bytes */
	size_t bytes;
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER };

void pl_never(const char *file, int line, const char *why)
{
	fprintf(stderr, "plinth: internal error at %s:%d: %s\n", file, line, why);
	abort();
}

void pl_out_of_memory(const char *what)
{
	fprintf(stderr, "plinth: out of memory: %s; free some, or raise the limit that holds for this process\n", what);
	_exit(2);
}

static void out_of_memory(const Arena *a, size_t want)
{
	char what[256];
	snprintf(what, sizeof what, "the host has no %zu more bytes (arena '%s' holds %zu)", want, a->name ? a->name : "?", a->used);
	pl_out_of_memory(what);
}

/* The class of chunks of exactly so many bytes, or CLASSES. */
static u32 class_of(size_t size)
{
	u32 class = 0;
	while (class < CLASSES && (size_t)LEAST << class != size)
		class++;
	return class;
}

static ArenaChunk *take_chunk(size_t size)
{
	u32 class = class_of(size);
	ArenaChunk *c = NULL;
	if (class < CLASSES) {
		pthread_mutex_lock(&pool.lock);
		c = pool.free[class];
		if (c) {
			pool.free[class] = c->below;
			pool.bytes -= size;
		}
		pthread_mutex_unlock(&pool.lock);
	}
	return c ? c : aligned_alloc(64, ALIGN_UP(sizeof(ArenaChunk) + size, 64));
}

static void give_chunk(ArenaChunk *c)
{
	u32 class = class_of(c->size);
	bool kept = false;
	if (class < CLASSES) {
		pthread_mutex_lock(&pool.lock);
		kept = pool.bytes + c->size <= POOLED;
		if (kept) {
			c->below = pool.free[class];
			pool.free[class] = c;
			pool.bytes += c->size;
		}
		pthread_mutex_unlock(&pool.lock);
	}
	if (kept)
		return;
	UNPOISON(c->data, c->size);
	free(c);
}

static void grow(Arena *a, size_t need)
{
	size_t size = LEAST;
	while (a->top && size < MOST && size < 2 * a->top->size)
		size *= 2;
	if (size < need + 64)
		size = need + 64;
	ArenaChunk *c = take_chunk(size);
	if (!c)
		out_of_memory(a, size);
	c->below = a->top;
	c->size = size;
	a->top = c;
	a->at = c->data;
	a->end = c->data + size;
	POISON(c->data, size);
}

void *arena_push(Arena *a, size_t size, size_t count, size_t align)
{
	size_t bytes;
	if (__builtin_mul_overflow(size, count, &bytes))
		out_of_memory(a, SIZE_MAX);
	assert(align <= 64 && (align & (align - 1)) == 0);
	uintptr_t at = ALIGN_UP((uintptr_t)a->at, align);
	if (!a->top || at + bytes > (uintptr_t)a->end) {
		grow(a, bytes);
		at = ALIGN_UP((uintptr_t)a->at, align);
	}
	u8 *p = a->at + (at - (uintptr_t)a->at);
	a->at = p + bytes;
	a->used += bytes;
	if (a->used > a->peak)
		a->peak = a->used;
	UNPOISON(p, bytes);
	if (bytes)
		memset(p, 0, bytes);
	return p;
}

void *arena_copy(Arena *a, const void *from, size_t size, size_t n, size_t align)
{
	void *p = arena_push(a, size, n, align);
	if (n)
		memcpy(p, from, size * n);
	return p;
}

ArenaMark arena_mark(const Arena *a)
{
	return (ArenaMark){ a->top, a->at, a->used };
}

static void drop_top(Arena *a)
{
	ArenaChunk *below = a->top->below;
	give_chunk(a->top);
	a->top = below;
}

void arena_release(Arena *a, ArenaMark m)
{
#ifndef NDEBUG
	size_t handed_out = a->top && a->top == m.top ? (size_t)(a->at - m.at) : SIZE_MAX;
#endif
	while (a->top != m.top && a->top->below)
		drop_top(a);
	a->used = m.used;
	a->at = a->top != m.top ? a->top->data : m.at; /* the mark is older than the first chunk */
	a->end = a->top ? a->top->data + a->top->size : NULL;
	if (a->top) {
#ifndef NDEBUG
		size_t left = MIN((size_t)(a->end - a->at), handed_out);
		UNPOISON(a->at, left);
		memset(a->at, 0xA5, MIN(left, (size_t)4096));
#endif
		POISON(a->at, (size_t)(a->end - a->at));
	}
}

void arena_adopt(Arena *to, Arena *from)
{
	if (!to->top) {
		to->top = from->top;
		to->at = from->at;
		to->end = from->end;
	} else if (from->top) { /* under the chunk that is being filled */
		ArenaChunk *last = from->top;
		while (last->below)
			last = last->below;
		last->below = to->top->below;
		to->top->below = from->top;
		POISON(from->at, (size_t)(from->end - from->at));
	}
	to->used += from->used;
	to->peak = MAX(to->peak, to->used);
	from->top = NULL;
	from->used = 0;
	from->at = from->end = NULL;
}

void arena_free(Arena *a)
{
	while (a->top)
		drop_top(a);
	a->used = 0;
	a->at = a->end = NULL;
}
