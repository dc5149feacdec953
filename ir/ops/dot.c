/* ir/ops/dot.c: contractions: dot, by einsum labels, and its grouped form for mixtures of experts
 * (Gale et al. 2023, MegaBlocks) with the gradient of its weights. Operands are of one float type, or
 * of narrow ones of which one is of 8 bits, whose values are all values of the others; they accumulate in f32, and f64
 * for f64, and that is the result's type. */
#include "ir/dot.h"
#include "ir/ops/help.h"
#include "ir/sample.h"

#include <string.h>

/* ---- specs ---- */

const char *dot_spec_read(const char *spec, DotSpec *out)
{
	*out = (DotSpec){ 0 };
	memset(out->at, -1, sizeof out->at);
	u32 side = 0;
	for (const char *p = spec; *p; p++) {
		if (*p == ',' && side == 0) {
			side = 1;
			continue;
		}
		if (p[0] == '-' && p[1] == '>' && side == 1) {
			side = 2;
			p++;
			continue;
		}
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')))
			return "a spec is letters, as in \"bik,bkj->bij\"";
		if (out->rank[side] == MAX_RANK)
			return "a spec names more dimensions than a tensor may have";
		u32 l = 0;
		while (l < out->nlabel && out->label[l] != *p)
			l++;
		if (l == out->nlabel) {
			if (side == 2)
				return "a label of the result is in neither operand";
			out->label[out->nlabel++] = *p;
		}
		if (out->at[l][side] >= 0)
			return "a label is named twice in one operand";
		out->at[l][side] = (i8)out->rank[side];
		out->index[side][out->rank[side]++] = (u8)l;
	}
	if (side != 2)
		return "a spec is of two operands and a result, as in \"bik,bkj->bij\"";
	for (u32 l = 0; l < out->nlabel; l++)
		if ((out->at[l][0] < 0 || out->at[l][1] < 0) && out->at[l][2] < 0)
			return "a label is in one operand alone";
	return NULL;
}

DotPart dot_part(const DotSpec *s, u32 label)
{
	const i8 *at = s->at[label];
	return at[2] < 0 ? DOT_INNER : at[0] < 0 ? DOT_RIGHT : at[1] < 0 ? DOT_LEFT : DOT_BATCH;
}

i64 dot_part_extent(const Type *t, const DotSpec *s, u32 side, DotPart part)
{
	i64 all = 1, n;
	for (u32 d = 0; d < t->rank; d++)
		if (dot_part(s, s->index[side][d]) == part)
			all *= dim_is_number(t->dim[d], &n) ? n : 1;
	return all;
}

void dot_spec_permute(const DotSpec *s, u32 a, u32 b, u32 result, char *text)
{
	const u32 side[3] = { a, b, result };
	for (u32 k = 0; k < 3; k++) {
		if (k)
			text = stpcpy(text, k == 1 ? "," : "->");
		for (u32 d = 0; d < s->rank[side[k]]; d++)
			*text++ = s->label[s->index[side[k]][d]];
	}
	*text = 0;
}

/* ---- dot ---- */

DType product_dtype(DType a, DType b)
{
	if (dtype_is_f8(a) && dtype_is_f8(b))
		return DT_bf16;
	if (dtype_is_f8(a) || dtype_is_f8(b))
		a = b = dtype_is_f8(a) ? b : a;
	return a == b ? a : DT_f32;
}

bool products_in_f8(DType a, DType b)
{
	return dtype_is_f8(a) && dtype_is_f8(b) && !(a == DT_f8e5m2 && b == DT_f8e5m2);
}

bool product_sizes_f8(i64 m, i64 n, i64 k)
{
	enum { MULTIPLE = 16 };
	return m % MULTIPLE == 0 && n % MULTIPLE == 0 && k % MULTIPLE == 0;
}

static DType accumulator(DType d)
{
	return d == DT_f64 ? DT_f64 : DT_f32;
}

