/* tools/random_kernels.c: see random_kernels.h. */
#include "tools/random_kernels.h"

typedef struct Maker {
	Random *r;
	Builder *b;
	Ir *ir;
	bool narrow; /* there are bf16 and f16 */
	i64 summed;  /* how many terms the value has that functions come behind */
} Maker;

/* What a program may have, so that the evaluator is done with it in a moment. */
static const i64 MOST_ELEMENTS = 60000, MOST_PRODUCTS = 1500000;

static i64 pick(Maker *m, const i64 *of, u32 n)
{
	return of[random_int(m->r, 0, n - 1)];
}
#define PICK(m, ...) pick((m), (const i64[]){ __VA_ARGS__ }, (u32)COUNT(((const i64[]){ __VA_ARGS__ })))

/* Around the lengths of vectors, and of a few of them. */
static i64 short_extent(Maker *m)
{
	return random_chance(m->r, 0.3) ? random_int(m->r, 1, 40) : PICK(m, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33);
}

static i64 long_extent(Maker *m)
{
	return PICK(m, 63, 64, 65, 100, 127, 128, 129, 257, 511, 1000, 1023, 1024, 1030, 2047, 2049, 4100);
}

static i64 product_of(const i64 *extent, u32 rank)
{
	i64 n = 1;
	for (u32 d = 0; d < rank; d++)
		n *= extent[d];
	return n;
}

/* ---- operands ---- */

static DType any_float(Maker *m)
{
	return m->narrow ? (DType)PICK(m, DT_bf16, DT_f16, DT_f32) : random_float(m->r);
}

static dims numbers(Maker *m, const i64 *x, u32 n)
{
	Dim dim[MAX_RANK] = { 0 };
	for (u32 i = 0; i < n; i++)
		dim[i] = dim_number(m->ir, x[i]);
	return dims_of(m->b, dim, n);
}

static Val input(Maker *m, DType dtype, u32 rank, const i64 *extent)
{
	dims d = numbers(m, extent, rank);
	return dtype_is_float(dtype) ? sample_input(m->r, m->b, SAMPLE_REAL, dtype, rank, d.v, -2, 2)
				     : sample_input(m->r, m->b, SAMPLE_WHOLE, dtype, rank, d.v, 0, 7);
}

static void shuffle(Maker *m, i64 *of, u32 n)
{
	for (u32 d = n; d-- > 1;) {
		i64 k = random_int(m->r, 0, d), was = of[d];
		of[d] = of[k];
		of[k] = was;
	}
}

static Val operand(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth);

/* Input dimensions in another order. */
static Val turned(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	i64 perm[MAX_RANK], from[MAX_RANK];
	for (u32 d = 0; d < rank; d++)
		perm[d] = d;
	shuffle(m, perm, rank);
	for (u32 d = 0; d < rank; d++)
		from[perm[d]] = extent[d];
	return BA(m->b, transpose, (operand(m, dtype, rank, from, depth)), .perm = ints_of(m->b, perm, rank));
}

static Val sliced(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	i64 from[MAX_RANK], start[MAX_RANK], step[MAX_RANK];
	for (u32 d = 0; d < rank; d++) {
		step[d] = random_chance(m->r, 0.4) ? PICK(m, -2, -1, 2, 3) : 1;
		i64 before = random_int(m->r, 0, 3), span = (extent[d] - 1) * (step[d] < 0 ? -step[d] : step[d]);
		start[d] = before + (step[d] < 0 ? span : 0);
		from[d] = before + span + 1 + random_int(m->r, 0, 2);
	}
	if (product_of(from, rank) > 4 * MOST_ELEMENTS)
		return operand(m, dtype, rank, extent, depth);
	return BA(m->b, slice, (operand(m, dtype, rank, from, depth)), .start = numbers(m, start, rank), .size = numbers(m, extent, rank),
		  .step = ints_of(m->b, step, rank));
}

