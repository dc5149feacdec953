/* ir/ops/attention.c: scaled dot-product attention (Vaswani et al. 2017), its gradient, and rotary
 * embeddings (Su et al. 2021).
 *
 * The expansions here are the definition; targets lower both attention ops whole, without the T x S
 * matrix (Dao et al. 2022), from the same operands. Rows are shifted by their maximum; the second
 * result is each row's log-sum-exp of the scaled, biased, masked scores, from which the gradient
 * makes the probabilities again: P = exp(scale q k^T + bias - lse). With D = rowsum(dout * out):
 *   dV = P^T dout,  dS = P * (dout V^T - D + dlse),  dQ = scale dS K,  dK = scale dS^T Q.
 * With a softcap c, t = tanh(scale q k^T / c) makes the scores c t + bias, and dQ and dK take dS * (1 - t^2).
 * Narrow operands: scores, softmax and sums are f32; P, dS and dout are rounded to the operands'
 * dtype before a product; all results are f32. */
#include "ir/cost.h"
#include "ir/ops/composite.h"
#include "ir/sample.h"

#include <math.h>

/* ---- shapes ---- */

/* q[.., G * R, T, K], k[.., G, S, K], v[.., G, S, V]; the leading dimensions are equal. */
typedef struct Shape {
	u32 lead;             /* leading dimensions */
	Dim heads, groups, repeats, queries, keys, key_width, value_width;
	Dim full[MAX_RANK];   /* [.., H, T, S] */
	u32 rank;             /* of q, k, v, out, and the scores */
} Shape;

static Shape shape_of(Ir *ir, const Type *q, const Type *k, const Type *v)
{
	u32 r = q->rank;
	Shape s = { .lead = r - 3u, .rank = r, .heads = q->dim[r - 3], .groups = k->dim[r - 3],
		    .queries = q->dim[r - 2], .keys = k->dim[r - 2], .key_width = q->dim[r - 1],
		    .value_width = v->dim[r - 1] };
	s.repeats = dim_whole(ir, s.heads, s.groups);
	for (u32 d = 0; d < r - 1; d++)
		s.full[d] = q->dim[d];
	s.full[r - 1] = s.keys;
	return s;
}

static bool one_head_each(const Shape *s)
{
	return s->heads == s->groups;
}

/* The two ops' attributes are the same fields in the same order. */
_Static_assert(sizeof(attention_attr) == sizeof(attention_grad_attr) &&
		       offsetof(attention_attr, scale) == offsetof(attention_grad_attr, scale) &&
		       offsetof(attention_attr, window) == offsetof(attention_grad_attr, window) &&
		       offsetof(attention_attr, softcap) == offsetof(attention_grad_attr, softcap) &&
		       offsetof(attention_attr, bias) == offsetof(attention_grad_attr, bias),
	       "attention and attention_grad share an attribute struct");

