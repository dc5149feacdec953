/* passes/lower/index.c: indices through views. See lower.h. */
#include "passes/lower/lower.h"

#include <string.h>

Place place_number(i64 offset)
{
	return (Place){ .offset = offset };
}

Place place_base(const Lower *l, u32 b)
{
	const BaseDim *base = &l->base[b];
	Place p = { 0 };
	i64 stride = 1;
	for (u32 i = base->nfactor; i-- > 0;) {
		p.coef[base->at[i]] = stride;
		stride *= base->factor[i];
	}
	return p;
}

static bool digit_equal(const Digit *a, const Digit *b)
{
	return a->dim == b->dim && a->by == b->by && a->mod == b->mod && a->scale == b->scale;
}

bool place_equal(const Place *a, const Place *b)
{
	bool same = a->offset == b->offset && a->ndigit == b->ndigit && a->dynamic.i == b->dynamic.i &&
		    (!a->dynamic.i || a->scale == b->scale) && memcmp(a->coef, b->coef, sizeof a->coef) == 0;
	for (u32 i = 0; i < a->ndigit && same; i++)
		same = digit_equal(&a->digit[i], &b->digit[i]);
	return same;
}

static KVal number(Lower *l, f64 value, DType dtype)
{
	return kernel_inst(l->k, (KInst){ .op = K_const, .dtype = (u8)dtype, .imm = value });
}

static KVal scalar2(Lower *l, Scalar s, KVal a, KVal b, DType dtype)
{
	return kernel_inst(l->k, (KInst){ .op = K_scalar, .scalar = (u8)s, .dtype = (u8)dtype,
					  .in = { a, b } });
}

static KVal index_value(Lower *l, i64 offset, const i64 *coef, DType dtype)
{
	Access a = { .offset = offset };
	memcpy(a.stride, coef, sizeof a.stride);
	return kernel_inst(l->k, (KInst){ .op = K_index, .dtype = (u8)dtype, .access = &a });
}

static KVal scaled_value(Lower *l, KVal v, i64 by, DType dtype)
{
	if (l->k->inst.v[v.i].dtype != dtype)
		v = kernel_inst(l->k, (KInst){ .op = K_cast, .dtype = (u8)dtype, .in = { v } });
	return by == 1 ? v : scalar2(l, S_mul, v, number(l, (f64)by, dtype), dtype);
}

/* Without its scale. A coordinate is not negative: in 32 bits without a sign, where it fits, division is cheap in lanes. */
static KVal digit_value(Lower *l, const Digit *g)
{
	DType t = l->k->dim[g->dim].extent <= INT32_MAX ? DT_u32 : DT_i64;
	i64 coef[KERNEL_DIMS] = { 0 };
	coef[g->dim] = 1;
	KVal v = index_value(l, 0, coef, t);
	if (g->by != 1)
		v = scalar2(l, S_floordiv, v, number(l, (f64)g->by, t), t);
	return g->mod ? scalar2(l, S_mod, v, number(l, (f64)g->mod, t), t) : v;
}

static i64 digit_range(const Lower *l, const Digit *g);

/* Values that it takes are from *low to *high; false where that is not known. */
static bool place_range(const Lower *l, const Place *p, f64 *low, f64 *high)
{
	*low = *high = (f64)p->offset;
	for (u32 d = 0; d < l->k->ndim; d++)
		*(p->coef[d] < 0 ? low : high) += (f64)p->coef[d] * (f64)(l->k->dim[d].extent - 1);
	for (u32 i = 0; i < p->ndigit; i++)
		*(p->digit[i].scale < 0 ? low : high) += (f64)p->digit[i].scale * (f64)(digit_range(l, &p->digit[i]) - 1);
	return !p->dynamic.i;
}

DType place_dtype(const Lower *l, const Place *p)
{
	f64 low, high;
	return place_range(l, p, &low, &high) && low >= INT32_MIN && high <= INT32_MAX ? DT_i32 : DT_i64;
}

