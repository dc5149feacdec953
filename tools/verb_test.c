/* tools/verb_test.c: `plinth test`: does this machine compute what it should? The tests that are made from tables and
 * models (selftest.h), for machines where there is no test framework: a GPU's. */
#include "runtime/signals.h"
#include "tools/lm.h"
#include "tools/random_program.h"
#include "tools/selftest.h"
#include "tools/sizes.h"
#include "tools/verbs.h"

#include <glob.h>
#include <math.h>
#include <string.h>

static SourceOptions source;
static RunOptions where;
static const char *sizes = "B=2,T=16", *precision;
static TextList op;
static i64 seed = 1, graphs = 20;

static const Option options[] = {
	SOURCE_OPTIONS(source),
	RUN_OPTIONS(where),
	{ "sizes", 'z', OPTION_TEXT, &sizes, "B=2,T=16", "of models, over those of their batch" },
	{ "precision", 0, OPTION_TEXT, &precision, "TYPE", "of models: f32, bf16, autocast, fp8; the first two if not given" },
	{ "op", 'o', OPTION_LIST, &op, "NAME", "test this op alone; may be given several times" },
	{ "graphs", 'g', OPTION_SIZE, &graphs, "N", "random graphs: 20 by default" },
	{ "seed", 0, OPTION_INT, &seed, "N", "of everything that is drawn: 1 by default" },
};

static const OptionRule rules[] = {
	{ RULE_EXCLUDE, "op", "graphs sizes precision", "it tests ops alone" },
};

static const Command command = {
	.name = "test",
	.operands = "[MODEL...]",
	.least = 0,
	.most = -1,
	.about = "Compares what compiled code computes on a device with the evaluator, which is plain\n"
		 "and in f64: every op, with a shape and values drawn from the seed; random graphs of\n"
		 "many ops; and a training step of models, entry by entry: first values, loss,\n"
		 "every gradient, the update. Everything runs twice, and must give the same bits.\n"
		 "Errors are told as a share of what is allowed: 1e-4 of a tensor's largest\n"
		 "magnitude, or 0.02 where bf16 or f16 are used, 0.1 where 8 bits are.\n\n"
		 "Models are a tiny one of its own and those given; else those in models/ that have a\n"
		 "preset `tiny` or `test`, with that. The evaluator is slow: give small ones.\n"
		 "Exit status 3 where something disagrees.",
	.example = "  plinth test\n"
		   "  plinth test --device cuda\n"
		   "  plinth test --device cuda --op softmax --op sum --graphs 0\n"
		   "  plinth test models/llama.plinth --preset tiny --sizes B=1,T=33 --precision bf16",
	.option = options,
	.noption = COUNT(options),
	.rule = rules,
	.nrule = COUNT(rules),
};

/* A line of the table. */
typedef struct Row {
	const char *name;
	u32 run, failed, refused;
	f64 worst;
	char worst_of[160];
} Row;

typedef struct Session {
	Arena arena; /* of rows */
	DriverOptions driver;
	DeviceOptions device;
	VEC(Row) row;
} Session;

static Row *new_row(Session *s, const char *name)
{
	VEC_PUSH(&s->arena, &s->row, ((Row){ .name = arena_printf(&s->arena, "%s", name) }));
	return &s->row.v[s->row.n - 1];
}

static void note(Row *r, const char *what, const Agreement *a)
{
	r->run++;
	if (a->worst > r->worst) {
		r->worst = a->worst;
		snprintf(r->worst_of, sizeof r->worst_of, "%s: %s", what, a->what ? a->what : "");
	}
	if (a->worst <= 1 && a->repeats)
		return;
	r->failed++;
	if (a->worst > 1)
		printf("WRONG  %s: %s[%lld] should be %.9g, and is %.9g: %.3g times what is allowed\n", what, a->what, (long long)a->at, a->want,
		       a->got, a->worst);
	if (!a->repeats)
		printf("WRONG  %s: the same again gave other bits\n", what);
	fflush(stdout);
}

/* ---- ops and graphs ---- */

typedef struct Bench {
	Arena arena;
	Diag diag;
	Ir *ir;
} Bench;

static void bench_open(Bench *b)
{
	*b = (Bench){ .arena = ARENA("test") };
	b->diag.arena = &b->arena;
	b->ir = ir_new(&b->arena, &b->diag);
	diag_source(&b->diag, "drawn", STR("")); /* places of random programs are in two files */
	diag_source(&b->diag, "other", STR(""));
}

/* One program whose one entry is drawn from `r`. A failure of the device ends it all. */
static Status test_program(Session *s, Bench *b, const Program *p, Random *r, const char *what, Row *row)
{
	Tested t;
	Status status;
	Agreement a;
	if (!tested_open(&b->arena, p, &s->driver, &s->device, r, &t, &status)) {
		if (!status)
			row->refused++;
		else
			verb_report(&b->diag, false);
		return status_context(status, "%s", what);
	}
	status = tested_fill(&b->arena, &t);
	if (!status)
		status = tested_entry(&b->arena, &t, p->entry.v[0]->name, NULL, NULL, &a);
	tested_close(&t);
	TRY(status_context(status, "%s", what));
	note(row, what, &a);
	return OK;
}

