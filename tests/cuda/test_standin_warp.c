/* test_standin_warp.c: what lanes and warps do together, in PTX, against loops over lanes in C: shuffles,
 * votes, matches, reductions, barriers, matrices in registers, divergence. */
#include "harness.h"

enum { LANES = 32 };

static const char *settings = ""; /* beside the schedule */

/* Runs a body of `threads` threads that leaves u32 results in %r50 to %r53; out[4][threads]. The thread's number
 * is in %r40, its lane in %r41, its own random word in %r42 (in[thread]). */
static void run(const char *declarations, const char *body, u32 threads, const u32 *in, u32 *out)
{
	static const char *const schedules[] = { "", "schedule=descending", "schedule=random:3, race=on", "schedule=random:4, async=eager" };
	char text[6000];
	snprintf(text, sizeof text,
		 "mov.u32 %%r40, %%tid.x; mov.u32 %%r41, %%laneid; mul.wide.u32 %%d20, %%r40, 4;\n"
		 "ld.param.u64 %%d21, [p0]; add.u64 %%d21, %%d21, %%d20; ld.global.u32 %%r42, [%%d21];\n"
		 "mov.u32 %%r50, 0; mov.u32 %%r51, 0; mov.u32 %%r52, 0; mov.u32 %%r53, 0;\n%s\n"
		 "ld.param.u64 %%d22, [p1]; add.u64 %%d22, %%d22, %%d20; mov.u32 %%r43, %%ntid.x; mul.wide.u32 %%d23, %%r43, 4;\n"
		 "st.global.u32 [%%d22], %%r50; add.u64 %%d22, %%d22, %%d23; st.global.u32 [%%d22], %%r51; add.u64 %%d22, %%d22, %%d23;\n"
		 "st.global.u32 [%%d22], %%r52; add.u64 %%d22, %%d22, %%d23; st.global.u32 [%%d22], %%r53;", body);
	char *ptx = ptx_kernel(declarations, text), set[100];
	u32 first[4 * 1024];
	for (u32 s = 0; s < COUNT(schedules); s++) {
		CUmodule m;
		snprintf(set, sizeof set, "%s, %s", settings, schedules[s]);
		standin_set(set);
		CUfunction f = load_function(ptx, "k", &m);
		CUdeviceptr di = device_copy(in, threads * 4), d = device_copy(NULL, threads * 16);
		CU(run_kernel(f, 1, threads, 0, (u64[]){ di, d, 0 }, 3));
		CU(cuMemcpyDtoH_v2(out, d, threads * 16));
		if (!s)
			memcpy(first, out, threads * 16);
		assert_memory_equal(first, out, threads * 16);
		CU(cuMemFree_v2(di));
		CU(cuMemFree_v2(d));
		CU(cuModuleUnload(m));
	}
	free(ptx);
}

static void fill(u32 *in, u32 n, u32 seed)
{
	for (u32 i = 0; i < n; i++)
		in[i] = test_random(&seed) ^ test_random(&seed) << 10;
}

static void test_shuffles(void **state)
{
	(void)state;
	u32 in[LANES], out[4][LANES];
	fill(in, LANES, 1);
	/* Whole warp, then segments of eight lanes (c = 0x1800 | 31 for down, idx; 0x1800 for up). */
	run("", "shfl.sync.bfly.b32 %r50, %r42, 5, 31, -1; shfl.sync.down.b32 %r51|%p1, %r42, 3, 6175, -1;"
		"shfl.sync.up.b32 %r52, %r42, 2, 6144, -1; selp.u32 %r53, 1, 0, %p1;", LANES, in, out[0]);
	for (u32 l = 0; l < LANES; l++) {
		assert_int_equal(out[0][l], in[l ^ 5]);
		assert_int_equal(out[1][l], in[l % 8 < 5 ? l + 3 : l]);
		assert_int_equal(out[2][l], in[l % 8 >= 2 ? l - 2 : l]);
		assert_int_equal(out[3][l], l % 8 < 5);
	}
	run("", "shfl.sync.idx.b32 %r50, %r42, %r42, 31, -1; and.b32 %r1, %r42, 7; shfl.sync.idx.b32 %r51, %r42, %r1, 6175, 0xffffffff;",
	    LANES, in, out[0]);
	for (u32 l = 0; l < LANES; l++) {
		assert_int_equal(out[0][l], in[in[l] & 31]);
		assert_int_equal(out[1][l], in[(l & 24) | (in[l] & 7)]);
	}
}

