/* passes/lower/lower.c: groups to kernels by pulling values through their nodes. See lower.h. */
#include "passes/lower/lower.h"
#include "ir/cost.h"

#include <string.h>

typedef struct Memo Memo;
struct Memo {
	Memo *next;
	Val v;
	Index at;
	KVal guard, value;
};

static const Node *node_of(const Lower *l, Val v)
{
	return val_node(l->g, v);
}

static u32 home_of(const Lower *l, Val v)
{
	return grouping_home(l->f, l->g->value.v[v.i].node);
}

static bool at_home(const Lower *l, Val v)
{
	return l->group != NONE && home_of(l, v) == l->group;
}

/* Is the value in memory when this group runs? One that is stored later, for others, was found to be
 * worth computing again here. */
static bool in_memory(const Lower *l, Val v)
{
	if (node_class((Op)node_of(l, v)->op) == NODE_SOURCE)
		return true;
	u32 home = home_of(l, v);
	if (!l->f->stored[v.i])
		return false;
	return l->before == NONE || home == NONE || l->f->place[home] < l->before;
}

/* ---- small makings ---- */

static KVal scalar(Lower *l, Scalar s, DType dtype, KVal a, KVal b, KVal c)
{
	return kernel_inst(l->k, (KInst){ .op = K_scalar, .scalar = (u8)s, .dtype = (u8)dtype,
					  .in = { a, b, c } });
}

static KVal constant(Lower *l, f64 value, DType dtype)
{
	return kernel_inst(l->k, (KInst){ .op = K_const, .dtype = (u8)dtype, .imm = value });
}

static KVal both(Lower *l, KVal a, KVal b)
{
	return !a.i ? b : !b.i ? a : scalar(l, S_and, DT_b1, a, b, (KVal){ 0 });
}

/* ---- memory ---- */

static const char *value_name(const Lower *l, Val v)
{
	const Node *n = node_of(l, v);
	if (n->op == OP_read)
		return ATTR(n, read)->buffer;
	if (n->op == OP_input)
		return ATTR(n, input)->name;
	return intern_printf(&l->g->ir->names, "%%%u", v.i);
}

u32 lower_slot(Lower *l, Val v, bool written)
{
	u64 *found = map_get(&l->slot, v.i);
	u32 slot;
	if (found) {
		slot = (u32)*found;
	} else {
		const Type *t = val_type(l->g, v);
		i64 pitch = l->f->pitch[v.i], row = pitch ? grouping_row(l->f, v) : 0;
		slot = kernel_slot(l->k, (KSlot){ .dtype = t->dtype, .name = value_name(l, v), .row = row,
						  .pitch = pitch, .elements = grouping_elements(l->f, v) });
		map_put(&l->slot, v.i, slot);
		VEC_PUSH(l->tmp, &l->slot_value, v);
	}
	if (written)
		l->k->slot.v[slot].written = true;
	else
		l->k->slot.v[slot].read = true;
	return slot;
}

Access lower_access(Lower *l, Val v, const Index *at, bool written)
{
	const Type *t = val_type(l->g, v);
	assert(at->rank == t->rank);
	Place linear = { 0 };
	i64 stride = 1;
	Access a = { 0 };
	KVal term[COUNT(a.dynamic)];
	i64 by[COUNT(a.dynamic)];
	const ints layout = l->f->layout[v.i];
	for (u32 i = t->rank; i-- > 0;) {
		u32 d = layout.n ? (u32)layout.v[i] : i;
		Place p = place_scaled(l, at->dim[d], stride);
		if (p.dynamic.i && a.ndynamic < COUNT(term)) {
			term[a.ndynamic] = p.dynamic;
			by[a.ndynamic++] = p.scale;
			p.dynamic = (KVal){ 0 };
		}
		linear = place_add(l, linear, p);
		stride *= i + 1 == t->rank && l->f->pitch[v.i] ? l->f->pitch[v.i] : type_extent(t, d);
	}
	a.slot = lower_slot(l, v, written);
	a.offset = linear.offset;
	memcpy(a.stride, linear.coef, sizeof a.stride);
	a.ndynamic = place_terms(l, &linear, a.ndynamic, COUNT(term), term, by);
	for (u32 i = 0; i < a.ndynamic; i++) {
		a.dynamic[i].index = term[i];
		a.dynamic[i].stride = by[i];
	}
	return a;
}

