/* passes/graph/canonical.c: the pass `canonical`: the last one over the graph, which puts it in the form
 * that fusion and lowering take (passes/fuse.h):
 *
 *   - a reduction is over the last axis alone (a kernel of class ROW) or over others only (COLUMN).
 *     Trailing axes become one by a reshape; a mixed set is its trailing part first, then the rest; all
 *     axes are the last one first, then the rest, so that what is long is many rows and not one; the largest of few elements is of one row. Sums of sums of a narrow type are
 *     of f32 in between: a sum is rounded once.
 *   - argmax is the smallest index at which the operand is the maximum; NaN counts as the largest.
 *   - what is added to a product's result at places (scatter_add) and nowhere else wanted is added there, in place, where
 *     the graph makes zeros of its own for it and adds those: scatter_add gets a third operand. One whose third operand
 *     cannot be written over becomes an addition.
 *   - the bias of a differentiated attention has the scores' full shape (a view), and its derivative is
 *     summed afterwards.
 *
 * Nodes are built without folds: a fold would make two reductions one again. For the same reason nothing
 * that folds may run behind this pass. */
#include "ir/dot.h"
#include "ir/target.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

enum {
	SHORT_ROW = 64,   /* a last axis shorter than this is merged with the one before it */
	LONG_ROW = 1 << 14 /* a row alone and longer than this is reduced in two steps */
};

static Val reshape(Builder *b, Val v, const Dim *dim, u32 rank)
{
	const Type *t = val_type(b->g, v);
	bool same = t->rank == rank;
	for (u32 d = 0; same && d < rank; d++)
		same = t->dim[d] == dim[d];
	return same ? v : BA(b, reshape, (v), .shape = { rank, dim });
}

/* The axes of `mask` in one node. */
static Val reduce_node(Builder *b, Op op, Val x, u32 mask)
{
	i64 axes[MAX_RANK];
	u32 n = 0;
	for (u32 d = 0; d < MAX_RANK; d++)
		if (mask >> d & 1)
			axes[n++] = d;
	return build(b, op, &x, 1, 0, &(sum_attr){ .axes = { n, axes } });
}

/* The last `n` axes of `x` as one. */
static Val merge_last(Builder *b, Val x, u32 n)
{
	const Type *t = val_type(b->g, x);
	Dim dim[MAX_RANK];
	u32 rank = t->rank - n + 1;
	for (u32 d = 0; d < t->rank; d++)
		if (d < rank)
			dim[d] = t->dim[d];
		else
			dim[rank - 1] = dim_mul(b->g->ir, dim[rank - 1], t->dim[d]);
	return reshape(b, x, dim, rank);
}

/* The largest divisor of n that is at most its root, as far as rows need be so many. */
static i64 near_root(i64 n)
{
	enum { MOST = 1 << 22 };
	i64 best = 1;
	for (i64 i = 2; i <= MOST && i <= n / i; i++)
		if (n % i == 0)
			best = i;
	return best;
}

static Val reduce(Builder *b, Op op, Val x, u32 mask);

/* Of which sums are taken that are summed again. */
static Val summed_again(Builder *b, Op op, Val x)
{
	return op == OP_sum && dtype_is_narrow_float(val_type(b->g, x)->dtype) ? make_cast(b, x, DT_f32) : x;
}

/* Every axis of x, none of extent 1. */
static Val reduce_all(Builder *b, Op op, Val x)
{
	const Type *t = val_type(b->g, x);
	i64 last = type_extent(t, t->rank - 1u);
	if (t->rank == 1) {
		i64 rows = last > LONG_ROW ? near_root(last) : 1;
		if (rows < 16)
			return reduce_node(b, op, x, 1);
		Dim dim[] = { dim_number(b->g->ir, rows), dim_number(b->g->ir, last / rows) };
		return reduce_all(b, op, reshape(b, x, dim, 2));
	}
	if (last < SHORT_ROW)
		return reduce_all(b, op, merge_last(b, x, 2));
	/* the largest is the same in whatever order it is sought: of few elements in one go */
	if (op != OP_sum && type_elements(t) <= LONG_ROW)
		return reduce_node(b, op, merge_last(b, x, t->rank), 1);
	return reduce_all(b, op, reduce_node(b, op, summed_again(b, op, x), 1u << (t->rank - 1)));
}

/* `x` without the axes of `mask`, by nodes in canonical form. Axes of one element need no reduction. */
static Val reduce(Builder *b, Op op, Val x, u32 mask)
{
	const Type *t = val_type(b->g, x);
	Dim dim[MAX_RANK], kept[MAX_RANK];
	u32 rank = 0, nkept = 0, now = 0;
	for (u32 d = 0; d < t->rank; d++) {
		bool one = type_extent(t, d) == 1, gone = mask >> d & 1;
		if (!gone)
			kept[nkept++] = t->dim[d];
		if (gone && one)
			continue;
		now |= (u32)gone << rank;
		dim[rank++] = t->dim[d];
	}
	if (now == 0)
		return reshape(b, x, kept, nkept);
	/* axes of one element behind the reduced ones would hide a row */
	while (!(now >> (rank - 1) & 1) && dim[rank - 1] == dim_number(b->g->ir, 1))
		rank--;
	x = reshape(b, x, dim, rank);
	u32 trailing = 0;
	while (trailing < rank && now >> (rank - 1 - trailing) & 1)
		trailing++;
	if (trailing == rank) {
		x = reduce_all(b, op, x);
	} else if (trailing == 0) {
		x = reduce_node(b, op, x, now);
	} else {
		x = merge_last(b, summed_again(b, op, x), trailing);
		rank = rank - trailing + 1;
		x = reduce_node(b, op, x, 1u << (rank - 1));
		x = reduce(b, op, x, now & ((1u << (rank - 1)) - 1));
	}
	return make_cast(b, reshape(b, x, kept, nkept), t->dtype);
}

