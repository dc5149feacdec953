/* frontend/builtin_shape.c: built-in functions that reduce, reshape, cut, sort and fill tensors, and the readers of
 * arguments that all built-in functions share. See builtin.h. */
#include "frontend/builtin.h"

#include <math.h>
#include <string.h>

/* ---- arguments ---- */

Val tensor_arg(Call *c, u32 i)
{
	return as_tensor(c->e, c->arg[i], c->at[i], DTYPES);
}

Val float_arg(Call *c, u32 i)
{
	Val v = tensor_arg(c, i);
	if (!v.i || dtype_is_float(val_type(c->e->g, v)->dtype))
		return v;
	c->e->b.loc = c->loc;
	return make_cast(&c->e->b, v, DT_f32);
}

/* "top_k's k" */
static const char *what(const Call *c, u32 i)
{
	return arena_printf(c->e->arena, "%s's %s", c->name, c->parameter[i]);
}

bool int_arg(Call *c, u32 i, i64 otherwise, i64 *out)
{
	*out = otherwise;
	return !c->arg[i] || want_integer(c->e, c->arg[i], c->at[i], what(c, i), out);
}

bool number_arg(Call *c, u32 i, f64 otherwise, f64 *out)
{
	*out = otherwise;
	return !c->arg[i] || want_number(c->e, c->arg[i], c->at[i], what(c, i), out);
}

bool bool_arg(Call *c, u32 i, bool otherwise, bool *out)
{
	*out = otherwise;
	return !c->arg[i] || want_bool(c->e, c->arg[i], c->at[i], what(c, i), out);
}

bool dtype_arg(Call *c, u32 i, DType otherwise, DType *out)
{
	*out = otherwise;
	if (!c->arg[i])
		return true;
	if (c->arg[i]->kind != DATUM_DTYPE)
		return refuse(c->e, E0401, c->at[i], "%s is an element type such as f32 or i32, and this is %s", what(c, i),
			      datum_show(c->e, c->arg[i]));
	*out = c->arg[i]->dtype;
	return true;
}

Datum *bad(Call *c)
{
	return datum_error(c->e);
}

Datum *made(Call *c, Val v)
{
	return datum_tensor(c->e, v, c->loc);
}

