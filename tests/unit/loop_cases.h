/* tests/unit/loop_cases.h: MAP, ROW, COLUMN, SCATTER, SCAN and SORT kernels that every target must run like kernel_eval: any
 * strides, gathers, predicates, several outputs and sweeps, odd extents, every dtype. */
#ifndef PL_TEST_LOOP_CASES_H
#define PL_TEST_LOOP_CASES_H
#include "kernel_run.h"

/* Row-major strides of a tensor over the dimensions, in a random order of dimensions, some of them left
 * out (broadcast) where `may_repeat`; the offset and the elements that it takes. */
static inline Access random_access(Random *r, const Kernel *k, bool may_repeat, i64 *elements)
{
	Access a = { .offset = random_chance(r, 0.3) ? random_int(r, 1, 7) : 0 };
	u32 order[KERNEL_DIMS];
	for (u32 d = 0; d < k->ndim; d++)
		order[d] = d;
	if (random_chance(r, 0.4))
		for (u32 d = k->ndim; d-- > 1;) {
			u32 e = (u32)random_int(r, 0, d), t = order[d];
			order[d] = order[e];
			order[e] = t;
		}
	i64 stride = random_chance(r, 0.15) ? random_int(r, 2, 3) : 1;
	i64 last = a.offset;
	for (u32 i = k->ndim; i-- > 0;) {
		u32 d = order[i];
		if (may_repeat && random_chance(r, 0.25))
			continue;
		a.stride[d] = stride;
		last += stride * (k->dim[d].extent - 1);
		stride *= k->dim[d].extent + (random_chance(r, 0.2) ? 3 : 0);
	}
	*elements = last + 1 + random_int(r, 0, 3);
	return a;
}

static inline KVal random_load(Random *r, Kernel *k, DType d, KVal condition)
{
	i64 n;
	Access a = random_access(r, k, true, &n);
	a.slot = kb_slot(k, d, n);
	return kb_load(k, a, condition);
}

/* A gather: row `index` of a table, along one more stride. */
static inline KVal random_gather(Random *r, Kernel *k, DType d)
{
	static const DType whole[] = { DT_i32, DT_i64, DT_u8 };
	DType t = whole[random_int(r, 0, 2)];
	KVal index = random_load(r, k, t, NO); /* 0..9 */
	i64 n;
	Access a = random_access(r, k, true, &n);
	a.ndynamic = 1;
	a.dynamic[0].index = kb_op(k, S_min, kb_op(k, S_max, index, kb_const(k, t, 0)), kb_const(k, t, 6));
	a.dynamic[0].stride = random_chance(r, 0.3) ? 1 : n;
	a.slot = kb_slot(k, d, n + 6 * a.dynamic[0].stride);
	return kb_load(k, a, NO);
}

/* A function of x and y that stays within [-1, 1] where they do, and whose result in the dtype is the
 * rounded one: exact operations, so that the same bits are wanted. */
static inline KVal random_step(Random *r, Kernel *k, DType d, KVal x, KVal y)
{
	bool is_float = dtype_is_float(d);
	switch (random_int(r, 0, 9)) {
	case 0: return kb_op(k, S_max, x, y);
	case 1: return kb_op(k, S_min, x, y);
	case 2: return is_float ? kb_op(k, S_neg, x, NO) : kb_op(k, S_floordiv, x, y);
	case 3: return kb_op(k, S_abs, x, NO);
	case 4: return kb_op3(k, S_where, kb_op(k, S_lt, x, y), y, x);
	case 5: return kb_op3(k, S_where, kb_op(k, S_eq, x, y), x, y);
	case 6: return is_float ? kb_op(k, S_sign, x, NO) : kb_op(k, S_mod, x, y);
	case 7: return is_float ? kb_op(k, S_floor, x, NO) : kb_op(k, S_add, x, y);
	case 8: return is_float ? kb_op(k, S_round, y, NO) : kb_op(k, S_sub, x, y);
	default: return is_float ? x : kb_op(k, S_mul, x, y);
	}
}

static inline void random_dims(Random *r, Kernel *k, u32 n, DimRole role)
{
	static const i64 extents[] = { 1, 2, 3, 5, 8, 13, 16, 17, 31, 33, 64, 100 };
	for (u32 i = 0; i < n; i++)
		kb_dim(k, role, extents[random_int(r, 0, n > 2 ? 7 : 11)]);
}

static const DType any_dtype[] = { DT_f32, DT_f32,	 DT_bf16,   DT_f16, DT_f64, DT_i32, DT_i64,
				   DT_u8,  DT_i8,  DT_f8e4m3, DT_f8e5m2, DT_b1 };

