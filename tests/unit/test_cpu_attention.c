/* ATTENTION and ATTENTION_GRAD kernels on the CPU against kernel_eval: layouts, grouped queries, causal,
 * windows, masks, biases, bounded scores, every precision, edges of blocks and panels. */
#include "attention_cases.h"

static const Shape forward[] = {
	{ 1, 1, 1, 5, 7, 4, 3, .compute = DT_f32 },
	{ 2, 3, 1, 33, 33, 16, 16, .causal = true, .compute = DT_f32, .joined = true },
	{ 1, 2, 1, 100, 100, 64, 64, .causal = true, .compute = DT_f32, .joined = true },
	{ 1, 2, 2, 70, 300, 24, 40, .causal = true, .compute = DT_f32 },
	{ 2, 2, 3, 1, 201, 32, 32, .causal = true, .compute = DT_f32 },
	{ 1, 1, 1, 300, 300, 8, 8, .causal = true, .window = 40, .compute = DT_f32 },
	{ 1, 2, 2, 50, 20, 16, 24, .causal = true, .compute = DT_f32 },
	{ 1, 1, 1, 20, 150, 17, 5, .mask = true, .compute = DT_f32 },
	{ 2, 1, 2, 19, 31, 8, 9, .mask = true, .bias = true, .causal = true, .compute = DT_f32 },
	{ 1, 1, 4, 61, 140, 10, 70, .bias = true, .compute = DT_f32, .scale = 0.7 },
	{ 1, 2, 1, 40, 140, 32, 32, .compute = DT_bf16, .causal = true },
	{ 1, 2, 1, 40, 50, 32, 32, .compute = DT_f16, .joined = true },
	{ 1, 2, 1, 37, 141, 12, 20, .compute = DT_f64, .causal = true },
	{ 1, 1, 2, 1, 1, 1, 1, .compute = DT_f32 },
	{ 3, 1, 1, 2, 400, 64, 8, .compute = DT_f32 },
	/* a softcap bends all but the smallest; what is not seen stays unseen */
	{ 2, 1, 2, 19, 231, 8, 9, .mask = true, .bias = true, .causal = true, .window = 150, .compute = DT_f32, .softcap = 0.7 },
	{ 1, 2, 1, 40, 140, 32, 32, .compute = DT_bf16, .causal = true, .scale = 2, .softcap = 5 },
	{ 1, 1, 1, 37, 41, 12, 20, .compute = DT_f64, .softcap = 0.3 },
};

static void test_forward(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(forward); i++)
		add_forward(&s, &forward[i]);
	suite_run(&s, 31);
}

static const struct {
	Shape shape;
	u32 what;
} backward[] = {
	/* one shape of code: kernels that differ in numbers alone are compiled once */
	{ { 2, 3, 2, 33, 33, 16, 16, .causal = true, .compute = DT_f32, .joined = true }, ALL },
	{ { 2, 2, 2, 61, 61, 64, 64, .causal = true, .compute = DT_f32, .joined = true }, ALL },
	{ { 2, 2, 2, 35, 300, 24, 40, .causal = true, .compute = DT_f32 }, ALL },
	{ { 2, 2, 3, 50, 20, 16, 24, .causal = true, .compute = DT_f32 }, ALL },
	{ { 2, 2, 3, 1, 201, 32, 32, .causal = true, .compute = DT_f32 }, ALL },
	{ { 1, 1, 1, 300, 300, 8, 8, .causal = true, .window = 40, .compute = DT_f32 }, ALL | DLSE },
	{ { 1, 1, 2, 50, 120, 8, 24, .causal = true, .window = 7, .compute = DT_f32 }, ALL },
	{ { 1, 1, 1, 20, 150, 17, 5, .mask = true, .compute = DT_f32 }, ALL },
	{ { 2, 1, 2, 19, 31, 8, 9, .mask = true, .bias = true, .causal = true, .compute = DT_f32 },
	  ALL | DBIAS | DLSE },
	{ { 1, 1, 4, 61, 140, 10, 33, .bias = true, .compute = DT_f32, .scale = 0.7 }, DK | DBIAS },
	{ { 1, 2, 1, 60, 140, 32, 32, .compute = DT_bf16, .causal = true }, ALL | DLSE },
	{ { 1, 2, 1, 40, 50, 32, 32, .compute = DT_f16, .bias = true, .joined = true }, ALL | DBIAS },
	{ { 1, 2, 1, 37, 141, 12, 20, .compute = DT_f64, .causal = true }, ALL },
	{ { 1, 1, 2, 1, 1, 1, 1, .compute = DT_f32 }, ALL },
	{ { 1, 1, 1, 20, 1600, 8, 8, .compute = DT_f32 }, ALL }, /* keys in shares */
	{ { 30, 1, 1, 3, 5, 4, 4, .compute = DT_f32 }, DQ | DV },
	{ { 2, 1, 2, 19, 231, 8, 9, .mask = true, .bias = true, .causal = true, .window = 150, .compute = DT_f32, .softcap = 0.7 },
	  ALL | DBIAS | DLSE },
	{ { 1, 2, 1, 60, 140, 32, 32, .compute = DT_bf16, .causal = true, .scale = 2, .softcap = 5 }, ALL },
	{ { 1, 1, 1, 37, 41, 12, 20, .compute = DT_f64, .softcap = 0.3 }, ALL },
};

static void test_backward(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(backward); i++)
		add_backward(&s, &backward[i].shape, backward[i].what);
	suite_run(&s, 57);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_backward),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
