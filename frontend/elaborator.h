/* frontend/elaborator.h: what the files of elaboration share; nobody else includes this.
 *
 *   elaborate.c   files, declarations, entries
 *   config.c      config, presets, --set
 *   datum.c       what an expression may mean, and how it is shown
 *   expression.c  expressions
 *   tensor.c      operators on tensors: promotion, broadcasting, indexing, matrix multiply
 *   builtin*.c    functions of the language that are not written in it
 *   einops.c      rearrange, reduce, einsum
 *   module.c      applications of modules, models and functions
 *   statement.c   statements
 *   param.c       types of parameters and results, and their matching; parameters
 *   recipe.c      train, eval; optimizer.c: the update of parameters
 *   sample.c      sample; blocks.c: weights, data, shard, published, adapt; settings.c: generate, export; machine.c: machine */
#ifndef PL_ELABORATOR_H
#define PL_ELABORATOR_H
#include "frontend/elaborate.h"
#include "ir/scalar.h"

/* ---- what an expression means ---- */

typedef enum DatumKind {
	DATUM_ERROR,   /* reported already: everything made of it is one too, silently */
	DATUM_NONE,
	DATUM_NUMBER,  /* compile-time int or float */
	DATUM_BOOL,
	DATUM_TEXT,
	DATUM_DIM,     /* a dimension that is not a number yet */
	DATUM_LIST,    /* also ranges, of numbers */
	DATUM_RECORD,  /* { B = 8 }, a config group, a module's named results */
	DATUM_TENSOR,
	DATUM_DTYPE,
	DATUM_CALLABLE /* a module, function, optimizer or model, perhaps with some arguments given */
} DatumKind;

typedef struct Datum Datum;

typedef struct Entry {
	const char *name; /* interned; NULL in a list or for an unnamed result */
	Datum *value;
	Loc loc;          /* where the value is written */
	Loc name_loc;     /* and its name */
} Entry;
#define ENTRY(entry_name, entry_value, entry_loc) \
	((Entry){ .name = (entry_name), .value = (entry_value), .loc = (entry_loc), .name_loc = (entry_loc) })

typedef struct EntryList {
	Entry *v;
	u32 n, cap;
} EntryList;

/* A module, function, ... and what it was given so far. `base` is for wrapped modules. */
typedef struct Callable {
	const Decl *decl;          /* NULL: a builtin by name */
	const char *builtin;
	EntryList given;           /* positional (name NULL) and named */
	const char *path;          /* where its instance stands, once known; NULL: not yet */
	u32 wrapped;               /* how many `wrap` rules are applied already; NONE: a wrapper itself */
} Callable;

/* `of / by`, whole numbers, left a remainder. */
typedef struct Division {
	i64 of, by;
	Loc loc;
} Division;

struct Datum {
	DatumKind kind;
	Loc loc;
	Axis axis;              /* of a number or dim that names an axis; may be 0 */
	union {
		struct {
			f64 value;
			i64 integer;
			bool is_integer;
			const Division *division; /* that a number which is not whole comes from; or NULL */
		} number;
		bool boolean;
		const char *text; /* interned */
		Dim dim;
		EntryList list;   /* of lists and records */
		Val tensor;
		DType dtype;
		Callable *callable;
	};
};

/* ---- the state ---- */

typedef struct Variable {
	const char *name;
	Datum *value;
} Variable;

/* An assignment `x = ...` that is worked out when x is first looked up. */
typedef struct Late {
	const Stmt *assign;
	u32 at;              /* counted from 1, in the order of the source */
	Datum *value;        /* NULL: not yet */
	struct Late *before; /* the assignment of the same name before it, or NULL */
} Late;

/* One application of a module, function, ...: its names. */
typedef struct Frame {
	const Decl *decl;
	struct Frame *outer;    /* who applied it: for notes */
	Loc applied_at;
	Map variable;           /* name -> Datum* */
	Map declared;           /* name -> where, packed; of those that the source gives a place to */
	Map seen;               /* names that were looked up */
	Map late;               /* name -> the last Late of it */
	u32 nlate;
	u32 late_at;            /* the place of the one that is being worked out, which sees those before it; 0: all are seen */
	Dim lead[MAX_RANK];     /* what `...` stands for */
	Axis lead_axis[MAX_RANK];
	u32 nlead;
	bool has_lead;
	const char *path;       /* "h.0.attn"; "" at the top */
	Map used_path;          /* instance names, for numbering those without `as` */
	EntryList result;       /* what `return` gave */
	bool returned;
	Loc returned_at;
	bool added;             /* a wrapper, or applied by one: its parameters are not the model's own */
	struct OptimizerFrame *optimizer; /* while an optimizer is applied */
} Frame;

