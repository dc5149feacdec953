/* Tests made from the op table: for every op, random uses drawn by its sample(). What holds of all:
 *   complete   each op says what its kind must
 *   evaluates  the results are numbers, of the shapes and element types that infer says
 *   expands    the expansion gives what the op's own evaluation gives
 *   gradient   vjp agrees with central differences in f64, for each float operand
 *   narrow     vjp fits together where the operands are bf16 and gradients f32
 *   folds      folding leaves values, and types, as they were
 *   costs      neither FLOPs nor bytes are negative, and the parts fit the whole
 *   copies     inference says the same of a copy
 *   prints     a program with it verifies, and reads back from its text as it was
 * A failure prints the op and the seed. */
#include "ir/along.h"
#include "ir/cost.h"
#include "ir/eval.h"
#include "ir/expand.h"
#include "ir/sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SEEDS = 60 };

/* One random use of an op, in a graph of its own, unfolded, with values for its inputs. */
typedef struct Use {
	Arena arena;
	Diag diag;
	Ir *ir;
	Builder b;
	Random random;
	u32 node; /* of the op */
	VEC(Tensor) source;
} Use;

static Node use_node(const Use *u)
{
	return u->b.g->node.v[u->node];
}

static void use_begin(Use *u, u64 seed)
{
	*u = (Use){ .arena = ARENA("use") };
	u->diag.arena = &u->arena;
	u->ir = ir_new(&u->arena, &u->diag);
	u->b = builder_new(graph_new(&u->arena, u->ir, "use"));
	u->b.no_fold = true;
	u->random = random_new(&u->arena, seed);
}

/* Values for the inputs made since the last time. */
static void use_fill(Use *u)
{
	for (u32 i = u->source.n; i < u->random.input.n; i++) {
		const SampleInput *in = &u->random.input.v[i];
		Tensor t = tensor_new(&u->arena, val_type(u->b.g, in->value));
		sample_fill(&u->random, in, &t);
		VEC_PUSH(&u->arena, &u->source, t);
	}
}

static void use_new(Use *u, Op op, u64 seed)
{
	use_begin(u, seed * OPS + op);
	Val v = op_info[op].def->sample(&u->random, &u->b);
	u->node = u->b.g->value.v[v.i].node;
	if (use_node(u).op != op)
		fail_msg("%s: its sample made a %s", op_info[op].name, op_info[use_node(u).op].name);
	use_fill(u);
}

static void use_end(Use *u)
{
	builder_done(&u->b);
	arena_free(&u->arena);
}

static Tensor use_eval(Use *u, Val v)
{
	Tensor t;
	eval_values(&u->arena, u->b.g, u->source.v, &v, 1, &t, (EvalOptions){ 0 });
	return t;
}

static bool is_near(f64 x, f64 y, f64 tolerance)
{
	return x == y || (isnan(x) && isnan(y)) ||
	       fabs(x - y) <= tolerance * (1 + fmax(fabs(x), fabs(y)));
}

static void expect_near(Op op, u64 seed, const char *what, const Tensor *x, const Tensor *y,
			f64 tolerance)
{
	assert_int_equal(x->n, y->n);
	for (i64 i = 0; i < x->n; i++)
		if (!is_near(x->data[i], y->data[i], tolerance))
			fail_msg("%s, seed %llu: %s: element %lld is %.17g, not %.17g", op_info[op].name,
				 (unsigned long long)seed, what, (long long)i, x->data[i], y->data[i]);
}

/* ---- the properties ---- */

static void complete(Op op)
{
	const OpInfo *info = &op_info[op];
	const OpDef *def = info->def;
	const char *missing =
		!def->infer					       ? "infer"
		: !def->sample					       ? "sample"
		: !def->eval && !def->expand && op != OP_input && op != OP_read ? "eval"
		: info->kind == COMP && !def->expand		       ? "expand"
		: info->kind != COMP && !def->cost		       ? "cost"
		: info->kind != COMP && !def->along		       ? "along"
		: info->kind != COMP && info->nin && !(info->traits & T_NOGRAD) && !def->vjp
			? "vjp"
		: (info->traits & T_NOGRAD) && def->vjp ? "a reason for T_NOGRAD: it has a vjp"
							: NULL;
	if (missing)
		fail_msg("%s lacks %s", info->name, missing);
	if (info->kind == EW)
		assert_int_equal(info->nout, 1);
}

