/* codegen/cpu/panel.h: what matrix products are made of, for every skeleton that has them: dimensions of a
 * role walked as one, operands packed into panels, the register tile.
 *
 * A panel holds `width` columns (or rows) of an operand, for a range of K: element (k, x) is at
 * [k * width + x], as the register tile reads it; it is f32 (f64 where products are f64), already rounded
 * to what products are taken in. Columns past the end hold anything.
 *
 * After Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008. */
#ifndef PL_CPU_PANEL_H
#define PL_CPU_PANEL_H
#include "codegen/cpu/body.h"

/* Dimensions first <= d < last, which are of one role, walked as one index, the last fastest. */
typedef struct Range {
	u32 first, last;
} Range;
Range range_of(const Kernel *k, DimRole role);
i64 range_count(const Kernel *k, Range r);
u32 range_mask(Range r);

/* for each longest piece [begin, end) of [from, to) in which only the last dimension changes: its other
 * coordinates are set; the last one's, at flattened index i, is i - base. One piece, and no loop, where
 * there is one dimension. Nothing is carried. */
typedef struct Run {
	LLVMValueRef begin, end, base;
	/* private */
	CpuLoop loop;
	bool looped;
} Run;
void run_begin(Body *b, Run *r, Range range, LLVMValueRef from, LLVMValueRef to);
void run_end(Body *b, Run *r);

/* Vectors of a strip: `n` of `lanes` lanes from flattened index `at` on; the coordinates of each. */
enum { STRIP_VECTORS = 8 };
typedef struct Strip {
	u32 n;
	LLVMValueRef coord[STRIP_VECTORS][KERNEL_DIMS];
	LLVMValueRef whole; /* i1: no vector goes past the end or on to the next run */
} Strip;
void strip_make(Body *b, Strip *s, Range range, LLVMValueRef at, LLVMValueRef count, u32 n, u32 lanes);
void strip_set(Body *b, const Strip *s, Range range, u32 v);

/* ---- packing ---- */

typedef struct Packing {
	KVal operand;
	Range x, k;    /* the panel's columns; the dimensions of the sum */
	u32 width;     /* columns of the panel */
	DType compute; /* what products are taken in */
	u32 lanes;     /* of a whole vector in that type */
	bool along_k;  /* contiguous along k rather than x */
} Packing;
/* Rows that packing may write past the range of K. */
enum { PACK_SPILL = 16 };

Packing packing_of(const Body *b, KVal operand, Range x, Range k, u32 width, DType compute, u32 lanes);
/* Columns [x0, x0 + width) of `x_count`, k in [from, to), to the panel at `to_panel`, whose first row is
 * k = from. Other coordinates are set. */
void pack(Body *b, const Packing *p, LLVMValueRef x0, LLVMValueRef x_count, LLVMValueRef from, LLVMValueRef to,
	  LLVMValueRef to_panel);
/* Asks for part `part` of `parts` of what pack() would read, where that is simple to say. */
void pack_prefetch(Body *b, const Packing *p, LLVMValueRef x0, LLVMValueRef x_count, LLVMValueRef from,
		   LLVMValueRef to, LLVMValueRef part, LLVMValueRef parts);

/* What one column of values in `compute` is in memory. */
LLVMTypeRef panel_type(const CpuModule *m, DType compute);
DType panel_dtype(DType compute);
u32 panel_bytes(DType compute);

/* ---- the register tile ---- */

typedef struct Tile {
	u32 rows, vectors; /* vectors of `lanes` */
	u32 lanes;
	DType dtype; /* f32 or f64 */
} Tile;
static inline u32 tile_width(Tile t)
{
	return t.vectors * t.lanes;
}

/* The best tile for an M x N product: what wastes least, then what computes best. */
Tile tile_for(const CpuMachine *machine, DType compute, i64 M, i64 N);

/* A local function (A panel of `rows` columns, B panel of `tile_width` columns, C, k, more): C, row-major
 * [rows][tile_width], is set to the sum over k of A^T B, or where `more` that is added, in order of k. */
LLVMValueRef tile_function(CpuModule *m, const char *name, Tile t);

#endif
