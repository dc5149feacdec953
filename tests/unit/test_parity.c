/* Whole models against their published implementations: tests/golden/NAME.plinth, elaborated, differentiated and run by
 * the reference evaluator in f64, gives the numbers of NAME.safetensors (tests/golden/README.md): outputs, loss, every
 * parameter's gradient, the optimizer's steps. Then the same by compiled code on this CPU, in f32, with the bounds that
 * f32 allows; and, where PyTorch's own were recorded, in bf16, whose losses stay as near to f32's as PyTorch's do. With
 * $PLINTH_LIBCUDA, also on that GPU, or the stand-in for one (tests/cuda): "*_cuda", two steps of each.
 * A family is a row of `families`, a script and what it wrote. */
#include "codegen/cuda/nvrtc.h"
#include "find_model.h"
#include "frontend/elaborate.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/checkpoint/stacked.h"
#include "runtime/checkpoint/weights.h"
#include "runtime/executor.h"
#include "runtime/views.h"
#include "tools/driver.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct Family {
	const char *name;   /* of the golden */
	const char *source; /* of the model's file beside it; NULL: the same */
	const char *preset; /* of that file; NULL: golden */
	const char *sizes;
	bool curve; /* has losses of PyTorch in bf16 */
} Family;

static const Family families[] = {
	{ "gpt2_tiny", .sizes = "B=4,T=16", .curve = true },
	{ "llama_tiny", .sizes = "B=4,T=16", .curve = true },
	{ "llama3_tiny", .source = "llama_variants", .preset = "llama3", .sizes = "B=2,T=16" },
	{ "qwen2_tiny", .source = "llama_variants", .preset = "qwen2", .sizes = "B=2,T=16" },
	{ "qwen3_tiny", .source = "llama_variants", .preset = "qwen3", .sizes = "B=2,T=16" },
	{ "mistral_tiny", .source = "llama_variants", .preset = "mistral", .sizes = "B=2,T=16" },
	{ "llama_bias", .source = "llama_variants", .preset = "bias", .sizes = "B=2,T=16" },
	{ "bert_tiny", .sizes = "B=3,T=12" },
	{ "bert_classify", .source = "bert_tiny", .preset = "classify", .sizes = "B=3,T=12" },
	{ "bert_embed", .source = "bert_tiny", .preset = "embed", .sizes = "B=3,T=12" },
	{ "clip_tiny", .sizes = "B=3,N=3,T=12" },
	{ "t5_tiny", .sizes = "B=2,S=18,T=16" },
	{ "flan_tiny", .source = "t5_tiny", .preset = "flan", .sizes = "B=2,S=18,T=16" },
	{ "whisper_tiny", .sizes = "B=2,T=14" },
	{ "vit_tiny", .sizes = "B=2" },
	{ "vit_resized", .source = "vit_tiny", .preset = "resized", .sizes = "B=2" },
	{ "roberta_tiny", .sizes = "B=3,T=12" },
	{ "roberta_classify", .source = "roberta_tiny", .preset = "classify", .sizes = "B=3,T=12" },
	{ "mixtral_tiny", .sizes = "B=2,T=12" },
	{ "moe_tiny", .sizes = "B=2,T=12" },
	{ "moe_qwen3", .source = "moe_tiny", .preset = "qwen3", .sizes = "B=2,T=12" },
	{ "moe_olmoe", .source = "moe_tiny", .preset = "olmoe", .sizes = "B=2,T=12" },
	{ "deepseek_tiny", .sizes = "B=2,T=12" },
	{ "deepseek_v2", .source = "deepseek_tiny", .preset = "v2", .sizes = "B=2,T=12" },
	{ "deepseek_lite", .source = "deepseek_tiny", .preset = "lite", .sizes = "B=2,T=12" },
	{ "gemma_tiny", .sizes = "B=2,T=16" },
	{ "gemma3_tiny", .source = "gemma_tiny", .preset = "gemma3", .sizes = "B=2,T=16" },
	{ "lora_tiny", .sizes = "B=3,T=12" },
	{ "dora_tiny", .sizes = "B=3,T=12" },
	{ "prompt_tiny", .sizes = "B=3,T=12" },
	{ "unet_tiny", .sizes = "B=2,h=6,w=8,S=5" },
	{ "unet_linear", .source = "unet_tiny", .preset = "linear", .sizes = "B=2,h=6,w=8,S=5" },
	{ "dit_tiny", .sizes = "B=2" },
	{ "vae_tiny", .sizes = "B=2,h=6,w=8" },
};

