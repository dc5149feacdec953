/* passes/plan/overlap.c: which steps run beside messages; see planner.h and ir/plan.h (Step.until).
 *
 * A collective begins at its step and is waited for at another, behind which all that lies between hides its way. How far apart these
 * are is decided here, by list scheduling with latencies (Gibbons and Muchnick 1986): the stated order is run through on a clock, on
 * which kernels are one behind the other and messages another line beside them, each with its predicted time.
 *   * A message begins as soon as its operands are there: gradients are summed while the backward half goes on (Li et al. 2020).
 *   * One that makes more than it takes, in memory that is there for a while, begins when twice its time, and that of those
 *     before it, is left until it is needed: parameters are gathered while those before are at work (ZeRO-3's prefetch, FSDP: Zhao et al. 2023), and no more of them.
 *     What it takes is computed by then, such as the device's part of a parameter in 16 bits.
 *   * A kernel whose message is still on its way lets others pass, those that the stated order has next: at most so many as
 *     take twice what is left to wait. So products for weights' gradients run while those of what came in are summed (tensor
 *     parallelism: Shoeybi et al. 2019). What is only made to be sent, of what is there anyway, such as a gradient that is padded, takes memory and
 *     gains nothing while another message waits its turn: it does not pass then.
 * Bits do not depend on it: every value is computed from the same ones by the same kernel. Messages go one behind the other, in the
 * order in which they begin, which all devices of a role share, for it follows from the plan alone.
 *
 * What stages of a pipeline say to one another keeps its place, and so does all else in such an entry: when a message comes is up to
 * another stage's schedule. It is waited for late all the same. */
#include "passes/plan/planner.h"
#include "passes/plan/predict.h"

#include <string.h>

/* How many steps behind one that waits are looked at. */
enum { LOOK = 512 };

static const Machine usual_cpu = { .name = "a CPU", .device = "cpu", .peak = { [DT_f32] = 1e12 }, .bandwidth = 1e11, .launch = 1e-6,
				   .arithmetic = 0.125, .network = { .bandwidth = 5e9, .latency = 2e-5 } };
static const Machine usual_gpu = { .name = "a GPU", .device = "cuda", .peak = { [DT_f32] = 2e14, [DT_f8e4m3] = 4e14 }, .bandwidth = 2e12, .launch = 3e-6,
				   .arithmetic = 0.1, .network = { .bandwidth = 1e11, .latency = 1e-5 } };

const Machine *planner_machine(const Plan *p)
{
	return p->target && !strcmp(p->target->name, usual_gpu.device) ? &usual_gpu : &usual_cpu;
}

static const KCollective *said_by(const Planner *x, const Launch *l)
{
	return x->draft.v[l->draft].kernel->collective;
}

static bool between_stages(Op op)
{
	return op == OP_send || op == OP_receive || op == OP_reduce_among;
}

bool overlap_any(const Planner *x)
{
	bool any = false;
	for (u32 i = 0; i < x->draft.n; i++)
		any |= x->draft.v[i].kernel->collective != NULL;
	return any;
}

/* ---- who waits for whom ---- */

typedef struct Overlap {
	Planner *x;
	const Schedule *s;
	u32 n;
	f64 *cost;       /* seconds of each launch */
	f64 *stated;     /* when it begins if kernels alone take time */
	Indices *after;  /* launches that wait for it */
	Indices *before; /* of a message: launches that it waits for */
	u32 *waits;      /* how many that have not begun it waits for */
	u32 *needed;     /* of a message: the first kernel that waits for it, or NONE */
	bool *patient;   /* a message that does not begin long before that */
	bool *copies;    /* a kernel that is for messages alone, and reads nothing that it could free */
	bool *stores;    /* a kernel that brings what came in messages to where it stays: it frees it, and nobody is kept waiting */
	/* on the clock */
	bool *begun;
	f64 *there;      /* of a launch that may begin: when what it waits for has come */
	f64 now, line;   /* when kernels, and messages, are through with what has begun */
	f64 turn;        /* when the last message that has begun is the one on its way */
	Schedule out;
	u32 *place;
} Overlap;

static void edge(Overlap *o, u32 from, u32 to)
{
	if (from == to)
		return;
	VEC_PUSH(o->x->tmp, &o->after[from], to);
	if (said_by(o->x, &o->s->launch.v[to]))
		VEC_PUSH(o->x->tmp, &o->before[to], from);
	o->waits[to]++;
}

/* `writer`: of each buffer, so far. */
static bool is_store(const Overlap *o, u32 i, const u32 *writer)
{
	const Launch *l = &o->s->launch.v[i];
	const Kernel *k = o->x->draft.v[l->draft].kernel;
	bool stores = !k->collective;
	for (u32 n = 0; n < k->slot.n && stores; n++) {
		u32 b = l->slot[n];
		stores = k->slot.v[n].written ? o->x->entry->buffer.v[b].kind == MEMORY_PERSISTENT :
						writer[b] != NONE && said_by(o->x, &o->s->launch.v[writer[b]]);
	}
	return stores;
}

