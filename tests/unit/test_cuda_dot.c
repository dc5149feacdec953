/* DOT, GROUPED and GROUPED_WEIGHTS kernels on CUDA against kernel_eval: sizes around the edges of tiles, both
 * orientations of both operands, batches, several dimensions of a role, prologues, epilogues, every precision (of 8 bits
 * operands of two types), K split, groups that are empty or leave rows out. What ptxas says of them: no spills; that tensor cores are used. */
#include "codegen/cuda/dot.h"
#include "cuda_run.h"

typedef struct Shape {
	i64 B, M, N, K;
	u32 turned;          /* 1: a is [K, M]; 2: b is [N, K] */
	DType from, compute; /* of the operands in memory */
} Shape;

typedef struct Product {
	Kernel *k;
	Shape s;
	KVal a, b;
	Access out; /* [B, M, N], of no slot yet */
} Product;

/* b in memory is of the type `right`. */
static Product mixed_kernel(Suite *s, const char *name, Shape z, DType right)
{
	Product d = { .k = suite_kernel(s, KERNEL_DOT, name), .s = z };
	Kernel *k = d.k;
	k->name = arena_printf(&s->arena, "%s %lldx%lldx%lldx%lld turned %u %s %s %s", name, (long long)z.B, (long long)z.M,
			       (long long)z.N, (long long)z.K, z.turned, dtype_info[z.from].name, dtype_info[right].name,
			       dtype_info[z.compute].name);
	k->compute = z.compute;
	kb_dim(k, DIM_BATCH, z.B);
	kb_dim(k, DIM_M, z.M);
	kb_dim(k, DIM_N, z.N);
	kb_dim(k, DIM_K, z.K);
	bool a = z.turned & 1, b = z.turned & 2;
	d.a = kb_load(k, ACCESS(kb_slot(k, z.from, z.B * z.M * z.K), 0, z.M * z.K, a ? 1 : z.K, 0, a ? z.M : 1), NO);
	d.b = kb_load(k, ACCESS(kb_slot(k, right, z.B * z.K * z.N), 0, z.K * z.N, 0, b ? z.K : 1, b ? 1 : z.N), NO);
	d.out = ACCESS(0, 0, z.M * z.N, z.N, 1, 0);
	return d;
}

static Product dot_kernel(Suite *s, const char *name, Shape z)
{
	return mixed_kernel(s, name, z, z.from);
}

static KVal sum_of(const Product *d)
{
	return kb_acc(d->k, d->s.compute == DT_f64 ? DT_f64 : DT_f32, 0);
}

static void store(Product *d, DType t, KVal x)
{
	Access at = d->out;
	at.slot = kb_slot(d->k, t, d->s.B * d->s.M * d->s.N);
	kb_store(d->k, at, kb_cast(d->k, t, x), NO);
}

/* A sum of K products of numbers up to 1 is of size sqrt(K) / 3. A sum in f32 is off by half a unit each time; tensor
 * cores cut off instead, each 8 products, always to the same side. */
static f64 ulps_of(const Shape *z, DType out)
{
	f64 one = 4 + 2 * sqrt((f64)z->K);
	return dtype_is_narrow_float(out) ? 2 : z->compute == DT_f32 || z->compute == DT_f64 ? one : one + (f64)z->K / 4;
}

static Case *finish(Suite *s, Product *d, DType out)
{
	d->k->operand[0] = d->a;
	d->k->operand[1] = d->b;
	d->k->noperand = 2;
	return suite_add(s, d->k, ulps_of(&d->s, out), MAX(1, sqrt((f64)d->s.K) / 3));
}

static void plain(Suite *s, Shape z, DType out)
{
	Product d = dot_kernel(s, "plain", z);
	store(&d, out, sum_of(&d));
	finish(s, &d, out);
}

