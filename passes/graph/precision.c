/* passes/graph/precision.c: mixed precision: precision{compute=bf16} rounds the operands of matrix
 * multiplies, convolutions and attention; they accumulate in f32, and everything else stays f32, master
 * weights and optimizer among it (Micikevicius et al. 2018, Kalamkar et al. 2019). It runs before
 * differentiation, so that derivatives follow: cotangents are rounded where they enter a product.
 *
 * The casts are nodes like any other; fusion folds them into the packing of the product's operands, so that
 * nothing narrow is stored for their sake alone. */
#include "passes/pass.h"
#include "passes/rewrite.h"

/* How many of the first operands are rounded; 0 for ops that keep theirs. */
static u32 rounded_operands(Op op)
{
	switch (op) {
	case OP_dot:
	case OP_grouped_dot:
	case OP_conv2d: return 2;
	case OP_attention: return 3;
	default: return 0;
	}
}

static bool round_operands(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	DType to = *(const DType *)rw->data;
	u32 count = rounded_operands((Op)n->op);
	if (!count)
		return false;
	Val operand[16];
	assert(n->nin <= COUNT(operand));
	for (u32 i = 0; i < n->nin; i++) {
		operand[i] = in[i];
		if (i >= count)
			continue;
		if (val_type(rw->b.g, in[i])->dtype != DT_f32)
			return false; /* a type that the model asked for stays */
		operand[i] = make_cast(&rw->b, in[i], to);
	}
	Val v = build(&rw->b, (Op)n->op, operand, n->nin, n->nout, n->attr);
	for (u32 i = 0; i < n->nout; i++)
		out[i] = (Val){ v.i + i };
	return true;
}

Program *pass_precision(PassCx *cx, const Program *in)
{
	DType compute = DT_bf16;
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		if (!str_equal(a.name, STR("compute"))) {
			error = !pass_argument_unknown(cx, &a);
			continue;
		}
		compute = dtype_named(a.value);
		if (compute != DT_f32 && compute != DT_bf16 && compute != DT_f16)
			error = !diag_error(cx->diag, E0718, cx->args_loc, "compute is f32, bf16 or f16, not '%.*s'",
					    STR_ARG(a.value));
	}
	if (error)
		return NULL;
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++) {
		const Graph *g = in->entry.v[i];
		/* the optimizer's arithmetic, and first values, are f32 */
		bool keeps = compute == DT_f32 || str_equal(str_of(g->name), STR("update")) ||
			     str_equal(str_of(g->name), STR("init"));
		VEC_PUSH(cx->out, &to->entry,
			 rewrite_graph(cx->out, cx->tmp, g, keeps ? NULL : round_operands, &compute, false));
	}
	return to;
}