/* Bodies of exact operations over random loads: the same bits. */
static inline void random_maps_cases(Suite *s)
{
	Arena a = ARENA("random");
	Random r = random_new(&a, 11);
	for (u32 i = 0; i < 40; i++) {
		Kernel *k = suite_kernel(s, KERNEL_MAP, "random map");
		random_dims(&r, k, (u32)random_int(&r, 1, 4), DIM_PARALLEL);
		DType d = any_dtype[random_int(&r, 0, COUNT(any_dtype) - 1)];
		KVal v[12];
		u32 n = 0;
		v[n++] = random_load(&r, k, d, NO);
		v[n++] = random_chance(&r, 0.3) ? random_gather(&r, k, d) : random_load(&r, k, d, NO);
		if (random_chance(&r, 0.4)) {
			KVal condition = kb_op(k, S_lt, v[0], v[1]);
			v[n++] = random_load(&r, k, d, condition);
		}
		for (u32 j = 0; j < 6; j++) {
			KVal x = v[random_int(&r, 0, n - 1)], y = v[random_int(&r, 0, n - 1)];
			v[n] = d == DT_b1 ? kb_op(k, random_chance(&r, 0.5) ? S_and : S_or, x, y)
					  : random_step(&r, k, d, x, y);
			n++;
		}
		u32 stores = (u32)random_int(&r, 1, 2);
		for (u32 j = 0; j < stores; j++) {
			i64 elements;
			Access to = random_access(&r, k, false, &elements);
			KVal x = v[n - 1 - j];
			if (random_chance(&r, 0.4) && d != DT_b1 && !(d == DT_i64))
				x = kb_cast(k, any_dtype[random_chance(&r, 0.3) ? random_int(&r, 9, 10) : random_int(&r, 0, 6)], x);
			to.slot = kb_slot(k, (DType)k->inst.v[x.i].dtype, elements);
			KVal condition = random_chance(&r, 0.3) ? kb_op(k, S_le, v[0], v[1]) : NO;
			kb_store(k, to, x, condition);
		}
		suite_add(s, k, 0, 0);
	}
	/* rows that are cut into several tasks */
	Kernel *k = suite_kernel(s, KERNEL_MAP, "long rows");
	kb_dim(k, DIM_PARALLEL, 3);
	kb_dim(k, DIM_PARALLEL, 20011);
	KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, 60033), 0, 20011, 1), NO);
	kb_store(k, ACCESS(kb_slot(k, DT_f32, 60033), 0, 20011, 1), kb_op(k, S_mul, x, x), NO);
	suite_add(s, k, 0, 0);
	arena_free(&a);
}

/* Every scalar function, in f32 and f64, along lanes and once per row. */
static inline void functions_cases(Suite *s)
{
	for (u32 f = 0; f < SCALARS; f++)
		for (u32 wide = 0; wide < 2; wide++) {
			Kernel *k = suite_kernel(s, KERNEL_MAP, kernel_scalar[f].name);
			DType d = wide ? DT_f64 : DT_f32;
			kb_dim(k, DIM_PARALLEL, 5);
			kb_dim(k, DIM_PARALLEL, 37);
			if (f == S_and || f == S_or || f == S_not)
				d = DT_b1;
			KVal x[3], y[3];
			u32 nin = kernel_scalar[f].nin, pick = f == S_where;
			for (u32 i = 0; i < 3; i++) {
				u32 slot = kb_slot(k, pick && i == 0 ? DT_b1 : d, 5 * 37);
				x[i] = i < nin ? kb_load(k, ACCESS(slot, 0, 37, 1), NO) : NO;
				y[i] = i < nin ? kb_load(k, ACCESS(slot, 0, 1), NO) : NO;
			}
			KVal out = kb_op3(k, (Scalar)f, x[0], x[1], x[2]), row = kb_op3(k, (Scalar)f, y[0], y[1], y[2]);
			DType to = (DType)k->inst.v[out.i].dtype;
			kb_store(k, ACCESS(kb_slot(k, to, 5 * 37), 0, 37, 1), out, NO);
			kb_store(k, ACCESS(kb_slot(k, to, 5), 0, 1), row, NO);
			/* `and` and `or` of b1 alone; 4 units covers vector.h's worst */
			Case *c = suite_add(s, k, f == S_mod ? 16 : 4, 0);
			bool positive = f == S_log || f == S_sqrt || f == S_rsqrt || f == S_recip || f == S_pow ||
					f == S_div || f == S_floordiv || f == S_mod;
			for (u32 i = 0; i < 3; i++)
				if (positive) {
					c->low[i] = 0.25;
					c->high[i] = 3;
				}
			c->scale = f == S_sin || f == S_cos || f == S_log || f == S_fma || f == S_add ||
						   f == S_sub || f == S_mod ? 1 : 0;
		}
}

/* Memory read across what is written, in whole tiles and not; odd rows with values of their own; values for all points that take
 * long. The same bits. */
