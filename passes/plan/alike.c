/* passes/plan/alike.c: see alike.h. */
#include "passes/plan/alike.h"
#include "ir/op.h"
#include "support/map.h"

/* By node of an entry: does it depend on what differs from step to step? */
static bool *live_nodes(Arena *arena, const Graph *g)
{
	bool *live = NEWN(arena, bool, g->node.n + 1);
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		live[i] = n->op == OP_input || n->op == OP_read || (op_info[n->op].traits & T_RANDOM);
		for (u32 k = 0; k < n->nin; k++)
			live[i] |= live[g->value.v[n->in[k].i].node];
	}
	return live;
}

LayerKinds layer_kinds(Arena *arena, const Program *p)
{
	Arena tmp = ARENA("alike");
	Map number = { .arena = &tmp };
	VEC(u64) kind = { 0 };
	for (u32 e = 0; e < p->entry.n; e++) {
		const Graph *g = p->entry.v[e];
		const bool *live = live_nodes(&tmp, g);
		for (u32 i = 0; i < g->node.n; i++) {
			const Node *n = &g->node.v[i];
			size_t length = live[i] ? scope_layer(n->scope) : 0;
			if (!length)
				continue;
			u64 key = hash_bytes(HASH_SEED, n->scope, length);
			if (!map_get(&number, key)) {
				map_put(&number, key, kind.n);
				VEC_PUSH(&tmp, &kind, HASH_SEED);
			}
			u64 *to = &kind.v[*map_get(&number, key)], more[] = { e, node_hash(g, n) };
			*to = hash_bytes(*to, more, sizeof more);
		}
	}
	LayerKinds out = { .kind = COPYN(arena, u64, kind.v, kind.n), .n = kind.n };
	arena_free(&tmp);
	return out;
}

/* Is there one of a kind among the layers from `from` to before `end`, counted from 0? */
static bool among(const LayerKinds *k, u64 kind, u32 from, u32 end)
{
	for (u32 i = from; i < end; i++)
		if (k->kind[i] == kind)
			return true;
	return false;
}

u32 layers_that_tell(const LayerKinds *all)
{
	if (all->n <= 3)
		return all->n;
	u64 last = all->kind[all->n - 1];
	bool plain = among(all, last, 1, all->n - 1); /* else it is made so for being the last */
	for (u32 n = 3; n < all->n; n++) {
		bool tells = !plain || all->kind[n - 1] == last;
		for (u32 i = n - 1; i + 1 < all->n && tells; i++)
			tells = among(all, all->kind[i], 1, n - 1);
		if (tells)
			return n;
	}
	return all->n;
}

u32 *layers_stand(Arena *arena, const LayerKinds *few, const LayerKinds *all)
{
	u32 *stand = NEWN(arena, u32, all->n + 1), *times = NEWN(arena, u32, few->n + 1);
	for (u32 i = 0; i < all->n; i++) {
		bool first = i == 0, last = i + 1 == all->n;
		u32 from = first ? 0 : last ? few->n - 1 : 1, end = first ? 1 : last ? few->n : few->n - 1, best = 0;
		for (u32 r = from; r < end; r++) {
			u32 away = r == i ? few->n : 1 + MIN(r, few->n - 1 - r);
			if (few->kind[r] == all->kind[i] && away > best) {
				best = away;
				stand[i] = r + 1;
			}
		}
		if (!best)
			return NULL;
		times[stand[i]]++;
	}
	for (u32 r = 1; r <= few->n; r++)
		if (!times[r])
			return NULL;
	return stand;
}
