/* support/arena.c: chunks in a list, bumped from the front. A chunk doubles the one before up to
 * 1 MiB, so that a small command stays small and a large program makes few system calls. */
#include "support/arena.h"

#include <stdlib.h>
#include <string.h>

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
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

struct ArenaChunk {
	ArenaChunk *below;
	size_t size; /* bytes that follow this header */
	_Alignas(64) u8 data[];
};

void pl_never(const char *file, int line, const char *why)
{
	fprintf(stderr, "plinth: internal error at %s:%d: %s\n", file, line, why);
	abort();
}

static void out_of_memory(const Arena *a, size_t want)
{
	fprintf(stderr, "plinth: out of memory: the host has no %zu more bytes (arena '%s' holds %zu)\n",
		want, a->name ? a->name : "?", a->used);
	abort();
}

static void grow(Arena *a, size_t need)
{
	size_t size = a->top ? a->top->size * 2 : 4096;
	if (size > (1u << 20))
		size = 1u << 20;
	if (size < need + 64)
		size = need + 64;
	ArenaChunk *c = aligned_alloc(64, ALIGN_UP(sizeof(ArenaChunk) + size, 64));
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

void arena_release(Arena *a, ArenaMark m)
{
	while (a->top != m.top) {
		ArenaChunk *below = a->top->below;
		UNPOISON(a->top->data, a->top->size);
		free(a->top);
		a->top = below;
	}
	a->used = m.used;
	a->at = m.at;
	a->end = a->top ? a->top->data + a->top->size : NULL;
	if (a->top) {
#ifndef NDEBUG
		size_t left = (size_t)(a->end - a->at);
		UNPOISON(a->at, left);
		memset(a->at, 0xA5, MIN(left, (size_t)4096));
#endif
		POISON(a->at, (size_t)(a->end - a->at));
	}
}

void arena_free(Arena *a)
{
	arena_release(a, (ArenaMark){ 0 });
	a->at = a->end = NULL;
}
