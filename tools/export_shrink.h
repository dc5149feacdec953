/* tools/export_shrink.h: weights stored narrower than they were trained (`--store int4` of `plinth export`, `generate` and `run`),
 * and what that costs on real text. */
#ifndef PL_EXPORT_SHRINK_H
#define PL_EXPORT_SHRINK_H
#include "tools/lm.h"

typedef enum ShrinkKind { SHRINK_NONE, SHRINK_BF16, SHRINK_F16, SHRINK_INT8, SHRINK_INT4 } ShrinkKind;

typedef struct Shrink {
	ShrinkKind kind;
	u32 group; /* weights that share a factor, along the last axis */
} Shrink;

/* --store and --group; `group` 0: `usual` of them share a factor. */
PL_MUST_USE Status shrink_parse(const char *text, i64 group, i64 usual, Shrink *out);

/* The program's entries `forward` and `eval` with its matrices stored so: buffers of their names, of another type, and for
 * whole numbers "NAME.factor" beside them. What computes is as it was, on the values that come back. */
const Program *shrink_program(Arena *arena, const Program *in, const Shrink *how);

/* What --store and --group (0: 32) ask of a source or a run that is compiled. `store`: NULL where it was not given. */
PL_MUST_USE Status shrink_for(Lm *lm, const char *store, i64 group, Shrink *out, LmCompile *how);

/* The values of `want`, a buffer of that program, from those of the parameter it stands for among `have`, in f32;
 * false: there is none. `error`: sums of squares of what is lost, and of the weights, are added to. */
bool shrink_values(Arena *arena, const Shrink *how, const NamedBuffer *have, u32 n, NamedBuffer *want, f64 error[2]);

/* All parameters of the model, in f32 in host memory: `from` must have each. */
PL_MUST_USE Status shrink_read(Lm *lm, const char *from, NamedBuffer **out, u32 *n);

/* The parameters of such a program, compiled and with memory for them, from a file. */
PL_MUST_USE Status shrink_into(Lm *lm, const Shrink *how, const char *from, LmRun *run);

/* The loss of both programs on held-out text, as `plinth eval` has it; printed. `values`: all parameters of `before`. */
PL_MUST_USE Status shrink_measure(Lm *lm, const Shrink *how, const Program *after, const NamedBuffer *values, u32 n,
				  const char *precision, const char *data, u64 batches);

#endif
