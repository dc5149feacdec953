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
		/* too few sums at once wait for each other; too few rows or columns wait for loads */
		f64 sums = (f64)(rows * wide), loads = (f64)(rows + wide);
		f64 cost = area * fmax(1, 10 / sums) * fmax(1, loads / sums);
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

/* One step: a row of both panels. */
static void step(const Simd *s, Tile t, V a, V b, V *sum)
{
	CpuModule *m = s->m;
	LLVMTypeRef one = panel_type(m, t.dtype);
	V right[STRIP_VECTORS];
	DType d = t.pairs ? DT_i32 : t.dtype;
	for (u32 v = 0; v < t.vectors; v++)
		right[v] = simd_load(s, d, cpu_at(m, one, b, cpu_i64(m, v * t.lanes)), 0);
	for (u32 r = 0; r < t.rows; r++) {
		V left = simd_load_splat(s, d, cpu_at(m, one, a, cpu_i64(m, r)));
		for (u32 v = 0; v < t.vectors; v++) {
			V *to = &sum[r * t.vectors + v];
			*to = t.pairs ? simd_dot_bf16(s, *to, left, right[v]) :
					simd_multiply_add(s, left, right[v], *to);
		}
	}
}

enum { UNROLL = 4 };

/* k in [0, count) by `steps` a turn, from and to sums and panel pointers. */
static void steps(const Simd *s, Tile t, V count, u32 by, u32 n, V *carried)
{
	CpuModule *m = s->m;
	LLVMTypeRef one = panel_type(m, t.dtype);
	CpuLoop k = { 0 };
	cpu_loop_begin(m, &k, cpu_i64(m, 0), count, cpu_i64(m, 1), n + 2, carried);
	V next[CPU_CARRIED];
	for (u32 i = 0; i < n + 2; i++)
		next[i] = k.carried[i];
	for (u32 u = 0; u < by; u++) {
		step(s, t, next[n], next[n + 1], next);
		next[n] = cpu_at(m, one, next[n], cpu_i64(m, t.rows));
		next[n + 1] = cpu_at(m, one, next[n + 1], cpu_i64(m, tile_width(t)));
	}
	k.unroll = 1;
	cpu_loop_end(m, &k, next);
	for (u32 i = 0; i < n + 2; i++)
		carried[i] = k.carried[i];
}

LLVMValueRef tile_function(CpuModule *m, const char *name, Tile t)
{
	const CpuParameter parameter[] = {
		{ .type = m->pointer, .name = "a", .noalias = true, .readonly = true },
		{ .type = m->pointer, .name = "b", .noalias = true, .readonly = true },
		{ .type = m->pointer, .name = "c", .noalias = true },
		{ .type = m->i64, .name = "k" },
		{ .type = m->i1, .name = "more" },
	};
	V f = cpu_function_begin(m, name, m->none, COUNT(parameter), parameter, true);
	Simd s = { m, t.lanes };
	LLVMTypeRef one = panel_type(m, t.dtype);
	u32 n = t.rows * t.vectors;
	V at[CPU_CARRIED], zero[CPU_CARRIED], sum[CPU_CARRIED], c = cpu_parameter(m, 2), k = cpu_parameter(m, 3);
	if (t.pairs)
		k = cpu_div_up(m, k, cpu_i64(m, 2));
	assert(n + 2 <= CPU_CARRIED);
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
	steps(&s, t, cpu_div(m, k, cpu_i64(m, UNROLL)), UNROLL, n, sum);
	steps(&s, t, cpu_rem(m, k, cpu_i64(m, UNROLL)), 1, n, sum);
	for (u32 i = 0; i < n; i++)
		simd_store(&s, t.dtype, sum[i], at[i], 0);
	cpu_function_end(m, NULL);
	return f;
}
