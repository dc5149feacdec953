/* tools/verb_bench.c: `plinth bench MODEL`: how fast a training step is here, what it could be at best, and which
 * kernels make up the difference. */
#include "support/clock.h"
#include "tools/bench.h"
#include "tools/sizes.h"
#include "tools/verbs.h"

#include <stdlib.h>
#include <string.h>

static SourceOptions given;
static RunOptions run_on;
static const char *sizes, *precision, *memory, *data, *trace;
static TextList sweep;
static i64 steps, runs = 5, repeat = 5;
static bool forward, kernels, all, cold, no_probes, turns, json, csv;

static const Option options[] = {
	SOURCE_OPTIONS(given),
	{ "sizes", 'z', OPTION_TEXT, &sizes, "B=8,T=256", "numbers for sizes, over those of the train block's batch" },
	{ "sweep", 0, OPTION_LIST, &sweep, "B=1,2,4",
	  "one measurement for each value; several of these: for each pair of values; memory=all,2GiB: of --memory; "
	  "stream=never,32MiB: outputs larger than that, and not used again before as much was moved, are stored past the caches" },
	{ "turns", 0, OPTION_FLAG, &turns, NULL,
	  "all measurements of a sweep are in memory at once and take turns, run by run: their ratios hold on a busy machine" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE",
	  "f32, bf16: what matrix multiplies and attention take; autocast: and give; fp8: 8 bits in linear layers; else as the file says" },
	{ "memory", 0, OPTION_MEMORY, &memory, "8GiB", "what the step may take: values are computed again where it must" },
	{ "steps", 'n', OPTION_COUNT, &steps, "N", "of a run; as many as take a second if not given" },
	{ "runs", 'r', OPTION_COUNT, &runs, "N", "whose median counts, 5 by default" },
	{ "data", 'd', OPTION_TEXT, &data, "PREFIX",
	  "token shards to read, as train reads them; random tokens if not given" },
	{ "forward", 0, OPTION_FLAG, &forward, NULL, "the forward pass alone, not a training step" },
	{ "kernels", 'k', OPTION_FLAG, &kernels, NULL,
	  "kernels alone: each several times in a row, in families by class and shape" },
	{ "repeat", 0, OPTION_COUNT, &repeat, "N", "of each kernel; 5 by default" },
	{ "all", 'a', OPTION_FLAG, &all, NULL,
	  "every kernel in the table, not only those that make up 99% of the time" },
	{ "no-probes", 0, OPTION_FLAG, &no_probes, NULL,
	  "leave the machine's limits unknown: under a sanitizer, measuring them takes long" },
	{ "cold", 0, OPTION_FLAG, &cold, NULL, "compile everything: leave the compiler's cache alone" },
	RUN_OPTIONS(run_on),
	{ "trace", 0, OPTION_FILE, &trace, "FILE", "a profiled step, for https://ui.perfetto.dev or chrome://tracing" },
	{ "json", 'j', OPTION_FLAG, &json, NULL, "all that was measured, as JSON" },
	{ "csv", 0, OPTION_FLAG, &csv, NULL, "a row for each step and kernel, as comma-separated values" },
};

static const OptionRule rules[] = {
	{ RULE_NEEDS, "repeat", "kernels", NULL },
	{ RULE_NEEDS, "turns", "sweep", "--sweep B=1,2 or --sweep memory=all,2GiB" },
	{ RULE_EXCLUDE, "json csv", NULL, NULL },
	{ RULE_EXCLUDE, "trace", "kernels", "a trace shows a step as it is, and --kernels repeats its kernels" },
	{ RULE_EXCLUDE, "forward", "memory", "values are computed again in a training step alone" },
};