static Val padded(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	i64 from[MAX_RANK], low[MAX_RANK], high[MAX_RANK];
	for (u32 d = 0; d < rank; d++) {
		low[d] = random_int(m->r, 0, MIN(2, extent[d] - 1));
		high[d] = random_int(m->r, 0, MIN(2, extent[d] - 1 - low[d]));
		from[d] = extent[d] - low[d] - high[d];
	}
	return BA(m->b, pad, (operand(m, dtype, rank, from, depth)), .low = numbers(m, low, rank), .high = numbers(m, high, rank),
		  .value = (f64)random_int(m->r, 0, 1));
}

static Val repeated(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	i64 from[MAX_RANK], map[MAX_RANK];
	u32 n = 0;
	for (u32 d = 0; d < rank; d++)
		if (random_chance(m->r, 0.6)) {
			from[n] = extent[d];
			map[n++] = d;
		}
	return BA(m->b, broadcast, (operand(m, dtype, n, from, depth)), .shape = numbers(m, extent, rank), .dims = ints_of(m->b, map, n));
}

static Val reshaped(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	i64 all = product_of(extent, rank), split[2] = { all, 1 };
	for (i64 by = PICK(m, 2, 3, 5, 7); split[0] % by == 0 && random_chance(m->r, 0.8);) {
		split[0] /= by;
		split[1] *= by;
	}
	return BA(m->b, reshape, (operand(m, dtype, 2, split, depth)), .shape = numbers(m, extent, rank));
}

/* Of 2 to 4 pieces. */
static Val joined(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	Val piece[4];
	i64 part[MAX_RANK], axis = random_chance(m->r, 0.7) ? rank - 1 : random_int(m->r, 0, rank - 1), left = extent[axis];
	u32 n = 0;
	for (u32 d = 0; d < rank; d++)
		part[d] = extent[d];
	for (u32 most = (u32)random_int(m->r, 2, 4); left > 0; left -= part[axis]) {
		part[axis] = n + 1 == most ? left : random_chance(m->r, 0.5) ? (left + 1) / 2 : random_int(m->r, 1, left);
		piece[n++] = operand(m, dtype, rank, part, depth);
	}
	return build(m->b, OP_concat, piece, n, 0, &(concat_attr){ .axis = axis });
}

static Val gathered(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	i64 from[MAX_RANK], axis = random_int(m->r, 0, rank - 1);
	for (u32 d = 0; d < rank; d++)
		from[d] = extent[d];
	from[axis] = random_int(m->r, 1, 9);
	Val index = input(m, DT_i32, 1, &extent[axis]);
	return BA(m->b, gather, (operand(m, dtype, rank, from, depth), index), .axis = axis);
}

/* Of magnitudes that stay; dear ones, and one that no value is at a kink of. */
static Val function(Maker *m, Val x)
{
	switch (random_int(m->r, 0, 7)) {
	case 0: return B(m->b, tanh, x);
	case 1: return B(m->b, sigmoid, x);
	case 2: return B(m->b, silu, x);
	case 3: return B(m->b, cos, x);
	case 4: return B(m->b, exp, B(m->b, neg, B(m->b, abs, x)));
	case 5: return B(m->b, mul, x, make_full_like(m->b, x, 0.75));
	case 6: return B(m->b, erf, B(m->b, sin, x));
	default: return B(m->b, max, x, make_full_like(m->b, x, -0.5));
	}
}

/* By the place of an element, which of two it is; or that place itself. */
static Val placed(Maker *m, Val x)
{
	const Type *t = val_type(m->b->g, x);
	u32 d = t->rank - 1;
	DType dtype = random_chance(m->r, 0.8) ? DT_i32 : (DType)PICK(m, DT_u8, DT_i8, DT_i64, DT_u32);
	if (random_chance(m->r, 0.3))
		d = (u32)random_int(m->r, 0, t->rank - 1);
	i64 extent = type_extent(t, d), first = random_int(m->r, 0, extent), c = dtype_is_float(dtype) ? first : MIN(first, 127);
	Val at = BS(m->b, iota, .axis = d, .dtype = dtype, .shape = dims_of_type(m->b, t)), bound = make_full_like(m->b, at, (f64)c);
	Val is = random_chance(m->r, 0.5) ? B(m->b, lt, at, bound) : B(m->b, le, bound, at);
	return B(m->b, where, is, function(m, x), function(m, x));
}

