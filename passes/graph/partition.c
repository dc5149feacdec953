/* passes/graph/partition.c: the pass `partition`: from a program to what one device of a mesh runs of it, by the
 * placements of shard.h. Every device runs the same program; where it differs, it reads its coordinates from buffers
 * of kind `mesh`. Buffers and inputs get local shapes and say how the whole lies over the mesh (`split`).
 *
 * A node is built with local shapes and operands brought to where it wants them. From one placement to another goes
 * one mesh axis at a time, cheapest first: slices, then moves and sums of parts, then gathers; each step is made once
 * and shared. A dimension that does not divide is padded with zeros where it is cut, and cut off where it is put together.
 * What is gathered for the forward half is gathered again for the backward half, and not kept in between:
 * parameters (ZeRO-3), and what a layer's products take along a divided sequence, of which a device keeps its own part
 * (Korthikanti et al. 2022). What no layer lies behind, such as a head's operand, is wanted again at once, and kept. */
#include "passes/graph/ring.h"
#include "passes/graph/shard.h"
#include "passes/rewrite.h"

#include <string.h>

/* A value of the new graph: the old one's, in some placement. */
typedef struct Form {
	Places places;
	bool gathered; /* on the way to it */
	u32 again;     /* of what is gathered: for the backward half */
	Val v;
} Form;

typedef struct Partition {
	PassCx *cx;
	const Placement *at;
	const Mesh *mesh;
	const EntryPlacement *e;
	const Graph *from;
	Builder b;
	VEC(Form) *form;    /* [value of from] */
	bool *of_parameter; /* [value] made of parameters alone: gathered again for the backward half wherever it is used */
	u32 loss;           /* the node behind which the backward half begins, or NONE */
	u32 again;          /* of the node at hand */
	Map local_axis;     /* class and local size -> class */
} Partition;

static u32 parts_of(const Partition *x, u32 m)
{
	return x->mesh->axis[m].size;
}

/* ---- axis classes of what is local ---- */

/* Local classes of a tensor, which has the whole's names. */
static void local_axes(Partition *x, const Axis *whole, const Type *local, Axis *out)
{
	for (u32 d = 0; d < local->rank; d++)
		out[d] = axis_part(x->cx->ir, &x->local_axis, whole[d], type_extent(local, d));
}

static void name_axes(Partition *x, Val v, const Axis *whole)
{
	Axis axis[MAX_RANK];
	const Type *t = val_type(x->b.g, v);
	local_axes(x, whole, t, axis);
	for (u32 d = 0; d < t->rank; d++)
		if (!axis[d].id)
			axis[d] = val_axis(x->b.g, v)[d];
	graph_set_axis(x->b.g, v, axis);
}

/* ---- small makings ---- */

static Val coordinate(Partition *x, u32 m)
{
	return BS(&x->b, read, .buffer = mesh_buffer(x->cx->ir, x->mesh->axis[m].name), .dtype = DT_i64, .shape = { 0 });
}

static Dim number(Partition *x, i64 n)
{
	return dim_number(x->cx->ir, n);
}

static Val scalar(Partition *x, f64 value, DType d)
{
	return make_full(&x->b, value, d, (dims){ 0 });
}

static Val repeat_to(Partition *x, Val v, const Type *like)
{
	return make_broadcast(&x->b, v, (dims){ like->rank, like->dim });
}

/* Dimension d as [outer, parts, inner], and back without the middle. */
static Val reshape_at(Partition *x, Val v, u32 d, const i64 *extent, u32 n)
{
	const Type *t = val_type(x->b.g, v);
	Dim dim[MAX_RANK];
	u32 rank = 0;
	for (u32 k = 0; k < t->rank; k++) {
		if (k != d)
			dim[rank++] = t->dim[k];
		for (u32 i = 0; k == d && i < n; i++)
			dim[rank++] = number(x, extent[i]);
	}
	return BA(&x->b, reshape, (v), .shape = { rank, dim });
}

