/* tools/prediction.h: what a training step (or a forward pass) will take on a machine, from its plan: seconds by kernel
 * family and by what limits them, tokens a second, TFLOPS, MFU, memory by kind; and of a whole run days, money, energy. */
#ifndef PL_PREDICTION_H
#define PL_PREDICTION_H
#include "passes/plan/predict.h"
#include "tools/driver.h"
#include "tools/roofline.h"

/* Launches of an entry that differ by their layer alone. */
typedef struct PredictedGroup {
	const char *entry, *name, *class, *file; /* "micro", "h.*.attn.softmax" */
	u32 line, calls;                         /* calls in a step */
	f64 flops, bytes, seconds;               /* in a step */
	f64 by[LIMITERS];                        /* seconds of those that each limits */
} PredictedGroup;

typedef struct Prediction {
	const Machine *machine;
	f64 tokens;                     /* of a step */
	f64 seconds, by[LIMITERS];      /* of a step */
	f64 flops, flops_full;          /* the model's: causal attention as its half, as the full square */
	f64 peak;                       /* of what its matrix products take */
	/* bytes on the device */
	u64 parameters, gradients, optimizer, other, transient, arena;
	bool fits;                      /* in what the machine leaves */
	PredictedGroup *group;          /* longest first */
	u32 ngroup;
} Prediction;

/* Of the machine's peaks, that of the narrowest operands that a program of this --precision multiplies on it. */
f64 precision_peak(const Machine *m, const char *precision);

/* Of a plan made by driver_plan; a step is micro_first, `accumulate` - 1 times micro, update; or forward alone. */
Prediction predict_step(Arena *a, const Machine *m, const Compiled *c, i64 accumulate, const char *precision, bool forward);

/* A run over `tokens`; zeroes where the machine's price or power is not known. */
typedef struct RunCost {
	f64 steps, seconds, dollars, kilowatt_hours;
} RunCost;
RunCost predict_run(const Prediction *p, f64 tokens, f64 price);

#endif
