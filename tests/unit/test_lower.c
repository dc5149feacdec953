/* Fusion, lowering and planning as a whole: what the plan of a graph computes, by kernels evaluated in
 * plain loops over an emulated arena, is what the graph's evaluator computes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "plan_run.h"
#include "ir/sample.h"
#include "tools/random_program.h"

typedef struct Bench {
	Arena arena, tmp;
	Diag diag;
	Ir *ir;
} Bench;

static void bench_open(Bench *c)
{
	*c = (Bench){ .arena = ARENA("test"), .tmp = ARENA("test") };
	c->diag.arena = &c->arena;
	c->ir = ir_new(&c->arena, &c->diag);
	diag_source(&c->diag, "one", STR(""));
	diag_source(&c->diag, "two", STR(""));
}

static void bench_close(Bench *c)
{
	arena_free(&c->arena);
	arena_free(&c->tmp);
}

/* ---- comparing ---- */

/* Relative to the largest magnitude of the expected tensor. */
static bool agrees(const Tensor *want, const Tensor *is, f64 within, const char *name, bool loud)
{
	f64 scale = 1e-6;
	for (i64 i = 0; i < want->n; i++)
		if (isfinite(want->data[i]))
			scale = fmax(scale, fabs(want->data[i]));
	for (i64 i = 0; i < want->n; i++) {
		f64 x = want->data[i], y = is->data[i];
		if (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= within * scale)
			continue;
		if (loud)
			print_error("%s[%lld]: should be %.17g, is %.17g\n", name, (long long)i, x, y);
		return false;
	}
	return true;
}

static void fill_input(Random *r, const Node *n, const SampleInput *how, Tensor *t)
{
	if (how) {
		sample_fill(r, how, t);
		return;
	}
	/* in order, for those that are offsets */
	SampleInput real = { n->out, dtype_is_float(t->dtype) ? SAMPLE_REAL : SAMPLE_SORTED, 0, 3 };
	sample_fill(r, &real, t);
}

static const char *input_name(const Graph *g, Val v)
{
	return ATTR(val_node(g, v), input)->name;
}

/* Takes everything; three kinds: one that works operands out while packing, one that reads them as they stand, one that multiplies 8 bits. */
static const TargetInfo targets[] = {
	{ .name = "packs", .whole = { [OP_attention] = true, [OP_attention_grad] = true } },
	{ .name = "reads", .stores_operands = true, .row_align = 16, .whole = { [OP_attention] = true, [OP_attention_grad] = true } },
	{ .name = "multiplies 8 bits", .stores_operands = true, .products_f8 = true, .row_align = 16 },
};

static Program *parsed(Bench *c, const char *text)
{
	Program *p = program_parse(&c->arena, c->ir, str_of(text), diag_source(&c->diag, "text", str_of(text)));
	diag_print(&c->diag, stderr, false);
	assert_non_null(p);
	return p;
}

/* The plan of a text, after passes if there are any. */
static const Plan *planned(Bench *c, const char *text, const char *passes, const TargetInfo *target)
{
	Status status;
	PassCx cx = { .out = &c->arena, .tmp = &c->tmp, .ir = c->ir, .diag = &c->diag, .target = target };
	Program *p = parsed(c, text);
	p = *passes ? pipeline_run(str_of(passes), &cx, p, &status) : p;
	const Plan *plan = p ? plan_program(&c->arena, &c->tmp, p, target, &c->diag) : NULL;
	diag_print(&c->diag, stderr, false);
	assert_non_null(plan);
	return plan;
}

/* Runs every entry of the program by its plan, and compares with what the evaluator makes of the graph
 * that was planned. r->input: how inputs are drawn. */
