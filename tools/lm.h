/* tools/lm.h: a language model on its way from a source to something that runs, as the verbs train, eval and
 * generate take it: source or run folder, data, tokenizer, compiled entries, an executor, parameters. */
#ifndef PL_LM_H
#define PL_LM_H
#include "runtime/checkpoint/weights.h"
#include "runtime/cpu/code.h"
#include "runtime/executor.h"
#include "runtime/metrics.h"
#include "runtime/data/dataset.h"
#include "runtime/views.h"
#include "tools/driver.h"
#include "tools/run_folder.h"

typedef struct Lm {
	Arena arena;
	ModelOperand operand;
	SourceFile source;
	const Model *model; /* of the source; of a package, without a program */
	/* where the operand is a package (packaged.h), else NULL */
	PackageFile *file;
	Mapping mapping;
} Lm;

/* A failure with errors in lm->source.diag is told by these alone: see lm_failed. */
PL_MUST_USE Status lm_open(const char *operand, const SourceOptions *given, Lm *out);
/* For verbs that need the program itself: refuses packages. */
PL_MUST_USE Status lm_open_source(const char *operand, const SourceOptions *given, Lm *out);
void lm_close(Lm *lm);
/* Tells what failed, and gives the exit status. */
int lm_failed(const char *verb, const Lm *lm, Status why);
/* Tells what was warned of so far, once. */
void lm_warnings(Lm *lm);
/* A verb's work on what was opened (`opened`: what lm_open said), which signals may end early; then closes it, and gives the
 * exit status. */
int lm_run(const char *verb, Lm *lm, Status opened, Status (*run)(Lm *lm));

/* The value that the train block's batch gives a symbol, or 0. */
i64 lm_size(const Lm *lm, const char *symbol);
/* "B=8,T=256": the batch's sizes, with B and T replaced where given (not 0). Fails where one is missing. */
PL_MUST_USE Status lm_sizes(Lm *lm, i64 batch, i64 window, const char **out);

/* The same with a size more, of another symbol, where `symbol` is not NULL. */
PL_MUST_USE Status lm_sizes_with(Lm *lm, i64 batch, i64 window, const char *symbol, i64 size, const char **out);

/* A setting as a number, or `otherwise` where it is not given; it must be whole and at least `least`. */
PL_MUST_USE Status lm_count(const Lm *lm, const char *key, u64 least, u64 otherwise, u64 *out);
PL_MUST_USE Status lm_real(const Lm *lm, const char *key, f64 otherwise, f64 *out);
const char *lm_text(const Lm *lm, const char *key, const char *otherwise);
/* The budget of memory that the train block gives, in bytes; 0: none. */
PL_MUST_USE Status lm_memory(const Lm *lm, u64 *out);

/* What --data, the run or the source's data block name; `prefix` NULL: not given. `validation` stays as it is (zeros)
 * where there is none. What --data said is recorded in the run's folder. */
PL_MUST_USE Status lm_data(Lm *lm, const char *prefix, Dataset *train, Dataset *validation);
/* The held-out set alone: PREFIX.val, or PREFIX itself. */
PL_MUST_USE Status lm_held_out(Lm *lm, const char *prefix, Dataset *out);
/* The entries that an evaluation runs: eval, and one for each `eval NAME { }` of the source. At most LM_EVALS. */
enum { LM_EVALS = 1 + METRICS_NAMED };
u32 lm_evals(const Lm *lm, const char **entry);
/* The size of the last axis of the model's first result; false where it is not known. */
bool lm_logits(const Lm *lm, i64 *out);
/* The symbol of how long the text is that the model reads as `source` ("S"); NULL where it takes none, as a model that
 * writes on from its prompt. */
const char *lm_source_size(Lm *lm);
/* The token that begins what such a model writes: `begin` of the source's data block, or the usual one. */
PL_MUST_USE Status lm_begin(const Lm *lm, const Tokenizer *t, u32 *out);
/* The first of these files that is in the run's folder, or of a source beside the parameters (of a run's checkpoint, in that run's folder); NULL
 * where none is. */
