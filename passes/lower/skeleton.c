/* passes/lower/skeleton.c: the domains and operands of kernels that have a skeleton of their own: matrix
 * multiply, attention, scatter, scan, sort. The roles of dimensions are those of ir/kernel.h. */
#include "ir/dot.h"
#include "passes/lower/lower.h"

#include <string.h>

static u32 add(Lower *l, DimRole role, i64 extent, Axis axis)
{
	assert(l->nbase < KERNEL_DIMS);
	BaseDim b = { .role = role, .extent = extent, .axis = axis, .nfactor = 1, .factor = { extent } };
	l->base[l->nbase] = b;
	return l->nbase++;
}

static u32 add_dim(Lower *l, DimRole role, Val v, u32 d)
{
	return add(l, role, type_extent(val_type(l->g, v), d), val_axis(l->g, v)[d]);
}

static Place zero_place(void)
{
	return (Place){ 0 };
}

static void operand(Lower *l, Val v, const Index *at)
{
	KVal value = lower_value(l, v, at);
	/* attention takes operands in its type: what was widened from it is read as it stands */
	const KInst *in = &l->k->inst.v[value.i];
	if (!l->split_dim && in->op == K_cast && in->dtype == DT_f32 && l->k->compute != DT_f32 &&
	    l->k->inst.v[in->in[0].i].dtype == l->k->compute)
		value = in->in[0];
	assert(l->k->noperand < KERNEL_OPERANDS);
	l->k->operand[l->k->noperand++] = value;
}

/* ---- dot: base dimensions are the labels, in order of the spec's first mention ---- */

typedef struct Spec {
	Str a, b, out;
} Spec;

static Spec spec_of(const Node *n)
{
	const char *s = ATTR(n, dot)->spec;
	const char *comma = strchr(s, ','), *arrow = strchr(s, '-');
	return (Spec){ { s, (size_t)(comma - s) },
		       { comma + 1, (size_t)(arrow - comma - 1) },
		       str_of(arrow + 2) };
}

static bool has(Str labels, char c)
{
	return labels.n && memchr(labels.s, c, labels.n) != NULL;
}

/* N is what runs in vector lanes: the operand that has the result's last label gives N, so that stores
 * are contiguous; then a and b change places. */
static bool swapped(const Spec *s)
{
	return s->out.n && !has(s->b, s->out.s[s->out.n - 1]);
}

static void dot_domain(Lower *l, const Node *n)
{
	Spec s = spec_of(n);
	Str m = swapped(&s) ? s.b : s.a, k = s.a;
	for (u32 i = 0; i < s.out.n; i++) {
		char c = s.out.s[i];
		bool in_a = has(s.a, c), in_b = has(s.b, c);
		DimRole role = in_a && in_b ? DIM_BATCH : has(m, c) ? DIM_M : DIM_N;
		add_dim(l, role, n->out, i);
	}
	for (u32 i = 0; i < k.n; i++)
		if (!has(s.out, k.s[i]))
			add_dim(l, DIM_K, n->in[0], i);
}

/* The base dimension of a label: those of the result come first, in its order, then a's others. */
static u32 label_base(const Spec *s, char c)
{
	const char *p = memchr(s->out.s, c, s->out.n);
	if (p)
		return (u32)(p - s->out.s);
	u32 at = (u32)s->out.n;
	for (u32 i = 0; i < s->a.n; i++) {
		if (s->a.s[i] == c)
			return at;
		at += !has(s->out, s->a.s[i]);
	}
	NEVER("a label of a dot that no operand has");
}

static Index labels_index(const Lower *l, const Spec *s, Str labels)
{
	Index at = { .rank = (u32)labels.n };
	for (u32 i = 0; i < labels.n; i++)
		at.dim[i] = place_base(l, label_base(s, labels.s[i]));
	return at;
}

/* An operand that is read as it stands, with what is summed over fastest? */
static bool sums_fastest(const Kernel *k, KVal v)
{
	const KInst *in = &k->inst.v[v.i];
	u32 last = NONE;
	for (u32 d = 0; d < k->ndim; d++)
		if (k->dim[d].role == DIM_K && k->dim[d].extent > 1)
			last = d;
	return in->op == K_load && !in->in[0].i && !in->access->ndynamic && last != NONE && in->access->stride[last] == 1;
}

