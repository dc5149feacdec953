/* ATTENTION and ATTENTION_GRAD kernels on CUDA: what real compilers say of them, and what they
 * compute, by a driver, against kernel_eval: on tensor cores and without, widths from 3 to 300,
 * more blocks of keys than stages, operands that are copied, packed and computed on the way. */
#define CUDA_RUN_ARCHS "sm_90a"
#include "attention_cases.h"
#include "cuda_run.h"

static const Shape forward[] = {
	/* tensor cores: rows of threads' blocks, blocks of keys, their edges */
	{ 1, 2, 1, 200, 200, 64, 64, .compute = DT_bf16, .causal = true, .joined = true },
	/* scores so large that the largest of later blocks counts */
	{ 2, 1, 2, 33, 270, 32, 32, .compute = DT_f16, .causal = true, .scale = 12 },
	{ 1, 1, 2, 40, 241, 80, 48, .compute = DT_bf16, .causal = true, .window = 150 },
	{ 1, 1, 1, 130, 70, 128, 128, .compute = DT_bf16, .causal = true },
	{ 1, 1, 2, 50, 100, 64, 128, .compute = DT_bf16, .mask = true, .bias = true,
	  .causal = true },
	{ 1, 1, 1, 20, 140, 256, 256, .compute = DT_bf16, .causal = true },
	{ 1, 1, 1, 17, 65, 16, 24, .compute = DT_bf16, .bias = true, .scale = -0.3 },
	{ 2, 2, 2, 1, 200, 64, 64, .compute = DT_bf16, .causal = true },
	{ 1, 1, 2, 30, 70, 256, 256, .compute = DT_bf16, .mask = true, .causal = true },
	/* operands that are not rows to copy */
	{ 1, 2, 1, 150, 150, 64, 64, .compute = DT_bf16, .causal = true, .joined = true,
	  .computed = true },
	{ 1, 1, 2, 37, 100, 17, 5, .compute = DT_bf16, .causal = true },
	/* ordinary arithmetic */
	{ 1, 2, 2, 70, 200, 24, 40, .compute = DT_f32, .causal = true },
	{ 1, 1, 1, 70, 70, 64, 64, .compute = DT_f32, .causal = true, .window = 30, .joined = true,
	  .computed = true },
	{ 2, 1, 2, 19, 31, 8, 9, .compute = DT_f32, .mask = true, .bias = true, .causal = true },
	{ 1, 1, 1, 37, 71, 12, 20, .compute = DT_f64, .causal = true },
	{ 1, 1, 1, 20, 70, 300, 260, .compute = DT_bf16, .causal = true },
	{ 1, 1, 2, 1, 1, 1, 1, .compute = DT_f32 },
	/* bounded scores */
	{ 1, 1, 2, 50, 100, 64, 64, .compute = DT_bf16, .causal = true, .window = 70, .scale = 2, .softcap = 5 },
	{ 1, 1, 1, 17, 65, 32, 24, .compute = DT_f16, .mask = true, .bias = true, .softcap = 0.7 },
	{ 1, 1, 1, 20, 70, 256, 256, .compute = DT_bf16, .causal = true, .softcap = 0.7 },
	{ 2, 1, 2, 19, 31, 8, 9, .compute = DT_f32, .mask = true, .bias = true, .causal = true, .softcap = 0.7 },
};