static void evaluates(Op op, u64 seed)
{
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	for (u32 i = 0; i < n.nout; i++) {
		Val v = { n.out.i + i };
		const Type *t = val_type(u.b.g, v);
		Tensor x = use_eval(&u, v);
		assert_int_equal(x.n, type_elements(t));
		for (i64 k = 0; k < x.n; k++) {
			if (isnan(x.data[k]))
				fail_msg("%s, seed %llu: result %u is NaN at %lld", op_info[op].name,
					 (unsigned long long)seed, i, (long long)k);
			if (!dtype_is_float(t->dtype) && dtype_round(t->dtype, x.data[k]) != x.data[k])
				fail_msg("%s, seed %llu: result %u is %g at %lld, which is no %s",
					 op_info[op].name, (unsigned long long)seed, i, x.data[k],
					 (long long)k, dtype_info[t->dtype].name);
		}
		for (u32 d = 0; d < t->rank; d++)
			for (u32 k = 0; i == 0 && k < n.nin; k++)
				assert_true(node_along(u.b.g, &n, k, d) <= ALONG_MIXING);
	}
	use_end(&u);
}

/* Where the op has both, and otherwise the folded expansion against the unfolded one. */
static void expands(Op op, u64 seed)
{
	if (!op_info[op].def->expand)
		return;
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	Val *out = NEWN(&u.arena, Val, n.nout);
	Tensor *want = NEWN(&u.arena, Tensor, n.nout);
	for (u32 i = 0; i < n.nout; i++)
		want[i] = use_eval(&u, (Val){ n.out.i + i });
	expand_node(&u.b, u.b.g, &n, n.in, out);
	for (u32 i = 0; i < n.nout; i++) {
		Tensor got = use_eval(&u, out[i]);
		expect_near(op, seed, "expanded", &got, &want[i], 1e-6);
	}
	use_end(&u);
}

/* sum over results of weight * result */
static f64 weighted(Use *u, const Node *n, const Tensor *weight)
{
	f64 sum = 0;
	Arena tmp = ARENA("weighted");
	for (u32 i = 0; i < n->nout; i++) {
		if (!weight[i].data)
			continue;
		Val v = { n->out.i + i };
		Tensor x;
		eval_values(&tmp, u->b.g, u->source.v, &v, 1, &x, (EvalOptions){ 0 });
		for (i64 k = 0; k < x.n; k++)
			sum += weight[i].data[k] * x.data[k];
	}
	arena_free(&tmp);
	return sum;
}

/* The result that the seed chooses has a gradient; of a primitive, others now and then too. */
static bool has_gradient(Use *u, const Node *n, u32 result, u64 seed)
{
	Val v = { n->out.i + result };
	if (!dtype_is_float(val_type(u->b.g, v)->dtype))
		return false;
	return result == 0 || (op_info[n->op].kind != COMP && seed % 3 != 0);
}

/* Input i's elements, tried one at a time: at most this many. */
enum { TRIED = 12 };

static void expect_gradient(Use *u, u64 seed, const Node *n, u32 input, const Tensor *weight,
			    const Tensor *gradient)
{
	Tensor *x = &u->source.v[input];
	for (i64 tried = 0; tried < MIN(x->n, TRIED); tried++) {
		i64 k = x->n <= TRIED ? tried : random_int(&u->random, 0, x->n - 1);
		f64 was = x->data[k], step = 1e-4;
		x->data[k] = was + step;
		f64 above = weighted(u, n, weight);
		x->data[k] = was - step;
		f64 below = weighted(u, n, weight);
		x->data[k] = was;
		f64 difference = (above - below) / (2 * step);
		f64 derivative = gradient ? gradient->data[k] : 0;
		if (!is_near(derivative, difference, 1e-5))
			fail_msg("%s, seed %llu: the derivative to input %u at %lld is %.12g, and by "
				 "differences %.12g",
				 op_info[n->op].name, (unsigned long long)seed, input, (long long)k,
				 derivative, difference);
	}
}

