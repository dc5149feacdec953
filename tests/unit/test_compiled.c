/* Programs compiled for this CPU and run by the executor. Random graphs and a use of every op against the
 * evaluator; whole models against PyTorch's numbers (tests/golden): loss, every gradient, twenty AdamW
 * steps. One thread and three give the same bits. The models also on a GPU, by way of the stand-in for its driver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "codegen/cuda/nvrtc.h"
#include "find_model.h"
#include "frontend/elaborate.h"
#include "ir/eval.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/executor.h"
#include "tools/random_kernels.h"
#include "tools/random_program.h"
#include "tools/selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- executors of one program, with one thread and with three (a GPU knows no threads: twice the same) ---- */

enum { WAYS = 2 };

typedef struct Session {
	Arena arena;
	Compiled compiled;
	Executor *executor[WAYS];
	u8 *base[WAYS]; /* the arena: the executor's own, or what is written to the device before a run and read after it */
} Session;

static bool open_session(Session *s, const Program *p, const DriverOptions *options)
{
	static const u32 threads[WAYS] = { 1, 3 };
	*s = (Session){ .arena = ARENA("session") };
	Status status = driver_compile(&s->arena, p, options, &s->compiled);
	if (status)
		fail_msg("%s", status->text);
	if (!s->compiled.package) {
		driver_close(&s->compiled);
		arena_free(&s->arena);
		return false;
	}
	for (u32 i = 0; i < WAYS; i++) {
		assert_null(executor_create(s->compiled.package, &(DeviceOptions){ .threads = threads[i] }, &s->executor[i]));
		s->base[i] = executor_memory(s->executor[i], &(PackageTensor){ 0 });
		if (!s->base[i])
			s->base[i] = (u8 *)NEWN(&s->arena, f64, s->compiled.package->arena_bytes / sizeof(f64) + 1);
	}
	return true;
}

static void close_session(Session *s)
{
	for (u32 i = 0; i < WAYS; i++)
		executor_destroy(s->executor[i]);
	driver_close(&s->compiled);
	arena_free(&s->arena);
}

static void set_input(Session *s, const char *entry, const char *name, const f64 *x)
{
	for (u32 w = 0; w < WAYS; w++) {
		const PackageTensor *t = executor_input(package_entry(s->compiled.package, entry), name);
		assert_non_null(t);
		void *to = s->base[w] + t->offset;
		for (i64 i = 0, n = (i64)(t->bytes / dtype_info[t->dtype].bytes); i < n; i++)
			element_put(t->dtype, to, i, x[i]);
	}
}

static void set_buffer(Session *s, const char *name, const f64 *x)
{
	for (u32 w = 0; w < WAYS; w++) {
		const PackageBuffer *b = executor_buffer(s->executor[w], name);
		assert_non_null(b);
		void *to = s->base[w] + b->tensor.offset;
		i64 n = (i64)(b->tensor.bytes / dtype_info[b->tensor.dtype].bytes);
		for (i64 i = 0; i < n; i++)
			element_put(b->tensor.dtype, to, i, x[i]);
	}
}

/* Where the host cannot see what the device has: there and back. */
static void carry(Session *s, u32 w, const PackageTensor *t, bool back)
{
	if (executor_memory(s->executor[w], t))
		return;
	assert_null(back ? executor_read(s->executor[w], t, s->base[w] + t->offset) :
			   executor_write(s->executor[w], t, s->base[w] + t->offset));
}

static void run_one(Session *s, u32 w, const PackageEntry *e)
{
	const Package *p = s->compiled.package;
	for (u32 i = 0; i < p->nbuffer; i++)
		carry(s, w, &p->buffer[i].tensor, false);
	for (u32 i = 0; i < e->ninput; i++)
		carry(s, w, &e->input[i], false);
	assert_null(executor_run(s->executor[w], e, NULL, NULL));
	for (u32 i = 0; i < p->nbuffer; i++)
		carry(s, w, &p->buffer[i].tensor, true);
	for (u32 i = 0; i < e->nresult; i++)
		carry(s, w, &e->result[i], true);
}

