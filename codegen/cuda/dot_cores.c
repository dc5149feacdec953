/* codegen/cuda/dot_cores.c: products of f32 and f64 on CUDA cores, each a fused multiply-add, in order of k.
 *
 * A block of 16 x 16 threads; each has a square of the tile in registers, its columns (and rows) in pieces of 16 bytes
 * that lie 16 pieces apart, so that a warp reads shared memory without conflicts. Tiles of the operands lie as [k][m]
 * and [k][n], twice: while one pair is multiplied, the next is loaded. */
#include "codegen/cuda/dot.h"

/* rows, columns, depth, thread's rows, thread's columns, threads, chunk, stages; efficiency, overhead */
static const DotChoice choices_f32[] = {
	{ { 128, 128, 8, 8, 8, 256, 4, 2 }, 1, 4 },
	{ { 64, 64, 16, 4, 4, 256, 4, 2 }, .6, 4 },
	{ { 64, 128, 8, 4, 8, 256, 4, 2 }, .8, 4 },
	{ { 128, 64, 8, 8, 4, 256, 4, 2 }, .8, 4 },
};
static const DotChoice choices_f64[] = {
	{ { 64, 64, 8, 4, 4, 256, 2, 2 }, 1, 4 },
	{ { 32, 32, 16, 2, 2, 256, 2, 2 }, .6, 4 },
};

void dot_cores_divide(Dot *d)
{
	bool split = d->k->class == KERNEL_DOT;
	if (d->k->compute == DT_f64)
		dot_choose(d, choices_f64, COUNT(choices_f64), split);
	else
		dot_choose(d, choices_f32, COUNT(choices_f32), split);
}

/* Elements of a row of a tile: a piece more than it has, so that columns lie in different banks. */
static u32 row_of(const Dot *d, const DotOperand *o)
{
	return o->extent + 16 / dtype_info[d->k->compute].bytes;
}

static u32 stage_elements(const Dot *d)
{
	return (row_of(d, &d->a) + row_of(d, &d->o)) * d->tile.depth;
}

u32 dot_cores_shared(const Dot *d)
{
	return d->tile.stages * stage_elements(d) * dtype_info[d->k->compute].bytes;
}

static void lambda(CudaBody *b, const Dot *d, const char *name, void (*one)(CudaBody *, const Dot *, const DotOperand *))
{
	cuda_line(b, "auto %s = [&](T *to, int kb) {", name);
	b->indent++;
	one(b, d, &d->a);
	cuda_line(b, "to += %u;", row_of(d, &d->a) * d->tile.depth);
	one(b, d, &d->o);
	b->indent--;
	cuda_line(b, "};");
}

/* Pieces of a thread's row (column) that are read and stored at once. */
static u32 piece_of(const Dot *d, u32 extent)
{
	return MIN(extent, 16u / dtype_info[d->k->compute].bytes);
}

static void multiply(CudaBody *b, const Dot *d)
{
	const DotTile *t = &d->tile;
	u32 p = piece_of(d, t->warp_rows), q = piece_of(d, t->warp_columns);
	const char *type = dtype_info[d->k->compute].name;
	cuda_line(b, "#pragma unroll");
	cuda_open(b, "for (int k = 0; k < %u; k++)", t->depth);
	cuda_line(b, "T x[%u], y[%u];", t->warp_rows, t->warp_columns);
	for (u32 i = 0; i < t->warp_rows; i += p)
		cuda_line(b, "pl_load_%s<%u, %u>(x + %u, left + k * %u + %u + down * %u);", type, p, p, i,
			  row_of(d, &d->a), i * 16, p);
	for (u32 i = 0; i < t->warp_columns; i += q)
		cuda_line(b, "pl_load_%s<%u, %u>(y + %u, right + k * %u + %u + across * %u);", type, q, q, i,
			  row_of(d, &d->o), i * 16, q);
	cuda_line(b, "#pragma unroll");
	cuda_line(b, "for (int i = 0; i < %u; i++) EACH(%u) acc[i][j] = pl_fma(x[i], y[j], acc[i][j]);", t->warp_rows,
		  t->warp_columns);
	cuda_close(b);
}

static void epilogue(CudaBody *b, const Dot *d)
{
	const DotTile *t = &d->tile;
	u32 p = piece_of(d, t->warp_rows), q = piece_of(d, t->warp_columns), w = dot_epilogue_width(d, q);
	cuda_line(b, "#pragma unroll");
	cuda_open(b, "for (int i = 0; i < %u; i++)", t->warp_rows);
	cuda_line(b, "#pragma unroll");
	cuda_open(b, "for (int c = 0; c < %u; c += %u)", t->warp_columns, w);
	cuda_line(b, "const int row = i / %u * %u + down * %u + i %% %u;", p, p * 16, p, p);
	cuda_line(b, "const int column = c / %u * %u + across * %u + c %% %u;", q, q * 16, q, q);
	cuda_line(b, "T sum[%u];", w);
	cuda_line(b, "EACH(%u) sum[j] = acc[i][c + j];", w);
	dot_finish(b, d, "sum", w);
	cuda_close(b);
	cuda_close(b);
}

void dot_cores_emit(CudaBody *b, const Dot *d, const char *name, const CudaNeeds *needs)
{
	const DotTile *t = &d->tile;
	u32 stage = stage_elements(d);
	dot_begin(b, d, name, 1, needs);
	cuda_line(b, "typedef %s T;", cuda_value_type(d->k->compute));
	cuda_line(b, "T *shared = (T *)pl_shared;");
	cuda_line(b, "const int across = thread %% 16, down = thread / 16;");
	cuda_line(b, "T acc[%u][%u] = {};", t->warp_rows, t->warp_columns);
	dot_operand_places(b, d, &d->a);
	dot_operand_places(b, d, &d->o);
	dot_operand_registers(b, d, &d->a);
	dot_operand_registers(b, d, &d->o);
	lambda(b, d, "fetch", dot_operand_fetch);
	lambda(b, d, "put", dot_operand_put);
	cuda_line(b, "if (steps > 0) { fetch(shared, k_begin); put(shared, k_begin); }");
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (int step = 0; step < steps; step++)");
	cuda_line(b, "__syncthreads();");
	cuda_line(b, "if (step + 1 < steps) fetch(shared, k_begin + (step + 1) * %u);", t->depth);
	cuda_line(b, "const T *left = shared + step %% 2 * %u, *right = left + %u;", stage, row_of(d, &d->a) * t->depth);
	multiply(b, d);
	cuda_line(b, "if (step + 1 < steps) put(shared + (step + 1) %% 2 * %u, k_begin + (step + 1) * %u);", stage, t->depth);
	cuda_close(b);
	epilogue(b, d);
	cuda_end(b);
}
