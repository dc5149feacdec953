/* passes/graph/operands.c: the pass `operands`: operands of 8 bits as the target's products take them (ir/target.h).
 *
 * A target that multiplies 8 bits does so where the dimension that is summed over runs fastest in both operands, and where rows, columns
 * and sums are multiples of 16 long (TargetInfo.products_f8). Of x, w and the cotangent dy of a linear layer each is summed over along both
 * of its dimensions (y = x w, dx = dy w', dw = x' dy), so that each is wanted in both orders. Where all who read a value want it
 * in one other order, it is only read transposed, and fusion stores it in that order (fuse_layout.c); else the other order is a copy, made once,
 * right before the first product that takes it: Transformer Engine and torchao keep such copies too.
 *
 * Elsewhere, where operands lie in memory as products take them (stores_operands), they are stored as bf16 or f16, which have all
 * their values. Where neither holds they are widened while they are packed, and nothing changes here.
 *
 * Values do not change, but for infinities of f8e5m2, which no cast makes (a file may have them): a copy is by way of f32, and casts saturate. Linear
 * in nodes. */
#include "ir/dot.h"
#include "ir/target.h"
#include "passes/fuse.h"
#include "passes/pass.h"
#include "passes/rewrite.h"
#include "support/map.h"

#include <string.h>

/* The order that dimensions of an operand are wanted in, outermost first. */
typedef struct Order {
	u32 n;
	i64 dim[MAX_RANK];
} Order;

/* What all who read a value want of it so far. */
typedef struct Wanted {
	Order order; /* the one order, where `one` */
	bool any, one;
} Wanted;

typedef struct Operands {
	const TargetInfo *target; /* or NULL */
	const Graph *g;
	Wanted *wanted; /* [value] of those of 8 bits */
	Map copy;       /* value and order -> the copy in the new graph */
} Operands;

static bool is_identity(const Order *o)
{
	bool same = true;
	for (u32 d = 0; d < o->n; d++)
		same &= o->dim[d] == d;
	return same;
}

static bool same_order(const Order *a, const Order *b)
{
	return a->n == b->n && memcmp(a->dim, b->dim, a->n * sizeof *a->dim) == 0;
}

/* The operand's own dimensions, then those that are summed over, each in the order that they have. */
static Order summed_last(const DotSpec *s, u32 side)
{
	Order o = { 0 };
	for (u32 summed = 0; summed < 2; summed++)
		for (u32 d = 0; d < s->rank[side]; d++)
			if ((dot_part(s, s->index[side][d]) == DOT_INNER) == (summed == 1))
				o.dim[o.n++] = d;
	return o;
}

/* Are the labels that are summed over, more than one of them, in one order in both operands? Else no order of memory makes them one. */
static bool sums_alike(const DotSpec *s)
{
	u32 b = 0;
	for (u32 d = 0; d < s->rank[0]; d++) {
		u32 label = s->index[0][d];
		if (dot_part(s, label) != DOT_INNER)
			continue;
		while (b < s->rank[1] && dot_part(s, s->index[1][b]) != DOT_INNER)
			b++;
		if (s->index[1][b++] != label)
			return false;
	}
	return true;
}

/* A dot that the target multiplies in 8 bits? Sets the orders that it takes its operands in. */
static bool in_8_bits(const Operands *x, const Graph *g, const Node *n, Order order[2])
{
	if (n->op != OP_dot || !x->target || !x->target->products_f8)
		return false;
	const Type *a = val_type(g, n->in[0]), *b = val_type(g, n->in[1]);
	DotSpec s;
	dot_spec_read(ATTR(n, dot)->spec, &s);
	bool batch = false;
	for (u32 l = 0; l < s.nlabel; l++)
		batch |= dot_part(&s, l) == DOT_BATCH;
	if (batch || !products_in_f8(a->dtype, b->dtype) || !sums_alike(&s))
		return false;
	order[0] = summed_last(&s, 0);
	order[1] = summed_last(&s, 1);
	return product_sizes_f8(dot_part_extent(a, &s, 0, DOT_LEFT), dot_part_extent(b, &s, 1, DOT_RIGHT), dot_part_extent(a, &s, 0, DOT_INNER));
}

static void want(Wanted *w, const Order *o)
{
	w->one = w->any ? w->one && same_order(&w->order, o) : true;
	w->any = true;
	w->order = *o;
}