static KVal load(Lower *l, Val v, const Index *at)
{
	Access a = lower_access(l, v, at, false);
	return kernel_inst(l->k, (KInst){ .op = K_load, .dtype = (u8)val_type(l->g, v)->dtype,
					  .access = &a, .in = { l->guard } });
}

void lower_store(Lower *l, Val v, const Index *at, KVal value)
{
	Access a = lower_access(l, v, at, true);
	kernel_inst(l->k, (KInst){ .op = K_store, .dtype = (u8)val_type(l->g, v)->dtype,
				   .access = &a, .in = { value }, .loc = node_of(l, v)->loc });
}

/* ---- nodes ---- */

/* The scalar function of an elementwise op: rows of one name. */
static Scalar scalar_of(Op op)
{
	switch (op) {
#define SCALAR(name, ...) \
	case OP_##name: return S_##name;
#include "ir/scalar.def"
#undef SCALAR
	default: NEVER("an op without a scalar function reached lowering");
	}
}

/* An index of the user's data, kept inside [0, extent). */
static KVal clamped(Lower *l, Val b, const Index *at, i64 extent)
{
	KVal i = lower_value(l, b, at);
	DType t = val_type(l->g, b)->dtype;
	i = scalar(l, S_max, t, i, constant(l, 0, t), (KVal){ 0 });
	return scalar(l, S_min, t, i, constant(l, (f64)(extent - 1), t), (KVal){ 0 });
}

/* low <= place < high, as a condition; {0} where it always holds. */
static KVal in_range(Lower *l, const Place *p, i64 low, i64 high, i64 extent)
{
	KVal lower = { 0 }, upper = { 0 };
	KVal i = { 0 };
	DType t = extent <= INT32_MAX ? place_dtype(l, p) : DT_i64;
	if (low > 0 || high < extent)
		i = place_value(l, p, t);
	if (low > 0)
		lower = scalar(l, S_le, DT_b1, constant(l, (f64)low, t), i, (KVal){ 0 });
	if (high < extent)
		upper = scalar(l, S_lt, DT_b1, i, constant(l, (f64)high, t), (KVal){ 0 });
	return both(l, lower, upper);
}

static KVal lower_pad(Lower *l, const Node *n, const Index *at)
{
	const pad_attr *a = ATTR(n, pad);
	const Type *from = val_type(l->g, n->in[0]), *to = val_type(l->g, n->out);
	Index inner = { .rank = at->rank };
	KVal inside = { 0 };
	for (u32 d = 0; d < at->rank; d++) {
		i64 low;
		if (!dim_is_number(a->low.v[d], &low))
			NEVER("a pad whose width is not bound");
		inside = both(l, inside, in_range(l, &at->dim[d], low, low + type_extent(from, d),
						  type_extent(to, d)));
		inner.dim[d] = at->dim[d];
		inner.dim[d].offset -= low;
	}
	KVal was = l->guard;
	l->guard = both(l, was, inside);
	KVal v = lower_value(l, n->in[0], &inner);
	l->guard = was;
	if (!inside.i)
		return v;
	return scalar(l, S_where, to->dtype, inside, v, constant(l, a->value, to->dtype));
}

static KVal lower_concat(Lower *l, const Node *n, const Index *at)
{
	u32 axis = (u32)ATTR(n, concat)->axis;
	const Type *to = val_type(l->g, n->out);
	i64 extent = type_extent(to, axis), start = 0;
	KVal result = { 0 }, was = l->guard;
	for (u32 i = 0; i < n->nin; i++) {
		i64 size = type_extent(val_type(l->g, n->in[i]), axis);
		KVal here = in_range(l, &at->dim[axis], start, start + size, extent);
		Index inner = *at;
		inner.dim[axis].offset -= start;
		l->guard = both(l, was, here);
		KVal v = lower_value(l, n->in[i], &inner);
		result = result.i ? scalar(l, S_where, to->dtype, here, v, result) : v;
		start += size;
	}
	l->guard = was;
	return result;
}

static KVal lower_gather(Lower *l, const Node *n, const Index *at)
{
	u32 axis = (u32)ATTR(n, gather)->axis;
	const Type *a = val_type(l->g, n->in[0]), *b = val_type(l->g, n->in[1]);
	Index which = { .rank = b->rank }, from = { .rank = a->rank };
	memcpy(which.dim, at->dim + axis, b->rank * sizeof *which.dim);
	for (u32 d = 0; d < a->rank; d++)
		if (d < axis)
			from.dim[d] = at->dim[d];
		else if (d > axis)
			from.dim[d] = at->dim[d + b->rank - 1];
		else
			from.dim[d] = (Place){ .dynamic = clamped(l, n->in[1], &which,
								  type_extent(a, axis)),
					       .scale = 1 };
	return lower_value(l, n->in[0], &from);
}

