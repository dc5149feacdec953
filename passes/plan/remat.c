/* passes/plan/remat.c: values kept and values computed again; see remat.h.
 *
 * remat_outcome() carries a choice out on paper, run by run, and counts: everything else is a search for a good choice. The
 * search begins with sets from three sources: all kept; the minimum cuts by which remat_bound.c finds its bound, which are
 * the best but for what only shows when steps run (values that computing again holds for a while); and sets that keep
 * what is alive at every k-th narrow place of the first half, as checkpointing by blocks does (Chen et al. 2016). Two sets
 * are spliced: one for what is made before some step, the other for what is made behind it. That fills a budget where
 * many equal layers make a set change all at once. Then single values are kept or let go, and one for another, as long as
 * that helps; where values are few, also by chance. */
#include "passes/plan/remat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How much work a search may do for one budget, but for what is by chance: outcomes times runs. */
enum { WORK = 3000000 };
/* The same for a turn of annealing, which looks at each value so many times, or not at all where it cannot so often. */
enum { ANNEALING = 1000000, LOOKS = 256, LEAST_LOOKS = 8 };
/* Not where an answer is as near to its bound as this. */
#define NEAR 1.003

typedef struct Found {
	bool *drop;
	u64 peak;
	f64 seconds;
} Found;

/* What a run does to buffers that take memory. */
typedef struct Uses {
	const u32 *reads, *writes; /* of what is read, first the `nmay` values that may be let go */
	u32 nread, nmay, nwrite;
} Uses;

struct Remat {
	Arena *arena;
	const RematProblem *p;
	u32 turn;
	RematLife *life;
	RematBound *bound;
	/* what outcomes have in common: uses of steps and maps; buffers that take memory, with their sizes; values that may be let
	 * go and are read behind the turn; the runs up to the turn are its steps, and uses there are always these */
	Uses *step, *map;
	u32 *sized, nsized, *behind, nbehind;
	i64 *size;
	u32 *first_to_turn, *last_to_turn;
	/* of an outcome */
	RematOutcome out;
	RematRun *run;
	u32 nrun;
	bool *drop, *again, *wanted, *have;
	u32 *stack, *remade, *wants, nwants, *made_again, nmade_again;
	u32 *first[2], *last[2]; /* [second version][buffer]: runs; first NONE: it never is */
	u32 *taken, takes;       /* [2 * buffer + second version]: the last take-over that used it */
	i64 *change;
	/* what was found so far; none is worse than another in both peak and seconds */
	VEC(Found) found;
	bool *trial;
	i64 work;
};

static u64 rounded(u64 bytes)
{
	return ALIGN_UP(bytes, MEMORY_ALIGN);
}

/* ---- lives ---- */

static void touch(RematLife *l, u32 s)
{
	l->first = l->first == NONE ? s : l->first;
	l->last = s;
}

static void find_ends(Remat *r)
{
	const RematProblem *p = r->p;
	for (u32 i = 0; i < p->nbuffer; i++)
		r->life[i] = (RematLife){ .made = NONE, .last1 = NONE, .first2 = NONE, .last2 = NONE, .first = p->input[i] ? 0 : NONE,
					  .last = 0, .map = NONE };
	for (u32 s = 0; s < p->nstep; s++) {
		for (u32 i = 0; i < p->step[s].nwrite; i++) {
			RematLife *l = &r->life[p->step[s].writes[i]];
			l->made = l->made == NONE ? s : l->made;
			touch(l, s);
		}
		for (u32 i = 0; i < p->step[s].nread; i++)
			touch(&r->life[p->step[s].reads[i]], s);
	}
	for (u32 i = 0; i < p->nbuffer; i++)
		if (p->result[i] && p->nstep)
			r->life[i].last = p->nstep - 1;
	for (u32 m = 0; m < p->nmap; m++)
		r->life[p->map[m].step.writes[0]].map = m;
}

/* Where values wait longest: each interval between two uses of a value that can be computed again counts by its bytes
 * times its length at each step in it. Of a forward and a backward half, that is where they meet. */