typedef struct Wrap {
	const char *pattern;
	Datum *with;
	Loc loc;
	bool used;
} Wrap;

typedef struct Freeze {
	const char *pattern;
	Loc loc;
	bool used;
} Freeze;

typedef struct Elaborator {
	Arena *arena;
	Ir *ir;
	Diag *diag;
	Interner *names;
	const ElaborateOptions *options;
	Model *model;
	Program *program;
	Map decl;               /* name -> Decl* (modules, functions, optimizers, models) */
	Map decl_used;
	Map used;               /* names of files in use */
	VEC(const Ast *) file;
	Map symbol;             /* size known when a run begins: name -> Axis; one for all entries */
	Map override;           /* `--set key=value`: key -> Expr* */
	Map override_used;
	Map config;             /* name -> Datum* */
	Map config_used, config_place; /* name -> 1; name -> where, packed */
	VEC(Wrap) wrap;
	VEC(Freeze) freeze;
	Map param_graph;        /* buffer -> the Val that reads it, for the current graph, + 1 */
	Map param_made;         /* path -> where it was declared in this entry (param.c) */
	Graph *g;               /* being built; NULL where tensors are not allowed */
	Builder b;
	Builder init;           /* of the entry init */
	bool training;
	bool incomplete;        /* the model or its training has errors: what it lacks may be their consequence */
	Val seed, count;        /* for random draws in g; {0}: not read yet */
	Map draws;              /* how many draws each path has made in this entry */
	const Type *init_type;  /* while an initial value is computed: of what; else NULL */
	const Frame *init_frame; /* whose tensors are of another graph */
	const char *init_key;   /* and under which key it draws */
	u32 depth;              /* of applications: recursion is an error */
	Frame *frame;
	struct Outside *outside; /* of a sample block: values of earlier entries; sample.c */
	bool sampling;           /* draws are keyed by inputs, not by counters */
	bool file_missing;       /* a file that is used is not there, or is not whole */
	bool own_eval;           /* the file says by itself what evaluation is */
	bool has_lr;
	Val lr;                 /* of the update entry, for its metrics */
} Elaborator;

/* ---- datum.c ---- */
Datum *datum_new(Elaborator *e, DatumKind kind, Loc loc);
Datum *datum_error(Elaborator *e);
Datum *datum_integer(Elaborator *e, i64 n, Loc loc);
Datum *datum_number(Elaborator *e, f64 x, Loc loc);
Datum *datum_bool(Elaborator *e, bool b, Loc loc);
Datum *datum_text(Elaborator *e, const char *interned, Loc loc);
Datum *datum_tensor(Elaborator *e, Val v, Loc loc);
Datum *datum_dim(Elaborator *e, Dim d, Axis axis, Loc loc); /* a number where it is one */
/* "a tensor f32[B, T, width = 768]", "the number 3", "the text \"x\"" */
const char *datum_show(Elaborator *e, const Datum *d);
/* As it would be written in a source. */
const char *datum_source(Elaborator *e, const Datum *d);
/* A tensor's shape in names and numbers: "[B, T, width = 768]". */
const char *shape_show(Elaborator *e, Val v);
const char *type_show(Elaborator *e, const Type *t, const Axis *axis);
const char *dim_show(Elaborator *e, Dim d, Axis a);
/* A dimension from a number or dim; NULL and an error otherwise. */
Dim datum_to_dim(Elaborator *e, const Datum *d, Loc loc);
/* Behind an error about a number that should be whole: the division that it comes from. */
void note_division(Elaborator *e, const Datum *d);
/* "; did you mean 'near'?", or nothing where there is none near. */
const char *did_you_mean(Elaborator *e, const char *near);
/* "; here that is ..." of a name of PyTorch's, NumPy's or JAX's, or NULL. */
const char *foreign_name(Elaborator *e, const char *name);
/* "; it takes x, out, bias", or nothing where there are none. */
const char *names_listed(Elaborator *e, const char *what, const char *const *all, u32 n);
/* "sum has no argument 'dim'", with what was meant, or all that there are. */
Datum *unknown_argument(Elaborator *e, const char *callee, const Entry *given, const char *const *all, u32 n);
/* An error at `loc`; returns the error datum. */
Datum *fail(Elaborator *e, ErrorCode code, Loc loc, const char *format, ...) PL_PRINTF(4, 5);
/* The same where a bool is wanted: false. */
#define refuse(...) (fail(__VA_ARGS__) == NULL)

