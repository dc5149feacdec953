/* tools/fit_report.h: what `plinth plan --memory` and `--sweep` say: which values of a training step are kept for its
 * backward half and which are computed again, what that costs, and how far that is from the least. */
#ifndef PL_FIT_REPORT_H
#define PL_FIT_REPORT_H
#include "ir/plan.h"

#include "support/status.h"

#include <jansson.h>

/* The entry that a budget is about: of those with a PlanRemat, the largest; NULL: none. */
const EntryPlan *fit_entry(const Plan *p);
void fit_print(Arena *a, const Plan *p, const EntryPlan *e, FILE *to);
void fit_print_curve(Arena *a, const Plan *p, const EntryPlan *e, FILE *to);
json_t *fit_json(Arena *a, const Plan *p, const EntryPlan *e);
/* The curve as a picture: budget against time. */
PL_MUST_USE Status fit_svg(Arena *a, const Plan *p, const EntryPlan *e, const char *path);

#endif
