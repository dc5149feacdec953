/* passes/graph/fuse.c: greedy fusion in one pass over the nodes; see fuse.h.
 *
 * Nodes are taken in graph order. One joins the group of an operand while that group is open: nobody
 * outside has asked for what it computes, so that it may still run later. A use from outside closes a
 * group. Groups run in the order of their last nodes, which makes every schedule here acyclic without a
 * search: a value wanted outside belongs to a closed group, whose last node lies before the user.
 *
 * When a value of another group is wanted and not stored yet, it is computed again if that is cheap and
 * needs nothing big that is not stored anyhow (so normalized rows are never written for the sake of their
 * gain's gradient, nor dropout masks), and else stored by its home group.
 *
 * Linear in nodes but for the recomputation search, which is bounded. The idea of one greedy pass over a
 * topological order is XLA's instruction fusion; recomputing cheap producers, Halide's inlining. */
#include "passes/fuse.h"
#include "ir/scalar.h"
#include "passes/lower/lower.h"

#include <stdlib.h>
#include <string.h>

NodeClass node_class(Op op)
{
	switch (op) {
	case OP_input:
	case OP_read: return NODE_SOURCE;
	case OP_full:
	case OP_iota:
	case OP_extent:
	case OP_random:
	case OP_stop_gradient:
	case OP_broadcast:
	case OP_reshape:
	case OP_transpose:
	case OP_slice:
	case OP_unfold:
	case OP_split: return NODE_FREE;
	case OP_cast:
	case OP_pad:
	case OP_concat:
	case OP_gather:
	case OP_take_along: return NODE_POINTWISE;
	case OP_sum:
	case OP_reduce_max:
	case OP_reduce_min:
	case OP_argmax: return NODE_REDUCTION; /* argmax: until `canonical` has made such of it */
	case OP_dot:
	case OP_grouped_dot:
	case OP_grouped_dot_weights:
	case OP_attention:
	case OP_attention_grad:
	case OP_scatter_add:
	case OP_scatter_along:
	case OP_cumsum:
	case OP_sort:
	case OP_update_slice: return NODE_SKELETON;
	case OP_all_reduce:
	case OP_all_gather:
	case OP_reduce_scatter:
	case OP_all_to_all:
	case OP_permute:
	case OP_send:
	case OP_receive:
	case OP_reduce_among: return NODE_COLLECTIVE;
	default:
		assert(op_info[op].kind == EW); /* composites are gone by now */
		return NODE_POINTWISE;
	}
}

static KernelClass skeleton_class(Op op)
{
	switch (op) {
	case OP_dot: return KERNEL_DOT;
	case OP_grouped_dot: return KERNEL_GROUPED;
	case OP_grouped_dot_weights: return KERNEL_GROUPED_WEIGHTS;
	case OP_attention: return KERNEL_ATTENTION;
	case OP_attention_grad: return KERNEL_ATTENTION_GRAD;
	case OP_cumsum: return KERNEL_SCAN;
	case OP_sort: return KERNEL_SORT;
	case OP_update_slice: return KERNEL_MAP;
	default: return KERNEL_SCATTER;
	}
}

/* What one evaluation costs, in units of an addition on a vector unit. */
static u32 effort(Op op)
{
	if (scalar_info[op].nin)
		return scalar_info[op].effort;
	switch (op) {
	case OP_random: return 20;
	case OP_gather:
	case OP_take_along: return 4;
	case OP_concat:
	case OP_pad: return 2;
	default: return 1;
	}
}

/* Recomputation is worth it up to this effort; a matrix multiply evaluates its operands while packing,
 * perhaps more than once: less is, but for operands that are many times what they are made of. */
enum { CHEAP = 48, CHEAP_OPERAND = 4, DEAR = 12 /* a function */, SEARCH = 64 };

typedef struct Fuse {
	Grouping *f;
	const u32 *uses; /* of each value, by live nodes and results */
	const Graph *g;
	const Graph *sizes; /* the same graph, at the sizes that decide */
	Arena *tmp;
	bool stores_operands; /* of the target */
} Fuse;