static void find_turn(Remat *r)
{
	const RematProblem *p = r->p;
	f64 *change = NEWN(r->arena, f64, p->nstep + 2), now = 0, most = 0;
	u32 *before = NEWN(r->arena, u32, p->nbuffer + 1);
	memset(before, 0xff, (p->nbuffer + 1) * sizeof *before);
	for (u32 s = 0; s < p->nstep; s++) {
		for (u32 i = 0; i < p->step[s].nread; i++) {
			u32 b = p->step[s].reads[i];
			const RematLife *l = &r->life[b];
			if (l->made == NONE || !p->bytes[b] || !(p->step[l->made].again || l->map != NONE))
				continue;
			u32 from = before[b] == NONE ? l->made : before[b];
			f64 weight = (f64)p->bytes[b] * (s - from);
			change[from] += weight;
			change[s] -= weight;
			before[b] = s;
		}
	}
	for (u32 s = 0; s < p->nstep; s++) {
		now += change[s];
		if (now <= most * (1 + 1e-9))
			continue;
		most = now;
		r->turn = s;
	}
}

static void split_lives(Remat *r)
{
	const RematProblem *p = r->p;
	for (u32 s = 0; s < p->nstep; s++)
		for (u32 i = 0; i < p->step[s].nread; i++) {
			RematLife *l = &r->life[p->step[s].reads[i]];
			if (s <= r->turn) {
				l->last1 = s;
				continue;
			}
			l->first2 = l->first2 == NONE ? s : l->first2;
			l->last2 = s;
		}
	for (u32 b = 0; b < p->nbuffer; b++) {
		RematLife *l = &r->life[b];
		bool first = l->made != NONE && l->made <= r->turn;
		if (first && l->last1 == NONE)
			l->last1 = l->made;
		if (l->map != NONE && p->step[l->made].again == false && p->map[l->map].host != l->made)
			NEVER("a map of a value whose host made another");
		l->may = first && p->bytes[b] && !p->result[b] && (p->step[l->made].again || l->map != NONE);
	}
}

u32 remat_turn(const Remat *r)
{
	return r->turn;
}

bool remat_may_drop(const Remat *r, u32 buffer)
{
	return r->life[buffer].may;
}

const RematLife *remat_lives(const Remat *r)
{
	return r->life;
}

const RematProblem *remat_problem(const Remat *r)
{
	return r->p;
}

/* ---- what outcomes have in common ---- */

static Uses uses_of(const Remat *r, const RematStep *s)
{
	const RematProblem *p = r->p;
	u32 *reads = NEWN(r->arena, u32, s->nread + 1), *writes = NEWN(r->arena, u32, s->nwrite + 1);
	Uses u = { .reads = reads, .writes = writes };
	for (u32 i = 0; i < s->nread; i++)
		if (r->life[s->reads[i]].may)
			reads[u.nmay++] = s->reads[i];
	u.nread = u.nmay;
	for (u32 i = 0; i < s->nread; i++)
		if (p->bytes[s->reads[i]] && !r->life[s->reads[i]].may)
			reads[u.nread++] = s->reads[i];
	for (u32 i = 0; i < s->nwrite; i++)
		if (p->bytes[s->writes[i]])
			writes[u.nwrite++] = s->writes[i];
	return u;
}

static void emit(Remat *r, RematKind kind, u32 index);

