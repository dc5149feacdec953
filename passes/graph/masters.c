/* passes/graph/masters.c: parameters that are stored as products take them: masters{parameters=bf16,gradients=bf16} stores
 * each f32 parameter in the narrow type, and the optimizer gets a state master/NAME of its kind that holds it in f32
 * (Micikevicius et al. 2018; what Megatron-LM and DeepSpeed keep). Entries that change a parameter read and write its master,
 * and write the parameter rounded; all others read what is stored. So nothing is rounded again for each micro-batch, and
 * where optimizer states are divided over devices, so are masters.
 *
 * Parameters that training leaves alone have no master. It runs behind differentiation, which is of the f32 values.
 *
 * Gradients are summed up over micro-batches in the type that is said for them, and over devices too: what puts the parts of
 * a sum together takes them as they are stored. Rounding is of each part, so for gradients it runs behind partition. With
 * parts=bf16 a micro-batch's own gradient is stored too, in that type, as micro/NAME, and added up from there (DeepSpeed's
 * BF16_Optimizer). */
#include "passes/pass.h"
#include "passes/rewrite.h"

typedef struct Masters {
	DType parameters, gradients, parts; /* f32: as they are; parts: there are none */
	const Program *from;
	Program *to;
	u32 *master; /* of each buffer of `from`, in `to`; NONE: it has none */
	u32 *part;   /* the same, of a gradient's */
	bool changes; /* this entry reads masters */
} Masters;

static bool stored_narrow(const Masters *m, const Buffer *b)
{
	return b->type->dtype == DT_f32 && ((b->kind == BUFFER_PARAMETER && m->parameters != DT_f32) ||
					    (b->kind == BUFFER_GRADIENT && m->gradients != DT_f32));
}

static void make_buffers(PassCx *cx, Masters *m)
{
	const Program *in = m->from;
	m->to = program_new(cx->out, in->ir, in->name);
	m->to->facts = in->facts;
	m->to->mesh = in->mesh;
	m->to->stage = in->stage;
	m->master = NEWN(cx->tmp, u32, in->buffer.n + 1);
	m->part = NEWN(cx->tmp, u32, in->buffer.n + 1);
	for (u32 i = 0; i < in->buffer.n; i++) {
		Buffer b = in->buffer.v[i];
		b.axis = COPYN(cx->out, Axis, b.axis, b.type->rank);
		if (stored_narrow(m, &b))
			b.type = type_with_dtype(in->ir, b.type, b.kind == BUFFER_PARAMETER ? m->parameters : m->gradients);
		program_buffer(m->to, b);
	}
	for (u32 i = 0; i < in->buffer.n; i++) {
		Buffer b = in->buffer.v[i];
		m->master[i] = m->part[i] = NONE;
		if (b.kind == BUFFER_GRADIENT && m->parts != DT_f32) {
			b.name = intern_printf(&in->ir->names, "micro/%s", b.name);
			b.type = type_with_dtype(in->ir, b.type, m->parts);
			b.axis = COPYN(cx->out, Axis, b.axis, b.type->rank);
			m->part[i] = program_buffer(m->to, b);
		}
		b = in->buffer.v[i];
		if (b.kind != BUFFER_PARAMETER || b.frozen || !stored_narrow(m, &b))
			continue;
		b.name = intern_printf(&in->ir->names, "master/%s", b.name);
		b.kind = BUFFER_STATE;
		b.of = i;
		b.axis = COPYN(cx->out, Axis, b.axis, b.type->rank);
		m->master[i] = program_buffer(m->to, b);
	}
}

/* As it is stored, what is widened, or widened and then padded; {0}: it is neither. */
static Val stored(Rewrite *rw, Val wide)
{
	const Node *n = val_node(rw->b.g, wide);
	if (n->op == OP_cast)
		return val_node(rw->b.g, n->in[0])->op == OP_read ? n->in[0] : (Val){ 0 };
	Val narrow = n->op == OP_pad ? stored(rw, n->in[0]) : (Val){ 0 };
	return narrow.i ? build(&rw->b, OP_pad, &narrow, 1, 1, val_node(rw->b.g, wide)->attr) : narrow;
}

/* Parts of a sum that were widened are put together narrow. */
static bool reduce_stored(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	Val v = n->nin == 1 ? stored(rw, in[0]) : (Val){ 0 };
	if (!v.i)
		return false;
	v = build(&rw->b, (Op)n->op, &v, 1, 1, n->attr);
	out[0] = make_cast(&rw->b, v, DT_f32);
	return true;
}