static void gradient(Op op, u64 seed)
{
	if (!op_info[op].def->vjp)
		return;
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	u32 ninput = u.random.input.n;
	Val *dout = NEWN(&u.arena, Val, n.nout), *din = NEWN(&u.arena, Val, n.nin);
	Tensor *weight = NEWN(&u.arena, Tensor, n.nout);
	bool any = false;
	for (u32 i = 0; i < n.nout; i++) {
		const Type *t = val_type(u.b.g, (Val){ n.out.i + i });
		if (!has_gradient(&u, &n, i, seed))
			continue;
		dout[i] = sample_real(&u.random, &u.b, t->dtype, t->rank, t->dim);
		use_fill(&u);
		weight[i] = u.source.v[u.source.n - 1];
		any = true;
	}
	if (!any) {
		use_end(&u);
		return;
	}
	u.b.no_fold = false;
	op_info[op].def->vjp(&u.b, &n, dout, din);
	for (u32 i = 0; i < ninput; i++) {
		Val in = u.random.input.v[i].value;
		const Type *t = val_type(u.b.g, in);
		if (!dtype_is_float(t->dtype))
			continue;
		Tensor total = tensor_new(&u.arena, t);
		bool operand = false;
		for (u32 k = 0; k < n.nin; k++) {
			if (n.in[k].i != in.i)
				continue;
			operand = true;
			if (!din[k].i)
				continue;
			const Type *dt = val_type(u.b.g, din[k]);
			if (type_with_dtype(u.ir, dt, t->dtype) != t)
				fail_msg("%s, seed %llu: the derivative of operand %u has another shape",
					 op_info[op].name, (unsigned long long)seed, k);
			Tensor d = use_eval(&u, din[k]);
			for (i64 e = 0; e < d.n; e++)
				total.data[e] += d.data[e];
		}
		if (operand)
			expect_gradient(&u, seed, &n, i, weight, &total);
	}
	use_end(&u);
}

/* The same node over bf16 operands, where it takes them, and gradients in f32. */
static void narrow(Op op, u64 seed)
{
	if (!op_info[op].def->vjp)
		return;
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	Val *in = NEWN(&u.arena, Val, n.nin), *dout, *din = NEWN(&u.arena, Val, n.nin);
	for (u32 i = 0; i < n.nin; i++)
		in[i] = dtype_is_float(val_type(u.b.g, n.in[i])->dtype)
				? BA(&u.b, cast, (n.in[i]), .dtype = DT_bf16)
				: n.in[i];
	Val v = build_checked(&u.b, op, in, n.nin, n.nout, n.attr, NULL);
	if (v.i) {
		u.b.no_fold = false;
		n = *val_node(u.b.g, v);
		dout = NEWN(&u.arena, Val, n.nout);
		for (u32 i = 0; i < n.nout; i++) {
			const Type *t = val_type(u.b.g, (Val){ v.i + i });
			bool wide = op_info[op].kind != EW && t->dtype != DT_f64;
			if (has_gradient(&u, &n, i, seed))
				dout[i] = sample_real(&u.random, &u.b, wide ? DT_f32 : t->dtype, t->rank,
						      t->dim);
		}
		if (dout[0].i)
			op_info[op].def->vjp(&u.b, &n, dout, din);
		for (u32 i = 0; i < n.nin; i++) {
			const Type *t = val_type(u.b.g, n.in[i]);
			if (!din[i].i)
				continue;
			const Type *d = val_type(u.b.g, din[i]);
			assert_true(d->dtype == DT_f32 || d->dtype == t->dtype);
			assert_ptr_equal(type_with_dtype(u.ir, d, t->dtype), t);
		}
	}
	use_end(&u);
}