static void test_votes(void **state)
{
	(void)state;
	u32 in[LANES], out[4][LANES], ballot = 0, sum = 0, least = ~0u, either = 0;
	fill(in, LANES, 2);
	for (u32 l = 0; l < LANES; l++) {
		in[l] %= 5;
		ballot |= (u32)(in[l] > 1) << l;
	}
	run("", "setp.gt.u32 %p1, %r42, 1; vote.sync.ballot.b32 %r50, %p1, -1; match.any.sync.b32 %r51, %r42, -1;"
		"vote.sync.all.pred %p2, !%p1, -1; selp.u32 %r52, 1, 0, %p2; activemask.b32 %r53;", LANES, in, out[0]);
	for (u32 l = 0; l < LANES; l++) {
		u32 equal = 0;
		for (u32 k = 0; k < LANES; k++)
			equal |= (u32)(in[k] == in[l]) << k;
		assert_int_equal(out[0][l], ballot);
		assert_int_equal(out[1][l], equal);
		assert_int_equal(out[2][l], ballot == 0);
		assert_int_equal(out[3][l], ~0u);
	}
	/* Odd lanes alone, then all again. */
	for (u32 l = 1; l < LANES; l += 2) {
		sum += in[l];
		least = in[l] < least ? in[l] : least;
		either |= in[l];
	}
	run("", "and.b32 %r1, %r41, 1; setp.eq.u32 %p1, %r1, 0; @%p1 bra EVEN; redux.sync.add.u32 %r50, %r42, 0xaaaaaaaa;"
		"redux.sync.min.s32 %r51, %r42, 0xaaaaaaaa; redux.sync.or.b32 %r52, %r42, 0xaaaaaaaa; elect.sync %r1|%p3, 0xaaaaaaaa;"
		"@%p3 add.u32 %r50, %r50, 1000; EVEN: bar.warp.sync -1; vote.sync.ballot.b32 %r53, %p1, -1;", LANES, in, out[0]);
	for (u32 l = 0; l < LANES; l++) {
		assert_int_equal(out[0][l], l % 2 ? sum + (l == 1 ? 1000 : 0) : 0);
		assert_int_equal(out[1][l], l % 2 ? least : 0);
		assert_int_equal(out[2][l], l % 2 ? either : 0);
		assert_int_equal(out[3][l], 0x55555555);
	}
}

/* Loops of different lengths within a warp, an early exit, an indexed branch; all meet for the ballot. */
static void test_divergence(void **state)
{
	(void)state;
	enum { THREADS = 96 };
	u32 in[THREADS], out[4][THREADS];
	fill(in, THREADS, 3);
	run("", "and.b32 %r1, %r42, 15; mov.u32 %r2, 0; OUTER: setp.ge.u32 %p1, %r2, %r1; @%p1 bra DONE; mov.u32 %r3, 0;"
		"INNER: add.u32 %r50, %r50, %r3; add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, %r2; @%p2 bra INNER;"
		"and.b32 %r4, %r50, 3; setp.eq.u32 %p3, %r4, 3; @%p3 bra LATER; NEXT: add.u32 %r2, %r2, 1; bra.uni OUTER;"
		"LATER: add.u32 %r51, %r51, 100; bra.uni NEXT; DONE: setp.gt.u32 %p4, %r50, 20; vote.sync.ballot.b32 %r52, %p4, -1;"
		"and.b32 %r5, %r42, 3; T: .branchtargets A, B, C, A; brx.idx %r5, T; A: add.u32 %r53, %r53, 1; bra E;"
		"B: add.u32 %r53, %r53, 10; C: add.u32 %r53, %r53, 100; E: vote.sync.ballot.b32 %r6, %p4, -1;"
		"setp.ne.u32 %p5, %r6, %r52; @%p5 mov.u32 %r53, 0;", THREADS, in, out[0]);
	u32 ballot[THREADS / 32] = { 0 };
	for (u32 t = 0; t < THREADS; t++) {
		u32 sum = 0, later = 0;
		for (u32 i = 0; i < (in[t] & 15); i++) {
			u32 j = 0;
			do
				sum += j;
			while (++j < i);
			later += (sum & 3) == 3 ? 100 : 0;
		}
		assert_int_equal(out[0][t], sum);
		assert_int_equal(out[1][t], later);
		ballot[t / 32] |= (u32)(sum > 20) << t % 32;
	}
	for (u32 t = 0; t < THREADS; t++) {
		static const u32 by[] = { 1, 110, 100, 1 };
		assert_int_equal(out[2][t], ballot[t / 32]);
		assert_int_equal(out[3][t], by[in[t] & 3]);
	}
}