static bool one_float_type(InferCx *cx)
{
	if (!infer_is_float(cx, 0) || !infer_is_float(cx, 1))
		return false;
	DType a = infer_type(cx, 0)->dtype, b = infer_type(cx, 1)->dtype;
	bool beside = dtype_is_narrow_float(a) && dtype_is_narrow_float(b) && (dtype_is_f8(a) || dtype_is_f8(b));
	if (a != b && !beside)
		return infer_fail(cx, "%s: the element types of %s and %s differ", op_info[cx->op].name,
				  infer_text(cx, 0), infer_text(cx, 1));
	return true;
}

static bool dot_infer(InferCx *cx)
{
	const char *spec = ((const dot_attr *)cx->attr)->spec;
	DotSpec s;
	const char *wrong = spec ? dot_spec_read(spec, &s) : "it needs a spec";
	if (wrong)
		return infer_fail(cx, "dot \"%s\": %s", spec ? spec : "", wrong);
	if (!one_float_type(cx))
		return false;
	Dim size[2 * MAX_RANK] = { 0 }, dim[MAX_RANK];
	Axis class[2 * MAX_RANK] = { { 0 } };
	for (u32 i = 0; i < 2; i++) {
		const Type *t = infer_type(cx, i);
		if (t->rank != s.rank[i])
			return infer_fail(cx, "dot \"%s\" names %u dimensions of %s", spec, s.rank[i],
					  infer_text(cx, i));
		for (u32 d = 0; d < t->rank; d++) {
			u32 l = s.index[i][d];
			if (size[l] && size[l] != t->dim[d])
				return infer_fail(cx, "dot \"%s\": %s and %s differ in size along '%c'",
						  spec, infer_text(cx, 0), infer_text(cx, 1), s.label[l]);
			size[l] = t->dim[d];
			if (!class[l].id)
				class[l] = infer_axis(cx, i)[d];
		}
	}
	for (u32 d = 0; d < s.rank[2]; d++) {
		dim[d] = size[s.index[2][d]];
		cx->axis[0][d] = class[s.index[2][d]];
	}
	DType out = accumulator(infer_type(cx, 0)->dtype);
	infer_result(cx, 0, type_make(cx->ir, out, s.rank[2], dim));
	return true;
}

/* Each operand's gradient is a dot of the result's gradient, rounded as the operands are multiplied, and
 * the other operand; both in the type they accumulate in. */
static void dot_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	DotSpec s;
	char text[DOT_SPEC_MAX];
	dot_spec_read(ATTR(n, dot)->spec, &s);
	Val dy = make_cast(b, dout[0], product_dtype(val_type(b->g, n->in[0])->dtype, val_type(b->g, n->in[1])->dtype));
	dot_spec_permute(&s, 2, 1, 0, text);
	din[0] = BA(b, dot, (dy, n->in[1]), .spec = intern_z(&b->g->ir->names, text));
	dot_spec_permute(&s, 0, 2, 1, text);
	din[1] = BA(b, dot, (n->in[0], dy), .spec = intern_z(&b->g->ir->names, text));
}

static Cost dot_cost(const Graph *g, const Node *n)
{
	DotSpec s;
	f64 flops = 2;
	dot_spec_read(ATTR(n, dot)->spec, &s);
	for (u32 l = 0; l < s.nlabel; l++) {
		u32 side = s.at[l][0] < 0;
		flops *= (f64)type_extent(val_type(g, n->in[side]), (u32)s.at[l][side]);
	}
	return (Cost){ flops, node_bytes(g, n) };
}

/* One side's elements in the order batch, rows, columns. `part` lists the labels so ordered. */
static f64 *packed(EvalCx *cx, const Tensor *t, const DotSpec *s, u32 side, const u32 *part, u32 n)
{
	i64 from[MAX_RANK], stride[MAX_RANK];
	Tensor view = { .dtype = t->dtype, .rank = n, .n = t->n };
	tensor_strides(t, from);
	for (u32 k = 0; k < n; k++) {
		i8 d = s->at[part[k]][side];
		view.dim[k] = t->dim[d];
		stride[k] = from[d];
	}
	view.data = NEWN(cx->arena, f64, t->n);
	copy_strided(&view, t->data, 0, stride);
	return view.data;
}

