/* passes/graph/precision.c: mixed precision: precision{compute=bf16} rounds the operands of matrix
 * multiplies, convolutions and attention; they accumulate in f32, and everything else stays f32, master
 * weights and optimizer among it (Micikevicius et al. 2018, Kalamkar et al. 2019). It runs before
 * differentiation, so that derivatives follow: cotangents are rounded where they enter a product.
 *
 * precision{compute=bf16,results=bf16} rounds their results too, behind a bias that is added to them: what PyTorch's
 * autocast does. Activations and their cotangents then go through memory in half the bytes. With sums=bf16 beside it, what
 * rounded values and parameters add up to is rounded too, as where all of a model is stored so (masters.c).
 *
 * The casts are nodes like any other; fusion folds them into the packing of the product's operands and into what
 * follows a product, so that nothing narrow is stored for their sake alone. */
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

typedef struct Precision {
	DType compute, results, sums; /* f32: results, sums stay */
	const Program *program;
} Precision;

static const Node *made_by(const Graph *g, Val v, Op op)
{
	const Node *n = val_node(g, v);
	return n->op == op ? n : NULL;
}

/* Rounded to `to`, and f32 again. */
static Val rounded(Rewrite *rw, Val v, DType to)
{
	DType was = val_type(rw->b.g, v)->dtype;
	if (to == DT_f32 || was != DT_f32)
		return v;
	return make_cast(&rw->b, make_cast(&rw->b, v, to), DT_f32);
}

/* What rounded() was given, where `v` is what it made of a product that nobody else uses; else {0}. */
static Val before_rounding(Rewrite *rw, Val from, Val v)
{
	const Graph *g = rw->b.g;
	const Node *wide = made_by(g, v, OP_cast), *narrow = wide ? made_by(g, wide->in[0], OP_cast) : NULL;
	bool product = narrow && rw->uses[from.i] == 1 && rounded_operands((Op)val_node(g, narrow->in[0])->op);
	return product ? narrow->in[0] : (Val){ 0 };
}

/* A bias added to a product's result: one value for each index of its last dimension. */
static bool round_behind_bias(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	for (u32 i = 0; i < 2; i++) {
		const Node *bias = made_by(rw->b.g, in[1 - i], OP_broadcast);
		if (!bias || val_type(rw->b.g, bias->in[0])->rank != 1)
			continue;
		Val product = before_rounding(rw, n->in[i], in[i]);
		if (!product.i)
			continue;
		out[0] = rounded(rw, B(&rw->b, add, product, in[1 - i]), ((const Precision *)rw->data)->results);
		return true;
	}
	return false;
}

/* A value of the narrow type's, moved about: a rounded one, or a parameter. */
static bool is_narrow(const Rewrite *rw, Val v)
{
	const Precision *p = rw->data;
	const Graph *g = rw->b.g;
	for (const Node *n = val_node(g, v);; n = val_node(g, n->in[0]))
		switch (n->op) {
		case OP_cast: return val_type(g, n->in[0])->dtype == p->sums;
		case OP_read: return p->program->buffer.v[program_find_buffer(p->program, ATTR(n, read)->buffer)].kind == BUFFER_PARAMETER;
		case OP_gather:
		case OP_broadcast:
		case OP_reshape:
		case OP_transpose:
		case OP_slice: break;
		default: return false;
		}
}

static bool round_sum(Rewrite *rw, const Val *in, Val *out)
{
	const Precision *p = rw->data;
	if (p->sums == DT_f32 || !is_narrow(rw, in[0]) || !is_narrow(rw, in[1]))
		return false;
	out[0] = rounded(rw, B(&rw->b, add, in[0], in[1]), p->sums);
	return true;
}

static bool round_operands(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	const Precision *p = rw->data;
	u32 count = rounded_operands((Op)n->op);
	if (n->op == OP_add && p->results != DT_f32)
		return round_behind_bias(rw, n, in, out) || round_sum(rw, in, out);
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
		operand[i] = make_cast(&rw->b, in[i], p->compute);
	}
	Val v = build(&rw->b, (Op)n->op, operand, n->nin, n->nout, n->attr);
	for (u32 i = 0; i < n->nout; i++)
		out[i] = (Val){ v.i + i };
	out[0] = rounded(rw, out[0], p->results); /* the log-sum-exp of attention stays */
	return true;
}

Program *pass_precision(PassCx *cx, const Program *in)
{
	Precision p = { .compute = DT_bf16, .results = DT_f32, .sums = DT_f32, .program = in };
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		DType *to = str_equal(a.name, STR("compute")) ? &p.compute :
			    str_equal(a.name, STR("results")) ? &p.results :
			    str_equal(a.name, STR("sums"))    ? &p.sums :
								NULL;
		error |= !(to ? pass_argument_float(cx, &a, to) : pass_argument_unknown(cx, &a));
	}
	if (error)
		return NULL;
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++) {
		const Graph *g = in->entry.v[i];
		/* the optimizer's arithmetic, and first values, are f32 */
		bool keeps = p.compute == DT_f32 || str_equal(str_of(g->name), STR("update")) ||
			     str_equal(str_of(g->name), STR("init"));
		VEC_PUSH(cx->out, &to->entry,
			 rewrite_graph(cx->out, cx->tmp, g, keeps ? NULL : round_operands, &p, false));
	}
	return to;
}