static Val operand(Maker *m, DType dtype, u32 rank, const i64 *extent, u32 depth)
{
	bool is_float = dtype_is_float(dtype);
	if (!depth || !rank || random_chance(m->r, 0.3))
		return input(m, dtype, rank, extent);
	depth--;
	switch (random_int(m->r, 0, 9)) {
	case 0: return turned(m, dtype, rank, extent, depth);
	case 1: return sliced(m, dtype, rank, extent, depth);
	case 2: return is_float ? padded(m, dtype, rank, extent, depth) : sliced(m, dtype, rank, extent, depth);
	case 3: return repeated(m, dtype, rank, extent, depth);
	case 4: return reshaped(m, dtype, rank, extent, depth);
	case 5: return joined(m, dtype, rank, extent, depth);
	case 6: return gathered(m, dtype, rank, extent, depth);
	case 7: {
		DType from = random_chance(m->r, 0.5) ? any_float(m) : (DType)PICK(m, DT_i8, DT_i32, DT_u8);
		return make_cast(m->b, operand(m, from, rank, extent, depth), dtype);
	}
	case 8: return is_float ? placed(m, operand(m, dtype, rank, extent, depth)) : operand(m, dtype, rank, extent, depth);
	default: {
		Val x = operand(m, dtype, rank, extent, depth);
		if (!is_float)
			return x;
		return random_chance(m->r, 0.5) ? function(m, x) : B(m->b, mul, x, repeated(m, dtype, rank, extent, depth));
	}
	}
}

/* ---- what is behind ---- */

static Val behind(Maker *m, Val x)
{
	const Type *t = val_type(m->b->g, x);
	i64 extent[MAX_RANK];
	u32 rank = t->rank;
	for (u32 d = 0; d < rank; d++)
		extent[d] = type_extent(t, d);
	if (!rank || !dtype_is_float(t->dtype))
		return x;
	switch (random_int(m->r, 0, 8)) {
	case 0: return function(m, x);
	case 1: return B(m->b, add, x, operand(m, t->dtype, rank, extent, 2));
	case 2: return make_cast(m->b, x, any_float(m));
	case 3: return placed(m, x);
	case 4: {
		i64 perm[MAX_RANK];
		for (u32 d = 0; d < rank; d++)
			perm[d] = d;
		shuffle(m, perm, rank);
		return BA(m->b, transpose, (x), .perm = ints_of(m->b, perm, rank));
	}
	case 5: { /* sums of sums become one, which is rounded once: wide ones are as good */
		Val wide = dtype_is_narrow_float(t->dtype) ? make_cast(m->b, x, DT_f32) : x;
		return BA(m->b, sum, (wide), .axes = INTS(m->b, random_int(m->r, 0, rank - 1)));
	}
	case 6: {
		i64 axis = random_int(m->r, 0, rank - 1);
		return build(m->b, OP_concat, (Val[]){ x, function(m, x) }, 2, 0, &(concat_attr){ .axis = axis });
	}
	case 7: return BA(m->b, softmax, (x), .axis = rank - 1);
	default: {
		i64 all = product_of(extent, rank);
		return BA(m->b, reshape, (x), .shape = numbers(m, &all, 1));
	}
	}
}

/* What functions make of the error of a long sum may be as large as what they give: a mean is behind what is a result by itself. */
static Val averaged(Maker *m, Val x)
{
	if (m->summed < 64 || !dtype_is_float(val_type(m->b->g, x)->dtype))
		return x;
	graph_result(m->b->g, intern_z(&m->ir->names, "sum"), NONE, x);
	return B(m->b, mul, x, make_full_like(m->b, x, 1.0 / 64 / (f64)(m->summed / 64)));
}