/* The nodes of the use in another graph; map[value] is each one's copy. */
static Val *copy_into(Use *u, Builder *b)
{
	Val *map = NEWN(&u->arena, Val, u->b.g->value.n);
	for (u32 i = 0; i < u->b.g->node.n; i++) {
		const Node *from = &u->b.g->node.v[i];
		Val *args = NEWN(&u->arena, Val, from->nin + 1u);
		for (u32 k = 0; k < from->nin; k++)
			args[k] = map[from->in[k].i];
		Val to = build_copy(b, u->b.g, from, args);
		assert_true(b->no_fold ? build_copy(b, u->b.g, from, args).i == to.i : true);
		for (u32 k = 0; k < from->nout; k++)
			map[from->out.i + k] = (Val){ to.i + k };
	}
	return map;
}

/* ---- folding ---- */

static const f64 constants[] = { 0, 1, -1, 2, 0.5, -0.0, 3, 0.25 };

static Val any_full(Use *u, const Type *t)
{
	f64 value = constants[random_int(&u->random, 0, COUNT(constants) - 1)];
	return make_full(&u->b, dtype_round(t->dtype, value), t->dtype, (dims){ t->rank, t->dim });
}

static Val any_real(Use *u, DType d, u32 rank, const Dim *dim)
{
	bool real = dtype_is_float(d);
	return sample_input(&u->random, &u->b, real ? SAMPLE_REAL : SAMPLE_WHOLE, d, rank, dim,
			    real ? 0.3 : 0, real ? 2 : d == DT_b1 ? 1 : 3);
}

