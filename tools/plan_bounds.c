/* tools/plan_bounds.c: see plan_bounds.h. */
#include "tools/plan_bounds.h"
#include "ir/shard.h"

#include <string.h>

/* With so many times the rows that a weight has at its longest dimension, it comes to them. With fewer they may go to it, and what goes was at least their share of these. */
static const f64 ROWS = 4;

const char *const divided_name[DIVIDES] = { "nothing", "optimizer_state", "gradients", "parameters" };

ClusterShape choice_shape(const Choice *c, u32 layers)
{
	return (ClusterShape){ .pipe = c->pipe, .chunks = c->chunks, .schedule = c->chunks > 1 ? PIPE_INTERLEAVED : PIPE_1F1B,
			       .micros = c->micros, .layers = layers, .recompute = c->recompute, .copies = c->tensor };
}

/* ---- of a plan ---- */

/* Bytes of a parameter for each of its gradient, the least of all. */
static f64 trained_bytes(const Program *p)
{
	f64 least = 0;
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		if (b->kind != BUFFER_GRADIENT || b->of == NONE)
			continue;
		f64 bytes = (f64)type_bytes(p->buffer.v[b->of].type) / (f64)type_bytes(b->type);
		least = least > 0 ? MIN(least, bytes) : bytes;
	}
	return least;
}

Bounds bounds_of(Arena *arena, const Machine *m, const ClusterPlanned *p, ClusterWork *w, u32 layers, Str experts, const char *precision, bool masters)
{
	bool eight = !strcmp(precision, "fp8"); /* read once more, for the largest magnitude */
	Bounds b = { .machine = m, .program = p->compiled.program, .work = w, .walks = cluster_walks(arena, m, w), .layers = layers,
		     .gathered = eight ? 0.25 : strcmp(precision, "f32") ? 0.5 : 1, .rounded = eight ? 2.25 : 1.5, .summed = masters ? 0.5 : 1, .trained = trained_bytes(p->compiled.program) };
	const Mesh *mesh = &b.program->mesh;
	Arena tmp = ARENA("bounds");
	b.rows = work_rows(&tmp, p->work->first);
	arena_free(&tmp);
	if (2 * b.rows < ROWS) { /* over two devices already */
		ClusterWork *products = cluster_without_lasting(arena, w);
		products->more = NULL; /* who divides gradients adds up its part of them alone */
		b.products = products;
		b.product_walks = cluster_walks(arena, m, products);
	}
	u32 at = 0;
	while (at < mesh->n && !str_equal(str_of(mesh->axis[at].name), experts))
		at++;
	const UnitBytes *own = at < mesh->n ? work_divided(arena, p->work->first, at) : NULL;
	for (u32 u = 1; u <= w->first->layers; u++) {
		b.layer = u > 1 ? MIN(b.layer, w->persistent[u].parameters) : w->persistent[u].parameters;
		u64 bytes = own ? own[u].gradients : 0;
		b.own = u > 1 ? MIN(b.own, bytes) : bytes;
	}
	return b;
}

/* Whether each parameter has a dimension that divides over so many. */
static bool all_divide(const Program *p, i64 devices)
{
	for (u32 i = 0; i < p->buffer.n; i++) {
		const Buffer *b = &p->buffer.v[i];
		bool divides_so = b->kind != BUFFER_PARAMETER;
		for (u32 d = 0; d < b->type->rank && !divides_so; d++)
			divides_so = type_extent(b->type, d) % devices == 0;
		if (!divides_so)
			return false;
	}
	return true;
}

/* ---- messages ---- */

/* Bytes on each device: those that devices along expert have each their own of, and those that all have copies of. */
typedef struct Sent {
	f64 own, rest;
} Sent;

static Sent sent(f64 own, f64 all)
{
	own = MIN(own, all);
	return (Sent){ own, all - own };
}

static f64 along(const Bounds *b, Op op, f64 bytes, u32 devices, i64 stride)
{
	return bytes > 0 ? predict_collective(b->machine, op, bytes, devices, stride) : 0;
}