static inline void layouts_cases(Suite *s)
{
	for (u32 i = 0; i < 8; i++) {
		i64 A = 1 + i % 3, P = i % 2 ? 64 : 37, Q = i / 2 % 2 ? 96 : 51;
		DType d = i % 3 == 0 ? DT_bf16 : i % 3 == 1 ? DT_f32 : DT_u8;
		Kernel *k = suite_kernel(s, KERNEL_MAP, "transpose");
		kb_dim(k, DIM_PARALLEL, A);
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_PARALLEL, Q);
		KVal x = kb_load(k, ACCESS(kb_slot(k, d, A * P * Q), 0, P * Q, 1, P), NO);
		KVal y = kb_load(k, ACCESS(kb_slot(k, d, A * P * Q), 0, P * Q, Q, 1), NO);
		KVal z = kb_load(k, ACCESS(kb_slot(k, d, Q), 0, 0, 0, 1), NO);
		KVal when = i == 5 ? kb_op(k, S_lt, z, y) : NO;
		KVal w = kb_load(k, ACCESS(kb_slot(k, d, A * P * Q + 3), 3, 1, A, P * A), when);
		kb_store(k, ACCESS(kb_slot(k, d, A * P * Q), 0, P * Q, Q, 1), kb_op(k, S_max, kb_op(k, S_min, x, y), w), NO);
		suite_add(s, k, 0, 0);
	}
	for (u32 i = 0; i < 4; i++) {
		i64 P = 5 + i, n = i % 2 ? 129 : 301;
		Kernel *k = suite_kernel(s, KERNEL_MAP, "odd rows");
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_PARALLEL, n);
		KVal x = kb_load(k, ACCESS(kb_slot(k, i < 2 ? DT_f32 : DT_bf16, P * n), 0, n, 1), NO);
		KVal row = kb_load(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1, 0), NO);
		KVal at = kb_load(k, ACCESS(kb_slot(k, DT_i32, P), 0, 1, 0), NO);
		KVal hit = kb_op(k, S_eq, kb_index(k, DT_i32, ACCESS(0, 0, 0, 1)), at);
		KVal y = kb_op3(k, S_where, hit, row, kb_op(k, S_max, kb_cast(k, DT_f32, x), row));
		kb_store(k, ACCESS(kb_slot(k, DT_bf16, P * n), 0, n, 1), kb_cast(k, DT_bf16, y), NO);
		suite_add(s, k, 0, 0);
	}
	for (u32 i = 0; i < 3; i++) { /* odd rows with gaps behind them */
		i64 P = 5, n = 261 - i, pitch = 264;
		DType d = i == 1 ? DT_bf16 : DT_f32;
		Kernel *k = suite_kernel(s, KERNEL_MAP, "rows with gaps");
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_PARALLEL, n);
		KVal x = kb_load(k, ACCESS(kb_slot(k, d, P * pitch), 0, pitch, 1), NO);
		KVal y = kb_load(k, ACCESS(kb_slot(k, d, P * n), 0, n, 1), NO);
		kb_store(k, ACCESS(kb_slot(k, d, P * pitch), 0, pitch, 1), kb_op(k, S_max, x, y), NO);
		suite_add(s, k, 0, 0);
	}
	for (u32 i = 0; i < 6; i++) { /* element by element: the last dimension is which of two, or three, and the row is the one before it */
		i64 P = 23, Q = 5 + 7 * i, n = 2 + i % 2;
		DType d = i % 3 == 2 ? DT_bf16 : DT_f32;
		Kernel *k = suite_kernel(s, KERNEL_MAP, "put together");
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_PARALLEL, Q);
		kb_dim(k, DIM_PARALLEL, n);
		KVal which = kb_index(k, DT_i32, ACCESS(0, 0, 0, 0, 1)), one = kb_const(k, DT_i32, 1);
		KVal first = kb_op(k, S_lt, which, one), other = kb_op(k, S_le, one, which);
		KVal x = kb_load(k, ACCESS(kb_slot(k, d, P * Q), 0, Q, 1, 0), first);
		KVal y = kb_load(k, ACCESS(kb_slot(k, d, P * Q), 0, Q, 1, 0), other);
		KVal z = kb_load(k, ACCESS(kb_slot(k, d, P * n), 0, n, 0, 1), NO);
		kb_store(k, ACCESS(kb_slot(k, d, P * Q * n), 0, Q * n, n, 1), kb_op(k, S_max, kb_op3(k, S_where, first, x, y), z), NO);
		suite_add(s, k, 0, 0);
	}
	for (u32 i = 0; i < 2; i++) {
		Kernel *k = suite_kernel(s, KERNEL_MAP, "schedule");
		kb_dim(k, DIM_PARALLEL, i ? 5 : 5000);
		KVal step = kb_load(k, ACCESS(kb_slot(k, DT_i64, 1), 0, 0), NO);
		KVal rate = kb_op(k, S_floor, kb_op(k, S_cos, kb_op(k, S_mul, kb_cast(k, DT_f64, step), kb_const(k, DT_f64, 0.1)), NO), NO);
		KVal other = kb_op(k, S_max, rate, kb_load(k, ACCESS(kb_slot(k, DT_f64, 1), 0, 0), NO));
		KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, 5000), 0, 1), NO);
		KVal y = kb_op(k, S_max, kb_op(k, S_min, x, kb_cast(k, DT_f32, rate)), kb_cast(k, DT_f32, other));
		kb_store(k, ACCESS(kb_slot(k, DT_f32, 5000), 0, 1), y, NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f64, 1), 0, 0), other, NO);
		suite_add(s, k, 0, 0);
	}
}