/* Checks of q, k, v, [mask], [bias]; `more` operands follow. */
static bool need_attention(InferCx *cx, const attention_attr *a, u32 more, u32 optional)
{
	const char *name = op_info[cx->op].name;
	u32 want = 3 + a->mask + a->bias + more;
	if (cx->nin < want || cx->nin > want + optional)
		return infer_fail(cx, "%s: %u operands, where its mask and bias attributes ask for %u",
				  name, cx->nin, want);
	const Type *q = infer_type(cx, 0), *k = infer_type(cx, 1), *v = infer_type(cx, 2);
	const char *which[] = { "q", "k", "v" };
	for (u32 i = 0; i < 3; i++)
		if (!need_float(cx, i, which[i]))
			return false;
	if (q->rank < 3 || k->rank != q->rank || v->rank != q->rank)
		return infer_fail(cx,
				  "%s: q, k and v are [.., heads, positions, width] of one rank, not "
				  "%s, %s and %s",
				  name, infer_text(cx, 0), infer_text(cx, 1), infer_text(cx, 2));
	if (q->dtype != k->dtype || q->dtype != v->dtype)
		return infer_fail(cx, "%s: q, k and v must have one element type, not %s, %s and %s",
				  name, dtype_info[q->dtype].name, dtype_info[k->dtype].name,
				  dtype_info[v->dtype].name);
	if (dtype_is_f8(q->dtype))
		return infer_fail(cx, "%s: its weights are rounded as its operands are, and %s is too narrow for that: cast q, k and v to bf16",
				  name, dtype_info[q->dtype].name);
	u32 r = q->rank;
	for (u32 d = 0; d + 3 < r; d++)
		if (q->dim[d] != k->dim[d] || q->dim[d] != v->dim[d])
			return infer_fail(cx,
					  "%s: the leading dimensions of q %s, k %s and v %s differ",
					  name, infer_text(cx, 0), infer_text(cx, 1),
					  infer_text(cx, 2));
	if (k->dim[r - 3] != v->dim[r - 3] || k->dim[r - 2] != v->dim[r - 2])
		return infer_fail(cx, "%s: k %s and v %s differ in heads or positions", name,
				  infer_text(cx, 1), infer_text(cx, 2));
	if (q->dim[r - 1] != k->dim[r - 1])
		return infer_fail(cx, "%s: q %s and k %s differ in width", name, infer_text(cx, 0),
				  infer_text(cx, 1));
	Shape s = shape_of(cx->ir, q, k, v);
	if (!s.repeats)
		return infer_fail(cx, "%s: k has %s heads, which do not divide the %s of q", name,
				  dim_text(cx, s.groups), dim_text(cx, s.heads));
	if (!one_head_each(&s) && r == MAX_RANK)
		return infer_fail(cx, "%s: grouped queries take at most %d dimensions, not %s", name,
				  MAX_RANK - 1, infer_text(cx, 0));
	if (a->window < 0 || (a->window > 0 && !a->causal))
		return infer_fail(cx, "%s: a window of %lld must be positive and needs causal = true",
				  name, (long long)a->window);
	if (!(a->scale >= 0) || isinf(a->scale))
		return infer_fail(cx, "%s: a scale of %g is not positive", name, a->scale);
	if (!(a->softcap >= 0) || isinf(a->softcap))
		return infer_fail(cx, "%s: a softcap of %g is not positive", name, a->softcap);
	u32 at = 3;
	if (a->mask) {
		const Type *m = infer_type(cx, at);
		if (m->dtype != DT_b1 || !broadcasts_to(m, r, s.full))
			return infer_fail(cx,
					  "%s: the mask %s is not booleans that repeat to [.., %s, "
					  "%s, %s] (heads, queries, keys)",
					  name, infer_text(cx, at), dim_text(cx, s.heads),
					  dim_text(cx, s.queries), dim_text(cx, s.keys));
		at++;
	}
	if (a->bias) {
		const Type *m = infer_type(cx, at);
		if (m->dtype != compute_dtype(q->dtype) || !broadcasts_to(m, r, s.full))
			return infer_fail(cx,
					  "%s: the bias %s is not %s that repeats to [.., %s, %s, %s] "
					  "(heads, queries, keys)",
					  name, infer_text(cx, at),
					  dtype_info[compute_dtype(q->dtype)].name,
					  dim_text(cx, s.heads), dim_text(cx, s.queries),
					  dim_text(cx, s.keys));
	}
	for (u32 d = 0; d < s.lead; d++) {
		same_axis(cx, 0, d, 1, d);
		same_axis(cx, 0, d, 2, d);
	}
	if (one_head_each(&s))
		same_axis(cx, 0, r - 3, 1, r - 3);
	same_axis(cx, 1, r - 3, 2, r - 3);
	same_axis(cx, 1, r - 2, 2, r - 2);
	same_axis(cx, 0, r - 1, 1, r - 1);
	return true;
}

/* ---- scores ---- */

/* An operand or result of the products, [.., heads, a, b]. */
typedef struct Term {
	const char *letters;  /* two of t s k v */
	bool grouped;         /* its heads are H = [G, R], not G */
} Term;

static Val split_heads(Builder *b, Val v, const Shape *s)
{
	const Type *t = val_type(b->g, v);
	Dim dim[MAX_RANK];
	u32 n = 0;
	for (u32 d = 0; d < t->rank; d++) {
		if (d == s->lead) {
			dim[n++] = s->groups;
			dim[n++] = s->repeats;
		} else {
			dim[n++] = t->dim[d];
		}
	}
	return BA(b, reshape, (v), .shape = { n, dim });
}

static Val join_heads(Builder *b, Val v, const Shape *s)
{
	const Type *t = val_type(b->g, v);
	Dim dim[MAX_RANK];
	u32 n = 0;
	for (u32 d = 0; d < t->rank; d++)
		if (d != s->lead + 1)
			dim[n++] = d == s->lead ? s->heads : t->dim[d];
	return BA(b, reshape, (v), .shape = { n, dim });
}

/* x * y summed over what `out` lacks. A head of k and v serves its R heads of q. */
static Val product(Builder *b, const Shape *s, Val x, Term tx, Val y, Term ty, Term out)
{
	bool plain = one_head_each(s);
	char lead[MAX_RANK + 1] = "abcdef", spec[64];
	lead[s->lead] = 0;
	if (!plain && tx.grouped)
		x = split_heads(b, x, s);
	if (!plain && ty.grouped)
		y = split_heads(b, y, s);
	snprintf(spec, sizeof spec, "%sg%s%s,%sg%s%s->%sg%s%s", lead,
		 !plain && tx.grouped ? "r" : "", tx.letters, lead, !plain && ty.grouped ? "r" : "",
		 ty.letters, lead, !plain && out.grouped ? "r" : "", out.letters);
	Val v = BA(b, dot, (x, y), .spec = intern_z(&b->g->ir->names, spec));
	return !plain && out.grouped ? join_heads(b, v, s) : v;
}

