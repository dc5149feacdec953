/* ir/op.h: the op table: all that the rest of the compiler may ask of an op. Everything mechanical is
 * made from the rows of ops.def; behaviour is one OpDef per op in ir/ops/. A NULL field is a fact
 * about the op ("no derivative"), and `plinth opt --list-ops` and the tests made from the table say
 * which are missing. */
#ifndef PL_OP_H
#define PL_OP_H
#include "ir/graph.h"

enum {
	VARN = 0xff,
	T_COMMUTES = 1,
	T_VIEW = 2,
	T_NOGRAD = 4,
	T_RANDOM = 8,
	T_WHOLE = 16,
	T_COLLECTIVE = 32,
};

typedef enum OpKind { EW, PRIM, COMP } OpKind;

typedef enum Op {
#define OP(name, ...) OP_##name,
#include "ir/ops.def"
#undef OP
	OPS
} Op;

/* Attribute types, as ops.def spells them. */
typedef DType dtype;
typedef const char *str; /* interned, or NULL */
typedef struct ints {
	u32 n;
	const i64 *v;
} ints;
typedef struct dims {
	u32 n;
	const Dim *v;
} dims;

typedef struct none_attr {
	u8 tag_;
} none_attr;
#define A(type, field) type field;
#define OP(name, kind, nin, nout, traits, attrs, doc) \
	typedef struct name##_attr {                  \
		u8 tag_;                              \
		UNWRAP attrs                          \
	} name##_attr;
#include "ir/ops.def"
#undef OP
#undef A

typedef enum AttrKind { ATTR_i64, ATTR_f64, ATTR_bool, ATTR_dtype, ATTR_str, ATTR_ints, ATTR_dims } AttrKind;
typedef struct AttrField {
	const char *name;
	AttrKind kind;
	u32 offset;
} AttrField;

/* Appends nodes to `g` at a place and scope of the source. */
typedef struct Builder {
	Graph *g;
	Loc loc;
	const char *scope; /* interned; set before the first build() */
	bool no_fold;      /* keep what is built as it is written: parsers and tests */
	Arena tmp;         /* scratch of build(); builder_done() frees it */
} Builder;
Builder builder_new(Graph *g);
void builder_done(Builder *b);

/* What infer fills in; `out` has room for `nout` types, and `axis[i]` for MAX_RANK classes each. */
typedef struct InferCx {
	Ir *ir;
	const Graph *g;
	Op op;
	u32 nin, nout;
	const Val *in;
	const void *attr;
	const Type **out;
	Axis (*axis)[MAX_RANK];
	/* NULL: nobody is listening. Else one sentence on what is wrong, in shapes: set by infer_fail. */
	Buf *why;
} InferCx;
bool infer_fail(InferCx *cx, const char *format, ...) PL_PRINTF(2, 3); /* false */
/* Operand types, axes. */
const Type *infer_type(const InferCx *cx, u32 operand);
const Axis *infer_axis(const InferCx *cx, u32 operand);

/* A dense tensor of the reference evaluator: row-major, every dtype held as f64. */
typedef struct Tensor {
	DType dtype;
	u32 rank;
	i64 dim[MAX_RANK];
	i64 n; /* elements */
	f64 *data;
} Tensor;

typedef struct EvalCx {
	Arena *arena;
	const Graph *g;
	const Node *node;
	const Tensor *const *in;
	Tensor *out; /* [nout], shapes set and data zeroed before the call */
} EvalCx;

/* FLOPs as ops need them, and bytes read and written if every operand and result went through
 * memory once; per execution of the node, sizes bound. */
typedef struct Cost {
	f64 flops, bytes;
} Cost;

/* How a result depends on an operand along one of the result's dimensions: what derives decoding
 * from a model written for training. POINTWISE: position t needs position t alone; CAUSAL: positions
 * up to t; WINDOW: the last few up to t; MIXING: any. NOT_THERE: the operand has no such axis. */
typedef enum Along { ALONG_NOT_THERE, ALONG_POINTWISE, ALONG_WINDOW, ALONG_CAUSAL, ALONG_MIXING } Along;

struct Random;    /* ir/sample.h */
struct ShardRule; /* ir/shard.h */

