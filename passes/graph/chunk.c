/* passes/graph/chunk.c: the pass `chunk`: what is large between small things is never in memory as a whole. The logits of a
 * language model are: a product makes V of them for each token out of D features, a few row operations take them to a loss
 * and to their own derivative, and two products take that to D features for each token and to the derivative of the
 * matrix. That part of the graph is made once for each of a few ranges of tokens, one after the other, so that one range's
 * logits are there at a time (as in Hsu et al. 2024, Liger Kernel; here for any graph of this form).
 *
 * A *region* grows from a product with a large result and one of its axes. How nodes may be divided along an axis is what
 * their sharding rules say (ir/shard.h): chunks in time are parts on devices, one after the other. Whoever uses something
 * large of the region joins it, and so does what lies between nodes of the region, which is why it runs as a unit. What
 * leaves it is small: values that have the axis are concatenated, sums over it are added up in order of chunks, from
 * the value on that they would be added to anyhow (a gradient of an earlier micro-batch). What only makes operands for
 * the region by index and arithmetic (a comparison of class numbers) is made in each chunk anew.
 *
 * FLOPs stay what they are. Each chunk reads the matrices again, and reads and writes the sums: chunks are as many as
 * that costs a small part of the entry's time. Reads bound programs; looks at a few products of each entry, and at no region
 * of more than MOST_NODES nodes, so that it is linear in nodes. */
#include "ir/cost.h"
#include "ir/shard.h"
#include "ir/target.h"
#include "passes/fuse.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

#include <stdlib.h>
#include <string.h>

enum {
	MOST_CHUNKS = 16,
	MOST_NODES = 256,
	MOST_SEEDS = 8,   /* of an entry */
	MOST_REGIONS = 4,
	SEED_PART = 8,
	LEAST_ROWS = 128, /* of a chunk: products of fewer do not reach their speed */
	LARGE_PART = 4,   /* a value of a region is large if it has more than one in so many of the seed's elements */
	TIME_PART = 25,   /* bytes moved again may take one in so many parts of an entry's arithmetic */
	BALANCE = 10      /* FLOPs in the time of a byte, of a target that does not say */
};
enum { OUTSIDE = -1, SUMMED = -2 };

typedef struct Region {
	Arena *tmp;
	const Graph *g;
	const bool *live; /* [node] */
	const u32 *uses;  /* [value] by live nodes and results */
	u32 seed;         /* node */
	i64 extent;       /* positions of the divided axis, in the seed's result */
	i64 granule;      /* chunks are of multiples of so many of them */
	i8 *dim;          /* [value] that a member makes: its divided dimension, or SUMMED; else OUTSIDE */
	i8 *copied_dim;   /* [value] that is made anew in each chunk, though it has no member among its operands */
	bool *member, *copied;       /* [node] */
	const ShardLabel **label;    /* [node] of members and of what is copied */
	bool *below, *above;         /* [node] depends on a member; a member depends on it */
	u32 first, last, count;      /* members */
	u32 *into;                   /* [value] summed: the only node that uses it, where that adds it to something; or NONE */
	i64 chunk;                   /* positions of a chunk */
	u32 chunks;
} Region;

static f64 elements(const Graph *g, Val v)
{
	return (f64)type_elements(val_type(g, v));
}

static f64 bytes(const Graph *g, Val v)
{
	return (f64)type_bytes(val_type(g, v));
}

static bool large(const Region *x, Val v)
{
	return elements(x->g, v) * LARGE_PART > elements(x->g, x->g->node.v[x->seed].out);
}

static Val tensor(const Node *n, u32 k)
{
	return k < n->nin ? n->in[k] : (Val){ n->out.i + k - n->nin };
}

static i64 gcd(i64 a, i64 b)
{
	return b ? gcd(b, a % b) : a;
}

/* ---- growing ---- */

/* Can the node be divided along this label, given how its operands (or, of what is copied, results) are? */
static bool divides(const Region *x, const Node *n, const ShardLabel *l, const i8 *dim)
{
	bool touches = false;
	if (l->fix != SHARD_AS_IS)
		return false;
	for (u32 k = 0; k < n->nin + n->nout; k++) {
		ShardPoint p = l->at[k];
		i8 d = dim[tensor(n, k).i];
		if (p.dim >= 0 && p.outer != 1)
			return false;
		if (p.dim < 0 && k >= n->nin && l->reduce != SHARD_SUM)
			return false;
		if (d == OUTSIDE)
			continue;
		if (d != p.dim)
			return false;
		touches = true;
	}
	return touches && !(x->extent % gcd(x->extent, l->extent));
}