/* This device's blocks of dimension d. */
static Val take_block(Partition *x, Val v, u32 d, i64 outer, u32 m)
{
	const Type *t = val_type(x->b.g, v);
	i64 parts = parts_of(x, m), inner = type_extent(t, d) / (outer * parts), cut[] = { outer, parts, inner };
	u32 skip = outer == 1;
	v = reshape_at(x, v, d, cut + skip, 3 - skip);
	v = BA(&x->b, gather, (v, coordinate(x, m)), .axis = d + !skip);
	if (skip)
		return v;
	Dim dim[MAX_RANK];
	for (u32 k = 0; k < t->rank; k++)
		dim[k] = k == d ? number(x, outer * inner) : t->dim[k];
	return BA(&x->b, reshape, (v), .shape = { t->rank, dim });
}

/* The value on the first device along m, zeros on the others: a whole as parts of a sum. */
static Val on_first(Partition *x, Val v, u32 m)
{
	Val first = B(&x->b, eq, coordinate(x, m), scalar(x, 0, DT_i64));
	return B(&x->b, where, repeat_to(x, first, val_type(x->b.g, v)), v, make_full_like(&x->b, v, 0));
}

/* ---- from one placement to another ---- */

/* Is it gathered again for the backward half? */
static u32 again_of(const Partition *x, Val v)
{
	u32 maker = x->from->value.v[v.i].node;
	bool of_layer = maker <= x->loss && scope_layer(x->from->node.v[maker].scope);
	return x->of_parameter[v.i] || of_layer ? x->again : 0;
}

static Val find_form(const Partition *x, Val v, const Places *p)
{
	for (u32 i = 0; i < x->form[v.i].n; i++) {
		const Form *f = &x->form[v.i].v[i];
		bool same = !f->gathered || f->again == again_of(x, v);
		for (u32 m = 0; m < x->mesh->n; m++)
			same &= place_equal(f->places.at[m], p->at[m]);
		if (same)
			return f->v;
	}
	return (Val){ 0 };
}

static void add_form(Partition *x, Val v, const Places *p, bool gathered, Val to)
{
	VEC_PUSH(x->cx->tmp, &x->form[v.i], ((Form){ *p, gathered, gathered ? again_of(x, v) : 0, to }));
}

/* Does mesh axis m's digit fit beside those that are there? */
static bool digit_fits(const Partition *x, const Places *now, u32 m, Place digit, Val whole)
{
	Places p = *now;
	p.at[m] = digit;
	return places_fit_padded(x->mesh, p.at, digit.dim, type_extent(val_type(x->from, whole), digit.dim));
}

/* The next step towards `want`: along which mesh axis, and to what. */
static u32 next_step(const Partition *x, Val v, const Places *now, const Places *want, Place *to)
{
	for (u32 kind = 0; kind < 7; kind++)
		for (u32 m = 0; m < x->mesh->n; m++) {
			Place a = now->at[m], b = want->at[m];
			if (place_equal(a, b))
				continue;
			bool fits = b.kind == PLACE_SPLIT && digit_fits(x, now, m, b, v);
			*to = b;
			switch (kind) {
			case 0: /* a slice */
				if (a.kind == PLACE_WHOLE && fits)
					return m;
				break;
			case 1: /* a split that moves to another dimension */
				if (a.kind == PLACE_SPLIT && fits && a.dim != b.dim)
					return m;
				break;
			case 2: /* reduce_scatter */
				if (a.kind == PLACE_PARTIAL && fits)
					return m;
				break;
			case 3: /* all_reduce, by way of a part that is wanted too where there is one */
				if (a.kind != PLACE_PARTIAL || b.kind != PLACE_WHOLE)
					break;
				for (u32 i = 0; i < x->e->wanted[v.i][m].n; i++) {
					Place other = x->e->wanted[v.i][m].v[i];
					if (other.kind == PLACE_SPLIT && digit_fits(x, now, m, other, v))
						*to = other;
				}
				return m;
			case 4: /* all_gather, also on the way to what cannot be had at once */
				*to = (Place){ 0 };
				if (a.kind == PLACE_SPLIT)
					return m;
				break;
			case 5: /* what was in the way of a split is gone by now */
				*to = (Place){ 0 };
				if (a.kind == PLACE_PARTIAL)
					return m;
				break;
			default:
				if (a.kind == PLACE_WHOLE && b.kind == PLACE_PARTIAL)
					return m;
			}
		}
	NEVER("a placement that cannot be reached");
}

