/* passes/plan/cluster.c: see cluster.h. */
#include "passes/plan/cluster.h"
#include "ir/step.h"
#include "passes/graph/bucket.h"

#include <string.h>

ClusterWork *cluster_work(Arena *arena, const Plan *p, Recompute how, u64 bucket)
{
	ClusterWork *c = NEW(arena, ClusterWork);
	*c = (ClusterWork){ .within = 1, .bucket = bucket ? bucket : BUCKET_BYTES };
	Arena tmp = ARENA("cluster");
	for (u32 i = 0; i < p->entry.n; i++) {
		const EntryPlan *e = p->entry.v[i];
		StepName at = step_name(e->name);
		const Work **to = at.part == STEP_FIRST  ? &c->first :
				  at.part == STEP_MORE   ? &c->more :
				  at.part == STEP_LAST   ? &c->last :
				  at.part == STEP_UPDATE ? &c->update :
							   NULL;
		if (!to || *at.half)
			continue;
		const Work *w = *to = work_of(arena, &tmp, p, e);
		if (to == &c->first) {
			c->persistent = work_persistent(arena, w, &c->tied);
			c->weights = work_weights(arena, &tmp, w);
		}
		if (to != &c->update)
			*to = work_again(arena, &tmp, *to, how);
	}
	arena_free(&tmp);
	const Mesh *mesh = &p->program->mesh;
	for (u32 i = 0; i < mesh->n; i++)
		c->within *= mesh->axis[i].size;
	return c->first ? c : NULL;
}

ClusterWork *cluster_again(Arena *arena, const ClusterWork *w, Recompute how)
{
	ClusterWork *c = cluster_work(arena, w->first->plan, how, w->bucket);
	c->in_place = w->in_place;
	c->stand = w->stand;
	c->placeholder = w->placeholder;
	return c;
}

ClusterWork *cluster_without_lasting(Arena *arena, const ClusterWork *w)
{
	ClusterWork *c = NEW(arena, ClusterWork);
	*c = *w;
	const Work **to[] = { &c->first, &c->more, &c->last };
	for (u32 i = 0; i < COUNT(to); i++)
		*to[i] = *to[i] ? work_without_lasting(arena, *to[i]) : NULL;
	return c;
}

u32 cluster_unit(const ClusterWork *c, const Work *w, u32 layers, u32 at)
{
	if (at == 0 || at > layers)
		return at ? w->units - 1 : 0;
	if (w->layers == layers || at == 1)
		return at;
	if (at == layers)
		return w->layers;
	return c->stand ? c->stand[at - 1] : (w->layers + 1) / 2;
}

u32 cluster_layers(u32 layers, u32 stages, u32 stage)
{
	u32 more = layers % stages, begin = (stages - more) / 2;
	return layers / stages + (stage >= begin && stage < begin + more);
}

/* Messages that nothing in the entry waits for, of a stage's units: they go while units before them are at work, and the links are free: what is waited for
 * takes these for as long as it is on its way. Units come in the order of the forward half, so that those with which the backward half ends come first. */
typedef struct LateSums {
	f64 messages, free; /* of the units so far */
	f64 rest;           /* seconds that messages are on their way behind the last unit */
} LateSums;

static void add_late(LateSums *l, const RankTime *backward)
{
	l->messages += backward->late;
	l->rest = MAX(l->rest, l->messages - l->free);
	l->free += MAX(backward->seconds - (backward->messages - backward->late), 0);
}

/* A unit's part of a walk; what is left of late messages is counted by LateSums. */
static RankTime part_of(const Walk *w, u32 rank)
{
	RankTime r = w->rank[rank];
	f64 rest = rank == w->last ? w->rest : 0;
	r.seconds -= rest;
	r.waiting -= rest;
	return r;
}

/* Of a unit whose neighbours have the links for themselves: it waits for its own messages, and for none that neighbours in the walk have left. */
static RankTime alone(RankTime r)
{
	f64 others = MAX(r.waiting - r.messages, 0);
	r.seconds -= others;
	r.waiting -= others;
	return r;
}

