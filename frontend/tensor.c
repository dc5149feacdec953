/* frontend/tensor.c: operators on tensors: which element type results, how shapes repeat (NumPy's rules,
 * from the right), indexing, matrix multiply. Axis classes are unified where dimensions meet. */
#include "frontend/elaborator.h"

#include <string.h>

Val node(Elaborator *e, Loc loc, Op op, const Val *in, u32 nin, u32 nout, const void *attr)
{
	for (u32 i = 0; i < nin; i++)
		if (!in[i].i)
			return (Val){ 0 };
	Buf why = { .arena = e->arena };
	e->b.loc = loc;
	Val v = build_checked(&e->b, op, in, nin, nout, attr, &why);
	if (!v.i) {
		fail(e, E0300, loc, "%.*s", STR_ARG(buf_str(&why)));
		explain_operands(e, loc, in, nin);
	}
	return v;
}

static bool dim_has(Dim d, const char *symbol)
{
	for (u32 i = 0; i < d->n; i++)
		for (u32 k = 0; k < d->term[i].n; k++)
			if (d->term[i].symbol[k] == symbol)
				return true;
	return false;
}

static bool has_symbol(const Type *t, const char *symbol)
{
	for (u32 i = 0; i < t->rank; i++)
		if (dim_has(t->dim[i], symbol))
			return true;
	return false;
}

static void explain_values(Elaborator *e, Loc loc, const Val *in, u32 n)
{
	for (u32 i = 0; i < n && i < 5; i++) {
		Loc at = val_node(e->g, in[i])->loc;
		/* inside the library is no place that tells a user of it more than the shape does */
		bool told = !at.line || (at.file == loc.file && at.line == loc.line) ||
			    (at.file != loc.file && str_starts(str_of(e->diag->source[at.file].path), STR("std/")));
		for (u32 k = 0; k < i && !told; k++)
			told = in[k].i == in[i].i;
		if (!told)
			diag_note(e->diag, at, "%s comes from here", shape_show(e, in[i]));
	}
}

/* Where a size comes from that stands in one of the two and not in the other. */
static void explain_sizes(Elaborator *e, Loc loc, Dim a, Dim b)
{
	for (u32 i = 0; i < e->symbol.n; i++) {
		const char *symbol = (const char *)(uintptr_t)e->symbol.entry[i].key;
		Loc at = e->ir->axis.v[(u32)e->symbol.entry[i].value].loc;
		if (dim_has(a, symbol) != dim_has(b, symbol) && at.line && (at.line != loc.line || at.file != loc.file))
			diag_note(e->diag, at, "the size %s is introduced here", symbol);
	}
}

void explain_operands(Elaborator *e, Loc loc, const Val *in, u32 n)
{
	explain_values(e, loc, in, n);
	for (u32 i = 0; n > 1 && i < e->symbol.n; i++) {
		const char *symbol = (const char *)(uintptr_t)e->symbol.entry[i].key;
		bool some = false, all = true;
		for (u32 k = 0; k < n; k++) {
			bool has = has_symbol(val_type(e->g, in[k]), symbol);
			some |= has;
			all &= has;
		}
		Axis a = { (u32)e->symbol.entry[i].value };
		if (some && !all && e->ir->axis.v[a.id].loc.line)
			diag_note(e->diag, e->ir->axis.v[a.id].loc, "the size %s is introduced here", symbol);
	}
}

static const Type *type_of(const Elaborator *e, Val v)
{
	return val_type(e->g, v);
}