static bool plan_agrees_for(Bench *c, const Program *before, const char *passes, const TargetInfo *target, Random *r,
			    f64 within, bool loud)
{
	Status status;
	PassCx cx = { .out = &c->arena, .tmp = &c->tmp, .ir = c->ir, .diag = &c->diag, .target = target };
	Program *p = pipeline_run(str_of(passes), &cx, before, &status);
	Plan *plan = p ? plan_program(&c->arena, &c->tmp, p, target, &c->diag) : NULL;
	if (!plan || !plan_verify(plan, &c->diag)) {
		diag_print(&c->diag, stderr, false);
		return false;
	}
	if (!plan_lines_are_sound(&c->tmp, plan)) {
		print_error("the plan's buffers overlap\n");
		return false;
	}
	bool fine = true;
	for (u32 e = 0; e < p->entry.n; e++) {
		const Graph *g = p->entry.v[e];
		u32 n = graph_sources(g, NULL), ninput = 0;
		const Node **node = NEWN(&c->tmp, const Node *, n + 1);
		Tensor *input = NEWN(&c->tmp, Tensor, n + 1);
		graph_sources(g, node);
		for (u32 i = 0; i < n; i++) {
			if (node[i]->op != OP_input)
				continue;
			const SampleInput *how = NULL;
			for (u32 k = 0; k < r->input.n; k++)
				if (input_name(before->entry.v[e], r->input.v[k].value) == ATTR(node[i], input)->name)
					how = &r->input.v[k];
			input[ninput] = tensor_new(&c->tmp, val_type(g, node[i]->out));
			fill_input(r, node[i], how, &input[ninput]);
			for (i64 k = 0; k < input[ninput].n; k++)
				input[ninput].data[k] = dtype_round(input[ninput].dtype, input[ninput].data[k]);
			ninput++;
		}
		Tensor *a = NEWN(&c->tmp, Tensor, p->buffer.n + 1), *b = NEWN(&c->tmp, Tensor, p->buffer.n + 1);
		for (u32 i = 0; i < p->buffer.n; i++) {
			a[i] = tensor_new(&c->tmp, p->buffer.v[i].type);
			SampleInput whole = { { 0 }, SAMPLE_WHOLE, 0, a[i].dtype == DT_b1 ? 1 : 3 };
			sample_fill(r, &whole, &a[i]);
			b[i] = a[i];
			b[i].data = COPYN(&c->tmp, f64, a[i].data, a[i].n);
		}
		Tensor *want = NEWN(&c->tmp, Tensor, g->result.n + 1), *is = NEWN(&c->tmp, Tensor, g->result.n + 1);
		eval_entry(&c->tmp, p, g, input, a, want, (EvalOptions){ .round = false });
		run_plan(&c->tmp, plan, e, input, b, is);
		for (u32 i = 0; i < g->result.n; i++)
			if (g->result.v[i].buffer == NONE)
				fine &= agrees(&want[i], &is[i], within, g->result.v[i].name, loud);
		for (u32 i = 0; i < p->buffer.n; i++)
			fine &= agrees(&a[i], &b[i], within, p->buffer.v[i].name, loud);
	}
	if (!fine && loud && getenv("SHOW")) {
		program_print(p, stderr);
		plan_print(plan, stderr);
		for (u32 i = 0; i < plan->kernel.n; i++)
			kernel_print(plan->kernel.v[i], stderr);
	}
	return fine;
}

static bool plan_agrees(Bench *c, const Program *before, const char *passes, Random *r, f64 within, bool loud)
{
	bool fine = plan_agrees_for(c, before, passes, NULL, r, within, loud);
	for (u32 i = 0; i < COUNT(targets); i++)
		fine &= plan_agrees_for(c, before, passes, &targets[i], r, within, loud);
	return fine;
}

/* ---- graphs as text ---- */

static void check_text(const char *text)
{
	Bench c;
	bench_open(&c);
	const Program *p = parsed(&c, text);
	Random r = random_new(&c.arena, 7);
	bool fine = plan_agrees(&c, p, "bind,expand,simplify,narrow,operands,canonical", &r, 1e-9, true) &&
		    plan_agrees(&c, p, "bind,expand,operands,canonical", &r, 1e-9, true);
	bench_close(&c);
	assert_true(fine);
}

