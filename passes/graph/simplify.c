/* passes/graph/simplify.c: the pass `simplify`: every node built again, so that folds which did not
 * run when it was made run now, under the rules of rules.c, until nothing changes. Reads any
 * program; gives one that means the same, without nodes that no result needs. */
#include "passes/graph/rules.h"
#include "passes/pass.h"

enum { MOST_ROUNDS = 16 };

static Graph *simplify_graph(PassCx *cx, const Graph *in)
{
	u64 used[RULES] = { 0 };
	Arena arena[2] = { ARENA("simplify"), ARENA("simplify") };
	Graph *g = NULL;
	u64 hash = graph_hash(in);
	for (u32 round = 0; round < MOST_ROUNDS; round++) {
		/* the first round only shares: rules that ask for a single use must see it */
		Graph *next = rewrite_graph(&arena[round % 2], cx->tmp, round ? g : in,
					    round ? apply_rules : NULL, used, false);
		u64 now = graph_hash(next);
		bool same = now == hash;
		g = next;
		hash = now;
		arena_free(&arena[(round + 1) % 2]);
		if (same && round)
			break;
	}
	/* the last one made is the result: one of the two arenas is empty */
	for (u32 i = 0; i < 2; i++)
		arena_adopt(cx->out, &arena[i]);
	g->arena = g->shared.arena = cx->out;
	for (u32 i = 0; i < RULES && cx->trace; i++)
		if (used[i])
			fprintf(cx->trace, "simplify: %s: %s %llu times\n", in->name,
				rule_info[i].name, (unsigned long long)used[i]);
	return g;
}

Program *pass_simplify(PassCx *cx, const Program *in)
{
	size_t at = 0;
	PassArg a;
	bool error = false;
	if (pass_argument(cx, &at, &a, &error))
		pass_argument_unknown(cx, &a);
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++)
		VEC_PUSH(cx->out, &to->entry, simplify_graph(cx, in->entry.v[i]));
	return to;
}