Val as_tensor(Elaborator *e, Datum *d, Loc loc, DType like)
{
	if (d->kind == DATUM_TENSOR)
		return d->tensor;
	if (d->kind == DATUM_ERROR)
		return (Val){ 0 };
	if (!e->g) {
		fail(e, E0405, loc, "a tensor cannot be computed here, only values known at compile time");
		return (Val){ 0 };
	}
	e->b.loc = loc;
	dims scalar = { 0 };
	if (d->kind == DATUM_NUMBER) {
		DType t = like != DTYPES ? like : d->number.is_integer ? DT_i32 : DT_f32;
		/* 0.5 beside an integer tensor makes the result float; the caller has seen to `like` */
		return make_full(&e->b, dtype_round(t, d->number.value), t, scalar);
	}
	if (d->kind == DATUM_BOOL)
		return make_full(&e->b, d->boolean, like != DTYPES ? like : DT_b1, scalar);
	if (d->kind == DATUM_DIM) {
		DType t = like != DTYPES ? like : DT_i32;
		return BS(&e->b, extent, .size = dims_of(&e->b, &d->dim, 1), .dtype = t);
	}
	fail(e, E0301, loc, "a tensor or a number is expected here, and this is %s", datum_show(e, d));
	return (Val){ 0 };
}

/* ---- element types ---- */

/* Kinds in order bool < integer < float; numbers known at compile time take the tensor's type unless they
 * are of a higher kind; tensors of rank 0 give way to others of their kind (as in PyTorch). */
typedef struct Promotion {
	DType dtype;    /* of tensors with dimensions */
	DType scalar;   /* of tensors without */
	bool any, any_scalar, float_number, number;
} Promotion;

static DType higher(DType a, DType b)
{
	if (a == b)
		return a;
	DTypeKind x = dtype_info[a].kind, y = dtype_info[b].kind;
	if (x != y)
		return x > y ? a : b;
	if (dtype_is_narrow_float(a) && dtype_info[a].bytes == dtype_info[b].bytes)
		return DT_f32; /* neither holds the other */
	return MAX(a, b);
}

static void promote(Promotion *p, const Elaborator *e, const Datum *d)
{
	if (d->kind == DATUM_NUMBER || d->kind == DATUM_DIM) {
		p->number = true;
		p->float_number |= d->kind == DATUM_NUMBER && !d->number.is_integer;
	} else if (d->kind == DATUM_TENSOR) {
		const Type *t = type_of(e, d->tensor);
		if (t->rank == 0) {
			p->scalar = p->any_scalar ? higher(p->scalar, t->dtype) : t->dtype;
			p->any_scalar = true;
		} else {
			p->dtype = p->any ? higher(p->dtype, t->dtype) : t->dtype;
			p->any = true;
		}
	}
}

static DType promoted(const Promotion *p)
{
	DType t;
	if (p->any && p->any_scalar && dtype_info[p->scalar].kind > dtype_info[p->dtype].kind)
		t = dtype_is_float(p->scalar) ? DT_f32 : p->scalar;
	else if (p->any)
		t = p->dtype;
	else if (p->any_scalar)
		t = p->scalar;
	else
		return p->float_number ? DT_f32 : DT_i32;
	if (p->float_number && !dtype_is_float(t))
		t = DT_f32;
	if (p->number && t == DT_b1)
		t = DT_i32;
	return t;
}

/* ---- broadcasting ---- */

bool broadcast_shapes(Elaborator *e, const Val *v, u32 n, Loc loc, const char *what, dims *shape)
{
	Dim out[MAX_RANK];
	u32 rank = 0;
	for (u32 i = 0; i < n; i++)
		rank = MAX(rank, type_of(e, v[i])->rank);
	for (u32 d = 0; d < rank; d++) {
		out[d] = NULL;
		Axis axis = { 0 };
		u32 from = 0;
		for (u32 i = 0; i < n; i++) {
			const Type *t = type_of(e, v[i]);
			i32 at = (i32)d - (i32)(rank - t->rank);
			i64 one;
			if (at < 0 || (dim_is_number(t->dim[at], &one) && one == 1 && out[d]))
				continue;
			bool was_one = out[d] && dim_is_number(out[d], &one) && one == 1;
			if (out[d] && !was_one && out[d] != t->dim[at]) {
				fail(e, E0302, loc, "%s: shapes %s and %s do not fit: dimension %s against %s", what,
				     shape_show(e, v[from]), shape_show(e, v[i]),
				     dim_show(e, out[d], axis), dim_show(e, t->dim[at], val_axis(e->g, v[i])[at]));
				explain_values(e, loc, (Val[]){ v[from], v[i] }, 2);
				explain_sizes(e, loc, out[d], t->dim[at]);
				return false;
			}
			Axis mine = val_axis(e->g, v[i])[at];
			if (!out[d] || was_one)
				from = i;
			if (out[d] == t->dim[at])
				axis_unify(e->ir, axis, mine);
			out[d] = t->dim[at];
			if (!axis.id || was_one)
				axis = mine;
		}
	}
	*shape = dims_of(&e->b, out, rank);
	return true;
}