/* Devices next to one another along data (0), context (1) or expert (2): how far their numbers are apart. */
static i64 stride(const Choice *c, u32 axis)
{
	return (i64)c->tensor * (axis < 2 ? c->expert : 1) * (axis < 1 ? c->context : 1);
}

/* Along which axes the messages of micro-batches are certain: where a divided weight comes to the rows of an axis's devices, and these do not go to it. */
typedef enum Certain { CERTAIN_NONE, CERTAIN_DATA, CERTAIN_ALL } Certain;

static Certain certain(const Bounds *b, const Choice *c)
{
	bool data = b->rows * c->data >= ROWS, others = true;
	const u32 other[] = { c->context, c->expert };
	for (u32 i = 0; i < COUNT(other); i++)
		others &= other[i] == 1 || b->rows * other[i] >= ROWS;
	return (data || c->data == 1) && others ? CERTAIN_ALL : data ? CERTAIN_DATA : CERTAIN_NONE;
}

bool bounds_rows_go(const Bounds *b, const Choice *c)
{
	return b->products && c->divide >= DIVIDED_GRADIENTS && certain(b, c) != CERTAIN_ALL;
}

/* Seconds of messages that sum in parts, or gather from them, along each axis of devices that have other tokens. The first axis has a value whole, the next
 * ones parts; which comes first is for each value to say. */
static f64 parts_seconds(const Bounds *b, Op op, Sent x, const Choice *c, Certain of)
{
	const struct {
		f64 data, context, expert; /* bytes along each, at least */
	} own[] = { { x.own, 0, 0 }, { x.own / c->context, x.own, 0 } }, part = { x.rest / ((f64)c->context * c->expert), 0, 0 },
	  rest[] = { { x.rest, 0, 0 }, { part.data, x.rest, 0 }, { part.data, 0, x.rest } };
	f64 least = 1e300, brought = of == CERTAIN_NONE ? b->rows * c->data / ROWS : 1;
	if (of != CERTAIN_ALL)
		return along(b, op, brought * (own[1].data + part.data), c->data, stride(c, 0));
	for (u32 i = 0; i < COUNT(own); i++)
		for (u32 k = 0; k < COUNT(rest); k++) {
			if ((i == 1 && c->context == 1) || (k == 1 && c->context == 1) || (k == 2 && c->expert == 1))
				continue;
			f64 seconds = along(b, op, own[i].data + rest[k].data, c->data, stride(c, 0)) +
				      along(b, op, own[i].context + rest[k].context, c->context, stride(c, 1)) +
				      along(b, op, rest[k].expert, c->expert, stride(c, 2));
			least = MIN(least, seconds);
		}
	return least;
}

/* A sum along the last one of several axes. */
typedef struct LastSum {
	f64 seconds, bytes;
	u32 axis;
} LastSum;

/* Along data, context and expert, of which `axes` are the value's: the one that takes least if it is the last. By then a value is what the axes before leave of it. */
static LastSum last_sum(const Bounds *b, Op op, f64 bytes, const Choice *c, u32 axes)
{
	const u32 size[] = { c->data, c->context, c->expert };
	LastSum least = { 0 };
	for (u32 m = 0; m < axes; m++) {
		f64 left = bytes;
		for (u32 k = 0; k < axes; k++)
			left /= op == OP_reduce_scatter && k != m ? size[k] : 1;
		f64 seconds = along(b, op, left, size[m], stride(c, m));
		if (size[m] > 1 && (least.seconds <= 0 || seconds < least.seconds))
			least = (LastSum){ seconds, left, m };
	}
	return least;
}

/* The same of sums that nothing waits for: steps are put together of the last one of each value alone (passes/plan/cluster.c). */
static f64 late_seconds(const Bounds *b, Op op, Sent x, const Choice *c)
{
	LastSum own = last_sum(b, op, x.own, c, 2), rest = last_sum(b, op, x.rest, c, 3);
	if (own.axis != rest.axis)
		return own.seconds + rest.seconds;
	const u32 size[] = { c->data, c->context, c->expert };
	return along(b, op, own.bytes + rest.bytes, size[own.axis], stride(c, own.axis));
}