/* ---- rows ---- */

typedef struct Row {
	Kernel *k;
	i64 P, n;
	KVal x;
} Row;

static inline Row row_kernel(Suite *s, const char *name, DType d, i64 P, i64 n)
{
	Row r = { suite_kernel(s, KERNEL_ROW, name), P, n, NO };
	kb_dim(r.k, DIM_PARALLEL, P);
	kb_dim(r.k, DIM_ROW, n);
	r.x = kb_cast(r.k, d == DT_f64 ? DT_f64 : DT_f32,
		      kb_load(r.k, ACCESS(kb_slot(r.k, d, P * n), 0, n, 1), NO));
	return r;
}

static inline void store_row(Row *r, DType d, KVal x)
{
	kb_store(r->k, ACCESS(kb_slot(r->k, d, r->P * r->n), 0, r->n, 1), kb_cast(r->k, d, x), NO);
}

static inline void add_softmax(Suite *s, DType d, i64 P, i64 n)
{
	Row r = row_kernel(s, "softmax", d, P, n);
	Kernel *k = r.k;
	KVal most = kb_reduce(k, REDUCE_max, r.x);
	KVal e = kb_op(k, S_exp, kb_op(k, S_sub, r.x, most), NO);
	KVal sum = kb_reduce(k, REDUCE_sum, e);
	store_row(&r, d, kb_op(k, S_mul, e, kb_op(k, S_recip, sum, NO)));
	kb_store(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1),
		 kb_cast(k, DT_f32, kb_op(k, S_add, most, kb_op(k, S_log, sum, NO))), NO);
	suite_add(s, k, d == DT_f32 || d == DT_f64 ? 10 + sqrt((f64)n) : 1.5, d == DT_f64 ? 1 : 1e-3);
	s->cases.v[s->cases.n - 1].scale = 1;
}

static inline void add_layer_norm(Suite *s, DType d, i64 P, i64 n)
{
	Row r = row_kernel(s, "layer norm", d, P, n);
	Kernel *k = r.k;
	DType w = (DType)k->inst.v[r.x.i].dtype;
	KVal share = kb_const(k, w, 1.0 / (f64)n);
	KVal mean = kb_op(k, S_mul, kb_reduce(k, REDUCE_sum, r.x), share);
	KVal c = kb_op(k, S_sub, r.x, mean);
	KVal var = kb_op(k, S_mul, kb_reduce(k, REDUCE_sum, kb_op(k, S_mul, c, c)), share);
	KVal rstd = kb_op(k, S_rsqrt, kb_op(k, S_add, var, kb_const(k, w, 0.01)), NO);
	KVal g = kb_load(k, ACCESS(kb_slot(k, w, n), 0, 0, 1), NO);
	KVal b = kb_load(k, ACCESS(kb_slot(k, w, n), 0, 0, 1), NO);
	store_row(&r, d, kb_op(k, S_add, kb_op(k, S_mul, kb_op(k, S_mul, c, rstd), g), b));
	kb_store(k, ACCESS(kb_slot(k, w, P), 0, 1), mean, NO);
	kb_store(k, ACCESS(kb_slot(k, w, P), 0, 1), rstd, NO);
	suite_add(s, k, d == DT_f32 || d == DT_f64 ? 40 + (f64)n / 8 : 2, 1);
}

/* Three sweeps, costly values in two of them, a store in the first, a random draw, a gather of the row's
 * target: the shape of a fused cross-entropy. */
static inline void add_cross_entropy(Suite *s, i64 P, i64 n)
{
	Row r = row_kernel(s, "cross entropy", DT_f32, P, n);
	Kernel *k = r.k;
	KVal target = kb_load(k, ACCESS(kb_slot(k, DT_i32, P), 0, 1), NO);
	KVal noise = kb_op(k, S_sub, kb_op(k, S_tanh, r.x, NO), kb_const(k, DT_f32, 0.5));
	store_row(&r, DT_f32, noise);
	KVal most = kb_reduce(k, REDUCE_max, noise);
	KVal e = kb_op(k, S_exp, kb_op(k, S_sub, noise, most), NO);
	KVal sum = kb_reduce(k, REDUCE_sum, e), low = kb_reduce(k, REDUCE_min, r.x);
	KVal at = kb_index(k, DT_i32, ACCESS(0, 0, 0, 1));
	KVal hit = kb_op(k, S_eq, at, target);
	KVal one = kb_op3(k, S_where, hit, kb_const(k, DT_f32, 1), kb_const(k, DT_f32, 0));
	store_row(&r, DT_f32, kb_op(k, S_sub, kb_op(k, S_div, e, sum), one));
	Access pick = ACCESS(0, 0, n);
	pick.ndynamic = 1;
	pick.dynamic[0].index = target;
	pick.dynamic[0].stride = 1;
	KVal logit = kb_load(k, pick, hit);
	KVal picked = kb_reduce(k, REDUCE_sum, logit);
	kb_store(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1), kb_op(k, S_add, kb_op(k, S_log, sum, NO), picked), NO);
	kb_store(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1), low, NO);
	Case *c = suite_add(s, k, 20 + sqrt((f64)n), 1);
	c->high[1] = (f64)(n - 1);
}