/* Both, and what they leave in buffers and results is the same to the bit. */
static void run(Session *s, const char *name)
{
	const PackageEntry *e = package_entry(s->compiled.package, name);
	assert_non_null(e);
	for (u32 w = 0; w < WAYS; w++)
		run_one(s, w, e);
	const u8 *a = s->base[0], *b = s->base[1];
	for (u32 i = 0; i < s->compiled.package->nbuffer; i++) {
		const PackageTensor *t = &s->compiled.package->buffer[i].tensor;
		if (memcmp(a + t->offset, b + t->offset, t->bytes))
			fail_msg("buffer %s depends on the number of threads", t->name);
	}
	for (u32 i = 0; i < e->nresult; i++) {
		const PackageTensor *t = &e->result[i];
		if (memcmp(a + t->offset, b + t->offset, t->bytes))
			fail_msg("result %s depends on the number of threads", t->name);
	}
}

/* ---- against the evaluator ---- */

typedef struct Bench {
	Arena arena;
	Diag diag;
	Ir *ir;
} Bench;

static void bench_open(Bench *c)
{
	*c = (Bench){ .arena = ARENA("test") };
	c->diag.arena = &c->arena;
	c->ir = ir_new(&c->arena, &c->diag);
	diag_source(&c->diag, "one", STR(""));
	diag_source(&c->diag, "two", STR(""));
}

/* Every input is drawn as `r` says, whole numbers where it says nothing. False: they differ. $CPU: for that one. */
static bool compiled_agrees(Bench *c, const Program *p, Random *r, bool narrow)
{
	Tested t;
	Status status;
	Agreement found;
	DriverOptions o = { .device = "cpu", .cpu = getenv("CPU"), .threads = 1, .no_cache = true };
	if (!tested_open(&c->arena, p, &o, &(DeviceOptions){ .threads = 1 }, r, &t, &status)) {
		if (status)
			diag_print(&c->diag, stderr, false);
		return !status;
	}
	if (narrow) {
		t.allowed = ALLOWED_NARROW;
		t.rounds = true;
	}
	assert_null(tested_fill(&c->arena, &t));
	assert_null(tested_entry(&c->arena, &t, p->entry.v[0]->name, NULL, NULL, &found));
	bool fine = found.worst <= 1 && found.repeats;
	if (!fine)
		print_error("%s[%lld]: should be %.9g, is %.9g%s\n", found.what ? found.what : "", (long long)found.at, found.want, found.got,
			    found.repeats ? "" : "; bits depend on the number of threads");
	if (!fine && getenv("SHOW")) {
		program_print(t.compiled.program, stderr);
		plan_print(t.compiled.plan, stderr);
		for (u32 i = 0; i < t.compiled.plan->kernel.n; i++)
			kernel_print(t.compiled.plan->kernel.v[i], stderr);
	}
	tested_close(&t);
	return fine;
}

static void every_op(void **state)
{
	(void)state;
	u32 failed = 0;
	for (u32 op = 0; op < OPS; op++) {
		if (getenv("OP") && strcmp(getenv("OP"), op_info[op].name))
			continue;
		Bench c;
		bench_open(&c);
		Random r = random_new(&c.arena, getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : 3);
		const Program *p = selftest_op(&c.arena, c.ir, &r, op);
		if (p && !compiled_agrees(&c, p, &r, false)) {
			print_error("op %s\n", op_info[op].name);
			failed++;
		}
		arena_free(&c.arena);
	}
	assert_int_equal(failed, 0);
}

static void random_graphs(void **state)
{
	(void)state;
	u32 failed = 0;
	u64 first = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : 1000;
	u64 count = getenv("COUNT") ? strtoull(getenv("COUNT"), NULL, 10) : 8;
	for (u64 seed = first; seed < first + count; seed++) {
		Bench c;
		bench_open(&c);
		Program *p = random_program(&c.arena, c.ir, seed, 25);
		Random r = random_new(&c.arena, seed);
		if (!compiled_agrees(&c, p, &r, false)) {
			print_error("seed %llu\n", (unsigned long long)seed);
			failed++;
		}
		arena_free(&c.arena);
	}
	assert_int_equal(failed, 0);
}

/* Of those with bf16 and f16, values are rounded on the way, in either direction where they are near the middle. */
static void random_kernels(void **state)
{
	(void)state;
	u32 failed = 0;
	u64 first = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : 1000;
	u64 count = getenv("COUNT") ? strtoull(getenv("COUNT"), NULL, 10) : 24;
	for (u64 seed = first; seed < first + count; seed++) {
		Bench c;
		bench_open(&c);
		Random r = random_new(&c.arena, seed);
		bool narrow = random_chance(&r, 0.3);
		Program *p = random_kernel_program(&c.arena, c.ir, &r, narrow);
		if (!compiled_agrees(&c, p, &r, narrow)) {
			print_error("seed %llu\n", (unsigned long long)seed);
			failed++;
		}
		arena_free(&c.arena);
	}
	assert_int_equal(failed, 0);
}

