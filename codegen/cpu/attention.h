/* codegen/cpu/attention.h: what attention and its gradient share on the CPU.
 *
 * Scores are held turned: keys down the rows, queries across the lanes. Then a key panel times a query
 * panel is a register tile of scores; maxima and sums over keys are plain vector operations; and the
 * probabilities stand as the panel that the next product wants. The queries of the R heads that share
 * keys are walked as one range. Keys are taken in blocks of a fixed size, from key 0 on, so that bits do
 * not depend on how tasks are divided.
 *
 * After Dao et al., FlashAttention, 2022, and FlashAttention-2, 2023. */
#ifndef PL_CPU_ATTENTION_H
#define PL_CPU_ATTENTION_H
#include "codegen/cpu/count.h"
#include "codegen/cpu/kernels.h"
#include "codegen/cpu/panel.h"

typedef struct Attention {
	Body *b; /* NULL where only numbers are wanted */
	const Kernel *k;
	const CpuMachine *machine;
	Tile score;              /* rows are keys, columns queries */
	u32 width;               /* queries of a panel */
	u32 block;               /* keys of a block: set by the kernel that walks them */
	DType type;              /* of sums and scores: f32 or f64 */
	Range outer, x, m, n, kd, v; /* BATCH and G; R and M; M; N; K; V */
	Count items, X, M, N, K, V, panels;
	u32 mask, bias;          /* which operands, 0: none */
} Attention;

Attention attention_make(Body *b, const CpuMachine *machine, const Kernel *k);

/* Lays out `elements` more of scratch or workspace, in whole cache lines; where they begin. */
Count attention_lay(CpuModule *m, Count *used, Count elements);

/* What a launch with so many elements of workspace and scratch, blocks of nb items and `phases` phases to each needs; tasks[i]:
 * those of phase i of a block for each of its items. */
CountNeeds attention_needs(CpuModule *m, const Attention *a, Count workspace, Count scratch, Count nb, Count phase, u32 phases,
			   const Count *tasks);

/* The tile of a product whose rows are features and whose columns are those of the score tile. */
Tile feature_tile(const Attention *a, i64 features);

/* scale, as a scalar of `type`. */
LLVMValueRef attention_scale_value(const Attention *a);

/* Queries, a panel of them or more: which keys they see. */
typedef struct Queries {
	LLVMValueRef x0, count;                /* count: those that exist */
	LLVMValueRef limit[STRIP_VECTORS];     /* i32 lanes: the last key that each sees, where causal; of a
						* panel alone */
	LLVMValueRef limit_low, limit_high;    /* i64: the least and the greatest of them */
	LLVMValueRef key_begin, key_end;       /* keys that any of them may see */
} Queries;
/* [x0, x0 + most), as far as they exist. */
void queries_range(const Attention *a, Queries *q, LLVMValueRef x0, LLVMValueRef most);
void queries_make(const Attention *a, Queries *q, LLVMValueRef panel);

/* Tiles [first, last) of an operand: tile t has columns x0 + t * width of x_count and begins at base +
 * t * size. */
typedef struct TilesPacked {
	const Packing *p;
	LLVMValueRef first, last, size, base;
	LLVMValueRef x0, x_count, from, to; /* as pack() has them */
} TilesPacked;
void tiles_pack(const Attention *a, const TilesPacked *t);

/* For each of `tiles` tiles of rows: to + t * to_size is set to the sum over k of (left + t * left_size)^T
 * right, or where `more` that is added. */
typedef struct TilesProduct {
	LLVMValueRef function; /* of the tile */
	LLVMValueRef left, left_size, right, to, to_size, tiles, k;
	bool more;
} TilesProduct;
void tiles_multiply(const Attention *a, const TilesProduct *t);

/* e^x for x <= 0; what is below the normal numbers is 0: arithmetic on denormals is slow. */
LLVMValueRef attention_exp(const Attention *a, const Simd *s, LLVMValueRef x);

/* Scores of keys [key0, key0 + count), which are in rows of `width` at `scores`: scaled, bounded by a softcap, biased, -inf
 * where unseen. bias, mask: packed panels, or NULL. slope: where the derivative of a softcap's tanh is put, or NULL. largest[v] is the greatest score of each lane where
 * it is not NULL, combined with what it holds. */
typedef struct ScoreBlock {
	LLVMValueRef scores, bias, mask, slope, key0, count;
} ScoreBlock;
void scores_finish(const Attention *a, const Queries *q, const ScoreBlock *s, LLVMValueRef *largest);

/* for row in [0, count), all vectors of it: x[v] are row `row` of `from`; carries n values. */
typedef struct RowsLoop {
	CpuLoop loop;
	LLVMValueRef at;
	LLVMValueRef x[STRIP_VECTORS];
} RowsLoop;
void rows_begin(const Attention *a, RowsLoop *r, LLVMValueRef rows, LLVMValueRef count, u32 n,
		const LLVMValueRef *carried);
void rows_store(const Attention *a, RowsLoop *r, LLVMValueRef rows, LLVMValueRef *x);
void rows_end(const Attention *a, RowsLoop *r, const LLVMValueRef *next);
/* Zeros `rows` of a panel of `width`. */
void rows_clear(const Attention *a, LLVMValueRef at, LLVMValueRef rows);

/* `from`: `rows` rows of `width` lanes; to[lane * stride + row], each lane times factor[lane] (NULL: 1),
 * rounded to `round`. Rows are taken in whole vectors. */
void panel_turn(const Attention *a, LLVMValueRef from, LLVMValueRef rows, LLVMValueRef to,
		LLVMValueRef stride, LLVMValueRef factor, DType round);

/* The body after result `which`: for rows [x0, x0 + count) of range x, features [f0, f1) of f (NULL: all)
 * from memory at `rows`, where f0 is first (a row is `stride` long). Results in `scalar_of` (NULL: none) are one number a row: result
 * scalar_which. Stores that do not move with f happen once a row. */
typedef struct RowResult {
	u32 which;
	Range x, f;
	LLVMValueRef f0, f1;
	LLVMValueRef rows, stride;
	LLVMValueRef scalar_of;
	u32 scalar_which;
} RowResult;
void rows_epilogue(const Attention *a, const RowResult *r, LLVMValueRef x0, LLVMValueRef count);

LLVMValueRef attention_at(const Attention *a, LLVMValueRef base, LLVMValueRef index);

#endif