static const ShardLabel *find_label(const Region *x, const Node *n, const i8 *dim)
{
	ShardRule rule;
	shard_rule(x->tmp, x->g, n, &rule);
	for (u32 i = 0; i < rule.label.n; i++)
		if (divides(x, n, &rule.label.v[i], dim))
			return &rule.label.v[i];
	return NULL;
}

static void take_label(Region *x, u32 node, const ShardLabel *l, i8 *dim)
{
	const Node *n = &x->g->node.v[node];
	i64 step = x->extent / gcd(x->extent, l->extent);
	x->label[node] = l;
	x->granule = x->granule / gcd(x->granule, step) * step;
	for (u32 k = 0; k < n->nout; k++) {
		i8 d = l->at[n->nin + k].dim;
		dim[n->out.i + k] = d < 0 ? SUMMED : d;
	}
}

static bool join(Region *x, u32 node)
{
	const ShardLabel *l = find_label(x, &x->g->node.v[node], x->dim);
	if (!l || ++x->count > MOST_NODES)
		return false;
	take_label(x, node, l, x->dim);
	x->member[node] = true;
	x->first = MIN(x->first, node);
	x->last = MAX(x->last, node);
	return true;
}

/* What depends on members, everywhere; what members depend on, as far as something between them can lie. */
static void mark_between(Region *x)
{
	const Graph *g = x->g;
	memset(x->above, 0, g->node.n * sizeof *x->above);
	for (u32 i = x->first; i < g->node.n; i++) {
		x->below[i] = false;
		for (u32 k = 0; k < g->node.v[i].nin; k++) {
			u32 by = g->value.v[g->node.v[i].in[k].i].node;
			x->below[i] |= x->member[by] || x->below[by];
		}
	}
	for (u32 i = x->last + 1; i-- > x->first;)
		for (u32 k = 0; (x->member[i] || x->above[i]) && k < g->node.v[i].nin; k++)
			x->above[g->value.v[g->node.v[i].in[k].i].node] = true;
}

static bool grow(Region *x)
{
	const Graph *g = x->g;
	for (bool more = true; more;) {
		more = false;
		mark_between(x);
		for (u32 i = x->first; i < g->node.n; i++) {
			const Node *n = &g->node.v[i];
			bool must = x->below[i] && x->above[i];
			for (u32 k = 0; k < n->nin; k++)
				must |= x->dim[n->in[k].i] >= 0 && large(x, n->in[k]);
			if (x->member[i] || !x->live[i] || !must)
				continue;
			if (!join(x, i))
				return false;
			more = true;
		}
	}
	return true;
}

/* A pointwise node that alone uses two values of the region or more joins: one leaves in their place. */
static void join_ends(Region *x)
{
	const Graph *g = x->g;
	for (u32 i = x->first; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		if (x->member[i] || !x->live[i] || node_class((Op)n->op) != NODE_POINTWISE)
			continue;
		u32 inside = 0;
		bool may = true;
		for (u32 k = 0; k < n->nin; k++) {
			Val v = n->in[k];
			u32 by = g->value.v[v.i].node, outside = x->uses[v.i];
			may &= x->dim[v.i] != OUTSIDE || by < x->first || !x->below[by];
			for (u32 u = by + 1; u <= x->last && x->dim[v.i] >= 0; u++)
				for (u32 o = 0; x->member[u] && o < g->node.v[u].nin; o++)
					outside -= g->node.v[u].in[o].i == v.i;
			inside += x->dim[v.i] >= 0 && outside == 1;
		}
		if (may && inside >= 2)
			(void)join(x, i);
	}
}

