/* codegen/package.h: what the compiler hands to the runtime: plain data, no compiler types. It is all
 * that both sides share besides support/. In memory it is made from a Plan and compiled code; an
 * ahead-of-time package is the same data in a file.
 *
 * A kernel's code is one function for all its launches that have the same shape; extents, strides and
 * offsets come in `number` (ir/kernel.h, kernel_numbers). */
#ifndef PL_PACKAGE_H
#define PL_PACKAGE_H
#include "support/status.h"

/* Runs tasks [begin, end) of `phase`. slot[i]: the address of slot i. workspace: of the launch, 64-byte
 * aligned, shared by its threads; scratch: of the calling thread, 64-byte aligned. Tasks of a phase are
 * independent; phases run one after the other. */
typedef void KernelFunction(void *const *slot, const i64 *number, void *workspace, void *scratch,
			    i64 phase, i64 begin, i64 end);

/* What the launch of a kernel needs with these numbers, where they are known only when it runs: need[0] bytes of workspace and
 * need[1] of each thread's scratch, multiples of 64; need[2] phases, and from need[3] on the tasks of each. */
enum { PACKAGE_PHASES = 64, PACKAGE_NEEDS = 3 + PACKAGE_PHASES };
typedef void NeedsFunction(const i64 *number, i64 *need);

/* ---- sizes that are known only when it runs ---- */

/* 1 to `most`. */
typedef struct PackageAxis {
	const char *name; /* "T" */
	i64 most;
} PackageAxis;
enum { PACKAGE_AXES = 4 };

/* A number that follows from the sizes: the sum of coefficient * the product of size[a]^power[a], divided by `over`,
 * without a rest at sizes that will do. */
typedef struct PackageTerm {
	i64 coefficient;
	u8 power[PACKAGE_AXES];
} PackageTerm;
typedef struct PackageFormula {
	const char *text; /* "12*B*T" */
	i64 over;
	PackageTerm *term;
	u32 nterm;
} PackageFormula;

/* number[at] of a step is Package.formula[formula]. */
typedef struct PackageVarying {
	u32 at, formula;
} PackageVarying;

typedef enum PackageDtype { /* ORDER as DType of ir/type.h */
	PACKAGE_B1,
	PACKAGE_U8,
	PACKAGE_U32,
	PACKAGE_I8,
	PACKAGE_I32,
	PACKAGE_I64,
	PACKAGE_F8E4M3,
	PACKAGE_F8E5M2,
	PACKAGE_F16,
	PACKAGE_BF16,
	PACKAGE_F32,
	PACKAGE_F64
} PackageDtype;

static inline bool package_is_f8(u8 dtype)
{
	return dtype == PACKAGE_F8E4M3 || dtype == PACKAGE_F8E5M2;
}

/* The mesh of devices that a package is one device's part for: { data = 4, tensor = 2 }; n = 0: the whole. */
typedef struct PackageMesh {
	u32 n;
	struct {
		const char *name;
		u32 size;
	} axis[6];
} PackageMesh;

/* Of a tensor that is one device's part: along mesh axis `mesh`, dimension `dim` of the whole is [outer, devices, rest],
 * and device c has block c of each. */
typedef struct PackageDigit {
	u8 mesh, dim;
	i64 outer;
	i64 whole; /* positions of a dimension that is padded to be divided: what a device has behind the end is padding; 0: it divides */
} PackageDigit;

typedef struct PackageTensor {
	const char *name;
	u8 dtype;        /* PackageDtype */
	u8 rank;
	u8 ndigit;
	i64 dim[10];       /* where it follows from sizes, at most */
	u32 formula[10];   /* of a dimension that follows from sizes: one more than its index; 0: it is dim */
	u64 offset, bytes; /* in the arena */
	const PackageDigit *digit; /* [ndigit]; none: it is whole */
} PackageTensor;

typedef enum PackageBufferKind { /* ORDER as BufferKind of ir/graph.h */
	PACKAGE_PARAMETER,
	PACKAGE_STATE,
	PACKAGE_GRADIENT,
	PACKAGE_COUNTER,
	PACKAGE_CACHE,
	PACKAGE_MESH,
	PACKAGE_STASH
} PackageBufferKind;

typedef struct PackageBuffer {
	PackageTensor tensor;
	PackageBufferKind kind;
	bool frozen;
	u64 stages; /* of a pipeline, that have it, bits; 0: all */
	bool away;  /* this one has not: it is nowhere in the arena */
} PackageBuffer;

