/* frontend/builtin.c: the functions of the language that are not written in it. Each is a row of the
 * table below: name, parameters in order (those after '|' by name only), and what it does. Every op of
 * ir/ops.def that has no row here can be called by its own name, with its attributes by name: adding an op
 * to the table adds it to the language. */
#include "frontend/elaborator.h"

#include <math.h>
#include <string.h>

enum { MOST_ARGUMENTS = 10 };

/* A call's arguments by parameter; NULL where one was not given. */
typedef struct Call {
	Elaborator *e;
	Loc loc;
	const char *name;
	Datum *arg[MOST_ARGUMENTS];
	Loc at[MOST_ARGUMENTS];
	EntryList rest; /* positional ones beyond the parameters, of functions that take any number */
} Call;

typedef struct Builtin {
	const char *name, *parameters;
	Datum *(*call)(Call *c);
} Builtin;

/* ---- helpers ---- */

static Val tensor_arg(Call *c, u32 i)
{
	if (!c->arg[i]) {
		fail(c->e, E0206, c->loc, "%s: argument %u is missing", c->name, i + 1);
		return (Val){ 0 };
	}
	return as_tensor(c->e, c->arg[i], c->arg[i]->loc.line ? c->arg[i]->loc : c->loc, DTYPES);
}

/* As a float tensor: integers are cast to f32. */
static Val float_arg(Call *c, u32 i)
{
	Val v = tensor_arg(c, i);
	if (!v.i || dtype_is_float(val_type(c->e->g, v)->dtype))
		return v;
	c->e->b.loc = c->loc;
	return make_cast(&c->e->b, v, DT_f32);
}

static bool int_arg(Call *c, u32 i, i64 otherwise, i64 *out)
{
	*out = otherwise;
	return !c->arg[i] || want_integer(c->e, c->arg[i], c->loc, c->name, out);
}

static bool number_arg(Call *c, u32 i, f64 otherwise, f64 *out)
{
	*out = otherwise;
	return !c->arg[i] || want_number(c->e, c->arg[i], c->loc, c->name, out);
}

static bool bool_arg(Call *c, u32 i, bool otherwise, bool *out)
{
	*out = otherwise;
	return !c->arg[i] || want_bool(c->e, c->arg[i], c->loc, c->name, out);
}

static Datum *bad(Call *c)
{
	return datum_error(c->e);
}

static Datum *made(Call *c, Val v)
{
	return datum_tensor(c->e, v, c->loc);
}

/* Axes: one, or a list; all where it is not given. */
static bool axes_arg(Call *c, u32 i, Val v, ints *out)
{
	Elaborator *e = c->e;
	i64 axes[MAX_RANK];
	u32 n = 0, rank = val_type(e->g, v)->rank;
	if (!c->arg[i]) {
		for (; n < rank; n++)
			axes[n] = n;
	} else if (c->arg[i]->kind == DATUM_LIST) {
		for (u32 k = 0; k < c->arg[i]->list.n; k++)
			if (n == MAX_RANK || !axis_by(e, v, c->arg[i]->list.v[k].value, c->loc, &axes[n++]))
				return false;
	} else if (!axis_by(e, v, c->arg[i], c->loc, &axes[n++])) {
		return false;
	}
	for (u32 a = 1; a < n; a++) /* ascending */
		for (u32 b = a; b > 0 && axes[b - 1] > axes[b]; b--) {
			i64 t = axes[b];
			axes[b] = axes[b - 1];
			axes[b - 1] = t;
		}
	for (u32 a = 1; a < n; a++)
		if (axes[a] == axes[a - 1])
			return refuse(e, E0306, c->loc, "%s: axis %lld is given twice", c->name, (long long)axes[a]);
	*out = ints_of(&e->b, axes, n);
	return true;
}

static bool axis_arg(Call *c, u32 i, Val v, i64 otherwise, i64 *out)
{
	u32 rank = val_type(c->e->g, v)->rank;
	*out = otherwise < 0 ? otherwise + rank : otherwise;
	if (rank == 0)
		return refuse(c->e, E0306, c->loc, "%s: a scalar has no axis", c->name);
	return !c->arg[i] || axis_by(c->e, v, c->arg[i], c->loc, out);
}

/* A list of dimensions, with their axes. */
static bool shape_arg(Call *c, u32 i, dims *out, Axis *axis)
{
	Elaborator *e = c->e;
	Dim d[MAX_RANK];
	u32 n = 0;
	const Datum *list = c->arg[i];
	if (!list || list->kind != DATUM_LIST || list->list.n > MAX_RANK)
		return refuse(e, E0206, c->loc, "%s: the shape is a list of dimensions such as [B, T]", c->name);
	for (u32 k = 0; k < list->list.n; k++, n++) {
		d[n] = datum_to_dim(e, list->list.v[k].value, c->loc);
		if (!d[n])
			return false;
		axis[n] = list->list.v[k].value->axis;
	}
	*out = dims_of(&e->b, d, n);
	return true;
}

/* ---- reductions ---- */