typedef struct Run {
	Arena arena, tmp;
	Diag diag;
	Ir *ir;
	Model *model;
	Program *program; /* with backward halves, bound */
	Tensor *buffer;
	Safetensors golden;
	const char *weights;
	i64 steps;
	f64 off_output, off_gradient; /* what docs/models.md says of compiled code */
} Run;

/* The weights file as a published one is read: by the model's own rules. */
static void load_weights(Run *r, const NamedBuffer *want, u32 n)
{
	u32 nrule = r->model->weight.n;
	WeightRule *rule = NEWN(&r->arena, WeightRule, nrule + 1);
	for (u32 i = 0; i < nrule; i++)
		rule[i] = (WeightRule){ r->model->weight.v[i].pattern, r->model->weight.v[i].replacement };
	Status s = weights_load(&r->arena, r->weights, rule, nrule, want, n, &r->diag);
	diag_print(&r->diag, stderr, false);
	assert_null(s);
}

static const SafeTensor *golden(Run *r, const char *name)
{
	const SafeTensor *t = safetensors_find(&r->golden, name);
	if (!t)
		print_error("the golden file has no %s\n", name);
	assert_non_null(t);
	return t;
}

/* Of the f64 reference where there is one. */
static const SafeTensor *reference(Run *r, const char *name)
{
	const SafeTensor *exact = safetensors_find(&r->golden, arena_printf(&r->arena, "ref64/%s", name));
	return exact ? exact : golden(r, name);
}

static const SafeTensor *output(Run *r, const char *name)
{
	const SafeTensor *t = safetensors_find(&r->golden, arena_printf(&r->arena, "output/%s", name));
	return t ? t : reference(r, "logits");
}

/* The family's row on the models' page; no row may allow more than is asked of every family. */
static void read_bounds(Run *r, const Family *f)
{
	Str page;
	assert_null(io_read(&r->arena, SOURCE_DIR "/docs/models.md", &page));
	const char *text = arena_strn(&r->arena, page);
	const char *row = strstr(text, arena_printf(&r->arena, "\n| `%s` |", f->name));
	if (!row)
		fail_msg("docs/models.md has no row for %s under Parity", f->name);
	row = strchr(row + 2, '|') + 1;
	char *end;
	r->off_output = strtod(row, &end);
	r->off_gradient = strtod(strchr(end, '|') + 1, &end);
	assert_true(r->off_output > 0 && r->off_output <= 1e-5);
	assert_true(r->off_gradient > 0 && r->off_gradient <= 1e-3);
}

static void open_run(Run *r, const Family *f)
{
	*r = (Run){ .arena = ARENA("parity"), .tmp = ARENA("tmp") };
	r->diag.arena = &r->arena;
	r->ir = ir_new(&r->arena, &r->diag);
	const char *folder = SOURCE_DIR "/tests/golden", *source = f->source ? f->source : f->name;
	Str text;
	assert_null(io_read(&r->arena, arena_printf(&r->arena, "%s/%s.plinth", folder, source), &text));
	const Ast *ast = parse_source(&r->arena, &r->ir->names, &r->diag, source, text);
	ElaborateOptions o = { .preset = f->preset ? f->preset : "golden", .find = find_model };
	Model *m = ast ? elaborate(&r->arena, r->ir, ast, &o) : NULL;
	diag_print(&r->diag, stderr, false);
	assert_non_null(m);
	r->model = m;
	PassCx cx = { .out = &r->arena, .tmp = &r->tmp, .ir = r->ir, .diag = &r->diag };
	Str pipeline = str_of(arena_printf(&r->arena, "bind{%s},simplify,backward,simplify", f->sizes));
	Status dumped = OK;
	r->program = pipeline_run(pipeline, &cx, m->program, &dumped);
	assert_null(dumped);
	diag_print(&r->diag, stderr, false);
	assert_non_null(r->program);
	assert_null(safetensors_open(&r->arena, arena_printf(&r->arena, "%s/%s.safetensors", folder, f->name), &r->golden));
	r->weights = arena_printf(&r->arena, "%s/%s.weights.safetensors", folder, f->name);
	r->steps = reference(r, "adamw/losses")->dim[0];
	read_bounds(r, f);
	r->buffer = NEWN(&r->arena, Tensor, r->program->buffer.n);
	VEC(NamedBuffer) want = { 0 };
	for (u32 i = 0; i < r->program->buffer.n; i++) {
		const Buffer *b = &r->program->buffer.v[i];
		Tensor *t = &r->buffer[i];
		*t = tensor_new(&r->arena, b->type);
		if (b->kind != BUFFER_PARAMETER)
			continue;
		NamedBuffer whole = { .name = b->name, .dtype = SAFE_F64, .rank = t->rank, .dim = t->dim, .data = t->data };
		NamedBuffer *part = NEWN(&r->arena, NamedBuffer, stacked_count(&whole));
		stacked_parts(&r->arena, &whole, part);
		for (u32 k = 0; k < stacked_count(&whole); k++)
			VEC_PUSH(&r->arena, &want, part[k]);
	}
	load_weights(r, want.v, want.n);
}

