/* What to keep and what to compute again: outcomes counted anew from the runs alone; answers and bounds against all sets of
 * values kept, on problems small enough for that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "ir/sample.h"
#include "passes/plan/cut.h"
#include "passes/plan/mix.h"
#include "passes/plan/remat.h"

#include <math.h>

/* ---- cuts ---- */

static void cuts_are_least(void **state)
{
	(void)state;
	Arena tmp = ARENA("test");
	for (u64 seed = 0; seed < 300; seed++) {
		enum { INNER = 7, NODES = INNER + CUT_NODES };
		Random r = random_new(&tmp, seed);
		Cut *c = cut_new(&tmp, NODES);
		f64 capacity[NODES][NODES] = { { 0 } };
		for (u32 i = 0; i < NODES; i++)
			for (u32 k = 0; k < NODES; k++)
				if (i != k && random_chance(&r, 0.4)) {
					capacity[i][k] = random_chance(&r, 0.1) ? CUT_NEVER : (f64)random_int(&r, 0, 20);
					cut_edge(c, i, k, capacity[i][k]);
				}
		f64 least = INFINITY;
		for (u32 set = 0; set < 1u << INNER; set++) {
			f64 cost = 0;
			for (u32 i = 0; i < NODES; i++)
				for (u32 k = 0; k < NODES; k++) {
					bool from = i == CUT_YES || (i >= CUT_NODES && set >> (i - CUT_NODES) & 1);
					bool to = k == CUT_YES || (k >= CUT_NODES && set >> (k - CUT_NODES) & 1);
					cost += from && !to ? capacity[i][k] : 0;
				}
			least = MIN(least, cost);
		}
		bool yes[NODES];
		f64 found = cut_solve(c, yes);
		assert_true(least >= CUT_NEVER ? found >= CUT_NEVER : fabs(found - least) < 1e-9);
		assert_true(yes[CUT_YES]);
	}
	arena_free(&tmp);
}

/* ---- mixtures ---- */

/* Shares that keep the limits, and prices by which no point is cheaper than that: both are the best. */
static void mixtures_are_least(void **state)
{
	(void)state;
	enum { POINTS = 12, LIMITS = 4 };
	const f64 penalty = 50;
	u32 beyond = 0;
	for (u64 seed = 0; seed < 500; seed++) {
		Arena tmp = ARENA("test");
		Random r = random_new(&tmp, seed);
		u32 n = (u32)random_int(&r, 1, POINTS), nlimit = (u32)random_int(&r, 0, LIMITS);
		MixPoint point[POINTS];
		f64 use[POINTS][LIMITS], limit[LIMITS], share[POINTS], price[LIMITS];
		for (u32 i = 0; i < n; i++) {
			point[i] = (MixPoint){ (f64)random_int(&r, 0, 9), use[i] };
			for (u32 k = 0; k < nlimit; k++)
				use[i][k] = (f64)random_int(&r, 0, 9);
		}
		for (u32 k = 0; k < nlimit; k++)
			limit[k] = (f64)random_int(&r, 0, 9);
		f64 least = mix_least(&tmp, point, n, limit, nlimit, penalty, share, price);
		f64 whole = 0, cost = 0, most = 0, prices = 0, dual = INFINITY;
		for (u32 i = 0; i < n; i++) {
			f64 priced = point[i].cost;
			assert_true(share[i] >= 0);
			whole += share[i];
			cost += share[i] * point[i].cost;
			for (u32 k = 0; k < nlimit; k++)
				priced += price[k] * (use[i][k] - limit[k]);
			dual = MIN(dual, priced);
		}
		for (u32 k = 0; k < nlimit; k++) {
			f64 used = 0;
			for (u32 i = 0; i < n; i++)
				used += share[i] * use[i][k];
			most = MAX(most, used - limit[k]);
			assert_true(price[k] >= 0);
			prices += price[k];
		}
		assert_true(fabs(whole - 1) < 1e-9);
		assert_true(prices <= penalty + 1e-9);
		assert_true(fabs(cost + penalty * most - least) < 1e-7);
		assert_true(fabs(dual - least) < 1e-7);
		beyond += most > 1e-9;
		arena_free(&tmp);
	}
	assert_true(beyond > 50 && beyond < 450);
}

/* ---- problems ---- */

enum { FORWARD = 7, STEPS = 2 * FORWARD + 1, BUFFERS = 4 * FORWARD + 4 };

typedef struct Small {
	RematStep step[STEPS];
	RematMap map[FORWARD];
	u32 reads[STEPS][12], writes[STEPS][3], map_reads[FORWARD][2], map_writes[FORWARD][1];
	RematPair pair[STEPS][8];
	u64 bytes[BUFFERS];
	bool input[BUFFERS], result[BUFFERS];
	RematProblem p;
} Small;