/* Appends the labels of one part in label order; multiplies their extents. */
static i64 list_part(EvalCx *cx, const DotSpec *s, DotPart part, u32 *list, u32 *n)
{
	i64 size = 1;
	for (u32 l = 0; l < s->nlabel; l++) {
		if (dot_part(s, l) != part)
			continue;
		u32 side = s->at[l][0] < 0;
		list[(*n)++] = l;
		size *= cx->in[side]->dim[s->at[l][side]];
	}
	return size;
}

/* c[m, n] += a[m, k] b[k, n] */
static void multiply(f64 *c, const f64 *a, const f64 *b, i64 m, i64 k, i64 n)
{
	for (i64 i = 0; i < m; i++)
		for (i64 l = 0; l < k; l++) {
			f64 x = a[i * k + l];
			const f64 *restrict row = b + l * n;
			f64 *restrict to = c + i * n;
			for (i64 j = 0; j < n; j++)
				to[j] += x * row[j];
		}
}

static void dot_eval(EvalCx *cx)
{
	DotSpec s;
	u32 list[3][2 * MAX_RANK] = { 0 }, n[3] = { 0 };
	dot_spec_read(ATTR(cx->node, dot)->spec, &s);
	i64 batch = list_part(cx, &s, DOT_BATCH, list[0], &n[0]);
	list_part(cx, &s, DOT_BATCH, list[1], &n[1]);
	list_part(cx, &s, DOT_BATCH, list[2], &n[2]);
	i64 rows = list_part(cx, &s, DOT_LEFT, list[0], &n[0]);
	i64 inner = list_part(cx, &s, DOT_INNER, list[0], &n[0]);
	list_part(cx, &s, DOT_INNER, list[1], &n[1]);
	i64 columns = list_part(cx, &s, DOT_RIGHT, list[1], &n[1]);
	list_part(cx, &s, DOT_LEFT, list[2], &n[2]);
	list_part(cx, &s, DOT_RIGHT, list[2], &n[2]);
	const f64 *a = packed(cx, cx->in[0], &s, 0, list[0], n[0]);
	const f64 *b = packed(cx, cx->in[1], &s, 1, list[1], n[1]);
	f64 *c = NEWN(cx->arena, f64, cx->out[0].n);
	for (i64 i = 0; i < batch; i++)
		multiply(c + i * rows * columns, a + i * rows * inner, b + i * inner * columns, rows,
			 inner, columns);
	/* c is in the order of list[2]; the result's own order is read from it by strides */
	i64 stride[MAX_RANK], step = 1;
	for (u32 k = n[2]; k-- > 0;) {
		u32 l = list[2][k], d = (u32)s.at[l][2];
		stride[d] = step;
		step *= cx->out[0].dim[d];
	}
	copy_strided(&cx->out[0], c, 0, stride);
}

static Along dot_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g;
	DotSpec s;
	dot_spec_read(ATTR(n, dot)->spec, &s);
	return s.at[s.index[2][d]][in] < 0 ? ALONG_NOT_THERE : ALONG_POINTWISE;
}

static void shuffle(Random *r, char *text)
{
	for (i64 i = (i64)strlen(text) - 1; i > 0; i--) {
		i64 k = random_int(r, 0, i);
		char c = text[i];
		text[i] = text[k];
		text[k] = c;
	}
}

static Val dot_sample(Random *r, Builder *b)
{
	char side[3][MAX_RANK] = { "" }, text[DOT_SPEC_MAX];
	Dim size[128], dim[MAX_RANK];
	u32 nlabel = (u32)random_int(r, 0, 5);
	for (u32 l = 0; l < nlabel; l++) {
		char label[2] = { (char)('a' + l), 0 };
		u32 part = (u32)random_int(r, 0, 3);
		size[(u32)label[0]] = random_extent(r, b);
		if (part != DOT_RIGHT)
			strcat(side[0], label);
		if (part != DOT_LEFT)
			strcat(side[1], label);
		if (part != DOT_INNER)
			strcat(side[2], label);
	}
	Val in[2];
	DType d = random_float(r);
	for (u32 i = 0; i < 3; i++)
		shuffle(r, side[i]);
	for (u32 i = 0; i < 2; i++) {
		u32 rank = (u32)strlen(side[i]);
		for (u32 k = 0; k < rank; k++)
			dim[k] = size[(u32)side[i][k]];
		in[i] = sample_real(r, b, d, rank, dim);
	}
	snprintf(text, sizeof text, "%s,%s->%s", side[0], side[1], side[2]);
	return BA(b, dot, (in[0], in[1]), .spec = intern_z(&b->g->ir->names, text));
}