static bool read_stored(Rewrite *rw, const Node *n, const Val *in, Val *out)
{
	const Masters *m = rw->data;
	if (n->op == OP_all_reduce || n->op == OP_reduce_scatter)
		return reduce_stored(rw, n, in, out);
	if (n->op != OP_read)
		return false;
	u32 i = program_find_buffer(m->from, ATTR(n, read)->buffer);
	if (!stored_narrow(m, &m->from->buffer.v[i]))
		return false;
	const Buffer *b = &m->to->buffer.v[m->changes && m->master[i] != NONE ? m->master[i] : i];
	Val v = BS(&rw->b, read, .buffer = b->name, .dtype = b->type->dtype, .shape = dims_of_type(&rw->b, b->type));
	graph_set_axis(rw->b.g, v, b->axis);
	out[0] = make_cast(&rw->b, v, DT_f32);
	return true;
}

/* Does the entry give a parameter a new value that follows from the old one? */
static bool changes_parameters(const Masters *m, const Graph *g)
{
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer != NONE && m->master[g->result.v[i].buffer] != NONE)
			return true;
	return false;
}

/* Of the sum `v` what is not the buffer's old value, which goes to *old; {0}: nothing is. */
static Val added(Builder *b, const char *buffer, Val v, Val *old)
{
	const Node *n = val_node(b->g, v), *read = n->op == OP_cast ? val_node(b->g, n->in[0]) : n;
	if (read->op == OP_read && ATTR(read, read)->buffer == buffer) {
		*old = v;
		return (Val){ 0 };
	}
	if (n->op != OP_add)
		return v;
	Val second = n->in[1], first = added(b, buffer, n->in[0], old);
	return !first.i ? second : first.i == n->in[0].i ? v : B(b, add, first, second);
}

/* A micro-batch's gradient, stored by itself: what the sum is then. */
static Val store_part(const Masters *m, Rewrite *rw, u32 buffer, Val v)
{
	const Buffer *part = &m->to->buffer.v[m->part[buffer]];
	Val old = { 0 }, own = added(&rw->b, m->to->buffer.v[buffer].name, v, &old);
	if (!own.i)
		return v;
	Val narrow = make_cast(&rw->b, own, part->type->dtype);
	graph_result(rw->b.g, part->name, m->part[buffer], narrow);
	Val wide = make_cast(&rw->b, narrow, DT_f32);
	return old.i ? B(&rw->b, add, old, wide) : wide;
}

static Graph *store(PassCx *cx, Masters *m, const Graph *from)
{
	m->changes = changes_parameters(m, from);
	Rewrite rw;
	rewrite_begin(&rw, cx->out, cx->tmp, from, m);
	rewrite_nodes(&rw, read_stored);
	for (u32 i = 0; i < from->result.n; i++) {
		const Result *r = &from->result.v[i];
		Val v = rw.map[r->value.i];
		const Buffer *b = r->buffer == NONE ? NULL : &m->to->buffer.v[r->buffer];
		if (b && m->master[r->buffer] != NONE)
			graph_result(rw.b.g, m->to->buffer.v[m->master[r->buffer]].name, m->master[r->buffer], v);
		if (b) {
			rw.b.loc = b->loc;
			rw.b.scope = b->scope;
			v = m->part[r->buffer] != NONE ? store_part(m, &rw, r->buffer, v) : v;
			v = make_cast(&rw.b, v, b->type->dtype);
		}
		graph_result(rw.b.g, r->name, r->buffer, v);
	}
	builder_done(&rw.b);
	return rw.b.g;
}

Program *pass_masters(PassCx *cx, const Program *in)
{
	Masters m = { .parameters = DT_f32, .gradients = DT_f32, .parts = DT_f32, .from = in };
	bool error = false;
	PassArg a;
	for (size_t at = 0; pass_argument(cx, &at, &a, &error);) {
		DType *to = str_equal(a.name, STR("parameters")) ? &m.parameters :
			    str_equal(a.name, STR("gradients"))	 ? &m.gradients :
			    str_equal(a.name, STR("parts"))	 ? &m.parts :
								   NULL;
		error |= !(to ? pass_argument_float(cx, &a, to) : pass_argument_unknown(cx, &a));
	}
	if (error)
		return NULL;
	make_buffers(cx, &m);
	for (u32 i = 0; i < in->entry.n; i++)
		VEC_PUSH(cx->out, &m.to->entry, store(cx, &m, in->entry.v[i]));
	return m.to;
}