static void results(Maker *m, Val x)
{
	Graph *g = m->b->g;
	u32 n = 0;
	x = averaged(m, x);
	for (u32 steps = (u32)random_int(m->r, 0, 4); steps--;) {
		if (random_chance(m->r, 0.15))
			graph_result(g, intern_printf(&m->ir->names, "r%u", n++), NONE, x);
		Val y = behind(m, x);
		if (type_elements(val_type(g, y)) <= 2 * MOST_ELEMENTS)
			x = y;
	}
	graph_result(g, intern_printf(&m->ir->names, "r%u", n), NONE, x);
}

/* ---- kinds ---- */

/* Labels in any order, their extents beside. */
static Val of_labels(Maker *m, DType dtype, const char *labels, const i64 *of, char *spec, bool plain)
{
	i64 order[MAX_RANK], extent[MAX_RANK];
	u32 n = 0;
	for (; labels[n]; n++)
		order[n] = n;
	if (!plain)
		shuffle(m, order, n);
	for (u32 i = 0; i < n; i++) {
		spec[i] = labels[order[i]];
		extent[i] = of[(u32)(spec[i] - 'a')];
	}
	spec[n] = 0;
	return operand(m, dtype, n, extent, 2);
}

static Val product(Maker *m)
{
	i64 of[26] = { 0 };
	enum { BATCH = 'b' - 'a', I = 'i' - 'a', J = 'j' - 'a', K = 'k' - 'a', L = 'l' - 'a' };
	bool deep = random_chance(m->r, 0.6), batch = random_chance(m->r, 0.3), two = random_chance(m->r, 0.3);
	do {
		of[BATCH] = batch ? random_int(m->r, 1, 4) : 1;
		of[I] = random_chance(m->r, 0.7) ? short_extent(m) : long_extent(m);
		of[J] = random_chance(m->r, 0.7) ? short_extent(m) : long_extent(m);
		of[L] = two ? PICK(m, 1, 2, 3, 5, 8, 9, 14, 16, 25, 28) : 1;
		of[K] = deep ? PICK(m, 1023, 1024, 1025, 1531, 2048, 2053, 3000, 4099, 8192, 8209, 20011, 33000) / of[L] : random_int(m->r, 1, 1000);
	} while (of[BATCH] * of[I] * of[J] * of[K] * of[L] > MOST_PRODUCTS || of[BATCH] * (of[I] + of[J]) * of[K] * of[L] > 4 * MOST_ELEMENTS);
	m->summed = of[K] * of[L];
	char left[MAX_RANK + 1], right[MAX_RANK + 1], out[8], a[8], b[8];
	snprintf(a, sizeof a, "%sik%s", batch ? "b" : "", two ? "l" : "");
	snprintf(b, sizeof b, "%skj%s", batch ? "b" : "", two ? "l" : "");
	snprintf(out, sizeof out, "%sij", batch ? "b" : "");
	DType dtype = any_float(m);
	Val x = of_labels(m, dtype, a, of, left, false), y = of_labels(m, dtype, b, of, right, false);
	if (random_chance(m->r, 0.3)) {
		out[batch] = 'j';
		out[batch + 1] = 'i';
	}
	return BA(m->b, dot, (x, y), .spec = intern_printf(&m->ir->names, "%s,%s->%s", left, right, out));
}

