// codegen/cuda/preamble/attention_plain.cuh: attention and its gradient without tensor cores, after attention.cuh: f32, f64, and
// widths that are too large for the registers of the other kernels.
//
// The same walks over blocks as there, with ordinary arithmetic: 16 by 16 threads have a block of B by B scores, each (B / 16)^2 of
// them; operands come through shared memory CHUNK features at a time. Nothing is ever as large as queries times keys.
//
// A kernel says what it is in a struct S of constants: M, N, K, V, R, CAUSAL, WINDOW, MASK, BIAS, SCALE, CAPPED, SOFTCAP as in
// attention_tensor.cuh; T: float or double, what is summed; ROUND: how P and dS are rounded before a product. Operands are
// functions (row, feature) to T, called only where there is such an element.

// ---- products ----

template <class T> struct PlainBlock {
	static constexpr int B = sizeof(T) == 8 ? 32 : 64, PER = B / 16, CHUNK = 32;
	T left[B][CHUNK + 1], right[B][CHUNK + 1], scores[B][B + 1];
};

// c[i][j] = sum over F features of left(row, f) right(column, f), row = l0 + PER * ty + i below L, column = r0 + tx + 16 * j
// below R.
template <class T, class Left, class Right>
PL void pl_plain_scores(T (&c)[PlainBlock<T>::PER][PlainBlock<T>::PER], PlainBlock<T> &s, int F, int L, int R, int l0, int r0,
			const Left &left, const Right &right)
{
	typedef PlainBlock<T> P;
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
	for (int i = 0; i < P::PER; i++)
#pragma unroll
		for (int j = 0; j < P::PER; j++)
			c[i][j] = 0;
#pragma unroll 1
	for (int f0 = 0; f0 < F; f0 += P::CHUNK) {
		__syncthreads();
		for (int at = threadIdx.x; at < P::B * P::CHUNK; at += 256) {
			int row = at / P::CHUNK, f = at % P::CHUNK;
			s.left[row][f] = l0 + row < L && f0 + f < F ? left(l0 + row, f0 + f) : (T)0;
			s.right[row][f] = r0 + row < R && f0 + f < F ? right(r0 + row, f0 + f) : (T)0;
		}
		__syncthreads();
#pragma unroll 4
		for (int f = 0; f < P::CHUNK; f++)
#pragma unroll
			for (int i = 0; i < P::PER; i++)
#pragma unroll
				for (int j = 0; j < P::PER; j++)
					c[i][j] = pl_fma(s.left[P::PER * ty + i][f], s.right[tx + 16 * j][f], c[i][j]);
	}
}

// c[i][j] += sum over the block's k of scores[row][k] (TURNED: scores[k][row]) right(k, tx + 16 * j), row = PER * ty + i; rows of
// `right` begin at r0 and there are R.
template <bool TURNED, class T, int COLUMNS, class Right>
PL void pl_plain_mix(T (&c)[PlainBlock<T>::PER][COLUMNS], PlainBlock<T> &s, int F, int R, int r0, const Right &right)
{
	typedef PlainBlock<T> P;
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
	for (int j0 = 0; j0 < COLUMNS; j0 += 2) {
		__syncthreads();
		for (int at = threadIdx.x; at < P::B * P::CHUNK; at += 256) {
			int row = at / P::CHUNK, f = j0 * 16 + at % P::CHUNK;
			s.right[row][at % P::CHUNK] = r0 + row < R && f < F ? right(r0 + row, f) : (T)0;
		}
		__syncthreads();
#pragma unroll 4
		for (int k = 0; k < P::B; k++)
#pragma unroll
			for (int i = 0; i < P::PER; i++) {
				T p = TURNED ? s.scores[k][P::PER * ty + i] : s.scores[P::PER * ty + i][k];
				c[i][j0] = pl_fma(p, s.right[k][tx], c[i][j0]);
				c[i][j0 + 1] = pl_fma(p, s.right[k][tx + 16], c[i][j0 + 1]);
			}
	}
}
// Columns that a thread has of F features: pairs of 16.
constexpr int pl_plain_columns(int f) { return (f + 31) / 32 * 2; }

