/* runtime/cuda/cublaslt.c: see cublaslt.h. */
#include "runtime/cuda/cublaslt.h"
#include "support/library.h"

#include <stdlib.h>
#include <string.h>

typedef struct Handle Handle;
typedef struct Desc Desc;
typedef struct Layout Layout;
typedef struct Preference Preference;

typedef struct Heuristic {
	u64 algorithm[8];
	size_t workspace;
	int state;
	f32 waves;
	int reserved[4];
} Heuristic;
_Static_assert(sizeof(Heuristic) == 96, "as in cublasLt.h");

#define CUBLAS_FUNCTIONS(F)                                                                                        \
	F(create, "cublasLtCreate", (Handle **out))                                                                \
	F(destroy, "cublasLtDestroy", (Handle *h))                                                                 \
	F(desc_create, "cublasLtMatmulDescCreate", (Desc **out, int compute, int scale))                           \
	F(desc_destroy, "cublasLtMatmulDescDestroy", (Desc *d))                                                    \
	F(desc_set, "cublasLtMatmulDescSetAttribute", (Desc *d, int what, const void *value, size_t bytes))        \
	F(layout_create, "cublasLtMatrixLayoutCreate", (Layout **out, int type, u64 rows, u64 columns, i64 ld))    \
	F(layout_destroy, "cublasLtMatrixLayoutDestroy", (Layout *l))                                              \
	F(layout_set, "cublasLtMatrixLayoutSetAttribute", (Layout *l, int what, const void *value, size_t bytes))  \
	F(preference_create, "cublasLtMatmulPreferenceCreate", (Preference **out))                                 \
	F(preference_destroy, "cublasLtMatmulPreferenceDestroy", (Preference *p))                                  \
	F(preference_set, "cublasLtMatmulPreferenceSetAttribute",                                                  \
	  (Preference *p, int what, const void *value, size_t bytes))                                              \
	F(propose, "cublasLtMatmulAlgoGetHeuristic",                                                               \
	  (Handle *h, Desc *d, Layout *la, Layout *lb, Layout *lc, Layout *ld, Preference *p, int most, Heuristic *out, int *n)) \
	F(matmul, "cublasLtMatmul",                                                                                \
	  (Handle *h, Desc *d, const void *alpha, const void *pa, Layout *la, const void *pb, Layout *lb, const void *beta, \
	   const void *pc, Layout *lc, void *pd, Layout *ld, const void *algorithm, void *workspace, size_t bytes, CudaStream *s))

struct Cublas {
	Handle *handle;
	size_t version;
	CublasMatmul *first; /* all that were described */
	size_t (*get_version)(void);
#define F(field, name, arguments) int(*field) arguments;
	CUBLAS_FUNCTIONS(F)
#undef F
};

/* An operand as the library sees it. */
typedef struct Operand {
	u64 offset;
	Layout *layout;
} Operand;

struct CublasMatmul {
	CublasMatmul *next;
	const PackageMatmul *m;
	Desc *desc;
	Operand a, b, c, d;
	bool wide; /* alpha and beta are f64 */
	CublasAlgorithm chosen;
};

/* Values of cublas_api.h and cublasLt.h. */
enum {
	TYPE_F32 = 0,
	TYPE_F64 = 1,
	TYPE_F16 = 2,
	TYPE_BF16 = 14,
	TYPE_F8E4M3 = 28,
	TYPE_F8E5M2 = 29,
	COMPUTE_F32 = 68,
	COMPUTE_F64 = 70,
	TRANSPOSE_A = 3,
	TRANSPOSE_B = 4,
	EPILOGUE = 7,
	BIAS_POINTER = 8,
	AUX_POINTER = 11,
	AUX_LD = 12,
	AUX_BATCH_STRIDE = 13,
	AUX_TYPE = 22,
	A_SCALE_POINTER = 17, /* of B: the next */
	BIAS_TYPE = 26,
	LAYOUT_BATCH = 5,
	LAYOUT_BATCH_STRIDE = 6,
	MOST_WORKSPACE = 1,
	REDUCTIONS = 3,
	ALIGNMENT_A = 5,
	EPILOGUE_BIAS = 4,
	EPILOGUE_GELU = 32,
	EPILOGUE_AUX = 128,
	EPILOGUE_DGELU = 64 | 128,
	EPILOGUE_SUM_A = 256, /* of the library's a, which is our b where d' is computed */
	EPILOGUE_SUM_B = 512,
	/* partial sums are added in a fixed order: by way of the workspace, not in place */
	REDUCTIONS_IN_ORDER = 2 | 4
};

