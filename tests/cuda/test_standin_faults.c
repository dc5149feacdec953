/* test_standin_faults.c: mistakes planted in kernels and in the host's use of the driver: each must be
 * caught, by a wrong result, an error or a signal, in one of the schedules, and what is right in none. */
#include "kernels.h"
#include "harness.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const schedules[] = {
	"quiet=on, schedule=ascending, async=eager", "quiet=on, schedule=descending, async=late",
	"quiet=on, schedule=random:1, async=late",   "quiet=on, schedule=random:2, async=eager",
};

static char *compiled(const char *define, const char *source)
{
	size_t n = strlen(define) + sizeof kernel_wrappers + strlen(source) + 32;
	char *text = malloc(n);
	snprintf(text, n, "%s%s\n%s%s", *define ? "#define " : "", define, kernel_wrappers, source);
	char *ptx = nvrtc_ptx(text, "compute_90");
	free(text);
	return ptx;
}

/* Both: the error, or 0 if the result is right, -1 if it is wrong. */
static int run_softmax(const char *ptx, const char *settings)
{
	enum { ROWS = 3, N = 150 };
	f32 x[ROWS][N], y[ROWS][N];
	u32 seed = 5;
	CUmodule m;
	standin_set(settings);
	CUfunction f = load_function(ptx, "k", &m);
	for (u32 i = 0; i < ROWS * N; i++)
		x[i / N][i % N] = 4 * test_uniform(&seed);
	CUdeviceptr dx = device_copy(x, sizeof x), dy = device_copy(NULL, sizeof y);
	int r = run_kernel(f, ROWS, 128, N * 4, (u64[]){ dx, dy, N }, 3);
	if (!r) {
		CU(cuMemcpyDtoH_v2(y, dy, sizeof y));
		for (u32 i = 0; i < ROWS; i++) {
			f64 sum = 0;
			for (u32 j = 0; j < N; j++)
				sum += exp(x[i][j]);
			for (u32 j = 0; j < N; j++)
				if (!(fabs(y[i][j] * sum / exp(x[i][j]) - 1) < 1e-5))
					r = -1;
		}
	}
	if (r > 0)
		print_message("  %s\n", standinLastReport());
	standinForget();
	cuMemFree_v2(dx);
	cuMemFree_v2(dy);
	cuModuleUnload(m);
	return r;
}

static int run_matmul(const char *ptx, const char *settings)
{
	enum { M = 64, N = 64, K = 256 };
	static u16 a[M][K], b[K][N], c[M][N];
	static i32 small[2][M][K];
	u32 seed = 6;
	CUmodule m;
	standin_set(settings);
	CUfunction f = load_function(ptx, "k", &m);
	/* Integers of -3 to 3: sums are exact. */
	for (u32 i = 0; i < M; i++)
		for (u32 k = 0; k < K; k++) {
			static const u16 bits[] = { 0xc040, 0xc000, 0xbf80, 0, 0x3f80, 0x4000, 0x4040 };
			small[0][i][k] = (i32)(test_random(&seed) % 7) - 3;
			small[1][i][k] = (i32)(test_random(&seed) % 7) - 3;
			a[i][k] = bits[small[0][i][k] + 3];
			b[k][i] = bits[small[1][i][k] + 3];
		}
	CUdeviceptr da = device_copy(a, sizeof a), db = device_copy(b, sizeof b), dc = device_copy(NULL, sizeof c);
	u64 n = N, k = K;
	CU(cuLaunchKernel(f, 1, 1, 1, 128, 1, 1, 0, NULL, (void *[]){ &da, &db, &dc, &n, &k }, NULL));
	int r = cuCtxSynchronize();
	if (!r) {
		CU(cuMemcpyDtoH_v2(c, dc, sizeof c));
		for (u32 i = 0; i < M; i++)
			for (u32 j = 0; j < N; j++) {
				i32 want = 0;
				u32 bits = (u32)c[i][j] << 16;
				f32 got;
				memcpy(&got, &bits, 4);
				for (u32 l = 0; l < K; l++)
					want += small[0][i][l] * small[1][j][l];
				if (!(fabs(got - want) <= fabs((f64)want) * 0x1p-8))
					r = -1;
			}
	}
	if (r > 0)
		print_message("  %s\n", standinLastReport());
	standinForget();
	cuMemFree_v2(da);
	cuMemFree_v2(db);
	cuMemFree_v2(dc);
	cuModuleUnload(m);
	return r;
}

