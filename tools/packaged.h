/* tools/packaged.h: packages (*.plx) on the command line. `plinth compile MODEL -o model.plx` writes one; lm_open and
 * lm_compile read it where a verb takes a model, with no frontend, no passes and no compiler: what is asked for is
 * looked up, and its code loaded. */
#ifndef PL_PACKAGED_H
#define PL_PACKAGED_H
#include "tools/lm.h"

/* Does the name say that it is one? */
bool packaged(const char *operand);

/* ---- reading: for lm.c ---- */

/* `given`: settings that are for whoever runs it may be given other values (train.steps); others are in the code. */
PL_MUST_USE Status packaged_open(const char *path, const SourceOptions *given, Lm *out);
PL_MUST_USE Status packaged_load(Lm *lm, const LmCompile *how, LmRun *out);
/* Positions that prefill and decode keep; 0: it has no such entries. */
i64 packaged_capacity(const Lm *lm);
/* The most that a run may give a size that is given to runs; 0: it has a number. */
i64 packaged_most(const Lm *lm, const char *size);
/* Adds entries eval.NAME to `entry`, of which there are n, and room for `most`; how many there are then. */
u32 packaged_evals(const Lm *lm, const char **entry, u32 n, u32 most);

/* ---- writing: for verb_compile.c ---- */

typedef struct PackagedOptions {
	const char *path;
	const char *device;       /* "cpu", "cuda", "cpu,cuda" */
	const char *cpu, *arch;   /* names between commas; NULL: the host, sm_90a */
	const char *const *entry; /* NULL: the training step, or where there is none, init and forward */
	u32 nentry;
	const char *sizes, *precision;
	bool forward;             /* init and forward */
	i64 capacity;             /* of a language model: prefill and decode, which keep so many positions; 0: not these */
	u32 threads;              /* that compile */
} PackagedOptions;
PL_MUST_USE Status packaged_write(Lm *lm, const PackagedOptions *o);

#endif