static KVal lower_take_along(Lower *l, const Node *n, const Index *at)
{
	u32 axis = (u32)ATTR(n, take_along)->axis;
	Index from = *at;
	from.dim[axis] = (Place){ .dynamic = clamped(l, n->in[1], at,
						     type_extent(val_type(l->g, n->in[0]), axis)),
				  .scale = 1 };
	return lower_value(l, n->in[0], &from);
}

static KVal lower_random(Lower *l, const Node *n, const Index *at)
{
	const Type *t = val_type(l->g, n->out);
	const random_attr *a = ATTR(n, random);
	Place linear = { 0 };
	i64 stride = 1;
	for (u32 d = t->rank; d-- > 0;) {
		linear = place_add(l, linear, place_scaled(l, at->dim[d], stride));
		stride *= type_extent(t, d);
	}
	Access place = { .offset = linear.offset };
	memcpy(place.stride, linear.coef, sizeof place.stride);
	KVal term;
	i64 by;
	place.ndynamic = place_terms(l, &linear, 0, 1, &term, &by);
	if (place.ndynamic) {
		place.dynamic[0].index = term;
		place.dynamic[0].stride = by;
	}
	Index none = { 0 };
	/* the same for all points: whatever guards this one does not guard them */
	KVal guard = l->guard;
	l->guard = (KVal){ 0 };
	KVal seed = lower_value(l, n->in[0], &none), step = lower_value(l, n->in[1], &none);
	l->guard = guard;
	return kernel_inst(l->k, (KInst){ .op = K_random, .dtype = DT_f32, .in = { seed, step },
					  .key = hash_bytes(HASH_SEED, a->key, strlen(a->key)),
					  .access = &place });
}

static i64 bound(Dim d)
{
	i64 n;
	if (!dim_is_number(d, &n))
		NEVER("a dimension that is not bound reached lowering");
	return n;
}

/* Views: the operand at another index. */
static KVal lower_view(Lower *l, const Node *n, Val v, const Index *at)
{
	Val from = n->in[0];
	const Type *t = val_type(l->g, from);
	Index inner = { .rank = t->rank };
	switch (n->op) {
	case OP_stop_gradient: return lower_value(l, from, at);
	case OP_broadcast:
		for (u32 d = 0; d < t->rank; d++)
			inner.dim[d] = at->dim[ATTR(n, broadcast)->dims.v[d]];
		break;
	case OP_transpose:
		for (u32 d = 0; d < t->rank; d++)
			inner.dim[ATTR(n, transpose)->perm.v[d]] = at->dim[d];
		break;
	case OP_reshape:
		index_reshape(l, val_type(l->g, v), at, t, &inner);
		break;
	case OP_slice: {
		const slice_attr *a = ATTR(n, slice);
		for (u32 d = 0; d < t->rank; d++) {
			inner.dim[d] = place_scaled(l, at->dim[d], a->step.v[d]);
			inner.dim[d].offset += bound(a->start.v[d]);
		}
		break;
	}
	case OP_unfold: {
		const unfold_attr *a = ATTR(n, unfold);
		for (u32 d = 0; d < t->rank; d++)
			inner.dim[d] = at->dim[d > a->axis ? d + 1 : d];
		inner.dim[a->axis] = place_add(l, place_scaled(l, at->dim[a->axis], a->step),
					       place_scaled(l, at->dim[a->axis + 1], a->dilation));
		break;
	}
	case OP_split: {
		const split_attr *a = ATTR(n, split);
		inner = *at;
		for (u32 i = 0; i < v.i - n->out.i; i++)
			inner.dim[a->axis].offset += bound(a->sizes.v[i]);
		break;
	}
	default: NEVER("a view without an index");
	}
	return lower_value(l, from, &inner);
}

