/* codegen/cuda/library.c: which DOT kernels cuBLASLt can run whole.
 *
 * An operand must be a plain load whose BATCH, M, N and K dimensions each fold into one (strides nest). Where rows do
 * not nest, and there is no other batch, the outer ones may be the batch. The epilogue is recognised by its structure:
 * sums are taken apart into terms and products into factors, so that no order of writing matters, and what is left must
 * be exactly acc [+ bias] [+ c], gelu of that, or acc times gelu' of a load; or acc alone, and beside it an operand's sum
 * over K as it is. The pairs of types are those that cuBLASLt documents: bias, c, aux and that sum have the result's type.
 *
 * Operands of 8 bits are scaled, and in place of acc stands acc times one number or two, of f32, that the body loads: the library takes
 * their addresses. A number that the body works out is in no memory, so that such a kernel is generated code alone, as one is whose
 * bias is f32, which beside 8 bits the library adds as bf16 or f16 (package_matmul_in_f8 says what else it wants). */
#include "codegen/cuda/library.h"

#include <math.h>
#include <string.h>

enum { GROUP_BATCH, GROUP_M, GROUP_N, GROUP_K, GROUPS, TERMS = 8 };

/* ---- dimensions ---- */

/* Dimensions that are taken as one, the last fastest; those of one element are left out. */
typedef struct Group {
	u32 n, dim[KERNEL_DIMS];
	i64 extent;
} Group;

static void group_dims(const Kernel *k, Group *g)
{
	for (u32 d = 0; d < k->ndim; d++) {
		DimRole role = k->dim[d].role;
		Group *to = &g[role == DIM_BATCH ? GROUP_BATCH : role == DIM_M ? GROUP_M : role == DIM_N ? GROUP_N : GROUP_K];
		if (k->dim[d].extent != 1)
			to->dim[to->n++] = d;
	}
	for (u32 i = 0; i < GROUPS; i++) {
		g[i].extent = 1;
		for (u32 j = 0; j < g[i].n; j++)
			g[i].extent *= k->dim[g[i].dim[j]].extent;
	}
}

/* Moves the first `n` of rows' (or columns') dimensions to the batch. */
static void move_to_batch(const Kernel *k, Group *g, u32 from, u32 n)
{
	Group *to = &g[GROUP_BATCH], *of = &g[from];
	for (u32 i = 0; i < n; i++) {
		i64 extent = k->dim[of->dim[i]].extent;
		to->dim[to->n++] = of->dim[i];
		to->extent *= extent;
		of->extent /= extent;
	}
	of->n -= n;
	memmove(of->dim, of->dim + n, of->n * sizeof *of->dim);
}

/* The stride along a group, if the access walks it in even steps. */
static bool fold(const Kernel *k, const Group *g, const Access *a, i64 *stride)
{
	*stride = g->n ? a->stride[g->dim[g->n - 1]] : 0;
	i64 extent = 1;
	for (u32 i = g->n; i-- > 0;) {
		if (a->stride[g->dim[i]] != *stride * extent)
			return false;
		extent *= k->dim[g->dim[i]].extent;
	}
	return true;
}

static const Access *plain_load(const Kernel *k, KVal v)
{
	const KInst *in = &k->inst.v[v.i];
	return in->op == K_load && !in->in[0].i && !in->access->ndynamic ? in->access : NULL;
}

/* An access as a matrix of `rows` by `columns` groups; it must not move along the fourth. */
static bool matrix(const Kernel *k, const Group *g, const Access *a, u32 rows, u32 columns, PackageMatrix *out)
{
	DType d = k->slot.v[a->slot].dtype;
	i64 row, column, batch, other;
	u32 none = GROUP_M + GROUP_N + GROUP_K - rows - columns;
	if (!fold(k, &g[rows], a, &row) || !fold(k, &g[columns], a, &column) || !fold(k, &g[GROUP_BATCH], a, &batch) ||
	    !fold(k, &g[none], a, &other) || other != 0)
		return false;
	i64 R = g[rows].extent, C = g[columns].extent;
	/* of an extent of one the stride is what we like */
	if (C == 1 || column == 1) {
		column = 1;
		row = R == 1 ? C : row;
		if (row < C)
			return false;
	} else if (R == 1 || row == 1) {
		row = 1;
		if (column < R)
			return false;
	} else {
		return false;
	}
	*out = (PackageMatrix){ .offset = (u64)a->offset * dtype_info[d].bytes, .dtype = (u8)d, .row = row,
				.column = column, .batch = batch };
	return a->offset >= 0 && batch >= 0;
}