static void close_run(Run *r)
{
	safetensors_close(&r->golden);
	arena_free(&r->tmp);
	arena_free(&r->arena);
}

static f64 element(const SafeTensor *t, i64 i)
{
	switch (t->dtype) {
	case SAFE_F64: return ((const f64 *)t->data.p)[i];
	case SAFE_F32: return ((const f32 *)t->data.p)[i];
	case SAFE_BOOL: return t->data.p[i];
	default: assert_int_equal(t->dtype, SAFE_I32); return ((const i32 *)t->data.p)[i];
	}
}

/* What the golden has for a buffer of `n` elements, a stacked one's parts one after another; NULL where there is none. */
static const f64 *golden_buffer(Run *r, const char *prefix, const char *name, u32 rank, const i64 *dim, i64 n)
{
	NamedBuffer whole = { .name = arena_printf(&r->arena, "%s/%s", prefix, name), .dtype = SAFE_F64, .rank = rank, .dim = dim };
	u32 parts = stacked_count(&whole);
	NamedBuffer *part = NEWN(&r->arena, NamedBuffer, parts);
	stacked_parts(&r->arena, &whole, part);
	f64 *out = NEWN(&r->arena, f64, (size_t)n + 1);
	for (u32 i = 0; i < parts; i++) {
		const SafeTensor *t = safetensors_find(&r->golden, part[i].name);
		if (!t)
			return NULL;
		assert_int_equal(t->data.n / safe_dtype_size(t->dtype), n / parts);
		for (i64 k = 0; k < n / parts; k++)
			out[i * (n / parts) + k] = element(t, k);
	}
	return out;
}

/* Runs an entry on batch `step`; its results. */
static Tensor *run_entry(Run *r, const char *name, i64 step)
{
	const Graph *g = program_find_entry(r->program, str_of(name));
	assert_non_null(g);
	u32 n = graph_sources(g, NULL), ninput = 0;
	const Node **source = NEWN(&r->arena, const Node *, n + 1);
	graph_sources(g, source);
	Tensor *input = NEWN(&r->arena, Tensor, n + 1), *result = NEWN(&r->arena, Tensor, g->result.n + 1);
	for (u32 i = 0; i < n; i++) {
		if (source[i]->op != OP_input)
			continue;
		Tensor *t = &input[ninput++];
		*t = tensor_new(&r->arena, val_type(g, source[i]->out));
		const SafeTensor *all = golden(r, ATTR(source[i], input)->name);
		for (i64 k = 0; k < t->n; k++)
			t->data[k] = element(all, step * t->n + k);
	}
	eval_entry(&r->arena, r->program, g, input, r->buffer, result, (EvalOptions){ 0 });
	return result;
}

static f64 result_scalar(Run *r, const char *entry, const Tensor *result, const char *name)
{
	const Graph *g = program_find_entry(r->program, str_of(entry));
	for (u32 i = 0; i < g->result.n; i++)
		if (g->result.v[i].buffer == NONE && !strcmp(g->result.v[i].name, name))
			return result[i].data[0];
	fail_msg("no result %s", name);
	return 0;
}

static Tensor *buffer(Run *r, const char *name)
{
	u32 i = program_find_buffer(r->program, intern_z(&r->ir->names, name));
	if (i == NONE)
		print_error("the program has no buffer %s\n", name);
	assert_true(i != NONE);
	return &r->buffer[i];
}

static void near_relative(f64 got, f64 want, f64 bound, const char *what)
{
	if (!(fabs(got - want) <= bound * fabs(want)))
		fail_msg("%s: %.9g, and PyTorch has %.9g", what, got, want);
}