static Datum *reduce(Call *c, Op op)
{
	Val v = op == OP_mean || op == OP_prod ? float_arg(c, 0) : tensor_arg(c, 0);
	bool keep;
	ints axes;
	if (!v.i || !axes_arg(c, 1, v, &axes) || !bool_arg(c, 2, false, &keep))
		return bad(c);
	c->e->b.loc = c->loc;
	if (op == OP_sum && val_type(c->e->g, v)->dtype == DT_b1)
		v = make_cast(&c->e->b, v, DT_i32);
	sum_attr a = { .axes = axes }; /* reductions share this form */
	Val r = node(c->e, c->loc, op, &v, 1, 0, &a);
	if (r.i && keep) {
		const Type *t = val_type(c->e->g, v);
		Dim d[MAX_RANK];
		for (u32 i = 0; i < t->rank; i++)
			d[i] = t->dim[i];
		for (u32 i = 0; i < axes.n; i++)
			d[axes.v[i]] = dim_number(c->e->ir, 1);
		r = BA(&c->e->b, reshape, (r), .shape = dims_of(&c->e->b, d, t->rank));
	}
	return made(c, r);
}

static Datum *b_sum(Call *c)
{
	return reduce(c, OP_sum);
}
static Datum *b_mean(Call *c)
{
	return reduce(c, OP_mean);
}
static Datum *b_prod(Call *c)
{
	return reduce(c, OP_prod);
}

static Datum *list_best(Call *c, bool largest, const EntryList *all)
{
	const Datum *best = NULL;
	for (u32 i = 0; i < all->n; i++) {
		f64 x;
		if (!want_number(c->e, all->v[i].value, c->loc, c->name, &x))
			return bad(c);
		if (!best || (largest ? x > best->number.value : x < best->number.value))
			best = all->v[i].value;
	}
	Datum *copy = datum_new(c->e, DATUM_NUMBER, c->loc);
	*copy = *best;
	return copy;
}

/* max(a, b, ...) by element; max(x, axis = A) over axes; of numbers, a number. */
static Datum *extreme(Call *c, bool largest)
{
	EntryList all = { 0 };
	if (c->arg[0])
		VEC_PUSH(c->e->arena, &all, (Entry){ NULL, c->arg[0] });
	for (u32 i = 0; i < c->rest.n; i++)
		VEC_PUSH(c->e->arena, &all, c->rest.v[i]);
	if (all.n == 1 && all.v[0].value->kind == DATUM_TENSOR)
		return reduce(c, largest ? OP_reduce_max : OP_reduce_min);
	if (all.n == 1 && all.v[0].value->kind == DATUM_LIST)
		all = all.v[0].value->list;
	if (!all.n)
		return fail(c->e, E0206, c->loc, "%s needs something to choose from", c->name);
	bool numbers = true;
	for (u32 i = 0; i < all.n; i++) {
		if (all.v[i].value->kind == DATUM_ERROR)
			return bad(c);
		numbers &= all.v[i].value->kind == DATUM_NUMBER;
	}
	if (numbers)
		return list_best(c, largest, &all);
	Datum *d = all.v[0].value;
	for (u32 i = 1; i < all.n; i++)
		d = tensor_elementwise(c->e, largest ? OP_max : OP_min, (Datum *[]){ d, all.v[i].value }, 2, c->loc);
	return d;
}

static Datum *b_max(Call *c)
{
	return extreme(c, true);
}
static Datum *b_min(Call *c)
{
	return extreme(c, false);
}

static Datum *b_clamp(Call *c)
{
	Datum *d = c->arg[0];
	if (!d || !c->arg[1] || !c->arg[2])
		return fail(c->e, E0206, c->loc, "clamp takes a value, the least and the most it may be");
	if (d->kind == DATUM_NUMBER && c->arg[1]->kind == DATUM_NUMBER && c->arg[2]->kind == DATUM_NUMBER)
		return datum_number(c->e, fmin(fmax(d->number.value, c->arg[1]->number.value), c->arg[2]->number.value),
				    c->loc);
	d = tensor_elementwise(c->e, OP_max, (Datum *[]){ d, c->arg[1] }, 2, c->loc);
	return tensor_elementwise(c->e, OP_min, (Datum *[]){ d, c->arg[2] }, 2, c->loc);
}

static Datum *along(Call *c, Op op)
{
	Val v = op == OP_argmax ? tensor_arg(c, 0) : float_arg(c, 0);
	i64 axis;
	if (!v.i || !axis_arg(c, 1, v, -1, &axis))
		return bad(c);
	softmax_attr a = { .axis = axis };
	return made(c, node(c->e, c->loc, op, &v, 1, 0, &a));
}

static Datum *b_softmax(Call *c)
{
	return along(c, OP_softmax);
}
static Datum *b_log_softmax(Call *c)
{
	return along(c, OP_log_softmax);
}
static Datum *b_logsumexp(Call *c)
{
	return along(c, OP_logsumexp);
}
static Datum *b_argmax(Call *c)
{
	return along(c, OP_argmax);
}

static Datum *b_cumsum(Call *c)
{
	Val v = tensor_arg(c, 0);
	cumsum_attr a = { 0 };
	if (!v.i || !axis_arg(c, 1, v, -1, &a.axis) || !bool_arg(c, 2, false, &a.reverse) ||
	    !bool_arg(c, 3, false, &a.exclusive))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_cumsum, &v, 1, 0, &a));
}

/* Several results: a list, to be taken apart by `a, b = ...`. */
static Datum *results(Call *c, Val first, u32 n)
{
	if (!first.i)
		return bad(c);
	Datum *d = datum_new(c->e, DATUM_LIST, c->loc);
	for (u32 i = 0; i < n; i++)
		VEC_PUSH(c->e->arena, &d->list, (Entry){ NULL, datum_tensor(c->e, (Val){ first.i + i }, c->loc) });
	return d;
}

static Datum *b_sort(Call *c)
{
	Val v = tensor_arg(c, 0);
	sort_attr a = { 0 };
	if (!v.i || !axis_arg(c, 1, v, -1, &a.axis) || !bool_arg(c, 2, false, &a.descending))
		return bad(c);
	return results(c, node(c->e, c->loc, OP_sort, &v, 1, 0, &a), 2);
}