/* By what launches do to buffers: readers come behind the writer before them, a writer behind all who touched what was. */
static void find_edges(Overlap *o)
{
	Planner *x = o->x;
	u32 nbuffer = x->entry->buffer.n;
	u32 *writer = NEWN(x->tmp, u32, nbuffer + 1);
	Indices *reader = NEWN(x->tmp, Indices, nbuffer + 1);
	memset(writer, 0xff, (nbuffer + 1) * sizeof *writer);
	for (u32 i = 0; i < o->n; i++) {
		const Launch *l = &o->s->launch.v[i];
		const Kernel *k = x->draft.v[l->draft].kernel;
		o->stores[i] = is_store(o, i, writer);
		for (u32 n = 0; n < k->slot.n; n++) {
			u32 b = l->slot[n];
			if (writer[b] != NONE)
				edge(o, writer[b], i);
			for (u32 r = 0; r < reader[b].n && k->slot.v[n].written; r++)
				edge(o, reader[b].v[r], i);
		}
		for (u32 n = 0; n < k->slot.n; n++) {
			u32 b = l->slot[n];
			if (k->slot.v[n].written) {
				writer[b] = i;
				reader[b].n = 0;
			} else {
				VEC_PUSH(x->tmp, &reader[b], i);
			}
		}
	}
}

/* Bytes of values that are there for a while, which a message makes, less those that it takes. */
static i64 grows(const Overlap *o, u32 i)
{
	const Launch *l = &o->s->launch.v[i];
	const Kernel *k = o->x->draft.v[l->draft].kernel;
	i64 bytes = 0;
	for (u32 n = 0; n < k->slot.n; n++) {
		const PlanBuffer *b = &o->x->entry->buffer.v[l->slot[n]];
		if (b->kind == MEMORY_TRANSIENT)
			bytes += k->slot.v[n].written ? (i64)b->bytes : -(i64)b->bytes;
	}
	return bytes;
}

static bool is_copy(const Overlap *o, u32 i)
{
	const Launch *l = &o->s->launch.v[i];
	const Kernel *k = o->x->draft.v[l->draft].kernel;
	bool copy = !k->collective && o->after[i].n;
	for (u32 n = 0; n < k->slot.n && copy; n++)
		copy = k->slot.v[n].written || o->x->entry->buffer.v[l->slot[n]].kind == MEMORY_PERSISTENT;
	for (u32 n = 0; n < o->after[i].n && copy; n++)
		copy = said_by(o->x, &o->s->launch.v[o->after[i].v[n]]) != NULL;
	return copy;
}

static void find_needs(Overlap *o)
{
	for (u32 i = o->n; i-- > 0;) {
		o->needed[i] = NONE;
		for (u32 k = 0; k < o->after[i].n; k++) {
			u32 to = o->after[i].v[k];
			o->needed[i] = MIN(o->needed[i], said_by(o->x, &o->s->launch.v[to]) ? o->needed[to] : to);
		}
		o->patient[i] = said_by(o->x, &o->s->launch.v[i]) && grows(o, i) > 0;
		o->copies[i] = is_copy(o, i);
	}
}

static void find_costs(Overlap *o)
{
	const Machine *m = planner_machine(o->x->plan);
	f64 at = 0;
	for (u32 i = 0; i < o->n; i++) {
		const Kernel *k = o->x->draft.v[o->s->launch.v[i].draft].kernel;
		o->stated[i] = at;
		o->cost[i] = k->collective ? predict_message(m, &o->x->plan->program->mesh, k->collective, 1) : predict_kernel(m, k).seconds;
		at += k->collective ? 0 : o->cost[i];
	}
}

/* ---- the clock ---- */

static void begin(Overlap *o, u32 i)
{
	bool message = said_by(o->x, &o->s->launch.v[i]) != NULL;
	f64 *line = message ? &o->line : &o->now, from = MAX(MAX(*line, o->now), o->there[i]);
	*line = from + o->cost[i];
	o->turn = message ? from : o->turn;
	o->begun[i] = true;
	o->place[i] = o->out.launch.n;
	VEC_PUSH(o->x->tmp, &o->out.launch, o->s->launch.v[i]);
	for (u32 k = 0; k < o->after[i].n; k++) {
		u32 to = o->after[i].v[k];
		o->waits[to]--;
		o->there[to] = MAX(o->there[to], *line);
	}
}

/* Kernels that a patient message waits for, and that wait for nothing themselves. */
static void begin_operands(Overlap *o, u32 message)
{
	for (u32 k = 0; k < o->before[message].n; k++) {
		u32 i = o->before[message].v[k];
		if (!o->begun[i] && !o->waits[i] && o->there[i] <= o->now && !said_by(o->x, &o->s->launch.v[i]))
			begin(o, i);
	}
}

