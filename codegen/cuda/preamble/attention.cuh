// codegen/cuda/preamble/attention.cuh: what all attention kernels share, after base.cuh. S is a struct of constants that says
// what a kernel is: see attention_tensor.cuh.

// ---- which keys are seen ----

// Does query m see key n, as far as order says?
template <class S> PL bool pl_attention_sees(int m, int n)
{
	bool sees = n < S::N;
	if (S::CAUSAL)
		sees &= n <= m + (S::N - S::M);
	if (S::CAUSAL && S::WINDOW)
		sees &= n > m + (S::N - S::M) - S::WINDOW;
	return sees;
}
// Of queries [m, m + rows) and keys [n, n + columns): do all see all; does any see any?
template <class S> PL bool pl_attention_all(int m, int rows, int n, int columns)
{
	bool all = n + columns <= S::N;
	if (S::CAUSAL)
		all &= n + columns - 1 <= m + (S::N - S::M);
	if (S::CAUSAL && S::WINDOW)
		all &= n > m + rows - 1 + (S::N - S::M) - S::WINDOW;
	return all;
}
template <class S> PL bool pl_attention_any(int m, int rows, int n, int columns)
{
	bool any = n < S::N;
	if (S::CAUSAL)
		any &= n <= m + rows - 1 + (S::N - S::M);
	if (S::CAUSAL && S::WINDOW)
		any &= n + columns - 1 > m + (S::N - S::M) - S::WINDOW;
	return any;
}
// The keys [begin, end), in blocks of `columns`, that queries [m, m + rows) walk over.
template <class S> PL void pl_attention_keys(int m, int rows, int columns, int *begin, int *end)
{
	*begin = 0;
	*end = S::N;
	if (S::CAUSAL) {
		*end = max(0, min(S::N, min(m + rows, S::M) + (S::N - S::M)));
		if (S::WINDOW)
			*begin = max(0, m + (S::N - S::M) - S::WINDOW + 1) / columns * columns;
	}
}
// The queries that keys [n, n + columns) are seen by.
template <class S> PL void pl_attention_queries(int n, int columns, int rows, int *begin, int *end)
{
	*begin = 0;
	*end = S::M;
	if (S::CAUSAL) {
		*begin = max(0, n - (S::N - S::M)) / rows * rows;
		if (S::WINDOW)
			*end = min(S::M, min(n + columns, S::N) - 1 - (S::N - S::M) + S::WINDOW);
	}
}

// ---- what the gradient needs of each row of queries ----

// Row m, by GROUP neighbouring lanes that take eight features at a time: its log-sum-exp times UNIT (+infinity where nothing was
// seen, and from row M on, so that probabilities are 0 there), and rowsum(dout out) - dlse. dout and out give eight
// numbers, zeros where there is no feature; keep(m, feature, eight) may do more with dout's.
template <class S, int GROUP, class T, class Dout, class Out, class Lse, class Dlse, class Keep>
PL void pl_attention_row_numbers(T *lse_to, T *d_to, int m, T unit, const Dout &dout, const Out &out, const Lse &lse,
				 const Dlse &dlse, const Keep &keep)
{
	const int lane = threadIdx.x % GROUP;
	T sum = 0;
	if (m < S::M)
		for (int v = lane * 8; v < S::V; v += GROUP * 8) {
			T x[8], y[8];
			dout(m, v, x);
			out(m, v, y);
			EACH(8) sum = pl_fma(x[j], y[j], sum);
			keep(m, v, x);
		}
	sum = pl_reduce_warp<Sum, GROUP>(sum);
	if (lane != 0)
		return;
	T none = (T)INFINITY_F, x = m < S::M ? lse(m) : -none;
	lse_to[m] = x == -none ? none : x * unit;
	d_to[m] = m < S::M ? sum - dlse(m) : (T)0;
}