/* The spec's letters are the labels. */
static void dot_shard(ShardRule *r)
{
	DotSpec s;
	dot_spec_read(ATTR(r->n, dot)->spec, &s);
	for (u32 l = 0; l < s.nlabel; l++) {
		u32 side = s.at[l][0] < 0;
		shard_label(r, type_extent(val_type(r->g, r->n->in[side]), (u32)s.at[l][side]));
		for (u32 k = 0; k < 3; k++)
			if (s.at[l][k] >= 0)
				shard_at(r, l, k, (u32)s.at[l][k], 1);
		if (s.at[l][2] < 0)
			r->label.v[l].reduce = SHARD_SUM;
	}
	shard_linear(r, 1);
	shard_linear(r, 2);
}

const OpDef def_dot = { .shard = dot_shard, .infer = dot_infer, .vjp = dot_vjp,	.cost = dot_cost,
			.eval = dot_eval,   .along = dot_along, .sample = dot_sample };

/* ---- scaled_dot ---- */

/* The attributes begin as those of dot. */
_Static_assert(offsetof(scaled_dot_attr, spec) == offsetof(dot_attr, spec), "dot_infer reads the spec of both");

static bool scaled_dot_infer(InferCx *cx)
{
	const scaled_dot_attr *a = cx->attr;
	if (!(a->left == a->right && dtype_is_float(a->left)) && !(dtype_is_f8(a->left) && dtype_is_f8(a->right)))
		return infer_fail(cx, "scaled_dot rounds its operands to one float type, or to two of 8 bits");
	return dot_infer(cx);
}

/* The power of two that x is scaled by: a power, so that nothing but the cast rounds, and the same on every target. A tensor
 * of zeros has one too. */
static Val scale_of(Builder *b, Val x, DType to)
{
	const Type *t = val_type(b->g, x);
	i64 axes[MAX_RANK];
	for (u32 d = 0; d < t->rank; d++)
		axes[d] = d;
	Val most = B(b, abs, x);
	if (t->rank)
		most = BA(b, reduce_max, (most), .axes = { t->rank, axes });
	most = make_cast(b, most, accumulator(t->dtype));
	most = B(b, max, most, make_full_like(b, most, 0x1p-60));
	Val scale = B(b, binade, B(b, div, make_full_like(b, most, dtype_info[to].largest), most));
	return B(b, stop_gradient, scale);
}

/* The operand as it is multiplied; `scale`: of a type of 8 bits. */
static Val scaled(Builder *b, Val x, DType to, Val scale)
{
	if (!dtype_is_f8(to))
		return make_cast(b, x, to);
	const Type *t = val_type(b->g, x);
	x = make_cast(b, x, accumulator(t->dtype));
	return make_cast(b, B(b, mul, x, make_broadcast(b, scale, dims_of_type(b, t))), to);
}

static void scaled_dot_expand(Builder *b, const Node *n, Val *out)
{
	const scaled_dot_attr *a = ATTR(n, scaled_dot);
	bool f8 = dtype_is_f8(a->left);
	DType to[] = { a->left, a->right };
	Val scale[2] = { 0 }, back[2] = { 0 }, operand[2];
	for (u32 i = 0; i < 2 && f8; i++) {
		/* each reciprocal right behind its scale, so that who finds that has it at hand; and by itself: a parameter's waits for nothing but that */
		scale[i] = scale_of(b, n->in[i], to[i]);
		back[i] = B(b, recip, scale[i]);
	}
	for (u32 i = 0; i < 2; i++)
		operand[i] = scaled(b, n->in[i], to[i], scale[i]);
	Val x = operand[0], y = operand[1];
	out[0] = make_cast(b, BA(b, dot, (x, y), .spec = a->spec), accumulator(val_type(b->g, n->in[0])->dtype));
	for (u32 i = 0; i < 2 && f8; i++)
		out[0] = B(b, mul, out[0], make_broadcast(b, back[i], dims_of_type(b, val_type(b->g, out[0]))));
}