/* What makes a large operand of a member by index and arithmetic alone is made in each chunk. */
static void copy_makers(Region *x, Val v, i8 d)
{
	u32 node = x->g->value.v[v.i].node;
	const Node *n = &x->g->node.v[node];
	NodeClass class = node_class((Op)n->op);
	if (x->dim[v.i] != OUTSIDE || x->copied[node] || !large(x, v) || (class != NODE_POINTWISE && class != NODE_FREE) ||
	    x->count >= MOST_NODES)
		return;
	for (u32 k = 0; k < n->nout; k++)
		x->copied_dim[n->out.i + k] = d;
	const ShardLabel *l = find_label(x, n, x->copied_dim);
	for (u32 k = 0; k < n->nout && !l; k++)
		x->copied_dim[n->out.i + k] = OUTSIDE;
	if (!l)
		return;
	x->count++;
	x->copied[node] = true;
	take_label(x, node, l, x->copied_dim);
	for (u32 k = 0; k < n->nin; k++)
		if (l->at[k].dim >= 0)
			copy_makers(x, n->in[k], l->at[k].dim);
}

static void copy_all_makers(Region *x)
{
	for (u32 i = x->first; i <= x->last; i++) {
		const Node *n = &x->g->node.v[i];
		for (u32 k = 0; x->member[i] && k < n->nin; k++)
			if (x->label[i]->at[k].dim >= 0)
				copy_makers(x, n->in[k], x->label[i]->at[k].dim);
	}
}

/* How often each value is used by what is no member. */
static u32 *uses_outside(const Region *x)
{
	const Graph *g = x->g;
	u32 *outside = COPYN(x->tmp, u32, x->uses, g->value.n);
	for (u32 i = x->first; i <= x->last; i++)
		for (u32 k = 0; x->member[i] && k < g->node.v[i].nin; k++)
			outside[g->node.v[i].in[k].i]--;
	return outside;
}

/* Nothing large leaves, sums are used outside alone. Finds what they are added to. */
static bool ends_small(Region *x)
{
	const Graph *g = x->g;
	const u32 *outside = uses_outside(x);
	for (u32 i = x->first; i <= x->last; i++)
		for (u32 k = 0; x->member[i] && k < g->node.v[i].nout; k++) {
			Val v = { g->node.v[i].out.i + k };
			if (x->dim[v.i] >= 0 ? outside[v.i] && large(x, v) : outside[v.i] != x->uses[v.i])
				return false;
		}
	for (u32 i = x->first; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		if (n->op != OP_add || !x->live[i])
			continue;
		for (u32 k = 0; k < 2; k++) {
			u32 by = g->value.v[n->in[1 - k].i].node;
			bool early = by < x->last ? !x->member[by] && !x->below[by] : node_class((Op)g->node.v[by].op) == NODE_SOURCE;
			if (x->dim[n->in[k].i] == SUMMED && x->uses[n->in[k].i] == 1 && early)
				x->into[n->in[k].i] = i;
		}
	}
	return true;
}

/* ---- how many chunks ---- */

/* Bytes that each chunk but the first moves beside those of the whole. */
static f64 bytes_again(const Region *x)
{
	f64 sum = 0;
	for (u32 i = x->first; i <= x->last; i++) {
		const Node *n = &x->g->node.v[i];
		if (!x->member[i])
			continue;
		for (u32 k = 0; k < n->nin && node_class((Op)n->op) == NODE_SKELETON; k++)
			sum += x->label[i]->at[k].dim < 0 ? bytes(x->g, n->in[k]) : 0;
		for (u32 k = 0; k < n->nout; k++)
			sum += x->dim[n->out.i + k] == SUMMED ? 2 * bytes(x->g, (Val){ n->out.i + k }) : 0;
	}
	return sum;
}

/* Rows of the seed's result: positions of all its axes that are on the divided one's side. */
static f64 seed_rows(const Region *x)
{
	const Node *n = &x->g->node.v[x->seed];
	const ShardLabel *l = x->label[x->seed];
	u32 side = l->at[0].dim < 0;
	ShardRule rule;
	shard_rule(x->tmp, x->g, n, &rule);
	f64 rows = 1;
	for (u32 i = 0; i < rule.label.n; i++)
		if (rule.label.v[i].at[2].dim >= 0 && rule.label.v[i].at[side].dim >= 0)
			rows *= (f64)rule.label.v[i].extent;
	return rows;
}