/* A convolution, or the gradient of its weights. */
static Val convolution(Maker *m)
{
	i64 images, in, out, wide, high, size, step;
	do {
		images = random_int(m->r, 1, 5), in = short_extent(m) % 9 + 1, out = short_extent(m);
		size = random_int(m->r, 1, 4), step = random_int(m->r, 1, 2);
		wide = size + random_int(m->r, 0, 40), high = size + random_int(m->r, 0, 20);
	} while (images * out * in * wide * high * size * size > MOST_PRODUCTS || images * in * wide * high > MOST_ELEMENTS);
	DType dtype = any_float(m);
	m->summed = MAX(in * size * size, images * wide * high);
	Val x = operand(m, dtype, 4, (const i64[]){ images, in, high, wide }, 1);
	if (random_chance(m->r, 0.4)) {
		Val w = operand(m, dtype, 4, (const i64[]){ out, in, size, size }, 1);
		return BA(m->b, conv2d, (x, w), .stride = INTS(m->b, step), .padding = INTS(m->b, random_int(m->r, 0, size - 1)), .groups = 1);
	}
	x = BA(m->b, unfold, (x), .axis = 2, .size = size, .step = step, .dilation = 1);
	x = BA(m->b, unfold, (x), .axis = 4, .size = size, .step = step, .dilation = 1);
	const Type *t = val_type(m->b->g, x);
	Val dy = operand(m, dtype, 4, (const i64[]){ images, out, type_extent(t, 2), type_extent(t, 4) }, 1);
	return BA(m->b, dot, (x, dy), .spec = intern_z(&m->ir->names, "bchiwj,bohw->ocij"));
}

static void any_shape(Maker *m, u32 rank, i64 *extent)
{
	do
		for (u32 d = 0; d < rank; d++)
			extent[d] = random_chance(m->r, 0.7) ? short_extent(m) : long_extent(m);
	while (product_of(extent, rank) > MOST_ELEMENTS);
}

static Val pieces(Maker *m)
{
	i64 extent[3];
	u32 rank = (u32)random_int(m->r, 1, 3);
	any_shape(m, rank, extent);
	return random_chance(m->r, 0.8) ? joined(m, any_float(m), rank, extent, 2) : placed(m, operand(m, DT_f32, rank, extent, 2));
}

static Val rotary(Maker *m)
{
	i64 extent[3];
	any_shape(m, 3, extent);
	extent[2] = (extent[2] + 1) / 2 * 2;
	Val x = operand(m, any_float(m), 3, extent, 1), at = input(m, DT_i32, 1, &extent[1]);
	return BA(m->b, rope, (x, at), .base = 10000, .interleaved = random_chance(m->r, 0.4));
}

/* Over any of the dimensions. */
static Val reduction(Maker *m)
{
	static const DType whole[] = { DT_i32, DT_i8, DT_u8, DT_i64 };
	i64 extent[4], axis[4];
	u32 rank = (u32)random_int(m->r, 1, 4), n = 0;
	any_shape(m, rank, extent);
	for (u32 d = 0; d < rank; d++)
		if (random_chance(m->r, 0.5))
			axis[n++] = d;
	if (!n)
		axis[n++] = random_int(m->r, 0, rank - 1);
	for (u32 i = 0; i < n; i++)
		m->summed *= extent[axis[i]];
	Val x = operand(m, random_chance(m->r, 0.7) ? any_float(m) : whole[random_int(m->r, 0, COUNT(whole) - 1)], rank, extent, 2);
	ints axes = ints_of(m->b, axis, n);
	switch (random_int(m->r, 0, 4)) {
	case 0: return BA(m->b, reduce_max, (x), .axes = axes);
	case 1: return BA(m->b, reduce_min, (x), .axes = axes);
	case 2: return dtype_is_float(val_type(m->b->g, x)->dtype) ? BA(m->b, sum, (B(m->b, mul, x, x)), .axes = axes) : BA(m->b, sum, (x), .axes = axes);
	default: return BA(m->b, sum, (x), .axes = axes);
	}
}

static Val norm(Maker *m)
{
	i64 extent[3];
	u32 rank = (u32)random_int(m->r, 1, 3);
	any_shape(m, rank, extent);
	i64 n = extent[rank - 1];
	Val x = operand(m, any_float(m), rank, extent, 2), gain = input(m, DT_f32, 1, &n), bias = input(m, DT_f32, 1, &n);
	switch (random_int(m->r, 0, 4)) {
	case 0: return BA(m->b, softmax, (x), .axis = random_int(m->r, 0, rank - 1));
	case 1: return BA(m->b, logsumexp, (x), .axis = random_int(m->r, 0, rank - 1));
	case 2: return BA(m->b, rms_norm, (make_cast(m->b, x, DT_f32), gain), .eps = 1e-5);
	case 3: return BA(m->b, log_softmax, (x), .axis = rank - 1);
	default: return BA(m->b, layer_norm, (make_cast(m->b, x, DT_f32), gain, bias), .eps = 1e-2);
	}
}

