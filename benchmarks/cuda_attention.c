/* benchmarks/cuda_attention.c: TFLOP/s of attention, causal, forward and backward, bf16 in and out,
 * on the GPU at hand: `cuda_attention [--tune | --json] [B H T K]...`. FLOPs are those of what is visible,
 * half a square: 2 products forward, 5 backward. Medians of 20 launches by events. A few rows of
 * each result are compared with f64. peers/attention.py prints the same of PyTorch. --json: an object a
 * line, which collect.py reads. --tune: instead, the times of other ways to divide the work. */
#include "benchmarks/cuda_time.h"
#include "codegen/cuda/attention_common.h"

#include <math.h>

enum { B_, G_, R_, M_, N_, K_, V_ };
typedef struct Size {
	i64 B, H, T, K;
} Size;

/* ---- kernels ---- */

static Access tensor(Kernel *k, const Size *s, DType d, u32 rows, i32 features)
{
	i64 width = features < 0 ? 1 : s->K;
	Access a = { .slot = kernel_slot(k, (KSlot){ .dtype = d,
						     .elements = s->B * s->H * s->T * width,
						     .name = "" }) };
	a.stride[B_] = s->H * s->T * width;
	a.stride[G_] = s->T * width;
	a.stride[rows] = width;
	if (features >= 0)
		a.stride[features] = 1;
	return a;
}

static void operand(Kernel *k, Access a)
{
	KSlot *slot = &k->slot.v[a.slot];
	slot->read = true;
	k->operand[k->noperand++] =
		kernel_inst(k, (KInst){ .op = K_load, .dtype = (u8)slot->dtype, .access = &a });
}

static void result(Kernel *k, u32 which, Access a)
{
	KSlot *slot = &k->slot.v[a.slot];
	slot->written = true;
	KVal x = kernel_inst(k, (KInst){ .op = K_acc, .dtype = DT_f32, .imm = which });
	if (slot->dtype != DT_f32)
		x = kernel_inst(k, (KInst){ .op = K_cast, .dtype = (u8)slot->dtype, .in = { x } });
	kernel_inst(k,
		    (KInst){ .op = K_store, .dtype = (u8)slot->dtype, .in = { x }, .access = &a });
}

/* Slots: q k v, then out lse; or out lse dout dq dk dv. */
static Kernel *kernel_of(Arena *arena, Ir *ir, const Size *s, bool grad)
{
	Kernel *k = kernel_new(arena, ir, grad ? KERNEL_ATTENTION_GRAD : KERNEL_ATTENTION);
	const i64 extent[] = { s->B, s->H, 1, s->T, s->T, s->K, s->K };
	const DimRole role[] = { DIM_BATCH, DIM_G, DIM_R, DIM_M, DIM_N, DIM_K, DIM_V };
	for (u32 i = 0; i < 7; i++)
		k->dim[k->ndim++] = (KDim){ .role = role[i], .extent = extent[i] };
	k->name = grad ? "attention_grad" : "attention";
	k->causal = true;
	k->compute = DT_bf16;
	operand(k, tensor(k, s, DT_bf16, M_, K_));
	operand(k, tensor(k, s, DT_bf16, N_, K_));
	operand(k, tensor(k, s, DT_bf16, N_, V_));
	if (!grad) {
		result(k, 0, tensor(k, s, DT_bf16, M_, V_));
		result(k, 1, tensor(k, s, DT_f32, M_, -1));
		return k;
	}
	operand(k, tensor(k, s, DT_bf16, M_, V_));
	operand(k, tensor(k, s, DT_f32, M_, -1));
	operand(k, tensor(k, s, DT_bf16, M_, V_));
	result(k, 0, tensor(k, s, DT_bf16, M_, K_));
	result(k, 1, tensor(k, s, DT_bf16, N_, K_));
	result(k, 2, tensor(k, s, DT_bf16, N_, V_));
	return k;
}

/* ---- numbers ---- */