static Datum *b_top_k(Call *c)
{
	Val v = float_arg(c, 0);
	top_k_attr a = { 0 };
	if (!v.i || !int_arg(c, 1, 1, &a.k))
		return bad(c);
	return results(c, node(c->e, c->loc, OP_top_k, &v, 1, 0, &a), 2);
}

/* ---- shapes ---- */

static Datum *b_concat(Call *c)
{
	EntryList all = { 0 };
	Elaborator *e = c->e;
	if (c->arg[0] && c->arg[0]->kind == DATUM_LIST)
		all = c->arg[0]->list;
	else if (c->arg[0])
		VEC_PUSH(e->arena, &all, (Entry){ NULL, c->arg[0] });
	for (u32 i = 0; i < c->rest.n; i++)
		VEC_PUSH(e->arena, &all, c->rest.v[i]);
	if (!all.n)
		return fail(e, E0206, c->loc, "concat needs at least one tensor");
	Val *v = NEWN(e->arena, Val, all.n);
	for (u32 i = 0; i < all.n; i++) {
		v[i] = as_tensor(e, all.v[i].value, c->loc, DTYPES);
		if (!v[i].i)
			return bad(c);
	}
	concat_attr a = { 0 };
	if (!axis_arg(c, 1, v[0], -1, &a.axis))
		return bad(c);
	for (u32 i = 1; i < all.n; i++) /* what is side by side is the same axis everywhere else */
		for (u32 d = 0; d < val_type(e->g, v[0])->rank && d < val_type(e->g, v[i])->rank; d++)
			if (d != a.axis)
				axis_unify(e->ir, val_axis(e->g, v[0])[d], val_axis(e->g, v[i])[d]);
	return made(c, node(e, c->loc, OP_concat, v, all.n, 0, &a));
}

/* split(x, n) into n equal parts, split(x, [sizes]) into those. */
static Datum *b_split(Call *c)
{
	Elaborator *e = c->e;
	Val v = tensor_arg(c, 0);
	split_attr a = { 0 };
	Dim size[256];
	u32 n = 0;
	if (!v.i || !axis_arg(c, 2, v, -1, &a.axis))
		return bad(c);
	Dim whole = val_type(e->g, v)->dim[a.axis];
	if (c->arg[1] && c->arg[1]->kind == DATUM_LIST) {
		for (; n < c->arg[1]->list.n && n < COUNT(size); n++)
			if (!(size[n] = datum_to_dim(e, c->arg[1]->list.v[n].value, c->loc)))
				return bad(c);
	} else {
		i64 parts;
		if (!c->arg[1] || !want_integer(e, c->arg[1], c->loc, "the number of parts", &parts))
			return bad(c);
		Dim part = parts > 0 && parts <= (i64)COUNT(size) ? dim_div(e->ir, whole, dim_number(e->ir, parts)) : NULL;
		i64 count;
		if (!part || (dim_is_number(whole, &count) && count % parts))
			return fail(e, E0305, c->loc, "split: %lld equal parts cannot be made of %s", (long long)parts,
				    dim_show(e, whole, val_axis(e->g, v)[a.axis]));
		for (; n < parts; n++)
			size[n] = part;
	}
	a.sizes = dims_of(&e->b, size, n);
	return results(c, node(e, c->loc, OP_split, &v, 1, 0, &a), n);
}

static Datum *b_pad(Call *c)
{
	Elaborator *e = c->e;
	Val v = tensor_arg(c, 0);
	i64 axis;
	pad_attr a = { 0 };
	if (!v.i || !axis_arg(c, 1, v, -1, &axis) || !number_arg(c, 4, 0, &a.value))
		return bad(c);
	Dim low[MAX_RANK], high[MAX_RANK];
	for (u32 d = 0; d < MAX_RANK; d++)
		low[d] = high[d] = dim_number(e->ir, 0);
	if ((c->arg[2] && !(low[axis] = datum_to_dim(e, c->arg[2], c->loc))) ||
	    (c->arg[3] && !(high[axis] = datum_to_dim(e, c->arg[3], c->loc))))
		return bad(c);
	u32 rank = val_type(e->g, v)->rank;
	a.low = dims_of(&e->b, low, rank);
	a.high = dims_of(&e->b, high, rank);
	return made(c, node(e, c->loc, OP_pad, &v, 1, 0, &a));
}

/* transpose(x): the last two; transpose(x, a, b): those two. */
static Datum *b_transpose(Call *c)
{
	Elaborator *e = c->e;
	Val v = tensor_arg(c, 0);
	i64 perm[MAX_RANK], x, y;
	if (!v.i)
		return bad(c);
	u32 rank = val_type(e->g, v)->rank;
	if (rank < 2)
		return fail(e, E0306, c->loc, "transpose needs two dimensions, and the shape is %s", shape_show(e, v));
	if (!axis_arg(c, 1, v, -2, &x) || !axis_arg(c, 2, v, -1, &y))
		return bad(c);
	for (u32 d = 0; d < rank; d++)
		perm[d] = d;
	perm[x] = y;
	perm[y] = x;
	transpose_attr a = { .perm = ints_of(&e->b, perm, rank) };
	return made(c, node(e, c->loc, OP_transpose, &v, 1, 0, &a));
}

static Datum *b_reshape(Call *c)
{
	Val v = tensor_arg(c, 0);
	reshape_attr a = { 0 };
	Axis axis[MAX_RANK];
	if (!v.i || !shape_arg(c, 1, &a.shape, axis))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_reshape, &v, 1, 0, &a));
}