Val broadcast_to(Elaborator *e, Val v, dims shape)
{
	const Type *t = type_of(e, v);
	if (t->rank > shape.n)
		return (Val){ 0 };
	for (u32 d = 0; d < t->rank; d++) {
		i64 one;
		Dim want = shape.v[shape.n - t->rank + d];
		if (t->dim[d] != want && !(dim_is_number(t->dim[d], &one) && one == 1))
			return (Val){ 0 };
	}
	return make_broadcast(&e->b, v, shape);
}

/* An op as it is written: '+' for add. */
static const char *spelled(Op op)
{
	static const struct {
		Op op;
		const char *as;
	} sign[] = { { OP_add, "'+'" }, { OP_sub, "'-'" }, { OP_mul, "'*'" }, { OP_div, "'/'" }, { OP_floordiv, "'//'" },
		     { OP_mod, "'%'" }, { OP_pow, "'**'" }, { OP_eq, "'=='" }, { OP_ne, "'!='" }, { OP_lt, "'<'" },
		     { OP_le, "'<='" }, { OP_and, "'and'" }, { OP_or, "'or'" }, { OP_not, "'not'" } };
	for (u32 i = 0; i < COUNT(sign); i++)
		if (sign[i].op == op)
			return sign[i].as;
	return op_info[op].name;
}

static Datum *elementwise(Elaborator *e, Op op, Val *in, u32 n, Loc loc)
{
	dims shape;
	if (!broadcast_shapes(e, in, n, loc, spelled(op), &shape))
		return datum_error(e);
	e->b.loc = loc;
	for (u32 i = 0; i < n; i++)
		in[i] = broadcast_to(e, in[i], shape);
	return datum_tensor(e, node(e, loc, op, in, n, 0, &(none_attr){ 0 }), loc);
}

Datum *tensor_elementwise(Elaborator *e, Op op, Datum **arg, u32 n, Loc loc)
{
	Promotion p = { 0 };
	u32 first = op == OP_where ? 1 : 0; /* the condition has a type of its own */
	for (u32 i = 0; i < n; i++) {
		if (arg[i]->kind == DATUM_ERROR)
			return arg[i];
		if (i >= first)
			promote(&p, e, arg[i]);
	}
	DType t = promoted(&p);
	bool logical = op == OP_and || op == OP_or || op == OP_not;
	if (scalar_info[op].real && !dtype_is_float(t))
		t = DT_f32;
	if (logical)
		t = DT_b1;
	if ((op == OP_neg || op == OP_add || op == OP_sub || op == OP_mul) && t == DT_b1)
		t = DT_i32;
	Val in[3] = { { 0 } };
	assert(n <= 3);
	for (u32 i = 0; i < n; i++) {
		DType want = i < first ? DT_b1 : t;
		in[i] = as_tensor(e, arg[i], loc, want);
		if (!in[i].i)
			return datum_error(e);
		e->b.loc = loc;
		if ((logical || i < first) && type_of(e, in[i])->dtype != DT_b1)
			return fail(e, E0301, loc, "%s takes %s, and this is %s: compare first, as in x > 0", spelled(op),
				    logical ? "booleans" : "a boolean condition", datum_show(e, arg[i]));
		in[i] = make_cast(&e->b, in[i], want);
	}
	return elementwise(e, op, in, n, loc);
}

