/* ir/along.c: see along.h. */
#include "ir/along.h"

Along node_along(const Graph *g, const Node *n, u32 in, u32 d)
{
	const OpDef *def = op_info[n->op].def;
	assert(in < n->nin && d < val_type(g, n->out)->rank);
	if (def->along)
		return def->along(g, n, in, d);
	Axis a = axis_find(g->ir, val_axis(g, n->out)[d]);
	if (!a.id)
		return ALONG_MIXING; /* no identity, so it cannot be told apart */
	const Type *t = val_type(g, n->in[in]);
	for (u32 k = 0; k < t->rank; k++) {
		Axis other = axis_find(g->ir, val_axis(g, n->in[in])[k]);
		if (!other.id || other.id == a.id)
			return ALONG_MIXING;
	}
	return ALONG_NOT_THERE;
}
