/* codegen/cuda/attention_common.h: what attention and its gradient share on CUDA.
 *
 * The kernels themselves are CUDA C of the preamble (preamble/attention*.cuh), templates over a
 * struct of constants and over functions that reach operands and results. What is written here for
 * each kernel is that struct and those functions, by the body emitter, and a call.
 *
 * Tensor cores want operands in rows of 16-bit features that lie side by side, aligned, to copy as
 * they are. An operand that is stored so is `plain`. Any other is evaluated through its body: once,
 * into the workspace, where blocks read it again and again (`packed`); or on the way into shared
 * memory, where they read it once. */
#ifndef PL_CUDA_ATTENTION_H
#define PL_CUDA_ATTENTION_H
#include "codegen/cuda/body.h"

typedef struct CudaRange {
	u32 first, last; /* dimensions */
	i64 n;           /* elements */
} CudaRange;

enum { ATTENTION_Q, ATTENTION_KEY, ATTENTION_VALUE, ATTENTION_DOUT, ATTENTION_OPERANDS };

typedef struct CudaAttention {
	CudaBody *b; /* NULL where only numbers are wanted */
	const Kernel *k;
	const CudaArch *arch;
	bool tensor;                          /* on tensor cores; else by ordinary arithmetic */
	DType type;                           /* of sums: f32 or f64 */
	CudaRange outer, r, m, n, kd, v;      /* BATCH and G; R; M; N; K; V */
	u32 mask, bias, out, lse, dout, dlse; /* which operands; 0: none */
	u32 operand[ATTENTION_OPERANDS];
	bool plain[ATTENTION_OPERANDS], packed[ATTENTION_OPERANDS];
	u64 packed_at[ATTENTION_OPERANDS]; /* in the workspace, bytes */
	u32 fk, fv;                        /* widths in tiles: multiples of 16 */
	u64 workspace;                     /* laid out so far, bytes */
} CudaAttention;

CudaAttention cuda_attention_make(CudaBody *b, const CudaArch *arch, const Kernel *k);
/* Room in the workspace; where it begins. */
u64 cuda_attention_lay(CudaAttention *a, u64 bytes);
/* From now on the operand is one of the workspace, unless it is plain. */
void cuda_attention_pack(CudaAttention *a, u32 which);

/* ---- how a kernel on tensor cores divides its work: the constants of attention_tensor.cuh ---- */

/* CudaArch.attention: one for each kind of kernel; of those with no warps, the table's. */
typedef enum CudaAttentionPart {
	TILE_FORWARD,
	TILE_KEYS,
	TILE_QUERIES,
	TILE_PARTS
} CudaAttentionPart;
typedef struct CudaAttentionTile {
	u32 warps, tiles, columns, step;
	bool held;
	u32 blocks; /* that a multiprocessor holds, of which registers are to be spared; 0: as many
		       as fit */
} CudaAttentionTile;
/* What the arch says, or NULL. */
static inline const CudaAttentionTile *cuda_attention_wanted(const CudaAttention *a,
							     CudaAttentionPart part)
{
	const CudaAttentionTile *t = a->arch->attention;
	return t && t[part].warps ? &t[part] : NULL;
}
static inline u32 cuda_attention_rows(const CudaAttentionTile *t)
{
	return t->warps * t->tiles * 16;
}
/* Bytes of a row of `features` in a tile. */
u32 cuda_attention_row_bytes(u32 features);

/* ---- text ---- */

/* `struct NAME_PHASE { ... }`: the constants, before the function; more: further members, or "". */
void cuda_attention_struct(const CudaAttention *a, const char *name, u32 phase,
			   const CudaAttentionTile *t, const char *more);
/* `auto NAME = [=](ARGUMENTS) {`, and its end. Coordinates and values made inside are forgotten. */
typedef struct CudaLambda {
	u32 mark;
	const char *coord[KERNEL_DIMS];
} CudaLambda;
CudaLambda cuda_lambda_open(const CudaAttention *a, const char *name, const char *arguments);
void cuda_lambda_close(const CudaAttention *a, const CudaLambda *l);

/* How a function of rows gets to know the head r: it stands around it as `r`; or it is an argument.
 */
typedef enum CudaHead { HEAD_FIXED, HEAD_ARGUMENT } CudaHead;

/* `auto NAME`, the operand as attention_tensor.cuh takes it (packed, plain or computed), or as
 * attention_plain.cuh does. With HEAD_ARGUMENT, a function of r that gives it. `item` and, with
 * HEAD_FIXED, `r` are set, and their coordinates. */
void cuda_attention_operand(const CudaAttention *a, u32 which, const char *name, CudaHead head);
/* `auto bias`, `auto seen`. */
void cuda_attention_scores(const CudaAttention *a, CudaHead head);
/* Of rows of queries: `auto NAME(row)`: operand `in`, 0 where there is none, as a number of
 * a->type; `auto NAME(row, feature, x)`: eight of its features; `auto NAME(row, feature, x)`: eight
 * features of operand `which` go where it is packed, if it is. `group` is the head. */
void cuda_attention_number(const CudaAttention *a, u32 in, const char *name);
void cuda_attention_numbers(const CudaAttention *a, u32 in, const char *name);
void cuda_attention_keep(const CudaAttention *a, u32 which, const char *name);

/* The phase that packs, as part of a function: `int NAME_blocks` blocks of `threads` from *block on
 * do their share and return. */
i64 cuda_attention_pack_blocks(const CudaAttention *a, u32 which);
void cuda_attention_pack_part(const CudaAttention *a, u32 which, i64 *block);
enum { ATTENTION_PACK_THREADS = 256 };

/* ---- results ---- */

/* `auto NAME`: stores what needs result `which` at rows of x and features of f: on tensor cores
 * NAME(x, f, [lse,] a, b) of two neighbouring features, else NAME(x, f, [lse,] a). with_lse: result
 * 1 is known too. */
void cuda_attention_store(const CudaAttention *a, u32 which, const char *name, CudaRange x,
			  CudaRange f, bool with_lse);
/* `auto NAME(x, value)`, of one number a row; `auto NAME(m, n, value)`. */
void cuda_attention_store_row(const CudaAttention *a, u32 which, const char *name);
/* All that a forward kernel of one head takes: q, key, value, bias, seen, store_lse, store_out. */
void cuda_attention_forward(const CudaAttention *a);
void cuda_attention_store_score(const CudaAttention *a, u32 which, const char *name);

/* The coordinates of a range from a variable of that name. */
void cuda_attention_at(const CudaAttention *a, CudaRange r, const char *flat);
/* `const int item, r, block`: of blockIdx.x, the block fastest and last first where late ones have
 * more to do. */
void cuda_attention_block(const CudaAttention *a, i64 blocks, bool heads, bool backwards);

#endif