Datum *tensor_binary(Elaborator *e, BinaryOp op, Datum *a, Datum *b, Loc loc)
{
	Datum *in[2] = { a, b };
	Op code;
	switch (op) {
	case BINARY_ADD: code = OP_add; break;
	case BINARY_SUB: code = OP_sub; break;
	case BINARY_MUL: code = OP_mul; break;
	case BINARY_DIV: code = OP_div; break;
	case BINARY_FLOOR_DIV: code = OP_floordiv; break;
	case BINARY_MOD: code = OP_mod; break;
	case BINARY_POW:
		if (b->kind == DATUM_NUMBER && b->number.value == 2)
			return tensor_elementwise(e, OP_mul, (Datum *[]){ a, a }, 2, loc);
		code = OP_pow;
		break;
	case BINARY_EQ: code = OP_eq; break;
	case BINARY_NE: code = OP_ne; break;
	case BINARY_LT: code = OP_lt; break;
	case BINARY_LE: code = OP_le; break;
	case BINARY_GT:
		code = OP_lt;
		in[0] = b, in[1] = a;
		break;
	case BINARY_GE:
		code = OP_le;
		in[0] = b, in[1] = a;
		break;
	case BINARY_AND: code = OP_and; break;
	case BINARY_OR: code = OP_or; break;
	default: return fail(e, E0402, loc, "'%s' does not take tensors", binary_spelling[op]);
	}
	for (u32 i = 0; i < 2; i++)
		if (in[i]->kind != DATUM_TENSOR && in[i]->kind != DATUM_NUMBER && in[i]->kind != DATUM_DIM &&
		    in[i]->kind != DATUM_BOOL)
			return in[i]->kind == DATUM_ERROR ?
				       in[i] :
				       fail(e, E0402, loc, "'%s' cannot be applied to %s and %s", binary_spelling[op],
					    datum_show(e, a), datum_show(e, b));
	return tensor_elementwise(e, code, in, 2, loc);
}

/* ---- matrix multiply: the last dimension of a with the last but one of b; leading ones repeat ---- */

