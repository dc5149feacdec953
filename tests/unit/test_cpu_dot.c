/* DOT kernels on the CPU against kernel_eval: shapes around the edges of tiles and panels, both
 * orientations of both operands, several dimensions per role, batches, every precision, blocks of K and
 * M, prologues and epilogues. */
#include "kernel_run.h"

typedef struct Dot {
	Kernel *k;
	i64 B, M, N, K;
	bool a_turned, b_turned; /* a is [K, M], b is [N, K] */
	DType from;              /* of the operands in memory */
	KVal a, b;
	f64 scale;
} Dot;

/* b = 0: no batch dimension. */
static Dot dot_kernel(Suite *s, const char *name, i64 B, i64 M, i64 N, i64 K, u32 turned, DType from,
		      DType compute)
{
	Dot d = { suite_kernel(s, KERNEL_DOT, name), B, M, N, K, turned & 1, turned >> 1 & 1, from, NO, NO, 0 };
	Kernel *k = d.k;
	k->compute = compute;
	if (B)
		kb_dim(k, DIM_BATCH, B);
	kb_dim(k, DIM_M, M);
	kb_dim(k, DIM_N, N);
	kb_dim(k, DIM_K, K);
	u32 o = B != 0;
	i64 items = MAX(B, 1);
	Access a = { .slot = kb_slot(k, from, items * M * K) }, b = { .slot = kb_slot(k, from, items * K * N) };
	a.stride[o] = d.a_turned ? 1 : K;
	a.stride[o + 2] = d.a_turned ? M : 1;
	b.stride[o + 2] = d.b_turned ? 1 : N;
	b.stride[o + 1] = d.b_turned ? K : 1;
	if (B) {
		a.stride[0] = M * K;
		b.stride[0] = K * N;
	}
	d.a = kb_load(k, a, NO);
	d.b = kb_load(k, b, NO);
	d.scale = sqrt((f64)K);
	return d;
}

static Access result(const Dot *d, DType t)
{
	Access c = { .slot = kb_slot(d->k, t, MAX(d->B, 1) * d->M * d->N) };
	u32 o = d->B != 0;
	c.stride[o] = d->N;
	c.stride[o + 1] = 1;
	if (o)
		c.stride[0] = d->M * d->N;
	return c;
}

/* Rounding of a sum of K products of numbers up to 1, in units of the last place. */
static f64 dot_ulps(const Dot *d, DType out)
{
	f64 one = 2 + 2 * sqrt((f64)d->K);
	return dtype_is_narrow_float(out) ? 2 : one;
}

static void finish(Suite *s, Dot *d, DType out)
{
	d->k->operand[0] = d->a;
	d->k->operand[1] = d->b;
	d->k->noperand = 2;
	DType acc = d->k->compute == DT_f64 ? DT_f64 : DT_f32;
	KVal sum = kb_acc(d->k, acc, 0);
	kb_store(d->k, result(d, out), kb_cast(d->k, out, sum), NO);
	/* a sum's error is relative to the size of what was added, about sqrt(K) */
	suite_add(s, d->k, dot_ulps(d, out), MAX(1, d->scale / 4));
}

static void plain(Suite *s, i64 B, i64 M, i64 N, i64 K, u32 turned)
{
	Dot d = dot_kernel(s, "plain", B, M, N, K, turned, DT_f32, DT_f32);
	finish(s, &d, DT_f32);
}

static void test_edges(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 size[][3] = { { 1, 1, 1 },    { 1, 1, 50 },   { 1, 100, 33 }, { 2, 48, 16 },
				       { 3, 47, 17 },  { 8, 48, 4 },   { 9, 49, 5 },   { 16, 96, 64 },
				       { 17, 97, 65 }, { 40, 1, 129 }, { 33, 130, 1 }, { 5, 200, 31 },
				       { 64, 64, 64 }, { 31, 20, 70 }, { 7, 300, 15 }, { 50, 17, 1700 } };
	for (u32 i = 0; i < COUNT(size); i++)
		for (u32 t = 0; t < 4; t++)
			plain(&s, 0, size[i][0], size[i][1], size[i][2], t);
	suite_run(&s, 1);
}

static void test_batches(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 t = 0; t < 4; t++) {
		plain(&s, 3, 12, 20, 24, t);
		plain(&s, 1, 9, 70, 33, t);
	}
	plain(&s, 40, 5, 5, 5, 0);
	suite_run(&s, 2);
}

