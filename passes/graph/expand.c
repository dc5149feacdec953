/* passes/graph/expand.c: the pass `expand`: composite ops written out in simpler ones
 * (ir/expand.h), until none is left but those that a target lowers whole (T_WHOLE) and those that
 * keep= names. Expansions carry the place, scope and axis classes of the composite.
 *
 * Of the ops that a target lowers whole, two are left alone only where that pays: attention where there are more queries
 * than a few (TargetInfo.few_queries), update_slice where its result is what becomes of the buffer that it updates, so
 * that it can be written in place. */
#include "ir/expand.h"
#include "ir/target.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct Expand {
	bool keep[OPS], named[OPS]; /* `named`: by keep= */
	i64 few_queries;
	bool more; /* an expansion held a composite again */
} Expand;

/* Queries that see one head of keys. */
static bool few_queries(const Expand *e, const Graph *g, const Node *n)
{
	const Type *q = val_type(g, n->in[0]), *k = val_type(g, n->in[1]);
	i64 queries, heads, groups;
	return e->few_queries && dim_is_number(q->dim[q->rank - 2], &queries) && dim_is_number(q->dim[q->rank - 3], &heads) &&
	       dim_is_number(k->dim[k->rank - 3], &groups) && queries * heads <= e->few_queries * groups;
}

/* Does the result become the buffer whose old value, which nobody else reads, it is an update of? */
static bool in_place(const Graph *g, const u32 *uses, const Node *n)
{
	const Node *was = val_node(g, n->in[0]);
	bool found = false;
	for (u32 i = 0; i < g->result.n && was->op == OP_read; i++) {
		const Result *r = &g->result.v[i];
		found |= r->buffer != NONE && r->value.i == n->out.i && !strcmp(r->name, ATTR(was, read)->buffer);
	}
	return found && uses[n->in[0].i] == 1;
}

/* `uses` of the graph's values, or NULL: not known, as of what was just made. */
static bool goes(const Expand *e, const Graph *g, const u32 *uses, const Node *n)
{
	if (op_info[n->op].kind != COMP || e->named[n->op])
		return false;
	if (n->op == OP_attention && few_queries(e, g, n))
		return true;
	return !e->keep[n->op] || (n->op == OP_update_slice && !(uses && in_place(g, uses, n)));
}

static bool expand_one(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Expand *e = rw->data;
	if (!goes(e, rw->from, rw->uses, n))
		return false;
	u32 was = rw->b.g->node.n;
	expand_node(&rw->b, rw->from, n, in, out);
	for (u32 i = was; i < rw->b.g->node.n; i++)
		e->more |= goes(e, rw->b.g, NULL, &rw->b.g->node.v[i]);
	return true;
}

Program *pass_expand(PassCx *cx, const Program *in)
{
	Expand e = { .few_queries = cx->target ? cx->target->few_queries : 0 };
	for (u32 op = 0; op < OPS; op++)
		e.keep[op] = op_info[op].traits & T_WHOLE && (!cx->target || cx->target->whole[op]);
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		Op op = op_named(a.value);
		if (!str_equal(a.name, STR("keep"))) {
			error = true;
			pass_argument_unknown(cx, &a);
		} else if (op == OPS || op_info[op].kind != COMP) {
			error = true;
			diag_error(cx->diag, E0714, a.loc, "'%.*s' is no composite op",
				   STR_ARG(a.value));
		} else if (!e.named[op]) {
			e.named[op] = true;
			if (!e.keep[op])
				cx->withheld |= F_EXPANDED;
		}
	}
	if (error)
		return NULL;
	Arena arena[2] = { ARENA("expand"), ARENA("expand") };
	const Program *p = in;
	do {
		e.more = false;
		u32 i = p == in ? 0 : &arena[0] == p->arena;
		p = rewrite_program(&arena[i], cx->tmp, p, expand_one, &e, false);
		arena_free(&arena[!i]);
	} while (e.more);
	Program *out = rewrite_program(cx->out, cx->tmp, p, NULL, NULL, false);
	arena_free(&arena[0]);
	arena_free(&arena[1]);
	return out;
}
