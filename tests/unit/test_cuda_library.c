/* Which DOT kernels are found to be matrix products of a library, and that what is said of them is what they compute:
 * a plain reading of PackageMatmul against kernel_eval, for kernels made by hand and for all of GPT-2's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "codegen/cuda/library.h"
#include "find_model.h"
#include "frontend/elaborate.h"
#include "kernel_run.h"
#include "passes/plan/plan.h"
#include "support/io.h"
#include "tools/driver.h"

/* ---- PackageMatmul in plain loops; elements as f64, by slot ---- */

static i64 place(const PackageMatrix *x, i64 b, i64 row, i64 column)
{
	return (i64)(x->offset / dtype_info[x->dtype].bytes) + b * x->batch + row * x->row + column * x->column;
}

/* As kernel_eval rounds: f32 is not. */
static f64 stored(DType d, f64 x)
{
	return d == DT_f32 ? x : dtype_round(d, x);
}

static f64 gelu(f64 x)
{
	return 0.5 * x * (1 + tanh(0.79788456080286541 * (x + 0.044715 * x * x * x)));
}

static f64 gelu_slope(f64 x)
{
	f64 t = tanh(0.79788456080286541 * (x + 0.044715 * x * x * x));
	return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456080286541 * (1 + 3 * 0.044715 * x * x);
}

static void reference(const LibraryMatmul *l, f64 *const *slot)
{
	const PackageMatmul *p = &l->matmul;
	DType to = (DType)p->d.dtype, aux = (DType)p->aux.dtype;
	bool of_a = p->sum_of == PACKAGE_SUM_A;
	for (i64 x = 0; p->sum_of && x < (of_a ? p->m : p->n); x++) {
		f64 sum = 0;
		for (i64 i = 0; i < p->k; i++)
			sum += of_a ? slot[l->a][place(&p->a, 0, x, i)] : slot[l->b][place(&p->b, 0, i, x)];
		slot[l->sum][(i64)(p->sum / dtype_info[to].bytes) + x] = stored(to, sum);
	}
	for (i64 b = 0; b < p->batch; b++)
		for (i64 m = 0; m < p->m; m++)
			for (i64 n = 0; n < p->n; n++) {
				f64 sum = 0;
				for (i64 i = 0; i < p->k; i++)
					sum += slot[l->a][place(&p->a, b, m, i)] * slot[l->b][place(&p->b, b, i, n)];
				for (u32 i = 0; i < p->nscale; i++)
					sum *= slot[l->scale[i]][p->scale[i] / dtype_info[DT_f32].bytes];
				if (p->has_c)
					sum += slot[l->c][place(&p->c, b, m, n)];
				if (p->has_bias)
					sum += slot[l->bias][(i64)(p->bias / dtype_info[p->bias_dtype].bytes) + n];
				if (p->epilogue == PACKAGE_EPILOGUE_GELU) {
					if (p->has_aux)
						slot[l->aux][place(&p->aux, b, m, n)] = stored(aux, sum);
					sum = gelu(sum);
				} else if (p->epilogue == PACKAGE_EPILOGUE_DGELU) {
					sum *= gelu_slope(slot[l->aux][place(&p->aux, b, m, n)]);
				}
				slot[l->d][place(&p->d, b, m, n)] = stored(to, sum);
			}
}

/* True if the kernel is found; then that it is right. */
static bool check(const Kernel *k, u64 seed)
{
	LibraryMatmul l;
	if (!cuda_library_matmul(k, &l))
		return false;
	Arena a = ARENA("check");
	Random r = random_new(&a, seed);
	f64 **want = NEWN(&a, f64 *, k->slot.n + 1), **got = NEWN(&a, f64 *, k->slot.n + 1);
	Case c = { .k = (Kernel *)k };
	for (u32 s = 0; s < k->slot.n; s++) {
		want[s] = draw(&a, &r, &c, s);
		got[s] = COPYN(&a, f64, want[s], k->slot.v[s].elements + 1);
	}
	kernel_eval(k, want);
	reference(&l, got);
	for (u32 s = 0; s < k->slot.n; s++)
		for (i64 i = 0; i < k->slot.v[s].elements; i++) {
			DType d = k->slot.v[s].dtype;
			f64 unit = d == DT_bf16 ? 0x1p-8 : d == DT_f16 ? 0x1p-11 : 1e-9;
			if (fabs(want[s][i] - got[s][i]) > 2 * unit * fmax(1, fabs(want[s][i]))) {
				kernel_print(k, stderr);
				fail_msg("%s: slot %u element %lld is %g by the library's description, not %g", k->name,
					 s, (long long)i, got[s][i], want[s][i]);
			}
		}
	arena_free(&a);
	return true;
}