static void hand_made(void **state)
{
	(void)state;
	check_text("program t\nentry e {\n"
		   "  %1 = input x : f32[3, 4]\n  %2 = input y : f32[4]\n"
		   "  %3 = broadcast %2 {dims = [1]} : f32[3, 4]\n"
		   "  %4 = add %1, %3 : f32[3, 4]\n  %5 = exp %4 : f32[3, 4]\n"
		   "  result r = %5\n}\n");
	/* rounded behind attention, and stored in the order that its reader has */
	check_text("program t\nentry e {\n"
		   "  %q = input q : f32[2, 3, 5, 4]\n  %k = input k : f32[2, 3, 6, 4]\n  %v = input v : f32[2, 3, 6, 4]\n"
		   "  %w = input w : f32[12, 7]\n  %d = input d : f32[2, 5, 12]\n"
		   "  %1, %2 = attention %q, %k, %v {causal = true, window = 0, scale = 0, softcap = 0} : f32[2, 3, 5, 4], f32[2, 3, 5]\n"
		   "  %3 = transpose %1 {perm = [0, 2, 1, 3]} : f32[2, 5, 3, 4]\n"
		   "  %4 = reshape %3 : f32[2, 5, 12]\n  %5 = cast %4 : bf16[2, 5, 12]\n  %6 = cast %w : bf16[12, 7]\n"
		   "  %7 = dot %5, %6 {spec = \"abk,kn->abn\"} : f32[2, 5, 7]\n"
		   "  %8 = reshape %d : f32[2, 5, 3, 4]\n  %9 = transpose %8 {perm = [0, 2, 1, 3]} : f32[2, 3, 5, 4]\n"
		   "  %10, %11, %12 = attention_grad %q, %k, %v, %1, %2, %9 {causal = true, window = 0, scale = 0, softcap = 0} :"
		   " f32[2, 3, 5, 4], f32[2, 3, 6, 4], f32[2, 3, 6, 4]\n"
		   "  %13 = exp %11 : f32[2, 3, 6, 4]\n  %14 = cast %12 : bf16[2, 3, 6, 4]\n  %15 = neg %10 : f32[2, 3, 5, 4]\n"
		   "  result y = %7\n  result a = %13\n  result b = %14\n  result c = %15\n}\n");
}

/* Operands of products of experts, each of whose dimensions a reshape makes of two that stand in memory the other way round: such kernels
 * have one dimension of each role. */
static void grouped_behind_reshapes(void **state)
{
	(void)state;
	check_text("program t\nentry e {\n"
		   "  %x = input x : f32[2, 3, 2, 2]\n  %w = input w : f32[2, 2, 2, 2, 3, 2]\n  %dy = input dy : f32[2, 3, 3, 2]\n"
		   "  %o = input o : i32[5]\n"
		   "  %1 = transpose %x {perm = [1, 0, 3, 2]} : f32[3, 2, 2, 2]\n  %2 = reshape %1 : f32[6, 4]\n"
		   "  %3 = transpose %w {perm = [1, 0, 3, 2, 5, 4]} : f32[2, 2, 2, 2, 2, 3]\n  %4 = reshape %3 : f32[4, 4, 6]\n"
		   "  %5 = transpose %dy {perm = [1, 0, 3, 2]} : f32[3, 2, 2, 3]\n  %6 = reshape %5 : f32[6, 6]\n"
		   "  %7 = grouped_dot %2, %4, %o : f32[6, 6]\n"
		   "  %8 = grouped_dot_weights %2, %6, %o {groups = [4]} : f32[4, 4, 6]\n"
		   "  result y = %7\n  result dw = %8\n}\n");
}

/* A sum over columns of what another such sum, repeated, is: one pass over the columns cannot give both. */
static void sum_of_a_repeated_sum(void **state)
{
	(void)state;
	check_text("program t\nentry e {\n  %1 = input x : f32[8, 3]\n"
		   "  %2 = sum %1 {axes = [0]} : f32[3]\n  %3 = broadcast %2 {dims = [1]} : f32[8, 3]\n"
		   "  %4 = sum %3 {axes = [0]} : f32[3]\n  %5 = sum %1 {axes = [0]} : f32[3]\n"
		   "  result a = %2\n  result b = %4\n  result c = %5\n}\n");
}

/* A mask that positions make is worked out where attention asks for it, also by a target that reads operands as they stand: one of
 * long texts would be larger than all else. */
static void masks_are_not_stored(void **state)
{
	(void)state;
	static const char text[] = "program t\nfacts BOUND EXPANDED\nentry e {\n"
				   "  %q = input q : f32[2, 64, 4]\n  %k = input k : f32[2, 64, 4]\n  %at = input at : i32[]\n"
				   "  %1 = iota {axis = 0} : i32[64, 64]\n  %2 = iota {axis = 0} : i32[64]\n"
				   "  %3 = broadcast %at {dims = []} : i32[64]\n  %4 = add %2, %3 : i32[64]\n"
				   "  %5 = broadcast %4 {dims = [1]} : i32[64, 64]\n  %6 = le %5, %1 : b1[64, 64]\n"
				   "  %7, %8 = attention %q, %k, %k, %6 {causal = true, mask = true, window = 0, scale = 0, softcap = 0} :"
				   " f32[2, 64, 4], f32[2, 64]\n  result y = %7\n}\n";
	check_text(text);
	for (u32 i = 0; i < COUNT(targets); i++) {
		Bench c;
		bench_open(&c);
		const Plan *plan = planned(&c, text, "", &targets[i]);
		for (u32 k = 0; k < plan->kernel.n; k++)
			if (plan->kernel.v[k]->class != KERNEL_ATTENTION)
				assert_true(plan->kernel.v[k]->bytes_written <= 64 * 4);
		bench_close(&c);
	}
}

