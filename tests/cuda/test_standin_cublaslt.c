/* test_standin_cublaslt.c: the stand-in for cuBLASLt against plain loops: types, transposes, orders,
 * batches, every epilogue, proposals, and what it refuses. */
#include "harness.h"
#include "tests/cuda/driver/cublaslt_abi.h"

enum { M = 24, N = 10, K = 17, M8 = 32, N8 = 16, K8 = 48 /* of 8 bits */, BATCH = 2, LD = 48 };

static f64 gelu(f64 x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}
static f64 gelu_slope(f64 x)
{
	f64 h = 1e-5; /* central differences: not the formula under test */
	return (gelu(x + h) - gelu(x - h)) / (2 * h);
}

static f64 value(const void *p, int type, u64 i)
{
	u32 bits;
	f32 f;
	u8 byte;
	switch (type) {
	case R_8F_E4M3: /* no other than usual numbers are drawn */
		byte = ((const u8 *)p)[i];
		return (byte & 0x80 ? -1 : 1) * ldexp(8 + (byte & 7), (byte >> 3 & 15) - 10);
	case R_8F_E5M2:
		byte = ((const u8 *)p)[i];
		return (byte & 0x80 ? -1 : 1) * ldexp(4 + (byte & 3), (byte >> 2 & 31) - 17);
	case R_32F: return ((const f32 *)p)[i];
	case R_64F: return ((const f64 *)p)[i];
	case R_16BF:
		bits = (u32)((const u16 *)p)[i] << 16;
		memcpy(&f, &bits, 4);
		return f;
	default: {
		u16 h = ((const u16 *)p)[i];
		f64 v = h >> 10 & 31 ? ldexp(1024 + (h & 1023), (h >> 10 & 31) - 25) : ldexp(h & 1023, -24);
		return h & 0x8000 ? -v : v;
	}
	}
}

/* Random numbers of about 1; halves by bits that are such numbers. */
static void fill(void *p, int type, u32 n, u32 *seed)
{
	for (u32 i = 0; i < n; i++) {
		u32 sign = (test_random(seed) & 1) << 15;
		switch (type) {
		case R_32F: ((f32 *)p)[i] = test_uniform(seed); break;
		case R_64F: ((f64 *)p)[i] = test_uniform(seed); break;
		case R_8F_E4M3: ((u8 *)p)[i] = (u8)(sign >> 8 | (0x28 + test_random(seed) % 0x18)); break; /* 1/4 to 2 */
		case R_8F_E5M2: ((u8 *)p)[i] = (u8)(sign >> 8 | (0x34 + test_random(seed) % 0x0c)); break;
		case R_16BF: ((u16 *)p)[i] = (u16)(sign | (0x3e80 + test_random(seed) % 0x100)); break;
		default: ((u16 *)p)[i] = (u16)(sign | (0x3400 + test_random(seed) % 0x800)); break;
		}
	}
}

typedef struct Case {
	int type, result, compute, transpose_a, transpose_b, row_major_d, aux_type;
	u32 epilogue;
	f32 alpha, beta;
} Case;

typedef struct Case8 {
	Case plain;
	int type_b;
	f32 scale[2]; /* of A, of B; 0: none */
} Case8;

static bool is_8_bit(const Case *c)
{
	return c->type == R_8F_E4M3 || c->type == R_8F_E5M2;
}

/* What the bias is, and its gradient. */
static int type_of_bias(const Case *c)
{
	return is_8_bit(c) && c->result == R_32F ? R_16BF : c->result;
}