/* Operands that the target multiplies in 8 bits (the pass `operands` has put them in order). */
static bool in_8_bits(const Lower *l)
{
	const Kernel *k = l->k;
	KVal a = k->operand[0], b = k->operand[1];
	i64 extent[DIM_ROLES];
	for (u32 r = 0; r < DIM_ROLES; r++)
		extent[r] = 1;
	for (u32 d = 0; d < k->ndim; d++)
		extent[k->dim[d].role] *= k->dim[d].extent;
	return l->f->products_f8 && products_in_f8((DType)k->inst.v[a.i].dtype, (DType)k->inst.v[b.i].dtype) && extent[DIM_BATCH] == 1 &&
	       product_sizes_f8(extent[DIM_M], extent[DIM_N], extent[DIM_K]) && sums_fastest(k, a) && sums_fastest(k, b);
}

static void dot_body(Lower *l, const Node *n)
{
	Spec s = spec_of(n);
	bool swap = swapped(&s);
	for (u32 i = 0; i < 2; i++) {
		bool first = (i == 0) != swap;
		Index at = labels_index(l, &s, first ? s.a : s.b);
		operand(l, n->in[first ? 0 : 1], &at);
	}
	l->k->compute = in_8_bits(l) ? DT_f8e4m3 : product_dtype(val_type(l->g, n->in[0])->dtype, val_type(l->g, n->in[1])->dtype);
}

u32 skeleton_sum(const Lower *l, const Node *dot, const Node *sum, Index *out)
{
	Spec s = spec_of(dot);
	u32 which = summed_operand(l->g, dot, sum);
	Str labels = which ? s.b : s.a;
	*out = (Index){ 0 };
	for (u32 i = 0; i < labels.n; i++)
		if (has(s.out, labels.s[i]))
			out->dim[out->rank++] = place_base(l, label_base(&s, labels.s[i]));
	return 1 + (which ^ swapped(&s));
}

/* ---- attention: base 0.. batch, then G R M N K V ---- */

static u32 attention_batch(const Lower *l, const Node *n)
{
	return val_type(l->g, n->in[0])->rank - 3u;
}

static void attention_domain(Lower *l, const Node *n)
{
	Val q = n->in[0], k = n->in[1], v = n->in[2];
	u32 batch = attention_batch(l, n);
	for (u32 d = 0; d < batch; d++)
		add_dim(l, DIM_BATCH, q, d);
	i64 heads = type_extent(val_type(l->g, q), batch), groups = type_extent(val_type(l->g, k), batch);
	add(l, DIM_G, groups, val_axis(l->g, k)[batch]);
	add(l, DIM_R, heads / groups, val_axis(l->g, q)[batch]);
	add_dim(l, DIM_M, q, batch + 1);
	add_dim(l, DIM_N, k, batch + 1);
	add_dim(l, DIM_K, q, batch + 2);
	add_dim(l, DIM_V, v, batch + 2);
}

/* batch..., then the given base dimensions counted from G; `heads`: G and R as one dimension. */
static Index attention_index(const Lower *l, u32 batch, bool heads, int x, int y)
{
	Index at = { 0 };
	for (u32 d = 0; d < batch; d++)
		at.dim[at.rank++] = place_base(l, d);
	Place g = place_base(l, batch);
	if (heads) {
		Place r = place_base(l, batch + 1);
		i64 per = l->base[batch + 1].extent;
		for (u32 d = 0; d < KERNEL_DIMS; d++)
			g.coef[d] = g.coef[d] * per + r.coef[d];
	}
	at.dim[at.rank++] = g;
	if (x >= 0)
		at.dim[at.rank++] = place_base(l, batch + (u32)x);
	if (y >= 0)
		at.dim[at.rank++] = place_base(l, batch + (u32)y);
	return at;
}

enum { AT_M = 2, AT_N = 3, AT_K = 4, AT_V = 5 };

