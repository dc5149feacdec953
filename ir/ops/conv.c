/* ir/ops/conv.c: two-dimensional convolution, pooling and upsampling of x[B, C, H, W].
 *
 * A convolution is one product, over channels and kernel positions, of the padded image's windows, which overlap and are
 * a view (unfold), and the weights (Chellapilla et al. 2006; never in memory, as Chetlur et al., cuDNN, 2014). So are both its
 * derivatives: that of the weights multiplies the same windows by dy, that of x multiplies windows of dy by the weights turned
 * round, once for each residue of an image's position by the stride, since only every stride-th kernel position meets it.
 * Pools combine slices, one for each position in a window. Kernel extents are bound when these
 * are expanded; sizes of images may stay symbolic. */
#include "ir/dot.h"
#include "ir/ops/composite.h"
#include "ir/sample.h"

#include <math.h>

/* What a window op does to the two image dimensions: [0] height, [1] width. */
typedef struct Window {
	Dim out[2];
	i64 size[2], stride[2], padding[2], dilation[2]; /* size: once bound */
} Window;

/* An attribute that is one or two numbers, or absent: `otherwise`. */
static i64 pair_of(ints a, u32 i, i64 otherwise)
{
	return a.n == 0 ? otherwise : a.v[a.n == 1 ? 0 : i];
}

static bool need_pair(InferCx *cx, ints a, const char *what, i64 least)
{
	bool good = a.n <= 2;
	for (u32 i = 0; good && i < a.n; i++)
		good = a.v[i] >= least;
	return good || infer_fail(cx, "%s: %s is one number or two (height, width), at least %lld",
				  op_info[cx->op].name, what, (long long)least);
}

/* Fills w->out, or says why not. */
static bool infer_window(InferCx *cx, Window *w, const Dim size[2])
{
	const Type *x = infer_type(cx, 0);
	for (u32 i = 0; i < 2; i++) {
		w->out[i] = window_extent(cx->ir, x->dim[2 + i], size[i], w->stride[i], w->padding[i],
					  w->dilation[i]);
		if (!w->out[i])
			return infer_fail(cx,
					  "%s: a window of %s (stride %lld, padding %lld, dilation "
					  "%lld) does not fit the %s %s of x %s; pad x, or choose a "
					  "%s that the stride divides",
					  op_info[cx->op].name, dim_text(cx, size[i]),
					  (long long)w->stride[i], (long long)w->padding[i],
					  (long long)w->dilation[i], i ? "width" : "height",
					  dim_text(cx, x->dim[2 + i]), infer_text(cx, 0),
					  i ? "width" : "height");
	}
	return true;
}

/* Fills w->out where infer_window did before. */
static void find_extents(Builder *b, Window *w, Val x)
{
	const Type *t = val_type(b->g, x);
	for (u32 i = 0; i < 2; i++)
		w->out[i] = window_extent(b->g->ir, t->dim[2 + i], dim_number(b->g->ir, w->size[i]),
					  w->stride[i], w->padding[i], w->dilation[i]);
}

/* x with its image dimensions padded by `value`. */
static Val padded(Builder *b, Val x, const Window *w, f64 value)
{
	if (w->padding[0] == 0 && w->padding[1] == 0)
		return x;
	Ir *ir = b->g->ir;
	Dim zero = dim_number(ir, 0);
	Dim around[4] = { zero, zero, dim_number(ir, w->padding[0]), dim_number(ir, w->padding[1]) };
	return BA(b, pad, (x), .low = { 4, around }, .high = { 4, around }, .value = value);
}

/* What the kernel position (i, j) sees of padded x, for every output position: [B, C, H', W']. */
static Val seen_at(Builder *b, Val x, const Window *w, i64 i, i64 j)
{
	Ir *ir = b->g->ir;
	const Type *t = val_type(b->g, x);
	Dim zero = dim_number(ir, 0);
	Dim start[4] = { zero, zero, dim_number(ir, i * w->dilation[0]),
			 dim_number(ir, j * w->dilation[1]) };
	Dim size[4] = { t->dim[0], t->dim[1], w->out[0], w->out[1] };
	i64 step[4] = { 1, 1, w->stride[0], w->stride[1] };
	return BA(b, slice, (x), .start = { 4, start }, .size = { 4, size }, .step = { 4, step });
}

/* ---- conv2d ---- */