/* Sizes that no vector divides. */
static void edge_cases(Suite *s)
{
	static const i64 size[][3] = { { 1, 1, 1 }, { 7, 33, 129 }, { 129, 7, 33 }, { 33, 257, 1 }, { 65, 66, 67 } };
	for (u32 i = 0; i < COUNT(size); i++)
		plain(s, (Shape){ 1, size[i][0], size[i][1], size[i][2], i % 4, DT_bf16, DT_bf16 }, DT_f32);
	plain(s, (Shape){ 3, 20, 35, 50, 3, DT_f16, DT_f16 }, DT_f16);
}

/* Operands that are copied: by cp.async, and by the bulk copy engine. */
static void aligned_cases(Suite *s)
{
	for (u32 t = 0; t < 4; t++) {
		plain(s, (Shape){ 1, 64, 72, 456, t, DT_bf16, DT_bf16 }, DT_f32); /* more steps than stages */
		plain(s, (Shape){ 2, 72, 136, 40, t, DT_f16, DT_f16 }, DT_f16);
	}
	plain(s, (Shape){ 1, 264, 392, 24, 0, DT_bf16, DT_bf16 }, DT_bf16); /* more tiles than blocks */
	plain(s, (Shape){ 5, 64, 64, 424, 2, DT_bf16, DT_bf16 }, DT_f32);   /* both */
	plain(s, (Shape){ 1, 8, 80, 160, 0, DT_bf16, DT_bf16 }, DT_bf16);
	plain(s, (Shape){ 1, 160, 16, 72, 3, DT_bf16, DT_bf16 }, DT_bf16);
}

/* K is split, and the body runs in a second phase. */
static void split_cases(Suite *s)
{
	plain(s, (Shape){ 1, 64, 64, 1024, 1, DT_bf16, DT_bf16 }, DT_f32);
	plain(s, (Shape){ 2, 17, 30, 1900, 2, DT_bf16, DT_bf16 }, DT_bf16);
	plain(s, (Shape){ 1, 20, 24, 2000, 0, DT_f32, DT_f32 }, DT_f32);
	Product d = dot_kernel(s, "split with residual", (Shape){ 1, 16, 24, 2048, 0, DT_bf16, DT_bf16 });
	Access c = d.out;
	c.slot = kb_slot(d.k, DT_f32, 16 * 24);
	store(&d, DT_f32, kb_op(d.k, S_add, sum_of(&d), kb_load(d.k, c, NO)));
	finish(s, &d, DT_f32);
	for (u32 i = 0; i < s->cases.n; i++) {
		CudaArch arch = arch_named("sm_90a");
		if (cuda_dot.needs(&arch, s->cases.v[i].k).nphase != 2)
			fail_msg("K of %s is not split", s->cases.v[i].k->name);
	}
}

/* An operand's sum over K beside the product: in phases of its own, with a workspace where there are many rows, whether or not
 * the product has one. */
static void sums_cases(Suite *s)
{
	static const Shape shape[] = { { 1, 30, 41, 22, 0, DT_f32, DT_f32 },   { 1, 128, 72, 200, 1, DT_bf16, DT_bf16 },
				       { 2, 67, 72, 40, 2, DT_bf16, DT_bf16 }, { 1, 16, 24, 2048, 3, DT_bf16, DT_bf16 },
				       { 1, 64, 64, 1900, 1, DT_f32, DT_f32 }, { 1, 66, 34, 50, 0, DT_f32, DT_bf16 } };
	u32 cut = 0;
	for (u32 i = 0; i < COUNT(shape); i++)
		for (u32 which = 1; which <= 2; which++) {
			Product d = dot_kernel(s, which == 1 ? "sum of a" : "sum of b", shape[i]);
			i64 n = which == 1 ? shape[i].M : shape[i].N;
			store(&d, DT_f32, sum_of(&d));
			kb_store(d.k, ACCESS(kb_slot(d.k, DT_f32, shape[i].B * n), 0, n, which == 1, which == 2, 0), kb_acc(d.k, DT_f32, which), NO);
			finish(s, &d, DT_f32);
			CudaArch arch = arch_named("sm_80");
			CudaNeeds needs = cuda_dot.needs(&arch, d.k);
			assert_true(needs.sums && needs.nphase > needs.sums);
			cut += needs.sums > 1;
		}
	assert_true(cut && cut < s->cases.n);
}