/* An operand that repeats over leading dimensions and dimensions of one element (mask, bias). */
static void repeated_operand(Lower *l, Val v, const Index *full)
{
	const Type *t = val_type(l->g, v);
	Index at = { .rank = t->rank };
	for (u32 d = 0; d < t->rank; d++)
		at.dim[d] = type_extent(t, d) == 1 ? zero_place() : full->dim[full->rank - t->rank + d];
	operand(l, v, &at);
}

static void attention_body(Lower *l, const Node *n)
{
	bool grad = n->op == OP_attention_grad;
	u32 batch = attention_batch(l, n), in = 3;
	/* both ops have the same attributes, in the same order */
	const attention_attr *a = (const attention_attr *)n->attr;
	Kernel *k = l->k;
	k->causal = a->causal;
	k->has_mask = a->mask;
	k->has_bias = a->bias;
	k->window = a->window;
	k->scale = a->scale;
	k->softcap = a->softcap;
	k->compute = val_type(l->g, n->in[0])->dtype;
	Index q = attention_index(l, batch, true, AT_M, AT_K), key = attention_index(l, batch, false, AT_N, AT_K),
	      v = attention_index(l, batch, false, AT_N, AT_V), all = attention_index(l, batch, true, AT_M, AT_N),
	      out = attention_index(l, batch, true, AT_M, AT_V), row = attention_index(l, batch, true, AT_M, -1);
	operand(l, n->in[0], &q);
	operand(l, n->in[1], &key);
	operand(l, n->in[2], &v);
	if (a->mask)
		repeated_operand(l, n->in[in++], &all);
	if (a->bias)
		repeated_operand(l, n->in[in++], &all);
	if (grad) {
		operand(l, n->in[in], &out);
		operand(l, n->in[in + 1], &row);
		operand(l, n->in[in + 2], &out);
		if (n->nin > in + 3)
			operand(l, n->in[in + 3], &row); /* the log-sum-exp's own derivative */
	}
}

static Index attention_home(const Lower *l, const Node *n, u32 result)
{
	u32 batch = attention_batch(l, n);
	if (n->op == OP_attention)
		return attention_index(l, batch, true, AT_M, result == 0 ? AT_V : -1);
	switch (result) {
	case 0: return attention_index(l, batch, true, AT_M, AT_K);
	case 1: return attention_index(l, batch, false, AT_N, AT_K);
	case 2: return attention_index(l, batch, false, AT_N, AT_V);
	default: return attention_index(l, batch, true, AT_M, AT_N);
	}
}

/* ---- scatter: base dimensions are those of what is added ---- */

static u32 scatter_axis(const Node *n)
{
	return (u32)(n->op == OP_scatter_add ? ATTR(n, scatter_add)->axis : ATTR(n, scatter_along)->axis);
}

/* How many dimensions of the operand the places take up. */
static u32 scatter_width(const Lower *l, const Node *n)
{
	return n->op == OP_scatter_add ? val_type(l->g, n->in[1])->rank : 1;
}

static void scatter_domain(Lower *l, const Node *n)
{
	const Type *t = val_type(l->g, n->in[0]);
	u32 axis = scatter_axis(n), width = scatter_width(l, n);
	for (u32 d = 0; d < t->rank; d++)
		add_dim(l, d < axis ? DIM_PARALLEL : d < axis + width ? DIM_INDEX : DIM_VECTOR, n->in[0], d);
}

