/* Whole models against PyTorch: tests/golden/NAME.plinth, elaborated, differentiated and run by the
 * reference evaluator in f64, gives the numbers of NAME.safetensors: logits and loss (against the f64
 * reference), every gradient, twenty AdamW steps. Then the same by compiled code on this CPU, in f32, with
 * the bounds that f32 allows; and in bf16, whose losses stay as near to f32's as PyTorch's own do. */
#include "frontend/elaborate.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/executor.h"
#include "tools/driver.h"

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

typedef struct Run {
	Arena arena, tmp;
	Diag diag;
	Ir *ir;
	Model *model;
	Program *program; /* with backward halves, bound */
	Tensor *buffer;
	Safetensors golden, weights;
} Run;

static bool find_model(void *cx, Arena *arena, const char *name, const char **path, Str *text)
{
	(void)cx;
	*path = arena_printf(arena, "%s/models/%s.plinth", SOURCE_DIR, name);
	return !io_read(arena, *path, text);
}

static void open_run(Run *r, const char *name, const char *sizes)
{
	*r = (Run){ .arena = ARENA("parity"), .tmp = ARENA("tmp") };
	r->diag.arena = &r->arena;
	r->ir = ir_new(&r->arena, &r->diag);
	const char *path = arena_printf(&r->arena, "%s/tests/golden/%s", SOURCE_DIR, name);
	Str text;
	assert_null(io_read(&r->arena, arena_printf(&r->arena, "%s.plinth", path), &text));
	const Ast *ast = parse_source(&r->arena, &r->ir->names, &r->diag, name, text);
	ElaborateOptions o = { .preset = "golden", .find = find_model };
	Model *m = ast ? elaborate(&r->arena, r->ir, ast, &o) : NULL;
	diag_print(&r->diag, stderr, false);
	assert_non_null(m);
	r->model = m;
	PassCx cx = { .out = &r->arena, .tmp = &r->tmp, .ir = r->ir, .diag = &r->diag };
	Str pipeline = str_of(arena_printf(&r->arena, "bind{%s},simplify,backward,simplify", sizes));
	Status dumped = OK;
	r->program = pipeline_run(pipeline, &cx, m->program, &dumped);
	assert_null(dumped);
	diag_print(&r->diag, stderr, false);
	assert_non_null(r->program);
	assert_null(safetensors_open(&r->arena, arena_printf(&r->arena, "%s.safetensors", path), &r->golden));
	assert_null(safetensors_open(&r->arena, arena_printf(&r->arena, "%s.weights.safetensors", path), &r->weights));
	r->buffer = NEWN(&r->arena, Tensor, r->program->buffer.n);
	for (u32 i = 0; i < r->program->buffer.n; i++) {
		const Buffer *b = &r->program->buffer.v[i];
		r->buffer[i] = tensor_new(&r->arena, b->type);
		if (b->kind != BUFFER_PARAMETER)
			continue;
		const SafeTensor *w = safetensors_find(&r->weights, b->name);
		if (!w)
			print_error("no weights for %s\n", b->name);
		assert_non_null(w);
		assert_int_equal(w->dtype, SAFE_F32);
		assert_int_equal((i64)w->data.n, r->buffer[i].n * 4);
		for (i64 k = 0; k < r->buffer[i].n; k++)
			r->buffer[i].data[k] = ((const f32 *)w->data.p)[k];
	}
}

static void close_run(Run *r)
{
	safetensors_close(&r->golden);
	safetensors_close(&r->weights);
	arena_free(&r->tmp);
	arena_free(&r->arena);
}

static f64 element(const SafeTensor *t, i64 i)
{
	switch (t->dtype) {
	case SAFE_F64: return ((const f64 *)t->data.p)[i];
	case SAFE_F32: return ((const f32 *)t->data.p)[i];
	default: return ((const i32 *)t->data.p)[i];
	}
}

