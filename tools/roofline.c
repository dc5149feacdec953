/* tools/roofline.c: see roofline.h. */
#include "tools/roofline.h"
#include "support/vec.h"

#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
	f64 x = *(const f64 *)a, y = *(const f64 *)b;
	return (x > y) - (x < y);
}

Spread spread_of(const f64 *value, u32 n)
{
	if (!n)
		return (Spread){ 0 };
	Arena tmp = ARENA("spread_of");
	f64 *v = COPYN(&tmp, f64, value, n);
	qsort(v, n, sizeof *v, by_value);
	Spread s = { .median = (v[(n - 1) / 2] + v[n / 2]) / 2, .least = v[0], .most = v[n - 1], .n = n };
	arena_free(&tmp);
	return s;
}

f64 limit_flops(const Limits *limit, Operands operands)
{
	while (operands > OPERANDS_32 && !(limit->flops[operands] > 0))
		operands--;
	return limit->flops[operands];
}

Bound roofline_bound(const Limits *limit, f64 flops, f64 bytes, Operands operands)
{
	f64 peak = limit_flops(limit, operands);
	f64 compute = peak > 0 ? flops / peak : 0, memory = limit->bandwidth > 0 ? bytes / limit->bandwidth : 0;
	return (Bound){ .seconds = MAX(compute, memory), .by_flops = compute > memory };
}

const char *layer_pattern(Arena *a, const char *name)
{
	Buf b = { .arena = a };
	for (const char *at = name;;) {
		size_t n = strcspn(at, ".");
		bool number = n > 0 && strspn(at, "0123456789") == n, last = !at[n];
		if (!number || b.n == 0)
			buf_printf(&b, "%s%.*s", b.n ? "." : "", (int)n, at);
		else if (!last)
			buf_put(&b, STR(".*"));
		if (last)
			return b.text;
		at += n + 1;
	}
}

static u64 group_hash(const KernelRun *r, const char *pattern)
{
	const char *word[] = { r->entry, pattern, r->class, r->shape };
	u64 h = HASH_SEED;
	for (u32 i = 0; i < COUNT(word); i++)
		h = hash_bytes(h, word[i], strlen(word[i]) + 1);
	return hash_bytes(h, &r->operands, sizeof r->operands);
}

static int by_seconds(const void *a, const void *b)
{
	const KernelGroup *x = a, *y = b;
	f64 s = x->seconds.median, t = y->seconds.median;
	return (s < t) - (s > t) ?: strcmp(x->first.name, y->first.name);
}

u32 kernel_groups(Arena *a, const KernelRun *run, u32 n, u32 nprofile, const Limits *limit, KernelGroup **out)
{
	KernelGroup *group = NEWN(a, KernelGroup, n + 1);
	f64 **seconds = NEWN(a, f64 *, n + 1);
	u64 *hash = NEWN(a, u64, n + 1);
	u32 ngroup = 0;
	for (u32 i = 0; i < n; i++) {
		const KernelRun *r = &run[i];
		const char *pattern = layer_pattern(a, r->name);
		u64 h = group_hash(r, pattern);
		u32 g = 0;
		while (g < ngroup && hash[g] != h)
			g++;
		if (g == ngroup) {
			hash[ngroup] = h;
			seconds[ngroup] = NEWN(a, f64, nprofile + 1);
			group[ngroup] = (KernelGroup){ .first = *r };
			group[ngroup].first.name = pattern;
			group[ngroup].first.seconds = NULL;
			ngroup++;
		}
		KernelGroup *to = &group[g];
		to->calls += r->times;
		to->flops += r->flops * r->times;
		to->bytes += r->bytes * r->times;
		to->bound.by_flops = roofline_bound(limit, to->flops, to->bytes, r->operands).by_flops;
		to->bound.seconds += roofline_bound(limit, r->flops, r->bytes, r->operands).seconds * r->times;
		for (u32 p = 0; p < nprofile; p++)
			seconds[g][p] += r->seconds[p];
	}
	for (u32 g = 0; g < ngroup; g++)
		group[g].seconds = spread_of(seconds[g], nprofile);
	qsort(group, ngroup, sizeof *group, by_seconds);
	*out = group;
	return ngroup;
}