static const Case cases[] = {
	{ R_32F, R_32F, COMPUTE_32F, 0, 0, 0, -1, 1, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 1, 0, 0, -1, 1, 0.5f, 2 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 1, 1, -1, 1, 1, 1 },
	{ R_64F, R_64F, COMPUTE_64F, 1, 1, 0, -1, 1, 1, 0.25f },
	{ R_32F, R_32F, COMPUTE_FAST_TF32, 0, 0, 0, -1, 1, 1, 0 },
	{ R_16BF, R_16BF, COMPUTE_32F, 0, 0, 0, -1, 1, 1, 0 },
	{ R_16BF, R_32F, COMPUTE_32F, 1, 0, 0, -1, 1, 1, 1 },
	{ R_16F, R_16F, COMPUTE_32F, 1, 1, 0, -1, 1, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 0, 0, -1, EPILOGUE_BIAS, 1, 0 },
	{ R_16BF, R_16BF, COMPUTE_32F, 1, 0, 0, -1, EPILOGUE_BIAS, 1, 1 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 0, 0, -1, EPILOGUE_RELU | EPILOGUE_BIAS, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 0, 0, -1, EPILOGUE_GELU, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 0, 0, -1, EPILOGUE_GELU | EPILOGUE_AUX, 1, 0 },
	{ R_16BF, R_16BF, COMPUTE_32F, 0, 1, 0, R_16BF, EPILOGUE_GELU | EPILOGUE_AUX | EPILOGUE_BIAS, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 0, 0, -1, EPILOGUE_DGELU | EPILOGUE_AUX, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 1, 0, 0, R_32F, EPILOGUE_DGELU | EPILOGUE_AUX | EPILOGUE_BGRAD, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 0, 0, -1, EPILOGUE_BGRADA, 1, 0 },
	{ R_32F, R_32F, COMPUTE_32F, 0, 1, 0, -1, EPILOGUE_BGRADB, 1, 0 },
};

static const Case8 cases_of_8_bits[] = {
	{ { R_8F_E4M3, R_32F, COMPUTE_32F, 1, 0, 0, -1, 1, 1, 0 }, R_8F_E4M3, { 0, 0 } },
	{ { R_8F_E4M3, R_16BF, COMPUTE_32F, 1, 0, 0, -1, 1, 1, 0 }, R_8F_E5M2, { 0.5f, 0 } },
	{ { R_8F_E5M2, R_16F, COMPUTE_32F, 1, 0, 0, -1, 1, 1, 0 }, R_8F_E4M3, { 0, 0.25f } },
	{ { R_8F_E5M2, R_32F, COMPUTE_32F, 1, 0, 0, -1, 1, 0.5f, 2 }, R_8F_E4M3, { 0.5f, 0.75f } },
	{ { R_8F_E4M3, R_32F, COMPUTE_32F, 1, 0, 0, -1, EPILOGUE_BIAS, 1, 0 }, R_8F_E4M3, { 2, 0.25f } },
	{ { R_8F_E4M3, R_16F, COMPUTE_32F, 1, 0, 0, -1, EPILOGUE_BIAS, 1, 1 }, R_8F_E5M2, { 2, 0.25f } },
	{ { R_8F_E4M3, R_16BF, COMPUTE_32F, 1, 0, 0, R_16BF, EPILOGUE_GELU | EPILOGUE_AUX | EPILOGUE_BIAS, 1, 0 }, R_8F_E4M3, { 0.25f, 0.5f } },
	{ { R_8F_E5M2, R_16BF, COMPUTE_32F, 1, 0, 0, -1, EPILOGUE_DGELU | EPILOGUE_AUX, 1, 0 }, R_8F_E4M3, { 0.25f, 0.5f } },
};

/* One unit in the last place of a type, relative. */
static f64 unit(int type)
{
	return type == R_64F ? 0x1p-52 : type == R_32F ? 0x1p-23 : type == R_16F ? 0x1p-10 : 0x1p-7;
}

static void near(f64 got, f64 want, f64 size, int type, const Case *c)
{
	/* Rounding of the result; sums in f32 (their size is `size`), and inputs in tf32. */
	f64 sums = c->compute == COMPUTE_64F ? K * 0x1p-52 : c->compute == COMPUTE_FAST_TF32 ? 0x1p-9 : (is_8_bit(c) ? K8 : K) * 0x1p-24;
	if (!(fabs(got - want) <= unit(type) * fabs(want) + sums * size + 1e-9))
		fail_msg("types %d and %d, epilogue %u: %.9g, not %.9g", c->type, c->result, c->epilogue, got, want);
}