static void find_common(Remat *r)
{
	const RematProblem *p = r->p;
	u32 n = p->nbuffer + 1;
	r->step = NEWN(r->arena, Uses, p->nstep + 1);
	r->map = NEWN(r->arena, Uses, p->nmap + 1);
	r->sized = NEWN(r->arena, u32, n);
	r->behind = NEWN(r->arena, u32, n);
	r->size = NEWN(r->arena, i64, n);
	for (u32 s = 0; s < p->nstep; s++)
		r->step[s] = uses_of(r, &p->step[s]);
	for (u32 m = 0; m < p->nmap; m++)
		r->map[m] = uses_of(r, &p->map[m].step);
	for (u32 b = 0; b < p->nbuffer; b++) {
		r->size[b] = (i64)rounded(p->bytes[b]);
		if (p->bytes[b])
			r->sized[r->nsized++] = b;
		if (r->life[b].may && r->life[b].first2 != NONE)
			r->behind[r->nbehind++] = b;
	}
	for (u32 s = 0; s <= r->turn && s < p->nstep; s++)
		emit(r, REMAT_STEP, s);
	r->first_to_turn = COPYN(r->arena, u32, r->first[0], n);
	r->last_to_turn = COPYN(r->arena, u32, r->last[0], n);
}

/* ---- what follows from a choice ---- */

static bool dropped(const Remat *r, u32 b)
{
	return r->drop[b] && r->life[b].may;
}

static void want(Remat *r, u32 b, u32 *n)
{
	if (!r->drop[b] || r->wanted[b])
		return;
	r->wanted[b] = true;
	r->stack[(*n)++] = b;
	r->wants[r->nwants++] = b;
}

/* Everything that must be computed again, in whatever order, and so which steps run once more. */
static void close_over(Remat *r)
{
	u32 n = 0;
	for (u32 i = 0; i < r->nbehind; i++)
		want(r, r->behind[i], &n);
	while (n) {
		const RematLife *l = &r->life[r->stack[--n]];
		const Uses *u = l->map != NONE ? &r->map[l->map] : &r->step[l->made];
		if (l->map == NONE)
			r->again[l->made] = true;
		for (u32 i = 0; i < u->nmay; i++)
			want(r, u->reads[i], &n);
	}
}

static void emit(Remat *r, RematKind kind, u32 index)
{
	const Uses *u = kind == REMAT_MAP ? &r->map[index] : &r->step[index];
	u32 at = r->nrun++;
	r->run[at] = (RematRun){ kind, index };
	for (u32 i = 0; i < u->nread; i++)
		r->last[r->have[u->reads[i]]][u->reads[i]] = at;
	bool second = kind != REMAT_STEP;
	for (u32 i = 0; i < u->nwrite; i++) {
		u32 b = u->writes[i];
		if (r->first[second][b] == NONE) {
			r->first[second][b] = at;
			if (second)
				r->made_again[r->nmade_again++] = b;
		}
		r->last[second][b] = at;
	}
	if (!second)
		return;
	r->out.seconds += (kind == REMAT_MAP ? &r->p->map[index].step : &r->p->step[index])->seconds;
	for (u32 i = 0; i < u->nwrite; i++)
		if (dropped(r, u->writes[i])) {
			r->have[u->writes[i]] = true;
			r->remade[u->writes[i]] = at;
		}
}

/* Has the value, one that may be let go, computed again, if that is due. As deep as the longest chain of such values. */
static void need(Remat *r, u32 b)
{
	if (!r->drop[b] || r->have[b])
		return;
	const RematLife *l = &r->life[b];
	bool map = l->map != NONE && !r->again[l->made];
	const Uses *u = map ? &r->map[l->map] : &r->step[l->made];
	for (u32 i = 0; i < u->nmay; i++)
		need(r, u->reads[i]);
	emit(r, map ? REMAT_MAP : REMAT_AGAIN, map ? l->map : l->made);
}

static const RematStep *step_of(const RematProblem *p, const RematRun *run)
{
	return run->kind == REMAT_MAP ? &p->map[run->index].step : &p->step[run->index];
}