Datum *tensor_matmul(Elaborator *e, Datum *da, Datum *db, Loc loc)
{
	if (da->kind != DATUM_TENSOR || db->kind != DATUM_TENSOR)
		return fail(e, E0303, loc, "'@' multiplies tensors, not %s and %s", datum_show(e, da), datum_show(e, db));
	Val a = da->tensor, b = db->tensor;
	const Type *x = type_of(e, a), *y = type_of(e, b);
	if (x->rank == 0 || y->rank == 0)
		return fail(e, E0303, loc, "'@' needs dimensions: the shapes are %s and %s", shape_show(e, a),
			    shape_show(e, b));
	u32 inner = y->rank >= 2 ? y->rank - 2u : 0;
	if (x->dim[x->rank - 1] != y->dim[inner]) {
		Datum *d = fail(e, E0303, loc, "'@': inner sizes differ: %s of %s and %s of %s",
				dim_show(e, x->dim[x->rank - 1], val_axis(e->g, a)[x->rank - 1]), shape_show(e, a),
				dim_show(e, y->dim[inner], val_axis(e->g, b)[inner]), shape_show(e, b));
		explain_values(e, loc, (Val[]){ a, b }, 2);
		explain_sizes(e, loc, x->dim[x->rank - 1], y->dim[inner]);
		if (y->rank == 2 && x->dim[x->rank - 1] == y->dim[1])
			diag_note(e->diag, (Loc){ 0 }, "the other dimension of the right one fits: did you mean '@ transpose(...)'?");
		return d;
	}
	axis_unify(e->ir, val_axis(e->g, a)[x->rank - 1], val_axis(e->g, b)[inner]);
	/* labels: batch from 'a', rows 'p'.., inner 'k', columns 'n' */
	char sa[MAX_RANK + 1] = { 0 }, sb[MAX_RANK + 1] = { 0 }, so[MAX_RANK + 1] = { 0 };
	u32 lead_a = x->rank >= 2 ? x->rank - 2u : 0, lead_b = y->rank >= 2 ? y->rank - 2u : 0;
	if (lead_b) {
		/* a stack on the right: leading dimensions meet as in NumPy */
		Dim batch[MAX_RANK];
		u32 nb = MAX(lead_a, lead_b);
		for (u32 d = 0; d < nb; d++) {
			i32 pa = (i32)d - (i32)(nb - lead_a), pb = (i32)d - (i32)(nb - lead_b);
			Dim u = pa >= 0 ? x->dim[pa] : NULL, v = pb >= 0 ? y->dim[pb] : NULL;
			i64 one;
			if (u && v && u != v && !(dim_is_number(u, &one) && one == 1) &&
			    !(dim_is_number(v, &one) && one == 1)) {
				Datum *d = fail(e, E0303, loc, "'@': leading dimensions of %s and %s do not fit",
						shape_show(e, a), shape_show(e, b));
				explain_operands(e, loc, (Val[]){ a, b }, 2);
				return d;
			}
			if (u && v && u == v)
				axis_unify(e->ir, val_axis(e->g, a)[pa], val_axis(e->g, b)[pb]);
			batch[d] = !u || (v && dim_is_number(u, &one) && one == 1) ? v : u;
		}
		Dim full[MAX_RANK];
		memcpy(full, batch, nb * sizeof *full);
		e->b.loc = loc;
		u32 ra = MIN(x->rank, 2u), rb = MIN(y->rank, 2u);
		for (u32 i = 0; i < ra; i++)
			full[nb + i] = x->dim[x->rank - ra + i];
		a = broadcast_to(e, a, dims_of(&e->b, full, nb + ra));
		for (u32 i = 0; i < rb; i++)
			full[nb + i] = y->dim[y->rank - rb + i];
		b = broadcast_to(e, b, dims_of(&e->b, full, nb + rb));
		x = type_of(e, a);
		y = type_of(e, b);
		lead_a = lead_b = nb;
	}
	u32 na = 0, nb = 0, no = 0;
	for (u32 d = 0; d + 1 < x->rank; d++)
		sa[na++] = so[no++] = (char)('a' + d);
	sa[na++] = 'y';
	for (u32 d = 0; d < lead_b; d++)
		sb[nb++] = (char)('a' + d);
	sb[nb++] = 'y';
	if (y->rank >= 2)
		sb[nb++] = so[no++] = 'z';
	e->b.loc = loc;
	DType t = type_of(e, a)->dtype, u = type_of(e, b)->dtype;
	if (!dtype_is_float(t) || !dtype_is_float(u)) {
		a = make_cast(&e->b, a, dtype_is_float(u) ? u : DT_f32);
		b = make_cast(&e->b, b, dtype_is_float(t) ? t : DT_f32);
	} else if (t != u) {
		a = make_cast(&e->b, a, higher(t, u));
		b = make_cast(&e->b, b, higher(t, u));
	}
	dot_attr attr = { .spec = intern_printf(&e->ir->names, "%s,%s->%s", sa, sb, so) };
	Val in[2] = { a, b };
	return datum_tensor(e, node(e, loc, OP_dot, in, 2, 0, &attr), loc);
}

/* ---- indexing ---- */

