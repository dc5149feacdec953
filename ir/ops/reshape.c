/* ir/ops/reshape.c: the same elements in row-major order under another shape. Two reshapes fold to one.
 *
 * Axis classes are regrouped: sizes are walked on both sides, and where a dimension becomes several,
 * its class becomes their product; where several become one, that one has their product as its class.
 * A product has one class, however often it is made, so that what is split and merged again is the
 * axis that it was. */
#include "ir/ops/help.h"
#include "ir/sample.h"

static bool is_one(Dim d)
{
	i64 n;
	return dim_is_number(d, &n) && n == 1;
}

/* Two lists of sizes with one product, walked together: each step finds the shortest runs x0..x1 and
 * y0..y1 of equal product. Sizes of 1 on one side alone are passed over. */
typedef struct Regroup {
	Ir *ir;
	const Dim *x, *y;
	u32 nx, ny, x0, x1, y0, y1;
} Regroup;

/* Is the run on the left the one to lengthen? */
static bool left_is_shorter(Ir *ir, Dim p, Dim q)
{
	i64 a, b;
	if (dim_is_number(p, &a) && dim_is_number(q, &b))
		return a < b;
	return !dim_div(ir, p, q);
}

static bool next_group(Regroup *w)
{
	w->x0 = w->x1;
	w->y0 = w->y1;
	for (;;) {
		bool x_one = w->x0 < w->nx && is_one(w->x[w->x0]);
		bool y_one = w->y0 < w->ny && is_one(w->y[w->y0]);
		if (x_one == y_one)
			break;
		w->x0 += x_one;
		w->y0 += y_one;
	}
	w->x1 = w->x0;
	w->y1 = w->y0;
	if (w->x0 == w->nx || w->y0 == w->ny)
		return false;
	Dim p = w->x[w->x1++], q = w->y[w->y1++];
	while (p != q) {
		bool left = w->y1 == w->ny || (w->x1 < w->nx && left_is_shorter(w->ir, p, q));
		if (left ? w->x1 == w->nx : w->y1 == w->ny)
			return false;
		if (left)
			p = dim_mul(w->ir, p, w->x[w->x1++]);
		else
			q = dim_mul(w->ir, q, w->y[w->y1++]);
	}
	return true;
}

/* One class is spread over several dimensions: it becomes their product. */
static void split_class(Ir *ir, Axis whole, const Dim *dim, Axis *out, u32 n)
{
	Axis part[MAX_RANK];
	u32 nparts = 0;
	for (u32 d = 0; d < n; d++)
		if (!is_one(dim[d]))
			part[nparts++] = out[d] = axis_new(ir, NULL, dim[d], ir->axis.v[whole.id].loc);
	if (nparts > 1)
		axis_set_factors(ir, whole, part, nparts);
}

/* A group of dimensions regroups: the leaves of the classes are dealt to the new dimensions. */
static void deal_leaves(Ir *ir, const Dim *in, const Axis *class, u32 nin, const Dim *out,
			Axis *to, u32 nout)
{
	Axis leaf[64];
	Dim size[64];
	u32 n = 0;
	for (u32 i = 0; i < nin; i++) {
		if (!class[i].id) {
			if (is_one(in[i]))
				continue;
			leaf[n] = (Axis){ 0 };
			size[n++] = in[i];
			continue;
		}
		u32 first = n;
		n += axis_leaves(ir, class[i], leaf + n, (u32)COUNT(leaf) - 1 - n);
		for (u32 k = first; k < n; k++)
			size[k] = ir->axis.v[leaf[k].id].size;
	}
	for (Regroup w = { .ir = ir, .x = size, .nx = n, .y = out, .ny = nout }; next_group(&w);) {
		u32 nx = w.x1 - w.x0, ny = w.y1 - w.y0;
		if (ny == 1)
			to[w.y0] = axis_product(ir, leaf + w.x0, nx);
		else if (nx == 1 && leaf[w.x0].id)
			split_class(ir, leaf[w.x0], out + w.y0, to + w.y0, ny);
	}
}

/* [D] to [three, H, K] gives each of them a factor of D's class (which becomes a product if it was
 * none); [B, T] to [N] gives N the class (B T); a dimension that stays keeps its class. */
static void reshape_axes(Ir *ir, const Type *in, const Axis *class, const Type *out, Axis *to)
{
	Regroup w = { .ir = ir, .x = in->dim, .nx = in->rank, .y = out->dim, .ny = out->rank };
	while (next_group(&w)) {
		u32 nx = w.x1 - w.x0, ny = w.y1 - w.y0;
		if (nx == 1 && ny == 1)
			to[w.y0] = class[w.x0];
		else
			deal_leaves(ir, in->dim + w.x0, class + w.x0, nx, out->dim + w.y0, to + w.y0, ny);
	}
}