/* ---- the epilogue ---- */

/* A kernel's body. Products of operands that were scaled to the range of 8 bits are multiplied with what undoes that, before anything else:
 * `scaled` is that product of the sums and numbers that are loaded, where there is one. */
typedef struct Body {
	const Kernel *k;
	KVal scaled;
} Body;

static const KInst *inst_of(const Body *b, KVal v)
{
	return &b->k->inst.v[v.i];
}

static bool is_scalar(const Body *b, KVal v, Scalar s)
{
	const KInst *in = inst_of(b, v);
	return in->op == K_scalar && in->scalar == (u8)s && in->dtype == DT_f32;
}

static bool is_constant(const Body *b, KVal v, f64 x)
{
	const KInst *in = inst_of(b, v);
	return in->op == K_const && fabs(in->imm - x) <= 1e-6 * fabs(x);
}

static bool is_sums(const Body *b, KVal v)
{
	const KInst *in = inst_of(b, v);
	return in->op == K_acc && in->imm == 0 && in->dtype == DT_f32;
}

/* What the epilogue is of. */
static bool is_result(const Body *b, KVal v)
{
	return b->scaled.i ? v.i == b->scaled.i : is_sums(b, v);
}

/* Leaves of a tree of additions, or of products. */
typedef struct Leaves {
	u32 n;
	KVal v[TERMS];
	f64 constant; /* of a product: its constant factors */
	bool too_many;
} Leaves;

static void collect(const Body *b, KVal v, Scalar s, Leaves *out)
{
	const KInst *in = inst_of(b, v);
	if (is_scalar(b, v, s) && v.i != b->scaled.i) {
		collect(b, in->in[0], s, out);
		collect(b, in->in[1], s, out);
	} else if (s == S_mul && in->op == K_const) {
		out->constant *= in->imm;
	} else if (out->n == TERMS) {
		out->too_many = true;
	} else {
		out->v[out->n++] = v;
	}
}

static Leaves leaves(const Body *b, KVal v, Scalar s)
{
	Leaves l = { .constant = 1 };
	collect(b, v, s, &l);
	if (l.too_many)
		l.n = 0;
	return l;
}

static bool near(f64 a, f64 b)
{
	return fabs(a - b) <= 1e-6 * fabs(b);
}

/* constant * x^n? */
static bool is_power(const Body *b, KVal v, KVal x, u32 n, f64 constant)
{
	Leaves l = leaves(b, v, S_mul);
	bool all = l.n == n && near(l.constant, constant);
	for (u32 i = 0; i < l.n; i++)
		all &= l.v[i].i == x.i;
	return all;
}

/* a + b in either order, by two tests of a value against x. */
typedef bool Test(const Body *b, KVal v, KVal x);
static bool is_sum(const Body *b, KVal v, KVal x, Test *p, Test *q)
{
	if (!is_scalar(b, v, S_add))
		return false;
	const KInst *in = inst_of(b, v);
	return (p(b, in->in[0], x) && q(b, in->in[1], x)) || (p(b, in->in[1], x) && q(b, in->in[0], x));
}

static const f64 SQRT_2_PI = 0.79788456080286541, CUBE = 0.044715;

static bool is_x(const Body *b, KVal v, KVal x)
{
	(void)b;
	return v.i == x.i;
}

static bool is_one(const Body *b, KVal v, KVal x)
{
	(void)x;
	return is_constant(b, v, 1);
}

