/* test_standin_bulk.c: bulk copies with tensor maps, mbarriers and wgmma in the stand-in: a warp-specialised
 * matrix product in CUDA C against plain C, of 16 and of 8 bits, with mistakes planted in its protocol; boxes that lie partly
 * outside of a tensor; descriptors of every layout. */
#include "harness.h"

static const char *const schedules[] = {
	"quiet=on, schedule=ascending, async=eager", "quiet=on, schedule=descending, async=late",
	"quiet=on, schedule=random:1, async=late, race=on", "quiet=on, schedule=random:2, async=eager",
};

static const char wrappers[] =
	"typedef unsigned short u16; typedef unsigned u32; typedef unsigned long long u64;\n"
	"#define D __device__ __forceinline__\n"
	"struct __align__(64) Map { unsigned char opaque[128]; };\n"
	"D u32 at(const void *p) { return (u32)__cvta_generic_to_shared(p); }\n"
	"D void init(u64 *b, u32 n) { asm volatile(\"mbarrier.init.shared::cta.b64 [%0], %1;\" :: \"r\"(at(b)), \"r\"(n) : \"memory\"); }\n"
	"D void expect(u64 *b, u32 n) { asm volatile(\"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\" :: \"r\"(at(b)), \"r\"(n) : \"memory\"); }\n"
	"D void arrive(u64 *b) { asm volatile(\"mbarrier.arrive.shared::cta.b64 _, [%0];\" :: \"r\"(at(b)) : \"memory\"); }\n"
	"D void wait(u64 *b, u32 parity) { asm volatile(\"{ .reg .pred P; W: mbarrier.try_wait.parity.shared::cta.b64 P, [%0], %1;\"\n"
	"  \" @P bra.uni E; bra.uni W; E: }\" :: \"r\"(at(b)), \"r\"(parity) : \"memory\"); }\n"
	"D void load(void *to, const Map *m, u64 *b, int x, int y) { asm volatile(\n"
	"  \"cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];\"\n"
	"  :: \"r\"(at(to)), \"l\"(m), \"r\"(at(b)), \"r\"(x), \"r\"(y) : \"memory\"); }\n"
	"D void store(const Map *m, const void *from, int x, int y) { asm volatile(\n"
	"  \"cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];\"\n"
	"  :: \"l\"(m), \"r\"(at(from)), \"r\"(x), \"r\"(y) : \"memory\"); }\n"
	"D u64 descriptor(const void *p) { return ((at(p) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 62; }\n"
	"#if STEP == 64\n"
	"#define WGMMA \"m64n64k16.f32.\" TYPES\n"
	"#define TRANSPOSE_A \", 0\"\n"
	"#define TRANSPOSE_B \", 0\"\n"
	"#else\n"
	"#define WGMMA \"m64n64k32.f32.\" TYPES\n"
	"#define TRANSPOSE_A\n"
	"#define TRANSPOSE_B\n"
	"#endif\n"
	"#define SUMS(d) \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]), \"+f\"(d[4]), \"+f\"(d[5]), \"+f\"(d[6]), \"+f\"(d[7]),\\\n"
	"    \"+f\"(d[8]), \"+f\"(d[9]), \"+f\"(d[10]), \"+f\"(d[11]), \"+f\"(d[12]), \"+f\"(d[13]), \"+f\"(d[14]), \"+f\"(d[15]),\\\n"
	"    \"+f\"(d[16]), \"+f\"(d[17]), \"+f\"(d[18]), \"+f\"(d[19]), \"+f\"(d[20]), \"+f\"(d[21]), \"+f\"(d[22]), \"+f\"(d[23]),\\\n"
	"    \"+f\"(d[24]), \"+f\"(d[25]), \"+f\"(d[26]), \"+f\"(d[27]), \"+f\"(d[28]), \"+f\"(d[29]), \"+f\"(d[30]), \"+f\"(d[31])\n"
	"#define D64 \"{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,\"\\\n"
	"  \"%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}\"\n"
	"D void multiply(float *d, u64 a, u64 b, int add) { asm volatile(\"{ .reg .pred p; setp.ne.b32 p, %34, 0;\"\n"
	"  \" wgmma.mma_async.sync.aligned.\" WGMMA \" \" D64 \", %32, %33, p, 1, 1\" TRANSPOSE_A TRANSPOSE_B \"; }\"\n"
	"  : SUMS(d) : \"l\"(a), \"l\"(b), \"r\"(add)); }\n"
	"D void multiply_registers(float *d, const u32 *a, u64 b) { asm volatile(\"{ .reg .pred p; setp.ne.b32 p, 1, 0;\"\n"
	"  \" wgmma.mma_async.sync.aligned.\" WGMMA \" \" D64 \", {%32, %33, %34, %35}, %36, p, 1, -1\" TRANSPOSE_B \"; }\"\n"
	"  : SUMS(d) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"l\"(b)); }\n";