/* CUDA cores. */
static void core_cases(Suite *s)
{
	for (u32 t = 0; t < 4; t++) {
		plain(s, (Shape){ 1, 130, 70, 37, t, DT_f32, DT_f32 }, DT_f32);
		plain(s, (Shape){ 2, 33, 36, 20, t, DT_f64, DT_f64 }, DT_f64);
	}
	plain(s, (Shape){ 1, 128, 256, 64, 0, DT_f32, DT_f32 }, DT_f32);
	plain(s, (Shape){ 1, 1, 50, 77, 2, DT_bf16, DT_f32 }, DT_f32);
}

static void prologue_cases(Suite *s)
{
	for (u32 t = 0; t < 4; t++) {
		Product d = dot_kernel(s, "operands cast", (Shape){ 1, 96, 136, 64, t, DT_f32, DT_bf16 });
		store(&d, DT_f32, sum_of(&d));
		finish(s, &d, DT_f32);
	}
	/* floats of 8 bits are read as bf16 or f16 */
	for (u32 t = 0; t < 4; t++) {
		plain(s, (Shape){ 1, 96, 136, 64, t, DT_f8e4m3, t & 1 ? DT_f16 : DT_bf16 }, DT_f32);
		plain(s, (Shape){ 2, 33, 40, 52, t, DT_f8e5m2, DT_bf16 }, DT_f8e4m3);
	}
	/* one is copied and the other is evaluated */
	Product d = dot_kernel(s, "activation", (Shape){ 1, 130, 64, 104, 2, DT_bf16, DT_bf16 });
	KVal bias = kb_load(d.k, ACCESS(kb_slot(d.k, DT_f32, 104), 0, 0, 0, 0, 1), NO);
	KVal x = kb_op(d.k, S_add, kb_cast(d.k, DT_f32, d.a), bias);
	d.a = kb_cast(d.k, DT_bf16, kb_op(d.k, S_max, x, kb_const(d.k, DT_f32, 0.25)));
	store(&d, DT_f32, sum_of(&d));
	finish(s, &d, DT_f32);
	/* where there is nothing, the value is not 0 */
	d = dot_kernel(s, "exponential", (Shape){ 1, 20, 30, 45, 0, DT_f32, DT_f32 });
	d.a = kb_op(d.k, S_exp, d.a, NO);
	d.b = kb_op(d.k, S_exp, d.b, NO);
	store(&d, DT_f32, sum_of(&d));
	Case *c = finish(s, &d, DT_f32);
	c->scale = 45 * 3;
	/* rows that are gathered */
	d = dot_kernel(s, "gathered", (Shape){ 1, 70, 64, 96, 2, DT_bf16, DT_bf16 });
	KVal row = kb_load(d.k, ACCESS(kb_slot(d.k, DT_i32, 70), 0, 0, 1, 0, 0), NO);
	Access at = ACCESS(kb_slot(d.k, DT_bf16, 10 * 96), 0, 0, 0, 0, 1);
	at.ndynamic = 1;
	at.dynamic[0].index = kb_op(d.k, S_min, kb_op(d.k, S_max, row, kb_const(d.k, DT_i32, 0)), kb_const(d.k, DT_i32, 9));
	at.dynamic[0].stride = 96;
	d.a = kb_load(d.k, at, NO);
	store(&d, DT_f32, sum_of(&d));
	finish(s, &d, DT_f32);
}