static Window conv_window(const conv2d_attr *a)
{
	Window w = { 0 };
	for (u32 i = 0; i < 2; i++) {
		w.stride[i] = pair_of(a->stride, i, 1);
		w.padding[i] = pair_of(a->padding, i, 0);
		w.dilation[i] = pair_of(a->dilation, i, 1);
	}
	return w;
}

static bool conv2d_infer(InferCx *cx)
{
	const conv2d_attr *a = cx->attr;
	const Type *x = infer_type(cx, 0), *k = infer_type(cx, 1);
	Ir *ir = cx->ir;
	if (!need_float(cx, 0, "x") || !need_float(cx, 1, "w") || !need_rank(cx, 0, "x", 4) ||
	    !need_rank(cx, 1, "w", 4) || !need_pair(cx, a->stride, "stride", 1) ||
	    !need_pair(cx, a->padding, "padding", 0) || !need_pair(cx, a->dilation, "dilation", 1))
		return false;
	if (x->dtype != k->dtype)
		return infer_fail(cx, "conv2d: x %s and w %s must have one element type",
				  infer_text(cx, 0), infer_text(cx, 1));
	if (a->groups < 1)
		return infer_fail(cx, "conv2d: groups must be at least 1, not %lld",
				  (long long)a->groups);
	Dim groups = dim_number(ir, a->groups);
	if (dim_mul(ir, k->dim[1], groups) != x->dim[1])
		return infer_fail(cx,
				  "conv2d: w %s takes %s channels in each of %lld groups, and x %s "
				  "has %s",
				  infer_text(cx, 1), dim_text(cx, k->dim[1]), (long long)a->groups,
				  infer_text(cx, 0), dim_text(cx, x->dim[1]));
	if (!dim_whole(ir, k->dim[0], groups))
		return infer_fail(cx, "conv2d: %lld groups do not divide the %s channels w %s makes",
				  (long long)a->groups, dim_text(cx, k->dim[0]), infer_text(cx, 1));
	Window w = conv_window(a);
	if (!infer_window(cx, &w, &k->dim[2]))
		return false;
	if (a->groups == 1)
		same_axis(cx, 0, 1, 1, 1);
	const Axis *ax = infer_axis(cx, 0);
	Axis axis[4] = { ax[0], infer_axis(cx, 1)[0] };
	for (u32 i = 0; i < 2; i++) /* an image axis stays itself where its extent does */
		axis[2 + i] = w.out[i] == x->dim[2 + i] ? ax[2 + i] : (Axis){ 0 };
	return result_is(cx, 0, compute_dtype(x->dtype), 4,
			 (Dim[]){ x->dim[0], k->dim[0], w.out[0], w.out[1] }, axis);
}

/* Windows along both image dimensions: [B, C, H', KH, W', KW]. */
static Val windows_of(Builder *b, Val x, const i64 size[2], const i64 step[2], const i64 dilation[2])
{
	Val rows = BA(b, unfold, (x), .axis = 2, .size = size[0], .step = step[0], .dilation = dilation[0]);
	return BA(b, unfold, (rows), .axis = 4, .size = size[1], .step = step[1], .dilation = dilation[1]);
}

/* Dimension 0 or 1 of v, which has the channels of all groups, as [groups, channels of each]. */
static Val by_group(Builder *b, Val v, u32 d, Dim groups)
{
	const Type *t = val_type(b->g, v);
	Dim dim[MAX_RANK];
	for (u32 i = 0; i < t->rank; i++)
		dim[i + (i > d)] = t->dim[i];
	dim[d] = groups;
	dim[d + 1] = dim_div(b->g->ir, t->dim[d], groups);
	return BA(b, reshape, (v), .shape = { t->rank + 1u, dim });
}

/* A dot of which dimension `da` of x, `dw` of w and, where it is not NONE, `dr` of the result are by group (label g of
 * `grouped`, which `plain` leaves out). The result has the shape given. */
static Val group_product(Builder *b, i64 groups, Val x, u32 da, Val w, u32 dw, const char *plain, const char *grouped, dims shape)
{
	Ir *ir = b->g->ir;
	if (groups == 1)
		return BA(b, dot, (x, w), .spec = intern_z(&ir->names, plain));
	Dim g = dim_number(ir, groups);
	Val v = BA(b, dot, (by_group(b, x, da, g), by_group(b, w, dw, g)), .spec = intern_z(&ir->names, grouped));
	return BA(b, reshape, (v), .shape = shape);
}