static void test_barriers(void **state)
{
	(void)state;
	enum { THREADS = 128 };
	u32 in[THREADS], out[4][THREADS], positive = 0;
	fill(in, THREADS, 4);
	/* A value from the thread across, a count, and warps 0, 1 and 2, 3 with a barrier of their own; warp 3 only arrives. */
	run(".shared .align 4 .b8 s[512];",
	    "mov.u32 %r1, s; shl.b32 %r2, %r40, 2; add.u32 %r3, %r1, %r2; st.shared.u32 [%r3], %r42; bar.sync 0;"
	    "sub.u32 %r4, 127, %r40; shl.b32 %r4, %r4, 2; add.u32 %r4, %r4, %r1; ld.shared.u32 %r50, [%r4];"
	    "setp.gt.s32 %p1, %r42, 0; barrier.cta.red.popc.aligned.u32 %r51, 0, %p1; bar.red.or.pred %p2, 0, !%p1; selp.u32 %r52, 1, 0, %p2;"
	    "st.shared.u32 [%r3], %r40; setp.ge.u32 %p3, %r40, 96; @%p3 bra LAST; setp.ge.u32 %p4, %r40, 64; @%p4 bra THIRD; bar.sync 1, 64;"
	    "xor.b32 %r5, %r2, 128; add.u32 %r5, %r5, %r1; ld.shared.u32 %r53, [%r5]; bra E; LAST: bar.arrive 2, 64; bra E;"
	    "THIRD: bar.sync 2, 64; ld.shared.u32 %r53, [%r3+128]; E:", THREADS, in, out[0]);
	bool any = false;
	for (u32 t = 0; t < THREADS; t++) {
		positive += (i32)in[t] > 0;
		any = any || (i32)in[t] <= 0;
	}
	for (u32 t = 0; t < THREADS; t++) {
		assert_int_equal(out[0][t], in[127 - t]);
		assert_int_equal(out[1][t], positive);
		assert_int_equal(out[2][t], any);
		assert_int_equal(out[3][t], t < 64 ? t ^ 32 : t < 96 ? t + 32 : 0);
	}
}

