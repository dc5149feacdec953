/* tools/driver.h: the whole way from a program to something that runs, in one place: which passes, in which
 * order, then the plan, the code and the package. */
#ifndef PL_DRIVER_H
#define PL_DRIVER_H
#include "codegen/cpu/target.h"
#include "codegen/link.h"
#include "passes/pass.h"

typedef struct DriverOptions {
	const char *const *entry; /* those to compile, by the names that elaboration gives them; NULL: all */
	u32 nentry;
	const char *sizes;        /* "B=4,T=64" */
	const char *precision;    /* "f32", "bf16"; NULL is f32 */
	bool accumulate;          /* keep the entry that adds to gradients: more than one micro-step a step */
	const char *cpu;          /* NULL: the host */
	u32 threads;              /* that compile; 0: one per core */
	bool no_cache;            /* object code is neither looked up nor kept */
} DriverOptions;

/* Seconds of each part. */
typedef struct DriverTimes {
	f64 passes, plan, code, total;
	VEC(PassTime) pass;
	CpuTimes cpu;
} DriverTimes;

typedef struct Compiled {
	const Program *model;   /* differentiated, composites as they are: what FLOPs are counted on */
	const EntryFlops *flops; /* of its entries */
	const Program *program; /* as it was planned */
	const Plan *plan;
	const Package *package;
	const TargetInfo *target;
	DriverTimes times;
	/* private */
	CpuCompiler *compiler;
	CpuProgram *code;
	CpuMachine machine;
} Compiled;

/* Up to the plan: nothing is compiled. What is wrong with the program is in ir->diag, and then out->plan is
 * NULL; a Status is the world's. All lies in `arena`. */
PL_MUST_USE Status driver_plan(Arena *arena, const Program *program, const DriverOptions *options, Compiled *out);
/* The same and code: out->package is ready for executor_create, until driver_close. */
PL_MUST_USE Status driver_compile(Arena *arena, const Program *program, const DriverOptions *options, Compiled *out);
void driver_close(Compiled *c);

#endif
