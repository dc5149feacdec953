/* passes/plan/fit.c: an entry's schedule fitted into a budget of memory: the schedule becomes a problem for remat.c, and its
 * answer a schedule in which steps run again; see planner.h and remat.h.
 *
 * A step may run again if nothing but transient values come of it, and what it reads of the program's buffers is still what
 * it was: steps that write such a buffer go to the end where nothing speaks against it (the counter of micro-steps, which
 * random numbers depend on). The same kernel on the same values gives the same bits. */
#include "passes/plan/planner.h"
#include "passes/plan/predict.h"
#include "passes/plan/remat.h"

#include <string.h>

typedef struct Fit {
	Planner *x;
	const Machine *machine;
	const Schedule *stated;
	RematProblem p;
	RematStep *step;
	VEC(RematMap) map;
	VEC(u32) map_draft;  /* of each map */
	VEC(const u32 *) map_slot;
	f64 step_seconds;
} Fit;

/* ---- the stated order as a problem ---- */

static bool persistent(const Fit *f, u32 buffer)
{
	return f->x->entry->buffer.v[buffer].kind == MEMORY_PERSISTENT;
}

static RematStep make_step(Fit *f, const Draft *d, const u32 *slot)
{
	Arena *tmp = f->x->tmp;
	const Kernel *k = d->kernel;
	u32 *reads = NEWN(tmp, u32, k->slot.n + 1), *writes = NEWN(tmp, u32, k->slot.n + 1), npair = 0;
	RematStep s = { .reads = reads, .writes = writes, .workspace = d->needs.workspace, .again = d->to == NONE,
			.seconds = predict_kernel(f->machine, k).seconds };
	for (u32 i = 0; i < k->slot.n; i++) {
		const PlanBuffer *b = &f->x->entry->buffer.v[slot[i]];
		if (k->slot.v[i].written)
			writes[s.nwrite++] = slot[i];
		else
			reads[s.nread++] = slot[i];
		s.again &= !k->slot.v[i].written || (b->kind == MEMORY_TRANSIENT && !k->slot.v[i].read);
		npair += (u32)__builtin_popcountll(k->slot.v[i].may_alias);
	}
	RematPair *pair = NEWN(tmp, RematPair, npair + 1);
	for (u32 o = 0; o < k->slot.n; o++)
		for (u32 i = 0; i < k->slot.n && i < 64; i++)
			if (k->slot.v[o].may_alias >> i & 1 && !persistent(f, slot[o]) && !persistent(f, slot[i]))
				pair[s.npair++] = (RematPair){ slot[o], slot[i] };
	s.pair = pair;
	return s;
}

static void make_problem(Fit *f)
{
	Planner *x = f->x;
	u32 n = f->stated->launch.n, nbuffer = x->entry->buffer.n;
	u64 *bytes = NEWN(x->tmp, u64, nbuffer + 1);
	bool *input = NEWN(x->tmp, bool, nbuffer + 1), *result = NEWN(x->tmp, bool, nbuffer + 1);
	for (u32 i = 0; i < nbuffer; i++) {
		const PlanBuffer *b = &x->entry->buffer.v[i];
		bytes[i] = b->kind == MEMORY_PERSISTENT ? 0 : b->bytes;
		input[i] = b->kind == MEMORY_INPUT || b->kind == MEMORY_PERSISTENT;
		result[i] = b->kind == MEMORY_RESULT;
	}
	f->step = NEWN(x->tmp, RematStep, n + 1);
	for (u32 i = 0; i < n; i++) {
		const Launch *l = &f->stated->launch.v[i];
		f->step[i] = make_step(f, &x->draft.v[l->draft], l->slot);
		f->step_seconds += f->step[i].seconds;
	}
	/* what several steps write, one after the other, is not made again by one of them */
	u32 *writers = NEWN(x->tmp, u32, nbuffer + 1);
	for (u32 round = 0; round < 2; round++)
		for (u32 i = 0; i < n; i++)
			for (u32 k = 0; k < f->step[i].nwrite; k++) {
				u32 b = f->step[i].writes[k];
				writers[b] += !round;
				f->step[i].again &= !round || writers[b] < 2;
			}
	f->p = (RematProblem){ .step = f->step, .nstep = n, .nbuffer = nbuffer, .bytes = bytes, .input = input, .result = result };
}

/* ---- what is overwritten ---- */