/* The bytes that outputs of a run save by taking over inputs that end there: as memplan.c's take_over. */
static u64 taken_over(Remat *r, u32 at)
{
	const RematProblem *p = r->p;
	const RematStep *s = step_of(p, &r->run[at]);
	bool second = r->run[at].kind != REMAT_STEP;
	u64 bytes = 0;
	r->takes++;
	for (u32 i = 0; i < s->npair; i++) {
		u32 out = s->pair[i].out, in = s->pair[i].in;
		bool again = r->remade[in] < at;
		bool before = r->first[again][in] < at || (p->input[in] && !again);
		if (!p->bytes[out] || p->bytes[out] != p->bytes[in] || r->first[second][out] != at || p->result[in] || !before ||
		    r->last[again][in] != at || r->taken[2 * in + again] == r->takes)
			continue;
		r->taken[2 * in + again] = r->takes;
		bytes += rounded(p->bytes[out]);
		while (i + 1 < s->npair && s->pair[i + 1].out == out)
			i++;
	}
	return bytes;
}

static void count_memory(Remat *r)
{
	const RematProblem *p = r->p;
	memset(r->change, 0, (r->nrun + 2) * sizeof *r->change);
	for (u32 i = 0; i < r->nsized; i++) {
		u32 b = r->sized[i];
		if (p->input[b])
			r->first[0][b] = 0;
		if (p->result[b])
			r->last[0][b] = r->nrun - 1;
		if (r->first[0][b] == NONE)
			continue;
		r->change[r->first[0][b]] += r->size[b];
		r->change[r->last[0][b] + 1] -= r->size[b];
	}
	for (u32 i = 0; i < r->nmade_again; i++) {
		u32 b = r->made_again[i];
		r->change[r->first[1][b]] += r->size[b];
		r->change[r->last[1][b] + 1] -= r->size[b];
	}
	i64 now = 0;
	for (u32 i = 0; i < r->nrun; i++) {
		now += r->change[i];
		u64 here = (u64)now + rounded(step_of(p, &r->run[i])->workspace);
		if (here <= r->out.peak)
			continue;
		here -= taken_over(r, i);
		if (here <= r->out.peak)
			continue;
		r->out.peak = here;
		r->out.peak_run = i;
	}
}

/* As it is up to the turn; only what the last outcome touched is set back. */
static void begin_outcome(Remat *r)
{
	const RematProblem *p = r->p;
	for (u32 i = 0; i < r->nwants; i++)
		r->wanted[r->wants[i]] = false;
	for (u32 i = 0; i < r->nmade_again; i++) {
		u32 b = r->made_again[i];
		r->have[b] = false;
		r->remade[b] = r->first[1][b] = NONE;
		r->last[1][b] = 0;
	}
	memset(r->again, 0, (p->nstep + 1) * sizeof *r->again);
	memcpy(r->first[0], r->first_to_turn, p->nbuffer * sizeof **r->first);
	memcpy(r->last[0], r->last_to_turn, p->nbuffer * sizeof **r->last);
	r->nwants = r->nmade_again = 0;
	r->nrun = MIN(r->turn + 1, p->nstep);
	r->out = (RematOutcome){ .run = r->run, .drop = r->drop, .remade = r->remade };
}

const RematOutcome *remat_outcome(Remat *r, const bool *drop)
{
	const RematProblem *p = r->p;
	memmove(r->drop, drop, (p->nbuffer + 1) * sizeof *r->drop);
	begin_outcome(r);
	close_over(r);
	for (u32 s = r->turn + 1; s < p->nstep; s++) {
		const Uses *u = &r->step[s];
		for (u32 i = 0; i < u->nmay; i++)
			need(r, u->reads[i]);
		emit(r, REMAT_STEP, s);
	}
	r->out.nrun = r->nrun;
	count_memory(r);
	r->work -= r->nrun;
	return &r->out;
}

/* ---- what was found ---- */

static void keep_found(Remat *r, const bool *drop, u64 peak, f64 seconds)
{
	for (u32 i = 0; i < r->found.n; i++)
		if (r->found.v[i].peak <= peak && r->found.v[i].seconds <= seconds)
			return;
	u32 n = 0;
	for (u32 i = 0; i < r->found.n; i++)
		if (r->found.v[i].peak < peak || r->found.v[i].seconds < seconds)
			r->found.v[n++] = r->found.v[i];
	r->found.n = n;
	VEC_PUSH(r->arena, &r->found, (Found){ COPYN(r->arena, bool, drop, r->p->nbuffer + 1), peak, seconds });
}