/* The log of a sum of exponentials, and e^(x - that) in the same kernel: with rows of -infinity got over or without such rows, and once wanted
 * in two sweeps. Logits to 90, and to 9000: their rounding is that of the exponent, 5e-4. */
static inline void add_softmax_again(Suite *s, i64 P, i64 n, bool guarded, bool twice)
{
	Row r = row_kernel(s, "softmax again", DT_f32, P, n);
	Kernel *k = r.k;
	KVal scale = kb_load(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1), NO), least = kb_const(k, DT_f32, -INFINITY);
	KVal x = kb_op(k, S_mul, r.x, scale), zero = kb_const(k, DT_f32, 0);
	if (guarded)
		x = kb_op3(k, S_where, kb_op(k, S_lt, scale, kb_const(k, DT_f32, 20)), least, x);
	KVal most = kb_reduce(k, REDUCE_max, x), m = most;
	if (guarded)
		m = kb_op3(k, S_where, kb_op(k, S_eq, most, least), zero, most);
	KVal sum = kb_reduce(k, REDUCE_sum, kb_op(k, S_exp, kb_op(k, S_sub, x, m), NO));
	KVal lse = kb_op(k, S_add, m, kb_op(k, S_log, sum, NO)), shift = lse;
	if (guarded)
		shift = kb_op3(k, S_where, kb_op(k, S_eq, lse, least), zero, lse);
	KVal p = kb_op(k, S_exp, kb_op(k, S_sub, x, shift), NO), share = p;
	if (twice)
		share = kb_op(k, S_sub, p, kb_reduce(k, REDUCE_max, p));
	store_row(&r, DT_f32, share);
	kb_store(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1), lse, NO);
	Case *c = suite_add(s, k, guarded ? 30 : 2000, guarded ? 20 : 10);
	u32 of = k->inst.v[scale.i].access->slot;
	c->high[of] = guarded ? 90 : 9000;
}

static inline void rows_cases(Suite *s)
{
	static const i64 extents[] = { 1, 2, 7, 16, 31, 64, 65, 127, 300, 768 };
	for (u32 i = 0; i < COUNT(extents); i++) {
		i64 n = extents[i], P = 1 + 2000 / n % 50;
		add_softmax(s, i % 3 == 1 ? DT_bf16 : i % 3 == 2 ? DT_f16 : DT_f32, P, n);
		add_layer_norm(s, i % 2 ? DT_f32 : DT_bf16, P, n);
		add_cross_entropy(s, P, n);
		add_softmax_again(s, P, n, i % 2, i % 3 == 0);
	}
	add_softmax(s, DT_f32, 90, 400); /* several tasks */
	add_softmax(s, DT_f64, 9, 77);
	add_layer_norm(s, DT_f64, 9, 77);
}

/* Rows longer than what a target holds at once: of many values in several sweeps; few and very long. */
static inline void long_rows_cases(Suite *s)
{
	for (u32 i = 0; i < 2; i++) {
		i64 P = 3, n = i ? 2501 : 2600;
		Kernel *k = suite_kernel(s, KERNEL_ROW, "many values");
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_ROW, n);
		KVal total = NO, all = NO;
		for (u32 j = 0; j < 13; j++) {
			KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f64, P * n), 0, n, 1), NO);
			all = all.i ? kb_op(k, S_add, all, kb_op(k, S_abs, x, NO)) : kb_op(k, S_abs, x, NO);
			total = all;
		}
		KVal mean = kb_op(k, S_mul, kb_reduce(k, REDUCE_sum, total), kb_const(k, DT_f64, 1.0 / (f64)n));
		kb_store(k, ACCESS(kb_slot(k, DT_f64, P * n), 0, n, 1), kb_op(k, S_sub, all, mean), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f64, P), 0, 1), mean, NO);
		suite_add(s, k, 4000, 8);
	}
	/* the shape of a cross-entropy: the largest logit or 0, the sum of exponentials; rows of -infinity too */
	for (u32 i = 0; i < 2; i++) {
		i64 P = 7, n = i ? 9001 : 9003, pitch = i ? n : 9008;
		Kernel *k = suite_kernel(s, KERNEL_ROW, "log of a sum of exponentials");
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_ROW, n);
		/* several values make the row too much to hold */
		KVal x = kb_load(k, ACCESS(kb_slot(k, DT_f32, P * pitch), 0, pitch, 1), NO);
		for (u32 j = 0; j < 3; j++)
			x = kb_op(k, S_add, x, kb_load(k, ACCESS(kb_slot(k, DT_f32, n), 0, 0, 1), NO));
		KVal scale = kb_load(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1, 0), NO), least = kb_const(k, DT_f32, -INFINITY);
		KVal zero = kb_const(k, DT_f32, 0), none = kb_op(k, S_lt, scale, kb_const(k, DT_f32, -50));
		x = kb_op3(k, S_where, none, least, kb_op(k, S_mul, x, scale));
		KVal most = kb_reduce(k, REDUCE_max, x), h = most;
		if (i % 2 == 0)
			h = kb_op3(k, S_where, kb_op(k, S_eq, most, least), zero, most);
		KVal sum = kb_reduce(k, REDUCE_sum, kb_op(k, S_exp, kb_op(k, S_sub, x, h), NO));
		kb_store(k, ACCESS(kb_slot(k, DT_f32, P * pitch), 0, pitch, 1), kb_op(k, S_min, x, h), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f32, P), 0, 1, 0), kb_op(k, S_add, kb_op(k, S_log, sum, NO), h), NO);
		Case *c = suite_add(s, k, 20, 20);
		u32 of = k->inst.v[scale.i].access->slot;
		c->low[of] = -100;
		c->high[of] = 100;
	}
	for (u32 i = 0; i < 2; i++) {
		i64 n = i ? 33001 : 40960;
		add_softmax(s, DT_f32, 1 + i, n);
		Kernel *k = suite_kernel(s, KERNEL_ROW, "sum of squares");
		kb_dim(k, DIM_ROW, n);
		KVal x = kb_cast(k, DT_f32, kb_load(k, ACCESS(kb_slot(k, i ? DT_bf16 : DT_f32, n), 0, 1), NO));
		kb_store(k, ACCESS(kb_slot(k, DT_f32, 1), 0, 0), kb_reduce(k, REDUCE_sum, kb_op(k, S_mul, x, x)), NO);
		suite_add(s, k, 300, 0);
		add_cross_entropy(s, 1, n);
	}
}