/* Is it a product, or products added up, forward or back: what autocast has rounded on one device? */
static bool of_products(const Partition *x, Val v, u32 depth)
{
	const Node *n = val_node(x->from, v);
	if (n->op == OP_dot)
		return true;
	bool passes = n->op == OP_add || n->op == OP_sub || n->op == OP_mul || n->op == OP_reshape || n->op == OP_transpose || n->op == OP_cast;
	for (u32 i = 0; passes && depth && i < n->nin; i++)
		if (of_products(x, n->in[i], depth - 1))
			return true;
	return false;
}

/* What a part of a sum is rounded to on its way. */
static DType message_dtype(const Partition *x, Val whole, Val v, u32 m)
{
	enum { DEPTH = 12 };
	const ShardRules *r = x->at->rules;
	DType t = val_type(x->b.g, v)->dtype;
	return t == DT_f32 && !(r->tokens >> m & 1) && of_products(x, whole, DEPTH) ? r->messages : t;
}

/* The value with `extent` positions of dimension d: zeros behind those that there are, or without the last ones. */
static Val resize(Partition *x, Val v, u32 d, i64 extent)
{
	const Type *t = val_type(x->b.g, v);
	i64 is = type_extent(t, d);
	Dim none[MAX_RANK], more[MAX_RANK], size[MAX_RANK];
	i64 step[MAX_RANK];
	for (u32 k = 0; k < t->rank; k++) {
		none[k] = number(x, 0);
		more[k] = number(x, k == d ? extent - is : 0);
		size[k] = k == d ? number(x, extent) : t->dim[k];
		step[k] = 1;
	}
	if (extent == is)
		return v;
	return extent > is ? BA(&x->b, pad, (v), .low = { t->rank, none }, .high = { t->rank, more }, .value = 0) :
			     BA(&x->b, slice, (v), .start = { t->rank, none }, .size = { t->rank, size }, .step = { t->rank, step });
}

static Val collective(Partition *x, Val v, u32 m, u32 again, const Places *now, Place to)
{
	Builder *b = &x->b;
	Place from = now->at[m];
	Places then = *now;
	then.at[m] = to;
	const char *over = x->mesh->axis[m].name;
	i64 parts = parts_of(x, m), axis = from.dim, to_axis = to.dim;
	i64 outer = from.kind == PLACE_SPLIT ? place_local_outer(x->mesh, now->at, m) : 1;
	i64 to_outer = to.kind == PLACE_SPLIT ? place_local_outer(x->mesh, then.at, m) : 1;
	const char *reduce = intern_z(&x->cx->ir->names, shard_reduce_name[from.reduce]);
	if (from.kind == PLACE_WHOLE)
		return to.kind == PLACE_SPLIT ? take_block(x, v, to.dim, to_outer, m) : on_first(x, v, m);
	if (from.kind == PLACE_PARTIAL && to.kind == PLACE_WHOLE)
		return build(b, OP_all_reduce, &v, 1, 1, &(all_reduce_attr){ .over = over, .parts = parts, .reduce = reduce });
	if (from.kind == PLACE_PARTIAL)
		return build(b, OP_reduce_scatter, &v, 1, 1,
			     &(reduce_scatter_attr){ .over = over, .parts = parts, .reduce = reduce, .axes = { 1, &to_axis },
						     .outer = { 1, &to_outer } });
	if (to.kind == PLACE_WHOLE)
		return build(b, OP_all_gather, &v, 1, 1,
			     &(all_gather_attr){ .over = over, .parts = parts, .axes = { 1, &axis }, .outer = { 1, &outer },
						 .again = again });
	return build(b, OP_all_to_all, &v, 1, 1,
		     &(all_to_all_attr){ .over = over, .parts = parts, .axes = { 1, &axis }, .outer = { 1, &outer },
					 .to = { 1, &to_axis }, .to_outer = { 1, &to_outer } });
}