static const Term of_q = { "tk", true }, of_k = { "sk", false }, of_v = { "sv", false },
		  of_out = { "tv", true }, of_scores = { "ts", true };

/* Which keys each query sees, b1 [.., H, T, S], or {0} for all. Query t sees key s where
 * 0 <= t + S - T - s, and < window if there is one. */
static Val visible(Builder *b, const attention_attr *a, const Shape *s, const Val *in)
{
	Ir *ir = b->g->ir;
	dims full = { s->rank, s->full };
	Val seen = { 0 };
	if (a->causal) {
		dims square = { 2, (Dim[]){ s->queries, s->keys } };
		Val t = BS(b, iota, .axis = 0, .dtype = DT_i32, .shape = square);
		Val k = BS(b, iota, .axis = 1, .dtype = DT_i32, .shape = square);
		Dim shift = dim_sub(ir, s->keys, s->queries);
		Val offset = BS(b, extent, .size = { 1, &shift }, .dtype = DT_i32);
		Val age = B(b, sub, B(b, add, t, repeated(b, offset, t)), k);
		seen = B(b, le, make_full_like(b, age, 0), age);
		if (a->window)
			seen = B(b, and, seen,
				 B(b, lt, age, make_full_like(b, age, (f64)a->window)));
		seen = make_broadcast(b, seen, full);
	}
	if (a->mask) {
		Val mask = make_broadcast(b, in[3], full);
		seen = seen.i ? B(b, and, seen, mask) : mask;
	}
	return seen;
}

static Val scale_of(Builder *b, const attention_attr *a, const Shape *s, Val like)
{
	DType wide = val_type(b->g, like)->dtype;
	if (a->scale != 0)
		return make_full_like(b, like, a->scale);
	Val width = BS(b, extent, .size = { 1, &s->key_width }, .dtype = wide);
	return repeated(b, B(b, rsqrt, width), like);
}

f64 attention_scale(const Graph *g, const Node *n)
{
	const attention_attr *a = n->attr;
	const Type *q = val_type(g, n->in[0]);
	return a->scale != 0 ? a->scale : 1 / sqrt((f64)type_extent(q, q->rank - 1u));
}

/* scale q k^T, or softcap times the tanh of a softcap's part of it: *bounded is that tanh, {0} without a softcap. The bias is added;
 * -inf where unseen. */
static Val scores_of(Builder *b, const attention_attr *a, const Shape *s, const Val *in, Val *bounded)
{
	Val scores = product(b, s, in[0], of_q, in[1], of_k, of_scores);
	scores = B(b, mul, scores, scale_of(b, a, s, scores));
	*bounded = (Val){ 0 };
	if (a->softcap > 0) {
		*bounded = B(b, tanh, times(b, scores, 1 / a->softcap));
		scores = times(b, *bounded, a->softcap);
	}
	if (a->bias)
		scores = B(b, add, scores, repeated(b, in[3 + a->mask], scores));
	Val seen = visible(b, a, s, in);
	if (seen.i)
		scores = B(b, where, seen, scores, make_full_like(b, scores, -INFINITY));
	return scores;
}

static Val rounded_like(Builder *b, Val v, Val like)
{
	return make_cast(b, v, val_type(b->g, like)->dtype);
}

/* ---- attention ---- */

static bool attention_infer(InferCx *cx)
{
	const attention_attr *a = cx->attr;
	if (!need_attention(cx, a, 0, 0))
		return false;
	const Type *q = infer_type(cx, 0), *v = infer_type(cx, 2);
	const Axis *aq = infer_axis(cx, 0), *av = infer_axis(cx, 2);
	DType wide = compute_dtype(q->dtype);
	Dim dim[MAX_RANK];
	Axis axis[MAX_RANK];
	u32 r = q->rank;
	for (u32 d = 0; d < r; d++) {
		dim[d] = d + 1 < r ? q->dim[d] : v->dim[d];
		axis[d] = d + 1 < r ? aq[d] : av[d];
	}
	return result_is(cx, 0, wide, r, dim, axis) && result_is(cx, 1, wide, r - 1, dim, axis);
}

static void attention_expand(Builder *b, const Node *n, Val *out)
{
	const attention_attr *a = n->attr;
	Shape s = shape_of(b->g->ir, val_type(b->g, n->in[0]), val_type(b->g, n->in[1]),
			   val_type(b->g, n->in[2]));
	i64 last = s.rank - 1;
	Val bounded, scores = scores_of(b, a, &s, n->in, &bounded);
	Val shift = finite_shift(b, max_axis(b, scores, last));
	Val e = B(b, exp, B(b, sub, scores, along_axis(b, shift, scores, last)));
	Val total = sum_axis(b, e, last);
	Val empty = B(b, eq, total, make_full_like(b, total, 0));
	Val r = B(b, recip, B(b, where, empty, make_full_like(b, total, 1), total));
	Val mixed = product(b, &s, rounded_like(b, e, n->in[2]), of_scores, n->in[2], of_v, of_out);
	out[0] = B(b, mul, mixed, along_axis(b, r, mixed, last));
	out[1] = B(b, add, shift, B(b, log, total));
}