static const SafeTensor *golden(Run *r, const char *name)
{
	const SafeTensor *t = safetensors_find(&r->golden, name);
	if (!t)
		print_error("the golden file has no %s\n", name);
	assert_non_null(t);
	return t;
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

static void compare(Run *r)
{
	/* logits and loss: the evaluator is exact, so is the f64 reference */
	Tensor *forward = run_entry(r, "forward", 0);
	const SafeTensor *logits = golden(r, "ref64/logits");
	f64 largest = 0, worst = 0;
	for (i64 i = 0; i < forward[0].n; i++) {
		largest = fmax(largest, fabs(element(logits, i)));
		worst = fmax(worst, fabs(forward[0].data[i] - element(logits, i)));
	}
	assert_true(worst <= 1e-9 * largest);
	Tensor *eval = run_entry(r, "eval", 0);
	f64 loss = result_scalar(r, "eval", eval, "loss_sum") / result_scalar(r, "eval", eval, "loss_count");
	near_relative(loss, element(golden(r, "ref64/loss"), 0), 1e-10, "loss");
	/* twenty steps; the first one's gradients */
	for (i64 step = 0; step < 20; step++) {
		run_entry(r, "micro_first", step);
		f64 count = buffer(r, "loss_count")->data[0];
		if (step == 0) {
			f64 most = 0;
			for (u32 pass = 0; pass < 2; pass++)
				for (u32 i = 0; i < r->program->buffer.n; i++) {
					const Buffer *b = &r->program->buffer.v[i];
					if (b->kind != BUFFER_PARAMETER)
						continue;
					const SafeTensor *g = golden(r, arena_printf(&r->arena, "grad/%s", b->name));
					const Tensor *mine = buffer(r, arena_printf(&r->arena, "grad/%s", b->name));
					f64 top = 0, off = 0;
					for (i64 k = 0; k < mine->n; k++) {
						top = fmax(top, fabs(element(g, k)));
						off = fmax(off, fabs(mine->data[k] / count - element(g, k)));
					}
					if (pass == 0)
						most = fmax(most, top);
					else if (!(off <= 1e-5 * fmax(top, 1e-3 * most)))
						fail_msg("gradient of %s is off by %g of %g", b->name, off, top);
				}
		}
		Tensor *update = run_entry(r, "update", step);
		near_relative(result_scalar(r, "update", update, "loss"), element(golden(r, "ref64/adamw/losses"), step), 1e-6,
			      "loss of a step");
		near_relative(result_scalar(r, "update", update, "grad_norm"), element(golden(r, "adamw/grad_norms"), step),
			      1e-4, "gradient norm");
	}
	for (u32 i = 0; i < r->program->buffer.n; i++) {
		const Buffer *b = &r->program->buffer.v[i];
		if (b->kind != BUFFER_PARAMETER)
			continue;
		const SafeTensor *after = golden(r, arena_printf(&r->arena, "adamw/after/%s", b->name));
		const SafeTensor *first = golden(r, arena_printf(&r->arena, "grad/%s", b->name));
		/* A key's bias has a gradient of exactly zero: Adam divides rounding by rounding there. */
		for (i64 k = 0; k < r->buffer[i].n; k++)
			if (fabs(element(first, k)) > 1e-6 && fabs(r->buffer[i].data[k] - element(after, k)) > 2e-4)
				fail_msg("%s[%lld] after 20 steps: %g, and PyTorch has %g", b->name, (long long)k,
					 r->buffer[i].data[k], element(after, k));
	}
}

/* ---- compiled code ---- */

typedef struct Machine {
	Compiled compiled;
	Executor *executor;
} Machine;

static void start(Run *r, const char *sizes, const char *precision, u32 threads, Machine *m)
{
	DriverOptions o = { .sizes = sizes, .precision = precision };
	Status s = driver_compile(&r->arena, r->model->program, &o, &m->compiled);
	if (s)
		fail_msg("%s", s->text);
	diag_print(&r->diag, stderr, false);
	assert_non_null(m->compiled.package);
	assert_null(executor_create(m->compiled.package, &(DeviceOptions){ .threads = threads }, &m->executor));
	assert_null(executor_run(m->executor, package_entry(m->compiled.package, "init"), NULL, NULL));
	for (u32 i = 0; i < m->compiled.package->nbuffer; i++) {
		const PackageBuffer *b = &m->compiled.package->buffer[i];
		if (b->kind != PACKAGE_PARAMETER)
			continue;
		const SafeTensor *w = safetensors_find(&r->weights, b->tensor.name);
		assert_non_null(w);
		assert_int_equal(w->data.n, b->tensor.bytes);
		assert_null(executor_write(m->executor, &b->tensor, w->data.p));
	}
}

static void stop(Machine *m)
{
	executor_destroy(m->executor);
	driver_close(&m->compiled);
}

static const PackageEntry *execute(Run *r, Machine *m, const char *name, i64 step)
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

static f64 scalar(Machine *m, const PackageEntry *e, const char *name)
{
	f64 x;
	assert_non_null(executor_result(e, name));
	assert_null(executor_scalar(m->executor, executor_result(e, name), NAN, &x));
	return x;
}

static f64 train_step(Run *r, Machine *m, i64 step)
{
	execute(r, m, "micro_first", step);
	return scalar(m, execute(r, m, "update", step), "loss");
}

static void compare_gradients(Run *r, Machine *m)
{
	f64 count, most = 0;
	assert_null(executor_scalar(m->executor, &executor_buffer(m->executor, "loss_count")->tensor, NAN, &count));
	for (u32 pass = 0; pass < 2; pass++)
		for (u32 i = 0; i < m->compiled.package->nbuffer; i++) {
			const PackageBuffer *b = &m->compiled.package->buffer[i];
			if (b->kind != PACKAGE_PARAMETER)
				continue;
			const SafeTensor *g = golden(r, arena_printf(&r->arena, "grad/%s", b->tensor.name));
			const char *name = arena_printf(&r->arena, "grad/%s", b->tensor.name);
			const f32 *mine = executor_memory(m->executor, &executor_buffer(m->executor, name)->tensor);
			f64 top = 0, off = 0;
			for (u64 k = 0; k < b->tensor.bytes / 4; k++) {
				top = fmax(top, fabs(element(g, (i64)k)));
				off = fmax(off, fabs(mine[k] / count - element(g, (i64)k)));
			}
			if (pass == 0)
				most = fmax(most, top);
			else if (!(off <= 1e-4 * fmax(top, 1e-3 * most)))
				fail_msg("gradient of %s is off by %g of %g", b->tensor.name, off, top);
		}
}

static void compare_code(Run *r, const char *sizes)
{
	f64 losses[2][20];
	for (u32 threads = 1; threads <= 2; threads++) {
		Machine m;
		start(r, sizes, "f32", threads, &m);
		const PackageEntry *forward = execute(r, &m, "forward", 0);
		const f32 *logits = executor_memory(m.executor, executor_result(forward, "output"));
		const SafeTensor *want = golden(r, "ref64/logits");
		f64 largest = 0, worst = 0;
		for (u64 i = 0; i < forward->result[0].bytes / 4; i++) {
			largest = fmax(largest, fabs(element(want, (i64)i)));
			worst = fmax(worst, fabs(logits[i] - element(want, (i64)i)));
		}
		if (!(worst <= 1e-5 * largest))
			fail_msg("logits are off by %g of %g", worst, largest);
		const PackageEntry *eval = execute(r, &m, "eval", 0);
		near_relative(scalar(&m, eval, "loss_sum") / scalar(&m, eval, "loss_count"),
			      element(golden(r, "ref64/loss"), 0), 1e-5, "loss");
		execute(r, &m, "micro_first", 0);
		compare_gradients(r, &m);
		for (i64 step = 0; step < 20; step++) {
			f64 loss = losses[threads - 1][step] = train_step(r, &m, step);
			near_relative(loss, element(golden(r, "ref64/adamw/losses"), step), 1e-4, "loss of a step");
		}
		stop(&m);
	}
	assert_memory_equal(losses[0], losses[1], sizeof losses[0]); /* the same bits on two threads */
	Machine m;
	start(r, sizes, "bf16", 2, &m);
	const SafeTensor *curve = golden(r, "curve/f32"), *theirs = golden(r, "curve/bf16");
	f64 spread = 0;
	for (i64 i = 0; i < 800; i++)
		spread = fmax(spread, fabs(element(theirs, i) / element(curve, i) - 1));
	for (i64 step = 0; step < 100; step++)
		near_relative(train_step(r, &m, step), element(curve, step), spread, "bf16 loss of a step");
	stop(&m);
}

static void gpt2(void **state)
{
	(void)state;
	Run r;
	open_run(&r, "gpt2_tiny", "B=4,T=16");
	compare(&r);
	close_run(&r);
}

static void llama(void **state)
{
	(void)state;
	Run r;
	open_run(&r, "llama_tiny", "B=4,T=16");
	compare(&r);
	close_run(&r);
}

static void gpt2_compiled(void **state)
{
	(void)state;
	Run r;
	open_run(&r, "gpt2_tiny", "B=4,T=16");
	compare_code(&r, "B=4,T=16");
	close_run(&r);
}

static void llama_compiled(void **state)
{
	(void)state;
	Run r;
	open_run(&r, "llama_tiny", "B=4,T=16");
	compare_code(&r, "B=4,T=16");
	close_run(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(gpt2), cmocka_unit_test(llama),
					     cmocka_unit_test(gpt2_compiled), cmocka_unit_test(llama_compiled) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
