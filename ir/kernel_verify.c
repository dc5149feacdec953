/* ir/kernel_verify.c: what kernel.h promises of a kernel, checked: order and types of instructions, the
 * roles of each class, what may depend on what, and that no access can leave its slot. The last is found
 * by intervals: an index from memory has none, and must have been clamped (or the access be guarded). */
#include "ir/kernel.h"

#include <math.h>

typedef struct Interval {
	f64 low, high;
} Interval;

typedef struct Verify {
	const Kernel *k;
	Diag *d;
	bool fine;
	Interval *range; /* [inst] */
	u32 at;          /* the instruction looked at, 0: none */
} Verify;

PL_PRINTF(2, 3)
static void fail(Verify *v, const char *format, ...)
{
	Arena tmp = ARENA("kernel_verify");
	va_list args;
	va_start(args, format);
	const char *why = arena_vprintf(&tmp, format, args);
	va_end(args);
	Loc loc = v->at ? v->k->inst.v[v->at].loc : v->k->loc;
	if (v->at)
		diag_error(v->d, E0711, loc, "kernel %s: %%%u %s", v->k->name, v->at, why);
	else
		diag_error(v->d, E0711, loc, "kernel %s: %s", v->k->name, why);
	arena_free(&tmp);
	v->fine = false;
}

/* ---- ranges of integers ---- */

static Interval place_range(const Verify *v, const Access *a)
{
	Interval r = { (f64)a->offset, (f64)a->offset };
	for (u32 d = 0; d < v->k->ndim; d++) {
		f64 most = (f64)a->stride[d] * (f64)(v->k->dim[d].extent - 1);
		r.low += MIN(most, 0);
		r.high += MAX(most, 0);
	}
	for (u32 i = 0; i < a->ndynamic; i++) {
		Interval x = v->range[a->dynamic[i].index.i];
		f64 p = x.low * (f64)a->dynamic[i].stride, q = x.high * (f64)a->dynamic[i].stride;
		r.low += MIN(p, q);
		r.high += MAX(p, q);
	}
	return r;
}

static Interval scalar_range(const KInst *in, const Interval *x)
{
	const Interval any = { -INFINITY, INFINITY };
	Interval a = x[0], b = x[1];
	switch ((Scalar)in->scalar) {
	case S_add: return (Interval){ a.low + b.low, a.high + b.high };
	case S_sub: return (Interval){ a.low - b.high, a.high - b.low };
	case S_neg: return (Interval){ -a.high, -a.low };
	case S_min: return (Interval){ MIN(a.low, b.low), MIN(a.high, b.high) };
	case S_max: return (Interval){ MAX(a.low, b.low), MAX(a.high, b.high) };
	case S_where: return (Interval){ MIN(x[1].low, x[2].low), MAX(x[1].high, x[2].high) };
	case S_mul: {
		f64 p[] = { a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high };
		Interval r = { INFINITY, -INFINITY };
		for (u32 i = 0; i < 4; i++) {
			f64 y = isnan(p[i]) ? 0 : p[i];
			r.low = MIN(r.low, y);
			r.high = MAX(r.high, y);
		}
		return r;
	}
	case S_floordiv:
		if (b.low != b.high || !(b.low > 0))
			return any;
		return (Interval){ floor(a.low / b.low), floor(a.high / b.low) };
	case S_mod:
		if (b.low != b.high || !(b.low > 0))
			return any;
		return a.low >= 0 && a.high < b.low ? a : (Interval){ 0, b.low - 1 };
	default: return any;
	}
}

static Interval inst_range(const Verify *v, const KInst *in)
{
	DType d = (DType)in->dtype;
	Interval any = { -INFINITY, INFINITY };
	if (d == DT_b1)
		return (Interval){ 0, 1 };
	switch (in->op) {
	case K_const: return (Interval){ in->imm, in->imm };
	case K_index: return place_range(v, in->access);
	case K_cast: return v->range[in->in[0].i];
	case K_scalar: {
		Interval x[3] = { any, any, any };
		for (u32 j = 0; j < 3; j++)
			if (in->in[j].i)
				x[j] = v->range[in->in[j].i];
		return scalar_range(in, x);
	}
	default: return any;
	}
}

static void check_access(Verify *v, const Access *a, bool guarded)
{
	const Kernel *k = v->k;
	if (a->slot >= k->slot.n) {
		fail(v, "touches slot %u of %u", a->slot, k->slot.n);
		return;
	}
	Interval r = place_range(v, a);
	if (!guarded && !(r.low >= 0 && r.high < (f64)k->slot.v[a->slot].elements))
		fail(v, "may touch elements %.0f to %.0f of slot %u, which has %lld", r.low, r.high, a->slot,
		     (long long)k->slot.v[a->slot].elements);
}

/* ---- instructions ---- */