static Val convert(Partition *x, Val v, const Places *want);

/* One number everywhere is made where and as it is wanted: nobody sends it. */
static Val remake(Partition *x, Val v, const Places *want)
{
	const Node *maker = val_node(x->from, v);
	bool scalar = one_number(x->from, maker) && maker->nin;
	if (!one_number(x->from, maker))
		return (Val){ 0 };
	for (u32 m = 0; m < x->mesh->n; m++)
		if (want->at[m].kind == PLACE_PARTIAL || x->form[v.i].v[0].places.at[m].kind == PLACE_PARTIAL)
			return (Val){ 0 };
	const Type *local = place_type(x->cx->ir, x->mesh, want->at, val_type(x->from, v));
	Val number = scalar ? convert(x, maker->in[0], &(Places){ 0 }) : (Val){ 0 };
	Val made = build(&x->b, (Op)maker->op, &number, scalar, 1, attributes_shaped(x->cx->tmp, maker, local));
	name_axes(x, made, val_axis(x->from, v));
	add_form(x, v, want, false, made);
	return made;
}

/* One step of a value `whole` of the old graph, from `now`: what is to be cut is padded before, and cut off behind when it is put together. */
static Val take_step(Partition *x, Val whole, Val v, u32 m, const Places *now, Place to)
{
	Places then = *now;
	then.at[m] = to;
	Place from = now->at[m];
	i64 parts = parts_of(x, m);
	if (to.kind == PLACE_SPLIT)
		v = resize(x, v, to.dim, (type_extent(val_type(x->b.g, v), to.dim) + parts - 1) / parts * parts);
	v = collective(x, v, m, again_of(x, whole), now, to);
	if (from.kind == PLACE_SPLIT)
		v = resize(x, v, from.dim, place_extent(x->mesh, then.at, from.dim, type_extent(val_type(x->from, whole), from.dim)));
	return v;
}

static Val convert(Partition *x, Val v, const Places *want)
{
	Val have = find_form(x, v, want);
	have = have.i ? have : remake(x, v, want);
	if (have.i)
		return have;
	Form f = x->form[v.i].v[0]; /* as it is made */
	const Node *maker = val_node(x->from, v);
	Loc loc = x->b.loc;
	const char *scope = x->b.scope;
	if (maker->loc.line || *maker->scope) {
		x->b.loc = maker->loc;
		x->b.scope = maker->scope;
	}
	for (;;) {
		bool there = true;
		for (u32 m = 0; m < x->mesh->n; m++)
			there &= place_equal(f.places.at[m], want->at[m]);
		if (there)
			break;
		Place to;
		u32 m = next_step(x, v, &f.places, want, &to);
		Places now = f.places;
		f.places.at[m] = to;
		f.gathered |= now.at[m].kind == PLACE_SPLIT && to.kind == PLACE_WHOLE;
		Val found = find_form(x, v, &f.places);
		if (!found.i) {
			bool sum = now.at[m].kind == PLACE_PARTIAL && now.at[m].reduce == SHARD_SUM;
			DType is = val_type(x->b.g, f.v)->dtype, sent = sum ? message_dtype(x, v, f.v, m) : is;
			found = sent == is ? f.v : make_cast(&x->b, f.v, sent);
			found = take_step(x, v, found, m, &now, to);
			found = sent == is ? found : make_cast(&x->b, found, is);
			name_axes(x, found, val_axis(x->from, v));
			add_form(x, v, &f.places, f.gathered, found);
		}
		f.v = found;
	}
	x->b.loc = loc;
	x->b.scope = scope;
	return f.v;
}

/* ---- nodes whose local form is more than local shapes ---- */