bool axes_arg(Call *c, u32 i, Val v, ints *out)
{
	Elaborator *e = c->e;
	i64 axes[MAX_RANK];
	u32 n = 0, rank = val_type(e->g, v)->rank;
	if (!c->arg[i]) {
		for (; n < rank; n++)
			axes[n] = n;
	} else if (c->arg[i]->kind == DATUM_LIST) {
		if (c->arg[i]->list.n > rank)
			return refuse(e, E0306, c->at[i], "%s: %u axes for %s", c->name, c->arg[i]->list.n, shape_show(e, v));
		for (u32 k = 0; k < c->arg[i]->list.n; k++)
			if (!axis_by(e, v, c->arg[i]->list.v[k].value, c->at[i], &axes[n++]))
				return false;
	} else if (!axis_by(e, v, c->arg[i], c->at[i], &axes[n++])) {
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
			return refuse(e, E0306, c->at[i], "%s: axis %lld is given twice", c->name, (long long)axes[a]);
	*out = ints_of(&e->b, axes, n);
	return true;
}

bool axis_arg(Call *c, u32 i, Val v, i64 otherwise, i64 *out)
{
	u32 rank = val_type(c->e->g, v)->rank;
	*out = otherwise < 0 ? otherwise + rank : otherwise;
	if (rank == 0)
		return refuse(c->e, E0306, c->loc, "%s: a scalar has no axis", c->name);
	return !c->arg[i] || axis_by(c->e, v, c->arg[i], c->at[i], out);
}

bool shape_arg(Call *c, u32 i, dims *out, Axis *axis)
{
	Elaborator *e = c->e;
	Dim d[MAX_RANK];
	u32 n = 0;
	const Datum *list = c->arg[i];
	if (!list || list->kind != DATUM_LIST)
		return refuse(e, E0206, c->at[i], "%s: the shape is a list of dimensions such as [B, T]%s%s", c->name,
			      list ? ", and this is " : "", list ? datum_show(e, list) : "");
	if (list->list.n > MAX_RANK)
		return refuse(e, E0406, c->at[i], "%s: a tensor has at most %d dimensions", c->name, MAX_RANK);
	for (u32 k = 0; k < list->list.n; k++, n++) {
		d[n] = datum_to_dim(e, list->list.v[k].value, c->at[i]);
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

Datum *b_sum(Call *c)
{
	return reduce(c, OP_sum);
}
Datum *b_mean(Call *c)
{
	return reduce(c, OP_mean);
}
Datum *b_prod(Call *c)
{
	return reduce(c, OP_prod);
}

static Datum *list_best(Call *c, bool largest, const EntryList *all)
{
	const Datum *best = NULL;
	for (u32 i = 0; i < all->n; i++) {
		f64 x;
		if (!want_number(c->e, all->v[i].value, all->v[i].loc, c->name, &x))
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
		VEC_PUSH(c->e->arena, &all, ENTRY(NULL, c->arg[0], c->at[0]));
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

Datum *b_max(Call *c)
{
	return extreme(c, true);
}
Datum *b_min(Call *c)
{
	return extreme(c, false);
}

Datum *b_clamp(Call *c)
{
	Datum *d = c->arg[0];
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

Datum *b_softmax(Call *c)
{
	return along(c, OP_softmax);
}
Datum *b_log_softmax(Call *c)
{
	return along(c, OP_log_softmax);
}
Datum *b_logsumexp(Call *c)
{
	return along(c, OP_logsumexp);
}
Datum *b_argmax(Call *c)
{
	return along(c, OP_argmax);
}

Datum *b_cumsum(Call *c)
{
	Val v = tensor_arg(c, 0);
	cumsum_attr a = { 0 };
	if (!v.i || !axis_arg(c, 1, v, -1, &a.axis) || !bool_arg(c, 2, false, &a.reverse) ||
	    !bool_arg(c, 3, false, &a.exclusive))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_cumsum, &v, 1, 0, &a));
}

/* Several results: a list, to be taken apart by `a, b = ...`. */
Datum *results(Call *c, Val first, u32 n)
{
	if (!first.i)
		return bad(c);
	Datum *d = datum_new(c->e, DATUM_LIST, c->loc);
	for (u32 i = 0; i < n; i++)
		VEC_PUSH(c->e->arena, &d->list, ENTRY(NULL, datum_tensor(c->e, (Val){ first.i + i }, c->loc), c->loc));
	return d;
}

Datum *b_sort(Call *c)
{
	Val v = tensor_arg(c, 0);
	sort_attr a = { 0 };
	if (!v.i || !axis_arg(c, 1, v, -1, &a.axis) || !bool_arg(c, 2, false, &a.descending))
		return bad(c);
	return results(c, node(c->e, c->loc, OP_sort, &v, 1, 0, &a), 2);
}

Datum *b_top_k(Call *c)
{
	Val v = float_arg(c, 0);
	top_k_attr a = { 0 };
	if (!v.i || !int_arg(c, 1, 1, &a.k))
		return bad(c);
	return results(c, node(c->e, c->loc, OP_top_k, &v, 1, 0, &a), 2);
}
/* ---- shapes ---- */

Datum *b_concat(Call *c)
{
	EntryList all = { 0 };
	Elaborator *e = c->e;
	if (c->arg[0] && c->arg[0]->kind == DATUM_LIST)
		all = c->arg[0]->list;
	else if (c->arg[0])
		VEC_PUSH(e->arena, &all, ENTRY(NULL, c->arg[0], c->at[0]));
	for (u32 i = 0; i < c->rest.n; i++)
		VEC_PUSH(e->arena, &all, c->rest.v[i]);
	if (!all.n)
		return fail(e, E0206, c->loc, "concat needs at least one tensor");
	Val *v = NEWN(e->arena, Val, all.n);
	for (u32 i = 0; i < all.n; i++) {
		v[i] = as_tensor(e, all.v[i].value, all.v[i].loc, DTYPES);
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
Datum *b_split(Call *c)
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
			if (!(size[n] = datum_to_dim(e, c->arg[1]->list.v[n].value, c->at[1])))
				return bad(c);
	} else {
		i64 parts;
		if (!want_integer(e, c->arg[1], c->at[1], "the number of parts", &parts))
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

Datum *b_pad(Call *c)
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
	if ((c->arg[2] && !(low[axis] = datum_to_dim(e, c->arg[2], c->at[2]))) ||
	    (c->arg[3] && !(high[axis] = datum_to_dim(e, c->arg[3], c->at[3]))))
		return bad(c);
	u32 rank = val_type(e->g, v)->rank;
	a.low = dims_of(&e->b, low, rank);
	a.high = dims_of(&e->b, high, rank);
	return made(c, node(e, c->loc, OP_pad, &v, 1, 0, &a));
}

/* transpose(x): the last two; transpose(x, a, b): those two. */
Datum *b_transpose(Call *c)
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

Datum *b_reshape(Call *c)
{
	Val v = tensor_arg(c, 0);
	reshape_attr a = { 0 };
	Axis axis[MAX_RANK];
	if (!v.i || !shape_arg(c, 1, &a.shape, axis))
		return bad(c);
	return made(c, node(c->e, c->loc, OP_reshape, &v, 1, 0, &a));
}

Datum *b_broadcast(Call *c)
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

Datum *b_cast(Call *c)
{
	Val v = tensor_arg(c, 0);
	DType t;
	if (!v.i || !dtype_arg(c, 1, DT_f32, &t))
		return bad(c);
	c->e->b.loc = c->loc;
	return made(c, make_cast(&c->e->b, v, t));
}

Datum *b_iota(Call *c)
{
	Elaborator *e = c->e;
	Dim d = datum_to_dim(e, c->arg[0], c->at[0]);
	DType t;
	if (!d || !dtype_arg(c, 1, DT_i32, &t))
		return bad(c);
	iota_attr a = { .axis = 0, .dtype = t, .shape = dims_of(&e->b, &d, 1) };
	Val v = node(e, c->loc, OP_iota, NULL, 0, 0, &a);
	Axis axis = c->arg[0]->axis;
	if (v.i && axis.id && !val_axis(e->g, v)[0].id)
		graph_set_axis(e->g, v, &axis);
	return made(c, v);
}

Datum *b_size(Call *c)
{
	Val v = tensor_arg(c, 0);
	i64 axis;
	if (!v.i || !axis_arg(c, 1, v, 0, &axis))
		return bad(c);
	return datum_dim(c->e, val_type(c->e->g, v)->dim[axis], val_axis(c->e->g, v)[axis], c->loc);
}

Datum *b_len(Call *c)
{
	if (c->arg[0]->kind == DATUM_TEXT)
		return datum_integer(c->e, (i64)strlen(c->arg[0]->text), c->loc);
	if (c->arg[0]->kind != DATUM_LIST && c->arg[0]->kind != DATUM_RECORD)
		return fail(c->e, E0401, c->at[0], "len takes a list, and this is %s; size(x, axis) gives a tensor's extent",
			    datum_show(c->e, c->arg[0]));
	return datum_integer(c->e, c->arg[0]->list.n, c->loc);
}

Datum *b_one_of(Call *c)
{
	const Datum *value = c->arg[0], *choices = c->arg[1];
	if (choices->kind != DATUM_LIST)
		return fail(c->e, E0401, c->at[1], "one_of takes a value and a list of those that it may be, and this is %s",
			    datum_show(c->e, choices));
	const char *source = datum_source(c->e, value);
	for (u32 i = 0; i < choices->list.n; i++)
		if (choices->list.v[i].value->kind == value->kind && !strcmp(datum_source(c->e, choices->list.v[i].value), source))
			return c->arg[0];
	return fail(c->e, E0406, c->at[0], "this is %s, and must be one of %s", datum_show(c->e, value), datum_source(c->e, choices));
}

Datum *b_int(Call *c)
{
	f64 x;
	if (!number_arg(c, 0, 0, &x))
		return bad(c);
	if (!(fabs(x) < 9e18))
		return fail(c->e, E0403, c->loc, "%g is no whole number of 64 bits", x);
	return datum_integer(c->e, (i64)x, c->loc);
}

Datum *b_float(Call *c)
{
	f64 x;
	return number_arg(c, 0, 0, &x) ? datum_number(c->e, x, c->loc) : bad(c);
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
	if (!dtype_arg(c, shape_at + 1, t, &t))
		return bad(c);
	c->e->b.loc = c->loc;
	Val v = make_full(&c->e->b, value, t, shape);
	if (v.i && shape.n)
		graph_set_axis(c->e->g, v, axis);
	return made(c, v);
}

Datum *b_zeros(Call *c)
{
	return filled(c, 0, 0);
}
Datum *b_ones(Call *c)
{
	return filled(c, 1, 0);
}
Datum *b_full(Call *c)
{
	f64 x;
	if (!number_arg(c, 0, 0, &x))
		return bad(c);
	return filled(c, x, 1);
}