u32 place_terms(Lower *l, const Place *p, u32 n, u32 most, KVal *term, i64 *stride)
{
	for (u32 i = 0; i <= p->ndigit; i++) {
		if (i == p->ndigit && !p->dynamic.i)
			break;
		KVal v = i < p->ndigit ? digit_value(l, &p->digit[i]) : p->dynamic;
		i64 by = i < p->ndigit ? p->digit[i].scale : p->scale;
		if (n == most) { /* one too many: added to the last */
			KVal sum = scaled_value(l, term[n - 1], stride[n - 1], DT_i64);
			v = scalar2(l, S_add, sum, scaled_value(l, v, by, DT_i64), DT_i64);
			by = 1;
			n--;
		}
		term[n] = v;
		stride[n++] = by;
	}
	return n;
}

KVal place_value(Lower *l, const Place *p, DType dtype)
{
	KVal v = index_value(l, p->offset, p->coef, dtype), term[PLACE_DIGITS + 1];
	i64 stride[PLACE_DIGITS + 1];
	u32 n = place_terms(l, p, 0, COUNT(term), term, stride);
	for (u32 i = 0; i < n; i++)
		v = scalar2(l, S_add, v, scaled_value(l, term[i], stride[i], dtype), dtype);
	return v;
}

Place place_scaled(Lower *l, Place p, i64 by)
{
	(void)l;
	p.offset *= by;
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		p.coef[d] *= by;
	for (u32 i = 0; i < p.ndigit; i++)
		p.digit[i].scale *= by;
	p.scale *= by;
	return p;
}

static void add_dynamic(Lower *l, Place *p, KVal dynamic, i64 scale)
{
	if (p->dynamic.i) { /* one dynamic part a place: the two are added up */
		KVal mine = scaled_value(l, p->dynamic, p->scale, DT_i64);
		dynamic = scalar2(l, S_add, mine, scaled_value(l, dynamic, scale, DT_i64), DT_i64);
		scale = 1;
	}
	p->dynamic = dynamic;
	p->scale = scale;
}

/* Values that a digit takes, its scale aside: 0 to one less. */
static i64 digit_range(const Lower *l, const Digit *g)
{
	i64 n = (l->k->dim[g->dim].extent + g->by - 1) / g->by;
	return g->mod ? MIN(n, g->mod) : n;
}

static bool digit_before(const Digit *a, const Digit *b)
{
	return a->dim != b->dim ? a->dim < b->dim : a->by != b->by ? a->by < b->by : a->mod < b->mod;
}

/* s m (x / (b m) % n) + s (x / b % m) is s (x / b % (m n)): is `high` the first of these, and `low` the second? */
static bool digits_join(const Digit *high, const Digit *low)
{
	return low->mod && high->by == low->by * low->mod && high->scale == low->scale * low->mod;
}

static void add_digit(Lower *l, Place *p, Digit g)
{
	for (;;) {
		i64 n = (l->k->dim[g.dim].extent + g.by - 1) / g.by;
		if (g.mod >= n)
			g.mod = 0;
		if (n <= 1 || g.mod == 1 || !g.scale)
			return;
		if (g.by == 1 && !g.mod) {
			p->coef[g.dim] += g.scale;
			return;
		}
		u32 i;
		for (i = 0; i < p->ndigit; i++) {
			const Digit h = p->digit[i];
			if (h.dim != g.dim)
				continue;
			if (h.by == g.by && h.mod == g.mod) {
				g.scale += h.scale;
				break;
			}
			const Digit *high = h.by > g.by ? &h : &g, *low = h.by > g.by ? &g : &h;
			if (digits_join(high, low)) {
				g = (Digit){ low->by, high->mod * low->mod, low->scale, g.dim };
				break;
			}
		}
		if (i == p->ndigit)
			break;
		p->ndigit--;
		memmove(p->digit + i, p->digit + i + 1, (p->ndigit - i) * sizeof *p->digit);
	}
	if (p->ndigit == PLACE_DIGITS) {
		add_dynamic(l, p, digit_value(l, &g), g.scale);
		return;
	}
	u32 at = p->ndigit++;
	for (; at && digit_before(&g, &p->digit[at - 1]); at--)
		p->digit[at] = p->digit[at - 1];
	p->digit[at] = g;
}