static void scaled_dot_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const scaled_dot_attr *a = ATTR(n, scaled_dot);
	DotSpec s;
	char text[DOT_SPEC_MAX];
	dot_spec_read(a->spec, &s);
	DType left = a->left, right = a->right, cotangent = dtype_is_f8(left) ? DT_f8e5m2 : left;
	Val dy = make_cast(b, dout[0], val_type(b->g, n->in[0])->dtype);
	dot_spec_permute(&s, 2, 1, 0, text);
	din[0] = BA(b, scaled_dot, (dy, n->in[1]), .spec = intern_z(&b->g->ir->names, text), .left = cotangent,
		    .right = right);
	dot_spec_permute(&s, 0, 2, 1, text);
	din[1] = BA(b, scaled_dot, (n->in[0], dy), .spec = intern_z(&b->g->ir->names, text), .left = left,
		    .right = cotangent);
}

/* Rounded to the type of the operands: more rounding has no derivative that differences would show. */
static Val scaled_dot_sample(Random *r, Builder *b)
{
	Val dot = dot_sample(r, b);
	Node n = *val_node(b->g, dot);
	DType d = val_type(b->g, n.in[0])->dtype;
	return BA(b, scaled_dot, (n.in[0], n.in[1]), .spec = ATTR(&n, dot)->spec, .left = d, .right = d);
}

const OpDef def_scaled_dot = { .infer = scaled_dot_infer, .expand = scaled_dot_expand, .vjp = scaled_dot_vjp,
			       .sample = scaled_dot_sample };

/* ---- grouped_dot, grouped_dot_weights ---- */

static bool check_offsets(InferCx *cx, Dim groups)
{
	const Type *t = infer_type(cx, 2);
	if (!infer_is_integer(cx, 2))
		return false;
	if (t->rank != 1 || t->dim[0] != dim_add(cx->ir, groups, dim_number(cx->ir, 1)))
		return infer_fail(cx, "%s: offsets must be one more than the groups of %s, not %s",
				  op_info[cx->op].name,
				  cx->op == OP_grouped_dot ? infer_text(cx, 1)
							   : infer_dims_text(cx, 1, &groups),
				  infer_text(cx, 2));
	return true;
}

static bool grouped_dot_infer(InferCx *cx)
{
	const Type *x = infer_type(cx, 0), *w = infer_type(cx, 1);
	if (!one_float_type(cx))
		return false;
	if (x->rank != 2 || w->rank != 3 || x->dim[1] != w->dim[1])
		return infer_fail(cx, "grouped_dot takes x[N, I] and w[G, I, O], not %s and %s",
				  infer_text(cx, 0), infer_text(cx, 1));
	if (!check_offsets(cx, w->dim[0]))
		return false;
	Dim dim[] = { x->dim[0], w->dim[2] };
	cx->axis[0][0] = infer_axis(cx, 0)[0];
	cx->axis[0][1] = infer_axis(cx, 1)[2];
	infer_result(cx, 0, type_make(cx->ir, accumulator(x->dtype), 2, dim));
	return true;
}

static void grouped_dot_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const Type *w = val_type(b->g, n->in[1]);
	Val dy = make_cast(b, dout[0], product_dtype(val_type(b->g, n->in[0])->dtype, w->dtype)), offsets = n->in[2];
	Val turned = BA(b, transpose, (n->in[1]), .perm = INTS(b, 0, 2, 1));
	din[0] = B(b, grouped_dot, dy, turned, offsets);
	din[1] = BA(b, grouped_dot_weights, (n->in[0], dy, offsets), .groups = { 1, w->dim });
}

