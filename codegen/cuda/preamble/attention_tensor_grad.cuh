// codegen/cuda/preamble/attention_tensor_grad.cuh: the gradient of attention on tensor cores, after
// attention_tensor.cuh.
//
// P = 2^(scores - lse), dP = dout V^T, dS = P (dP - D + dlse), D = rowsum(dout out); dV = P^T dout, dK = scale dS^T Q,
// dQ = scale dS K. Two kernels, each a walk as forward's is: dK and dV by blocks of keys, whose scores are made turned
// (rows are keys), and dQ by blocks of queries. Either way a warp's P and dS are the left operands of its next products
// where they stand, in registers. Making S and dP twice costs 7 products where one kernel would do with 5 (Dao,
// FlashAttention-2, 2023). But that one exchanges dS through shared memory, with two more barriers for each block of
// scores, and adds dQ up in memory: by atomics, in an order that is left open, or in order, by one block of threads for all
// keys of a head, or with a copy of dQ for each of several. Here sums are in order, blocks independent, and the workspace two
// numbers a row.
//
// These two, made by pl_attention_row_numbers: lse in units of log 2 (+infinity where nothing was seen, and in the rows that
// round their count up, so that P is 0 there), and D - dlse.

// ---- dK and dV ----

// Shared memory of a block of keys: its own tiles of keys and values, then for each stage queries, dout, lse, D.
template <class S> struct AttentionKeysLayout {
	static constexpr int ROWS = S::WARPS * S::TILES * 16;
	static constexpr int KEY = ROWS * AttentionTile<S::FK>::ROW;
	static constexpr int VALUE = S::WANT_K ? ROWS * AttentionTile<S::FV>::ROW : 0;
	static constexpr int Q = S::STEP * AttentionTile<S::FK>::ROW, DOUT = S::STEP * AttentionTile<S::FV>::ROW;
	static constexpr int STAGE = Q + DOUT + (2 * S::STEP * 4 + 127) / 128 * 128;
};

// Two neighbouring floats in shared memory.
PL void pl_attention_load2(float *x, u32 place)
{
	asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x[0]), "=f"(x[1]) : "r"(place) : "memory");
}