static const struct {
	const char *define, *source;
	int (*run)(const char *ptx, const char *settings);
} planted[] = {
	{ "", kernel_softmax, run_softmax },
	{ "MISSING_BARRIER", kernel_softmax, run_softmax },
	{ "MISSING_SECOND_BARRIER", kernel_softmax, run_softmax },
	{ "DIVERGENT_BARRIER", kernel_softmax, run_softmax },
	{ "OUT_OF_RANGE", kernel_softmax, run_softmax },
	{ "", kernel_matmul, run_matmul },
	{ "PENDING 2", kernel_matmul, run_matmul },
	{ "MISSING_WAIT", kernel_matmul, run_matmul },
	{ "MISSING_BARRIER", kernel_matmul, run_matmul },
	{ "PREFETCH_BEFORE_BARRIER", kernel_matmul, run_matmul },
	{ "WRONG_STAGE", kernel_matmul, run_matmul },
};

static void test_planted(void **state)
{
	(void)state;
	for (u32 i = 0; i < COUNT(planted); i++) {
		char *ptx = compiled(planted[i].define, planted[i].source);
		u32 caught = 0;
		for (u32 s = 0; s < COUNT(schedules); s++)
			caught += planted[i].run(ptx, schedules[s]) != 0;
		print_message("%-24s caught in %u of %zu schedules\n", *planted[i].define ? planted[i].define : "(nothing planted)", caught,
			      COUNT(schedules));
		assert_true(*planted[i].define ? caught > 0 : caught == 0);
		free(ptx);
	}
}

/* Races are seen whatever the order, also where the result happens to be right. */
static void test_races(void **state)
{
	(void)state;
	for (u32 i = 0; i < COUNT(planted); i++) {
		bool race = strstr(planted[i].define, "BARRIER") && strcmp(planted[i].define, "DIVERGENT_BARRIER");
		bool nothing = !*planted[i].define;
		if (!race && !nothing)
			continue;
		char *ptx = compiled(planted[i].define, planted[i].source);
		int r = planted[i].run(ptx, "quiet=on, race=on, uninitialized=on, schedule=ascending");
		assert_int_equal(r, nothing ? 0 : CUDA_ERROR_LAUNCH_FAILED);
		free(ptx);
	}
}