/* Few rows: the matrix streamed along k and along n, with ends that are no whole vectors, chunks of columns that do
 * not divide, every precision, batches. */
static void test_thin(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 size[][3] = { { 1, 64, 64 },   { 1, 65, 63 },  { 1, 700, 9 },  { 1, 3, 2000 },   { 1, 2049, 131 },
				       { 2, 100, 100 }, { 3, 77, 201 }, { 4, 129, 65 }, { 4, 1000, 257 }, { 1, 2, 70000 },
				       { 3, 1100, 300 }, { 2, 513, 520 } };
	for (u32 i = 0; i < COUNT(size); i++)
		for (u32 t = 0; t < 4; t++)
			plain(&s, i % 3 == 0 ? 3 : 0, size[i][0], size[i][1], size[i][2], t);
	static const DType from[] = { DT_bf16, DT_f16, DT_f32, DT_f8e4m3, DT_f8e5m2 },
			   compute[] = { DT_bf16, DT_f16, DT_bf16, DT_bf16, DT_f16 };
	for (u32 i = 0; i < COUNT(from); i++)
		for (u32 t = 0; t < 4; t++) {
			Dot d = dot_kernel(&s, "narrow", 0, 1 + i, 90, 150, t, from[i], compute[i]);
			finish(&s, &d, i == 1 ? DT_bf16 : DT_f32);
		}
	suite_run(&s, 11);
}

/* K and the packed operand in several blocks, tasks of several pieces of rows. */
static void test_blocks(void **state)
{
	(void)state;
	Suite s = { 0 };
	plain(&s, 0, 5, 508, 8200, 0);
	Dot d = dot_kernel(&s, "long", 0, 1, 512, 12501, 3, DT_f64, DT_f64);
	finish(&s, &d, DT_f64);
	plain(&s, 0, 2500, 8, 1000, 0);
	plain(&s, 0, 1100, 9, 60, 2);
	suite_run(&s, 3);
}

static void test_precisions(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const DType dtype[] = { DT_bf16, DT_f16, DT_f64 };
	for (u32 i = 0; i < 3; i++)
		for (u32 t = 0; t < 4; t++) {
			DType d = dtype[i];
			Dot k = dot_kernel(&s, "narrow", 0, 21, 59, 75, t, d, d);
			finish(&s, &k, d == DT_f64 ? DT_f64 : t & 1 ? d : DT_f32);
			if (d == DT_f64)
				continue;
			/* f32 in memory, rounded on the way: by the kernel, or by a cast in the body */
			k = dot_kernel(&s, "rounded", 0, 21, 59, 75, t, DT_f32, d);
			if (t & 1)
				k.a = kb_cast(k.k, d, k.a);
			finish(&s, &k, DT_f32);
		}
	Dot k = dot_kernel(&s, "wide tile", 2, 100, 7, 30, 1, DT_f64, DT_f64);
	finish(&s, &k, DT_f64);
	k = dot_kernel(&s, "wide tile", 0, 3, 70, 30, 2, DT_f64, DT_f64);
	finish(&s, &k, DT_f64);
	suite_run(&s, 4);
}

/* gelu(x W + bias) + residual, stored as f32 and bf16, with x computed on the way (a gain per column and
 * an activation) and a mask drawn in the epilogue. */
static void add_fused(Suite *s, i64 M, i64 N, i64 K, u32 turned)
{
	Dot d = dot_kernel(s, "fused", 0, M, N, K, turned, DT_f32, DT_f32);
	Kernel *k = d.k;
	KVal gain = kb_load(k, ACCESS(kb_slot(k, DT_f32, K), 0, 0, 0, 1), NO);
	d.a = kb_op(k, S_mul, kb_op(k, S_tanh, d.a, NO), gain);
	k->operand[0] = d.a;
	k->operand[1] = d.b;
	k->noperand = 2;
	KVal x = kb_acc(k, DT_f32, 0);
	KVal bias = kb_load(k, ACCESS(kb_slot(k, DT_f32, N), 0, 0, 1), NO);
	KVal row = kb_load(k, ACCESS(kb_slot(k, DT_f32, M), 0, 1), NO);
	x = kb_op(k, S_add, kb_op(k, S_add, x, bias), row);
	KVal y = kb_op(k, S_mul, x, kb_op(k, S_sigmoid, x, NO));
	KVal residual = kb_load(k, ACCESS(kb_slot(k, DT_f32, M * N), 0, 1, M), NO); /* turned */
	y = kb_op(k, S_add, y, residual);
	kb_store(k, result(&d, DT_f32), y, NO);
	kb_store(k, result(&d, DT_bf16), kb_cast(k, DT_bf16, x), NO);
	Access turned_out = { .slot = kb_slot(k, DT_f32, M * N), .stride = { 1, M } };
	kb_store(k, turned_out, x, kb_op(k, S_lt, bias, row));
	suite_add(s, k, 8 + sqrt((f64)K), MAX(1, d.scale / 4));
}