u32 grouping_home(const Grouping *f, u32 node)
{
	u32 group = f->home[node];
	while (group != NONE && f->group.v[group].into != NONE)
		group = f->group.v[group].into;
	return group;
}

static u32 home_of(const Fuse *x, u32 node)
{
	return grouping_home(x->f, node);
}

static bool same_shape(const Type *a, const Type *b)
{
	return a->rank == b->rank && memcmp(a->dim, b->dim, a->rank * sizeof *a->dim) == 0;
}

/* `row` is `full` without its last dimension. */
static bool row_shape(const Type *row, const Type *full)
{
	return row->rank + 1 == full->rank &&
	       memcmp(row->dim, full->dim, row->rank * sizeof *row->dim) == 0;
}

static void close_group(Fuse *x, u32 group, u32 by, const char *why)
{
	Group *gr = &x->f->group.v[group];
	if (gr->closed)
		return;
	gr->closed = true;
	gr->why = why;
	gr->why_node = by;
}

static void store(Fuse *x, Val v, u32 by)
{
	u32 group = home_of(x, x->g->value.v[v.i].node);
	assert(group != NONE);
	close_group(x, group, by, by == NONE ? "it is a result of the entry" : "its result is needed by another kernel");
	if (x->f->stored[v.i])
		return;
	x->f->stored[v.i] = true;
	VEC_PUSH(x->f->arena, &x->f->group.v[group].stored, v);
}

/* Bytes of the value, as an approximate number: only compared. */
static f64 bytes(const Fuse *x, Val v)
{
	return (f64)type_bytes(val_type(x->sizes, v));
}

/* ---- recompute or store ---- */

typedef struct Search {
	VEC(Val) leaf;      /* values that would have to be stored: small ones, and at most one big one */
	VEC(u32) seen;
	u32 effort, limit;
	u32 big, new_big;   /* big values to be read, and those among them that nobody stores yet */
	f64 new_size;       /* bytes of the latter, of which there is one at most */
	u32 new_uses;
	bool shared;        /* the new one is used elsewhere too, and so may be stored anyhow */
	Val wanted;         /* the value searched for */
	f64 size;           /* its bytes */
	u32 into;           /* the group that wants it */
} Search;

/* Is it little to store, or to read, beside what is wanted? A function that takes long is where what is wanted is only a few times as
 * large: that has each of its values several times, as rotary embeddings have the cosines for all heads and texts. */
static bool is_small(const Fuse *x, const Search *s, Val v, const Node *n)
{
	f64 work = scalar_info[n->op].nin ? scalar_info[n->op].effort : 1;
	return bytes(x, v) * MAX(32 / work, 2) <= s->size;
}

/* Is it a value of fewer bytes, made wider? Whoever reads it reads the fewer, and widens. */
static bool is_widened(const Fuse *x, const Node *n)
{
	return n->op == OP_cast && bytes(x, n->out) > bytes(x, n->in[0]);
}

/* Is it a product that nothing else uses, plus a value for each index of its last dimension? */
static bool is_biased(const Fuse *x, const Node *n)
{
	for (u32 i = 0; n->op == OP_add && i < 2; i++) {
		const Node *dot = val_node(x->g, n->in[i]), *bias = val_node(x->g, n->in[1 - i]);
		if (dot->op == OP_dot && x->uses[n->in[i].i] == 1 && bias->op == OP_broadcast && val_type(x->g, bias->in[0])->rank == 1 &&
		    val_node(x->g, bias->in[0])->op == OP_read)
			return true;
	}
	return false;
}

