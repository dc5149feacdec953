/* ir/kernel.h: what one launch computes, shared by all targets.
 *
 * A kernel is a domain (loop dimensions with extents and roles), slots (the tensors it touches) and a
 * body: scalar instructions in SSA form, in topological order, evaluated at a point of the domain.
 * How the loops run (vectors, tiles, threads) is the target's business; what is computed, and in which
 * order sums are taken, is fixed here. Its classes:
 *
 *   MAP        dimensions PARALLEL; the body at every point.
 *   ROW        PARALLEL... ROW: as MAP, plus K_reduce over the one ROW dimension (the last). Its result
 *              does not depend on that dimension; instructions that use it come in a later sweep over
 *              the row. Any number of reductions, in any number of sweeps.
 *   COLUMN     PARALLEL... REDUCE... VECTOR: K_reduce over all REDUCE dimensions; the VECTOR dimension
 *              (the last; its extent may be 1) is what runs in lanes. Instructions that use a reduction
 *              do not depend on REDUCE dimensions. One sweep.
 *   DOT        BATCH... M... N... K...: operand[0] at (BATCH, M, K), operand[1] at (BATCH, K, N), both as
 *              bodies that end in loads (views, casts and cheap arithmetic are folded in); K_acc 0 is
 *              their product summed over K; what follows it is at (BATCH, M, N). K_acc 1 is operand[0],
 *              as products take it, summed over K, at (BATCH, M), K_acc 2 operand[1], at (BATCH, N):
 *              gradients of biases; for targets that say so (sums_beside), one of them at most.
 *   ATTENTION  dimensions BATCH... HEAD M (queries) N (keys) K (query features) V (value features), HEAD
 *              being (G R): kv head g, query head within it. operand: q (BATCH, G, R, M, K),
 *              k (BATCH, G, N, K), v (BATCH, G, N, V), then mask and bias at (BATCH, G, R, M, N) where
 *              present. K_acc 0 is out at (BATCH, G, R, M, V), K_acc 1 the log-sum-exp (BATCH, G, R, M).
 *   ATTENTION_GRAD  the same dimensions; operands q k v [mask] [bias] out lse dout [dlse]; K_acc 0..2 are dq dk
 *              dv (and 3 dbias at (BATCH, G, R, M, N)).
 *   SCATTER    PARALLEL... INDEX VECTOR...: operand[0] the value added at (all), operand[1] the place:
 *              adds to slot 0 at the access `scatter`, in order of INDEX; slot 0 holds what it is added
 *              to: zeros first, unless `accumulate`.
 *   SCAN       PARALLEL... ROW: K_acc 0 is the running sum of operand[0] along ROW.
 *   SORT       PARALLEL... ROW: operand[0] in order along ROW: K_acc 0 values, K_acc 1 indices (i32).
 *   COLLECTIVE no dimensions and no body: what the devices of a mesh do together (`collective`), over slots that are
 *              its operands and then its results, dense and in row-major order.
 *   GROUPED    M (rows) N K of grouped_dot and GROUPED_WEIGHTS of its weights' derivative; operands x, w,
 *              offsets.
 *
 * Determinism: a reduction over n elements with L lanes sums lane l over elements l, l + L, ... in order
 * (independent accumulators u = 0..U-1 take element blocks in turn), then combines by a fixed tree; L and
 * U are the target's constants, never the number of threads.
 *
 * Accesses are affine in the domain's coordinates, plus strides times integer values of the body (gather).
 * A target may compile a kernel once for all extents, strides and offsets: kernel_shape_hash() ignores
 * these numbers (but tells strides 0 and 1 apart from others), kernel_numbers() lists them in order. */
#ifndef PL_KERNEL_H
#define PL_KERNEL_H
#include "ir/op.h"