/* A value of type t that some fold rule may know something about. */
static Val any_value(Use *u, const Type *t, u32 depth)
{
	Random *r = &u->random;
	Builder *b = &u->b;
	DType d = t->dtype;
	Dim dim[MAX_RANK], zero = dim_number(u->ir, 0), one = dim_number(u->ir, 1);
	Dim start[MAX_RANK];
	i64 list[MAX_RANK];
	u32 n = 0, at = t->rank ? (u32)random_int(r, 0, t->rank - 1) : 0;
	memcpy(dim, t->dim, sizeof dim);
	if (t->rank == 1 && (d == DT_i32 || d == DT_i64) && random_chance(r, 0.4))
		return BS(b, iota, .axis = 0, .dtype = d, .shape = { 1, t->dim });
	if (depth == 0)
		return any_real(u, d, t->rank, dim);
#define ANY(type) any_value(u, (type), depth - 1)
	switch (random_int(r, 0, 12)) {
	case 0: return any_full(u, t);
	case 1: return d == DT_b1 ? B(b, not, ANY(t)) : B(b, neg, ANY(t));
	case 2: { /* transposed */
		for (u32 i = 0; i < t->rank; i++)
			list[i] = (i + 1) % t->rank;
		for (u32 i = 0; i < t->rank; i++)
			dim[list[i]] = t->dim[i];
		return BA(b, transpose, (ANY(type_make(u->ir, d, t->rank, dim))),
			  .perm = { t->rank, list });
	}
	case 3: { /* flat, reshaped */
		Dim count = type_count(u->ir, t);
		return BA(b, reshape, (ANY(type_make(u->ir, d, 1, &count))), .shape = { t->rank, t->dim });
	}
	case 4: /* repeated */
		for (u32 i = 0; i < t->rank; i++)
			if (random_chance(r, 0.5)) {
				dim[n] = t->dim[i];
				list[n++] = i;
			}
		return BA(b, broadcast, (ANY(type_make(u->ir, d, n, dim))), .shape = { t->rank, t->dim },
			  .dims = { n, list });
	case 5: /* part of something larger */
		for (u32 i = 0; i < t->rank; i++) {
			start[i] = dim_number(u->ir, random_int(r, 0, 1));
			dim[i] = dim_add(u->ir, dim_add(u->ir, t->dim[i], start[i]),
					 random_chance(r, 0.5) ? one : zero);
			list[i] = 1;
		}
		return BA(b, slice, (ANY(type_make(u->ir, d, t->rank, dim))), .start = { t->rank, start },
			  .size = { t->rank, t->dim }, .step = { t->rank, list });
	case 6: { /* backwards */
		for (u32 i = 0; i < t->rank; i++) {
			list[i] = i == at ? -1 : 1;
			start[i] = i == at ? dim_sub(u->ir, t->dim[i], one) : zero;
		}
		return BA(b, slice, (ANY(t)), .start = { t->rank, start }, .size = { t->rank, t->dim },
			  .step = { t->rank, list });
	}
	case 7: { /* two pieces, or one piece of two */
		i64 extent = t->rank ? type_extent(t, at) : 1;
		if (extent < 2)
			return ANY(t);
		Dim part[2] = { one, dim_number(u->ir, extent - 1) };
		if (random_chance(r, 0.5)) {
			Val all = BA(b, split, (ANY(t)), .axis = at, .sizes = { 2, part });
			u32 first = random_chance(r, 0.5); /* now and then in the other order */
			return BA(b, concat, ((Val){ all.i + first }, (Val){ all.i + !first }),
				  .axis = at);
		}
		dim[at] = part[0];
		Val first = ANY(type_make(u->ir, d, t->rank, dim));
		dim[at] = part[1];
		return BA(b, concat, (first, ANY(type_make(u->ir, d, t->rank, dim))), .axis = at);
	}
	case 8: { /* zeros around */
		Dim low[MAX_RANK], high[MAX_RANK];
		for (u32 i = 0; i < t->rank; i++) {
			low[i] = high[i] = zero;
			if (i == at && type_extent(t, i) > 1) {
				low[i] = one;
				dim[i] = dim_sub(u->ir, dim[i], one);
			}
		}
		return BA(b, pad, (ANY(type_make(u->ir, d, t->rank, dim))), .low = { t->rank, low },
			  .high = { t->rank, high });
	}
	case 9: /* summed over one more axis */
		if (d == DT_b1 || t->rank == MAX_RANK)
			return ANY(t);
		list[0] = random_int(r, 0, t->rank);
		for (u32 i = t->rank; i > list[0]; i--)
			dim[i] = dim[i - 1];
		dim[list[0]] = random_extent(r, b);
		return BA(b, sum, (ANY(type_make(u->ir, d, t->rank + 1u, dim))), .axes = { 1, list });
	case 10: { /* there and back */
		static const DType through[] = { DT_f64, DT_f32, DT_bf16, DT_i32, DT_i64, DT_u8 };
		DType other = through[random_int(r, 0, COUNT(through) - 1)];
		return BA(b, cast, (BA(b, cast, (ANY(t)), .dtype = other)), .dtype = d);
	}
	case 11: return d == DT_b1 ? ANY(t) : B(b, add, ANY(t), ANY(t));
	default: return any_real(u, d, t->rank, t->dim);
	}
#undef ANY
}

/* The op over operands that rules know about: built as written and built with folding. */
static void folds(Op op, u64 seed)
{
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	Val *in = NEWN(&u.arena, Val, n.nin + 1u);
	for (u32 i = 0; i < n.nin; i++) {
		const Type *t = val_type(u.b.g, n.in[i]);
		bool again = i && random_chance(&u.random, 0.2) && val_type(u.b.g, in[i - 1]) == t;
		in[i] = again				    ? in[i - 1]
			: random_chance(&u.random, 0.8) ? any_value(&u, t, 3)
							    : n.in[i];
	}
	use_fill(&u);
	Val v = build(&u.b, op, in, n.nin, n.nout, n.attr);
	n = *val_node(u.b.g, v);
	Graph *folded = graph_new(&u.arena, u.ir, "folded");
	Builder b = builder_new(folded);
	const Val *map = copy_into(&u, &b);
	assert_int_equal(graph_sources(folded, NULL), u.source.n);
	for (u32 i = 0; i < n.nout; i++) {
		Val written = { n.out.i + i }, short_ = map[n.out.i + i];
		Tensor want = use_eval(&u, written), got;
		assert_ptr_equal(val_type(u.b.g, written), val_type(folded, short_));
		eval_values(&u.arena, folded, u.source.v, &short_, 1, &got, (EvalOptions){ 0 });
		expect_near(op, seed, "folded", &got, &want, 1e-5);
	}
	builder_done(&b);
	use_end(&u);
}