/* The digits of the node's label `l`, as places of dimension 0. */
static Places label_digits(const Partition *x, u32 node, u32 label)
{
	Places p = { 0 };
	for (u32 m = 0; m < x->mesh->n && m < MESH_AXES; m++) {
		const Choice *c = &x->e->choice[node][m];
		if (c->kind == CHOICE_LABEL && c->which == label)
			p.at[m] = (Place){ .kind = PLACE_SPLIT, .outer = c->outer };
	}
	return p;
}

static bool any_split(const Partition *x, const Places *p)
{
	for (u32 m = 0; m < x->mesh->n; m++)
		if (p->at[m].kind == PLACE_SPLIT)
			return true;
	return false;
}

/* Are a device's positions of an axis so divided consecutive? */
static bool consecutive(const Partition *x, const Places *digits)
{
	for (u32 m = 0; m < x->mesh->n; m++)
		if (digits->at[m].kind == PLACE_SPLIT && place_local_outer(x->mesh, digits->at, m) != 1)
			return false;
	return true;
}

/* The first of them, i64[]. */
static Val first_position(Partition *x, const Places *digits, i64 extent)
{
	Val first = { 0 };
	for (u32 m = 0; m < x->mesh->n; m++) {
		if (digits->at[m].kind != PLACE_SPLIT)
			continue;
		i64 step = extent / (digits->at[m].outer * parts_of(x, m));
		Val at = B(&x->b, mul, coordinate(x, m), scalar(x, (f64)step, DT_i64));
		first = first.i ? B(&x->b, add, first, at) : at;
	}
	return first;
}

/* The label of this kind that the node is divided at, or NONE. */
static u32 label_with(const Partition *x, u32 node, ShardFix fix)
{
	const ShardRule *r = &x->e->rule[node];
	for (u32 l = 0; l < r->label.n; l++) {
		Places digits = label_digits(x, node, l);
		if (r->label.v[l].fix == fix && any_split(x, &digits))
			return l;
	}
	return NONE;
}

/* Indices into the whole axis as indices into this device's part; *mine: those that are in it. */
static Val local_indices(Partition *x, Val index, u32 node, u32 label, i64 here, Val *mine)
{
	Builder *b = &x->b;
	i64 extent = x->e->rule[node].label.v[label].extent;
	Places digits = label_digits(x, node, label);
	const Type *t = val_type(b->g, index);
	Val first = repeat_to(x, make_cast(b, first_position(x, &digits, extent), t->dtype), t);
	index = B(b, max, index, make_full_like(b, index, 0)); /* the whole clamps */
	index = B(b, min, index, make_full_like(b, index, (f64)(extent - 1)));
	index = B(b, sub, index, first);
	Val low = B(b, le, make_full_like(b, index, 0), index);
	Val high = B(b, lt, index, make_full_like(b, index, (f64)here));
	*mine = B(b, and, low, high);
	return index;
}

/* `mine`, of the indices' shape, repeated to dimensions axis.. of `like`. */
static Val mask_along(Partition *x, Val mine, Val like, i64 axis)
{
	const Type *t = val_type(x->b.g, like), *m = val_type(x->b.g, mine);
	i64 map[MAX_RANK];
	for (u32 k = 0; k < m->rank; k++)
		map[k] = axis + k;
	return BA(&x->b, broadcast, (mine), .shape = { t->rank, t->dim }, .dims = { m->rank, map });
}

static Val build_gather(Partition *x, u32 node, const Val *in, u32 label)
{
	i64 axis = ATTR(&x->from->node.v[node], gather)->axis;
	Val mine;
	i64 here = type_extent(val_type(x->b.g, in[0]), (u32)axis);
	Val index = local_indices(x, in[1], node, label, here, &mine);
	Val rows = BA(&x->b, gather, (in[0], index), .axis = axis);
	return B(&x->b, where, mask_along(x, mine, rows, axis), rows, make_full_like(&x->b, rows, 0));
}