/* Whose memory a slot is. */
typedef enum PackagePlace {
	PACKAGE_TRANSIENT,  /* nobody's: `which` says of which block of memory; one is used for several values, one after the other */
	PACKAGE_PERSISTENT, /* Package.buffer[which] */
	PACKAGE_INPUT,      /* PackageEntry.input[which] */
	PACKAGE_RESULT,     /* PackageEntry.result[which] */
	PACKAGE_PLACES
} PackagePlace;

/* What a slot of a launch is, for checks and reports; code does not look at it. */
typedef struct PackageSlot {
	u8 place; /* PackagePlace */
	u32 which;
	u64 elements;     /* where they follow from sizes, at most */
	u32 formula;      /* then one more than its index; else 0 */
	u64 row, pitch;   /* rows of so many elements lie so far apart, with nothing between; 0: dense */
	u8 dtype;         /* PackageDtype */
	bool read, written;
	const char *name; /* "h.3.attn.c_attn.weight", "%17" */
	const char *file; /* the source that the value comes from; "" and 0 where there is none */
	u32 line;
} PackageSlot;

/* ---- devices that launch grids of blocks (CUDA) ---- */

/* Machine code or PTX, as the driver loads it. */
typedef struct PackageImage {
	const char *name; /* for people */
	const void *data;
	size_t size;
} PackageImage;

/* One phase of a step. The function's parameters: the address of each slot, in order; the workspace's, if
 * the step has one; the step's keys; its tensor maps (128 bytes each, by value, aligned to 64); its numbers (by value), if it
 * takes them. */
typedef struct PackageGrid {
	u32 image; /* index into Package.image */
	const char *symbol;
	u32 grid[3], block[3];
	u32 shared;  /* dynamic shared memory, bytes */
	u32 cluster; /* blocks of a cluster along x; 0 and 1: none */
} PackageGrid;

/* A tensor that a kernel reads by the bulk copy engine; see CudaTensorMap in codegen/cuda/kernels.h. */
typedef struct PackageTensorMap {
	u32 slot;   /* of the step, that it lies in; UINT32_MAX: in its workspace */
	u64 offset; /* in the arena, bytes */
	u8 dtype, rank;
	u64 extent[5], stride[5]; /* elements; dimension 0 is contiguous */
	u32 box[5];
	u32 swizzle; /* bytes */
} PackageTensorMap;

/* A matrix product that a library can do (cuBLASLt): for each of `batch`, d(m, n) = epilogue(sum over k of
 * a(m, k) b(k, n), times `scale`s, plus c(m, n) where has_c). Of an operand's row and column stride, one is 1. */
typedef enum PackageEpilogue {
	PACKAGE_EPILOGUE_NONE,
	PACKAGE_EPILOGUE_BIAS,      /* + bias[n] */
	PACKAGE_EPILOGUE_GELU,      /* gelu by tanh; with has_bias, of the sum with the bias; with has_aux, what it was
				     * taken of goes to aux */
	PACKAGE_EPILOGUE_DGELU      /* times gelu' of aux */
} PackageEpilogue;
typedef enum PackageSum { PACKAGE_SUM_NONE, PACKAGE_SUM_A /* over k: [m] */, PACKAGE_SUM_B /* over k: [n] */ } PackageSum;
typedef struct PackageMatrix {
	u64 offset; /* in the arena, bytes */
	u8 dtype;   /* PackageDtype */
	i64 row, column, batch; /* strides, elements */
} PackageMatrix;
typedef struct PackageMatmul {
	i64 m, n, k, batch;
	PackageMatrix a, b, c, d, aux;
	bool has_c, has_bias, has_aux;
	u64 bias;      /* in the arena, bytes; [n], of bias_dtype */
	u8 bias_dtype;
	u8 compute;    /* what products are taken in: PACKAGE_F32 (not TF32), BF16, F16; sums are f32. F8E4M3: operands of 8 bits, each of
			* its own type */
	u8 nscale;     /* of operands of 8 bits: f32 numbers that the sums are multiplied with, in no order that is promised */
	u64 scale[2];  /* [nscale] in the arena, bytes */
	u8 epilogue;   /* PackageEpilogue */
	u8 sum_of;     /* PackageSum: what else it gives, with no epilogue */
	u8 sum_phase;  /* from which phase of the step's `grid` on code computes that, and nothing else */
	u64 sum;       /* in the arena, bytes; dense, of d's type */
} PackageMatmul;

/* Is it one that cuBLASLt takes operands of 8 bits for? By its documentation (CUDA 13): not both of f8e5m2; K fastest in both; m, n, k and
 * what lies between rows multiples of 16, or of 16 bytes; d of 16 or 32 bits, and c and aux like it; bias too, but bf16 beside f32;
 * nothing summed beside. */
bool package_matmul_in_f8(const PackageMatmul *m);