static const RematOutcome *look_at(Remat *r, const bool *drop)
{
	const RematOutcome *o = remat_outcome(r, drop);
	keep_found(r, r->drop, o->peak, o->seconds);
	return o;
}

static void on_found(void *cx, const bool *drop)
{
	look_at(cx, drop);
}

/* The cheapest that fits, or NONE. */
static u32 best_within(const Remat *r, u64 budget)
{
	u32 best = NONE;
	for (u32 i = 0; i < r->found.n; i++)
		if (r->found.v[i].peak <= budget && (best == NONE || r->found.v[i].seconds < r->found.v[best].seconds))
			best = i;
	return best;
}

static u32 least_peak(const Remat *r)
{
	u32 best = 0;
	for (u32 i = 1; i < r->found.n; i++)
		if (r->found.v[i].peak < r->found.v[best].peak)
			best = i;
	return best;
}

/* ---- checkpoints ---- */

static int ascending(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;
	return x < y ? -1 : x > y;
}

/* Sets that keep what is alive at every k-th narrow place of the first half. */
static void try_checkpoints(Remat *r)
{
	const RematProblem *p = r->p;
	u32 n = r->turn + 1, nplace = 0;
	u64 *width = NEWN(r->arena, u64, n + 2), *sorted;
	i64 *change = NEWN(r->arena, i64, n + 2), now = 0;
	u32 *place = NEWN(r->arena, u32, n + 1);
	for (u32 b = 0; b < p->nbuffer; b++) {
		const RematLife *l = &r->life[b];
		if (l->may && l->last1 > l->made) {
			change[l->made] += (i64)rounded(p->bytes[b]);
			change[l->last1] -= (i64)rounded(p->bytes[b]);
		}
	}
	for (u32 s = 0; s < n; s++)
		width[s] = (u64)(now += change[s]);
	sorted = COPYN(r->arena, u64, width, n);
	qsort(sorted, n, sizeof *sorted, ascending);
	u64 narrow = sorted[n / 8] + sorted[n / 8] / 10;
	for (u32 s = 0; s + 1 < n; s++)
		if (width[s] <= narrow && (!nplace || place[nplace - 1] + 1 < s))
			place[nplace++] = s;
	for (u32 every = 1; every <= nplace && every <= 64; every += 1 + every / 4) {
		memset(r->trial, 1, (p->nbuffer + 1) * sizeof *r->trial);
		for (u32 b = 0; b < p->nbuffer; b++) {
			const RematLife *l = &r->life[b];
			for (u32 k = every - 1; l->may && k < nplace; k += every)
				if (l->made <= place[k] && l->last1 > place[k])
					r->trial[b] = false;
		}
		look_at(r, r->trial);
	}
}

/* ---- splices ---- */

/* `early` for what is made before the step, `late` for the rest. */
static const RematOutcome *splice(Remat *r, const bool *early, const bool *late, u32 step)
{
	for (u32 b = 0; b < r->p->nbuffer; b++)
		r->trial[b] = (r->life[b].made != NONE && r->life[b].made < step ? early : late)[b];
	return look_at(r, r->trial);
}

/* `low` fits and `high` does not, but is cheaper: looks for the place from which on the cheaper may be taken. */
static void try_splices(Remat *r, const bool *low, const bool *high, u64 budget, bool low_first)
{
	enum { PARTS = 12 };
	u32 n = r->turn + 1, fits = low_first ? n : 0, fails = low_first ? 0 : n;
	for (u32 k = 1; k < PARTS && r->work > 0; k++) {
		u32 at = low_first ? n - n * k / PARTS : n * k / PARTS;
		if (splice(r, low_first ? low : high, low_first ? high : low, at)->peak > budget) {
			fails = at;
			break;
		}
		fits = at;
	}
	while (r->work > 0 && (fits > fails ? fits - fails : fails - fits) > 1) {
		u32 at = (fits + fails) / 2;
		bool ok = splice(r, low_first ? low : high, low_first ? high : low, at)->peak <= budget;
		*(ok ? &fits : &fails) = at;
	}
}