/* Sets how many and how large; false: one. `moved`: bytes that may be moved again, `least`: of a chunk of the seed. */
static bool choose_chunks(Region *x, f64 moved, f64 least)
{
	f64 again = bytes_again(x), most = MIN((f64)MOST_CHUNKS, bytes(x->g, x->g->node.v[x->seed].out) / least);
	most = MIN(most, seed_rows(x) / LEAST_ROWS);
	if (again > 0)
		most = MIN(most, 1 + moved / again);
	if (most < 2)
		return false;
	i64 n = (i64)most, even = n;
	while (even > 1 && x->extent % (even * x->granule))
		even--;
	n = even * 2 >= n ? even : n; /* rather fewer, all of one size */
	i64 size = (x->extent + n - 1) / n;
	size = (size + x->granule - 1) / x->granule * x->granule;
	x->chunk = size;
	x->chunks = (u32)((x->extent + size - 1) / size);
	return x->chunks > 1;
}

static Region *new_region(Arena *tmp, const Graph *g, const bool *live, const u32 *uses, u32 seed)
{
	Region *x = NEW(tmp, Region);
	*x = (Region){ .tmp = tmp, .g = g, .live = live, .uses = uses, .seed = seed, .granule = 1, .first = seed, .last = seed };
	x->dim = NEWN(tmp, i8, g->value.n);
	x->copied_dim = NEWN(tmp, i8, g->value.n);
	memset(x->dim, OUTSIDE, g->value.n);
	memset(x->copied_dim, OUTSIDE, g->value.n);
	x->member = NEWN(tmp, bool, g->node.n);
	x->copied = NEWN(tmp, bool, g->node.n);
	x->label = NEWN(tmp, const ShardLabel *, g->node.n);
	x->below = NEWN(tmp, bool, g->node.n);
	x->above = NEWN(tmp, bool, g->node.n);
	x->into = NEWN(tmp, u32, g->value.n);
	memset(x->into, 0xff, g->value.n * sizeof *x->into);
	return x;
}

/* The region of a product along dimension d of its result, or NULL. */
static Region *try_region(Arena *tmp, const Graph *g, const bool *live, const u32 *uses, u32 seed, u32 d, f64 moved, f64 least)
{
	Region *x = new_region(tmp, g, live, uses, seed);
	const Node *n = &g->node.v[seed];
	x->extent = type_extent(val_type(g, n->out), d);
	ShardRule rule;
	shard_rule(tmp, g, n, &rule);
	for (u32 i = 0; i < rule.label.n; i++) {
		const ShardLabel *l = &rule.label.v[i];
		bool one_side = (l->at[0].dim < 0) != (l->at[1].dim < 0);
		if (!one_side || l->at[2].dim != (i8)d || l->fix != SHARD_AS_IS || x->extent < 2)
			continue;
		take_label(x, seed, l, x->dim);
		x->member[seed] = true;
		x->count = 1;
		if (!grow(x))
			return NULL;
		join_ends(x);
		mark_between(x);
		if (!ends_small(x))
			return NULL;
		copy_all_makers(x);
		return choose_chunks(x, moved, least) ? x : NULL;
	}
	return NULL;
}

/* ---- the new graph ---- */

typedef struct Chunker {
	Rewrite rw;
	const Region *x;
	Val *part;    /* [value] of the chunk at hand */
	Val **parts;  /* [value] that leaves: of each chunk */
	Val *sum;     /* [value] summed */
	Map axes;
	i64 at, size; /* of the chunk at hand */
} Chunker;

static Dim number(const Chunker *c, i64 n)
{
	return dim_number(c->x->g->ir, n);
}

/* Positions of dimension d for one of the seed's. */
static i64 part_of(const Chunker *c, const Type *t, u32 d, i64 positions)
{
	return type_extent(t, d) * positions / c->x->extent;
}

static const Type *part_type(const Chunker *c, const Type *t, u32 d)
{
	Dim dim[MAX_RANK];
	for (u32 k = 0; k < t->rank; k++)
		dim[k] = k == d ? number(c, part_of(c, t, d, c->size)) : t->dim[k];
	return type_make(c->x->g->ir, t->dtype, t->rank, dim);
}

static void name_axes(Chunker *c, Val v, Val whole)
{
	Axis axis[MAX_RANK];
	const Type *t = val_type(c->rw.b.g, v);
	for (u32 d = 0; d < t->rank; d++)
		axis[d] = axis_part(c->x->g->ir, &c->axes, val_axis(c->x->g, whole)[d], type_extent(t, d));
	graph_set_axis(c->rw.b.g, v, axis);
}