static Window bound_conv(Builder *b, const Node *n)
{
	Window w = conv_window(ATTR(n, conv2d));
	for (u32 i = 0; i < 2; i++)
		w.size[i] = type_extent(val_type(b->g, n->in[1]), 2 + i);
	find_extents(b, &w, n->in[0]);
	return w;
}

static Val windows_of_node(Builder *b, const Node *n, const Window *w)
{
	return windows_of(b, padded(b, n->in[0], w, 0), w->size, w->stride, w->dilation);
}

static void conv2d_expand(Builder *b, const Node *n, Val *out)
{
	Window w = bound_conv(b, n);
	Dim batch = val_type(b->g, n->in[0])->dim[0], made = val_type(b->g, n->in[1])->dim[0];
	out[0] = group_product(b, ATTR(n, conv2d)->groups, windows_of_node(b, n, &w), 1, n->in[1], 0, "bchiwj,ocij->bohw",
			       "bgchiwj,gocij->bgohw", (dims){ 4, (Dim[]){ batch, made, w.out[0], w.out[1] } });
}

/* Positions m * stride + e of x along an image dimension: which of the kernel's meet them, i = first + t * every for t < n;
 * position t meets the m-th of them at m + offset - t * step of dy. */
typedef struct Residue {
	i64 n, first, every, offset, step;
} Residue;

static i64 common_divisor(i64 a, i64 b)
{
	return b ? common_divisor(b, a % b) : a;
}

static Residue residue_of(const Window *w, u32 d, i64 e)
{
	i64 stride = w->stride[d], common = common_divisor(stride, w->dilation[d]), at = e + w->padding[d];
	Residue r = { .every = stride / common, .step = w->dilation[d] / common };
	while (r.first < w->size[d] && (at - r.first * w->dilation[d]) % stride)
		r.first++;
	r.n = (w->size[d] - r.first + r.every - 1) / r.every;
	r.offset = (at - r.first * w->dilation[d]) / stride;
	return r;
}

/* Of v[.., H, W], `size` elements from `from` along both: zeros where it has none. */
static Val stretch_of(Builder *b, Val v, const i64 from[2], const Dim size[2])
{
	Ir *ir = b->g->ir;
	const Type *t = val_type(b->g, v);
	Dim zero = dim_number(ir, 0), low[4] = { zero, zero }, high[4] = { zero, zero };
	for (u32 d = 0; d < 2; d++) {
		i64 beyond;
		Dim end = dim_add(ir, dim_number(ir, from[d]), size[d]);
		if (!dim_is_number(dim_sub(ir, end, t->dim[2 + d]), &beyond))
			NEVER("windows of a derivative whose number does not follow from those of its function");
		low[2 + d] = dim_number(ir, MAX(-from[d], 0));
		high[2 + d] = dim_number(ir, MAX(beyond, 0));
	}
	v = BA(b, pad, (v), .low = { 4, low }, .high = { 4, high }, .value = 0);
	for (u32 d = 0; d < 2; d++)
		v = slice_along(b, v, 2 + d, dim_number(ir, MAX(from[d], 0)), size[d], 1);
	return v;
}

/* Towards x at positions e + a multiple of the stride, `count` of them along both image dimensions. */
static Val towards_residue(Builder *b, const Node *n, const Window *w, Val dy, const i64 e[2], const Dim count[2])
{
	Ir *ir = b->g->ir;
	const Type *t = val_type(b->g, n->in[0]);
	dims shape = { 4, (Dim[]){ t->dim[0], t->dim[1], count[0], count[1] } };
	i64 from[2], size[2], step[2];
	Dim extent[2];
	Val weight = n->in[1];
	for (u32 d = 0; d < 2; d++) {
		Residue r = residue_of(w, d, e[d]);
		if (r.n <= 0)
			return make_full(b, 0, compute_dtype(t->dtype), shape);
		i64 reach = (r.n - 1) * r.step;
		from[d] = r.offset - reach;
		extent[d] = dim_add(ir, count[d], dim_number(ir, reach));
		size[d] = r.n;
		step[d] = r.step;
		weight = slice_along(b, weight, 2 + d, dim_number(ir, r.first + (r.n - 1) * r.every), dim_number(ir, r.n),
				     r.n > 1 ? -r.every : 1);
	}
	Val windows = windows_of(b, stretch_of(b, dy, from, extent), size, (i64[]){ 1, 1 }, step);
	return group_product(b, ATTR(n, conv2d)->groups, windows, 1, weight, 0, "bohiwj,ocij->bchw", "bgohiwj,gocij->bgchw", shape);
}

