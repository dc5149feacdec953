// codegen/cuda/preamble/sized.cuh: kernels whose extents are known only when they run, after base.cuh and attention_plain.cuh.
// Numbers come as a parameter (kernel_numbers of ir/kernel.h); blocks take units of work in turns, whatever there is of them.

template <int N> struct Numbers {
	i64 v[N];
};

// Of numbers that are not negative: in 32 bits where both fit, which is many times faster.
PL i64 pl_divide(i64 a, i64 b)
{
	return (a | b) >> 32 ? a / b : (i64)((u32)a / (u32)b);
}

// ---- products ----

// A tile of ROWS x ROWS of the result, each of 16 x 16 threads with PER x PER elements; operands come in steps of DEPTH.
template <class T> struct SizedTile {
	static constexpr int PER = sizeof(T) == 8 ? 2 : 4, ROWS = 16 * PER, DEPTH = 16;
	T left[DEPTH][ROWS + 1], right[DEPTH][ROWS + 1];
};

// one(m, n, sum over k < K of left(m, k) right(k, n), in order) for m < M, n < N of the tile at (m0, n0).
template <class T, class Left, class Right, class One>
PL void pl_sized_product(SizedTile<T> &s, i64 M, i64 N, i64 K, i64 m0, i64 n0, const Left &left, const Right &right, const One &one)
{
	typedef SizedTile<T> P;
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
	T c[P::PER][P::PER];
#pragma unroll
	for (int i = 0; i < P::PER; i++)
#pragma unroll
		for (int j = 0; j < P::PER; j++)
			c[i][j] = 0;
#pragma unroll 1
	for (i64 k0 = 0; k0 < K; k0 += P::DEPTH) {
		__syncthreads();
		for (int at = threadIdx.x; at < P::ROWS * P::DEPTH; at += 256) {
			// neighbouring threads take neighbours along k of the left, along n of the right
			const int x = at / P::DEPTH, k = at % P::DEPTH, n = at % P::ROWS, kn = at / P::ROWS;
			s.left[k][x] = m0 + x < M && k0 + k < K ? left(m0 + x, k0 + k) : (T)0;
			s.right[kn][n] = n0 + n < N && k0 + kn < K ? right(k0 + kn, n0 + n) : (T)0;
		}
		__syncthreads();
#pragma unroll 4
		for (int k = 0; k < P::DEPTH; k++)
#pragma unroll
			for (int i = 0; i < P::PER; i++)
#pragma unroll
				for (int j = 0; j < P::PER; j++)
					c[i][j] = pl_fma(s.left[k][P::PER * ty + i], s.right[k][tx + 16 * j], c[i][j]);
	}
#pragma unroll
	for (int i = 0; i < P::PER; i++)
#pragma unroll
		for (int j = 0; j < P::PER; j++) {
			const i64 m = m0 + P::PER * ty + i, n = n0 + tx + 16 * j;
			if (m < M && n < N)
				one(m, n, c[i][j]);
		}
}

// ---- attention ----

// What a kernel is: S has CAUSAL, MASK, BIAS, CAPPED, SOFTCAP, T and round as in attention_plain.cuh; this is what is known when it runs.
template <class T> struct SizedAttention {
	int M, N, K, V, WINDOW;
	T scale;
};

template <class S, class T> PL bool pl_sized_sees(const SizedAttention<T> &a, int m, int n)
{
	bool sees = n < a.N;
	if (S::CAUSAL)
		sees &= n <= m + (a.N - a.M);
	if (S::CAUSAL && a.WINDOW)
		sees &= n > m + (a.N - a.M) - a.WINDOW;
	return sees;
}

// Queries [m0, m0 + B) of one head. Features of values are taken FEATURES at a time, with the scores anew for each: heads are
// seldom wider.
template <class S, class T, class Q, class Key, class Value, class Bias, class Seen, class Row, class One>
PL void pl_sized_attention(PlainBlock<T> &s, const SizedAttention<T> &a, int m0, const Q &q, const Key &key, const Value &value,
			   const Bias &bias, const Seen &seen, const Row &row, const One &one)
{
	typedef PlainBlock<T> P;
	constexpr int FEATURES = 64, COLUMNS = pl_plain_columns(FEATURES);
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16, shift = a.N - a.M;
	const T none = -(T)INFINITY_F;
	int begin = 0, end = a.N;
	if (S::CAUSAL) {
		end = max(0, min(a.N, min(m0 + P::B, a.M) + shift));
		if (a.WINDOW)
			begin = max(0, m0 + shift - a.WINDOW + 1) / P::B * P::B;
	}
#pragma unroll 1
	for (int v0 = 0; v0 < a.V; v0 += FEATURES) {
		T out[P::PER][COLUMNS], most[P::PER], total[P::PER], lse[P::PER];
		pl_plain_clear(out);
#pragma unroll
		for (int i = 0; i < P::PER; i++)
			most[i] = none, total[i] = 0;
#pragma unroll 1
		for (int n0 = begin; n0 < end; n0 += P::B) {
			T c[P::PER][P::PER];
			pl_plain_scores(c, s, a.K, a.M, a.N, m0, n0, q, key);
#pragma unroll
			for (int i = 0; i < P::PER; i++) {
				const int m = m0 + P::PER * ty + i;
				T x = most[i];
#pragma unroll
				for (int j = 0; j < P::PER; j++) {
					const int n = n0 + tx + 16 * j;
					bool sees = m < a.M && pl_sized_sees<S>(a, m, n);
					c[i][j] *= a.scale;
					if constexpr (S::CAPPED)
						c[i][j] = (T)S::SOFTCAP * pl_tanh(c[i][j] * ((T)1 / (T)S::SOFTCAP));
					if (S::MASK && sees)
						sees = seen(m, n);
					if (S::BIAS && sees)
						c[i][j] += bias(m, n);
					if (!sees)
						c[i][j] = none;
					x = pl_max(x, c[i][j]);
				}
				x = pl_reduce_warp<Max, 16>(x);
				const T less = x == none ? (T)0 : x, correction = pl_exp(most[i] - less);
				T sum = 0;
				most[i] = x;
#pragma unroll
				for (int j = 0; j < P::PER; j++) {
					const T p = pl_exp(c[i][j] - less);
					sum += p;
					s.scores[P::PER * ty + i][tx + 16 * j] = S::round(p);
				}
				total[i] = pl_fma(total[i], correction, pl_reduce_warp<Sum, 16>(sum));
#pragma unroll
				for (int j = 0; j < COLUMNS; j++)
					out[i][j] *= correction;
			}
			pl_plain_mix<false>(out, s, a.V - v0, a.N, n0, [&](int n, int f) { return value(n, v0 + f); });
		}
#pragma unroll
		for (int i = 0; i < P::PER; i++) {
			lse[i] = (most[i] == none ? (T)0 : most[i]) + pl_log(total[i]);
			const T factor = (T)1 / (total[i] == 0 ? (T)1 : total[i]);
#pragma unroll
			for (int j = 0; j < COLUMNS; j++)
				out[i][j] *= factor;
			const int m = m0 + P::PER * ty + i;
			if (!v0 && tx == 0 && m < a.M)
				row(m, lse[i]);
		}
		pl_plain_store(out, a.V - v0, a.M, m0, [&](int m, int f, T x) { one(m, v0 + f, lse[m - m0 - P::PER * ty], x); });
	}
}