static Status failed(int code, const char *what)
{
	static const char *const name[] = { [1] = "not initialized, as without a GPU", [3] = "no memory", [7] = "invalid value", [8] = "not for this GPU",
					    [11] = "mapping error", [13] = "execution failed", [14] = "internal error",
					    [15] = "not supported" };
	const char *text = code > 0 && code < (int)COUNT(name) && name[code] ? name[code] : "unknown";
	return FAIL(code == 3 ? STATUS_MEMORY : STATUS_DEVICE, "cuBLASLt: cannot %s: %s (%d)", what, text, code);
}

#define LT(what, call)                                \
	do {                                          \
		int code_ = (call);                   \
		if (code_)                            \
			return failed(code_, (what)); \
	} while (0)

static Cublas loaded; /* its functions; each that is open has them */
static const char *loaded_from;
static LibraryOnce once = LIBRARY_ONCE;

static Status load(void)
{
	static const char *const name[] = { "libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13",
					    "/usr/local/cuda/lib64/libcublasLt.so.12", NULL };
	Library l;
	const char *missing = NULL;
	Status s = library_open("PLINTH_LIBCUBLASLT", name, RTLD_LOCAL, &l);
	if (s)
		return FAIL(STATUS_UNSUPPORTED, "there is no cuBLASLt here (%s): it comes with the CUDA toolkit, and with PyPI's "
						"nvidia-cublas; --matmul generated does without where it can",
			    s->text);
	loaded_from = l.path;
	if (!library_find(&l, "cublasLtGetVersion", &loaded.get_version))
		missing = "cublasLtGetVersion";
#define F(field, name, arguments)                           \
	if (!library_find(&l, name, &loaded.field))         \
		missing = name;
	CUBLAS_FUNCTIONS(F)
#undef F
	if (missing)
		return FAIL(STATUS_UNSUPPORTED, "%s has no %s: it is of another kind", l.path, missing);
	loaded.version = loaded.get_version();
	return OK;
}

Status cublas_open(Cublas **out)
{
	TRY(library_once(&once, load));
	Cublas *c = calloc(1, sizeof *c);
	if (!c)
		return FAIL(STATUS_MEMORY, "no memory for cuBLASLt");
	*c = loaded;
	int code = c->create(&c->handle);
	if (code) {
		free(c);
		return status_context(failed(code, "start"), "%s", loaded_from);
	}
	*out = c;
	return OK;
}

static void drop_layout(Cublas *c, Operand *o)
{
	if (o->layout)
		c->layout_destroy(o->layout);
	o->layout = NULL;
}

void cublas_close(Cublas *c)
{
	if (!c)
		return;
	for (CublasMatmul *m = c->first; m; m = m->next) {
		if (m->desc)
			c->desc_destroy(m->desc);
		drop_layout(c, &m->a);
		drop_layout(c, &m->b);
		drop_layout(c, &m->c);
		drop_layout(c, &m->d);
	}
	c->destroy(c->handle);
	free(c);
}

u64 cublas_version(const Cublas *c)
{
	return c->version;
}

const char *cublas_version_text(const Cublas *c, Arena *a)
{
	/* 130100 is 13.1.0; 12 counted the same way, 120805 being 12.8.5 */
	return arena_printf(a, "cuBLASLt %zu.%zu.%zu", c->version / 10000, c->version / 100 % 100, c->version % 100);
}