/* Can `v` be computed at its users from what is (or cheaply can be) stored? Collects what that takes. */
static bool recompute(Fuse *x, Search *s, Val v)
{
	u32 node = x->g->value.v[v.i].node;
	const Node *n = &x->g->node.v[node];
	NodeClass class = node_class((Op)n->op);
	for (u32 i = 0; i < s->seen.n; i++)
		if (s->seen.v[i] == v.i)
			return true;
	if (s->seen.n >= SEARCH)
		return false;
	VEC_PUSH(x->tmp, &s->seen, v.i);
	if (class == NODE_SOURCE || x->f->stored[v.i]) {
		s->big += bytes(x, v) * 8 > s->size && !is_small(x, s, v, n);
		return true;
	}
	if (home_of(x, node) == s->into)
		return true; /* at hand there */
	if (class != NODE_FREE && is_small(x, s, v, n) && !is_widened(x, n)) {
		VEC_PUSH(x->tmp, &s->leaf, v); /* let it be stored */
		return true;
	}
	if (class == NODE_REDUCTION || class == NODE_SKELETON) {
		/* storing what a chain began with serves every later use of the chain */
		VEC_PUSH(x->tmp, &s->leaf, v);
		s->big++;
		s->new_size = bytes(x, v);
		s->new_uses = x->uses[v.i];
		s->shared = s->new_uses > 1;
		return ++s->new_big == 1 && (s->shared || bytes(x, v) <= s->size);
	}
	bool narrowed = n->op == OP_cast && v.i != s->wanted.i && bytes(x, v) < bytes(x, n->in[0]);
	if ((narrowed || is_biased(x, n)) && bytes(x, v) <= s->size) {
		/* a rounded value is the least to store of a chain that goes through it; with its bias a product is as large as without,
		 * and is what libraries give and take (GELU with auxiliary output, dGELU) */
		VEC_PUSH(x->tmp, &s->leaf, v);
		s->big++;
		s->new_size = bytes(x, v);
		s->new_uses = x->uses[v.i];
		return ++s->new_big == 1;
	}
	/* data moved by index is read from memory: its operand must be there */
	s->effort += class == NODE_FREE && n->op != OP_random ? 0 : effort((Op)n->op);
	if (s->effort > s->limit)
		return false;
	Search before = *s;
	for (u32 i = 0; i < n->nin; i++)
		if (!recompute(x, s, n->in[i]))
			return false;
	/* where something must be stored for it that serves nothing else and is no smaller, what takes long and is wanted again is stored
	 * itself: an activation's derivative behind a product would be worked out anew for each sum of it and for what goes on */
	bool dear = s->effort - before.effort + effort((Op)n->op) >= DEAR && class == NODE_POINTWISE && x->uses[v.i] > 1;
	if (dear && s->new_big > before.new_big && s->new_uses == 1 && bytes(x, v) <= s->new_size) {
		s->leaf.n = before.leaf.n;
		s->seen.n = before.seen.n;
		s->effort = before.effort;
		s->big = before.big + 1;
		s->new_size = bytes(x, v);
		s->new_uses = x->uses[v.i];
		s->shared = true;
		VEC_PUSH(x->tmp, &s->leaf, v);
		s->new_big = before.new_big + 1;
		return s->new_big == 1;
	}
	return true;
}

/* Windows that overlap, whose elements are read several times? */
static bool overlaps(const Node *n)
{
	return n->op == OP_unfold && ATTR(n, unfold)->step < ATTR(n, unfold)->size * ATTR(n, unfold)->dilation;
}

/* Group `into` wants `v`, which is not at home there: makes sure that it can be had. Behind windows that overlap all that is computed
 * is stored: a padded image's edges, or where an element of one that is enlarged comes from, would be worked out for every window. */
static void use(Fuse *x, Val v, u32 into, u32 by, u32 limit)
{
	u32 node = x->g->value.v[v.i].node;
	const Node *n = &x->g->node.v[node];
	NodeClass class = node_class((Op)n->op);
	u32 home = home_of(x, node);
	if (class == NODE_SOURCE || x->f->stored[v.i] || (home != NONE && home == into))
		return;
	if (class == NODE_FREE) {
		for (u32 i = 0; i < n->nin; i++)
			use(x, n->in[i], into, by, overlaps(n) ? 0 : limit);
		return;
	}
	/* a number that a reduction ends in is stored with it: no kernel more, and one to read */
	bool number = home != NONE && type_elements(val_type(x->sizes, v)) == 1 &&
		      (x->f->group.v[home].class == KERNEL_ROW || x->f->group.v[home].class == KERNEL_COLUMN);
	if (class == NODE_POINTWISE && !number) {
		ArenaMark mark = arena_mark(x->tmp);
		Search s = { .limit = limit, .wanted = v, .size = bytes(x, v), .into = into };
		bool can = recompute(x, &s, v) && s.big <= (s.new_big && !s.shared ? 1 : 2);
		for (u32 i = 0; can && i < s.leaf.n; i++)
			store(x, s.leaf.v[i], by);
		arena_release(x->tmp, mark);
		if (can)
			return;
	}
	store(x, v, by);
}