/* The only kernel of this class whose result has so many elements, on the target that multiplies 8 bits. */
static const Kernel *product_of(Bench *c, const char *text, const Plan **plan)
{
	*plan = planned(c, text, "bind,expand,operands,canonical", &targets[2]);
	const Kernel *found = NULL;
	for (u32 i = 0; i < (*plan)->kernel.n; i++)
		if ((*plan)->kernel.v[i]->class == KERNEL_DOT)
			found = (*plan)->kernel.v[i];
	return found;
}

/* Products of 8 bits where the target has them: what is summed over runs fastest in both operands, by a copy where it does not in the value
 * that is read. What no such product takes is multiplied as bf16: sizes that are no multiples of 16, two operands of f8e5m2, batches. */
static void eight_bits(void **state)
{
	(void)state;
	static const struct {
		const char *x, *y, *spec, *out;
		bool in_8_bits;
		u32 kernels; /* the product, and copies in another order */
	} cases[] = {
		{ "f8e4m3[16, 32]", "f8e4m3[48, 32]", "mk,nk->mn", "[16, 48]", true, 1 },
		{ "f8e4m3[16, 32]", "f8e5m2[32, 48]", "mk,kn->mn", "[16, 48]", true, 2 },
		{ "f8e5m2[32, 16]", "f8e4m3[32, 48]", "km,kn->mn", "[16, 48]", true, 3 },
		{ "f8e4m3[32, 16]", "f8e4m3[48, 32]", "km,nk->nm", "[48, 16]", true, 2 },
		{ "f8e4m3[2, 16, 48]", "f8e4m3[2, 16, 32]", "btm,btn->mn", "[48, 32]", true, 3 },
		{ "f8e4m3[2, 48, 16]", "f8e4m3[2, 32, 16]", "bmt,bnt->mn", "[48, 32]", true, 3 },
		{ "f8e4m3[2, 16, 48]", "f8e4m3[16, 2, 32]", "btm,tbn->mn", "[48, 32]", false, 1 },
		{ "f8e4m3[2, 8, 32]", "f8e4m3[3, 16, 32]", "abk,cdk->abcd", "[2, 8, 3, 16]", true, 1 },
		{ "f8e5m2[16, 32]", "f8e5m2[48, 32]", "mk,nk->mn", "[16, 48]", false, 1 },
		{ "f8e4m3[16, 40]", "f8e4m3[48, 40]", "mk,nk->mn", "[16, 48]", false, 1 },
		{ "f8e4m3[15, 32]", "f8e4m3[48, 32]", "mk,nk->mn", "[15, 48]", false, 1 },
		{ "f8e4m3[2, 16, 32]", "f8e4m3[2, 48, 32]", "bmk,bnk->bmn", "[2, 16, 48]", false, 1 },
		{ "f8e4m3[16, 32]", "f16[48, 32]", "mk,nk->mn", "[16, 48]", false, 1 },
	};
	for (u32 i = 0; i < COUNT(cases); i++) {
		Bench c;
		bench_open(&c);
		const char *text = arena_printf(&c.arena, "program t\nentry e {\n  %%x = input x : %s\n  %%y = input y : %s\n"
					       "  %%1 = dot %%x, %%y {spec = \"%s\"} : f32%s\n  result r = %%1\n}\n",
					       cases[i].x, cases[i].y, cases[i].spec, cases[i].out);
		check_text(text);
		const Plan *plan;
		const Kernel *k = product_of(&c, text, &plan);
		if ((k->compute == DT_f8e4m3) != cases[i].in_8_bits || plan->kernel.n != cases[i].kernels)
			print_error("%s: by %s, in %u kernels\n", text, dtype_info[k->compute].name, plan->kernel.n);
		assert_int_equal(k->compute == DT_f8e4m3, cases[i].in_8_bits);
		assert_int_equal(plan->kernel.n, cases[i].kernels);
		bench_close(&c);
	}
}

