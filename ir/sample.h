/* ir/sample.h: random uses of ops, for the tests made from the table. OpDef.sample builds one valid
 * use in an empty graph, from inputs made here; what values suit an input is recorded beside it, so
 * that a test can fill it. Everything follows from the seed. */
#ifndef PL_SAMPLE_H
#define PL_SAMPLE_H
#include "ir/op.h"

typedef enum SampleKind {
	SAMPLE_REAL,   /* distinct values spread over [low, high): no ties, no kink hit by chance */
	SAMPLE_WHOLE,  /* whole numbers in [low, high], both included */
	SAMPLE_SORTED, /* the same, in ascending order: offsets */
} SampleKind;

typedef struct SampleInput {
	Val value;
	SampleKind kind;
	f64 low, high;
} SampleInput;

typedef struct Random {
	u64 state;
	Arena *arena;
	bool powers; /* extents are powers of two up to 8, which divide over devices */
	VEC(SampleInput) input; /* in the order made: that of the graph's input nodes */
} Random;

Random random_new(Arena *arena, u64 seed);
u64 random_bits(Random *r);
i64 random_int(Random *r, i64 low, i64 high); /* both included */
f64 random_unit(Random *r);                   /* in [0, 1) */
bool random_chance(Random *r, f64 share);
/* f32 mostly, sometimes f64. */
DType random_float(Random *r);
/* An extent from 1 to 5, 1 often enough. */
Dim random_extent(Random *r, Builder *b);
/* Fills dim[MAX_RANK] with extents; the rank, in [low, high]. */
u32 random_shape(Random *r, Builder *b, u32 low, u32 high, Dim *dim);

/* A new input node whose values are to be drawn so. */
Val sample_input(Random *r, Builder *b, SampleKind kind, DType dtype, u32 rank, const Dim *dim,
		 f64 low, f64 high);
/* A float input in [-2, 2). */
Val sample_real(Random *r, Builder *b, DType dtype, u32 rank, const Dim *dim);
/* Draws the values: t->data[t->n]. */
void sample_fill(Random *r, const SampleInput *input, Tensor *t);

#endif
