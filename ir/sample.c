/* ir/sample.c: see sample.h. The generator is SplitMix64 (Steele, Lea and Flood 2014). */
#include "ir/sample.h"

#include <math.h>
#include <stdlib.h>

Random random_new(Arena *arena, u64 seed)
{
	return (Random){ .state = seed, .arena = arena };
}

u64 random_bits(Random *r)
{
	u64 z = r->state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

i64 random_int(Random *r, i64 low, i64 high)
{
	assert(low <= high);
	u64 span = (u64)high - (u64)low + 1;
	return low + (i64)(span ? random_bits(r) % span : random_bits(r));
}

f64 random_unit(Random *r)
{
	return (f64)(random_bits(r) >> 11) * 0x1p-53;
}

bool random_chance(Random *r, f64 share)
{
	return random_unit(r) < share;
}

DType random_float(Random *r)
{
	return random_chance(r, 0.75) ? DT_f32 : DT_f64;
}

Dim random_extent(Random *r, Builder *b)
{
	if (r->powers)
		return dim_number(b->g->ir, 1ll << random_int(r, random_chance(r, 0.2) ? 0 : 1, 3));
	return dim_number(b->g->ir, random_chance(r, 0.2) ? 1 : random_int(r, 2, 5));
}

u32 random_shape(Random *r, Builder *b, u32 low, u32 high, Dim *dim)
{
	u32 rank = (u32)random_int(r, low, high);
	for (u32 d = 0; d < rank; d++)
		dim[d] = random_extent(r, b);
	return rank;
}

Val sample_input(Random *r, Builder *b, SampleKind kind, DType dtype, u32 rank, const Dim *dim,
		 f64 low, f64 high)
{
	const char *name = intern_printf(&b->g->ir->names, "x%u", r->input.n);
	Val v = BS(b, input, .name = name, .dtype = dtype, .shape = dims_of(b, dim, rank));
	VEC_PUSH(r->arena, &r->input, (SampleInput){ v, kind, low, high });
	return v;
}

Val sample_real(Random *r, Builder *b, DType dtype, u32 rank, const Dim *dim)
{
	return sample_input(r, b, SAMPLE_REAL, dtype, rank, dim, -2, 2);
}

static int ascending(const void *a, const void *b)
{
	f64 x = *(const f64 *)a, y = *(const f64 *)b;
	return (x > y) - (x < y);
}

void sample_fill(Random *r, const SampleInput *input, Tensor *t)
{
	f64 low = input->low, high = input->high;
	for (i64 i = 0; i < t->n; i++) {
		f64 slot = (f64)i + 0.25 + 0.5 * random_unit(r);
		t->data[i] = input->kind == SAMPLE_REAL ? low + (high - low) * slot / (f64)t->n
							: (f64)random_int(r, (i64)low, (i64)high);
		/* off the kinks at 0 of abs, max and their like, by more than differences step */
		if (input->kind == SAMPLE_REAL && fabs(t->data[i]) < 1e-3)
			t->data[i] = copysign(1e-3, t->data[i]);
	}
	if (input->kind == SAMPLE_SORTED)
		qsort(t->data, (size_t)t->n, sizeof *t->data, ascending);
	for (i64 i = t->n - 1; i > 0 && input->kind == SAMPLE_REAL; i--) {
		i64 k = random_int(r, 0, i);
		f64 swap = t->data[i];
		t->data[i] = t->data[k];
		t->data[k] = swap;
	}
}
