/* passes/graph/precision.c: mixed precision: precision{compute=bf16} rounds the operands of matrix
 * multiplies, convolutions and attention; they accumulate in f32, and everything else stays f32, master
 * weights and optimizer among it (Micikevicius et al. 2018, Kalamkar et al. 2019). It runs before
 * differentiation, so that derivatives follow: cotangents are rounded where they enter a product.
 *
 * precision{compute=bf16,results=bf16} rounds their results too, behind a bias that is added to them: what PyTorch's
 * autocast does. Activations and their cotangents then go through memory in half the bytes. With sums=bf16 beside it, what
 * rounded values and parameters add up to is rounded too, as where all of a model is stored so (masters.c).
 *
 * With linear=f8e4m3 beside it, the products of a training step's linear layers take operands of 8 bits, scaled to the range of
 * that type (scaled_dot; Micikevicius et al. 2022): what Transformer Engine's te.Linear and torchao's Float8Linear do. A
 * linear layer is a product of a value and a parameter, not of each head or expert on its own, whose inner and outer sizes
 * are multiples of 16, as the hardware wants them, and whose result goes into some further product: the last layer, whose
 * results are logits, stays bf16, as in their examples. Only the entry micro has them: the result of
 * a scaled product depends on all of its operand, and what evaluation and generation give should not depend on what else is in
 * the batch.
 *
 * The casts are nodes like any other; fusion folds them into the packing of the product's operands and into what
 * follows a product, so that nothing narrow is stored for their sake alone. */
#include "ir/dot.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

/* How many of the first operands are rounded; 0 for ops that keep theirs. */
static u32 rounded_operands(Op op)
{
	switch (op) {
	case OP_dot:
	case OP_scaled_dot:
	case OP_grouped_dot:
	case OP_conv2d: return 2;
	case OP_attention: return 3;
	default: return 0;
	}
}

typedef struct Precision {
	DType compute, results, sums; /* f32: results, sums stay */
	DType linear;		      /* what linear layers of a training step take; DTYPES: as others */
	const Program *program;
	const bool *inner; /* [node] does some product come behind it? NULL: the entry has no linear layers */
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

/* A parameter's elements, all of them or some. */
static bool of_parameter(const Precision *p, const Graph *g, Val v)
{
	const Node *n = val_node(g, v);
	while (n->op == OP_reshape || n->op == OP_transpose || n->op == OP_slice)
		n = val_node(g, n->in[0]);
	return n->op == OP_read && p->program->buffer.v[program_find_buffer(p->program, ATTR(n, read)->buffer)].kind == BUFFER_PARAMETER;
}

/* A node of the graph that is read. */
static bool is_linear(const Precision *p, const Graph *g, const Node *n)
{
	if (!p->inner || n->op != OP_dot || !p->inner[n - g->node.v])
		return false;
	bool first = of_parameter(p, g, n->in[0]);
	if (first == of_parameter(p, g, n->in[1]))
		return false;
	u32 side = first ? 0 : 1;
	const Type *w = val_type(g, n->in[side]);
	DotSpec s;
	dot_spec_read(ATTR(n, dot)->spec, &s);
	for (u32 d = 0; d < w->rank; d++)
		if (dot_part(&s, s.index[side][d]) == DOT_BATCH)
			return false;
	/* of rows there may be any number: a target that cannot multiply so many in 8 bits widens them */
	return product_sizes_f8(0, dot_part_extent(w, &s, side, side ? DOT_RIGHT : DOT_LEFT), dot_part_extent(w, &s, side, DOT_INNER));
}

/* Which nodes' results go, by whatever way, into a product. */
static const bool *before_products(Arena *tmp, const Graph *g)
{
	bool *before = NEWN(tmp, bool, g->node.n + 1);
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		if (before[i] || rounded_operands((Op)n->op))
			for (u32 k = 0; k < n->nin; k++)
				before[g->value.v[n->in[k].i].node] = true;
	}
	return before;
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
	Val v = is_linear(p, rw->from, n) ?
			BA(&rw->b, scaled_dot, (operand[0], operand[1]), .spec = ATTR(n, dot)->spec, .left = p->linear, .right = p->linear) :
			build(&rw->b, (Op)n->op, operand, n->nin, n->nout, n->attr);
	for (u32 i = 0; i < n->nout; i++)
		out[i] = (Val){ v.i + i };
	out[0] = rounded(rw, out[0], p->results); /* the log-sum-exp of attention stays */
	return true;
}

Program *pass_precision(PassCx *cx, const Program *in)
{
	Precision p = { .compute = DT_bf16, .results = DT_f32, .sums = DT_f32, .linear = DTYPES, .program = in };
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		if (str_equal(a.name, STR("linear"))) {
			p.linear = dtype_named(a.value);
			error |= !(p.linear < DTYPES && dtype_is_f8(p.linear)) &&
				 !diag_error(cx->diag, E0714, a.loc, "linear is f8e4m3 or f8e5m2, not '%.*s'", STR_ARG(a.value));
			continue;
		}
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
		bool step = p.linear < DTYPES && str_equal(str_of(g->name), STR("micro"));
		p.inner = step ? before_products(cx->tmp, g) : NULL;
		VEC_PUSH(cx->out, &to->entry,
			 rewrite_graph(cx->out, cx->tmp, g, keeps ? NULL : round_operands, &p, false));
	}
	return to;
}
