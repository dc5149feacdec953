/* codegen/cuda/dot.h: what the matrix multiply kernels share: the division of work, and how a tile of an operand
 * comes to shared memory.
 *
 * A block computes a tile of the result, `rows` by `columns`, in steps of `depth` along K. A tile of an operand is made
 * of chunks: `chunk` consecutive elements along K or along M (N), whichever is contiguous in memory, at one place of
 * the other. A chunk of a plain load whose every address is a multiple of 16 bytes is copied asynchronously; any
 * other is evaluated in registers by the operand's body, `width` elements at a time, rounded to what it is multiplied
 * as and stored: its loads are issued a step ahead, and the arithmetic on them waits until the step's products are
 * under way.
 *
 * The text of a kernel has these variables: thread, m0 and n0 (where the tile begins), m_end and n_end (where M and N
 * do), k_begin and k_end. */
#ifndef PL_CUDA_DOT_H
#define PL_CUDA_DOT_H
#include "codegen/cuda/body.h"

/* Dimensions [first, last) of the kernel, taken as one. */
typedef struct DotRange {
	u32 first, last;
	i64 n;
} DotRange;
DotRange dot_range(const Kernel *k, DimRole role);
/* The last of them that is more than one element. */
u32 dot_inner(const Kernel *k, DotRange r);

enum { DOT_PARTS = 8 };

typedef struct DotOperand {
	char name;          /* 'a' or 'b' */
	DType product;      /* what it is multiplied as: kernel_operand_dtype() */
	KVal value;         /* without a last cast that the rounding to that implies */
	DotRange x;         /* M or N */
	const char *x0, *x_end;
	bool x_ragged;      /* x can be x_end or beyond */
	bool along_k;       /* chunks run along k */
	u32 width, parts;   /* elements evaluated at once, and how many times that makes a chunk */
	const Access *copy; /* the plain load that is copied; or NULL */
	u32 extent;         /* of the tile along x */
	u32 chunks;         /* of a tile */
	VEC(u32) load;      /* instructions: loads that the value needs */
	bool *wanted;       /* [inst]: those, and what they need */
} DotOperand;

typedef struct DotTile {
	u32 rows, columns, depth;
	u32 warp_rows, warp_columns; /* a warp's part; of CUDA cores: a thread's */
	u32 threads, chunk, stages;
} DotTile;

typedef struct Dot {
	const Kernel *k;
	const CudaArch *arch;
	DotRange b, m, n, kr; /* b: BATCH, or G of grouped kernels */
	DotTile tile;
	u32 splits;   /* of K: each is summed by itself; a second phase sums them, in order */
	i64 split;    /* steps along K in each */
	bool grouped; /* GROUPED: rows of a tile belong to one group */
	bool weights; /* GROUPED_WEIGHTS: k runs over a group's rows */
	bool k_ragged;
	DotOperand a, o; /* left, other: (M, K) and (K, N) */
} Dot;

Dot dot_of(const CudaArch *arch, const Kernel *k);
/* The tile, and the operands with it. */
void dot_set_tile(Dot *d, DotTile t);
/* A tile that may be chosen, with its speed where there is enough work, of the best's, and the steps along K that
 * beginning and ending one cost. */
typedef struct DotChoice {
	DotTile tile;
	f64 efficiency, overhead;
} DotChoice;
/* The fastest of n, and how often K is split; sets both. The choice's number. */
u32 dot_choose(Dot *d, const DotChoice *choice, u32 n, bool may_split);

/* ---- text ---- */

/* Coordinates of a range's dimensions from their flattened index, as variables PREFIX_d. */
void dot_coordinates(CudaBody *b, DotRange r, const char *flat, const char *prefix);
/* Before the loop along K: where a thread's chunks are. */
void dot_operand_places(CudaBody *b, const Dot *d, const DotOperand *o);
/* The chunks of the step that begins at `kb`: asynchronous copies to the shared address `to`; or loads to registers,
 * and later the rest and stores to `to`. */