/* How far numbers are from those of a golden, and how large those get. */
typedef struct Distance {
	f64 off, top;
} Distance;

static void add_distance(Distance *d, f64 got, f64 want)
{
	d->top = fmax(d->top, fabs(want));
	d->off = !(fabs(got - want) <= d->off) ? fabs(got - want) : d->off; /* NaN stays */
}

static void near_output(const char *name, Distance d, f64 bound)
{
	print_message("  %s: %.1e of the largest\n", name, d.off / (d.top > 0 ? d.top : 1));
	if (!(d.off <= bound * d.top))
		fail_msg("%s is off by %g of %g", name, d.off, d.top);
}

/* Gradients are held to `bound` of their largest element, or of a thousandth of the largest of all. */
static void near_gradients(const char *const *name, const Distance *d, u32 n, f64 bound)
{
	f64 most = 0, worst = 0;
	for (u32 i = 0; i < n; i++)
		most = fmax(most, d[i].top);
	for (u32 i = 0; i < n; i++) {
		f64 off = d[i].off / fmax(d[i].top, 1e-3 * most);
		worst = fmax(worst, off);
		if (!(off <= bound))
			fail_msg("gradient of %s is off by %g of %g", name[i], d[i].off, d[i].top);
	}
	print_message("  gradients: %.1e\n", worst);
}

/* A parameter is trained where the published implementation trains it. */
static void check_trained(const char *name, bool theirs, bool ours)
{
	if (theirs != ours)
		fail_msg("%s is %s here, and %s there", name, ours ? "trained" : "frozen", theirs ? "trained" : "frozen");
}

static void compare(Run *r)
{
	/* the evaluator is exact, and so are references in f64 */
	bool exact = safetensors_find(&r->golden, "ref64/loss");
	Tensor *forward = run_entry(r, "forward", 0);
	const Graph *g = program_find_entry(r->program, str_of("forward"));
	for (u32 k = 0; k < g->result.n; k++) {
		const SafeTensor *want = output(r, g->result.v[k].name);
		Distance d = { 0 };
		assert_int_equal(forward[k].n * (i64)safe_dtype_size(want->dtype), want->data.n);
		for (i64 i = 0; i < forward[k].n; i++)
			add_distance(&d, forward[k].data[i], element(want, i));
		near_output(g->result.v[k].name, d, exact ? 1e-9 : 1e-6);
	}
	Tensor *eval = run_entry(r, "eval", 0);
	f64 loss = result_scalar(r, "eval", eval, "loss_sum") / result_scalar(r, "eval", eval, "loss_count");
	near_relative(loss, element(reference(r, "loss"), 0), exact ? 1e-10 : 1e-6, "loss");
	u32 n = r->program->buffer.n, ngradient = 0;
	const char **name = NEWN(&r->arena, const char *, n);
	Distance *d = NEWN(&r->arena, Distance, n);
	for (i64 step = 0; step < r->steps; step++) {
		run_entry(r, "micro_first", step);
		f64 count = buffer(r, "loss_count")->data[0];
		for (u32 i = 0; step == 0 && i < n; i++) {
			const Buffer *b = &r->program->buffer.v[i];
			const Tensor *p = &r->buffer[i];
			if (b->kind != BUFFER_PARAMETER)
				continue;
			const f64 *want = golden_buffer(r, "grad", b->name, p->rank, p->dim, p->n);
			check_trained(b->name, want != NULL, !b->frozen);
			if (b->frozen)
				continue;
			const Tensor *mine = buffer(r, arena_printf(&r->arena, "grad/%s", b->name));
			name[ngradient] = b->name;
			for (i64 k = 0; k < mine->n; k++)
				add_distance(&d[ngradient], mine->data[k] / count, want[k]);
			ngradient++;
		}
		if (step == 0)
			near_gradients(name, d, ngradient, 1e-5);
		Tensor *update = run_entry(r, "update", step);
		near_relative(result_scalar(r, "update", update, "loss"), element(reference(r, "adamw/losses"), step),
			      exact ? 1e-6 : 1e-5, "loss of a step");
		near_relative(result_scalar(r, "update", update, "grad_norm"), element(golden(r, "adamw/grad_norms"), step),
			      1e-4, "gradient norm");
	}
	for (u32 i = 0; i < n; i++) {
		const Buffer *b = &r->program->buffer.v[i];
		const Tensor *p = &r->buffer[i];
		if (b->kind != BUFFER_PARAMETER || b->frozen)
			continue;
		const f64 *after = golden_buffer(r, "adamw/after", b->name, p->rank, p->dim, p->n);
		const f64 *first = golden_buffer(r, "grad", b->name, p->rank, p->dim, p->n);
		assert_true(after && first);
		/* A key's bias has a gradient of exactly zero: Adam divides rounding by rounding there. */
		for (i64 k = 0; k < p->n; k++)
			if (fabs(first[k]) > 1e-6 && !(fabs(p->data[k] - after[k]) <= 2e-4))
				fail_msg("%s[%lld] after %lld steps: %g, and PyTorch has %g", b->name, (long long)k,
					 (long long)r->steps, p->data[k], after[k]);
	}
}