void attention_scores(Builder *b, const Node *n, const Val *in, Val *out)
{
	const attention_attr *a = n->attr;
	Shape s = shape_of(b->g->ir, val_type(b->g, in[0]), val_type(b->g, in[1]), val_type(b->g, in[2]));
	i64 last = s.rank - 1;
	Val bounded, scores = scores_of(b, a, &s, in, &bounded);
	Val weights = BA(b, softmax, (rounded_like(b, scores, in[0])), .axis = last);
	out[0] = product(b, &s, rounded_like(b, weights, in[2]), of_scores, in[2], of_v, of_out);
	out[1] = BA(b, logsumexp, (scores), .axis = last);
}

/* Of narrow operands the result is rounded too before its next product, and so it is for the derivative, which has rowsum(dout * out)
 * of it (as FlashAttention does): nothing wide is kept for that sum. */
static Val rounded_out(Builder *b, Val out, Val q)
{
	DType narrow = val_type(b->g, q)->dtype, wide = val_type(b->g, out)->dtype;
	return narrow == wide ? out : make_cast(b, make_cast(b, out, narrow), wide);
}

static void attention_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const attention_attr *a = n->attr;
	Val in[9], out = n->out;
	u32 nin = n->nin;
	for (u32 i = 0; i < nin; i++)
		in[i] = n->in[i];
	in[nin++] = rounded_out(b, out, n->in[0]);
	in[nin++] = (Val){ out.i + 1 };
	in[nin++] = dout[0].i ? dout[0] : make_full_like(b, out, 0);
	if (dout[1].i)
		in[nin++] = dout[1];
	attention_grad_attr ga = { .causal = a->causal, .mask = a->mask, .bias = a->bias,
				   .window = a->window, .scale = a->scale, .softcap = a->softcap };
	Val g = build(b, OP_attention_grad, in, nin, 3 + a->bias, &ga);
	for (u32 i = 0; i < 3; i++)
		din[i] = (Val){ g.i + i };
	if (a->bias)
		din[3 + a->mask] = (Val){ g.i + 3 };
}

/* `kdots` products over the key width and `vdots` over the value width for every visible pair, and
 * `pair` and `row` scalar operations per pair and per element of the result. */
static Cost cost_with(const Graph *g, const Node *n, f64 kdots, f64 vdots, f64 pair, f64 row)
{
	const attention_attr *a = n->attr;
	const Type *q = val_type(g, n->in[0]), *k = val_type(g, n->in[1]), *v = val_type(g, n->in[2]);
	u32 r = q->rank;
	f64 rows = 1;
	for (u32 d = 0; d + 2 < r; d++)
		rows *= (f64)type_extent(q, d);
	i64 queries = type_extent(q, r - 2), keys = type_extent(k, r - 2);
	f64 pairs = rows * attention_pairs(a->causal, a->window, queries, keys);
	f64 key_width = (f64)type_extent(q, r - 1), value_width = (f64)type_extent(v, r - 1);
	Cost c = { .bytes = node_bytes(g, n) };
	f64 cap = a->softcap > 0 ? 3 : 0; /* x / c, tanh, times c; of the derivative t^2, 1 - t^2, times */
	c.flops = pairs * (2 * kdots * key_width + 2 * vdots * value_width + pair + a->bias + cap) +
		  row * rows * (f64)queries * value_width;
	return c;
}

/* Per pair: scale, maximum, subtract, exp, sum. The visible part only: half of a causal square. */
static Cost attention_cost(const Graph *g, const Node *n)
{
	return cost_with(g, n, 1, 1, 5, 1);
}

/* Is dimension `d` of operand `in` the axis of dimension `r` of operand 0? Unknown classes are
 * taken for equal where their sizes are. */
static bool maybe_same_axis(const Graph *g, const Node *n, u32 in, u32 d, u32 r)
{
	Axis x = axis_find(g->ir, val_axis(g, n->in[in])[d]);
	Axis y = axis_find(g->ir, val_axis(g, n->in[0])[r]);
	if (x.id && y.id)
		return x.id == y.id;
	return val_type(g, n->in[in])->dim[d] == val_type(g, n->in[0])->dim[r];
}

