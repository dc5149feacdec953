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

bool place_equal(const Place *a, const Place *b)
{
	return a->offset == b->offset && a->dynamic.i == b->dynamic.i &&
	       (!a->dynamic.i || a->scale == b->scale) && memcmp(a->coef, b->coef, sizeof a->coef) == 0;
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

KVal place_value(Lower *l, const Place *p, DType dtype)
{
	Access a = { .offset = p->offset };
	memcpy(a.stride, p->coef, sizeof a.stride);
	KVal v = kernel_inst(l->k, (KInst){ .op = K_index, .dtype = (u8)dtype, .access = &a });
	if (!p->dynamic.i)
		return v;
	KVal d = p->dynamic;
	if (l->k->inst.v[d.i].dtype != dtype)
		d = kernel_inst(l->k, (KInst){ .op = K_cast, .dtype = (u8)dtype, .in = { d } });
	if (p->scale != 1)
		d = scalar2(l, S_mul, d, number(l, (f64)p->scale, dtype), dtype);
	return scalar2(l, S_add, v, d, dtype);
}

Place place_scaled(Lower *l, Place p, i64 by)
{
	(void)l;
	p.offset *= by;
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		p.coef[d] *= by;
	p.scale *= by;
	return p;
}

Place place_add(Lower *l, Place a, Place b)
{
	if (a.dynamic.i && b.dynamic.i) {
		/* one dynamic part a place: add the two up */
		Place part = { .dynamic = b.dynamic, .scale = b.scale }, mine = { .dynamic = a.dynamic,
										  .scale = a.scale };
		a.dynamic = scalar2(l, S_add, place_value(l, &mine, DT_i64),
				    place_value(l, &part, DT_i64), DT_i64);
		a.scale = 1;
	} else if (b.dynamic.i) {
		a.dynamic = b.dynamic;
		a.scale = b.scale;
	}
	a.offset += b.offset;
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		a.coef[d] += b.coef[d];
	return a;
}

/* linear / stride and linear % stride as places; false where no affine answer exists. */
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
	if (most < stride)
		return true;
	/* A coordinate that runs past `stride`: split where it does, if that is at a whole place. */
	for (u32 d = 0; d < l->k->ndim; d++) {
		i64 c = rest->coef[d], extent = l->k->dim[d].extent;
		DimRole role = l->k->dim[d].role;
		bool single = role == DIM_ROW || ((l->k->class == KERNEL_ATTENTION ||
						   l->k->class == KERNEL_ATTENTION_GRAD) &&
						  role != DIM_BATCH);
		if (c <= 0 || c * (extent - 1) < stride || stride % c || single || rest->offset)
			continue;
		i64 inner = stride / c;
		if (extent % inner || l->k->ndim >= KERNEL_DIMS)
			continue;
		l->split_dim = d + 1;
		l->split_inner = inner;
		return true; /* what follows is thrown away */
	}
	return false;
}

/* By arithmetic at run time: right for any index. */
static void divide_dynamic(Lower *l, const Place *linear, i64 stride, i64 extent, bool first,
			   Place *out)
{
	KVal v = place_value(l, linear, DT_i64);
	if (stride != 1)
		v = scalar2(l, S_floordiv, v, number(l, (f64)stride, DT_i64), DT_i64);
	if (!first)
		v = scalar2(l, S_mod, v, number(l, (f64)extent, DT_i64), DT_i64);
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
