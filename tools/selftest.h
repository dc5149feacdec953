/* tools/selftest.h: compiled programs against the evaluator (ir/eval.h), on any device: every op of the table, random
 * graphs, entries of models. No test framework: `plinth test` runs these where there is none, and
 * tests/unit/test_compiled.c runs the same.
 *
 * Device and evaluator begin an entry with the same values; what they leave in results and buffers is compared, each
 * tensor relative to its largest magnitude. Then the same again from the same values, on the CPU with another number of
 * threads, must give the same bits. */
#ifndef PL_SELFTEST_H
#define PL_SELFTEST_H
#include "ir/sample.h"
#include "runtime/executor.h"
#include "tools/driver.h"

/* Numbers in memory as f64, and back, rounded. */
f64 element_get(u8 dtype, const void *p, i64 i);
void element_put(u8 dtype, void *p, i64 i, f64 x);

/* What a comparison found. */
typedef struct Agreement {
	f64 worst;        /* the largest error of an element over what is allowed; above 1 is wrong */
	const char *what; /* the tensor that it is of */
	i64 at;
	f64 want, got;
	bool repeats;     /* the same bits twice */
	bool refused;     /* the target has no code for some kernel: nothing was compared */
} Agreement;

/* Error allowed, relative to the largest magnitude of a tensor: of one computed in f32, and of one that is, or whose
 * operands were, rounded to f16 or bf16. */
#define ALLOWED        1e-4
#define ALLOWED_NARROW 0.02
/* The same of 8 bits, of which one may be rounded to its neighbour, a quarter of it away. */
#define ALLOWED_F8     0.1

typedef struct Tested {
	const Program *reference; /* what the evaluator runs: names of entries, inputs and buffers are the package's */
	Compiled compiled;
	Executor *executor, *again; /* `again`: for the second time; may be the same */
	Random *random;
	f64 least;   /* magnitudes below are taken for this one; those of gradients also for a hundredth of the largest gradient */
	f64 allowed; /* of tensors of f32 and wider */
	bool rounds; /* the evaluator rounds every value as its type says, as code does, rather than none */
} Tested;

/* Compiles and opens. False: the target refuses (E0719 alone is in the program's Diag), or, with *out left closed and
 * `status` set, something is wrong. */
bool tested_open(Arena *arena, const Program *p, const DriverOptions *driver, const DeviceOptions *device, Random *r, Tested *out,
		 Status *status);
void tested_close(Tested *t);
/* Random values into all buffers (whole numbers, as they suit any use). */
PL_MUST_USE Status tested_fill(Arena *arena, Tested *t);
/* `draw`: how an input's values are drawn; NULL: as the random's own list says, whole numbers otherwise. */
typedef void DrawInput(void *cx, const char *name, Tensor *t);
PL_MUST_USE Status tested_entry(Arena *arena, Tested *t, const char *entry, DrawInput *draw, void *cx, Agreement *out);

/* A program of one op, drawn from the seed; NULL: the op has no sample. Its one entry is "entry". */
const Program *selftest_op(Arena *arena, Ir *ir, Random *r, u32 op);

#endif
