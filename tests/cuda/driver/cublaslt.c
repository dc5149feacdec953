/* cublaslt.c: a stand-in for libcublasLt.so.13 beside the stand-in driver: the part of its interface that
 * Plinth uses, with the values of CUDA 13's cublasLt.h. A product is one piece of work of the stream,
 * computed here in f64 and rounded where the library rounds: to the type of D, of the bias, of aux.
 * Column-major, as there: D (m x n) = epilogue(alpha op(A) op(B) + beta C). Three "algorithms" add up in
 * different orders, and the third needs a workspace. Of 8 bits it takes what the documentation's table of types has with a D of
 * 16 or 32 bits, and nothing that it does not say: operands that are not "TN", sizes that are no multiples of 16. */
#include "cublaslt_abi.h"
#include "formats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALGORITHMS = 3, WORKSPACE = 4096 };

struct Handle {
	u64 magic;
};

struct MatmulDesc {
	int compute, scale_type, pointer_mode, transpose_a, transpose_b, transpose_c, fill;
	u32 epilogue;
	u64 bias, aux;
	i64 bias_batch_stride, aux_ld, aux_batch_stride;
	u64 scale[2]; /* addresses, of A's and B's; 0: 1 */
	i8 fast;
	int aux_type, bias_type; /* -1: as D */
};

struct MatrixLayout {
	int type, order; /* order 1: rows are contiguous */
	u64 rows, columns;
	i64 ld;
	int batch;
	i64 batch_stride;
};

struct Preference {
	u64 workspace;
};

int cublasLtCreate(Handle **out)
{
	*out = calloc(1, sizeof **out);
	return *out ? SUCCESS : ALLOC_FAILED;
}

int cublasLtDestroy(Handle *h)
{
	free(h);
	return SUCCESS;
}

size_t cublasLtGetVersion(void)
{
	return 130100;
}

const char *cublasLtGetStatusName(int status)
{
	return status == SUCCESS ? "CUBLAS_STATUS_SUCCESS" : status == INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
	     : status == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_EXECUTION_FAILED";
}

const char *cublasLtGetStatusString(int status)
{
	return cublasLtGetStatusName(status);
}

/* Descriptions. */

static bool is_8_bit(int type)
{
	return type == R_8F_E4M3 || type == R_8F_E5M2;
}

static bool known_type(int type)
{
	return type == R_32F || type == R_64F || type == R_16F || type == R_16BF || is_8_bit(type);
}

static u32 bytes_of(int type)
{
	return type == R_64F ? 8 : type == R_32F ? 4 : is_8_bit(type) ? 1 : 2;
}

int cublasLtMatmulDescCreate(MatmulDesc **out, int compute, int scale)
{
	MatmulDesc *d = calloc(1, sizeof *d);
	if (!d)
		return ALLOC_FAILED;
	*d = (MatmulDesc){ .compute = compute, .scale_type = scale, .epilogue = 1, .aux_type = -1, .bias_type = -1 };
	*out = d;
	return SUCCESS;
}

int cublasLtMatmulDescDestroy(MatmulDesc *d)
{
	free(d);
	return SUCCESS;
}

/* A field of a description; its size must be what the caller says. */
static int set(void *field, size_t size, const void *value, size_t bytes)
{
	if (!value || bytes != size)
		return INVALID_VALUE;
	memcpy(field, value, size);
	return SUCCESS;
}
#define SET(field) set(&(field), sizeof(field), value, bytes)

int cublasLtMatmulDescSetAttribute(MatmulDesc *d, int what, const void *value, size_t bytes)
{
	switch (what) {
	case 0: return SET(d->compute);
	case 1: return SET(d->scale_type);
	case 2: return SET(d->pointer_mode);
	case 3: return SET(d->transpose_a);
	case 4: return SET(d->transpose_b);
	case 5: return SET(d->transpose_c);
	case 6: return SET(d->fill);
	case 7: return SET(d->epilogue);
	case 8: return SET(d->bias);
	case 10: return SET(d->bias_batch_stride);
	case 11: return SET(d->aux);
	case 12: return SET(d->aux_ld);
	case 13: return SET(d->aux_batch_stride);
	case 15: return SUCCESS; /* how many multiprocessors */
	case 17: return SET(d->scale[0]);
	case 18: return SET(d->scale[1]);
	case 25: return SET(d->fast);
	case 22: return SET(d->aux_type);
	case 26: return SET(d->bias_type);
	default: return NOT_SUPPORTED;
	}
}