/* Reductions of integers and booleans' counts, which are exact; and of rows that are not contiguous. */
static inline void exact_rows_cases(Suite *s)
{
	static const DType whole[] = { DT_i32, DT_i64, DT_u8, DT_i8, DT_u32 };
	Arena a = ARENA("random");
	Random r = random_new(&a, 5);
	for (u32 i = 0; i < 30; i++) {
		Kernel *k = suite_kernel(s, KERNEL_ROW, "whole row");
		random_dims(&r, k, (u32)random_int(&r, 0, 2), DIM_PARALLEL);
		random_dims(&r, k, 1, DIM_ROW);
		KVal x = random_load(&r, k, whole[i % COUNT(whole)], NO);
		KVal sum = kb_reduce(k, (Reduce)(i % 3), x);
		KVal more = kb_reduce(k, REDUCE_max, kb_op(k, S_sub, x, sum));
		i64 n;
		Access to = random_access(&r, k, false, &n);
		to.slot = kb_slot(k, (DType)k->inst.v[x.i].dtype, n);
		kb_store(k, to, kb_op(k, S_add, more, x), NO);
		suite_add(s, k, 0, 0);
	}
	arena_free(&a);
}

/* ---- columns ---- */

static inline void add_columns(Suite *s, Random *r, u32 reductions)
{
	Kernel *k = suite_kernel(s, KERNEL_COLUMN, "columns");
	random_dims(r, k, (u32)random_int(r, 0, 1), DIM_PARALLEL);
	random_dims(r, k, (u32)random_int(r, 1, 2), DIM_REDUCE);
	random_dims(r, k, 1, DIM_VECTOR);
	bool whole = random_chance(r, 0.3);
	DType d = whole ? DT_i32 : random_chance(r, 0.3) ? DT_bf16 : random_chance(r, 0.2) ? DT_f64 : DT_f32;
	DType w = d == DT_bf16 ? DT_f32 : d;
	f64 rows = 1;
	for (u32 i = 0; i < k->ndim; i++)
		if (k->dim[i].role == DIM_REDUCE)
			rows *= (f64)k->dim[i].extent;
	for (u32 i = 0; i < reductions; i++) {
		KVal x = kb_cast(k, w, random_load(r, k, d, NO)), y = kb_cast(k, w, random_load(r, k, d, NO));
		Reduce how = (Reduce)(i % 4 == 3 ? REDUCE_max : i % 5 == 4 ? REDUCE_min : REDUCE_sum);
		KVal sum = kb_reduce(k, how, kb_op(k, S_mul, x, y));
		KVal out = kb_op(k, S_add, sum, kb_const(k, w, 2));
		Access to = { 0 };
		i64 stride = 1;
		for (u32 e = k->ndim; e-- > 0;)
			if (k->dim[e].role != DIM_REDUCE) {
				to.stride[e] = stride;
				stride *= k->dim[e].extent;
			}
		to.slot = kb_slot(k, w, stride);
		kb_store(k, to, out, NO);
	}
	suite_add(s, k, whole ? 0 : 2 + rows / 8, whole ? 0 : 4);
}

