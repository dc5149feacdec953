/* ir/ops/collective.c: what devices of a mesh say to one another. Every device of a partitioned program runs the
 * same nodes; a collective works on the group of devices that differ along one mesh axis alone (`over`; `parts` is
 * its size), in order of their coordinates. Operands are independent of one another: several in one node are one
 * message. Result i belongs to operand i.
 *
 *   all_reduce      the sum (or largest, smallest) of everybody's operand, added in order of coordinates
 *   all_gather      everybody's parts put together along axes[i]: block c of each of outer[i] positions is device c's
 *   reduce_scatter  all_reduce, of which a device keeps its block
 *   all_to_all      the split moves: blocks along `axes` are put together, and the result is split along `to`
 *   permute         the operand of the device `shift` places before this one, around the ring
 *
 * Along the axis of a pipeline, devices run different nodes (passes/graph/stage.c):
 *
 *   send, receive   one device's value becomes another's; messages of one tag arrive in the order in which they were sent.
 *                   An entry has no effects: what a send did is its token, a scalar that others may come after
 *   reduce_among    all_reduce of a sum among those that have something to add. Its tag keeps sums of equal operands apart: in
 *                   other members they are of different ones
 *
 * A device's gradient is that of the sum of everybody's results, so that each op has another as its adjoint. */
#include "ir/ops/help.h"
#include "ir/sample.h"
#include "ir/shard.h"

#include <string.h>

static bool check_group(InferCx *cx, const char *over, i64 parts)
{
	const char *name = op_info[cx->op].name;
	if (cx->nin == 0 || cx->nout != cx->nin)
		return infer_fail(cx, "%s gives a result for each of its operands: %u operands, %u results", name, cx->nin, cx->nout);
	if (!over || !*over || parts < 1)
		return infer_fail(cx, "%s is over a mesh axis of at least 1 part", name);
	for (u32 i = 0; i < cx->nin; i++)
		if (infer_type(cx, i)->rank == MAX_RANK)
			return infer_fail(cx, "%s takes at most %d dimensions, not %s", name, MAX_RANK - 1, infer_text(cx, i));
	return true;
}

static bool check_reduce(InferCx *cx, const char *reduce)
{
	if (!shard_reduce_named(reduce))
		return infer_fail(cx, "%s reduces by sum, max or min, not '%s'", op_info[cx->op].name, reduce ? reduce : "");
	for (u32 i = 0; i < cx->nin; i++)
		if (infer_type(cx, i)->dtype == DT_b1)
			return infer_fail(cx, "%s takes numbers, not %s", op_info[cx->op].name, infer_text(cx, i));
	return true;
}

/* Does `outer * parts` divide the axis of operand i (parts 1: does outer)? */
static bool check_axis(InferCx *cx, u32 i, i64 axis, i64 outer, i64 parts)
{
	i64 extent;
	if (!infer_has_axis(cx, axis, i))
		return false;
	if (!dim_is_number(infer_type(cx, i)->dim[axis], &extent))
		return infer_fail(cx, "%s: dimension %lld of %s is not a number yet", op_info[cx->op].name, (long long)axis,
				  infer_text(cx, i));
	if (outer < 1 || extent % (outer * parts))
		return infer_fail(cx, "%s: %lld times %lld does not divide dimension %lld of %s", op_info[cx->op].name,
				  (long long)outer, (long long)parts, (long long)axis, infer_text(cx, i));
	return true;
}

/* Operand i's type with its axis `times` as large and `over` as small. */
static const Type *resized(Ir *ir, const Type *t, i64 axis, i64 times, i64 over)
{
	Dim dim[MAX_RANK];
	memcpy(dim, t->dim, sizeof dim);
	dim[axis] = dim_number(ir, type_extent(t, (u32)axis) * times / over);
	return type_make(ir, t->dtype, t->rank, dim);
}

static void classes_but(InferCx *cx, u32 i, i64 a, i64 b)
{
	for (u32 d = 0; d < infer_type(cx, i)->rank; d++)
		if (d != a && d != b)
			cx->axis[i][d] = infer_axis(cx, i)[d];
}

static bool check_lists(InferCx *cx, ints axes, ints outer)
{
	if (axes.n == cx->nin && outer.n == cx->nin)
		return true;
	return infer_fail(cx, "%s: one axis and one outer for each of %u operands", op_info[cx->op].name, cx->nin);
}

