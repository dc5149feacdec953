/* codegen/cpu/vector_lanes.c: what goes across lanes: reductions by a fixed tree, shuffles,
 * transposition; see vector.h. */
#include "codegen/cpu/vector.h"

#define B s->m->builder

LLVMValueRef simd_shuffle(const Simd *s, LLVMValueRef a, LLVMValueRef b, const u32 *index, u32 n)
{
	LLVMValueRef lane[64];
	assert(n <= COUNT(lane));
	for (u32 i = 0; i < n; i++)
		lane[i] = cpu_i32(s->m, index[i]);
	if (!b)
		b = LLVMGetPoison(LLVMTypeOf(a));
	return LLVMBuildShuffleVector(B, a, b, LLVMConstVector(lane, n), "");
}

/* ---- reductions ---- */

typedef enum Reduction { SUM, LARGEST, SMALLEST } Reduction;

static LLVMValueRef combine(const Simd *s, Reduction r, DType d, LLVMValueRef a, LLVMValueRef b)
{
	return r == SUM       ? simd_add(s, a, b)
	       : r == LARGEST ? simd_max(s, d, a, b)
			      : simd_min(s, d, a, b);
}

static LLVMValueRef reduce(const Simd *s, Reduction r, DType d, LLVMValueRef x)
{
	for (Simd half = *s; half.lanes > 1;) {
		half.lanes /= 2;
		if (half.lanes == 1)
			return combine(&half, r, d,
				       LLVMBuildExtractElement(B, x, cpu_i32(s->m, 0), ""),
				       LLVMBuildExtractElement(B, x, cpu_i32(s->m, 1), ""));
		u32 low[64], high[64];
		for (u32 i = 0; i < half.lanes; i++)
			high[i] = (low[i] = i) + half.lanes;
		x = combine(&half, r, d, simd_shuffle(s, x, NULL, low, half.lanes),
			    simd_shuffle(s, x, NULL, high, half.lanes));
	}
	return x;
}

LLVMValueRef simd_reduce_add(const Simd *s, LLVMValueRef x)
{
	return reduce(s, SUM, DT_f32, x);
}

LLVMValueRef simd_reduce_max(const Simd *s, DType d, LLVMValueRef x)
{
	return reduce(s, LARGEST, d, x);
}

LLVMValueRef simd_reduce_min(const Simd *s, DType d, LLVMValueRef x)
{
	return reduce(s, SMALLEST, d, x);
}

/* ---- transposition ---- */

/* Two stages inside each group of four lanes (128 bits of f32), as unpack instructions do, then the
 * groups are exchanged between vectors, one instruction each. */
static void transpose_groups(const Simd *s, LLVMValueRef *row)
{
	u32 n = s->lanes, groups = n / 4, low[64], high[64];
	LLVMValueRef t[64];
	/* pairs of rows: a0 b0 a1 b1 | a2 b2 a3 b3, within each group */
	for (u32 g = 0; g < n; g += 4)
		for (u32 i = 0; i < 4; i++) {
			low[g + i] = g + i / 2 + (i & 1) * n;
			high[g + i] = low[g + i] + 2;
		}
	for (u32 i = 0; i < n; i += 2) {
		t[i] = simd_shuffle(s, row[i], row[i + 1], low, n);
		t[i + 1] = simd_shuffle(s, row[i], row[i + 1], high, n);
	}
	/* pairs of pairs: a0 b0 c0 d0 | a1 b1 c1 d1, and so on */
	for (u32 g = 0; g < n; g += 4)
		for (u32 i = 0; i < 4; i++) {
			low[g + i] = g + (i & 1) + (i / 2) * n;
			high[g + i] = low[g + i] + 2;
		}
	/* now row[4 * q + j] holds, in group g, column 4 * g + j of rows 4 * q .. 4 * q + 3 */
	for (u32 i = 0; i < n; i += 4) {
		row[i] = simd_shuffle(s, t[i], t[i + 2], low, n);
		row[i + 1] = simd_shuffle(s, t[i], t[i + 2], high, n);
		row[i + 2] = simd_shuffle(s, t[i + 1], t[i + 3], low, n);
		row[i + 3] = simd_shuffle(s, t[i + 1], t[i + 3], high, n);
	}
	/* what is left is a transposition of groups, in halving steps: q and q + h exchange the
	 * groups where g's bit h differs; each as even and odd groups of the two put together,
	 * which permutes the order of the groups in a way that the next step undoes */
	if (groups == 2) {
		for (u32 i = 0; i < 4; i++) {
			low[i] = i, low[i + 4] = n + i;
			high[i] = 4 + i, high[i + 4] = n + 4 + i;
		}
		for (u32 j = 0; j < 4; j++) {
			LLVMValueRef a = row[j], b = row[4 + j];
			row[j] = simd_shuffle(s, a, b, low, n);
			row[4 + j] = simd_shuffle(s, a, b, high, n);
		}
	} else if (groups == 4) {
		for (u32 i = 0; i < 4; i++)
			for (u32 g = 0; g < 4; g++) {
				low[4 * g + i] = (g & 1) * 8 + (g / 2) * n + i;
				high[4 * g + i] = low[4 * g + i] + 4;
			}
		for (u32 j = 0; j < 4; j++) {
			LLVMValueRef *r = row + j;
			/* even: groups 0 and 2 of q = 0 and 1 (a0 a2 b0 b2); odd: 1 and 3 */
			LLVMValueRef even01 = simd_shuffle(s, r[0], r[4], low, n);
			LLVMValueRef odd01 = simd_shuffle(s, r[0], r[4], high, n);
			LLVMValueRef even23 = simd_shuffle(s, r[8], r[12], low, n);
			LLVMValueRef odd23 = simd_shuffle(s, r[8], r[12], high, n);
			r[0] = simd_shuffle(s, even01, even23, low, n);
			r[8] = simd_shuffle(s, even01, even23, high, n);
			r[4] = simd_shuffle(s, odd01, odd23, low, n);
			r[12] = simd_shuffle(s, odd01, odd23, high, n);
		}
	}
}

void simd_transpose(const Simd *s, LLVMValueRef *row)
{
	u32 n = s->lanes;
	if (n == 4 || n == 8 || n == 16) {
		transpose_groups(s, row);
		return;
	}
	/* any other power of two: exchange of the off-diagonal blocks, the largest first */
	for (u32 h = n / 2; h >= 1; h /= 2)
		for (u32 i = 0; i < n; i++) {
			if (i & h)
				continue;
			u32 upper[64], lower[64];
			for (u32 j = 0; j < n; j++) {
				upper[j] = j & h ? n + j - h : j;
				lower[j] = j & h ? n + j : j + h;
			}
			LLVMValueRef a = row[i], b = row[i + h];
			row[i] = simd_shuffle(s, a, b, upper, n);
			row[i + h] = simd_shuffle(s, a, b, lower, n);
		}
}
