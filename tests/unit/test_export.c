/* Exported libraries: built/plinth writes one, this loads it and compares what it computes: to the bit with the
 * same program compiled and run in this process, and with the evaluator in f64. Several threads run one instance;
 * damaged weights are refused. And the linker: what it cannot do, it says. */
#include "codegen/elf.h"
#include "frontend/elaborate.h"
#include "ir/eval.h"
#include "passes/pass.h"
#include "runtime/checkpoint/weights.h"
#include "runtime/views.h"
#include "tools/driver.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MODEL "models/gpt2.plinth"
static const char *const settings[] = { "vocab=101", "context=32", "layers=2", "heads=4", "width=32" };
#define WEIGHTS SOURCE_DIR "/tests/golden/gpt2_tiny.weights.safetensors"
#define SIZES   "B=4,T=16"
enum { TOKENS = 4 * 16, LOGITS = TOKENS * 101 };

/* The functions of gpt2.h. */
typedef struct gpt2 gpt2;
typedef struct gpt2_threads gpt2_threads;
typedef struct Interface {
	int (*create)(const char *weights, gpt2 **out, char *error, size_t error_bytes);
	void (*destroy)(gpt2 *model);
	size_t (*workspace_bytes)(const gpt2 *model, unsigned threads);
	int (*forward)(const gpt2 *model, const i32 *tokens, f32 *logits, void *workspace, size_t bytes, gpt2_threads *threads);
	int (*threads_create)(unsigned count, gpt2_threads **out);
	void (*threads_destroy)(gpt2_threads *threads);
} Interface;

typedef struct Fixture {
	char folder[64];
	void *library;
	Interface f;
	i32 tokens[TOKENS];
} Fixture;

static void shell(const char *format, ...) PL_PRINTF(1, 2);
static void shell(const char *format, ...)
{
	char command[4096];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("%s", command);
}

static void *function(void *library, const char *name)
{
	void *f = dlsym(library, name);
	if (!f)
		fail_msg("the library has no %s", name);
	return f;
}

static int open_fixture(void **state)
{
	Fixture *x = calloc(1, sizeof *x);
	strcpy(x->folder, "export-XXXXXX");
	assert_non_null(mkdtemp(x->folder));
	char set[256] = "";
	for (u32 i = 0; i < COUNT(settings); i++)
		snprintf(set + strlen(set), sizeof set - strlen(set), " --set %s", settings[i]);
	shell("./plinth export %s/" MODEL "%s --precision f32 --sizes " SIZES " --weights " WEIGHTS " -o %s >/dev/null", SOURCE_DIR, set,
	      x->folder);
	char path[128];
	snprintf(path, sizeof path, "%s/libgpt2.so", x->folder);
	x->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!x->library)
		fail_msg("%s", dlerror());
#define FUNCTION(name) *(void **)&x->f.name = function(x->library, "gpt2_" #name)
	FUNCTION(create);
	FUNCTION(destroy);
	FUNCTION(workspace_bytes);
	FUNCTION(forward);
	FUNCTION(threads_create);
	FUNCTION(threads_destroy);
	for (u32 i = 0; i < TOKENS; i++)
		x->tokens[i] = (i32)(i * 37 + 5) % 101;
	*state = x;
	return 0;
}

static int close_fixture(void **state)
{
	Fixture *x = *state;
	dlclose(x->library);
	shell("rm -r %s", x->folder);
	free(x);
	return 0;
}

static gpt2 *create(const Fixture *x)
{
	char path[128], why[300];
	snprintf(path, sizeof path, "%s/weights.safetensors", x->folder);
	gpt2 *m;
	if (x->f.create(path, &m, why, sizeof why))
		fail_msg("%s", why);
	return m;
}

/* One run with so many threads (0: none). */
static void run(const Fixture *x, const gpt2 *m, unsigned threads, f32 *logits)
{
	gpt2_threads *pool = NULL;
	if (threads)
		assert_int_equal(x->f.threads_create(threads, &pool), 0);
	size_t bytes = x->f.workspace_bytes(m, threads);
	void *workspace = aligned_alloc(64, ALIGN_UP(bytes, 64));
	memset(workspace, 0xa5, bytes);
	assert_int_equal(x->f.forward(m, x->tokens, logits, workspace, bytes, pool), 0);
	free(workspace);
	x->f.threads_destroy(pool);
}

/* ---- the same without exporting ---- */