static bool all_reduce_infer(InferCx *cx)
{
	const all_reduce_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts) || !check_reduce(cx, a->reduce))
		return false;
	for (u32 i = 0; i < cx->nin; i++)
		infer_like(cx, i, i);
	return true;
}

static bool all_gather_infer(InferCx *cx)
{
	const all_gather_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts) || !check_lists(cx, a->axes, a->outer))
		return false;
	for (u32 i = 0; i < cx->nin; i++) {
		if (!check_axis(cx, i, a->axes.v[i], a->outer.v[i], 1))
			return false;
		infer_result(cx, i, resized(cx->ir, infer_type(cx, i), a->axes.v[i], a->parts, 1));
		classes_but(cx, i, a->axes.v[i], -1);
	}
	return true;
}

static bool reduce_scatter_infer(InferCx *cx)
{
	const reduce_scatter_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts) || !check_reduce(cx, a->reduce) || !check_lists(cx, a->axes, a->outer))
		return false;
	for (u32 i = 0; i < cx->nin; i++) {
		if (!check_axis(cx, i, a->axes.v[i], a->outer.v[i], a->parts))
			return false;
		infer_result(cx, i, resized(cx->ir, infer_type(cx, i), a->axes.v[i], 1, a->parts));
		classes_but(cx, i, a->axes.v[i], -1);
	}
	return true;
}

static bool all_to_all_infer(InferCx *cx)
{
	const all_to_all_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts) || !check_lists(cx, a->axes, a->outer) || !check_lists(cx, a->to, a->to_outer))
		return false;
	for (u32 i = 0; i < cx->nin; i++) {
		if (!check_axis(cx, i, a->axes.v[i], a->outer.v[i], 1) ||
		    !check_axis(cx, i, a->to.v[i], a->to_outer.v[i], a->parts))
			return false;
		if (a->to.v[i] == a->axes.v[i])
			return infer_fail(cx, "all_to_all: the split of %s moves from axis %lld to itself", infer_text(cx, i),
					  (long long)a->to.v[i]);
		const Type *t = resized(cx->ir, infer_type(cx, i), a->axes.v[i], a->parts, 1);
		infer_result(cx, i, resized(cx->ir, t, a->to.v[i], 1, a->parts));
		classes_but(cx, i, a->axes.v[i], a->to.v[i]);
	}
	return true;
}

static bool permute_infer(InferCx *cx)
{
	const permute_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts))
		return false;
	for (u32 i = 0; i < cx->nin; i++)
		infer_like(cx, i, i);
	return true;
}

/* ---- one part alone: nothing is to be said ---- */

