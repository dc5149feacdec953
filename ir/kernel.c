/* ir/kernel.c: making kernels, and what identifies one. See kernel.h. */
#include "ir/kernel.h"

#include <math.h>
#include <string.h>

const char *const kernel_class_name[KERNEL_CLASSES] = {
	[KERNEL_MAP] = "map",
	[KERNEL_ROW] = "row",
	[KERNEL_COLUMN] = "column",
	[KERNEL_DOT] = "dot",
	[KERNEL_ATTENTION] = "attention",
	[KERNEL_ATTENTION_GRAD] = "attention_grad",
	[KERNEL_SCATTER] = "scatter",
	[KERNEL_SCAN] = "scan",
	[KERNEL_SORT] = "sort",
	[KERNEL_GROUPED] = "grouped",
	[KERNEL_GROUPED_WEIGHTS] = "grouped_weights",
	[KERNEL_COLLECTIVE] = "collective",
};

const char *const dim_role_name[DIM_ROLES] = {
	[DIM_PARALLEL] = "parallel", [DIM_ROW] = "row", [DIM_REDUCE] = "reduce",
	[DIM_VECTOR] = "vector",     [DIM_BATCH] = "batch", [DIM_G] = "group",
	[DIM_R] = "head",            [DIM_M] = "m",     [DIM_N] = "n",
	[DIM_K] = "k",               [DIM_V] = "v",     [DIM_INDEX] = "index",
};

const KScalarInfo kernel_scalar[SCALARS] = {
#define SAME false
#define REAL false
#define BOOL true
#define SCALAR(name, nin, result, value, flops, effort) [S_##name] = { #name, nin, result, flops, effort },
#include "ir/scalar.def"
#undef SCALAR
#undef SAME
#undef REAL
#undef BOOL
};

f64 kernel_scalar_value(Scalar s, f64 a, f64 b, f64 c)
{
	(void)b, (void)c;
	switch (s) {
#define SCALAR(name, nin, result, value, flops, effort) \
	case S_##name:                                  \
		return value;
#include "ir/scalar.def"
#undef SCALAR
	default: NEVER("a scalar function that is not in the table");
	}
}

Kernel *kernel_new(Arena *arena, Ir *ir, KernelClass class)
{
	Kernel *k = NEW(arena, Kernel);
	k->arena = arena;
	k->ir = ir;
	k->class = class;
	k->name = "";
	k->scope = "";
	VEC_PUSH(arena, &k->inst, (KInst){ .op = K_none });
	return k;
}

u32 kernel_slot(Kernel *k, KSlot slot)
{
	VEC_PUSH(k->arena, &k->slot, slot);
	return k->slot.n - 1;
}

static bool same_access(const Kernel *k, const Access *a, const Access *b)
{
	if (a == b)
		return true;
	if (!a || !b || a->slot != b->slot || a->offset != b->offset || a->ndynamic != b->ndynamic)
		return false;
	for (u32 i = 0; i < a->ndynamic; i++)
		if (a->dynamic[i].index.i != b->dynamic[i].index.i ||
		    a->dynamic[i].stride != b->dynamic[i].stride)
			return false;
	return memcmp(a->stride, b->stride, k->ndim * sizeof *a->stride) == 0;
}

static bool same_inst(const Kernel *k, const KInst *a, const KInst *b)
{
	return a->op == b->op && a->scalar == b->scalar && a->reduce == b->reduce &&
	       a->dtype == b->dtype && memcmp(a->in, b->in, sizeof a->in) == 0 &&
	       memcmp(&a->imm, &b->imm, sizeof a->imm) == 0 && a->key == b->key &&
	       same_access(k, a->access, b->access);
}

/* Bits of the dimensions that a reduction takes away. */
static u32 reduced_dims(const Kernel *k)
{
	u32 mask = 0;
	for (u32 d = 0; d < k->ndim; d++)
		if (k->dim[d].role == DIM_ROW || k->dim[d].role == DIM_REDUCE)
			mask |= 1u << d;
	return mask;
}

