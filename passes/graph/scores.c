/* passes/graph/scores.c: the pass `scores`: attention as frameworks have it that know no kernel for it (PyTorch and Megatron-LM
 * before FlashAttention): a product makes the scores, a softmax weights of them, a second product the result, and scores and
 * weights go through memory in the type of the operands. It runs behind `precision`, which says that type, and before
 * differentiation: the derivative is then the softmax's, from the weights that are kept. */
#include "ir/ops/composite.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

static bool write_out(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	if (n->op != OP_attention)
		return false;
	attention_scores(&rw->b, n, in, out);
	for (u32 i = 0; i < n->nout; i++)
		graph_set_axis(rw->b.g, out[i], val_axis(rw->from, (Val){ n->out.i + i }));
	return true;
}

Program *pass_scores(PassCx *cx, const Program *in)
{
	size_t at = 0;
	PassArg a;
	bool error = false;
	if (pass_argument(cx, &at, &a, &error))
		error = !pass_argument_unknown(cx, &a);
	return error ? NULL : rewrite_program(cx->out, cx->tmp, in, write_out, NULL, false);
}
