/* runtime/cpu/peak.c: see peak.h. Chains of vector multiply-adds that live in registers: as many as it takes to
 * cover the instruction's latency on both ports, and no memory at all. */
#include "runtime/cpu/peak.h"
#include "support/clock.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

enum { ROUNDS = 200000, RUNS = 20, SUSTAINED_RUNS = 200 }; /* half a millisecond each: waking the threads is a small part */

/* Sixteen chains of 16 lanes; gives something that depends on all of them. */
__attribute__((target("avx512f"))) static f32 chains_avx512(i64 rounds)
{
	__m512 a[16], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
	for (int k = 0; k < 16; k++)
		a[k] = _mm512_set1_ps((f32)k);
	for (i64 i = 0; i < rounds; i++)
#pragma GCC unroll 16
		for (int k = 0; k < 16; k++)
			a[k] = _mm512_fmadd_ps(a[k], x, y);
	f32 sum = 0;
	for (int k = 0; k < 16; k++)
		sum += _mm512_cvtss_f32(a[k]);
	return sum;
}

__attribute__((target("avx2,fma"))) static f32 chains_avx2(i64 rounds)
{
	__m256 a[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
	for (int k = 0; k < 12; k++)
		a[k] = _mm256_set1_ps((f32)k);
	for (i64 i = 0; i < rounds; i++)
#pragma GCC unroll 12
		for (int k = 0; k < 12; k++)
			a[k] = _mm256_fmadd_ps(a[k], x, y);
	f32 sum = 0;
	for (int k = 0; k < 12; k++)
		sum += _mm256_cvtss_f32(a[k]);
	return sum;
}

/* Each lane adds two products. */
__attribute__((target("avx512f,avx512bf16"))) static f32 chains_bf16(i64 rounds)
{
	__m512 a[16];
	__m512i bits = _mm512_set1_epi16(0x3c00); /* 0.0078125 */
	__m512bh x;
	memcpy(&x, &bits, sizeof x);
	for (int k = 0; k < 16; k++)
		a[k] = _mm512_set1_ps((f32)k);
	for (i64 i = 0; i < rounds; i++)
#pragma GCC unroll 16
		for (int k = 0; k < 16; k++)
			a[k] = _mm512_dpbf16_ps(a[k], x, x);
	f32 sum = 0;
	for (int k = 0; k < 16; k++)
		sum += _mm512_cvtss_f32(a[k]);
	return sum;
}

typedef struct Probe {
	f32 (*chains)(i64 rounds);
	f64 flops; /* of a round */
	f32 sink[1024];
} Probe;

static bool choose(PeakKind kind, Probe *p)
{
	__builtin_cpu_init();
	if (kind == PEAK_BF16 && __builtin_cpu_supports("avx512bf16"))
		*p = (Probe){ .chains = chains_bf16, .flops = 16 * 16 * 4 };
	else if (__builtin_cpu_supports("avx512f"))
		*p = (Probe){ .chains = chains_avx512, .flops = 16 * 16 * 2 };
	else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		*p = (Probe){ .chains = chains_avx2, .flops = 12 * 8 * 2 };
	else
		return false;
	return true;
}

static void probe(void *argument, TaskRange r)
{
	Probe *p = argument;
	p->sink[r.thread] = p->chains(ROUNDS);
}

static f64 rate(Threads *pool, Probe *p, int runs)
{
	f64 begin = clock_seconds();
	for (int run = 0; run < runs; run++)
		threads_run_all(pool, probe, p);
	return runs * p->flops * ROUNDS * threads_count(pool) / (clock_seconds() - begin);
}

f64 peak_measure(Threads *pool, PeakKind kind)
{
	Probe p;
	if (!choose(kind, &p))
		return 0;
	/* some cores multiply bf16 no faster than f32 */
	f64 best = kind == PEAK_BF16 ? peak_measure(pool, PEAK_F32) : 0;
	for (int run = 0; run < RUNS; run++)
		best = MAX(best, rate(pool, &p, 1));
	return best;
}

f64 peak_sustained(Threads *pool, PeakKind kind)
{
	Probe p;
	if (!choose(kind, &p))
		return 0;
	f64 others = kind == PEAK_BF16 ? peak_sustained(pool, PEAK_F32) : 0;
	return MAX(others, rate(pool, &p, SUSTAINED_RUNS));
}

#else

f64 peak_measure(Threads *pool, PeakKind kind)
{
	(void)pool, (void)kind;
	return 0;
}

f64 peak_sustained(Threads *pool, PeakKind kind)
{
	return peak_measure(pool, kind);
}

#endif
