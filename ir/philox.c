/* ir/philox.c: see philox.h. */
#include "ir/philox.h"
#include "support/str.h"

void philox4x32_10(const u32 counter[4], const u32 key[2], u32 out[4])
{
	u32 x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
	u32 k0 = key[0], k1 = key[1];
	for (int round = 0; round < 10; round++) {
		u64 p = 0xD2511F53ull * x0, q = 0xCD9E8D57ull * x2;
		x0 = (u32)(q >> 32) ^ x1 ^ k0;
		x1 = (u32)q;
		x2 = (u32)(p >> 32) ^ x3 ^ k1;
		x3 = (u32)p;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	out[0] = x0;
	out[1] = x1;
	out[2] = x2;
	out[3] = x3;
}

u64 philox_key(const char *name, i64 seed)
{
	Str s = str_of(name);
	return hash_bytes(HASH_SEED, s.s, s.n) ^ (u64)seed;
}

f32 philox_uniform(u64 key, i64 step, u64 e)
{
	u64 block = e / 4;
	u32 word[4];
	philox4x32_10((const u32[4]){ (u32)block, (u32)(block >> 32), (u32)step, (u32)((u64)step >> 32) },
		      (const u32[2]){ (u32)key, (u32)(key >> 32) }, word);
	return (f32)(word[e % 4] >> 8) * 0x1p-24f;
}