enum { STRIDE = LD * LD, ELEMENTS = STRIDE * BATCH, WORKSPACE = 1 << 16 };

/* A product and all it is made of: on the host, on the device, and as the library is told of it. */
typedef struct Product {
	const Case *c;
	int type_b, type_bias, type_aux;
	u32 m, width, depth;
	f64 scale;                                   /* of the sums */
	u8 *a, *b, *before, *after, *aux, *aux_after; /* [ELEMENTS] of up to 8 bytes */
	u8 *bias, *bias_after;                       /* [LD * BATCH] */
	CUdeviceptr on_a, on_b, on_before, on_after, on_aux, on_bias, work, on_scale[2];
	Handle *h;
	MatmulDesc *desc;
	MatrixLayout *layout[4]; /* of A, B, C and D */
	Preference *preference;
} Product;

static u8 *filled(int type, u32 n, u32 *seed, CUdeviceptr *on)
{
	u8 *memory = calloc(n, 8);
	assert_non_null(memory);
	fill(memory, type, n, seed);
	*on = device_copy(memory, (size_t)n * 8);
	return memory;
}

static void fill_operands(Product *p)
{
	u32 seed = 11 + (u32)p->c->epilogue;
	p->a = filled(p->c->type, ELEMENTS, &seed, &p->on_a);
	p->b = filled(p->type_b, ELEMENTS, &seed, &p->on_b);
	p->before = filled(p->c->result, ELEMENTS, &seed, &p->on_before);
	p->aux = filled(p->type_aux, ELEMENTS, &seed, &p->on_aux);
	p->bias = filled(p->type_bias, LD * BATCH, &seed, &p->on_bias);
	p->after = calloc(ELEMENTS, 8);
	p->aux_after = calloc(ELEMENTS, 8);
	p->bias_after = calloc(LD * BATCH, 8);
	assert_true(p->after && p->aux_after && p->bias_after);
	p->on_after = device_copy(NULL, ELEMENTS * 8);
	p->work = device_copy(NULL, WORKSPACE);
}

static void describe(Product *p, const f32 *scales)
{
	const Case *c = p->c;
	i64 stride = STRIDE, aux_ld = LD;
	MatmulDesc *desc;
	assert_int_equal(cublasLtMatmulDescCreate(&desc, c->compute, c->compute == COMPUTE_64F ? R_64F : R_32F), SUCCESS);
#define SET(what, v) assert_int_equal(cublasLtMatmulDescSetAttribute(desc, what, &(v), sizeof(v)), SUCCESS)
	SET(DESC_TRANSA, c->transpose_a);
	SET(DESC_TRANSB, c->transpose_b);
	SET(DESC_EPILOGUE, c->epilogue);
	if (c->epilogue != 1) {
		SET(DESC_BIAS_POINTER, p->on_bias);
		SET(DESC_AUX_POINTER, p->on_aux);
		SET(DESC_AUX_LD, aux_ld);
		SET(DESC_AUX_BATCH_STRIDE, stride);
		if (c->aux_type >= 0)
			SET(DESC_AUX_TYPE, c->aux_type);
	}
	p->scale = c->alpha;
	for (u32 i = 0; i < 2; i++)
		if (scales[i] != 0) {
			p->on_scale[i] = device_copy(&scales[i], sizeof scales[i]);
			SET(i ? DESC_B_SCALE_POINTER : DESC_A_SCALE_POINTER, p->on_scale[i]);
			p->scale *= scales[i];
		}
	p->desc = desc;
}

