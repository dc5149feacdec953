/* ir/ops/composite.h: what the files of composite ops share: checks of operands and results for
 * infer(), and short makings for expand() and vjp().
 *
 * The rule for element types: a composite computes in compute_dtype() of its operands (f32 for
 * anything narrower, f64 for f64) and rounds once, at its result. */
#ifndef PL_OPS_COMPOSITE_H
#define PL_OPS_COMPOSITE_H
#include "ir/ops/help.h"

/* What sums and transcendentals of `d` are computed in: f32, or f64 for f64. */
DType compute_dtype(DType d);

/* ---- infer ---- */

/* False with a message where the operand is not floating point (an integer, its rank not `rank`). */
bool need_float(InferCx *cx, u32 operand, const char *what);
bool need_integer(InferCx *cx, u32 operand, const char *what);
bool need_rank(InferCx *cx, u32 operand, const char *what, u32 rank);
/* "12" or "4*D", or "" when nobody listens: for infer_fail. */
const char *dim_text(InferCx *cx, Dim d);

/* Result `i` has this type and these classes (axis NULL: none). */
bool result_is(InferCx *cx, u32 i, DType dtype, u32 rank, const Dim *dim, const Axis *axis);
/* Result `i` is shaped like an operand. */
bool result_like(InferCx *cx, u32 i, u32 operand, DType dtype);
/* Dimension `d` of operand `a` and `e` of operand `b` are the same axis. */
void same_axis(InferCx *cx, u32 a, u32 d, u32 b, u32 e);

/* Does a value of type `t` repeat to this shape, aligned from the right? */
bool broadcasts_to(const Type *t, u32 rank, const Dim *dim);
/* a / b if that is whole for numbers, or a dimension whose wholeness is checked when bound; else
 * NULL. */
Dim dim_whole(Ir *ir, Dim a, Dim b);

/* infer() of one floating-point operand and one result of its type, or that without `axes`. */
bool infer_float_like(InferCx *cx);
bool infer_reduced(InferCx *cx, ints axes);

/* ---- expand, vjp ---- */

/* The value in compute_dtype. */
Val widened(Builder *b, Val v);
Val times(Builder *b, Val v, f64 factor);
Val plus(Builder *b, Val v, f64 term);
/* Reductions over one axis, and back: v repeated along `axis` to the shape of `like`. */
Val sum_axis(Builder *b, Val v, i64 axis);
Val max_axis(Builder *b, Val v, i64 axis);
Val along_axis(Builder *b, Val v, Val like, i64 axis);
/* `v` (lower rank, aligned from the right) repeated to the shape of `like`. */
Val repeated(Builder *b, Val v, Val like);
/* The number of elements along `axes` of `like`, as a scalar of its compute dtype. */
Val count_along(Builder *b, Val like, ints axes);
/* `v` where it is not -inf, else 0: a shift that makes no NaN of rows that are all -inf. */
Val finite_shift(Builder *b, Val v);
/* where(condition, v, 0). */
Val where_or_zero(Builder *b, Val condition, Val v);
/* max + log(sum exp(v - max)) over one axis; -inf for a row of -inf. */
Val logsumexp_of(Builder *b, Val v, i64 axis);

/* Of x, `size` elements along `axis` from `start` by `step`. */
Val slice_along(Builder *b, Val x, i64 axis, Dim start, Dim size, i64 step);
/* dy of a node's derivative towards its first operand. */
Val pull_back(Builder *b, Val result, Val dy);

/* How many windows there are: floor((in + 2 padding - dilation (size - 1) - 1) / stride) + 1, or NULL where there is none. The
 * symbolic part must be a multiple of the stride, as a dimension asserts of itself when it is bound; the constant part is
 * rounded here. */
Dim window_extent(Ir *ir, Dim in, Dim size, i64 stride, i64 padding, i64 dilation);

/* along() where dimension d of the result is dimension d of operand 0: mixing along the ops' own
 * axes, pointwise along the others. */
Along along_but_last(const Graph *g, const Node *n, u32 in, u32 d);

/* The factor on q k^T of attention and its gradient: the attribute, or 1 / sqrt(K) where it is 0.
 * Sizes bound. */
f64 attention_scale(const Graph *g, const Node *n);

/* What `attention` means, as frameworks have it that know no kernel for it: the scores, scaled and masked, and their softmax
 * are values of the operands' type. Both results of `n`, from operands `in`. */
void attention_scores(Builder *b, const Node *n, const Val *in, Val *out);

#endif