/* Nobody waits for the launch, and it needs nothing that takes memory: it may as well come last. */
static bool may_come_last(const Fit *f, const bool *waited_for, u32 i)
{
	const RematStep *s = &f->step[i];
	bool may = !waited_for[f->stated->launch.v[i].draft];
	for (u32 k = 0; k < s->nread; k++)
		may &= persistent(f, s->reads[k]);
	for (u32 k = 0; k < s->nwrite; k++)
		may &= persistent(f, s->writes[k]);
	return may;
}

static void move_last(Schedule *s, u32 i)
{
	Launch l = s->launch.v[i];
	memmove(s->launch.v + i, s->launch.v + i + 1, (s->launch.n - 1 - i) * sizeof l);
	s->launch.v[s->launch.n - 1] = l;
}

/* Puts launches that overwrite what others read last, if they may be there; what reads the rest does not run again. */
static void settle_overwritten(Fit *f, Schedule *s)
{
	Planner *x = f->x;
	bool *waited_for = NEWN(x->tmp, bool, x->draft.n + 1), *lost = NEWN(x->tmp, bool, f->p.nbuffer + 1);
	for (u32 i = 0; i < x->draft.n; i++)
		for (u32 k = 0; k < x->draft.v[i].before.n; k++)
			waited_for[x->draft.v[i].before.v[k]] = true;
	u32 n = s->launch.n;
	for (u32 i = 0, at = 0; i < n; i++) {
		bool overwrites = false;
		for (u32 k = 0; k < f->step[at].nwrite; k++)
			overwrites |= persistent(f, f->step[at].writes[k]);
		if (!overwrites || !may_come_last(f, waited_for, at)) {
			for (u32 k = 0; k < f->step[at].nwrite; k++)
				lost[f->step[at].writes[k]] |= persistent(f, f->step[at].writes[k]);
			at++;
			continue;
		}
		RematStep step = f->step[at];
		memmove(f->step + at, f->step + at + 1, (n - 1 - at) * sizeof step);
		f->step[n - 1] = step;
		move_last(s, at);
	}
	for (u32 i = 0; i < n; i++)
		for (u32 k = 0; k < f->step[i].nread; k++)
			f->step[i].again &= !lost[f->step[i].reads[k]];
}

/* ---- maps ---- */

enum { MAP_NODES = 48 };

/* Does the value follow place by place, through pointwise nodes and views, from what is stored? */
static bool follows(const Planner *x, Val v, bool itself, u32 *nodes)
{
	const Node *n = val_node(x->g, v);
	NodeClass class = node_class((Op)n->op);
	if (class == NODE_SOURCE || (x->f->stored[v.i] && !itself))
		return true;
	if (++*nodes > MAP_NODES || class == NODE_REDUCTION || class == NODE_SKELETON || n->op == OP_gather || n->op == OP_take_along)
		return false;
	bool all = true;
	for (u32 i = 0; i < n->nin && all; i++)
		all = follows(x, n->in[i], false, nodes);
	return all;
}

/* Of a step with several outputs, those that follow from others get a kernel of their own, to be had without the step. */
static bool add_map(Fit *f, u32 host, Val v)
{
	Planner *x = f->x;
	u32 nodes = 0;
	if (node_class((Op)val_node(x->g, v)->op) != NODE_POINTWISE || !follows(x, v, true, &nodes))
		return true;
	x->f->stored[v.i] = false;
	Draft d = { .to = NONE, .from = NONE };
	d.kernel = lower_group(x->plan->arena, x->f, NONE, v, &d.value);
	x->f->stored[v.i] = true;
	d.kernel->name = intern_printf(&x->g->ir->names, "%s.again", x->entry->buffer.v[x->memory[v.i]].name);
	for (u32 k = 0; k < d.kernel->slot.n; k++) {
		u32 b = x->memory[d.value[k].i];
		if (b == NONE || (!d.kernel->slot.v[k].written && x->maker[d.value[k].i] == NONE && !f->p.input[b]))
			return true; /* what it would read is made nowhere */
	}
	if (!planner_needs(x, &d))
		return false;
	u32 *slot = NEWN(x->plan->arena, u32, d.kernel->slot.n + 1);
	for (u32 k = 0; k < d.kernel->slot.n; k++)
		slot[k] = planner_slot(x, &d, k);
	RematMap m = { make_step(f, &d, slot), host };
	VEC_PUSH(x->tmp, &x->draft, d);
	VEC_PUSH(x->tmp, &f->map, m);
	VEC_PUSH(x->tmp, &f->map_draft, x->draft.n - 1);
	VEC_PUSH(x->tmp, &f->map_slot, slot);
	return true;
}