/* ---- compiled code ---- */

typedef struct Built {
	Compiled compiled;
	Executor *executor;
} Built;

static void start(Run *r, const char *sizes, const char *precision, const DeviceOptions *on, const char *device, Built *m)
{
	DriverOptions o = { .device = device, .sizes = sizes, .precision = precision };
	Status s = driver_compile(&r->arena, r->model->program, &o, &m->compiled);
	if (s)
		fail_msg("%s", s->text);
	diag_print(&r->diag, stderr, false);
	assert_non_null(m->compiled.package);
	assert_null(executor_create(m->compiled.package, on, &m->executor));
	assert_null(executor_run(m->executor, package_entry(m->compiled.package, "init"), NULL, NULL));
	BufferViews p = buffer_views(&r->arena, m->executor, VIEW_PARAMETERS);
	load_weights(r, p.v, p.n);
}

static void stop(Built *m)
{
	executor_destroy(m->executor);
	driver_close(&m->compiled);
}

static const PackageEntry *execute(Run *r, Built *m, const char *name, i64 step)
{
	const PackageEntry *e = package_entry(m->compiled.package, name);
	assert_non_null(e);
	for (u32 i = 0; i < e->ninput; i++) {
		const SafeTensor *all = golden(r, e->input[i].name);
		assert_null(executor_write(m->executor, &e->input[i], all->data.p + (size_t)step * e->input[i].bytes));
	}
	assert_null(executor_run(m->executor, e, NULL, NULL));
	return e;
}

static f64 scalar(Built *m, const PackageEntry *e, const char *name)
{
	f64 x;
	assert_non_null(executor_result(e, name));
	assert_null(executor_scalar(m->executor, executor_result(e, name), NAN, &x));
	return x;
}

static f64 train_step(Run *r, Built *m, i64 step)
{
	execute(r, m, "micro_first", step);
	return scalar(m, execute(r, m, "update", step), "loss");
}

/* What the tensor holds; a copy where the host cannot see the device's memory. */
static const f32 *values(Run *r, Built *m, const PackageTensor *t)
{
	void *there = executor_memory(m->executor, t);
	if (there)
		return there;
	f32 *x = NEWN(&r->arena, f32, t->bytes / 4 + 1);
	assert_null(executor_read(m->executor, t, x));
	return x;
}

static void compare_gradients(Run *r, Built *m)
{
	u32 n = 0, most = m->compiled.package->nbuffer;
	const char **name = NEWN(&r->arena, const char *, most);
	Distance *d = NEWN(&r->arena, Distance, most);
	f64 count;
	assert_null(executor_scalar(m->executor, &executor_buffer(m->executor, "loss_count")->tensor, NAN, &count));
	for (u32 i = 0; i < most; i++) {
		const PackageBuffer *b = &m->compiled.package->buffer[i];
		if (b->kind != PACKAGE_PARAMETER)
			continue;
		const PackageTensor *t = &b->tensor;
		const f64 *want = golden_buffer(r, "grad", t->name, t->rank, t->dim, (i64)(t->bytes / 4));
		check_trained(t->name, want != NULL, !b->frozen);
		if (b->frozen)
			continue;
		const char *gradient = arena_printf(&r->arena, "grad/%s", t->name);
		const f32 *mine = values(r, m, &executor_buffer(m->executor, gradient)->tensor);
		name[n] = t->name;
		for (u64 k = 0; k < t->bytes / 4; k++)
			add_distance(&d[n], mine[k] / count, want[k]);
		n++;
	}
	near_gradients(name, d, n, r->off_gradient);
}

