/* codegen/cpu/micro.c: the register tile: outer products of a column of A and a row of B, accumulated in
 * registers; see panel.h. Each element's sum is taken in order of k by fused multiply-adds, whatever the
 * tile and the blocks of k are, so none of these change bits. */
#include "codegen/cpu/panel.h"

#include <math.h>

typedef LLVMValueRef V;

LLVMTypeRef panel_type(const CpuModule *m, DType compute)
{
	return compute == DT_f64 ? m->f64 : m->f32;
}

DType panel_dtype(DType compute)
{
	return compute == DT_f64 ? DT_f64 : DT_f32;
}

u32 panel_bytes(DType compute)
{
	return compute == DT_f64 ? 8 : 4;
}

/* Rows and vectors that fit the registers, in order of preference. */
static const u8 tiles32[][2] = { { 8, 3 }, { 6, 4 }, { 12, 2 }, { 4, 6 }, { 2, 8 }, { 16, 1 } };
static const u8 tiles16[][2] = { { 4, 3 }, { 6, 2 }, { 2, 4 }, { 1, 6 }, { 12, 1 } };

static const u8 (*tiles_of(const CpuMachine *machine, u32 *n))[2]
{
	bool many = machine->registers >= 32;
	*n = many ? COUNT(tiles32) : COUNT(tiles16);
	return many ? tiles32 : tiles16;
}

bool tile_at(const CpuMachine *machine, u32 index, u32 *rows, u32 *vectors)
{
	u32 n;
	const u8 (*tile)[2] = tiles_of(machine, &n);
	if (index >= n)
		return false;
	*rows = tile[index][0];
	*vectors = tile[index][1];
	return true;
}

/* `wanted`: a tile that is worth a little waste, or 0 by 0. */
static Tile choose(const CpuMachine *machine, DType compute, i64 M, i64 N, u32 wanted_rows, u32 wanted_vectors)
{
	Tile best = { 0 };
	f64 least = INFINITY;
	u32 lanes = compute == DT_f64 ? MAX(machine->lanes / 2, 2) : machine->lanes;
	u32 n;
	const u8 (*tile)[2] = tiles_of(machine, &n);
	M = MAX(M, 1);
	N = MAX(N, 1);
	for (u32 i = 0; i < n; i++) {
		const u8 *t = tile[i];
		i64 high = (M + t[0] - 1) / t[0], vectors = (N + lanes - 1) / lanes;
		i64 rows = (M + high - 1) / high, wide = MIN(vectors, t[1]);
		f64 area = (f64)(high * rows) * (f64)((vectors + wide - 1) / wide * wide);
		/* too few sums at once wait for each other; too few rows or columns wait for loads: on Zen 3 a tile of 6 by
		 * 2 vectors, which are 8 loads for 12 sums, takes 1.13 times as long as one of 4 by 3, which are 7 */
		f64 sums = (f64)(rows * wide), loads = (f64)(rows + wide);
		f64 cost = area * fmax(1, 10 / sums) * fmax(1, 12.0 / 7 * loads / sums);
		if (rows == wanted_rows && wide == wanted_vectors)
			cost = area * 0.95;
		if (cost < least * 0.999) {
			least = cost;
			best = (Tile){ (u32)rows, (u32)wide, lanes, panel_dtype(compute), false };
		}
	}
	return best;
}

Tile tile_for(const CpuMachine *machine, DType compute, i64 M, i64 N)
{
	return choose(machine, compute, M, N, 0, 0);
}

Tile product_tile(const CpuMachine *machine, DType compute, i64 M, i64 N)
{
	return choose(machine, compute, M, N, machine->tuning.rows, machine->tuning.vectors);
}

bool tile_pairs(const CpuMachine *machine, const Kernel *kernel, Range k)
{
	bool whole = k.last - k.first == 1 || kernel->dim[k.last - 1].extent % 2 == 0;
	return machine->bf16_pairs && kernel->compute == DT_bf16 && whole;
}

/* A load, of one element into every lane or of a vector. With 16 registers the tile takes all of them, and the order in which they
 * are loaded again counts: a volatile load stays where it is written. */
static V load(const Simd *s, Tile t, V at, bool one)
{
	CpuModule *m = s->m;
	DType d = t.pairs ? DT_i32 : t.dtype;
	Simd alone = { m, 1 };
	V x = simd_load(one ? &alone : s, d, at, 0);
	LLVMSetVolatile(x, m->machine->registers < 32);
	return one ? simd_splat(s, x) : x;
}

/* One step: a row of both panels, at a and b, of which `right` is already here. What is next in `right` is loaded where
 * the last use of each vector is, among the multiplications: on Zen 3 a 4 x 24 tile does 95% of the peak so, and 91%
 * where a row's loads come together (the loop alone, from the first cache). */
static void step(const Simd *s, Tile t, V a, V b, V *sum, V *right)
{
	CpuModule *m = s->m;
	LLVMTypeRef one = panel_type(m, t.dtype);
	for (u32 r = 0; r < t.rows; r++) {
		V left = load(s, t, cpu_at(m, one, a, cpu_i64(m, r)), true);
		for (u32 v = 0; v < t.vectors; v++) {
			V *to = &sum[r * t.vectors + v];
			*to = t.pairs ? simd_dot_bf16(s, *to, left, right[v]) :
					simd_multiply_add(s, left, right[v], *to);
			if (r + 1 == t.rows)
				right[v] = load(s, t, cpu_at(m, one, b, cpu_i64(m, tile_width(t) + v * t.lanes)), false);
		}
	}
}