/* v[i] for i < n of one shape, taking turns along `axis`. */
static Val take_turns(Builder *b, Val *v, i64 n, u32 axis)
{
	const Type *t = val_type(b->g, v[0]);
	Dim one[MAX_RANK], all[MAX_RANK];
	if (n == 1)
		return v[0];
	for (u32 d = 0; d <= t->rank; d++)
		one[d] = d == axis + 1 ? dim_number(b->g->ir, 1) : t->dim[d > axis ? d - 1 : d];
	for (u32 d = 0; d < t->rank; d++)
		all[d] = d == axis ? dim_mul(b->g->ir, t->dim[d], dim_number(b->g->ir, n)) : t->dim[d];
	for (i64 i = 0; i < n; i++)
		v[i] = BA(b, reshape, (v[i]), .shape = { t->rank + 1u, one });
	Val beside = build(b, OP_concat, v, (u32)n, 0, &(concat_attr){ .axis = axis + 1 });
	return BA(b, reshape, (beside), .shape = { t->rank, all });
}

static Val towards_image(Builder *b, const Node *n, const Window *w, Val dy)
{
	Ir *ir = b->g->ir;
	const Type *t = val_type(b->g, n->in[0]);
	Dim count[2], one = dim_number(ir, 1), zero = dim_number(ir, 0);
	for (u32 d = 0; d < 2; d++)
		count[d] = window_extent(ir, t->dim[2 + d], one, w->stride[d], 0, 1);
	Val *row = NEWN(b->g->arena, Val, w->stride[0]), *column = NEWN(b->g->arena, Val, w->stride[1]);
	for (i64 i = 0; i < w->stride[0]; i++) {
		for (i64 j = 0; j < w->stride[1]; j++)
			column[j] = towards_residue(b, n, w, dy, (i64[]){ i, j }, count);
		row[i] = take_turns(b, column, w->stride[1], 3);
	}
	Val dx = take_turns(b, row, w->stride[0], 2);
	for (u32 d = 0; d < 2; d++)
		dx = slice_along(b, dx, 2 + d, zero, t->dim[2 + d], 1);
	return dx;
}

static void conv2d_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Window w = bound_conv(b, n);
	const Type *k = val_type(b->g, n->in[1]);
	Val dy = make_cast(b, dout[0], product_dtype(val_type(b->g, n->in[0])->dtype, k->dtype)); /* as a dot's */
	din[0] = towards_image(b, n, &w, dy);
	din[1] = group_product(b, ATTR(n, conv2d)->groups, windows_of_node(b, n, &w), 1, dy, 1, "bchiwj,bohw->ocij",
			       "bgchiwj,bgohw->gocij", (dims){ 4, k->dim });
}

/* Along the image a window mixes both sides; along channels of the result, x mixes unless grouped,
 * and w has one row each. */
static Along conv2d_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n;
	if (in == 1)
		return d == 1 ? ALONG_POINTWISE : ALONG_NOT_THERE;
	return d == 0 ? ALONG_POINTWISE : d == 1 ? ALONG_NOT_THERE : ALONG_MIXING;
}

static ints random_pair(Random *r, Builder *b, i64 low, i64 high)
{
	return INTS(b, random_int(r, low, high), random_int(r, low, high));
}

static Val conv2d_sample(Random *r, Builder *b)
{
	Ir *ir = b->g->ir;
	DType dtype = random_float(r);
	i64 groups = random_int(r, 1, 2), in = random_int(r, 1, 2), out = groups * random_int(r, 1, 2);
	Dim x[4] = { random_extent(r, b), dim_number(ir, groups * in),
		     dim_number(ir, random_int(r, 5, 7)), dim_number(ir, random_int(r, 5, 7)) };
	i64 high = random_int(r, 1, 3), wide = random_int(r, 1, 3);
	Dim w[4] = { dim_number(ir, out), dim_number(ir, in), dim_number(ir, high), dim_number(ir, wide) };
	if (random_int(r, 0, 2) == 0) { /* windows side by side */
		ints size = INTS(b, high, wide);
		for (u32 i = 0; i < 2; i++)
			x[2 + i] = dim_number(ir, size.v[i] * random_int(r, 1, 3));
		Val patches = sample_real(r, b, dtype, 4, x);
		return BA(b, conv2d, (patches, sample_real(r, b, dtype, 4, w)), .stride = size, .groups = groups);
	}
	Val a = sample_real(r, b, dtype, 4, x);
	return BA(b, conv2d, (a, sample_real(r, b, dtype, 4, w)), .stride = random_pair(r, b, 1, 2),
		  .padding = random_pair(r, b, 0, 2), .dilation = random_pair(r, b, 1, 2),
		  .groups = groups);
}