typedef enum KernelClass {
	KERNEL_MAP,
	KERNEL_ROW,
	KERNEL_COLUMN,
	KERNEL_DOT,
	KERNEL_ATTENTION,
	KERNEL_ATTENTION_GRAD,
	KERNEL_SCATTER,
	KERNEL_SCAN,
	KERNEL_SORT,
	KERNEL_GROUPED,
	KERNEL_GROUPED_WEIGHTS,
	KERNEL_COLLECTIVE,
	KERNEL_CLASSES
} KernelClass;
extern const char *const kernel_class_name[KERNEL_CLASSES];

typedef enum DimRole {
	DIM_PARALLEL,
	DIM_ROW,
	DIM_REDUCE,
	DIM_VECTOR,
	DIM_BATCH,
	DIM_G,
	DIM_R,
	DIM_M,
	DIM_N,
	DIM_K,
	DIM_V,
	DIM_INDEX,
	DIM_ROLES
} DimRole;
extern const char *const dim_role_name[DIM_ROLES];

enum { KERNEL_DIMS = 16, KERNEL_OPERANDS = 10 };
/* Reductions of a ROW kernel at most: a target carries all of a sweep at once. */
enum { KERNEL_ROW_REDUCTIONS = 32 };

typedef struct KDim {
	DimRole role;
	i64 extent;
	Axis axis; /* for names in reports; may be 0 */
} KDim;

typedef struct KVal {
	u32 i;
} KVal; /* index into Kernel.inst; 0 is "none" (inst[0] is unused) */

/* Where in a slot: element offset + sum of stride[d] * coordinate d + sum of dynamic stride * value. */
typedef struct Access {
	u32 slot;
	i64 offset;
	i64 stride[KERNEL_DIMS];
	u32 ndynamic;
	struct {
		KVal index; /* an integer */
		i64 stride;
	} dynamic[2];
} Access;

typedef enum KOp {
	K_none,
	K_const,  /* imm */
	K_index,  /* access.offset + sum of access.stride * coordinates, as dtype */
	K_load,   /* slot element at access; in[0], if any, is a b1 under which alone it is read (else 0) */
	K_store,  /* in[0] to slot at access; in[1], if any, is a b1 under which alone it is written */
	K_reduce, /* in[0] over the ROW or REDUCE dimensions, by `reduce` */
	K_acc,    /* result `imm` of the skeleton */
	K_cast,   /* in[0] to dtype, rounded as dtype_round */
	K_random, /* u32 word of Philox for element K_index-like access: see ir/philox.h; in[0] seed, in[1]
		   * step (i64); key in `key`; result f32 uniform */
	K_scalar, /* a row of scalar.def: `scalar`; result dtype in dtype */
	K_OPS
} KOp;

typedef enum Scalar {
#define SCALAR(name, ...) S_##name,
#include "ir/scalar.def"
#undef SCALAR
	SCALARS
} Scalar;

typedef struct KScalarInfo {
	const char *name;
	u8 nin;
	bool is_bool;
	u8 flops, effort;
} KScalarInfo;
extern const KScalarInfo kernel_scalar[SCALARS];
/* The reference value, in f64. */
f64 kernel_scalar_value(Scalar s, f64 a, f64 b, f64 c);

typedef enum Reduce { REDUCE_sum, REDUCE_max, REDUCE_min } Reduce;

typedef struct KInst {
	u8 op;      /* KOp */
	u8 scalar;  /* Scalar, of K_scalar */
	u8 reduce;  /* Reduce, of K_reduce */
	u8 dtype;   /* DType of the result (of the slot's elements for a load; of in[0] for a store) */
	KVal in[3];
	f64 imm;
	u64 key;
	const Access *access;
	u32 depends; /* bit d: the value depends on coordinate d */
	u32 sweep;   /* ROW and COLUMN: 0, or one more than the reductions it needs */
	Loc loc;
} KInst;

/* A series or a call on every target (exp and dearer): its value is rather kept than computed again. */
static inline bool kernel_costly(const KInst *in)
{
	return in->op == K_scalar && kernel_scalar[in->scalar].effort >= 12;
}