/* ---- description ---- */

static int type_of(u8 dtype)
{
	switch (dtype) {
	case PACKAGE_F32: return TYPE_F32;
	case PACKAGE_F64: return TYPE_F64;
	case PACKAGE_F16: return TYPE_F16;
	case PACKAGE_BF16: return TYPE_BF16;
	case PACKAGE_F8E4M3: return TYPE_F8E4M3;
	case PACKAGE_F8E5M2: return TYPE_F8E5M2;
	default: return -1;
	}
}

static bool rows_are_contiguous(const PackageMatrix *x)
{
	return x->column == 1;
}

/* A matrix of `rows` by `columns` (counting columns first, with the leading dimension between columns). */
static Status layout(Cublas *c, const PackageMatmul *m, const PackageMatrix *x, i64 rows, i64 columns, i64 ld, Operand *out)
{
	out->offset = x->offset;
	LT("describe a matrix", c->layout_create(&out->layout, type_of(x->dtype), (u64)rows, (u64)columns, MAX(ld, rows)));
	if (m->batch <= 1)
		return OK;
	i32 batch = (i32)m->batch;
	LT("describe a matrix", c->layout_set(out->layout, LAYOUT_BATCH, &batch, sizeof batch));
	LT("describe a matrix", c->layout_set(out->layout, LAYOUT_BATCH_STRIDE, &x->batch, sizeof x->batch));
	return OK;
}

/* An operand that the product wants as rows x columns, columns first; `transposed`: as it lies in memory it is
 * columns x rows. */
static Status operand(Cublas *c, const PackageMatmul *m, const PackageMatrix *x, i64 rows, i64 columns, bool transposed, i64 ld,
		      Operand *out)
{
	return transposed ? layout(c, m, x, columns, rows, ld, out) : layout(c, m, x, rows, columns, ld, out);
}

static bool possible(const PackageMatmul *m)
{
	bool wide = type_of(m->a.dtype) >= 0 && type_of(m->b.dtype) >= 0 && type_of(m->d.dtype) >= 0 && m->a.dtype == m->compute &&
		    m->b.dtype == m->compute && (!m->has_c || m->c.dtype == m->d.dtype) && !m->nscale;
	bool types = m->compute == PACKAGE_F8E4M3 ? package_matmul_in_f8(m) : wide;
	/* a bias along n is along the library's rows only where d is transposed */
	bool bias = !m->has_bias || rows_are_contiguous(&m->d);
	bool unit = (m->a.row == 1 || m->a.column == 1) && (m->b.row == 1 || m->b.column == 1) && (m->d.row == 1 || m->d.column == 1);
	bool alike = (!m->has_c || rows_are_contiguous(&m->c) == rows_are_contiguous(&m->d)) &&
		     (!m->has_aux || rows_are_contiguous(&m->aux) == rows_are_contiguous(&m->d));
	bool sum = !m->sum_of || (m->epilogue == PACKAGE_EPILOGUE_NONE && !m->has_bias && m->batch == 1);
	return types && bias && unit && alike && sum && m->batch >= 1 && m->batch <= INT32_MAX;
}