static KVal lower_reduction(Lower *l, const Node *n)
{
	/* over what the group is stated in: the reduction reads its operand at every point */
	const Group *gr = &l->f->group.v[l->group];
	Index all = { .rank = gr->shape->rank };
	for (u32 d = 0; d < all.rank; d++)
		all.dim[d] = place_base(l, d);
	KVal in = lower_value(l, n->in[0], &all);
	Reduce r = n->op == OP_sum ? REDUCE_sum : n->op == OP_reduce_max ? REDUCE_max : REDUCE_min;
	return kernel_inst(l->k, (KInst){ .op = K_reduce, .reduce = (u8)r, .in = { in },
					  .dtype = (u8)val_type(l->g, n->out)->dtype, .loc = n->loc });
}

/* Where the group computes value `v`, which is at home in it. */
static void home_index(const Lower *l, Val v, Index *out)
{
	const Group *gr = &l->f->group.v[l->group];
	const Node *n = val_node(l->g, v);
	if (gr->skeleton != NONE) {
		const Node *s = &l->g->node.v[gr->skeleton];
		if (node_class((Op)n->op) == NODE_REDUCTION) {
			skeleton_sum(l, s, n, out);
			return;
		}
		u32 result = gr->class == KERNEL_ATTENTION || gr->class == KERNEL_ATTENTION_GRAD || n == s
				     ? group_result(l->f, l->group, v)
				     : 0;
		skeleton_home(l, s, result, out);
		return;
	}
	*out = (Index){ .rank = val_type(l->g, v)->rank };
	u32 at = 0;
	for (u32 d = 0; d < gr->shape->rank; d++) {
		bool gone = false;
		if (gr->class == KERNEL_COLUMN)
			for (u32 i = 0; i < gr->axes.n; i++)
				gone |= gr->axes.v[i] == d;
		else if (gr->class == KERNEL_ROW)
			gone = out->rank < gr->shape->rank && d + 1 == gr->shape->rank;
		if (!gone)
			out->dim[at++] = place_base(l, d);
	}
	assert(at == out->rank);
}

static bool index_equal(const Index *a, const Index *b)
{
	if (a->rank != b->rank)
		return false;
	for (u32 d = 0; d < a->rank; d++)
		if (!place_equal(&a->dim[d], &b->dim[d]))
			return false;
	return true;
}

static KVal compute(Lower *l, Val v, const Index *at)
{
	const Node *n = node_of(l, v);
	NodeClass class = node_class((Op)n->op);
	if (class == NODE_REDUCTION || class == NODE_SKELETON) {
		Index home;
		if (!at_home(l, v))
			NEVER("a reduction is wanted that is neither stored nor computed here");
		home_index(l, v, &home);
		if (!index_equal(&home, at))
			NEVER("a reduction is wanted at another place than where it is computed");
		u32 skeleton = l->f->group.v[l->group].skeleton, result = v.i - n->out.i;
		if (class == NODE_REDUCTION && skeleton == NONE)
			return lower_reduction(l, n);
		if (class == NODE_REDUCTION)
			result = skeleton_sum(l, &l->g->node.v[skeleton], n, &home);
		return kernel_inst(l->k, (KInst){ .op = K_acc, .imm = result, .dtype = (u8)val_type(l->g, v)->dtype });
	}
	Index none = { 0 };
	switch (n->op) {
	case OP_full: return constant(l, ATTR(n, full)->value, ATTR(n, full)->dtype);
	case OP_iota: return place_value(l, &at->dim[ATTR(n, iota)->axis], ATTR(n, iota)->dtype);
	case OP_extent:
		(void)none;
		return constant(l, (f64)bound(ATTR(n, extent)->size.v[0]), ATTR(n, extent)->dtype);
	case OP_random: return lower_random(l, n, at);
	case OP_pad: return lower_pad(l, n, at);
	case OP_concat: return lower_concat(l, n, at);
	case OP_gather: return lower_gather(l, n, at);
	case OP_take_along: return lower_take_along(l, n, at);
	case OP_cast:
		return kernel_inst(l->k, (KInst){ .op = K_cast, .dtype = (u8)ATTR(n, cast)->dtype,
						  .in = { lower_value(l, n->in[0], at) } });
	case OP_stop_gradient:
	case OP_broadcast:
	case OP_transpose:
	case OP_reshape:
	case OP_slice:
	case OP_unfold:
	case OP_split: return lower_view(l, n, v, at);
	default: break;
	}
	KInst inst = { .op = K_scalar, .scalar = (u8)scalar_of((Op)n->op),
		       .dtype = (u8)val_type(l->g, v)->dtype, .loc = n->loc };
	for (u32 i = 0; i < n->nin; i++)
		inst.in[i] = lower_value(l, n->in[i], at);
	return kernel_inst(l->k, inst);
}