/* ---- joining ---- */

u32 group_result(const Grouping *f, u32 group, Val v)
{
	u32 node = f->g->value.v[v.i].node;
	const Node *n = &f->g->node.v[node];
	u32 skeleton = f->group.v[group].skeleton;
	if (node == skeleton)
		return v.i - n->out.i;
	NodeClass class = node_class((Op)n->op);
	if (class != NODE_FREE && grouping_home(f, node) != group)
		return NONE;
	for (u32 i = 0; i < n->nin; i++) {
		u32 result = group_result(f, group, n->in[i]);
		if (result != NONE)
			return result;
	}
	return NONE;
}

static u32 new_group(Fuse *x, KernelClass class, const Type *shape, u32 node)
{
	Group gr = { .class = class, .shape = shape, .root = node, .skeleton = NONE, .into = NONE,
		     .why = "the graph ends", .why_node = NONE };
	VEC_PUSH(x->f->arena, &x->f->group, gr);
	return x->f->group.n - 1;
}

static void join(Fuse *x, u32 group, u32 node)
{
	Group *gr = &x->f->group.v[group];
	x->f->home[node] = group;
	gr->root = MAX(gr->root, node);
	VEC_PUSH(x->f->arena, &gr->member, node);
}

/* How node `n` of a candidate group would see operand value `v`, followed through views: at the very place
 * where it is computed (SEEN_HERE), at a row's value (SEEN_ROW), or somewhere else. */
typedef enum Seen { SEEN_NOT, SEEN_HERE, SEEN_ELSEWHERE } Seen;

/* Does `v`, read at the place of a value of shape `at`, lead to members of `group`, and only to the place
 * where they are computed? */
static Seen seen_in(Fuse *x, Val v, const Type *at, u32 group)
{
	u32 node = x->g->value.v[v.i].node;
	const Node *n = &x->g->node.v[node];
	const Type *t = val_type(x->g, v);
	const Group *gr = &x->f->group.v[group];
	NodeClass class = node_class((Op)n->op);
	if (class == NODE_SOURCE)
		return SEEN_NOT;
	if (class != NODE_FREE) {
		if (home_of(x, node) != group)
			return SEEN_NOT;
		if (same_shape(t, at))
			return SEEN_HERE;
		return SEEN_ELSEWHERE;
	}
	if (n->op == OP_broadcast && gr->class == KERNEL_ROW) {
		/* a row's value, repeated along the row */
		const Type *from = val_type(x->g, n->in[0]);
		const ints map = ATTR(n, broadcast)->dims;
		bool along_row = same_shape(t, at) && row_shape(from, t);
		for (u32 i = 0; i < map.n; i++)
			along_row &= map.v[i] == i;
		if (along_row)
			return seen_in(x, n->in[0], from, group);
	}
	if (n->op == OP_stop_gradient)
		return seen_in(x, n->in[0], at, group);
	for (u32 i = 0; i < n->nin; i++)
		if (seen_in(x, n->in[i], val_type(x->g, n->in[i]), group) != SEEN_NOT)
			return SEEN_ELSEWHERE;
	return SEEN_NOT;
}

/* The open groups that operands lead to, latest first; at most `most`. */
static void reach(Fuse *x, Val v, u32 *group, u32 *n, u32 most)
{
	u32 node = x->g->value.v[v.i].node;
	const Node *p = &x->g->node.v[node];
	NodeClass class = node_class((Op)p->op);
	if (class == NODE_FREE) {
		for (u32 i = 0; i < p->nin; i++)
			reach(x, p->in[i], group, n, most);
		return;
	}
	u32 home = home_of(x, node);
	if (home == NONE || x->f->group.v[home].closed || x->f->stored[v.i])
		return;
	for (u32 i = 0; i < *n; i++)
		if (group[i] == home)
			return;
	if (*n < most)
		group[(*n)++] = home;
}

