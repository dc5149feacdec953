/* codegen/cuda/reduce.c: see reduce.h. */
#include "codegen/cuda/reduce.h"

const char *cuda_reduce_template(const KInst *in)
{
	return in->reduce == REDUCE_sum ? "Sum" : in->reduce == REDUCE_max ? "Max" : "Min";
}

const char *cuda_reduce_function(Arena *a, const KInst *in)
{
	return arena_printf(a, "%s<%s>", cuda_reduce_template(in), cuda_value_type((DType)in->dtype));
}

const char *cuda_reduce_identity(Arena *a, const KInst *in)
{
	DType d = (DType)in->dtype;
	if (in->reduce == REDUCE_sum)
		return cuda_literal(a, 0, d);
	f64 most = dtype_is_float(d) ? __builtin_inf() : dtype_info[d].largest;
	f64 least = dtype_is_float(d) ? -most : dtype_info[d].kind == KIND_I ? -most - 1 : 0;
	return cuda_literal(a, in->reduce == REDUCE_max ? least : most, d);
}

const char *cuda_reduce_total(Arena *a, const KInst *in, const char *total)
{
	DType d = (DType)in->dtype;
	if (d == DT_bf16 || d == DT_f16)
		return arena_printf(a, "pl_round_%s(%s)", dtype_info[d].name, total);
	if (d == DT_b1 || dtype_info[d].bytes > 1)
		return total;
	return arena_printf(a, "(%s)(%s)%s", cuda_value_type(d), cuda_memory_type(d), total);
}

u32 cuda_reduce_list(const Kernel *k, u32 sweep, u32 *reduce)
{
	u32 n = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_reduce && (!sweep || k->inst.v[i].sweep == sweep))
			reduce[n++] = i;
	return n;
}

u32 cuda_reduce_sweeps(const Kernel *k)
{
	u32 n = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_reduce)
			n = MAX(n, k->inst.v[i].sweep);
	return n;
}

void cuda_accumulate(CudaBody *b, u32 inst, const char *name)
{
	Arena *a = b->t->arena;
	const KInst *in = &b->k->inst.v[inst];
	cuda_element(b, in->in[0], 0);
	const char *j = b->width > 1 ? "j" : "0", *x = cuda_known_element(b, in->in[0], j), *on = cuda_guard(b, j);
	if (b->guard)
		on = on ? arena_printf(a, "(%s) && %s", b->guard, on) : b->guard;
	const char *test = on ? arena_printf(a, "if (%s) ", on) : "";
	if (b->width > 1)
		cuda_line(b, "EACH(%u) %s%s = %s::of(%s, %s);", b->width, test, name, cuda_reduce_function(a, in), name, x);
	else
		cuda_line(b, "%s%s = %s::of(%s, %s);", test, name, cuda_reduce_function(a, in), name, x);
}

/* Marks the loads that `v` needs now: those behind reductions are there already, or come later. */
static void mark_loads(const CudaBody *b, KVal v, bool *load, u32 dims)
{
	const KInst *in = &b->k->inst.v[v.i];
	if (!v.i || b->name[v.i] || in->op == K_reduce || in->op == K_acc)
		return;
	for (u32 i = 0; i < 3; i++)
		mark_loads(b, in->in[i], load, dims);
	for (u32 i = 0; in->access && i < in->access->ndynamic; i++)
		mark_loads(b, in->access->dynamic[i].index, load, dims);
	if (in->op == K_load)
		load[v.i] = true;
}

void cuda_load_ahead(CudaBody *b, u32 sweep, u32 dims)
{
	const Kernel *k = b->k;
	bool *load = NEWN(b->t->arena, bool, k->inst.n + 1);
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		bool now = (in->op == K_store && in->sweep == sweep && (in->depends & dims)) ||
			   (in->op == K_reduce && in->sweep == sweep + 1);
		if (!now)
			continue;
		for (u32 j = 0; j < 3; j++)
			mark_loads(b, in->in[j], load, dims);
	}
	for (u32 i = 1; i < k->inst.n; i++)
		if (load[i])
			cuda_element(b, (KVal){ i }, 0);
}

u32 cuda_value_bytes(DType d)
{
	return d == DT_b1 ? 1 : d == DT_i64 || d == DT_f64 ? 8 : 4;
}
