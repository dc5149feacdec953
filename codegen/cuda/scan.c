/* codegen/cuda/scan.c: SCAN kernels, running sums along rows, and SORT kernels, rows in order. A block takes a row.
 *
 * SCAN: a turn is `width` neighbouring elements in each thread; threads' sums are combined by a fixed tree, and what came
 * before is carried to the next turn. SORT: pairs of a key whose order is the elements' and of the index go through a bitonic
 * network, in shared memory where they fit; ties are broken by index, so that the order is the stable one. */
#include "codegen/cuda/reduce.h"

enum { MOST_THREADS = 256, SORT_THREADS = 512, SHARED_PAIRS = 4096 };

static u32 last_dim(const Kernel *k)
{
	return k->ndim - 1;
}

static void set_results(CudaBody *b, u32 which, const char *name, bool vector)
{
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_acc && (u32)b->k->inst.v[i].imm == which)
			cuda_set(b, (KVal){ i }, name, vector);
}

static void store_all(CudaBody *b)
{
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_store)
			cuda_store(b, i);
}

/* ---- SCAN ---- */

typedef struct Scan {
	i64 rows, vectors; /* of a row */
	u32 width, threads;
} Scan;

static Scan scan_of(const Kernel *k)
{
	Scan s = { .rows = cuda_extent_product(k, 0, last_dim(k)) };
	s.width = cuda_vector_width(k, last_dim(k), CUDA_WHOLE);
	s.vectors = k->dim[last_dim(k)].extent / s.width;
	for (s.threads = 32; s.threads < MOST_THREADS && s.threads < s.vectors;)
		s.threads *= 2;
	return s;
}

static CudaNeeds needs_scan(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	Scan s = scan_of(k);
	if (!s.rows || !s.vectors)
		return (CudaNeeds){ 0 };
	return (CudaNeeds){ .nphase = 1,
			    .launch = { { .grid = { (u32)s.rows, 1, 1 }, .block = { s.threads, 1, 1 } } } };
}

static void emit_scan(CudaText *t, const Kernel *k, const char *name)
{
	CudaNeeds needs = needs_scan(t->arch, k);
	if (!needs.nphase)
		return;
	Scan s = scan_of(k);
	u32 last = last_dim(k), w = s.width;
	DType of = (DType)k->inst.v[k->operand[0].i].dtype;
	/* floats are summed in f32, or f64; integers wrap */
	KInst sum = { .op = K_reduce, .reduce = REDUCE_sum, .dtype = (u8)(dtype_is_narrow_float(of) ? DT_f32 : of) };
	const char *type = cuda_value_type(of), *zero = cuda_literal(t->arena, 0, (DType)sum.dtype);
	const char *plus = arena_printf(t->arena, "Sum<%s>::of", type);
	CudaBody body = cuda_body(t, k), *b = &body;
	cuda_begin(b, name, 0, s.threads, 0, &needs);
	cuda_line(b, "const int row = blockIdx.x;");
	cuda_unflatten(b, 0, last, "row");
	cuda_hoist(b, (1u << last) - 1, cuda_wanted(b, &k->operand[0].i, 1));
	cuda_line(b, "__shared__ %s shared[%u];", type, s.threads / 32);
	cuda_line(b, "%s carry = %s;", type, zero);
	cuda_open(b, "for (int turn = 0; turn < %lld; turn += %u)", (long long)s.vectors, s.threads);
	cuda_line(b, "const int at = turn + (int)threadIdx.x;");
	const char *vector = k->reverse ? arena_printf(t->arena, "(%lld - at)", (long long)s.vectors - 1) : "at";
	cuda_line(b, "const int x = %s * %u;", vector, w);
	b->vector_dim = last;
	b->width = b->vector_align = w;
	b->coord[last] = "x";
	b->guard = s.vectors % s.threads ? arena_printf(t->arena, "at < %lld", (long long)s.vectors) : NULL;
	cuda_element(b, k->operand[0], 0);
	const char *order = k->reverse ? arena_printf(t->arena, "%u - j", w - 1) : "j";
	const char *x = cuda_known_element(b, k->operand[0], w > 1 ? order : "0");
	cuda_line(b, "%s sum = %s, total, run[%u];", type, zero, w);
	/* a constant operand counts beyond the row too, where nothing is stored */
	if (k->exclusive)
		cuda_line(b, "EACH(%u) run[%s] = sum, sum = %s(sum, %s);", w, order, plus, x);
	else
		cuda_line(b, "EACH(%u) run[%s] = sum = %s(sum, %s);", w, order, plus, x);
	cuda_line(b, "const %s before = %s(carry, pl_sum_before<%u>(sum, total, shared));", type, plus, s.threads / 32);
	const char *each = arena_printf(t->arena, "%s(before, run[%s])", plus, w > 1 ? "j" : "0");
	if (w > 1)
		cuda_line(b, "%s result[%u]; EACH(%u) result[j] = %s;", type, w, w, cuda_reduce_total(t->arena, &sum, each));
	else
		cuda_line(b, "const %s result = %s;", type, cuda_reduce_total(t->arena, &sum, each));
	cuda_line(b, "carry = %s(carry, total);", plus);
	set_results(b, 0, "result", true);
	store_all(b);
	cuda_close(b);
	cuda_end(b);
}