static void scatter_body(Lower *l, const Node *n)
{
	const Type *t = val_type(l->g, n->in[0]), *to = val_type(l->g, n->out);
	u32 axis = scatter_axis(n), width = scatter_width(l, n);
	u32 slot = lower_slot(l, n->out, true);
	assert(slot == 0);
	l->k->accumulate = added_onto(n).i != 0;
	l->k->slot.v[slot].read = l->k->accumulate;
	Index at = { .rank = t->rank }, which = { 0 };
	for (u32 d = 0; d < t->rank; d++)
		at.dim[d] = place_base(l, d);
	if (n->op == OP_scatter_add) {
		which.rank = width;
		memcpy(which.dim, at.dim + axis, width * sizeof *which.dim);
	} else {
		which = at;
	}
	operand(l, n->in[0], &at);
	KVal i = lower_value(l, n->in[1], &which);
	if (l->split_dim)
		return;
	DType it = val_type(l->g, n->in[1])->dtype;
	KVal low = kernel_inst(l->k, (KInst){ .op = K_const, .dtype = (u8)it });
	KVal high = kernel_inst(l->k, (KInst){ .op = K_const, .dtype = (u8)it,
					       .imm = (f64)(type_extent(to, axis) - 1) });
	i = kernel_inst(l->k, (KInst){ .op = K_scalar, .scalar = S_max, .dtype = (u8)it, .in = { i, low } });
	i = kernel_inst(l->k, (KInst){ .op = K_scalar, .scalar = S_min, .dtype = (u8)it, .in = { i, high } });
	l->k->operand[l->k->noperand++] = i;
	Index place = { .rank = to->rank };
	for (u32 d = 0; d < to->rank; d++)
		if (d < axis)
			place.dim[d] = at.dim[d];
		else if (d == axis)
			place.dim[d] = (Place){ .dynamic = i, .scale = 1 };
		else
			place.dim[d] = at.dim[d + width - 1];
	Access a = lower_access(l, n->out, &place, true);
	l->k->scatter = COPYN(l->k->arena, Access, &a, 1);
}

/* ---- along one axis: cumsum, sort ---- */

static u32 scan_axis(const Node *n)
{
	return (u32)(n->op == OP_cumsum ? ATTR(n, cumsum)->axis : ATTR(n, sort)->axis);
}

static void scan_domain(Lower *l, const Node *n)
{
	u32 rank = val_type(l->g, n->in[0])->rank;
	for (u32 d = 0; d < rank; d++)
		add_dim(l, d == scan_axis(n) ? DIM_ROW : DIM_PARALLEL, n->in[0], d);
}

static Index whole_index(const Lower *l, u32 rank)
{
	Index at = { .rank = rank };
	for (u32 d = 0; d < rank; d++)
		at.dim[d] = place_base(l, d);
	return at;
}

static void scan_body(Lower *l, const Node *n)
{
	Index at = whole_index(l, val_type(l->g, n->in[0])->rank);
	operand(l, n->in[0], &at);
	if (n->op == OP_cumsum) {
		l->k->reverse = ATTR(n, cumsum)->reverse;
		l->k->exclusive = ATTR(n, cumsum)->exclusive;
	} else {
		l->k->descending = ATTR(n, sort)->descending;
	}
}

/* ---- grouped dot: base G M N K ---- */

static void grouped_domain(Lower *l, const Node *n)
{
	Val x = n->in[0], second = n->in[1];
	if (n->op == OP_grouped_dot) {
		add_dim(l, DIM_G, second, 0);
		add_dim(l, DIM_M, x, 0);
		add_dim(l, DIM_N, second, 2);
		add_dim(l, DIM_K, x, 1);
	} else {
		add_dim(l, DIM_G, n->out, 0);
		add_dim(l, DIM_M, x, 1);
		add_dim(l, DIM_N, second, 1);
		add_dim(l, DIM_K, x, 0);
	}
}

static Index pick(const Lower *l, u32 n, u32 a, u32 b, u32 c)
{
	const u32 base[3] = { a, b, c };
	Index at = { .rank = n };
	for (u32 i = 0; i < n; i++)
		at.dim[i] = place_base(l, base[i]);
	return at;
}

enum { ON_G, ON_M, ON_N, ON_K };

static void grouped_body(Lower *l, const Node *n)
{
	bool weights = n->op == OP_grouped_dot_weights;
	Index x = weights ? pick(l, 2, ON_K, ON_M, 0) : pick(l, 2, ON_M, ON_K, 0);
	Index y = weights ? pick(l, 2, ON_K, ON_N, 0) : pick(l, 3, ON_G, ON_K, ON_N);
	Index offsets = pick(l, 1, ON_G, 0, 0);
	operand(l, n->in[0], &x);
	operand(l, n->in[1], &y);
	operand(l, n->in[2], &offsets); /* where the group begins, and where it ends */
	offsets.dim[0].offset++;
	operand(l, n->in[2], &offsets);
	l->k->compute = product_dtype(val_type(l->g, n->in[0])->dtype, val_type(l->g, n->in[1])->dtype);
}