static int cheaper(const void *a, const void *b)
{
	f64 x = ((const Found *)a)->seconds, y = ((const Found *)b)->seconds;
	return x < y ? -1 : x > y;
}

static void splice_all(Remat *r, u64 budget)
{
	/* of those that fit, the cheapest few; of the others, those that need least more */
	qsort(r->found.v, r->found.n, sizeof *r->found.v, cheaper);
	enum { FEW = 4 };
	Found low[FEW], high[FEW];
	u32 nlow = 0, nhigh = 0;
	for (u32 i = 0; i < r->found.n && nlow < FEW; i++)
		if (r->found.v[i].peak <= budget)
			low[nlow++] = r->found.v[i];
	for (u32 i = r->found.n; i-- > 0 && nhigh < FEW;)
		if (r->found.v[i].peak > budget && (!nlow || r->found.v[i].seconds < low[0].seconds))
			high[nhigh++] = r->found.v[i];
	for (u32 i = 0; i < nlow; i++)
		for (u32 k = 0; k < nhigh; k++)
			for (u32 order = 0; order < 2; order++)
				try_splices(r, low[i].drop, high[k].drop, budget, order);
}

/* ---- one value at a time ---- */

typedef struct Flip {
	u32 buffer;
	f64 gain;
} Flip;

static int most_gain(const void *a, const void *b)
{
	const Flip *x = a, *y = b;
	if (x->gain != y->gain)
		return x->gain > y->gain ? -1 : 1;
	return x->buffer < y->buffer ? -1 : x->buffer > y->buffer;
}

/* Keeps more of what is let go while it fits, the dearest by the byte first. */
static void try_flips(Remat *r, u64 budget)
{
	const RematProblem *p = r->p;
	u32 at = best_within(r, budget), n = 0;
	if (at == NONE)
		return;
	bool *now = COPYN(r->arena, bool, r->found.v[at].drop, p->nbuffer + 1);
	f64 seconds = r->found.v[at].seconds;
	u64 peak = r->found.v[at].peak;
	Flip *flip = NEWN(r->arena, Flip, p->nbuffer + 1);
	for (u32 b = 0; b < p->nbuffer; b++) {
		const RematLife *l = &r->life[b];
		if (!l->may || !now[b])
			continue;
		f64 cost = l->map != NONE ? p->map[l->map].step.seconds : p->step[l->made].seconds;
		flip[n++] = (Flip){ b, cost / (f64)p->bytes[b] };
	}
	qsort(flip, n, sizeof *flip, most_gain);
	for (u32 i = 0; i < n && r->work > 0; i++) {
		now[flip[i].buffer] = false;
		const RematOutcome *o = look_at(r, now);
		bool better = o->peak <= budget && (o->seconds < seconds || (o->seconds <= seconds && o->peak <= peak));
		now[flip[i].buffer] = !better;
		if (better) {
			seconds = o->seconds;
			peak = o->peak;
		}
	}
}

/* Keeps one value more than fits, and lets another go instead, where that is cheaper in all. */
static void try_swaps(Remat *r, u64 budget)
{
	const RematProblem *p = r->p;
	u32 at = best_within(r, budget);
	if (at == NONE)
		return;
	bool *now = COPYN(r->arena, bool, r->found.v[at].drop, p->nbuffer + 1);
	f64 seconds = r->found.v[at].seconds;
	for (bool better = true; better && r->work > 0;) {
		better = false;
		for (u32 b = 0; b < p->nbuffer && r->work > 0; b++) {
			if (!r->life[b].may || !now[b])
				continue;
			now[b] = false;
			const RematOutcome *o = look_at(r, now);
			u64 excess = o->peak > budget ? o->peak - budget : 0;
			bool worth = o->seconds < seconds, done = worth && !excess;
			for (u32 c = 0; c < p->nbuffer && worth && !done && r->work > 0; c++) {
				if (c == b || !r->life[c].may || now[c] || rounded(p->bytes[c]) < excess)
					continue;
				now[c] = true;
				o = look_at(r, now);
				done = o->peak <= budget && o->seconds < seconds;
				now[c] = done;
			}
			now[b] = !done;
			better |= done;
			seconds = done ? o->seconds : seconds;
		}
	}
}

