/* ir/graph.h: the tensor graph and the program: what all passes above kernels read and write.
 *
 * A Program is a table of persistent buffers (parameters, optimizer state, accumulated gradients,
 * counters) and named entries over them (init, micro, update, eval, ...), each one Graph.
 *
 * A Graph is SSA: nodes and values in arrays, index order is a topological order, index handles in
 * typed wrappers. An entry is a function without effects: it reads buffers as they were when it began
 * (op `read`) and its results say what the buffers (and its caller) get when it ends; that an update
 * happens in place is the memory planner's discovery, not the graph's.
 *
 * Nodes are made by build() alone (op.h): infer, fold, find an equal node, append. Anyone may read.
 * Passes make a new Program and leave the old one as it was. */
#ifndef PL_GRAPH_H
#define PL_GRAPH_H
#include "ir/type.h"

enum { NONE = 0xffffffffu };

typedef struct Val {
	u32 i;
} Val; /* index into Graph.value; 0 is "no value" */

typedef struct Value {
	const Type *type;
	const Axis *axis;   /* [rank] classes; entries may be 0 */
	u32 node;           /* who makes it */
	u32 index;          /* which of its results */
} Value;

typedef u16 OpCode; /* enum Op of op.h */

typedef struct Node {
	OpCode op;
	u16 nin, nout;
	const Val *in;
	Val out;            /* results are out.i, out.i + 1, ... */
	const void *attr;   /* struct <op>_attr of op.h, in the graph's arena */
	Loc loc;            /* the user's source; survives every pass */
	const char *scope;  /* interned "h.3.attn"; never NULL */
} Node;

/* What an entry gives: to its caller under `name`, or into a buffer (then name is the buffer's). */
typedef struct Result {
	const char *name;
	u32 buffer;         /* index into Program.buffer, or NONE */
	Val value;
} Result;

typedef struct Graph {
	Arena *arena;       /* owns the arrays below */
	Ir *ir;
	const char *name;   /* of the entry */
	VEC(Node) node;
	VEC(Value) value;   /* [0] is unused */
	VEC(Result) result;
	Map shared;         /* hash -> node + 1, for sharing equal nodes; build.c */
} Graph;

typedef enum BufferKind {
	BUFFER_PARAMETER,   /* what a checkpoint's model file holds */
	BUFFER_STATE,       /* of an optimizer */
	BUFFER_GRADIENT,    /* accumulated over micro-steps */
	BUFFER_COUNTER,     /* step, seed, counts of the loss */
	BUFFER_CACHE,       /* keys and values of decoding */
	BUFFER_MESH,        /* the device's coordinate along a mesh axis: who runs it writes it once */
	BUFFER_STASH,       /* what the backward half of a micro-batch needs of its forward half, in a pipeline */
	BUFFER_KINDS
} BufferKind;
extern const char *const buffer_kind_name[BUFFER_KINDS];

typedef struct Buffer {
	const char *name;   /* interned; a parameter's path is its name in a checkpoint */
	BufferKind kind;
	const Type *type;
	const Axis *axis;   /* [rank] */
	u32 of;             /* the parameter that a state or gradient belongs to, or NONE */
	bool frozen;        /* a parameter that training leaves alone */
	u64 stages;         /* of a pipeline, that have it, bits; 0: all. Elsewhere no entry touches it, and it takes no memory */
	u32 slots;          /* of a stash: for so many micro-batches, each in one of its own; else 0 */
	const char *split;  /* how the whole lies over the mesh (ir/shard.h: places_text), or NULL; `type` is local */
	bool summed;        /* a gradient in parts of a sum, that the entry micro_last makes whole for `update` */
	Loc loc;
	const char *scope;
} Buffer;

/* What may be claimed of a program: the rows of facts.def. */
enum {
#define FACT(name, text) FACT_##name,
#include "ir/facts.def"
#undef FACT
	FACTS
};
enum {
#define FACT(name, text) F_##name = 1 << FACT_##name,
#include "ir/facts.def"
#undef FACT
};
typedef struct FactInfo {
	const char *name, *text;
} FactInfo;
extern const FactInfo fact_info[FACTS];

/* Devices by name: { data = 4, tensor = 2 }. The last axis is the one along which ranks count up. */
typedef struct MeshAxis {
	const char *name; /* interned */
	u32 size;
} MeshAxis;
enum { MESH_AXES = 6 };
typedef struct Mesh {
	u32 n; /* 0: one device */
	MeshAxis axis[MESH_AXES];
} Mesh;

/* Which stage of a pipeline a program is (passes/graph/stage.c). */
typedef struct Stage {
	const char *over; /* mesh axis, along which programs differ; NULL: there is no pipeline */
	u32 at;           /* this one's coordinate */
	u32 chunks;
} Stage;

typedef struct Program {
	Arena *arena;
	Ir *ir;
	const char *name;   /* of the model */
	Mesh mesh;          /* over which it was partitioned: every entry is then one device's part */
	Stage stage;
	VEC(Buffer) buffer; /* grows by program_buffer() alone */
	Map buffer_at;      /* name -> index */
	VEC(Graph *) entry;
	u32 facts;          /* bits of facts.def that hold */
} Program;

/* Has another stage of the pipeline this buffer? */
static inline bool buffer_away(const Program *p, const Buffer *b)
{
	return p->stage.over && b->stages && !(b->stages >> p->stage.at & 1);
}

Program *program_new(Arena *arena, Ir *ir, const char *name);
u32 program_buffer(Program *p, Buffer b); /* appends; the index. Names are unique (asserted) */
u32 program_find_buffer(const Program *p, const char *name); /* or NONE; name interned */
Graph *program_entry(Program *p, const char *name);          /* appends an empty entry */
Graph *program_find_entry(const Program *p, Str name);       /* or NULL */

Graph *graph_new(Arena *arena, Ir *ir, const char *name);
void graph_result(Graph *g, const char *name, u32 buffer, Val value);

/* Gives the dimensions of an input or read their classes: [rank], copied. */
void graph_set_axis(Graph *g, Val v, const Axis *axis);
/* Of any value: its dimension `d`, which has no class so far, has this one. */
void graph_know_axis(Graph *g, Val v, u32 d, Axis axis);

static inline const Type *val_type(const Graph *g, Val v)
{
	return g->value.v[v.i].type;
}
static inline const Axis *val_axis(const Graph *g, Val v)
{
	return g->value.v[v.i].axis;
}
static inline const Node *val_node(const Graph *g, Val v)
{
	return &g->node.v[g->value.v[v.i].node];
}

/* How much of a scope names the layer that it lies in: "h.3" of "h.3.attn", up to the first part that is a number; 0: it is in none. */
size_t scope_layer(const char *scope);

/* Text. print(parse(print(p))) == print(p). The form is described in docs/ir.md. */
void program_print(const Program *p, FILE *to);
void graph_print(const Graph *g, FILE *to);
/* NULL if there were errors (in ir->diag). `file` is the Diag's index of the text. */
Program *program_parse(Arena *arena, Ir *ir, Str text, u16 file);

/* Every violation of what a program must be (operands before use, arity, types equal to what infer
 * says, results' types equal to their buffers', names unique, and each fact claimed). */
bool program_verify(const Program *p, Diag *d);

/* Depends on structure, types and attributes; not on places, scopes or axis classes. The same in
 * every run: may name cache entries. */
u64 program_hash(const Program *p);
u64 graph_hash(const Graph *g);
/* What a node does, whatever its operands, and whatever its buffer or its draw is called: op, attributes, types. */
u64 node_hash(const Graph *g, const Node *n);

#endif