/* Of a program as text; where values are narrow, inputs are real numbers from -2 to 2. */
static void text_agrees(const char *text, u64 seed, bool narrow)
{
	Bench c;
	bench_open(&c);
	const Program *p = program_parse(&c.arena, c.ir, str_of(text), 0);
	if (!p)
		diag_print(&c.diag, stderr, false);
	assert_non_null(p);
	Random r = random_new(&c.arena, seed);
	const Graph *g = p->entry.v[0];
	for (u32 i = 0; i < g->node.n && narrow; i++)
		if (g->node.v[i].op == OP_input)
			VEC_PUSH(&c.arena, &r.input, ((SampleInput){ g->node.v[i].out, SAMPLE_REAL, -2, 2 }));
	assert_true(compiled_agrees(&c, p, &r, narrow));
	arena_free(&c.arena);
}

/* What all elements share is read under no element's guard. */
static void random_padded(void **state)
{
	(void)state;
	const char *text = "program t\nentry e {\n"
			   "  %1 = input seed : i64[]\n  %2 = input step : i64[]\n"
			   "  %3 = random %1, %2 {key = \"noise\", shape = [3, 21]} : f32[3, 21]\n"
			   "  %4 = pad %3 {low = [0, 1], high = [0, 2], value = 0.5} : f32[3, 24]\n"
			   "  result r = %4\n}\n";
	text_agrees(text, 3, false);
}

/* Nothing at all is a piece of something, and is brought into another shape that holds nothing: as of texts of one token, but the first. */
static void of_nothing(void **state)
{
	(void)state;
	const char *text = "program t\nentry e {\n"
			   "  %1 = input x : f32[2, 0, 16]\n  %2 = reshape %1 : f32[0, 4, 4]\n  %3 = exp %2 : f32[0, 4, 4]\n"
			   "  %4 = reshape %3 : f32[4, 0, 8, 1]\n  %5 = pad %4 {low = [0, 1, 0, 0], high = [0, 1, 1, 0], value = 0.5} : f32[4, 2, 9, 1]\n"
			   "  %6 = sum %2 {axes = [0]} : f32[4, 4]\n"
			   "  result r = %5\n  result s = %6\n}\n";
	text_agrees(text, 3, false);
}

/* Sums that are taken in two steps are rounded once, whatever they are of: several of these are near 0. */
static void narrow_sums(void **state)
{
	(void)state;
	const char *text = "program t\nentry e {\n"
			   "  %1 = input x : bf16[17, 17, 100]\n  %2 = sum %1 {axes = [0, 1, 2]} : bf16[]\n"
			   "  %3 = input y : f16[40000]\n  %4 = sum %3 {axes = [0]} : f16[]\n"
			   "  %5 = input z : bf16[30, 5, 80]\n  %6 = sum %5 {axes = [0, 2]} : bf16[5]\n"
			   "  result a = %2\n  result b = %4\n  result c = %6\n}\n";
	text_agrees(text, 5, true);
}

/* ---- against PyTorch ---- */

typedef struct Golden {
	Bench c;
	Session s;
	Safetensors golden, weights;
} Golden;

static const SafeTensor *golden(Golden *g, const char *name)
{
	const SafeTensor *t = safetensors_find(&g->golden, name);
	if (!t)
		print_error("the golden file has no %s\n", name);
	assert_non_null(t);
	return t;
}

static f64 safe_element(const SafeTensor *t, i64 i)
{
	switch (t->dtype) {
	case SAFE_F64: return ((const f64 *)t->data.p)[i];
	case SAFE_F32: return ((const f32 *)t->data.p)[i];
	default: return ((const i32 *)t->data.p)[i];
	}
}