static Along attention_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	const attention_attr *a = n->attr;
	const Type *q = val_type(g, n->in[0]), *t = val_type(g, n->in[in]);
	u32 r = q->rank;
	if (d + 3 < r) { /* leading */
		i64 at = (i64)d - (r - t->rank), one;
		if (at < 0 || (dim_is_number(t->dim[at], &one) && one == 1 && t->dim[at] != q->dim[d]))
			return ALONG_NOT_THERE;
		return ALONG_POINTWISE;
	}
	if (in > 2) { /* mask and bias: [.., H, T, S] */
		i64 at = (i64)d - (r - t->rank);
		if (d + 1 == r || at < 0 || t->dim[at] != q->dim[d])
			return ALONG_NOT_THERE;
		return ALONG_POINTWISE;
	}
	if (d + 1 == r) /* value width */
		return in == 2 ? ALONG_POINTWISE : ALONG_NOT_THERE;
	if (in == 0)
		return ALONG_POINTWISE;
	if (d + 3 == r) /* heads: k and v have one per group */
		return t->dim[d] == q->dim[d] ? ALONG_POINTWISE : ALONG_MIXING;
	if (!maybe_same_axis(g, n, in, d, d))
		return ALONG_NOT_THERE;
	return !a->causal ? ALONG_MIXING : a->window ? ALONG_WINDOW : ALONG_CAUSAL;
}

/* An operand that repeats to [.., H, T, S]: lower in rank, or with extents of 1. */
static Val sample_repeating(Random *r, Builder *b, SampleKind kind, DType dtype, u32 rank,
			    const Dim *full)
{
	Dim dim[MAX_RANK];
	u32 skip = (u32)random_int(r, 0, rank - 1);
	for (u32 d = skip; d < rank; d++)
		dim[d - skip] = random_chance(r, 0.3) ? dim_number(b->g->ir, 1) : full[d];
	return sample_input(r, b, kind, dtype, rank - skip, dim, kind == SAMPLE_REAL ? -1 : 0, 1);
}

static Val attention_sample(Random *r, Builder *b)
{
	Ir *ir = b->g->ir;
	attention_attr a = { .causal = random_chance(r, 0.6), .mask = random_chance(r, 0.3),
			     .bias = random_chance(r, 0.3) };
	if (a.causal && random_chance(r, 0.4))
		a.window = random_int(r, 1, 3);
	if (random_chance(r, 0.4))
		a.scale = 0.5;
	if (random_chance(r, 0.3))
		a.softcap = 1.5;
	DType dtype = random_float(r);
	Dim q[MAX_RANK], k[MAX_RANK], v[MAX_RANK];
	u32 lead = random_shape(r, b, 0, 2, q), rank = lead + 3;
	i64 groups = random_int(r, 1, 2), heads = groups * random_int(r, 1, 2);
	q[lead] = dim_number(ir, heads);
	q[lead + 1] = random_extent(r, b);
	q[lead + 2] = random_extent(r, b);
	for (u32 d = 0; d < rank; d++)
		k[d] = q[d];
	k[lead] = dim_number(ir, groups);
	if (random_chance(r, 0.5))
		k[lead + 1] = random_extent(r, b);
	for (u32 d = 0; d < rank; d++)
		v[d] = k[d];
	v[lead + 2] = random_extent(r, b);
	Val in[5] = { sample_real(r, b, dtype, rank, q), sample_real(r, b, dtype, rank, k),
		      sample_real(r, b, dtype, rank, v) };
	u32 n = 3;
	q[lead + 2] = k[lead + 1]; /* now [.., H, T, S] */
	if (a.mask)
		in[n++] = sample_repeating(r, b, SAMPLE_WHOLE, DT_b1, rank, q);
	if (a.bias)
		in[n++] = sample_repeating(r, b, SAMPLE_REAL, dtype, rank, q);
	return build(b, OP_attention, in, n, 0, &a);
}

static void attention_shard(ShardRule *r);

const OpDef def_attention = { .shard = attention_shard, .infer = attention_infer, .expand = attention_expand,
			      .vjp = attention_vjp, .cost = attention_cost,
			      .along = attention_along, .sample = attention_sample };

/* ---- attention_grad ---- */

/* Operands after q, k, v, [mask], [bias]: out, lse, dout, and dlse if there is one. */
static bool attention_grad_infer(InferCx *cx)
{
	const attention_attr *a = cx->attr;
	if (!need_attention(cx, a, 3, 1))
		return false;
	if (cx->nout != 3u + a->bias)
		return infer_fail(cx, "attention_grad: %u results, not %u", cx->nout, 3u + a->bias);
	const Type *q = infer_type(cx, 0), *v = infer_type(cx, 2);
	DType wide = compute_dtype(q->dtype);
	Dim dim[MAX_RANK];
	u32 r = q->rank, at = 3 + a->mask + a->bias;
	for (u32 d = 0; d < r; d++)
		dim[d] = d + 1 < r ? q->dim[d] : v->dim[d];
	const Type *out = type_make(cx->ir, wide, r, dim), *row = type_make(cx->ir, wide, r - 1, dim);
	const Type *want[] = { out, row, out, row };
	const char *name[] = { "out", "lse", "dout", "dlse" };
	for (u32 i = at; i < cx->nin; i++)
		if (infer_type(cx, i) != want[i - at])
			return infer_fail(cx, "attention_grad: %s is %s, which does not fit q %s",
					  name[i - at], infer_text(cx, i), infer_text(cx, 0));
	for (u32 i = 0; i < 3; i++)
		result_like(cx, i, i, wide);
	return !a->bias || result_like(cx, 3, 3 + a->mask, wide);
}