static void test_fused(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 t = 0; t < 4; t++) {
		add_fused(&s, 19, 61, 40, t);
		add_fused(&s, 8, 96, 900, t);
	}
	suite_run(&s, 6);
}

/* Roles of several dimensions, whose strides do not merge: heads of an attention's projections. */
static void add_factored(Suite *s, i64 M1, i64 M2, i64 N1, i64 N2, i64 K1, i64 K2, u32 layout)
{
	Kernel *k = suite_kernel(s, KERNEL_DOT, "factored");
	kb_dim(k, DIM_M, M1);
	kb_dim(k, DIM_M, M2);
	kb_dim(k, DIM_N, N1);
	kb_dim(k, DIM_N, N2);
	kb_dim(k, DIM_K, K1);
	kb_dim(k, DIM_K, K2);
	i64 M = M1 * M2, N = N1 * N2, K = K1 * K2;
	u32 sa = kb_slot(k, DT_f32, M * K), sb = kb_slot(k, DT_f32, K * N), sc = kb_slot(k, DT_f32, M * N);
	/* [M2, K1, M1, K2] or [K2, M1, K1, M2]; [N2, K1, N1, K2] or [K2, N1, K1, N2]; [N1, M1, M2, N2] */
	Access a = layout & 1 ? ACCESS(sa, 0, K1 * M2, 1, 0, 0, M2, M1 * K1 * M2)
			      : ACCESS(sa, 0, K2, K1 * M1 * K2, 0, 0, M1 * K2, 1);
	Access b = layout & 2 ? ACCESS(sb, 0, 0, 0, K1 * N2, 1, N2, N1 * K1 * N2)
			      : ACCESS(sb, 0, 0, 0, K2, K1 * N1 * K2, N1 * K2, 1);
	k->operand[0] = kb_load(k, a, NO);
	k->operand[1] = kb_load(k, b, NO);
	k->noperand = 2;
	kb_store(k, ACCESS(sc, 0, M2 * N2, N2, M * N2, 1), kb_acc(k, DT_f32, 0), NO);
	suite_add(s, k, 2 + 2 * sqrt((f64)K), sqrt((f64)K) / 4);
}

static void test_factored(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < 4; i++) {
		add_factored(&s, 3, 7, 5, 20, 4, 9, i);
		add_factored(&s, 5, 16, 6, 64, 3, 48, i);
		add_factored(&s, 40, 2, 50, 3, 30, 5, i);
	}
	suite_run(&s, 8);
}

/* A matrix of whole numbers of `bits` bits, which share factors in G groups of g along k, as tools/export_shrink.c stores weights: of 4
 * bits, those of the first half of a group are in the lower halves of its bytes. */