static bool is_cubic(const Body *b, KVal v, KVal x)
{
	return is_power(b, v, x, 3, CUBE);
}

static bool is_bent(const Body *b, KVal v, KVal x) /* x + 0.044715 x^3 */
{
	return is_sum(b, v, x, is_x, is_cubic);
}

static bool is_tanh(const Body *b, KVal v, KVal x)
{
	if (!is_scalar(b, v, S_tanh))
		return false;
	Leaves l = leaves(b, inst_of(b, v)->in[0], S_mul);
	return l.n == 1 && near(l.constant, SQRT_2_PI) && is_bent(b, l.v[0], x);
}

static bool is_tanh_plus_one(const Body *b, KVal v, KVal x)
{
	return is_sum(b, v, x, is_tanh, is_one);
}

/* gelu(x): 0.5 x (1 + tanh(..)); sets x. */
static bool is_gelu(const Body *b, KVal v, KVal *x)
{
	Leaves l = leaves(b, v, S_mul);
	if (l.n != 2 || !near(l.constant, 0.5))
		return false;
	for (u32 i = 0; i < 2; i++) {
		*x = l.v[i];
		if (is_tanh_plus_one(b, l.v[1 - i], *x))
			return true;
	}
	return false;
}

static bool is_half_tanh_plus_one(const Body *b, KVal v, KVal x)
{
	Leaves l = leaves(b, v, S_mul);
	return l.n == 1 && near(l.constant, 0.5) && is_tanh_plus_one(b, l.v[0], x);
}

static bool is_tanh_slope(const Body *b, KVal v, KVal x) /* 1 - tanh^2 */
{
	if (!is_scalar(b, v, S_sub) || !is_constant(b, inst_of(b, v)->in[0], 1))
		return false;
	Leaves l = leaves(b, inst_of(b, v)->in[1], S_mul);
	return l.n == 2 && l.v[0].i == l.v[1].i && near(l.constant, 1) && is_tanh(b, l.v[0], x);
}

static bool is_square_term(const Body *b, KVal v, KVal x)
{
	return is_power(b, v, x, 2, 3 * CUBE);
}

static bool is_bent_slope(const Body *b, KVal v, KVal x) /* 1 + 3 * 0.044715 x^2 */
{
	return is_sum(b, v, x, is_square_term, is_one);
}

static bool is_slope_term(const Body *b, KVal v, KVal x)
{
	Leaves l = leaves(b, v, S_mul);
	u32 seen = 0;
	for (u32 i = 0; i < l.n; i++)
		seen += l.v[i].i == x.i ? 1u : is_tanh_slope(b, l.v[i], x) ? 16u : is_bent_slope(b, l.v[i], x) ? 256u : 0;
	return l.n == 3 && seen == 0x111 && near(l.constant, 0.5 * SQRT_2_PI);
}

/* A load, widened to f32 or f32 itself. */
static KVal loaded(const Body *b, KVal v)
{
	const KInst *in = inst_of(b, v);
	if (in->op == K_cast && in->dtype == DT_f32)
		v = in->in[0];
	return plain_load(b->k, v) ? v : (KVal){ 0 };
}

/* acc * gelu'(x), x a load: sets x. */
static bool is_gelu_grad(const Body *b, KVal v, KVal *x)
{
	Leaves l = leaves(b, v, S_mul);
	if (l.n != 2 || !near(l.constant, 1))
		return false;
	u32 acc = is_result(b, l.v[0]) ? 0 : 1;
	if (!is_result(b, l.v[acc]))
		return false;
	/* the candidates for x are the body's loads */
	for (u32 i = 1; i < b->k->inst.n; i++) {
		*x = (KVal){ i };
		if (loaded(b, *x).i && is_sum(b, l.v[1 - acc], *x, is_half_tanh_plus_one, is_slope_term))
			return true;
	}
	return false;
}