static Val alone_fold(Builder *b, const Node *n)
{
	(void)b;
	return n->nin == 1 && ATTR(n, all_reduce)->parts == 1 ? n->in[0] : (Val){ 0 };
}
#define STARTS_ALIKE(op)                                                                                    \
	_Static_assert(offsetof(op##_attr, over) == offsetof(all_reduce_attr, over) &&                       \
			       offsetof(op##_attr, parts) == offsetof(all_reduce_attr, parts),              \
		       "collectives begin with over and parts")
STARTS_ALIKE(all_gather);
STARTS_ALIKE(reduce_scatter);
STARTS_ALIKE(all_to_all);
STARTS_ALIKE(permute);
STARTS_ALIKE(send);
STARTS_ALIKE(receive);
STARTS_ALIKE(reduce_among);

/* ---- evaluation: cx[c] is the device of coordinate c ---- */

static f64 combine(ShardReduce how, f64 a, f64 b)
{
	if (how == SHARD_SUM)
		return a + b;
	return how == SHARD_MAX ? (a > b || a != a ? a : b) : (a < b || a != a ? a : b);
}

static void all_reduce_group(EvalCx *cx, u32 n)
{
	const Node *node = cx->node;
	ShardReduce how = shard_reduce_named(ATTR(node, all_reduce)->reduce);
	for (u32 i = 0; i < node->nin; i++)
		for (i64 e = 0; e < cx[0].out[i].n; e++) {
			f64 x = cx[0].in[i]->data[e];
			for (u32 c = 1; c < n; c++)
				x = combine(how, x, cx[c].in[i]->data[e]);
			for (u32 c = 0; c < n; c++)
				cx[c].out[i].data[e] = x;
		}
}

/* A dimension as [before, blocks of block, after]: the element of `whole` where element e of block c's tensor is. */
static i64 block_at(const Tensor *part, i64 axis, i64 outer, u32 n, u32 c, i64 e)
{
	AxisView v = axis_view(part, axis);
	i64 inner = v.extent / outer, k = e % v.inner, x = e / v.inner % v.extent, o = e / v.inner / v.extent;
	i64 at = (x / inner * n + c) * inner + x % inner;
	return (o * v.extent * n + at) * v.inner + k;
}

static void all_gather_group(EvalCx *cx, u32 n)
{
	const all_gather_attr *a = ATTR(cx->node, all_gather);
	for (u32 i = 0; i < cx->node->nin; i++)
		for (u32 c = 0; c < n; c++)
			for (i64 e = 0; e < cx[c].in[i]->n; e++) {
				i64 at = block_at(cx[c].in[i], a->axes.v[i], a->outer.v[i], n, c, e);
				for (u32 to = 0; to < n; to++)
					cx[to].out[i].data[at] = cx[c].in[i]->data[e];
			}
}

static void reduce_scatter_group(EvalCx *cx, u32 n)
{
	const reduce_scatter_attr *a = ATTR(cx->node, reduce_scatter);
	ShardReduce how = shard_reduce_named(a->reduce);
	for (u32 i = 0; i < cx->node->nin; i++)
		for (u32 c = 0; c < n; c++)
			for (i64 e = 0; e < cx[c].out[i].n; e++) {
				i64 at = block_at(&cx[c].out[i], a->axes.v[i], a->outer.v[i], n, c, e);
				f64 x = cx[0].in[i]->data[at];
				for (u32 from = 1; from < n; from++)
					x = combine(how, x, cx[from].in[i]->data[at]);
				cx[c].out[i].data[e] = x;
			}
}

/* Through the whole tensor: slow and plain. */
static void all_to_all_group(EvalCx *cx, u32 n)
{
	const all_to_all_attr *a = ATTR(cx->node, all_to_all);
	for (u32 i = 0; i < cx->node->nin; i++) {
		const Tensor *part = cx[0].in[i];
		f64 *whole = NEWN(cx->arena, f64, part->n * n + 1);
		for (u32 c = 0; c < n; c++)
			for (i64 e = 0; e < part->n; e++)
				whole[block_at(part, a->axes.v[i], a->outer.v[i], n, c, e)] = cx[c].in[i]->data[e];
		for (u32 c = 0; c < n; c++)
			for (i64 e = 0; e < part->n; e++)
				cx[c].out[i].data[e] = whole[block_at(&cx[c].out[i], a->to.v[i], a->to_outer.v[i], n, c, e)];
	}
}

static void permute_group(EvalCx *cx, u32 n)
{
	i64 shift = ATTR(cx->node, permute)->shift;
	for (u32 i = 0; i < cx->node->nin; i++)
		for (u32 c = 0; c < n; c++) {
			u32 from = (u32)((((i64)c - shift) % n + n) % n);
			for (i64 e = 0; e < cx[c].out[i].n; e++)
				cx[c].out[i].data[e] = cx[from].in[i]->data[e];
		}
}

static void alone_eval(EvalCx *cx)
{
	if (ATTR(cx->node, all_reduce)->parts != 1)
		NEVER("a collective was evaluated without the other devices: see eval_mesh_entry");
	op_info[cx->node->op].def->eval_group(cx, 1);
}

/* ---- derivatives ---- */

static Val of_gradient(Builder *b, const Node *n, Op op, u32 i, Val d, const void *attr)
{
	(void)n, (void)i;
	return build(b, op, &d, 1, 1, attr);
}

static void all_reduce_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const all_reduce_attr *a = ATTR(n, all_reduce);
	if (shard_reduce_named(a->reduce) != SHARD_SUM)
		return; /* made by partitioning alone, which comes after differentiation */
	for (u32 i = 0; i < n->nin; i++)
		if (dout[i].i)
			din[i] = of_gradient(b, n, OP_all_reduce, i, dout[i], a);
}

static void all_gather_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const all_gather_attr *a = ATTR(n, all_gather);
	for (u32 i = 0; i < n->nin; i++)
		if (dout[i].i)
			din[i] = of_gradient(b, n, OP_reduce_scatter, i, dout[i],
					     &(reduce_scatter_attr){ .over = a->over, .parts = a->parts, .reduce = intern_z(&b->g->ir->names, "sum"),
								     .axes = { 1, &a->axes.v[i] }, .outer = { 1, &a->outer.v[i] } });
}

