/* codegen/cuda/body.h: a kernel's instructions as CUDA C, at a place of its domain that the loops around set
 * up. All skeletons write bodies through this; the division of work is theirs.
 *
 * The text sets `coord[d]` for each dimension, a C expression of type int (or long long where a slot has more
 * than 2^31 elements) that is cheap to repeat: a variable's name, a literal. One dimension (`vector_dim`; its coord is
 * that of element 0) may run over `width` elements of a thread, consecutive or in chunks that are: values that depend
 * on it are arrays of `width` in registers, and loads and stores of consecutive elements are as wide as their
 * alignment allows (up to 16 bytes; alignment follows from strides, offsets, and what the skeleton promises of
 * coord[vector_dim] in `vector_align`). `guard`, if any, is a C condition under which alone memory is touched
 * (loads give 0 otherwise); `guard_each` is one for each element, with %u where the element's number goes
 * ("column + %u < 768"), for tails that are not whole vectors; `guard_chunk` one for each chunk, which is touched
 * whole or not at all.
 *
 * cuda_scalar() and cuda_element() write what an instruction needs, each once per scope, and give its name: `v12`, or
 * `v12[3]` where it varies along the vector (with a width of 1 nothing does). Narrow floats are held as float (bf16 and
 * f16 values are rounded when cast, and exact as float); f64 as double; integers as int, unsigned or long long; b1 as
 * bool. */
#ifndef PL_CUDA_BODY_H
#define PL_CUDA_BODY_H
#include "codegen/cuda/kernels.h"

typedef struct CudaBody {
	CudaText *t;
	const Kernel *k;
	const char *coord[KERNEL_DIMS];
	u32 vector_dim;         /* or NONE */
	u32 width;              /* 1: nothing is a vector */
	u32 chunk;              /* so many elements lie side by side (0: all); element j is at coordinate */
	i64 chunk_stride;       /* coord + j / chunk * chunk_stride + j % chunk */
	u32 vector_align;       /* coord[vector_dim] is a multiple of this */
	u32 flat_align;         /* the point's row-major index in the domain is a multiple of this (0: not known) */
	const char *guard;      /* or NULL */
	const char *guard_chunk; /* with %u for the chunk, or NULL */
	const char *guard_each; /* with %u for the element, or NULL */
	u32 indent;
	bool sized;             /* extents, strides and offsets are `numbers.v[i]`, a parameter (kernel_numbers); coordinates are i64 */
	/* private: what is known, by instruction; what is known later is forgotten first */
	const char **name; /* NULL: not known */
	bool *vector;      /* the name is that of an array */
	VEC(u32) known;
} CudaBody;

CudaBody cuda_body(CudaText *t, const Kernel *k);

/* ---- text ---- */

/* One line at the current indentation; printf. */
void cuda_line(CudaBody *b, const char *format, ...) PL_PRINTF(2, 3);
void cuda_open(CudaBody *b, const char *format, ...) PL_PRINTF(2, 3); /* line + " {", indents */
void cuda_close(CudaBody *b);                                         /* "}" */

/* `extern "C" __global__ void __launch_bounds__(threads, blocks) NAME_pPHASE(parameters) {`. blocks: how many a
 * multiprocessor should hold, 0: not said. Slots that are only read, and that no written slot may alias, are
 * `const T *__restrict__`. */
void cuda_begin(CudaBody *b, const char *name, u32 phase, u32 threads, u32 blocks, const CudaNeeds *needs);
void cuda_end(CudaBody *b);

/* "float", "u16" (bf16, f16), ...: an element in memory; "float", "double", "int": a value in a register. */
const char *cuda_memory_type(DType d);
const char *cuda_value_type(DType d);
/* A C expression of one dtype's value as another's: rounded, wrapped. */
const char *cuda_convert(Arena *a, DType from, DType to, const char *x);
/* An element in memory as a value; a value as an element in memory. */
const char *cuda_widen(Arena *a, DType d, const char *element);
const char *cuda_narrow(Arena *a, DType d, const char *value);
/* A literal of that type, with all its digits: "0x1.8p+1f". */
const char *cuda_literal(Arena *a, f64 value, DType d);