/* Parts of a value: what is side by side is read where it lies, every other element or the last one first is copied. */
static void parts_of_8_bits(void **state)
{
	(void)state;
	static const struct {
		const char *slice;
		u32 kernels;
	} cases[] = { { "start = [0, 16], size = [16, 32], step = [1, 1]", 1 },
		      { "start = [15, 16], size = [16, 32], step = [-1, 1]", 1 },
		      { "start = [0, 1], size = [16, 32], step = [1, 2]", 2 },
		      { "start = [0, 47], size = [16, 32], step = [1, -1]", 2 } };
	for (u32 i = 0; i < COUNT(cases); i++) {
		Bench c;
		bench_open(&c);
		const char *text = arena_printf(&c.arena, "program t\nentry e {\n  %%x = input x : f8e4m3[16, 64]\n  %%y = input y : f8e5m2[48, 32]\n"
					       "  %%1 = slice %%x {%s} : f8e4m3[16, 32]\n"
					       "  %%2 = dot %%1, %%y {spec = \"mk,nk->mn\"} : f32[16, 48]\n  result r = %%2\n}\n",
					       cases[i].slice);
		check_text(text);
		const Plan *plan;
		assert_int_equal(product_of(&c, text, &plan)->compute, DT_f8e4m3);
		assert_int_equal(plan->kernel.n, cases[i].kernels);
		bench_close(&c);
	}
}

/* A layer's three products, of values that are made and rounded there: the input and the cotangent are stored in both orders, a weight that is
 * only read transposed in that order alone. */
static void orders_of_8_bits(void **state)
{
	(void)state;
	static const char text[] = "program t\nentry e {\n  %x = input x : f32[2, 16, 32]\n  %w = input w : f32[32, 48]\n  %g = input g : f32[2, 16, 48]\n"
				   "  %1 = neg %x : f32[2, 16, 32]\n  %2 = cast %1 : f8e4m3[2, 16, 32]\n"
				   "  %3 = neg %w : f32[32, 48]\n  %4 = cast %3 : f8e4m3[32, 48]\n"
				   "  %5 = dot %2, %4 {spec = \"bti,io->bto\"} : f32[2, 16, 48]\n"
				   "  %6 = neg %g : f32[2, 16, 48]\n  %7 = cast %6 : f8e5m2[2, 16, 48]\n"
				   "  %8 = dot %2, %7 {spec = \"bti,bto->io\"} : f32[32, 48]\n"
				   "  result y = %5\n  result dw = %8\n%s}\n";
	for (u32 both = 0; both < 2; both++) {
		Bench c;
		bench_open(&c);
		const char *more = both ? "  %9 = dot %7, %4 {spec = \"bto,io->bti\"} : f32[2, 16, 32]\n  result dx = %9\n" : "";
		const char *end = strstr(text, "%s}"), *whole = arena_printf(&c.arena, "%.*s%s}\n", (int)(end - text), text, more);
		check_text(whole);
		const Plan *plan;
		product_of(&c, whole, &plan);
		/* x twice; w once; g once, for it is only summed over along texts: with dx everything twice */
		assert_int_equal(plan->kernel.n, both ? 3 + 6 : 2 + 4);
		for (u32 i = 0; i < plan->kernel.n; i++)
			assert_true(plan->kernel.v[i]->class != KERNEL_DOT || plan->kernel.v[i]->compute == DT_f8e4m3);
		bench_close(&c);
	}
}

/* A chain of operations in one kernel, longer than the call stack is deep. */
static void long_chain(void **state)
{
	(void)state;
	enum { LENGTH = 20000 };
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	fprintf(f, "program t\nentry e {\n  %%1 = input x : f32[3]\n  %%2 = input y : f32[3]\n");
	for (u32 i = 3; i < LENGTH; i++)
		fprintf(f, "  %%%u = sub %%%u, %%%u : f32[3]\n", i, i % 2 ? 1 : 2, i - 1);
	fprintf(f, "  result r = %%%u\n}\n", LENGTH - 1);
	fclose(f);
	check_text(text);
	free(text);
}

/* A row that a reshape makes of several dimensions, one of which a weight belongs to: its elements are read in one piece, for what
 * the reshape divides its strides put together again; the weight is found by one division. */