/* ---- kernels by hand ---- */

typedef enum Epilogue { STORE, BIAS, RESIDUAL, ACCUMULATE, BIAS_RESIDUAL, GELU, GELU_AUX, DGELU, SUM_A, SUM_B, EPILOGUES } Epilogue;

typedef struct Options {
	i64 B, M, N, K;
	bool a_by_m, b_by_k;     /* column-major */
	DType compute, to, extra; /* extra: of bias, residual, aux */
	Epilogue e;
	bool split_m, split_m_apart; /* M as two dimensions; that do not nest in the result */
	DType a, b; /* of operands of 8 bits (compute = f8e4m3) */
	u32 scales; /* numbers that the sums are multiplied with */
	bool scales_first; /* with one another first */
} Options;

static KVal make_gelu(Kernel *k, KVal x)
{
	KVal cube = kb_op(k, S_mul, kb_op(k, S_mul, x, x), kb_op(k, S_mul, kb_const(k, DT_f32, 0.044715), x));
	KVal in = kb_op(k, S_mul, kb_op(k, S_add, cube, x), kb_const(k, DT_f32, 0.79788456080286541));
	KVal t = kb_op(k, S_add, kb_const(k, DT_f32, 1), kb_op(k, S_tanh, in, NO));
	return kb_op(k, S_mul, kb_op(k, S_mul, x, t), kb_const(k, DT_f32, 0.5));
}

static KVal make_gelu_slope(Kernel *k, KVal x)
{
	KVal one = kb_const(k, DT_f32, 1), square = kb_op(k, S_mul, x, x);
	KVal cube = kb_op(k, S_mul, kb_op(k, S_mul, x, square), kb_const(k, DT_f32, 0.044715));
	KVal t = kb_op(k, S_tanh, kb_op(k, S_mul, kb_const(k, DT_f32, 0.79788456080286541), kb_op(k, S_add, x, cube)), NO);
	KVal first = kb_op(k, S_mul, kb_op(k, S_add, t, one), kb_const(k, DT_f32, 0.5));
	KVal slope = kb_op(k, S_mul, kb_op(k, S_sub, one, kb_op(k, S_mul, t, t)),
			   kb_op(k, S_add, kb_op(k, S_mul, square, kb_const(k, DT_f32, 0.134145)), one));
	KVal second = kb_op(k, S_mul, kb_op(k, S_mul, slope, x), kb_const(k, DT_f32, 0.3989422804014327));
	return kb_op(k, S_add, first, second);
}

