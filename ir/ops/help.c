/* ir/ops/help.c: see help.h. */
#include "ir/ops/help.h"

/* ---- inference ---- */

const char *infer_text(const InferCx *cx, u32 operand)
{
	if (!cx->why)
		return "";
	Buf t = { .arena = cx->why->arena };
	type_print(&t, infer_type(cx, operand));
	return t.text;
}

const char *infer_dims_text(const InferCx *cx, u32 n, const Dim *dim)
{
	if (!cx->why)
		return "";
	Buf t = { .arena = cx->why->arena };
	buf_char(&t, '[');
	for (u32 d = 0; d < n; d++) {
		if (d)
			buf_put(&t, STR(", "));
		dim_print(&t, dim[d]);
	}
	buf_char(&t, ']');
	return t.text;
}

void infer_result(InferCx *cx, u32 i, const Type *t)
{
	cx->out[i] = t;
}

bool infer_like(InferCx *cx, u32 i, u32 operand)
{
	const Type *t = infer_type(cx, operand);
	const Axis *axis = infer_axis(cx, operand);
	cx->out[i] = t;
	for (u32 d = 0; d < t->rank; d++)
		cx->axis[i][d] = axis[d];
	return true;
}

bool infer_has_axis(InferCx *cx, i64 axis, u32 operand)
{
	u32 rank = infer_type(cx, operand)->rank;
	if (axis >= 0 && axis < rank)
		return true;
	return infer_fail(cx, "axis %lld is not a dimension of %s", (long long)axis,
			  infer_text(cx, operand));
}

bool infer_is_float(InferCx *cx, u32 operand)
{
	if (dtype_is_float(infer_type(cx, operand)->dtype))
		return true;
	return infer_fail(cx, "%s takes floating-point numbers, not %s", op_info[cx->op].name,
			  infer_text(cx, operand));
}

bool infer_is_integer(InferCx *cx, u32 operand)
{
	DTypeKind kind = dtype_info[infer_type(cx, operand)->dtype].kind;
	if (kind == KIND_I || kind == KIND_U)
		return true;
	return infer_fail(cx, "operand %u of %s must be integers, not %s", operand + 1,
			  op_info[cx->op].name, infer_text(cx, operand));
}

bool infer_axes(InferCx *cx, ints axes, u32 operand, u32 *mask)
{
	*mask = 0;
	for (u32 i = 0; i < axes.n; i++) {
		if (!infer_has_axis(cx, axes.v[i], operand))
			return false;
		if (*mask & 1u << axes.v[i])
			return infer_fail(cx, "axis %lld of %s is named twice", (long long)axes.v[i],
					  infer_text(cx, operand));
		*mask |= 1u << axes.v[i];
	}
	return true;
}

/* ---- folding and derivatives ---- */

const Node *made_by(const Graph *g, Val v, Op op)
{
	const Node *n = val_node(g, v);
	return n->op == op ? n : NULL;
}

bool is_full(const Graph *g, Val v, f64 *value)
{
	const Node *n = made_by(g, v, OP_full);
	if (!n)
		return false;
	*value = dtype_round(ATTR(n, full)->dtype, ATTR(n, full)->value);
	return true;
}

bool is_number(const Graph *g, Val v, f64 value)
{
	f64 x;
	return is_full(g, v, &x) && x == value;
}

Dim dim_of(const Graph *g, Val v, u32 d)
{
	return val_type(g, v)->dim[d];
}

Val reshaped_full(Builder *b, Val v, dims shape)
{
	const Node *full = made_by(b->g, v, OP_full);
	if (!full)
		return (Val){ 0 };
	return make_full(b, ATTR(full, full)->value, ATTR(full, full)->dtype, shape);
}

/* ---- costs, along ---- */

f64 node_bytes(const Graph *g, const Node *n)
{
	f64 bytes = 0;
	for (u32 i = 0; i < n->nin; i++)
		bytes += (f64)type_bytes(val_type(g, n->in[i]));
	for (u32 i = 0; i < n->nout; i++)
		bytes += (f64)type_bytes(val_type(g, (Val){ n->out.i + i }));
	return bytes;
}

f64 val_elements(const Graph *g, Val v)
{
	return (f64)type_elements(val_type(g, v));
}

Cost cost_movement(const Graph *g, const Node *n)
{
	return (Cost){ 0, node_bytes(g, n) };
}

Cost cost_per_operand_element(const Graph *g, const Node *n)
{
	return (Cost){ val_elements(g, n->in[0]), node_bytes(g, n) };
}

Along along_pointwise(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n, (void)in, (void)d;
	return ALONG_POINTWISE;
}

/* ---- evaluation ---- */

void tensor_strides(const Tensor *t, i64 *stride)
{
	i64 s = 1;
	for (u32 d = t->rank; d-- > 0;) {
		stride[d] = s;
		s *= t->dim[d];
	}
}

AxisView axis_view(const Tensor *t, i64 axis)
{
	AxisView v = { 1, t->dim[axis], 1 };
	for (u32 d = 0; d < t->rank; d++) {
		if (d < axis)
			v.outer *= t->dim[d];
		else if (d > axis)
			v.inner *= t->dim[d];
	}
	return v;
}

void copy_strided(Tensor *out, const f64 *data, i64 base, const i64 *stride)
{
	if (out->n == 0)
		return;
	if (out->rank == 0) {
		out->data[0] = data[base];
		return;
	}
	u32 last = out->rank - 1;
	i64 index[MAX_RANK] = { 0 }, at = base, n = out->dim[last], step = stride[last];
	for (i64 done = 0; done < out->n; done += n) {
		for (i64 i = 0; i < n; i++)
			out->data[done + i] = data[at + i * step];
		for (u32 d = last; d-- > 0;) {
			at += stride[d];
			if (++index[d] < out->dim[d])
				break;
			at -= stride[d] * out->dim[d];
			index[d] = 0;
		}
	}
}

i64 clamp_index(f64 index, i64 extent)
{
	return index < 0 ? 0 : index > (f64)(extent - 1) ? extent - 1 : (i64)index;
}