const char *lm_beside(Lm *lm, const char *weights, const char *const *name, u32 n);
/* The tokenizer of this file, or that which is there; NULL where none is. */
PL_MUST_USE Status lm_tokenizer(Lm *lm, const char *file, const char *weights, Tokenizer **out);
/* Fails where ids below `tokens` go beyond the model's logits. */
PL_MUST_USE Status lm_check_vocabulary(const Lm *lm, u64 tokens, const char *whose);
/* The same of the data's ids; of data whose targets are none, where they go beyond what the config calls vocab_size. */
PL_MUST_USE Status lm_check_data(const Lm *lm, const Dataset *d);

/* Where code runs, as verbs that run something take it. */
typedef struct RunOptions {
	const char *device, *arch, *cpu, *matmul;
	i64 threads;
	const char *shard; /* not options: tools/mesh.h */
	u64 bucket;
	const DriverPipe *pipe;
	struct Comm *comm;
} RunOptions;
#define RUN_OPTIONS(o)                                                                                              \
	{ "device", 0, OPTION_TEXT, &(o).device, "NAME", "cpu, cuda, or cuda:1 for the second GPU" },               \
	{ "threads", 't', OPTION_COUNT, &(o).threads, "N", "of the CPU: one per core by default; results do not depend on it" }, \
	{ "cpu", 0, OPTION_TEXT, &(o).cpu, "NAME", "compile for this processor, as LLVM calls it" },                 \
	{ "arch", 0, OPTION_TEXT, &(o).arch, "NAME", "compile for this GPU architecture, sm_90a; the device's own by default" }, \
	{ "matmul", 0, OPTION_TEXT, &(o).matmul, "WAY", "on a GPU: library, generated, or measure, the default: whichever is faster" }

/* What is wrong with them; the device's own options. */
PL_MUST_USE Status run_options(const RunOptions *o, DeviceOptions *out);

/* Entries compiled, and memory for them. */
typedef struct LmRun {
	Compiled compiled;
	const Package *package;
	CpuCodeImage *code; /* of a package */
	Executor *executor;
} LmRun;

typedef struct LmCompile {
	const char *const *entry;
	u32 nentry;
	const char *sizes, *precision;
	const Program *program; /* of the source, with its matrices stored as `store` says (export_shrink.h); NULL: as it is */
	const char *store;
	bool accumulate;
	const char *decode_along; /* driver.h */
	i64 capacity;
	u64 memory;         /* bytes that the step may take; 0: as the train block says */
	u64 stream_beyond;  /* DriverOptions.stream_beyond */
	const RunOptions *run;
	bool no_cache;      /* object code is neither looked up nor kept */
} LmCompile;

/* Of a package: finds them in it, and loads their code. */
PL_MUST_USE Status lm_compile(Lm *lm, const LmCompile *how, LmRun *out);
/* Allocates: everything up to here took no memory to speak of. */
PL_MUST_USE Status lm_executor(LmRun *run, const RunOptions *options);
void lm_run_close(LmRun *run);

/* Do checkpoints of the model's runs hold what training changes alone? Then frozen parameters come from elsewhere. */
bool lm_saves_trained(const Lm *lm);
/* Parameters from a checkpoint or published file, by the source's weights block. What an adapt block adds keeps its first
 * values where the file has none of it. */
PL_MUST_USE Status lm_weights(Lm *lm, const LmRun *run, const char *path);
/* The same for training to begin with: parameters that the weights block begins anew keep their first values where the file
 * has none of their shape, which is told. */
PL_MUST_USE Status lm_first_weights(Lm *lm, const LmRun *run, const char *path);
/* The same, into these. */
PL_MUST_USE Status lm_weights_into(Lm *lm, BufferViews parameters, const char *path);
/* Where lm_parameters begins: what --weights gave, or the run, or the file that the run's frozen parameters came from. */
PL_MUST_USE Status lm_parameters_from(const Lm *lm, const char *given, const char **from);
/* All parameters, frozen ones and trained ones, of a source or a run. */
PL_MUST_USE Status lm_parameters(Lm *lm, const LmRun *run, const char *from);

/* "12.3 M", "1.50 G": a count for people. */
const char *lm_scaled(Arena *a, f64 x);
/* "123.4 MiB", "12.5 KiB", "0" */
const char *lm_bytes(Arena *a, u64 bytes);

#endif