/* Of a unit that a planned one stands for: as long as links are on the way for it, however the walk of few layers divides among these what they wait for. */
static RankTime repeated(RankTime r)
{
	f64 more = MAX(r.messages - r.late - r.seconds, 0);
	r.seconds += more;
	r.waiting += more;
	return alone(r);
}

/* Adds a unit's part of a walk to a stage, `times` times. */
static void add_rank(StageStep *s, const RankTime *r, f64 times)
{
	s->waiting += times * r->waiting;
	s->messages += times * r->messages;
	for (u32 i = 0; i < LIMITERS; i++)
		s->by[i] += times * r->by[i];
}

/* A step's micro-batches. */
enum { MICRO_FIRST, MICRO_BETWEEN, MICRO_LAST, MICROS };

typedef struct Building {
	const ClusterWork *w;
	const ClusterShape *shape;
	u32 layers;
	const Walk *micro[MICROS], *update;
	f64 *forward, *backward, *send; /* [virtual stage] */
	LateSums *late;                 /* [stage][MICROS] */
	u64 *kept, *most;               /* [stage][chunk]: of a micro-batch from its forward on; while it is at work */
	u64 *same;                      /* [stage]: once for all micro-batches */
	u64 *shared;                    /* [stage]: what its layers have in common */
	u64 *sums, *updating;           /* [stage]: of the update, what its units keep, and the most that one at work takes beside */
	u64 handed;
	const Machine *m;
	ClusterStep *out;
} Building;

static void add_update(Building *b, u32 stage, u32 at)
{
	StageStep *s = &b->out->stage[stage];
	const Work *u = b->w->update;
	u32 unit = cluster_unit(b->w, u, u->layers ? b->layers : 0, u->layers ? at : at > b->layers);
	const RankTime *r = &b->update->rank[unit];
	if (!u->layers && at > 0 && at <= b->layers)
		return;
	b->sums[stage] += u->kept[unit] + u->same[unit] - (b->w->in_place ? u->summed[unit] : 0);
	b->updating[stage] = MAX(b->updating[stage], u->working[unit]);
	/* the norm of all gradients stands between their sums and what they change: nothing to hide messages behind */
	RankTime own = *r;
	own.waiting = r->messages;
	s->update += r->seconds - r->waiting + own.waiting;
	add_rank(s, &own, 1);
}

static void add_unit(Building *b, u32 virtual, u32 at)
{
	const ClusterShape *shape = b->shape;
	const Work *w = b->w->first;
	u32 unit = cluster_unit(b->w, w, b->layers, at), stage = virtual % shape->pipe, chunk = virtual / shape->pipe;
	StageStep *s = &b->out->stage[stage];
	f64 n = (f64)shape->micros;
	const f64 times[MICROS] = { 1, shape->micros > 2 ? n - 2 : 0, shape->micros > 1 };
	for (u32 back = 0; back < 2; back++) {
		for (u32 i = 0; i < MICROS; i++) {
			RankTime r = part_of(b->micro[i], work_rank(w, unit, back));
			if (at != unit && unit > 1 && unit < w->layers)
				r = repeated(r);
			else if (shape->pipe > 1)
				r = alone(r);
			f64 seconds = times[i] * r.seconds / n;
			*(back ? &b->backward[virtual] : &b->forward[virtual]) += seconds;
			*(back ? &s->backward : &s->forward) += seconds;
			add_rank(s, &r, times[i]);
			if (back)
				add_late(&b->late[stage * MICROS + i], &r);
		}
	}
	if (b->w->update)
		add_update(b, stage, at);
	const UnitBytes *p = &b->w->persistent[unit];
	s->bytes.parameters += p->parameters;
	s->bytes.gradients += p->gradients;
	s->bytes.optimizer += p->optimizer;
	s->bytes.other += p->other;
	u64 placeholders = b->w->placeholder * b->w->weights[unit];
	if (at >= 1 && at <= b->layers)
		b->shared[stage] = MAX(b->shared[stage], placeholders);
	else
		s->bytes.other += placeholders;
	/* when a unit is at work, what those behind it keep is not there yet, or no more */
	u64 *kept = &b->kept[stage * shape->chunks + chunk], *most = &b->most[stage * shape->chunks + chunk];
	*kept += w->kept[unit];
	b->same[stage] += w->same[unit];
	*most = MAX(*most, *kept + MAX(w->working[work_rank(w, unit, false)], w->working[work_rank(w, unit, true)]));
}