static void merged_rows(void **state)
{
	(void)state;
	static const char text[] = "program t\nentry e {\n  %x = input x : f32[2, 6, 4, 5]\n  %w = input w : f32[6]\n"
				   "  %1 = broadcast %w {dims = [1]} : f32[2, 6, 4, 5]\n  %2 = mul %x, %1 : f32[2, 6, 4, 5]\n"
				   "  %3 = reshape %2 : f32[2, 2, 3, 4, 5]\n  %4 = reshape %3 : f32[2, 2, 60]\n"
				   "  %5 = sum %4 {axes = [2]} : f32[2, 2]\n  result r = %5\n}\n";
	check_text(text);
	/* rows that end elsewhere than what they are made of does */
	check_text("program t\nentry e {\n  %x = input x : f32[4, 6, 5]\n  %w = input w : f32[6]\n"
		   "  %1 = broadcast %w {dims = [1]} : f32[4, 6, 5]\n  %2 = mul %x, %1 : f32[4, 6, 5]\n"
		   "  %3 = transpose %2 {perm = [1, 0, 2]} : f32[6, 4, 5]\n  %4 = reshape %3 : f32[3, 40]\n"
		   "  %5 = sum %4 {axes = [1]} : f32[3]\n  %6 = reshape %x : f32[12, 10]\n"
		   "  %7 = sum %6 {axes = [1]} : f32[12]\n  result r = %5\n  result q = %7\n}\n");
	Bench c;
	bench_open(&c);
	const Plan *plan = planned(&c, text, "bind,expand,operands,canonical", NULL);
	u32 rows = 0, divisions = 0;
	for (u32 i = 0; i < plan->kernel.n; i++) {
		const Kernel *k = plan->kernel.v[i];
		rows += k->class == KERNEL_ROW;
		for (u32 j = 1; j < k->inst.n; j++) {
			const KInst *in = &k->inst.v[j];
			divisions += in->op == K_scalar && (in->scalar == S_floordiv || in->scalar == S_mod);
			if (in->op == K_load && k->slot.v[in->access->slot].elements > 6) {
				assert_int_equal(in->access->ndynamic, 0);
				assert_int_equal(in->access->stride[k->ndim - 1], 1);
			}
		}
	}
	assert_int_equal(rows, 1);
	assert_int_equal(divisions, 1);
	bench_close(&c);
}

/* Sums over rows whose neighbours lie side by side, as those of heads do, are of one long row; not where something else lies between. */
static void rows_side_by_side(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		u32 ndim;
		i64 last;
	} of[] = {
		{ "  %x = input x : f32[40, 3, 5]\n  %1 = transpose %x {perm = [1, 0, 2]} : f32[3, 40, 5]\n  %2 = sum %1 {axes = [1]} : f32[3, 5]\n"
		  "  result r = %2\n", 2, 15 },
		{ "  %x = input x : f32[3, 40, 5]\n  %2 = sum %x {axes = [1]} : f32[3, 5]\n  result r = %2\n", 3, 5 },
		/* two of them, the last of which alone goes on in the row */
		{ "  %x = input x : f32[2, 40, 3, 5]\n  %1 = transpose %x {perm = [0, 2, 1, 3]} : f32[2, 3, 40, 5]\n"
		  "  %2 = sum %1 {axes = [2]} : f32[2, 3, 5]\n  result r = %2\n", 3, 15 },
	};
	for (u32 i = 0; i < COUNT(of); i++) {
		Bench c;
		bench_open(&c);
		const char *text = arena_printf(&c.arena, "program t\nentry e {\n%s}\n", of[i].text);
		check_text(text);
		const Plan *plan = planned(&c, text, "", NULL);
		assert_int_equal(plan->kernel.n, 1);
		const Kernel *k = plan->kernel.v[0];
		assert_int_equal(k->class, KERNEL_COLUMN);
		assert_int_equal(k->ndim, of[i].ndim);
		assert_int_equal(k->dim[k->ndim - 1].extent, of[i].last);
		bench_close(&c);
	}
}

/* A function that takes long, of what is the same for six of what wants it, is worked out once and stored; one that does not is worked
 * out again. */