/* The rows of each group, in order; those before the first offset and past the last are in none. */
static void group_rows(const Tensor *offsets, i64 g, i64 rows, i64 *from, i64 *to)
{
	*from = MAX(0, MIN(rows, (i64)offsets->data[g]));
	*to = MAX(*from, MIN(rows, (i64)offsets->data[g + 1]));
}

static void grouped_dot_eval(EvalCx *cx)
{
	const Tensor *x = cx->in[0], *w = cx->in[1];
	i64 inner = w->dim[1], columns = w->dim[2], from, to;
	for (i64 g = 0; g < w->dim[0]; g++) {
		group_rows(cx->in[2], g, x->dim[0], &from, &to);
		multiply(cx->out[0].data + from * columns, x->data + from * inner,
			 w->data + g * inner * columns, to - from, inner, columns);
	}
}

/* Every row is multiplied once. */
static Cost grouped_dot_cost(const Graph *g, const Node *n)
{
	return (Cost){ 2 * val_elements(g, n->in[0]) * (f64)type_extent(val_type(g, n->in[1]), 2),
		       node_bytes(g, n) };
}

static Along grouped_dot_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n;
	if (d == 0)
		return in == 0 ? ALONG_POINTWISE : in == 1 ? ALONG_NOT_THERE : ALONG_MIXING;
	return in == 1 ? ALONG_POINTWISE : ALONG_NOT_THERE;
}

typedef struct GroupedSample {
	DType dtype;
	Dim rows, inner, columns, groups;
} GroupedSample;

/* Offsets come after the operands that the caller makes, so that inputs stand in operand order. */
static GroupedSample grouped_dims(Random *r, Builder *b)
{
	return (GroupedSample){ .dtype = random_float(r),
				.rows = random_extent(r, b),
				.inner = random_extent(r, b),
				.columns = random_extent(r, b),
				.groups = random_extent(r, b) };
}

static Val grouped_offsets(Random *r, Builder *b, const GroupedSample *s)
{
	i64 rows;
	Dim n = dim_add(b->g->ir, s->groups, dim_number(b->g->ir, 1));
	if (!dim_is_number(s->rows, &rows))
		NEVER("a sample's extents are numbers");
	return sample_input(r, b, SAMPLE_SORTED, DT_i32, 1, &n, 0, (f64)rows);
}

static Val grouped_dot_sample(Random *r, Builder *b)
{
	GroupedSample s = grouped_dims(r, b);
	Val x = sample_real(r, b, s.dtype, 2, (const Dim[]){ s.rows, s.inner });
	Val w = sample_real(r, b, s.dtype, 3, (const Dim[]){ s.groups, s.inner, s.columns });
	return B(b, grouped_dot, x, w, grouped_offsets(r, b, &s));
}

/* Groups: who has some of them makes their rows, and zeros for the others. `tensor`: that with dimension 0 for each. */
static void label_groups(ShardRule *r, u32 tensor, const Type *t, ShardReduce reduce)
{
	u32 l = shard_label(r, type_extent(t, 0));
	r->label.v[l].fix = SHARD_GROUPS;
	r->label.v[l].reduce = reduce;
	shard_at(r, l, tensor, 0, 1);
}

/* Features in and out, and groups; which rows are whose is in the offsets. */
static void grouped_dot_shard(ShardRule *r)
{
	const Type *w = val_type(r->g, r->n->in[1]);
	u32 in = shard_label(r, type_extent(w, 1)), out = shard_label(r, type_extent(w, 2));
	shard_at(r, in, 0, 1, 1);
	shard_at(r, in, 1, 1, 1);
	r->label.v[in].reduce = SHARD_SUM;
	shard_at(r, out, 1, 2, 1);
	shard_at(r, out, 3, 1, 1);
	label_groups(r, 1, w, SHARD_SUM);
	shard_linear(r, 1);
	shard_linear(r, 2);
}

const OpDef def_grouped_dot = { .shard = grouped_dot_shard, .infer = grouped_dot_infer, .vjp = grouped_dot_vjp,
				.cost = grouped_dot_cost,   .eval = grouped_dot_eval,
				.along = grouped_dot_along, .sample = grouped_dot_sample };