/* What is left of the late messages of each micro-batch but the last one comes before the next one; what is left of the last one's, before
 * the update. Where the walk is of all layers, that tells it. */
static void wait_between(Building *b, u32 stage)
{
	const ClusterShape *shape = b->shape;
	StageStep *s = &b->out->stage[stage];
	bool all = shape->pipe == 1 && shape->chunks == 1 && b->layers == b->w->first->layers;
	f64 rest[MICROS];
	for (u32 i = 0; i < MICROS; i++)
		rest[i] = all ? b->micro[i]->rest : b->late[stage * MICROS + i].rest;
	u32 micros = shape->micros;
	f64 between = (micros > 1 ? rest[MICRO_FIRST] : 0) + (micros > 2 ? (f64)(micros - 2) * rest[MICRO_BETWEEN] : 0);
	s->sums = rest[micros > 1 ? MICRO_LAST : MICRO_FIRST];
	s->waiting += between + s->sums;
	s->backward += between / (f64)micros;
	b->backward[stage + shape->pipe * (shape->chunks - 1)] += between / (f64)micros;
}

static f64 hand_on(const Building *b, f64 bytes)
{
	i64 within = b->w->within, copies = MIN(MAX(b->shape->copies, 1u), MAX(b->m->domain, 1));
	f64 whole = predict_collective(b->m, OP_permute, bytes, 2, within);
	f64 parts = predict_collective(b->m, OP_permute, bytes / (f64)copies, 2, within) +
		    predict_collective(b->m, OP_all_gather, bytes, copies, 1);
	return MIN(whole, parts);
}

static void build_stages(Building *b)
{
	const ClusterShape *shape = b->shape;
	u32 stages = shape->pipe * shape->chunks, at = 1;
	for (u32 v = 0; v < stages; v++) {
		u32 n = cluster_layers(b->layers, stages, v);
		StageStep *s = &b->out->stage[v % shape->pipe];
		if (v < shape->pipe)
			s->first = at;
		s->layers += n;
		if (v == 0)
			add_unit(b, v, 0);
		for (u32 i = 0; i < n; i++)
			add_unit(b, v, at++);
		if (v == stages - 1)
			add_unit(b, v, b->layers + 1);
		if (v == stages - 1 && shape->pipe == 1) {
			s->bytes.parameters -= b->w->tied.parameters;
			s->bytes.gradients -= b->w->tied.gradients;
			s->bytes.optimizer -= b->w->tied.optimizer;
			s->bytes.other -= b->w->tied.other;
		}
		u64 handed = b->w->first->handed[cluster_unit(b->w, b->w->first, b->layers, at - 1)];
		b->handed = MAX(b->handed, handed);
		b->send[v] = shape->pipe > 1 ? hand_on(b, (f64)handed) : 0;
	}
	for (u32 i = 0; i < shape->pipe; i++)
		wait_between(b, i);
}

static void sum_memory(Building *b)
{
	ClusterStep *out = b->out;
	for (u32 i = 0; i < b->shape->pipe; i++) {
		StageStep *s = &out->stage[i];
		s->bytes.other += b->shared[i];
		const u64 *kept = &b->kept[i * b->shape->chunks];
		s->kept = b->shape->pipe > 1 ? pipe_held_bytes(&out->schedule, i, kept) : kept[0];
		s->same = b->same[i];
		s->kept += s->same;
		s->held = b->shape->pipe > 1 ? pipe_held(&out->schedule, i, 0) : 1;
		u64 more = 0, update = b->sums[i] + b->updating[i];
		for (u32 c = 0; c < b->shape->chunks; c++)
			more = MAX(more, MAX(b->most[i * b->shape->chunks + c], kept[c]) - kept[c]);
		u64 values = MAX(s->kept + more + (b->shape->pipe > 1 ? 2 * b->handed : 0), update);
		s->working = values - s->kept;
		s->total = s->bytes.parameters + s->bytes.gradients + s->bytes.optimizer + s->bytes.other + values;
		out->memory = MAX(out->memory, s->total);
	}
}