static inline void columns_cases(Suite *s)
{
	Arena a = ARENA("random");
	Random r = random_new(&a, 9);
	for (u32 i = 0; i < 18; i++)
		add_columns(s, &r, 1 + i % 6);
	/* many rows, few columns and more */
	for (u32 i = 0; i < 5; i++) {
		static const i64 rows[] = { 4099, 3000, 2048, 5000, 1111 }, columns[] = { 12, 1, 96, 3, 40 };
		i64 R = rows[i], N = columns[i];
		Kernel *k = suite_kernel(s, KERNEL_COLUMN, "many rows");
		kb_dim(k, DIM_REDUCE, R);
		kb_dim(k, DIM_VECTOR, N);
		KVal x = kb_cast(k, DT_f32, kb_load(k, ACCESS(kb_slot(k, i % 2 ? DT_bf16 : DT_f32, R * N), 0, N, 1), NO));
		KVal y = kb_load(k, ACCESS(kb_slot(k, DT_f32, R), 0, 1), NO);
		KVal gain = kb_load(k, ACCESS(kb_slot(k, DT_f32, N), 0, 0, 1), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f32, N), 0, 0, 1),
			 kb_op(k, S_mul, kb_reduce(k, REDUCE_sum, kb_op(k, S_mul, x, y)), gain), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_f32, 1), 0, 0, 0), kb_reduce(k, REDUCE_max, y), NO);
		suite_add(s, k, (f64)R / 8, 4);
	}
	arena_free(&a);
}

/* ---- scatter ---- */

static inline void add_scatter(Suite *s, Random *r, bool along, bool accumulate)
{
	Kernel *k = suite_kernel(s, KERNEL_SCATTER, "scatter");
	k->accumulate = accumulate;
	i64 P = random_int(r, 1, 3), I = random_int(r, 1, 40), N = random_int(r, 1, 90), rows = 10;
	bool outer = random_chance(r, 0.5);
	if (outer)
		kb_dim(k, DIM_PARALLEL, P);
	else
		P = 1;
	kb_dim(k, DIM_INDEX, I);
	kb_dim(k, DIM_VECTOR, N);
	u32 o = outer;
	DType d = random_chance(r, 0.5) ? DT_f32 : DT_i32;
	u32 to = kb_slot(k, d, P * rows * N), from = kb_slot(k, d, P * I * N);
	k->slot.v[to].written = true;
	k->slot.v[to].read = accumulate;
	u32 which = kb_slot(k, DT_i32, along ? P * I * N : I);
	Access v = { .slot = from }, w = { .slot = which };
	v.stride[o] = N;
	v.stride[o + 1] = 1;
	w.stride[o] = along ? N : 1;
	w.stride[o + 1] = along;
	if (outer) {
		v.stride[0] = I * N;
		w.stride[0] = along ? I * N : 0;
	}
	k->operand[k->noperand++] = kb_op(k, S_add, kb_load(k, v, NO), kb_const(k, d, 1));
	k->operand[k->noperand++] = kb_load(k, w, NO);
	KVal zero = kb_const(k, DT_i32, 0), nine = kb_const(k, DT_i32, 9);
	k->operand[1] = kb_op(k, S_min, kb_op(k, S_max, k->operand[1], zero), nine);
	Access at = { .slot = to, .ndynamic = 1 };
	at.dynamic[0].index = k->operand[1];
	at.dynamic[0].stride = N;
	at.stride[o + 1] = 1;
	if (outer)
		at.stride[0] = rows * N;
	k->scatter = COPYN(k->arena, Access, &at, 1);
	suite_add(s, k, d == DT_f32 ? (f64)I : 0, d == DT_f32 ? 2 : 0);
}

static inline void scatters_cases(Suite *s)
{
	Arena a = ARENA("random");
	Random r = random_new(&a, 21);
	for (u32 i = 0; i < 16; i++)
		add_scatter(s, &r, i & 1, i & 2);
	arena_free(&a);
	/* many indices: into a few rows and many, more than fit a cache, part of the result out of reach, of two kinds of
	 * memory */
	for (u32 i = 0; i < 7; i++) {
		static const i64 rows[] = { 300, 70001, 5, 300, 257, 1, 350001 };
		i64 P = i == 3 ? 3 : 1, I = i == 2 ? 3001 : 1100, N = i == 1 ? 4 : i == 4 ? 5 : 24, spare = i == 3 ? 7 : 0;
		DType d = i == 4 ? DT_i32 : DT_f32;
		Kernel *k = suite_kernel(s, KERNEL_SCATTER, "embedding gradient");
		k->accumulate = i == 2;
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_INDEX, I / 2);
		kb_dim(k, DIM_INDEX, 2);
		kb_dim(k, DIM_VECTOR, N);
		u32 to = kb_slot(k, d, P * rows[i] * N + spare), from = kb_slot(k, i == 0 ? DT_bf16 : d, P * I * N);
		u32 which = kb_slot(k, DT_i32, P * I);
		k->slot.v[to].written = true;
		k->slot.v[to].read = k->accumulate;
		k->operand[k->noperand++] = kb_cast(k, d, kb_load(k, ACCESS(from, 0, I * N, 2 * N, N, 1), NO));
		KVal index = kb_load(k, ACCESS(which, 0, I, 2, 1), NO), zero = kb_const(k, DT_i32, 0);
		KVal last = kb_const(k, DT_i32, (f64)(rows[i] - 1));
		k->operand[k->noperand++] = kb_op(k, S_min, kb_op(k, S_max, index, zero), last);
		Access at = ACCESS(to, 0, rows[i] * N, 0, 0, 1);
		at.ndynamic = 1;
		at.dynamic[0].index = k->operand[1];
		at.dynamic[0].stride = N;
		k->scatter = COPYN(k->arena, Access, &at, 1);
		Case *c = suite_add(s, k, d == DT_f32 ? (f64)I : 0, d == DT_f32 ? 2 : 0);
		c->low[which] = -3;
		c->high[which] = (f64)rows[i] * 1.1;
	}
}

