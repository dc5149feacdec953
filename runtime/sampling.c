/* runtime/sampling.c: see sampling.h. Everything in f64, summed in the order of the tokens' ranks, so that
 * a draw is the same on every machine that gives the same logits. */
#include "runtime/sampling.h"

#include <math.h>
#include <stdlib.h>

Status sampling_check(const Sampling *s)
{
	if (!(s->temperature >= 0) || isinf(s->temperature))
		return FAIL(STATUS_INPUT, "the temperature must be 0 (greedy) or above, not %g", s->temperature);
	if (!(s->top_p > 0 && s->top_p <= 1))
		return FAIL(STATUS_INPUT, "top-p must be above 0 and at most 1, not %g", s->top_p);
	return OK;
}

SamplingRoom sampling_room(Arena *a, u32 n)
{
	return (SamplingRoom){ .n = n, .order = NEWN(a, u32, n), .weight = NEWN(a, f64, n) };
}

/* SplitMix64 (Steele et al. 2014) of seed and draw: a number in [0, 1). */
static f64 uniform(u64 seed, u64 draw)
{
	u64 z = seed + (draw + 1) * 0x9e3779b97f4a7c15u;
	for (u32 i = 0; i < 2; i++) {
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		z ^= z >> 31;
	}
	return (f64)(z >> 11) * 0x1p-53;
}

static int by_logit(const void *pa, const void *pb, void *cx)
{
	const f32 *logit = cx;
	u32 a = *(const u32 *)pa, b = *(const u32 *)pb;
	if (logit[a] != logit[b])
		return logit[a] > logit[b] ? -1 : 1;
	return a < b ? -1 : 1;
}

static u32 largest(const f32 *logit, u32 n)
{
	u32 best = n;
	for (u32 i = 0; i < n; i++)
		if (!isnan(logit[i]) && (best == n || logit[i] > logit[best]))
			best = i;
	return best;
}

u32 sampling_pick(const Sampling *s, const f32 *logit, u32 n, u64 draw, SamplingRoom *room)
{
	assert(n <= room->n);
	u32 best = largest(logit, n);
	/* infinite logits leave nothing to draw */
	if (best == n || s->temperature == 0 || isinf(logit[best]))
		return best;
	bool cut = (s->top_k && s->top_k < n) || s->top_p < 1;
	u32 m = 0;
	for (u32 i = 0; i < n; i++)
		if (!isnan(logit[i]))
			room->order[m++] = i;
	if (cut)
		qsort_r(room->order, m, sizeof *room->order, by_logit, (void *)(uintptr_t)logit);
	if (s->top_k)
		m = MIN(m, s->top_k);
	f64 total = 0;
	for (u32 i = 0; i < m; i++) {
		room->weight[i] = exp(((f64)logit[room->order[i]] - (f64)logit[best]) / s->temperature);
		total += room->weight[i];
	}
	if (s->top_p < 1) {
		f64 sum = 0, enough = s->top_p * total;
		u32 k = 0;
		while (k < m && sum < enough)
			sum += room->weight[k++];
		m = k;
		total = sum;
	}
	f64 at = uniform(s->seed, draw) * total;
	for (u32 i = 0; i < m; i++) {
		at -= room->weight[i];
		if (at < 0)
			return room->order[i];
	}
	/* rounding took the last sliver away: the last one that can be drawn at all */
	while (m > 1 && room->weight[m - 1] == 0)
		m--;
	return room->order[m - 1];
}