static Val slice_operand(Chunker *c, Val v, u32 d)
{
	Builder *b = &c->rw.b;
	const Type *t = val_type(c->x->g, v);
	Dim start[MAX_RANK];
	i64 step[MAX_RANK];
	for (u32 k = 0; k < t->rank; k++) {
		start[k] = number(c, k == d ? part_of(c, t, d, c->at) : 0);
		step[k] = 1;
	}
	u32 was = b->g->value.n;
	Val part = BA(b, slice, (c->rw.map[v.i]), .start = { t->rank, start }, .size = dims_of_type(b, part_type(c, t, d)),
		      .step = { t->rank, step });
	if (part.i >= was)
		name_axes(c, part, v);
	return part;
}

static void build_part(Chunker *c, u32 node, Val *in)
{
	const Region *x = c->x;
	const Node *n = &x->g->node.v[node];
	const ShardLabel *l = x->label[node];
	Builder *b = &c->rw.b;
	b->loc = n->loc;
	b->scope = n->scope;
	for (u32 k = 0; k < n->nin; k++) {
		Val v = n->in[k];
		i8 d = l->at[k].dim;
		if (d < 0)
			in[k] = c->rw.map[v.i];
		else
			in[k] = x->dim[v.i] == d || x->copied_dim[v.i] == d ? c->part[v.i] : slice_operand(c, v, (u32)d);
	}
	i8 first = l->at[n->nin].dim;
	const Type *t = val_type(x->g, n->out), *mine = first < 0 ? t : part_type(c, t, (u32)first);
	u32 was = b->g->value.n;
	Val v = build(b, (Op)n->op, in, n->nin, n->nout, attributes_shaped(&b->tmp, n, mine));
	for (u32 k = 0; k < n->nout; k++) {
		c->part[n->out.i + k] = (Val){ v.i + k };
		if (v.i + k >= was)
			name_axes(c, (Val){ v.i + k }, (Val){ n->out.i + k });
	}
}

static void copy_node(Chunker *c, u32 node)
{
	const Region *x = c->x;
	const Node *n = &x->g->node.v[node];
	for (u32 k = 0; n->op == OP_add && k < 2; k++)
		if (x->into[n->in[k].i] == node) { /* done */
			c->rw.map[n->out.i] = c->sum[n->in[k].i];
			return;
		}
	ArenaMark mark = arena_mark(&c->rw.b.tmp);
	Val *in = NEWN(&c->rw.b.tmp, Val, n->nin + 1);
	for (u32 k = 0; k < n->nin; k++)
		in[k] = c->rw.map[n->in[k].i];
	Val v = build_copy(&c->rw.b, x->g, n, in);
	for (u32 k = 0; k < n->nout; k++)
		c->rw.map[n->out.i + k] = (Val){ v.i + k };
	arena_release(&c->rw.b.tmp, mark);
}

/* Adds a part to what earlier chunks made, or to what the whole is added to. */
static void add_part(Chunker *c, Val v)
{
	const Region *x = c->x;
	Builder *b = &c->rw.b;
	if (!c->sum[v.i].i && x->into[v.i] != NONE) {
		const Node *n = &x->g->node.v[x->into[v.i]];
		Val other = n->in[n->in[0].i == v.i];
		if (!c->rw.map[other.i].i) { /* a source that stands further behind */
			copy_node(c, x->g->value.v[other.i].node);
			b->loc = val_node(x->g, v)->loc;
			b->scope = val_node(x->g, v)->scope;
		}
		c->sum[v.i] = c->rw.map[other.i];
	}
	u32 was = b->g->value.n;
	c->sum[v.i] = c->sum[v.i].i ? B(b, add, c->sum[v.i], c->part[v.i]) : c->part[v.i];
	if (c->sum[v.i].i >= was)
		name_axes(c, c->sum[v.i], v);
}

static void build_chunk(Chunker *c, u32 index)
{
	const Region *x = c->x;
	const Graph *g = x->g;
	c->at = index * x->chunk;
	c->size = MIN(x->chunk, x->extent - c->at);
	for (u32 i = 0; i <= x->last; i++) {
		const Node *n = &g->node.v[i];
		if (!x->member[i] && !x->copied[i])
			continue;
		ArenaMark mark = arena_mark(&c->rw.b.tmp);
		build_part(c, i, NEWN(&c->rw.b.tmp, Val, n->nin + 1));
		arena_release(&c->rw.b.tmp, mark);
		for (u32 k = 0; x->member[i] && k < n->nout; k++) {
			Val v = { n->out.i + k };
			if (x->dim[v.i] == SUMMED)
				add_part(c, v);
			else if (c->parts[v.i])
				c->parts[v.i][index] = c->part[v.i];
		}
	}
}