/* ---- update_slice: the new rows, stored where they belong; the buffer is not read, nor the rest of it written ---- */

static void update_domain(Lower *l, const Node *n)
{
	for (u32 d = 0; d < val_type(l->g, n->in[1])->rank; d++)
		add_dim(l, DIM_PARALLEL, n->in[1], d);
}

static KVal number(Lower *l, i64 value)
{
	return kernel_inst(l->k, (KInst){ .op = K_const, .dtype = DT_i64, .imm = (f64)value });
}

static void update_body(Lower *l, const Node *n)
{
	u32 axis = (u32)ATTR(n, update_slice)->axis;
	const Type *to = val_type(l->g, n->out);
	Index at = whole_index(l, to->rank), none = { 0 };
	KVal value = lower_value(l, n->in[1], &at);
	Place start = { .dynamic = lower_value(l, n->in[2], &none), .scale = 1 };
	at.dim[axis] = place_add(l, at.dim[axis], start);
	KVal place = place_value(l, &at.dim[axis], DT_i64);
	KInst inside = { .op = K_scalar, .scalar = S_le, .dtype = DT_b1, .in = { number(l, 0), place } };
	KInst before = { .op = K_scalar, .scalar = S_lt, .dtype = DT_b1, .in = { place, number(l, type_extent(to, axis)) } };
	KInst both = { .op = K_scalar, .scalar = S_and, .dtype = DT_b1,
		       .in = { kernel_inst(l->k, inside), kernel_inst(l->k, before) } };
	KVal within = kernel_inst(l->k, both);
	if (l->split_dim)
		return;
	Access a = lower_access(l, n->out, &at, true);
	kernel_inst(l->k, (KInst){ .op = K_store, .dtype = (u8)to->dtype, .access = &a, .in = { value, within }, .loc = n->loc });
}

/* ---- by op ---- */

void skeleton_domain(Lower *l, const Node *n)
{
	switch (n->op) {
	case OP_dot: dot_domain(l, n); break;
	case OP_attention:
	case OP_attention_grad: attention_domain(l, n); break;
	case OP_scatter_add:
	case OP_scatter_along: scatter_domain(l, n); break;
	case OP_cumsum:
	case OP_sort: scan_domain(l, n); break;
	case OP_grouped_dot:
	case OP_grouped_dot_weights: grouped_domain(l, n); break;
	case OP_update_slice: update_domain(l, n); break;
	default: NEVER("a skeleton without a domain");
	}
}

void skeleton_body(Lower *l, const Node *n)
{
	switch (n->op) {
	case OP_dot: dot_body(l, n); break;
	case OP_attention:
	case OP_attention_grad: attention_body(l, n); break;
	case OP_scatter_add:
	case OP_scatter_along: scatter_body(l, n); break;
	case OP_cumsum:
	case OP_sort: scan_body(l, n); break;
	case OP_grouped_dot:
	case OP_grouped_dot_weights: grouped_body(l, n); break;
	case OP_update_slice: update_body(l, n); break;
	default: NEVER("a skeleton without a body");
	}
}

void skeleton_home(const Lower *l, const Node *n, u32 result, Index *out)
{
	Spec s;
	switch (n->op) {
	case OP_dot:
		s = spec_of(n);
		*out = labels_index(l, &s, s.out);
		break;
	case OP_attention:
	case OP_attention_grad: *out = attention_home(l, n, result); break;
	case OP_cumsum:
	case OP_sort: *out = whole_index(l, val_type(l->g, n->in[0])->rank); break;
	case OP_grouped_dot: *out = pick(l, 2, ON_M, ON_N, 0); break;
	case OP_grouped_dot_weights: *out = pick(l, 3, ON_G, ON_M, ON_N); break;
	default: NEVER("a skeleton whose result has no index");
	}
}