/* C[M, N] = A[M, K] B[N, K]', tiles of 64 x 64 x STEP, which is 128 bytes: a warpgroup that multiplies, a warp that loads, two stages;
 * the result goes out by a bulk copy. */
static const char matmul[] =
	"extern \"C\" __global__ void __launch_bounds__(160) k(const __grid_constant__ Map ma, const __grid_constant__ Map mb,\n"
	"    const __grid_constant__ Map mc, int K) {\n"
	"  extern __shared__ __align__(1024) unsigned char smem[];\n"
	"  u16 *a = (u16 *)smem, *b = a + 2 * 4096; u16 *c = b + 2 * 4096; u64 *full = (u64 *)(c + 4096), *empty = full + 2;\n"
	"  int t = threadIdx.x, steps = K / STEP;\n"
	"  if (t == 0) { for (int s = 0; s < 2; s++) { init(full + s, 1);\n"
	"#ifdef WRONG_COUNT\n"
	"    init(empty + s, 2);\n"
	"#else\n"
	"    init(empty + s, 1);\n"
	"#endif\n"
	"  } asm volatile(\"fence.mbarrier_init.release.cluster;\" ::: \"memory\"); }\n"
	"  __syncthreads();\n"
	"  if (t >= 128) {\n"
	"    if (t == 128) for (int s = 0; s < steps; s++) {\n"
	"#ifndef MISSING_EMPTY_WAIT\n"
	"      wait(empty + s % 2, (s / 2 & 1) ^ 1);\n"
	"#endif\n"
	"#ifdef WRONG_BYTES\n"
	"      expect(full + s % 2, 8192);\n"
	"#else\n"
	"      expect(full + s % 2, 16384);\n"
	"#endif\n"
	"      load(a + s % 2 * 4096, &ma, full + s % 2, s * STEP, blockIdx.y * 64);\n"
	"#ifdef SWAPPED\n"
	"      load(b + s % 2 * 4096, &mb, full + s % 2, blockIdx.x * 64, s * STEP);\n"
	"#else\n"
	"      load(b + s % 2 * 4096, &mb, full + s % 2, s * STEP, blockIdx.x * 64);\n"
	"#endif\n"
	"    }\n"
	"    return;\n"
	"  }\n"
	"  float acc[32];\n"
	"  for (int i = 0; i < 32; i++) acc[i] = 0;\n"
	"  for (int s = 0; s < steps; s++) {\n"
	"#ifdef WRONG_PARITY\n"
	"    wait(full + s % 2, s & 1);\n"
	"#elif !defined MISSING_FULL_WAIT\n"
	"    wait(full + s % 2, s / 2 & 1);\n"
	"#endif\n"
	"    asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
	"#ifdef A_IN_REGISTERS\n" /* the swizzle exchanges chunks of 16 bytes within a row; A is negated here, B by the instruction */
	"    u32 fragment[4][4]; int row0 = t / 32 * 16 + t % 32 / 4;\n"
	"    for (int k = 0; k < 4; k++) for (int r = 0; r < 4; r++) { int row = row0 + r % 2 * 8, chunk = (2 * k + r / 2) ^ row % 8;\n"
	"      fragment[k][r] = *(u32 *)((unsigned char *)(a + s % 2 * 4096) + row * 128 + chunk * 16 + t % 4 * 4) ^ SIGNS; }\n"
	"    asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\");\n"
	"    for (int k = 0; k < 4; k++) multiply_registers(acc, fragment[k], descriptor(b + s % 2 * 4096) + 2 * k);\n"
	"#else\n"
	"    for (int k = 0; k < 4; k++)\n"
	"#ifdef WRONG_STEP\n"
	"      multiply(acc, descriptor(a + s % 2 * 4096) + k, descriptor(b + s % 2 * 4096) + k, 1);\n"
	"#else\n"
	"      multiply(acc, descriptor(a + s % 2 * 4096) + 2 * k, descriptor(b + s % 2 * 4096) + 2 * k, 1);\n"
	"#endif\n"
	"#endif\n"
	"    asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\");\n"
	"#ifndef MISSING_WGMMA_WAIT\n"
	"    asm volatile(\"wgmma.wait_group.sync.aligned 0;\" ::: \"memory\");\n"
	"#endif\n"
	"    if (t == 0) arrive(empty + s % 2);\n"
	"  }\n"
	"  int lane = t & 31, row = t / 32 * 16 + lane / 4;\n"
	"  for (int j = 0; j < 8; j++) for (int h = 0; h < 2; h++) { u32 r;\n"
	"    asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(r) : \"f\"(acc[4 * j + 2 * h + 1]), \"f\"(acc[4 * j + 2 * h]));\n"
	"    *(u32 *)(c + (row + 8 * h) * 64 + j * 8 + lane % 4 * 2) = r; }\n"
	"#ifndef MISSING_PROXY_FENCE\n"
	"  asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\");\n"
	"#endif\n"
	"#ifndef MISSING_STORE_BARRIER\n"
	"  asm volatile(\"bar.sync 1, 128;\" ::: \"memory\");\n"
	"#endif\n"
	"  if (t == 0) { store(&mc, c, blockIdx.x * 64, blockIdx.y * 64);\n"
	"    asm volatile(\"cp.async.bulk.commit_group;\\ncp.async.bulk.wait_group 0;\" ::: \"memory\"); }\n"
	"}\n";