/* Single mistakes in PTX, and what the report must say. */
static const struct {
	const char *declarations, *body, *settings, *report;
	int error;
} mistakes[] = {
	{ "", "ld.param.u64 %d0, [p0]; st.global.u32 [%d0+64], 1;", "", "past the end of an allocation of 64", CUDA_ERROR_ILLEGAL_ADDRESS },
	{ "", "ld.param.u64 %d0, [p0]; ld.global.u32 %r0, [%d0-4];", "", "4 bytes before an allocation", CUDA_ERROR_ILLEGAL_ADDRESS },
	{ "", "mov.u64 %d0, 0; ld.global.u32 %r0, [%d0];", "", "a null pointer", CUDA_ERROR_ILLEGAL_ADDRESS },
	{ "", "ld.param.u64 %d0, [p0]; ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%d0+8];", "", "not a multiple", CUDA_ERROR_MISALIGNED_ADDRESS },
	{ ".shared .align 4 .b8 s[64];", "mov.u32 %r0, s; st.shared.u32 [%r0+64], 1;", "", "shared address", CUDA_ERROR_ILLEGAL_ADDRESS },
	{ ".shared .align 4 .b8 s[64];", "mov.u32 %r0, s; ld.shared.u32 %r1, [%r0+8];", "uninitialized=on", "never written",
	  CUDA_ERROR_LAUNCH_FAILED },
	{ "", ".local .align 4 .b8 l[16]; mov.u64 %d0, l; st.local.u32 [%d0+16], 1;", "", "a frame of 16", CUDA_ERROR_ILLEGAL_ADDRESS },
	{ "", "mov.u32 %r0, %tid.x; setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync 1, 64;", "", "deadlock", CUDA_ERROR_LAUNCH_FAILED },
	{ "", "mov.u32 %r0, %tid.x; and.b32 %r0, %r0, 1; setp.eq.u32 %p1, %r0, 0; @%p1 bra L; bar.sync 0; L:", "", "deadlock",
	  0 },
	{ "", "mov.u32 %r0, %laneid; setp.eq.u32 %p1, %r0, 3; @%p1 bra L; shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1; bar.sync 0; L: bar.sync 0;",
	  "", "waits for other lanes", CUDA_ERROR_LAUNCH_FAILED },
	{ "", "mov.u32 %r0, %laneid; shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xffff;", "", "does not name it", CUDA_ERROR_ILLEGAL_INSTRUCTION },
	{ "", "trap;", "", "asks for a stop", CUDA_ERROR_LAUNCH_FAILED },
	{ ".shared .align 8 .b64 m;", "mov.u32 %r0, m; mbarrier.arrive.shared.b64 %d0, [%r0];", "", "not initialized",
	  CUDA_ERROR_ILLEGAL_INSTRUCTION },
	{ ".shared .align 16 .b8 s[64];",
	  "ld.param.u64 %d0, [p0]; mov.u32 %r0, s; mov.u32 %r2, %tid.x; setp.ne.u32 %p1, %r2, 0; @%p1 ret;"
	  "cp.async.cg.shared.global [%r0], [%d0], 16; cp.async.commit_group; ld.shared.u32 %r1, [%r0];", "race=on", "under way",
	  CUDA_ERROR_LAUNCH_FAILED },
	/* device memory: each of two warps writes one place; reads what the other wrote; does so behind a barrier, which is right */
	{ "", "ld.param.u64 %d0, [p0]; st.global.u32 [%d0], 1;", "race=on", "wrote in the same launch with no barrier", CUDA_ERROR_LAUNCH_FAILED },
	{ "",
	  "ld.param.u64 %d0, [p0]; mov.u32 %r0, %tid.x; shr.u32 %r1, %r0, 5; mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %d0, %d1;"
	  "ld.global.u32 %r2, [%d0]; st.global.u32 [%d1], %r0;", "race=on", "in the same launch with no barrier", CUDA_ERROR_LAUNCH_FAILED },
	{ "",
	  "ld.param.u64 %d0, [p0]; mov.u32 %r0, %tid.x; shr.u32 %r1, %r0, 5; mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %d0, %d1;"
	  "ld.global.u32 %r2, [%d0]; bar.sync 0; st.global.u32 [%d1], %r0;", "race=on", "", 0 },
	/* the first warp reads what it then writes, behind the second one, which has read it too */
	{ "",
	  "ld.param.u64 %d0, [p0]; mov.u32 %r0, %tid.x; setp.gt.u32 %p1, %r0, 31; ld.global.u32 %r2, [%d0]; @%p1 ret;"
	  "setp.ne.u32 %p1, %r0, 0; @%p1 ret; st.global.u32 [%d0], %r2;", "race=on, schedule=descending", "in the same launch with no barrier",
	  CUDA_ERROR_LAUNCH_FAILED },
	{ "", "ld.param.u64 %d0, [p0]; red.global.add.u32 [%d0], 1;", "race=on", "", 0 },
};