template <class T, int COLUMNS> PL void pl_plain_clear(T (&c)[PlainBlock<T>::PER][COLUMNS])
{
#pragma unroll
	for (int i = 0; i < PlainBlock<T>::PER; i++)
#pragma unroll
		for (int j = 0; j < COLUMNS; j++)
			c[i][j] = 0;
}
// f(row, feature, x) for what there is of a thread's results.
template <class T, int COLUMNS, class Store>
PL void pl_plain_store(const T (&c)[PlainBlock<T>::PER][COLUMNS], int F, int ROWS, int row0, const Store &store)
{
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
	for (int i = 0; i < PlainBlock<T>::PER; i++)
#pragma unroll
		for (int j = 0; j < COLUMNS; j++) {
			int row = row0 + PlainBlock<T>::PER * ty + i, f = tx + 16 * j;
			if (row < ROWS && f < F)
				store(row, f, c[i][j]);
		}
}

// Scores from products: scaled, bounded, biased, -infinity where unseen. slope(i, j, x): the derivative of what bounds one.
template <class S, class T, class Bias, class Seen, class Slope>
PL void pl_plain_finish(T (&c)[PlainBlock<T>::PER][PlainBlock<T>::PER], int m0, int n0, const Bias &bias, const Seen &seen,
			const Slope &slope)
{
	typedef PlainBlock<T> P;
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
	for (int i = 0; i < P::PER; i++)
#pragma unroll
		for (int j = 0; j < P::PER; j++) {
			int m = m0 + P::PER * ty + i, n = n0 + tx + 16 * j;
			bool sees = m < S::M && pl_attention_sees<S>(m, n);
			c[i][j] *= (T)S::SCALE;
			if constexpr (S::CAPPED) {
				T t = pl_tanh(c[i][j] * ((T)1 / (T)S::SOFTCAP));
				slope(i, j, (T)1 - t * t);
				c[i][j] = (T)S::SOFTCAP * t;
			}
			if (S::MASK && sees)
				sees = seen(m, n);
			if (S::BIAS && sees)
				c[i][j] += bias(m, n);
			if (!sees)
				c[i][j] = -(T)INFINITY_F;
		}
}

// ---- forward ----

template <class S, class Q, class Key, class Value, class Bias, class Seen, class Row, class One>
PL void pl_plain_attention(PlainBlock<typename S::T> &s, int m0, const Q &q, const Key &key, const Value &value,
			   const Bias &bias, const Seen &seen, const Row &row, const One &one)
{
	typedef typename S::T T;
	typedef PlainBlock<T> P;
	constexpr int COLUMNS = pl_plain_columns(S::V);
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
	const T none = -(T)INFINITY_F;
	T out[P::PER][COLUMNS], most[P::PER], total[P::PER];
	pl_plain_clear(out);
#pragma unroll
	for (int i = 0; i < P::PER; i++)
		most[i] = none, total[i] = 0;
	int begin, end;
	pl_attention_keys<S>(m0, P::B, P::B, &begin, &end);
#pragma unroll 1
	for (int n0 = begin; n0 < end; n0 += P::B) {
		T c[P::PER][P::PER];
		pl_plain_scores(c, s, S::K, S::M, S::N, m0, n0, q, key);
		pl_plain_finish<S>(c, m0, n0, bias, seen, [](int, int, T) {});
#pragma unroll
		for (int i = 0; i < P::PER; i++) {
			T x = most[i];
#pragma unroll
			for (int j = 0; j < P::PER; j++)
				x = pl_max(x, c[i][j]);
			x = pl_reduce_warp<Max, 16>(x);
			T shift = x == none ? (T)0 : x, correction = pl_exp(most[i] - shift), sum = 0;
			most[i] = x;
#pragma unroll
			for (int j = 0; j < P::PER; j++) {
				T p = pl_exp(c[i][j] - shift);
				sum += p;
				s.scores[P::PER * ty + i][tx + 16 * j] = S::round(p);
			}
			total[i] = pl_fma(total[i], correction, pl_reduce_warp<Sum, 16>(sum));
#pragma unroll
			for (int j = 0; j < COLUMNS; j++)
				out[i][j] *= correction;
		}
		pl_plain_mix<false>(out, s, S::V, S::N, n0, value);
	}
	T lse[P::PER];
#pragma unroll
	for (int i = 0; i < P::PER; i++) {
		lse[i] = (most[i] == none ? (T)0 : most[i]) + pl_log(total[i]);
		T factor = (T)1 / (total[i] == 0 ? (T)1 : total[i]);
#pragma unroll
		for (int j = 0; j < COLUMNS; j++)
			out[i][j] *= factor;
		int m = m0 + P::PER * ty + i;
		if (tx == 0 && m < S::M)
			row(m, lse[i]);
	}
	pl_plain_store(out, S::V, S::M, m0, [&](int m, int v, T x) { one(m, v, lse[m - m0 - P::PER * ty], x); });
}

