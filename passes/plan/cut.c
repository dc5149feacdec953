/* passes/plan/cut.c: minimum cut by maximum flow; see cut.h. Dinic's algorithm: shortest paths by levels, all of one length at
 * a time, each arc looked at once. Capacities are reals: what is left of an edge counts from a share TINY of the largest
 * finite capacity on. */
#include "passes/plan/cut.h"

#include <string.h>

#define TINY 1e-12

Cut *cut_new(Arena *arena, u32 nnode)
{
	Cut *c = NEW(arena, Cut);
	*c = (Cut){ .arena = arena, .nnode = nnode };
	return c;
}

u32 cut_edge(Cut *c, u32 from, u32 to, f64 capacity)
{
	assert(!c->start && from < c->nnode && to < c->nnode);
	VEC_PUSH(c->arena, &c->edge, (CutEdge){ to, capacity, 0 });
	VEC_PUSH(c->arena, &c->edge, (CutEdge){ from, 0, 0 });
	return c->edge.n / 2 - 1;
}

void cut_capacity(Cut *c, u32 edge, f64 capacity)
{
	c->edge.v[2 * edge].capacity = capacity;
}

static void make_lists(Cut *c)
{
	u32 n = c->nnode;
	c->start = NEWN(c->arena, u32, n + 2);
	c->list = NEWN(c->arena, u32, c->edge.n + 1);
	c->level = NEWN(c->arena, u32, n);
	c->at = NEWN(c->arena, u32, n);
	c->path = NEWN(c->arena, u32, n + 1);
	for (u32 e = 0; e < c->edge.n; e++)
		c->start[c->edge.v[e ^ 1].to + 1]++;
	for (u32 i = 0; i < n; i++)
		c->start[i + 1] += c->start[i];
	u32 *fill = COPYN(c->arena, u32, c->start, n + 1);
	for (u32 e = 0; e < c->edge.n; e++)
		c->list[fill[c->edge.v[e ^ 1].to]++] = e;
}

/* Distances from the source; can the sink be reached? `queue` is c->path. */
static bool find_levels(Cut *c, f64 tiny)
{
	memset(c->level, 0xff, c->nnode * sizeof *c->level);
	u32 head = 0, tail = 0;
	c->level[CUT_YES] = 0;
	c->path[tail++] = CUT_YES;
	while (head < tail) {
		u32 node = c->path[head++];
		for (u32 i = c->start[node]; i < c->start[node + 1]; i++) {
			const CutEdge *e = &c->edge.v[c->list[i]];
			if (e->left <= tiny || c->level[e->to] != UINT32_MAX)
				continue;
			c->level[e->to] = c->level[node] + 1;
			c->path[tail++] = e->to;
		}
	}
	return c->level[CUT_NO] != UINT32_MAX;
}

/* Sends as much as all shortest paths take; path[k]: the edge out of the path's node k. */
static void send(Cut *c, f64 tiny)
{
	u32 depth = 0, node = CUT_YES;
	memcpy(c->at, c->start, c->nnode * sizeof *c->at);
	for (;;) {
		if (node == CUT_NO) {
			f64 most = CUT_NEVER;
			u32 tight = 0;
			for (u32 k = 0; k < depth; k++)
				if (c->edge.v[c->path[k]].left < most) {
					most = c->edge.v[c->path[k]].left;
					tight = k;
				}
			for (u32 k = 0; k < depth; k++) {
				c->edge.v[c->path[k]].left -= most;
				c->edge.v[c->path[k] ^ 1].left += most;
			}
			depth = tight;
			node = c->edge.v[c->path[tight] ^ 1].to;
			continue;
		}
		u32 next = UINT32_MAX;
		for (; c->at[node] < c->start[node + 1]; c->at[node]++) {
			const CutEdge *e = &c->edge.v[c->list[c->at[node]]];
			if (e->left > tiny && c->level[e->to] == c->level[node] + 1) {
				next = c->list[c->at[node]];
				break;
			}
		}
		if (next != UINT32_MAX) {
			c->path[depth++] = next;
			node = c->edge.v[next].to;
		} else if (!depth) {
			return;
		} else {
			node = c->edge.v[c->path[--depth] ^ 1].to;
			c->at[node]++;
		}
	}
}

f64 cut_solve(Cut *c, bool *yes)
{
	f64 largest = 0, cost = 0;
	if (!c->start)
		make_lists(c);
	for (u32 e = 0; e < c->edge.n; e++) {
		c->edge.v[e].left = c->edge.v[e].capacity;
		if (c->edge.v[e].capacity < CUT_NEVER)
			largest = largest > c->edge.v[e].capacity ? largest : c->edge.v[e].capacity;
	}
	while (find_levels(c, largest * TINY))
		send(c, largest * TINY);
	for (u32 i = 0; i < c->nnode; i++)
		yes[i] = c->level[i] != UINT32_MAX;
	for (u32 e = 0; e < c->edge.n; e += 2)
		if (yes[c->edge.v[e + 1].to] && !yes[c->edge.v[e].to])
			cost += c->edge.v[e].capacity;
	return cost;
}