typedef struct Elaborated {
	Arena arena;
	Diag diag;
	Model *model;
} Elaborated;

static void open_source(Elaborated *s)
{
	*s = (Elaborated){ .arena = ARENA("source") };
	s->diag.arena = &s->arena;
	Ir *ir = ir_new(&s->arena, &s->diag);
	Str text;
	assert_null(io_read(&s->arena, SOURCE_DIR "/" MODEL, &text));
	const Ast *ast = parse_source(&s->arena, &ir->names, &s->diag, MODEL, text);
	s->model = ast ? elaborate(&s->arena, ir, ast, &(ElaborateOptions){ .set = settings, .nset = COUNT(settings) }) : NULL;
	diag_print(&s->diag, stderr, false);
	assert_non_null(s->model);
}

static void run_here(Elaborated *s, const Fixture *x, f32 *logits)
{
	static const char *const entry[] = { "forward" };
	DriverOptions o = { .entry = entry, .nentry = 1, .sizes = SIZES, .precision = "f32", .device = "cpu" };
	Compiled c;
	assert_null(driver_compile(&s->arena, s->model->program, &o, &c));
	assert_non_null(c.package);
	Executor *e;
	assert_null(executor_create(c.package, NULL, &e));
	BufferViews b = buffer_views(&s->arena, e, VIEW_PARAMETERS);
	WeightRule rule[8];
	for (u32 i = 0; i < s->model->weight.n; i++)
		rule[i] = (WeightRule){ s->model->weight.v[i].pattern, s->model->weight.v[i].replacement };
	assert_null(weights_load(&s->arena, WEIGHTS, rule, s->model->weight.n, b.v, b.n, &s->diag));
	const PackageEntry *forward = package_entry(c.package, "forward");
	assert_null(executor_write(e, &forward->input[0], x->tokens));
	assert_null(executor_run(e, forward, NULL, NULL));
	assert_int_equal(forward->result[0].bytes, LOGITS * 4);
	assert_null(executor_read(e, &forward->result[0], logits));
	executor_destroy(e);
	driver_close(&c);
}

/* In f64, rounding nothing. */
static Tensor evaluate(Elaborated *s, const Fixture *x)
{
	Arena *a = &s->arena;
	Arena tmp = ARENA("tmp");
	PassCx cx = { .out = a, .tmp = &tmp, .ir = s->model->program->ir, .diag = &s->diag };
	Status dumped = OK;
	const Program *p = pipeline_run(STR("bind{" SIZES "}"), &cx, s->model->program, &dumped);
	assert_non_null(p);
	Safetensors weights;
	assert_null(safetensors_open(a, WEIGHTS, &weights));
	Tensor *buffer = NEWN(a, Tensor, p->buffer.n + 1);
	for (u32 i = 0; i < p->buffer.n; i++) {
		buffer[i] = tensor_new(a, p->buffer.v[i].type);
		const SafeTensor *w = safetensors_find(&weights, p->buffer.v[i].name);
		for (i64 k = 0; w && k < buffer[i].n; k++)
			buffer[i].data[k] = ((const f32 *)w->data.p)[k];
	}
	const Graph *g = program_find_entry(p, STR("forward"));
	Tensor *input = NEWN(a, Tensor, 1), *result = NEWN(a, Tensor, g->result.n + 1);
	for (u32 i = 0; i < g->node.n; i++)
		if (g->node.v[i].op == OP_input)
			*input = tensor_new(a, val_type(g, g->node.v[i].out));
	assert_int_equal(input->n, TOKENS);
	for (u32 i = 0; i < TOKENS; i++)
		input->data[i] = x->tokens[i];
	eval_entry(a, p, g, input, buffer, result, (EvalOptions){ 0 });
	safetensors_close(&weights);
	arena_free(&tmp);
	return result[0];
}

static void test_same_numbers(void **state)
{
	const Fixture *x = *state;
	static f32 here[LOGITS], there[LOGITS];
	Elaborated s;
	open_source(&s);
	run_here(&s, x, here);
	gpt2 *m = create(x);
	for (unsigned threads = 0; threads <= 3; threads++) {
		memset(there, 0xff, sizeof there);
		run(x, m, threads, there);
		assert_memory_equal(here, there, sizeof here);
	}
	Tensor exact = evaluate(&s, x);
	assert_int_equal(exact.n, LOGITS);
	f64 largest = 0, off = 0;
	for (u32 i = 0; i < LOGITS; i++) {
		largest = fmax(largest, fabs(exact.data[i]));
		off = fmax(off, fabs(exact.data[i] - (f64)there[i]));
	}
	assert_true(largest > 0.1);
	if (!(off <= 1e-5 * largest)) /* as test_parity.c: two layers of sums of at most 128 terms in f32 */
		fail_msg("%g off, of %g", off, largest);
	x->f.destroy(m);
	arena_free(&s.arena);
}