static void lay_out(Product *p)
{
	const Case *c = p->c;
	int batch = BATCH, row_major = 1;
	i64 stride = STRIDE;
	cublasLtMatrixLayoutCreate(&p->layout[0], c->type, c->transpose_a ? p->depth : p->m, c->transpose_a ? p->m : p->depth, LD);
	cublasLtMatrixLayoutCreate(&p->layout[1], p->type_b, c->transpose_b ? p->width : p->depth, c->transpose_b ? p->depth : p->width, LD);
	cublasLtMatrixLayoutCreate(&p->layout[2], c->result, p->m, p->width, LD);
	cublasLtMatrixLayoutCreate(&p->layout[3], c->result, p->m, p->width, LD);
	for (u32 i = 0; i < 4; i++) {
		assert_int_equal(cublasLtMatrixLayoutSetAttribute(p->layout[i], LAYOUT_BATCH, &batch, 4), SUCCESS);
		assert_int_equal(cublasLtMatrixLayoutSetAttribute(p->layout[i], LAYOUT_BATCH_STRIDE, &stride, 8), SUCCESS);
		if (i >= 2 && c->row_major_d)
			cublasLtMatrixLayoutSetAttribute(p->layout[i], LAYOUT_ORDER, &row_major, 4);
	}
}

/* By one of the algorithms that the library proposes; what came of it, on the host. */
static void multiply(Product *p, u32 algorithm)
{
	const Case *c = p->c;
	u64 space = WORKSPACE;
	MatrixLayout **l = p->layout;
	cublasLtMatmulPreferenceCreate(&p->preference);
	cublasLtMatmulPreferenceSetAttribute(p->preference, PREFERENCE_WORKSPACE, &space, 8);
	Heuristic proposals[4];
	int n = 0;
	assert_int_equal(cublasLtMatmulAlgoGetHeuristic(p->h, p->desc, l[0], l[1], l[2], l[3], p->preference, 4, proposals, &n), SUCCESS);
	assert_int_equal(n, 3);
	f64 alpha = c->alpha, beta = c->beta;
	bool wide = c->compute == COMPUTE_64F;
	assert_int_equal(cublasLtMatmul(p->h, p->desc, wide ? (const void *)&alpha : &c->alpha, p->on_a, l[0], p->on_b, l[1],
					wide ? (const void *)&beta : &c->beta, p->on_before, l[2], p->on_after, l[3],
					proposals[algorithm].algorithm, p->work, proposals[algorithm].workspace, NULL), SUCCESS);
	CU(cuCtxSynchronize());
	CU(cuMemcpyDtoH_v2(p->after, p->on_after, ELEMENTS * 8));
	CU(cuMemcpyDtoH_v2(p->bias_after, p->on_bias, LD * BATCH * 8));
	CU(cuMemcpyDtoH_v2(p->aux_after, p->on_aux, ELEMENTS * 8));
}

/* What an element must be; `size`: of the terms of its sum. */
static f64 expected(const Product *p, u32 z, u32 i, u32 j, u64 at, f64 *size)
{
	const Case *c = p->c;
	f64 sum = 0;
	*size = 0;
	for (u32 k = 0; k < p->depth; k++) {
		f64 x = value(p->a, c->type, z * STRIDE + (c->transpose_a ? i * LD + k : k * LD + i));
		f64 y = value(p->b, p->type_b, z * STRIDE + (c->transpose_b ? k * LD + j : j * LD + k));
		sum += x * y;
		*size += fabs(x * y);
	}
	f64 want = p->scale * sum;
	if (c->beta != 0)
		want += c->beta * value(p->before, c->result, at);
	if (c->epilogue != 1 && c->epilogue & EPILOGUE_BIAS)
		want += value(p->bias, p->type_bias, i);
	if (c->epilogue & EPILOGUE_GELU && c->epilogue & EPILOGUE_AUX)
		near(value(p->aux_after, p->type_aux, z * STRIDE + j * LD + i), want, *size, p->type_aux, c);
	if (c->epilogue & EPILOGUE_GELU)
		want = gelu(want);
	if (c->epilogue & EPILOGUE_DGELU)
		want *= gelu_slope(value(p->aux, p->type_aux, z * STRIDE + j * LD + i));
	return c->epilogue & EPILOGUE_RELU && !(want > 0) ? 0 : want;
}

