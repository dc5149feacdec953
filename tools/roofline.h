/* tools/roofline.h: the arithmetic of benchmarks: medians of several runs, bounds by the roofline model (Williams,
 * Waterman, Patterson 2009), and the launches of a step gathered into families over layers. No clock is read here. */
#ifndef PL_ROOFLINE_H
#define PL_ROOFLINE_H
#include "support/str.h"

/* Of several measurements of one thing. */
typedef struct Spread {
	f64 median, least, most;
	u32 n;
} Spread;

/* `n` may be 0: all zeroes. An even number's median is the mean of the middle two. */
Spread spread_of(const f64 *value, u32 n);

/* What products take, which are summed in f32: operands of f32 (all that is no product counts as such), of bf16 or f16, of 8 bits. */
typedef enum Operands { OPERANDS_32, OPERANDS_16, OPERANDS_8, OPERANDS } Operands;

/* What a machine can do, a second; 0: not known. */
typedef struct Limits {
	f64 flops[OPERANDS];
	f64 bandwidth; /* bytes from and to memory */
} Limits;
/* What the machine does with such operands, or the narrowest wider ones that are known of. */
f64 limit_flops(const Limits *limit, Operands operands);

/* The least time that the work takes: max(FLOPs / peak, bytes / bandwidth). 0 where no limit is known. */
typedef struct Bound {
	f64 seconds;
	bool by_flops; /* which of the two it is */
} Bound;
Bound roofline_bound(const Limits *limit, f64 flops, f64 bytes, Operands operands);

/* "h.3.attn.softmax.2" is "h.*.attn.softmax": numbers within are layers, those behind only tell names apart. */
const char *layer_pattern(Arena *a, const char *name);

/* A launch of a step, with its seconds in each of several profiles. */
typedef struct KernelRun {
	const char *entry, *name, *class, *shape; /* shape: "256 x 2304 x 768" */
	const char *file;                         /* of the model's source; "" and 0: none */
	u32 line;
	u32 times;          /* that it runs in a step */
	f64 flops, bytes;   /* of one time */
	Operands operands;
	const f64 *seconds; /* [profile]: all times of a step together */
} KernelRun;

/* Launches of one entry that differ by their layer alone. */
typedef struct KernelGroup {
	KernelRun first;  /* its name is the pattern; seconds is NULL */
	u32 calls;        /* in a step */
	f64 flops, bytes; /* in a step */
	Spread seconds;   /* in a step */
	Bound bound;      /* in a step: the sum of its launches'; what most of the sum is by */
} KernelGroup;

/* Longest first; the count. */
u32 kernel_groups(Arena *a, const KernelRun *run, u32 n, u32 nprofile, const Limits *limit, KernelGroup **out);

#endif