enum { M = 128, N = 128, K = 384, SHARED = 5 * 8192 + 32, U8 = 0, BF16 = 9, SWIZZLE_128 = 3, STAGE_BYTES = 128 };

/* What is multiplied: 128 bytes of a row are STEP elements. */
typedef struct Kind {
	const char *defines;
	u32 bytes; /* of an element */
	FloatFormat a, b;
} Kind;

static i32 va[M][K], vb[N][K];
static u8 a[M * K * 2], b[N * K * 2];
static u16 c[M][N];

static void encode(CUtensorMap *map, u32 bytes, CUdeviceptr base, u64 columns, u64 rows, u32 box_columns, u32 box_rows, int swizzle)
{
	u64 size[2] = { columns, rows }, stride[1] = { columns * bytes };
	u32 box[2] = { box_columns, box_rows }, step[2] = { 1, 1 };
	CU(cuTensorMapEncodeTiled(map, bytes == 2 ? BF16 : U8, 2, (void *)(uintptr_t)base, size, stride, box, step, 0, swizzle, 0, 0));
}

/* The error, 0 if right, -1 if wrong. */
static int run_matmul(const Kind *kind, const char *ptx, const char *settings)
{
	CUmodule m;
	CUtensorMap ma, mb, mc;
	int k = K;
	standin_set(settings);
	CUfunction f = load_function(ptx, "k", &m);
	CUdeviceptr da = device_copy(a, M * K * kind->bytes), db = device_copy(b, N * K * kind->bytes), dc = device_copy(NULL, sizeof c);
	encode(&ma, kind->bytes, da, K, M, STAGE_BYTES / kind->bytes, 64, SWIZZLE_128);
	encode(&mb, kind->bytes, db, K, N, STAGE_BYTES / kind->bytes, 64, SWIZZLE_128);
	encode(&mc, 2, dc, N, M, 64, 64, 0);
	CU(cuLaunchKernel(f, N / 64, M / 64, 1, 160, 1, 1, SHARED, NULL, (void *[]){ &ma, &mb, &mc, &k }, NULL));
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
					want += va[i][l] * vb[j][l];
				if (!(fabs(got - want) <= fabs((f64)want) * 0x1p-8))
					r = -1;
			}
	}
	if (r > 0)
		print_message("  %.300s\n", standinLastReport());
	standinForget();
	cuMemFree_v2(da);
	cuMemFree_v2(db);
	cuMemFree_v2(dc);
	cuModuleUnload(m);
	return r;
}