static Kernel *product(Suite *s, const Options *o)
{
	Kernel *k = suite_kernel(s, KERNEL_DOT, "product");
	k->compute = o->compute;
	i64 two = o->split_m ? 2 : 1, M = o->M / two, N = o->N, K = o->K;
	kb_dim(k, DIM_BATCH, o->B);
	kb_dim(k, DIM_M, two);
	kb_dim(k, DIM_M, M);
	kb_dim(k, DIM_N, N);
	kb_dim(k, DIM_K, K);
	bool f8 = dtype_is_f8(o->compute);
	u32 a = kb_slot(k, f8 ? o->a : o->compute, o->B * o->M * K), b = kb_slot(k, f8 ? o->b : o->compute, o->B * N * K);
	Access at_a = ACCESS(a, 0, o->M * K, o->a_by_m ? M : M * K, o->a_by_m ? 1 : K, 0, o->a_by_m ? o->M : 1);
	Access at_b = ACCESS(b, 0, N * K, 0, 0, o->b_by_k ? K : 1, o->b_by_k ? 1 : N);
	k->operand[0] = kb_load(k, at_a, NO);
	k->operand[1] = kb_load(k, at_b, NO);
	k->noperand = 2;
	i64 apart = o->split_m_apart ? 3 : 0, size = o->B * (o->M * N + 2 * apart);
	u32 d = kb_slot(k, o->to, size);
	Access at_d = ACCESS(d, 0, o->M * N + 2 * apart, M * N + apart, N, 1, 0);
	KVal x = kb_acc(k, DT_f32, 0), aux = NO, by = NO;
	for (u32 i = 0; i < o->scales; i++) {
		KVal scale = kb_load(k, ACCESS(kb_slot(k, DT_f32, 3), i, 0, 0, 0, 0, 0), NO);
		if (!o->scales_first)
			x = kb_op(k, S_mul, i ? scale : x, i ? x : scale);
		else
			by = by.i ? kb_op(k, S_mul, by, scale) : scale;
	}
	x = by.i ? kb_op(k, S_mul, by, x) : x;
	u32 extra = d;
	if (o->e != STORE && o->e != ACCUMULATE && o->e != SUM_A && o->e != SUM_B)
		extra = kb_slot(k, o->extra, o->e == BIAS || o->e == GELU || o->e == GELU_AUX ? N : size);
	Access same = at_d, along_n = ACCESS(extra, 0, 0, 0, 0, 1, 0);
	same.slot = extra;
	switch (o->e) {
	case BIAS: x = kb_op(k, S_add, kb_cast(k, DT_f32, kb_load(k, along_n, NO)), x); break;
	case RESIDUAL:
	case ACCUMULATE: x = kb_op(k, S_add, x, kb_cast(k, DT_f32, kb_load(k, same, NO))); break;
	case BIAS_RESIDUAL: {
		along_n.slot = kb_slot(k, o->extra, N);
		x = kb_op(k, S_add, kb_cast(k, DT_f32, kb_load(k, along_n, NO)), x);
		x = kb_op(k, S_add, kb_cast(k, DT_f32, kb_load(k, same, NO)), x);
		break;
	}
	case GELU:
	case GELU_AUX:
		x = kb_op(k, S_add, kb_cast(k, DT_f32, kb_load(k, along_n, NO)), x);
		aux = x;
		x = make_gelu(k, x);
		break;
	case DGELU: x = kb_op(k, S_mul, x, make_gelu_slope(k, kb_cast(k, DT_f32, kb_load(k, same, NO)))); break;
	default: break;
	}
	kb_store(k, at_d, kb_cast(k, o->to, x), NO);
	if (o->e == GELU_AUX) {
		same.slot = kb_slot(k, o->to, size);
		kb_store(k, same, kb_cast(k, o->to, aux), NO);
	}
	if (o->e == SUM_A || o->e == SUM_B) {
		bool of_a = o->e == SUM_A;
		extra = kb_slot(k, o->extra, of_a ? o->M : N);
		Access at = ACCESS(extra, 0, 0, of_a ? M : 0, of_a, !of_a, 0);
		kb_store(k, at, kb_cast(k, o->extra, kb_acc(k, DT_f32, of_a ? 1 : 2)), NO);
	}
	suite_add(s, k, 0, 0); /* verified */
	return k;
}

static void found(void **state)
{
	(void)state;
	Suite s = { 0 };
	const DType type[][2] = { { DT_bf16, DT_bf16 }, { DT_bf16, DT_f32 }, { DT_f16, DT_f16 }, { DT_f32, DT_f32 } };
	u64 seed = 0;
	for (u32 t = 0; t < COUNT(type); t++)
		for (u32 e = 0; e < EPILOGUES; e++)
			for (u32 shape = 0; shape < 16; shape++) {
				Options o = { .B = shape & 8 ? 3 : 1, .M = 6, .N = shape & 2 ? 1 : 5, .K = 7,
					      .a_by_m = shape & 1, .b_by_k = shape & 2, .split_m = shape & 4,
					      .split_m_apart = shape == 4, .compute = type[t][0], .to = type[t][1],
					      .extra = type[t][1], .e = (Epilogue)e };
				/* sums are found of one product alone, in f32 */
				if (e >= SUM_A && (o.B > 1 || o.to != DT_f32 || o.split_m_apart)) {
					LibraryMatmul l;
					assert_false(cuda_library_matmul(product(&s, &o), &l));
					continue;
				}
				if (!check(product(&s, &o), seed++))
					fail_msg("types %u, epilogue %u, shape %u: not found", t, e, shape);
			}
	arena_free(&s.arena);
}