/* The f32 step; losses of the optimizer's first `steps` steps. */
static void compare_f32(Run *r, const Family *f, const DeviceOptions *on, const char *device, i64 steps, f64 *losses)
{
	Built m;
	start(r, f->sizes, "f32", on, device, &m);
	const PackageEntry *forward = execute(r, &m, "forward", 0);
	for (u32 k = 0; k < forward->nresult; k++) {
		const PackageTensor *result = &forward->result[k];
		const f32 *mine = values(r, &m, result);
		const SafeTensor *want = output(r, result->name);
		Distance d = { 0 };
		for (u64 i = 0; i < result->bytes / 4; i++)
			add_distance(&d, mine[i], element(want, (i64)i));
		near_output(result->name, d, r->off_output);
	}
	const PackageEntry *eval = execute(r, &m, "eval", 0);
	near_relative(scalar(&m, eval, "loss_sum") / scalar(&m, eval, "loss_count"), element(reference(r, "loss"), 0), 1e-5,
		      "loss");
	execute(r, &m, "micro_first", 0);
	compare_gradients(r, &m);
	for (i64 step = 0; step < steps; step++) {
		losses[step] = train_step(r, &m, step);
		near_relative(losses[step], element(reference(r, "adamw/losses"), step), 1e-4, "loss of a step");
	}
	stop(&m);
}

/* Losses in bf16 beside PyTorch's: row 0 of its curves is the golden's start and data. */
static void compare_bf16(Run *r, const Family *f)
{
	Built m;
	start(r, f->sizes, "bf16", &(DeviceOptions){ .threads = 2 }, "cpu", &m);
	const SafeTensor *curve = golden(r, "curve/f32"), *theirs = golden(r, "curve/bf16");
	f64 spread = 0;
	for (i64 i = 0; i < 800; i++)
		spread = fmax(spread, fabs(element(theirs, i) / element(curve, i) - 1));
	for (i64 step = 0; step < 100; step++)
		near_relative(train_step(r, &m, step), element(curve, step), spread, "bf16 loss of a step");
	stop(&m);
}

static void evaluated(void **state)
{
	Run r;
	open_run(&r, *state);
	compare(&r);
	close_run(&r);
}

static void compiled(void **state)
{
	const Family *f = *state;
	f64 losses[2][20];
	Run r;
	open_run(&r, f);
	assert_true(r.steps <= (i64)COUNT(losses[0]));
	for (u32 threads = 1; threads <= 2; threads++)
		compare_f32(&r, f, &(DeviceOptions){ .threads = threads }, "cpu", r.steps, losses[threads - 1]);
	assert_memory_equal(losses[0], losses[1], (size_t)r.steps * sizeof **losses); /* the same bits on two threads */
	if (f->curve)
		compare_bf16(&r, f);
	close_run(&r);
}

/* Products by generated code: test_compiled.c has those by a library. */
static void on_cuda(void **state)
{
	const Family *f = *state;
	f64 losses[2];
	DeviceInfo info;
	const Nvrtc *nvrtc;
	Status s = device_cuda.info(0, &info);
	if (!s)
		s = nvrtc_open(&nvrtc);
	if (s) {
		print_message("skipped: %s\n", s->text);
		skip();
	}
	Run r;
	open_run(&r, f);
	compare_f32(&r, f, &(DeviceOptions){ .matmul = MATMUL_GENERATED }, "cuda", MIN(r.steps, (i64)COUNT(losses)), losses);
	close_run(&r);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	struct CMUnitTest tests[2 * COUNT(families)], gpu[COUNT(families)];
	static char name[COUNT(tests)][64], gpu_name[COUNT(gpu)][64];
	for (u32 i = 0; i < COUNT(tests); i++) {
		const Family *f = &families[i / 2];
		snprintf(name[i], sizeof name[i], "%s%s", f->name, i % 2 ? "_compiled" : "");
		tests[i] = (struct CMUnitTest){ .name = name[i], .test_func = i % 2 ? compiled : evaluated, .initial_state = (void *)f };
	}
	for (u32 i = 0; i < COUNT(gpu); i++) {
		snprintf(gpu_name[i], sizeof gpu_name[i], "%s_cuda", families[i].name);
		gpu[i] = (struct CMUnitTest){ .name = gpu_name[i], .test_func = on_cuda, .initial_state = (void *)&families[i] };
	}
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	return failed + (getenv("PLINTH_LIBCUDA") ? cmocka_run_group_tests(gpu, NULL, NULL) : 0);
}
