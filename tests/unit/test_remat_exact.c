/* What integer programming says to the very problems that plans of small models ask: tests/golden/remat/ has them, each with
 * the least time for some budgets, as tests/golden/remat/exact.py found it. Answers are within a hundredth of it, and bounds
 * never above it.
 *
 * With PLINTH_EXACT=FOLDER, writes the problems of today's plans there instead, and what Plinth answers to them, for exact.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "model_plan.h"
#include "passes/plan/remat.h"

#include <stdlib.h>

/* ---- a problem as text ---- */

/* Everything is a line of numbers; lists have their lengths before them. See exact.py. */
static void write_list(FILE *to, const u32 *v, u32 n)
{
	fprintf(to, " %u", n);
	for (u32 i = 0; i < n; i++)
		fprintf(to, " %u", v[i]);
}

static void write_step(FILE *to, const RematStep *s)
{
	fprintf(to, " %.17g %llu %d", s->seconds, (unsigned long long)s->workspace, s->again);
	write_list(to, s->reads, s->nread);
	write_list(to, s->writes, s->nwrite);
	fprintf(to, " %u", s->npair);
	for (u32 i = 0; i < s->npair; i++)
		fprintf(to, " %u %u", s->pair[i].out, s->pair[i].in);
	fputc('\n', to);
}

static void write_problem(FILE *to, const RematProblem *p)
{
	fprintf(to, "remat %u %u %u\n", p->nbuffer, p->nstep, p->nmap);
	for (u32 i = 0; i < p->nbuffer; i++)
		fprintf(to, "b %llu %d %d\n", (unsigned long long)p->bytes[i], p->input[i], p->result[i]);
	for (u32 i = 0; i < p->nstep; i++) {
		fputc('s', to);
		write_step(to, &p->step[i]);
	}
	for (u32 i = 0; i < p->nmap; i++) {
		fprintf(to, "m %u", p->map[i].host);
		write_step(to, &p->map[i].step);
	}
}

static f64 read_number(FILE *from)
{
	f64 x;
	assert_int_equal(fscanf(from, "%lf", &x), 1);
	return x;
}

static u32 *read_list(Arena *a, FILE *from, u32 *n, u32 each)
{
	*n = (u32)read_number(from);
	u32 *v = NEWN(a, u32, *n * each + 1);
	for (u32 i = 0; i < *n * each; i++)
		v[i] = (u32)read_number(from);
	return v;
}

static RematStep read_step(Arena *a, FILE *from)
{
	RematStep s = { .seconds = read_number(from) };
	s.workspace = (u64)read_number(from);
	s.again = read_number(from) != 0;
	s.reads = read_list(a, from, &s.nread, 1);
	s.writes = read_list(a, from, &s.nwrite, 1);
	u32 *both = read_list(a, from, &s.npair, 2);
	RematPair *pair = NEWN(a, RematPair, s.npair + 1);
	for (u32 i = 0; i < s.npair; i++)
		pair[i] = (RematPair){ both[2 * i], both[2 * i + 1] };
	s.pair = pair;
	return s;
}

static void read_kind(FILE *from, char kind)
{
	char c;
	assert_int_equal(fscanf(from, " %c", &c), 1);
	assert_int_equal(c, kind);
}

static RematProblem read_problem(Arena *a, FILE *from)
{
	u32 n[3];
	assert_int_equal(fscanf(from, "remat %u %u %u", &n[0], &n[1], &n[2]), 3);
	RematStep *step = NEWN(a, RematStep, n[1] + 1);
	RematMap *map = NEWN(a, RematMap, n[2] + 1);
	u64 *bytes = NEWN(a, u64, n[0] + 1);
	bool *input = NEWN(a, bool, n[0] + 1), *result = NEWN(a, bool, n[0] + 1);
	for (u32 i = 0; i < n[0]; i++) {
		read_kind(from, 'b');
		bytes[i] = (u64)read_number(from);
		input[i] = read_number(from) != 0;
		result[i] = read_number(from) != 0;
	}
	for (u32 i = 0; i < n[1]; i++) {
		read_kind(from, 's');
		step[i] = read_step(a, from);
	}
	for (u32 i = 0; i < n[2]; i++) {
		read_kind(from, 'm');
		map[i].host = (u32)read_number(from);
		map[i].step = read_step(a, from);
	}
	return (RematProblem){ .step = step, .nstep = n[1], .map = map, .nmap = n[2], .nbuffer = n[0], .bytes = bytes,
			       .input = input, .result = result };
}

/* ---- the models ---- */

/* Two layers of each kind of block, in sizes that are usual but for the vocabulary, whose logits would else be all that counts, and
 * for the number of tokens: of 256 and more, large values between products are made in chunks, as many steps as make an integer program
 * that CBC cannot solve (600,000 rows of a model that has 25,000 without). */
