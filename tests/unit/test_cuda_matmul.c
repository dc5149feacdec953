/* Matrix products by cuBLASLt (runtime/cuda/cublaslt.c, matmul.c), by way of the stand-ins for driver and library: every
 * layout, batches, epilogues and types against plain loops; which algorithm was chosen is recorded, and repeated to the
 * bit. Packages are made by hand: no compiler is needed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "runtime/executor.h"
#include "support/float8.h"
#include "support/io.h"

enum { BATCH_MOST = 3, ROOM = 1 << 16 /* elements of each operand */ };

static void good(Status s)
{
	if (s)
		fail_msg("%s", s->text);
}

/* ---- numbers ---- */

static f64 get(u8 dtype, const u8 *p, i64 i)
{
	switch (dtype) {
	case PACKAGE_F64: return ((const f64 *)(const void *)p)[i];
	case PACKAGE_F32: return (f64)((const f32 *)(const void *)p)[i];
	case PACKAGE_BF16: return (f64)f32_from_bf16(((const u16 *)(const void *)p)[i]);
	case PACKAGE_F8E4M3: return (f64)f32_from_f8e4m3(p[i]);
	case PACKAGE_F8E5M2: return (f64)f32_from_f8e5m2(p[i]);
	default: return (f64)f32_from_f16(((const u16 *)(const void *)p)[i]);
	}
}

static void put(u8 dtype, u8 *p, i64 i, f64 x)
{
	switch (dtype) {
	case PACKAGE_F64: ((f64 *)(void *)p)[i] = x; break;
	case PACKAGE_F32: ((f32 *)(void *)p)[i] = (f32)x; break;
	case PACKAGE_BF16: ((u16 *)(void *)p)[i] = bf16_from_f32((f32)x); break;
	case PACKAGE_F8E4M3: p[i] = f8e4m3_from_f32((f32)x); break;
	case PACKAGE_F8E5M2: p[i] = f8e5m2_from_f32((f32)x); break;
	default: ((u16 *)(void *)p)[i] = f16_from_f32((f32)x);
	}
}

static f64 draw(u64 *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (f64)(*state >> 40) / (1 << 24) * 2 - 1;
}