static void reduce_scatter_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const reduce_scatter_attr *a = ATTR(n, reduce_scatter);
	if (shard_reduce_named(a->reduce) != SHARD_SUM)
		return;
	for (u32 i = 0; i < n->nin; i++)
		if (dout[i].i)
			din[i] = of_gradient(b, n, OP_all_gather, i, dout[i],
					     &(all_gather_attr){ .over = a->over, .parts = a->parts,
								 .axes = { 1, &a->axes.v[i] }, .outer = { 1, &a->outer.v[i] } });
}

static void all_to_all_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	const all_to_all_attr *a = ATTR(n, all_to_all);
	for (u32 i = 0; i < n->nin; i++)
		if (dout[i].i)
			din[i] = of_gradient(b, n, OP_all_to_all, i, dout[i],
					     &(all_to_all_attr){ .over = a->over, .parts = a->parts,
								 .axes = { 1, &a->to.v[i] }, .outer = { 1, &a->to_outer.v[i] },
								 .to = { 1, &a->axes.v[i] }, .to_outer = { 1, &a->outer.v[i] } });
}

static void permute_vjp(Builder *b, const Node *n, const Val *dout, Val *din)
{
	permute_attr back = *ATTR(n, permute);
	back.shift = -back.shift;
	for (u32 i = 0; i < n->nin; i++)
		if (dout[i].i)
			din[i] = of_gradient(b, n, OP_permute, i, dout[i], &back);
}

/* ---- the rest ---- */

static bool check_coordinate(InferCx *cx, i64 coordinate, i64 parts, const char *what)
{
	if (coordinate >= 0 && coordinate < parts)
		return true;
	return infer_fail(cx, "%s: there is no coordinate %lld among %lld, %s", op_info[cx->op].name, (long long)coordinate,
			  (long long)parts, what);
}

static bool send_infer(InferCx *cx)
{
	const send_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts) || !check_coordinate(cx, a->to, a->parts, "to send to"))
		return false;
	infer_result(cx, 0, type_scalar(cx->ir, DT_u8));
	return true;
}

static bool receive_infer(InferCx *cx)
{
	const receive_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts) || !check_coordinate(cx, a->from, a->parts, "to receive from"))
		return false;
	if (infer_type(cx, 0) != type_scalar(cx->ir, DT_u8))
		return infer_fail(cx, "receive comes after a token, u8[], not %s", infer_text(cx, 0));
	infer_result(cx, 0, type_make(cx->ir, a->dtype, (u8)a->shape.n, a->shape.v));
	return true;
}

static bool reduce_among_infer(InferCx *cx)
{
	const reduce_among_attr *a = cx->attr;
	if (!check_group(cx, a->over, a->parts))
		return false;
	if (infer_type(cx, 0)->dtype == DT_b1)
		return infer_fail(cx, "reduce_among takes numbers, not %s", infer_text(cx, 0));
	for (u32 i = 0; i < a->members.n; i++) {
		if (!check_coordinate(cx, a->members.v[i], a->parts, "that could be a member"))
			return false;
		if (i && a->members.v[i] <= a->members.v[i - 1])
			return infer_fail(cx, "reduce_among: members are told in order, each once");
	}
	infer_like(cx, 0, 0);
	return true;
}

/* Messages to oneself: there is nobody else. Tests made from the table look no further. */
static void nothing_group(EvalCx *cx, u32 n)
{
	(void)cx, (void)n;
}

/* cx[n]: the members. */
static void reduce_among_group(EvalCx *cx, u32 n)
{
	for (i64 e = 0; e < cx[0].out[0].n; e++) {
		f64 x = cx[0].in[0]->data[e];
		for (u32 c = 1; c < n; c++)
			x += cx[c].in[0]->data[e];
		for (u32 c = 0; c < n; c++)
			cx[c].out[0].data[e] = x;
	}
}

static Along along_all(const Graph *g, const Node *n, u32 in, u32 d)
{
	(void)g, (void)n, (void)in, (void)d;
	return ALONG_MIXING;
}

