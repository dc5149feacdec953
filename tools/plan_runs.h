/* tools/plan_runs.h: `plinth plan --runs FILE --machine NAME`: many training steps, each beside what was measured, and a
 * machine file fitted to them. Each line is a JSON object: "model" is the source, and besides it the options of `plinth plan
 * --mesh` by their names ("preset", "set" and "shard" as lists, "mesh", "sizes", "batch", "micro", "precision", "recompute",
 * "schedule"), "name", and "seconds", the measured step. */
#ifndef PL_PLAN_RUNS_H
#define PL_PLAN_RUNS_H
#include "ir/machine.h"

/* Prints a line of JSON for each run; writes a machine file to `fit`, if it is given. The exit status. */
int plan_runs(const char *path, const Machine *machine, const char *fit);

#endif
