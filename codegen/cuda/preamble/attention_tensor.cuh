// codegen/cuda/preamble/attention_tensor.cuh: attention on tensor cores (mma.sync, sm_80 and up), after tensor.cuh and
// attention.cuh.
//
// After Dao, FlashAttention-2 (2023): a block of threads owns a block of queries and walks over blocks of keys; a warp owns
// whole rows of scores, which stay in registers as they become probabilities and the left operand of the next
// product. Keys and values come through shared memory, the next block while this one is worked on.
//
// A kernel says what it is in a struct S of constants:
//   M, N, K, V        queries, keys, widths
//   FK, FV            the widths as tiles have them: multiples of 16, the rest zeros
//   WARPS, TILES      a warp has 16 * TILES rows of scores
//   COLUMNS           of a block of scores: keys (queries, where rows are keys)
//   STEP              of those that come to shared memory together: a multiple of COLUMNS
//   HELD              left operands stay in registers
//   F16               products of f16; else of bf16
//   CAUSAL, WINDOW, MASK, BIAS, SCALE
//   CAPPED, SOFTCAP   scores are SOFTCAP tanh(SCALE q k / SOFTCAP), before the bias
// and how operands and results are reached in functions:
//   q, key, value     AttentionRows: at(row), the address of a row's features, 16-byte aligned, which are copied as they are;
//                     or AttentionComputed: chunk(row, feature), eight numbers from `feature` on, as 16 bytes
//   bias(m, n), seen(m, n)
//
// Scores are kept in units of log 2: 2^x is one instruction.

#define PL_LOG2E 1.4426950408889634f
#define PL_LN2 0.6931471805599453f

// 2^x to 2 units in the last place; results below the normal numbers are 0.
PL float pl_exp2(float x)
{
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// Products and pairs of a kernel's narrow numbers.
template <bool F16> PL void pl_attention_mma(float *c, const u32 *a, const u32 *b)
{
	if constexpr (F16)
		pl_mma_m16n8k16_f16(c, a, b);
	else
		pl_mma_m16n8k16_bf16(c, a, b);
}
template <bool F16> PL u32 pl_attention_pair(float low, float high)
{
	return F16 ? pl_pair_f16(low, high) : pl_pair_bf16(low, high);
}

// ---- tiles ----

// A tile in shared memory: rows of F 16-bit features, in chunks of 8 (16 bytes). Chunks are placed so that ldmatrix, which
// takes the same chunk of eight neighbouring rows, finds them in different banks. The tile is 128-byte aligned.
template <int F> struct AttentionTile {
	static constexpr int CHUNKS = F / 8;
	static constexpr bool SWIZZLED = CHUNKS % 8 == 0 || CHUNKS == 4 || CHUNKS == 2;
	static constexpr int ROW = (SWIZZLED ? CHUNKS : CHUNKS | 1) * 16; // bytes
	PL u32 at(int row, int chunk)
	{
		int turn = !SWIZZLED ? 0 : CHUNKS == 2 ? row >> 2 & 1 : CHUNKS == 4 ? row >> 1 & 3 : row & 7;
		return (u32)(row * ROW + (chunk ^ turn) * 16);
	}
	// From a place of chunk 0 or 1, 2 * k chunks on.
	PL u32 step(u32 place, int k)
	{
		if constexpr (!SWIZZLED)
			return place + 32 * k;
		return (place ^ (32 * (k % 4))) + 128 * (k / 4);
	}
	// What a lane names to ldmatrix: the left operand's 16 rows by 16 features; the right operand's, where rows of the
	// tile are its columns; and where they are its rows (then transposed).
	PL u32 left(int lane) { return at(lane & 15, lane >> 4); }
	PL u32 right(int lane) { return at((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1); }
	PL u32 right_turned(int lane) { return at(lane & 15, lane >> 4); }
};

// The thread's number, made anew: what is computed from it does not stay in registers from one step to the next.
PL int pl_thread_anew()
{
	int t;
	asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
	return t;
}

template <class At> struct AttentionRows { At at; };
template <class Chunk> struct AttentionComputed { Chunk chunk; };
template <class At> PL AttentionRows<At> pl_attention_rows(At at) { return { at }; }
template <class Chunk> PL AttentionComputed<Chunk> pl_attention_computed(Chunk chunk) { return { chunk }; }

// Rows [first, first + ROWS) of an operand that has END, of WIDTH features, become a tile: what is not there is zeros.
// Copies are under way until they are waited for.
template <int ROWS, int F, int WIDTH, int END, int THREADS, class At>
PL void pl_attention_fetch(u32 tile, const AttentionRows<At> &from, int first)
{
	constexpr int CHUNKS = F / 8;
	const int thread = pl_thread_anew();
#pragma unroll
	for (int i = 0; i < (ROWS * CHUNKS + THREADS - 1) / THREADS; i++) {
		int at = i * THREADS + thread, row = at / CHUNKS, chunk = at % CHUNKS;
		if (ROWS * CHUNKS % THREADS != 0 && row >= ROWS)
			break;
		u32 to = tile + AttentionTile<F>::at(row, chunk);
		const u16 *p = from.at(first + row) + chunk * 8;
		if (END % ROWS == 0 && F == WIDTH)
			pl_cp_async16(to, p);
		else
			pl_cp_async16(to, p, first + row < END && chunk * 8 < WIDTH ? 16 : 0);
	}
}
template <int ROWS, int F, int WIDTH, int END, int THREADS, class Chunk>
PL void pl_attention_fetch(u32 tile, const AttentionComputed<Chunk> &from, int first)
{
	constexpr int CHUNKS = F / 8;
#pragma unroll 2
	for (int at = (int)threadIdx.x; at < ROWS * CHUNKS; at += THREADS) {
		int row = at / CHUNKS, chunk = at % CHUNKS;
		uint4 x = { 0, 0, 0, 0 };
		if (first + row < END && chunk * 8 < WIDTH)
			x = from.chunk(first + row, chunk * 8);
		asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};"
			     :
			     : "r"(tile + AttentionTile<F>::at(row, chunk)), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
			     : "memory");
	}
}