static bool grouped_dot_weights_infer(InferCx *cx)
{
	const grouped_dot_weights_attr *a = cx->attr;
	const Type *x = infer_type(cx, 0), *dy = infer_type(cx, 1);
	if (!one_float_type(cx))
		return false;
	if (a->groups.n != 1)
		return infer_fail(cx, "grouped_dot_weights takes one number of groups, not %u", a->groups.n);
	if (x->rank != 2 || dy->rank != 2 || x->dim[0] != dy->dim[0])
		return infer_fail(cx, "grouped_dot_weights takes x[N, I] and dy[N, O], not %s and %s",
				  infer_text(cx, 0), infer_text(cx, 1));
	if (!check_offsets(cx, a->groups.v[0]))
		return false;
	Dim dim[] = { a->groups.v[0], x->dim[1], dy->dim[1] };
	cx->axis[0][1] = infer_axis(cx, 0)[1];
	cx->axis[0][2] = infer_axis(cx, 1)[1];
	infer_result(cx, 0, type_make(cx->ir, accumulator(x->dtype), 3, dim));
	return true;
}

static void grouped_dot_weights_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	DType d = product_dtype(val_type(b->g, n->in[0])->dtype, val_type(b->g, n->in[1])->dtype);
	Val dw = make_cast(b, dout[0], d), offsets = n->in[2];
	Val turned = BA(b, transpose, (dw), .perm = INTS(b, 0, 2, 1));
	din[0] = B(b, grouped_dot, n->in[1], turned, offsets);
	din[1] = B(b, grouped_dot, n->in[0], dw, offsets);
}

static void grouped_dot_weights_eval(EvalCx *cx)
{
	const Tensor *x = cx->in[0], *dy = cx->in[1];
	i64 rows = x->dim[1], columns = dy->dim[1], from, to;
	for (i64 g = 0; g < cx->out[0].dim[0]; g++) {
		group_rows(cx->in[2], g, x->dim[0], &from, &to);
		/* row by row: x^T dy as a sum of outer products */
		for (i64 i = from; i < to; i++)
			multiply(cx->out[0].data + g * rows * columns, x->data + i * rows,
				 dy->data + i * columns, rows, 1, columns);
	}
}

static Cost grouped_dot_weights_cost(const Graph *g, const Node *n)
{
	return (Cost){ 2 * val_elements(g, n->in[0]) * (f64)type_extent(val_type(g, n->in[1]), 1),
		       node_bytes(g, n) };
}

static Along grouped_dot_weights_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n;
	if (d == 0)
		return in == 2 ? ALONG_MIXING : ALONG_NOT_THERE;
	return in == d - 1 ? ALONG_POINTWISE : ALONG_NOT_THERE;
}

static Val grouped_dot_weights_sample(Random *r, Builder *b)
{
	GroupedSample s = grouped_dims(r, b);
	Val x = sample_real(r, b, s.dtype, 2, (const Dim[]){ s.rows, s.inner });
	Val dy = sample_real(r, b, s.dtype, 2, (const Dim[]){ s.rows, s.columns });
	return BA(b, grouped_dot_weights, (x, dy, grouped_offsets(r, b, &s)), .groups = { 1, &s.groups });
}

static void grouped_dot_weights_shard(ShardRule *r)
{
	const Type *out = val_type(r->g, r->n->out);
	for (u32 side = 0; side < 2; side++) {
		u32 l = shard_label(r, type_extent(out, side + 1));
		shard_at(r, l, side, 1, 1);
		shard_at(r, l, 3, side + 1, 1);
	}
	label_groups(r, 3, out, SHARD_NONE);
	shard_linear(r, 1);
	shard_linear(r, 2);
}

const OpDef def_grouped_dot_weights = { .shard = grouped_dot_weights_shard, .infer = grouped_dot_weights_infer,
					.vjp = grouped_dot_weights_vjp,
					.cost = grouped_dot_weights_cost,
					.eval = grouped_dot_weights_eval,
					.along = grouped_dot_weights_along,
					.sample = grouped_dot_weights_sample };