static void add_groups(Suite *s, i64 B, i64 M, i64 N, i64 G, i64 g, u32 bits)
{
	Kernel *k = suite_kernel(s, KERNEL_DOT, "groups");
	i64 K = G * g, size[] = { MAX(B, 1), M, N, G, bits == 4 ? 2 : 1, bits == 4 ? g / 2 : g };
	static const DimRole role[] = { DIM_BATCH, DIM_M, DIM_N, DIM_K, DIM_K, DIM_K };
	/* along each of these, in x, in the matrix, in its factors and in the results */
	i64 stride[][4] = { { M * K, N * K * bits / 8, N * G, M * N }, { K, 0, 0, N }, { 0, K * bits / 8, G, 1 },
			    { g, g * bits / 8, 1, 0 }, { g / 2, 0, 0, 0 }, { 1, 1, 0, 0 } };
	u32 slot[] = { kb_slot(k, DT_f32, size[0] * M * K), kb_slot(k, bits == 4 ? DT_u8 : DT_i8, size[0] * N * K * bits / 8),
		       kb_slot(k, DT_f16, size[0] * N * G), kb_slot(k, DT_f32, size[0] * M * N) };
	Access a[4] = { 0 }, half = { .offset = M == 2 }; /* halves are counted from there */
	for (u32 i = 0; i < COUNT(slot); i++)
		a[i].slot = slot[i];
	for (u32 d = 0; d < COUNT(role); d++) {
		if (d != 1 && d != 2 && d != 3 && d != 5 && size[d] == 1)
			continue;
		if (d == 4)
			half.stride[k->ndim] = 1;
		for (u32 i = 0; i < COUNT(slot); i++)
			a[i].stride[k->ndim] = stride[d][i];
		kb_dim(k, role[d], size[d]);
	}
	KVal q = kb_load(k, a[1], NO);
	if (bits == 4) {
		KVal x = kb_cast(k, DT_i32, q), sixteen = kb_const(k, DT_i32, 16), low = kb_op(k, S_mod, x, sixteen);
		KVal first = kb_op(k, S_eq, kb_index(k, DT_i32, half), kb_const(k, DT_i32, (f64)half.offset));
		q = kb_op3(k, S_where, first, low, kb_op(k, S_floordiv, x, sixteen));
	}
	q = kb_cast(k, DT_f32, q);
	if (bits == 4)
		q = kb_op(k, S_sub, q, kb_const(k, DT_f32, 8));
	k->operand[0] = kb_load(k, a[0], NO);
	k->operand[1] = kb_op(k, S_mul, q, kb_cast(k, DT_f32, kb_load(k, a[2], NO)));
	k->noperand = 2;
	kb_store(k, a[3], kb_acc(k, DT_f32, 0), NO);
	f64 most = bits == 4 ? 8 : 127;
	Case *c = suite_add(s, k, 2 + 2 * sqrt((f64)K), most * sqrt((f64)K) / 8);
	c->low[slot[1]] = bits == 4 ? 0 : -127;
	c->high[slot[1]] = bits == 4 ? 255 : 127;
}

/* Groups of all lengths that weights have: several that make a piece, one that does, pieces of one; numbers of them that leave some
 * behind the last piece, and lengths that no vector divides. */
static void test_groups(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 size[][2] = { { 18, 32 }, { 5, 32 }, { 1, 32 }, { 11, 16 }, { 9, 8 },   { 3, 64 },
				       { 3, 128 }, { 2, 256 }, { 7, 48 }, { 5, 24 },  { 2, 1024 }, { 48, 32 } };
	for (u32 i = 0; i < COUNT(size); i++)
		for (u32 bits = 4; bits <= 8; bits += 4)
			for (i64 rows = 1; rows <= (i < 4 ? 5 : 1); rows++)
				add_groups(&s, i == 3 ? 3 : 0, rows, 50 + 7 * (i64)i, size[i][0], size[i][1], bits);
	suite_run(&s, 17);
}

/* Two rows times a matrix [.., 3, runs, 16] less 8, times a factor that each run of 16 has its own of. */
static Kernel *add_runs(Suite *s, i64 runs)
{
	Kernel *k = suite_kernel(s, KERNEL_DOT, "runs");
	i64 K = 3 * runs * 16, N = 21;
	kb_dim(k, DIM_M, 2);
	kb_dim(k, DIM_N, N);
	kb_dim(k, DIM_K, 3);
	kb_dim(k, DIM_K, runs);
	kb_dim(k, DIM_K, 16);
	Access x = { .slot = kb_slot(k, DT_f32, 2 * K), .stride = { K, 0, runs * 16, 16, 1 } };
	Access w = { .slot = kb_slot(k, DT_f32, N * K), .stride = { 0, K, runs * 16, 16, 1 } };
	Access f = { .slot = kb_slot(k, DT_f32, N * 3 * runs), .stride = { 0, 3 * runs, 1, 3, 0 } };
	k->operand[0] = kb_load(k, x, NO);
	k->operand[1] = kb_op(k, S_mul, kb_op(k, S_sub, kb_load(k, w, NO), kb_const(k, DT_f32, 8)), kb_load(k, f, NO));
	k->noperand = 2;
	kb_store(k, ACCESS(kb_slot(k, DT_f32, 2 * N), 0, N, 1), kb_acc(k, DT_f32, 0), NO);
	suite_add(s, k, 2 + 2 * sqrt((f64)K), 9 * sqrt((f64)K) / 4);
	return k;
}

