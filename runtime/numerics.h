/* runtime/numerics.h: where did it go wrong? Finds the first value that is not finite among what the steps of
 * an entry write, while the entry is run again. A NaN is what stops a training; an infinity may be meant (a
 * mask), so that the first of each is told apart. */
#ifndef PL_NUMERICS_H
#define PL_NUMERICS_H
#include "runtime/executor.h"

typedef struct BadValue {
	bool found;
	bool is_input;         /* it was there before the first step */
	const char *entry;
	u32 step;              /* of the entry; not of an input */
	const char *kernel;    /* layer and op; NULL for an input */
	const char *file;      /* where the model says so; "" where unknown */
	u32 line;
	const char *name;      /* of the value: a slot, a buffer */
	const char *value_file; /* a kernel is of several lines of the model: the one that this value is from */
	u32 value_line;
	u64 at, bad, elements; /* the first one's index, how many there are, of how many */
} BadValue;

typedef struct Numerics {
	Executor *executor;
	BadValue nan, infinity; /* the first of each kind */
	Status failed;          /* the device did */
} Numerics;

/* A hook for executor_run, over a Numerics: goes on until a NaN was found, or the device failed. */
StepHook numerics_hook;
/* Looks at the buffers whose kind is in `kinds` (bits 1 << PackageBufferKind). False: all finite. */
bool numerics_buffers(Numerics *n, u32 kinds);

/* Does an array hold a NaN or an infinity? `bad` counts them, `at` is the first one's index. Integers never do. */
bool find_nan(const void *p, u8 dtype, u64 elements, u64 *at, u64 *bad);
bool find_infinity(const void *p, u8 dtype, u64 elements, u64 *at, u64 *bad);

/* "the first NaN comes out of h.3.mlp.c_fc.dot (std/nn.plinth:19): %57 (gpt2.plinth:25), 12 of its 4096 elements"; "" when
 * nothing was found. */
const char *numerics_text(Arena *a, const Numerics *n);

#endif
