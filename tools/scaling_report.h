/* tools/scaling_report.h: `plinth plan --scaling`: a model beside the one that the same arithmetic is best spent on (scaling.h), printed. */
#ifndef PL_SCALING_REPORT_H
#define PL_SCALING_REPORT_H
#include "tools/lm.h"

/* Of the whole model, frozen ones too. */
f64 scaling_parameters(const Model *m);

/* `per_token` FLOPs of a model of so many parameters; the budget is `flops`, or what `tokens` take where it is 0. `tokens` above 0: also
 * whether they are enough for a model of this size. */
void scaling_print(Arena *a, f64 parameters, f64 per_token, f64 tokens, f64 flops);

#endif