bool axis_by(Elaborator *e, Val v, Datum *d, Loc loc, i64 *axis)
{
	const Type *t = type_of(e, v);
	if (d->kind == DATUM_NUMBER && d->number.is_integer && !d->axis.id) {
		*axis = d->number.integer < 0 ? d->number.integer + t->rank : d->number.integer;
		if (*axis >= 0 && *axis < t->rank)
			return true;
		fail(e, E0306, loc, "there is no axis %lld in %s", (long long)d->number.integer, shape_show(e, v));
		return false;
	}
	/* by a dimension's name: the one axis of that class */
	if ((d->kind == DATUM_DIM || d->kind == DATUM_NUMBER) && d->axis.id) {
		u32 found = 0;
		for (u32 i = 0; i < t->rank; i++)
			if (val_axis(e->g, v)[i].id &&
			    axis_find(e->ir, val_axis(e->g, v)[i]).id == axis_find(e->ir, d->axis).id) {
				*axis = i;
				found++;
			}
		if (found == 1)
			return true;
		fail(e, E0306, loc, found ? "axis '%s' occurs more than once in %s: give its number" :
					    "there is no axis '%s' in %s",
		     dim_show(e, datum_to_dim(e, d, loc), d->axis), shape_show(e, v));
		return false;
	}
	if (d->kind == DATUM_TEXT) {
		for (u32 i = 0; i < t->rank; i++) {
			Axis a = val_axis(e->g, v)[i];
			const AxisClass *c = a.id ? &e->ir->axis.v[axis_find(e->ir, a).id] : NULL;
			for (u32 k = 0; c && k < c->names.n; k++) {
				const char *dot = strrchr(c->names.v[k], '.');
				if (!strcmp(dot ? dot + 1 : c->names.v[k], d->text) || !strcmp(c->names.v[k], d->text)) {
					*axis = i;
					return true;
				}
			}
		}
		fail(e, E0306, loc, "there is no axis '%s' in %s", d->text, shape_show(e, v));
		return false;
	}
	if (d->kind != DATUM_ERROR)
		fail(e, E0306, loc, "an axis is a number or the name of a dimension, and this is %s", datum_show(e, d));
	return false;
}

/* A slice's bound as a dimension, counted from the start; NULL after an error. */
static Dim bound(Elaborator *e, const Expr *x, Dim extent)
{
	Datum *d = expression(e, x);
	if (d->kind == DATUM_NUMBER && d->number.is_integer && d->number.integer < 0)
		return dim_add(e->ir, extent, dim_number(e->ir, d->number.integer));
	return datum_to_dim(e, d, x->loc);
}

typedef struct Cut {
	Dim start[MAX_RANK], size[MAX_RANK];
	i64 step[MAX_RANK];
	bool drop[MAX_RANK];
	Val by[MAX_RANK]; /* gather */
	bool changed;
} Cut;

static bool cut_slice(Elaborator *e, const Subscript *s, Dim extent, Cut *c, u32 d)
{
	i64 step = 1, n;
	if (s->step && !want_integer(e, expression(e, s->step), s->loc, "a slice's step", &step))
		return false;
	if (step == 0)
		return refuse(e, E0404, s->loc, "a slice's step cannot be 0");
	Dim zero = dim_number(e->ir, 0), one = dim_number(e->ir, 1);
	Dim from = s->from ? bound(e, s->from, extent) : step > 0 ? zero : dim_sub(e->ir, extent, one);
	Dim to = s->to ? bound(e, s->to, extent) : step > 0 ? extent : dim_number(e->ir, -1);
	if (!from || !to)
		return false;
	i64 last;
	if (dim_is_number(to, &n) && dim_is_number(extent, &last) && n > last)
		to = extent; /* as Python: a slice past the end stops there */
	Dim span = step > 0 ? dim_sub(e->ir, to, from) : dim_sub(e->ir, from, to);
	i64 by = step > 0 ? step : -step, count;
	if (dim_is_number(span, &count)) {
		if (count <= 0)
			return refuse(e, E0404, s->loc, "this slice of %s is empty", dim_show(e, extent, (Axis){ 0 }));
		c->size[d] = dim_number(e->ir, (count + by - 1) / by);
	} else {
		c->size[d] = by == 1 ? span : dim_div(e->ir, span, dim_number(e->ir, by));
	}
	c->start[d] = from;
	c->step[d] = step;
	c->changed |= from != zero || c->size[d] != extent || step != 1;
	return true;
}