static Val build_scatter_add(Partition *x, u32 node, const Val *in, u32 label, Dim here)
{
	i64 axis = ATTR(&x->from->node.v[node], scatter_add)->axis, size;
	Val mine;
	if (!dim_is_number(here, &size))
		NEVER("sizes are bound");
	Val index = local_indices(x, in[1], node, label, size, &mine);
	Val rows = B(&x->b, where, mask_along(x, mine, in[0], axis), in[0], make_full_like(&x->b, in[0], 0));
	const Val operand[] = { rows, index, in[2] };
	return build(&x->b, OP_scatter_add, operand, x->from->node.v[node].nin, 0, &(scatter_add_attr){ .axis = axis, .size = { 1, &here } });
}

/* The offsets of this device's groups. */
static Val build_grouped(Partition *x, u32 node, const Val *in, u32 label)
{
	const Node *n = &x->from->node.v[node];
	i64 extent = x->e->rule[node].label.v[label].extent, here = extent;
	Places digits = label_digits(x, node, label);
	for (u32 m = 0; m < x->mesh->n; m++)
		here /= digits.at[m].kind == PLACE_SPLIT ? parts_of(x, m) : 1;
	const Type *t = type_make(x->cx->ir, val_type(x->b.g, in[2])->dtype, 1, (Dim[]){ number(x, here + 1) });
	Val first = repeat_to(x, make_cast(&x->b, first_position(x, &digits, extent), t->dtype), t);
	Val index = B(&x->b, add, BS(&x->b, iota, .axis = 0, .dtype = t->dtype, .shape = { 1, t->dim }), first);
	Val offsets = BA(&x->b, gather, (in[2], index), .axis = 0);
	if (n->op == OP_grouped_dot)
		return B(&x->b, grouped_dot, in[0], in[1], offsets);
	return BA(&x->b, grouped_dot_weights, (in[0], in[1], offsets), .groups = { 1, (Dim[]){ number(x, here) } });
}

static Val build_iota(Partition *x, u32 node, const Type *local)
{
	const iota_attr *a = ATTR(&x->from->node.v[node], iota);
	Places digits = label_digits(x, node, (u32)a->axis);
	Val i = BS(&x->b, iota, .axis = a->axis, .dtype = a->dtype, .shape = { local->rank, local->dim });
	if (!any_split(x, &digits))
		return i;
	Val first = first_position(x, &digits, x->e->rule[node].label.v[a->axis].extent);
	return B(&x->b, add, i, repeat_to(x, make_cast(&x->b, first, a->dtype), local));
}

/* The operand of a sum, with zeros for padding of what it is summed over. */
static Val without_padding(Partition *x, u32 node, Val v)
{
	const ShardRule *r = &x->e->rule[node];
	for (u32 l = 0; l < r->label.n; l++) {
		Places digits = label_digits(x, node, l);
		i64 extent = r->label.v[l].extent;
		for (u32 m = 0; m < x->mesh->n && r->label.v[l].reduce; m++) {
			if (digits.at[m].kind != PLACE_SPLIT || extent % parts_of(x, m) == 0)
				continue;
			const Type *t = val_type(x->b.g, v);
			i64 d = r->label.v[l].at[0].dim;
			const Type *line = type_make(x->cx->ir, DT_i64, 1, &t->dim[d]);
			Val first = B(&x->b, mul, coordinate(x, m), scalar(x, (f64)type_extent(t, (u32)d), DT_i64));
			Val at = B(&x->b, add, BS(&x->b, iota, .axis = 0, .dtype = DT_i64, .shape = { 1, line->dim }), repeat_to(x, first, line));
			Val there = B(&x->b, lt, at, make_full_like(&x->b, at, (f64)extent));
			there = BA(&x->b, broadcast, (there), .shape = { t->rank, t->dim }, .dims = { 1, &d });
			v = B(&x->b, where, there, v, make_full_like(&x->b, v, 0));
		}
	}
	return v;
}

/* ---- nodes ---- */