/* The same number for all elements, f32. */
static bool is_one_number(const Body *b, KVal v)
{
	const Access *a = plain_load(b->k, v);
	bool one = a && b->k->slot.v[a->slot].dtype == DT_f32 && a->offset >= 0;
	for (u32 d = 0; one && d < b->k->ndim; d++)
		one = a->stride[d] == 0 || b->k->dim[d].extent == 1;
	return one;
}

/* v = sums times one or two numbers that are loaded? How many; 0: it is not. */
static u32 is_scaled(const Body *b, KVal v, KVal number[2])
{
	Leaves l = leaves(b, v, S_mul);
	u32 n = 0, sums = 0;
	for (u32 i = 0; i < l.n; i++)
		if (is_sums(b, l.v[i]))
			sums++;
		else if (n == 2 || !is_one_number(b, l.v[i]))
			return 0;
		else
			number[n++] = l.v[i];
	return sums == 1 && l.constant == 1 ? n : 0;
}

typedef struct Match {
	Body body;
	Group g[GROUPS];
	DType to; /* of the result */
	u32 nscale;
	KVal scale[2]; /* what body.scaled has beside sums */
	LibraryMatmul *out;
} Match;

/* Only operands of 8 bits have scales that are the library's. The last product of the kind is the whole of it. */
static void find_scaled(Match *m)
{
	Body plain = { .k = m->body.k };
	for (u32 i = 1; dtype_is_f8(plain.k->compute) && i < plain.k->inst.n; i++) {
		KVal number[2] = { { 0 } };
		u32 n = is_scaled(&plain, (KVal){ i }, number);
		if (!n)
			continue;
		m->body.scaled = (KVal){ i };
		m->nscale = n;
		memcpy(m->scale, number, sizeof number);
	}
}

/* As the result's; beside operands of 8 bits and a result of f32, bf16. */
static DType bias_type(const Match *m)
{
	return dtype_is_f8(m->body.k->compute) && m->to == DT_f32 ? DT_bf16 : m->to;
}

/* v = acc [+ bias] [+ c]? */
static bool match_sum(Match *m, KVal v)
{
	const Body *b = &m->body;
	const Kernel *k = b->k;
	PackageMatmul *p = &m->out->matmul;
	Leaves l = leaves(b, v, S_add);
	bool acc = false;
	for (u32 i = 0; i < l.n; i++) {
		if (is_result(b, l.v[i]) && !acc) {
			acc = true;
			continue;
		}
		KVal load = loaded(b, l.v[i]);
		if (!load.i)
			return false;
		const Access *a = inst_of(b, load)->access;
		DType type = k->slot.v[a->slot].dtype;
		i64 rows = 0, columns = 0, batch = 0;
		bool folds = fold(k, &m->g[GROUP_M], a, &rows) && fold(k, &m->g[GROUP_N], a, &columns) &&
			     fold(k, &m->g[GROUP_BATCH], a, &batch);
		bool vector = folds && (rows == 0 && batch == 0) && (columns == 1 || m->g[GROUP_N].extent == 1);
		bool is_row = m->g[GROUP_M].extent == 1 && m->g[GROUP_BATCH].extent == 1;
		if (vector && type == bias_type(m) && !p->has_bias && !(is_row && p->has_c)) {
			p->has_bias = true;
			p->bias = (u64)a->offset * dtype_info[type].bytes;
			p->bias_dtype = (u8)type;
			m->out->bias = a->slot;
			if (a->offset < 0)
				return false;
		} else if (type == m->to && !p->has_c && matrix(k, m->g, a, GROUP_M, GROUP_N, &p->c)) {
			p->has_c = true;
			m->out->c = a->slot;
			bool one_order = (p->c.column == 1) == (p->d.column == 1);
			if (!one_order || (p->c.batch == 0 && m->g[GROUP_BATCH].extent != 1))
				return false;
		} else {
			return false;
		}
	}
	return acc && (!p->has_bias || p->d.column == 1);
}

/* The value of the result's store, without the cast that rounds it. */
static KVal rounded(const Body *b, const KInst *store)
{
	const KInst *in = inst_of(b, store->in[0]);
	return in->op == K_cast && in->dtype == b->k->slot.v[store->access->slot].dtype ? in->in[0] : store->in[0];
}