/* Bits of the dimensions of skeleton result `i` (K_acc). */
static u32 result_dims(const Kernel *k, u32 i)
{
	static const u32 bhm = 1 << DIM_BATCH | 1 << DIM_G | 1 << DIM_R | 1 << DIM_M;
	static const u32 bgn = 1 << DIM_BATCH | 1 << DIM_G | 1 << DIM_N;
	u32 roles;
	switch (k->class) {
	case KERNEL_DOT: roles = ~(1u << DIM_K | (u32)(i == 1) << DIM_N | (u32)(i == 2) << DIM_M); break;
	case KERNEL_GROUPED:
	case KERNEL_GROUPED_WEIGHTS: roles = ~(1u << DIM_K); break;
	case KERNEL_ATTENTION: roles = i == 0 ? bhm | 1 << DIM_V : bhm; break;
	case KERNEL_ATTENTION_GRAD:
		roles = i == 0   ? bhm | 1 << DIM_K
			: i == 1 ? bgn | 1 << DIM_K
			: i == 2 ? bgn | 1 << DIM_V
				 : bhm | 1 << DIM_N;
		break;
	default: roles = ~0u; break;
	}
	u32 mask = 0;
	for (u32 d = 0; d < k->ndim; d++)
		if (roles >> k->dim[d].role & 1)
			mask |= 1u << d;
	return mask;
}

KVal kernel_inst(Kernel *k, KInst inst)
{
	/* `depends` and `sweep` follow from the operands */
	inst.depends = 0;
	inst.sweep = 0;
	for (u32 i = 0; i < COUNT(inst.in); i++) {
		if (!inst.in[i].i)
			continue;
		assert(inst.in[i].i < k->inst.n);
		const KInst *in = &k->inst.v[inst.in[i].i];
		inst.depends |= in->depends;
		inst.sweep = MAX(inst.sweep, in->sweep);
	}
	if (inst.access) {
		for (u32 d = 0; d < k->ndim; d++)
			if (inst.access->stride[d] && k->dim[d].extent != 1)
				inst.depends |= 1u << d;
		for (u32 i = 0; i < inst.access->ndynamic; i++) {
			const KInst *in = &k->inst.v[inst.access->dynamic[i].index.i];
			inst.depends |= in->depends;
			inst.sweep = MAX(inst.sweep, in->sweep);
		}
	}
	if (inst.op == K_reduce) {
		inst.depends &= ~reduced_dims(k);
		inst.sweep++;
	}
	if (inst.op == K_acc)
		inst.depends = result_dims(k, (u32)inst.imm);
	if (inst.op != K_store)
		/* linear, but bodies are tens of instructions */
		for (u32 i = 1; i < k->inst.n; i++)
			if (same_inst(k, &k->inst.v[i], &inst))
				return (KVal){ i };
	if (inst.access)
		inst.access = COPYN(k->arena, Access, inst.access, 1);
	VEC_PUSH(k->arena, &k->inst, inst);
	return (KVal){ k->inst.n - 1 };
}

/* 0, 1, or "a number". */
static u8 stride_class(i64 stride)
{
	return stride == 0 ? 0 : stride == 1 ? 1 : 2;
}

static u64 hash_access(u64 h, const Kernel *k, const Access *a)
{
	h = hash_bytes(h, &a->slot, sizeof a->slot);
	for (u32 d = 0; d < k->ndim; d++) {
		/* along a dimension of one element nothing moves, and code may know that */
		u8 c = a->stride[d] && k->dim[d].extent == 1 ? 3 : stride_class(a->stride[d]);
		h = hash_bytes(h, &c, 1);
	}
	h = hash_bytes(h, &a->ndynamic, sizeof a->ndynamic);
	for (u32 i = 0; i < a->ndynamic; i++) {
		u8 c = stride_class(a->dynamic[i].stride);
		h = hash_bytes(h, &a->dynamic[i].index, sizeof a->dynamic[i].index);
		h = hash_bytes(h, &c, 1);
	}
	return h;
}