static void dear_functions_are_stored(void **state)
{
	(void)state;
	static const struct {
		const char *function;
		u32 kernels;
	} of[] = { { "cos", 2 }, { "neg", 1 } };
	for (u32 i = 0; i < COUNT(of); i++) {
		Bench c;
		bench_open(&c);
		const char *text = arena_printf(&c.arena,
						"program t\nentry e {\n  %%x = input x : f32[2, 3, 8, 4]\n  %%y = input y : f32[2, 3, 8, 4]\n"
						"  %%t = input t : f32[8, 4]\n  %%1 = %s %%t : f32[8, 4]\n"
						"  %%2 = broadcast %%1 {dims = [2, 3]} : f32[2, 3, 8, 4]\n  %%3 = mul %%x, %%2 : f32[2, 3, 8, 4]\n"
						"  %%4 = mul %%y, %%2 : f32[2, 3, 8, 4]\n  %%5 = concat %%3, %%4 {axis = 3} : f32[2, 3, 8, 8]\n"
						"  result r = %%5\n}\n",
						of[i].function);
		check_text(text);
		assert_int_equal(planned(&c, text, "", NULL)->kernel.n, of[i].kernels);
		bench_close(&c);
	}
}

/* Two sums over the same rows, of which neither waits for the other, are one kernel, in one part of the model. */
static void sums_side_by_side(void **state)
{
	(void)state;
	for (u32 other = 0; other < 2; other++) {
		Bench c;
		bench_open(&c);
		const char *text = arena_printf(&c.arena,
						"program t\nentry e {\n  %%x = input x : f32[6, 100]\n  %%y = input y : f32[6, 100]\n"
						"  %%1 = mul %%x, %%y : f32[6, 100]\n  %%2 = sum %%1 {axes = [1]} : f32[6]\n"
						"  %%3 = sum %%y {axes = [1]} : f32[6]%s\n  %%4 = exp %%x : f32[6, 100]\n"
						"  %%5 = sum %%4 {axes = [1]} : f32[6]\n"
						"  result a = %%2\n  result b = %%3\n  result c = %%5\n}\n",
						other ? " in h.1" : "");
		check_text(text);
		assert_int_equal(planned(&c, text, "", NULL)->kernel.n, other ? 2 : 1);
		bench_close(&c);
	}
}

/* A product times a function that takes long, wanted with another factor by a sum over other rows and by what goes on from there: it is
 * stored in the product's place, once, and the function is worked out once. Where the product itself is wanted too, that is stored, and the
 * function is worked out again. */
static void dear_behind_a_product(void **state)
{
	(void)state;
	for (u32 wanted = 0; wanted < 2; wanted++) {
		Bench c;
		bench_open(&c);
		const char *text = arena_printf(&c.arena,
						"program t\nentry e {\n  %%x = input x : f32[24, 16]\n  %%w = input w : f32[16, 10]\n"
						"  %%z = input z : f32[24, 10]\n  %%1 = dot %%x, %%w {spec = \"ik,kj->ij\"} : f32[24, 10]\n"
						"  %%2 = sigmoid %%z : f32[24, 10]\n  %%3 = mul %%1, %%2 : f32[24, 10]\n  %%4 = mul %%3, %%z : f32[24, 10]\n"
						"  %%5 = reshape %%4 : f32[4, 60]\n  %%6 = sum %%5 {axes = [1]} : f32[4]\n"
						"  %%7 = broadcast %%6 {dims = [0]} : f32[4, 60]\n  %%8 = reshape %%7 : f32[24, 10]\n"
						"  %%9 = sub %%3, %%8 : f32[24, 10]\n  result a = %%9\n%s}\n",
						wanted ? "  result b = %1\n" : "");
		check_text(text);
		const Plan *plan = planned(&c, text, "", NULL);
		u32 costly = 0;
		for (u32 i = 0; i < plan->kernel.n; i++) {
			costly += plan->kernel.v[i]->costly > 0;
			if (plan->kernel.v[i]->class == KERNEL_DOT)
				assert_true(plan->kernel.v[i]->bytes_written == 24 * 10 * 4);
		}
		assert_int_equal(costly, wanted ? 2 : 1);
		bench_close(&c);
	}
}

/* What a vector unit does: a map that reads across takes 12 additions for each element that lies apart, beside one of its own; a product none,
 * whose skeleton brings operands into order. A result's addition is one. Of attention, 12 for each score that is capped and seen
 * (10 of 16 in each of six heads). */
