/* tools/fit_machine.h: a machine's efficiency curves, launch cost and links, fitted to measured steps. */
#ifndef PL_FIT_MACHINE_H
#define PL_FIT_MACHINE_H
#include "tools/machine.h"
#include "tools/plan_cluster.h"

typedef struct MeasuredRun {
	const char *name;
	const char *error; /* it could not be planned; or NULL */
	f64 seconds;       /* measured; 0: it was not */
	ClusterRun run;
} MeasuredRun;

/* Changes what of `m` is not on a data sheet: shares, launch cost, and what links reach. Least absolute errors of
 * the logarithm of seconds, by Gauss-Newton steps on reweighted squares (Holland and Welsch 1977), damped; every number is
 * held near where it began, as by a normal prior, so that what no run tells stays. */
void fit_machine(Arena *a, Machine *m, const MeasuredRun *run, u32 n);

#endif
