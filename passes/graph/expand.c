/* passes/graph/expand.c: the pass `expand`: composite ops written out in simpler ones
 * (ir/expand.h), until none is left but those that a target lowers whole (T_WHOLE) and those that
 * keep= names. Expansions carry the place, scope and axis classes of the composite. */
#include "ir/expand.h"
#include "ir/target.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

typedef struct Expand {
	bool keep[OPS];
	bool more; /* an expansion held a composite again */
} Expand;

static bool goes(const Expand *e, const Node *n)
{
	return op_info[n->op].kind == COMP && !e->keep[n->op];
}

static bool expand_one(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Expand *e = rw->data;
	if (!goes(e, n))
		return false;
	u32 was = rw->b.g->node.n;
	expand_node(&rw->b, rw->from, n, in, out);
	for (u32 i = was; i < rw->b.g->node.n; i++)
		e->more |= goes(e, &rw->b.g->node.v[i]);
	return true;
}

Program *pass_expand(PassCx *cx, const Program *in)
{
	Expand e = { 0 };
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
		} else if (!e.keep[op]) {
			e.keep[op] = true;
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