// Keys [n0, n0 + ROWS). S::R heads of queries share them; each function of queries takes the head r first, and rows(r)
// is the place of the head's two arrays, of PADDED elements. WANT_K, WANT_V: which results. dk(n, k, x, y), dv(n, v, x, y)
// store two features.
template <class S, int PADDED, class Q, class Key, class Value, class Dout, class Bias, class Seen, class Dk, class Dv>
PL void pl_attention_grad_keys(int n0, const Q &q, const Key &key, const Value &value, const Dout &dout,
			       const float *lse_rows, const float *d_rows, const Bias &bias, const Seen &seen, const Dk &dk,
			       const Dv &dv)
{
	typedef AttentionKeysLayout<S> L;
	constexpr int THREADS = S::WARPS * 32, TILES = S::TILES, COLUMNS = S::COLUMNS;
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int w0 = n0 + warp * TILES * 16, lane_row = w0 + lane / 4, lane_column = lane % 4 * 2;
	const u32 shared = pl_shared_address(pl_attention_shared), stages = shared + L::KEY + L::VALUE;

	int begin, end;
	pl_attention_queries<S>(n0, L::ROWS, S::STEP, &begin, &end);
	const int blocks = max(0, (end - begin + S::STEP - 1) / S::STEP), steps = blocks * S::R;

	auto fetch = [&](int stage, int step) {
		int r = S::R == 1 ? 0 : step / blocks, m = begin + (S::R == 1 ? step : step % blocks) * S::STEP;
		u32 to = stages + stage * L::STAGE;
		auto q_r = q(r);
		auto dout_r = dout(r);
		pl_attention_fetch<S::STEP, S::FK, S::K, S::M, THREADS>(to, q_r, m);
		pl_attention_fetch<S::STEP, S::FV, S::V, S::M, THREADS>(to + L::Q, dout_r, m);
		// four numbers a thread
		const int i = pl_thread_anew() * 4;
		if (i < 2 * S::STEP) {
			const float *from = i < S::STEP ? lse_rows : d_rows - S::STEP;
			pl_cp_async16(to + L::Q + L::DOUT + i * 4, from + (i64)r * PADDED + m + i);
		}
	};
	if (steps > 0) {
		pl_attention_fetch<L::ROWS, S::FK, S::K, S::N, THREADS>(shared, key, n0);
		if constexpr (S::WANT_K)
			pl_attention_fetch<L::ROWS, S::FV, S::V, S::N, THREADS>(shared + L::KEY, value, n0);
		fetch(0, 0);
	}
	pl_cp_async_commit();

	constexpr float FACTOR = pl_attention_scaled<S>() ? 1.0f : S::SCALE * PL_LOG2E;
	float to_k[TILES][S::WANT_K ? S::FK / 8 : 1][4], to_v[TILES][S::WANT_V ? S::FV / 8 : 1][4];
	pl_attention_each(to_k, [](int, int, int, float *x) { x[0] = x[1] = 0; });
	pl_attention_each(to_v, [](int, int, int, float *x) { x[0] = x[1] = 0; });
	u32 held_k[TILES][S::HELD ? S::FK / 16 : 1][4], held_v[TILES][S::HELD ? S::FV / 16 : 1][4];
	const u32 left_k = shared + warp * TILES * 16 * AttentionTile<S::FK>::ROW + AttentionTile<S::FK>::left(lane);
	const u32 left_v = shared + L::KEY + warp * TILES * 16 * AttentionTile<S::FV>::ROW + AttentionTile<S::FV>::left(lane);

#pragma unroll 1
	for (int step = 0, stage = 0; step < steps; step++, stage ^= 1) {
		pl_cp_async_wait<0>();
		__syncthreads();
		if (step + 1 < steps)
			fetch(stage ^ 1, step + 1);
		pl_cp_async_commit();
		if constexpr (S::HELD) {
			if (step == 0) {
				pl_attention_hold<TILES, S::FK>(held_k, left_k);
				if constexpr (S::WANT_K)
					pl_attention_hold<TILES, S::FV>(held_v, left_v);
			}
		}
		const int r = S::R == 1 ? 0 : step / blocks, m1 = begin + (S::R == 1 ? step : step % blocks) * S::STEP;
#pragma unroll 1
		for (int at = 0; at < S::STEP; at += COLUMNS) {
			const int m = m1 + at;
			if (m >= S::M || !pl_attention_any<S>(m, COLUMNS, w0, TILES * 16))
				continue;
			u32 q_tile = stages + stage * L::STAGE + at * AttentionTile<S::FK>::ROW;
			u32 dout_tile = stages + stage * L::STAGE + L::Q + at * AttentionTile<S::FV>::ROW;
			u32 lse_at = stages + stage * L::STAGE + L::Q + L::DOUT + (at + lane_column) * 4;
			float p[TILES][COLUMNS / 8][4], slope[TILES][COLUMNS / 8][4];
			pl_attention_scores<S, S::HELD, S::FK, TILES, COLUMNS>(p, held_k, left_k,
									       q_tile + AttentionTile<S::FK>::right(lane));
			pl_attention_finish<S, true, TILES, COLUMNS>(
				p, lane_row, m + lane_column, pl_attention_all<S>(m, COLUMNS, w0, TILES * 16),
				[&](int m, int n) { return bias(r, m, n); }, [&](int m, int n) { return seen(r, m, n); },
				[&](int t, int j, int i, float x) { slope[t][j][i] = x; });
#pragma unroll
			for (int j = 0; j < COLUMNS / 8; j++) {
				float lse[2];
				pl_attention_load2(lse, lse_at + j * 32);
#pragma unroll
				for (int t = 0; t < TILES; t++)
#pragma unroll
					for (int i = 0; i < 4; i++)
						p[t][j][i] = pl_exp2(__fmaf_rn(p[t][j][i], FACTOR, -lse[i % 2]));
			}
			if constexpr (S::WANT_V)
				pl_attention_mix<S, S::FV, TILES, COLUMNS>(to_v, p,
									   dout_tile + AttentionTile<S::FV>::right_turned(lane));
			if constexpr (S::WANT_K) {
				float ds[TILES][COLUMNS / 8][4];
				pl_attention_scores<S, S::HELD, S::FV, TILES, COLUMNS>(
					ds, held_v, left_v, dout_tile + AttentionTile<S::FV>::right(lane));
#pragma unroll
				for (int j = 0; j < COLUMNS / 8; j++) {
					float d[2];
					pl_attention_load2(d, lse_at + S::STEP * 4 + j * 32);
#pragma unroll
					for (int t = 0; t < TILES; t++)
#pragma unroll
						for (int i = 0; i < 4; i++)
							ds[t][j][i] = p[t][j][i] * (ds[t][j][i] - d[i % 2]) *
								      (S::CAPPED ? slope[t][j][i] : 1.0f);
				}
				pl_attention_mix<S, S::FK, TILES, COLUMNS>(to_k, ds,
									   q_tile + AttentionTile<S::FK>::right_turned(lane));
			}
		}
	}
	pl_cp_async_wait<0>();

	if constexpr (S::WANT_K)
		pl_attention_each(to_k, [&](int t, int half, int j, float *x) {
			int n = lane_row + 16 * t + 8 * half, k = 8 * j + lane_column;
			if (n < S::N && (S::FK == S::K || k < S::K))
				dk(n, k, x[0] * S::SCALE, x[1] * S::SCALE);
		});
	if constexpr (S::WANT_V)
		pl_attention_each(to_v, [&](int t, int half, int j, float *x) {
			int n = lane_row + 16 * t + 8 * half, v = 8 * j + lane_column;
			if (n < S::N && (S::FV == S::V || v < S::V))
				dv(n, v, x[0], x[1]);
		});
}