/* ---- expression.c ---- */
Datum *expression(Elaborator *e, const Expr *x);
Entry argument_of(Elaborator *e, const Argument *a);
/* With the type that is wanted, or an error that says what was found. */
bool want_integer(Elaborator *e, const Datum *d, Loc loc, const char *what, i64 *out);
bool want_number(Elaborator *e, const Datum *d, Loc loc, const char *what, f64 *out);
bool want_bool(Elaborator *e, const Datum *d, Loc loc, const char *what, bool *out);
const char *want_text(Elaborator *e, const Datum *d, Loc loc, const char *what);
/* A string with its holes filled; interned. NULL after an error. `keep`: a hole that is this name stays. */
const char *text_value(Elaborator *e, const Text *t);
Datum *lookup(Elaborator *e, const char *name);
void set_variable(Elaborator *e, const char *name, Datum *value);
/* The same for a name of the source: messages can point at it. */
void declare_variable(Elaborator *e, Name name, Datum *value);
u64 pack_loc(Loc l);
Loc unpack_loc(u64 packed);

/* ---- tensor.c ---- */
/* The datum as a tensor of the current graph; numbers become scalars of `like` (DTYPES: f32 for floats,
 * i32 for integers). {0} after an error. */
Val as_tensor(Elaborator *e, Datum *d, Loc loc, DType like);
Datum *tensor_binary(Elaborator *e, BinaryOp op, Datum *a, Datum *b, Loc loc);
/* An elementwise op of the table on tensors and numbers, with broadcasting. */
Datum *tensor_elementwise(Elaborator *e, Op op, Datum **in, u32 n, Loc loc);
Datum *tensor_matmul(Elaborator *e, Datum *a, Datum *b, Loc loc);
Datum *tensor_index(Elaborator *e, Datum *base, const SubscriptList *s, Loc loc);
/* Node from the table with infer's complaint as an error at `loc`. */
Val node(Elaborator *e, Loc loc, Op op, const Val *in, u32 nin, u32 nout, const void *attr);
/* Notes after an error about tensors: where each was computed, and where sizes that only some of them have come from. */
void explain_operands(Elaborator *e, Loc loc, const Val *in, u32 n);
/* Repeats to `shape`; {0} where it does not fit. */
Val broadcast_to(Elaborator *e, Val v, dims shape);
bool broadcast_shapes(Elaborator *e, const Val *v, u32 n, Loc loc, const char *what, dims *shape);
/* A tensor's axis by name or number (negative from the end). */
bool axis_by(Elaborator *e, Val v, Datum *d, Loc loc, i64 *axis);

/* ---- builtin.c, einops.c ---- */
bool is_builtin(const char *name);
Datum *call_builtin(Elaborator *e, const char *name, const EntryList *argument, const Expr *call);
const char *nearest_builtin(const char *name);
Datum *call_rearrange(Elaborator *e, const EntryList *argument, Loc loc);
Datum *call_reduce(Elaborator *e, const EntryList *argument, Loc loc);
Datum *call_einsum(Elaborator *e, const EntryList *argument, Loc loc);
/* Seed and draw count of the current graph. */
void random_state(Elaborator *e, Val *seed, Val *count);