/* Blocks, by schedules that do one after another: what one writes another may neither read nor write, in whatever order they came. */
static void test_blocks(void **state)
{
	(void)state;
	/* the block's own place and, OFFSET places on, another's: of two blocks */
	static const char body[] = "ld.param.u64 %%d0, [p0]; mov.u32 %%r0, %%ctaid.x; mul.wide.u32 %%d1, %%r0, 4; add.u64 %%d1, %%d0, %%d1;"
				   "mov.u32 %%r2, %%tid.x; setp.ne.u32 %%p1, %%r2, 0; @%%p1 ret; %s";
	static const struct {
		const char *does, *says;
	} is[] = { { "ld.global.u32 %r1, [%d0]; st.global.u32 [%d1], %r0;", "race: it" },
		   { "st.global.u32 [%d0], 1;", "wrote in the same launch" },
		   { "ld.global.u32 %r1, [%d0+16]; st.global.u32 [%d1], %r0;", NULL },
		   { "red.global.add.u32 [%d0], 1;", NULL },
		   { "red.global.add.u32 [%d0], 1; ld.global.u32 %r1, [%d0];", "race: it" } };
	static const char *const order[] = { "schedule=ascending", "schedule=descending", "schedule=random:5" };
	CUdeviceptr d;
	CU(cuMemAlloc_v2(&d, 64));
	for (u32 i = 0; i < COUNT(is); i++)
		for (u32 k = 0; k < COUNT(order); k++) {
			char settings[100], text[600];
			CUmodule m;
			snprintf(settings, sizeof settings, "quiet=on, race=on, %s", order[k]);
			snprintf(text, sizeof text, body, is[i].does);
			standin_set(settings);
			char *ptx = ptx_kernel("", text);
			CUfunction f = load_function(ptx, "k", &m);
			for (u32 again = 0; again < 2; again++) { /* a second launch begins anew */
				int r = run_kernel(f, 2, 32, 0, (u64[]){ d, 0, 0 }, 3);
				if ((r != 0) != (is[i].says != NULL) || (r && !strstr(standinLastReport(), is[i].says)))
					fail_msg("%s, %s: error %d: %s", is[i].does, order[k], r, standinLastReport());
				standinForget();
			}
			CU(cuModuleUnload(m));
			free(ptx);
		}
	CU(cuMemFree_v2(d));
	standin_set("");
}

static void test_reports(void **state)
{
	(void)state;
	CUdeviceptr d;
	standin_set("quiet=on");
	CU(cuMemAlloc_v2(&d, 64));
	for (u32 i = 0; i < COUNT(mistakes); i++) {
		char settings[200];
		CUmodule m;
		snprintf(settings, sizeof settings, "quiet=on, %s", mistakes[i].settings);
		standin_set(settings);
		char *ptx = ptx_kernel(mistakes[i].declarations, mistakes[i].body);
		CUfunction f = load_function(ptx, "k", &m);
		int r = run_kernel(f, 1, 64, 0, (u64[]){ d, 0, 0 }, 3);
		if (r != mistakes[i].error)
			fail_msg("%s: error %d: %s", mistakes[i].body, r, standinLastReport());
		if (r) {
			if (!strstr(standinLastReport(), mistakes[i].report) || !strstr(standinLastReport(), "kernel k"))
				fail_msg("'%s' does not say '%s'", standinLastReport(), mistakes[i].report);
			/* Sticky, as on a GPU. */
			assert_int_equal(cuCtxSynchronize(), r);
		}
		standinForget();
		CU(cuModuleUnload(m));
		free(ptx);
	}
	CU(cuMemFree_v2(d));
	standin_set("");
}

/* The host's mistakes. */

static const char add_one[] = ".extern .shared .align 16 .b8 dynamic[];";
static const char add_one_body[] = "ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r0, %tid.x; mul.wide.u32 %d2, %r0, 4;"
				   "add.u64 %d0, %d0, %d2; add.u64 %d1, %d1, %d2; ld.global.f32 %f0, [%d0];"
				   "add.f32 %f0, %f0, 0f3F800000; st.global.f32 [%d1], %f0; mov.u32 %r1, dynamic;";