static f64 bf16(const u16 *x, i64 i)
{
	u32 bits = (u32)x[i] << 16;
	f32 f;
	memcpy(&f, &bits, 4);
	return (f64)f;
}

/* About normal: the sum of four uniform numbers, of variance 1. */
static void fill(u16 *x, i64 n, u64 seed)
{
	for (i64 i = 0; i < n; i++) {
		f32 sum = 0;
		for (u32 j = 0; j < 4; j++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			sum += (f32)(seed >> 40) * 0x1p-24f - 0.5f;
		}
		sum *= 1.7320508f;
		u32 bits;
		memcpy(&bits, &sum, 4);
		x[i] = (u16)(bits >> 16);
	}
}

static void fill_slot(const Gpu *g, const Launch *l, u32 slot)
{
	i64 n = l->k->slot.v[slot].elements;
	u16 *x = malloc((size_t)n * 2);
	fill(x, n, slot + 1);
	GPU(g->to_device(l->slot[slot], x, (size_t)n * 2));
	free(x);
}

static u16 *host(const Gpu *g, u64 from, i64 n)
{
	u16 *x = malloc((size_t)n * 2);
	GPU(g->from_device(x, from, (size_t)n * 2));
	return x;
}

static f64 dot(const u16 *x, const u16 *y, i64 n)
{
	f64 sum = 0;
	for (i64 i = 0; i < n; i++)
		sum += bf16(x, i) * bf16(y, i);
	return sum;
}

/* One head on the host. */
typedef struct Head {
	i64 T, K;
	const u16 *q, *k, *v, *out, *dout;
	const f32 *lse;
} Head;

/* The probability of (m, n) and dS there. */
static f64 probability(const Head *h, i64 m, i64 n, f64 *ds)
{
	i64 K = h->K;
	f64 p = exp(dot(h->q + m * K, h->k + n * K, K) / sqrt((f64)K) - (f64)h->lse[m]);
	*ds = p * (dot(h->dout + m * K, h->v + n * K, K) - dot(h->dout + m * K, h->out + m * K, K));
	return p;
}

/* The largest difference, relative to the largest number wanted (0.01 at least: sums that vanish),
 * of row t of: 0 out, 1 dq, 2 dk, 3 dv. */
static f64 difference(const Head *h, u32 what, i64 t, const u16 *got)
{
	i64 K = h->K;
	f64 *want = calloc((size_t)K, sizeof *want), most = 0.01, worst = 0;
	for (i64 other = what < 2 ? 0 : t; other < (what < 2 ? t + 1 : h->T); other++) {
		f64 ds, p = what < 2 ? probability(h, t, other, &ds)
				     : probability(h, other, t, &ds);
		f64 factor = what == 0 || what == 3 ? p : ds / sqrt((f64)K);
		const u16 *from = what == 0 ? h->v : what == 1 ? h->k : what == 2 ? h->q : h->dout;
		for (i64 i = 0; i < K; i++)
			want[i] += factor * bf16(from, other * K + i);
	}
	for (i64 i = 0; i < K; i++)
		most = fmax(most, fabs(want[i]));
	for (i64 i = 0; i < K; i++) {
		f64 d = fabs(want[i] - bf16(got, t * K + i)) / most;
		worst = d > worst || isnan(d) ? d : worst;
	}
	free(want);
	return worst;
}