/* Elements along dimension d that a thread should take at once, up to 8: 16 bytes of the widest access that is contiguous
 * along it and moves with the most dimensions, if such an access can then be wide. */
typedef enum CudaCut {
	CUDA_WHOLE, /* vectors must divide the extent */
	CUDA_LAST,  /* the last one may be cut short */
	CUDA_FLAT   /* vectors are of the flattened domain, whose last dimension is d */
} CudaCut;
u32 cuda_vector_width(const Kernel *k, u32 d, CudaCut cut);

/* ---- values ---- */

/* Writes what `v` needs and gives the name of a scalar: it must not depend on the vector dimension (or width is 1). */
const char *cuda_scalar(CudaBody *b, KVal v);
/* The same for element j of a vector; also of a value that is the same for all elements. */
const char *cuda_element(CudaBody *b, KVal v, u32 j);
/* A value computed by the skeleton: a reduction, an accumulator. `name`: a variable (scalar), or an array of `width`
 * (vector). */
void cuda_set(CudaBody *b, KVal v, const char *name, bool vector);
/* Writes the store instruction `inst`, with what it needs. */
void cuda_store(CudaBody *b, u32 inst);
/* guard_each and guard_chunk of element `j` (a C expression), NULL where there is none. */
const char *cuda_guard(CudaBody *b, const char *j);
/* Element `j` (a C expression) of a value that was asked for before. */
const char *cuda_known_element(CudaBody *b, KVal v, const char *j);
/* Does the instruction's value change along the vector dimension? */
bool cuda_varies(const CudaBody *b, KVal v);

/* Scopes: what was written since a mark is forgotten (a C block was closed). Writing a value early, at an outer scope,
 * is hoisting it. */
u32 cuda_mark(const CudaBody *b);
void cuda_release(CudaBody *b, u32 mark);
/* Writes every instruction that depends on dimensions in `dims` (bits) alone, needs no reduction or accumulator that is
 * not set, and is wanted ([inst]; NULL: all that some store needs). */
void cuda_hoist(CudaBody *b, u32 dims, const bool *wanted);
/* The same for what depends on no dimension. Costly values are computed by one thread of the block, its first: to be called by all
 * threads that have not returned (a barrier waits for those alone), at the function's beginning. */
void cuda_hoist_uniform(CudaBody *b);
/* More than a few machine instructions: transcendental functions, random draws, arithmetic of f64. */
bool cuda_costly(const KInst *in);
/* What the n instructions need, themselves included. */
const bool *cuda_wanted(const CudaBody *b, const u32 *inst, u32 n);

/* The element index of an access at the current coordinates as a C expression (dynamic parts included), of element 0
 * of the vector. */
const char *cuda_index(CudaBody *b, const Access *a);
/* What the access moves by along dimension d, 0 where the dimension has one element. */
i64 cuda_stride(const Kernel *k, const Access *a, u32 d);
/* Consecutive elements of the vector lie side by side, and this many (a power of two, up to a chunk and 16 bytes) at
 * addresses that are multiples of their size; 1 where they do not. */
u32 cuda_piece(const CudaBody *b, const Access *a);

/* Coordinates of dimensions [first, last) from a flattened index (C expression), last dimension fastest: writes
 * `const int c3 = ...` and sets coord. `flat` is a name. */
void cuda_unflatten(CudaBody *b, u32 first, u32 last, const char *flat);
/* The same for any dimensions in any order, as if their extents were those given. */
void cuda_unflatten_list(CudaBody *b, u32 n, const u32 *dim, const i64 *extent, const char *flat);
i64 cuda_extent_product(const Kernel *k, u32 first, u32 last);
/* The same as a C expression. */
const char *cuda_size(const CudaBody *b, u32 first, u32 last);

#endif