static bool add_maps(Fit *f)
{
	bool fine = true;
	for (u32 i = 0; i < f->p.nstep && fine; i++) {
		if (f->step[i].nwrite < 2 || !f->step[i].again)
			continue;
		/* x->draft moves as maps are added */
		const Draft d = f->x->draft.v[f->stated->launch.v[i].draft];
		for (u32 k = 0; k < d.kernel->slot.n && fine; k++)
			if (d.kernel->slot.v[k].written)
				fine = add_map(f, i, d.value[k]);
	}
	f->p.map = f->map.v;
	f->p.nmap = f->map.n;
	return fine;
}

/* ---- the answer as a schedule ---- */

static Schedule make_schedule(Fit *f, const RematOutcome *o, u32 *remade_step)
{
	Planner *x = f->x;
	Schedule s = { 0 };
	u32 nbuffer = f->p.nbuffer;
	u32 *second = NEWN(x->tmp, u32, nbuffer + 1);
	memset(second, 0xff, (nbuffer + 1) * sizeof *second);
	memset(remade_step, 0xff, (nbuffer + 1) * sizeof *remade_step);
	for (u32 i = 0; i < o->nrun; i++) {
		const RematRun *r = &o->run[i];
		bool map = r->kind == REMAT_MAP;
		Launch l = f->stated->launch.v[map ? 0 : r->index];
		if (map)
			l = (Launch){ f->map_draft.v[r->index], f->map_slot.v[r->index], true };
		l.again = r->kind != REMAT_STEP;
		const Kernel *k = x->draft.v[l.draft].kernel;
		u32 *slot = COPYN(x->plan->arena, u32, l.slot, k->slot.n + 1);
		for (u32 n = 0; n < k->slot.n; n++) {
			u32 b = slot[n];
			if (k->slot.v[n].written && l.again) {
				PlanBuffer copy = x->entry->buffer.v[b];
				copy.name = intern_printf(&x->g->ir->names, "%s.again", copy.name);
				slot[n] = planner_buffer(x, copy);
			} else if (!k->slot.v[n].written && o->remade[b] < i) {
				slot[n] = second[b];
			}
		}
		for (u32 n = 0; n < k->slot.n; n++)
			if (k->slot.v[n].written && l.again && o->remade[l.slot[n]] == i) {
				second[l.slot[n]] = slot[n];
				remade_step[l.slot[n]] = i;
			}
		l.slot = slot;
		VEC_PUSH(x->tmp, &s.launch, l);
	}
	return s;
}

/* ---- checkpointing by blocks ---- */

static bool same_layer(const char *a, const char *b)
{
	size_t n = scope_layer(a);
	return n && n == scope_layer(b) && !strncmp(a, b, n);
}

/* As by hand: of what a layer makes, that stays which another one reads, and what its last step makes beside it. */
static PlanPoint offer_blocks(const Fit *f, Remat *m)
{
	const RematLife *life = remat_lives(m);
	bool *drop = NEWN(f->x->tmp, bool, f->p.nbuffer + 1), *leaves = NEWN(f->x->tmp, bool, f->p.nbuffer + 1);
	for (u32 s = 0; s <= remat_turn(m) && s < f->p.nstep; s++) {
		const char *reader = f->x->draft.v[f->stated->launch.v[s].draft].kernel->scope;
		for (u32 i = 0; i < f->step[s].nread; i++)
			leaves[f->step[s].reads[i]] |= !same_layer(f->x->entry->buffer.v[f->step[s].reads[i]].scope, reader);
	}
	for (u32 s = 0; s <= remat_turn(m) && s < f->p.nstep; s++) {
		bool last = false;
		for (u32 i = 0; i < f->step[s].nwrite; i++)
			last |= leaves[f->step[s].writes[i]];
		for (u32 i = 0; i < f->step[s].nwrite; i++) {
			u32 b = f->step[s].writes[i];
			drop[b] = !leaves[b] && (!last || life[b].map != NONE) && scope_layer(f->x->entry->buffer.v[b].scope);
		}
	}
	RematAnswer a = remat_offer(m, drop);
	return (PlanPoint){ a.peak, a.peak, a.seconds, a.bound };
}

/* ---- fitting ---- */

static void describe(Fit *f, const Remat *m, const RematAnswer *a, const u32 *remade_step, PlanRemat *out)
{
	Arena *arena = f->x->plan->arena;
	const RematLife *life = remat_lives(m);
	out->fits = a->fits;
	out->seconds = a->seconds;
	out->bound = a->bound;
	out->value.n = 0;
	for (u32 b = 0; b < f->p.nbuffer; b++)
		if (life[b].may && (remade_step[b] != NONE || (life[b].first2 != NONE && !a->drop[b])))
			VEC_PUSH(arena, &out->value, (PlanValue){ b, remade_step[b] });
}