/* What the devices along a mesh axis do together (ir/ops/collective.c), over n tensors: slots 0..n-1 in, n..2n-1 out. */
typedef enum PackageCollectiveKind {
	PACKAGE_ALL_REDUCE,
	PACKAGE_ALL_GATHER,
	PACKAGE_REDUCE_SCATTER,
	PACKAGE_ALL_TO_ALL,
	PACKAGE_PERMUTE,
	PACKAGE_SEND,
	PACKAGE_RECEIVE,
	PACKAGE_REDUCE_AMONG
} PackageCollectiveKind;
typedef enum PackageReduce { PACKAGE_SUM, PACKAGE_MAX, PACKAGE_MIN } PackageReduce;
typedef struct PackageCollectiveTensor {
	u8 dtype, rank;
	u8 axis, to; /* as the op's axes[i] and to[i] */
	i64 outer, to_outer;
	i64 dim[10]; /* of the operand */
} PackageCollectiveTensor;
typedef struct PackageCollective {
	PackageCollectiveKind kind;
	PackageReduce reduce;
	u32 mesh;  /* axis */
	i64 shift; /* PERMUTE */
	u32 peer;      /* SEND, RECEIVE: the other one's coordinate */
	u32 tag;       /* and of REDUCE_AMONG */
	u64 members;   /* REDUCE_AMONG: coordinates, bits */
	u32 n;
	const PackageCollectiveTensor *tensor;
} PackageCollective;

typedef struct PackageStep {
	const PackageCollective *collective; /* not NULL: this is all there is to do, and nothing below is set but for slots */
	u32 until;                   /* of a collective, which begins here: the first step that must find it done, or the number of steps.
				      * Collectives run one behind the other, in this order; those behind are not done sooner */
	KernelFunction *function;    /* of the CPU */
	u32 code;                    /* its index into Package.symbol */
	const PackageGrid *grid;     /* of CUDA: [nphase]; NULL where only `matmul` can run it */
	const PackageMatmul *matmul; /* of CUDA: the same step by a library; NULL where there is none. Where both are
				      * given, the runtime measures which is faster */
	const u64 *key;              /* [nkey]: of random draws, parameters of `grid` */
	u32 nkey;
	const PackageTensorMap *map; /* [nmap]: parameters of `grid` */
	u32 nmap;
	const u64 *slot;      /* [nslot] offsets in the arena */
	const PackageSlot *slot_info; /* [nslot] */
	u32 nslot;
	const i64 *number;    /* [nnumber] */
	u32 nnumber;
	const PackageVarying *varying; /* [nvarying]: those that follow from sizes */
	u32 nvarying;
	bool takes_numbers;   /* of CUDA, where the package has axes: they are the last parameter of `grid` */
	NeedsFunction *needs; /* where the package has axes, of the CPU: instead of workspace, tasks and the package's thread_scratch */
	u32 needs_code;       /* its index into Package.symbol */
	u64 workspace;        /* offset in the arena */
	bool has_workspace;
	const i64 *tasks;     /* [nphase] */
	u32 nphase;
	const char *name;     /* of the kernel: layer and op */
	const char *layer;    /* "h.3.attn", or "" */
	const char *class, *shape; /* "dot", "256 x 2304 x 768" */
	u8 compute;           /* PackageDtype: what products are taken in */
	const char *file;     /* the model's source */
	u32 line;
	f64 flops, bytes;     /* for reports */
} PackageStep;

typedef struct PackageEntry {
	const char *name;
	PackageTensor *input, *result;
	u32 ninput, nresult;
	PackageStep *step;
	u32 nstep;
	f64 model_flops, model_flops_full; /* causal attention as what is visible; as the full square */
	f64 hardware_flops;                /* with recomputation */
} PackageEntry;

/* A stage of a pipeline: what a step runs in place of `micro_first` and `micro`, in order. */
typedef struct PackageTask {
	u32 entry, micro; /* which entry, with the inputs of which micro-batch */
} PackageTask;
typedef struct PackagePipe {
	u32 mesh;   /* its axis */
	u32 stages; /* 0: there is no pipeline */
	PackageTask *task;
	u32 ntask;
} PackagePipe;

typedef struct Package {
	const char *name;
	PackageBuffer *buffer;
	u32 nbuffer;
	PackageEntry *entry;
	u32 nentry;
	const char **symbol; /* CPU: the names of the steps' functions */
	u32 nsymbol;
	PackageImage *image; /* CUDA: what grids are in */
	u32 nimage;
	PackageAxis *axis;   /* code is for all sizes in range; arena, tensors, slots and FLOPs are those at most */
	u32 naxis;
	PackageFormula *formula;
	u32 nformula;
	PackageMesh mesh;    /* arena, entries and FLOPs are one device's */
	PackagePipe pipe;
	const char *device;  /* what runs it: "cpu", "cuda" */
	u64 arena_bytes, persistent_bytes, thread_scratch;
	u64 fingerprint;  /* of program and target: resumes compare it */
} Package;