/* Messages whose operands are there, in the stated order; `head`: the first kernel that is left. */
static void begin_messages(Overlap *o, Indices *message, u32 head)
{
	u32 left = 0;
	for (u32 k = 0; k < message->n; k++) {
		u32 i = message->v[k], needed = o->needed[i];
		f64 from = head == NONE ? o->now : MAX(o->now, o->there[head]), ahead = MAX(o->line - from, 0) + 2 * o->cost[i];
		/* the next chance comes when the first kernel is done; what is only stored gains nothing behind others, and takes memory */
		bool due = !o->patient[i] || needed == NONE || head == NONE || needed == head ||
			   (o->stated[needed] - o->stated[head] - o->cost[head] < ahead &&
			    (!o->stores[needed] || o->line <= from + 2 * o->cost[head]));
		if (due && o->patient[i])
			begin_operands(o, i);
		if (o->waits[i] == 0 && due)
			begin(o, i);
		else
			message->v[left++] = i;
	}
	message->n = left;
}

/* A kernel that need not wait, of those behind `head` up to `until` in the stated order; or `head`. */
static u32 choose(const Overlap *o, u32 head, f64 until)
{
	if (o->there[head] <= o->now)
		return head;
	for (u32 i = head + 1; i < o->n && i < head + LOOK && o->stated[i] <= until; i++)
		if (!o->begun[i] && !o->waits[i] && o->there[i] <= o->now && !said_by(o->x, &o->s->launch.v[i]) &&
		    !(o->copies[i] && o->turn > o->now))
			return i;
	return head;
}

Schedule overlap_schedule(Planner *x, const Schedule *s, u32 *place)
{
	u32 n = s->launch.n;
	Overlap o = { .x = x, .s = s, .n = n, .place = place, .cost = NEWN(x->tmp, f64, n + 1), .stated = NEWN(x->tmp, f64, n + 1),
		      .after = NEWN(x->tmp, Indices, n + 1), .before = NEWN(x->tmp, Indices, n + 1), .waits = NEWN(x->tmp, u32, n + 1),
		      .needed = NEWN(x->tmp, u32, n + 1), .copies = NEWN(x->tmp, bool, n + 1), .stores = NEWN(x->tmp, bool, n + 1),
		      .patient = NEWN(x->tmp, bool, n + 1), .begun = NEWN(x->tmp, bool, n + 1), .there = NEWN(x->tmp, f64, n + 1) };
	Indices message = { 0 };
	bool stages = false;
	for (u32 i = 0; i < n; i++) {
		const KCollective *c = said_by(x, &s->launch.v[i]);
		place[i] = i;
		stages |= c && between_stages(c->op);
		if (c)
			VEC_PUSH(x->tmp, &message, i);
	}
	if (stages)
		return *s;
	find_edges(&o);
	find_needs(&o);
	find_costs(&o);
	u32 head = 0, waiting = NONE;
	f64 until = 0;
	for (;;) {
		while (head < n && (o.begun[head] || said_by(x, &s->launch.v[head])))
			head++;
		begin_messages(&o, &message, head < n ? head : NONE);
		if (head == n)
			break;
		if (o.begun[head]) /* for a message */
			continue;
		assert(!o.waits[head] && "the stated order is one");
		if (waiting != head) {
			waiting = head;
			until = o.stated[head] + 2 * MAX(o.there[head] - o.now, 0);
		}
		begin(&o, choose(&o, head, until));
	}
	assert(o.out.launch.n == n);
	return o.out;
}

/* ---- waiting ---- */

/* Does step `b`, no collective, need what collective `a` is at work on? */
static bool needs(const Planner *x, const Step *a, const Step *b)
{
	const Kernel *said = x->plan->kernel.v[a->kernel], *k = x->plan->kernel.v[b->kernel];
	for (u32 n = 0; n < said->slot.n; n++)
		for (u32 i = 0; i < k->slot.n; i++)
			if (a->slot[n] == b->slot[i] && (said->slot.v[n].written || k->slot.v[i].written))
				return true;
	return false;
}

void overlap_waits(Planner *x, bool beside)
{
	EntryPlan *e = x->entry;
	u32 later = e->step.n;
	for (u32 i = e->step.n; i-- > 0;) {
		Step *s = &e->step.v[i];
		const Kernel *k = x->plan->kernel.v[s->kernel];
		if (!k->collective)
			continue;
		s->until = i + 1;
		while (beside && s->until < later &&
		       (x->plan->kernel.v[e->step.v[s->until].kernel]->collective || !needs(x, s, &e->step.v[s->until])))
			s->until++;
		later = s->until; /* they end in the order in which they begin */
		for (u32 n = 0; n < k->slot.n; n++) {
			PlanBuffer *b = &e->buffer.v[s->slot[n]];
			b->last = MAX(b->last, s->until - 1);
		}
	}
}
