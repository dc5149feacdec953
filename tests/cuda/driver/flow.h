/* flow.h: the order of a kernel's code, and the instructions that change fragments. */
#ifndef STANDIN_FLOW_H
#define STANDIN_FLOW_H
#include "exec.h"

/* The reachable code of `in[n]` in an order in which every edge but a loop's back edge goes forward, and
 * all of a loop comes before what follows the loop. */
Inst *flow_lay_out(Arena *arena, const Inst *in, u32 n, u32 *count);

/* warp.c */
Action run_branch(Warp *w, const Inst *in, u32 mask);
Action run_branch_indexed(Warp *w, const Inst *in, u32 mask);
Action run_exit(Warp *w, const Inst *in, u32 mask);
Action run_copy_frame(Warp *w, const Inst *in, u32 mask); /* local[reg0] = local[reg1], reg2 bytes */
#endif