static Datum *b_broadcast(Call *c)
{
	Val v = tensor_arg(c, 0);
	dims shape;
	Axis axis[MAX_RANK];
	if (!v.i || !shape_arg(c, 1, &shape, axis))
		return bad(c);
	c->e->b.loc = c->loc;
	Val r = broadcast_to(c->e, v, shape);
	if (!r.i)
		return fail(c->e, E0302, c->loc, "%s cannot be repeated to that shape", shape_show(c->e, v));
	return made(c, r);
}

static Datum *b_cast(Call *c)
{
	Val v = tensor_arg(c, 0);
	if (!v.i || !c->arg[1])
		return v.i ? fail(c->e, E0206, c->loc, "cast takes a tensor and an element type such as f32") : bad(c);
	if (c->arg[1]->kind != DATUM_DTYPE)
		return fail(c->e, E0206, c->loc, "an element type such as f32 or i32 is expected, and this is %s",
			    datum_show(c->e, c->arg[1]));
	c->e->b.loc = c->loc;
	return made(c, make_cast(&c->e->b, v, c->arg[1]->dtype));
}

static Datum *b_iota(Call *c)
{
	Elaborator *e = c->e;
	if (!c->arg[0])
		return fail(e, E0206, c->loc, "iota takes a dimension: iota(T) counts 0, 1, .. T - 1");
	Dim d = datum_to_dim(e, c->arg[0], c->loc);
	DType t = c->arg[1] && c->arg[1]->kind == DATUM_DTYPE ? c->arg[1]->dtype : DT_i32;
	if (!d)
		return bad(c);
	iota_attr a = { .axis = 0, .dtype = t, .shape = dims_of(&e->b, &d, 1) };
	Val v = node(e, c->loc, OP_iota, NULL, 0, 0, &a);
	Axis axis = c->arg[0]->axis;
	if (v.i && axis.id && !val_axis(e->g, v)[0].id)
		graph_set_axis(e->g, v, &axis);
	return made(c, v);
}

static Datum *b_size(Call *c)
{
	Val v = tensor_arg(c, 0);
	i64 axis;
	if (!v.i || !axis_arg(c, 1, v, 0, &axis))
		return bad(c);
	return datum_dim(c->e, val_type(c->e->g, v)->dim[axis], val_axis(c->e->g, v)[axis], c->loc);
}

static Datum *b_len(Call *c)
{
	if (!c->arg[0] || (c->arg[0]->kind != DATUM_LIST && c->arg[0]->kind != DATUM_ERROR))
		return fail(c->e, E0206, c->loc, "len takes a list; size(x, axis) gives a tensor's extent");
	return c->arg[0]->kind == DATUM_ERROR ? bad(c) : datum_integer(c->e, c->arg[0]->list.n, c->loc);
}

static Datum *b_int(Call *c)
{
	f64 x;
	if (!c->arg[0] || !number_arg(c, 0, 0, &x))
		return bad(c);
	if (!(fabs(x) < 9e18))
		return fail(c->e, E0403, c->loc, "%g is no whole number of 64 bits", x);
	return datum_integer(c->e, (i64)x, c->loc);
}

static Datum *b_float(Call *c)
{
	f64 x;
	return c->arg[0] && number_arg(c, 0, 0, &x) ? datum_number(c->e, x, c->loc) : bad(c);
}

/* ---- sources: zeros([B, T]); of an initial value, zeros alone ---- */

static Datum *filled(Call *c, f64 value, u32 shape_at)
{
	dims shape;
	Axis axis[MAX_RANK] = { { 0 } };
	DType t = DT_f32;
	if (c->e->init_type && !c->arg[shape_at]) {
		shape = dims_of_type(&c->e->b, c->e->init_type);
		t = c->e->init_type->dtype;
	} else if (!shape_arg(c, shape_at, &shape, axis)) {
		return bad(c);
	}
	Datum *dtype = c->arg[shape_at + 1];
	if (dtype && dtype->kind == DATUM_DTYPE)
		t = dtype->dtype;
	c->e->b.loc = c->loc;
	Val v = make_full(&c->e->b, value, t, shape);
	if (v.i && shape.n)
		graph_set_axis(c->e->g, v, axis);
	return made(c, v);
}

static Datum *b_zeros(Call *c)
{
	return filled(c, 0, 0);
}
static Datum *b_ones(Call *c)
{
	return filled(c, 1, 0);
}
static Datum *b_full(Call *c)
{
	f64 x;
	if (!number_arg(c, 0, 0, &x))
		return bad(c);
	return filled(c, x, 1);
}

/* A key for a random draw: the path, and which draw of it this is. */
static const char *draw_key(Elaborator *e)
{
	if (e->init_type)
		return e->init_key;
	const char *path = e->frame ? e->frame->path : "";
	const char *key = intern_printf(e->names, "random:%s", path);
	u64 *n = map_get(&e->draws, MAP_KEY(key));
	u64 count = n ? *n : 0;
	map_put(&e->draws, MAP_KEY(key), count + 1);
	return intern_printf(e->names, "%s#%llu", path, (unsigned long long)count);
}