/* ---- module.c, statement.c, param.c ---- */
/* "a" and "b.c": "a.b.c" */
const char *join_path(Elaborator *e, const char *path, const char *more);
/* "H" in module Attention: "Attention.H". */
const char *qualified(Elaborator *e, const char *name);
void declare_param(Elaborator *e, const Stmt *s);
/* Applies; `path`: of the instance, NULL for its default name. */
Datum *apply(Elaborator *e, Callable *c, const EntryList *argument, const Text *path, Loc loc);
void statements(Elaborator *e, const Block *block);
/* The branch of an `if` that is taken; NULL: none, or a condition is wrong: *unknown is the first branch of which that
 * leaves open whether it would have been. */
const Block *chosen_branch(Elaborator *e, const Stmt *s, u32 *unknown);
/* Matches the value of a parameter or result with its written type, learning dimensions. */
bool match_type(Elaborator *e, const TypeExpr *t, Datum *value, Loc loc, const char *what);
/* A dimension of the caller's, such as B: the variable is set in the current frame. */
void declare_symbol(Elaborator *e, const char *name, Loc loc);
/* Of a type's dimensions, each name that means nothing yet, also in past + T. */
void declare_symbols(Elaborator *e, const TypeExpr *t);
/* The element type that a type names; DTYPES and an error where it is none. */
DType element_type(Elaborator *e, const TypeExpr *t);
/* A tensor type with all dimensions known. */
const Type *resolve_type(Elaborator *e, const TypeExpr *t, Axis *axis);
Frame *frame_push(Elaborator *e, const Decl *decl, const char *path, Loc loc);
void frame_pop(Elaborator *e);

/* ---- config.c ---- */
void read_sets(Elaborator *e);
void read_config(Elaborator *e);
/* An error for each `--set` that nothing has taken. */
void unused_sets(Elaborator *e);

/* ---- recipe.c ---- */
typedef struct OptimizerRule {
	const char *pattern; /* NULL: all */
	Datum *with;         /* a callable, or the text "frozen" */
	const Stmt *from;    /* several patterns may stand in one */
	Loc loc;
	bool used;
} OptimizerRule;

typedef struct Train {
	VEC(OptimizerRule) rule;
	Datum *loss;
	f64 clip;
	bool has_clip;
	Map read;            /* settings that were */
} Train;
void recipe_train(Elaborator *e, const Decl *d);
void recipe_eval(Elaborator *e, const Decl *d);
/* `input name: dtype[dims]` of a recipe. */
void recipe_input(Elaborator *e, const Stmt *s);
bool recipe_has_setting(const Elaborator *e, const Stmt *s);
void add_setting(Elaborator *e, const char *key, const Datum *d, Loc loc);
/* The value that `--set key=...` gives, or NULL. */
Datum *override_of(Elaborator *e, const char *key);

/* ---- optimizer.c ---- */
/* State of the optimizer being applied to one parameter. */
typedef struct OptimizerFrame {
	u32 parameter;          /* buffer */
	VEC(Variable) target;   /* state and parameter names -> buffer index as number */
} OptimizerFrame;
void optimizer_state(Elaborator *e, const Stmt *s);
void optimizer_update(Elaborator *e, const Stmt *s);
/* The entry `update`. */
void make_update(Elaborator *e, Train *t);
/* A scalar that outlives a step, made (0 at first) if it is not there; its buffer. */
u32 counter(Elaborator *e, const char *name, DType dtype);

/* ---- blocks.c ---- */
void recipe_weights(Elaborator *e, const Decl *d);
void recipe_data(Elaborator *e, const Decl *d);
void recipe_shard(Elaborator *e, const Decl *d);
void recipe_published(Elaborator *e, const Decl *d);
void recipe_adapt(Elaborator *e, const Decl *d);
/* Warnings for patterns of an adapt block that matched nothing. */
void unused_rules(Elaborator *e);

/* ---- machine.c ---- */
void recipe_machine(Elaborator *e, const Decl *d);

/* ---- sample.c ---- */
void recipe_sample(Elaborator *e, const Decl *d);
/* A value of an entry before this one, as an input of this one; NULL where there is none of that name. */
Datum *carried_value(Elaborator *e, const char *name);

/* ---- settings.c ---- */
/* generate, export */
void recipe_settings(Elaborator *e, const Decl *d);

/* ---- elaborate.c ---- */
/* Begins and ends building an entry. */
void entry_begin(Elaborator *e, const char *name);
void entry_end(Elaborator *e);
Val read_buffer(Elaborator *e, u32 buffer);

#endif