/* Sums beside the product, of batch z: of an operand, or of the result, which is `gradient`. */
static void check_sums(const Product *p, u32 z, const f64 *gradient, const f64 *gradient_size)
{
	const Case *c = p->c;
	for (u32 i = 0; c->epilogue & EPILOGUE_BGRAD && i < p->m; i++)
		near(value(p->bias_after, p->type_bias, i), gradient[i], 2 * gradient_size[i], c->result, c);
	bool of_a = c->epilogue & EPILOGUE_BGRADA, of_b = c->epilogue & EPILOGUE_BGRADB;
	for (u32 i = 0; (of_a || of_b) && i < (of_a ? p->m : p->width); i++) {
		f64 sum = 0;
		for (u32 k = 0; k < p->depth; k++)
			sum += value(of_a ? p->a : p->b, of_a ? c->type : p->type_b, z * STRIDE + k * LD + i);
		near(value(p->bias_after, p->type_bias, i), sum, p->depth, c->result, c);
	}
}

static void check(const Product *p)
{
	const Case *c = p->c;
	for (u32 z = 0; z < BATCH; z++) {
		f64 gradient[LD] = { 0 }, gradient_size[LD] = { 0 }, size;
		for (u32 j = 0; j < p->width; j++)
			for (u32 i = 0; i < p->m; i++) {
				u64 at = z * STRIDE + (c->row_major_d ? i * LD + j : j * LD + i);
				f64 want = expected(p, z, i, j, at, &size);
				near(value(p->after, c->result, at), want, 2 * size + 1e-2, c->result, c);
				gradient[i] += want;
				gradient_size[i] += fabs(want) + size;
			}
		if (z == BATCH - 1) /* the batches' bias is one and the same: the last one's gradient stays */
			check_sums(p, z, gradient, gradient_size);
	}
}

static void destroy(Product *p)
{
	for (u32 i = 0; i < 4; i++)
		cublasLtMatrixLayoutDestroy(p->layout[i]);
	cublasLtMatmulPreferenceDestroy(p->preference);
	cublasLtMatmulDescDestroy(p->desc);
	cublasLtDestroy(p->h);
	CUdeviceptr used[] = { p->on_a, p->on_b, p->on_before, p->on_after, p->on_aux, p->on_bias, p->work, p->on_scale[0], p->on_scale[1] };
	for (u32 i = 0; i < COUNT(used); i++)
		if (used[i])
			CU(cuMemFree_v2(used[i]));
	u8 *memory[] = { p->a, p->b, p->before, p->after, p->aux, p->aux_after, p->bias, p->bias_after };
	for (u32 i = 0; i < COUNT(memory); i++)
		free(memory[i]);
}

static void run(const Case *c, int type_b, const f32 *scales, u32 algorithm)
{
	bool narrow = is_8_bit(c);
	Product p = { .c = c, .type_b = type_b, .type_bias = type_of_bias(c), .type_aux = c->aux_type < 0 ? c->result : c->aux_type,
		      .m = narrow ? M8 : M, .width = narrow ? N8 : N, .depth = narrow ? K8 : K };
	assert_int_equal(cublasLtCreate(&p.h), SUCCESS);
	fill_operands(&p);
	describe(&p, scales);
	lay_out(&p);
	multiply(&p, algorithm);
	check(&p);
	destroy(&p);
}