const OpDef def_conv2d = { .infer = conv2d_infer, .expand = conv2d_expand, .vjp = conv2d_vjp, .along = conv2d_along,
			   .sample = conv2d_sample };

/* ---- pools ---- */

/* The two pools have the same attributes in the same order. */
_Static_assert(sizeof(max_pool2d_attr) == sizeof(avg_pool2d_attr) &&
		       offsetof(max_pool2d_attr, padding) == offsetof(avg_pool2d_attr, padding) &&
		       offsetof(max_pool2d_attr, stride) == offsetof(avg_pool2d_attr, stride),
	       "pools share an attribute struct");

static Window pool_window(const max_pool2d_attr *a)
{
	Window w = { .dilation = { 1, 1 } };
	for (u32 i = 0; i < 2; i++) {
		w.size[i] = pair_of(a->size, i, 1);
		w.stride[i] = pair_of(a->stride, i, w.size[i]); /* absent: windows side by side */
		w.padding[i] = pair_of(a->padding, i, 0);
	}
	return w;
}

static bool pool_infer(InferCx *cx)
{
	const max_pool2d_attr *a = cx->attr;
	const Type *x = infer_type(cx, 0);
	if (!need_float(cx, 0, "x") || !need_rank(cx, 0, "x", 4) ||
	    !need_pair(cx, a->size, "size", 1) || !need_pair(cx, a->stride, "stride", 1) ||
	    !need_pair(cx, a->padding, "padding", 0))
		return false;
	Window w = pool_window(a);
	for (u32 i = 0; i < 2; i++)
		if (2 * w.padding[i] > w.size[i])
			return infer_fail(cx, "%s: a padding of %lld is more than half a window of %lld",
					  op_info[cx->op].name, (long long)w.padding[i],
					  (long long)w.size[i]);
	Dim size[2] = { dim_number(cx->ir, w.size[0]), dim_number(cx->ir, w.size[1]) };
	if (!infer_window(cx, &w, size))
		return false;
	const Axis *ax = infer_axis(cx, 0);
	Axis axis[4] = { ax[0], ax[1] };
	for (u32 i = 0; i < 2; i++)
		axis[2 + i] = w.out[i] == x->dim[2 + i] ? ax[2 + i] : (Axis){ 0 };
	return result_is(cx, 0, x->dtype, 4, (Dim[]){ x->dim[0], x->dim[1], w.out[0], w.out[1] },
			 axis);
}

static Window bound_pool(Builder *b, const Node *n)
{
	Window w = pool_window(n->attr);
	find_extents(b, &w, n->in[0]);
	return w;
}

static Along image_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n, (void)in;
	return d < 2 ? ALONG_POINTWISE : ALONG_MIXING;
}

static void max_pool2d_expand(Builder *b, const Node *n, Val *out)
{
	Window w = bound_pool(b, n);
	Val x = padded(b, n->in[0], &w, -INFINITY), most = { 0 };
	for (i64 i = 0; i < w.size[0]; i++) {
		for (i64 j = 0; j < w.size[1]; j++) {
			Val s = seen_at(b, x, &w, i, j);
			most = most.i ? B(b, max, most, s) : s;
		}
	}
	out[0] = most;
}

/* The first of equal elements, row by row in the window, gets all of dy. */
static void max_pool2d_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	Window w = bound_pool(b, n);
	Val x = padded(b, n->in[0], &w, -INFINITY), y = n->out, free = { 0 }, dx = { 0 };
	for (i64 i = 0; i < w.size[0]; i++) {
		for (i64 j = 0; j < w.size[1]; j++) {
			Val s = seen_at(b, x, &w, i, j);
			Val here = B(b, eq, s, y);
			Val mine = free.i ? B(b, and, here, free) : here;
			Val others = B(b, not, here);
			free = free.i ? B(b, and, free, others) : others;
			Val dy = where_or_zero(b, mine, dout[0]);
			if (s.i != x.i) /* a window of one element is x itself */
				dy = pull_back(b, s, dy);
			dx = dx.i ? B(b, add, dx, dy) : dy;
		}
	}
	din[0] = x.i == n->in[0].i ? dx : pull_back(b, x, dx);
}