/* May pointwise node `n` become a member of `group`? */
static bool may_join(Fuse *x, const Node *n, u32 group)
{
	const Group *gr = &x->f->group.v[group];
	const Type *t = val_type(x->g, n->out);
	switch (gr->class) {
	case KERNEL_MAP:
	case KERNEL_DOT:
		if (!same_shape(t, gr->shape))
			return false;
		break;
	case KERNEL_ROW:
		if (!same_shape(t, gr->shape) && !row_shape(t, gr->shape))
			return false;
		break;
	case KERNEL_COLUMN: {
		const Node *r = &x->g->node.v[gr->member.v[0]];
		if (!same_shape(t, val_type(x->g, r->out)))
			return false;
		break;
	}
	case KERNEL_ATTENTION:
	case KERNEL_ATTENTION_GRAD: {
		/* behind one of its results, which have places of their own */
		u32 result = NONE;
		for (u32 i = 0; i < n->nin; i++) {
			u32 follows = group_result(x->f, group, n->in[i]);
			if (follows != NONE && result != NONE && follows != result)
				return false;
			result = follows != NONE ? follows : result;
		}
		const Val out = x->g->node.v[gr->skeleton].out;
		if (result == NONE || !same_shape(t, val_type(x->g, (Val){ out.i + result })))
			return false;
		break;
	}
	default: return false;
	}
	for (u32 i = 0; i < n->nin; i++)
		if (seen_in(x, n->in[i], t, group) == SEEN_ELSEWHERE)
			return false;
	/* what moves data by index must not read the group itself, which `seen_in` cannot tell for gather */
	if (n->op == OP_gather || n->op == OP_take_along || n->op == OP_pad || n->op == OP_concat)
		for (u32 i = 0; i < n->nin; i++)
			if (seen_in(x, n->in[i], t, group) != SEEN_NOT)
				return false;
	return true;
}

static u32 reductions(const Fuse *x, const Group *gr)
{
	u32 n = 0;
	for (u32 i = 0; i < gr->member.n; i++)
		n += node_class((Op)x->g->node.v[gr->member.v[i]].op) == NODE_REDUCTION;
	return n;
}

/* Both open and over the same domain: one kernel may compute both. */
static bool may_merge(const Fuse *x, const Group *a, const Group *b)
{
	bool fixed = a->class == KERNEL_COLUMN || b->class == KERNEL_COLUMN || a->class > KERNEL_DOT ||
		     b->class > KERNEL_DOT;
	if (!same_shape(a->shape, b->shape) || fixed)
		return false;
	bool dot = a->class == KERNEL_DOT || b->class == KERNEL_DOT;
	bool row = a->class == KERNEL_ROW || b->class == KERNEL_ROW;
	bool both_dot = a->class == KERNEL_DOT && b->class == KERNEL_DOT;
	return !both_dot && !(dot && row) && reductions(x, a) + reductions(x, b) <= KERNEL_ROW_REDUCTIONS;
}

static int ascending(const void *a, const void *b)
{
	u32 i = *(const u32 *)a, k = *(const u32 *)b;
	return i < k ? -1 : i > k;
}

static u32 merge(Fuse *x, u32 a, u32 b)
{
	u32 keep = MIN(a, b), gone = MAX(a, b);
	Group *k = &x->f->group.v[keep], *m = &x->f->group.v[gone];
	for (u32 i = 0; i < m->member.n; i++)
		VEC_PUSH(x->f->arena, &k->member, m->member.v[i]);
	qsort(k->member.v, k->member.n, sizeof *k->member.v, ascending);
	for (u32 i = 0; i < m->stored.n; i++)
		VEC_PUSH(x->f->arena, &k->stored, m->stored.v[i]);
	k->root = MAX(k->root, m->root);
	if (m->class != KERNEL_MAP)
		k->class = m->class;
	if (m->skeleton != NONE)
		k->skeleton = m->skeleton;
	m->into = keep;
	return keep;
}