static void epilogue_cases(Suite *s)
{
	static const Shape shape[] = { { 1, 128, 256, 64, 2, DT_bf16, DT_bf16 },
				       { 2, 67, 72, 40, 0, DT_bf16, DT_bf16 },
				       { 1, 30, 41, 22, 0, DT_f32, DT_f32 } };
	for (u32 i = 0; i < COUNT(shape); i++) {
		/* bias, gelu's inside, a residual read and written in place, and two results */
		Product d = dot_kernel(s, "epilogue", shape[i]);
		Kernel *k = d.k;
		KVal bias = kb_load(k, ACCESS(kb_slot(k, DT_f32, shape[i].N), 0, 0, 0, 1, 0), NO);
		KVal x = kb_op(k, S_add, sum_of(&d), bias);
		KVal y = kb_op(k, S_mul, x, kb_op(k, S_tanh, kb_op(k, S_mul, x, kb_const(k, DT_f32, 0.25)), NO));
		store(&d, DT_f32, x);
		Access c = d.out;
		c.slot = kb_slot(k, DT_bf16, shape[i].B * shape[i].M * shape[i].N);
		KVal old = kb_cast(k, DT_f32, kb_load(k, c, NO));
		kb_store(k, c, kb_cast(k, DT_bf16, kb_op(k, S_add, y, old)), NO);
		/* above the diagonal alone */
		KVal above = kb_op(k, S_lt, kb_index(k, DT_i32, ACCESS(0, 0, 0, 1, 0, 0)),
				   kb_index(k, DT_i32, ACCESS(0, 0, 0, 0, 1, 0)));
		c.slot = kb_slot(k, DT_f32, shape[i].B * shape[i].M * shape[i].N);
		kb_store(k, c, x, above);
		finish(s, &d, DT_f32);
	}
}

/* Heads beside rows in memory: dimensions of a role that are not one. */
static void dimension_cases(Suite *s)
{
	for (u32 i = 0; i < 2; i++) {
		i64 H = 2, D = i ? 64 : 12, T = i ? 128 : 9, N = i ? 64 : 20;
		Kernel *k = suite_kernel(s, KERNEL_DOT, i ? "aligned dimensions" : "dimensions");
		k->compute = DT_bf16;
		kb_dim(k, DIM_M, 2);
		kb_dim(k, DIM_M, T);
		kb_dim(k, DIM_N, 3);
		kb_dim(k, DIM_N, N);
		kb_dim(k, DIM_K, H);
		kb_dim(k, DIM_K, D);
		/* a[2, H, T, D], b[3, H, D, N], out[3, 2, T, N] */
		u32 a = kb_slot(k, DT_bf16, 2 * H * T * D), b = kb_slot(k, DT_bf16, 3 * H * D * N);
		k->operand[0] = kb_load(k, ACCESS(a, 0, H * T * D, D, 0, 0, T * D, 1), NO);
		k->operand[1] = kb_load(k, ACCESS(b, 0, 0, 0, H * D * N, 1, D * N, N), NO);
		k->noperand = 2;
		u32 c = kb_slot(k, DT_f32, 6 * T * N);
		kb_store(k, ACCESS(c, 0, T * N, N, 2 * T * N, 1, 0, 0), kb_acc(k, DT_f32, 0), NO);
		Shape z = { .K = H * D, .compute = DT_bf16 };
		suite_add(s, k, ulps_of(&z, DT_f32), MAX(1, sqrt((f64)z.K) / 3));
	}
}

