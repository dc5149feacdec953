/* ir/build.c: how a node comes to be: infer, fold, find an equal node, append. No pass ever sees an
 * unfolded form or two equal nodes. Sharing follows LuaJIT's and dstogov/ir's fold engines: rules run
 * as a node is made, then a hash of (op, operands, attributes) finds an equal one. */
#include "ir/op.h"

#include <stdlib.h>
#include <string.h>

Builder builder_new(Graph *g)
{
	return (Builder){ .g = g, .scope = intern_z(&g->ir->names, ""), .tmp = ARENA("build") };
}

void builder_done(Builder *b)
{
	arena_free(&b->tmp);
}

bool infer_fail(InferCx *cx, const char *format, ...)
{
	if (cx->why && cx->why->n == 0) {
		va_list args;
		va_start(args, format);
		buf_put(cx->why, str_of(arena_vprintf(cx->why->arena, format, args)));
		va_end(args);
	}
	return false;
}

const Type *infer_type(const InferCx *cx, u32 operand)
{
	return val_type(cx->g, cx->in[operand]);
}

const Axis *infer_axis(const InferCx *cx, u32 operand)
{
	return val_axis(cx->g, cx->in[operand]);
}

static u64 hash_attr(Op op, const void *attr)
{
	u32 n;
	const AttrField *f = op_info[op].fields(&n);
	u64 h = HASH_SEED;
	for (u32 i = 0; i < n; i++) {
		const u8 *p = (const u8 *)attr + f[i].offset;
		switch (f[i].kind) {
		case ATTR_i64: h = hash_words(h, p, sizeof(i64)); break;
		case ATTR_f64: h = hash_words(h, p, sizeof(f64)); break;
		case ATTR_bool: h = hash_words(h, p, sizeof(bool)); break;
		case ATTR_dtype: h = hash_words(h, p, sizeof(DType)); break;
		case ATTR_str: h = hash_words(h, p, sizeof(str)); break;
		case ATTR_ints: {
			const ints *l = (const void *)p;
			h = hash_words(h, l->v, l->n * sizeof *l->v);
			break;
		}
		case ATTR_dims: {
			const dims *l = (const void *)p;
			h = hash_words(h, l->v, l->n * sizeof *l->v);
			break;
		}
		}
	}
	return h;
}

static bool same_attr(Op op, const void *a, const void *b)
{
	u32 n;
	const AttrField *f = op_info[op].fields(&n);
	for (u32 i = 0; i < n; i++) {
		const u8 *p = (const u8 *)a + f[i].offset, *q = (const u8 *)b + f[i].offset;
		switch (f[i].kind) {
		case ATTR_i64:
		case ATTR_f64: /* as bits: -0.0 is not 0.0, and NaN is NaN */
			if (memcmp(p, q, 8) != 0)
				return false;
			break;
		case ATTR_bool:
			if (*(const bool *)p != *(const bool *)q)
				return false;
			break;
		case ATTR_dtype:
			if (*(const DType *)p != *(const DType *)q)
				return false;
			break;
		case ATTR_str:
			if (*(const str *)p != *(const str *)q)
				return false;
			break;
		case ATTR_ints: {
			const ints *x = (const void *)p, *y = (const void *)q;
			if (x->n != y->n || (x->n && memcmp(x->v, y->v, x->n * sizeof *x->v) != 0))
				return false;
			break;
		}
		case ATTR_dims: {
			const dims *x = (const void *)p, *y = (const void *)q;
			if (x->n != y->n || (x->n && memcmp(x->v, y->v, x->n * sizeof *x->v) != 0))
				return false;
			break;
		}
		}
	}
	return true;
}

/* A copy that the graph owns: lists too, so that a caller may build them on its stack. */
static const void *keep_attr(Arena *arena, Op op, const void *attr)
{
	u8 *copy = arena_copy(arena, attr, 1, op_info[op].attr_size, 16);
	u32 n;
	const AttrField *f = op_info[op].fields(&n);
	for (u32 i = 0; i < n; i++) {
		if (f[i].kind == ATTR_ints) {
			ints *l = (void *)(copy + f[i].offset);
			l->v = COPYN(arena, i64, l->v, l->n);
		} else if (f[i].kind == ATTR_dims) {
			dims *l = (void *)(copy + f[i].offset);
			l->v = COPYN(arena, Dim, l->v, l->n);
		}
	}
	return copy;
}

