/* passes/pass.h: the pass driver. A pass is a function from one whole program to another and a row
 * of passes.def; a pipeline is text, "simplify,grad{of=loss},bind{B=4,T=64},expand": the same in
 * pipelines.def, on the command line and in tests. The driver checks what a pass needs, times it,
 * verifies what it gives, dumps, and compares what a program computes before and after. */
#ifndef PL_PASS_H
#define PL_PASS_H
#include "ir/graph.h"
#include "support/status.h"

struct TargetInfo; /* ir/target.h */

/* What the driver is to do beside running the passes. Zeroes: nothing. */
typedef struct PipelineOptions {
	bool verify_each; /* always so where assertions are on, but for */
	bool verify_last; /* what the last pass gives alone is verified there: for plans by the hundred */
	bool check_eval;  /* evaluate each entry before and after on the same random inputs */
	u32 check_steps;  /* and so many steps of training, one behind the other */
	const char
		*sizes; /* "B=4,T=64": numbers for symbols that are free when evaluating; NULL: 4 */
	const char *stop_after; /* the name of the last pass to run, or NULL */
	i64 limit;              /* how many passes to run, counted from 1; 0: all */
	const char *const *dump_before, *const *dump_after; /* names of passes; "*" is every pass */
	u32 ndump_before, ndump_after;
	const char *dump_folder; /* where dumps go, as NN-<pass>.before.plg; NULL: to `dump` */
	FILE *dump;
	const char *save_folder; /* where the program before a failing pass goes; NULL: here */
	bool compare;            /* say of each pass whether it changed anything (so do dumps after it) */
} PipelineOptions;

typedef struct PassTime {
	const char *pass;
	f64 seconds;
	u32 nodes_before, nodes_after; /* of all entries */
	size_t bytes;                  /* of the program that it made */
	bool unchanged;                /* the hash is the same; false where it was not asked */
} PassTime;

typedef struct PassCx {
	Arena *out; /* the result goes here */
	Arena *tmp; /* emptied after the pass */
	Ir *ir;
	Diag *diag; /* what is wrong in the user's program, or in the pipeline's text */
	const struct TargetInfo *target; /* or NULL */
	Str args;                        /* the inside of bind{B=4,T=64} */
	Loc args_loc;                    /* and where it stands */
	FILE *trace;                     /* where a pass tells what it decided, or NULL */
	u32 withheld; /* facts that the pass's row gives, and it did not this time */
	const PipelineOptions *options; /* or NULL */
	VEC(PassTime) time; /* one for each pass that ran, in `tmp` of pipeline_run's caller */
	bool broken;        /* a pass made what no pass may make: our bug, not the user's */
	bool written;       /* the pipeline is the user's text: what is wrong with it is told with its place there */
} PassCx;

/* NULL: the errors are in cx->diag. The input is never changed. */
typedef Program *PassFunction(PassCx *cx, const Program *in);
#define PASS(name, ...) PassFunction pass_##name;
#include "passes/passes.def"
#undef PASS

typedef struct Pass {
	const char *name;
	u32 needs, gives, drops;
	const char *arguments, *help;
	PassFunction *run;
} Pass;
enum {
#define PASS(name, ...) PASS_##name,
#include "passes/passes.def"
#undef PASS
	PASSES
};
extern const Pass pass_info[PASSES];

typedef struct Pipeline {
	const char *name, *text, *help;
} Pipeline;
enum {
#define PIPELINE(name, ...) PIPELINE_##name,
#include "passes/pipelines.def"
#undef PIPELINE
	PIPELINES
};
extern const Pipeline pipeline_info[PIPELINES];

/* Runs the passes in turn. NULL if there were errors (in cx->diag), and then also where `broken`
 * says that they are ours: the program before the failing pass was saved, and a message says where.
 * The result lies in cx->out, or is `in` itself where the text is empty. Programs between two
 * passes are dropped. A dump that cannot be written is told in *status, at the end. */
Program *pipeline_run(Str text, PassCx *cx, const Program *in, Status *status);

/* Reads cx->args: the next "name=value" from *at; false at the end, and after an error (told;
 * *error is set). Lists repeat the name: keep=softmax,keep=gelu. */
typedef struct PassArg {
	Str name, value;
	Loc loc;
} PassArg;
bool pass_argument(PassCx *cx, size_t *at, PassArg *out, bool *error);
/* Says that the pass takes no such argument; false. */
bool pass_argument_unknown(PassCx *cx, const PassArg *a);
/* Its value as a type that products take: f32, bf16 or f16; false: it is none, which was said. */
bool pass_argument_float(PassCx *cx, const PassArg *a, DType *to);

#endif