static Datum *random_tensor(Call *c, Op op, f64 scale, f64 offset)
{
	Elaborator *e = c->e;
	dims shape;
	Axis axis[MAX_RANK] = { { 0 } };
	if (e->init_type && !c->arg[2])
		shape = dims_of_type(&e->b, e->init_type);
	else if (!shape_arg(c, 2, &shape, axis))
		return bad(c);
	Val in[2];
	random_state(e, &in[0], &in[1]);
	random_attr a = { .key = draw_key(e), .shape = shape }; /* random_normal shares this form */
	Val v = node(e, c->loc, op, in, 2, 0, &a);
	if (!v.i)
		return bad(c);
	if (shape.n)
		graph_set_axis(e->g, v, axis);
	Datum *d = datum_tensor(e, v, c->loc);
	if (scale != 1)
		d = tensor_binary(e, BINARY_MUL, d, datum_number(e, scale, c->loc), c->loc);
	if (offset != 0)
		d = tensor_binary(e, BINARY_ADD, d, datum_number(e, offset, c->loc), c->loc);
	return d;
}

static Datum *b_normal(Call *c)
{
	f64 std, mean;
	if (!number_arg(c, 0, 1, &std) || !number_arg(c, 1, 0, &mean))
		return bad(c);
	return random_tensor(c, OP_random_normal, std, mean);
}

static Datum *b_uniform(Call *c)
{
	f64 low, high;
	if (!number_arg(c, 0, 0, &low) || !number_arg(c, 1, 1, &high))
		return bad(c);
	return random_tensor(c, OP_random, high - low, low);
}

static Datum *b_dropout(Call *c)
{
	Elaborator *e = c->e;
	Val v = float_arg(c, 0);
	dropout_attr a = { 0 };
	if (!v.i || !number_arg(c, 1, 0, &a.rate))
		return bad(c);
	if (a.rate < 0 || a.rate >= 1)
		return fail(e, E0406, c->loc, "dropout: the rate must be at least 0 and below 1, not %g", a.rate);
	if (a.rate == 0 || !e->training)
		return made(c, v);
	Val in[3] = { v };
	random_state(e, &in[1], &in[2]);
	a.key = draw_key(e);
	return made(c, node(e, c->loc, OP_dropout, in, 3, 0, &a));
}

/* ---- layers ---- */

static Datum *b_gelu(Call *c)
{
	Val v = float_arg(c, 0);
	gelu_attr a = { 0 };
	if (!v.i)
		return bad(c);
	if (c->arg[1] && c->arg[1]->kind == DATUM_BOOL) {
		a.approximate = c->arg[1]->boolean;
	} else if (c->arg[1]) {
		const char *how = want_text(c->e, c->arg[1], c->loc, "gelu's approximate");
		if (!how)
			return bad(c);
		if (strcmp(how, "tanh") && strcmp(how, "none"))
			return fail(c->e, E0406, c->loc, "gelu: approximate is \"tanh\" or \"none\", not \"%s\"", how);
		a.approximate = !strcmp(how, "tanh");
	}
	return made(c, node(c->e, c->loc, OP_gelu, &v, 1, 0, &a));
}

static Datum *b_attention(Call *c)
{
	Elaborator *e = c->e;
	Val in[5];
	u32 n = 3;
	attention_attr a = { 0 };
	f64 scale;
	for (u32 i = 0; i < 3; i++)
		if (!(in[i] = float_arg(c, i)).i)
			return bad(c);
	const Type *q = val_type(e->g, in[0]);
	i64 width;
	if (q->rank && dim_is_number(q->dim[q->rank - 1], &width) && width > 0)
		scale = 1 / sqrt((f64)width);
	else
		scale = 1;
	if (!bool_arg(c, 3, false, &a.causal) || !int_arg(c, 6, 0, &a.window) || !number_arg(c, 7, scale, &a.scale))
		return bad(c);
	const Type *k = val_type(e->g, in[1]);
	for (u32 i = 4; i < 6; i++) {
		if (!c->arg[i] || c->arg[i]->kind == DATUM_NONE)
			continue;
		Val v = as_tensor(e, c->arg[i], c->loc, DTYPES);
		if (!v.i)
			return bad(c);
		if (i == 4 && val_type(e->g, v)->dtype != DT_b1)
			return fail(e, E0301, c->loc, "attention: the mask is boolean (true is seen), and this is %s",
				    datum_show(e, c->arg[i]));
		/* repeated to [.., H, T, S] */
		if (q->rank >= 3 && k->rank == q->rank) {
			Dim full[MAX_RANK];
			for (u32 d = 0; d + 1 < q->rank; d++)
				full[d] = q->dim[d];
			full[q->rank - 1] = k->dim[k->rank - 2];
			e->b.loc = c->loc;
			Val wide = broadcast_to(e, v, dims_of(&e->b, full, q->rank));
			if (!wide.i)
				return fail(e, E0302, c->loc, "attention: the %s %s does not fit queries %s and keys %s",
					    i == 4 ? "mask" : "bias", shape_show(e, v), shape_show(e, in[0]),
					    shape_show(e, in[1]));
			v = wide;
		}
		in[n++] = i == 5 ? make_cast(&e->b, v, DT_f32) : v;
		*(i == 4 ? &a.mask : &a.bias) = true;
	}
	if (k->rank == q->rank && q->rank >= 3) {
		const Axis *aq = val_axis(e->g, in[0]), *ak = val_axis(e->g, in[1]), *av = val_axis(e->g, in[2]);
		u32 r = q->rank;
		for (u32 d = 0; d + 3 < r; d++) {
			axis_unify(e->ir, aq[d], ak[d]);
			axis_unify(e->ir, aq[d], av[d]);
		}
		axis_unify(e->ir, aq[r - 1], ak[r - 1]);
		axis_unify(e->ir, ak[r - 3], av[r - 3]);
		axis_unify(e->ir, ak[r - 2], av[r - 2]);
	}
	return made(c, node(e, c->loc, OP_attention, in, n, 0, &a));
}