static u64 hash_node(Op op, const Val *in, u32 nin, u32 nout, const void *attr)
{
	u64 h = hash_attr(op, attr);
	h = hash_words(h, &op, sizeof op);
	h = hash_words(h, &nout, sizeof nout);
	return hash_words(h, in, nin * sizeof *in);
}

static Val find_equal(const Graph *g, u64 hash, Op op, const Val *in, u32 nin, u32 nout,
		      const void *attr)
{
	const u64 *found = map_get(&g->shared, hash);
	if (!found)
		return (Val){ 0 };
	const Node *n = &g->node.v[*found];
	if (n->op == op && n->nin == nin && n->nout == nout &&
	    (nin == 0 || memcmp(n->in, in, nin * sizeof *in) == 0) && same_attr(op, n->attr, attr))
		return n->out;
	return (Val){ 0 }; /* two nodes with one 64-bit hash: not shared, which is only slower */
}

/* How many results: as asked, or what the table says. */
static u32 result_count(Op op, u32 nout, const void *attr)
{
	if (op_info[op].nout != VARN)
		return op_info[op].nout;
	if (op == OP_split)
		return ((const split_attr *)attr)->sizes.n;
	assert(nout > 0);
	return nout;
}

Val build_checked(Builder *b, Op op, const Val *in, u32 nin, u32 nout, const void *attr, Buf *why)
{
	Graph *g = b->g;
	const OpInfo *info = &op_info[op];
	nout = result_count(op, nout, attr);
	for (u32 i = 0; i < nin; i++)
		assert(in[i].i != 0 && in[i].i < g->value.n);
	InferCx cx = { .ir = g->ir, .g = g, .op = op, .nin = nin, .nout = nout, .in = in, .attr = attr,
		       .why = why };
	ArenaMark mark = arena_mark(&b->tmp);
	cx.out = NEWN(&b->tmp, const Type *, nout);
	cx.axis = arena_push(&b->tmp, sizeof *cx.axis, nout, _Alignof(Axis));
	if (info->nin != VARN && info->nin != nin) {
		infer_fail(&cx, "%s takes %u operands, not %u", info->name, info->nin, nin);
		arena_release(&b->tmp, mark);
		return (Val){ 0 };
	}
	if (!info->def->infer(&cx)) {
		arena_release(&b->tmp, mark);
		return (Val){ 0 };
	}
	Node n = { .op = (OpCode)op, .nin = (u16)nin, .nout = (u16)nout, .in = in, .attr = attr,
		   .loc = b->loc, .scope = b->scope };
	if (!b->no_fold && info->def->fold && nout == 1) {
		Val simpler = info->def->fold(b, &n);
		if (simpler.i) {
			assert(val_type(g, simpler) == cx.out[0]);
			arena_release(&b->tmp, mark);
			return simpler;
		}
	}
	u64 hash = hash_node(op, in, nin, nout, attr);
	Val equal = find_equal(g, hash, op, in, nin, nout, attr);
	if (equal.i) {
		arena_release(&b->tmp, mark);
		return equal;
	}
	n.in = COPYN(g->arena, Val, in, nin);
	n.attr = keep_attr(g->arena, op, attr);
	n.out = (Val){ g->value.n };
	map_put(&g->shared, hash, g->node.n);
	for (u32 i = 0; i < nout; i++) {
		Value v = { .type = cx.out[i], .node = g->node.n, .index = i };
		v.axis = COPYN(g->arena, Axis, cx.axis[i], cx.out[i]->rank);
		VEC_PUSH(g->arena, &g->value, v);
	}
	VEC_PUSH(g->arena, &g->node, n);
	arena_release(&b->tmp, mark);
	return n.out;
}

