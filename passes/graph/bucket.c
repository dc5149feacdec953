/* passes/graph/bucket.c: the pass `bucket`: many small messages become few large ones. Collectives of one kind over one mesh axis that
 * do not wait for one another are put together, in the order of the graph, until a bucket has `bytes` (as PyTorch's DDP does
 * with gradients: Li et al. 2020). Each collective takes any number of tensors, independent of one another, so that what is
 * computed stays the same to the bit.
 *
 * A collective's depth is the number of collectives on the longest way to it; those of a bucket have the same depth, so that
 * buckets cannot come to wait for one another in a circle. What nothing but the end waits for, such as sums of gradients (or other
 * such collectives, so many behind it), goes with its kind whatever its depth.
 *
 * A bucket stands where its last operand is made, or else where one of its results is first needed: what gradients are added up by
 * begins as soon as they are there, and parameters are gathered no earlier than a bucket before they are used. An entry in which
 * stages of a pipeline answer one another stays as it is: what would wait for a bucket may be what another stage answers. */
#include "passes/graph/bucket.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

#include <stdlib.h>
#include <string.h>

typedef struct Bucket {
	VEC(u32) node;
	i64 bytes;
	bool built;
} Bucket;

typedef struct Buckets {
	const Graph *from;
	Builder b;
	Arena *tmp;
	Val *map;   /* value of `from` -> of b.g */
	u32 *depth; /* [node] */
	u32 *ahead; /* [node] collectives until the end, this one too, where nothing else waits for it; else NONE */
	u32 *of;    /* [node] bucket, or NONE */
	VEC(Bucket) bucket;
} Buckets;

static bool may_join(Op op)
{
	return op == OP_all_reduce || op == OP_all_gather || op == OP_reduce_scatter || op == OP_all_to_all;
}

/* Of what is whole: of a gather, the result. */
static i64 said_bytes(const Graph *g, const Node *n)
{
	i64 in = 0, out = 0;
	for (u32 i = 0; i < n->nin; i++) {
		in += type_bytes(val_type(g, n->in[i]));
		out += type_bytes(val_type(g, (Val){ n->out.i + i }));
	}
	return MAX(in, out);
}

static bool alike(const Node *a, const Node *b)
{
	const all_reduce_attr *x = ATTR(a, all_reduce), *y = ATTR(b, all_reduce); /* all begin with over and parts */
	if (a->op != b->op || x->over != y->over)
		return false;
	if (a->op == OP_all_gather)
		return ATTR(a, all_gather)->again == ATTR(b, all_gather)->again;
	if (a->op == OP_reduce_scatter)
		return ATTR(a, reduce_scatter)->reduce == ATTR(b, reduce_scatter)->reduce;
	return a->op != OP_all_reduce || x->reduce == y->reduce;
}

static bool same_dtype(const Graph *g, const Node *a, const Node *b)
{
	return val_type(g, a->in[0])->dtype == val_type(g, b->in[0])->dtype;
}

/* Is something received behind what was sent? */
static bool stages_answer(const Graph *g, Arena *tmp)
{
	bool *behind = NEWN(tmp, bool, g->node.n + 1), any = false;
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		behind[i] = n->op == OP_send;
		for (u32 k = 0; k < n->nin; k++)
			behind[i] |= behind[g->value.v[n->in[k].i].node];
		any |= n->op == OP_receive && behind[i];
	}
	return any;
}

static void find_ahead(Buckets *x)
{
	const Graph *g = x->from;
	u32 *most = NEWN(x->tmp, u32, g->value.n); /* of users */
	for (u32 i = g->node.n; i-- > 0;) {
		const Node *n = &g->node.v[i];
		u32 ahead = 0;
		for (u32 k = 0; k < n->nout; k++)
			ahead = MAX(ahead, most[n->out.i + k]); /* NONE is the largest */
		x->ahead[i] = may_join((Op)n->op) && ahead != NONE ? ahead + 1 : NONE;
		for (u32 k = 0; k < n->nin; k++)
			most[n->in[k].i] = MAX(most[n->in[k].i], x->ahead[i]);
	}
}