const PackageEntry *package_entry(const Package *p, const char *name); /* or NULL */

/* ---- at given sizes (codegen/package_sizes.c): size[i] is of Package.axis[i] ---- */

/* NULL, or what is wrong with the sizes: out of range, or such that a dimension is not whole. */
const char *package_refuses_sizes(const Package *p, const i64 *size);
/* The numbers of a step, to number[s->nnumber]. */
void package_numbers(const Package *p, const PackageStep *s, const i64 *size, i64 *number);
/* The tensor as it is then. */
PackageTensor package_tensor(const Package *p, const PackageTensor *t, const i64 *size);
/* Where the values of an entry that are nobody's lie at given sizes: what is in use together lies apart, in the order that the
 * plan has for sizes at most, and no further up than there. */
typedef struct PackageBlock {
	u32 which, first, last; /* steps between which it is in use */
	u64 most;               /* its offset at most */
} PackageBlock;
typedef struct PackageLayout {
	PackageBlock *block; /* [nblock], from the lowest up */
	u32 nblock, nwhich;
} PackageLayout;
PackageLayout package_layout(Arena *arena, const PackageEntry *e);
/* offset[which] of each block; `end`: room for as many. The bytes that they take. */
u64 package_lay_out(const Package *p, const PackageEntry *e, const PackageLayout *l, const i64 *size, u64 *offset, u64 *end);
/* The package as if it had been made for these sizes, which will do: it has no axes, and whoever runs it need not know of any.
 * Functions are loaded. It lies in `arena`, and refers to `p`. */
Package *package_at(Arena *arena, const Package *p, const i64 *size);

/* ---- as bytes (codegen/package_codec.c) ---- */

/* All of it but functions' addresses; the same package gives the same bytes. */
Blob package_encode(Arena *arena, const Package *p);
/* Gives what was encoded: texts and images lie in `bytes`, the rest in `arena`, functions are NULL. Trusts nothing:
 * every number is checked against the others, so that what runs the package stays within its arena. NULL, or what is
 * wrong with the bytes. */
PL_MUST_USE const char *package_decode(Arena *arena, Blob bytes, Package *out);

/* ---- files (codegen/package_file.c) ---- */

/* A program for one machine. */
typedef struct PackageVariant {
	const char *machine;  /* "x86_64-linux-gnu"; of GPUs "sm_90a" */
	const char *cpu, *features; /* "x86-64-v3", "avx2,fma": see cpu_lacks; of GPUs "" */
	const char *sizes;    /* "B=8,T=256" */
	Package package;
	Blob code;            /* of CPUs: a shared library (codegen/elf.h) with the package's functions */
} PackageVariant;

/* A value of the source that those who run it ask for. */
typedef struct PackageSetting {
	const char *key, *text; /* "train.steps", "1000" */
	bool is_number;
	f64 number;
} PackageSetting;

typedef struct PackageRename {
	const char *pattern, *replacement; /* of the weights block; "" and ignored: dropped */
	bool ignored;
} PackageRename;

typedef struct PackageSize {
	const char *symbol;
	i64 value;
} PackageSize;

typedef struct PackageText {
	const char *name; /* "model.plinth", "parts/rope.plinth" */
	Blob text;
} PackageText;

/* All that is kept of a model: `plinth compile -o model.plx`. */
typedef struct PackageFile {
	const char *model, *source, *preset, *precision; /* preset "": none */
	i64 accumulate;
	i64 logits;           /* the size of the first result's last axis, 0: unknown */
	bool has_train;
	PackageSetting *setting;
	u32 nsetting;
	PackageRename *rename;
	u32 nrename;
	PackageSize *size;
	u32 nsize;
	const char **set;     /* --set of the command line */
	u32 nset;
	PackageText *text;    /* the source, and the files that it uses */
	u32 ntext;
	PackageVariant *variant;
	u32 nvariant;
} PackageFile;

/* Their bytes, without the header. */
Blob package_encode_file(Arena *arena, const PackageFile *f);
PL_MUST_USE const char *package_decode_file(Arena *arena, Blob bytes, PackageFile *out);

/* With a header that says what it is, how long and of which version, and a hash. */
Blob package_file_bytes(Arena *arena, const PackageFile *f);
/* `bytes` must outlive `out`. `path` is for messages: no package, of another version, cut short, altered. */
PL_MUST_USE Status package_file_open(Arena *arena, const char *path, Blob bytes, PackageFile *out);

#endif