/* Enlarged, or what the gradient of that is; or pooled. */
static Val image(Maker *m)
{
	i64 e[4], by;
	do {
		by = random_int(m->r, 2, 3);
		e[0] = random_int(m->r, 1, 4), e[1] = random_int(m->r, 1, 9), e[2] = short_extent(m), e[3] = short_extent(m);
	} while (product_of(e, 4) * by * by > MOST_ELEMENTS);
	DType dtype = any_float(m);
	switch (random_int(m->r, 0, 2)) {
	case 0: return BA(m->b, upsample2d, (operand(m, dtype, 4, e, 2)), .factor = by);
	case 1: {
		const i64 large[] = { e[0], e[1], e[2] * by, e[3] * by }, split[] = { e[0], e[1], e[2], by, e[3], by };
		Val x = BA(m->b, reshape, (operand(m, dtype, 4, large, 2)), .shape = numbers(m, split, 6));
		return BA(m->b, sum, (x), .axes = INTS(m->b, 3, 5));
	}
	default: {
		const i64 large[] = { e[0], e[1], e[2] + 2, e[3] + 2 };
		return BA(m->b, avg_pool2d, (operand(m, dtype, 4, large, 2)), .size = INTS(m->b, by), .stride = INTS(m->b, random_int(m->r, 1, 3)),
			  .padding = INTS(m->b, random_int(m->r, 0, 1)));
	}
	}
}

static Val draw(Maker *m)
{
	i64 extent[3];
	u32 rank = (u32)random_int(m->r, 1, 3);
	any_shape(m, rank, extent);
	Val seed = sample_input(m->r, m->b, SAMPLE_WHOLE, DT_i64, 0, NULL, 0, 1000), step = sample_input(m->r, m->b, SAMPLE_WHOLE, DT_i64, 0, NULL, 0, 1000);
	const char *key = intern_z(&m->ir->names, "noise");
	switch (random_int(m->r, 0, 2)) {
	case 0: return BA(m->b, random, (seed, step), .key = key, .shape = numbers(m, extent, rank));
	case 1: return BA(m->b, random_normal, (seed, step), .key = key, .shape = numbers(m, extent, rank));
	default: return BA(m->b, dropout, (operand(m, DT_f32, rank, extent, 2), seed, step), .key = key, .rate = 0.25);
	}
}

/* What takes long of a few numbers, wanted at many places. */
static Val dear(Maker *m)
{
	i64 extent[3];
	any_shape(m, 3, extent);
	Val x = B(m->b, cos, input(m, DT_f32, 1, &extent[2])), y = B(m->b, exp, input(m, DT_f32, 2, &extent[1]));
	x = BA(m->b, broadcast, (x), .shape = numbers(m, extent, 3), .dims = INTS(m->b, 2));
	y = BA(m->b, broadcast, (y), .shape = numbers(m, extent, 3), .dims = INTS(m->b, 1, 2));
	return B(m->b, add, B(m->b, mul, x, operand(m, DT_f32, 3, extent, 1)), y);
}

Program *random_kernel_program(Arena *arena, Ir *ir, Random *r, bool narrow)
{
	static Val (*const kind[])(Maker *m) = { product, product, convolution, pieces, pieces, rotary, reduction, reduction, norm, image, draw, dear };
	Program *p = program_new(arena, ir, "kernels");
	Builder b = builder_new(program_entry(p, "entry"));
	b.no_fold = true;
	Maker m = { r, &b, ir, narrow, 1 };
	results(&m, kind[random_int(r, 0, COUNT(kind) - 1)](&m));
	builder_done(&b);
	return p;
}