// ---- products of a warp ----

// The left operand's fragments of all features.
template <int TILES, int F> PL void pl_attention_hold(u32 (&a)[TILES][F / 16][4], u32 left)
{
#pragma unroll
	for (int t = 0; t < TILES; t++)
#pragma unroll
		for (int k = 0; k < F / 16; k++)
			pl_ldmatrix_x4(a[t][k], AttentionTile<F>::step(left + t * 16 * AttentionTile<F>::ROW, k));
}

// c = left right^T over F features: rows of both tiles. HELD: the left operand is in registers.
template <class S, bool HELD, int F, int TILES, int COLUMNS>
PL void pl_attention_scores(float (&c)[TILES][COLUMNS / 8][4], const u32 (&held)[TILES][HELD ? F / 16 : 1][4], u32 left,
			    u32 right)
{
	typedef AttentionTile<F> T;
#pragma unroll
	for (int t = 0; t < TILES; t++)
#pragma unroll
		for (int n = 0; n < COLUMNS / 8; n++)
			c[t][n][0] = c[t][n][1] = c[t][n][2] = c[t][n][3] = 0;
#pragma unroll
	for (int k = 0; k < F / 16; k++) {
		u32 a[TILES][4];
#pragma unroll
		for (int t = 0; t < TILES; t++) {
			if constexpr (HELD) {
#pragma unroll
				for (int i = 0; i < 4; i++)
					a[t][i] = held[t][k][i];
			} else {
				pl_ldmatrix_x4(a[t], T::step(left + t * 16 * T::ROW, k));
			}
		}
#pragma unroll
		for (int n = 0; n < COLUMNS / 16; n++) {
			u32 b[4];
			pl_ldmatrix_x4(b, T::step(right + n * 16 * T::ROW, k));
#pragma unroll
			for (int t = 0; t < TILES; t++) {
				pl_attention_mma<S::F16>(c[t][2 * n], a[t], b);
				pl_attention_mma<S::F16>(c[t][2 * n + 1], a[t], b + 2);
			}
		}
	}
}