/* A bucket that is open is the last of its kind and depth. */
static void fill_buckets(Buckets *x, i64 limit)
{
	const Graph *g = x->from;
	bool alone = stages_answer(g, x->tmp);
	find_ahead(x);
	for (u32 i = 0; i < g->node.n; i++) {
		const Node *n = &g->node.v[i];
		u32 depth = 0;
		for (u32 k = 0; k < n->nin; k++)
			depth = MAX(depth, x->depth[g->value.v[n->in[k].i].node]);
		x->depth[i] = depth + ((op_info[n->op].traits & T_COLLECTIVE) != 0);
		x->of[i] = NONE;
		if (alone || !may_join((Op)n->op) || !n->nin)
			continue;
		i64 bytes = said_bytes(g, n);
		for (u32 k = x->bucket.n; k-- > 0 && x->of[i] == NONE;) {
			u32 first = x->bucket.v[k].node.v[0];
			bool level = x->ahead[first] == x->ahead[i] && (x->ahead[i] != NONE || x->depth[first] == x->depth[i]);
			if (!level || !alike(&g->node.v[first], n) || !same_dtype(g, &g->node.v[first], n))
				continue;
			if (x->bucket.v[k].bytes + bytes > limit)
				break;
			x->of[i] = k;
		}
		if (x->of[i] == NONE) {
			x->of[i] = x->bucket.n;
			VEC_PUSH(x->tmp, &x->bucket, ((Bucket){ 0 }));
		}
		Bucket *to = &x->bucket.v[x->of[i]];
		VEC_PUSH(x->tmp, &to->node, i);
		to->bytes += bytes;
	}
}

/* ---- building ---- */

static void emit(Buckets *x, u32 node);

static ints joined(Buckets *x, const Bucket *k, u32 n, ints (*of)(const Node *))
{
	i64 *v = NEWN(x->tmp, i64, n);
	u32 at = 0;
	for (u32 i = 0; i < k->node.n; i++) {
		ints part = of(&x->from->node.v[k->node.v[i]]);
		for (u32 j = 0; j < part.n; j++)
			v[at++] = part.v[j];
	}
	return (ints){ n, v };
}

#define LIST_OF(op, field)                        \
	static ints op##_##field(const Node *n)   \
	{                                         \
		return ATTR(n, op)->field;        \
	}
LIST_OF(all_gather, axes)
LIST_OF(all_gather, outer)
LIST_OF(reduce_scatter, axes)
LIST_OF(reduce_scatter, outer)
LIST_OF(all_to_all, axes)
LIST_OF(all_to_all, outer)
LIST_OF(all_to_all, to)
LIST_OF(all_to_all, to_outer)

static const void *joined_attributes(Buckets *x, const Bucket *k, u32 n)
{
	const Node *first = &x->from->node.v[k->node.v[0]];
	void *attr = arena_copy(x->tmp, first->attr, 1, op_info[first->op].attr_size, 16);
	switch (first->op) {
	case OP_all_gather:
		((all_gather_attr *)attr)->axes = joined(x, k, n, all_gather_axes);
		((all_gather_attr *)attr)->outer = joined(x, k, n, all_gather_outer);
		break;
	case OP_reduce_scatter:
		((reduce_scatter_attr *)attr)->axes = joined(x, k, n, reduce_scatter_axes);
		((reduce_scatter_attr *)attr)->outer = joined(x, k, n, reduce_scatter_outer);
		break;
	case OP_all_to_all:
		((all_to_all_attr *)attr)->axes = joined(x, k, n, all_to_all_axes);
		((all_to_all_attr *)attr)->outer = joined(x, k, n, all_to_all_outer);
		((all_to_all_attr *)attr)->to = joined(x, k, n, all_to_all_to);
		((all_to_all_attr *)attr)->to_outer = joined(x, k, n, all_to_all_to_outer);
		break;
	default: break;
	}
	return attr;
}

static void carry(Buckets *x, const Node *n, Val to)
{
	for (u32 i = 0; i < n->nout; i++) {
		x->map[n->out.i + i] = (Val){ to.i + i };
		graph_set_axis(x->b.g, (Val){ to.i + i }, val_axis(x->from, (Val){ n->out.i + i }));
	}
}

