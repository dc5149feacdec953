/* passes/graph/ring.c: see ring.h. */
#include "passes/graph/ring.h"

#include <math.h>

typedef struct Turns {
	const Ring *r;
	Builder *b;
	const attention_attr *a; /* both ops' */
	Val q, k, v, mask;       /* of this turn: k and v; mask {0}: none */
	i64 keys;                /* of a device: as many as queries */
	bool backward;
} Turns;

static const Type *type_of(const Turns *t, Val v)
{
	return val_type(t->b->g, v);
}

/* To the next device. Backwards, that is said the other way round the ring: a node of its own, for what shared the one of the
 * forward half would keep every block that came by until then. */
static Val permute(const Turns *t, Val v)
{
	i64 shift = t->backward ? 1 - t->r->parts : 1;
	return build(t->b, OP_permute, &v, 1, 1, &(permute_attr){ .over = t->r->over, .parts = t->r->parts, .shift = shift });
}

static Val number(const Turns *t, i64 x)
{
	return make_full(t->b, (f64)x, DT_i32, (dims){ 0 });
}

/* iota along one of two. */
static Val positions(const Turns *t, i64 axis, dims shape)
{
	return BS(t->b, iota, .axis = axis, .dtype = DT_i32, .shape = shape);
}

static Val this_device(const Turns *t)
{
	return make_cast(t->b, t->r->at, DT_i32);
}

/* 1 where the keys of turn i came round the end: they are of a device behind this one; else 0. */
static Val round_the_end(const Turns *t, i64 i)
{
	return make_cast(t->b, B(t->b, lt, this_device(t), number(t, i)), DT_i32);
}

/* Of stripes, query j and key k of turn i are n (j - k) + i positions apart, and n less where the keys came round the end. */
static i64 window_at(const Turns *t, i64 i)
{
	return MAX(0, (t->a->window - i + t->r->parts - 1) / t->r->parts);
}

static Val causal_mask(const Turns *t, i64 i)
{
	Dim n = dim_number(t->b->g->ir, t->keys), dim[2] = { n, n };
	dims row = { 1, dim }, square = { 2, dim };
	Val query = positions(t, 0, square), key = B(t->b, add, positions(t, 0, row), make_broadcast(t->b, round_the_end(t, i), row));
	key = make_broadcast(t->b, key, square);
	Val seen = B(t->b, le, key, query);
	if (!t->a->window)
		return seen;
	Val apart = B(t->b, sub, query, key);
	return B(t->b, and, seen, B(t->b, lt, apart, make_full(t->b, (f64)window_at(t, i), DT_i32, square)));
}

/* The columns of the given mask that belong to the keys of turn i. */
static Val given_mask(const Turns *t, i64 i)
{
	const Type *m = type_of(t, t->mask);
	u32 last = m->rank - 1u;
	if (type_extent(m, last) != t->keys * t->r->parts)
		return t->mask; /* the same for every key */
	Ir *ir = t->b->g->ir;
	i64 run = t->keys / t->r->runs;
	Dim dim[2] = { dim_number(ir, t->r->runs), dim_number(ir, run) }, keys = dim_number(ir, t->keys);
	dims shape = { 2, dim };
	Val device = B(t->b, sub, this_device(t), number(t, i));
	device = B(t->b, add, device, B(t->b, mul, round_the_end(t, i), number(t, t->r->parts)));
	Val first = B(t->b, mul, positions(t, 0, shape), make_full(t->b, (f64)(run * t->r->parts), DT_i32, shape));
	first = B(t->b, add, first, make_broadcast(t->b, B(t->b, mul, device, number(t, run)), shape));
	Val index = B(t->b, add, first, positions(t, 1, shape));
	index = BA(t->b, reshape, (index), .shape = { 1, &keys });
	return BA(t->b, gather, (t->mask, index), .axis = last);
}

static Val both(const Turns *t, Val a, Val b)
{
	const Type *x = type_of(t, a), *y = type_of(t, b);
	Dim dim[MAX_RANK];
	u32 rank = MAX(x->rank, y->rank);
	for (u32 d = 0; d < rank; d++) {
		i64 left = d + x->rank < rank ? 1 : type_extent(x, d + x->rank - rank);
		i64 right = d + y->rank < rank ? 1 : type_extent(y, d + y->rank - rank);
		dim[d] = dim_number(t->b->g->ir, MAX(left, right));
	}
	dims shape = { rank, dim };
	return B(t->b, and, make_broadcast(t->b, a, shape), make_broadcast(t->b, b, shape));
}