void dot_operand_registers(CudaBody *b, const Dot *d, const DotOperand *o);
void dot_operand_copy(CudaBody *b, const Dot *d, const DotOperand *o);
void dot_operand_fetch(CudaBody *b, const Dot *d, const DotOperand *o);
void dot_operand_put(CudaBody *b, const Dot *d, const DotOperand *o);

/* `width` elements of the operand at the body's coordinates, to the array `to` from `at` on: floats that the store rounds to
 * what is multiplied; 0 where `here`, if there is one, does not hold. */
void dot_operand_value(CudaBody *b, const Dot *d, const DotOperand *o, const char *to, u32 at, const char *here);

/* The body after the sum at (batch, m, n), `width` elements along N held by the array `sum` (a float or double). */
void dot_epilogue(CudaBody *b, const Dot *d, const char *sum, u32 width);
/* The most elements along N that an epilogue may take at once, up to `most`. */
u32 dot_epilogue_width(const Dot *d, u32 most);

/* Begins phase 0 up to the variables above: which tile is this block's. `blocks`: a multiprocessor's. */
void dot_begin(CudaBody *b, const Dot *d, const char *name, u32 blocks, const CudaNeeds *needs);
/* The tile (and split and batch) that has this number: sets the variables. `bands`: tiles of rows taken together. */
void dot_place(CudaBody *b, const Dot *d, const char *unit, u32 bands);
/* "acc is the whole sum": writes the epilogue, or the part of a split to the workspace; `row` and `column` are
 * variables of the text. */
void dot_finish(CudaBody *b, const Dot *d, const char *sum, u32 width);
CudaNeeds dot_needs(const Dot *d, u32 shared);
void dot_emit_splits(CudaText *t, const Dot *d, const char *name, u32 phase, const CudaNeeds *needs);

/* ---- operands evaluated into the workspace (dot_pack.c) ---- */

/* An operand as batch x outer rows of `row` elements, of which `inner` count. */
typedef struct DotPacked {
	i64 batch, outer, inner, row;
	u64 bytes;
} DotPacked;
/* Is it worth it? */
bool dot_pack(const Dot *d, const DotOperand *o, DotPacked *out);
CudaLaunch dot_pack_launch(const DotPacked *p);
/* To byte `at` of the workspace. */
void dot_pack_emit(CudaText *t, const Dot *d, const DotOperand *o, const DotPacked *p, u64 at, const char *name, u32 phase,
		   const CudaNeeds *needs);

/* From where on kinds of kernels pay; tests lower them, to come everywhere with little work. */
typedef struct DotLimits {
	f64 pack_products; /* multiply-adds for which an operand is packed */
	i64 pack_reuse;    /* and how often each of its elements is used */
	f64 turns;         /* speed of warpgroups that take turns, of that of those that share a tile */
} DotLimits;
extern DotLimits dot_limits;

/* ---- sums beside the product (dot_sums.c) ---- */

bool dot_sums(const Kernel *k);
CudaNeeds dot_sums_needs(const CudaArch *arch, const Kernel *k);
void dot_sums_emit(CudaText *t, const Kernel *k, const char *name);

/* ---- kinds of kernels ---- */

/* sm_90a: both operands by the bulk copy engine, products by warpgroups. False: it cannot, or should not. */
bool dot_hopper(const CudaArch *arch, const Kernel *k);
CudaNeeds dot_hopper_needs(const CudaArch *arch, const Kernel *k);
void dot_hopper_emit(CudaText *t, const Kernel *k, const char *name);

/* f32 and f64 on CUDA cores. */
void dot_cores_divide(Dot *d);
u32 dot_cores_shared(const Dot *d);
void dot_cores_emit(CudaBody *b, const Dot *d, const char *name, const CudaNeeds *needs);

/* bf16, f16 and floats of 8 bits by mma.sync. */
void dot_tensor_divide(Dot *d);
u32 dot_tensor_shared(const Dot *d);
void dot_tensor_emit(CudaBody *b, const Dot *d, const char *name, const CudaNeeds *needs);

#endif