static bool reduction(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	ints axes = ATTR(n, sum)->axes; /* the three share their attributes' layout */
	u32 mask = 0;
	for (u32 i = 0; i < axes.n; i++)
		mask |= 1u << axes.v[i];
	out[0] = reduce(&rw->b, (Op)n->op, in[0], mask);
	return true;
}

static bool argmax(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Builder *b = &rw->b;
	i64 axis = ATTR(n, argmax)->axis;
	const Type *t = val_type(b->g, in[0]);
	dims shape = { t->rank, t->dim };
	u32 mask = 1u << axis;
	i64 one[1] = { axis };
	Val largest = reduce(b, OP_reduce_max, in[0], mask);
	Val wins = B(b, eq, in[0], make_unreduce(b, largest, in[0], (ints){ 1, one }));
	if (dtype_is_float(t->dtype))
		wins = B(b, or, wins, B(b, ne, in[0], in[0]));
	Val index = BS(b, iota, .axis = axis, .dtype = DT_i32, .shape = shape);
	Val none = make_full(b, (f64)type_extent(t, (u32)axis), DT_i32, shape);
	out[0] = reduce(b, OP_reduce_min, B(b, where, wins, index, none), mask);
	return true;
}

static bool attention_grad(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Builder *b = &rw->b;
	const attention_grad_attr *a = ATTR(n, attention_grad);
	const Type *q = val_type(b->g, in[0]), *k = val_type(b->g, in[1]);
	u32 at = 3u + a->mask, mask = 0;
	if (!a->bias)
		return false;
	const Type *bias = val_type(b->g, in[at]), *result = val_type(rw->from, (Val){ n->out.i + 3 });
	Dim full[MAX_RANK];
	for (u32 d = 0; d < q->rank; d++)
		full[d] = d + 1u == q->rank ? k->dim[q->rank - 2] : q->dim[d];
	for (u32 d = 0; d < q->rank; d++) {
		u32 ahead = q->rank - bias->rank;
		if (d < ahead || bias->dim[d - ahead] != full[d])
			mask |= 1u << d;
	}
	if (!mask)
		return false;
	Val operand[16];
	assert(n->nin <= COUNT(operand));
	for (u32 i = 0; i < n->nin; i++)
		operand[i] = in[i];
	operand[at] = make_broadcast(b, in[at], (dims){ q->rank, full });
	Val v = build(b, OP_attention_grad, operand, n->nin, n->nout, a);
	for (u32 i = 0; i < 3; i++)
		out[i] = (Val){ v.i + i };
	out[3] = reshape(b, reduce(b, OP_sum, (Val){ v.i + 3 }, mask), result->dim, result->rank);
	return true;
}

/* Is the value a product's, or a sum of products', that no other node than this one wants, so that it may be written over? */
static bool written_over(const Rewrite *rw, Val v)
{
	const Node *n = val_node(rw->from, v);
	if (rw->uses[v.i] != 1)
		return false;
	if (n->op == OP_add)
		return written_over(rw, n->in[0]) || written_over(rw, n->in[1]);
	return n->op == OP_dot;
}

static Val scatter_onto(Rewrite *rw, const Node *scatter, Val a, Val b, Val c)
{
	const Val operand[] = { a, b, c };
	return build(&rw->b, OP_scatter_add, operand, 3, 0, scatter->attr);
}

static bool add(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	for (u32 i = 0; i < 2; i++) {
		const Node *s = val_node(rw->from, n->in[i]);
		if (s->op != OP_scatter_add || s->nin != 2 || rw->uses[n->in[i].i] != 1 || !written_over(rw, n->in[1 - i]))
			continue;
		out[0] = scatter_onto(rw, s, rw->map[s->in[0].i], rw->map[s->in[1].i], in[1 - i]);
		return true;
	}
	return false;
}

static bool scatter_add(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	if (n->nin == 2 || written_over(rw, n->in[2]))
		return false;
	out[0] = B(&rw->b, add, in[2], build(&rw->b, OP_scatter_add, in, 2, 0, n->attr));
	return true;
}

static bool visit(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	switch (n->op) {
	case OP_sum:
	case OP_reduce_max:
	case OP_reduce_min: return reduction(rw, n, in, out);
	case OP_argmax: return argmax(rw, n, in, out);
	case OP_attention_grad: return attention_grad(rw, n, in, out);
	case OP_add: return add(rw, n, in, out);
	case OP_scatter_add: return scatter_add(rw, n, in, out);
	default: return false;
	}
}

Program *pass_canonical(PassCx *cx, const Program *in)
{
	return rewrite_program(cx->out, cx->tmp, in, visit, cx, true);
}