/* Offsets are drawn in order, from 0 to the rows: groups may be empty, and rows belong to none. */
static void grouped(Suite *s, bool weights, i64 G, i64 rows, i64 N, i64 inner, DType t)
{
	Kernel *k = suite_kernel(s, weights ? KERNEL_GROUPED_WEIGHTS : KERNEL_GROUPED, "");
	k->name = arena_printf(&s->arena, "grouped%s %lld %lld %lld %lld %s", weights ? " weights" : "", (long long)G,
			       (long long)rows, (long long)N, (long long)inner, dtype_info[t].name);
	k->compute = t;
	i64 M = weights ? inner : rows, K = weights ? rows : inner;
	kb_dim(k, DIM_G, G);
	kb_dim(k, DIM_M, M);
	kb_dim(k, DIM_N, N);
	kb_dim(k, DIM_K, K);
	u32 x = kb_slot(k, t, rows * inner), y = kb_slot(k, t, weights ? rows * N : G * inner * N);
	u32 offsets = kb_slot(k, DT_i32, G + 1);
	k->operand[0] = kb_load(k, weights ? ACCESS(x, 0, 0, 1, 0, inner) : ACCESS(x, 0, 0, inner, 0, 1), NO);
	k->operand[1] = kb_load(k, weights ? ACCESS(y, 0, 0, 0, 1, N) : ACCESS(y, 0, inner * N, 0, 1, N), NO);
	k->operand[2] = kb_load(k, ACCESS(offsets, 0, 1, 0, 0, 0), NO);
	k->operand[3] = kb_load(k, ACCESS(offsets, 1, 1, 0, 0, 0), NO);
	k->noperand = 4;
	DType sum = t == DT_f64 ? DT_f64 : DT_f32;
	u32 out = kb_slot(k, sum, weights ? G * M * N : M * N);
	kb_store(k, weights ? ACCESS(out, 0, M * N, N, 1, 0) : ACCESS(out, 0, 0, N, 1, 0), kb_acc(k, sum, 0), NO);
	Shape z = { .K = K, .compute = t };
	Case *c = suite_add(s, k, ulps_of(&z, sum), MAX(1, sqrt((f64)K) / 3));
	c->low[offsets] = 0;
	c->high[offsets] = (f64)rows;
	c->sorted[offsets] = true;
}

static void grouped_cases(Suite *s)
{
	for (u32 weights = 0; weights < 2; weights++) {
		grouped(s, weights, 3, 150, 40, 48, DT_bf16);
		grouped(s, weights, 9, 70, 17, 21, DT_bf16);
		grouped(s, weights, 1, 33, 64, 64, DT_f16);
		grouped(s, weights, 4, 90, 20, 36, DT_f32);
	}
}

/* On sm_90a: operands that are evaluated into the workspace, and then read by the bulk copy engine. */
static void packed_cases(Suite *s)
{
	prologue_cases(s);
	dimension_cases(s);
	/* one operand is the same for the batch; K is split too */
	Product d = dot_kernel(s, "a batch of one", (Shape){ 2, 64, 65, 1032, 0, DT_f32, DT_bf16 });
	d.b = kb_load(d.k, ACCESS(kb_slot(d.k, DT_f32, 65 * 1032), 0, 0, 0, 1, 65), NO);
	store(&d, DT_f32, sum_of(&d));
	finish(s, &d, DT_f32);
	u32 packed = 0;
	CudaArch arch = arch_named("sm_90a");
	for (u32 i = 0; i < s->cases.n; i++) {
		CudaNeeds n = cuda_dot.needs(&arch, s->cases.v[i].k);
		for (u32 m = 0; m < n.nmap; m++)
			packed += n.map[m].slot == NONE;
	}
	assert_true(packed >= 10);
}

static void test_packed(void **state)
{
	(void)state;
	DotLimits usual = dot_limits;
	dot_limits = (DotLimits){ .turns = 1 };
	Suite s = { 0 };
	packed_cases(&s);
	cuda_suite_run(&s, 11);
	dot_limits = usual;
}

/* On sm_90a: warpgroups that share a tile, as they do where K is long. */
static void test_shared(void **state)
{
	(void)state;
	DotLimits usual = dot_limits;
	dot_limits.turns = 0.01;
	Suite s = { 0 };
	aligned_cases(&s);
	epilogue_cases(&s);
	cuda_suite_run(&s, 13);
	dot_limits = usual;
}

/* ---- of 8 bits, multiplied as they are ---- */

/* What is summed over runs fastest in both operands. */
static Product f8_kernel(Suite *s, const char *name, i64 B, i64 M, i64 N, i64 K, DType left, DType right)
{
	return mixed_kernel(s, name, (Shape){ B, M, N, K, 2, left, DT_f8e4m3 }, right);
}