const CudaKernelClass cuda_scan = { .needs = needs_scan, .emit = emit_scan };

/* ---- SORT ---- */

/* Pairs of a row: a power of two. */
static i64 pairs_of(const Kernel *k)
{
	i64 n = 1;
	while (n < k->dim[last_dim(k)].extent)
		n *= 2;
	return n;
}

static u32 sort_threads(i64 pairs)
{
	u32 n = 32;
	while (n < SORT_THREADS && n < pairs / 2)
		n *= 2;
	return n;
}

static CudaNeeds needs_sort(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	i64 rows = cuda_extent_product(k, 0, last_dim(k)), pairs = pairs_of(k);
	if (!rows || !k->dim[last_dim(k)].extent)
		return (CudaNeeds){ 0 };
	CudaNeeds n = { .nphase = 1 };
	n.launch[0] = (CudaLaunch){ .grid = { (u32)rows, 1, 1 }, .block = { sort_threads(pairs), 1, 1 } };
	if (pairs > SHARED_PAIRS)
		n.workspace = (u64)rows * (u64)pairs * 12;
	return n;
}

static void emit_sort(CudaText *t, const Kernel *k, const char *name)
{
	CudaNeeds needs = needs_sort(t->arch, k);
	if (!needs.nphase)
		return;
	t->preamble |= PREAMBLE_ORDER;
	u32 last = last_dim(k), threads = needs.launch[0].block[0];
	i64 n = k->dim[last].extent, pairs = pairs_of(k), rows = cuda_extent_product(k, 0, last);
	const char *type = cuda_value_type((DType)k->inst.v[k->operand[0].i].dtype);
	CudaBody body = cuda_body(t, k), *b = &body;
	cuda_begin(b, name, 0, threads, 0, &needs);
	cuda_line(b, "const int row = blockIdx.x;");
	cuda_unflatten(b, 0, last, "row");
	if (needs.workspace) {
		cuda_line(b, "u64 *key = (u64 *)workspace + (i64)row * %lld;", (long long)pairs);
		cuda_line(b, "u32 *item = (u32 *)(workspace + %lldll) + (i64)row * %lld;", (long long)(rows * pairs * 8),
			  (long long)pairs);
	} else {
		cuda_line(b, "__shared__ u64 key[%lld];", (long long)pairs);
		cuda_line(b, "__shared__ u32 item[%lld];", (long long)pairs);
	}
	u32 mark = cuda_mark(b);
	cuda_open(b, "for (int i = threadIdx.x; i < %lld; i += %u)", (long long)pairs, threads);
	cuda_line(b, "key[i] = ~0ull;"); /* what is beyond the row is last: its index is the greatest */
	cuda_line(b, "item[i] = i;");
	cuda_open(b, "if (i < %lld)", (long long)n);
	b->coord[last] = "i";
	cuda_line(b, "key[i] = %spl_order(%s);", k->descending ? "~" : "", cuda_scalar(b, k->operand[0]));
	cuda_close(b);
	cuda_close(b);
	cuda_release(b, mark);
	cuda_line(b, "pl_sort_block(key, item, %lld);", (long long)pairs);
	cuda_open(b, "for (int i = threadIdx.x; i < %lld; i += %u)", (long long)n, threads);
	cuda_line(b, "const int index = item[i];");
	cuda_line(b, "%s value;", type);
	cuda_open(b, "%s", "");
	b->coord[last] = "index";
	cuda_line(b, "value = %s;", cuda_scalar(b, k->operand[0]));
	cuda_close(b);
	cuda_release(b, mark);
	b->coord[last] = "i";
	set_results(b, 0, "value", false);
	set_results(b, 1, "index", false);
	store_all(b);
	cuda_close(b);
	cuda_end(b);
}

const CudaKernelClass cuda_sort = { .needs = needs_sort, .emit = emit_sort };