// ---- gradient ----

// P of a block of scores, and dS; slope: what dS is to be multiplied by, of what bounds scores (S::CAPPED), before dQ and dK.
template <class S, class T, class Q, class Key, class Value, class Dout, class Bias, class Seen>
PL void pl_plain_probabilities(T (&p)[PlainBlock<T>::PER][PlainBlock<T>::PER], T (&ds)[PlainBlock<T>::PER][PlainBlock<T>::PER],
			       T (&slope)[PlainBlock<T>::PER][PlainBlock<T>::PER], PlainBlock<T> &s, int m0, int n0, const Q &q, const Key &key, const Value &value,
			       const Dout &dout, const T *lse_rows, const T *d_rows, const Bias &bias, const Seen &seen)
{
	typedef PlainBlock<T> P;
	const int ty = threadIdx.x / 16;
	pl_plain_scores(p, s, S::K, S::M, S::N, m0, n0, q, key);
	pl_plain_finish<S>(p, m0, n0, bias, seen, [&](int i, int j, T x) { slope[i][j] = x; });
	pl_plain_scores(ds, s, S::V, S::M, S::N, m0, n0, dout, value);
#pragma unroll
	for (int i = 0; i < P::PER; i++) {
		T lse = lse_rows[m0 + P::PER * ty + i], d = d_rows[m0 + P::PER * ty + i];
#pragma unroll
		for (int j = 0; j < P::PER; j++) {
			p[i][j] = pl_exp(p[i][j] - lse);
			ds[i][j] = p[i][j] * (ds[i][j] - d);
		}
	}
}
template <class S, class T>
PL void pl_plain_slope(T (&ds)[PlainBlock<T>::PER][PlainBlock<T>::PER], const T (&slope)[PlainBlock<T>::PER][PlainBlock<T>::PER])
{
	if constexpr (S::CAPPED) {
#pragma unroll
		for (int i = 0; i < PlainBlock<T>::PER; i++)
#pragma unroll
			for (int j = 0; j < PlainBlock<T>::PER; j++)
				ds[i][j] *= slope[i][j];
	}
}
// Scores, rounded, for pl_plain_mix.
template <class S, class T> PL void pl_plain_share(PlainBlock<T> &s, const T (&c)[PlainBlock<T>::PER][PlainBlock<T>::PER])
{
	typedef PlainBlock<T> P;
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
	__syncthreads();
#pragma unroll
	for (int i = 0; i < P::PER; i++)
#pragma unroll
		for (int j = 0; j < P::PER; j++)
			s.scores[P::PER * ty + i][tx + 16 * j] = S::round(c[i][j]);
}