static void golden_open(Golden *g, const char *name, const char *device, const char *sizes)
{
	bench_open(&g->c);
	Arena *a = &g->c.arena;
	Arena tmp = ARENA("names");
	const char *path = arena_printf(a, "%s/tests/golden/%s", SOURCE_DIR, name);
	Str text;
	assert_null(io_read(a, arena_printf(a, "%s.plinth", path), &text));
	const Ast *ast = parse_source(a, &g->c.ir->names, &g->c.diag, name, text);
	ElaborateOptions eo = { .preset = "golden", .find = find_model };
	Model *m = ast ? elaborate(a, g->c.ir, ast, &eo) : NULL;
	diag_print(&g->c.diag, stderr, false);
	assert_non_null(m);
	DriverOptions o = { .device = device, .sizes = sizes, .threads = 2, .no_cache = true };
	bool compiled = open_session(&g->s, m->program, &o);
	diag_print(&g->c.diag, stderr, false);
	assert_true(compiled);
	assert_null(safetensors_open(a, arena_printf(a, "%s.safetensors", path), &g->golden));
	assert_null(safetensors_open(a, arena_printf(a, "%s.weights.safetensors", path), &g->weights));
	for (u32 i = 0; i < g->s.compiled.package->nbuffer; i++) {
		const PackageBuffer *b = &g->s.compiled.package->buffer[i];
		i64 n = (i64)(b->tensor.bytes / dtype_info[b->tensor.dtype].bytes);
		f64 *x = NEWN(&tmp, f64, n + 1);
		const SafeTensor *w = safetensors_find(&g->weights, b->tensor.name);
		assert_true(b->kind != PACKAGE_PARAMETER || w);
		for (i64 k = 0; w && k < n; k++)
			x[k] = safe_element(w, k);
		set_buffer(&g->s, b->tensor.name, x);
	}
	arena_free(&tmp);
}

static void golden_close(Golden *g)
{
	safetensors_close(&g->golden);
	safetensors_close(&g->weights);
	close_session(&g->s);
	arena_free(&g->c.arena);
}

static void run_batch(Golden *g, const char *name, i64 step)
{
	const PackageEntry *e = package_entry(g->s.compiled.package, name);
	assert_non_null(e);
	Arena tmp = ARENA("batch");
	for (u32 i = 0; i < e->ninput; i++) {
		i64 n = (i64)(e->input[i].bytes / dtype_info[e->input[i].dtype].bytes);
		const SafeTensor *all = golden(g, e->input[i].name);
		f64 *x = NEWN(&tmp, f64, n + 1);
		for (i64 k = 0; k < n; k++)
			x[k] = safe_element(all, step * n + k);
		set_input(&g->s, name, e->input[i].name, x);
	}
	arena_free(&tmp);
	run(&g->s, name);
}

static f64 scalar(Golden *g, const char *entry, const char *name)
{
	const PackageTensor *t = executor_result(package_entry(g->s.compiled.package, entry), name);
	assert_non_null(t);
	return element_get(t->dtype, g->s.base[0] + t->offset, 0);
}

static void near_relative(f64 got, f64 want, f64 bound, const char *what)
{
	if (!(fabs(got - want) <= bound * fabs(want)))
		fail_msg("%s: %.9g, and PyTorch has %.9g", what, got, want);
}

static void compare_gradients(Golden *g)
{
	const PackageBuffer *b = executor_buffer(g->s.executor[0], "loss_count");
	f64 count = element_get(DT_f32, g->s.base[0] + b->tensor.offset, 0), most = 0;
	assert_int_equal(b->tensor.dtype, DT_f32);
	Arena tmp = ARENA("names");
	for (u32 pass = 0; pass < 2; pass++)
		for (u32 i = 0; i < g->s.compiled.package->nbuffer; i++) {
			const PackageBuffer *p = &g->s.compiled.package->buffer[i];
			if (p->kind != PACKAGE_PARAMETER)
				continue;
			const char *name = arena_printf(&tmp, "grad/%s", p->tensor.name);
			const SafeTensor *want = golden(g, name);
			b = executor_buffer(g->s.executor[0], name);
			assert_non_null(b);
			const void *mine = g->s.base[0] + b->tensor.offset;
			f64 top = 0, off = 0;
			for (i64 k = 0; k < (i64)(b->tensor.bytes / 4); k++) {
				top = fmax(top, fabs(safe_element(want, k)));
				off = fmax(off, fabs(element_get(b->tensor.dtype, mine, k) / count - safe_element(want, k)));
			}
			if (pass == 0)
				most = fmax(most, top);
			else if (!(off <= 2e-5 * fmax(top, 1e-2 * most)))
				fail_msg("gradient of %s is off by %g of %g", p->tensor.name, off, top);
		}
	arena_free(&tmp);
}