f64 cluster_flops(const ClusterWork *c, u32 layers)
{
	f64 flops = 0;
	const Work *w = c->first;
	for (u32 i = 0; i < w->npiece; i++) {
		const Piece *p = &w->piece[i];
		if (p->again)
			continue;
		u32 unit = work_unit(w, p->rank), stands = 0; /* units of the model that this one stands for */
		for (u32 at = 0; at <= layers + 1; at++)
			stands += cluster_unit(c, w, layers, at) == unit;
		flops += p->kernel->flops * stands;
	}
	return flops;
}

ClusterWalks cluster_walks(Arena *arena, const Machine *m, const ClusterWork *w)
{
	ClusterWalks out = { 0 };
	const Work *work[] = { w->first, w->more, w->last, w->update };
	Walk *to[] = { &out.first, &out.more, &out.last, &out.update };
	for (u32 i = 0; i < COUNT(work); i++)
		if (work[i])
			*to[i] = walk(arena, m, work[i], w->bucket);
	return out;
}

ClusterStep cluster_step(Arena *arena, const Machine *m, const ClusterWork *w, const ClusterShape *shape)
{
	ClusterWalks walks = cluster_walks(arena, m, w);
	return cluster_shaped(arena, m, w, &walks, shape);
}

ClusterStep cluster_shaped(Arena *arena, const Machine *m, const ClusterWork *w, const ClusterWalks *walks, const ClusterShape *shape)
{
	u32 stages = shape->pipe * shape->chunks;
	ClusterStep out = { .shape = *shape, .stage = NEWN(arena, StageStep, shape->pipe + 1) };
	Building b = { .w = w, .shape = shape, .layers = shape->layers ? shape->layers : w->first->layers, .m = m, .out = &out,
		       .forward = NEWN(arena, f64, stages), .backward = NEWN(arena, f64, stages), .send = NEWN(arena, f64, stages),
		       .kept = NEWN(arena, u64, stages), .most = NEWN(arena, u64, stages), .same = NEWN(arena, u64, shape->pipe),
		       .late = NEWN(arena, LateSums, shape->pipe * MICROS), .shared = NEWN(arena, u64, shape->pipe), .sums = NEWN(arena, u64, shape->pipe),
		       .updating = NEWN(arena, u64, shape->pipe) };
	b.update = &walks->update;
	b.micro[MICRO_BETWEEN] = w->more ? &walks->more : &walks->first;
	b.micro[MICRO_LAST] = w->last ? &walks->last : b.micro[MICRO_BETWEEN];
	b.micro[MICRO_FIRST] = shape->micros > 1 || !w->last ? &walks->first : b.micro[MICRO_LAST];
	build_stages(&b);
	out.schedule = pipe_schedule(arena, shape->schedule, shape->pipe, shape->chunks, shape->micros);
	out.timeline = pipe_timeline(arena, &out.schedule, &(PipeTimes){ b.forward, b.backward, b.send, false });
	out.pipeline = out.timeline.seconds;
	f64 most = 0, busy = 0;
	for (u32 i = 0; i < shape->pipe; i++) {
		StageStep *s = &out.stage[i];
		out.pipeline = MAX(out.pipeline, out.timeline.end[(size_t)(i + 1) * out.schedule.ntask - 1] + s->sums);
		if (shape->pipe > 1 && w->tied.gradients && (i == 0 || i + 1 == shape->pipe)) {
			f64 tied = predict_collective(m, OP_all_reduce, (f64)w->tied.gradients, 2, w->within);
			s->update += tied;
			s->waiting += tied;
			s->messages += tied;
		}
		out.update = MAX(out.update, s->update);
		if (out.timeline.busy[i] > most) {
			most = out.timeline.busy[i];
			busy = most + s->sums;
			out.busiest = i;
		}
	}
	for (u32 v = 0; v + 1 < stages; v++)
		out.sending = MAX(out.sending, b.send[v]);
	out.bubble = out.pipeline > 0 ? 1 - busy / out.pipeline : 0;
	out.seconds = out.pipeline + out.update;
	sum_memory(&b);
	return out;
}