/* The sum of `v` over the dimensions along which a value shaped `like` repeats to its shape. */
static Val sum_to(Builder *b, Val v, const Type *like)
{
	const Type *t = val_type(b->g, v);
	i64 axes[MAX_RANK];
	u32 n = 0;
	for (u32 d = 0; d < t->rank; d++) {
		i64 at = (i64)d - (t->rank - like->rank);
		if (at < 0 || like->dim[at] != t->dim[d])
			axes[n++] = d;
	}
	if (n)
		v = BA(b, sum, (v), .axes = { n, axes });
	return val_type(b->g, v)->rank == like->rank
		       ? v
		       : BA(b, reshape, (v), .shape = { like->rank, like->dim });
}

static void attention_grad_expand(Builder *b, const Node *n, Val *out)
{
	const attention_attr *a = n->attr;
	Val q = n->in[0], k = n->in[1], v = n->in[2];
	const Val *more = n->in + 3 + a->mask + a->bias;
	Shape s = shape_of(b->g->ir, val_type(b->g, q), val_type(b->g, k), val_type(b->g, v));
	i64 last = s.rank - 1;
	Val bounded, scores = scores_of(b, a, &s, n->in, &bounded);
	Val shift = finite_shift(b, more[1]);
	Val p = B(b, exp, B(b, sub, scores, along_axis(b, shift, scores, last)));
	Val dout = rounded_like(b, more[2], q);
	Val dp = product(b, &s, dout, of_out, v, of_v, of_scores);
	Val row = sum_axis(b, B(b, mul, more[2], more[0]), last);
	if (n->nin > 6u + a->mask + a->bias)
		row = B(b, sub, row, more[3]);
	Val ds = B(b, mul, p, B(b, sub, dp, along_axis(b, row, scores, last)));
	Val dproduct = ds;
	if (bounded.i)
		dproduct = B(b, mul, ds, B(b, sub, make_full_like(b, bounded, 1), B(b, mul, bounded, bounded)));
	Val ds_narrow = rounded_like(b, dproduct, q);
	Val dq = product(b, &s, ds_narrow, of_scores, k, of_k, of_q);
	Val dk = product(b, &s, ds_narrow, of_scores, q, of_q, of_k);
	out[0] = B(b, mul, dq, scale_of(b, a, &s, dq));
	out[1] = B(b, mul, dk, scale_of(b, a, &s, dk));
	out[2] = product(b, &s, rounded_like(b, p, q), of_scores, dout, of_out, of_v);
	if (a->bias)
		out[3] = sum_to(b, ds, val_type(b->g, n->in[3 + a->mask]));
}

/* dP and dV over the value width, dQ and dK over the key width. Making P again is recomputation,
 * which model FLOPs leave out. Per pair: dP - D, times P; per row D. */
static Cost attention_grad_cost(const Graph *g, const Node *n)
{
	return cost_with(g, n, 2, 2, 2, 2);
}

static Val attention_grad_sample(Random *r, Builder *b)
{
	Val out = attention_sample(r, b);
	const Node n = *val_node(b->g, out);
	const Type *t = val_type(b->g, out);
	Val dout[2] = { sample_real(r, b, t->dtype, t->rank, t->dim) }, din[5] = { { 0 } };
	if (random_chance(r, 0.3))
		dout[1] = sample_real(r, b, t->dtype, t->rank - 1u, t->dim);
	attention_vjp(b, &n, dout, din);
	return din[0];
}

const OpDef def_attention_grad = { .shard = attention_shard, .infer = attention_grad_infer, .expand = attention_grad_expand,
				   .cost = attention_grad_cost,
				   .sample = attention_grad_sample };

/* ---- division over devices: leading dimensions, groups of heads, heads of a group, and forward the width of v ---- */

/* A mask or bias repeats along dimensions that it lacks or that are 1: there it has no label. */
static void label_repeated(ShardRule *r, u32 label, u32 tensor, const Type *t, u32 rank, u32 dim, i64 outer, i64 extent)
{
	i64 at = (i64)dim - (rank - t->rank);
	if (at >= 0 && type_extent(t, (u32)at) == extent)
		shard_at(r, label, tensor, (u32)at, outer);
}

/* Of self-attention: queries, keys and values at the same positions; a mask keeps all keys. */
static void label_positions(ShardRule *r, i64 rows, u32 rank)
{
	const Node *n = r->n;
	const attention_attr *a = n->attr;
	u32 l = shard_label(r, rows);
	r->label.v[l].fix = SHARD_RING;
	r->label.v[l].stripes = a->causal;
	for (u32 i = 0; i < n->nin + n->nout; i++) {
		const Type *t = val_type(r->g, i < n->nin ? n->in[i] : (Val){ n->out.i + i - n->nin });
		if (a->mask && i == 3)
			label_repeated(r, l, i, t, rank, rank - 2, 1, rows);
		else
			shard_at(r, l, i, rank - 2, 1);
	}
}