static u64 memo_key(const Lower *l, Val v, const Index *at)
{
	u64 h = hash_words(HASH_SEED, &v, sizeof v);
	h = hash_words(h, &l->guard, sizeof l->guard);
	for (u32 d = 0; d < at->rank; d++) {
		h = hash_words(h, &at->dim[d].offset, sizeof(i64));
		h = hash_words(h, at->dim[d].coef, sizeof at->dim[d].coef);
		h = hash_words(h, &at->dim[d].dynamic, sizeof(KVal));
		for (u32 i = 0; i < at->dim[d].ndigit; i++)
			h = hash_words(h, &at->dim[d].digit[i].by, sizeof(i64));
	}
	return h;
}

static const Memo *memo_find(const Lower *l, u64 key, Val v, const Index *at)
{
	u64 *found = map_get(&l->memo, key);
	for (const Memo *m = found ? (const Memo *)(uintptr_t)*found : NULL; m; m = m->next)
		if (m->v.i == v.i && m->guard.i == l->guard.i && index_equal(&m->at, at))
			return m;
	return NULL;
}

static bool loaded(const Lower *l, Val v)
{
	return in_memory(l, v) && !at_home(l, v);
}

/* Is it computed here of operands at the same index? */
static bool same_place(const Lower *l, Val v)
{
	Op op = (Op)node_of(l, v)->op;
	return (op_info[op].kind == EW || op == OP_cast) && !loaded(l, v);
}

/* Computes the operands of pointwise `v`, and theirs, from a list instead of the call stack: the sum over all
 * parameters that a gradient's norm takes is a chain as long as the model is deep. */
static void operands_first(Lower *l, Val v, const Index *at)
{
	struct Visit {
		Val v;
		u32 operand;
	};
	VEC(struct Visit) path = { 0 };
	VEC_PUSH(l->tmp, &path, ((struct Visit){ v, 0 }));
	while (path.n && !l->split_dim) {
		struct Visit *top = &path.v[path.n - 1];
		const Node *n = node_of(l, top->v);
		if (top->operand == n->nin) {
			if (--path.n)
				lower_value(l, top->v, at);
			continue;
		}
		Val in = n->in[top->operand++];
		if (same_place(l, in) && !memo_find(l, memo_key(l, in, at), in, at))
			VEC_PUSH(l->tmp, &path, ((struct Visit){ in, 0 }));
	}
}

KVal lower_value(Lower *l, Val v, const Index *at)
{
	enum { DEEP = 64 }; /* calls within calls, before a list takes their place */
	if (l->split_dim)
		return (KVal){ 0 }; /* all of this is made again */
	u64 key = memo_key(l, v, at);
	const Memo *known = memo_find(l, key, v, at);
	if (known)
		return known->value;
	if (++l->depth % DEEP == 0 && same_place(l, v))
		operands_first(l, v, at);
	KVal value = loaded(l, v) ? load(l, v, at) : compute(l, v, at);
	l->depth--;
	u64 *others = map_get(&l->memo, key);
	Memo *m = NEW(l->tmp, Memo);
	*m = (Memo){ others ? (Memo *)(uintptr_t)*others : NULL, v, *at, l->guard, value };
	map_put(&l->memo, key, MAP_KEY(m));
	return value;
}

/* ---- the whole group ---- */

static void add_base(Lower *l, DimRole role, i64 extent, Axis axis)
{
	BaseDim b = { .role = role, .extent = extent, .axis = axis, .nfactor = 1, .factor = { extent } };
	assert(l->nbase < KERNEL_DIMS);
	l->base[l->nbase++] = b;
}

/* Axis classes for names: those of the first member that has the group's shape. */
static Axis axis_of(const Lower *l, const Group *gr, u32 d)
{
	for (u32 i = 0; i < gr->member.n; i++) {
		const Node *n = &l->g->node.v[gr->member.v[i]];
		Val v = val_type(l->g, n->out)->rank == gr->shape->rank ? n->out : n->in[0];
		if (val_type(l->g, v)->rank == gr->shape->rank && val_axis(l->g, v)[d].id)
			return val_axis(l->g, v)[d];
	}
	return (Axis){ 0 };
}

