/* passes/graph/grad_pass.c: the pass `grad` over IR text: grad{of=loss} adds to each entry that has
 * the scalar result `loss` a result d_<parameter> for each parameter that it reads and that is not
 * frozen: zeros where the loss does not depend on it. The work is grad.c's. */
#include "passes/graph/grad.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

static Val result_named(const Graph *g, Str name)
{
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer == NONE && str_equal(str_of(g->result.v[i].name), name))
			return g->result.v[i].value;
	return (Val){ 0 };
}

/* `loss` is a value of `from`. */
static Graph *grad_of_entry(PassCx *cx, const Program *p, const Graph *from, Val loss)
{
	Rewrite rw;
	rewrite_begin(&rw, cx->out, cx->tmp, from, NULL);
	rewrite_nodes(&rw, NULL);
	VEC(Val) wrt = { 0 };
	VEC(const char *) name = { 0 };
	for (u32 i = 0; i < from->node.n; i++) {
		const Node *n = &from->node.v[i];
		Val v = rw.map[n->out.i];
		if (n->op != OP_read || !v.i)
			continue;
		const Buffer *b = &p->buffer.v[program_find_buffer(p, ATTR(n, read)->buffer)];
		if (b->kind != BUFFER_PARAMETER || b->frozen || !dtype_is_float(b->type->dtype))
			continue;
		VEC_PUSH(cx->tmp, &wrt, v);
		VEC_PUSH(cx->tmp, &name, b->name);
	}
	Val *d = NEWN(cx->tmp, Val, wrt.n);
	rw.b.loc = (Loc){ 0 };
	rw.b.scope = intern_z(&cx->ir->names, "");
	bool fine = grad_append(&rw.b, rw.map[loss.i], wrt.v, wrt.n, d);
	for (u32 i = 0; i < wrt.n && fine; i++)
		if (!d[i].i)
			d[i] = make_full_like(&rw.b, wrt.v[i], 0);
	Graph *g = rewrite_end(&rw);
	for (u32 i = 0; i < wrt.n && fine; i++)
		graph_result(g, intern_printf(&cx->ir->names, "d_%s", name.v[i]), NONE, d[i]);
	return fine ? g : NULL;
}

Program *pass_grad(PassCx *cx, const Program *in)
{
	Str of = STR("loss"), only = { 0 };
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		if (str_equal(a.name, STR("of")))
			of = a.value;
		else if (str_equal(a.name, STR("entry")))
			only = a.value;
		else
			error = !pass_argument_unknown(cx, &a);
	}
	if (error)
		return NULL;
	Program *to = rewrite_shell(cx->out, in);
	u32 found = 0;
	bool fine = true;
	for (u32 i = 0; i < in->entry.n && fine; i++) {
		const Graph *g = in->entry.v[i];
		Val loss = !only.n || str_equal(only, str_of(g->name)) ? result_named(g, of)
								       : (Val){ 0 };
		if (!loss.i) {
			VEC_PUSH(cx->out, &to->entry,
				 rewrite_graph(cx->out, cx->tmp, g, NULL, NULL, false));
			continue;
		}
		found++;
		const Type *t = val_type(g, loss);
		if (t->rank != 0 || !dtype_is_float(t->dtype)) {
			Buf text = { .arena = cx->tmp };
			type_print(&text, t);
			diag_error(cx->diag, E0718, val_node(g, loss)->loc,
				   "the result %.*s of %s is %.*s, and only a scalar float has a "
				   "gradient",
				   STR_ARG(of), g->name, STR_ARG(buf_str(&text)));
			fine = false;
			continue;
		}
		Graph *with = grad_of_entry(cx, in, g, loss);
		if (with)
			VEC_PUSH(cx->out, &to->entry, with);
		fine = with != NULL;
	}
	if (!found)
		fine = diag_error(cx->diag, E0718, cx->args_loc, "no entry has a result '%.*s'",
				  STR_ARG(of));
	return fine ? to : NULL;
}