static Val sample_image(Random *r, Builder *b)
{
	Ir *ir = b->g->ir;
	Dim x[4] = { random_extent(r, b), random_extent(r, b), dim_number(ir, random_int(r, 4, 6)),
		     dim_number(ir, random_int(r, 4, 6)) };
	return sample_real(r, b, random_float(r), 4, x);
}

static Val max_pool2d_sample(Random *r, Builder *b)
{
	return BA(b, max_pool2d, (sample_image(r, b)), .size = random_pair(r, b, 2, 3),
		  .stride = random_pair(r, b, 1, 2), .padding = random_pair(r, b, 0, 1));
}

const OpDef def_max_pool2d = { .infer = pool_infer, .expand = max_pool2d_expand,
			       .vjp = max_pool2d_vjp, .along = image_along,
			       .sample = max_pool2d_sample };

static void avg_pool2d_expand(Builder *b, const Node *n, Val *out)
{
	Window w = bound_pool(b, n);
	Val x = padded(b, widened(b, n->in[0]), &w, 0), total = { 0 };
	for (i64 i = 0; i < w.size[0]; i++) {
		for (i64 j = 0; j < w.size[1]; j++) {
			Val s = seen_at(b, x, &w, i, j);
			total = total.i ? B(b, add, total, s) : s;
		}
	}
	Val count = make_full_like(b, total, (f64)(w.size[0] * w.size[1]));
	out[0] = make_cast(b, B(b, div, total, count), val_type(b->g, n->in[0])->dtype);
}

static Val avg_pool2d_sample(Random *r, Builder *b)
{
	return BA(b, avg_pool2d, (sample_image(r, b)), .size = random_pair(r, b, 2, 3),
		  .stride = random_pair(r, b, 1, 2), .padding = random_pair(r, b, 0, 1));
}

const OpDef def_avg_pool2d = { .infer = pool_infer, .expand = avg_pool2d_expand,
			       .along = image_along, .sample = avg_pool2d_sample };

/* ---- upsample2d ---- */

static bool upsample2d_infer(InferCx *cx)
{
	i64 factor = ((const upsample2d_attr *)cx->attr)->factor;
	if (!need_rank(cx, 0, "x", 4))
		return false;
	if (factor < 1)
		return infer_fail(cx, "upsample2d: the factor must be at least 1, not %lld",
				  (long long)factor);
	const Type *x = infer_type(cx, 0);
	const Axis *ax = infer_axis(cx, 0);
	Dim f = dim_number(cx->ir, factor);
	Axis axis[4] = { ax[0], ax[1] };
	if (factor == 1)
		axis[2] = ax[2], axis[3] = ax[3];
	return result_is(cx, 0, x->dtype, 4,
			 (Dim[]){ x->dim[0], x->dim[1], dim_mul(cx->ir, x->dim[2], f),
				  dim_mul(cx->ir, x->dim[3], f) },
			 axis);
}

static void upsample2d_expand(Builder *b, const Node *n, Val *out)
{
	const Type *x = val_type(b->g, n->in[0]);
	Ir *ir = b->g->ir;
	Dim f = dim_number(ir, ATTR(n, upsample2d)->factor);
	Dim shape[4] = { x->dim[0], x->dim[1], dim_mul(ir, x->dim[2], f),
			 dim_mul(ir, x->dim[3], f) };
	Dim spread[6] = { x->dim[0], x->dim[1], x->dim[2], f, x->dim[3], f };
	Val v = BA(b, broadcast, (n->in[0]), .shape = { 6, spread },
		   .dims = { 4, (i64[]){ 0, 1, 2, 4 } });
	out[0] = BA(b, reshape, (v), .shape = { 4, shape });
}

static Val upsample2d_sample(Random *r, Builder *b)
{
	return BA(b, upsample2d, (sample_image(r, b)), .factor = random_int(r, 1, 3));
}

const OpDef def_upsample2d = { .infer = upsample2d_infer, .expand = upsample2d_expand,
			       .along = image_along, .sample = upsample2d_sample };