static bool wanted(const char *name)
{
	bool yes = !op.n;
	for (int i = 0; i < op.n; i++)
		yes |= !strcmp(op.v[i], name);
	return yes;
}

static bool is_op(const char *name)
{
	for (u32 i = 0; i < OPS; i++)
		if (!strcmp(op_info[i].name, name))
			return true;
	return false;
}

static Status test_ops(Session *s)
{
	Row *row = new_row(s, "ops");
	for (u32 i = 0; i < OPS && !signals_requested(); i++) {
		if (!wanted(op_info[i].name))
			continue;
		Bench b;
		bench_open(&b);
		Random r = random_new(&b.arena, (u64)seed);
		const Program *p = selftest_op(&b.arena, b.ir, &r, i);
		Status status = p ? test_program(s, &b, p, &r, arena_printf(&b.arena, "op %s", op_info[i].name), row) : OK;
		arena_free(&b.arena);
		TRY(status);
	}
	return OK;
}

static Status test_graphs(Session *s)
{
	Row *row = new_row(s, "random graphs");
	for (i64 i = 0; i < graphs && !signals_requested(); i++) {
		Bench b;
		u64 from = (u64)seed * 1000 + (u64)i;
		bench_open(&b);
		Random r = random_new(&b.arena, from);
		const Program *p = random_program(&b.arena, b.ir, from, 25);
		Status status =
			test_program(s, &b, p, &r, arena_printf(&b.arena, "random graph %llu", (unsigned long long)from), row);
		arena_free(&b.arena);
		TRY(status);
	}
	return OK;
}

/* ---- models ---- */

static const char tiny[] = "# the tiny model of `plinth test`\n"
			   "use std.nn\n"
			   "use std.train\n"
			   "module Block(x: [B, T, D]) -> [B, T, D] {\n"
			   "  q, k, v = rearrange(Linear(LayerNorm(x) as norm, out = 3 * D) as qkv, \"B T (three H K) -> three B H T K\",\n"
			   "                      three = 3, H = 2)\n"
			   "  x = x + Linear(rearrange(attention(q, k, v, causal = true), \"B H T K -> B T (H K)\"), out = D) as out\n"
			   "  return x + Linear(gelu(Linear(RmsNorm(x) as norm2, out = 4 * D) as up, approximate = \"tanh\"), out = D) as down\n"
			   "}\n"
			   "model tiny(tokens: i32[B, T]) -> [B, T, 50] {\n"
			   "  param embedding: [50, 24] = normal(std = 0.1)\n"
			   "  x = dropout(embedding[tokens], rate = 0.1)\n"
			   "  for i in 0..2 {\n"
			   "    x = Block(x) as \"h.{i}\"\n"
			   "  }\n"
			   "  return x @ transpose(embedding)\n"
			   "}\n"
			   "train {\n"
			   "  input tokens: i32[B, T]\n"
			   "  input targets: i32[B, T]\n"
			   "  loss = cross_entropy(tiny(tokens), targets)\n"
			   "  batch = { B = 2, T = 16 }\n"
			   "  optimizer = adamw(lr = 1e-3, weight_decay = 0.1)\n"
			   "  clip = 1.0\n"
			   "}\n";

typedef struct Draw {
	Random *random;
	i64 vocabulary;
} Draw;

/* Ids of tokens below the vocabulary; seeds. */
static void draw_input(void *cx, const char *name, Tensor *t)
{
	Draw *d = cx;
	bool ids = strcmp(name, "seed") != 0;
	SampleInput how = { { 0 }, SAMPLE_WHOLE, 0, ids ? (f64)(d->vocabulary - 1) : 1000 };
	sample_fill(d->random, &how, t);
}

/* How many logits the model has: the last extent of its first result. */
static i64 vocabulary_of(const Program *p)
{
	const Graph *g = program_find_entry(p, STR("forward"));
	if (!g || !g->result.n)
		return 2;
	const Type *t = val_type(g, g->result.v[0].value);
	return t->rank ? type_extent(t, t->rank - 1) : 2;
}

static Status test_entries(Tested *t, const char *name, Row *row)
{
	static const char *const order[] = { "init", "forward", "eval", "micro_first", "micro", "update" };
	Draw d = { t->random, vocabulary_of(t->reference) };
	for (u32 i = 0; i < COUNT(order) && !signals_requested(); i++) {
		if (!program_find_entry(t->reference, str_of(order[i])))
			continue;
		Arena tmp = ARENA("entry");
		Agreement a;
		Status status = tested_entry(&tmp, t, order[i], draw_input, &d, &a);
		if (!status)
			note(row, arena_printf(&tmp, "%s, entry %s", name, order[i]), &a);
		arena_free(&tmp);
		TRY(status_context(status, "%s, entry %s", name, order[i]));
	}
	return OK;
}

