/* codegen/cpu/vector_random.c: Philox4x32-10 of vectors of counters; see vector.h. Ten rounds of
 * two products of 32 by 32 bits; the key goes up by Weyl's constants each round. The rounds are a loop: processors
 * overlap its turns as well as straight code, which takes LLVM ten times as long. */
#include "codegen/cpu/vector.h"

#define B s->m->builder

/* The upper and lower halves of a * m. Products of 32 by 32 bits are made of every other lane, so
 * of the even and of the odd ones, and put together again: what the instructions are (pmuludq,
 * umull). */
static void multiply(const Simd *s, LLVMValueRef a, u32 m, LLVMValueRef *high, LLVMValueRef *low)
{
	u32 n = s->lanes, upper[64], lower[64];
	LLVMTypeRef i32 = simd_type(s, DT_i32);
	if (n == 1) {
		LLVMValueRef product = LLVMBuildZExt(B, a, s->m->i64, "");
		product = simd_mul(s, product, simd_i64(s, m));
		*low = LLVMBuildTrunc(B, product, i32, "");
		*high = LLVMBuildTrunc(B, LLVMBuildLShr(B, product, simd_i64(s, 32), ""), i32, "");
		return;
	}
	Simd pairs = { s->m, n / 2 };
	LLVMValueRef by = simd_i64(&pairs, m), each = simd_bits(&pairs, DT_i64, a);
	LLVMValueRef even = simd_and(&pairs, each, simd_i64(&pairs, 0xffffffff));
	LLVMValueRef odd = LLVMBuildLShr(B, each, simd_i64(&pairs, 32), "");
	even = simd_bits(s, DT_i32, simd_mul(&pairs, even, by));
	odd = simd_bits(s, DT_i32, simd_mul(&pairs, odd, by));
	for (u32 i = 0; i < n; i++) {
		lower[i] = (i & 1) * n + (i & ~1u);
		upper[i] = lower[i] + 1;
	}
	*low = simd_shuffle(s, even, odd, lower, n);
	*high = simd_shuffle(s, even, odd, upper, n);
}

void simd_philox(const Simd *s, const LLVMValueRef counter[4], const LLVMValueRef key[2],
		 LLVMValueRef out[4])
{
	CpuModule *m = s->m;
	LLVMValueRef state[6]; /* the counter, the key */
	for (u32 i = 0; i < 6; i++)
		state[i] = i < 4 ? counter[i] : key[i - 4];
	CpuLoop round = { 0 };
	cpu_loop_begin(m, &round, cpu_i64(m, 0), cpu_i64(m, 10), cpu_i64(m, 1), 6, state);
	LLVMValueRef *c = round.carried, *k = c + 4, high0, low0, high1, low1;
	multiply(s, c[0], 0xd2511f53, &high0, &low0);
	multiply(s, c[2], 0xcd9e8d57, &high1, &low1);
	LLVMValueRef next[] = {
		simd_xor(s, simd_xor(s, high1, c[1]), k[0]), low1,
		simd_xor(s, simd_xor(s, high0, c[3]), k[1]), low0,
		simd_add(s, k[0], simd_i32(s, 0x9e3779b9)),  simd_add(s, k[1], simd_i32(s, 0xbb67ae85)),
	};
	round.unroll = 1;
	cpu_loop_end(m, &round, next);
	for (u32 i = 0; i < 4; i++)
		out[i] = round.carried[i];
}

/* The lower and upper 32 bits of an i64 scalar or vector, in every lane. */
static void halves(const Simd *s, LLVMValueRef x, LLVMValueRef out[2])
{
	bool scalar = LLVMTypeOf(x) == s->m->i64;
	Simd one = { s->m, scalar ? 1 : s->lanes };
	LLVMTypeRef i32 = simd_type(&one, DT_i32);
	LLVMValueRef high = LLVMBuildLShr(B, x, simd_i64(&one, 32), "");
	out[0] = LLVMBuildTrunc(B, x, i32, "");
	out[1] = LLVMBuildTrunc(B, high, i32, "");
	if (scalar)
		for (u32 i = 0; i < 2; i++)
			out[i] = simd_splat(s, out[i]);
}

static void blocks(const Simd *s, LLVMValueRef key, LLVMValueRef step, LLVMValueRef block,
		   LLVMValueRef out[4])
{
	LLVMValueRef k[2], counter[4];
	halves(s, key, k);
	halves(s, block, counter);
	halves(s, step, counter + 2);
	simd_philox(s, counter, k, out);
}

LLVMValueRef simd_random(const Simd *s, LLVMValueRef key, LLVMValueRef step, LLVMValueRef element)
{
	LLVMValueRef word[4];
	blocks(s, key, step, LLVMBuildLShr(B, element, simd_i64(s, 2), ""), word);
	LLVMValueRef which = LLVMBuildTrunc(B, element, simd_type(s, DT_i32), "");
	LLVMValueRef bit0 = simd_ne(s, simd_and(s, which, simd_i32(s, 1)), simd_i32(s, 0));
	LLVMValueRef bit1 = simd_ne(s, simd_and(s, which, simd_i32(s, 2)), simd_i32(s, 0));
	return simd_select(s, bit1, simd_select(s, bit0, word[3], word[2]),
			   simd_select(s, bit0, word[1], word[0]));
}

void simd_random4(const Simd *s, LLVMValueRef key, LLVMValueRef step, LLVMValueRef first,
		  LLVMValueRef out[4])
{
	LLVMValueRef word[4], block = LLVMBuildLShr(B, first, cpu_i64(s->m, 2), "");
	blocks(s, key, step, simd_add(s, simd_splat(s, block), simd_iota(s, DT_i64)), word);
	u32 n = s->lanes, index[64];
	if (n == 1) {
		for (u32 i = 0; i < 4; i++)
			out[i] = word[i];
		return;
	}
	/* word j of block b becomes element 4 b + j: pairs of words, then pairs of pairs */
	LLVMValueRef pair[2], all;
	for (u32 i = 0; i < 2 * n; i++)
		index[i] = i / 2 + (i & 1) * n;
	for (u32 i = 0; i < 2; i++)
		pair[i] = simd_shuffle(s, word[2 * i], word[2 * i + 1], index, 2 * n);
	for (u32 i = 0; i < 4; i++) {
		for (u32 j = 0; j < n; j++) {
			u32 element = i * n + j, b = element / 4, w = element % 4;
			index[j] = 2 * b + (w & 1) + (w / 2) * 2 * n;
		}
		all = simd_shuffle(s, pair[0], pair[1], index, n);
		out[i] = all;
	}
}

LLVMValueRef simd_uniform(const Simd *s, LLVMValueRef bits)
{
	/* 24 bits are exact in f32, and positive in a signed conversion */
	bits = LLVMBuildLShr(B, bits, simd_i32(s, 8), "");
	LLVMValueRef x = LLVMBuildSIToFP(B, bits, simd_type(s, DT_f32), "");
	return simd_mul(s, x, simd_f32(s, 0x1p-24f));
}
