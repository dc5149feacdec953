/* tests/unit/bench.h: a graph under test with values for its inputs: build, evaluate, differentiate,
 * compare with central differences. */
#ifndef PL_TESTS_BENCH_H
#define PL_TESTS_BENCH_H
#include "ir/eval.h"
#include "ir/sample.h"
#include "passes/graph/grad.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct BenchInput {
	Val value;
	Tensor tensor;
} BenchInput;

typedef struct Bench {
	Arena arena;
	Diag diag;
	Ir *ir;
	Graph *g;
	Builder b;
	VEC(BenchInput) input;
} Bench;

static inline Bench *bench_new(void)
{
	Bench *t = calloc(1, sizeof *t);
	t->arena = ARENA("bench");
	t->diag.arena = &t->arena;
	t->ir = ir_new(&t->arena, &t->diag);
	t->g = graph_new(&t->arena, t->ir, "test");
	t->b = builder_new(t->g);
	return t;
}

static inline void bench_free(Bench *t)
{
	builder_done(&t->b);
	arena_free(&t->arena);
	free(t);
}

/* An existing input node gets values (zeros; fill them in). */
static inline Tensor *bench_bind(Bench *t, Val v)
{
	BenchInput in = { v, tensor_new(&t->arena, val_type(t->g, v)) };
	VEC_PUSH(&t->arena, &t->input, in);
	return &t->input.v[t->input.n - 1].tensor;
}

/* An input of this shape; `data` may be NULL for zeros. */
static inline Val bench_input(Bench *t, DType dtype, u32 rank, const i64 *extent, const f64 *data)
{
	Dim dim[MAX_RANK];
	for (u32 d = 0; d < rank; d++)
		dim[d] = dim_number(t->ir, extent[d]);
	const char *name = intern_printf(&t->ir->names, "in%u", t->input.n);
	Val v = BS(&t->b, input, .name = name, .dtype = dtype, .shape = { rank, dim });
	Tensor *x = bench_bind(t, v);
	if (data)
		memcpy(x->data, data, sizeof *data * (size_t)x->n);
	return v;
}
#define EXTENTS(...) (u32)COUNT(((const i64[]){ __VA_ARGS__ })), (const i64[]){ __VA_ARGS__ }
#define DATA(...)    (const f64[]){ __VA_ARGS__ }

/* The value of v with the inputs as they are now, in `arena`; every result rounded to its type, or all
 * in f64. */
static inline const Tensor *bench_eval_as(Bench *t, Arena *arena, Val v, bool round)
{
	u32 n = graph_sources(t->g, NULL);
	const Node **node = NEWN(arena, const Node *, n + 1);
	Tensor *source = NEWN(arena, Tensor, n + 1), *out = NEWN(arena, Tensor, 1);
	graph_sources(t->g, node);
	for (u32 i = 0; i < n; i++)
		for (u32 k = 0; k < t->input.n; k++)
			if (t->input.v[k].value.i == node[i]->out.i)
				source[i] = t->input.v[k].tensor;
	eval_values(arena, t->g, source, &v, 1, out, (EvalOptions){ .round = round });
	return out;
}

static inline const Tensor *bench_eval(Bench *t, Arena *arena, Val v)
{
	return bench_eval_as(t, arena, v, true);
}

static inline bool near(f64 got, f64 want, f64 tolerance)
{
	if (isnan(want) || isinf(want) || isinf(got))
		return got == want || (isnan(got) && isnan(want));
	return fabs(got - want) <= tolerance * fmax(1, fabs(want));
}

static inline void check_near(const char *what, const Tensor *got, const f64 *want, i64 n,
			      f64 tolerance)
{
	if (got->n != n)
		fail_msg("%s: %lld elements, not %lld", what, (long long)got->n, (long long)n);
	for (i64 i = 0; i < n; i++)
		if (!near(got->data[i], want[i], tolerance))
			fail_msg("%s: element %lld is %.17g, not %.17g", what, (long long)i,
				 got->data[i], want[i]);
}

/* Evaluates `v` and compares. */
#define CHECK(t, v, tolerance, ...)                                                           \
	check_near(#v, bench_eval((t), &(t)->arena, (v)), DATA(__VA_ARGS__),                   \
		   (i64)COUNT(((const f64[]){ __VA_ARGS__ })), (tolerance))

/* The sum over all float results of the node of `v` of result times fixed weights: a scalar whose
 * gradient sees every element of every result. */
static inline Val bench_loss(Bench *t, Random *r, Val v)
{
	const Node n = *val_node(t->g, v);
	Builder *b = &t->b;
	Val total = { 0 };
	static const i64 all[MAX_RANK] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
	for (u32 i = 0; i < n.nout; i++) {
		Val x = { n.out.i + i };
		const Type *type = val_type(t->g, x);
		if (!dtype_is_float(type->dtype))
			continue;
		Val w = BS(b, input, .name = intern_printf(&t->ir->names, "weight%u", t->input.n),
			   .dtype = type->dtype, .shape = { type->rank, type->dim });
		Tensor *data = bench_bind(t, w);
		for (i64 k = 0; k < data->n; k++)
			data->data[k] = 2 * random_unit(r) - 1;
		Val some = B(b, lt, make_full_like(b, x, -1e300), x); /* a log-sum-exp of nothing */
		Val s = B(b, mul, B(b, where, some, x, make_full_like(b, x, 0)), w);
		if (type->rank)
			s = BA(b, sum, (s), .axes = { type->rank, all });
		total = total.i ? B(b, add, total, s) : s;
	}
	return total;
}

/* The gradient of `loss` by each input in `wrt` against central differences, both in f64. */
static inline void bench_check_gradient(Bench *t, const char *what, Val loss, const Val *wrt, u32 n)
{
	Val *dx = NEWN(&t->arena, Val, n);
	if (!grad_append(&t->b, loss, wrt, n, dx))
		fail_msg("%s has no gradient", what);
	for (u32 i = 0; i < n; i++) {
		Tensor *x = NULL;
		for (u32 k = 0; k < t->input.n; k++)
			if (t->input.v[k].value.i == wrt[i].i)
				x = &t->input.v[k].tensor;
		assert_non_null(x);
		const Tensor *d = dx[i].i ? bench_eval_as(t, &t->arena, dx[i], false) : NULL;
		if (d) {
			assert_int_equal(d->n, x->n);
			assert_int_equal(d->rank, x->rank);
		}
		for (i64 k = 0; k < x->n; k++) {
			Arena tmp = ARENA("difference");
			f64 was = x->data[k], h = 1e-5;
			x->data[k] = was + h;
			f64 above = bench_eval_as(t, &tmp, loss, false)->data[0];
			x->data[k] = was - h;
			f64 below = bench_eval_as(t, &tmp, loss, false)->data[0];
			x->data[k] = was;
			f64 want = (above - below) / (2 * h), got = d ? d->data[k] : 0;
			arena_free(&tmp);
			if (!(fabs(got - want) <= 2e-6 * fmax(1, fabs(want))))
				fail_msg("%s: derivative by element %lld of input %u is %.12g, and "
					 "by differences %.12g",
					 what, (long long)k, i, got, want);
		}
	}
}

#endif