static Status test_model_in(Session *s, SourceFile *file, const char *name, const char *dtype)
{
	const char *missing;
	Row *row = new_row(s, arena_printf(&s->arena, "%s, %s", name, dtype));
	DriverOptions driver = s->driver;
	driver.sizes = sizes_all(&file->arena, file->model, sizes, &missing);
	if (missing)
		return FAIL(STATUS_INPUT, "%s has sizes that neither --sizes nor a batch says: %s", name, missing);
	driver.precision = dtype;
	driver.accumulate = true;
	Random r = random_new(&file->arena, (u64)seed);
	Tested t;
	Status status;
	if (!tested_open(&file->arena, file->model->program, &driver, &s->device, &r, &t, &status)) {
		verb_report(&file->diag, false);
		row->refused += !status;
		return status_context(status, "%s", name);
	}
	t.reference = t.compiled.model; /* differentiated */
	t.least = 1e-30;
	t.allowed = !strcmp(dtype, "fp8") ? ALLOWED_F8 : strcmp(dtype, "f32") ? ALLOWED_NARROW : ALLOWED;
	status = test_entries(&t, name, row);
	tested_close(&t);
	return status;
}

static Status test_model(Session *s, SourceFile *file, const char *name)
{
	if (file->diag.nerror || !file->model) {
		verb_report(&file->diag, false);
		return FAIL(STATUS_INPUT, "%s has errors", name);
	}
	if (precision)
		return test_model_in(s, file, name, precision);
	TRY(test_model_in(s, file, name, "f32"));
	/* refusals are collected in the file's own messages */
	return file->diag.nerror ? OK : test_model_in(s, file, name, "bf16");
}

static Status test_file(Session *s, const char *path, const SourceOptions *o)
{
	SourceFile file;
	Status status = source_open(path, o, &file);
	if (!status)
		status = test_model(s, &file, path);
	source_close(&file);
	return status;
}

/* Without a preset, the one called tiny, or that of tests: models of published sizes are more than the evaluator is done with. */
static Status test_small(Session *s, const char *path)
{
	static const char *const small[] = { "tiny", "test" };
	for (u32 i = 0; i < COUNT(small); i++) {
		SourceOptions o = source;
		o.preset = small[i];
		SourceFile file;
		TRY(source_open(path, &o, &file));
		bool has = !file.diag.nerror && file.model;
		source_close(&file);
		if (has)
			return test_file(s, path, &o);
	}
	printf("%s is left out: it has no preset `tiny` or `test`\n", path);
	return OK;
}

static Status test_tiny(Session *s)
{
	SourceFile file;
	Status status = source_of_text("tiny", STR(tiny), &(SourceOptions){ 0 }, &file);
	if (!status)
		status = test_model(s, &file, "tiny");
	source_close(&file);
	return status;
}

static Status test_models(Session *s, char **path, int n)
{
	TRY(test_tiny(s));
	for (int i = 0; i < n && !signals_requested(); i++)
		TRY(test_file(s, path[i], &source));
	glob_t found = { 0 };
	Status status = OK;
	if (!n && glob("models/*.plinth", 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc && !status && !signals_requested(); i++)
			status = test_small(s, found.gl_pathv[i]);
	globfree(&found);
	return status;
}

/* ---- the table ---- */

static u32 print_table(const Session *s)
{
	u32 failed = 0;
	printf("%-36s %5s %6s %8s  %s\n", "", "run", "wrong", "no code", "largest error, of what is allowed");
	for (u32 i = 0; i < s->row.n; i++) {
		const Row *r = &s->row.v[i];
		printf("%-36s %5u %6u %8u", r->name, r->run, r->failed, r->refused);
		if (r->run)
			printf("  %.3g%s%s", r->worst, *r->worst_of ? "  " : "", r->worst_of);
		putchar('\n');
		failed += r->failed;
	}
	return failed;
}

static Status run(Session *s, char **path, int n)
{
	TRY(run_options(&where, &s->device));
	for (int i = 0; i < n; i++) /* what is no source is told before minutes of tests */
		TRY(source_uncompiled(path[i]));
	s->driver = (DriverOptions){ .device = where.device, .cpu = where.cpu, .arch = where.arch, .threads = (u32)where.threads };
	Status status = test_ops(s);
	if (!status && !op.n)
		status = test_graphs(s);
	if (!status && !op.n)
		status = test_models(s, path, n);
	u32 failed = print_table(s);
	TRY(status);
	if (failed)
		return FAIL(STATUS_CONTRACT, "%u comparison%s failed", failed, failed == 1 ? "" : "s");
	return OK;
}

int verb_test(int argc, char **argv)
{
	char **operand;
	int n, status;
	if (!options_parse(&command, argc, argv, &operand, &n, &status))
		return status;
	for (int i = 0; i < op.n; i++)
		if (!is_op(op.v[i]))
			return verb_misused("test", "there is no op '%s'; `plinth opt --list-ops` names them", op.v[i]);
	if (op.n && n)
		return verb_misused("test", "--op tests ops alone, and %s is a model", operand[0]);
	Session s = { .arena = ARENA("session") };
	Status why = signals_install();
	if (!why)
		why = run(&s, operand, n);
	status = why ? verb_failed("test", why) : signals_requested() ? 128 + signals_requested() : 0;
	arena_free(&s.arena);
	return status;
}