/* ldmatrix (plain and transposed) of what lanes stored, and stmatrix back. */
static void test_matrices(void **state)
{
	(void)state;
	u32 in[LANES], out[4][LANES];
	u16 m[4][8][8];
	fill(in, LANES, 5);
	/* Row r of matrix i, at lane 8i + r, is 8 halves: in[lane] + 0..7. */
	const char *head = "mov.u32 %r1, s; shl.b32 %r2, %r41, 4; add.u32 %r3, %r1, %r2; cvt.u16.u32 %h0, %r42;"
			   "add.u16 %h1, %h0, 1; add.u16 %h2, %h0, 2; add.u16 %h3, %h0, 3; add.u16 %h4, %h0, 4; add.u16 %h5, %h0, 5;"
			   "add.u16 %h6, %h0, 6; add.u16 %h7, %h0, 7; st.shared.v4.u16 [%r3], {%h0, %h1, %h2, %h3};"
			   "st.shared.v4.u16 [%r3+8], {%h4, %h5, %h6, %h7}; bar.warp.sync -1;";
	for (u32 l = 0; l < LANES; l++)
		for (u32 c = 0; c < 8; c++)
			m[l / 8][l % 8][c] = (u16)(in[l] + c);
	char body[2000];
	for (u32 trans = 0; trans < 2; trans++) {
		snprintf(body, sizeof body, "%s ldmatrix.sync.aligned.m8n8.x4%s.shared.b16 {%%r50, %%r51, %%r52, %%r53}, [%%r3];", head,
			 trans ? ".trans" : "");
		run(".shared .align 16 .b8 s[512];", body, LANES, in, out[0]);
		for (u32 i = 0; i < 4; i++)
			for (u32 l = 0; l < LANES; l++) {
				u32 r = l / 4, c = l % 4 * 2;
				u32 want = trans ? m[i][c][r] | (u32)m[i][c + 1][r] << 16 : m[i][r][c] | (u32)m[i][r][c + 1] << 16;
				assert_int_equal(out[i][l], want);
			}
	}
	snprintf(body, sizeof body,
		 "%s ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%%r4, %%r5}, [%%r3]; bar.warp.sync -1;"
		 "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%%r3], {%%r4, %%r5}; bar.warp.sync -1; ld.shared.v4.u32 {%%r50, %%r51, %%r52, %%r53}, [%%r3];",
		 head);
	run(".shared .align 16 .b8 s[512];", body, LANES, in, out[0]);
	for (u32 l = 0; l < LANES; l++)
		for (u32 k = 0; k < 4; k++) {
			u32 want = l < 16 ? m[l / 8][2 * k][l % 8] | (u32)m[l / 8][2 * k + 1][l % 8] << 16
					  : m[l / 8][l % 8][2 * k] | (u32)m[l / 8][l % 8][2 * k + 1] << 16;
			assert_int_equal(out[k][l], want);
		}
}

#define MMA(shape, types, d, a, b, c) "mma.sync.aligned." shape ".row.col." types " {" d "}, {" a "}, {" b "}, {" c "};"
#define D4 "%r50, %r51, %r52, %r53"
#define A4 "%r1, %r2, %r3, %r4"
#define B2 "%r5, %r6"
#define C4 "%r7, %r8, %r9, %r10"
#define MMA8(types) MMA("m16n8k32", "f32." types ".f32", D4, A4, B2, C4)

enum { MMA_K = 32, A_WORD = 0, B_WORD = 4, C_WORD = 6, WORDS = 10 };

/* Elements of one mma as bits of their formats. */
typedef struct Mma {
	u32 k;
	FloatFormat format_a, format_b;
	u32 a[16][MMA_K], b[MMA_K][8], c[16][8];
	bool narrow; /* C and D are f16 */
	u32 words[WORDS][LANES];
} Mma;

static u32 width_of(FloatFormat format)
{
	return 1 + format.exponent + format.fraction;
}

/* The fragments, as the manual draws them: of elements of 32 bits one a register, else 2 or 4 neighbours along k. */
static void fill_fragments(Mma *m)
{
	memset(m->words, 0, sizeof m->words);
	u32 bits = width_of(m->format_a), per = 32 / bits, deep = m->k / (4 * per);
	for (u32 l = 0; l < LANES; l++) {
		u32 g = l / 4, t = l % 4;
		for (u32 h = 0; h < per; h++)
			for (u32 r = 0; r < 2 * deep; r++) {
				m->words[A_WORD + r][l] |= m->a[g + r % 2 * 8][per * t + r / 2 * 4 * per + h] << bits * h;
				if (r < deep)
					m->words[B_WORD + r][l] |= m->b[per * t + r * 4 * per + h][g] << bits * h;
			}
		for (u32 r = 0; r < 4; r++) {
			u32 v = m->c[g + r / 2 * 8][2 * t + r % 2];
			if (m->narrow)
				m->words[C_WORD + r / 2][l] |= v << r % 2 * 16;
			else
				m->words[C_WORD + r][l] = v;
		}
	}
}