static void attention_shard(ShardRule *r)
{
	const Node *n = r->n;
	const attention_attr *a = n->attr; /* both ops' */
	const Type *q = val_type(r->g, n->in[0]), *k = val_type(r->g, n->in[1]);
	u32 rank = q->rank, heads = rank - 3, results = n->nin, optional = 3 + a->mask + a->bias, tensors = n->nin + n->nout;
	bool grad = n->op == OP_attention_grad;
	i64 groups = type_extent(k, heads), repeats = groups ? type_extent(q, heads) / groups : 1;
	for (u32 d = 0; d <= heads + 1; d++) { /* heads: groups; heads + 1: heads of a group */
		u32 dim = MIN(d, heads);
		i64 outer = d > heads ? groups : 1, extent = d < heads ? type_extent(q, d) : d == heads ? groups : repeats;
		u32 l = shard_label(r, extent);
		r->label.v[l].reduce = grad ? SHARD_SUM : SHARD_NONE;
		r->label.v[l].heads = d >= heads;
		for (u32 i = 0; i < tensors; i++) {
			bool key = i == 1 || i == 2 || (grad && (i == results + 1 || i == results + 2));
			bool repeated = (i >= 3 && i < optional) || (grad && i == results + 3);
			const Type *t = val_type(r->g, i < n->nin ? n->in[i] : (Val){ n->out.i + i - n->nin });
			if (repeated)
				label_repeated(r, l, i, t, rank, dim, outer, type_extent(q, dim));
			else if (!key || d <= heads)
				shard_at(r, l, i, dim, outer);
		}
	}
	i64 rows = type_extent(q, heads + 1);
	if (!a->bias && rows == type_extent(k, heads + 1))
		label_positions(r, rows, rank);
	if (grad)
		return;
	u32 l = shard_label(r, type_extent(val_type(r->g, n->in[2]), rank - 1));
	shard_at(r, l, 2, rank - 1, 1);
	shard_at(r, l, n->nin, rank - 1, 1);
}

/* ---- rope ---- */

static bool rope_infer(InferCx *cx)
{
	const rope_attr *a = cx->attr;
	const Type *x = infer_type(cx, 0), *p = infer_type(cx, 1);
	if (!need_float(cx, 0, "x"))
		return false;
	if (p->dtype != DT_i32 && p->dtype != DT_f32 && p->dtype != DT_i64 && p->dtype != DT_f64)
		return infer_fail(cx, "rope: positions are i32 or f32, not %s", infer_text(cx, 1));
	if (x->rank < 2 || p->rank != 1 || p->dim[0] != x->dim[x->rank - 2])
		return infer_fail(cx, "rope: positions %s do not fit x[.., T, K] of %s",
				  infer_text(cx, 1), infer_text(cx, 0));
	if (!dim_whole(cx->ir, x->dim[x->rank - 1], dim_number(cx->ir, 2)))
		return infer_fail(cx, "rope: the last dimension of x %s must be even",
				  infer_text(cx, 0));
	if (a->interleaved && x->rank == MAX_RANK)
		return infer_fail(cx, "rope: interleaved pairs take at most %d dimensions, not %s",
				  MAX_RANK - 1, infer_text(cx, 0));
	if (!(a->base > 0))
		return infer_fail(cx, "rope: a base of %g is not positive", a->base);
	same_axis(cx, 1, 0, 0, x->rank - 2);
	return result_like(cx, 0, 0, x->dtype);
}

/* The frequencies base^(-2 i / K), [K / 2]. */
static Val rope_frequency(Builder *b, const rope_attr *a, Dim width, Dim half, DType wide)
{
	dims shape = { 1, &half };
	Val i = BS(b, iota, .axis = 0, .dtype = wide, .shape = shape);
	Val k = BS(b, extent, .size = { 1, &width }, .dtype = wide);
	Val power = B(b, div, times(b, i, -2), repeated(b, k, i));
	return B(b, pow, make_full_like(b, i, a->base), power);
}

/* x[.., T, K] as the two halves of each pair, [.., T, K / 2] both. */
static void take_pairs(Builder *b, Val x, bool interleaved, Dim half, Val *first, Val *second)
{
	Ir *ir = b->g->ir;
	const Type *t = val_type(b->g, x);
	u32 r = t->rank;
	Dim start[MAX_RANK], size[MAX_RANK], pairs[MAX_RANK];
	i64 step[MAX_RANK];
	for (u32 d = 0; d < r; d++) {
		start[d] = dim_number(ir, 0);
		size[d] = pairs[d] = t->dim[d];
		step[d] = 1;
	}
	pairs[r - 1] = half;
	if (interleaved) {
		size[r - 1] = half;
		size[r] = dim_number(ir, 2);
		x = BA(b, reshape, (x), .shape = { r + 1, size });
		start[r] = dim_number(ir, 0);
		size[r] = dim_number(ir, 1);
		step[r] = 1;
		r++;
	} else {
		size[r - 1] = half;
	}
	for (u32 i = 0; i < 2; i++) {
		Val part = BA(b, slice, (x), .start = { r, start }, .size = { r, size },
			      .step = { r, step });
		*(i ? second : first) =
			interleaved ? BA(b, reshape, (part), .shape = { r - 1, pairs }) : part;
		start[r - 1] = interleaved ? dim_number(ir, 1) : half;
	}
}