/* The same where rows may go to weights: what is certain of it goes along data. */
static f64 sums_seconds(const Bounds *b, Op op, Sent x, const Choice *c, Certain of)
{
	f64 all = late_seconds(b, op, x, c);
	if (of == CERTAIN_ALL)
		return all;
	f64 brought = of == CERTAIN_NONE ? b->rows * c->data / ROWS : 1, part = x.own / c->context + x.rest / ((f64)c->context * c->expert);
	return MIN(all, along(b, op, brought * part, c->data, stride(c, 0)));
}

/* ---- a division ---- */

/* Seconds at most that whoever divides parameters spares of a step, as it rounds only its part of them, at half the memory's bandwidth. */
static f64 rounding(const Bounds *b, const ClusterStep *t, const Choice *c)
{
	f64 most = 0;
	for (u32 i = 0; i < c->pipe && c->divide >= DIVIDED_PARAMETERS; i++)
		most = MAX(most, (f64)t->stage[i].bytes.parameters);
	return c->micros * 2 * b->rounded * most / b->machine->bandwidth;
}

/* Messages of a stage, in seconds: sums of gradients, which are one behind the other in a backward half, or in the update; what the update gathers; and
 * what each micro-batch gathers: parameters for its forward half, and what layers have of them again for the backward one, which an embedding is not needed by. */
typedef struct Messages {
	f64 sums, update, gathers;
} Messages;

static Messages messages_of(const Bounds *b, const StageStep *x, const Choice *c)
{
	f64 own = x->layers * (f64)b->own, gradients = (f64)x->bytes.gradients, parameters = (f64)x->bytes.parameters;
	Sent summed = sent(b->summed * own, b->summed * gradients);
	Certain of = c->divide == DIVIDED_STATES && c->micros > 1 ? CERTAIN_ALL : certain(b, c); /* sums that micro-batches come to are as large as weights */
	if (c->divide == DIVIDED_NOTHING)
		return (Messages){ .sums = sums_seconds(b, OP_all_reduce, summed, c, of) };
	bool late = c->divide == DIVIDED_GRADIENTS || (c->divide == DIVIDED_STATES && c->micros == 1);
	Messages m = { .sums = parts_seconds(b, OP_reduce_scatter, summed, c, of) };
	if (late)
		m.sums = MIN(m.sums, sums_seconds(b, OP_reduce_scatter, summed, c, of));
	if (!all_divide(b->program, c->data)) /* what stays whole is not gathered */
		return m;
	if (c->divide < DIVIDED_PARAMETERS) {
		m.update = parts_seconds(b, OP_all_gather, sent(b->trained * own, MIN(b->trained * gradients, parameters)), c, CERTAIN_ALL);
		return m;
	}
	f64 layers = b->gathered * x->layers, own_of_layers = layers * b->trained * (f64)b->own;
	m.gathers = parts_seconds(b, OP_all_gather, sent(own_of_layers, b->gathered * parameters), c, of) +
		    parts_seconds(b, OP_all_gather, sent(own_of_layers, layers * (f64)b->layer), c, of);
	return m;
}

/* Seconds of a step. Who divides gradients sums those of each micro-batch, in its backward half or behind it, and else the last one's alone, or in the
 * update if there are several and states are divided. */
static f64 least_seconds(const Bounds *b, const ClusterStep *t, const Choice *c)
{
	/* whoever has parts of the same texts may do all of these with a weight, as long as it does not divide the weight */
	f64 pipeline = bounds_rows_go(b, c) ? t->pipeline / c->context : t->pipeline - rounding(b, t, c), update = 0;
	for (u32 i = 0; i < c->pipe; i++) {
		const StageStep *x = &t->stage[i];
		Messages m = messages_of(b, x, c);
		f64 ends = t->timeline.end[(size_t)(i + 1) * t->schedule.ntask - 1];
		bool last = c->divide == DIVIDED_NOTHING || c->micros == 1;
		if (c->divide >= DIVIDED_GRADIENTS)
			pipeline = MAX(pipeline, c->micros * (m.sums + m.gathers));
		else if (last)
			pipeline = MAX(pipeline, ends + MAX(m.sums - x->backward, 0));
		else
			m.update += m.sums;
		update = MAX(update, m.update);
	}
	return pipeline + update;
}