typedef struct KSlot {
	DType dtype;
	bool read, written;
	/* An output that may be the same memory as these input slots (bit s): every point reads what it
	 * reads of s at the very place and no later than it writes there. */
	u64 may_alias;
	const char *name; /* for people: "h.3.attn.c_attn.weight", "%17" */
	i64 elements;     /* of the whole tensor: no access goes beyond */
	bool streamed;    /* an output that is not used again before caches have let go of it: stored past them */
	i64 row, pitch;   /* rows of so many elements lie so far apart, with nothing between; 0: dense */
} KSlot;

/* COLLECTIVE: an op of ir/ops/collective.c with its attributes, and the types of its operands. */
typedef struct KCollective {
	Op op;
	const void *attr;
	u32 n;
	const Type *const *type;
} KCollective;

typedef struct Kernel {
	Arena *arena;
	Ir *ir;
	KernelClass class;
	const char *name; /* unique in a plan, readable: "h.0.mlp.c_fc.gelu" */
	Loc loc;
	const char *scope;
	KDim dim[KERNEL_DIMS];
	u32 ndim;
	VEC(KSlot) slot;
	VEC(KInst) inst;
	KVal operand[KERNEL_OPERANDS];
	u32 noperand;
	/* class-specific */
	bool causal, has_mask, has_bias; /* ATTENTION(_GRAD) */
	i64 window;
	f64 scale, softcap;
	const KCollective *collective;
	const Access *scatter; /* SCATTER: where, in slot 0; dynamic[0] is operand[1] */
	bool accumulate;       /* SCATTER: slot 0 is not cleared first */
	bool descending, reverse, exclusive; /* SORT, SCAN */
	DType compute;         /* DOT, ATTENTION: what products are taken in: f32, bf16 or f16 operands
				* (each operand is rounded to it; those of 8 bits are read as bf16 or f16, exactly), f64.
				* DOT: f8e4m3: both operands are loads of 8 bits, each of its own type (kernel_operand_dtype()), one at least f8e4m3, in whose
				* memory what is summed over runs fastest */
	f64 flops;             /* as graph nodes count them, for reports */
	f64 effort, costly;    /* of all but what the skeleton does, in additions (ir/scalar.def), for times; that part of it which is of
				* costly functions and of elements that lie apart */
	f64 bytes_read, bytes_written; /* each slot's touched elements once */
} Kernel;

Kernel *kernel_new(Arena *arena, Ir *ir, KernelClass class);
/* Appends; equal instructions are shared; `depends` and `sweep` are worked out. */
KVal kernel_inst(Kernel *k, KInst inst);
u32 kernel_slot(Kernel *k, KSlot slot);
void kernel_print(const Kernel *k, FILE *to);
/* The shape of a kernel for people: "256 x 2304 x 768", "4 x 12 heads, 64 x 64 causal, 64 wide". */
const char *kernel_shape_text(Arena *a, const Kernel *k);
/* Everything this page promises, and that no access can leave its slot. */
bool kernel_verify(const Kernel *k, Diag *d);

/* What products take operand i as. */
DType kernel_operand_dtype(const Kernel *k, u32 i);

/* The skeleton's results (bit i: K_acc i) that an instruction needs; does some store need result `which`? */
u32 kernel_results_needed(const Kernel *k, KVal v);
/* Marks an instruction and all that it needs; `mark`: one for each instruction. */
void kernel_mark_needed(const Kernel *k, KVal v, bool *mark);
bool kernel_stores_result(const Kernel *k, u32 which);

/* The oracle one level down: plain loops in f64. slot[i]: elements of slot i as f64. */
void kernel_eval(const Kernel *k, f64 *const *slot);

/* Equal for kernels that one piece of code can serve with different numbers. */
u64 kernel_shape_hash(const Kernel *k);
/* Extents of all dimensions, then for every access in order of instructions (then `scatter`): offset,
 * the strides of dimensions 0..ndim-1, the dynamic strides; after a K_random's access its key, after
 * the scatter's the elements of its slot.
 * Written to `number` if it is not NULL. The count. The position of an access's numbers is
 * kernel_access_number(). */
u32 kernel_numbers(const Kernel *k, i64 *number);
u32 kernel_access_number(const Kernel *k, const Access *a);

#endif