// to += p right, p being scores in registers, rounded; the tile's rows are p's columns.
template <class S, int F, int TILES, int COLUMNS>
PL void pl_attention_mix(float (&to)[TILES][F / 8][4], const float (&p)[TILES][COLUMNS / 8][4], u32 right_turned)
{
	typedef AttentionTile<F> T;
#pragma unroll
	for (int k = 0; k < COLUMNS / 16; k++) {
		u32 a[TILES][4];
#pragma unroll
		for (int t = 0; t < TILES; t++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				const float *c = p[t][2 * k + i / 2] + i % 2 * 2;
				a[t][i] = pl_attention_pair<S::F16>(c[0], c[1]);
			}
#pragma unroll
		for (int f = 0; f < F / 16; f++) {
			u32 b[4];
			pl_ldmatrix_x4_trans(b, T::step(right_turned + k * 16 * T::ROW, f));
#pragma unroll
			for (int t = 0; t < TILES; t++) {
				pl_attention_mma<S::F16>(to[t][2 * f], a[t], b);
				pl_attention_mma<S::F16>(to[t][2 * f + 1], a[t], b + 2);
			}
		}
	}
}

// f(t, half, j, x): row 16 * t + 8 * half + lane / 4, columns 8 * j + 2 * (lane % 4) and the next: x[0], x[1].
template <int TILES, int COLUMNS8, class F> PL void pl_attention_each(float (&c)[TILES][COLUMNS8][4], const F &f)
{
#pragma unroll
	for (int t = 0; t < TILES; t++)
#pragma unroll
		for (int half = 0; half < 2; half++)
#pragma unroll
			for (int j = 0; j < COLUMNS8; j++)
				f(t, half, j, c[t][j] + 2 * half);
}

// ---- scores ----

// Is the factor of the scores applied before their maximum is taken?
template <class S> PL constexpr bool pl_attention_scaled() { return S::BIAS || S::CAPPED || S::SCALE <= 0; }

// Products become scores in units of log 2 (but for the factor SCALE log2(e), if it is not applied here): -inf where
// unseen. TURNED: rows are keys. row, column: of element 0 of this lane's first pair. slope(t, j, i, x): where scores are bounded, the
// derivative of that at s[t][j][i].
template <class S, bool TURNED, int TILES, int COLUMNS, class Bias, class Seen, class Slope>
PL void pl_attention_finish(float (&s)[TILES][COLUMNS / 8][4], int row, int column, bool all, const Bias &bias,
			    const Seen &seen, const Slope &slope)
{
	if constexpr (pl_attention_scaled<S>()) {
		pl_attention_each(s, [&](int t, int half, int j, float *x) {
#pragma unroll
			for (int i = 0; i < 2; i++) {
				int r = row + 16 * t + 8 * half, c = column + 8 * j + i;
				if constexpr (S::CAPPED) {
					float bounded = pl_tanh(x[i] * (S::SCALE / S::SOFTCAP));
					slope(t, j, 2 * half + i, 1.0f - bounded * bounded);
					x[i] = bounded * (S::SOFTCAP * PL_LOG2E);
				} else {
					x[i] *= S::SCALE * PL_LOG2E;
				}
				if constexpr (S::BIAS)
					x[i] = __fmaf_rn(TURNED ? bias(c, r) : bias(r, c), PL_LOG2E, x[i]);
			}
		});
	}
	if constexpr (S::MASK && (S::FK > 192 || S::FV > 192)) {
		// sums take most of the registers: one element's place at a time, and a bit of each
#pragma unroll
		for (int t = 0; t < TILES; t++) {
			u32 seen_here = 0;
#pragma unroll 1
			for (int at = 0; at < COLUMNS / 2; at++) {
				int r = row + 16 * t + 8 * (at / 2 % 2), c = column + 8 * (at / 4) + at % 2;
				int m = TURNED ? c : r, n = TURNED ? r : c;
				seen_here |= (pl_attention_sees<S>(m, n) && seen(m, n) ? 1u : 0u) << at;
			}
#pragma unroll
			for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					s[t][j][i] = seen_here >> (4 * j + i) & 1 ? s[t][j][i] : -INFINITY_F;
		}
	} else if (S::MASK || !all) {
		pl_attention_each(s, [&](int t, int half, int j, float *x) {
#pragma unroll
			for (int i = 0; i < 2; i++) {
				int r = row + 16 * t + 8 * half, c = column + 8 * j + i;
				int m = TURNED ? c : r, n = TURNED ? r : c;
				bool sees = pl_attention_sees<S>(m, n);
				if constexpr (S::MASK)
					sees = sees && seen(m, n);
				x[i] = sees ? x[i] : -INFINITY_F;
			}
		});
	}
}

// ---- forward ----