Place place_add(Lower *l, Place a, Place b)
{
	a.offset += b.offset;
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		a.coef[d] += b.coef[d];
	for (u32 i = 0; i < b.ndigit; i++)
		add_digit(l, &a, b.digit[i]);
	if (b.dynamic.i)
		add_dynamic(l, &a, b.dynamic, b.scale);
	return a;
}

/* Splits the digit, whose range is not below q, into what is divided by q and what is left; false where that is no digit. */
static bool cut_digit(const Digit *g, i64 q, Digit *quotient, Digit *rest)
{
	if (g->mod % q)
		return false;
	*quotient = (Digit){ g->by * q, g->mod / q, 1, g->dim };
	*rest = (Digit){ g->by, q, g->scale, g->dim };
	return true;
}

/* One term of `rest` alone runs past `stride`, which is `most` in all, and the others are less than one step of it: that term's digits
 * go where they belong. */
static bool divide_term(Lower *l, i64 stride, i64 most, Place *quotient, Place *rest)
{
	for (u32 i = 0; i < l->k->ndim + rest->ndigit; i++) {
		bool whole = i < l->k->ndim;
		Digit g = whole ? (Digit){ 1, 0, rest->coef[i], i } : rest->digit[i - l->k->ndim], high, low;
		if (g.scale <= 0 || stride % g.scale)
			continue;
		i64 q = stride / g.scale, others = most - g.scale * (digit_range(l, &g) - 1);
		if (others >= g.scale || !cut_digit(&g, q, &high, &low))
			continue;
		if (whole) {
			rest->coef[i] = 0;
		} else {
			u32 at = i - l->k->ndim;
			rest->ndigit--;
			memmove(rest->digit + at, rest->digit + at + 1, (rest->ndigit - at) * sizeof *rest->digit);
		}
		add_digit(l, quotient, high);
		add_digit(l, rest, low);
		return !quotient->dynamic.i && !rest->dynamic.i;
	}
	return false;
}

/* May a dimension of that role become two? Targets have one loop, or one of each role, where not (kernel.h). */
static bool may_split(const Kernel *k, DimRole role)
{
	switch (k->class) {
	case KERNEL_ATTENTION:
	case KERNEL_ATTENTION_GRAD: return role == DIM_BATCH;
	case KERNEL_GROUPED:
	case KERNEL_GROUPED_WEIGHTS: return false;
	default: return role != DIM_ROW;
	}
}

/* linear / stride and linear % stride as places; false where they are not made of coordinates and digits. */
static bool divide(Lower *l, const Place *linear, i64 stride, Place *quotient, Place *rest)
{
	*quotient = (Place){ 0 };
	*rest = *linear;
	if (linear->dynamic.i)
		return false;
	rest->offset = ((linear->offset % stride) + stride) % stride;
	quotient->offset = (linear->offset - rest->offset) / stride;
	i64 most = rest->offset;
	for (u32 d = 0; d < l->k->ndim; d++) {
		if (linear->coef[d] % stride == 0) {
			quotient->coef[d] = linear->coef[d] / stride;
			rest->coef[d] = 0;
		} else if (linear->coef[d] < 0) {
			return false;
		} else {
			most += linear->coef[d] * (l->k->dim[d].extent - 1);
		}
	}
	rest->ndigit = 0;
	for (u32 i = 0; i < linear->ndigit; i++) {
		Digit g = linear->digit[i];
		if (g.scale % stride == 0) {
			g.scale /= stride;
			add_digit(l, quotient, g);
		} else if (g.scale < 0) {
			return false;
		} else {
			most += g.scale * (digit_range(l, &g) - 1);
			rest->digit[rest->ndigit++] = g;
		}
	}
	if (most < stride)
		return true;
	/* A coordinate that runs past `stride`: split where it does, if that is at a whole place. */
	for (u32 d = 0; d < l->k->ndim; d++) {
		i64 c = rest->coef[d], extent = l->k->dim[d].extent;
		if (c <= 0 || c * (extent - 1) < stride || stride % c || !may_split(l->k, l->k->dim[d].role) || rest->offset)
			continue;
		i64 inner = stride / c;
		if (extent % inner || l->k->ndim >= KERNEL_DIMS)
			continue;
		l->split_dim = d + 1;
		l->split_inner = inner;
		return true; /* what follows is thrown away */
	}
	return divide_term(l, stride, most, quotient, rest);
}