static void f8_cases(Suite *s)
{
	const DType E4 = DT_f8e4m3, E5 = DT_f8e5m2;
	/* no vector divides; copied, with more steps than stages, more tiles than blocks, few rows or columns; split */
	const struct {
		i64 B, M, N, K;
		DType left, right;
	} shape[] = { { 1, 1, 1, 1, E4, E4 },      { 1, 7, 33, 129, E4, E5 },    { 1, 129, 7, 33, E5, E4 },
		      { 3, 65, 66, 67, E4, E4 },   { 1, 64, 72, 464, E4, E4 },   { 2, 72, 136, 48, E5, E4 },
		      { 1, 264, 392, 48, E4, E5 }, { 5, 64, 64, 432, E4, E4 },   { 1, 8, 80, 160, E5, E4 },
		      { 1, 160, 16, 80, E4, E4 },  { 1, 64, 64, 2048, E4, E5 },  { 1, 17, 30, 3001, E5, E4 },
		      { 1, 256, 272, 304, E5, E4 } };
	for (u32 i = 0; i < COUNT(shape); i++) {
		Product d = f8_kernel(s, "plain", shape[i].B, shape[i].M, shape[i].N, shape[i].K, shape[i].left, shape[i].right);
		store(&d, i % 2 ? DT_bf16 : DT_f32, sum_of(&d));
		Case *c = finish(s, &d, i % 2 ? DT_bf16 : DT_f32);
		if (shape[i].left == E5) { /* of numbers that are none of f8e4m3 */
			c->high[0] = 4096;
			c->low[0] = -4096;
			c->scale *= 4096;
		}
	}
	/* scaled back, and a bias */
	Product d = f8_kernel(s, "scaled", 1, 96, 128, 208, E4, E5);
	KVal scale = kb_load(d.k, ACCESS(kb_slot(d.k, DT_f32, 1), 0), NO), one = kb_const(d.k, DT_f32, 1);
	KVal bias = kb_load(d.k, ACCESS(kb_slot(d.k, DT_f32, 128), 0, 0, 0, 1, 0), NO);
	store(&d, DT_bf16, kb_op(d.k, S_add, kb_op(d.k, S_mul, sum_of(&d), kb_op(d.k, S_div, one, scale)), bias));
	Case *c = finish(s, &d, DT_bf16);
	c->low[2] = c->high[2] = 0.25;
	/* rounded where they are multiplied; one is copied and the other evaluated */
	for (u32 i = 0; i < 4; i++) {
		d = f8_kernel(s, "operands cast", 1, 96, i & 1 ? 136 : 71, i & 1 ? 64 : 83, DT_f32, i & 2 ? E4 : DT_f32);
		d.a = kb_cast(d.k, i & 2 ? E5 : E4, kb_op(d.k, S_mul, d.a, kb_const(d.k, DT_f32, 3)));
		d.b = kb_cast(d.k, i & 2 ? E4 : E5, d.b);
		store(&d, DT_f32, sum_of(&d));
		finish(s, &d, DT_f32)->scale *= 3;
	}
	/* with the sum of an operand beside it */
	for (u32 which = 1; which <= 2; which++) {
		d = f8_kernel(s, "sum beside", 1, 64, 80, 96, E5, E4);
		store(&d, DT_f32, sum_of(&d));
		kb_store(d.k, ACCESS(kb_slot(d.k, DT_f32, which == 1 ? 64 : 80), 0, 0, which == 1, which == 2, 0), kb_acc(d.k, DT_f32, which), NO);
		finish(s, &d, DT_f32);
	}
	/* several dimensions of a role: a[2, H, T, D], b[3, N, H, D], out[3, 2, T, N] */
	i64 H = 2, D = 48, T = 80, N = 32;
	Kernel *k = suite_kernel(s, KERNEL_DOT, "dimensions of 8 bits");
	k->compute = E4;
	kb_dim(k, DIM_M, 2);
	kb_dim(k, DIM_M, T);
	kb_dim(k, DIM_N, 3);
	kb_dim(k, DIM_N, N);
	kb_dim(k, DIM_K, H);
	kb_dim(k, DIM_K, D);
	k->operand[0] = kb_load(k, ACCESS(kb_slot(k, E4, 2 * H * T * D), 0, H * T * D, D, 0, 0, T * D, 1), NO);
	k->operand[1] = kb_load(k, ACCESS(kb_slot(k, E5, 3 * N * H * D), 0, 0, 0, N * H * D, H * D, D, 1), NO);
	k->noperand = 2;
	kb_store(k, ACCESS(kb_slot(k, DT_f32, 6 * T * N), 0, T * N, N, 2 * T * N, 1, 0, 0), kb_acc(k, DT_f32, 0), NO);
	Shape z = { .K = H * D, .compute = E4 };
	suite_add(s, k, ulps_of(&z, DT_f32), MAX(1, sqrt((f64)z.K) / 3));
}

