/* codegen/cpu/panel.h: what matrix products are made of, for every skeleton that has them: dimensions of a
 * role walked as one, operands packed into panels, the register tile.
 *
 * A panel holds `width` columns (or rows) of an operand, for a range of K: element (k, x) is at
 * [k * width + x], as the register tile reads it; it is f32 (f64 where products are f64), already rounded
 * to what products are taken in. Columns past the end hold anything. In a panel of pairs an element is
 * two bf16 side by side, k and k + 1 (zero past the end): row j has k = 2 j and 2 j + 1 of the range, for
 * simd_dot_bf16.
 *
 * After Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008. */
#ifndef PL_CPU_PANEL_H
#define PL_CPU_PANEL_H
#include "codegen/cpu/count.h"

/* Dimensions first <= d < last, which are of one role, walked as one index, the last fastest. */
typedef struct Range {
	u32 first, last;
} Range;
Range range_of(const Kernel *k, DimRole role);
i64 range_count(const Kernel *k, Range r);
u32 range_mask(Range r);

/* for each longest piece [begin, end) of [from, to) in which only the last dimension changes: its other
 * coordinates are set; the last one's, at flattened index i, is i - base. One piece, and no loop, where
 * there is one dimension. length: that of a run, where it goes on beyond the last dimension (body_run);
 * NULL: that dimension's. */
typedef struct Run {
	LLVMValueRef begin, end, base;
	/* private */
	CpuLoop loop;
	bool looped;
	u32 first, last; /* dimensions whose coordinates are carried */
} Run;
void run_begin(Body *b, Run *r, Range range, LLVMValueRef from, LLVMValueRef to, LLVMValueRef length);
void run_end(Body *b, Run *r);

/* for each vector of lanes along the last dimension of a run's range: in pass 0 the whole ones, in pass 1 what is left, under a
 * mask: masked stores take many times as long on some processors. n values are carried. */
typedef struct RunLanes {
	CpuLoop loop;
	u32 mark;
} RunLanes;
void run_lanes_begin(Body *b, RunLanes *l, const Run *r, Range range, u32 pass, u32 n, const LLVMValueRef *carried);
void run_lanes_end(Body *b, RunLanes *l, const LLVMValueRef *next);

/* Vectors of a strip: `n`, each `step` elements on from flattened index `at`, of which the first `step` lanes count;
 * the coordinates of each. length: as of runs. */
enum { STRIP_VECTORS = 12 };
typedef struct Strip {
	u32 n;
	LLVMValueRef coord[STRIP_VECTORS][KERNEL_DIMS];
	LLVMValueRef whole; /* i1: no vector goes past the end or on to the next run */
} Strip;
void strip_make(Body *b, Strip *s, Range range, LLVMValueRef at, LLVMValueRef count, u32 n, u32 step, LLVMValueRef length);
void strip_set(Body *b, const Strip *s, Range range, u32 v);

/* ---- packing ---- */

/* Of columns that are several dimensions, the last of which is a run: how long, up to a vector's columns (as many or more: that
 * many), and whether each vector begins where a run does or, in long ones, at a multiple of its columns; 0: nothing is known. */
typedef struct Runs {
	u32 length;
	bool aligned;
} Runs;

typedef struct Packing {
	KVal operand;
	Range x, k;    /* the panel's columns; the dimensions of the sum */
	u32 width;     /* columns of the panel */
	DType compute; /* what products are taken in */
	u32 lanes;     /* of a whole vector in that type */
	bool along_k;  /* contiguous along k rather than x */
	bool pairs;    /* false, unless set after packing_of; compute is bf16 then, and ranges begin at even k of
			* the last dimension, whose extent is even where it is not the only one */
	Runs runs;     /* of x, for products: panels begin at multiples of the width */
} Packing;
/* Rows that packing may write past the range of K. */
enum { PACK_SPILL = 16 };

/* Is the operand contiguous along the last dimension of k rather than that of x? Of a product's windows, which are along both:
 * are those of x short, and shorter? */
bool operand_along_k(const Kernel *kernel, Arena *tmp, KVal operand, Range x, Range k);
Packing packing_of(const Body *b, KVal operand, Range x, Range k, u32 width, DType compute, u32 lanes);
/* What of it the code depends on, beside the kernel's shape. */
u64 packing_variant(const Kernel *kernel, KVal operand, Range x, Range k, u32 width, u32 lanes);
/* Columns [x0, x0 + width) of `x_count`, k in [from, to), to the panel at `to_panel`, whose first row is
 * k = from. Other coordinates are set. */
void pack(Body *b, const Packing *p, LLVMValueRef x0, LLVMValueRef x_count, LLVMValueRef from, LLVMValueRef to,
	  LLVMValueRef to_panel);
/* The same for `count` panels of neighbouring columns, `count` <= `most`, `size` elements from one to the next. Rows
 * are read in one piece where they are contiguous and `most` panels are whole. */
void pack_panels(Body *b, const Packing *p, LLVMValueRef x0, LLVMValueRef x_count, LLVMValueRef from,
		 LLVMValueRef to, LLVMValueRef to_panel, u32 most, LLVMValueRef count, LLVMValueRef size);
/* Asks for part `part` of `parts` of what packing `count` panels would read, where that is simple to say. */
void pack_prefetch(Body *b, const Packing *p, LLVMValueRef x0, LLVMValueRef x_count, LLVMValueRef from,
		   LLVMValueRef to, LLVMValueRef count, LLVMValueRef part, LLVMValueRef parts);