/* Runs an mma of the words as a table in constant memory. */
static void run_mma(Mma *m, const char *ptx, u32 out[4][LANES])
{
	char *declarations = malloc(16000), *body = malloc(3000);
	u32 in[LANES] = { 0 };
	fill_fragments(m);
	u32 n = (u32)sprintf(declarations, ".const .align 4 .b32 table[320] = {");
	for (u32 i = 0; i < 320; i++)
		n += (u32)sprintf(declarations + n, "%s%u", i ? ", " : "", m->words[i / LANES][i % LANES]);
	sprintf(declarations + n, "};");
	n = (u32)sprintf(body, "mov.u64 %%d1, table; mul.wide.u32 %%d2, %%r41, 4; add.u64 %%d1, %%d1, %%d2;");
	for (u32 i = 0; i < WORDS; i++)
		n += (u32)sprintf(body + n, "ld.const.u32 %%r%u, [%%d1+%u];", i + 1, i * 128);
	sprintf(body + n, "%s", ptx);
	run(declarations, body, LANES, in, out[0]);
	free(declarations);
	free(body);
}

/* One mma of small integers, whose sums are exact, for each kind. */
static void test_products(void **state)
{
	(void)state;
	const struct {
		const char *ptx;
		u32 k;
		FloatFormat a, b;
		bool narrow;
	} kinds[] = {
		{ MMA("m16n8k16", "f32.bf16.bf16.f32", D4, A4, B2, C4), 16, format_bf16, format_bf16, false },
		{ MMA("m16n8k16", "f32.f16.f16.f32", D4, A4, B2, C4), 16, format_f16, format_f16, false },
		{ MMA("m16n8k8", "f16.f16.f16.f16", "%r50, %r51", "%r1, %r2", "%r5", "%r7, %r8"), 8, format_f16, format_f16, true },
		{ MMA("m16n8k8", "f32.tf32.tf32.f32", D4, A4, B2, C4), 8, format_f32, format_f32, false },
		{ MMA8("e4m3.e4m3"), 32, format_e4m3, format_e4m3, false },
		{ MMA8("e4m3.e5m2"), 32, format_e4m3, format_e5m2, false },
		{ MMA8("e5m2.e4m3"), 32, format_e5m2, format_e4m3, false },
		{ MMA8("e5m2.e5m2"), 32, format_e5m2, format_e5m2, false },
	};
	for (u32 kind = 0; kind < COUNT(kinds); kind++) {
		i32 a[16][MMA_K], b[MMA_K][8], c[16][8];
		u32 seed = 9 + kind, out[4][LANES];
		Mma m = { .k = kinds[kind].k, .format_a = kinds[kind].a, .format_b = kinds[kind].b, .narrow = kinds[kind].narrow };
		for (u32 k = 0; k < MMA_K; k++)
			for (u32 i = 0; i < 16; i++) {
				m.a[i][k] = bits_of_integer(m.format_a, a[i][k] = (i32)(test_random(&seed) % 9) - 4);
				if (i < 8)
					m.b[k][i] = bits_of_integer(m.format_b, b[k][i] = (i32)(test_random(&seed) % 9) - 4);
			}
		for (u32 i = 0; i < 16; i++)
			for (u32 j = 0; j < 8; j++)
				m.c[i][j] = bits_of_integer(m.narrow ? format_f16 : format_f32, c[i][j] = (i32)(test_random(&seed) % 99) - 49);
		run_mma(&m, kinds[kind].ptx, out);
		for (u32 i = 0; i < 16; i++)
			for (u32 j = 0; j < 8; j++) {
				i32 want = c[i][j];
				for (u32 x = 0; x < m.k; x++)
					want += a[i][x] * b[x][j];
				u32 lane = i % 8 * 4 + j / 2, r = i / 8 * 2 + j % 2;
				if (m.narrow)
					assert_int_equal(out[r / 2][lane] >> r % 2 * 16 & 0xffff, bits_of_integer(format_f16, want));
				else
					assert_int_equal(out[r][lane], bits_of_integer(format_f32, want));
			}
	}
}