/* ---- a text, token by token ---- */

typedef int PrefillFunction(const gpt2 *model, const i32 *past, const i32 *last, const i32 *tokens, f32 *logits, void *state,
		    void *workspace, size_t bytes, gpt2_threads *threads);
typedef int StepFunction(const gpt2 *model, const i32 *past, const i32 *tokens, f32 *logits, void *state, void *workspace, size_t bytes,
		 gpt2_threads *threads);

/* What prefill and step say at a position is what `forward` says there, to rounding; two texts take turns, each with
 * a state of its own. */
static void test_steps(void **state)
{
	enum { V = 101, T = 16, PIECE = 8 };
	const Fixture *x = *state;
	static f32 whole[LOGITS];
	gpt2 *m = create(x);
	run(x, m, 0, whole);
	x->f.destroy(m);
	char set[256] = "", path[128], why[200];
	for (u32 i = 0; i < COUNT(settings); i++)
		snprintf(set + strlen(set), sizeof set - strlen(set), " --set %s", settings[i]);
	shell("./plinth export %s/" MODEL "%s --precision f32 --sizes B=1,T=8 --capacity 16 --name chat --weights " WEIGHTS " -o %s/chat >/dev/null",
	      SOURCE_DIR, set, x->folder);
	snprintf(path, sizeof path, "%s/chat/libchat.so", x->folder);
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	assert_non_null(library);
	Interface f;
	PrefillFunction *prefill;
	StepFunction *step;
	size_t (*state_bytes)(const gpt2 *m);
	*(void **)&f.create = function(library, "chat_create");
	*(void **)&f.destroy = function(library, "chat_destroy");
	*(void **)&f.workspace_bytes = function(library, "chat_workspace_bytes");
	*(void **)&state_bytes = function(library, "chat_state_bytes");
	*(void **)&prefill = function(library, "chat_prefill");
	*(void **)&step = function(library, "chat_step");
	snprintf(path, sizeof path, "%s/chat/weights.safetensors", x->folder);
	if (f.create(path, &m, why, sizeof why))
		fail_msg("%s", why);
	size_t bytes = f.workspace_bytes(m, 0), kept = state_bytes(m);
	assert_true(kept >= 2 * 2 * 16 * 32 * sizeof(f32)); /* keys and values of two layers */
	u8 *workspace = aligned_alloc(64, ALIGN_UP(bytes, 64)), *text[2];
	f32 logits[V], largest = 0;
	for (u32 i = 0; i < LOGITS; i++)
		largest = fmaxf(largest, fabsf(whole[i]));
	for (u32 b = 0; b < 2; b++) {
		text[b] = aligned_alloc(64, ALIGN_UP(kept, 64));
		memset(text[b], 0, kept);
	}
	for (i32 t = PIECE - 3; t < T; t++)
		for (u32 b = 0; b < 2; b++) {
			const i32 *tokens = x->tokens + b * T, none = 0;
			bool first = t == PIECE - 3;
			memset(logits, 0xff, sizeof logits);
			/* the piece's last three do not count, and are written over */
			int code = first ? prefill(m, &none, &t, tokens, logits, text[b], workspace, bytes, NULL) :
					   step(m, &t, tokens + t, logits, text[b], workspace, bytes, NULL);
			assert_int_equal(code, 0);
			for (u32 v = 0; v < V; v++)
				assert_true(fabsf(logits[v] - whole[(b * T + (u32)t) * V + v]) <= 1e-5f * largest);
		}
	i32 past = 3;
	assert_int_equal(step(m, &past, x->tokens, logits, NULL, workspace, bytes, NULL), 1);
	free(workspace);
	free(text[0]);
	free(text[1]);
	f.destroy(m);
	dlclose(library);
}

/* ---- one instance, many threads ---- */

typedef struct Runner {
	const Fixture *x;
	const gpt2 *m;
	f32 logits[LOGITS];
} Runner;