int cublasLtMatrixLayoutCreate(MatrixLayout **out, int type, u64 rows, u64 columns, i64 ld)
{
	MatrixLayout *l = calloc(1, sizeof *l);
	if (!l)
		return ALLOC_FAILED;
	*l = (MatrixLayout){ .type = type, .rows = rows, .columns = columns, .ld = ld, .batch = 1 };
	*out = l;
	return SUCCESS;
}

int cublasLtMatrixLayoutDestroy(MatrixLayout *l)
{
	free(l);
	return SUCCESS;
}

int cublasLtMatrixLayoutSetAttribute(MatrixLayout *l, int what, const void *value, size_t bytes)
{
	switch (what) {
	case 0: return SET(l->type);
	case 1: return SET(l->order);
	case 2: return SET(l->rows);
	case 3: return SET(l->columns);
	case 4: return SET(l->ld);
	case 5: return SET(l->batch);
	case 6: return SET(l->batch_stride);
	default: return NOT_SUPPORTED;
	}
}

int cublasLtMatmulPreferenceCreate(Preference **out)
{
	*out = calloc(1, sizeof **out);
	return *out ? SUCCESS : ALLOC_FAILED;
}

int cublasLtMatmulPreferenceDestroy(Preference *p)
{
	free(p);
	return SUCCESS;
}

int cublasLtMatmulPreferenceSetAttribute(Preference *p, int what, const void *value, size_t bytes)
{
	u32 ignored;
	if (what == 1)
		return SET(p->workspace);
	return what == 0 || what == 3 || (what >= 5 && what <= 9) || what == 12 ? set(&ignored, MIN(bytes, 4), value, MIN(bytes, 4))
										: INVALID_VALUE;
}

/* A product. */

typedef struct Product {
	MatmulDesc desc;
	MatrixLayout la, lb, lc, ld;
	f64 alpha, beta;
	u64 a, b, c, d, workspace;
	u32 algorithm;
} Product;

static u64 elements(const MatrixLayout *l)
{
	u64 lines = l->order ? l->rows : l->columns, line = l->order ? l->columns : l->rows;
	return (lines - 1) * (u64)l->ld + line + (u64)(l->batch - 1) * (u64)l->batch_stride;
}

static u64 index_of(const MatrixLayout *l, u64 row, u64 column)
{
	return l->order ? row * (u64)l->ld + column : column * (u64)l->ld + row;
}

static bool good_layout(const MatrixLayout *l)
{
	return known_type(l->type) && l->rows && l->columns && l->batch >= 1 && (l->order == 0 || l->order == 1) &&
	       l->ld >= (i64)(l->order ? l->columns : l->rows);
}

static int type_of_bias(const MatmulDesc *d, const MatrixLayout *a, const MatrixLayout *out)
{
	return d->bias_type >= 0 ? d->bias_type : is_8_bit(a->type) && out->type == R_32F ? R_16BF : out->type;
}

static bool in_sixteens(const MatrixLayout *l)
{
	u64 size = bytes_of(l->type);
	return l->rows % 16 == 0 && l->columns % 16 == 0 && (u64)l->ld * size % 16 == 0 && (u64)l->batch_stride * size % 16 == 0;
}