static void emit_operands(Buckets *x, const Node *n)
{
	for (u32 i = 0; i < n->nin; i++)
		if (!x->map[n->in[i].i].i)
			emit(x, x->from->value.v[n->in[i].i].node);
}

static void emit_bucket(Buckets *x, u32 bucket)
{
	Bucket *k = &x->bucket.v[bucket];
	if (k->built)
		return;
	k->built = true;
	u32 n = 0;
	for (u32 i = 0; i < k->node.n; i++) {
		emit_operands(x, &x->from->node.v[k->node.v[i]]);
		n += x->from->node.v[k->node.v[i]].nin;
	}
	Val *in = NEWN(x->tmp, Val, n);
	u32 at = 0;
	for (u32 i = 0; i < k->node.n; i++) {
		const Node *m = &x->from->node.v[k->node.v[i]];
		for (u32 j = 0; j < m->nin; j++)
			in[at++] = x->map[m->in[j].i];
	}
	const Node *first = &x->from->node.v[k->node.v[0]];
	x->b.loc = first->loc;
	x->b.scope = first->scope;
	Val to = build(&x->b, (Op)first->op, in, n, n, joined_attributes(x, k, n));
	for (u32 i = 0; i < k->node.n; i++) {
		const Node *m = &x->from->node.v[k->node.v[i]];
		carry(x, m, to);
		to.i += m->nout;
	}
}

static void emit(Buckets *x, u32 node)
{
	const Node *n = &x->from->node.v[node];
	if (x->of[node] != NONE) {
		emit_bucket(x, x->of[node]);
		return;
	}
	if (n->nout && x->map[n->out.i].i)
		return;
	emit_operands(x, n);
	Val *in = NEWN(x->tmp, Val, n->nin + 1);
	for (u32 i = 0; i < n->nin; i++)
		in[i] = x->map[n->in[i].i];
	x->b.loc = n->loc;
	x->b.scope = n->scope;
	carry(x, n, build(&x->b, (Op)n->op, in, n->nin, n->nout, n->attr));
}

static Graph *bucket_graph(PassCx *cx, const Graph *from, i64 limit)
{
	Buckets x = { .from = from, .b = builder_new(graph_new(cx->out, cx->ir, from->name)), .tmp = cx->tmp };
	x.b.no_fold = true;
	x.map = NEWN(cx->tmp, Val, from->value.n + 1);
	x.depth = NEWN(cx->tmp, u32, from->node.n + 1);
	x.ahead = NEWN(cx->tmp, u32, from->node.n + 1);
	x.of = NEWN(cx->tmp, u32, from->node.n + 1);
	fill_buckets(&x, limit);
	for (u32 i = 0; i < from->node.n; i++) {
		u32 k = x.of[i];
		/* of a bucket, what is made last begins it */
		if (k == NONE || x.bucket.v[k].node.v[x.bucket.v[k].node.n - 1] == i)
			emit(&x, i);
	}
	for (u32 i = 0; i < from->result.n; i++)
		graph_result(x.b.g, from->result.v[i].name, from->result.v[i].buffer, x.map[from->result.v[i].value.i]);
	builder_done(&x.b);
	return x.b.g;
}

Program *pass_bucket(PassCx *cx, const Program *in)
{
	i64 limit = BUCKET_BYTES;
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		char *end, text[24] = "";
		if (!str_equal(a.name, STR("bytes")) || !a.value.n || a.value.n >= sizeof text) {
			error = !pass_argument_unknown(cx, &a);
			continue;
		}
		memcpy(text, a.value.s, a.value.n);
		limit = strtoll(text, &end, 10);
		if (*end || limit < 0)
			error = !diag_error(cx->diag, E0714, a.loc, "'%s' is no number of bytes", text);
	}
	if (error)
		return NULL;
	Program *to = rewrite_shell(cx->out, in);
	for (u32 i = 0; i < in->entry.n; i++) {
		ArenaMark mark = arena_mark(cx->tmp);
		VEC_PUSH(cx->out, &to->entry, bucket_graph(cx, in->entry.v[i], limit));
		arena_release(cx->tmp, mark);
	}
	return to;
}