static const struct {
	Shape shape;
	u32 what;
} backward[] = {
	{ { 1, 2, 1, 200, 200, 64, 64, .compute = DT_bf16, .causal = true, .joined = true }, ALL },
	{ { 1, 1, 2, 70, 200, 32, 32, .compute = DT_f16, .causal = true }, ALL | DLSE },
	{ { 1, 1, 2, 40, 241, 80, 48, .compute = DT_bf16, .causal = true, .window = 150 }, ALL },
	{ { 1, 1, 1, 130, 70, 128, 128, .compute = DT_bf16, .causal = true }, ALL },
	{ { 1, 1, 2, 50, 70, 128, 64, .compute = DT_bf16, .mask = true }, ALL | DLSE },
	{ { 1, 1, 2, 50, 70, 64, 64, .compute = DT_bf16, .mask = true, .bias = true,
	    .causal = true },
	  ALL | DBIAS },
	{ { 1, 1, 1, 50, 70, 256, 256, .compute = DT_bf16, .causal = true }, ALL },
	{ { 1, 1, 2, 30, 70, 208, 208, .compute = DT_bf16, .mask = true, .causal = true }, ALL },
	{ { 1, 1, 1, 150, 150, 64, 64, .compute = DT_bf16, .causal = true, .joined = true,
	    .computed = true },
	  ALL },
	{ { 1, 1, 2, 37, 100, 17, 5, .compute = DT_f16, .causal = true }, DV | DQ },
	{ { 1, 1, 2, 70, 70, 24, 40, .compute = DT_f32, .causal = true }, ALL | DLSE },
	{ { 1, 1, 1, 70, 70, 32, 32, .compute = DT_f32, .causal = true, .window = 30,
	    .joined = true },
	  ALL },
	{ { 2, 1, 2, 19, 31, 8, 9, .compute = DT_f32, .mask = true, .bias = true, .causal = true },
	  ALL | DBIAS },
	{ { 1, 1, 1, 37, 40, 12, 20, .compute = DT_f64, .causal = true }, ALL },
	{ { 1, 1, 1, 20, 40, 300, 260, .compute = DT_bf16, .causal = true }, ALL },
	{ { 1, 1, 2, 50, 100, 64, 64, .compute = DT_bf16, .causal = true, .window = 70, .scale = 2, .softcap = 5 }, ALL | DLSE },
	{ { 1, 1, 1, 17, 65, 32, 24, .compute = DT_f16, .mask = true, .bias = true, .softcap = 0.7 }, ALL | DBIAS },
	{ { 1, 1, 1, 20, 70, 256, 256, .compute = DT_bf16, .causal = true, .softcap = 0.7 }, ALL },
	{ { 2, 1, 2, 19, 31, 8, 9, .compute = DT_f32, .mask = true, .bias = true, .causal = true, .softcap = 0.7 }, ALL | DBIAS },
};

static void forward_cases(Suite *s)
{
	for (u32 i = 0; i < COUNT(forward); i++)
		add_forward(s, &forward[i]);
}

static void backward_cases(Suite *s)
{
	for (u32 i = 0; i < COUNT(backward); i++)
		add_backward(s, &backward[i].shape, backward[i].what);
}

/* Sizes that are trained at, and heads of 32 to 256 features, masked and grouped: nothing may spill. The widest take long
 * to compile: with PLINTH_GATE=full. */
static void trained_cases(Suite *s)
{
	static const Shape trained[] = {
		{ 4, 12, 1, 1024, 1024, 64, 64, .compute = DT_bf16, .causal = true, .joined = true,
		  .computed = true },
		{ 4, 8, 4, 2048, 2048, 128, 128, .compute = DT_bf16, .causal = true },
		{ 4, 16, 1, 512, 512, 32, 32, .compute = DT_f16, .mask = true, .joined = true },
		{ 4, 8, 2, 1024, 1024, 96, 96, .compute = DT_bf16, .causal = true, .mask = true },
		/* with PLINTH_GATE=full */
		{ 2, 8, 1, 1024, 1024, 160, 160, .compute = DT_f16, .joined = true },
		{ 2, 8, 2, 1024, 1024, 192, 192, .compute = DT_bf16, .causal = true, .mask = true, .joined = true },
		{ 2, 2, 4, 1024, 1024, 256, 256, .compute = DT_bf16, .causal = true, .joined = true },
		{ 2, 8, 2, 1024, 1024, 256, 256, .compute = DT_bf16, .causal = true, .mask = true, .joined = true },
		{ 2, 8, 1, 1024, 1024, 224, 224, .compute = DT_f16, .mask = true },
	};
	enum { QUICK = 4 };
	for (u32 i = 0; i < (getenv("PLINTH_GATE") ? COUNT(trained) : QUICK); i++) {
		add_forward(s, &trained[i]);
		add_backward(s, &trained[i], ALL);
	}
}

static void test_compile(void **state)
{
	(void)state;
	Suite s = { 0 };
	trained_cases(&s);
	cuda_suite_compile(&s);
	arena_free(&s.arena);
}

static void test_forward(void **state)
{
	(void)state;
	Suite s = { 0 };
	forward_cases(&s);
	cuda_suite_run(&s, 31);
}

static void test_backward(void **state)
{
	(void)state;
	Suite s = { 0 };
	backward_cases(&s);
	cuda_suite_run(&s, 37);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compile),
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_backward),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
