/* What NVRTC is asked, by one that stands in for that of CUDA 12.0, the oldest that Plinth takes (nvrtc_standin.c). */
#include "codegen/cuda/nvrtc.h"
#include "support/str.h"

#include "harness.h"

/* An option that it does not know would be the end of every program. */
static void test_oldest(void **state)
{
	(void)state;
	const Nvrtc *n;
	NvrtcResult r;
	assert_null(nvrtc_open(&n));
	assert_int_equal(n->major, 12);
	assert_int_equal(n->minor, 0);
	static const char *const arch[] = { "sm_90a", "compute_90a" };
	for (u32 i = 0; i < COUNT(arch); i++) {
		Status s = nvrtc_compile(n, "nothing", "", arch[i], &r);
		if (s)
			fail_msg("%s", s->text);
		assert_non_null(r.image);
		free(r.image);
		free(r.log);
		free(r.ptx);
	}
	bool fused = true;
	for (const char *const *o = n->option; *o; o++)
		fused &= strcmp(*o, "--fmad=false") != 0;
	assert_false(fused);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_oldest) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
