/* passes/graph/grad.c: reverse-mode differentiation (Linnainmaa 1976; Griewank and Walther 2008, ch.
 * 3) of a graph into itself.
 *
 *   collect   backward from the results: the nodes they are made of, in order of index
 *   mark      forward: which values depend on a `wrt` through float paths
 *   pull      backward: each marked node's vjp() turns the cotangents of its results into those of
 *             its operands, which add up in the order of arrival
 *
 * So only nodes on a path from a wrt to a result are visited, each once. A composite without a vjp of
 * its own is expanded beside itself, and the same three steps run over the expansion, from its
 * results to the composite's operands: what they see ends at those operands.
 *
 * Cotangents have their value's shape. Their dtype is f32 where the value is narrower: what a matrix
 * product makes in f32 is summed in f32, whatever its operands were rounded to. Elementwise ops on
 * narrow values compute derivatives in that dtype, as they compute values; their cotangents are
 * rounded first. */
#include "passes/graph/grad.h"
#include "ir/expand.h"

#include <stdlib.h>

typedef struct Cotangent {
	Val sum;      /* {0}: zero so far */
	bool depends; /* on a wrt: worth having */
	bool end;     /* a wrt beyond which this walk does not look */
} Cotangent;

/* One walk. Values are found by map, so that a walk over an expansion costs what the expansion has,
 * not what the graph has. */
typedef struct Walk {
	Arena *tmp;
	Builder *b;
	Map slot;            /* value -> index into cotangent */
	VEC(Cotangent) cotangent;
	Map seen;            /* nodes collected */
	VEC(u32) node;       /* ascending after collect() */
	bool good;
} Walk;

static Cotangent *cotangent_of(Walk *w, Val v)
{
	const u64 *at = map_get(&w->slot, v.i);
	if (at)
		return &w->cotangent.v[*at];
	map_put(&w->slot, v.i, w->cotangent.n);
	VEC_PUSH(w->tmp, &w->cotangent, (Cotangent){ 0 });
	return &w->cotangent.v[w->cotangent.n - 1];
}

static int by_index(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;
	return x < y ? -1 : x > y;
}

/* Nodes from the results back to values that end the walk. */
static void collect(Walk *w, const Val *result, u32 n)
{
	const Graph *g = w->b->g;
	VEC(Val) todo = { 0 };
	for (u32 i = 0; i < n; i++)
		VEC_PUSH(w->tmp, &todo, result[i]);
	while (todo.n) {
		Val v = todo.v[--todo.n];
		u32 node = g->value.v[v.i].node;
		if (cotangent_of(w, v)->end || map_get(&w->seen, node))
			continue;
		map_put(&w->seen, node, 1);
		VEC_PUSH(w->tmp, &w->node, node);
		const Node *from = &g->node.v[node];
		for (u32 i = 0; i < from->nin; i++)
			VEC_PUSH(w->tmp, &todo, from->in[i]);
	}
	if (w->node.n)
		qsort(w->node.v, w->node.n, sizeof *w->node.v, by_index);
}

static void mark(Walk *w)
{
	const Graph *g = w->b->g;
	for (u32 i = 0; i < w->node.n; i++) {
		const Node *n = &g->node.v[w->node.v[i]];
		if (op_info[n->op].traits & T_NOGRAD)
			continue;
		bool depends = false;
		for (u32 k = 0; k < n->nin && !depends; k++)
			depends = cotangent_of(w, n->in[k])->depends;
		for (u32 k = 0; k < n->nout && depends; k++) {
			Val v = { n->out.i + k };
			if (dtype_is_float(val_type(g, v)->dtype) && !cotangent_of(w, v)->end)
				cotangent_of(w, v)->depends = true;
		}
	}
}

static DType wide_dtype(DType d)
{
	return d == DT_f64 ? DT_f64 : DT_f32;
}

static void accumulate(Walk *w, Val v, Val d)
{
	Cotangent *c = cotangent_of(w, v);
	if (!d.i || !c->depends)
		return;
	d = make_cast(w->b, d, wide_dtype(val_type(w->b->g, v)->dtype));
	assert(val_type(w->b->g, d)->rank == val_type(w->b->g, v)->rank);
	c->sum = c->sum.i ? B(w->b, add, c->sum, d) : d;
}