static void build_region(Chunker *c)
{
	const Region *x = c->x;
	const Graph *g = x->g;
	Builder *b = &c->rw.b;
	const u32 *outside = uses_outside(x);
	for (u32 v = 1; v < g->value.n; v++)
		if (x->dim[v] >= 0 && outside[v])
			c->parts[v] = NEWN(x->tmp, Val, x->chunks);
	for (u32 i = 0; i < x->chunks; i++)
		build_chunk(c, i);
	for (u32 v = 1; v < g->value.n; v++) {
		const Node *n = val_node(g, (Val){ v });
		b->loc = n->loc;
		b->scope = n->scope;
		u32 was = b->g->value.n;
		if (x->dim[v] == SUMMED) {
			c->rw.map[v] = c->sum[v];
		} else if (c->parts[v]) {
			c->rw.map[v] = build(b, OP_concat, c->parts[v], x->chunks, 1, &(concat_attr){ .axis = x->dim[v] });
			if (c->rw.map[v].i >= was)
				name_axes(c, c->rw.map[v], (Val){ v });
		}
	}
}

/* In the order of nodes, but for the region, which comes where its last node was, and what depends on it, right behind. */
static Graph *apply(Arena *out, const Region *x)
{
	const Graph *g = x->g;
	Chunker c = { .x = x, .axes.arena = x->tmp };
	rewrite_begin(&c.rw, out, x->tmp, g, NULL);
	c.part = NEWN(x->tmp, Val, g->value.n);
	c.sum = NEWN(x->tmp, Val, g->value.n);
	c.parts = NEWN(x->tmp, Val *, g->value.n);
	for (u32 i = 0; i < g->node.n; i++) {
		if (x->live[i] && !x->member[i] && !(x->below[i] && i < x->last))
			copy_node(&c, i);
		if (i != x->last)
			continue;
		build_region(&c);
		for (u32 k = x->first; k < x->last; k++)
			if (x->live[k] && !x->member[k] && x->below[k])
				copy_node(&c, k);
	}
	return rewrite_end(&c.rw);
}

/* ---- entries ---- */

static bool *live_nodes(Arena *tmp, const Graph *g, u32 *uses)
{
	bool *live = NEWN(tmp, bool, g->node.n + 1);
	for (u32 i = 0; i < g->result.n; i++) {
		live[g->value.v[g->result.v[i].value.i].node] = true;
		uses[g->result.v[i].value.i]++;
	}
	for (u32 i = g->node.n; i-- > 0;) {
		live[i] |= g->node.v[i].op == OP_input;
		for (u32 k = 0; live[i] && k < g->node.v[i].nin; k++) {
			live[g->value.v[g->node.v[i].in[k].i].node] = true;
			uses[g->node.v[i].in[k].i]++;
		}
	}
	return live;
}

/* The products with the largest results of more than `least` bytes, the largest first. What is much smaller than another
 * is hardly what a step's memory depends on. */
static u32 find_seeds(const Graph *g, const bool *live, f64 least, u32 *seed)
{
	u32 n = 0;
	for (u32 i = 0; i < g->node.n; i++)
		if (live[i] && g->node.v[i].op == OP_dot)
			least = MAX(least, bytes(g, g->node.v[i].out) / SEED_PART);
	for (u32 i = 0; i < g->node.n; i++) {
		if (!live[i] || g->node.v[i].op != OP_dot || bytes(g, g->node.v[i].out) <= least)
			continue;
		u32 at = n < MOST_SEEDS ? n++ : MOST_SEEDS;
		for (; at > 0 && bytes(g, g->node.v[seed[at - 1]].out) < bytes(g, g->node.v[i].out); at--)
			if (at < MOST_SEEDS)
				seed[at] = seed[at - 1];
		if (at < MOST_SEEDS)
			seed[at] = i;
	}
	return n;
}