static void run_schedules(const Kind *kind, const char *planted, bool right)
{
	char *source = malloc(sizeof wrappers + sizeof matmul + 300);
	sprintf(source, "%s\n#define %s\n%s%s", kind->defines, planted, wrappers, matmul);
	char *ptx = nvrtc_ptx(source, "compute_90a");
	u32 caught = 0;
	for (u32 s = 0; s < COUNT(schedules); s++)
		caught += run_matmul(kind, ptx, schedules[s]) != 0;
	print_message("%-22s caught in %u of %zu schedules\n", planted, caught, COUNT(schedules));
	assert_true(right ? caught == 0 : caught > 0);
	free(source);
	free(ptx);
}

static void fill_operand(FloatFormat format, u8 *to, i32 *values, u32 n, u32 *seed)
{
	u32 bytes = (1 + format.exponent + format.fraction) / 8;
	for (u32 i = 0; i < n; i++) {
		u32 bits = bits_of_integer(format, values[i] = (i32)(test_random(seed) % 7) - 3);
		memcpy(to + i * bytes, &bits, bytes);
	}
}

static void test_matmul(void **state)
{
	(void)state;
	static const char *const planted[] = { "WRONG_COUNT", "MISSING_EMPTY_WAIT", "WRONG_BYTES", "SWAPPED", "WRONG_PARITY", "MISSING_FULL_WAIT",
					       "WRONG_STEP", "MISSING_WGMMA_WAIT", "MISSING_STORE_BARRIER", "MISSING_PROXY_FENCE" };
#define OF_16 "#define STEP 64\n#define SIGNS 0x80008000\n#define TYPES "
#define OF_8  "#define STEP 128\n#define SIGNS 0x80808080\n#define TYPES "
	const Kind kinds[] = {
		{ OF_16 "\"bf16.bf16\"", 2, format_bf16, format_bf16 }, { OF_8 "\"e4m3.e4m3\"", 1, format_e4m3, format_e4m3 },
		{ OF_8 "\"e4m3.e5m2\"", 1, format_e4m3, format_e5m2 },  { OF_8 "\"e5m2.e4m3\"", 1, format_e5m2, format_e4m3 },
		{ OF_8 "\"e5m2.e5m2\"", 1, format_e5m2, format_e5m2 },
	};
	u32 seed = 1;
	for (u32 i = 0; i < COUNT(kinds); i++) {
		fill_operand(kinds[i].a, a, va[0], M * K, &seed);
		fill_operand(kinds[i].b, b, vb[0], N * K, &seed);
		run_schedules(&kinds[i], "NOTHING", true);
		run_schedules(&kinds[i], "A_IN_REGISTERS", true);
		for (u32 p = 0; p < COUNT(planted) && !i; p++)
			run_schedules(&kinds[i], planted[p], false);
	}
}