static Status epilogue(Cublas *c, const PackageMatmul *m, Desc *d)
{
	u32 value = 1;
	if (m->epilogue == PACKAGE_EPILOGUE_GELU)
		value = EPILOGUE_GELU | (m->has_aux ? EPILOGUE_AUX : 0);
	else if (m->epilogue == PACKAGE_EPILOGUE_DGELU)
		value = EPILOGUE_DGELU;
	if (m->has_bias && m->epilogue != PACKAGE_EPILOGUE_DGELU)
		value = value == 1 ? EPILOGUE_BIAS : value | EPILOGUE_BIAS;
	if (m->sum_of)
		value = (m->sum_of == PACKAGE_SUM_A) != rows_are_contiguous(&m->d) ? EPILOGUE_SUM_A : EPILOGUE_SUM_B;
	if (value == 1)
		return OK;
	LT("describe an epilogue", c->desc_set(d, EPILOGUE, &value, sizeof value));
	if (m->has_bias || m->sum_of) {
		i32 type = type_of(m->sum_of ? m->d.dtype : m->bias_dtype);
		LT("describe a bias", c->desc_set(d, BIAS_TYPE, &type, sizeof type));
	}
	if (m->has_aux) {
		i32 type = type_of(m->aux.dtype);
		i64 ld = rows_are_contiguous(&m->aux) ? m->aux.row : m->aux.column;
		LT("describe an epilogue", c->desc_set(d, AUX_TYPE, &type, sizeof type));
		LT("describe an epilogue", c->desc_set(d, AUX_LD, &ld, sizeof ld));
		if (m->batch > 1)
			LT("describe an epilogue", c->desc_set(d, AUX_BATCH_STRIDE, &m->aux.batch, sizeof m->aux.batch));
	}
	return OK;
}

/* With d's rows contiguous the library computes d' (n x m) = b' (n x k) a' (k x m), otherwise d = a b; of 8 bits both times the left one
 * transposed and the right one not ("TN"), as it wants them. Its fast accumulation of these stays off, which is the default: with it, sums stay
 * where tensor cores add, in some 14 bits (DeepSeek-V3, 2024, 3.3.2). */
static Status describe(Cublas *c, const PackageMatmul *m, CublasMatmul *out)
{
	bool swap = rows_are_contiguous(&m->d);
	const PackageMatrix *left = swap ? &m->b : &m->a, *right = swap ? &m->a : &m->b;
	i64 rows = swap ? m->n : m->m, columns = swap ? m->m : m->n;
	/* b (k x n) with contiguous rows is b' counting columns first; a (m x k) with contiguous columns is a */
	bool left_transposed = rows_are_contiguous(left) != swap, right_transposed = rows_are_contiguous(right) != swap;
	i64 left_ld = rows_are_contiguous(left) ? left->row : left->column;
	i64 right_ld = rows_are_contiguous(right) ? right->row : right->column;
	i64 d_ld = swap ? m->d.row : m->d.column, c_ld = swap ? m->c.row : m->c.column;
	out->wide = m->compute == PACKAGE_F64;
	LT("describe a product", c->desc_create(&out->desc, out->wide ? COMPUTE_F64 : COMPUTE_F32, out->wide ? TYPE_F64 : TYPE_F32));
	i32 ta = left_transposed, tb = right_transposed;
	LT("describe a product", c->desc_set(out->desc, TRANSPOSE_A, &ta, sizeof ta));
	LT("describe a product", c->desc_set(out->desc, TRANSPOSE_B, &tb, sizeof tb));
	TRY(operand(c, m, left, rows, m->k, left_transposed, left_ld, &out->a));
	TRY(operand(c, m, right, m->k, columns, right_transposed, right_ld, &out->b));
	TRY(layout(c, m, m->has_c ? &m->c : &m->d, rows, columns, m->has_c ? c_ld : d_ld, &out->c));
	TRY(layout(c, m, &m->d, rows, columns, d_ld, &out->d));
	return epilogue(c, m, out->desc);
}

Status cublas_matmul(Cublas *c, Arena *a, const PackageMatmul *m, CublasMatmul **out)
{
	*out = NULL;
	if (!possible(m))
		return OK;
	CublasMatmul *x = NEW(a, CublasMatmul);
	x->m = m;
	x->next = c->first;
	c->first = x;
	TRY(describe(c, m, x));
	*out = x;
	return OK;
}

