/* codegen/cuda/sized.c: kernels for all sizes in range (passes/plan/dynamic.c): extents, strides and offsets are numbers that code
 * is given (CudaArch.sized). A grid is as large as the device, whatever the sizes: blocks take rows, tiles and points in turns, so
 * that nothing about a launch follows from sizes. Accesses are of single elements, whose places nothing is known of; products are
 * taken on CUDA cores, in order of k, of operands rounded to the kernel's type. preamble/sized.cuh has the loops. */
#include "codegen/cuda/attention_common.h"
#include "codegen/cuda/dot.h"
#include "codegen/cuda/loops.h"
#include "codegen/cuda/reduce.h"

enum { THREADS = 256, BLOCKS = 1024, MOST_NUMBERS = 384 /* of 4 KiB of parameters */ };

static const char *refuses(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	return kernel_numbers(k, NULL) > MOST_NUMBERS ? "it takes too many numbers for sizes that are known only when it runs" : NULL;
}

static const char *refuses_all(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	(void)k;
	return "kernels of this class are for sizes that are numbers";
}

static CudaNeeds needs(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	(void)k;
	return (CudaNeeds){ .nphase = 1, .launch[0] = { .grid = { BLOCKS, 1, 1 }, .block = { THREADS, 1, 1 } } };
}

static void begin(CudaBody *b, const char *name)
{
	CudaNeeds n = needs(b->t->arch, b->k);
	cuda_begin(b, name, 0, THREADS, 0, &n);
}

/* ---- points ---- */

static void emit_map(CudaText *t, const Kernel *k, const char *name)
{
	CudaBody body = cuda_body(t, k), *b = &body;
	begin(b, name);
	cuda_hoist(b, 0, NULL);
	cuda_line(b, "const i64 total = %s;", cuda_size(b, 0, k->ndim));
	cuda_open(b, "for (i64 at = (i64)blockIdx.x * %d + threadIdx.x; at < total; at += (i64)gridDim.x * %d)", THREADS, THREADS);
	cuda_unflatten(b, 0, k->ndim, "at");
	cuda_emit_point(b);
	cuda_close(b);
	cuda_end(b);
}

/* ---- rows and columns ---- */

static void declare_sums(CudaBody *b, const u32 *reduce, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const KInst *in = &b->k->inst.v[reduce[i]];
		cuda_line(b, "%s a%u = %s;", cuda_value_type((DType)in->dtype), reduce[i], cuda_reduce_identity(b->t->arena, in));
	}
}

/* A thread's sums a<inst> become r<inst>: those of the block where there is one row to it. */
static void finish_sums(CudaBody *b, const u32 *reduce, u32 n, bool block)
{
	Arena *a = b->t->arena;
	for (u32 i = 0; i < n; i++) {
		const KInst *in = &b->k->inst.v[reduce[i]];
		const char *type = cuda_value_type((DType)in->dtype), *total = arena_printf(a, "a%u", reduce[i]);
		if (block) {
			cuda_line(b, "__shared__ %s shared%u[%d];", type, reduce[i], THREADS / 32);
			total = arena_printf(a, "pl_reduce_block<%s, %d>(a%u, shared%u)", cuda_reduce_template(in), THREADS / 32, reduce[i],
					     reduce[i]);
		}
		cuda_line(b, "const %s r%u = %s;", type, reduce[i], cuda_reduce_total(a, in, total));
	}
	for (u32 i = 0; i < n; i++)
		cuda_set(b, (KVal){ reduce[i] }, arena_printf(a, "r%u", reduce[i]), false);
}

/* Stores that need no more than `sweep` sweeps: along the row (its coordinate is set), or of the whole row. */
static bool put_stores(CudaBody *b, u32 sweep, bool along, bool write)
{
	const Kernel *k = b->k;
	bool any = false;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->op != K_store || (in->depends >> (k->ndim - 1) & 1) != along || (along && in->sweep != sweep))
			continue;
		any = true;
		if (write)
			cuda_store(b, i);
	}
	return any;
}

