/* passes/graph/narrow.c: the pass `narrow`: what is rounded for matrix multiplies and attention is rounded where it is
 * made.
 *
 * Mixed precision (precision.c) puts casts before products. Between the cast and what computes the value there are
 * often views: heads split off and transposed. Rounding commutes with moving data, so that the cast may go before
 * them, to right behind the node that makes the value: then fusion can round while the value is in registers, and
 * products read it from memory as it stands. Where all uses round, the wide form is never stored.
 *
 * Casts move over reshapes and transpositions always, over split, slice and concat where all uses of the operand
 * round and what they read adds up to no less than the operand: there is never more to round than before. Values do
 * not change. Linear in nodes. */
#include "passes/pass.h"
#include "passes/rewrite.h"

enum { WIDE = DTYPES }; /* some user wants the value as it is */

typedef struct Narrow {
	const Graph *g;
	u8 *want;      /* [value] the type that all uses so far round to; DTYPES + 1 where there are none yet */
	f64 *covered;  /* [value] elements that they read */
	u8 *some;      /* [value] the type that some use rounds the whole value to, or WIDE */
	Val *narrow;   /* [value of from] the rounded value in the new graph, or {0} */
} Narrow;

static bool moves_data(Op op)
{
	return (op_info[op].traits & T_VIEW && op != OP_broadcast && op != OP_unfold) || op == OP_concat;
}

/* The same elements in another order or under another shape. */
static bool keeps_all(Op op)
{
	return op == OP_reshape || op == OP_transpose;
}

static bool narrows(const Type *from, DType to)
{
	return from->dtype == DT_f32 && dtype_is_narrow_float(to);
}

static void note(Narrow *x, Val v, u8 type, f64 elements)
{
	x->want[v.i] = x->want[v.i] > WIDE || x->want[v.i] == type ? type : WIDE;
	x->covered[v.i] += elements;
}

/* The type that value `v` may be kept in, or WIDE. All its uses are noted. */
static u8 wanted(const Narrow *x, Val v)
{
	const Type *t = val_type(x->g, v);
	u8 type = x->want[v.i];
	return type < WIDE && narrows(t, (DType)type) && x->covered[v.i] >= (f64)type_elements(t) ? type : WIDE;
}

/* The type of all results of a node that are used, or WIDE. */
static u8 wanted_of_node(const Narrow *x, const Node *n)
{
	u8 type = WIDE;
	for (u32 i = 0; i < n->nout; i++) {
		Val out = { n->out.i + i };
		if (x->want[out.i] > WIDE)
			continue;
		u8 w = wanted(x, out);
		if (w == WIDE || (type != WIDE && type != w))
			return WIDE;
		type = w;
	}
	return type;
}

static void find_uses(Narrow *x)
{
	const Graph *g = x->g;
	for (u32 i = 0; i < g->result.n; i++)
		note(x, g->result.v[i].value, WIDE, 0);
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		bool used = false;
		f64 moved = 0;
		for (u32 k = 0; k < n->nout; k++) {
			Val out = { n->out.i + k };
			if (x->want[out.i] > WIDE)
				continue;
			used = true;
			moved += (f64)type_elements(val_type(g, out));
		}
		if (!used)
			continue;
		u8 type = n->op == OP_cast ? (u8)val_type(g, n->out)->dtype
			  : moves_data((Op)n->op) ? wanted_of_node(x, n)
						  : WIDE;
		for (u32 k = 0; k < n->nin; k++)
			note(x, n->in[k], type, n->op == OP_concat ? (f64)type_elements(val_type(g, n->in[k])) : moved);
		u8 some = n->op == OP_cast ? type : keeps_all((Op)n->op) ? x->some[n->out.i] : WIDE;
		if (some != WIDE && narrows(val_type(g, n->in[0]), (DType)some))
			x->some[n->in[0].i] = some;
	}
}

/* The type that value `v` is rounded to where it is made, or WIDE. */
static u8 rounded_to(const Narrow *x, Val v)
{
	u8 type = wanted(x, v);
	return type != WIDE ? type : x->some[v.i];
}

static bool visit(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Narrow *x = rw->data;
	if (n->op == OP_cast && x->narrow[n->in[0].i].i && rounded_to(x, n->in[0]) == val_type(x->g, n->out)->dtype) {
		out[0] = x->narrow[n->in[0].i];
		return true;
	}
	Val v = build_copy(&rw->b, rw->from, n, in);
	bool moves = moves_data((Op)n->op);
	for (u32 k = 0; k < n->nin; k++)
		moves &= x->narrow[n->in[k].i].i != 0;
	if (moves) {
		/* the narrow form of a view is the view of the narrow form */
		Val *operand = NEWN(&rw->b.tmp, Val, n->nin);
		DType type = val_type(rw->b.g, x->narrow[n->in[0].i])->dtype;
		for (u32 k = 0; k < n->nin; k++) {
			operand[k] = x->narrow[n->in[k].i];
			moves &= val_type(rw->b.g, operand[k])->dtype == type;
		}
		if (moves && (keeps_all((Op)n->op) || wanted_of_node(x, n) == type)) {
			Val first = build(&rw->b, (Op)n->op, operand, n->nin, n->nout, n->attr);
			for (u32 k = 0; k < n->nout; k++)
				x->narrow[n->out.i + k] = (Val){ first.i + k };
		}
	}
	for (u32 k = 0; k < n->nout; k++) {
		out[k] = (Val){ v.i + k };
		u8 type = rounded_to(x, (Val){ n->out.i + k });
		if (type != WIDE && !x->narrow[n->out.i + k].i)
			x->narrow[n->out.i + k] = make_cast(&rw->b, out[k], (DType)type);
	}
	return true;
}

Program *pass_narrow(PassCx *cx, const Program *in)
{
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++) {
		const Graph *g = in->entry.v[i];
		Narrow x = { g, NEWN(cx->tmp, u8, g->value.n + 1), NEWN(cx->tmp, f64, g->value.n + 1),
			     NEWN(cx->tmp, u8, g->value.n + 1), NEWN(cx->tmp, Val, g->value.n + 1) };
		for (u32 v = 0; v <= g->value.n; v++)
			x.want[v] = WIDE + 1, x.some[v] = WIDE;
		find_uses(&x);
		Arena half = ARENA("narrow"); /* a graph with the wide forms still in it */
		Graph *both = rewrite_graph(&half, cx->tmp, g, visit, &x, false);
		VEC_PUSH(cx->out, &to->entry, rewrite_graph(cx->out, cx->tmp, both, NULL, NULL, false));
		arena_free(&half);
	}
	return to;
}