/* Steps make values from values before them; then, in the other direction, each step's mirror reads what the step made and
 * some of what it read, and passes a value on. Some steps make a second value, which follows from the first. */
static void small_problem(Small *s, Random *r)
{
	*s = (Small){ 0 };
	u32 value[FORWARD], n = 0, nmap = 0;
	u32 input = n++;
	s->input[input] = true;
	s->bytes[input] = (u64)random_int(r, 1, 4) * 64;
	for (u32 i = 0; i < FORWARD; i++) {
		RematStep *step = &s->step[i];
		step->reads = s->reads[i];
		step->writes = s->writes[i];
		step->seconds = (f64)random_int(r, 1, 20);
		step->workspace = random_chance(r, 0.3) ? (u64)random_int(r, 1, 5) * 64 : 0;
		step->again = random_chance(r, 0.9);
		s->reads[i][step->nread++] = i ? value[i - 1] : input;
		if (i > 1 && random_chance(r, 0.4))
			s->reads[i][step->nread++] = value[random_int(r, 0, i - 2)];
		value[i] = n;
		s->bytes[n] = (u64)random_int(r, 1, 12) * 64;
		s->writes[i][step->nwrite++] = n++;
		if (random_chance(r, 0.3)) {
			RematMap *m = &s->map[nmap];
			s->map_reads[nmap][0] = value[i];
			s->map_writes[nmap][0] = n;
			m->step = (RematStep){ .reads = s->map_reads[nmap], .nread = 1, .writes = s->map_writes[nmap], .nwrite = 1,
					       .seconds = 0.5 * (f64)random_int(r, 1, 3), .again = true };
			m->host = i;
			nmap++;
			s->bytes[n] = (u64)random_int(r, 1, 8) * 64;
			s->writes[i][step->nwrite++] = n++;
		}
	}
	u32 gradient = NONE;
	for (u32 i = FORWARD; i < STEPS; i++) {
		RematStep *step = &s->step[i], *mirror = &s->step[STEPS - 1 - i];
		step->reads = s->reads[i];
		step->writes = s->writes[i];
		step->seconds = (f64)random_int(r, 1, 40);
		step->again = random_chance(r, 0.5);
		if (gradient != NONE)
			s->reads[i][step->nread++] = gradient;
		for (u32 k = 0; k < mirror->nwrite && mirror != step && i > FORWARD; k++)
			if (random_chance(r, 0.8))
				s->reads[i][step->nread++] = mirror->writes[k];
		for (u32 k = 0; k < mirror->nread && mirror != step && i > FORWARD; k++)
			if (random_chance(r, 0.4))
				s->reads[i][step->nread++] = mirror->reads[k];
		if (i == FORWARD)
			s->reads[i][step->nread++] = value[FORWARD - 1];
		gradient = n;
		s->bytes[n] = (u64)random_int(r, 1, 6) * 64;
		s->writes[i][step->nwrite++] = n++;
	}
	s->result[gradient] = true;
	for (u32 i = 0; i < STEPS; i++) {
		RematStep *step = &s->step[i];
		step->pair = s->pair[i];
		for (u32 k = 0; k < step->nread; k++)
			if (step->npair < 8 && random_chance(r, 0.5))
				s->pair[i][step->npair++] = (RematPair){ s->writes[i][0], s->reads[i][k] };
	}
	s->p = (RematProblem){ .step = s->step, .nstep = STEPS, .map = s->map, .nmap = nmap, .nbuffer = n, .bytes = s->bytes,
			       .input = s->input, .result = s->result };
}

/* ---- an outcome from its runs alone ---- */

typedef struct Version {
	u32 first, last;
	bool alive;
} Version;

/* Everything read must be there, from the latest run that made it (an output that nobody asked to make again changes
 * nothing); the peak is counted run by run. */