static void test_f8(void **state)
{
	(void)state;
	static const char *const arch[] = { "sm_89", "sm_90a" };
	Suite s = { 0 };
	f8_cases(&s);
	cuda_suite_run_for(&s, 17, arch, COUNT(arch));
}

/* Sums of many numbers of one sign, on tensor cores that cut them short: added in f32, as they must be, they are off by what
 * one step loses; by tensor cores from first to last they would be too small by hundredths. */
static void test_f8_sums(void **state)
{
	(void)state;
	static const char *const arch[] = { "sm_89", "sm_90a" };
	const char *was = getenv("PLINTH_STANDIN");
	char kept[200];
	snprintf(kept, sizeof kept, "%s", was ? was : "");
	setenv("PLINTH_STANDIN", "sums=short", 1);
	gpu_read_settings();
	Suite s = { 0 };
	for (u32 i = 0; i < 2; i++) {
		Product d = f8_kernel(&s, "of one sign", 1, i ? 64 : 16, i ? 64 : 32, 4096, DT_f8e4m3, i ? DT_f8e5m2 : DT_f8e4m3);
		store(&d, DT_f32, sum_of(&d));
		Case *c = finish(&s, &d, DT_f32);
		c->low[0] = c->low[1] = 0.5;
		c->high[0] = c->high[1] = 1;
		c->ulps = 0x1p24 / 128;
		c->scale = 1;
	}
	cuda_suite_run_for(&s, 19, arch, COUNT(arch));
	setenv("PLINTH_STANDIN", kept, 1);
	gpu_read_settings();
}

/* An instruction for each pair of types, in code without spills; what is not to be had is refused. */
static void test_f8_compiles(void **state)
{
	(void)state;
	need_nvrtc();
	static const char *const arch[] = { "sm_89", "sm_90", "sm_90a", "sm_100", "sm_120" };
	static const struct {
		DType left, right;
		const char *has, *hopper_has;
	} pair[] = { { DT_f8e4m3, DT_f8e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32",
		       "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3" },
		     { DT_f8e4m3, DT_f8e5m2, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32",
		       "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e5m2" },
		     { DT_f8e5m2, DT_f8e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e4m3.f32",
		       "wgmma.mma_async.sync.aligned.m64n128k32.f32.e5m2.e4m3" } };
	Suite s = { 0 };
	for (u32 i = 0; i < COUNT(pair); i++) {
		Product d = f8_kernel(&s, "large", 1, 4096, 4096, 4096, pair[i].left, pair[i].right);
		store(&d, DT_bf16, sum_of(&d));
		finish(&s, &d, DT_bf16);
	}
	f8_cases(&s);
	cuda_suite_compile_for(&s, arch, COUNT(arch));
	CudaArch ada = arch_named("sm_89"), ampere = arch_named("sm_86"), hopper = arch_named("sm_90a");
	for (u32 h = 0; h < 2; h++) {
		CudaCode code = compile_suite(&s, h ? &hopper : &ada, CUDA_PTX);
		for (u32 i = 0; i < COUNT(pair); i++) {
			const char *has = h ? pair[i].hopper_has : pair[i].has;
			if (!strstr(arena_strn(&s.arena, ptx_of(code.unit[code.unit_of[i]].image, code.symbol[i])), has))
				fail_msg("%s has no %s", s.cases.v[i].k->name, has);
		}
	}
	assert_non_null(strstr(cuda_refusal(&ampere, s.cases.v[0].k), "8.9"));
	for (u32 turned = 0; turned < 4; turned++) {
		Product d = mixed_kernel(&s, "turned", (Shape){ 1, 64, 64, 64, turned, DT_f8e4m3, DT_f8e4m3 }, DT_f8e5m2);
		store(&d, DT_f32, sum_of(&d));
		finish(&s, &d, DT_f32);
		const char *why = cuda_refusal(&ada, d.k);
		assert_true(turned == 2 ? !why : why && strstr(why, "runs fastest"));
	}
	arena_free(&s.arena);
}