static f64 check(const Gpu *g, const Size *s, const Launch *forward, const Launch *backward)
{
	i64 n = s->B * s->H * s->T * s->K, head = s->B * s->H - 1, at = head * s->T * s->K;
	u16 *q = host(g, forward->slot[0], n), *k = host(g, forward->slot[1], n),
	    *v = host(g, forward->slot[2], n), *dout = host(g, backward->slot[5], n);
	u16 *got[4] = { host(g, forward->slot[3], n), host(g, backward->slot[6], n),
			host(g, backward->slot[7], n), host(g, backward->slot[8], n) };
	f32 *lse = (f32 *)(void *)host(g, forward->slot[4], 2 * s->B * s->H * s->T);
	Head h = { s->T, s->K, q + at, k + at, v + at, got[0] + at, dout + at, lse + head * s->T };
	const i64 rows[] = { 0, MIN(1, s->T - 1), MIN(65, s->T - 1), MIN(s->T / 2 + 7, s->T - 1), MAX(0, s->T - 130), s->T - 1 };
	f64 worst = 0;
	for (u32 i = 0; i < COUNT(rows); i++)
		for (u32 what = 0; what < 4; what++) {
			f64 d = difference(&h, what, rows[i], got[what] + at);
			worst = d > worst || isnan(d) ? d : worst;
		}
	u16 *all[] = { q, k, v, dout, got[0], got[1], got[2], got[3], (u16 *)(void *)lse };
	for (u32 i = 0; i < COUNT(all); i++)
		free(all[i]);
	return worst;
}

/* ---- times ---- */

static void measure(const Gpu *g, const Size *s, bool json)
{
	Arena arena = ARENA("benchmark");
	Diag diag = { .arena = &arena };
	Ir *ir = ir_new(&arena, &diag);
	Launch forward = { 0 }, backward = { 0 };
	launch_make(&forward, g, kernel_of(&arena, ir, s, false), &arena);
	for (u32 i = 0; i < 5; i++)
		backward.slot[i] = forward.slot[i];
	launch_make(&backward, g, kernel_of(&arena, ir, s, true), &arena);
	for (u32 i = 0; i < 3; i++)
		fill_slot(g, &forward, i);
	fill_slot(g, &backward, 5);
	f64 phase[CUDA_PHASES], pairs = (f64)s->B * (f64)s->H * (f64)s->T * (f64)(s->T + 1) / 2;
	f64 product = 2 * pairs * (f64)s->K * 1e-9;
	f64 f = launch_time(g, &forward, 20, NULL), b = launch_time(g, &backward, 20, phase);
	f64 worst = check(g, s, &forward, &backward);
	if (json) {
		printf("{\"attention\": [%lld, %lld, %lld, %lld], \"who\": \"plinth\", \"forward_ms\": %.4g, \"backward_ms\": %.4g, "
		       "\"forward_tflops\": %.4g, \"backward_tflops\": %.4g, \"difference\": %.2g}\n",
		       (long long)s->B, (long long)s->H, (long long)s->T, (long long)s->K, f, b, 2 * product / f, 5 * product / b, worst);
	} else {
		printf("%3lld %3lld %5lld %4lld   %8.3f %7.1f   %8.3f %7.1f  ", (long long)s->B,
		       (long long)s->H, (long long)s->T, (long long)s->K, f, 2 * product / f, b,
		       5 * product / b);
		for (u32 p = 0; p < backward.needs.nphase; p++)
			printf(" %.3f", phase[p]);
		printf("   %.1e%s\n", worst, worst < 0.03 ? "" : "  WRONG");
	}
	fflush(stdout);
	for (u32 i = 0; i < backward.k->slot.n; i++)
		GPU(g->mem_free(backward.slot[i]));
	if (backward.workspace)
		GPU(g->mem_free(backward.workspace));
	arena_free(&arena);
}

/* ---- tuning ---- */