static bool is_b1(const Kernel *k, KVal x)
{
	return k->inst.v[x.i].dtype == DT_b1;
}

static void check_types(Verify *v, const KInst *in)
{
	const Kernel *k = v->k;
	DType d = (DType)in->dtype;
	switch (in->op) {
	case K_load:
	case K_store:
		if (in->access->slot < k->slot.n && k->slot.v[in->access->slot].dtype != d)
			fail(v, "is %s, its slot %s", dtype_info[d].name,
			     dtype_info[k->slot.v[in->access->slot].dtype].name);
		if (in->op == K_store && k->inst.v[in->in[0].i].dtype != d)
			fail(v, "stores a %s as %s", dtype_info[k->inst.v[in->in[0].i].dtype].name,
			     dtype_info[d].name);
		if (in->in[in->op == K_store].i && !is_b1(k, in->in[in->op == K_store]))
			fail(v, "has a condition that is not b1");
		break;
	case K_reduce:
		if (k->inst.v[in->in[0].i].dtype != d)
			fail(v, "reduces a %s to %s", dtype_info[k->inst.v[in->in[0].i].dtype].name,
			     dtype_info[d].name);
		break;
	case K_scalar: {
		const KScalarInfo *s = &kernel_scalar[in->scalar];
		u32 first = in->scalar == S_where;
		for (u32 j = 0; j < 3; j++)
			if ((j < s->nin) != (in->in[j].i != 0)) {
				fail(v, "is %s with another number of operands than %u", s->name, s->nin);
				return;
			}
		for (u32 j = first; j < s->nin; j++)
			if (k->inst.v[in->in[j].i].dtype != k->inst.v[in->in[first].i].dtype)
				fail(v, "is %s of several dtypes", s->name);
		if (in->scalar == S_where && !is_b1(k, in->in[0]))
			fail(v, "chooses by what is not b1");
		DType want = s->is_bool ? DT_b1 : (DType)k->inst.v[in->in[first].i].dtype;
		if (d != want)
			fail(v, "is %s of %s, but gives %s", s->name,
			     dtype_info[k->inst.v[in->in[first].i].dtype].name, dtype_info[d].name);
		break;
	}
	default: break;
	}
}

static void check_inst(Verify *v, u32 i)
{
	const Kernel *k = v->k;
	const KInst *in = &k->inst.v[i];
	v->at = i;
	if (in->op == K_none || in->op >= K_OPS) {
		fail(v, "is no instruction");
		return;
	}
	static const u8 operands[K_OPS] = { [K_store] = 1, [K_reduce] = 1, [K_cast] = 1, [K_random] = 2,
					    [K_scalar] = 1 };
	bool sound = true;
	for (u32 j = 0; j < 3; j++)
		if (in->in[j].i >= i || (j < operands[in->op] && !in->in[j].i))
			sound = false;
	for (u32 j = 0; in->access && j < in->access->ndynamic; j++)
		if (!in->access->dynamic[j].index.i || in->access->dynamic[j].index.i >= i ||
		    dtype_is_float((DType)k->inst.v[in->access->dynamic[j].index.i].dtype))
			sound = false;
	bool placed = in->op == K_load || in->op == K_store || in->op == K_index || in->op == K_random;
	if (placed != (in->access != NULL))
		sound = false;
	if (!sound) {
		fail(v, "lacks an operand, or uses a value before it is made");
		v->range[i] = (Interval){ -INFINITY, INFINITY };
		return;
	}
	check_types(v, in);
	v->range[i] = inst_range(v, in);
	if (in->op == K_load || in->op == K_store) {
		check_access(v, in->access, in->in[in->op == K_store].i != 0);
		if (in->access->slot < k->slot.n) {
			const KSlot *s = &k->slot.v[in->access->slot];
			if (in->op == K_load ? !s->read : !s->written)
				fail(v, "touches a slot that is not declared so");
		}
	}
	if (in->op == K_reduce && k->class != KERNEL_ROW && k->class != KERNEL_COLUMN)
		fail(v, "is a reduction in a kernel of class %s", kernel_class_name[k->class]);
	u32 reduced = 0;
	for (u32 d = 0; d < k->ndim; d++)
		if (k->dim[d].role == DIM_REDUCE)
			reduced |= 1u << d;
	if (k->class == KERNEL_COLUMN && in->sweep && in->depends & reduced)
		fail(v, "uses a reduction and depends on what was reduced");
	if (k->class == KERNEL_COLUMN && in->op == K_reduce && in->sweep > 1)
		fail(v, "reduces a reduction");
	v->at = 0;
}

/* ---- the class ---- */

typedef struct Rule {
	/* roles in order; lower case letters below: '*' any number, '+' at least one, '1' exactly one */
	const char *text;
	DimRole role[8];
	u32 operands, operands_most, results;
} Rule;