#define RUNS(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		Suite s = { 0 }; \
		name##_cases(&s); \
		cuda_suite_run(&s, 7); \
	}
RUNS(edge)
RUNS(aligned)
RUNS(split)
RUNS(sums)
RUNS(core)
RUNS(prologue)
RUNS(epilogue)
RUNS(dimension)
RUNS(grouped)

/* No spills, and the instructions that were meant. */
static void test_compiles(void **state)
{
	(void)state;
	need_nvrtc();
	Suite s = { 0 };
	Product d = dot_kernel(&s, "large", (Shape){ 1, 4096, 4096, 4096, 0, DT_bf16, DT_bf16 });
	store(&d, DT_bf16, sum_of(&d));
	finish(&s, &d, DT_bf16);
	d = dot_kernel(&s, "large, evaluated", (Shape){ 1, 4096, 4096, 4096, 3, DT_f32, DT_f16 });
	KVal bias = kb_load(d.k, ACCESS(kb_slot(d.k, DT_f32, 4096), 0, 0, 0, 1, 0), NO);
	store(&d, DT_f32, kb_op(d.k, S_tanh, kb_op(d.k, S_add, sum_of(&d), bias), NO));
	finish(&s, &d, DT_f32);
	d = dot_kernel(&s, "large, both by rows", (Shape){ 1, 4096, 4096, 4096, 1, DT_f16, DT_f16 });
	store(&d, DT_f32, sum_of(&d));
	finish(&s, &d, DT_f32);
	d = dot_kernel(&s, "large f32", (Shape){ 1, 2048, 2048, 2048, 0, DT_f32, DT_f32 });
	store(&d, DT_f32, sum_of(&d));
	finish(&s, &d, DT_f32);
	cuda_suite_compile(&s);
	static const struct {
		const char *arch, *has[4];
	} want[] = { { "sm_80", { "mma.sync.aligned.m16n8k16.row.col.f32.bf16", "mma.sync.aligned.m16n8k16.row.col.f32.f16",
				  "mma.sync.aligned.m16n8k16.row.col.f32.f16", "fma.rn.f32" } },
		     { "sm_90a", { "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16", "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16",
				   "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16", "fma.rn.f32" } } };
	for (u32 i = 0; i < COUNT(want); i++) {
		CudaArch arch = arch_named(want[i].arch);
		CudaCode code = compile_suite(&s, &arch, CUDA_PTX);
		for (u32 j = 0; j < s.cases.n; j++) {
			Str ptx = ptx_of(code.unit[code.unit_of[j]].image, code.symbol[j]);
			if (!strstr(arena_strn(&s.arena, ptx), want[i].has[j]))
				fail_msg("%s for %s has no %s", s.cases.v[j].k->name, want[i].arch, want[i].has[j]);
		}
	}
	arena_free(&s.arena);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edge),     cmocka_unit_test(test_aligned),  cmocka_unit_test(test_split),
		cmocka_unit_test(test_core),     cmocka_unit_test(test_prologue), cmocka_unit_test(test_epilogue),
		cmocka_unit_test(test_dimension), cmocka_unit_test(test_grouped), cmocka_unit_test(test_packed),
		cmocka_unit_test(test_shared),   cmocka_unit_test(test_compiles), cmocka_unit_test(test_sums),
		cmocka_unit_test(test_f8),       cmocka_unit_test(test_f8_compiles),
		cmocka_unit_test(test_f8_sums),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