Datum *tensor_index(Elaborator *e, Datum *base, const SubscriptList *s, Loc loc)
{
	Val v = base->tensor;
	const Type *t = type_of(e, v);
	Cut c = { 0 };
	u32 taken = 0, ellipsis = 0;
	for (u32 i = 0; i < s->n; i++) {
		taken += s->v[i].kind == SUBSCRIPT_INDEX || s->v[i].kind == SUBSCRIPT_SLICE;
		ellipsis += s->v[i].kind == SUBSCRIPT_ELLIPSIS;
	}
	if (ellipsis > 1)
		return fail(e, E0404, loc, "'...' can stand once in an index");
	if (taken > t->rank)
		return fail(e, E0404, loc, "%u indices for a tensor of %u dimensions, %s", taken, t->rank, shape_show(e, v));
	for (u32 d = 0; d < t->rank; d++) {
		c.start[d] = dim_number(e->ir, 0);
		c.size[d] = t->dim[d];
		c.step[d] = 1;
	}
	/* where each result dimension comes from: a dimension, or NONE for a new one */
	u32 from[MAX_RANK * 2], nfrom = 0, d = 0, gathers = 0;
	for (u32 i = 0; i < s->n; i++) {
		const Subscript *x = &s->v[i];
		if (x->kind == SUBSCRIPT_NEW_AXIS) {
			from[nfrom++] = NONE;
		} else if (x->kind == SUBSCRIPT_ELLIPSIS) {
			for (u32 k = 0; k < t->rank - taken; k++)
				from[nfrom++] = d++;
		} else if (x->kind == SUBSCRIPT_SLICE) {
			if (!cut_slice(e, x, t->dim[d], &c, d))
				return datum_error(e);
			from[nfrom++] = d++;
		} else {
			Datum *at = expression(e, x->index);
			i64 n, extent;
			if (at->kind == DATUM_ERROR)
				return at;
			if (at->kind == DATUM_TENSOR) {
				if (dtype_info[type_of(e, at->tensor)->dtype].kind != KIND_I)
					return fail(e, E0301, x->loc, "a tensor is indexed by integers, and this is %s",
						    datum_show(e, at));
				c.by[d] = at->tensor;
				gathers++;
				from[nfrom++] = d++;
				continue;
			}
			if (at->kind == DATUM_DIM) {
				c.start[d] = at->dim;
			} else {
				if (!want_integer(e, at, x->loc, "an index", &n))
					return datum_error(e);
				if (dim_is_number(t->dim[d], &extent) && (n < -extent || n >= extent))
					return fail(e, E0404, x->loc, "index %lld is outside dimension %s of %s",
						    (long long)n, dim_show(e, t->dim[d], val_axis(e->g, v)[d]),
						    shape_show(e, v));
				c.start[d] = n < 0 ? dim_add(e->ir, t->dim[d], dim_number(e->ir, n)) :
						     dim_number(e->ir, n);
			}
			c.size[d] = dim_number(e->ir, 1);
			c.drop[d] = c.changed = true;
			d++;
		}
	}
	while (d < t->rank)
		from[nfrom++] = d++;
	if (gathers > 1)
		return fail(e, E0404, loc, "one tensor at a time can be an index; use take_along for more");
	if (nfrom > MAX_RANK)
		return fail(e, E0404, loc, "the result would have %u dimensions; at most %d are possible", nfrom, MAX_RANK);
	e->b.loc = loc;
	if (c.changed) {
		slice_attr a = { .start = dims_of(&e->b, c.start, t->rank), .size = dims_of(&e->b, c.size, t->rank),
				 .step = ints_of(&e->b, c.step, t->rank) };
		v = node(e, loc, OP_slice, &v, 1, 0, &a);
		if (!v.i)
			return datum_error(e);
	}
	/* dropped and new dimensions: a reshape */
	Dim shape[MAX_RANK];
	u32 rank = 0, gather_at = NONE;
	Val by = { 0 };
	for (u32 i = 0; i < nfrom; i++) {
		if (from[i] != NONE && c.by[from[i]].i) {
			gather_at = rank;
			by = c.by[from[i]];
		}
		shape[rank++] = from[i] == NONE ? dim_number(e->ir, 1) : c.size[from[i]];
	}
	v = BA(&e->b, reshape, (v), .shape = dims_of(&e->b, shape, rank));
	if (gather_at != NONE) {
		gather_attr a = { .axis = gather_at };
		Val in[2] = { v, by };
		v = node(e, loc, OP_gather, in, 2, 0, &a);
	}
	return datum_tensor(e, v, loc);
}