/* Bytes of a step. What follows from parameters alone, such as rounded ones, is not kept from one half to the other where devices divide them; a
 * single micro-batch's gradients are summed at once, and whoever divides states holds its part of the sums. */
static u64 least_bytes(const Bounds *b, const ClusterStep *t, const Choice *c)
{
	u64 most = 0, d = choice_apart(c), kept_by = c->divide >= DIVIDED_PARAMETERS && certain(b, c) == CERTAIN_NONE ? d : 1;
	for (u32 i = 0; i < c->pipe; i++) {
		const StageStep *x = &t->stage[i];
		u64 bytes = (x->kept - (c->divide >= DIVIDED_PARAMETERS ? x->same : 0)) / kept_by + x->bytes.other;
		bytes += x->bytes.parameters / (c->divide >= DIVIDED_PARAMETERS ? d : 1) +
			 x->bytes.gradients / (c->divide + (c->micros == 1) >= DIVIDED_GRADIENTS ? d : 1) +
			 x->bytes.optimizer / (c->divide >= DIVIDED_STATES ? d : 1);
		most = MAX(most, bytes);
	}
	return most;
}

void bounds_choice(const Bounds *b, const ClusterStep *t, Choice *c)
{
	c->bound = least_seconds(b, t, c);
	c->least = least_bytes(b, t, c);
}

/* ---- before anything is planned ---- */

static f64 best_share(const Curve *c)
{
	f64 best = c->n ? 0 : 1;
	for (u32 i = 0; i < c->n; i++)
		best = MAX(best, c->point[i].share);
	return best;
}

static f64 best_rate(const Machine *m, const Kernel *k)
{
	f64 peak = machine_peak(m, k->compute);
	switch (k->class) {
	case KERNEL_DOT:
	case KERNEL_GROUPED:
	case KERNEL_GROUPED_WEIGHTS: return peak * best_share(&m->matmul);
	case KERNEL_ATTENTION: return peak * best_share(&m->attention) * best_share(&m->heads);
	case KERNEL_ATTENTION_GRAD: return peak * best_share(&m->attention_grad) * best_share(&m->heads);
	default: return 0;
	}
}

Products products_of(const Machine *m, const Work *w)
{
	Arena tmp = ARENA("products");
	f64 *unit = NEWN(&tmp, f64, w->units);
	for (u32 i = 0; i < w->npiece; i++) {
		const Kernel *k = w->piece[i].kernel;
		f64 rate = best_rate(m, k);
		unit[work_unit(w, w->piece[i].rank)] += rate > 0 ? k->flops / rate : 0;
	}
	Products out = { .before = unit[0], .layer = unit[1], .behind = unit[w->units - 1] };
	for (u32 u = 2; u <= w->layers; u++)
		out.layer = MIN(out.layer, unit[u]);
	arena_free(&tmp);
	return out;
}

f64 products_seconds(const Products *one, const Choice *c, u32 layers)
{
	u32 stages = c->pipe * c->chunks;
	f64 least = 0, way = 0; /* through the first chunks of stages before */
	for (u32 i = 0; i < c->pipe; i++) {
		f64 all = (i == 0 ? one->before : 0) + (i + 1 == c->pipe ? one->behind : 0);
		for (u32 k = 0; k < c->chunks; k++)
			all += cluster_layers(layers, stages, i + k * c->pipe) * one->layer;
		least = MAX(least, c->micros * all + way);
		way += (i == 0 ? one->before : 0) + cluster_layers(layers, stages, i) * one->layer;
	}
	return least * c->micro / ((f64)c->tensor * c->context);
}