/* ---- by chance ---- */

static u32 draw(u64 *state, u32 below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (u32)((*state >> 33) % below);
}

/* Simulated annealing (Kirkpatrick et al. 1983) from the best set within the budget, or that of the least peak: one value or two are kept or let go by
 * chance, and what is worse stays with a chance that sinks; a byte beyond the budget counts as time: `dear`. Where values are
 * few and large, the best sets lie apart, and no single exchange leads from one to the next. The same in every run. */
static void anneal(Remat *r, u64 budget, const u32 *may, u32 n, f64 hot, f64 dear, u64 *state)
{
	u32 at = best_within(r, budget);
	const Found *best = &r->found.v[at == NONE ? least_peak(r) : at];
	bool *now = COPYN(r->arena, bool, best->drop, r->p->nbuffer + 1);
	f64 energy = best->seconds + (best->peak > budget ? dear * (f64)(best->peak - budget) : 0);
	i64 work = MIN((i64)ANNEALING, (i64)LOOKS * n * r->p->nstep), until = r->work - work;
	while (r->work > until) {
		f64 left = (f64)(r->work - until) / (f64)work, heat = hot * pow(1e-3, 1 - left);
		u32 a = may[draw(state, n)], b = draw(state, 2) ? may[draw(state, n)] : a;
		now[a] = !now[a];
		now[b] ^= b != a;
		const RematOutcome *o = look_at(r, now);
		f64 next = o->seconds + (o->peak > budget ? dear * (f64)(o->peak - budget) : 0);
		if (next <= energy || draw(state, 1 << 20) < exp((energy - next) / heat) * (1 << 20)) {
			energy = next;
			continue;
		}
		now[a] = !now[a];
		now[b] ^= b != a;
	}
}

static void try_chance(Remat *r, u64 budget)
{
	static const f64 hot[] = { 0.02, 0.05, 0.02, 0.1 }; /* of the step's time */
	const RematProblem *p = r->p;
	u32 *may = NEWN(r->arena, u32, p->nbuffer + 1), n = 0;
	for (u32 b = 0; b < p->nbuffer; b++)
		if (r->life[b].may)
			may[n++] = b;
	f64 whole = 0;
	for (u32 s = 0; s < p->nstep; s++)
		whole += p->step[s].seconds;
	u32 best = best_within(r, budget);
	bool few = n && (i64)LEAST_LOOKS * n * p->nstep <= ANNEALING;
	if (!few || (best == NONE ? budget < remat_bound_least(r->bound)
				  : r->found.v[best].seconds <= NEAR * remat_bound_at(r->bound, budget)))
		return;
	u64 state = n;
	/* a little beyond what a byte is worth by the bound, so that the way leads by sets that need more; or far beyond */
	f64 dear[] = { best == NONE ? 20 * whole / (f64)budget : 1.2 * remat_bound_price(r->bound, budget), 4 * whole / (f64)budget };
	r->work += (i64)COUNT(hot) * COUNT(dear) * ANNEALING;
	for (u32 i = 0; i < COUNT(hot) * COUNT(dear); i++)
		anneal(r, budget, may, n, hot[i / COUNT(dear)] * whole, dear[i % COUNT(dear)], &state);
}

/* Lowers the peak: what is alive at it is let go, or kept, whichever helps. */
static void lower_peak(Remat *r)
{
	const RematProblem *p = r->p;
	bool *now = COPYN(r->arena, bool, r->found.v[least_peak(r)].drop, p->nbuffer + 1);
	u64 peak = r->found.v[least_peak(r)].peak;
	for (bool better = true; better && r->work > 0;) {
		better = false;
		for (u32 b = 0; b < p->nbuffer && r->work > 0; b++) {
			if (!r->life[b].may)
				continue;
			now[b] = !now[b];
			const RematOutcome *o = look_at(r, now);
			if (o->peak >= peak) {
				now[b] = !now[b];
				continue;
			}
			peak = o->peak;
			better = true;
		}
	}
}