/* What one column of values in `compute` is in memory. */
LLVMTypeRef panel_type(const CpuModule *m, DType compute);
DType panel_dtype(DType compute);
u32 panel_bytes(DType compute);

/* ---- the register tile ---- */

typedef struct Tile {
	u32 rows, vectors; /* vectors of `lanes` */
	u32 lanes;
	DType dtype; /* f32 or f64 */
	bool pairs;  /* of panels of pairs */
} Tile;
static inline u32 tile_width(Tile t)
{
	return t.vectors * t.lanes;
}

/* The best tile for an M x N product: what wastes least, then what computes best. */
Tile tile_for(const CpuMachine *machine, DType compute, i64 M, i64 N);
/* The same with what the machine's tuning says, for kernels whose bits do not follow from the tile: sums in order of k. */
Tile product_tile(const CpuMachine *machine, DType compute, i64 M, i64 N);
/* Those that are chosen from, in order of preference; false past the last. */
bool tile_at(const CpuMachine *machine, u32 index, u32 *rows, u32 *vectors);
/* May the kernel's operands be packed in pairs, over dimensions k? */
bool tile_pairs(const CpuMachine *machine, const Kernel *kernel, Range k);

/* A function (A panel of `rows` columns, B panel of `tile_width` columns, C, k, more, next): C, row-major
 * [rows][tile_width], is set to the sum over k of A^T B, or where `more` that is added, in order of k. It also reads
 * the row of B after the last, whatever is there, and asks for the A panel at `next`, for the second cache.
 * Where modules share functions (CpuModule.prefix), it is in one of its own, which CpuKernelClass.tiles asks for. */
LLVMValueRef tile_function(CpuModule *m, Tile t);
/* Its code, under the name that modules which share it call it by. */
LLVMValueRef tile_emit(CpuModule *m, const char *name, Tile t, bool local);
const char *tile_symbol(Arena *arena, const char *prefix, Tile t);

/* ---- products ---- */

/* How a product is cut: no choice here changes bits. */
typedef struct Blocks {
	i64 k;      /* in a panel of columns, at most */
	u32 panels; /* of neighbouring columns that are packed together, at most */
	i64 left;   /* tiles of rows, `k` long, that stay in the cache while panels take turns; 0: all */
	i64 rows;   /* that packed panels are used for, at most, before others are packed */
} Blocks;
Blocks blocks_for(const CpuMachine *machine, Tile t);
/* Tiles whose rows are packed together: where those are contiguous, a cache line or two are read at once. */
u32 tiles_together(Tile t);

/* Packed tiles of rows times panels of columns of the right operand, over k in [k0, k1), and the body on
 * what comes out. Coordinates but those of rows, columns and K are set; sums are in order of k. */
typedef struct Product {
	Body *b;
	Tile t;
	LLVMValueRef tile_function;
	Packing right;
	Range mr, nr;
	u32 outer;                    /* the dimensions whose coordinates are set, as bits */
	LLVMValueRef N, n0, panels;   /* columns there are; the first; panels from there, at most those of Blocks */
	LLVMValueRef run;             /* how many of them the body goes through as along the last dimension: product_run() */
	LLVMValueRef k0, k1;
	/* tiles [tile0, tile1): the packed rows of tile i are at left + i * tile_size and begin with left_k; its
	 * first row is row0 + i * rows; results in [row_begin, row_end) count */
	LLVMValueRef left, tile_size, left_k, tile0, tile1, row0, row_begin, row_end;
	/* NULL, or i1: the sums of tile0 + i and a panel are kept at sums + i * sum_stride + panel * size of a tile,
	 * continue what is there but in the first call, and are done in the last */
	LLVMValueRef keep, sums, sum_stride, first, last;
} Product;
void product(const Product *p);
/* The product of the kernel's two operands over DIM_K, and how the first is packed in tiles of rows; `outer` is the role of the
 * dimensions beside. Which part of it is computed, and where packed tiles are, is left to set. */
Product product_open(Body *b, Tile t, LLVMValueRef tile_function, DimRole outer, Packing *left);

/* Extents, of all dimensions of a role together, and how many tiles of rows and panels of columns they are. b: NULL where no code is
 * being made. */
typedef struct ProductSize {
	Count outer, M, N, K;
	Count tiles, panels;
} ProductSize;
ProductSize product_size(Body *b, const Kernel *k, Tile t, DimRole outer);
/* Elements of a packed tile of rows that is k long, with what packing spills. */
Count packed_tile(CpuModule *m, Tile t, Count k);
/* NULL where columns are one dimension. */
LLVMValueRef product_run(Body *b, Range nr);

/* Bytes that it needs of scratch, at most, for so many panels, tiles and so long a sum. */
Count product_scratch(CpuModule *m, const CpuMachine *machine, Tile t, Count panels, Count tiles, Count k);
/* A tile in scratch that it uses for one. */
LLVMValueRef product_sums(const Product *p);
/* The body on rows [first, last) of `tile`, whose row 0 is m0; s: that of n0. */
void product_results(const Product *p, const Strip *s, LLVMValueRef m0, LLVMValueRef first, LLVMValueRef last,
		     LLVMValueRef tile);

#endif
