/* passes/graph/backward.c: the backward half of a training step. Reads an entry `micro` with the results
 * loss_sum and loss_count (frontend/elaborate.h) and gives two in its place:
 *
 *   micro_first  of a step's first micro-batch: its gradients, loss and count are written to the buffers
 *   micro        of the others: they are added to what the buffers hold
 *
 * so that nothing is ever cleared, and a step without accumulation never reads a gradient before it has
 * written it. The gradient buffer of parameter p is the one of kind `gradient` that belongs to p;
 * parameters without one are not trained. */
#include "passes/graph/grad.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

static Val result_value(const Graph *g, const char *name)
{
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer == NONE && g->result.v[i].name == name)
			return g->result.v[i].value;
	return (Val){ 0 };
}

static u32 gradient_of(const Program *p, u32 parameter)
{
	for (u32 i = 0; i < p->buffer.n; i++)
		if (p->buffer.v[i].kind == BUFFER_GRADIENT && p->buffer.v[i].of == parameter)
			return i;
	return NONE;
}

/* old + v; where v is a sum itself, its terms are added one after the other, so that each may be where it is made. */
static Val add_to(Builder *b, Val old, Val v)
{
	const Node *n = val_node(b->g, v);
	if (n->op != OP_add)
		return B(b, add, old, v);
	Val second = n->in[1];
	return B(b, add, add_to(b, old, n->in[0]), second);
}

/* The value to write: `v`, or what the buffer holds plus `v`. */
static void accumulate(Rewrite *rw, const Program *p, Graph *g, u32 buffer, Val v, bool first)
{
	const Buffer *b = &p->buffer.v[buffer];
	if (!first) {
		Val old = BS(&rw->b, read, .buffer = b->name, .dtype = b->type->dtype,
			     .shape = dims_of_type(&rw->b, b->type));
		graph_set_axis(rw->b.g, old, b->axis);
		v = add_to(&rw->b, old, v);
	}
	graph_result(g, b->name, buffer, v);
}

static Graph *differentiate(PassCx *cx, const Program *p, const Graph *from, bool first)
{
	const char *sum = intern_z(&cx->ir->names, "loss_sum"), *count = intern_z(&cx->ir->names, "loss_count");
	Rewrite rw;
	rewrite_begin(&rw, cx->out, cx->tmp, from, NULL);
	rewrite_nodes(&rw, NULL);
	VEC(Val) wrt = { 0 };
	VEC(u32) buffer = { 0 };
	for (u32 i = 0; i < p->buffer.n; i++) {
		u32 to = p->buffer.v[i].kind == BUFFER_PARAMETER ? gradient_of(p, i) : NONE;
		if (to == NONE)
			continue;
		Val v = { 0 };
		for (u32 k = 0; k < from->node.n && !v.i; k++) {
			const Node *n = &from->node.v[k];
			if (n->op == OP_read && ATTR(n, read)->buffer == p->buffer.v[i].name)
				v = rw.map[n->out.i];
		}
		VEC_PUSH(cx->tmp, &wrt, v);
		VEC_PUSH(cx->tmp, &buffer, to);
	}
	/* parameters that the entry does not read have no value to differentiate by */
	Val *known = NEWN(cx->tmp, Val, wrt.n), *d = NEWN(cx->tmp, Val, wrt.n);
	u32 n = 0;
	for (u32 i = 0; i < wrt.n; i++)
		if (wrt.v[i].i)
			known[n++] = wrt.v[i];
	rw.b.loc = (Loc){ 0 };
	rw.b.scope = intern_z(&cx->ir->names, "");
	if (!grad_append(&rw.b, rw.map[result_value(from, sum).i], known, n, d))
		return NULL;
	Val total = rw.map[result_value(from, sum).i], many = rw.map[result_value(from, count).i];
	Graph *g = rewrite_end(&rw);
	for (u32 i = 0, k = 0; i < wrt.n; i++) {
		const Buffer *b = &p->buffer.v[buffer.v[i]];
		Val v = wrt.v[i].i ? d[k++] : (Val){ 0 };
		rw.b.scope = p->buffer.v[b->of].scope;
		rw.b.loc = p->buffer.v[b->of].loc;
		if (v.i)
			v = make_cast(&rw.b, v, b->type->dtype);
		else if (first)
			v = make_full(&rw.b, 0, b->type->dtype, dims_of_type(&rw.b, b->type));
		if (v.i)
			accumulate(&rw, p, g, buffer.v[i], v, first);
	}
	rw.b.scope = intern_z(&cx->ir->names, "");
	rw.b.loc = (Loc){ 0 };
	u32 at = program_find_buffer(p, sum);
	if (at != NONE)
		accumulate(&rw, p, g, at, total, first);
	at = program_find_buffer(p, count);
	if (at != NONE)
		accumulate(&rw, p, g, at, many, first);
	builder_done(&rw.b); /* which went on after rewrite_end */
	g->name = intern_z(&cx->ir->names, first ? "micro_first" : "micro");
	return g;
}

Program *pass_backward(PassCx *cx, const Program *in)
{
	Program *to = rewrite_shell(cx->out, in);
	const char *micro = intern_z(&cx->ir->names, "micro"), *sum = intern_z(&cx->ir->names, "loss_sum");
	bool found = false;
	for (u32 i = 0; i < in->entry.n; i++) {
		const Graph *g = in->entry.v[i];
		if (g->name != micro) {
			VEC_PUSH(cx->out, &to->entry, rewrite_graph(cx->out, cx->tmp, g, NULL, NULL, false));
			continue;
		}
		found = true;
		if (!result_value(g, sum).i || !result_value(g, intern_z(&cx->ir->names, "loss_count")).i) {
			diag_error(cx->diag, E0718, cx->args_loc, "the entry micro needs results loss_sum and loss_count");
			return NULL;
		}
		for (u32 first = 2; first-- > 0;) {
			Graph *made = differentiate(cx, in, g, first);
			if (!made)
				return NULL;
			VEC_PUSH(cx->out, &to->entry, made);
		}
	}
	if (!found) {
		diag_error(cx->diag, E0718, cx->args_loc, "the program has no entry micro to differentiate");
		return NULL;
	}
	return to;
}