/* A piece of four rows of 8 lanes is whole runs: of eight each run is a block with a factor of its own, of four there is none that a block has,
 * as the code that goes by pieces of 64 would have it. Such code, and what scratch it needs, is not one for both. */
static void test_runs(void **state)
{
	(void)state;
	Suite s = { 0 };
	Kernel *both[] = { add_runs(&s, 8), add_runs(&s, 4) };
	CpuCompiler *c;
	assert_null(cpu_compiler_create(&(CpuOptions){ .cpu = "haswell" }, &c));
	CpuCode one, two;
	assert_null(cpu_code_units(c, both, 1, &s.arena, &one));
	assert_null(cpu_code_units(c, both, 2, &s.arena, &two));
	assert_int_equal(two.nunit, one.nunit + 1);
	cpu_compiler_destroy(c);
	suite_run(&s, 2);
}

/* Few results of long sums, which are cut into parts: lengths around those of parts and pieces, results that are no whole tiles,
 * batches, every precision, sums that are left to one part. */
static void test_deep(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 size[][3] = { { 8, 24, 1024 },  { 8, 24, 1023 }, { 7, 23, 1025 },   { 16, 16, 2049 }, { 5, 1, 5000 },
				       { 9, 50, 6272 }, { 1, 7, 40001 }, { 40, 30, 1537 }, { 17, 33, 3001 }, { 5, 9, 33000 } };
	for (u32 i = 0; i < COUNT(size); i++)
		for (u32 t = 0; t < 4; t++)
			plain(&s, i % 3 == 1 ? 3 : 0, size[i][0], size[i][1], size[i][2], t);
	static const DType dtype[] = { DT_bf16, DT_f16, DT_f64 };
	for (u32 i = 0; i < COUNT(dtype); i++)
		for (u32 t = 0; t < 4; t++) {
			Dot d = dot_kernel(&s, "narrow", 0, 21, 17, 1500, t, dtype[i], dtype[i]);
			finish(&s, &d, i == 2 ? DT_f64 : DT_f32);
		}
	for (u32 t = 0; t < 4; t++) {
		add_fused(&s, 19, 31, 1700, t);
		add_factored(&s, 3, 7, 5, 6, 4, 701, t);
	}
	suite_run(&s, 13);
}

/* ---- windows ---- */

/* A product whose right operand (or left: `turned`) is an image [B, C, height, width] read through 3 x 3 windows, `step` apart:
 * columns are the windows' places and the sum is over what they hold, or the other way round (`weights`). Runs of columns are
 * `wide` long, or 3. What the other operand has for a sum is dense, but for `apart` elements behind each step of the sum's first
 * dimension. Results are dense, but for `apart` elements before each column of the first dimension and, where that is odd, of the
 * second too. */
static void add_windows(Suite *s, i64 wide, i64 step, bool weights, bool turned, i64 apart, DType compute)
{
	enum { B = 2, C = 3, HIGH = 3, OTHER = 7 };
	Kernel *k = suite_kernel(s, KERNEL_DOT, "windows");
	k->compute = compute;
	const i64 place[] = { B, HIGH, wide }, hold[] = { C, 3, 3 };
	const i64 height = (HIGH - 1) * step + 3, width = (wide - 1) * step + 3;
	const i64 place_stride[] = { C * height * width, width * step, step }, hold_stride[] = { height * width, width, 1 };
	const i64 *x = weights ? hold : place, *sum = weights ? place : hold;
	const i64 *xs = weights ? hold_stride : place_stride, *ss = weights ? place_stride : hold_stride;
	DimRole role = turned ? DIM_M : DIM_N, other = turned ? DIM_N : DIM_M;
	u32 x0 = turned ? 0 : 1, o = turned ? 3 : 0, k0 = 4;
	if (!turned)
		kb_dim(k, other, OTHER);
	for (u32 i = 0; i < 3; i++)
		kb_dim(k, role, x[i]);
	if (turned)
		kb_dim(k, other, OTHER);
	for (u32 i = 0; i < 3; i++)
		kb_dim(k, DIM_K, sum[i]);
	i64 K = sum[0] * sum[1] * sum[2], X = x[0] * x[1] * x[2];
	DType t = compute == DT_f64 ? DT_f64 : DT_f32;
	Access image = { .slot = kb_slot(k, t, B * C * height * width) }, rows = { .slot = kb_slot(k, t, OTHER * (K + apart * sum[0])) },
	       out = { .slot = kb_slot(k, t, OTHER * (X + apart * x[0] * (1 + x[1]))) };
	i64 stride = K, across = OTHER * X;
	rows.stride[o] = K + apart * sum[0];
	out.stride[o] = turned ? 1 : X;
	for (u32 i = 0; i < 3; i++) {
		image.stride[x0 + i] = xs[i];
		image.stride[k0 + i] = ss[i];
		rows.stride[k0 + i] = (stride /= sum[i]) + (i ? 0 : apart);
		across /= i ? x[i] : OTHER * x[0];
		out.stride[x0 + i] = across * (turned ? OTHER : 1);
	}
	k->operand[turned] = kb_load(k, rows, NO);
	k->operand[!turned] = kb_load(k, image, NO);
	k->noperand = 2;
	if (!turned) {
		out.stride[x0 + 1] += apart % 2 * apart;
		out.stride[x0] = x[1] * out.stride[x0 + 1] + apart;
		out.stride[o] = x[0] * out.stride[x0];
	}
	kb_store(k, out, kb_acc(k, t, 0), NO);
	suite_add(s, k, 2 + 2 * sqrt((f64)K), MAX(1, sqrt((f64)K) / 4));
}

