/* passes/check_eval.h: does a pass keep what a program computes? Both programs are evaluated
 * (ir/eval.h) on the same random inputs and buffers, and what the first gives is compared with what
 * the second gives under the same name. What the second gives beside that (gradients) is not looked
 * at. */
#ifndef PL_CHECK_EVAL_H
#define PL_CHECK_EVAL_H
#include "passes/graph/bind.h"

/* Symbols that are left free get their numbers from `sizes`, and 4 where that has none. After each entry by itself come
 * `steps` steps of training, each with other inputs, whose buffers are the next one's. False, with
 * a message for each entry and result that differs, in d. */
bool programs_agree(Arena *tmp, const Program *before, const Program *after, const SymbolValues *sizes, u32 steps,
		    const char *pass, Diag *d);

#endif