static void find_wanted(Operands *x)
{
	const Graph *g = x->g;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		Order order[2];
		bool native = in_8_bits(x, g, n, order);
		for (u32 k = 0; k < n->nin; k++) {
			const Type *t = val_type(g, n->in[k]);
			if (!dtype_is_f8(t->dtype))
				continue;
			Order as_it_is = { .n = t->rank };
			for (u32 d = 0; d < t->rank; d++)
				as_it_is.dim[d] = d;
			want(&x->wanted[n->in[k].i], native && k < 2 ? &order[k] : &as_it_is);
		}
	}
	for (u32 i = 0; i < g->result.n; i++)
		x->wanted[g->result.v[i].value.i] = (Wanted){ .any = true };
}

/* A slice whose elements follow each other as those that it is of do? Not one by steps, or backwards. */
static bool slice_in_order(const Node *n)
{
	const ints step = ATTR(n, slice)->step;
	return !step.n || step.v[step.n - 1] == 1;
}

/* Does it lie in memory in the order of its type, as far as can be told: made here, or parts of or another shape for what is? */
static bool lies_in_order(const Graph *g, Val v)
{
	const Node *n = val_node(g, v);
	while (n->op == OP_reshape || n->op == OP_split || (n->op == OP_slice && slice_in_order(n)))
		n = val_node(g, n->in[0]);
	NodeClass class = node_class((Op)n->op);
	return class != NODE_FREE;
}

static Val transposed(Builder *b, Val v, const Order *o)
{
	return is_identity(o) ? v : BA(b, transpose, (v), .perm = { o->n, o->dim });
}

/* Value `v` of the old graph, `now` in the new one, in this order. */
static Val ordered(Rewrite *rw, Val v, Val now, const Order *o)
{
	Operands *x = rw->data;
	const Wanted *w = &x->wanted[v.i];
	NodeClass class = node_class((Op)val_node(x->g, v)->op);
	if (is_identity(o) ? lies_in_order(x->g, v) : w->one && class != NODE_FREE && class != NODE_SOURCE && class != NODE_COLLECTIVE)
		return transposed(&rw->b, now, o);
	u64 key = hash_bytes(hash_bytes(HASH_SEED, &v.i, sizeof v.i), o->dim, o->n * sizeof *o->dim);
	u64 *known = map_get(&x->copy, key);
	if (known)
		return (Val){ (u32)*known };
	/* by f32, for casts to a value's own type are not made; what reads it through a view stores it */
	DType type = val_type(rw->b.g, now)->dtype;
	Val copy = make_cast(&rw->b, make_cast(&rw->b, transposed(&rw->b, now, o), DT_f32), type);
	map_put(&x->copy, key, copy.i);
	return copy;
}

/* The spec of a dot whose operands have their dimensions in these orders. */
static const char *spec_ordered(Rewrite *rw, const Node *n, const Order order[2])
{
	DotSpec s;
	char text[DOT_SPEC_MAX];
	dot_spec_read(ATTR(n, dot)->spec, &s);
	DotSpec to = s;
	for (u32 side = 0; side < 2; side++)
		for (u32 d = 0; d < s.rank[side]; d++)
			to.index[side][d] = s.index[side][order[side].dim[d]];
	dot_spec_permute(&to, 0, 1, 2, text);
	return intern_z(&rw->b.g->ir->names, text);
}

static bool visit(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Operands *x = rw->data;
	if (n->op != OP_dot && n->op != OP_grouped_dot && n->op != OP_grouped_dot_weights)
		return false;
	DType a = val_type(rw->b.g, in[0])->dtype, b = val_type(rw->b.g, in[1])->dtype;
	if (!dtype_is_f8(a) && !dtype_is_f8(b))
		return false;
	Order order[2];
	if (in_8_bits(x, x->g, n, order)) {
		Val left = ordered(rw, n->in[0], in[0], &order[0]), right = ordered(rw, n->in[1], in[1], &order[1]);
		out[0] = BA(&rw->b, dot, (left, right), .spec = spec_ordered(rw, n, order));
		return true;
	}
	if (!x->target || !x->target->stores_operands)
		return false;
	Val operand[3];
	for (u32 i = 0; i < n->nin; i++)
		operand[i] = i < 2 ? make_cast(&rw->b, in[i], product_dtype(a, b)) : in[i];
	out[0] = build(&rw->b, (Op)n->op, operand, n->nin, 1, n->attr);
	return true;
}

Program *pass_operands(PassCx *cx, const Program *in)
{
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++) {
		const Graph *g = in->entry.v[i];
		Operands x = { .target = cx->target, .g = g, .wanted = NEWN(cx->tmp, Wanted, g->value.n + 1), .copy = { .arena = cx->tmp } };
		find_wanted(&x);
		VEC_PUSH(cx->out, &to->entry, rewrite_graph(cx->out, cx->tmp, g, visit, &x, true));
	}
	return to;
}