static bool reshape_infer(InferCx *cx)
{
	const reshape_attr *a = cx->attr;
	const Type *t = infer_type(cx, 0);
	if (a->shape.n > MAX_RANK)
		return infer_fail(cx, "reshape: %u dimensions, and %d is the most", a->shape.n, MAX_RANK);
	const Type *out = type_make(cx->ir, t->dtype, a->shape.n, a->shape.v);
	if (type_count(cx->ir, t) != type_count(cx->ir, out))
		return infer_fail(cx, "reshape: %s and %s have different numbers of elements",
				  infer_text(cx, 0), infer_dims_text(cx, a->shape.n, a->shape.v));
	infer_result(cx, 0, out);
	reshape_axes(cx->ir, t, infer_axis(cx, 0), out, cx->axis[0]);
	return true;
}

static Val reshape_fold(Builder *b, const Node *n)
{
	const Type *t = val_type(b->g, n->in[0]);
	dims shape = ATTR(n, reshape)->shape;
	if (type_make(b->g->ir, t->dtype, shape.n, shape.v) == t)
		return n->in[0];
	const Node *inner = made_by(b->g, n->in[0], OP_reshape);
	if (inner)
		return BA(b, reshape, (inner->in[0]), .shape = shape);
	return reshaped_full(b, n->in[0], shape);
}

static void reshape_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const Type *t = val_type(b->g, n->in[0]);
	din[0] = BA(b, reshape, (dout[0]), .shape = { t->rank, t->dim });
}

static void reshape_eval(EvalCx *cx)
{
	for (i64 i = 0; i < cx->out[0].n; i++)
		cx->out[0].data[i] = cx->in[0]->data[i];
}

/* A dimension that stays is pointwise; one that is made of others, or a part, mixes. */
static Along reshape_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)in;
	const Type *x = val_type(g, n->in[0]), *y = val_type(g, n->out);
	Regroup w = { .ir = g->ir, .x = x->dim, .nx = x->rank, .y = y->dim, .ny = y->rank };
	while (next_group(&w))
		if (d >= w.y0 && d < w.y1)
			return w.x1 - w.x0 == 1 && w.y1 - w.y0 == 1 ? ALONG_POINTWISE : ALONG_MIXING;
	return is_one(y->dim[d]) ? ALONG_NOT_THERE : ALONG_MIXING;
}

/* Labels are the pieces that the cuts of both shapes leave: [B, (H K)] to [B, H, K] has B, H and K; where cuts do
 * not divide one another ([4, 6] to [6, 4]), what lies before. */
static void reshape_shard(ShardRule *r)
{
	const Type *t[2] = { val_type(r->g, r->n->in[0]), val_type(r->g, r->n->out) };
	u32 at[2] = { 0, 0 };
	i64 left[2] = { 1, 1 }, outer[2] = { 1, 1 }; /* of the dimension at hand: elements not dealt yet, and dealt */
	for (;;) {
		for (u32 k = 0; k < 2; k++)
			while (left[k] == 1) {
				if (at[k] == t[k]->rank)
					goto done;
				left[k] = type_extent(t[k], at[k]++);
				outer[k] = 1;
			}
		i64 piece = MIN(left[0], left[1]);
		if (piece == 0 || left[0] % piece || left[1] % piece)
			break;
		u32 l = shard_label(r, piece);
		for (u32 k = 0; k < 2; k++) {
			shard_at(r, l, k, at[k] - 1, outer[k]);
			outer[k] *= piece;
			left[k] /= piece;
		}
	}
done:
	shard_linear(r, 1);
}

static Val reshape_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK], to[MAX_RANK];
	u32 rank = random_shape(r, b, 0, 4, dim), n = 0;
	for (u32 d = 0; d < rank; d++) {
		if (n && random_chance(r, 0.4))
			to[n - 1] = dim_mul(b->g->ir, to[n - 1], dim[d]);
		else
			to[n++] = dim[d];
		if (random_chance(r, 0.2))
			to[n++] = dim_number(b->g->ir, 1);
	}
	Val x = random_chance(r, 0.5) ? sample_real(r, b, DT_f32, rank, dim)
				      : sample_real(r, b, DT_f64, n, to);
	bool forward = val_type(b->g, x)->dtype == DT_f32;
	return BA(b, reshape, (x), .shape = { forward ? n : rank, forward ? to : dim });
}

const OpDef def_reshape = { .shard = reshape_shard, .infer = reshape_infer, .fold = reshape_fold, .vjp = reshape_vjp,
			    .cost = cost_movement,  .eval = reshape_eval, .along = reshape_along,
			    .sample = reshape_sample };