static void compare_model(const char *name, const char *device, i64 steps)
{
	Golden g = { 0 };
	golden_open(&g, name, device, "B=4,T=16");
	run_batch(&g, "eval", 0);
	near_relative(scalar(&g, "eval", "loss_sum") / scalar(&g, "eval", "loss_count"),
		      safe_element(golden(&g, "ref64/loss"), 0), 1e-5, "loss");
	for (i64 step = 0; step < steps; step++) {
		run_batch(&g, "micro_first", step);
		if (step == 0)
			compare_gradients(&g);
		run(&g.s, "update");
		near_relative(scalar(&g, "update", "loss"), safe_element(golden(&g, "ref64/adamw/losses"), step), 2e-5,
			      "loss of a step");
		near_relative(scalar(&g, "update", "grad_norm"), safe_element(golden(&g, "adamw/grad_norms"), step), 1e-3,
			      "gradient norm");
	}
	golden_close(&g);
}

/* ---- a mixture of experts ---- */

/* Every element within `bound` of the largest magnitude, or of one. */
static void near_tensor(const Tensor *want, const PackageTensor *t, const u8 *base, f64 bound)
{
	f64 scale = 1;
	for (i64 i = 0; i < want->n; i++)
		scale = fmax(scale, fabs(want->data[i]));
	for (i64 i = 0; i < want->n; i++) {
		f64 x = element_get(t->dtype, base + t->offset, i);
		if (!(fabs(x - want->data[i]) <= bound * scale))
			fail_msg("%s[%lld]: should be %.9g, is %.9g", t->name, (long long)i, want->data[i], x);
	}
}

/* Tokens routed to two experts each: top_k, a sort by expert, grouped products, a scatter back. Twelve steps of
 * training, gradients and losses as the evaluator has them. */
static void mixture(void **state)
{
	(void)state;
	Bench c;
	Session s;
	bench_open(&c);
	Str text;
	assert_null(io_read(&c.arena, SOURCE_DIR "/tests/frontend/cases/moe.plinth", &text));
	const Ast *ast = parse_source(&c.arena, &c.ir->names, &c.diag, "moe", text);
	Model *m = ast ? elaborate(&c.arena, c.ir, ast, &(ElaborateOptions){ .find = find_model }) : NULL;
	bool compiled = m && open_session(&s, m->program, &(DriverOptions){ .sizes = "B=3,T=21", .no_cache = true });
	diag_print(&c.diag, stderr, false);
	assert_true(compiled);
	run(&s, "init");
	/* the evaluator goes the same way from the same values, over the program before it was lowered */
	const Program *p = s.compiled.model;
	const Graph *micro = program_find_entry(p, STR("micro_first")), *update = program_find_entry(p, STR("update"));
	assert_true(micro && update);
	Tensor *buffer = NEWN(&c.arena, Tensor, p->buffer.n + 1), input[2];
	for (u32 i = 0; i < p->buffer.n; i++) {
		const PackageBuffer *b = executor_buffer(s.executor[0], p->buffer.v[i].name);
		buffer[i] = tensor_new(&c.arena, p->buffer.v[i].type);
		const void *mine = b ? s.base[0] + b->tensor.offset : NULL;
		for (i64 k = 0; mine && k < buffer[i].n; k++)
			buffer[i].data[k] = element_get(b->tensor.dtype, mine, k);
	}
	Random r = random_new(&c.arena, 7);
	u32 n = graph_sources(micro, NULL), ninput = 0;
	const char *name[2];
	const Node **source = NEWN(&c.arena, const Node *, n + 1);
	graph_sources(micro, source);
	for (u32 i = 0; i < n; i++) {
		if (source[i]->op != OP_input)
			continue;
		Tensor *t = &input[ninput++];
		*t = tensor_new(&c.arena, val_type(micro, source[i]->out));
		for (i64 k = 0; k < t->n; k++)
			t->data[k] = (f64)random_int(&r, 0, 63);
		name[ninput - 1] = ATTR(source[i], input)->name;
	}
	assert_int_equal(ninput, 2);
	f64 first = 0, last = 0;
	for (u32 step = 0; step < 12; step++) {
		Tensor *want = NEWN(&c.arena, Tensor, micro->result.n + update->result.n + 1);
		eval_entry(&c.arena, p, micro, input, buffer, want, (EvalOptions){ 0 });
		for (u32 i = 0; i < ninput; i++) /* their memory is others' between steps */
			set_input(&s, "micro_first", name[i], input[i].data);
		run(&s, "micro_first");
		for (u32 i = 0; i < s.compiled.package->nbuffer; i++) {
			const PackageTensor *t = &s.compiled.package->buffer[i].tensor;
			u32 at = program_find_buffer(p, intern_z(&c.ir->names, t->name));
			/* gradients are sums over 63 tokens; values drift apart by rounding as steps go by */
			near_tensor(&buffer[at], t, s.base[0], step == 0 ? 1e-6 : 3e-5);
		}
		eval_entry(&c.arena, p, update, input, buffer, want, (EvalOptions){ 0 });
		run(&s, "update");
		const PackageTensor *t = executor_result(package_entry(s.compiled.package, "update"), "loss");
		assert_non_null(t);
		last = element_get(t->dtype, s.base[0] + t->offset, 0);
		first = step ? first : last;
	}
	assert_true(last < first - 0.02);
	close_session(&s);
	arena_free(&c.arena);
}