static bool differentiate(Arena *tmp, Builder *b, const Val *result, const Val *dresult,
			  u32 nresult, const Val *wrt, u32 n, bool end, Val *out);

static void pull(Walk *w, Arena *tmp, u32 index)
{
	Builder *b = w->b;
	const Node n = b->g->node.v[index]; /* a copy: the array moves as nodes are added */
	const OpDef *def = op_info[n.op].def;
	if (op_info[n.op].traits & T_NOGRAD)
		return;
	Val *dout = NEWN(tmp, Val, n.nout), *din = NEWN(tmp, Val, n.nin + 1u);
	bool any = false, wanted = false;
	for (u32 i = 0; i < n.nin; i++)
		wanted |= cotangent_of(w, n.in[i])->depends;
	if (!wanted)
		return; /* it makes a wrt */
	for (u32 i = 0; i < n.nout; i++) {
		Cotangent *c = cotangent_of(w, (Val){ n.out.i + i });
		dout[i] = c->end ? (Val){ 0 } : c->sum;
		any |= dout[i].i != 0;
	}
	if (!any)
		return;
	b->loc = n.loc;
	b->scope = n.scope;
	for (u32 i = 0; i < n.nout; i++)
		if (dout[i].i && op_info[n.op].kind == EW)
			dout[i] = make_cast(b, dout[i], val_type(b->g, (Val){ n.out.i + i })->dtype);
	if (def->vjp) {
		def->vjp(b, &n, dout, din);
	} else if (op_info[n.op].kind == COMP) {
		Val *made = NEWN(tmp, Val, n.nout);
		expand_node(b, b->g, &n, n.in, made);
		if (!differentiate(tmp, b, made, dout, n.nout, n.in, n.nin, true, din))
			w->good = false;
	} else {
		w->good = diag_error(b->g->ir->diag, E0350, n.loc,
				     "'%s' has no derivative, and the loss depends on it",
				     op_info[n.op].name);
		return;
	}
	for (u32 i = 0; i < n.nin; i++)
		accumulate(w, n.in[i], din[i]);
}

static bool differentiate(Arena *tmp, Builder *b, const Val *result, const Val *dresult,
			  u32 nresult, const Val *wrt, u32 n, bool end, Val *out)
{
	Walk w = { .tmp = tmp, .b = b, .slot.arena = tmp, .seen.arena = tmp, .good = true };
	for (u32 i = 0; i < n; i++) {
		Cotangent *c = cotangent_of(&w, wrt[i]);
		c->depends = dtype_is_float(val_type(b->g, wrt[i])->dtype);
		c->end = end;
	}
	collect(&w, result, nresult);
	mark(&w);
	for (u32 i = 0; i < nresult; i++)
		accumulate(&w, result[i], dresult[i]);
	Loc loc = b->loc;
	const char *scope = b->scope;
	for (u32 i = w.node.n; i-- > 0;)
		pull(&w, tmp, w.node.v[i]);
	b->loc = loc;
	b->scope = scope;
	/* An operand that stands twice in `wrt` is one value: its cotangent is given once. */
	for (u32 i = 0; i < n; i++) {
		Cotangent *c = cotangent_of(&w, wrt[i]);
		out[i] = c->sum;
		if (end)
			c->sum = (Val){ 0 };
	}
	return w.good;
}

bool grad_append_vjp(Builder *b, const Val *result, const Val *dresult, u32 nresult, const Val *wrt,
		     u32 n, Val *out)
{
	Arena tmp = ARENA("grad");
	bool good = differentiate(&tmp, b, result, dresult, nresult, wrt, n, false, out);
	arena_free(&tmp);
	return good;
}

bool grad_append(Builder *b, Val loss, const Val *wrt, u32 n, Val *out)
{
	assert(val_type(b->g, loss)->rank == 0);
	const Node *last = val_node(b->g, loss);
	Loc loc = b->loc;
	const char *scope = b->scope;
	b->loc = last->loc;
	b->scope = last->scope;
	DType dtype = wide_dtype(val_type(b->g, loss)->dtype);
	Val one = make_full(b, 1, dtype, (dims){ 0 });
	b->loc = loc;
	b->scope = scope;
	return grad_append_vjp(b, &loss, &one, 1, wrt, n, out);
}