static const Command command = {
	.name = "bench",
	.operands = "MODEL",
	.least = 1,
	.most = 1,
	.about = "Measures training steps of a model as `plinth train` runs them (micro-steps, the\n"
		 "loss read, the update), and what its kernels take one by one. Runs take turns with\n"
		 "probes of the machine's arithmetic and memory; of all, the median counts, and least\n"
		 "and most stand beside it. Beside each kernel stands its bound by the roofline: the\n"
		 "larger of its FLOPs at the measured peak and its bytes at the measured bandwidth.\n"
		 "TFLOPS are the model's: what forward and backward need, causal attention as the\n"
		 "half that it is; MFU is their share of the published peak, where that is known. The\n"
		 "limit of a step is these FLOPs at the peak and the optimizer's bytes at the bandwidth.",
	.example = "  plinth bench models/gpt2.plinth --sizes B=4,T=64\n"
		   "  plinth bench models/gpt2.plinth --preset tiny --sweep B=1,2,4,8 --json >bench.json\n"
		   "  plinth bench models/gpt2.plinth --sizes B=1,T=1024 --sweep memory=all,2GiB --turns\n"
		   "  plinth bench models/gpt2.plinth --kernels --precision bf16\n"
		   "  plinth bench models/gpt2.plinth --trace step.json",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

/* ---- the sizes to measure ---- */

typedef VEC(const char *) Texts;

/* Each of `have` with each value of "B=1,2,4" behind it. */
static Status with_values(Arena *a, const char *text, const Texts *have, Texts *out)
{
	const char *equals = strchr(text, '=');
	if (!equals || equals == text || !equals[1])
		return FAIL(STATUS_INPUT, "--sweep %s: a sweep is NAME=NUMBER,NUMBER,...", text);
	for (u32 i = 0; i < have->n; i++)
		for (const char *at = equals + 1; *at;) {
			size_t n = strcspn(at, ",");
			/* the first one given wins */
			const char *one = arena_printf(a, "%.*s=%.*s%s%s", (int)(equals - text), text, (int)n, at,
						       *have->v[i] ? "," : "", have->v[i]);
			VEC_PUSH(a, out, one);
			at += n + (at[n] == ',');
		}
	return OK;
}

typedef VEC(BenchPoint) Points;

/* Is it NAME=...? Then what stands behind. */
static const char *value_of(const char *text, const char *name)
{
	size_t n = strlen(name);
	return !strncmp(text, name, n) && text[n] == '=' ? text + n + 1 : NULL;
}

/* What is swept beside sizes: amounts of memory. */
typedef struct Amount {
	const char *name, *none, *means;
	u64 of_none;
	size_t at; /* in BenchPoint */
} Amount;
static const Amount amounts[] = {
	{ "memory", "all", "no limit", 0, offsetof(BenchPoint, memory) },
	{ "stream", "never", "no output is stored past the caches", DRIVER_NEVER, offsetof(BenchPoint, stream_beyond) },
};

static const Amount *amount_of(const char *text, const char **values)
{
	for (u32 i = 0; i < COUNT(amounts); i++)
		if ((*values = value_of(text, amounts[i].name)))
			return &amounts[i];
	return NULL;
}

/* Each of `out` with each of "all,2GiB". */
static Status with_amounts(Arena *a, const Amount *amount, const char *values, Points *out)
{
	Points more = { 0 };
	for (u32 i = 0; i < out->n; i++)
		for (const char *at = values; *at;) {
			size_t n = strcspn(at, ",");
			const char *one = arena_printf(a, "%.*s", (int)n, at);
			BenchPoint p = out->v[i];
			u64 bytes = strcmp(one, amount->none) ? options_memory(one) : amount->of_none;
			if (!bytes && strcmp(one, amount->none) != 0)
				return FAIL(STATUS_INPUT, "--sweep %s=%s: amounts of memory, such as 8GiB or 512MiB, or %s: %s", amount->name, values,
					    amount->none, amount->means);
			memcpy((u8 *)&p + amount->at, &bytes, sizeof bytes);
			p.name = arena_printf(a, "%s,%s=%s", p.name, amount->name, one);
			VEC_PUSH(a, &more, p);
			at += n + (at[n] == ',');
		}
	*out = more;
	return OK;
}

/* What a sweep or a size is of: all in front of '='. */
static Str name_of(const char *text)
{
	return (Str){ text, strcspn(text, "=,") };
}

/* Each name is given its values in one place. */
static Status check_names(void)
{
	for (int i = 0; i < sweep.n; i++) {
		Str name = name_of(sweep.v[i]);
		for (int k = 0; k < i; k++)
			if (str_equal(name, name_of(sweep.v[k])))
				return FAIL(STATUS_INPUT, "--sweep %s and --sweep %s are both of %.*s: one has all of its values, --sweep %.*s=1,2,4",
					    sweep.v[k], sweep.v[i], STR_ARG(name), STR_ARG(name));
		for (const char *at = sizes; at && *at; at += strcspn(at, ","), at += *at == ',')
			if (str_equal(name, name_of(at)))
				return FAIL(STATUS_INPUT, "--sizes %s gives %.*s, and --sweep %s does", sizes, STR_ARG(name), sweep.v[i]);
		if (memory && str_equal(name, STR("memory")))
			return FAIL(STATUS_INPUT, "--memory %s and --sweep %s exclude each other", memory, sweep.v[i]);
	}
	return OK;
}

static Status all_points(Lm *lm, Points *out)
{
	Arena *a = &lm->arena;
	Texts at = { 0 };
	const char *values;
	bool swept = false;
	TRY(check_names());
	TRY(sizes_check(a, lm->model, "--sizes", sizes, false));
	VEC_PUSH(a, &at, sizes ? sizes : "");
	for (int i = 0; i < sweep.n; i++) {
		Texts next = { 0 };
		if (amount_of(sweep.v[i], &values))
			continue;
		TRY(with_values(a, sweep.v[i], &at, &next));
		at = next;
		swept = true;
	}
	for (u32 i = 0; i < at.n; i++) {
		const char *numbers;
		TRY(sizes_check(a, lm->model, "--sweep", swept ? at.v[i] : NULL, false));
		TRY(sizes_numbers(a, lm->model, at.v[i], &numbers));
		VEC_PUSH(a, out, ((BenchPoint){ .sizes = numbers, .name = numbers }));
	}
	for (int i = 0; i < sweep.n; i++) {
		const Amount *amount = amount_of(sweep.v[i], &values);
		if (amount)
			TRY(with_amounts(a, amount, values, out));
	}
	return OK;
}

/* ---- the verb ---- */

static Status report(const Bench *b, u32 n)
{
	if (json)
		bench_print_json(b, n, stdout);
	else if (csv)
		bench_print_csv(b, n, stdout);
	else
		bench_print(b, n, all ? 1 : 0.99, stdout);
	if (!trace)
		return OK;
	if (n != 1 || b->failed)
		return FAIL(STATUS_INPUT, "--trace is of one measurement, and there are %u", n);
	return bench_trace(b, trace);
}

/* n: how many of b were begun, for bench_close */
static Status measure_each(Lm *lm, BenchOptions o, const Points *point, Bench *b, u32 *n)
{
	for (u32 i = 0; i < point->n; i++) {
		*n = i + 1;
		TRY(bench_open(lm, &o, point->v[i], point->n > 1, &b[i]));
		for (u32 r = 0; r < o.runs && !b[i].failed; r++)
			TRY(bench_round(&b[i]));
		if (!b[i].failed)
			bench_finish(&b[i], NULL);
		o.started = clock_seconds();
		/* one measurement's memory at a time; what reports read stays in the arena */
		bench_release(&b[i]);
	}
	return OK;
}

static Status measure_in_turns(Lm *lm, BenchOptions o, const Points *point, Bench *b, u32 *n)
{
	const Bench *first = NULL;
	for (u32 i = 0; i < point->n; i++) {
		*n = i + 1;
		TRY(bench_open(lm, &o, point->v[i], true, &b[i]));
		first = first || b[i].failed ? first : &b[i];
		o.started = clock_seconds();
	}
	for (u32 r = 0; r < o.runs; r++)
		for (u32 i = 0; i < point->n; i++)
			if (!b[i].failed)
				TRY(bench_round(&b[i]));
	for (u32 i = 0; i < point->n; i++)
		if (!b[i].failed)
			bench_finish(&b[i], first);
	return OK;
}

static Status run(Lm *lm, f64 started)
{
	if (!forward && !lm->model->has_train)
		return FAIL(STATUS_INPUT,
			    "%s has no train block, which says what a step is; --forward measures the forward pass",
			    lm->operand.source);
	Points point = { 0 };
	TRY(all_points(lm, &point));
	BenchOptions o = { .run = &run_on,
			   .precision = precision ? precision : lm->model->precision,
			   .runs = (u32)runs,
			   .steps = (u32)steps,
			   .forward = forward,
			   .cold = cold, .no_probes = no_probes,
			   .repeat = kernels ? (u32)repeat : 1,
			   .started = started };
	Dataset train = { 0 }, validation = { 0 };
	if (data) {
		TRY(lm_data(lm, data, &train, &validation));
		o.data = &train;
	}
	Bench *b = NEWN(&lm->arena, Bench, point.n);
	u32 n = 0;
	Status s = lm_check_data(lm, &train);
	if (!s)
		s = turns ? measure_in_turns(lm, o, &point, b, &n) : measure_each(lm, o, &point, b, &n);
	if (!s)
		s = report(b, n);
	for (u32 i = 0; i < n; i++)
		bench_close(&b[i]);
	dataset_close(&train);
	dataset_close(&validation);
	return s;
}

int verb_bench(int argc, char **argv)
{
	f64 started = clock_seconds();
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	if (runs > 1000 || repeat < 2)
		return verb_misused("bench",
				    "--runs is at most 1000, and --repeat at least 2");
	Lm lm;
	Arena texts = ARENA("bench");
	SourceOptions all_given = source_with(&texts, &given, "train.memory", memory);
	Status s = lm_open(operand[0], &all_given, &lm);
	if (!s)
		s = run(&lm, started);
	status = s ? lm_failed("bench", &lm, s) : 0;
	lm_close(&lm);
	arena_free(&texts);
	return status;
}