typedef struct OpDef {
	/* Result types and axis classes from operands and attributes; false with infer_fail. Every op. */
	bool (*infer)(InferCx *cx);
	/* A value that already is the result, or of a simpler node built with `b`, or {0}. n->out is not
	 * yet set. Never costs more, keeps the type, terminates. One-result ops only. */
	Val (*fold)(Builder *b, const Node *n);
	/* COMP: the same in simpler ops; out[nout]. n->in are values of b->g; n->out need not be. */
	void (*expand)(Builder *b, const Node *n, Val *out);
	/* Derivatives as nodes: dout[nout] ({0}: zero) to din[nin] ({0}: none). Each has its value's
	 * shape and element type, but may be f32 where that is narrower (elementwise ops get and give
	 * the value's own). `n` is a copy with n->out set. */
	void (*vjp)(Builder *b, const Node *n, const Val *dout, Val *din);
	Cost (*cost)(const Graph *g, const Node *n);
	/* In f64, slow and plain: the definition of the op. COMP ops may leave it to expand. */
	void (*eval)(EvalCx *cx);
	/* T_COLLECTIVE: of all devices of a group at once: cx[n], in order of their coordinates. */
	void (*eval_group)(EvalCx *cx, u32 n);
	/* How the node may be divided over devices: appends labels (ir/shard.h). NULL: it runs whole on each. */
	void (*shard)(struct ShardRule *r);
	/* Of operand `in` for dimension `d` of result 0. NULL: from the axis classes (see along.h). */
	Along (*along)(const Graph *g, const Node *n, u32 in, u32 d);
	/* A random valid use for the tests made from the table: makes its own inputs in b->g. */
	Val (*sample)(struct Random *r, Builder *b);
} OpDef;

typedef struct OpInfo {
	const char *name, *doc;
	OpKind kind;
	u8 nin, nout;
	u32 traits;
	const AttrField *(*fields)(u32 *n); /* the attributes */
	u32 attr_size;
	const OpDef *def;
} OpInfo;
extern const OpInfo op_info[OPS];
Op op_named(Str name); /* or OPS */

/* infer, fold, find an equal node, append. `nout` matters for VARN results (split, attention_grad)
 * and is 0 for "as the table says". Types that do not fit are a bug of the caller: asserted with the
 * message (front ends call build_checked). The value of result 0; the others follow it. */
Val build(Builder *b, Op op, const Val *in, u32 nin, u32 nout, const void *attr);
/* The same for operands that came from the user: {0}, with *why set, where they do not fit. */
Val build_checked(Builder *b, Op op, const Val *in, u32 nin, u32 nout, const void *attr, Buf *why);
/* Copies a node of another graph with new operands; place and scope of the original. */
Val build_copy(Builder *b, const Graph *from, const Node *n, const Val *in);

#define VALS(...) (const Val[]){ __VA_ARGS__ }, (u32)COUNT(((const Val[]){ __VA_ARGS__ }))
/* B(b, add, x, y): an op without attributes. BA(b, sum, (x), .axes = ...): with. BS: no operands. */
#define B(b, op, ...)  build((b), OP_##op, VALS(__VA_ARGS__), 0, &(op##_attr){ .tag_ = 0 })
#define BA(b, op, args, ...) \
	build((b), OP_##op, VALS args, 0, &(op##_attr){ .tag_ = 0, __VA_ARGS__ })
#define BS(b, op, ...) build((b), OP_##op, NULL, 0, 0, &(op##_attr){ .tag_ = 0, __VA_ARGS__ })
#define ATTR(node, op) ((const op##_attr *)(node)->attr)

/* Lists for attributes, in the builder's arena. */
ints ints_of(Builder *b, const i64 *v, u32 n);
dims dims_of(Builder *b, const Dim *v, u32 n);
dims dims_of_type(Builder *b, const Type *t);
#define INTS(b, ...) \
	ints_of((b), (const i64[]){ __VA_ARGS__ }, (u32)COUNT(((const i64[]){ __VA_ARGS__ })))

/* Common makings, used by expansions, derivatives and the frontend. */
Val make_full(Builder *b, f64 value, DType dtype, dims shape);
Val make_full_like(Builder *b, Val like, f64 value);
/* A scalar (rank 0) or lower-rank value repeated to `shape`; NumPy's alignment from the right, and a
 * dimension that is the number 1 repeats. Asserts that it fits. */
Val make_broadcast(Builder *b, Val v, dims shape);
/* `v` with the reduced axes put back by repetition: the adjoint of a reduction over `axes` of a
 * value shaped like `like`. */
Val make_unreduce(Builder *b, Val v, Val like, ints axes);
Val make_cast(Builder *b, Val v, DType dtype); /* v itself where it has that dtype */

#endif