static void emit_row(CudaText *t, const Kernel *k, const char *name)
{
	CudaBody body = cuda_body(t, k), *b = &body;
	u32 last = k->ndim - 1, outer = (1u << last) - 1, *reduce = NEWN(t->arena, u32, k->inst.n + 1);
	begin(b, name);
	cuda_hoist(b, 0, NULL);
	cuda_line(b, "const i64 rows = %s, length = %s;", cuda_size(b, 0, last), cuda_size(b, last, k->ndim));
	cuda_open(b, "for (i64 row = blockIdx.x; row < rows; row += gridDim.x)");
	cuda_unflatten(b, 0, last, "row");
	for (u32 sweep = 0; sweep <= cuda_reduce_sweeps(k); sweep++) {
		cuda_hoist(b, outer, NULL);
		u32 n = cuda_reduce_list(k, sweep + 1, reduce), mark = cuda_mark(b);
		if (!n && !put_stores(b, sweep, true, false))
			continue;
		declare_sums(b, reduce, n);
		cuda_open(b, "for (i64 x = threadIdx.x; x < length; x += %d)", THREADS);
		b->coord[last] = "x";
		cuda_load_ahead(b, sweep, 1u << last);
		for (u32 i = 0; i < n; i++)
			cuda_accumulate(b, reduce[i], arena_printf(t->arena, "a%u", reduce[i]));
		put_stores(b, sweep, true, true);
		cuda_close(b);
		cuda_release(b, mark);
		b->coord[last] = "0";
		finish_sums(b, reduce, n, true);
	}
	cuda_hoist(b, outer, NULL);
	if (put_stores(b, 0, false, false)) {
		u32 mark = cuda_mark(b);
		cuda_open(b, "if (threadIdx.x == 0)");
		put_stores(b, 0, false, true);
		cuda_close(b);
		cuda_release(b, mark);
	}
	cuda_line(b, "__syncthreads(); // the next row's sums lie where these do");
	cuda_close(b);
	cuda_end(b);
}

/* A thread has a column, and adds up its rows in order. */
static void emit_column(CudaText *t, const Kernel *k, const char *name)
{
	CudaBody body = cuda_body(t, k), *b = &body;
	u32 first = 0, last = k->ndim - 1, *reduce = NEWN(t->arena, u32, k->inst.n + 1), n = cuda_reduce_list(k, 0, reduce);
	while (k->dim[first].role != DIM_REDUCE)
		first++;
	begin(b, name);
	cuda_hoist(b, 0, NULL);
	cuda_line(b, "const i64 columns = %s, rows = %s, total = %s * columns;", cuda_size(b, last, k->ndim), cuda_size(b, first, last),
		  cuda_size(b, 0, first));
	cuda_open(b, "for (i64 at = (i64)blockIdx.x * %d + threadIdx.x; at < total; at += (i64)gridDim.x * %d)", THREADS, THREADS);
	cuda_line(b, "const i64 outer = pl_divide(at, columns), column = at - outer * columns;");
	cuda_unflatten(b, 0, first, "outer");
	b->coord[last] = "column";
	declare_sums(b, reduce, n);
	u32 mark = cuda_mark(b);
	cuda_open(b, "for (i64 r = 0; r < rows; r++)");
	cuda_unflatten(b, first, last, "r");
	cuda_load_ahead(b, 0, 0);
	for (u32 i = 0; i < n; i++)
		cuda_accumulate(b, reduce[i], arena_printf(t->arena, "a%u", reduce[i]));
	cuda_close(b);
	cuda_release(b, mark);
	for (u32 d = first; d < last; d++)
		b->coord[d] = "0";
	finish_sums(b, reduce, n, false);
	for (u32 i = 1; i < k->inst.n; i++) {
		if (k->inst.v[i].op != K_store)
			continue;
		/* what is the same for all columns is stored once */
		b->guard = k->inst.v[i].depends >> last & 1 ? NULL : "column == 0";
		cuda_store(b, i);
		b->guard = NULL;
	}
	cuda_close(b);
	cuda_end(b);
}

/* ---- products ---- */

static const char *refuses_dot(const CudaArch *arch, const Kernel *k)
{
	DType c = k->compute;
	if (c != DT_bf16 && c != DT_f16 && c != DT_f32 && c != DT_f64)
		return "products are taken in bf16, f16, f32 and f64 only";
	return refuses(arch, k);
}

/* `auto NAME = [=](i64 row, i64 column)`: operand `v`, as products take it, at places of two ranges. */
static void put_operand(CudaBody *b, const char *name, KVal v, DotRange row, DotRange column, DType sum)
{
	const Kernel *k = b->k;
	const char *coord[KERNEL_DIMS];
	u32 mark = cuda_mark(b);
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		coord[d] = b->coord[d];
	cuda_open(b, "auto %s = [&](i64 row, i64 column) -> %s", name, cuda_value_type(sum));
	cuda_unflatten(b, row.first, row.last, "row");
	cuda_unflatten(b, column.first, column.last, "column");
	const char *x = cuda_scalar(b, v);
	cuda_line(b, "return %s;", cuda_convert(b->t->arena, (DType)k->inst.v[v.i].dtype, k->compute, x));
	cuda_close(b);
	cuda_line(b, ";");
	cuda_release(b, mark);
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		b->coord[d] = coord[d];
}

static void put_result(CudaBody *b, DotRange m, DotRange n, DType sum)
{
	const Kernel *k = b->k;
	u32 mark = cuda_mark(b);
	cuda_open(b, "auto one = [&](i64 row, i64 column, %s x)", cuda_value_type(sum));
	cuda_unflatten(b, m.first, m.last, "row");
	cuda_unflatten(b, n.first, n.last, "column");
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_acc) {
			const char *acc = arena_printf(b->t->arena, "acc%u", i);
			DType to = (DType)k->inst.v[i].dtype;
			cuda_line(b, "const %s %s = %s;", cuda_value_type(to), acc, cuda_convert(b->t->arena, sum, to, "x"));
			cuda_set(b, (KVal){ i }, acc, false);
		}
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store)
			cuda_store(b, i);
	cuda_close(b);
	cuda_line(b, ";");
	cuda_release(b, mark);
}