static void pointwise_domain(Lower *l, const Group *gr)
{
	for (u32 d = 0; d < gr->shape->rank; d++) {
		DimRole role = DIM_PARALLEL;
		bool last = d + 1 == gr->shape->rank;
		if (gr->class == KERNEL_ROW && last)
			role = DIM_ROW;
		if (gr->class == KERNEL_COLUMN) {
			role = last ? DIM_VECTOR : DIM_PARALLEL;
			for (u32 i = 0; i < gr->axes.n; i++)
				if (gr->axes.v[i] == d)
					role = DIM_REDUCE;
		}
		add_base(l, role, type_extent(gr->shape, d), axis_of(l, gr, d));
	}
}

/* Domain dimensions from base dimensions: in the order of roles that kernel.h gives each class. */
static void make_domain(Lower *l)
{
	static const u8 rank_of[DIM_ROLES] = {
		[DIM_PARALLEL] = 0, [DIM_BATCH] = 1, [DIM_G] = 2,      [DIM_R] = 3,   [DIM_REDUCE] = 4,
		[DIM_INDEX] = 4,    [DIM_M] = 5,     [DIM_N] = 6,      [DIM_K] = 7,   [DIM_V] = 8,
		[DIM_ROW] = 9,      [DIM_VECTOR] = 9,
	};
	Kernel *k = l->k;
	k->ndim = 0;
	for (u32 rank = 0; rank < 10; rank++)
		for (u32 b = 0; b < l->nbase; b++)
			for (u32 i = 0; i < l->base[b].nfactor; i++) {
				BaseDim *base = &l->base[b];
				DimRole role = base->role;
				if (role == DIM_VECTOR && i + 1 < base->nfactor)
					role = DIM_PARALLEL;
				if (rank_of[role] != rank)
					continue;
				assert(k->ndim < KERNEL_DIMS);
				base->at[i] = k->ndim;
				k->dim[k->ndim++] = (KDim){ role, base->factor[i], base->axis };
			}
}

/* Splits the factor that is domain dimension l->split_dim - 1. */
static void apply_split(Lower *l)
{
	u32 d = l->split_dim - 1;
	for (u32 b = 0; b < l->nbase; b++) {
		BaseDim *base = &l->base[b];
		for (u32 i = 0; i < base->nfactor; i++) {
			if (base->at[i] != d)
				continue;
			memmove(base->factor + i + 1, base->factor + i,
				(base->nfactor - i) * sizeof *base->factor);
			base->factor[i] = base->factor[i + 1] / l->split_inner;
			base->factor[i + 1] = l->split_inner;
			base->nfactor++;
			return;
		}
	}
	NEVER("a split of a dimension that no base dimension has");
}

static const char *kernel_title(const Lower *l, const Group *gr)
{
	/* the node that says most: the skeleton, else the last reduction, else the root */
	const Node *n = &l->g->node.v[gr->root];
	if (gr->skeleton != NONE)
		n = &l->g->node.v[gr->skeleton];
	else
		for (u32 i = 0; i < gr->member.n; i++)
			if (node_class((Op)l->g->node.v[gr->member.v[i]].op) == NODE_REDUCTION)
				n = &l->g->node.v[gr->member.v[i]];
	return intern_printf(&l->g->ir->names, "%s%s%s", n->scope, *n->scope ? "." : "",
			     op_info[n->op].name);
}

static void body(Lower *l, const Group *gr, Val copy)
{
	if (copy.i) {
		Index at = { .rank = val_type(l->g, copy)->rank };
		for (u32 d = 0; d < at.rank; d++)
			at.dim[d] = place_base(l, d);
		KVal v = in_memory(l, copy) ? load(l, copy, &at) : lower_value(l, copy, &at);
		if (l->split_dim)
			return;
		/* the slot written is not the one read, though both are of the one value */
		u64 *read = map_get(&l->slot, copy.i);
		if (read)
			map_put(&l->slot, copy.i, l->k->slot.n);
		if (read) {
			const Type *t = val_type(l->g, copy);
			kernel_slot(l->k, (KSlot){ .dtype = t->dtype, .name = "copy",
						   .elements = type_elements(t) });
			VEC_PUSH(l->tmp, &l->slot_value, copy);
		}
		lower_store(l, copy, &at, v);
		return;
	}
	if (gr->skeleton != NONE)
		skeleton_body(l, &l->g->node.v[gr->skeleton]);
	for (u32 i = 0; i < gr->stored.n && !l->split_dim; i++) {
		Val v = gr->stored.v[i];
		if ((gr->class == KERNEL_SCATTER || gr->class == KERNEL_MAP) && gr->skeleton != NONE && gr->member.n == 1)
			break; /* the skeleton writes it itself */
		Index at;
		home_index(l, v, &at);
		KVal value = lower_value(l, v, &at);
		if (!l->split_dim)
			lower_store(l, v, &at, value);
	}
}