/* Runs shorter and longer than vectors, some of which begin where vectors do, of every type of panel. */
static void test_windows(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 wide[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 16, 24, 33 };
	for (u32 i = 0; i < COUNT(wide); i++)
		for (u32 t = 0; t < 4; t++)
			for (i64 apart = 0; apart < (t >> 1 ? 1 : 3); apart++)
				add_windows(&s, wide[i], 1 + (i + t) % 5 / 4, t & 1, t >> 1, apart, (i + t) % 7 == 6 ? DT_f64 : DT_f32);
	suite_run(&s, 12);
}

/* ---- filters that are read turned ---- */

enum { TAPS = 9, MAKERS = 21 };

/* A product as a convolution's gradient by its input has it: filters [o, x, 3, 3] are an operand (right or, `left`, left) with columns x
 * and the sum over o and the taps from the last to the first, `apart` elements behind each filter. */
static Kernel *add_turned(Suite *s, i64 x, i64 others, i64 apart, bool left, DType from, DType compute)
{
	Kernel *k = suite_kernel(s, KERNEL_DOT, "turned filters");
	k->compute = compute;
	kb_dim(k, DIM_M, left ? x : others);
	kb_dim(k, DIM_N, left ? others : x);
	kb_dim(k, DIM_K, MAKERS);
	kb_dim(k, DIM_K, 3);
	kb_dim(k, DIM_K, 3);
	i64 each = TAPS + apart;
	Access filter = { .slot = kb_slot(k, from, MAKERS * x * each), .offset = TAPS - 1, .stride = { [2] = x * each, -3, -1 } };
	Access image = { .slot = kb_slot(k, from, MAKERS * TAPS * others), .stride = { [2] = TAPS * others, 3 * others, others } };
	filter.stride[!left] = each;
	image.stride[left] = 1;
	k->operand[!left] = kb_load(k, filter, NO);
	k->operand[left] = kb_load(k, image, NO);
	k->noperand = 2;
	DType acc = compute == DT_f64 ? DT_f64 : DT_f32;
	kb_store(k, ACCESS(kb_slot(k, acc, x * others), 0, left ? others : x, 1), kb_acc(k, acc, 0), NO);
	f64 root = sqrt((f64)MAKERS * TAPS);
	suite_add(s, k, 2 + 2 * root, MAX(1, root / 4));
	return k;
}

/* Few and many columns, for tiles of every number of rows, that are packed alone and several together. */
static void test_turned(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 x[] = { 1, 7, 40, 96, 131 }, others[] = { 5, 16, 17, 64 };
	static const DType type[] = { DT_f32, DT_bf16, DT_f64, DT_f16 };
	for (u32 i = 0; i < COUNT(x); i++)
		for (u32 j = 0; j < COUNT(others); j++)
			for (u32 left = 0; left < 2; left++) {
				DType t = type[(i + j) % 5 ? 0 : 1 + (i + j) % 3];
				add_turned(&s, x[i], others[j], (i + j + left) % 3 == 2 ? 40 : 0, left, t, t);
			}
	suite_run(&s, 14);
}

