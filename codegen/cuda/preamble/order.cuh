// codegen/cuda/preamble/order.cuh: stable radix sorting of pairs (key, item) by chunks, a block for each (LSD radix sort:
// Knuth, The Art of Computer Programming 3, 5.2.5; ranks within a warp by votes). A pass over 8 bits is two launches: counts of
// each digit in each chunk, then moving. No atomics: positions are exact, whatever the order of blocks.

#define PL_DIGITS 256

// Lanes of the warp with the same digit of 8 bits as this one; lanes that are off count for no digit.
PL u32 pl_same_digit(u32 digit, bool on)
{
	u32 same = __ballot_sync(0xffffffffu, on);
#pragma unroll
	for (int bit = 0; bit < 8; bit++) {
		u32 ones = __ballot_sync(0xffffffffu, digit >> bit & 1);
		same &= digit >> bit & 1 ? ones : ~ones;
	}
	return on ? same : 0;
}

// One round of PL_DIGITS threads, each with a digit (or off), in order of threads. `next`: of thread t, where the next of digit t
// goes; moved on. The position of this thread's item. `shared`: 8 * PL_DIGITS.
PL u32 pl_digit_round(u32 digit, bool on, u32 &next, u32 *shared)
{
	const int warp = threadIdx.x / 32;
	__syncthreads();
#pragma unroll
	for (int w = 0; w < 8; w++)
		shared[w * PL_DIGITS + threadIdx.x] = 0;
	__syncthreads();
	u32 same = pl_same_digit(digit, on), before = __popc(same & (1u << threadIdx.x % 32) - 1);
	if (on && before == 0)
		shared[warp * PL_DIGITS + digit] = __popc(same);
	__syncthreads();
#pragma unroll
	for (int w = 0; w < 8; w++) {
		u32 n = shared[w * PL_DIGITS + threadIdx.x];
		shared[w * PL_DIGITS + threadIdx.x] = next;
		next += n;
	}
	__syncthreads();
	return shared[warp * PL_DIGITS + digit] + before;
}

// Of thread t, where the first item of digit t of this chunk goes: after all of smaller digits, and those of chunks before.
// count: [digit][chunk]. `shared`: PL_DIGITS.
PL u32 pl_digit_start(const u32 *count, int chunk, int chunks, u32 *shared)
{
	u32 mine = 0, all = 0;
	for (int c = 0; c < chunks; c++) {
		u32 n = count[threadIdx.x * chunks + c];
		mine += c < chunk ? n : 0;
		all += n;
	}
	// all digits below this one
	u32 sum = all;
	for (int step = 1; step < PL_DIGITS; step *= 2) {
		__syncthreads();
		shared[threadIdx.x] = sum;
		__syncthreads();
		sum += threadIdx.x >= step ? shared[threadIdx.x - step] : 0;
	}
	return sum - all + mine;
}

// A key whose order as an unsigned number is that of x; NaN above everything, -0 as 0.
PL u64 pl_order(float x)
{
	u32 bits = __float_as_uint(x == 0 ? 0.0f : x);
	return x != x ? ~0ull : (u64)(bits >> 31 ? ~bits : bits | 0x80000000u);
}
PL u64 pl_order(double x)
{
	u64 bits = (u64)__double_as_longlong(x == 0 ? 0.0 : x);
	return x != x ? ~0ull : bits >> 63 ? ~bits : bits | 1ull << 63;
}
PL u64 pl_order(i64 x) { return (u64)x ^ 1ull << 63; }
PL u64 pl_order(int x) { return pl_order((i64)x); }
PL u64 pl_order(u32 x) { return x; }
PL u64 pl_order(bool x) { return x; }

// n pairs, a power of two, in order of (key, item): Batcher's bitonic network (Sorting networks and their applications,
// 1968), by all threads of a block.
PL void pl_sort_block(u64 *key, u32 *item, int n)
{
	for (int size = 2; size <= n; size *= 2)
		for (int step = size / 2; step > 0; step /= 2) {
			__syncthreads();
			for (int i = threadIdx.x; i < n / 2; i += blockDim.x) {
				int a = i / step * 2 * step + i % step, b = a + step;
				u64 p = key[a], q = key[b];
				u32 s = item[a], t = item[b];
				bool above = p > q || (p == q && s > t);
				if (above == ((a & size) == 0)) {
					key[a] = q, key[b] = p;
					item[a] = t, item[b] = s;
				}
			}
		}
	__syncthreads();
}