/* Slots in order: operands, then results. */
static Kernel *lower_collective(Arena *arena, const Grouping *f, const Group *gr, const Val **slot_value)
{
	const Graph *g = f->g;
	const Node *n = &g->node.v[gr->skeleton];
	Kernel *k = kernel_new(arena, g->ir, KERNEL_COLLECTIVE);
	Val *value = NEWN(arena, Val, n->nin + n->nout);
	const Type **type = NEWN(arena, const Type *, n->nin);
	for (u32 i = 0; i < n->nin + n->nout; i++) {
		bool operand = i < n->nin;
		value[i] = operand ? n->in[i] : (Val){ n->out.i + i - n->nin };
		const Type *t = val_type(g, value[i]);
		const Node *maker = val_node(g, value[i]);
		const char *name = maker->op == OP_read	 ? ATTR(maker, read)->buffer :
				   maker->op == OP_input ? ATTR(maker, input)->name :
							   intern_printf(&g->ir->names, "%%%u", value[i].i);
		kernel_slot(k, (KSlot){ .dtype = t->dtype, .read = operand, .written = !operand, .name = name,
					.elements = type_elements(t) });
		f64 bytes = (f64)type_bytes(t);
		*(operand ? &k->bytes_read : &k->bytes_written) += bytes;
		if (!operand && n->op == OP_all_reduce && i - n->nin < 64) /* a transport reads its operand before it writes there */
			k->slot.v[i].may_alias = (u64)1 << (i - n->nin);
		if (operand != (n->op == OP_receive)) /* what is said */
			type[operand ? i : i - n->nin] = t;
	}
	KCollective c = { (Op)n->op, n->attr, n->nin, type };
	k->collective = COPYN(arena, KCollective, &c, 1);
	k->loc = n->loc;
	k->scope = n->scope;
	k->name = intern_printf(&g->ir->names, "%s%s%s", n->scope, *n->scope ? "." : "", op_info[n->op].name);
	*slot_value = value;
	return k;
}

Kernel *lower_group(Arena *arena, const Grouping *f, u32 group, Val copy, const Val **slot_value)
{
	const Graph *g = f->g;
	Arena tmp = ARENA("lower");
	Lower l = { .arena = arena, .tmp = &tmp, .f = f, .g = g, .group = group,
		    .before = group == NONE ? NONE : f->place[group] };
	Group alone = { .class = KERNEL_MAP, .skeleton = NONE, .into = NONE };
	const Group *gr = &alone;
	if (copy.i) {
		alone.shape = val_type(g, copy);
		alone.root = g->value.v[copy.i].node;
		l.group = NONE;
	} else {
		gr = &f->group.v[group];
		if (gr->class == KERNEL_COLLECTIVE)
			return lower_collective(arena, f, gr, slot_value);
	}
	if (gr->skeleton != NONE)
		skeleton_domain(&l, &g->node.v[gr->skeleton]);
	else
		pointwise_domain(&l, gr);
	for (;;) {
		l.k = kernel_new(arena, g->ir, gr->class);
		l.memo = (Map){ .arena = &tmp };
		l.slot = (Map){ .arena = &tmp };
		l.slot_value.n = 0;
		l.guard = (KVal){ 0 };
		l.split_dim = 0;
		make_domain(&l);
		body(&l, gr, copy);
		if (!l.split_dim)
			break;
		apply_split(&l);
	}
	const Node *root = &g->node.v[gr->skeleton != NONE ? gr->skeleton : gr->root];
	l.k->loc = root->loc;
	l.k->scope = root->scope;
	l.k->name = copy.i ? intern_printf(&g->ir->names, "%s%scopy", root->scope,
					   *root->scope ? "." : "")
			   : kernel_title(&l, gr);
	kernel_finish(l.k);
	if (gr->skeleton != NONE)
		l.k->flops += node_cost(g, &g->node.v[gr->skeleton]).flops;
	*slot_value = COPYN(arena, Val, l.slot_value.v, l.slot_value.n);
	arena_free(&tmp);
	return l.k;
}
