/* passes/graph/absorb.c: the pass `absorb`: attention over what its keys and values are products of.
 *
 * Multi-head latent attention (DeepSeek-AI 2024, DeepSeek-V2) makes keys and values of all heads from one narrow latent c: k = W c
 * beside a part that all heads share, v = U c. Since (W c) q = c (W' q), and a weighted sum of U c is U of that sum, the products
 * may move to the query's side: every head's query asks the latents themselves, as if they were one head's keys and values. Where
 * keys are kept for later positions (the pass `incremental`), latents are what is kept then, a small part of all heads' keys
 * and values. Scores and sums are over longer rows, so that this is for decoding and not for training.
 *
 * Done where each part of the keys is such a product or repeats for all heads, so are the values, and less would be kept. A product
 * is found behind views of its result, which are then taken of its weight. */
#include "ir/dot.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

#include <math.h>
#include <string.h>

enum { PARTS = 8, VIEWS = 8 };

/* A value [.., H, S, n]: of a latent [.., S, r] and weights [H, n, r], or, without weights, the latent for each head. */
typedef struct Part {
	Val latent; /* of the old graph */
	Val weight; /* of the new one */
	i64 size, kept;
} Part;

typedef struct Absorb {
	bool *given; /* [value] follows from the entry's inputs */
} Absorb;

/* Which side of a product each dimension of a view of its result is of. */
typedef struct Sides {
	u32 rank;
	bool weight[MAX_RANK];
} Sides;

static u32 is_weight(const Sides *s, u32 before)
{
	u32 n = 0;
	for (u32 d = 0; d < before; d++)
		n += s->weight[d];
	return n;
}

/* The weight's dimensions in the order of the view's, and then its last one. Those of the latent stay in order. */
static bool view_transpose(Builder *b, const Node *n, Sides *s, Val *w)
{
	const i64 *perm = ATTR(n, transpose)->perm.v;
	Sides now = { .rank = s->rank };
	i64 order[MAX_RANK], before = -1;
	u32 at = 0;
	for (u32 d = 0; d < s->rank; d++) {
		now.weight[d] = s->weight[perm[d]];
		if (now.weight[d])
			order[at++] = is_weight(s, (u32)perm[d]);
		else if (perm[d] < before)
			return false;
		else
			before = perm[d];
	}
	order[at] = at;
	*s = now;
	*w = BA(b, transpose, (*w), .perm = ints_of(b, order, at + 1));
	return true;
}

/* Dimensions of the latent stay, one of the weight's may become several. */
static bool view_reshape(Builder *b, const Type *from, const Type *to, Sides *s, Val *w)
{
	Sides now = { .rank = to->rank };
	Dim shape[MAX_RANK];
	u32 j = 0, at = 0;
	for (u32 d = 0; d < from->rank; d++) {
		Dim have = 0;
		do {
			if (j == to->rank)
				return false;
			have = have ? dim_mul(b->g->ir, have, to->dim[j]) : to->dim[j];
			now.weight[j] = s->weight[d];
			if (s->weight[d])
				shape[at++] = to->dim[j];
			j++;
		} while (have != from->dim[d] && s->weight[d]);
		if (have != from->dim[d])
			return false;
	}
	if (j != to->rank || at + 1 >= MAX_RANK)
		return false;
	const Type *t = val_type(b->g, *w);
	shape[at] = t->dim[t->rank - 1];
	*s = now;
	*w = BA(b, reshape, (*w), .shape = dims_of(b, shape, at + 1));
	return true;
}

/* A part along one dimension of the weight's. */
static bool view_part(Builder *b, const Sides *s, u32 d, Dim start, Dim size, Val *w)
{
	if (!s->weight[d])
		return false;
	const Type *t = val_type(b->g, *w);
	u32 own = is_weight(s, d);
	Dim from[MAX_RANK], most[MAX_RANK];
	i64 step[MAX_RANK];
	for (u32 k = 0; k < t->rank; k++) {
		from[k] = k == own ? start : dim_number(b->g->ir, 0);
		most[k] = k == own ? size : t->dim[k];
		step[k] = 1;
	}
	*w = BA(b, slice, (*w), .start = dims_of(b, from, t->rank), .size = dims_of(b, most, t->rank), .step = ints_of(b, step, t->rank));
	return true;
}

static bool view_slice(Builder *b, const Node *n, const Type *from, const Sides *s, Val *w)
{
	const slice_attr *a = ATTR(n, slice);
	for (u32 d = 0; d < from->rank; d++)
		if (a->step.v[d] != 1 || (a->size.v[d] != from->dim[d] && !view_part(b, s, d, a->start.v[d], a->size.v[d], w)))
			return false;
	return true;
}

static bool view_split(Builder *b, const Node *n, u32 result, const Sides *s, Val *w)
{
	const split_attr *a = ATTR(n, split);
	Dim start = dim_number(b->g->ir, 0);
	for (u32 k = 0; k < result; k++)
		start = dim_add(b->g->ir, start, a->sizes.v[k]);
	return view_part(b, s, (u32)a->axis, start, a->sizes.v[result], w);
}