static void test_products(void **state)
{
	(void)state;
	standin_set("");
	for (u32 i = 0; i < COUNT(cases); i++)
		for (u32 algorithm = 0; algorithm < 3; algorithm++)
			run(&cases[i], cases[i].type, (const f32[2]){ 0 }, algorithm);
	for (u32 i = 0; i < COUNT(cases_of_8_bits); i++)
		for (u32 algorithm = 0; algorithm < 3; algorithm++)
			run(&cases_of_8_bits[i].plain, cases_of_8_bits[i].type_b, cases_of_8_bits[i].scale, algorithm);
}

/* What the library would not do, and mistakes. */
static void test_refused(void **state)
{
	(void)state;
	Handle *h;
	MatmulDesc *desc;
	MatrixLayout *a, *b, *c;
	Preference *p;
	Heuristic best;
	int n;
	f32 one = 1, zero = 0;
	u32 gelu_aux = EPILOGUE_GELU | EPILOGUE_AUX;
	u64 too_long = 0;
	i64 ld = 12;
	CUdeviceptr d;
	standin_set("quiet=on");
	CU(cuMemAlloc_v2(&d, 16 * 16 * 4));
	cublasLtCreate(&h);
	cublasLtMatmulDescCreate(&desc, COMPUTE_32F, R_32F);
	cublasLtMatrixLayoutCreate(&a, R_32F, 16, 16, 16);
	cublasLtMatrixLayoutCreate(&b, R_32F, 15, 16, 16);
	cublasLtMatrixLayoutCreate(&c, R_32F, 16, 16, 8);
	cublasLtMatmulPreferenceCreate(&p);
	/* No workspace: the algorithm that needs one is not proposed. */
	assert_int_equal(cublasLtMatmulAlgoGetHeuristic(h, desc, a, a, a, a, p, 1, &best, &n), SUCCESS);
	assert_int_equal(best.workspace, 0);
	/* Sizes that do not fit, a leading dimension that is too small. */
	assert_int_equal(cublasLtMatmulAlgoGetHeuristic(h, desc, a, b, a, a, p, 1, &best, &n), INVALID_VALUE);
	assert_int_equal(cublasLtMatmulAlgoGetHeuristic(h, desc, a, a, c, c, p, 1, &best, &n), INVALID_VALUE);
	/* An attribute of another size; aux with a leading dimension that is no multiple of 8. */
	assert_int_equal(cublasLtMatmulDescSetAttribute(desc, DESC_EPILOGUE, &too_long, 8), INVALID_VALUE);
	assert_int_equal(cublasLtMatmulDescSetAttribute(desc, DESC_EPILOGUE, &gelu_aux, 4), SUCCESS);
	assert_int_equal(cublasLtMatmulDescSetAttribute(desc, DESC_AUX_LD, &ld, 8), SUCCESS);
	assert_int_equal(cublasLtMatmulAlgoGetHeuristic(h, desc, a, a, a, a, p, 1, &best, &n), NOT_SUPPORTED);
	gelu_aux = 1;
	assert_int_equal(cublasLtMatmulDescSetAttribute(desc, DESC_EPILOGUE, &gelu_aux, 4), SUCCESS);
	/* A matrix that is longer than its allocation is found when the work is done. */
	assert_int_equal(cublasLtMatmul(h, desc, &one, d, a, d, a, &zero, 0, a, d + 64, a, NULL, 0, 0, NULL), SUCCESS);
	assert_int_equal(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_non_null(strstr(standinLastReport(), "cublasLtMatmul: D"));
	standin_set("");
	cublasLtMatrixLayoutDestroy(a);
	cublasLtMatrixLayoutDestroy(b);
	cublasLtMatrixLayoutDestroy(c);
	cublasLtMatmulPreferenceDestroy(p);
	cublasLtMatmulDescDestroy(desc);
	cublasLtDestroy(h);
	CU(cuMemFree_v2(d));
}

/* What the documentation does not say of 8 bits: each case but the first differs from it in one thing. */
static void test_refused_of_8_bits(void **state)
{
	(void)state;
	typedef struct Wrong {
		int type, other, result, transpose_a, transpose_b, bias_type, compute;
		u32 epilogue;
		u64 m, n, k;
		i64 spare; /* elements between columns */
		enum { TAKEN, REFUSED, ON_AN_OLD_GPU, WITH_A_SCALE } how;
	} Wrong;
	static const Wrong wrong[] = {
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, TAKEN },
		{ R_8F_E5M2, R_8F_E5M2, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_16BF, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_64F, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 0, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 1, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, R_32F, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_32F, 1, 0, R_32F, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_32F, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, TAKEN },
		{ R_8F_E4M3, R_8F_E4M3, R_16F, 1, 0, R_16BF, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_FAST_16BF, EPILOGUE_BIAS, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BGRADB, 32, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 24, 16, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 8, 48, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 40, 16, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 8, REFUSED },
		{ R_8F_E4M3, R_8F_E4M3, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, ON_AN_OLD_GPU },
		{ R_16BF, R_16BF, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, TAKEN },
		{ R_16BF, R_16BF, R_16BF, 1, 0, -1, COMPUTE_32F, EPILOGUE_BIAS, 32, 16, 48, 16, WITH_A_SCALE },
	};
	for (u32 i = 0; i < COUNT(wrong); i++) {
		const Wrong *w = &wrong[i];
		Handle *h;
		MatmulDesc *desc;
		MatrixLayout *a, *b, *d;
		Preference *p;
		Heuristic best;
		int n = 0;
		u64 somewhere = 1 << 20;
		standin_set(w->how == ON_AN_OLD_GPU ? "cc=80" : "");
		cublasLtCreate(&h);
		cublasLtMatmulDescCreate(&desc, w->compute, R_32F);
		SET(DESC_TRANSA, w->transpose_a);
		SET(DESC_TRANSB, w->transpose_b);
		SET(DESC_EPILOGUE, w->epilogue);
		SET(DESC_BIAS_POINTER, somewhere);
		SET(DESC_BIAS_TYPE, w->bias_type);
		if (w->how == WITH_A_SCALE)
			SET(DESC_A_SCALE_POINTER, somewhere);
		u64 rows_a = w->transpose_a ? w->k : w->m, rows_b = w->transpose_b ? w->n : w->k;
		cublasLtMatrixLayoutCreate(&a, w->type, rows_a, w->transpose_a ? w->m : w->k, (i64)rows_a + w->spare);
		cublasLtMatrixLayoutCreate(&b, w->other, rows_b, w->transpose_b ? w->k : w->n, (i64)rows_b + w->spare);
		cublasLtMatrixLayoutCreate(&d, w->result, w->m, w->n, (i64)w->m + w->spare);
		cublasLtMatmulPreferenceCreate(&p);
		int status = cublasLtMatmulAlgoGetHeuristic(h, desc, a, b, d, d, p, 1, &best, &n);
		int want = w->how == TAKEN ? SUCCESS : w->how == WITH_A_SCALE ? INVALID_VALUE : NOT_SUPPORTED;
		if (status != want || n != (w->how == TAKEN))
			fail_msg("case %u: %s, %d proposals", i, cublasLtGetStatusName(status), n);
		/* addresses that are no multiples of 16 are seen when it is run */
		f32 one = 1, zero = 0;
		if (w->how == TAKEN && w->type == R_8F_E4M3)
			assert_int_equal(cublasLtMatmul(h, desc, &one, 1 << 20, a, (1 << 20) + 8, b, &zero, 0, d, 1 << 20, d, NULL, 0, 0, NULL), NOT_SUPPORTED);
		cublasLtMatrixLayoutDestroy(a);
		cublasLtMatrixLayoutDestroy(b);
		cublasLtMatrixLayoutDestroy(d);
		cublasLtMatmulPreferenceDestroy(p);
		cublasLtMatmulDescDestroy(desc);
		cublasLtDestroy(h);
	}
	standin_set("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_of_8_bits),
	};
	return cmocka_run_group_tests(tests, standin_setup, NULL);
}