static void gpt2(void **state)
{
	(void)state;
	compare_model("gpt2_tiny", "cpu", 20);
}

static void llama(void **state)
{
	(void)state;
	compare_model("llama_tiny", "cpu", 20);
}

/* Is there a GPU, or the stand-in, and the compiler for it? */
static void need_cuda(void)
{
	DeviceInfo info;
	const Nvrtc *n;
	Status s = device_cuda.info(0, &info);
	if (!s)
		s = nvrtc_open(&n);
	if (s) {
		print_message("skipped: %s\n", s->text);
		skip();
	}
}

static void gpt2_cuda(void **state)
{
	(void)state;
	need_cuda();
	compare_model("gpt2_tiny", "cuda", 5);
}

/* The gradients of biases beside products, each way that such a step may be done: by code, by the library, or by both. Algorithms are the
 * stand-in's, which knows one for every product. */
static void sums_cuda(void **state)
{
	(void)state;
	static const char *const way[] = { "generated", "library ", "library, sum generated " };
	need_cuda();
	if (!getenv("PLINTH_LIBCUBLASLT"))
		skip();
	Golden g = { 0 };
	golden_open(&g, "gpt2_tiny", "cuda", "B=4,T=16");
	DeviceInfo info;
	assert_null(device_cuda.info(0, &info));
	for (u32 w = 0; w < COUNT(way); w++) {
		for (u32 e = 0; e < WAYS; e++) {
			const Executor *x = g.s.executor[e];
			const DeviceChoice *known;
			u32 n = x->device->choices(x->state, &g.s.arena, &known), sums = 0;
			const char *version = NULL;
			for (u32 i = 0; i < n && !version; i++)
				version = strchr(known[i].chosen, ';');
			assert_non_null(version);
			unsigned long long number = strtoull(version + 1, NULL, 10);
			for (u32 i = 0; i < n; i++) {
				if (!strstr(known[i].what, " sum of "))
					continue;
				const char *library = arena_printf(&g.s.arena, "%s%s; %llu 0 1 0 0 0 0 0 0 0", way[w], info.name, number);
				DeviceChoice c = { known[i].what, w ? library : way[w] };
				Status s = x->device->choose(x->state, &c, 1);
				if (s)
					fail_msg("%s", s->text);
				sums++;
			}
			assert_true(sums >= 3);
		}
		run_batch(&g, "micro_first", 0);
		compare_gradients(&g);
	}
	golden_close(&g);
}

static void llama_cuda(void **state)
{
	(void)state;
	need_cuda();
	compare_model("llama_tiny", "cuda", 5);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gpt2),
		cmocka_unit_test(llama),
		cmocka_unit_test(gpt2_cuda),
		cmocka_unit_test(sums_cuda),
		cmocka_unit_test(llama_cuda),
		cmocka_unit_test(mixture),
		cmocka_unit_test(every_op),
		cmocka_unit_test(random_graphs), cmocka_unit_test(random_kernels), cmocka_unit_test(random_padded),
		cmocka_unit_test(of_nothing), cmocka_unit_test(narrow_sums),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
