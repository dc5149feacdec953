/* ir/ops/help.h: what the files of ir/ops share: checks and texts for inference, questions for fold
 * rules, index arithmetic for evaluation, costs. */
#ifndef PL_OPS_HELP_H
#define PL_OPS_HELP_H
#include "ir/shard.h"

/* ---- inference ---- */

/* "f32[B, T]", or "" when nobody listens: for infer_fail. */
const char *infer_text(const InferCx *cx, u32 operand);
const char *infer_dims_text(const InferCx *cx, u32 n, const Dim *dim);
/* Result i has this type; its classes are still 0. */
void infer_result(InferCx *cx, u32 i, const Type *t);
/* Result i is like an operand in type and classes. */
bool infer_like(InferCx *cx, u32 i, u32 operand);
/* Is `axis` a dimension of the operand? Says so otherwise. */
bool infer_has_axis(InferCx *cx, i64 axis, u32 operand);
bool infer_is_float(InferCx *cx, u32 operand);
bool infer_is_integer(InferCx *cx, u32 operand);
/* Does the list of axes name distinct dimensions of the operand? As a bit mask, or false. */
bool infer_axes(InferCx *cx, ints axes, u32 operand, u32 *mask);

/* ---- folding and derivatives ---- */

/* The node that makes v, if it is an `op`, else NULL. */
const Node *made_by(const Graph *g, Val v, Op op);
/* Is v one number everywhere? Which, rounded to its element type. */
bool is_full(const Graph *g, Val v, f64 *value);
bool is_number(const Graph *g, Val v, f64 value);
Dim dim_of(const Graph *g, Val v, u32 d);
/* Of a constant: the same constant in another shape; {0} of anything else. */
Val reshaped_full(Builder *b, Val v, dims shape);

/* ---- costs, along ---- */

f64 node_bytes(const Graph *g, const Node *n);  /* operands and results, once each */
f64 val_elements(const Graph *g, Val v);
Cost cost_movement(const Graph *g, const Node *n); /* no arithmetic */
Cost cost_per_operand_element(const Graph *g, const Node *n); /* one FLOP for each of operand 0's */
Along along_pointwise(const Graph *g, const Node *n, u32 in, u32 d);

/* ---- evaluation ---- */

/* Row-major strides of a tensor. */
void tensor_strides(const Tensor *t, i64 *stride);
/* A tensor seen as [outer, extent, inner] around one axis. */
typedef struct AxisView {
	i64 outer, extent, inner;
} AxisView;
AxisView axis_view(const Tensor *t, i64 axis);
/* out[i0, i1, ...] = data[base + sum of i_d * stride_d], for every element of out. */
void copy_strided(Tensor *out, const f64 *data, i64 base, const i64 *stride);
i64 clamp_index(f64 index, i64 extent);

#endif