static const Rule rules[KERNEL_CLASSES] = {
	[KERNEL_MAP] = { "+", { DIM_PARALLEL }, 0, 0, 0 },
	[KERNEL_ROW] = { "*1", { DIM_PARALLEL, DIM_ROW }, 0, 0, 0 },
	[KERNEL_COLUMN] = { "*+1", { DIM_PARALLEL, DIM_REDUCE, DIM_VECTOR }, 0, 0, 0 },
	[KERNEL_DOT] = { "*+++", { DIM_BATCH, DIM_M, DIM_N, DIM_K }, 2, 2, 3 },
	[KERNEL_ATTENTION] = { "*11++++", { DIM_BATCH, DIM_G, DIM_R, DIM_M, DIM_N, DIM_K, DIM_V }, 3, 5, 2 },
	[KERNEL_ATTENTION_GRAD] = { "*11++++", { DIM_BATCH, DIM_G, DIM_R, DIM_M, DIM_N, DIM_K, DIM_V }, 6, 9,
				    4 },
	[KERNEL_SCATTER] = { "*++", { DIM_PARALLEL, DIM_INDEX, DIM_VECTOR }, 2, 2, 0 },
	[KERNEL_SCAN] = { "*1", { DIM_PARALLEL, DIM_ROW }, 1, 1, 1 },
	[KERNEL_SORT] = { "*1", { DIM_PARALLEL, DIM_ROW }, 1, 1, 2 },
	[KERNEL_GROUPED] = { "1111", { DIM_G, DIM_M, DIM_N, DIM_K }, 4, 4, 1 },
	[KERNEL_GROUPED_WEIGHTS] = { "1111", { DIM_G, DIM_M, DIM_N, DIM_K }, 4, 4, 1 },
	[KERNEL_COLLECTIVE] = { "", { 0 }, 0, 0, 0 },
};

static void check_class(Verify *v)
{
	const Kernel *k = v->k;
	const Rule *r = &rules[k->class];
	u32 d = 0;
	for (u32 i = 0; r->text[i]; i++) {
		u32 n = 0;
		while (d < k->ndim && k->dim[d].role == r->role[i])
			n++, d++;
		/* a vector dimension is the last one of its role */
		if ((r->text[i] == '+' && !n) || (r->text[i] == '1' && n != 1))
			fail(v, "has %u dimensions of role %s", n, dim_role_name[r->role[i]]);
	}
	if (d != k->ndim)
		fail(v, "has a dimension of role %s out of order", dim_role_name[k->dim[d].role]);
	for (u32 i = 0; i < k->ndim; i++)
		if (k->dim[i].extent < 0)
			fail(v, "has a dimension of %lld", (long long)k->dim[i].extent);
	if (k->noperand < r->operands || k->noperand > r->operands_most)
		fail(v, "has %u operands", k->noperand);
	for (u32 i = 0; i < k->noperand; i++)
		if (!k->operand[i].i || k->operand[i].i >= k->inst.n)
			fail(v, "has an operand that is no value");
	if (dtype_is_f8(k->compute) && v->fine) {
		DType a = kernel_operand_dtype(k, 0), b = kernel_operand_dtype(k, 1);
		if (k->class != KERNEL_DOT || k->compute != DT_f8e4m3 || !dtype_is_f8(a) || !dtype_is_f8(b) || (a == DT_f8e5m2 && b == a))
			fail(v, "takes products in 8 bits of %s and %s", dtype_info[a].name, dtype_info[b].name);
	}
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_acc && !((u32)k->inst.v[i].imm < r->results))
			fail(v, "has no result %u", (u32)k->inst.v[i].imm);
	if ((k->class == KERNEL_SCATTER) != (k->scatter != NULL))
		fail(v, "a scatter, or not, without knowing where");
	if (k->scatter && v->fine) {
		if (k->scatter->slot != 0 || k->scatter->ndynamic != 1 ||
		    k->scatter->dynamic[0].index.i != k->operand[1].i)
			fail(v, "adds elsewhere than in slot 0 at its second operand");
		else
			check_access(v, k->scatter, false);
	}
}

bool kernel_verify(const Kernel *k, Diag *d)
{
	Arena tmp = ARENA("kernel_verify");
	Verify v = { .k = k, .d = d, .fine = true, .range = NEWN(&tmp, Interval, k->inst.n + 1) };
	if (k->ndim > KERNEL_DIMS || k->class >= KERNEL_CLASSES) {
		fail(&v, "is of no class");
	} else {
		bool empty = false; /* then nothing is touched */
		for (u32 i = 0; i < k->ndim; i++)
			empty |= k->dim[i].extent == 0;
		for (u32 i = 1; i < k->inst.n && !empty; i++)
			check_inst(&v, i);
		v.at = 0;
		check_class(&v);
	}
	arena_free(&tmp);
	return v.fine;
}