/* The op on the keys of turn i: in turn 0 they stand at the positions of the queries. `more`: operands behind the mask. */
static Val one_turn(const Turns *t, Op op, i64 i, const Val *more, u32 nmore, u32 nout)
{
	attention_attr a = *t->a;
	Val in[8] = { t->q, t->k, t->v }, mask = t->mask.i ? given_mask(t, i) : (Val){ 0 };
	u32 n = 3;
	if (i && a.causal)
		mask = mask.i ? both(t, mask, causal_mask(t, i)) : causal_mask(t, i);
	if (a.window)
		a.window = window_at(t, i) + (i > 0);
	a.mask = mask.i != 0;
	if (mask.i)
		in[n++] = mask;
	for (u32 k = 0; k < nmore; k++)
		in[n++] = more[k];
	return build(t->b, op, in, n, nout, &a);
}

static Val along_rows(const Turns *t, Val row, Val like)
{
	const Type *to = type_of(t, like);
	i64 map[MAX_RANK];
	for (u32 d = 0; d + 1 < to->rank; d++)
		map[d] = d;
	return BA(t->b, broadcast, (row), .shape = { to->rank, to->dim }, .dims = { to->rank - 1u, map });
}

/* Two parts of the same rows' attention: each weighs what its exponentials sum up to. A row that has seen nothing has -inf. */
static void merge(const Turns *t, Val *out, Val *lse, Val more, Val more_lse)
{
	Builder *b = t->b;
	Val most = B(b, max, *lse, more_lse), none = make_full_like(b, most, -INFINITY), zero = make_full_like(b, most, 0);
	Val shift = B(b, where, B(b, eq, most, none), zero, most);
	Val x = B(b, exp, B(b, sub, *lse, shift)), y = B(b, exp, B(b, sub, more_lse, shift));
	Val total = B(b, add, x, y);
	Val over = B(b, recip, B(b, where, B(b, eq, total, zero), make_full_like(b, total, 1), total));
	x = B(b, mul, x, over);
	y = B(b, mul, y, over);
	*out = B(b, add, B(b, mul, *out, along_rows(t, x, *out)), B(b, mul, more, along_rows(t, y, more)));
	*lse = B(b, add, shift, B(b, log, total));
}

static void forward(Turns *t, Val *out)
{
	for (i64 i = 0; i < t->r->parts; i++) {
		Val o = one_turn(t, OP_attention, i, NULL, 0, 2);
		if (i)
			merge(t, &out[0], &out[1], o, (Val){ o.i + 1 });
		else
			out[0] = o, out[1] = (Val){ o.i + 1 };
		if (i + 1 < t->r->parts) {
			t->k = permute(t, t->k);
			t->v = permute(t, t->v);
		}
	}
}

/* more: out, lse, dout, [dlse] of all the rows' keys. */
static void backward(Turns *t, const Val *more, u32 nmore, Val *out)
{
	for (i64 i = 0; i < t->r->parts; i++) {
		Val d = one_turn(t, OP_attention_grad, i, more, nmore, 3);
		for (u32 k = 0; k < 3; k++) {
			Val mine = { d.i + k };
			out[k] = i == 0 ? mine : B(t->b, add, k ? permute(t, out[k]) : out[k], mine);
		}
		if (i + 1 < t->r->parts) {
			t->k = permute(t, t->k);
			t->v = permute(t, t->v);
		}
	}
	out[1] = permute(t, out[1]);
	out[2] = permute(t, out[2]);
}

void ring_attention(const Ring *r, const Node *n, const Val *in, Val *out)
{
	Turns t = { .r = r, .b = r->b, .a = n->attr, .q = in[0], .k = in[1], .v = in[2], .backward = n->op == OP_attention_grad };
	const Type *q = type_of(&t, t.q);
	t.keys = type_extent(q, q->rank - 2u);
	if (t.a->mask)
		t.mask = in[3];
	assert(!t.a->bias && (!t.a->causal || t.r->runs == t.keys));
	if (n->op == OP_attention)
		forward(&t, out);
	else
		backward(&t, in + 3 + t.a->mask, n->nin - 3u - t.a->mask, out);
}