static void emit_dot(CudaText *t, const Kernel *k, const char *name)
{
	CudaBody body = cuda_body(t, k), *b = &body;
	DotRange batch = dot_range(k, DIM_BATCH), m = dot_range(k, DIM_M), n = dot_range(k, DIM_N), inner = dot_range(k, DIM_K);
	DType sum = k->compute == DT_f64 ? DT_f64 : DT_f32;
	const char *type = cuda_value_type(sum);
	begin(b, name);
	cuda_line(b, "typedef SizedTile<%s> Tile;", type);
	cuda_line(b, "__shared__ Tile tile;");
	cuda_line(b, "const i64 M = %s, N = %s, K = %s, count = %s;", cuda_size(b, m.first, m.last), cuda_size(b, n.first, n.last),
		  cuda_size(b, inner.first, inner.last), cuda_size(b, batch.first, batch.last));
	cuda_line(b, "const i64 across = (N + Tile::ROWS - 1) / Tile::ROWS, each = (M + Tile::ROWS - 1) / Tile::ROWS * across;");
	cuda_open(b, "for (i64 unit = blockIdx.x; unit < each * count; unit += gridDim.x)");
	cuda_line(b, "const i64 batch = unit / each, at = unit - batch * each;");
	cuda_unflatten(b, batch.first, batch.last, "batch");
	put_operand(b, "left", k->operand[0], m, inner, sum);
	put_operand(b, "right", k->operand[1], inner, n, sum);
	put_result(b, m, n, sum);
	cuda_line(b, "pl_sized_product<%s>(tile, M, N, K, at / across * Tile::ROWS, at %% across * Tile::ROWS, left, right, one);", type);
	cuda_close(b);
	cuda_end(b);
}

/* ---- attention ---- */

static void emit_attention(CudaText *t, const Kernel *k, const char *name)
{
	CudaBody body = cuda_body(t, k), *b = &body;
	CudaAttention made = cuda_attention_make(b, t->arch, k), *a = &made;
	const char *type = cuda_value_type(a->type);
	cuda_attention_struct(a, name, 0, NULL, "");
	begin(b, name);
	cuda_line(b, "__shared__ PlainBlock<%s> shared;", type);
	cuda_line(b, "const SizedAttention<%s> sizes = { (int)(%s), (int)(%s), (int)(%s), (int)(%s), %lld, %s };", type,
		  cuda_size(b, a->m.first, a->m.last), cuda_size(b, a->n.first, a->n.last), cuda_size(b, a->kd.first, a->kd.last),
		  cuda_size(b, a->v.first, a->v.last), (long long)k->window,
		  k->scale != 0 ? cuda_literal(t->arena, k->scale, a->type) :
				  arena_printf(t->arena, "(%s)(1 / sqrt((double)(%s)))", type, cuda_size(b, a->kd.first, a->kd.last)));
	cuda_line(b, "const i64 heads = %s, blocks = (sizes.M + PlainBlock<%s>::B - 1) / PlainBlock<%s>::B;", cuda_size(b, a->r.first, a->r.last),
		  type, type);
	cuda_line(b, "const i64 units = %s * heads * blocks;", cuda_size(b, a->outer.first, a->outer.last));
	cuda_open(b, "for (i64 unit = blockIdx.x; unit < units; unit += gridDim.x)");
	cuda_line(b, "const i64 group = unit / blocks, block = blocks - 1 - (unit - group * blocks), item = group / heads, r = group - item * heads;");
	cuda_attention_at(a, a->outer, "item");
	cuda_attention_at(a, a->r, "r");
	cuda_attention_forward(a);
	cuda_line(b, "pl_sized_attention<%s_s0>(shared, sizes, (int)block * PlainBlock<%s>::B, q, key, value, bias, seen, store_lse, store_out);",
		  name, type);
	cuda_close(b);
	cuda_end(b);
}

static const CudaKernelClass map = { refuses, needs, emit_map }, row = { refuses, needs, emit_row }, column = { refuses, needs, emit_column },
			     dot = { refuses_dot, needs, emit_dot }, attention = { refuses, needs, emit_attention },
			     none = { .refuses = refuses_all };

const CudaKernelClass *const cuda_sized_class[KERNEL_CLASSES] = {
	[KERNEL_MAP] = &map, [KERNEL_ROW] = &row, [KERNEL_COLUMN] = &column, [KERNEL_DOT] = &dot, [KERNEL_ATTENTION] = &attention,
	[KERNEL_ATTENTION_GRAD] = &none, [KERNEL_SCATTER] = &none, [KERNEL_SCAN] = &none, [KERNEL_SORT] = &none, [KERNEL_GROUPED] = &none,
	[KERNEL_GROUPED_WEIGHTS] = &none,
};