// Where a forward block's tiles lie in shared memory, bytes.
template <class S> struct AttentionLayout {
	static constexpr int ROWS = S::WARPS * S::TILES * 16;
	static constexpr int Q = ROWS * AttentionTile<S::FK>::ROW;
	static constexpr int KEY = S::STEP * AttentionTile<S::FK>::ROW, VALUE = S::STEP * AttentionTile<S::FV>::ROW;
	static constexpr int STAGE = KEY + VALUE;
};

extern __shared__ __align__(128) u8 pl_attention_shared[];

// Scores become probabilities relative to 2^shift, which is near the largest score of each row so far: it is raised only where
// some row of the warp exceeds it by a factor of 2^SLACK, and then `out` and `total`, which are relative to it, are
// scaled. total: of this lane's columns. FACTOR: of the scores.
template <class S, int TILES, int COLUMNS>
PL void pl_attention_soften(float (&s)[TILES][COLUMNS / 8][4], float (&shift)[TILES][2], float (&total)[TILES][2],
			    float (&out)[TILES][S::FV / 8][4], const float FACTOR)
{
	const float SLACK = 8;
	float most[TILES][2];
	bool raise = false;
#pragma unroll
	for (int t = 0; t < TILES; t++)
#pragma unroll
		for (int half = 0; half < 2; half++) {
			float x = -INFINITY_F;
#pragma unroll
			for (int j = 0; j < COLUMNS / 8; j++)
				x = fmaxf(x, fmaxf(s[t][j][2 * half], s[t][j][2 * half + 1]));
			x = fmaxf(x, pl_shuffle_xor(x, 1));
			x = fmaxf(x, pl_shuffle_xor(x, 2)) * FACTOR;
			most[t][half] = x;
			raise |= x > shift[t][half] + SLACK;
		}
	if (__any_sync(0xffffffffu, raise)) {
#pragma unroll
		for (int t = 0; t < TILES; t++)
#pragma unroll
			for (int half = 0; half < 2; half++) {
				float x = fmaxf(most[t][half], shift[t][half]);
				/* -infinity: nothing was seen yet, and all is 0 */
				float correction = x == -INFINITY_F ? 1.0f : pl_exp2(shift[t][half] - x);
				shift[t][half] = x;
				total[t][half] *= correction;
#pragma unroll
				for (int j = 0; j < S::FV / 8; j++) {
					out[t][j][2 * half] *= correction;
					out[t][j][2 * half + 1] *= correction;
				}
			}
	}
#pragma unroll
	for (int t = 0; t < TILES; t++)
#pragma unroll
		for (int half = 0; half < 2; half++) {
			float x = shift[t][half] == -INFINITY_F ? 0.0f : shift[t][half];
#pragma unroll
			for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
				for (int i = 2 * half; i < 2 * half + 2; i++) {
					s[t][j][i] = pl_exp2(__fmaf_rn(s[t][j][i], FACTOR, -x));
					total[t][half] += s[t][j][i];
				}
		}
}