/* The finite number that bits of a format are, by the formats' definition. */
static f64 value_of(FloatFormat format, u32 bits)
{
	i32 bias = (1 << (format.exponent - 1)) - 1;
	u32 fraction = bits & ((1u << format.fraction) - 1), exponent = bits >> format.fraction & ((1u << format.exponent) - 1);
	f64 v = exponent ? ldexp(1 + ldexp(fraction, -(i32)format.fraction), (i32)exponent - bias)
			 : ldexp(fraction, 1 - bias - (i32)format.fraction);
	return bits >> (format.exponent + format.fraction) ? -v : v;
}

/* Every finite number of 8 bits, by one. */
static void test_numbers_of_8_bits(void **state)
{
	(void)state;
	for (u32 kind = 0; kind < 2; kind++)
		for (u32 first = 0; first < MMA_K; first += 8) {
			Mma m = { .k = MMA_K, .format_a = kind ? format_e5m2 : format_e4m3, .format_b = kind ? format_e4m3 : format_e5m2 };
			u32 out[4][LANES], least_special = kind ? 0x7c : 0x7f;
			for (u32 i = 0; i < 16; i++)
				for (u32 k = 0; k < MMA_K; k++) {
					u32 bits = (i * MMA_K + k) & 0xff;
					m.a[i][k] = (bits & 0x7f) < least_special ? bits : 0;
				}
			for (u32 j = 0; j < 8; j++)
				m.b[first + j][j] = bits_of_integer(m.format_b, 1);
			run_mma(&m, kind ? MMA8("e5m2.e4m3") : MMA8("e4m3.e5m2"), out);
			for (u32 i = 0; i < 16; i++)
				for (u32 j = 0; j < 8; j++) {
					f32 got;
					memcpy(&got, &out[i / 8 * 2 + j % 2][i % 8 * 4 + j / 2], 4);
					assert_true((f64)got == value_of(m.format_a, m.a[i][first + j]));
				}
		}
}

/* With short sums what is below the largest of c and the products by 14 bits or more is lost, and nothing else. */
static void test_short_sums(void **state)
{
	(void)state;
	static const struct {
		f64 c, factor, sum; /* 32 products of 1 and `factor` */
	} cases[] = { { 4096, 0.4375, 4096 },       { -4096, 0.4375, -4096 },      { 4096, 0.5625, 4096 + 32 * 0.5 }, { 4096, -0.5625, 4096 - 32 * 0.5 },
		      { 0, 0.4375, 32 * 0.4375 },   { 1, 0.4375, 1 + 32 * 0.4375 }, { 0x1p-20, 4, 32 * 4 },           { 0, 0, 0 } };
	for (u32 i = 0; i < COUNT(cases); i++) {
		Mma m = { .k = MMA_K, .format_a = format_e4m3, .format_b = format_e5m2 };
		u32 out[4][LANES], factor = 0;
		f32 c = (f32)cases[i].c, got;
		while (value_of(format_e4m3, factor) != cases[i].factor)
			factor++;
		for (u32 k = 0; k < MMA_K; k++) {
			for (u32 row = 0; row < 16; row++)
				m.a[row][k] = factor;
			for (u32 j = 0; j < 8; j++)
				m.b[k][j] = bits_of_integer(format_e5m2, 1);
		}
		for (u32 e = 0; e < 16 * 8; e++)
			memcpy(&m.c[e / 8][e % 8], &c, 4);
		settings = "sums=short";
		run_mma(&m, MMA8("e4m3.e5m2"), out);
		settings = "";
		for (u32 l = 0; l < 4 * LANES; l++) {
			memcpy(&got, &out[l / LANES][l % LANES], 4);
			if ((f64)got != cases[i].sum)
				fail_msg("%g and 32 times %g give %g", cases[i].c, cases[i].factor, (f64)got);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shuffles), cmocka_unit_test(test_votes),    cmocka_unit_test(test_divergence),
		cmocka_unit_test(test_barriers), cmocka_unit_test(test_matrices), cmocka_unit_test(test_products),
		cmocka_unit_test(test_numbers_of_8_bits), cmocka_unit_test(test_short_sums),
	};
	return cmocka_run_group_tests(tests, standin_setup, NULL);
}