/* Must the node be made whole, and cut then? Draws, and counts whose positions are not consecutive. */
static bool made_whole(const Partition *x, u32 node)
{
	const Node *n = &x->from->node.v[node];
	const ShardRule *r = &x->e->rule[node];
	for (u32 l = 0; l < r->label.n; l++) {
		Places digits = label_digits(x, node, l);
		if (r->label.v[l].fix == SHARD_COUNTS && any_split(x, &digits) && (n->op != OP_iota || !consecutive(x, &digits)))
			return true;
	}
	return false;
}

static bool build_ring(Partition *x, u32 node, const Val *in, Val *out)
{
	u32 label = label_with(x, node, SHARD_RING), m = 0;
	if (label == NONE)
		return false;
	Places digits = label_digits(x, node, label);
	while (digits.at[m].kind != PLACE_SPLIT)
		m++;
	Ring r = { &x->b, x->mesh->axis[m].name, parts_of(x, m), coordinate(x, m), digits.at[m].outer };
	ring_attention(&r, &x->from->node.v[node], in, out);
	return true;
}

static Val build_local(Partition *x, u32 node, const Val *in, const Type *local)
{
	const Node *n = &x->from->node.v[node];
	u32 label = label_with(x, node, SHARD_LOOKUP);
	u32 groups = label_with(x, node, SHARD_GROUPS);
	if (n->op == OP_iota)
		return build_iota(x, node, local);
	if (n->op == OP_sum)
		return build(&x->b, OP_sum, (Val[]){ without_padding(x, node, in[0]) }, 1, 1, n->attr);
	if (groups != NONE)
		return build_grouped(x, node, in, groups);
	if (label != NONE && n->op == OP_gather)
		return build_gather(x, node, in, label);
	if (n->op == OP_scatter_add) {
		Dim here = local->dim[ATTR(n, scatter_add)->axis];
		if (label != NONE)
			return build_scatter_add(x, node, in, label, here);
	}
	return build(&x->b, (Op)n->op, in, n->nin, n->nout, attributes_shaped(x->cx->tmp, n, local));
}

static Val build_source(Partition *x, u32 node, const Type *local)
{
	const Node *n = &x->from->node.v[node];
	dims shape = { local->rank, local->dim };
	if (n->op == OP_read)
		return BS(&x->b, read, .buffer = ATTR(n, read)->buffer, .dtype = local->dtype, .shape = shape);
	return BS(&x->b, input, .name = ATTR(n, input)->name, .dtype = local->dtype, .shape = shape,
		  .split = places_text(x->cx->ir, x->mesh, x->e->given[node].at));
}

static void partition_node(Partition *x, u32 node)
{
	const Node *n = &x->from->node.v[node];
	const Mesh *mesh = x->mesh;
	ArenaMark mark = arena_mark(&x->b.tmp);
	Val *in = NEWN(x->cx->tmp, Val, n->nin + 1);
	x->b.loc = n->loc;
	x->b.scope = n->scope;
	x->again = x->loss != NONE && node > x->loss;
	for (u32 k = 0; k < n->nin; k++) {
		Places want = { 0 };
		for (u32 m = 0; m < mesh->n; m++)
			want.at[m] = choice_operand(x->e, node, k, m);
		in[k] = convert(x, n->in[k], &want);
		x->b.loc = n->loc;
		x->b.scope = n->scope;
	}
	bool whole = made_whole(x, node), source = n->op == OP_input || n->op == OP_read;
	Places first = value_places(x->e, mesh, n->out), made = whole ? (Places){ 0 } : first;
	const Type *local = place_type(x->cx->ir, mesh, made.at, val_type(x->from, n->out));
	u32 was = x->b.g->value.n;
	Val *out = NEWN(x->cx->tmp, Val, n->nout);
	if (!build_ring(x, node, in, out)) {
		out[0] = source ? build_source(x, node, local) :
			 whole	? build(&x->b, (Op)n->op, in, n->nin, n->nout, n->attr) :
				  build_local(x, node, in, local);
		for (u32 k = 1; k < n->nout; k++)
			out[k] = (Val){ out[0].i + k };
	}
	bool parameters = !source || (n->op == OP_read && x->at->p->buffer.v[program_find_buffer(x->at->p, ATTR(n, read)->buffer)].kind ==
								   BUFFER_PARAMETER);
	for (u32 k = 0; k < n->nin; k++)
		parameters &= x->of_parameter[n->in[k].i];
	for (u32 k = 0; k < n->nout; k++) {
		Val v = { n->out.i + k }, to = out[k];
		Places at = whole ? (Places){ 0 } : value_places(x->e, mesh, v);
		if (val_type(x->b.g, to) != place_type(x->cx->ir, mesh, at.at, val_type(x->from, v)))
			NEVER("a local node has another shape than its placement says");
		if (to.i >= was)
			name_axes(x, to, val_axis(x->from, v));
		x->of_parameter[v.i] = parameters && n->op != OP_full && n->op != OP_iota && n->op != OP_input;
		add_form(x, v, &at, false, to);
	}
	arena_release(&x->b.tmp, mark);
}