static Datum *b_cross_entropy(Call *c)
{
	Elaborator *e = c->e;
	Val in[2] = { float_arg(c, 0), tensor_arg(c, 1) };
	cross_entropy_attr a = { 0 };
	if (!in[0].i || !in[1].i || !int_arg(c, 2, -100, &a.ignore))
		return bad(c);
	Val v = node(e, c->loc, OP_cross_entropy, in, 2, 0, &a);
	if (!v.i)
		return bad(c);
	Datum *d = datum_new(e, DATUM_RECORD, c->loc);
	VEC_PUSH(e->arena, &d->list, (Entry){ intern_z(e->names, "sum"), datum_tensor(e, v, c->loc) });
	VEC_PUSH(e->arena, &d->list,
		 (Entry){ intern_z(e->names, "count"), datum_tensor(e, (Val){ v.i + 1 }, c->loc) });
	return d;
}

static Datum *b_where(Call *c)
{
	for (u32 i = 0; i < 3; i++)
		if (!c->arg[i])
			return fail(c->e, E0206, c->loc, "where takes a condition and two values: where(a < b, x, y)");
	if (c->arg[0]->kind == DATUM_BOOL)
		return c->arg[c->arg[0]->boolean ? 1 : 2];
	return tensor_elementwise(c->e, OP_where, (Datum *[]){ c->arg[0], c->arg[1], c->arg[2] }, 3, c->loc);
}

static Datum *b_scatter_add(Call *c)
{
	Elaborator *e = c->e;
	Val in[2] = { tensor_arg(c, 0), tensor_arg(c, 1) };
	if (!in[0].i || !in[1].i || !c->arg[2])
		return bad(c);
	Dim n = datum_to_dim(e, c->arg[2], c->loc);
	scatter_add_attr a = { 0 };
	if (!n || !int_arg(c, 3, 0, &a.axis))
		return bad(c);
	a.size = dims_of(&e->b, &n, 1);
	return made(c, node(e, c->loc, OP_scatter_add, in, 2, 0, &a));
}

/* Numbers or a pair: stride = 2 is [2, 2]. */
static bool pair_arg(Call *c, u32 i, i64 otherwise, ints *out)
{
	i64 v[2] = { otherwise, otherwise };
	if (c->arg[i] && c->arg[i]->kind == DATUM_LIST) {
		if (c->arg[i]->list.n != 2 ||
		    !want_integer(c->e, c->arg[i]->list.v[0].value, c->loc, c->name, &v[0]) ||
		    !want_integer(c->e, c->arg[i]->list.v[1].value, c->loc, c->name, &v[1]))
			return false;
	} else if (c->arg[i]) {
		if (!want_integer(c->e, c->arg[i], c->loc, c->name, &v[0]))
			return false;
		v[1] = v[0];
	}
	*out = ints_of(&c->e->b, v, 2);
	return true;
}

static Datum *b_conv2d(Call *c)
{
	Val in[2] = { float_arg(c, 0), float_arg(c, 1) };
	conv2d_attr a = { 0 };
	if (!in[0].i || !in[1].i || !pair_arg(c, 2, 1, &a.stride) || !pair_arg(c, 3, 0, &a.padding) ||
	    !pair_arg(c, 4, 1, &a.dilation) || !int_arg(c, 5, 1, &a.groups))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_conv2d, in, 2, 0, &a));
}

static Datum *pool(Call *c, Op op)
{
	Val v = float_arg(c, 0);
	max_pool2d_attr a = { 0 };
	if (!v.i || !pair_arg(c, 1, 2, &a.size) || !pair_arg(c, 3, 0, &a.padding))
		return bad(c);
	if (!c->arg[2])
		a.stride = a.size;
	else if (!pair_arg(c, 2, 1, &a.stride))
		return bad(c);
	return made(c, node(c->e, c->loc, op, &v, 1, 0, &a));
}

static Datum *b_max_pool2d(Call *c)
{
	return pool(c, OP_max_pool2d);
}
static Datum *b_avg_pool2d(Call *c)
{
	return pool(c, OP_avg_pool2d);
}

static Datum *b_rearrange(Call *c)
{
	return call_rearrange(c->e, &c->rest, c->loc);
}
static Datum *b_reduce(Call *c)
{
	return call_reduce(c->e, &c->rest, c->loc);
}
static Datum *b_einsum(Call *c)
{
	return call_einsum(c->e, &c->rest, c->loc);
}

/* ---- the table. '...' at the end: any number more; "*" alone: takes its arguments apart itself ---- */

