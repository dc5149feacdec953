/* codegen/link.h: a plan and the code of its kernels become a package. */
#ifndef PL_LINK_H
#define PL_LINK_H
#include "codegen/package.h"
#include "ir/plan.h"

/* FLOPs of one run of an entry, for reports. */
typedef struct EntryFlops {
	f64 model;      /* what the graph needs; causal attention as the part that is visible */
	f64 model_full; /* with causal attention as the full square */
} EntryFlops;

/* flops[i] is of plan->entry[i]. The package lies in `arena`, and has no functions yet. `machine`: hashed into the fingerprint, so that a resume on another instruction set is noticed. */
Package *package_link(Arena *arena, const Plan *plan, const EntryFlops *flops, Str machine);
/* What an entry of the package was made of; a half of a pipeline's micro-batch is there once for each place of the stash. */
const EntryPlan *package_entry_plan(const Plan *plan, u32 entry);
/* For code with names: symbol[i] is the function of plan->kernel[i], and needs[i], in a plan for sizes, what says its needs. */
void package_name_code(Arena *arena, const Plan *plan, const char *const *symbol, const char *const *needs, Package *package);

#endif