/* What looks alike and is something else. */
static void not_found(void **state)
{
	(void)state;
	Suite s = { 0 };
	LibraryMatmul l;
	Options o = { .B = 1, .M = 6, .N = 5, .K = 7, .compute = DT_bf16, .to = DT_bf16, .extra = DT_bf16, .e = STORE };
	Options q = o;
	assert_true(cuda_library_matmul(product(&s, &q), &l));
	q.extra = DT_f32, q.e = BIAS; /* a bias of another type */
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.compute = q.to = DT_f64;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.B = 2, q.split_m = q.split_m_apart = true; /* rows that do not nest, and a batch */
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	Kernel *k = product(&s, &o);
	Kernel x = *k; /* products in another type than the operands' */
	x.compute = DT_f32;
	assert_false(cuda_library_matmul(&x, &l));
	/* acc + acc; acc * bias; a gelu with another constant; a square of a tanh of another x */
	for (u32 i = 0; i < 4; i++) {
		k = suite_kernel(&s, KERNEL_DOT, "other");
		kb_dim(k, DIM_M, 4);
		kb_dim(k, DIM_N, 4);
		kb_dim(k, DIM_K, 4);
		k->operand[0] = kb_load(k, ACCESS(kb_slot(k, DT_f32, 16), 0, 4, 0, 1), NO);
		k->operand[1] = kb_load(k, ACCESS(kb_slot(k, DT_f32, 16), 0, 0, 1, 4), NO);
		k->noperand = 2;
		KVal acc = kb_acc(k, DT_f32, 0), v = acc;
		KVal y = kb_load(k, ACCESS(kb_slot(k, DT_f32, 16), 0, 4, 1, 0), NO);
		if (i == 0)
			v = kb_op(k, S_add, acc, acc);
		else if (i == 1)
			v = kb_op(k, S_mul, acc, y);
		else if (i == 2)
			v = kb_op(k, S_mul, make_gelu(k, acc), kb_const(k, DT_f32, 1.001));
		else
			v = kb_op(k, S_mul, acc, make_gelu_slope(k, kb_op(k, S_add, y, y)));
		kb_store(k, ACCESS(kb_slot(k, DT_f32, 16), 0, 4, 1, 0), v, NO);
		suite_add(&s, k, 0, 0);
		assert_false(cuda_library_matmul(k, &l));
	}
	arena_free(&s.arena);
}

/* Products of 8 bits: K fastest in both operands, sums that are multiplied with up to two numbers; beside a result of f32 the bias is bf16. */
static void found_in_8_bits(void **state)
{
	(void)state;
	Suite s = { 0 };
	const DType types[][2] = { { DT_f8e4m3, DT_f8e4m3 }, { DT_f8e4m3, DT_f8e5m2 }, { DT_f8e5m2, DT_f8e4m3 } };
	const DType result[] = { DT_f32, DT_bf16, DT_f16 };
	u64 seed = 0;
	for (u32 t = 0; t < COUNT(types); t++)
		for (u32 to = 0; to < COUNT(result); to++)
			for (u32 e = 0; e < SUM_A; e++)
				for (u32 scales = 0; scales < 4; scales++) {
					bool bias = e == BIAS || e == GELU || e == GELU_AUX;
					Options o = { .B = e == STORE ? 3 : 1, .M = 32, .N = 16, .K = 48, .b_by_k = true, .split_m = e == RESIDUAL,
						      .compute = DT_f8e4m3, .a = types[t][0], .b = types[t][1], .to = result[to],
						      .extra = bias && to == 0 ? DT_bf16 : result[to], .e = (Epilogue)e,
						      .scales = scales == 3 ? 2 : scales, .scales_first = scales == 3 };
					LibraryMatmul l;
					const Kernel *k = product(&s, &o);
					bool same = e == BIAS_RESIDUAL && to == 0; /* whose bias has the type of the residual: f32 */
					if (check(k, seed++) == same)
						fail_msg("types %u, result %u, epilogue %u, scales %u: %sfound", t, to, e, scales, same ? "" : "not ");
					if (same)
						continue;
					assert_true(cuda_library_matmul(k, &l));
					assert_int_equal(l.matmul.nscale, o.scales);
					assert_int_equal(l.matmul.compute, PACKAGE_F8E4M3);
				}
	arena_free(&s.arena);
}