static void draw_curve(Fit *f, Remat *m, u32 points, PlanRemat *out)
{
	for (u32 i = 0; i < points; i++) {
		u64 budget = out->least + (u64)((f64)(out->most - out->least) * i / MAX(points - 1, 1u));
		remat_solve(m, i + 1 == points ? out->most : budget);
	}
	/* what was found last may serve all */
	for (u32 i = 0; i < points; i++) {
		u64 budget = i + 1 == points ? out->most
					     : out->least + (u64)((f64)(out->most - out->least) * i / MAX(points - 1, 1u));
		RematAnswer a = remat_known(m, budget);
		VEC_PUSH(f->x->plan->arena, &out->curve, (PlanPoint){ budget, a.peak, a.seconds, a.bound });
	}
}

static void undo_steps(Planner *x, u32 nbuffer, u32 nkernel)
{
	x->entry->buffer.n = nbuffer;
	x->entry->step.n = 0;
	x->plan->kernel.n = nkernel;
}

/* The schedule, with work beside messages; where memory for that is over the budget, each message is waited for at once.
 * `remade`, of so many buffers: launches, which become steps; or NULL. */
static void plan_scheduled(Planner *x, const Schedule *s, u64 budget, u32 *remade, u32 nremade)
{
	u32 nbuffer = x->entry->buffer.n, nkernel = x->plan->kernel.n;
	if (overlap_any(x)) {
		u32 *place = NEWN(x->tmp, u32, s->launch.n + 1);
		Schedule beside = overlap_schedule(x, s, place);
		plan_steps(x, &beside);
		overlap_waits(x, true);
		plan_entry_memory(x->tmp, x->plan, x->entry);
		if (!budget || x->entry->transient_bytes <= budget) {
			for (u32 i = 0; i < nremade; i++)
				remade[i] = remade[i] == NONE ? NONE : place[remade[i]];
			return;
		}
		undo_steps(x, nbuffer, nkernel);
	}
	plan_steps(x, s);
	overlap_waits(x, false);
	plan_entry_memory(x->tmp, x->plan, x->entry);
}

void plan_fit(Planner *x, Schedule *s, u64 budget, const PlanLimits *limits)
{
	enum { TRIES = 6 };
	Plan *p = x->plan;
	EntryPlan *e = x->entry;
	u32 nbuffer = e->buffer.n, nkernel = p->kernel.n;
	if (!limits->curve) {
		plan_scheduled(x, s, budget, NULL, 0);
		if (!budget || e->transient_bytes <= budget)
			return;
		undo_steps(x, nbuffer, nkernel);
	}
	Fit f = { .x = x, .stated = s, .machine = limits->machine ? limits->machine : planner_machine(p) };
	make_problem(&f);
	settle_overwritten(&f, s);
	add_maps(&f);
	if (limits->look)
		limits->look(limits->look_cx, e->name, &f.p);
	Remat *m = remat_new(x->tmp, &f.p);
	PlanRemat *r = e->remat = NEW(p->arena, PlanRemat);
	*r = (PlanRemat){ .budget = budget, .step_seconds = f.step_seconds, .fits = true };
	r->blocks = offer_blocks(&f, m);
	if (limits->curve) {
		remat_extremes(m, &r->most, &r->least, &r->none_below);
		draw_curve(&f, m, limits->curve, r);
	}
	u32 *remade = NEWN(x->tmp, u32, nbuffer + 1);
	/* gaps that layout leaves are taken off the budget */
	u64 target = budget ? budget : r->most;
	for (u32 i = 0; i < TRIES; i++) {
		RematAnswer a = remat_solve(m, target);
		if (!a.fits && !limits->curve) { /* what is the least, then? */
			remat_extremes(m, &r->most, &r->least, &r->none_below);
			a = remat_known(m, target);
		}
		Schedule fitted = make_schedule(&f, remat_outcome(m, a.drop), remade);
		plan_scheduled(x, &fitted, budget, remade, nbuffer);
		describe(&f, m, &a, remade, r);
		r->fits &= !budget || e->transient_bytes <= budget;
		if (!a.fits || r->fits || i + 1 == TRIES)
			return;
		target = MIN(target, a.peak);
		target -= MIN(target - 1, e->transient_bytes - budget);
		undo_steps(x, nbuffer, nkernel);
	}
}