/* A kernel's code for a processor; the caller frees it. */
static char *assembly(Suite *s, Kernel *k, const char *cpu)
{
	CpuCompiler *c;
	assert_null(cpu_compiler_create(&(CpuOptions){ .cpu = cpu }, &c));
	CpuCode code;
	assert_null(cpu_code_units(c, (Kernel *[]){ k }, 1, &s->arena, &code));
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);
	for (u32 i = 0; i < code.nunit; i++)
		cpu_print(c, &code.unit[i], CPU_ASSEMBLY, to);
	fclose(to);
	cpu_compiler_destroy(c);
	return text;
}

/* Each of their elements is a load with an address of its own, not one taken out of a vector of addresses, and filters further on
 * are asked for: the code is read. */
static void test_turned_code(void **state)
{
	(void)state;
	for (u32 narrow = 0; narrow < 2; narrow++) { /* tiles of 4 rows, and of 6, whose vectors of 8 lanes have two that are off */
		Suite s = { 0 };
		Kernel *k = add_turned(&s, 384, narrow ? 16 : 64, 0, true, DT_f32, DT_f32);
		char *text = assembly(&s, k, "znver3");
		/* the block of the loop over a run's taps has the most loads of one lane */
		u32 most = 0;
		for (char *at = text, *end; at && *at; at = end) {
			end = strstr(at, "\n.L");
			if (end)
				*end++ = 0;
			u32 loads = 0;
			for (const char *p = at; (p = strstr(p, "vinsertps")); p++)
				loads++;
			if (loads > most) {
				most = loads;
				assert_null(strstr(at, "vpextrq"));
				assert_null(strstr(at, "gather"));
			}
			if (end) /* the whole text is searched below */
				end[-1] = '\n';
		}
		assert_true(most >= 3 * 4);
		assert_non_null(strstr(text, "prefetcht0"));
		free(text);
		arena_free(&s.arena);
	}
}

/* Operands that are gathered, guarded, repeated, or do not depend on all they may. */
static void test_operands(void **state)
{
	(void)state;
	Suite s = { 0 };
	for (u32 i = 0; i < 4; i++) {
		i64 M = 13, N = 70, K = 45;
		Kernel *k = suite_kernel(&s, KERNEL_DOT, "operands");
		kb_dim(k, DIM_M, M);
		kb_dim(k, DIM_N, N);
		kb_dim(k, DIM_K, K);
		KVal index = kb_load(k, ACCESS(kb_slot(k, DT_i32, M), 0, 1), NO);
		KVal low = kb_const(k, DT_i32, 0), high = kb_const(k, DT_i32, 8);
		index = kb_op(k, S_min, kb_op(k, S_max, index, low), high);
		Access row = ACCESS(0, 0, 0, 0, 1);
		row.slot = kb_slot(k, DT_f32, 9 * K);
		row.ndynamic = 1;
		row.dynamic[0].index = index;
		row.dynamic[0].stride = K;
		KVal a = kb_load(k, row, NO);
		KVal at = kb_index(k, DT_i32, ACCESS(0, 0, 0, 1, -1));
		KVal inside = kb_op(k, S_le, kb_const(k, DT_i32, -20), at);
		/* b is shifted along k: n - k, of which a part is beyond the tensor */
		KVal b = kb_load(k, ACCESS(kb_slot(k, DT_f32, N + 20), 20, 0, 1, -1), inside);
		if (i == 1)
			b = kb_load(k, ACCESS(kb_slot(k, DT_f32, K), 0, 0, 0, 1), NO);
		if (i == 2)
			b = kb_load(k, ACCESS(kb_slot(k, DT_f32, 3 * N), 0, 0, 3), NO);
		if (i == 3)
			a = kb_const(k, DT_f32, 0.5);
		k->operand[0] = a;
		k->operand[1] = b;
		k->noperand = 2;
		KVal sum = kb_op(k, S_mul, kb_acc(k, DT_f32, 0), kb_cast(k, DT_f32, index));
		kb_store(k, ACCESS(kb_slot(k, DT_f32, M * N), 0, N, 1), sum, NO);
		suite_add(&s, k, 9, 10);
	}
	suite_run(&s, 9);
}

/* ---- operands in pairs, as CPUs with a product of bf16 pairs want them ---- */