static void costs(Op op, u64 seed)
{
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	NodeCost c = node_cost(u.b.g, &n);
	if (!(c.flops >= 0 && c.bytes >= 0 && c.matmul_flops >= 0 && c.matmul_flops <= c.flops))
		fail_msg("%s, seed %llu: %g FLOPs, %g of them in contractions, %g bytes",
			 op_info[op].name, (unsigned long long)seed, c.flops, c.matmul_flops, c.bytes);
	use_end(&u);
}

/* A copy of the node in another graph has the same types, and is shared when built twice. */
static void copies(Op op, u64 seed)
{
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	Builder b = builder_new(graph_new(&u.arena, u.ir, "copy"));
	b.no_fold = true;
	const Val *map = copy_into(&u, &b);
	assert_int_equal(b.g->node.n, u.b.g->node.n);
	for (u32 i = 0; i < n.nout; i++)
		assert_ptr_equal(val_type(b.g, map[n.out.i + i]),
				 val_type(u.b.g, (Val){ n.out.i + i }));
	builder_done(&b);
	use_end(&u);
}

static Str printed(Arena *a, const Program *p)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);
	assert_non_null(to);
	program_print(p, to);
	fclose(to);
	Str kept = { arena_strn(a, (Str){ text, n }), n };
	free(text);
	return kept;
}

static void prints(Op op, u64 seed)
{
	Use u;
	use_new(&u, op, seed);
	Node n = use_node(&u);
	Program *p = program_new(&u.arena, u.ir, "table");
	if (op == OP_read)
		program_buffer(p, (Buffer){ .name = ATTR(&n, read)->buffer,
					    .type = val_type(u.b.g, n.out),
					    .of = NONE });
	Builder b = builder_new(program_entry(p, "main"));
	b.no_fold = true;
	const Val *map = copy_into(&u, &b);
	for (u32 i = 0; i < n.nout; i++)
		graph_result(b.g, arena_printf(&u.arena, "r%u", i), NONE, map[n.out.i + i]);
	builder_done(&b);
	if (!program_verify(p, &u.diag))
		fail_msg("%s, seed %llu: %s", op_info[op].name, (unsigned long long)seed,
			 u.diag.first->text);
	Str text = printed(&u.arena, p);
	Diag diag = { .arena = &u.arena };
	u16 file = diag_source(&diag, "table.plg", text);
	Program *again = program_parse(&u.arena, ir_new(&u.arena, &diag), text, file);
	if (!again)
		fail_msg("%s, seed %llu: %s in\n%s", op_info[op].name, (unsigned long long)seed,
			 diag.first->text, text.s);
	assert_string_equal(printed(&u.arena, again).s, text.s);
	assert_int_equal(program_hash(again), program_hash(p));
	use_end(&u);
}

/* ---- one cmocka test per op ---- */

static void all_properties(void **state)
{
	Op op = (Op)(uintptr_t)*state;
	static void (*const property[])(Op, u64) = { evaluates, expands, gradient, narrow,
						     folds,	costs,	 copies,   prints };
	complete(op);
	for (u64 seed = 0; seed < SEEDS; seed++)
		for (u32 i = 0; i < COUNT(property); i++)
			property[i](op, seed);
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[OPS];
	for (u32 i = 0; i < OPS; i++)
		tests[i] = (struct CMUnitTest){ .name = op_info[i].name,
						.test_func = all_properties,
						.initial_state = (void *)(uintptr_t)i };
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
