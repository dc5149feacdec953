/* passes/graph/grad.h: reverse-mode differentiation, as functions that append to a graph being
 * built. */
#ifndef PL_PASSES_GRAD_H
#define PL_PASSES_GRAD_H
#include "ir/op.h"

/* Appends the gradient of the scalar `loss` with respect to `wrt[n]`. out[i] has the shape of wrt[i]
 * and its dtype (f32 where that is narrower); it is {0} where loss does not depend on wrt[i]. A
 * wrt[i] may be any value; where one depends on another, derivatives are total.
 *
 * False, with a message for each, where an op on the way has no derivative (E0350); out is then
 * unspecified. Gradient nodes carry the place and scope of the node that they differentiate. The
 * order of sums depends on the graph alone. Results of vjp that nobody asked for are left for
 * dead-code elimination. */
bool grad_append(Builder *b, Val loss, const Val *wrt, u32 n, Val *out);

/* The same from any results: the sum over i of the derivative of result[i] times dresult[i] ({0}: not
 * taken). */
bool grad_append_vjp(Builder *b, const Val *result, const Val *dresult, u32 nresult, const Val *wrt,
		     u32 n, Val *out);

#endif