static Val collective_sample(Random *r, Builder *b, Op op, const void *attr)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 2, 4, dim);
	Val v = sample_real(r, b, random_float(r), rank, dim);
	return build(b, op, &v, 1, 1, attr);
}

static const i64 first_axis[] = { 0 }, second_axis[] = { 1 }, once[] = { 1 };

static Val all_reduce_sample(Random *r, Builder *b)
{
	const char *sum = intern_z(&b->g->ir->names, "sum");
	return collective_sample(r, b, OP_all_reduce,
				 &(all_reduce_attr){ .over = intern_z(&b->g->ir->names, "data"), .parts = 1, .reduce = sum });
}

static Val all_gather_sample(Random *r, Builder *b)
{
	return collective_sample(r, b, OP_all_gather,
				 &(all_gather_attr){ .over = intern_z(&b->g->ir->names, "data"), .parts = 1,
						     .axes = { 1, second_axis }, .outer = { 1, once } });
}

static Val reduce_scatter_sample(Random *r, Builder *b)
{
	return collective_sample(r, b, OP_reduce_scatter,
				 &(reduce_scatter_attr){ .over = intern_z(&b->g->ir->names, "data"), .parts = 1,
							 .reduce = intern_z(&b->g->ir->names, "sum"),
							 .axes = { 1, first_axis }, .outer = { 1, once } });
}

static Val all_to_all_sample(Random *r, Builder *b)
{
	return collective_sample(r, b, OP_all_to_all,
				 &(all_to_all_attr){ .over = intern_z(&b->g->ir->names, "data"), .parts = 1,
						     .axes = { 1, first_axis }, .outer = { 1, once },
						     .to = { 1, second_axis }, .to_outer = { 1, once } });
}

static Val permute_sample(Random *r, Builder *b)
{
	return collective_sample(r, b, OP_permute,
				 &(permute_attr){ .over = intern_z(&b->g->ir->names, "data"), .parts = 1, .shift = 1 });
}

static Val send_sample(Random *r, Builder *b)
{
	return collective_sample(r, b, OP_send, &(send_attr){ .over = intern_z(&b->g->ir->names, "pipe"), .parts = 1, .tag = 7 });
}

static Val receive_sample(Random *r, Builder *b)
{
	Dim dim[MAX_RANK];
	u32 rank = random_shape(r, b, 2, 4, dim);
	Val after = make_full(b, 0, DT_u8, (dims){ 0 });
	return build(b, OP_receive, &after, 1, 1,
		     &(receive_attr){ .over = intern_z(&b->g->ir->names, "pipe"), .parts = 1, .dtype = DT_f32, .shape = { rank, dim } });
}

static Val reduce_among_sample(Random *r, Builder *b)
{
	static const i64 first[] = { 0 };
	return collective_sample(r, b, OP_reduce_among,
				 &(reduce_among_attr){ .over = intern_z(&b->g->ir->names, "pipe"), .parts = 1, .members = { 1, first } });
}

#define COLLECTIVE(op)                                                                                         \
	const OpDef def_##op = { .infer = op##_infer, .fold = alone_fold, .vjp = op##_vjp, .cost = cost_movement, \
				 .eval = alone_eval, .eval_group = op##_group, .along = along_all,              \
				 .sample = op##_sample };
COLLECTIVE(all_reduce)
COLLECTIVE(all_gather)
COLLECTIVE(reduce_scatter)
COLLECTIVE(all_to_all)
COLLECTIVE(permute)

/* To and from nobody. */
static Val message_fold(Builder *b, const Node *n)
{
	if (ATTR(n, all_reduce)->parts != 1)
		return (Val){ 0 };
	if (n->op == OP_send)
		return make_full(b, 0, DT_u8, (dims){ 0 });
	return make_full(b, 0, ATTR(n, receive)->dtype, ATTR(n, receive)->shape);
}

#define BETWEEN_STAGES(op, alone, group)                                                                       \
	const OpDef def_##op = { .infer = op##_infer, .fold = alone, .cost = cost_movement, .eval = alone_eval, .eval_group = group, \
				 .along = along_all, .sample = op##_sample };
BETWEEN_STAGES(send, message_fold, nothing_group)
BETWEEN_STAGES(receive, message_fold, nothing_group)
BETWEEN_STAGES(reduce_among, alone_fold, reduce_among_group)