/* Products of 8 bits, by the section on cublasLtMatmul() of CUDA 13's documentation of cuBLAS. */
static int check_8_bits(const MatmulDesc *d, const MatrixLayout *a, const MatrixLayout *b, const MatrixLayout *c, const MatrixLayout *out)
{
	int major = 0, minor = 0;
	u32 sums = EPILOGUE_BGRAD | EPILOGUE_BGRADA | EPILOGUE_BGRADB;
	if (cuDeviceGetAttribute(&major, 75, 0) || cuDeviceGetAttribute(&minor, 76, 0) || 10 * major + minor < 89)
		return NOT_SUPPORTED;
	if (!is_8_bit(a->type) || !is_8_bit(b->type) || (a->type == R_8F_E5M2 && b->type == R_8F_E5M2))
		return NOT_SUPPORTED;
	if (out->type != R_32F && out->type != R_16BF && out->type != R_16F) /* 8 bits, which the library gives, are not here */
		return NOT_SUPPORTED;
	if (d->compute != COMPUTE_32F || d->scale_type != R_32F || !d->transpose_a || d->transpose_b || a->order || b->order)
		return NOT_SUPPORTED;
	if (!in_sixteens(a) || !in_sixteens(b) || !in_sixteens(c) || !in_sixteens(out))
		return NOT_SUPPORTED;
	if (d->epilogue != 1 && d->epilogue & sums)
		return NOT_SUPPORTED;
	if (d->epilogue != 1 && d->epilogue & EPILOGUE_BIAS && type_of_bias(d, a, out) != (out->type == R_16F ? R_16F : R_16BF))
		return NOT_SUPPORTED;
	return SUCCESS;
}