static void place_pointwise(Fuse *x, u32 node)
{
	const Node *n = &x->g->node.v[node];
	u32 open[16], nopen = 0;
	for (u32 i = 0; i < n->nin; i++)
		reach(x, n->in[i], open, &nopen, COUNT(open));
	/* the latest group first: it has the most that is still at hand */
	u32 into = NONE;
	for (u32 k = 0; k < nopen; k++) {
		if (!may_join(x, n, open[k]))
			continue;
		if (into == NONE)
			into = open[k];
		else if (may_merge(x, &x->f->group.v[into], &x->f->group.v[open[k]]))
			into = merge(x, into, open[k]);
		else if (x->f->group.v[open[k]].root > x->f->group.v[into].root)
			into = open[k];
	}
	if (into == NONE)
		into = new_group(x, KERNEL_MAP, val_type(x->g, n->out), node);
	for (u32 i = 0; i < n->nin; i++)
		use(x, n->in[i], into, node, CHEAP);
	join(x, into, node);
}

static ints axes_of(const Node *n)
{
	/* the three reductions share their attributes' layout */
	return ATTR(n, sum)->axes;
}

/* The open group of a reduction just before, over the same things: one pass for both, where none waits for the other. */
static u32 reduction_before(Fuse *x, const Node *n, KernelClass class)
{
	const Type *t = val_type(x->g, n->in[0]);
	ints axes = axes_of(n);
	for (u32 k = x->f->group.n; k > 0 && k + 4 > x->f->group.n; k--) {
		const Group *gr = &x->f->group.v[k - 1];
		bool same = gr->class == class && gr->into == NONE && !gr->closed && same_shape(gr->shape, t) &&
			    x->g->node.v[gr->member.v[0]].scope == n->scope && seen_in(x, n->in[0], t, k - 1) == SEEN_NOT;
		if (same && class == KERNEL_COLUMN)
			same = gr->axes.n == axes.n && memcmp(gr->axes.v, axes.v, axes.n * sizeof *axes.v) == 0;
		else if (same)
			same = reductions(x, gr) < KERNEL_ROW_REDUCTIONS;
		if (same)
			return k - 1;
	}
	return NONE;
}

static void place_reduction(Fuse *x, u32 node)
{
	const Node *n = &x->g->node.v[node];
	const Type *t = val_type(x->g, n->in[0]);
	ints axes = axes_of(n);
	bool row = axes.n == 1 && axes.v[0] == t->rank - 1;
	u32 into = NONE;
	if (row) {
		u32 open[16], nopen = 0;
		reach(x, n->in[0], open, &nopen, COUNT(open));
		for (u32 k = 0; k < nopen && into == NONE; k++) {
			Group *gr = &x->f->group.v[open[k]];
			bool fits = (gr->class == KERNEL_MAP || gr->class == KERNEL_ROW) &&
				    same_shape(gr->shape, t) && reductions(x, gr) < KERNEL_ROW_REDUCTIONS;
			if (!fits)
				continue;
			KernelClass was = gr->class;
			gr->class = KERNEL_ROW; /* seen_in asks for it */
			if (seen_in(x, n->in[0], t, open[k]) == SEEN_HERE)
				into = open[k];
			else
				gr->class = was;
		}
		u32 before = reduction_before(x, n, KERNEL_ROW);
		if (into == NONE)
			into = before != NONE ? before : new_group(x, KERNEL_ROW, t, node);
		x->f->group.v[into].class = KERNEL_ROW;
		if (before != NONE && before != into && may_merge(x, &x->f->group.v[before], &x->f->group.v[into]))
			into = merge(x, before, into);
	} else {
		into = reduction_before(x, n, KERNEL_COLUMN);
		if (into == NONE) {
			into = new_group(x, KERNEL_COLUMN, t, node);
			x->f->group.v[into].axes = axes;
		}
	}
	use(x, n->in[0], into, node, CHEAP);
	join(x, into, node);
}

/* The same where the target reads operands best as they stand in memory: what is no view is stored. */
static void use_stored(Fuse *x, Val v, u32 by)
{
	const Node *n = val_node(x->g, v);
	NodeClass class = node_class((Op)n->op);
	if (class == NODE_FREE)
		for (u32 i = 0; i < n->nin; i++)
			use_stored(x, n->in[i], by);
	else if (is_widened(x, n))
		use_stored(x, n->in[0], by);
	else if (class != NODE_SOURCE)
		store(x, v, by);
}