u64 kernel_shape_hash(const Kernel *k)
{
	u32 head[] = { (u32)k->class,
		       k->ndim,
		       k->noperand,
		       (u32)(k->causal | k->has_mask << 1 | k->has_bias << 2 | k->accumulate << 3 |
			     k->descending << 4 | k->reverse << 5 | k->exclusive << 6),
		       (u32)k->compute,
		       k->slot.n,
		       k->inst.n,
		       (u32)(k->window != 0) };
	u64 h = hash_bytes(HASH_SEED, head, sizeof head);
	h = hash_bytes(h, &k->scale, sizeof k->scale);
	h = hash_bytes(h, &k->softcap, sizeof k->softcap);
	h = hash_bytes(h, &k->window, sizeof k->window);
	for (u32 d = 0; d < k->ndim; d++)
		h = hash_bytes(h, &k->dim[d].role, sizeof k->dim[d].role);
	for (u32 i = 0; i < k->noperand; i++)
		h = hash_bytes(h, &k->operand[i], sizeof k->operand[i]);
	for (u32 i = 0; i < k->slot.n; i++) {
		const KSlot *s = &k->slot.v[i];
		u8 b[] = { (u8)s->dtype, s->read, (u8)(s->written | s->streamed << 1) };
		h = hash_bytes(h, b, sizeof b);
	}
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *n = &k->inst.v[i];
		u8 b[] = { n->op, n->scalar, n->reduce, n->dtype };
		h = hash_bytes(h, b, sizeof b);
		h = hash_bytes(h, n->in, sizeof n->in);
		h = hash_bytes(h, &n->imm, sizeof n->imm);
		h = hash_bytes(h, &n->depends, sizeof n->depends);
		if (n->access)
			h = hash_access(h, k, n->access);
	}
	if (k->scatter)
		h = hash_access(h, k, k->scatter);
	return h;
}

static u32 access_numbers(const Kernel *k, const Access *a, i64 *to)
{
	u32 n = 0;
	if (to) {
		to[n] = a->offset;
		for (u32 d = 0; d < k->ndim; d++)
			to[n + 1 + d] = a->stride[d];
		for (u32 i = 0; i < a->ndynamic; i++)
			to[n + 1 + k->ndim + i] = a->dynamic[i].stride;
	}
	return 1 + k->ndim + a->ndynamic;
}

/* The key of a random draw is a number too: equal draws of different layers share code. */
u32 kernel_numbers(const Kernel *k, i64 *number)
{
	u32 n = 0;
	for (u32 d = 0; d < k->ndim; d++, n++)
		if (number)
			number[n] = k->dim[d].extent;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->access)
			n += access_numbers(k, in->access, number ? number + n : NULL);
		if (in->op == K_random) {
			if (number)
				number[n] = (i64)in->key;
			n++;
		}
	}
	if (k->scatter) {
		n += access_numbers(k, k->scatter, number ? number + n : NULL);
		if (number)
			number[n] = k->slot.v[k->scatter->slot].elements;
		n++;
	}
	return n;
}

u32 kernel_access_number(const Kernel *k, const Access *a)
{
	u32 n = k->ndim;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->access == a)
			return n;
		if (in->access)
			n += access_numbers(k, in->access, NULL);
		n += in->op == K_random;
	}
	if (k->scatter == a)
		return n;
	NEVER("an access that is not the kernel's");
}

DType kernel_operand_dtype(const Kernel *k, u32 i)
{
	return dtype_is_f8(k->compute) ? (DType)k->inst.v[k->operand[i].i].dtype : k->compute;
}

u32 kernel_results_needed(const Kernel *k, KVal v)
{
	if (!v.i)
		return 0;
	const KInst *in = &k->inst.v[v.i];
	u32 mask = in->op == K_acc ? 1u << (u32)in->imm : 0;
	for (u32 j = 0; j < 3; j++)
		mask |= kernel_results_needed(k, in->in[j]);
	for (u32 j = 0; in->access && j < in->access->ndynamic; j++)
		mask |= kernel_results_needed(k, in->access->dynamic[j].index);
	return mask;
}

void kernel_mark_needed(const Kernel *k, KVal v, bool *mark)
{
	if (!v.i || mark[v.i])
		return;
	mark[v.i] = true;
	const KInst *in = &k->inst.v[v.i];
	for (u32 i = 0; i < COUNT(in->in); i++)
		kernel_mark_needed(k, in->in[i], mark);
	for (u32 i = 0; in->access && i < in->access->ndynamic; i++)
		kernel_mark_needed(k, in->access->dynamic[i].index, mark);
}

bool kernel_stores_result(const Kernel *k, u32 which)
{
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store && kernel_results_needed(k, (KVal){ i }) >> which & 1)
			return true;
	return false;
}