static Val put_pairs(Builder *b, Val first, Val second, bool interleaved, const Type *like)
{
	const Type *t = val_type(b->g, first);
	u32 r = t->rank;
	if (!interleaved)
		return BA(b, concat, (first, second), .axis = r - 1);
	Dim one[MAX_RANK];
	for (u32 d = 0; d < r; d++)
		one[d] = t->dim[d];
	one[r] = dim_number(b->g->ir, 1);
	first = BA(b, reshape, (first), .shape = { r + 1, one });
	second = BA(b, reshape, (second), .shape = { r + 1, one });
	Val both = BA(b, concat, (first, second), .axis = r);
	return BA(b, reshape, (both), .shape = { like->rank, like->dim });
}

static void rope_expand(Builder *b, const Node *n, Val *out)
{
	const rope_attr *a = ATTR(n, rope);
	const Type *t = val_type(b->g, n->in[0]);
	Val x = widened(b, n->in[0]), first, second;
	DType wide = val_type(b->g, x)->dtype;
	u32 r = t->rank;
	Dim width = t->dim[r - 1], half = dim_div(b->g->ir, width, dim_number(b->g->ir, 2));
	take_pairs(b, x, a->interleaved, half, &first, &second);
	Val frequency = rope_frequency(b, a, width, half, wide);
	dims table = { 2, (Dim[]){ t->dim[r - 2], half } };
	Val position = BA(b, broadcast, (make_cast(b, n->in[1], wide)), .shape = table,
			  .dims = { 1, (i64[]){ 0 } });
	Val angle = B(b, mul, position, make_broadcast(b, frequency, table));
	Val c = repeated(b, B(b, cos, angle), first), s = repeated(b, B(b, sin, angle), first);
	Val one = B(b, sub, B(b, mul, first, c), B(b, mul, second, s));
	Val two = B(b, add, B(b, mul, second, c), B(b, mul, first, s));
	out[0] = make_cast(b, put_pairs(b, one, two, a->interleaved, t), t->dtype);
}

/* The rotation by the negative angles. Positions that are floats have a derivative too: with y the
 * result, d angle = dy_2 y_1 - dy_1 y_2. */
static void rope_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const rope_attr *a = ATTR(n, rope);
	din[0] = build(b, OP_rope, (Val[]){ dout[0], B(b, neg, n->in[1]) }, 2, 0, n->attr);
	if (!dtype_is_float(val_type(b->g, n->in[1])->dtype))
		return;
	const Type *t = val_type(b->g, n->in[0]);
	u32 r = t->rank;
	Dim width = t->dim[r - 1], half = dim_div(b->g->ir, width, dim_number(b->g->ir, 2));
	Val y = widened(b, n->out), dy = widened(b, dout[0]), y1, y2, dy1, dy2;
	take_pairs(b, y, a->interleaved, half, &y1, &y2);
	take_pairs(b, dy, a->interleaved, half, &dy1, &dy2);
	Val dangle = B(b, sub, B(b, mul, dy2, y1), B(b, mul, dy1, y2));
	Val f = rope_frequency(b, a, width, half, val_type(b->g, y)->dtype);
	Val each = B(b, mul, dangle, repeated(b, f, dangle));
	i64 axes[MAX_RANK];
	u32 naxes = 0;
	for (u32 d = 0; d < r; d++)
		if (d != r - 2)
			axes[naxes++] = d;
	din[1] = BA(b, sum, (each), .axes = { naxes, axes });
}

static Along rope_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	u32 r = val_type(g, n->in[0])->rank;
	if (in == 1)
		return d + 2 == r ? ALONG_POINTWISE : ALONG_NOT_THERE;
	return d + 1 == r ? ALONG_MIXING : ALONG_POINTWISE;
}

static Val rope_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 2, 4, dim);
	dim[rank - 1] = dim_number(b->g->ir, 2 * random_int(r, 1, 3));
	DType dtype = random_float(r);
	Val x = sample_real(r, b, dtype, rank, dim);
	Val at = random_chance(r, 0.5)
			 ? sample_input(r, b, SAMPLE_WHOLE, DT_i32, 1, dim + rank - 2, 0, 20)
			 : sample_real(r, b, dtype, 1, dim + rank - 2);
	return BA(b, rope, (x, at), .base = 100, .interleaved = random_chance(r, 0.5));
}

const OpDef def_rope = { .infer = rope_infer, .expand = rope_expand, .vjp = rope_vjp,
			 .along = rope_along, .sample = rope_sample };