/* The product's operand that follows from inputs, and the other, which does not, as [.., r]. */
static bool product(Rewrite *rw, const Node *n, Sides *s, Part *out)
{
	const Absorb *x = rw->data;
	DotSpec d;
	if (dot_spec_read(ATTR(n, dot)->spec, &d) || x->given[n->in[0].i] == x->given[n->in[1].i])
		return false;
	u32 latent = x->given[n->in[0].i] ? 0 : 1, weight = 1 - latent, inner = NONE, at = 0;
	DotPart other = weight ? DOT_RIGHT : DOT_LEFT;
	for (u32 k = 0; k < d.rank[weight]; k++) {
		DotPart part = dot_part(&d, d.index[weight][k]);
		if (part == DOT_INNER && inner == NONE)
			inner = k;
		else if (part != other)
			return false;
	}
	/* of the latent: [.., r] as it stands, so that what is kept is what was made */
	if (inner == NONE || dot_part(&d, d.index[latent][d.rank[latent] - 1]) != DOT_INNER)
		return false;
	i64 order[MAX_RANK];
	s->rank = d.rank[2];
	u32 next = 0;
	for (u32 k = 0; k < s->rank; k++) {
		s->weight[k] = dot_part(&d, d.index[2][k]) == other;
		i8 place = d.at[d.index[2][k]][s->weight[k] ? weight : latent];
		if (s->weight[k])
			order[at++] = place;
		else if ((u32)place != next++)
			return false;
	}
	order[at] = inner;
	out->latent = n->in[latent];
	out->weight = BA(&rw->b, transpose, (rw->map[n->in[weight].i]), .perm = ints_of(&rw->b, order, at + 1));
	return true;
}

/* Is `v`: [.., H, S, n] a product of a latent [.., S, r]? */
static bool find_product(Rewrite *rw, Val v, Part *out)
{
	const Graph *g = rw->from;
	Val view[VIEWS];
	u32 nview = 0;
	while (val_node(g, v)->op != OP_dot) {
		const Node *n = val_node(g, v);
		if (nview == VIEWS || (n->op != OP_transpose && n->op != OP_reshape && n->op != OP_slice && n->op != OP_split))
			return false;
		view[nview++] = v;
		v = n->in[0];
	}
	Sides s = { 0 };
	if (!product(rw, val_node(g, v), &s, out))
		return false;
	Builder *b = &rw->b;
	Val *w = &out->weight;
	while (nview) {
		Val to = view[--nview];
		const Node *n = val_node(g, to);
		const Type *from = val_type(g, n->in[0]);
		bool fine = n->op == OP_transpose ? view_transpose(b, n, &s, w) :
			    n->op == OP_reshape	  ? view_reshape(b, from, val_type(g, to), &s, w) :
			    n->op == OP_slice	  ? view_slice(b, n, from, &s, w) :
						    view_split(b, n, to.i - n->out.i, &s, w);
		if (!fine)
			return false;
	}
	for (u32 d = 0; d < s.rank; d++)
		if (s.weight[d] != (d + 3 == s.rank || d + 1 == s.rank))
			return false;
	return s.rank >= 3 && val_type(b->g, *w)->rank == 3;
}

/* Does `v`: [.., H, S, n] repeat [.., S, n] for each head? */
static bool find_shared(const Graph *g, Val v, Part *out)
{
	const Node *n = val_node(g, v);
	u32 rank = val_type(g, v)->rank;
	if (n->op != OP_broadcast || val_type(g, n->in[0])->rank + 1u != rank)
		return false;
	const ints dims = ATTR(n, broadcast)->dims;
	for (u32 d = 0; d < dims.n; d++)
		if (dims.v[d] != (d + 3 < rank ? d : d + 1) || val_type(g, n->in[0])->dim[d] != val_type(g, v)->dim[dims.v[d]])
			return false;
	*out = (Part){ .latent = n->in[0] };
	return true;
}

static bool find_part(Rewrite *rw, Val v, Part *out)
{
	const Type *t = val_type(rw->from, v), *from;
	*out = (Part){ 0 };
	if (!find_shared(rw->from, v, out) && !find_product(rw, v, out))
		return false;
	from = val_type(rw->from, out->latent);
	return from->rank + 1u == t->rank && from->dim[from->rank - 2] == t->dim[t->rank - 2] && dim_is_number(t->dim[t->rank - 1], &out->size) &&
	       dim_is_number(from->dim[from->rank - 1], &out->kept);
}

/* x along its last dimension, from `start` on. */
static Val columns(Builder *b, Val x, i64 start, i64 size)
{
	const Type *t = val_type(b->g, x);
	Dim from[MAX_RANK], most[MAX_RANK];
	i64 step[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++) {
		bool last = d + 1 == t->rank;
		from[d] = dim_number(b->g->ir, last ? start : 0);
		most[d] = last ? dim_number(b->g->ir, size) : t->dim[d];
		step[d] = 1;
	}
	return BA(b, slice, (x), .start = dims_of(b, from, t->rank), .size = dims_of(b, most, t->rank), .step = ints_of(b, step, t->rank));
}