/* Attention's mask is asked for one element at a time, by code that makes it of what it is made of as well as it loads it. */
static bool is_mask(const Node *n, u32 operand)
{
	bool attention = n->op == OP_attention || n->op == OP_attention_grad;
	return attention && operand == 3 && ((const attention_attr *)n->attr)->mask; /* both ops' */
}

/* Bytes that there are of what `v` is made of. What is taken from a table counts as what it is: to take a row twice makes nothing wider. */
static f64 made_of(Fuse *x, Search *s, Val v)
{
	u32 node = x->g->value.v[v.i].node;
	const Node *n = &x->g->node.v[node];
	NodeClass class = node_class((Op)n->op);
	for (u32 i = 0; i < s->seen.n; i++)
		if (s->seen.v[i] == v.i)
			return 0;
	VEC_PUSH(x->tmp, &s->seen, v.i);
	bool taken = n->op == OP_gather || n->op == OP_take_along;
	if (s->seen.n > SEARCH || (class != NODE_FREE && class != NODE_POINTWISE) || taken || x->f->stored[v.i])
		return bytes(x, v);
	f64 sum = 0;
	for (u32 i = 0; i < n->nin; i++)
		sum += made_of(x, s, n->in[i]);
	return sum;
}

/* Up to which effort an operand is computed where it is used. Stored, one that is several times what it is made of (weights of 4 bits,
 * of groups that share factors) would be written and read in so many bytes more, each time. Not attention's bias:
 * it is asked for anew for each text, and would be worked out as often. */
static u32 operand_limit(Fuse *x, Val v)
{
	ArenaMark mark = arena_mark(x->tmp);
	Search s = { 0 };
	f64 of = made_of(x, &s, v), times = of > 0 ? bytes(x, v) / of : 1;
	arena_release(x->tmp, mark);
	return times <= 1 ? CHEAP_OPERAND : (u32)MIN(CHEAP_OPERAND * times, (f64)CHEAP);
}

static bool is_product(Op op)
{
	return op == OP_dot || op == OP_grouped_dot || op == OP_grouped_dot_weights;
}

/* Products read each of their operands many times. */
static bool reads_often(Op op)
{
	return is_product(op) || op == OP_attention || op == OP_attention_grad;
}

static void place_skeleton(Fuse *x, u32 node)
{
	const Node *n = &x->g->node.v[node];
	u32 into = new_group(x, skeleton_class((Op)n->op), val_type(x->g, n->out), node);
	x->f->group.v[into].skeleton = node;
	for (u32 i = 0; i < n->nin; i++)
		if (n->in[i].i == added_onto(n).i)
			store(x, n->in[i], node);
		else if (x->stores_operands && reads_often((Op)n->op) && !is_mask(n, i))
			use_stored(x, n->in[i], node);
		else
			use(x, n->in[i], into, node, is_product((Op)n->op) ? operand_limit(x, n->in[i]) : CHEAP_OPERAND);
	join(x, into, node);
	if (n->op != OP_dot && n->op != OP_attention && n->op != OP_attention_grad)
		close_group(x, into, NONE, "nothing is fused behind this kind of kernel");
}

/* Operands lie in memory before devices speak; those that are views or constants are copied there by kernels of their
 * own (plan.c), whose parts must be at hand. */
static void place_collective(Fuse *x, u32 node)
{
	const Node *n = &x->g->node.v[node];
	u32 group = new_group(x, KERNEL_COLLECTIVE, val_type(x->g, n->out), node);
	x->f->group.v[group].skeleton = node;
	for (u32 i = 0; i < n->nin; i++) {
		const Node *maker = val_node(x->g, n->in[i]);
		NodeClass class = node_class((Op)maker->op);
		if (class == NODE_FREE)
			for (u32 k = 0; k < maker->nin; k++)
				use(x, maker->in[k], NONE - 1, node, CHEAP);
		else if (class != NODE_SOURCE)
			store(x, n->in[i], node);
	}
	join(x, group, node);
	for (u32 i = 0; i < n->nout; i++)
		store(x, (Val){ n->out.i + i }, node);
}