/* GELU of scaled sums without a bias: a product that is a factor of products. */
static void scaled_gelu(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 dgelu = 0; dgelu < 2; dgelu++) {
		Kernel *k = suite_kernel(&s, KERNEL_DOT, "gelu");
		k->compute = DT_f8e4m3;
		kb_dim(k, DIM_M, 16);
		kb_dim(k, DIM_N, 32);
		kb_dim(k, DIM_K, 64);
		k->operand[0] = kb_load(k, ACCESS(kb_slot(k, DT_f8e4m3, 16 * 64), 0, 64, 0, 1), NO);
		k->operand[1] = kb_load(k, ACCESS(kb_slot(k, DT_f8e5m2, 32 * 64), 0, 0, 64, 1), NO);
		k->noperand = 2;
		KVal by = kb_load(k, ACCESS(kb_slot(k, DT_f32, 1), 0, 0, 0, 0), NO);
		KVal x = kb_op(k, S_mul, kb_acc(k, DT_f32, 0), by);
		KVal aux = kb_cast(k, DT_f32, kb_load(k, ACCESS(kb_slot(k, DT_bf16, 16 * 32), 0, 32, 1, 0), NO));
		x = dgelu ? kb_op(k, S_mul, make_gelu_slope(k, aux), x) : make_gelu(k, x);
		kb_store(k, ACCESS(kb_slot(k, DT_bf16, 16 * 32), 0, 32, 1, 0), kb_cast(k, DT_bf16, x), NO);
		suite_add(&s, k, 0, 0);
		LibraryMatmul l;
		assert_true(check(k, dgelu));
		assert_true(cuda_library_matmul(k, &l));
		assert_int_equal(l.matmul.epilogue, dgelu ? PACKAGE_EPILOGUE_DGELU : PACKAGE_EPILOGUE_GELU);
		assert_int_equal(l.matmul.nscale, 1);
	}
	arena_free(&s.arena);
}

