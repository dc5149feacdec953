/* codegen/cuda/dot_tensor.c: products of bf16 and f16 on tensor cores by mma.sync (sm_80 and up), and of floats of 8 bits
 * (sm_89 and up), which are laid out and moved as elements of 16 bits that are two each.
 *
 * Warps of a block share a tile of the result. Tiles of the operands wait in a ring of stages: copies run `stages` - 1
 * steps ahead, evaluated operands one. A warp's sums stay in registers; at the end they go through shared memory, 16
 * rows at a time, so that the body sees rows and stores whole vectors. After NVIDIA's CUTLASS in its division of work. */
#include "codegen/cuda/dot.h"

#include <string.h>

/* rows, columns, depth, warp's rows, warp's columns, threads, chunk, stages (set later); efficiency, overhead; depth and
 * chunk of 16 bits */
static const DotChoice choices[] = {
	{ { 128, 128, 32, 64, 32, 256, 8, 0 }, 1, 4 },  { { 64, 128, 32, 32, 32, 256, 8, 0 }, .8, 4 },
	{ { 128, 64, 32, 32, 32, 256, 8, 0 }, .8, 4 },  { { 64, 64, 32, 32, 32, 128, 8, 0 }, .65, 4 },
	{ { 128, 32, 32, 32, 32, 128, 8, 0 }, .5, 4 },  { { 32, 128, 32, 32, 32, 128, 8, 0 }, .5, 4 },
	{ { 32, 64, 32, 16, 32, 128, 8, 0 }, .45, 4 },  { { 16, 128, 32, 16, 32, 128, 8, 0 }, .4, 4 },
	{ { 128, 16, 32, 32, 16, 128, 8, 0 }, .35, 4 }, { { 32, 32, 32, 16, 16, 128, 8, 0 }, .3, 4 },
};

void dot_tensor_divide(Dot *d)
{
	DotChoice scaled[COUNT(choices)];
	for (u32 i = 0; i < COUNT(choices); i++) {
		scaled[i] = choices[i];
		scaled[i].tile.depth *= 2 / dtype_info[d->k->compute].bytes;
		scaled[i].tile.chunk *= 2 / dtype_info[d->k->compute].bytes;
	}
	dot_choose(d, scaled, COUNT(scaled), d->k->class == KERNEL_DOT);
	u32 copied = (d->a.copy != NULL) + (d->o.copy != NULL);
	d->tile.stages = 2 + copied;
}

static u32 operand_bytes(const DotOperand *o)
{
	return o->chunks * 16;
}

static u32 stage_bytes(const Dot *d)
{
	return operand_bytes(&d->a) + operand_bytes(&d->o);
}

u32 dot_tensor_shared(const Dot *d)
{
	u32 warps = d->tile.threads / 32;
	return MAX(d->tile.stages * stage_bytes(d), warps * 16 * d->tile.warp_columns * 4);
}

/* A lambda of (shared address, kb) that does `one` for both operands, or those that it is for. */
static void lambda(CudaBody *b, const Dot *d, const char *name, bool copied,
		   void (*one)(CudaBody *, const Dot *, const DotOperand *))
{
	cuda_line(b, "auto %s = [&](u32 to, int kb) {", name);
	b->indent++;
	if ((d->a.copy != NULL) == copied)
		one(b, d, &d->a);
	cuda_line(b, "to += %u;", operand_bytes(&d->a));
	if ((d->o.copy != NULL) == copied)
		one(b, d, &d->o);
	b->indent--;
	cuda_line(b, "};");
}

/* The products of a step: names of the instruction and of a tile's row in chunks, depth as of elements of 16 bits. */
static void multiply(CudaBody *b, const Dot *d)
{
	const DotTile *t = &d->tile;
	const char *left = dtype_info[d->a.product].name, *right = dtype_info[d->o.product].name;
	const char *by = dtype_is_f8(d->k->compute) ? arena_printf(b->t->arena, "%s_%s", left, right) : left;
	cuda_line(b, "pl_tile_multiply<PlProduct_%s, %u, %u, %u, %u, %s, %u, %s>(acc, here, here + %u, warp_m, warp_n);", by, t->warp_rows,
		  t->warp_columns, t->depth / t->chunk * 8, (d->a.along_k ? t->depth : t->rows) / t->chunk, d->a.along_k ? "false" : "true",
		  (d->o.along_k ? t->depth : t->columns) / t->chunk, d->o.along_k ? "false" : "true", operand_bytes(&d->a));
}