/* Pointers are part of the description. */
static Status point(Cublas *c, const CublasMatmul *m, CudaAddress arena)
{
	u64 bias = arena + (m->m->sum_of ? m->m->sum : m->m->bias), aux = arena + m->m->aux.offset;
	if (m->m->has_bias || m->m->sum_of)
		LT("describe a bias", c->desc_set(m->desc, BIAS_POINTER, &bias, sizeof bias));
	if (m->m->has_aux)
		LT("describe an epilogue", c->desc_set(m->desc, AUX_POINTER, &aux, sizeof aux));
	for (int i = 0; i < m->m->nscale; i++) {
		u64 scale = arena + m->m->scale[i];
		LT("describe a scale", c->desc_set(m->desc, A_SCALE_POINTER + i, &scale, sizeof scale));
	}
	return OK;
}

/* ---- algorithms ---- */

/* Of an address that far from the start of the arena, which has all the alignment that one may want. */
static u32 alignment(u64 offset)
{
	u32 least = 256;
	while (offset % least)
		least /= 2;
	return least;
}

static Status prefer(Cublas *c, const CublasMatmul *m, u64 workspace, Preference *p)
{
	const Operand *operand[] = { &m->a, &m->b, &m->c, &m->d };
	u32 reductions = REDUCTIONS_IN_ORDER;
	LT("ask for algorithms", c->preference_set(p, MOST_WORKSPACE, &workspace, sizeof workspace));
	LT("ask for algorithms", c->preference_set(p, REDUCTIONS, &reductions, sizeof reductions));
	for (u32 i = 0; i < COUNT(operand); i++) {
		u32 bytes = alignment(operand[i]->offset);
		LT("ask for algorithms", c->preference_set(p, ALIGNMENT_A + (int)i, &bytes, sizeof bytes));
	}
	return OK;
}

Status cublas_propose(Cublas *c, const CublasMatmul *m, u64 workspace, CublasAlgorithm *out, u32 *n)
{
	Preference *p;
	Heuristic h[CUBLAS_PROPOSALS];
	int found = 0;
	*n = 0;
	LT("ask for algorithms", c->preference_create(&p));
	/* some epilogues are proposed only once their pointers are there: any address that is aligned will do */
	Status s = point(c, m, 1 << 20);
	if (!s)
		s = prefer(c, m, workspace, p);
	/* a failure says that there is none */
	if (!s && c->propose(c->handle, m->desc, m->a.layout, m->b.layout, m->c.layout, m->d.layout, p, CUBLAS_PROPOSALS, h, &found))
		found = 0;
	c->preference_destroy(p);
	for (int i = 0; i < found; i++) {
		if (h[i].state || h[i].workspace > workspace)
			continue;
		memcpy(out[*n].algorithm, h[i].algorithm, sizeof h[i].algorithm);
		out[(*n)++].workspace = h[i].workspace;
	}
	return s;
}

void cublas_choose(CublasMatmul *m, const CublasAlgorithm *chosen)
{
	m->chosen = *chosen;
}

const CublasAlgorithm *cublas_chosen(const CublasMatmul *m)
{
	return &m->chosen;
}

Status cublas_run(Cublas *c, const CublasMatmul *m, CudaAddress arena, CudaAddress workspace, u64 workspace_bytes,
		  CudaStream *stream)
{
	static const f32 one = 1, zero = 0;
	static const f64 wide_one = 1, wide_zero = 0;
	const void *alpha = m->wide ? (const void *)&wide_one : &one;
	const void *nothing = m->wide ? (const void *)&wide_zero : &zero, *beta = m->m->has_c ? alpha : nothing;
	TRY(point(c, m, arena));
#define AT(operand) ((void *)(uintptr_t)(arena + m->operand.offset))
	LT("multiply matrices", c->matmul(c->handle, m->desc, alpha, AT(a), m->a.layout, AT(b), m->b.layout, beta, AT(c), m->c.layout,
					  AT(d), m->d.layout, m->chosen.algorithm, (void *)(uintptr_t)workspace, workspace_bytes, stream));
#undef AT
	return OK;
}