static const CudaAttentionTile candidate[TILE_PARTS][12] = {
	[TILE_FORWARD] = { { 4, 2, 32, 64, false, 2 },
			   { 4, 2, 32, 64, false, 3 },
			   { 4, 2, 32, 64, true, 2 },
			   { 4, 2, 32, 128, false, 2 },
			   { 4, 2, 64, 64, false, 2 },
			   { 4, 1, 32, 64, false, 4 },
			   { 4, 1, 64, 64, true, 2 },
			   { 8, 1, 32, 64, true, 1 },
			   { 8, 1, 64, 64, true, 1 },
			   { 8, 1, 32, 64, false, 2 },
			   { 8, 2, 32, 64, false, 1 } },
	[TILE_KEYS] = { { 4, 2, 32, 64, false, 2 },
			{ 4, 2, 32, 32, false, 2 },
			{ 4, 2, 16, 64, false, 2 },
			{ 8, 1, 32, 64, false, 1 },
			{ 8, 1, 32, 64, true, 1 },
			{ 8, 1, 64, 64, false, 1 },
			{ 8, 1, 32, 32, false, 1 },
			{ 4, 1, 32, 64, false, 2 },
			{ 4, 1, 32, 32, false, 3 } },
	[TILE_QUERIES] = { { 4, 2, 32, 64, false, 2 },
			   { 4, 2, 32, 64, true, 2 },
			   { 4, 2, 32, 32, false, 2 },
			   { 8, 1, 32, 64, true, 1 },
			   { 8, 1, 64, 64, true, 1 },
			   { 8, 1, 32, 64, false, 1 },
			   { 4, 1, 32, 64, false, 2 },
			   { 4, 1, 32, 64, true, 3 } },
};

/* The time of the phase that each way of dividing the work takes, alone. */
static void tune(Gpu *g, const Size *s)
{
	static const char *const said[] = { "forward", "keys", "queries" };
	CudaAttentionTile wanted[TILE_PARTS];
	printf("%lld %lld %lld %lld: warps tiles columns step held blocks, ms\n", (long long)s->B,
	       (long long)s->H, (long long)s->T, (long long)s->K);
	for (u32 part = 0; part < TILE_PARTS; part++)
		for (u32 i = 0; candidate[part][i].warps; i++) {
			Arena arena = ARENA("benchmark");
			Diag diag = { .arena = &arena };
			memset(wanted, 0, sizeof wanted);
			wanted[part] = candidate[part][i];
			g->arch.attention = wanted;
			Kernel *k =
				kernel_of(&arena, ir_new(&arena, &diag), s, part != TILE_FORWARD);
			CudaNeeds needs = cuda_kernel_class[k->class]->needs(&g->arch, k);
			if (needs.launch[part].shared <= g->arch.shared_per_block) {
				const CudaAttentionTile *t = &wanted[part];
				Launch l = { .k = NULL };
				launch_make(&l, g, k, &arena);
				for (u32 j = 0; j < 3; j++)
					fill_slot(g, &l, j);
				f64 phase[CUDA_PHASES];
				launch_time(g, &l, 10, phase);
				printf("  %-8s %u %u %3u %3u %u %u  %8.3f\n", said[part], t->warps,
				       t->tiles, t->columns, t->step, t->held, t->blocks,
				       phase[part]);
				fflush(stdout);
				for (u32 j = 0; j < k->slot.n; j++)
					GPU(g->mem_free(l.slot[j]));
				if (l.workspace)
					GPU(g->mem_free(l.workspace));
			}
			arena_free(&arena);
		}
	g->arch.attention = NULL;
}

int main(int argc, char **argv)
{
	static const Size sizes[] = { { 64, 12, 1024, 64 },
				      { 16, 16, 2048, 128 },
				      { 4, 16, 8192, 64 } };
	Gpu g = gpu_open();
	bool tuning = argc > 1 && !strcmp(argv[1], "--tune"), json = argc > 1 && !strcmp(argv[1], "--json");
	int first = 1 + (tuning || json);
	if (!json)
		printf("Plinth, %s (%s): causal attention, bf16\n", g.name, g.arch.name);
	if (!tuning && !json) {
		printf("  B   H     T    K    forward                backward           phases of "
		       "backward, ms   difference\n");
		printf("                          ms TFLOP/s         ms TFLOP/s\n");
	}
	u32 given = (u32)(argc - first) / 4;
	for (u32 i = 0; i < (given ? given : COUNT(sizes)); i++) {
		Size s = sizes[given ? 0 : i];
		if (given) {
			char **a = argv + first + 4 * i;
			s = (Size){ atoll(a[0]), atoll(a[1]), atoll(a[2]), atoll(a[3]) };
		}
		if (tuning)
			tune(&g, &s);
		else
			measure(&g, &s, json);
	}
	return 0;
}