static void test_launch_limits(void **state)
{
	(void)state;
	CUmodule m;
	CUdeviceptr d;
	standin_set("quiet=on");
	CU(cuMemAlloc_v2(&d, 4096));
	char *ptx = ptx_kernel(add_one, add_one_body);
	CUfunction f = load_function(ptx, "k", &m);
	u64 p[3] = { d, d, 0 };
	/* More dynamic shared memory than 48 KB, without and with asking for it. */
	assert_int_equal(run_kernel(f, 1, 32, 50000, p, 3), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuFuncSetAttribute(f, 8, 300000), CUDA_ERROR_INVALID_VALUE);
	CU(cuFuncSetAttribute(f, 8, 232448));
	CU(run_kernel(f, 1, 32, 232448, p, 3));
	assert_int_equal(run_kernel(f, 1, 1025, 0, p, 3), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(run_kernel(f, 0, 32, 0, p, 3), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuLaunchKernel(f, 1, 65536, 1, 32, 1, 1, 0, NULL, (void *[]){ p, p, p }, NULL), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuLaunchKernel(f, 1, 1, 1, 1, 1, 65, 0, NULL, (void *[]){ p, p, p }, NULL), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, (void *[]){ p, NULL, p }, NULL), CUDA_ERROR_INVALID_VALUE);
	/* Parameters in one buffer: their size must be right. */
	size_t size = 16;
	void *extra[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, p, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END };
	assert_int_equal(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, extra), CUDA_ERROR_INVALID_VALUE);
	size = 24;
	CU(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, extra));
	size_t offset;
	CU(cuFuncGetParamInfo(f, 2, &offset, &size));
	assert_int_equal(offset, 16);
	assert_int_equal(size, 8);
	assert_int_equal(cuFuncGetParamInfo(f, 3, &offset, &size), CUDA_ERROR_INVALID_VALUE);
	/* What is said of a launch is copied then. */
	CU(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, (void *[]){ &p[0], &p[1], &p[2] }, NULL));
	p[0] = p[1] = 0;
	CU(cuCtxSynchronize());
	CU(cuModuleUnload(m));
	CU(cuMemFree_v2(d));
	free(ptx);
}

/* A copy in one stream, a kernel in another that needs it: with and without the event between. */
static f32 two_streams(bool with_event, const char *settings)
{
	enum { N = 64 };
	CUmodule m;
	CUstream copies, work;
	CUevent copied;
	f32 *host;
	standin_set(settings);
	char *ptx = ptx_kernel(add_one, add_one_body);
	CUfunction f = load_function(ptx, "k", &m);
	CU(cuStreamCreate(&copies, 1));
	CU(cuStreamCreate(&work, 1));
	CU(cuEventCreate(&copied, 2));
	CU(cuMemAllocHost_v2((void **)&host, N * 4));
	CUdeviceptr d = device_copy(NULL, N * 4), e = device_copy(NULL, N * 4);
	u64 zero = 0;
	for (u32 i = 0; i < N; i++)
		host[i] = 41;
	CU(cuMemcpyHtoDAsync_v2(d, host, N * 4, copies));
	CU(cuEventRecord(copied, copies));
	if (with_event)
		CU(cuStreamWaitEvent(work, copied, 0));
	CU(cuLaunchKernel(f, 1, 1, 1, N, 1, 1, 0, work, (void *[]){ &d, &e, &zero }, NULL));
	CU(cuStreamSynchronize(work));
	f32 out[N];
	CU(cuMemcpyDtoH_v2(out, e, N * 4));
	CU(cuStreamDestroy_v2(copies));
	CU(cuStreamDestroy_v2(work));
	CU(cuEventDestroy_v2(copied));
	CU(cuMemFreeHost(host));
	CU(cuMemFree_v2(d));
	CU(cuMemFree_v2(e));
	CU(cuModuleUnload(m));
	free(ptx);
	return out[N - 1];
}

static void test_streams(void **state)
{
	(void)state;
	assert_true(two_streams(true, "") == 42);
	assert_true(two_streams(true, "streams=eager") == 42);
	assert_true(isnan(two_streams(false, ""))); /* what was never written */
	/* The host must wait, too: nothing has been done before it does. */
	CUstream s;
	f32 *host;
	CUdeviceptr d = device_copy(NULL, 4);
	CU(cuStreamCreate(&s, 1));
	CU(cuMemAllocHost_v2((void **)&host, 8));
	host[0] = 1;
	host[1] = 0;
	CU(cuMemcpyHtoDAsync_v2(d, host, 4, s));
	CU(cuMemcpyDtoHAsync_v2(host + 1, d, 4, s));
	assert_true(host[1] == 0);
	assert_int_equal(cuStreamQuery(s), CUDA_ERROR_NOT_READY);
	CU(cuStreamSynchronize(s));
	assert_true(host[1] == 1);
	CU(cuStreamQuery(s));
	CU(cuStreamDestroy_v2(s));
	CU(cuMemFreeHost(host));
	CU(cuMemFree_v2(d));
}