/* By arithmetic at run time: right for any index. */
static void divide_dynamic(Lower *l, const Place *linear, i64 stride, i64 extent, bool first,
			   Place *out)
{
	DType t = MAX(stride, extent) <= INT32_MAX ? place_dtype(l, linear) : DT_i64;
	KVal v = place_value(l, linear, t);
	if (stride != 1)
		v = scalar2(l, S_floordiv, v, number(l, (f64)stride, t), t);
	if (!first)
		v = scalar2(l, S_mod, v, number(l, (f64)extent, t), t);
	*out = (Place){ .dynamic = v, .scale = 1 };
}

/* result dimensions [r0, r1) and operand dimensions [o0, o1) hold the same elements. */
static void reshape_piece(Lower *l, const Type *result, const Index *at, u32 r0, u32 r1,
			  const Type *operand, u32 o0, u32 o1, Index *out)
{
	Place linear = { 0 };
	i64 stride = 1;
	for (u32 r = r1; r-- > r0;) {
		linear = place_add(l, linear, place_scaled(l, at->dim[r], stride));
		stride *= type_extent(result, r);
	}
	const Place whole = linear;
	stride = 1;
	for (u32 o = o0; o < o1; o++)
		stride *= type_extent(operand, o);
	const i64 all = stride;
	for (u32 o = o0; o < o1; o++) {
		stride /= type_extent(operand, o);
		if (o + 1 == o1) {
			out->dim[o] = linear;
		} else {
			Place rest;
			if (!divide(l, &linear, stride, &out->dim[o], &rest))
				break;
			linear = rest;
			continue;
		}
		return;
	}
	stride = all;
	for (u32 o = o0; o < o1; o++) {
		i64 extent = type_extent(operand, o);
		stride /= extent;
		divide_dynamic(l, &whole, stride, extent, o == o0, &out->dim[o]);
	}
}

void index_reshape(Lower *l, const Type *result, const Index *at, const Type *operand, Index *out)
{
	*out = (Index){ .rank = operand->rank };
	if (!type_elements(operand)) /* nothing is read, and extents tell of no pieces */
		return;
	/* A dimension of one element has the index 0, whatever stands around it. The others are matched
	 * piece by piece, so that what a reshape leaves alone passes through untouched. */
	u32 r = 0, o = 0;
	while (r < result->rank || o < operand->rank) {
		u32 r0 = r, o0 = o;
		i64 nr = 1, no = 1;
		if (r < result->rank)
			nr = type_extent(result, r++);
		if (o < operand->rank)
			no = type_extent(operand, o++);
		while (nr != no) {
			if (nr < no)
				nr *= type_extent(result, r++);
			else
				no *= type_extent(operand, o++);
		}
		/* trailing ones would otherwise be left without a partner */
		if (r == result->rank)
			while (o < operand->rank && type_extent(operand, o) == 1)
				o++;
		if (o == operand->rank)
			while (r < result->rank && type_extent(result, r) == 1)
				r++;
		if (r - r0 == 1 && o - o0 == 1)
			out->dim[o0] = at->dim[r0];
		else
			reshape_piece(l, result, at, r0, r, operand, o0, o, out);
	}
}