/* What the library does not have of 8 bits, each but for one thing a product that it has. */
static void not_found_in_8_bits(void **state)
{
	(void)state;
	Suite s = { 0 };
	LibraryMatmul l;
	const Options o = { .B = 1, .M = 32, .N = 16, .K = 48, .b_by_k = true, .compute = DT_f8e4m3, .a = DT_f8e4m3, .b = DT_f8e4m3,
			    .to = DT_f32, .extra = DT_bf16, .e = BIAS, .scales = 2 };
	Options q = o;
	assert_true(cuda_library_matmul(product(&s, &q), &l));
	Kernel *both = product(&s, &o); /* f8e5m2, which the verifier would not have either */
	for (u32 i = 0; i < 2; i++)
		both->slot.v[i].dtype = both->inst.v[both->operand[i].i].dtype = DT_f8e5m2;
	assert_false(cuda_library_matmul(both, &l));
	q = o, q.a_by_m = true; /* M, N fastest */
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.b_by_k = false;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.M = 24;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.N = 24;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.K = 40;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.extra = DT_f32; /* the bias of a model whose parameters are f32 */
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.to = DT_bf16, q.extra = DT_f16;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.to = DT_f8e4m3, q.extra = DT_bf16;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.scales = 3;
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = o, q.e = SUM_B, q.extra = DT_f32, q.scales = 0; /* a sum beside */
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	q = (Options){ .B = 1, .M = 6, .N = 5, .K = 7, .compute = DT_bf16, .to = DT_bf16, .scales = 1 }; /* scales of what is no 8 bits */
	assert_false(cuda_library_matmul(product(&s, &q), &l));
	Kernel *k = product(&s, &o), x = *k;
	x.compute = DT_bf16;
	assert_false(cuda_library_matmul(&x, &l));
	/* a number that is worked out, one for each row, one of bf16, one that the library would take of memory that is written; the sums
	 * themselves beside what is scaled; a constant */
	for (u32 i = 0; i < 6; i++) {
		k = suite_kernel(&s, KERNEL_DOT, "other");
		k->compute = DT_f8e4m3;
		kb_dim(k, DIM_M, 16);
		kb_dim(k, DIM_N, 16);
		kb_dim(k, DIM_K, 16);
		k->operand[0] = kb_load(k, ACCESS(kb_slot(k, DT_f8e4m3, 256), 0, 16, 0, 1), NO);
		k->operand[1] = kb_load(k, ACCESS(kb_slot(k, DT_f8e4m3, 256), 0, 0, 16, 1), NO);
		k->noperand = 2;
		u32 d = kb_slot(k, DT_f32, 256);
		KVal acc = kb_acc(k, DT_f32, 0);
		u32 slot = i == 3 ? d : kb_slot(k, i == 2 ? DT_bf16 : DT_f32, 16);
		KVal by = kb_cast(k, DT_f32, kb_load(k, ACCESS(slot, 0, i == 1, 0, 0), NO));
		if (i == 0)
			by = kb_op(k, S_recip, by, NO);
		KVal v = kb_op(k, S_mul, acc, i == 5 ? kb_op(k, S_mul, by, kb_const(k, DT_f32, 0.5)) : by);
		kb_store(k, ACCESS(d, 0, 16, 1, 0), i == 4 ? kb_op(k, S_add, v, acc) : v, NO);
		suite_add(&s, k, 0, 0);
		if (cuda_library_matmul(k, &l))
			fail_msg("%u is found", i);
	}
	arena_free(&s.arena);
}

/* ---- models ---- */

/* What of a plan's products is found, and by which epilogue. */
typedef struct Found {
	u32 products, matched, residuals, gelu, gelu_kept, dgelu, sums;
	u32 in_8_bits, scaled[3]; /* products of 8 bits; those of them that are found, by how many numbers undo their scales */
} Found;

static Found found_of(const char *name, const DriverOptions *o)
{
	Arena arena = ARENA("model");
	Diag diag = { .arena = &arena };
	Ir *ir = ir_new(&arena, &diag);
	Str text;
	assert_null(io_read(&arena, arena_printf(&arena, SOURCE_DIR "/models/%s.plinth", name), &text));
	const Ast *ast = parse_source(&arena, &ir->names, &diag, name, text);
	ElaborateOptions e = { .preset = "tiny", .find = find_model };
	Model *model = elaborate(&arena, ir, ast, &e);
	assert_non_null(model);
	Compiled c;
	assert_null(driver_plan(&arena, model->program, o, &c));
	assert_non_null(c.plan);
	Found f = { 0 };
	for (u32 i = 0; i < c.plan->kernel.n; i++) {
		const Kernel *k = c.plan->kernel.v[i];
		if (k->class != KERNEL_DOT)
			continue;
		f.products++;
		f.in_8_bits += dtype_is_f8(k->compute);
		LibraryMatmul l;
		if (!cuda_library_matmul(k, &l))
			continue;
		const PackageMatmul *m = &l.matmul;
		bool first = (m->epilogue == PACKAGE_EPILOGUE_GELU && !f.gelu) || (m->epilogue == PACKAGE_EPILOGUE_DGELU && !f.dgelu) ||
			     (m->sum_of && !f.sums);
		f.matched++;
		f.scaled[m->nscale] += dtype_is_f8(k->compute);
		f.residuals += m->has_c && m->has_bias;
		f.gelu += m->epilogue == PACKAGE_EPILOGUE_GELU && m->has_bias;
		f.gelu_kept += m->epilogue == PACKAGE_EPILOGUE_GELU && m->has_bias && m->has_aux;
		f.dgelu += m->epilogue == PACKAGE_EPILOGUE_DGELU;
		f.sums += m->sum_of != PACKAGE_SUM_NONE;
		if (first || f.matched % 4 == 0)
			assert_true(check(k, i));
	}
	arena_free(&arena);
	return f;
}