static void test_graphs(void **state)
{
	(void)state;
	static const char *const settings[] = { "", "schedule=descending", "schedule=random:5" };
	for (u32 i = 0; i < COUNT(settings); i++) {
		CUmodule m;
		CUstream a, b;
		CUevent fork, join;
		CUgraph graph;
		CUgraphExec exec;
		f32 value = 0;
		standin_set(settings[i]);
		char *ptx = ptx_kernel(add_one, add_one_body);
		CUfunction f = load_function(ptx, "k", &m);
		CU(cuStreamCreate(&a, 1));
		CU(cuStreamCreate(&b, 1));
		CU(cuEventCreate(&fork, 2));
		CU(cuEventCreate(&join, 2));
		CUdeviceptr d = device_copy(&value, 4);
		void *args[] = { &d, &d, &d };
		CU(cuStreamBeginCapture_v2(a, 2));
		CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, a, args, NULL));
		CU(cuEventRecord(fork, a));
		CU(cuStreamWaitEvent(b, fork, 0));
		CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, b, args, NULL));
		CU(cuEventRecord(join, b));
		CU(cuStreamWaitEvent(a, join, 0));
		CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, a, args, NULL));
		assert_int_equal(cuStreamSynchronize(a), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
		CU(cuStreamEndCapture(a, &graph));
		size_t nodes = 0;
		CU(cuGraphGetNodes(graph, NULL, &nodes));
		assert_int_equal(nodes, 3);
		CU(cuGraphInstantiateWithFlags(&exec, graph, 0));
		CU(cuGraphDestroy(graph));
		for (u32 k = 0; k < 4; k++)
			CU(cuGraphLaunch(exec, a));
		CU(cuStreamSynchronize(a));
		CU(cuMemcpyDtoH_v2(&value, d, 4));
		assert_true(value == 12);
		CU(cuGraphExecDestroy(exec));
		/* A branch that nobody waits for. */
		standin_set("quiet=on");
		CU(cuStreamBeginCapture_v2(a, 2));
		CU(cuEventRecord(fork, a));
		CU(cuStreamWaitEvent(b, fork, 0));
		CU(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, b, args, NULL));
		assert_int_equal(cuStreamEndCapture(a, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
		CU(cuStreamDestroy_v2(a));
		CU(cuStreamDestroy_v2(b));
		CU(cuEventDestroy_v2(fork));
		CU(cuEventDestroy_v2(join));
		CU(cuMemFree_v2(d));
		CU(cuModuleUnload(m));
		free(ptx);
	}
}

/* A device pointer is none of the host's. */
static void test_host_access(void **state)
{
	(void)state;
	CUdeviceptr d = device_copy(NULL, 64);
	pid_t child = fork();
	if (!child) {
		signal(SIGSEGV, SIG_DFL);
		volatile int v = *(volatile int *)(uintptr_t)d;
		(void)v;
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
	/* Copies stay inside of an allocation; what is freed is gone. */
	char bytes[65] = { 0 };
	standin_set("quiet=on");
	assert_int_equal(cuMemcpyHtoD_v2(d, bytes, 65), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemsetD32_v2(d + 2, 0, 1), CUDA_ERROR_INVALID_VALUE);
	CU(cuMemsetD8_v2(d + 60, 7, 4));
	CU(cuMemcpyDtoH_v2(bytes, d + 56, 8));
	assert_memory_equal(bytes, "\377\377\377\377\7\7\7\7", 8);
	CU(cuMemFree_v2(d));
	assert_int_equal(cuMemFree_v2(d), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemcpyHtoD_v2(d, bytes, 4), CUDA_ERROR_INVALID_VALUE);
	size_t available, total;
	CU(cuMemGetInfo_v2(&available, &total));
	assert_int_equal(available, total);
	assert_int_equal(cuMemAlloc_v2(&d, total + 1), CUDA_ERROR_OUT_OF_MEMORY);
	standin_set("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_planted), cmocka_unit_test(test_races),  cmocka_unit_test(test_reports), cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_launch_limits), cmocka_unit_test(test_streams), cmocka_unit_test(test_graphs),
		cmocka_unit_test(test_host_access),
	};
	return cmocka_run_group_tests(tests, standin_setup, NULL);
}