static void effort_beside_skeletons(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		f64 effort, costly;
	} of[] = {
		{ "  %x = input x : f32[6, 10]\n  %y = input y : f32[10, 6]\n  %1 = transpose %y {perm = [1, 0]} : f32[6, 10]\n"
		  "  %2 = add %x, %1 : f32[6, 10]\n  result r = %2\n", 60 * 13, 60 * 12 },
		{ "  %x = input x : f32[8, 6]\n  %y = input y : f32[10, 8]\n  %z = input z : f32[6, 10]\n"
		  "  %3 = dot %x, %y {spec = \"ki,jk->ij\"} : f32[6, 10]\n  %4 = add %3, %z : f32[6, 10]\n  result r = %4\n", 60, 0 },
		{ "  %q = input q : f32[2, 3, 4, 8]\n  %k = input k : f32[2, 3, 4, 8]\n  %v = input v : f32[2, 3, 4, 8]\n"
		  "  %o, %l = attention %q, %k, %v {causal = true, window = 0, scale = 0, softcap = 5} : f32[2, 3, 4, 8], f32[2, 3, 4]\n"
		  "  result r = %o\n", 60 * 12, 60 * 12 },
	};
	for (u32 i = 0; i < COUNT(of); i++) {
		Bench c;
		bench_open(&c);
		const char *text = arena_printf(&c.arena, "program t\nentry e {\n%s}\n", of[i].text);
		const Plan *plan = planned(&c, text, "bind,expand,operands,canonical", NULL);
		assert_int_equal(plan->kernel.n, 1);
		assert_true(plan->kernel.v[0]->effort == of[i].effort);
		assert_true(plan->kernel.v[0]->costly == of[i].costly);
		bench_close(&c);
	}
}

/* ---- random ---- */

static void every_op(void **state)
{
	(void)state;
	u32 failed = 0;
	for (u32 op = 0; op < OPS; op++) {
		if (!op_info[op].def->sample || op == OP_read)
			continue;
		if (getenv("OP") && strcmp(getenv("OP"), op_info[op].name))
			continue;
		for (u64 seed = 0; seed < 30; seed++) {
			Bench c;
			bench_open(&c);
			Program *p = program_new(&c.arena, c.ir, "op");
			Graph *g = program_entry(p, "entry");
			Builder b = builder_new(g);
			b.no_fold = true;
			Random r = random_new(&c.arena, seed);
			Val v = op_info[op].def->sample(&r, &b);
			const Node *n = val_node(g, v);
			for (u32 i = 0; i < n->nout; i++)
				graph_result(g, intern_printf(&c.ir->names, "r%u", i), NONE, (Val){ v.i + i });
			builder_done(&b);
			if (!plan_agrees(&c, p, "bind,expand,simplify,narrow,operands,canonical", &r, 1e-6, true)) {
				print_error("op %s seed %llu\n", op_info[op].name, (unsigned long long)seed);
				failed++;
				seed = 1000;
			}
			bench_close(&c);
		}
	}
	assert_int_equal(failed, 0);
}

static void random_graphs(void **state)
{
	(void)state;
	u32 failed = 0;
	u64 first = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 10) : 0, count = getenv("COUNT") ? strtoull(getenv("COUNT"), NULL, 10) : 300;
	for (u64 seed = first; seed < first + count; seed++) {
		Bench c;
		bench_open(&c);
		u64 steps = 1 + seed % 60;
		Program *p = random_program(&c.arena, c.ir, seed, (u32)steps);
		Random r = random_new(&c.arena, seed);
		bool fine = plan_agrees(&c, p, seed % 2 ? "bind,expand,operands,canonical" : "bind,expand,simplify,narrow,operands,canonical", &r,
					1e-6, true);
		if (!fine) {
			print_error("seed %llu\n", (unsigned long long)seed);
			failed++;
		}
		bench_close(&c);
	}
	assert_int_equal(failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hand_made),
		cmocka_unit_test(grouped_behind_reshapes),
		cmocka_unit_test(sum_of_a_repeated_sum),
		cmocka_unit_test(masks_are_not_stored),
		cmocka_unit_test(eight_bits),
		cmocka_unit_test(parts_of_8_bits), cmocka_unit_test(orders_of_8_bits),
		cmocka_unit_test(long_chain),
		cmocka_unit_test(merged_rows),
		cmocka_unit_test(rows_side_by_side),
		cmocka_unit_test(dear_functions_are_stored),
		cmocka_unit_test(sums_side_by_side),
		cmocka_unit_test(dear_behind_a_product),
		cmocka_unit_test(effort_beside_skeletons),
		cmocka_unit_test(every_op),
		cmocka_unit_test(random_graphs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