// Queries [m0, m0 + ROWS). row(m, lse) stores what a row has once, pair(m, v, lse, x, y) two features of the result.
template <class S, class Q, class Key, class Value, class Bias, class Seen, class Row, class Pair>
PL void pl_attention(int m0, const Q &q, const Key &key, const Value &value, const Bias &bias, const Seen &seen,
		     const Row &row, const Pair &pair)
{
	typedef AttentionLayout<S> L;
	constexpr int THREADS = S::WARPS * 32, TILES = S::TILES, COLUMNS = S::COLUMNS;
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	const int w0 = m0 + warp * TILES * 16, lane_row = w0 + lane / 4, lane_column = lane % 4 * 2;
	const u32 shared = pl_shared_address(pl_attention_shared), stages = shared + L::Q;
	int begin, end;
	pl_attention_keys<S>(m0, L::ROWS, S::STEP, &begin, &end);

	auto fetch = [&](int stage, int n) {
		pl_attention_fetch<S::STEP, S::FK, S::K, S::N, THREADS>(stages + stage * L::STAGE, key, n);
		pl_attention_fetch<S::STEP, S::FV, S::V, S::N, THREADS>(stages + stage * L::STAGE + L::KEY, value, n);
	};
	if (begin < end) {
		pl_attention_fetch<L::ROWS, S::FK, S::K, S::M, THREADS>(shared, q, m0);
		fetch(0, begin);
	}
	pl_cp_async_commit();

	constexpr float FACTOR = pl_attention_scaled<S>() ? 1.0f : S::SCALE * PL_LOG2E;
	float out[TILES][S::FV / 8][4], shift[TILES][2], total[TILES][2];
	u32 held[TILES][S::HELD ? S::FK / 16 : 1][4];
	pl_attention_each(out, [](int, int, int, float *x) { x[0] = x[1] = 0; });
#pragma unroll
	for (int t = 0; t < TILES; t++)
		shift[t][0] = shift[t][1] = -INFINITY_F, total[t][0] = total[t][1] = 0;
	const u32 left = shared + warp * TILES * 16 * AttentionTile<S::FK>::ROW + AttentionTile<S::FK>::left(lane);

#pragma unroll 1
	for (int n0 = begin, stage = 0; n0 < end; n0 += S::STEP, stage ^= 1) {
		// these keys are there, and nobody reads the other stage any more
		pl_cp_async_wait<0>();
		__syncthreads();
		if (n0 + S::STEP < end)
			fetch(stage ^ 1, n0 + S::STEP);
		pl_cp_async_commit();
		if constexpr (S::HELD)
			if (n0 == begin)
				pl_attention_hold<TILES, S::FK>(held, left);
#pragma unroll 1
		for (int at = 0; at < S::STEP; at += COLUMNS) {
			const int n = n0 + at;
			if (!pl_attention_any<S>(w0, TILES * 16, n, COLUMNS))
				continue;
			float s[TILES][COLUMNS / 8][4];
			u32 key_tile = stages + stage * L::STAGE + at * AttentionTile<S::FK>::ROW;
			u32 value_tile = stages + stage * L::STAGE + L::KEY + at * AttentionTile<S::FV>::ROW;
			pl_attention_scores<S, S::HELD, S::FK, TILES, COLUMNS>(s, held, left,
									       key_tile + AttentionTile<S::FK>::right(lane));
			pl_attention_finish<S, false, TILES, COLUMNS>(s, lane_row, n + lane_column,
								      pl_attention_all<S>(w0, TILES * 16, n, COLUMNS), bias,
								      seen, [](int, int, int, float) {});
			pl_attention_soften<S, TILES, COLUMNS>(s, shift, total, out, FACTOR);
			pl_attention_mix<S, S::FV, TILES, COLUMNS>(out, s, value_tile + AttentionTile<S::FV>::right_turned(lane));
		}
	}
	pl_cp_async_wait<0>();

#pragma unroll
	for (int t = 0; t < TILES; t++)
#pragma unroll
		for (int half = 0; half < 2; half++) {
			float sum = total[t][half];
			sum += pl_shuffle_xor(sum, 1);
			sum += pl_shuffle_xor(sum, 2);
			float x = shift[t][half] == -INFINITY_F ? 0.0f : shift[t][half], lse = __fmaf_rn(x, PL_LN2, logf(sum));
			float factor = 1.0f / (sum == 0 ? 1.0f : sum);
			int m = lane_row + 16 * t + 8 * half;
			if (m >= S::M)
				continue;
			if (lane_column == 0)
				row(m, lse);
#pragma unroll
			for (int j = 0; j < S::FV / 8; j++)
				if (S::FV == S::V || 8 * j + lane_column < S::V)
					pair(m, 8 * j + lane_column, lse, out[t][j][2 * half] * factor,
					     out[t][j][2 * half + 1] * factor);
		}
}

// ---- operands that are computed once for all blocks ----

// Rows of `F` features, as chunk(row, feature) gives them, to `to`: features from WIDTH on are zeros. Block `block` of
// `blocks` takes its share.
template <int F, int WIDTH, int THREADS, class Chunk>
PL void pl_attention_pack(u16 *to, i64 rows, const Chunk &chunk, i64 block, i64 blocks)
{
	constexpr int CHUNKS = F / 8;
	for (i64 at = block * THREADS + (int)threadIdx.x; at < rows * CHUNKS; at += blocks * THREADS) {
		i64 row = at / CHUNKS;
		int feature = (int)(at % CHUNKS) * 8;
		uint4 x = { 0, 0, 0, 0 };
		if (feature < WIDTH)
			x = chunk(row, feature);
		((uint4 *)to)[at] = x;
	}
}