/* ---- results ---- */

/* A result that is a view, a constant or somebody's buffer has no group: one that copies it is made by
 * lowering (lower.h). Its parts must be at hand. */
static void place_result(Fuse *x, Val v, u32 last)
{
	const Node *n = val_node(x->g, v);
	NodeClass class = node_class((Op)n->op);
	if (class == NODE_SOURCE)
		return;
	if (class == NODE_FREE) {
		for (u32 i = 0; i < n->nin; i++)
			use(x, n->in[i], NONE - 1, last, CHEAP);
		return;
	}
	store(x, v, last);
}

static bool *live_nodes(Arena *tmp, const Graph *g, u32 *uses)
{
	bool *live = NEWN(tmp, bool, g->node.n + 1);
	for (u32 i = 0; i < g->result.n; i++) {
		live[g->value.v[g->result.v[i].value.i].node] = true;
		uses[g->result.v[i].value.i]++;
	}
	for (u32 i = g->node.n; i-- > 0;)
		for (u32 k = 0; live[i] && k < g->node.v[i].nin; k++) {
			live[g->value.v[g->node.v[i].in[k].i].node] = true;
			uses[g->node.v[i].in[k].i]++;
		}
	return live;
}

static int by_key(const void *a, const void *b)
{
	u64 i = *(const u64 *)a, k = *(const u64 *)b;
	return i < k ? -1 : i > k;
}

/* Groups nobody stores from are dead: what they compute is computed elsewhere again. The others, in the
 * order of their roots. */
static void keep_used(Grouping *f, Arena *tmp)
{
	u64 *key = NEWN(tmp, u64, f->group.n + 1);
	for (u32 i = 0; i < f->group.n; i++)
		if (f->group.v[i].into == NONE && f->group.v[i].stored.n)
			key[f->norder++] = (u64)f->group.v[i].root << 32 | i;
	qsort(key, f->norder, sizeof *key, by_key);
	f->order = NEWN(f->arena, u32, f->norder + 1);
	f->place = NEWN(f->arena, u32, f->group.n + 1);
	memset(f->place, 0xff, (f->group.n + 1) * sizeof *f->place);
	for (u32 i = 0; i < f->norder; i++) {
		f->order[i] = (u32)key[i];
		f->place[f->order[i]] = i;
	}
}

Grouping *fuse_graph(Arena *arena, Arena *tmp, const Graph *g, const TargetInfo *target, const Graph *like)
{
	Grouping *f = NEW(arena, Grouping);
	f->arena = arena;
	f->g = g;
	f->products_f8 = target && target->products_f8;
	f->home = NEWN(arena, u32, g->node.n + 1);
	f->stored = NEWN(arena, bool, g->value.n + 1);
	memset(f->home, 0xff, (g->node.n + 1) * sizeof *f->home);
	u32 *uses = NEWN(tmp, u32, g->value.n + 1);
	bool *live = live_nodes(tmp, g, uses);
	Arena scratch = ARENA("fuse"); /* its own: searches give back what they took */
	Fuse x = { f, uses, g, like && like->value.n == g->value.n ? like : g, &scratch, target && target->stores_operands };
	for (u32 i = 0; i < g->node.n; i++) {
		if (!live[i])
			continue;
		switch (node_class((Op)g->node.v[i].op)) {
		case NODE_SOURCE:
		case NODE_FREE: break;
		case NODE_POINTWISE: place_pointwise(&x, i); break;
		case NODE_REDUCTION: place_reduction(&x, i); break;
		case NODE_SKELETON: place_skeleton(&x, i); break;
		case NODE_COLLECTIVE: place_collective(&x, i); break;
		}
	}
	for (u32 i = 0; i < g->result.n; i++)
		place_result(&x, g->result.v[i].value, NONE);
	if (target && target->sums_beside)
		fuse_sums(f, &scratch, live);
	fuse_layout(f, &scratch, live, target ? target->row_align : 0);
	keep_used(f, tmp);
	arena_free(&scratch);
	return f;
}
