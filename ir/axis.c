/* ir/axis.c: axis classes: union-find with products. See type.h. */
#include "ir/type.h"

#include <string.h>

Axis axis_new(Ir *ir, const char *name, Dim size, Loc loc)
{
	AxisClass c = { .size = size, .loc = loc };
	VEC_PUSH(ir->arena, &ir->axis, c);
	Axis a = { ir->axis.n - 1 };
	if (name)
		axis_name(ir, a, name);
	return a;
}

Axis axis_find(const Ir *ir, Axis a)
{
	while (ir->axis.v[a.id].alias)
		a.id = ir->axis.v[a.id].alias;
	return a;
}

void axis_name(Ir *ir, Axis a, const char *name)
{
	AxisClass *c = &ir->axis.v[axis_find(ir, a).id];
	const char *interned = intern_z(&ir->names, name);
	for (u32 i = 0; i < c->names.n; i++)
		if (c->names.v[i] == interned)
			return;
	VEC_PUSH(ir->arena, &c->names, interned);
	if (!c->name)
		c->name = interned;
}

/* Would making `a` contain `inside` make a class a part of itself? */
static bool contains(const Ir *ir, Axis a, Axis inside)
{
	a = axis_find(ir, a);
	if (a.id == inside.id)
		return true;
	const AxisClass *c = &ir->axis.v[a.id];
	for (u32 i = 0; i < c->nfactor; i++)
		if (contains(ir, c->factor[i], inside))
			return true;
	return false;
}

/* Unifies two lists of leaves that multiply to the same size, pairwise from the front; stops (with
 * what was unified so far) where sizes do not line up, as with (4 6) against (6 4). */
static void unify_lists(Ir *ir, const Axis *x, u32 nx, const Axis *y, u32 ny)
{
	for (u32 i = 0; i < nx && i < ny; i++) {
		Dim sx = ir->axis.v[axis_find(ir, x[i]).id].size;
		Dim sy = ir->axis.v[axis_find(ir, y[i]).id].size;
		if (sx != sy || !axis_unify(ir, x[i], y[i]))
			return;
	}
}

static u64 hash_leaves(const Axis *leaf, u32 n)
{
	return hash_bytes(HASH_SEED, leaf, n * sizeof *leaf);
}

/* The leaves of all factors. */
static u32 all_leaves(const Ir *ir, const Axis *factor, u32 n, Axis *leaf, u32 most)
{
	u32 nleaf = 0;
	for (u32 i = 0; i < n; i++)
		nleaf += axis_leaves(ir, factor[i], leaf + nleaf, most - nleaf);
	return nleaf;
}

Axis axis_product(Ir *ir, const Axis *factor, u32 n)
{
	Axis leaf[64], known[64];
	Dim size = dim_number(ir, 1);
	for (u32 i = 0; i < n; i++) {
		if (!factor[i].id)
			return (Axis){ 0 };
		size = dim_mul(ir, size, ir->axis.v[axis_find(ir, factor[i]).id].size);
	}
	if (n == 1)
		return factor[0];
	u32 nleaf = all_leaves(ir, factor, n, leaf, COUNT(leaf));
	const u64 *found = map_get(&ir->products, hash_leaves(leaf, nleaf));
	if (found) {
		/* what was learnt since may have given it other leaves */
		Axis a = axis_find(ir, (Axis){ (u32)*found });
		if (axis_leaves(ir, a, known, COUNT(known)) == nleaf &&
		    memcmp(leaf, known, nleaf * sizeof *leaf) == 0)
			return a;
	}
	Axis a = axis_new(ir, NULL, size, (Loc){ 0 });
	axis_set_factors(ir, a, factor, n);
	return a;
}

bool axis_set_factors(Ir *ir, Axis a, const Axis *factor, u32 n)
{
	a = axis_find(ir, a);
	if (!a.id || n == 0)
		return true;
	Dim product = dim_number(ir, 1);
	for (u32 i = 0; i < n; i++) {
		if (!factor[i].id)
			return true; /* a factor without identity says nothing */
		product = dim_mul(ir, product, ir->axis.v[axis_find(ir, factor[i]).id].size);
	}
	if (product != ir->axis.v[a.id].size)
		return false;
	if (n == 1)
		return axis_unify(ir, a, factor[0]);
	for (u32 i = 0; i < n; i++)
		if (contains(ir, factor[i], a))
			return true;
	AxisClass *c = &ir->axis.v[a.id];
	if (c->nfactor) {
		unify_lists(ir, c->factor, c->nfactor, factor, n);
		return true;
	}
	c->factor = COPYN(ir->arena, Axis, factor, n);
	c->nfactor = n;
	Axis leaf[64];
	u32 nleaf = all_leaves(ir, factor, n, leaf, COUNT(leaf));
	map_put(&ir->products, hash_leaves(leaf, nleaf), a.id);
	return true;
}

bool axis_unify(Ir *ir, Axis a, Axis b)
{
	a = axis_find(ir, a);
	b = axis_find(ir, b);
	if (!a.id || !b.id || a.id == b.id)
		return true;
	if (ir->axis.v[a.id].size != ir->axis.v[b.id].size)
		return false;
	if (contains(ir, a, b) || contains(ir, b, a))
		return true; /* a product of one with extents of 1 around it: they stay two */
	/* the older class stays, so that names read as they were first given */
	if (b.id < a.id) {
		Axis t = a;
		a = b;
		b = t;
	}
	AxisClass *gone = &ir->axis.v[b.id];
	gone->alias = a.id;
	for (u32 i = 0; i < gone->names.n; i++)
		axis_name(ir, a, gone->names.v[i]);
	if (gone->nfactor)
		axis_set_factors(ir, a, gone->factor, gone->nfactor);
	return true;
}

AxisState axis_state(const Ir *ir, Arena *arena)
{
	AxisState s = { .class = COPYN(arena, AxisClass, ir->axis.v, ir->axis.n), .n = ir->axis.n, .products = { .arena = arena } };
	map_assign(&s.products, &ir->products);
	return s;
}

void axis_restore(Ir *ir, const AxisState *state)
{
	ir->axis.n = state->n;
	memcpy(ir->axis.v, state->class, state->n * sizeof *state->class);
	for (u32 i = 0; i < state->n; i++)
		ir->axis.v[i].names.cap = ir->axis.v[i].names.n; /* another state may have names behind these */
	map_assign(&ir->products, &state->products);
}

u32 axis_leaves(const Ir *ir, Axis a, Axis *leaf, u32 most)
{
	a = axis_find(ir, a);
	const AxisClass *c = &ir->axis.v[a.id];
	if (!a.id || most == 0)
		return 0;
	if (!c->nfactor) {
		leaf[0] = a;
		return 1;
	}
	u32 n = 0;
	for (u32 i = 0; i < c->nfactor; i++)
		n += axis_leaves(ir, c->factor[i], leaf + n, most - n);
	return n;
}

void axis_print(Buf *to, const Ir *ir, Axis a)
{
	Axis leaf[16];
	u32 n = axis_leaves(ir, a, leaf, COUNT(leaf));
	if (n == 0) {
		buf_char(to, '_');
		return;
	}
	if (n > 1)
		buf_char(to, '(');
	for (u32 i = 0; i < n; i++) {
		const char *name = ir->axis.v[leaf[i].id].name;
		if (i)
			buf_char(to, ' ');
		buf_put(to, name ? str_of(name) : STR("_"));
	}
	if (n > 1)
		buf_char(to, ')');
}
