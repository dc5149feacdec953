/* runtime/cpu/bandwidth.c: see bandwidth.h. Each thread moves a contiguous part, as the threads of a kernel do, in
 * vectors as wide as the processor has. McCalpin's STREAM (1995) is the model; its copy is counted the same way. */
#include "runtime/cpu/bandwidth.h"
#include "support/clock.h"
#include "support/cpu_cache.h"

#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { TRIES = 3, PART = 4096 }; /* bytes of a task */

/* `n` bytes, a multiple of 256; `to` and `from` are aligned to 64. */
typedef void Move(f32 *to, const f32 *from, size_t n);

static void copy_plain(f32 *to, const f32 *from, size_t n)
{
	for (size_t i = 0; i < n / sizeof(f32); i++)
		to[i] = from[i];
}

static void update_plain(f32 *to, const f32 *from, size_t n)
{
	(void)from;
	for (size_t i = 0; i < n / sizeof(f32); i++)
		to[i] += 1.0f;
}

#if defined(__x86_64__)

#define VECTORS(name, isa, vector, width, body)                                                                        \
	__attribute__((target(isa))) static void name(f32 *to, const f32 *from, size_t n)                              \
	{                                                                                                              \
		(void)from;                                                                                            \
		for (size_t i = 0; i < n / sizeof(f32); i += (width))                                                  \
			body;                                                                                          \
	}
VECTORS(copy_512, "avx512f", __m512, 16, _mm512_store_ps(to + i, _mm512_load_ps(from + i)))
VECTORS(stream_512, "avx512f", __m512, 16, _mm512_stream_ps(to + i, _mm512_load_ps(from + i)))
VECTORS(update_512, "avx512f", __m512, 16,
	_mm512_store_ps(to + i, _mm512_add_ps(_mm512_load_ps(to + i), _mm512_set1_ps(1))))
VECTORS(copy_256, "avx2", __m256, 8, _mm256_store_ps(to + i, _mm256_load_ps(from + i)))
VECTORS(stream_256, "avx2", __m256, 8, _mm256_stream_ps(to + i, _mm256_load_ps(from + i)))
VECTORS(update_256, "avx2", __m256, 8,
	_mm256_store_ps(to + i, _mm256_add_ps(_mm256_load_ps(to + i), _mm256_set1_ps(1))))
#undef VECTORS

static Move *choose(DeviceMove way)
{
	static Move *const wide[] = { copy_512, stream_512, update_512 },
			   *const narrow[] = { copy_256, stream_256, update_256 },
			   *const plain[] = { copy_plain, NULL, update_plain };
	__builtin_cpu_init();
	return (__builtin_cpu_supports("avx512f") ? wide : __builtin_cpu_supports("avx2") ? narrow : plain)[way];
}

static void settle(void)
{
	_mm_sfence(); /* what went past the caches has arrived */
}

#else

static Move *choose(DeviceMove way)
{
	static Move *const plain[] = { copy_plain, NULL, update_plain };
	return plain[way];
}

static void settle(void)
{
}

#endif

typedef struct Job {
	Move *move;
	u8 *to;
	const u8 *from;
} Job;

static void run(void *argument, TaskRange r)
{
	const Job *j = argument;
	size_t at = (size_t)r.begin * PART;
	j->move((f32 *)(void *)(j->to + at), (const f32 *)(const void *)(j->from + at),
		(size_t)(r.end - r.begin) * PART);
	settle();
}

Status bandwidth_open(Threads *pool, size_t bytes, Bandwidth *out)
{
	if (!bytes)
		bytes = MIN(MAX((size_t)64 << 20, (size_t)cpu_cache_bytes(3)), (size_t)512 << 20);
	bytes = ALIGN_UP(bytes, PART);
	*out = (Bandwidth){ .pool = pool, .bytes = bytes };
	Status s = host_arena_create(2 * bytes, pool, &out->memory);
	return s ? status_context(s, "measuring the memory's bandwidth") : OK;
}

void bandwidth_close(Bandwidth *b)
{
	if (b->pool)
		host_arena_destroy(&b->memory);
	*b = (Bandwidth){ 0 };
}

f64 bandwidth_measure(const Bandwidth *b, DeviceMove way)
{
	Job j = { choose(way), b->memory.base, b->memory.base + b->bytes };
	if (!j.move)
		return 0;
	f64 least = 1e30;
	for (int i = 0; i < TRIES; i++) {
		f64 begun = clock_seconds();
		threads_run(b->pool, run, &j, (i64)(b->bytes / PART));
		least = MIN(least, clock_seconds() - begun);
	}
	return 2 * (f64)b->bytes / least;
}