static f64 gelu(f64 x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static f64 gelu_slope(f64 x)
{
	f64 k = sqrt(2 / M_PI), t = tanh(k * (x + 0.044715 * x * x * x));
	return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
}

/* ---- a product as a package ---- */

typedef struct Product {
	PackageMatmul m;
	PackageStep step;
	PackageEntry entry;
	Package package;
	u8 *before, *after; /* the arena */
} Product;

static PackageMatrix matrix(u32 which, u8 dtype, bool rows, i64 height, i64 width, i64 spare)
{
	i64 row = rows ? width + spare : 1, column = rows ? 1 : height + spare;
	return (PackageMatrix){ .offset = (u64)which * ROOM * 8, .dtype = dtype, .row = row, .column = column,
				.batch = (rows ? row * height : column * width) + 8 };
}

static i64 at(const PackageMatrix *x, i64 b, i64 i, i64 j)
{
	return b * x->batch + i * x->row + j * x->column;
}

static void make(Product *p, PackageMatmul m)
{
	*p = (Product){ .m = m };
	p->step = (PackageStep){ .matmul = &p->m, .name = "h.0.mlp.dot", .layer = "", .class = "dot", .shape = "",
				 .file = "test.plinth", .line = 3 };
	p->entry = (PackageEntry){ .name = "entry", .step = &p->step, .nstep = 1 };
	p->package = (Package){ .name = "product", .entry = &p->entry, .nentry = 1, .device = "cuda", .arena_bytes = 6 * ROOM * 8 };
	p->before = calloc(1, p->package.arena_bytes);
	p->after = malloc(p->package.arena_bytes);
	u64 state = 7;
	const PackageMatrix *x[] = { &m.a, &m.b, &m.c, &m.aux };
	for (u32 k = 0; k < COUNT(x); k++)
		for (i64 i = 0; x[k]->row && i < ROOM; i++)
			put(x[k]->dtype, p->before + x[k]->offset, i, draw(&state));
	for (i64 i = 0; m.has_bias && i < m.n; i++)
		put(m.bias_dtype, p->before + m.bias, i, draw(&state));
	for (u32 i = 0; i < m.nscale; i++)
		put(PACKAGE_F32, p->before + m.scale[i], 0, draw(&state));
}

static void drop(Product *p)
{
	free(p->before);
	free(p->after);
}

static void run(Product *p, Executor *x)
{
	good(executor_write_at(x, 0, p->before, p->package.arena_bytes));
	good(executor_run(x, &p->entry, NULL, NULL));
	good(executor_read_at(x, 0, p->after, p->package.arena_bytes));
}

static void expect(const Product *p, f64 want, const PackageMatrix *x, i64 b, i64 i, i64 j, f64 scale)
{
	static const f64 unit[] = { [PACKAGE_F16] = 0x1p-11, [PACKAGE_BF16] = 0x1p-8, [PACKAGE_F32] = 0x1p-23, [PACKAGE_F64] = 0x1p-50 };
	f64 got = get(x->dtype, p->after + x->offset, at(x, b, i, j));
	/* sums of k products in f32, then one rounding */
	f64 bound = unit[x->dtype] * fabs(want) + (p->m.compute == PACKAGE_F64 ? 0x1p-50 : 0x1p-22) * scale * 8;
	if (!(fabs(got - want) <= bound))
		fail_msg("batch %lld, row %lld, column %lld: %.9g, should be %.9g", (long long)b, (long long)i, (long long)j, got, want);
}

static void compare(const Product *p)
{
	const PackageMatmul *m = &p->m;
	for (i64 b = 0; b < m->batch; b++)
		for (i64 i = 0; i < m->m; i++)
			for (i64 j = 0; j < m->n; j++) {
				f64 sum = 0;
				for (i64 k = 0; k < m->k; k++)
					sum += get(m->a.dtype, p->before + m->a.offset, at(&m->a, b, i, k)) *
					       get(m->b.dtype, p->before + m->b.offset, at(&m->b, b, k, j));
				for (u32 k = 0; k < m->nscale; k++)
					sum *= get(PACKAGE_F32, p->before + m->scale[k], 0);
				if (m->has_c)
					sum += get(m->c.dtype, p->before + m->c.offset, at(&m->c, b, i, j));
				if (m->has_bias)
					sum += get(m->bias_dtype, p->before + m->bias, j);
				if (m->epilogue == PACKAGE_EPILOGUE_GELU && m->has_aux)
					expect(p, sum, &m->aux, b, i, j, (f64)m->k);
				if (m->epilogue == PACKAGE_EPILOGUE_GELU)
					sum = gelu(sum);
				if (m->epilogue == PACKAGE_EPILOGUE_DGELU)
					sum *= gelu_slope(get(m->aux.dtype, p->before + m->aux.offset, at(&m->aux, b, i, j)));
				expect(p, sum, &m->d, b, i, j, (f64)m->k);
			}
}

/* The sum beside the product. */
static void compare_sum(const Product *p)
{
	const PackageMatmul *m = &p->m;
	bool of_a = m->sum_of == PACKAGE_SUM_A;
	PackageMatrix to = { .offset = m->sum, .dtype = m->d.dtype, .row = 1 };
	for (i64 i = 0; m->sum_of && i < (of_a ? m->m : m->n); i++) {
		f64 sum = 0;
		for (i64 k = 0; k < m->k; k++)
			sum += of_a ? get(m->a.dtype, p->before + m->a.offset, at(&m->a, 0, i, k)) :
				      get(m->b.dtype, p->before + m->b.offset, at(&m->b, 0, k, i));
		expect(p, sum, &to, 0, i, 0, (f64)m->k);
	}
}

static bool open(Product *p, const DeviceOptions *o, Executor **x)
{
	Status s = executor_create(&p->package, o, x);
	if (s && s->code == STATUS_UNSUPPORTED && !getenv("PLINTH_LIBCUBLASLT")) {
		print_message("skipped: %s\n", s->text);
		return false;
	}
	good(s);
	return true;
}

static void check(PackageMatmul m)
{
	Product p;
	Executor *x;
	make(&p, m);
	if (!open(&p, NULL, &x)) {
		drop(&p);
		skip();
	}
	run(&p, x);
	compare(&p);
	compare_sum(&p);
	executor_destroy(x);
	drop(&p);
}

/* ---- tests ---- */

enum { M = 12, N = 20, K = 16 };

static PackageMatmul plain(u8 dtype, u8 to, u32 layouts, i64 batch)
{
	bool rows = layouts & 4;
	return (PackageMatmul){ .m = M, .n = N, .k = K, .batch = batch, .compute = dtype, .a = matrix(0, dtype, layouts & 1, M, K, 4),
				.b = matrix(1, dtype, layouts & 2, K, N, 0), .d = matrix(3, to, rows, M, N, 4) };
}

static void layouts(void **state)
{
	(void)state;
	static const u8 types[][2] = { { PACKAGE_F32, PACKAGE_F32 }, { PACKAGE_BF16, PACKAGE_BF16 }, { PACKAGE_BF16, PACKAGE_F32 },
				       { PACKAGE_F16, PACKAGE_F16 }, { PACKAGE_F64, PACKAGE_F64 } };
	for (u32 t = 0; t < COUNT(types); t++)
		for (u32 layout = 0; layout < 8; layout++)
			for (i64 batch = 1; batch <= (t < 2 ? BATCH_MOST : 1); batch += 2)
				check(plain(types[t][0], types[t][1], layout, batch));
}

static void sums_onto_c(void **state)
{
	(void)state;
	for (u32 layout = 0; layout < 8; layout++) {
		PackageMatmul m = plain(PACKAGE_BF16, PACKAGE_F32, layout, 2);
		m.has_c = true;
		m.c = matrix(2, PACKAGE_F32, layout & 4, M, N, 0);
		check(m);
		m.c = m.d; /* in place: read here from what was there */
		m.c.offset = m.d.offset;
		check(m);
	}
}

static void epilogues(void **state)
{
	(void)state;
	for (u32 layout = 4; layout < 8; layout++)
		for (u32 kind = 0; kind < 6; kind++) {
			PackageMatmul m = plain(PACKAGE_BF16, PACKAGE_BF16, layout, 1);
			m.epilogue = kind == 0 ? PACKAGE_EPILOGUE_BIAS : kind < 5 ? PACKAGE_EPILOGUE_GELU : PACKAGE_EPILOGUE_DGELU;
			m.has_bias = kind == 0 || kind == 2 || kind == 4;
			m.bias = 5 * ROOM * 8;
			m.bias_dtype = PACKAGE_BF16;
			m.has_aux = kind >= 3;
			if (m.has_aux)
				m.aux = matrix(4, PACKAGE_BF16, true, M, N, 4);
			check(m);
		}
}

/* Either operand's sum over k, in every layout: which of the library's operands it is depends on the result's. */
static void sums(void **state)
{
	(void)state;
	for (u32 layout = 0; layout < 8; layout++)
		for (u32 kind = 0; kind < 4; kind++) {
			u8 type = kind & 1 ? PACKAGE_BF16 : PACKAGE_F32;
			PackageMatmul m = plain(type, PACKAGE_F32, layout, 1);
			m.sum_of = kind & 2 ? PACKAGE_SUM_A : PACKAGE_SUM_B;
			m.sum = 5 * ROOM * 8;
			check(m);
		}
}

enum { M8 = 32, N8 = 48, K8 = 64 };

static PackageMatmul eight_bits(u8 a, u8 b, u8 to, bool rows, i64 batch)
{
	PackageMatmul m = { .m = M8, .n = N8, .k = K8, .batch = batch, .compute = PACKAGE_F8E4M3, .a = matrix(0, a, true, M8, K8, 16),
			    .b = matrix(1, b, false, K8, N8, 32), .d = matrix(3, to, rows, M8, N8, 8) };
	m.a.batch += 8; /* multiples of 16 again */
	m.b.batch += 8;
	return m;
}

static void set_scales(PackageMatmul *m, u32 n)
{
	m->nscale = (u8)n;
	for (u32 i = 0; i < n; i++)
		m->scale[i] = 5 * ROOM * 8 + 4096 + 4 * i; /* behind the bias; of f32's alignment and no more */
}

/* Pairs of types, results, scales, epilogues of products of 8 bits. */
static void in_8_bits(void **state)
{
	(void)state;
	static const u8 types[][2] = { { PACKAGE_F8E4M3, PACKAGE_F8E4M3 }, { PACKAGE_F8E4M3, PACKAGE_F8E5M2 }, { PACKAGE_F8E5M2, PACKAGE_F8E4M3 } };
	static const u8 result[] = { PACKAGE_F32, PACKAGE_BF16, PACKAGE_F16 };
	for (u32 to = 0; to < COUNT(result); to++)
		for (u32 kind = 0; kind < 8; kind++) {
			const u8 *type = types[(to + kind) % COUNT(types)];
			PackageMatmul m = eight_bits(type[0], type[1], result[to], kind != 2, kind == 1 ? 3 : 1);
			set_scales(&m, (kind + 2 * to) % 3);
			m.has_c = kind == 3 || kind == 4;
			m.has_bias = kind >= 4 && kind < 7;
			m.has_aux = kind >= 6;
			m.bias = 5 * ROOM * 8;
			m.bias_dtype = result[to] == PACKAGE_F16 ? PACKAGE_F16 : PACKAGE_BF16;
			m.epilogue = kind < 4	? PACKAGE_EPILOGUE_NONE :
				     kind == 4	? PACKAGE_EPILOGUE_BIAS :
				     kind < 7	? PACKAGE_EPILOGUE_GELU :
						  PACKAGE_EPILOGUE_DGELU;
			if (m.has_c)
				m.c = matrix(2, result[to], true, M8, N8, 16);
			if (m.has_aux)
				m.aux = matrix(4, result[to], true, M8, N8, 8);
			check(m);
		}
}

/* A package's bytes have all that is said of a product. */
static void in_8_bits_from_a_file(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Product p;
	Executor *x;
	PackageMatmul m = eight_bits(PACKAGE_F8E5M2, PACKAGE_F8E4M3, PACKAGE_F32, true, 1);
	set_scales(&m, 2);
	make(&p, m);
	if (!open(&p, NULL, &x)) {
		drop(&p);
		skip();
	}
	executor_destroy(x);
	Package again;
	assert_null(package_decode(&a, package_encode(&a, &p.package), &again));
	good(executor_create(&again, NULL, &x));
	good(executor_write_at(x, 0, p.before, p.package.arena_bytes));
	good(executor_run(x, again.entry, NULL, NULL));
	good(executor_read_at(x, 0, p.after, p.package.arena_bytes));
	compare(&p);
	executor_destroy(x);
	drop(&p);
	arena_free(&a);
}

/* A product of whose parts one begins behind the arena, or ends there, is none that a package may have. */
static void outside_the_arena(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	for (u32 i = 0; i < 13; i++) {
		Product p;
		Package again;
		PackageMatmul m = eight_bits(PACKAGE_F8E4M3, PACKAGE_F8E4M3, PACKAGE_F32, true, 1);
		set_scales(&m, 2);
		m.has_c = m.has_aux = m.has_bias = true;
		m.c = matrix(2, PACKAGE_F32, true, M8, N8, 0);
		m.aux = matrix(4, PACKAGE_F32, true, M8, N8, 0);
		m.bias = 5 * ROOM * 8;
		m.bias_dtype = PACKAGE_BF16;
		make(&p, m);
		const u64 end = p.package.arena_bytes;
		PackageMatrix *x[] = { &p.m.a, &p.m.b, &p.m.c, &p.m.d, &p.m.aux };
		if (i >= 1 && i < 6)
			x[i - 1]->offset = end - 16;
		switch (i) {
		case 6: p.m.bias = end - (u64)m.n * 2 + 2; break;
		case 7: p.m.scale[0] = end - 3; break;
		case 8: p.m.scale[1] = UINT64_MAX - 1; break;
		case 9: p.m.a.row = INT64_MAX / 4; break;
		case 10: p.m.d.row = -(i64)N8; break;
		case 11: p.m.m = -1; break;
		case 12:
			p.m.sum_of = PACKAGE_SUM_A;
			p.m.sum = end - 4;
			break;
		default: break;
		}
		const char *why = package_decode(&a, package_encode(&a, &p.package), &again);
		if (i == 0 ? why != NULL : !why || strcmp(why, "a product reaches outside the arena") != 0)
			fail_msg("%u: %s", i, why ? why : "is taken");
		drop(&p);
	}
	arena_free(&a);
}

/* Whether the library has a way for it. */
static bool possible(PackageMatmul m)
{
	Product p;
	Executor *x;
	make(&p, m);
	Status s = executor_create(&p.package, NULL, &x);
	if (!s)
		executor_destroy(x);
	else
		assert_true(s->code == STATUS_UNSUPPORTED);
	drop(&p);
	return !s;
}

/* What cuBLASLt does not have of 8 bits: each is a product that it has, but for one thing. */
static void impossible_in_8_bits(void **state)
{
	(void)state;
	if (!getenv("PLINTH_LIBCUBLASLT"))
		skip();
	const PackageMatmul good_one = eight_bits(PACKAGE_F8E4M3, PACKAGE_F8E4M3, PACKAGE_F32, true, 1);
	assert_true(possible(good_one));
	for (u32 i = 0; i < 11; i++) {
		PackageMatmul m = good_one;
		switch (i) {
		case 0: m.a.dtype = m.b.dtype = PACKAGE_F8E5M2; break;
		case 1: m.a = matrix(0, PACKAGE_F8E4M3, false, M8, K8, 16); break; /* M fastest */
		case 2: m.b = matrix(1, PACKAGE_F8E4M3, true, K8, N8, 16); break;
		case 3: m.k = K8 - 8; break;
		case 4: m.m = M8 - 8; break;
		case 5: m.a.offset += 8; break;
		case 6: m.b.column += 8; break;
		case 7: m.d.dtype = PACKAGE_F8E4M3; break;
		case 8:
			m.has_bias = true; /* as the result, which with wider operands is right */
			m.bias_dtype = PACKAGE_F32;
			m.epilogue = PACKAGE_EPILOGUE_BIAS;
			m.bias = 5 * ROOM * 8;
			break;
		case 9:
			m.sum_of = PACKAGE_SUM_B;
			m.sum = 5 * ROOM * 8;
			break;
		default: m.b.dtype = PACKAGE_BF16; break;
		}
		if (possible(m))
			fail_msg("%u is taken", i);
	}
	PackageMatmul wide = plain(PACKAGE_BF16, PACKAGE_BF16, 7, 1); /* scales are for 8 bits */
	assert_true(possible(wide));
	set_scales(&wide, 1);
	assert_false(possible(wide));
}

/* What a choice is kept under has types and scales in it. */
static void keys_of_8_bits(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Executor *x;
	const DeviceChoice *choice[4];
	for (u32 i = 0; i < COUNT(choice); i++) {
		Product p;
		PackageMatmul m = eight_bits(PACKAGE_F8E4M3, i == 1 ? PACKAGE_F8E5M2 : PACKAGE_F8E4M3, PACKAGE_BF16, true, 1);
		set_scales(&m, i < 2 ? 0 : i - 1);
		make(&p, m);
		if (!open(&p, NULL, &x)) {
			drop(&p);
			skip();
		}
		assert_int_equal(x->device->choices(x->state, &a, &choice[i]), 1);
		for (u32 j = 0; j < i; j++)
			assert_string_not_equal(choice[i]->what, choice[j]->what);
		executor_destroy(x);
		drop(&p);
	}
	assert_non_null(strstr(choice[1]->what, " a=f8e4m3:"));
	assert_non_null(strstr(choice[1]->what, " b=f8e5m2:"));
	arena_free(&a);
}

/* What the library cannot do is refused when nothing else can do it either. */
static void impossible(void **state)
{
	(void)state;
	PackageMatmul m = plain(PACKAGE_F32, PACKAGE_F32, 0, 1); /* d counts columns first: no bias along n */
	m.epilogue = PACKAGE_EPILOGUE_BIAS;
	m.has_bias = true;
	m.bias = 5 * ROOM * 8;
	m.bias_dtype = PACKAGE_F32;
	Product p;
	Executor *x;
	make(&p, m);
	Status s = executor_create(&p.package, NULL, &x);
	assert_true(s && s->code == STATUS_UNSUPPORTED);
	if (getenv("PLINTH_LIBCUBLASLT"))
		assert_non_null(strstr(s->text, "h.0.mlp.dot (test.plinth:3)"));
	drop(&p);
}

/* A choice is recorded, kept on disk, repeated to the bit, and refused where it is another machine's. */
static void choices(void **state)
{
	(void)state;
	Arena a = ARENA("test");
	Product p;
	Executor *x, *y;
	PackageMatmul m = plain(PACKAGE_F32, PACKAGE_F32, 7, 1);
	m.k = 1000;
	m.a = matrix(0, PACKAGE_F32, true, M, m.k, 0);
	m.b = matrix(1, PACKAGE_F32, true, m.k, N, 0);
	make(&p, m);
	if (!open(&p, NULL, &x)) {
		drop(&p);
		skip();
	}
	const DeviceChoice *choice;
	assert_int_equal(x->device->choices(x->state, &a, &choice), 1);
	assert_non_null(strstr(choice->what, "12x20x1000"));
	assert_int_equal(strncmp(choice->chosen, "library ", 8), 0);
	run(&p, x);
	u8 *bits = malloc(p.package.arena_bytes);
	memcpy(bits, p.after, p.package.arena_bytes);
	/* the stand-in's algorithms add up in other orders: some of them gives other bits */
	const char *last = strrchr(choice->chosen, ';');
	unsigned long long version, workspace;
	assert_int_equal(sscanf(last, "; %llu %llu", &version, &workspace), 2);
	executor_destroy(x);
	for (u32 other = 0; other < 2; other++) {
		good(executor_create(&p.package, &(DeviceOptions){ .matmul = MATMUL_LIBRARY }, &y));
		good(y->device->choose(y->state, choice, 1));
		run(&p, y);
		assert_memory_equal(p.after, bits, p.package.arena_bytes);
		executor_destroy(y);
	}
	good(executor_create(&p.package, NULL, &y));
	DeviceChoice wrong = { choice->what, arena_printf(&a, "library another GPU; %llu %llu 0 0 0 0 0 0 0 0", version, workspace) };
	Status s = y->device->choose(y->state, &wrong, 1);
	assert_true(s && s->code == STATUS_UNSUPPORTED && strstr(s->text, "another GPU"));
	wrong.chosen = "generated";
	s = y->device->choose(y->state, &wrong, 1);
	assert_true(s && s->code == STATUS_UNSUPPORTED);
	wrong.chosen = "by hand";
	s = y->device->choose(y->state, &wrong, 1);
	assert_true(s && s->code == STATUS_INPUT);
	executor_destroy(y);
	free(bits);
	drop(&p);
	arena_free(&a);
}

static void peak(void **state)
{
	(void)state;
	Product p;
	Executor *x;
	make(&p, plain(PACKAGE_F32, PACKAGE_F32, 7, 1));
	if (!open(&p, NULL, &x)) {
		drop(&p);
		skip();
	}
	assert_true(x->device->peak(x->state, PACKAGE_BF16) > 0);
	assert_true(x->device->peak(x->state, PACKAGE_F8E4M3) > 0);
	run(&p, x);
	compare(&p);
	executor_destroy(x);
	drop(&p);
}

int main(void)
{
	char cache[] = "/tmp/test_cuda_matmul.XXXXXX";
	assert_non_null(mkdtemp(cache));
	setenv("XDG_CACHE_HOME", cache, 1); /* measurements of other runs are not wanted */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layouts), cmocka_unit_test(sums_onto_c), cmocka_unit_test(epilogues), cmocka_unit_test(sums),
		cmocka_unit_test(in_8_bits), cmocka_unit_test(in_8_bits_from_a_file),
		cmocka_unit_test(outside_the_arena), cmocka_unit_test(impossible_in_8_bits), cmocka_unit_test(keys_of_8_bits),
		cmocka_unit_test(impossible), cmocka_unit_test(choices), cmocka_unit_test(peak),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	good(io_remove_folder(cache));
	return failed;
}