Val build(Builder *b, Op op, const Val *in, u32 nin, u32 nout, const void *attr)
{
	Arena words = ARENA("why");
	Buf why = { .arena = &words };
	Val v = build_checked(b, op, in, nin, nout, attr, &why);
	if (!v.i) {
		fprintf(stderr, "plinth: %s in '%s' (scope '%s', line %u): %.*s\n", op_info[op].name,
			b->g->name, b->scope, b->loc.line, STR_ARG(buf_str(&why)));
		for (u32 i = 0; i < nin; i++) {
			Buf t = { .arena = &words };
			type_print(&t, val_type(b->g, in[i]));
			fprintf(stderr, "  operand %u: %%%u %.*s\n", i, in[i].i, STR_ARG(buf_str(&t)));
		}
		NEVER("a pass built a node whose operands do not fit");
	}
	arena_free(&words);
	return v;
}

Val build_copy(Builder *b, const Graph *from, const Node *n, const Val *in)
{
	Loc loc = b->loc;
	const char *scope = b->scope;
	b->loc = n->loc;
	b->scope = n->scope;
	u32 was = b->g->value.n;
	Val v = build(b, (Op)n->op, in, n->nin, n->nout, n->attr);
	b->loc = loc;
	b->scope = scope;
	/* The classes are those of the original, which may know more than inference does: an input has
	 * no operands to take them from, a reshape that splits makes new ones each time. */
	for (u32 i = 0; i < n->nout && v.i >= was; i++) {
		Value *to = &b->g->value.v[v.i + i];
		const Value *f = &from->value.v[n->out.i + i];
		Axis *axis = COPYN(b->g->arena, Axis, to->axis, to->type->rank);
		for (u32 d = 0; d < to->type->rank; d++)
			if (f->axis[d].id)
				axis[d] = f->axis[d];
		to->axis = axis;
	}
	return v;
}

/* ---- common makings ---- */

ints ints_of(Builder *b, const i64 *v, u32 n)
{
	return (ints){ n, COPYN(b->g->arena, i64, v, n) };
}

dims dims_of(Builder *b, const Dim *v, u32 n)
{
	return (dims){ n, COPYN(b->g->arena, Dim, v, n) };
}

dims dims_of_type(Builder *b, const Type *t)
{
	return dims_of(b, t->dim, t->rank);
}

Val make_full(Builder *b, f64 value, DType dtype, dims shape)
{
	return BS(b, full, .value = value, .dtype = dtype, .shape = shape);
}

Val make_full_like(Builder *b, Val like, f64 value)
{
	const Type *t = val_type(b->g, like);
	return make_full(b, value, t->dtype, dims_of_type(b, t));
}

Val make_broadcast(Builder *b, Val v, dims shape)
{
	const Type *t = val_type(b->g, v);
	assert(t->rank <= shape.n);
	/* dimensions of 1 that must repeat are dropped by a reshape; the rest line up from the right */
	i64 map[MAX_RANK];
	Dim kept[MAX_RANK];
	u32 n = 0;
	for (u32 d = 0; d < t->rank; d++) {
		u32 to = shape.n - t->rank + d;
		if (t->dim[d] == shape.v[to]) {
			kept[n] = t->dim[d];
			map[n++] = to;
		} else {
			i64 one;
			if (!dim_is_number(t->dim[d], &one) || one != 1)
				NEVER("make_broadcast: shapes do not fit");
		}
	}
	if (n < t->rank)
		v = BA(b, reshape, (v), .shape = dims_of(b, kept, n));
	if (n == shape.n)
		return v;
	return BA(b, broadcast, (v), .shape = shape, .dims = ints_of(b, map, n));
}

Val make_unreduce(Builder *b, Val v, Val like, ints axes)
{
	const Type *t = val_type(b->g, like);
	i64 map[MAX_RANK];
	u32 n = 0;
	for (u32 d = 0; d < t->rank; d++) {
		bool reduced = false;
		for (u32 i = 0; i < axes.n; i++)
			reduced |= axes.v[i] == d;
		if (!reduced)
			map[n++] = d;
	}
	if (n == t->rank)
		return v;
	return BA(b, broadcast, (v), .shape = dims_of_type(b, t), .dims = ints_of(b, map, n));
}

Val make_cast(Builder *b, Val v, DType dtype)
{
	return val_type(b->g, v)->dtype == dtype ? v : BA(b, cast, (v), .dtype = dtype);
}