// Keys [n0, n0 + B): S::R heads of queries share them. q(r) and dout(r) give the functions of head r, whose two arrays of
// numbers are r * PADDED on.
template <class S, int PADDED, class Q, class Key, class Value, class Dout, class T, class Bias, class Seen, class Dk, class Dv>
PL void pl_plain_grad_keys(PlainBlock<T> &s, int n0, const Q &q, const Key &key, const Value &value, const Dout &dout,
			   const T *lse_rows, const T *d_rows, const Bias &bias, const Seen &seen, const Dk &dk, const Dv &dv)
{
	typedef PlainBlock<T> P;
	T to_k[P::PER][pl_plain_columns(S::K)], to_v[P::PER][pl_plain_columns(S::V)];
	pl_plain_clear(to_k);
	pl_plain_clear(to_v);
	int begin, end;
	pl_attention_queries<S>(n0, P::B, P::B, &begin, &end);
#pragma unroll 1
	for (int r = 0; r < S::R; r++)
#pragma unroll 1
		for (int m0 = begin; m0 < end; m0 += P::B) {
			T p[P::PER][P::PER], ds[P::PER][P::PER], slope[P::PER][P::PER];
			auto q_r = q(r);
			auto dout_r = dout(r);
			pl_plain_probabilities<S>(
				p, ds, slope, s, m0, n0, q_r, key, value, dout_r, lse_rows + (i64)r * PADDED, d_rows + (i64)r * PADDED,
				[&](int m, int n) { return bias(r, m, n); }, [&](int m, int n) { return seen(r, m, n); });
			pl_plain_share<S>(s, p);
			pl_plain_mix<true>(to_v, s, S::V, S::M, m0, dout_r);
			pl_plain_slope<S>(ds, slope);
			pl_plain_share<S>(s, ds);
			pl_plain_mix<true>(to_k, s, S::K, S::M, m0, q_r);
		}
	pl_plain_store(to_k, S::K, S::N, n0, [&](int n, int k, T x) { dk(n, k, x * (T)S::SCALE); });
	pl_plain_store(to_v, S::V, S::N, n0, dv);
}

// Queries [m0, m0 + B) of one head. dbias(m, n, x) is called for every m and n if S::WANT_BIAS.
template <class S, class Q, class Key, class Value, class Dout, class T, class Bias, class Seen, class Dq, class Dbias>
PL void pl_plain_grad_queries(PlainBlock<T> &s, int m0, const Q &q, const Key &key, const Value &value, const Dout &dout,
			      const T *lse_rows, const T *d_rows, const Bias &bias, const Seen &seen, const Dq &dq,
			      const Dbias &dbias)
{
	typedef PlainBlock<T> P;
	const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
	T to_q[P::PER][pl_plain_columns(S::K)];
	pl_plain_clear(to_q);
	int begin, end;
	pl_attention_keys<S>(m0, P::B, P::B, &begin, &end);
	if (S::WANT_BIAS)
		begin = 0, end = S::N;
#pragma unroll 1
	for (int n0 = begin; n0 < end; n0 += P::B) {
		T p[P::PER][P::PER], ds[P::PER][P::PER], slope[P::PER][P::PER];
		pl_plain_probabilities<S>(p, ds, slope, s, m0, n0, q, key, value, dout, lse_rows, d_rows, bias, seen);
		if constexpr (S::WANT_BIAS) {
#pragma unroll
			for (int i = 0; i < P::PER; i++)
#pragma unroll
				for (int j = 0; j < P::PER; j++) {
					int m = m0 + P::PER * ty + i, n = n0 + tx + 16 * j;
					if (m < S::M && n < S::N)
						dbias(m, n, ds[i][j]);
				}
		}
		pl_plain_slope<S>(ds, slope);
		pl_plain_share<S>(s, ds);
		pl_plain_mix<false>(to_q, s, S::K, S::N, n0, key);
	}
	pl_plain_store(to_q, S::K, S::M, m0, [&](int m, int k, T x) { dq(m, k, x * (T)S::SCALE); });
}