// ---- dQ ----

template <class S> struct AttentionQueriesLayout {
	static constexpr int ROWS = S::WARPS * S::TILES * 16;
	static constexpr int Q = ROWS * AttentionTile<S::FK>::ROW, DOUT = ROWS * AttentionTile<S::FV>::ROW;
	static constexpr int KEY = S::STEP * AttentionTile<S::FK>::ROW, VALUE = S::STEP * AttentionTile<S::FV>::ROW;
	static constexpr int STAGE = KEY + VALUE;
};

// Queries [m0, m0 + ROWS) of one head. dq(m, k, x, y) stores two features, dbias(m, n, x) one score's derivative; it is
// called for every m and n if S::WANT_BIAS.
template <class S, class Q, class Key, class Value, class Dout, class Bias, class Seen, class Dq, class Dbias>
PL void pl_attention_grad_queries(int m0, const Q &q, const Key &key, const Value &value, const Dout &dout,
				  const float *lse_rows, const float *d_rows, const Bias &bias, const Seen &seen,
				  const Dq &dq, const Dbias &dbias)
{
	typedef AttentionQueriesLayout<S> L;
	constexpr int THREADS = S::WARPS * 32, TILES = S::TILES, COLUMNS = S::COLUMNS;
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int w0 = m0 + warp * TILES * 16, lane_row = w0 + lane / 4, lane_column = lane % 4 * 2;
	const u32 shared = pl_shared_address(pl_attention_shared), stages = shared + L::Q + L::DOUT;
	int begin, end;
	pl_attention_keys<S>(m0, L::ROWS, S::STEP, &begin, &end);
	if (S::WANT_BIAS)
		begin = 0, end = S::N;

	auto fetch = [&](int stage, int n) {
		u32 to = stages + stage * L::STAGE;
		pl_attention_fetch<S::STEP, S::FK, S::K, S::N, THREADS>(to, key, n);
		pl_attention_fetch<S::STEP, S::FV, S::V, S::N, THREADS>(to + L::KEY, value, n);
	};
	if (begin < end) {
		pl_attention_fetch<L::ROWS, S::FK, S::K, S::M, THREADS>(shared, q, m0);
		pl_attention_fetch<L::ROWS, S::FV, S::V, S::M, THREADS>(shared + L::Q, dout, m0);
		fetch(0, begin);
	}
	pl_cp_async_commit();

	constexpr float FACTOR = pl_attention_scaled<S>() ? 1.0f : S::SCALE * PL_LOG2E;
	float to_q[TILES][S::FK / 8][4], lse[TILES][2], d[TILES][2];
	pl_attention_each(to_q, [](int, int, int, float *x) { x[0] = x[1] = 0; });
#pragma unroll
	for (int t = 0; t < TILES; t++)
#pragma unroll
		for (int half = 0; half < 2; half++) {
			lse[t][half] = lse_rows[lane_row + 16 * t + 8 * half];
			d[t][half] = d_rows[lane_row + 16 * t + 8 * half];
		}
	u32 held_q[TILES][S::HELD ? S::FK / 16 : 1][4], held_dout[TILES][S::HELD ? S::FV / 16 : 1][4];
	const u32 left_q = shared + warp * TILES * 16 * AttentionTile<S::FK>::ROW + AttentionTile<S::FK>::left(lane);
	const u32 left_dout = shared + L::Q + warp * TILES * 16 * AttentionTile<S::FV>::ROW + AttentionTile<S::FV>::left(lane);

#pragma unroll 1
	for (int n0 = begin, stage = 0; n0 < end; n0 += S::STEP, stage ^= 1) {
		pl_cp_async_wait<0>();
		__syncthreads();
		if (n0 + S::STEP < end)
			fetch(stage ^ 1, n0 + S::STEP);
		pl_cp_async_commit();
		if constexpr (S::HELD) {
			if (n0 == begin) {
				pl_attention_hold<TILES, S::FK>(held_q, left_q);
				pl_attention_hold<TILES, S::FV>(held_dout, left_dout);
			}
		}
#pragma unroll 1
		for (int at = 0; at < S::STEP; at += COLUMNS) {
			const int n = n0 + at;
			if (!S::WANT_BIAS && !pl_attention_any<S>(w0, TILES * 16, n, COLUMNS))
				continue;
			u32 key_tile = stages + stage * L::STAGE + at * AttentionTile<S::FK>::ROW;
			u32 value_tile = stages + stage * L::STAGE + L::KEY + at * AttentionTile<S::FV>::ROW;
			float p[TILES][COLUMNS / 8][4], ds[TILES][COLUMNS / 8][4], slope[TILES][COLUMNS / 8][4];
			pl_attention_scores<S, S::HELD, S::FK, TILES, COLUMNS>(p, held_q, left_q,
									       key_tile + AttentionTile<S::FK>::right(lane));
			pl_attention_finish<S, false, TILES, COLUMNS>(p, lane_row, n + lane_column,
								      pl_attention_all<S>(w0, TILES * 16, n, COLUMNS), bias,
								      seen, [&](int t, int j, int i, float x) {
									      slope[t][j][i] = x;
								      });
			pl_attention_scores<S, S::HELD, S::FV, TILES, COLUMNS>(ds, held_dout, left_dout,
									       value_tile + AttentionTile<S::FV>::right(lane));
			pl_attention_each(ds, [&](int t, int half, int j, float *x) {
#pragma unroll
				for (int i = 0; i < 2; i++)
					x[i] = pl_exp2(__fmaf_rn(p[t][j][2 * half + i], FACTOR, -lse[t][half])) *
					       (x[i] - d[t][half]);
			});
			if constexpr (S::WANT_BIAS)
				pl_attention_each(ds, [&](int t, int half, int j, float *x) {
#pragma unroll
					for (int i = 0; i < 2; i++) {
						int m = lane_row + 16 * t + 8 * half, at = n + lane_column + 8 * j + i;
						if (m < S::M && at < S::N)
							dbias(m, at, x[i]);
					}
				});
			if constexpr (S::CAPPED)
				pl_attention_each(ds, [&](int t, int half, int j, float *x) {
#pragma unroll
					for (int i = 0; i < 2; i++)
						x[i] *= slope[t][j][2 * half + i];
				});
			if constexpr (S::WANT_Q)
				pl_attention_mix<S, S::FK, TILES, COLUMNS>(to_q, ds,
									   key_tile + AttentionTile<S::FK>::right_turned(lane));
		}
	}
	pl_cp_async_wait<0>();

	if constexpr (S::WANT_Q)
		pl_attention_each(to_q, [&](int t, int half, int j, float *x) {
			int m = lane_row + 16 * t + 8 * half, k = 8 * j + lane_column;
			if (m < S::M && (S::FK == S::K || k < S::K))
				dq(m, k, x[0] * S::SCALE, x[1] * S::SCALE);
		});
}