/* ---- the search ---- */

Remat *remat_new(Arena *arena, const RematProblem *p)
{
	Remat *r = NEW(arena, Remat);
	u32 n = p->nbuffer + 1;
	*r = (Remat){ .arena = arena, .p = p, .life = NEWN(arena, RematLife, n) };
	r->run = NEWN(arena, RematRun, 2 * p->nstep + p->nmap + 1);
	r->change = NEWN(arena, i64, 2 * p->nstep + p->nmap + 3);
	r->drop = NEWN(arena, bool, n);
	r->again = NEWN(arena, bool, p->nstep + 1);
	r->wanted = NEWN(arena, bool, n);
	r->have = NEWN(arena, bool, n);
	r->taken = NEWN(arena, u32, 2 * n);
	r->stack = NEWN(arena, u32, n);
	r->wants = NEWN(arena, u32, n);
	r->made_again = NEWN(arena, u32, n);
	r->remade = NEWN(arena, u32, n);
	r->trial = NEWN(arena, bool, n);
	memset(r->remade, 0xff, n * sizeof *r->remade);
	for (u32 k = 0; k < 2; k++) {
		r->first[k] = NEWN(arena, u32, n);
		r->last[k] = NEWN(arena, u32, n);
		memset(r->first[k], 0xff, n * sizeof **r->first);
	}
	find_ends(r);
	find_turn(r);
	split_lives(r);
	find_common(r);
	r->bound = remat_bound_new(arena, r);
	look_at(r, r->trial); /* nothing is let go */
	try_checkpoints(r);
	return r;
}

RematAnswer remat_known(const Remat *r, u64 budget)
{
	u32 at = best_within(r, budget);
	const Found *f = &r->found.v[at != NONE ? at : least_peak(r)];
	return (RematAnswer){ f->drop, f->peak, f->seconds, remat_bound_at(r->bound, budget), at != NONE };
}

RematAnswer remat_solve(Remat *r, u64 budget)
{
	u32 at = best_within(r, budget);
	r->work = WORK;
	if (at == NONE || r->found.v[at].seconds > 0) {
		remat_bound_raise(r->bound, budget, on_found, r);
		if (best_within(r, budget) == NONE)
			lower_peak(r);
		splice_all(r, budget);
		try_flips(r, budget);
		try_swaps(r, budget);
		try_chance(r, budget);
		try_flips(r, budget);
		try_swaps(r, budget);
	}
	return remat_known(r, budget);
}

RematAnswer remat_offer(Remat *r, const bool *drop)
{
	const RematOutcome *o = look_at(r, drop);
	return (RematAnswer){ r->drop, o->peak, o->seconds, remat_bound_at(r->bound, o->peak), true };
}

void remat_extremes(Remat *r, u64 *most, u64 *least, u64 *none_below)
{
	enum { DESCENTS = 12, LARGE = 2000 };
	u32 misses = 0, most_misses = r->p->nstep < LARGE ? 2 : 1;
	memset(r->trial, 0, (r->p->nbuffer + 1) * sizeof *r->trial);
	*most = look_at(r, r->trial)->peak;
	remat_solve(r, 0);
	*least = r->found.v[least_peak(r)].peak;
	/* budgets between that and what is proved, as long as there are answers */
	for (u32 i = 0; i < DESCENTS && misses < most_misses; i++) {
		u64 proved = remat_bound_least(r->bound);
		if (*least <= proved + (*most - *least) / 200)
			break;
		misses += !remat_solve(r, *least - (*least - proved) / (misses ? 8 : 4)).fits;
		*least = r->found.v[least_peak(r)].peak;
	}
	*none_below = MIN(remat_bound_least(r->bound), *least);
}