static const Region *find_region(Arena *tmp, const Graph *g, f64 moved, f64 least, f64 larger)
{
	u32 *uses = NEWN(tmp, u32, g->value.n), seed[MOST_SEEDS];
	const bool *live = live_nodes(tmp, g, uses);
	u32 n = find_seeds(g, live, MAX(2 * least - 1, larger), seed);
	for (u32 i = 0; i < n; i++) {
		const Region *best = NULL;
		u32 rank = val_type(g, g->node.v[seed[i]].out)->rank;
		for (u32 d = 0; d < rank; d++) { /* the outermost of those that make the most chunks */
			const Region *x = try_region(tmp, g, live, uses, seed[i], d, moved, least);
			if (x && (!best || x->chunks > best->chunks))
				best = x;
		}
		if (best)
			return best;
	}
	return NULL;
}

static void tell(PassCx *cx, const Region *x)
{
	if (!cx->trace)
		return;
	Arena tmp = ARENA("chunk");
	Buf b = { .arena = &tmp };
	const Graph *g = x->g;
	const Node *n = &g->node.v[x->seed];
	type_print(&b, val_type(g, n->out));
	fprintf(cx->trace, "chunk: %s: the product %.*s at ", g->name, STR_ARG(buf_str(&b)));
	diag_print_place(g->ir->diag, n->loc, cx->trace);
	Axis a = axis_find(g->ir, val_axis(g, n->out)[x->dim[n->out.i]]);
	fprintf(cx->trace, " and %u nodes around it, in %u chunks of %lld along dimension %d%s%s; each reads and writes %.0f bytes again\n",
		x->count - 1, x->chunks, (long long)x->chunk, x->dim[n->out.i], a.id ? ", " : "",
		a.id ? g->ir->axis.v[a.id].name : "", bytes_again(x));
	arena_free(&tmp);
}

static Graph *chunk_graph(PassCx *cx, const Graph *from, f64 least)
{
	const TargetInfo *t = cx->target;
	f64 balance = t && t->flops[DT_f32] > 0 && t->bandwidth > 0 ? t->flops[DT_f32] / t->bandwidth : BALANCE;
	u32 seed[MOST_SEEDS];
	const bool *live = live_nodes(cx->tmp, from, NEWN(cx->tmp, u32, from->value.n));
	if (!find_seeds(from, live, 2 * least - 1, seed))
		return rewrite_graph(cx->out, cx->tmp, from, NULL, NULL, true);
	f64 moved = graph_cost(from).flops / balance / TIME_PART, larger = 0;
	Arena arena[2] = { ARENA("chunk"), ARENA("chunk") };
	const Graph *g = from;
	Graph *made = NULL;
	for (u32 i = 0; i < MOST_REGIONS; i++) {
		ArenaMark mark = arena_mark(cx->tmp);
		const Region *x = find_region(cx->tmp, g, moved, least, larger);
		if (x) {
			tell(cx, x);
			moved -= bytes_again(x) * (x->chunks - 1);
			/* chunks are not cut again */
			larger = MAX(larger, bytes(g, g->node.v[x->seed].out) / 2);
			g = made = apply(&arena[i % 2], x);
			arena_free(&arena[(i + 1) % 2]);
		}
		arena_release(cx->tmp, mark);
		if (!x)
			break;
	}
	if (g == from)
		return rewrite_graph(cx->out, cx->tmp, from, NULL, NULL, true);
	for (u32 i = 0; i < 2; i++) /* all but the last is dropped */
		arena_adopt(cx->out, &arena[i]);
	made->arena = made->shared.arena = cx->out;
	return made;
}

Program *pass_chunk(PassCx *cx, const Program *in)
{
	f64 least = 4 << 20;
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		if (!str_equal(a.name, STR("bytes"))) {
			error = !pass_argument_unknown(cx, &a);
			continue;
		}
		char digits[24] = "", *end;
		memcpy(digits, a.value.s, MIN(a.value.n, sizeof digits - 1));
		least = strtod(digits, &end);
		if (*end || !(least > 0))
			error = !diag_error(cx->diag, E0714, cx->args_loc, "bytes is a positive number, not '%.*s'",
					    STR_ARG(a.value));
	}
	if (error)
		return NULL;
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++)
		VEC_PUSH(cx->out, &to->entry, chunk_graph(cx, in->entry.v[i], least));
	return to;
}