enum { LAYERS = 4 /* of the preset */ };

static void gpt2(void **state)
{
	(void)state;
	Found f = found_of("gpt2", &(DriverOptions){ .sizes = "B=2,T=16", .precision = "f32", .no_cache = true });
	/* those that are not have a layer norm in their prologue, or heads between their rows */
	print_message("%u of GPT-2's %u products, %u with bias and residual\n", f.matched, f.products, f.residuals);
	assert_true(f.matched >= f.products / 4 && f.residuals >= LAYERS);
}

/* Planned for a GPU: in each layer the first product of the MLP gives GELU and keeps what it was of, its derivative takes that, and
 * three weights' gradients have their bias's beside them (the fourth is of heads in f32, whose rows do not nest). By autocast GELU is of the
 * rounded sum, which no library has. */
static void gpt2_on_gpu(void **state)
{
	(void)state;
	static const char *const step[] = { "micro" };
	DriverOptions o = { .device = "cuda", .arch = "sm_90a", .sizes = "B=2,T=16", .precision = "f32", .entry = step, .nentry = 1 };
	Found f = found_of("gpt2", &o);
	print_message("%u of %u products; GELU %u, dGELU %u, sums %u\n", f.matched, f.products, f.gelu_kept, f.dgelu, f.sums);
	assert_int_equal(f.gelu_kept, LAYERS);
	assert_int_equal(f.dgelu, LAYERS);
	assert_int_equal(f.sums, 3 * LAYERS);
	o.precision = "autocast";
	f = found_of("gpt2", &o);
	assert_int_equal(f.gelu, 0);
	assert_int_equal(f.dgelu, LAYERS);
	assert_int_equal(f.sums, 4 * LAYERS);
}

/* A linear layer's three products of 8 bits take two numbers, which other kernels stored with the operands' scales. GPT-2's
 * layers have biases of f32, which the library does not add to rounded sums, and half of the derivatives of their inputs go on into a layer
 * norm's: as with wider operands, such products are generated code alone. */
static void models_in_8_bits(void **state)
{
	(void)state;
	static const char *const step[] = { "micro" };
	const DriverOptions o = { .device = "cuda", .arch = "sm_90a", .sizes = "B=2,T=16", .precision = "fp8", .entry = step, .nentry = 1 };
	Found f = found_of("gpt2", &o);
	assert_int_equal(f.in_8_bits, 3 * 4 * LAYERS);
	assert_int_equal(f.scaled[2], (4 + 2) * LAYERS);
	assert_int_equal(f.scaled[1], 0);
	assert_int_equal(f.sums, 0);
	f = found_of("llama", &o);
	print_message("of Llama's %u products in 8 bits %u are found by their sums alone, %u and %u with one number and two\n", f.in_8_bits,
		      f.scaled[0], f.scaled[1], f.scaled[2]);
	assert_int_equal(f.in_8_bits, 3 * 7 * LAYERS);
	assert_int_equal(f.scaled[1], 0);
	assert_true(f.scaled[2] >= 7 * LAYERS && f.scaled[0] + f.scaled[2] >= 14 * LAYERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found),
		cmocka_unit_test(not_found),
		cmocka_unit_test(found_in_8_bits),
		cmocka_unit_test(scaled_gelu),
		cmocka_unit_test(not_found_in_8_bits),
		cmocka_unit_test(gpt2),
		cmocka_unit_test(gpt2_on_gpu),
		cmocka_unit_test(models_in_8_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
