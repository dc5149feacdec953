/* passes/graph/stage_stash.c: what of a micro-batch a stage keeps between its forward and its backward half. A value that the
 * backward half needs is kept, or computed again from others that are: only by ops that cost little (stage_cheap). The
 * fewest bytes are a minimum cut (as in the partitioner of AOTAutograd; Chen et al. 2016 for the idea): each value is two
 * nodes, and the edge between them costs its bytes, or nothing for what is free. */
#include "passes/graph/stage.h"
#include "passes/plan/cut.h"

/* Beside its bytes, computing a value again costs this share of them: where both are nearly equal, it is kept. */
static const f64 AGAIN = 0.1;

typedef struct Stash {
	const StagePlan *x;
	const EntryStages *e;
	u32 virtual;
	bool *here;   /* [value] the forward half has it: its own, or received */
	bool *own;    /* [value] made here */
	bool *wanted; /* [value] by the backward half */
	Cut *cut;
} Stash;

static u32 before(Val v)
{
	return CUT_NODES + 2 * v.i;
}

static u32 behind(Val v)
{
	return CUT_NODES + 2 * v.i + 1;
}

static void find_here(Stash *s)
{
	const Graph *g = s->e->g;
	for (u32 i = 0; i < g->node.n; i++)
		for (u32 k = 0; k < g->node.v[i].nout; k++) {
			u32 v = g->node.v[i].out.i + k;
			s->own[v] = s->e->needed[i] && !s->e->backward[i] && s->e->at[i] == s->virtual;
			s->here[v] |= s->own[v];
		}
	for (u32 i = 0; i < s->e->crossing.n; i++) {
		const Crossing *c = &s->e->crossing.v[i];
		s->here[c->value.i] |= c->to == s->virtual && !c->backward;
		/* sent to the backward half of an earlier stage, by this one's */
		s->wanted[c->value.i] |= c->from == s->virtual && c->backward && !s->e->backward[g->value.v[c->value.i].node];
	}
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		for (u32 k = 0; s->e->backward[i] && !s->e->inside[i] && s->e->at[i] == s->virtual && k < n->nin; k++)
			s->wanted[n->in[k].i] |= s->here[n->in[k].i];
	}
}

static void add_value(Stash *s, Val v)
{
	const Graph *g = s->e->g;
	const Node *n = val_node(g, v);
	f64 bytes = (f64)type_bytes(val_type(g, v));
	bool again = s->own[v.i] && stage_cheap(n);
	cut_edge(s->cut, before(v), behind(v), bytes);
	cut_edge(s->cut, CUT_YES, before(v), again ? AGAIN * bytes : CUT_NEVER);
	if (s->wanted[v.i])
		cut_edge(s->cut, behind(v), CUT_NO, CUT_NEVER);
	for (u32 k = 0; again && k < n->nin; k++)
		if (s->here[n->in[k].i]) /* to have v again, its operands must be there */
			cut_edge(s->cut, behind(n->in[k]), before(v), CUT_NEVER);
}

void stage_stash(const StagePlan *x, const EntryStages *e, u32 virtual, bool *stash)
{
	Arena *tmp = x->cx->tmp;
	u32 n = e->g->value.n;
	Stash s = { .x = x, .e = e, .virtual = virtual, .here = NEWN(tmp, bool, n), .own = NEWN(tmp, bool, n), .wanted = NEWN(tmp, bool, n),
		    .cut = cut_new(tmp, CUT_NODES + 2 * n) };
	find_here(&s);
	for (u32 v = 1; v < n; v++)
		if (s.here[v])
			add_value(&s, (Val){ v });
	bool *yes = NEWN(tmp, bool, CUT_NODES + 2 * n);
	cut_solve(s.cut, yes);
	for (u32 v = 1; v < n; v++)
		stash[v] = s.here[v] && yes[before((Val){ v })] && !yes[behind((Val){ v })];
}