/* A box of 3 dimensions that hangs over the edges, and one that is all outside: zeroes come. */
static void test_boxes(void **state)
{
	(void)state;
	enum { X = 16, Y = 5, Z = 4, BX = 8, BY = 4, BZ = 2 };
	static const i32 corners[][3] = { { 0, 0, 0 }, { 8, 1, 2 }, { 12, 3, 3 }, { -3, -1, -1 }, { 40, 0, 0 }, { 1, 2, 3 } };
	f32 x[Z][Y][X], out[BZ][BY][BX];
	const char *body = "ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1]; mov.u32 %r1, s; mov.u32 %r2, m; mov.u32 %r9, %tid.x;"
			   "ld.param.u32 %r5, [p2]; cvt.s32.s8 %r5, %r5; ld.param.u32 %r6, [p2]; shr.u32 %r6, %r6, 8; cvt.s32.s8 %r6, %r6;"
			   "ld.param.u32 %r7, [p2]; shr.u32 %r7, %r7, 16; cvt.s32.s8 %r7, %r7;"
			   "setp.ne.u32 %p1, %r9, 0; @%p1 bra L; mbarrier.init.shared::cta.b64 [%r2], 1;"
			   "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r2], 256;"
			   "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d0, {%r5, %r6, %r7}], [%r2];"
			   "mbarrier.arrive.shared::cta.b64 %d3, [%r2]; L: bar.sync 0;"
			   "W: mbarrier.test_wait.parity.shared::cta.b64 %p2, [%r2], 0; @!%p2 bra W;"
			   "shl.b32 %r9, %r9, 2; add.u32 %r1, %r1, %r9; ld.shared.u32 %r3, [%r1]; cvt.u64.u32 %d4, %r9; add.u64 %d1, %d1, %d4;"
			   "st.global.u32 [%d1], %r3;";
	for (u32 i = 0; i < X * Y * Z; i++)
		x[i / X / Y][i / X % Y][i % X] = (f32)i + 1;
	char *ptx = ptx_kernel(".shared .align 128 .b8 s[256]; .shared .align 8 .b64 m;", body);
	for (u32 s = 0; s < COUNT(schedules); s++)
		for (u32 i = 0; i < COUNT(corners); i++) {
			CUmodule m;
			CUtensorMap map;
			standin_set(schedules[s]);
			CUfunction f = load_function(ptx, "k", &m);
			CUdeviceptr d = device_copy(x, sizeof x), o = device_copy(NULL, sizeof out);
			u64 size[3] = { X, Y, Z }, stride[2] = { X * 4, X * Y * 4 };
			u32 box[3] = { BX, BY, BZ };
			CU(cuTensorMapEncodeTiled(&map, 7, 3, (void *)(uintptr_t)d, size, stride, box, NULL, 0, 0, 0, 0));
			CUdeviceptr dm = device_copy(&map, sizeof map);
			u64 where = (u8)corners[i][0] | (u64)(u8)corners[i][1] << 8 | (u64)(u8)corners[i][2] << 16;
			CU(run_kernel(f, 1, 64, 0, (u64[]){ dm, o, where }, 3));
			CU(cuMemcpyDtoH_v2(out, o, sizeof out));
			for (i32 z = 0; z < BZ; z++)
				for (i32 y = 0; y < BY; y++)
					for (i32 k = 0; k < BX; k++) {
						i32 ax = corners[i][0] + k, ay = corners[i][1] + y, az = corners[i][2] + z;
						bool inside = ax >= 0 && ax < X && ay >= 0 && ay < Y && az >= 0 && az < Z;
						assert_true(out[z][y][k] == (inside ? x[az][ay][ax] : 0));
					}
			CU(cuMemFree_v2(d));
			CU(cuMemFree_v2(o));
			CU(cuMemFree_v2(dm));
			CU(cuModuleUnload(m));
		}
	free(ptx);
}

/* What the driver refuses of a tensor map. */
static void test_maps(void **state)
{
	(void)state;
	CUtensorMap map;
	u64 size[2] = { 64, 64 }, stride[1] = { 128 };
	u32 box[2] = { 64, 64 }, step[2] = { 1, 1 };
	standin_set("quiet=on");
	void *base = (void *)(uintptr_t)0x10000;
	CU(cuTensorMapEncodeTiled(&map, BF16, 2, base, size, stride, box, step, 0, 3, 0, 0));
	assert_int_equal(cuTensorMapEncodeTiled(&map, BF16, 2, (char *)base + 8, size, stride, box, step, 0, 3, 0, 0), CUDA_ERROR_INVALID_VALUE);
	stride[0] = 120;
	assert_int_equal(cuTensorMapEncodeTiled(&map, BF16, 2, base, size, stride, box, step, 0, 3, 0, 0), CUDA_ERROR_INVALID_VALUE);
	stride[0] = 128;
	box[0] = 128;
	assert_int_equal(cuTensorMapEncodeTiled(&map, BF16, 2, base, size, stride, box, step, 0, 3, 0, 0), CUDA_ERROR_INVALID_VALUE);
	box[0] = 64;
	box[1] = 257;
	assert_int_equal(cuTensorMapEncodeTiled(&map, BF16, 2, base, size, stride, box, step, 0, 3, 0, 0), CUDA_ERROR_INVALID_VALUE);
	standin_set("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matmul),
		cmocka_unit_test(test_boxes),
		cmocka_unit_test(test_maps),
	};
	return cmocka_run_group_tests(tests, standin_setup, NULL);
}
