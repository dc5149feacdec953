/* passes/graph/narrow.c: the pass `narrow`: a value that all its users round is rounded where it is made.
 *
 * Mixed precision (precision.c) puts casts before matrix multiplies and attention. Between the cast and what
 * computes the value there are often views: heads split off and transposed. Rounding commutes with moving
 * data, so that the cast may go before them; then the value goes through memory in the narrow type, once,
 * where it was in f32 before, and matrix multiplies and attention read it as it stands.
 *
 * A use is narrow if it is a cast to the type, or a view (or concat) all of whose results have narrow uses only.
 * Of a value that only parts are used of, the parts must add up to no less than the value: there is never
 * more to round than before. Values do not change. Linear in nodes. */
#include "passes/pass.h"
#include "passes/rewrite.h"

enum { WIDE = DTYPES }; /* some user wants the value as it is */

typedef struct Narrow {
	const Graph *g;
	u8 *want;      /* [value] the type that all uses so far round to; DTYPES + 1 where there are none yet */
	f64 *covered;  /* [value] elements that they read */
	Val *narrow;   /* [value of from] the rounded value in the new graph, or {0} */
} Narrow;

static bool moves_data(Op op)
{
	return (op_info[op].traits & T_VIEW && op != OP_broadcast) || op == OP_concat;
}

static bool narrows(const Type *from, DType to)
{
	return from->dtype == DT_f32 && (to == DT_bf16 || to == DT_f16);
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
	}
}

/* The rounded form in the new graph of value `old`, which is `made` there. */
static Val narrowed(Rewrite *rw, Val old, Val made, DType to)
{
	Narrow *x = rw->data;
	if (!x->narrow[old.i].i)
		x->narrow[old.i] = make_cast(&rw->b, made, to);
	return x->narrow[old.i];
}

static bool visit(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Narrow *x = rw->data;
	if (n->op == OP_cast && wanted(x, n->in[0]) == val_type(x->g, n->out)->dtype) {
		out[0] = narrowed(rw, n->in[0], in[0], val_type(x->g, n->out)->dtype);
		return true;
	}
	u8 type = moves_data((Op)n->op) ? wanted_of_node(x, n) : WIDE;
	if (type == WIDE)
		return false;
	for (u32 k = 0; k < n->nin; k++)
		if (wanted(x, n->in[k]) != type)
			return false;
	Val *operand = NEWN(&rw->b.tmp, Val, n->nin);
	for (u32 k = 0; k < n->nin; k++)
		operand[k] = narrowed(rw, n->in[k], in[k], (DType)type);
	const void *attr = n->attr;
	Val first = build(&rw->b, (Op)n->op, operand, n->nin, n->nout, attr);
	for (u32 k = 0; k < n->nout; k++)
		x->narrow[n->out.i + k] = (Val){ first.i + k };
	return false; /* the wide form too: nobody needs it, and it goes when the graph is next copied */
}

Program *pass_narrow(PassCx *cx, const Program *in)
{
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++) {
		const Graph *g = in->entry.v[i];
		Narrow x = { g, NEWN(cx->tmp, u8, g->value.n + 1), NEWN(cx->tmp, f64, g->value.n + 1),
			     NEWN(cx->tmp, Val, g->value.n + 1) };
		for (u32 v = 0; v <= g->value.n; v++)
			x.want[v] = WIDE + 1;
		find_uses(&x);
		Arena half = ARENA("narrow"); /* a graph with the wide forms still in it */
		Graph *both = rewrite_graph(&half, cx->tmp, g, visit, &x, false);
		VEC_PUSH(cx->out, &to->entry, rewrite_graph(cx->out, cx->tmp, both, NULL, NULL, false));
		arena_free(&half);
	}
	return to;
}
