/* codegen/cuda/dot_sums.c: products with the sum of an operand beside them (K_acc 1 and 2), where a library is not to give both.
 *
 * The kernel is taken apart into the product alone and a COLUMN kernel over the same slots, and is the phases of the one
 * and then those of the other. */
#include "codegen/cuda/dot.h"

#include <string.h>

/* Which sum a kernel of products stores: 1 or 2; 0: none. */
static u32 sum_of(const Kernel *k)
{
	return k->class != KERNEL_DOT ? 0 : kernel_stores_result(k, 1) ? 1 : kernel_stores_result(k, 2) ? 2 : 0;
}

bool dot_sums(const Kernel *k)
{
	return sum_of(k) != 0;
}

static Kernel *same_slots(Arena *arena, const Kernel *k, KernelClass class)
{
	Kernel *to = kernel_new(arena, k->ir, class);
	to->name = k->name;
	to->compute = k->compute;
	for (u32 i = 0; i < k->slot.n; i++)
		kernel_slot(to, k->slot.v[i]);
	return to;
}

/* What the stores of one part need: those of sum `which`, or (0) all others. */
static bool *part_of(Arena *arena, const Kernel *k, u32 which)
{
	bool *live = NEWN(arena, bool, k->inst.n + 1);
	for (u32 i = k->inst.n; i-- > 1;) {
		const KInst *in = &k->inst.v[i];
		bool sum = in->op == K_store && kernel_results_needed(k, (KVal){ i }) & ~1u;
		live[i] |= in->op == K_store && sum == (which != 0);
		for (u32 j = 0; live[i] && j < COUNT(in->in); j++)
			live[in->in[j].i] = true;
		for (u32 j = 0; live[i] && in->access && j < in->access->ndynamic; j++)
			live[in->access->dynamic[j].index.i] = true;
	}
	return live;
}

static void need(const Kernel *k, KVal v, bool *live)
{
	const KInst *in = &k->inst.v[v.i];
	live[v.i] = true;
	for (u32 j = 0; v.i && j < COUNT(in->in); j++)
		need(k, in->in[j], live);
	for (u32 j = 0; in->access && j < in->access->ndynamic; j++)
		need(k, in->access->dynamic[j].index, live);
}

/* K_acc as what it stands for in a COLUMN kernel: the operand, reduced. */
static KVal reduction(Kernel *to, const Kernel *k, const KInst *acc, const KVal *map)
{
	u32 operand = (u32)acc->imm - 1;
	KVal v = map[k->operand[operand].i];
	u8 as[] = { (u8)kernel_operand_dtype(k, operand), acc->dtype };
	for (u32 i = 0; i < COUNT(as); i++)
		if (to->inst.v[v.i].dtype != as[i])
			v = kernel_inst(to, (KInst){ .op = K_cast, .dtype = as[i], .in = { v } });
	return kernel_inst(to, (KInst){ .op = K_reduce, .reduce = REDUCE_sum, .dtype = acc->dtype, .in = { v }, .loc = acc->loc });
}

/* Copies live instructions, dimension d of `k` being at[d] (NONE: gone). */
static KVal *copy(Arena *arena, Kernel *to, const Kernel *k, const bool *live, const u32 *at)
{
	KVal *map = NEWN(arena, KVal, k->inst.n + 1);
	for (u32 i = 1; i < k->inst.n; i++) {
		KInst in = k->inst.v[i];
		if (!live[i])
			continue;
		if (in.op == K_acc && to->class == KERNEL_COLUMN) {
			map[i] = reduction(to, k, &in, map);
			continue;
		}
		Access access;
		for (u32 j = 0; j < COUNT(in.in); j++)
			in.in[j] = map[in.in[j].i];
		if (in.access) {
			access = *in.access;
			memset(access.stride, 0, sizeof access.stride);
			for (u32 d = 0; d < k->ndim; d++)
				if (at[d] != NONE)
					access.stride[at[d]] = in.access->stride[d];
			for (u32 j = 0; j < access.ndynamic; j++)
				access.dynamic[j].index = map[access.dynamic[j].index.i];
			in.access = &access;
		}
		map[i] = kernel_inst(to, in);
	}
	return map;
}

static const Kernel *product_alone(Arena *arena, const Kernel *k)
{
	Kernel *to = same_slots(arena, k, KERNEL_DOT);
	u32 at[KERNEL_DIMS];
	for (u32 d = 0; d < k->ndim; d++) {
		at[d] = d;
		to->dim[to->ndim++] = k->dim[d];
	}
	bool *live = part_of(arena, k, 0);
	for (u32 i = 0; i < k->noperand; i++)
		need(k, k->operand[i], live);
	const KVal *map = copy(arena, to, k, live, at);
	for (u32 i = 0; i < k->noperand; i++)
		to->operand[to->noperand++] = map[k->operand[i].i];
	return to;
}

static void take(Kernel *to, const Kernel *k, u32 *at, u32 first, u32 last, DimRole as)
{
	for (u32 d = first; d < last; d++) {
		at[d] = to->ndim;
		to->dim[to->ndim] = k->dim[d];
		to->dim[to->ndim++].role = as;
	}
}

static const Kernel *sum_alone(Arena *arena, const Kernel *k)
{
	Kernel *to = same_slots(arena, k, KERNEL_COLUMN);
	u32 at[KERNEL_DIMS], which = sum_of(k);
	DotRange b = dot_range(k, DIM_BATCH), x = dot_range(k, which == 1 ? DIM_M : DIM_N), kr = dot_range(k, DIM_K);
	memset(at, 0xff, sizeof at);
	take(to, k, at, b.first, b.last, DIM_PARALLEL);
	take(to, k, at, x.first, x.last - 1, DIM_PARALLEL);
	take(to, k, at, kr.first, kr.last, DIM_REDUCE);
	take(to, k, at, x.last - 1, x.last, DIM_VECTOR);
	bool *live = part_of(arena, k, which);
	need(k, k->operand[which - 1], live);
	copy(arena, to, k, live, at);
	return to;
}

typedef struct Parts {
	const Kernel *product, *sum;
	CudaNeeds needs[2];
} Parts;

static Parts parts_of(Arena *arena, const CudaArch *arch, const Kernel *k)
{
	Parts p = { .product = product_alone(arena, k), .sum = sum_alone(arena, k) };
	p.needs[0] = cuda_dot.needs(arch, p.product);
	p.needs[1] = cuda_column.needs(arch, p.sum);
	return p;
}

CudaNeeds dot_sums_needs(const CudaArch *arch, const Kernel *k)
{
	Arena tmp = ARENA("sums");
	Parts p = parts_of(&tmp, arch, k);
	CudaNeeds n = p.needs[0];
	n.workspace = MAX(n.workspace, p.needs[1].workspace);
	n.sums = p.needs[1].nphase;
	assert(n.nphase + n.sums <= CUDA_PHASES);
	for (u32 i = 0; i < n.sums; i++)
		n.launch[n.nphase++] = p.needs[1].launch[i];
	arena_free(&tmp);
	return n;
}

void dot_sums_emit(CudaText *t, const Kernel *k, const char *name)
{
	Parts p = parts_of(t->arena, t->arch, k);
	t->workspace = p.needs[0].workspace || p.needs[1].workspace;
	cuda_dot.emit(t, p.product, name);
	t->phases = p.needs[0].nphase;
	cuda_column.emit(t, p.sum, name);
	t->phases = 0;
	t->workspace = false;
}