/* Sums of odd and even length, pieces and blocks of K, both orientations of both operands, narrow panels. */
static void test_pairs(void **state)
{
	(void)state;
	Suite s = { 0 };
	static const i64 size[][3] = { { 21, 59, 75 }, { 9, 33, 32 }, { 1, 50, 17 }, { 40, 1, 129 }, { 3, 70, 1 },
				       { 5, 20, 2001 }, { 2, 9, 9001 } };
	for (u32 i = 0; i < COUNT(size); i++)
		for (u32 t = 0; t < 4; t++) {
			/* the last ones are long: two orientations do */
			if (i > 4 && t != i % 2 && t != 3)
				continue;
			DType from = (i + t) % 3 ? DT_bf16 : DT_f32;
			Dot d = dot_kernel(&s, "pairs", t & 1 ? 2 : 0, size[i][0], size[i][1], size[i][2], t, from, DT_bf16);
			finish(&s, &d, DT_f32);
		}
	/* several dimensions of K: the last one's extent is even, or there are no pairs */
	add_factored(&s, 3, 7, 5, 20, 4, 10, 0);
	add_factored(&s, 3, 7, 5, 20, 4, 10, 3);
	add_factored(&s, 3, 7, 5, 20, 4, 9, 1);
	for (u32 t = 0; t < 4; t++) /* and of windows, of which those of the weights' gradient are in pairs where places are even */
		add_windows(&s, 4 + 6 * (t >> 1), 1, t & 1, t >> 1, 0, DT_f32);
	for (u32 i = s.cases.n - 7; i < s.cases.n; i++)
		s.cases.v[i].k->compute = DT_bf16;
	suite_run_pairs(&s, 11);
}

/* On CPUs that have the instruction, the inner loop is of it, and keeps its sums in registers. This machine need
 * not have it: the code is read, not run. */
static void test_pairs_code(void **state)
{
	(void)state;
	Suite s = { 0 };
	Dot d = dot_kernel(&s, "pairs", 0, 64, 192, 256, 0, DT_bf16, DT_bf16);
	finish(&s, &d, DT_f32);
	char *text = assembly(&s, d.k, "znver4");
	/* blocks of code between labels: the fullest has four steps of a tile of 8 rows of 3 vectors */
	u32 most = 0;
	for (char *at = text, *end; at && *at; at = end) {
		end = strstr(at, "\n.L");
		if (end)
			*end++ = 0;
		u32 products = 0;
		for (const char *p = at; (p = strstr(p, "vdpbf16ps")); p++)
			products++;
		most = MAX(most, products);
		if (products)
			assert_null(strstr(at, "rsp)"));
	}
	assert_int_equal(most, 4 * 8 * 3);
	free(text);
	arena_free(&s.arena);
}

/* The tiles chosen waste little, and fit the registers. */
static void test_tiles(void **state)
{
	(void)state;
	static const char *const cpu[] = { "x86-64-v4", "haswell", "x86-64" };
	for (u32 c = 0; c < COUNT(cpu); c++) {
		CpuMachine m;
		assert_null(cpu_machine(cpu[c], &m));
		Arena a = ARENA("tiles");
		const TargetInfo *t = cpu_target(&m, &a);
		Suite s = { 0 };
		for (i64 M = 1; M < 70; M += 3)
			for (i64 N = 1; N < 200; N += 13) {
				Kernel *k = suite_kernel(&s, KERNEL_DOT, "tile");
				kb_dim(k, DIM_M, M);
				kb_dim(k, DIM_N, N);
				kb_dim(k, DIM_K, 100000);
				LaunchNeeds n = t->needs(t, k);
				assert_in_range(n.nphase, 2, KERNEL_PHASES);
			}
		arena_free(&s.arena);
		arena_free(&a);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),   cmocka_unit_test(test_batches),    cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_fused),   cmocka_unit_test(test_precisions), cmocka_unit_test(test_factored),
		cmocka_unit_test(test_operands), cmocka_unit_test(test_pairs),      cmocka_unit_test(test_tiles),
		cmocka_unit_test(test_pairs_code), cmocka_unit_test(test_thin), cmocka_unit_test(test_groups), cmocka_unit_test(test_runs), cmocka_unit_test(test_deep),
		cmocka_unit_test(test_windows), cmocka_unit_test(test_turned), cmocka_unit_test(test_turned_code),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
