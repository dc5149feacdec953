/* tools/tune.h: how matrix products are cut on this very processor, by a short tuning run: a few candidates around what the
 * emitters work out from caches and registers (codegen/cpu/panel.h), each beside the best so far on a few products, in turns.
 * One takes its place only where it wins by more than the noise that the same comparison of equal code has. */
#ifndef PL_TUNE_H
#define PL_TUNE_H
#include "runtime/executor.h"
#include "tools/driver.h"

#if PLINTH_LLVM
#include "codegen/cpu/tuning.h"

enum { TUNE_ROUNDS = 9 };

/* For each round of one product, the seconds of `b` by those of `a`, which took turns. */
typedef Status TuneMeasure(void *cx, u32 product, const CpuTuning *a, const CpuTuning *b, f64 ratio[TUNE_ROUNDS]);

typedef struct Tuned {
	CpuTuning tuning; /* all 0: nothing beats the model */
	f64 ratio;        /* its time by the model's, over all products */
	f64 noise;        /* of such a ratio */
	u32 tried;
} Tuned;

/* The search alone, for `machine` without its tuning. */
PL_MUST_USE Status tune_search(const CpuMachine *machine, u32 nproduct, TuneMeasure *measure, void *cx, Tuned *out);

/* The search on this machine. `say` is told what is being measured. Some ten seconds. */
PL_MUST_USE Status tune(Arena *a, const DeviceOptions *device, void (*say)(const char *what), Tuned *out);

/* "tiles of 4 x 24, pieces of 400 along K, 4 panels together, for 4096 rows": of large f32 products, with the machine's tuning. */
const char *products_text(Arena *a, const CpuMachine *machine);
#endif

#endif