static void *runner(void *argument)
{
	Runner *r = argument;
	for (u32 i = 0; i < 5; i++)
		run(r->x, r->m, 0, r->logits);
	return NULL;
}

static void test_shared(void **state)
{
	enum { N = 4 };
	static Runner r[N];
	pthread_t thread[N];
	gpt2 *m = create(*state);
	for (u32 i = 0; i < N; i++) {
		r[i] = (Runner){ .x = *state, .m = m };
		assert_int_equal(pthread_create(&thread[i], NULL, runner, &r[i]), 0);
	}
	for (u32 i = 0; i < N; i++)
		pthread_join(thread[i], NULL);
	for (u32 i = 1; i < N; i++)
		assert_memory_equal(r[0].logits, r[i].logits, sizeof r[0].logits);
	r[0].x->f.destroy(m);
}

/* ---- what is wrong ---- */

static void test_arguments(void **state)
{
	const Fixture *x = *state;
	gpt2 *m = create(x);
	f32 *logits = calloc(LOGITS, 4);
	size_t bytes = x->f.workspace_bytes(m, 0);
	u8 *workspace = aligned_alloc(64, ALIGN_UP(bytes, 64) + 64);
	assert_int_equal(x->f.forward(NULL, x->tokens, logits, workspace, bytes, NULL), 1);
	assert_int_equal(x->f.forward(m, NULL, logits, workspace, bytes, NULL), 1);
	assert_int_equal(x->f.forward(m, x->tokens, NULL, workspace, bytes, NULL), 1);
	assert_int_equal(x->f.forward(m, x->tokens, logits, NULL, bytes, NULL), 1);
	assert_int_equal(x->f.forward(m, x->tokens, logits, workspace, bytes - 1, NULL), 1);
	assert_int_equal(x->f.forward(m, x->tokens, logits, workspace + 8, bytes + 8, NULL), 1);
	for (u32 i = 0; i < LOGITS; i++)
		assert_true(logits[i] == 0);
	assert_int_equal(x->f.threads_create(0, &(gpt2_threads *){ NULL }), 1);
	free(workspace);
	free(logits);
	x->f.destroy(m);
	x->f.destroy(NULL);
}

static void try_weights(const Fixture *x, Blob bytes, int code, const char *word)
{
	char path[128], why[300];
	snprintf(path, sizeof path, "%s/try.safetensors", x->folder);
	assert_null(io_write(path, bytes));
	gpt2 *m;
	assert_int_equal(x->f.create(path, &m, why, sizeof why), code);
	if (!strstr(why, word))
		fail_msg("'%s' does not say '%s'", why, word);
	assert_null(m);
}

static void test_damaged(void **state)
{
	const Fixture *x = *state;
	Arena a = ARENA("damaged");
	Str text;
	assert_null(io_read(&a, WEIGHTS, &text));
	u8 *bytes = (u8 *)(uintptr_t)text.s;
	u64 header;
	memcpy(&header, bytes, 8);
	try_weights(x, (Blob){ bytes, text.n - 1 }, 2, "cut short");
	try_weights(x, (Blob){ bytes, 8 + header / 2 }, 2, "cut short");
	try_weights(x, (Blob){ bytes, 4 }, 2, "no safetensors file");
	try_weights(x, (Blob){ bytes, 0 }, 2, "empty");
	/* every byte of the header, altered: an error or the same tensors, and never a crash */
	for (u64 i = 0; i < header; i += 7) {
		u8 *copy = arena_copy(&a, bytes, 1, text.n, 16);
		copy[8 + i] ^= 0x15;
		char path[128], why[300];
		snprintf(path, sizeof path, "%s/try.safetensors", x->folder);
		assert_null(io_write(path, (Blob){ copy, text.n }));
		gpt2 *m;
		int code = x->f.create(path, &m, why, sizeof why);
		assert_true(code == 0 || (code == 2 && *why));
		x->f.destroy(m);
	}
	char *name = strstr(text.s + 8, "wte.weight");
	assert_non_null(name);
	name[0] = 'x';
	try_weights(x, (Blob){ bytes, text.n }, 2, "has no wte.weight");
	gpt2 *m;
	char why[8];
	assert_int_equal(x->f.create("no/such/file", &m, why, sizeof why), 2);
	assert_int_equal(strlen(why), 7);
	assert_int_equal(x->f.create(NULL, &m, NULL, 0), 2);
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_numbers),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_damaged),
	};
	return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