static const Builtin builtins[] = {
	{ "sum", "x axis keep", b_sum },
	{ "mean", "x axis keep", b_mean },
	{ "prod", "x axis keep", b_prod },
	{ "max", "x | axis keep ...", b_max },
	{ "min", "x | axis keep ...", b_min },
	{ "clamp", "x low high", b_clamp },
	{ "softmax", "x axis", b_softmax },
	{ "log_softmax", "x axis", b_log_softmax },
	{ "logsumexp", "x axis", b_logsumexp },
	{ "argmax", "x axis", b_argmax },
	{ "cumsum", "x axis reverse exclusive", b_cumsum },
	{ "sort", "x axis descending", b_sort },
	{ "top_k", "x k", b_top_k },
	{ "concat", "x | axis ...", b_concat },
	{ "split", "x parts axis", b_split },
	{ "pad", "x axis low high value", b_pad },
	{ "transpose", "x a b", b_transpose },
	{ "reshape", "x shape", b_reshape },
	{ "broadcast", "x shape", b_broadcast },
	{ "cast", "x dtype", b_cast },
	{ "iota", "n dtype", b_iota },
	{ "size", "x axis", b_size },
	{ "len", "list", b_len },
	{ "int", "x", b_int },
	{ "float", "x", b_float },
	{ "zeros", "shape dtype", b_zeros },
	{ "ones", "shape dtype", b_ones },
	{ "full", "value shape dtype", b_full },
	{ "normal", "std mean shape", b_normal },
	{ "uniform", "low high shape", b_uniform },
	{ "dropout", "x rate", b_dropout },
	{ "gelu", "x approximate", b_gelu },
	{ "attention", "q k v causal mask bias window scale", b_attention },
	{ "cross_entropy", "logits targets ignore", b_cross_entropy },
	{ "where", "condition a b", b_where },
	{ "scatter_add", "x index n axis", b_scatter_add },
	{ "conv2d", "x weight stride padding dilation groups", b_conv2d },
	{ "max_pool2d", "x size stride padding", b_max_pool2d },
	{ "avg_pool2d", "x size stride padding", b_avg_pool2d },
	{ "rearrange", "*", b_rearrange },
	{ "reduce", "*", b_reduce },
	{ "einsum", "*", b_einsum },
};

/* Other names that people know for an op. */
static const struct {
	const char *name;
	Op op;
} synonyms[] = {
	{ "abs", OP_abs }, { "grouped_matmul", OP_grouped_dot }, { "logistic", OP_sigmoid },
	{ "rsqrt", OP_rsqrt }, { "upsample", OP_upsample2d },
};

/* Ops that people do not call by name. */
static bool callable_op(Op op)
{
	switch (op) {
	case OP_input:
	case OP_read:
	case OP_extent:
	case OP_random:
	case OP_slice:
	case OP_dot:
	case OP_global_norm: return false;
	default: return true;
	}
}

static Op op_of(const char *name)
{
	for (u32 i = 0; i < COUNT(synonyms); i++)
		if (!strcmp(synonyms[i].name, name))
			return synonyms[i].op;
	Op op = op_named(str_of(name));
	return op != OPS && callable_op(op) ? op : OPS;
}

static const Builtin *builtin_of(const char *name)
{
	for (u32 i = 0; i < COUNT(builtins); i++)
		if (!strcmp(builtins[i].name, name))
			return &builtins[i];
	return NULL;
}

bool is_builtin(const char *name)
{
	return builtin_of(name) || op_of(name) != OPS;
}

const char *nearest_builtin(const char *name)
{
	const char *all[COUNT(builtins) + OPS];
	u32 n = 0;
	for (u32 i = 0; i < COUNT(builtins); i++)
		all[n++] = builtins[i].name;
	for (u32 i = 0; i < OPS; i++)
		if (callable_op((Op)i))
			all[n++] = op_info[i].name;
	return nearest(name, all, n);
}

/* An op of the table: tensors in order, attributes by name. */
static bool set_attribute(Elaborator *e, const AttrField *f, u8 *to, Datum *d, Val first, Loc loc, const char *name)
{
	i64 n;
	switch (f->kind) {
	case ATTR_i64:
		if (!strcmp(f->name, "axis") && first.i)
			return axis_by(e, first, d, loc, (i64 *)to);
		if (!want_integer(e, d, loc, name, &n))
			return false;
		*(i64 *)to = n;
		return true;
	case ATTR_f64: return want_number(e, d, loc, name, (f64 *)to);
	case ATTR_bool: return want_bool(e, d, loc, name, (bool *)to);
	case ATTR_str: return (*(str *)to = want_text(e, d, loc, name)) != NULL;
	case ATTR_dtype:
		if (d->kind == DATUM_DTYPE)
			*(DType *)to = d->dtype;
		return d->kind == DATUM_DTYPE;
	case ATTR_ints:
	case ATTR_dims: {
		Dim dim[MAX_RANK];
		i64 v[MAX_RANK];
		u32 count = d->kind == DATUM_LIST ? d->list.n : 1;
		if (count > MAX_RANK)
			return false;
		for (u32 i = 0; i < count; i++) {
			const Datum *x = d->kind == DATUM_LIST ? d->list.v[i].value : d;
			if (f->kind == ATTR_dims ? !(dim[i] = datum_to_dim(e, x, loc)) :
						   !want_integer(e, x, loc, name, &v[i]))
				return false;
		}
		if (f->kind == ATTR_dims)
			*(dims *)to = dims_of(&e->b, dim, count);
		else
			*(ints *)to = ints_of(&e->b, v, count);
		return true;
	}
	}
	return false;
}