/* What the library would refuse; SUCCESS if the product is one it knows. */
static int check(const MatmulDesc *d, const MatrixLayout *a, const MatrixLayout *b, const MatrixLayout *c, const MatrixLayout *out)
{
	u64 m = d->transpose_a ? a->columns : a->rows, k = d->transpose_a ? a->rows : a->columns;
	u64 kb = d->transpose_b ? b->columns : b->rows, n = d->transpose_b ? b->rows : b->columns;
	bool wide = d->compute == COMPUTE_64F;
	bool aux = (d->epilogue & EPILOGUE_AUX) != 0;
	if (!good_layout(a) || !good_layout(b) || !good_layout(c) || !good_layout(out))
		return INVALID_VALUE;
	if (k != kb || out->rows != m || out->columns != n || c->rows != m || c->columns != n || c->order != out->order)
		return INVALID_VALUE;
	if (a->batch != out->batch || b->batch != out->batch || c->batch != out->batch)
		return INVALID_VALUE;
	if (d->pointer_mode || d->transpose_c || d->fill || c->type != out->type)
		return NOT_SUPPORTED;
	if (is_8_bit(a->type) || is_8_bit(b->type)) {
		int status = check_8_bits(d, a, b, c, out);
		if (status)
			return status;
	} else if (a->type != b->type || (out->type != a->type && out->type != R_32F)) { /* D is as A, or f32 */
		return NOT_SUPPORTED;
	} else if (d->scale[0] || d->scale[1]) {
		return INVALID_VALUE;
	}
	if (wide != (a->type == R_64F) || wide != (out->type == R_64F) || d->scale_type != (wide ? R_64F : R_32F))
		return NOT_SUPPORTED;
	if (!wide && d->compute != COMPUTE_32F && d->compute != COMPUTE_FAST_16F && d->compute != COMPUTE_FAST_16BF &&
	    d->compute != COMPUTE_FAST_TF32)
		return NOT_SUPPORTED;
	if (d->epilogue == 1)
		return SUCCESS;
	if (wide || (d->epilogue & EPILOGUE_RELU && aux) || (d->epilogue & 8) || out->order)
		return NOT_SUPPORTED;
	if (aux && (d->aux_ld < (i64)m || d->aux_ld % 8))
		return NOT_SUPPORTED;
	return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(Handle *h, MatmulDesc *d, MatrixLayout *a, MatrixLayout *b, MatrixLayout *c,
				   MatrixLayout *out, Preference *p, int most, Heuristic *results, int *n)
{
	if (!h || !d || !a || !b || !c || !out || !p || !results || !n || most < 1)
		return INVALID_VALUE;
	*n = 0;
	int status = check(d, a, b, c, out);
	if (status)
		return status;
	for (u32 i = 0; i < ALGORITHMS && *n < most; i++) {
		size_t workspace = i == 2 ? WORKSPACE : 0;
		if (workspace > p->workspace)
			continue;
		results[(*n)++] = (Heuristic){ .algorithm = { i + 1 }, .workspace = workspace, .waves = 1 };
	}
	return SUCCESS;
}

static f64 load(const u8 *p, int type, u64 i)
{
	f32 single;
	f64 wide;
	u16 half;
	switch (type) {
	case R_8F_E4M3: return format_decode(&format_e4m3, p[i]);
	case R_8F_E5M2: return format_decode(&format_e5m2, p[i]);
	case R_32F: memcpy(&single, p + 4 * i, 4); return (f64)single;
	case R_64F: memcpy(&wide, p + 8 * i, 8); return wide;
	case R_16F: memcpy(&half, p + 2 * i, 2); return (f64)f32_of_f16(half);
	default: memcpy(&half, p + 2 * i, 2); return (f64)f32_of_bf16(half);
	}
}

static void store(u8 *p, int type, u64 i, f64 v)
{
	f32 single = (f32)v; /* the library has it in f32 */
	u16 half;
	switch (type) {
	case R_32F: memcpy(p + 4 * i, &single, 4); return;
	case R_64F: memcpy(p + 8 * i, &v, 8); return;
	case R_16F: half = (u16)format_encode(&format_f16, (f64)single, ROUND_NEAREST, false); break;
	default: half = (u16)format_encode(&format_bf16, (f64)single, ROUND_NEAREST, false); break;
	}
	memcpy(p + 2 * i, &half, 2);
}

/* An operand (or its transpose) as dense rows of f64, rounded as the compute type says. */
static f64 *dense(const Product *x, const MatrixLayout *l, const u8 *p, bool transpose, u64 batch)
{
	u64 rows = transpose ? l->columns : l->rows, columns = transpose ? l->rows : l->columns;
	f64 *out = malloc(rows * columns * sizeof *out);
	if (!out)
		NEVER("out of host memory");
	for (u64 i = 0; i < rows; i++)
		for (u64 j = 0; j < columns; j++) {
			u64 at = (transpose ? index_of(l, j, i) : index_of(l, i, j)) + batch * (u64)l->batch_stride;
			f64 v = load(p, l->type, at);
			if (x->desc.compute == COMPUTE_FAST_TF32)
				v = format_decode(&format_tf32, format_encode(&format_tf32, v, ROUND_NEAREST, false));
			else if (x->desc.compute == COMPUTE_FAST_16BF)
				v = (f64)f32_of_bf16((u16)format_encode(&format_bf16, v, ROUND_NEAREST, false));
			else if (x->desc.compute == COMPUTE_FAST_16F)
				v = (f64)f32_of_f16((u16)format_encode(&format_f16, v, ROUND_NEAREST, false));
			out[i * columns + j] = v;
		}
	return out;
}

static f64 gelu(f64 x)
{
	return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static f64 gelu_derivative(f64 x)
{
	f64 t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
	return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

static f64 dot(const f64 *a, const f64 *b, u64 n)
{
	f64 part[8] = { 0 }, sum = 0;
	u64 j = 0;
	for (; j + 8 <= n; j += 8)
		for (u32 l = 0; l < 8; l++)
			part[l] += a[j + l] * b[j + l];
	for (; j < n; j++)
		sum += a[j] * b[j];
	for (u32 l = 0; l < 8; l++)
		sum += part[l];
	return sum;
}

/* One column of op(A) op(B): in one run, or in as many as the algorithm's number, each rounded to f32. */
static void multiply(const f64 *a, const f64 *b, u64 m, u64 k, u32 runs, f64 *out)
{
	for (u64 i = 0; i < m; i++) {
		out[i] = 0;
		for (u32 part = 0; part < runs; part++) {
			u64 from = k * part / runs, to = k * (part + 1) / runs;
			f64 run = dot(a + i * k + from, b + from, to - from);
			out[i] += runs > 1 ? (f64)(f32)run : run;
		}
	}
}

typedef struct Places {
	u8 *a, *b, *c, *d, *bias, *aux;
	f64 scale; /* alpha, and those of A and B */
	int bias_type, aux_type;
} Places;

static void column_done(const Product *x, const Places *p, u64 batch, u64 column, f64 *acc, f64 *bias_gradient)
{
	u64 m = x->ld.rows;
	u32 e = x->desc.epilogue;
	for (u64 i = 0; i < m; i++) {
		f64 v = p->scale * acc[i];
		u64 aux_at = column * (u64)x->desc.aux_ld + i + batch * (u64)x->desc.aux_batch_stride;
		if (x->beta != 0)
			v += x->beta * load(p->c, x->lc.type, index_of(&x->lc, i, column) + batch * (u64)x->lc.batch_stride);
		if (e != 1 && e & EPILOGUE_BIAS)
			v += load(p->bias, p->bias_type, i + batch * (u64)x->desc.bias_batch_stride);
		if (e & EPILOGUE_DGELU)
			v *= gelu_derivative(load(p->aux, p->aux_type, aux_at));
		else if (e & EPILOGUE_GELU && e & EPILOGUE_AUX)
			store(p->aux, p->aux_type, aux_at, v);
		if (e & EPILOGUE_GELU)
			v = gelu(v);
		if (e & EPILOGUE_RELU)
			v = v > 0 ? v : 0;
		bias_gradient[i] += v;
		store(p->d, x->ld.type, index_of(&x->ld, i, column) + batch * (u64)x->ld.batch_stride, v);
	}
}

static void gradient_of_operand(const Product *x, const Places *p, u64 batch, const f64 *a, const f64 *b, u64 k)
{
	bool of_a = x->desc.epilogue & EPILOGUE_BGRADA;
	u64 length = of_a ? x->ld.rows : x->ld.columns;
	for (u64 i = 0; i < length; i++) {
		f64 sum = 0;
		for (u64 j = 0; j < k; j++)
			sum += of_a ? a[i * k + j] : b[i * k + j];
		store(p->bias, p->bias_type, i + batch * (u64)x->desc.bias_batch_stride, sum);
	}
}

static void *place(u64 address, u64 bytes, const char *what, bool *ok)
{
	void *p = standinHostPointer(address, bytes);
	if (!p) {
		char text[200];
		snprintf(text, sizeof text, "cublasLtMatmul: %s: %llu bytes at 0x%llx are not all in one allocation", what,
			 (unsigned long long)bytes, (unsigned long long)address);
		standinReport(CUDA_ERROR_ILLEGAL_ADDRESS, text);
		*ok = false;
	}
	return p;
}

static CUresult run(void *data)
{
	const Product *x = data;
	const MatmulDesc *d = &x->desc;
	u64 m = x->ld.rows, n = x->ld.columns, k = d->transpose_a ? x->la.rows : x->la.columns;
	bool ok = true, bias = d->epilogue != 1 && d->epilogue & (EPILOGUE_BIAS | EPILOGUE_BGRAD | EPILOGUE_BGRADA | EPILOGUE_BGRADB);
	Places p = { .scale = x->alpha, .bias_type = type_of_bias(d, &x->la, &x->ld), .aux_type = d->aux_type < 0 ? x->ld.type : d->aux_type };
	u64 batches = (u64)x->ld.batch, bias_length = d->epilogue & EPILOGUE_BGRADB ? n : m;
	p.a = place(x->a, elements(&x->la) * bytes_of(x->la.type), "A", &ok);
	p.b = place(x->b, elements(&x->lb) * bytes_of(x->lb.type), "B", &ok);
	p.c = x->beta != 0 ? place(x->c, elements(&x->lc) * bytes_of(x->lc.type), "C", &ok) : NULL;
	p.d = place(x->d, elements(&x->ld) * bytes_of(x->ld.type), "D", &ok);
	if (bias)
		p.bias = place(d->bias, (bias_length + (batches - 1) * (u64)d->bias_batch_stride) * bytes_of(p.bias_type), "bias", &ok);
	if (d->epilogue & EPILOGUE_AUX)
		p.aux = place(d->aux, ((n - 1) * (u64)d->aux_ld + m + (batches - 1) * (u64)d->aux_batch_stride) * bytes_of(p.aux_type), "aux", &ok);
	for (u32 i = 0; i < 2; i++) {
		const u8 *scale = d->scale[i] ? place(d->scale[i], 4, "scale", &ok) : NULL;
		p.scale *= scale ? load(scale, R_32F, 0) : 1;
	}
	if (x->algorithm == 3) {
		u8 *w = place(x->workspace, WORKSPACE, "workspace", &ok);
		if (w)
			memset(w, 0xff, WORKSPACE);
	}
	if (!ok)
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	f64 *acc = calloc(m, sizeof *acc), *gradient = calloc(m, sizeof *gradient);
	if (!acc || !gradient)
		NEVER("out of host memory");
	for (u64 batch = 0; batch < batches; batch++) {
		f64 *a = dense(x, &x->la, p.a, d->transpose_a, batch), *b = dense(x, &x->lb, p.b, !d->transpose_b, batch);
		memset(gradient, 0, m * sizeof *gradient);
		for (u64 column = 0; column < n; column++) {
			multiply(a, b + column * k, m, k, x->desc.compute == COMPUTE_64F ? 1 : x->algorithm, acc);
			column_done(x, &p, batch, column, acc, gradient);
		}
		for (u64 i = 0; d->epilogue & EPILOGUE_BGRAD && i < m; i++)
			store(p.bias, p.bias_type, i + batch * (u64)d->bias_batch_stride, gradient[i]);
		if (d->epilogue & (EPILOGUE_BGRADA | EPILOGUE_BGRADB))
			gradient_of_operand(x, &p, batch, a, b, k);
		free(a);
		free(b);
	}
	free(acc);
	free(gradient);
	return CUDA_SUCCESS;
}

int cublasLtMatmul(Handle *h, MatmulDesc *d, const void *alpha, u64 a, MatrixLayout *la, u64 b, MatrixLayout *lb,
		   const void *beta, u64 c, MatrixLayout *lc, u64 out, MatrixLayout *ld, const u64 *algorithm, u64 workspace,
		   size_t workspace_bytes, CUstream stream)
{
	if (!h || !d || !alpha || !beta || !la || !lb || !lc || !ld || !a || !b || !out)
		return INVALID_VALUE;
	int status = check(d, la, lb, lc, ld);
	if (status)
		return status;
	bool bias = d->epilogue != 1 && d->epilogue & (EPILOGUE_BIAS | EPILOGUE_BGRAD | EPILOGUE_BGRADA | EPILOGUE_BGRADB);
	u64 chosen = algorithm ? algorithm[0] : 1;
	if ((bias && !d->bias) || (d->epilogue != 1 && d->epilogue & EPILOGUE_AUX && !d->aux) || !chosen || chosen > ALGORITHMS)
		return INVALID_VALUE;
	if (is_8_bit(la->type) && (a | b | out | (bias ? d->bias : 0) | (d->epilogue != 1 && d->epilogue & EPILOGUE_AUX ? d->aux : 0)) % 16)
		return NOT_SUPPORTED;
	if (chosen == 3 && (workspace_bytes < WORKSPACE || !workspace || workspace % 16))
		return INVALID_VALUE;
	Product *x = malloc(sizeof *x);
	if (!x)
		return ALLOC_FAILED;
	*x = (Product){ *d, *la, *lb, *lc, *ld, 0, 0, a, b, c, out, workspace, (u32)chosen };
	if (d->scale_type == R_64F) {
		memcpy(&x->alpha, alpha, 8);
		memcpy(&x->beta, beta, 8);
	} else {
		x->alpha = (f64) * (const f32 *)alpha;
		x->beta = (f64) * (const f32 *)beta;
	}
	if (x->beta != 0 && !c) {
		free(x);
		return INVALID_VALUE;
	}
	return standinEnqueue(stream, run, x, free) ? EXECUTION_FAILED : SUCCESS;
}