static void check_outcome(Arena *tmp, const RematProblem *p, const RematOutcome *o)
{
	Version *v = NEWN(tmp, Version, 2 * p->nbuffer);
	bool *second = NEWN(tmp, bool, p->nbuffer);
	f64 seconds = 0;
	u32 steps = 0;
	for (u32 b = 0; b < p->nbuffer; b++)
		if (p->input[b])
			v[2 * b] = (Version){ 0, 0, true };
	u32 **slot = NEWN(tmp, u32 *, o->nrun);
	for (u32 i = 0; i < o->nrun; i++) {
		const RematRun *run = &o->run[i];
		const RematStep *s = run->kind == REMAT_MAP ? &p->map[run->index].step : &p->step[run->index];
		if (run->kind == REMAT_STEP)
			assert_int_equal(run->index, steps++);
		else
			seconds += s->seconds;
		if (run->kind == REMAT_AGAIN)
			assert_true(s->again);
		slot[i] = NEWN(tmp, u32, p->nbuffer);
		for (u32 k = 0; k < s->nread; k++) {
			u32 b = s->reads[k], at = 2 * b + second[b];
			assert_true(v[at].alive);
			v[at].last = i;
			slot[i][b] = at;
		}
		for (u32 k = 0; k < s->nwrite; k++) {
			u32 b = s->writes[k], at = 2 * b + (run->kind != REMAT_STEP);
			assert_false(v[at].alive);
			v[at] = (Version){ i, i, true };
			if (run->kind != REMAT_STEP && o->remade[b] == i)
				second[b] = true;
			slot[i][b] = at;
		}
	}
	assert_int_equal(steps, p->nstep);
	assert_true(fabs(seconds - o->seconds) < 1e-9);
	u64 peak = 0;
	for (u32 b = 0; b < p->nbuffer; b++)
		if (p->result[b])
			v[2 * b].last = o->nrun - 1;
	bool *taken = NEWN(tmp, bool, 2 * p->nbuffer);
	for (u32 i = 0; i < o->nrun; i++) {
		const RematRun *run = &o->run[i];
		const RematStep *s = run->kind == REMAT_MAP ? &p->map[run->index].step : &p->step[run->index];
		u64 now = s->workspace;
		for (u32 k = 0; k < 2 * p->nbuffer; k++)
			now += v[k].alive && v[k].first <= i && i <= v[k].last ? p->bytes[k / 2] : 0;
		u32 done = NONE;
		for (u32 k = 0; k < s->npair; k++) {
			u32 out = s->pair[k].out, in = slot[i][s->pair[k].in];
			bool input = p->input[in / 2];
			if (done == out || p->bytes[out] != p->bytes[in / 2] || v[in].last != i || p->result[in / 2] ||
			    (v[in].first == i && !input) || taken[in])
				continue;
			taken[in] = true;
			done = out;
			now -= p->bytes[out];
		}
		peak = MAX(peak, now);
	}
	assert_int_equal(peak, o->peak);
}

/* ---- against all sets ---- */

static void all_sets(void **state)
{
	(void)state;
	u32 optimal = 0, asked = 0, lowest = 0;
	f64 worst_gap = 0;
	for (u64 seed = 0; seed < 120; seed++) {
		Arena tmp = ARENA("test");
		Random r = random_new(&tmp, seed);
		Small s;
		small_problem(&s, &r);
		Remat *m = remat_new(&tmp, &s.p);
		u32 may[BUFFERS], n = 0;
		for (u32 b = 0; b < s.p.nbuffer; b++)
			if (remat_may_drop(m, b))
				may[n++] = b;
		u32 sets = 1u << MIN(n, 11u);
		u64 *peak = NEWN(&tmp, u64, sets), least = UINT64_MAX, most;
		f64 *seconds = NEWN(&tmp, f64, sets);
		bool *drop = NEWN(&tmp, bool, s.p.nbuffer + 1);
		for (u32 set = 0; set < sets; set++) {
			for (u32 i = 0; i < n; i++)
				drop[may[i]] = set >> i & 1;
			const RematOutcome *o = remat_outcome(m, drop);
			if (set % 37 == 0)
				check_outcome(&tmp, &s.p, o);
			peak[set] = o->peak;
			seconds[set] = o->seconds;
			least = MIN(least, o->peak);
		}
		most = peak[0];
		u64 found[2], none_below;
		remat_extremes(m, &found[0], &found[1], &none_below);
		assert_true(found[0] == most && none_below <= least);
		assert_true(found[1] >= least || n > 11);
		lowest += found[1] <= least;
		f64 before = INFINITY;
		for (u32 i = 0; i <= 4; i++) {
			u64 budget = least + (most - least) * i / 4;
			f64 best = INFINITY;
			for (u32 set = 0; set < sets; set++)
				best = peak[set] <= budget ? MIN(best, seconds[set]) : best;
			RematAnswer a = remat_solve(m, budget);
			assert_true(a.bound <= best + 1e-6);
			if (!a.fits)
				continue;
			assert_true(a.peak <= budget);
			assert_true(a.seconds >= best - 1e-9 || n > 11);
			assert_true(a.seconds <= before + 1e-9);
			before = a.seconds;
			asked++;
			optimal += a.seconds <= best * 1.01 + 1e-9;
			worst_gap = MAX(worst_gap, a.seconds - best);
			check_outcome(&tmp, &s.p, remat_outcome(m, a.drop));
		}
		arena_free(&tmp);
	}
	print_message("%u of %u answers within 1%% of the optimum, %u of 120 least peaks are\n", optimal, asked, lowest);
	assert_true(optimal * 100 >= asked * 99 && lowest >= 114);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(cuts_are_least), cmocka_unit_test(mixtures_are_least),
					    cmocka_unit_test(all_sets) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