/* x: [.., H, T, i] times each head's weights, [H, n, r]: over n, or over r. */
static Val by_head(Builder *b, Val x, Val w, bool over_rows)
{
	const char *letters = "abcdefg";
	u32 rank = val_type(b->g, x)->rank;
	char spec[4 * MAX_RANK], *p = spec;
	for (u32 side = 0; side < 3; side++) {
		if (side == 1) {
			memcpy(p, ",hnr->", 6);
			p += 6;
			continue;
		}
		memcpy(p, letters, rank - 3);
		p += rank - 3;
		*p++ = 'h';
		*p++ = 't';
		*p++ = (side == 0) == over_rows ? 'n' : 'r';
	}
	*p = 0;
	return BA(b, dot, (x, w), .spec = intern_z(&b->g->ir->names, spec));
}

/* One head's keys: [.., S, n] as [.., 1, S, n]. */
static Val one_head(Builder *b, Val x)
{
	const Type *t = val_type(b->g, x);
	Dim shape[MAX_RANK];
	for (u32 d = 0; d + 2 < t->rank; d++)
		shape[d] = t->dim[d];
	shape[t->rank - 2] = dim_number(b->g->ir, 1);
	shape[t->rank - 1] = t->dim[t->rank - 2];
	shape[t->rank] = t->dim[t->rank - 1];
	return BA(b, reshape, (x), .shape = dims_of(b, shape, t->rank + 1));
}

static bool absorb(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	if (n->op != OP_attention)
		return false;
	const Graph *g = rw->from;
	const Node *keys = val_node(g, n->in[1]);
	const Type *q = val_type(g, n->in[0]), *k = val_type(g, n->in[1]);
	bool apart = keys->op == OP_concat && ATTR(keys, concat)->axis + 1 == k->rank;
	u32 nkey = apart ? keys->nin : 1, at_value = NONE;
	Part key[PARTS], value;
	i64 heads, kept = 0;
	if (q->rank < 3 || nkey > PARTS || q->dim[q->rank - 3] != k->dim[k->rank - 3] || !dim_is_number(k->dim[k->rank - 3], &heads))
		return false;
	if (!find_part(rw, n->in[2], &value) || !value.weight.i)
		return false;
	bool products = false;
	i64 width = 0, begin = 0;
	for (u32 i = 0; i < nkey; i++) {
		if (!find_part(rw, apart ? keys->in[i] : n->in[1], &key[i]))
			return false;
		products |= key[i].weight.i != 0;
		if (key[i].latent.i == value.latent.i && at_value == NONE) {
			at_value = i;
			begin = kept;
		}
		kept += key[i].kept;
		width += key[i].size;
	}
	if (!products || kept + (at_value == NONE ? value.kept : 0) >= heads * (width + value.size))
		return false;
	Builder *b = &rw->b;
	Val query[PARTS], latent[PARTS], operand[5];
	i64 from = 0, axis = (i64)k->rank - 1;
	for (u32 i = 0; i < nkey; i++) {
		query[i] = columns(b, in[0], from, key[i].size);
		query[i] = key[i].weight.i ? by_head(b, query[i], key[i].weight, true) : query[i];
		latent[i] = rw->map[key[i].latent.i];
		from += key[i].size;
	}
	operand[0] = build(b, OP_concat, query, nkey, 0, &(concat_attr){ .axis = axis });
	Val all = build(b, OP_concat, latent, nkey, 0, &(concat_attr){ .axis = axis - 1 });
	operand[1] = one_head(b, all);
	operand[2] = one_head(b, at_value == NONE ? rw->map[value.latent.i] : columns(b, all, begin, value.kept));
	for (u32 i = 3; i < n->nin; i++)
		operand[i] = in[i];
	attention_attr a = *ATTR(n, attention);
	a.scale = a.scale > 0 ? a.scale : 1 / sqrt((f64)width);
	Val y = build(b, OP_attention, operand, n->nin, 0, &a);
	out[0] = by_head(b, y, value.weight, false);
	out[1] = (Val){ y.i + 1 };
	for (u32 i = 0; i < n->nout; i++)
		graph_set_axis(b->g, out[i], val_axis(g, (Val){ n->out.i + i }));
	return true;
}

static Graph *absorb_graph(PassCx *cx, const Graph *g)
{
	Absorb x = { .given = NEWN(cx->tmp, bool, g->value.n + 1) };
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		bool given = n->op == OP_input || n->op == OP_random;
		for (u32 k = 0; k < n->nin; k++)
			given |= x.given[n->in[k].i];
		for (u32 k = 0; k < n->nout; k++)
			x.given[n->out.i + k] = given;
	}
	return rewrite_graph(cx->out, cx->tmp, g, absorb, &x, false);
}

Program *pass_absorb(PassCx *cx, const Program *in)
{
	size_t at = 0;
	PassArg a;
	bool error = false;
	if (pass_argument(cx, &at, &a, &error))
		error = !pass_argument_unknown(cx, &a);
	if (error)
		return NULL;
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++)
		VEC_PUSH(cx->out, &to->entry, absorb_graph(cx, in->entry.v[i]));
	return to;
}