/* Is the store an operand's sum over K, dense? */
static bool match_sum_beside(Match *m, const KInst *store)
{
	const Body *b = &m->body;
	const Kernel *k = b->k;
	PackageMatmul *p = &m->out->matmul;
	const KInst *acc = inst_of(b, store->in[0]);
	if (acc->op != K_acc || acc->imm == 0 || acc->dtype != (u8)m->to || k->slot.v[store->access->slot].dtype != m->to)
		return false;
	bool of_a = acc->imm == 1;
	const Group *mine = &m->g[of_a ? GROUP_M : GROUP_N], *other = &m->g[of_a ? GROUP_N : GROUP_M];
	i64 along, across;
	if (m->g[GROUP_BATCH].extent != 1 || !fold(k, mine, store->access, &along) || !fold(k, other, store->access, &across))
		return false;
	p->sum_of = of_a ? PACKAGE_SUM_A : PACKAGE_SUM_B;
	p->sum = (u64)store->access->offset * dtype_info[m->to].bytes;
	m->out->sum = store->access->slot;
	return store->access->offset >= 0 && across == 0 && (along == 1 || mine->extent == 1);
}

/* `more`: the second store, or NULL. */
static bool match_epilogue(Match *m, const KInst *store, const KInst *more)
{
	const Body *b = &m->body;
	const Kernel *k = b->k;
	PackageMatmul *p = &m->out->matmul;
	KVal v = rounded(b, store), x;
	if (is_gelu(b, v, &x)) {
		p->epilogue = PACKAGE_EPILOGUE_GELU;
		if (more) {
			p->has_aux = true;
			m->out->aux = more->access->slot;
			if (rounded(b, more).i != x.i || !matrix(k, m->g, more->access, GROUP_M, GROUP_N, &p->aux))
				return false;
		}
		return match_sum(m, x) && p->d.column == 1 && (!more || (p->aux.column == 1 && p->aux.dtype == m->to));
	}
	if (more)
		return is_result(b, v) && match_sum_beside(m, more);
	if (is_gelu_grad(b, v, &x)) {
		const Access *a = inst_of(b, loaded(b, x))->access;
		p->epilogue = PACKAGE_EPILOGUE_DGELU;
		p->has_aux = true;
		m->out->aux = a->slot;
		return matrix(k, m->g, a, GROUP_M, GROUP_N, &p->aux) && p->aux.column == 1 && p->d.column == 1 &&
		       p->aux.dtype == m->to;
	}
	if (!match_sum(m, v))
		return false;
	p->epilogue = p->has_bias ? PACKAGE_EPILOGUE_BIAS : PACKAGE_EPILOGUE_NONE;
	return true;
}

static bool match_product(Match *m)
{
	const Kernel *k = m->body.k;
	PackageMatmul *p = &m->out->matmul;
	const Access *a = plain_load(k, k->operand[0]), *b = plain_load(k, k->operand[1]);
	p->m = m->g[GROUP_M].extent;
	p->n = m->g[GROUP_N].extent;
	p->k = m->g[GROUP_K].extent;
	p->batch = m->g[GROUP_BATCH].extent;
	m->out->a = a->slot;
	m->out->b = b->slot;
	p->nscale = (u8)m->nscale;
	for (u32 i = 0; i < m->nscale; i++) {
		const Access *s = inst_of(&m->body, m->scale[i])->access;
		p->scale[i] = (u64)s->offset * dtype_info[DT_f32].bytes;
		m->out->scale[i] = s->slot;
	}
	return matrix(k, m->g, a, GROUP_M, GROUP_K, &p->a) && matrix(k, m->g, b, GROUP_K, GROUP_N, &p->b);
}

/* Types that the library gives for operands that are multiplied in `compute`. */
static bool gives(DType compute, DType to)
{
	return to == DT_f32 || (dtype_is_f8(compute) ? to == DT_bf16 || to == DT_f16 : to == compute && to != DT_f64);
}