static void main_loop(CudaBody *b, const Dot *d)
{
	const DotTile *t = &d->tile;
	u32 S = t->stages, bytes = stage_bytes(d);
	bool copies = d->a.copy || d->o.copy, evaluates = !d->a.copy || !d->o.copy;
	cuda_line(b, "const u32 shared = pl_shared_address(pl_shared);");
	cuda_line(b, "float acc[%u][%u][4] = {};", t->warp_rows / 16, t->warp_columns / 8);
	dot_operand_places(b, d, &d->a);
	dot_operand_places(b, d, &d->o);
	if (copies) {
		lambda(b, d, "copy", true, dot_operand_copy);
		cuda_line(b, "#pragma unroll");
		cuda_open(b, "for (int s = 0; s < %u; s++)", S - 1);
		cuda_line(b, "if (s < steps) copy(shared + s * %u, k_begin + s * %u);", bytes, t->depth);
		cuda_line(b, "pl_cp_async_commit();");
		cuda_close(b);
	}
	if (evaluates) {
		if (!d->a.copy)
			dot_operand_registers(b, d, &d->a);
		if (!d->o.copy)
			dot_operand_registers(b, d, &d->o);
		lambda(b, d, "fetch", false, dot_operand_fetch);
		lambda(b, d, "put", false, dot_operand_put);
		cuda_line(b, "if (steps > 0) { fetch(shared, k_begin); put(shared, k_begin); }");
	}
	cuda_line(b, "u32 stage = 0;");
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (int step = 0; step < steps; step++)");
	if (copies)
		cuda_line(b, "pl_cp_async_wait<%u>();", S - 2);
	cuda_line(b, "__syncthreads();");
	cuda_line(b, "const u32 here = shared + stage * %u;", bytes);
	if (copies) {
		cuda_line(b, "const u32 free = stage == 0 ? %u : stage - 1;", S - 1);
		cuda_line(b, "if (step + %u < steps) copy(shared + free * %u, k_begin + (step + %u) * %u);", S - 1, bytes,
			  S - 1, t->depth);
		cuda_line(b, "pl_cp_async_commit();");
	}
	cuda_line(b, "stage = stage == %u ? 0 : stage + 1;", S - 1);
	if (evaluates)
		cuda_line(b, "if (step + 1 < steps) fetch(shared, k_begin + (step + 1) * %u);", t->depth);
	multiply(b, d);
	if (evaluates)
		cuda_line(b, "if (step + 1 < steps) put(shared + stage * %u, k_begin + (step + 1) * %u);", bytes, t->depth);
	cuda_close(b);
	if (copies)
		cuda_line(b, "pl_cp_async_wait<0>();");
	cuda_line(b, "__syncthreads();");
}

static void epilogue(CudaBody *b, const Dot *d)
{
	const DotTile *t = &d->tile;
	u32 columns = t->warp_columns, w = dot_epilogue_width(d, 8);
	w = MIN(w, columns / 2); /* every lane has something */
	cuda_line(b, "float *rows = (float *)pl_shared + warp * %u;", 16 * columns);
	cuda_line(b, "#pragma unroll");
	cuda_open(b, "for (int i = 0; i < %u; i++)", t->warp_rows / 16);
	cuda_line(b, "pl_rows_put<%u>(rows, acc[i]);", columns);
	cuda_line(b, "__syncwarp();");
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (int e = thread %% 32; e < %u; e += 32)", 16 * columns / w);
	cuda_line(b, "const int in = e / %u, at = e %% %u * %u;", columns / w, columns / w, w);
	cuda_line(b, "const int row = warp_m + i * 16 + in, column = warp_n + at;");
	cuda_line(b, "float sum[%u];", w);
	cuda_line(b, "pl_rows_get<%u, %u>(sum, rows, in, at);", columns, w);
	dot_finish(b, d, "sum", w);
	cuda_close(b);
	cuda_line(b, "__syncwarp();");
	cuda_close(b);
}

void dot_tensor_emit(CudaBody *b, const Dot *d, const char *name, const CudaNeeds *needs)
{
	const DotTile *t = &d->tile;
	b->t->preamble |= PREAMBLE_TENSOR;
	u32 across = t->columns / t->warp_columns;
	/* what is evaluated needs registers, and so does what a step of 8 bits gives */
	bool more = !d->a.copy || !d->o.copy || dtype_is_f8(d->k->compute);
	dot_begin(b, d, name, more ? 1 : 2, needs);
	cuda_line(b, "const int warp = thread / 32;");
	cuda_line(b, "const int warp_m = warp / %u * %u, warp_n = warp %% %u * %u;", across, t->warp_rows, across,
		  t->warp_columns);
	main_loop(b, d);
	epilogue(b, d);
	cuda_end(b);
}