static const struct {
	const char *model, *preset, *set, *sizes, *precision;
} small[] = {
	{ "gpt2", "small", "layers=2;vocab=2048", "B=1,T=248", "f32" },
	{ "gpt2", "small", "layers=2;vocab=2048;drop=0.1", "B=1,T=248", "bf16" },
	{ "llama", "llama_110m", "layers=2;vocab=2048", "B=1,T=248", "bf16" },
	{ "mixtral", "mixtral_8x7b", "layers=2;vocab=2048;width=1024;hidden=3584;heads=8;groups=2", "B=4,T=1024", "bf16" },
	{ "bible", NULL, "layers=2", "B=16,T=256", "f32" },
	{ "bert", "base", "layers=2;vocab=2048", "B=1,T=248", "f32" },
	{ "vit", "base", "layers=2", "B=1", "f32" },
	{ "t5", "small", "layers=2;vocab=2048", "B=1,S=248,T=248", "f32" },
};

static const char *file_name(Arena *a, u32 i)
{
	return arena_printf(a, "%s.%s.txt", small[i].model, small[i].precision);
}

/* ---- writing ---- */

typedef struct Look {
	Arena *arena;
	const char *path;
	bool seen;
} Look;

static void look(void *cx, const char *entry, const RematProblem *p)
{
	Look *l = cx;
	if (strcmp(entry, "micro_first"))
		return;
	FILE *to = fopen(l->path, "w");
	assert_non_null(to);
	write_problem(to, p);
	Remat *r = remat_new(l->arena, p);
	u64 most, least, none_below;
	remat_extremes(r, &most, &least, &none_below);
	fprintf(to, "turn %u\n", remat_turn(r));
	fprintf(to, "range %llu %llu\n", (unsigned long long)least, (unsigned long long)most);
	for (u32 i = 1; i <= 3; i++) {
		u64 budget = least + (most - least) * i / 4;
		RematAnswer a = remat_solve(r, budget);
		fprintf(to, "ask %llu %.17g %.17g %llu", (unsigned long long)budget, a.seconds, a.bound, (unsigned long long)a.peak);
		for (u32 b = 0; b < p->nbuffer; b++)
			if (remat_may_drop(r, b) && !a.drop[b])
				fprintf(to, " %u", b);
		fputc('\n', to);
	}
	assert_int_equal(fclose(to), 0);
	l->seen = true;
}

static void write_all(const char *folder)
{
	for (u32 i = 0; i < COUNT(small); i++) {
		Arena a = ARENA("test");
		Look l = { &a, arena_printf(&a, "%s/%s", folder, file_name(&a, i)), false };
		DriverOptions o = { .sizes = small[i].sizes, .precision = small[i].precision, .cpu = "x86-64-v3", .threads = 1,
				    .curve = 1, .look = look, .look_cx = &l };
		model_plan(&a, &(ModelPlan){ small[i].model, small[i].preset, small[i].set, o });
		assert_true(l.seen);
		arena_free(&a);
	}
}

/* ---- reading ---- */

static void check_file(const char *name)
{
	Arena a = ARENA("test");
	FILE *from = fopen(arena_printf(&a, "%s/tests/golden/remat/%s", SOURCE_DIR, name), "r");
	assert_non_null(from);
	RematProblem p = read_problem(&a, from);
	Remat *r = remat_new(&a, &p);
	unsigned long long budget;
	f64 least, optimum;
	u32 n = 0;
	/* the budget, the least time that was found, and what is proved to be no more than it: the same where the program was solved */
	while (fscanf(from, " exact %llu %lf %lf", &budget, &optimum, &least) == 3) {
		RematAnswer x = remat_solve(r, budget);
		assert_true(x.fits);
		if (x.seconds > 1.01 * optimum + 1e-12)
			fail_msg("%s, %llu bytes: %.9g s, where %.9g s are enough", name, budget, x.seconds, optimum);
		if (x.bound > optimum * (1 + 1e-9) + 1e-12)
			fail_msg("%s, %llu bytes: at least %.9g s, where %.9g s are enough", name, budget, x.bound, optimum);
		n++;
	}
	assert_true(n > 0 && feof(from));
	assert_int_equal(fclose(from), 0);
	arena_free(&a);
}

static void against_integer_programs(void **state)
{
	(void)state;
	const char *folder = getenv("PLINTH_EXACT");
	if (folder) {
		write_all(folder);
		return;
	}
	Arena a = ARENA("test");
	for (u32 i = 0; i < COUNT(small); i++)
		check_file(file_name(&a, i));
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(against_integer_programs) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