/* With the dimensions grouped as they are in m->g. */
static bool match(Match *m, const KInst *first, const KInst *second)
{
	const Kernel *k = m->body.k;
	for (u32 swap = 0; swap <= (second != NULL); swap++) {
		*m->out = (LibraryMatmul){ 0 };
		m->out->matmul.compute = (u8)k->compute;
		const KInst *store = swap ? second : first, *more = swap ? first : second;
		const Access *d = store->access;
		m->to = k->slot.v[d->slot].dtype;
		m->out->d = d->slot;
		if (gives(k->compute, m->to) && !d->ndynamic && match_product(m) &&
		    matrix(k, m->g, d, GROUP_M, GROUP_N, &m->out->matmul.d) && match_epilogue(m, store, more) &&
		    (!dtype_is_f8(k->compute) || package_matmul_in_f8(&m->out->matmul)))
			return true;
	}
	return false;
}

/* What is read must not lie where something is written, but for c in the result's place. */
static bool safe(const Kernel *k, const LibraryMatmul *l)
{
	const PackageMatmul *p = &l->matmul;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->op != K_load)
			continue;
		u32 s = in->access->slot;
		bool c = p->has_c && l->c == s && p->c.offset == p->d.offset && p->c.row == p->d.row &&
			 p->c.column == p->d.column && p->c.batch == p->d.batch;
		if (!c && (k->slot.v[s].written || (k->slot.v[l->d].may_alias >> s & 1)))
			return false;
	}
	return !p->has_aux || !k->slot.v[l->aux].written || !k->slot.v[l->aux].may_alias;
}

/* Plain loads, as the products take them. */
static bool takes_operands(const Kernel *k)
{
	for (u32 i = 0; i < 2; i++) {
		const Access *a = plain_load(k, k->operand[i]);
		if (!a || k->slot.v[a->slot].dtype != kernel_operand_dtype(k, i))
			return false;
	}
	return k->compute == DT_bf16 || k->compute == DT_f16 || k->compute == DT_f32 || k->compute == DT_f8e4m3;
}

bool cuda_library_matmul(const Kernel *k, LibraryMatmul *out)
{
	if (k->class != KERNEL_DOT || !takes_operands(k))
		return false;
	const KInst *store[2] = { 0 };
	u32 nstore = 0;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->op != K_store)
			continue;
		if (nstore == 2 || in->in[1].i || in->access->ndynamic)
			return false;
		store[nstore++] = in;
	}
	if (!nstore)
		return false;
	Group g[GROUPS] = { 0 };
	group_dims(k, g);
	for (u32 i = 0; i < GROUPS; i++)
		if (g[i].extent <= 0)
			return false;
	/* rows, or columns, whose outer dimensions do not nest can be a batch where there is no other */
	for (u32 from = GROUP_M; from <= GROUP_N; from++)
		for (u32 n = from == GROUP_M ? 0 : 1; n <= (g[GROUP_BATCH].n ? 0 : g[from].n); n++) {
			Match m = { .body = { .k = k }, .out = out };
			memcpy(m.g, g, sizeof g);
			find_scaled(&m);
			move_to_batch(k, m.g, from, n);
			if (match(&m, store[0], store[1]) && safe(k, out))
				return true;
		}
	*out = (LibraryMatmul){ 0 };
	return false;
}

void cuda_library_keep_apart(Kernel *k)
{
	LibraryMatmul l;
	if (k->class != KERNEL_DOT || cuda_library_matmul(k, &l))
		return;
	Arena tmp = ARENA("apart");
	u64 *was = NEWN(&tmp, u64, k->slot.n + 1);
	for (u32 i = 0; i < k->slot.n; i++) {
		was[i] = k->slot.v[i].may_alias;
		k->slot.v[i].may_alias = 0;
	}
	bool found = cuda_library_matmul(k, &l);
	for (u32 i = 0; !found && i < k->slot.n; i++)
		k->slot.v[i].may_alias = was[i];
	arena_free(&tmp);
}