static Datum *call_op(Elaborator *e, Op op, const char *name, const EntryList *argument, Loc loc)
{
	const OpInfo *info = &op_info[op];
	u32 nfield, n = 0, npositional = 0;
	const AttrField *f = info->fields(&nfield);
	for (u32 i = 0; i < argument->n; i++)
		npositional += !argument->v[i].name;
	if (info->kind == EW) {
		Datum *in[3];
		for (u32 i = 0; i < argument->n; i++) {
			if (argument->v[i].name || n == 3)
				return fail(e, E0206, loc, "%s takes %u operands and nothing by name", name, info->nin);
			in[n++] = argument->v[i].value;
		}
		if (n != info->nin)
			return fail(e, E0206, loc, "%s takes %u operand%s, not %u", name, info->nin,
				    info->nin == 1 ? "" : "s", n);
		bool tensor = false;
		for (u32 i = 0; i < n; i++) {
			if (in[i]->kind == DATUM_ERROR)
				return in[i];
			tensor |= in[i]->kind != DATUM_NUMBER;
		}
		if (tensor)
			return tensor_elementwise(e, op, in, n, loc);
		f64 x[3] = { 0 };
		for (u32 i = 0; i < n; i++)
			x[i] = in[i]->number.value;
		f64 y = scalar_info[op].value(x[0], x[1], x[2]);
		bool whole = op == OP_floor || op == OP_ceil || op == OP_round ||
			     (op == OP_abs && in[0]->number.is_integer);
		return whole && fabs(y) < 9e15 ? datum_integer(e, (i64)y, loc) : datum_number(e, y, loc);
	}
	Val in[16];
	u32 want = info->nin == VARN ? COUNT(in) : info->nin;
	u8 *attr = arena_push(e->arena, 1, info->attr_size, 16);
	if (npositional > want || (info->nin != VARN && npositional < want))
		return fail(e, E0206, loc, "%s takes %u operand%s, not %u: %s", name, want, want == 1 ? "" : "s",
			    npositional, info->doc);
	for (u32 i = 0; i < argument->n; i++) {
		if (argument->v[i].name)
			continue;
		in[n] = as_tensor(e, argument->v[i].value, loc, DTYPES);
		if (!in[n++].i)
			return datum_error(e);
	}
	for (u32 i = 0; i < argument->n; i++) {
		const char *key = argument->v[i].name;
		u32 k = 0;
		if (!key)
			continue;
		while (k < nfield && strcmp(f[k].name, key))
			k++;
		if (k == nfield) {
			const char *all[16];
			for (u32 j = 0; j < nfield && j < 16; j++)
				all[j] = f[j].name;
			const char *near = nearest(key, all, MIN(nfield, 16u));
			return fail(e, E0206, loc, "%s has no argument '%s'%s%s%s", name, key, near ? "; did you mean '" : "",
				    near ? near : "", near ? "'?" : "");
		}
		if (argument->v[i].value->kind == DATUM_ERROR)
			return argument->v[i].value;
		if (!set_attribute(e, &f[k], attr + f[k].offset, argument->v[i].value, n ? in[0] : (Val){ 0 }, loc, name))
			return datum_error(e);
	}
	Val v = node(e, loc, op, in, n, 0, attr);
	if (!v.i)
		return datum_error(e);
	u32 nout = val_node(e->g, v)->nout;
	if (nout == 1)
		return datum_tensor(e, v, loc);
	Datum *d = datum_new(e, DATUM_LIST, loc);
	for (u32 i = 0; i < nout; i++)
		VEC_PUSH(e->arena, &d->list, (Entry){ NULL, datum_tensor(e, (Val){ v.i + i }, loc) });
	return d;
}

/* Sorts arguments to the parameters named in `b->parameters`. */
static bool bind(Call *c, const Builtin *b, const EntryList *argument)
{
	Elaborator *e = c->e;
	if (!strcmp(b->parameters, "*")) {
		c->rest = *argument;
		return true;
	}
	const char *name[MOST_ARGUMENTS];
	u32 n = 0, positional = NONE;
	bool more = false;
	for (const char *p = b->parameters; *p;) {
		const char *end = strchr(p, ' ');
		size_t len = end ? (size_t)(end - p) : strlen(p);
		if (len == 1 && *p == '|')
			positional = n;
		else if (len == 3 && !memcmp(p, "...", 3))
			more = true;
		else
			name[n++] = intern(e->names, (Str){ p, len });
		p += len + (end != NULL);
	}
	if (positional == NONE)
		positional = n;
	u32 at = 0;
	for (u32 i = 0; i < argument->n; i++) {
		const Entry *a = &argument->v[i];
		u32 k = 0;
		if (!a->name) {
			if (at < positional)
				c->arg[at++] = a->value;
			else if (more)
				VEC_PUSH(e->arena, &c->rest, *a);
			else
				return refuse(e, E0206, c->loc, "%s takes at most %u arguments without a name", b->name,
					    positional);
			continue;
		}
		while (k < n && name[k] != a->name)
			k++;
		if (k == n) {
			const char *near = nearest(a->name, name, n);
			return refuse(e, E0206, c->loc, "%s has no argument '%s'%s%s%s", b->name, a->name,
				    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
		}
		if (c->arg[k])
			return refuse(e, E0206, c->loc, "%s: '%s' is given twice", b->name, a->name);
		c->arg[k] = a->value;
	}
	for (u32 i = 0; i < n; i++)
		if (c->arg[i] && c->arg[i]->kind == DATUM_ERROR)
			return false;
	return true;
}

Datum *call_builtin(Elaborator *e, const char *name, const EntryList *argument, const Expr *call)
{
	const Builtin *b = builtin_of(name);
	for (u32 i = 0; i < argument->n; i++)
		if (argument->v[i].value->kind == DATUM_ERROR)
			return argument->v[i].value;
	Loc loc = call->loc;
	if (!b)
		return call_op(e, op_of(name), name, argument, loc);
	Call c = { .e = e, .loc = loc, .name = name };
	if (!bind(&c, b, argument))
		return datum_error(e);
	if (!e->g && strcmp(name, "len") && strcmp(name, "max") && strcmp(name, "min") && strcmp(name, "int") &&
	    strcmp(name, "float") && strcmp(name, "clamp"))
		return fail(e, E0405, loc, "%s computes a tensor, and only values known at compile time can stand here", name);
	return b->call(&c);
}