/* ---- running sums and sorting ---- */

static inline void scans_cases(Suite *s)
{
	static const DType dtypes[] = { DT_f32, DT_i32, DT_bf16, DT_u8, DT_f64, DT_i64 };
	static const i64 extents[] = { 1, 7, 32, 100, 1024, 3000, 2049 };
	for (u32 i = 0; i < 14; i++) {
		DType d = dtypes[i % COUNT(dtypes)];
		i64 P = 1 + i % 3, n = extents[i % COUNT(extents)];
		Kernel *k = suite_kernel(s, KERNEL_SCAN, "scan");
		k->reverse = i & 1;
		k->exclusive = i & 2;
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_ROW, n);
		KVal x = kb_load(k, ACCESS(kb_slot(k, d, P * n), 0, n, 1), NO);
		k->operand[k->noperand++] = x;
		DType to = d == DT_bf16 ? DT_f32 : d;
		KVal sum = kb_acc(k, to, 0);
		kb_store(k, ACCESS(kb_slot(k, to, P * n), 0, n, 1), sum, NO);
		kb_store(k, ACCESS(kb_slot(k, to, P * n + 2), 2, 1, P), kb_op(k, S_sub, sum, kb_cast(k, to, x)), NO);
		bool whole = !dtype_is_float(d);
		suite_add(s, k, whole ? 0 : 8 + sqrt((f64)n), whole ? 0 : 1 + sqrt((f64)n));
	}
}

static inline void sorts_cases(Suite *s)
{
	static const DType dtypes[] = { DT_f32, DT_i32, DT_bf16, DT_i64, DT_f64, DT_u8 };
	static const i64 extents[] = { 1, 2, 33, 100, 700, 4097 };
	for (u32 i = 0; i < 12; i++) {
		DType d = dtypes[i % COUNT(dtypes)];
		i64 P = 1 + i % 3, n = extents[(i + i / 6) % COUNT(extents)];
		Kernel *k = suite_kernel(s, KERNEL_SORT, "sort");
		k->descending = i & 1;
		kb_dim(k, DIM_PARALLEL, P);
		kb_dim(k, DIM_ROW, n);
		KVal x = kb_load(k, ACCESS(kb_slot(k, d, P * n), 0, n, 1), NO);
		/* ties, both zeros and NaN */
		if (dtype_is_float(d)) {
			KVal ten = kb_const(k, d, 10), y = kb_op(k, S_mul, kb_op(k, S_round, kb_op(k, S_mul, x, ten), NO), x);
			x = kb_op3(k, S_where, kb_op(k, S_lt, kb_const(k, d, 0.875), x), kb_const(k, d, NAN), y);
		}
		k->operand[k->noperand++] = x;
		kb_store(k, ACCESS(kb_slot(k, d, P * n), 0, n, 1), kb_acc(k, d, 0), NO);
		kb_store(k, ACCESS(kb_slot(k, DT_i32, P * n), 0, n, 1), kb_acc(k, DT_i32, 1), NO);
		suite_add(s, k, 0, 0);
	}
}

/* Draws are those of ir/philox.h, in lanes and alone, contiguous or not, in rows that begin within a block of four and are long
 * enough for several vectors of them. */
static inline void random_draws_cases(Suite *s)
{
	enum { TOGETHER, STEPS, ONE, LONG };
	for (u32 i = TOGETHER; i <= LONG; i++) {
		i64 rows = 7, columns = i == LONG ? 334 : 45;
		Kernel *k = suite_kernel(s, KERNEL_MAP, "draws");
		kb_dim(k, DIM_PARALLEL, rows);
		kb_dim(k, DIM_PARALLEL, columns);
		KVal seed = kb_load(k, ACCESS(kb_slot(k, DT_i64, 1), 0, 0), NO);
		KVal step = kb_load(k, ACCESS(kb_slot(k, DT_i64, 1), 0, 0), NO);
		Access at = { .offset = i };
		at.stride[0] = i == STEPS ? 1 : i == LONG ? columns + 1 : columns;
		at.stride[1] = i == STEPS ? rows : i != ONE;
		KVal x = kernel_inst(k, (KInst){ .op = K_random, .dtype = DT_f32, .in = { seed, step },
						 .key = 0x123456789abcdef0u + i, .access = &at });
		kb_store(k, ACCESS(kb_slot(k, DT_f32, rows * columns), 0, columns, 1), x, NO);
		suite_add(s, k, 0, 0);
	}
}

#endif
