/* ir/cost.c: see cost.h. */
#include "ir/cost.h"
#include "ir/expand.h"
#include "ir/ops/help.h"

static bool is_contraction(Op op)
{
	return op == OP_dot || op == OP_grouped_dot || op == OP_grouped_dot_weights;
}

NodeCost node_cost(const Graph *g, const Node *n)
{
	const OpDef *def = op_info[n->op].def;
	NodeCost total = { .bytes = -1 };
	if (def->cost) {
		Cost own = def->cost(g, n);
		total = (NodeCost){ .flops = own.flops, .bytes = own.bytes };
		if (is_contraction((Op)n->op))
			total.matmul_flops = own.flops;
	}
	if (node_expands(n)) {
		Arena tmp = ARENA("cost");
		NodeCost inside = graph_cost(expansion_of(&tmp, g, n));
		arena_free(&tmp);
		if (!def->cost)
			return (NodeCost){ inside.flops, inside.matmul_flops, node_bytes(g, n) };
		if (inside.flops > 0)
			total.matmul_flops = total.flops * (inside.matmul_flops / inside.flops);
	}
	if (total.bytes < 0)
		NEVER("an op with neither cost nor expand");
	return total;
}

NodeCost *node_costs(Arena *arena, const Graph *g)
{
	NodeCost *cost = NEWN(arena, NodeCost, g->node.n + 1);
	Arena tmp = ARENA("cost");
	bool *needed = NEWN(&tmp, bool, g->node.n + 1);
	for (u32 i = 0; i < g->result.n; i++)
		needed[g->value.v[g->result.v[i].value.i].node] = true;
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		if (!needed[i])
			continue;
		for (u32 k = 0; k < n->nin; k++)
			needed[g->value.v[n->in[k].i].node] = true;
		cost[i] = node_cost(g, n);
	}
	arena_free(&tmp);
	return cost;
}

NodeCost graph_cost(const Graph *g)
{
	Arena tmp = ARENA("cost");
	const NodeCost *cost = node_costs(&tmp, g);
	NodeCost total = { 0 };
	for (u32 i = g->node.n; i-- > 0;) {
		total.flops += cost[i].flops;
		total.matmul_flops += cost[i].matmul_flops;
		total.bytes += cost[i].bytes;
	}
	arena_free(&tmp);
	return total;
}

f64 attention_pairs(bool causal, i64 window, i64 queries, i64 keys)
{
	if (!causal)
		return (f64)queries * (f64)keys;
	/* the last query sees all keys, each before it one less, if any; a window's worth at most */
	i64 first = keys - queries + 1, most = window > 0 ? MIN(window, keys) : keys, least = MAX(first, 1);
	f64 rising = most >= least ? ((f64)least + (f64)most) / 2 * (f64)(most - least + 1) : 0;
	return rising + (f64)(keys - MAX(most, first - 1)) * (f64)most;
}
