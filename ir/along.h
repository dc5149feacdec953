/* ir/along.h: how a node's first result depends on an operand along one of the result's dimensions.
 * Ops say so themselves (OpDef.along); of one that does not, the axis classes say whether the operand
 * has the axis at all, and then the answer is the careful one, ALONG_MIXING. */
#ifndef PL_ALONG_H
#define PL_ALONG_H
#include "ir/op.h"

Along node_along(const Graph *g, const Node *n, u32 in, u32 d);

#endif