static u32 loss_node(const Graph *g)
{
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer == NONE && !strcmp(g->result.v[i].name, "loss_sum"))
			return g->value.v[g->result.v[i].value.i].node;
	return NONE;
}

static Graph *partition_entry(Partition *x, const EntryPlacement *e)
{
	const Graph *g = e->g;
	x->e = e;
	x->from = g;
	x->b = builder_new(graph_new(x->cx->out, x->cx->ir, g->name));
	x->form = arena_push(x->cx->tmp, sizeof *x->form, g->value.n, _Alignof(void *));
	memset(x->form, 0, g->value.n * sizeof *x->form);
	x->of_parameter = NEWN(x->cx->tmp, bool, g->value.n + 1);
	x->loss = loss_node(g);
	for (u32 i = 0; i < g->node.n; i++)
		partition_node(x, i);
	for (u32 i = 0; i < g->result.n; i++) {
		const Result *r = &g->result.v[i];
		const Node *maker = val_node(g, r->value);
		x->b.loc = maker->loc;
		x->b.scope = maker->scope;
		x->again = 0;
		graph_result(x->b.g, r->name, r->buffer, convert(x, r->value, &e->result[i]));
	}
	builder_done(&x->b);
	return x->b.g;
}

static Program *shell(Partition *x)
{
	const Program *p = x->at->p;
	Program *to = program_new(x->cx->out, p->ir, p->name);
	to->facts = p->facts;
	to->mesh = *x->mesh;
	for (u32 i = 0; i < p->buffer.n; i++) {
		Buffer b = p->buffer.v[i];
		Place *at = x->at->buffer[i].at;
		Axis axis[MAX_RANK];
		places_note_padded(x->mesh, at, b.type);
		b.type = place_type(p->ir, x->mesh, at, b.type);
		b.split = places_text(p->ir, x->mesh, at);
		local_axes(x, b.axis, b.type, axis);
		b.axis = COPYN(x->cx->out, Axis, axis, b.type->rank);
		program_buffer(to, b);
	}
	for (u32 m = 0; m < x->mesh->n; m++)
		program_buffer(to, (Buffer){ .name = mesh_buffer(p->ir, x->mesh->axis[m].name), .kind = BUFFER_MESH,
					     .type = type_scalar(p->ir, DT_i64), .of = NONE });
	return to;
}

Program *pass_partition(PassCx *cx, const Program *in)
{
	ShardRules *rules = NEW(cx->out, ShardRules);
	if (!shard_rules_read(cx, rules))
		return NULL;
	if (in->mesh.n) {
		diag_error(cx->diag, E0714, cx->args_loc, "the program is one device's part already");
		return NULL;
	}
	Placement *at = shard_program(cx, in, rules);
	if (!at)
		return NULL;
	Partition x = { .cx = cx, .at = at, .mesh = &rules->mesh, .local_axis.arena = cx->out };
	Program *to = shell(&x);
	for (u32 i = 0; i < in->entry.n; i++) {
		ArenaMark mark = arena_mark(cx->tmp);
		VEC_PUSH(cx->out, &to->entry, partition_entry(&x, &at->entry[i]));
		arena_release(cx->tmp, mark);
	}
	return to;
}