enum { UNROLL = 4 };

/* k in [0, count) by `by` a turn, from and to n sums, panel pointers, what is asked for and the right panel's row. */
static void steps(const Simd *s, Tile t, V count, u32 by, u32 n, V *carried)
{
	CpuModule *m = s->m;
	LLVMTypeRef one = panel_type(m, t.dtype);
	u32 all = n + 3 + t.vectors, bytes = by * t.rows * panel_bytes(t.dtype);
	CpuLoop k = { 0 };
	cpu_loop_begin(m, &k, cpu_i64(m, 0), count, cpu_i64(m, 1), all, carried);
	V next[CPU_CARRIED];
	for (u32 i = 0; i < all; i++)
		next[i] = k.carried[i];
	for (u32 u = 0; u < by; u++) {
		step(s, t, next[n], next[n + 1], next, next + n + 3);
		next[n] = cpu_at(m, one, next[n], cpu_i64(m, t.rows));
		next[n + 1] = cpu_at(m, one, next[n + 1], cpu_i64(m, tile_width(t)));
	}
	for (u32 at = 0; by > 1 && at < bytes; at += (u32)m->machine->line)
		simd_prefetch(s, cpu_at(m, m->i8, next[n + 2], cpu_i64(m, at)), 2, false);
	next[n + 2] = cpu_at(m, m->i8, next[n + 2], cpu_i64(m, bytes));
	k.unroll = 1;
	cpu_loop_end(m, &k, next);
	for (u32 i = 0; i < all; i++)
		carried[i] = k.carried[i];
}

const char *tile_symbol(Arena *arena, const char *prefix, Tile t)
{
	return arena_printf(arena, "%stile_%s_%u_%ux%u%s", prefix, dtype_info[t.dtype].name, t.rows, t.vectors, t.lanes, t.pairs ? "_pairs" : "");
}

enum { TILE_PARAMETERS = 6 };
static void parameters(const CpuModule *m, CpuParameter p[TILE_PARAMETERS])
{
	p[0] = (CpuParameter){ .type = m->pointer, .name = "a", .noalias = true, .readonly = true };
	p[1] = (CpuParameter){ .type = m->pointer, .name = "b", .noalias = true, .readonly = true };
	p[2] = (CpuParameter){ .type = m->pointer, .name = "c", .noalias = true };
	p[3] = (CpuParameter){ .type = m->i64, .name = "k" };
	p[4] = (CpuParameter){ .type = m->i1, .name = "more" };
	p[5] = (CpuParameter){ .type = m->pointer, .name = "next", .readonly = true };
}

LLVMValueRef tile_function(CpuModule *m, Tile t)
{
	CpuParameter p[TILE_PARAMETERS];
	Arena tmp = ARENA("tile");
	const char *name = tile_symbol(&tmp, m->prefix ? m->prefix : "", t);
	V f = LLVMGetNamedFunction(m->module, name);
	parameters(m, p);
	if (!f)
		f = m->prefix ? cpu_function_declare(m, name, m->none, TILE_PARAMETERS, p) : tile_emit(m, name, t, true);
	arena_free(&tmp);
	return f;
}

LLVMValueRef tile_emit(CpuModule *m, const char *name, Tile t, bool local)
{
	CpuParameter parameter[TILE_PARAMETERS];
	parameters(m, parameter);
	V f = cpu_function_begin(m, name, m->none, TILE_PARAMETERS, parameter, local);
	Simd s = { m, t.lanes };
	LLVMTypeRef one = panel_type(m, t.dtype);
	u32 n = t.rows * t.vectors;
	V at[CPU_CARRIED], zero[CPU_CARRIED], sum[CPU_CARRIED], c = cpu_parameter(m, 2), k = cpu_parameter(m, 3);
	if (t.pairs)
		k = cpu_div_up(m, k, cpu_i64(m, 2));
	assert(n + 3 + t.vectors <= CPU_CARRIED);
	for (u32 i = 0; i < n; i++) {
		at[i] = cpu_at(m, one, c, cpu_i64(m, i * t.lanes));
		zero[i] = simd_constant(&s, t.dtype, 0);
	}
	CpuIf more = { 0 };
	cpu_if_begin(m, &more, cpu_parameter(m, 4), 50);
	for (u32 i = 0; i < n; i++)
		sum[i] = simd_load(&s, t.dtype, at[i], 0);
	cpu_if_end(m, &more, n, sum, zero);
	for (u32 i = 0; i < n; i++)
		sum[i] = more.value[i];
	sum[n] = cpu_parameter(m, 0);
	sum[n + 1] = cpu_parameter(m, 1);
	sum[n + 2] = cpu_parameter(m, 5);
	for (u32 v = 0; v < t.vectors; v++)
		sum[n + 3 + v] = load(&s, t, cpu_at(m, one, sum[n + 1], cpu_i64(m, v * t.lanes)), false);
	steps(&s, t, cpu_div(m, k, cpu_i64(m, UNROLL)), UNROLL, n, sum);
	steps(&s, t, cpu_rem(m, k, cpu_i64(m, UNROLL)), 1, n, sum);
	for (u32 i = 0; i < n; i++)
		simd_store(&s, t.dtype, sum[i], at[i], 0);
	cpu_function_end(m, NULL);
	return f;
}
