/* ir/philox.h: the random numbers of op `random`: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011).
 * This page is the definition that every target repeats; the same draw comes out whatever the
 * number of threads, the sharding, or how often it is computed.
 *
 *   key      k = hash_bytes(HASH_SEED, key string) ^ (u64)seed;  key words: low 32 bits, high 32 bits
 *   block    j = e / 4, where e is the row-major index of the element in the whole tensor
 *   counter  { low 32 bits of j, high 32 bits of j, low 32 bits of step, high 32 bits of step }
 *   draw     word e % 4 of philox4x32_10(counter, key)
 *   value    (draw >> 8) * 2^-24: in [0, 1), exact in f32
 *
 * Each of the 10 rounds makes of (x0, x1, x2, x3) under key (k0, k1):
 *   p = 0xD2511F53 * x0, q = 0xCD9E8D57 * x2   (64-bit products)
 *   (high(q) ^ x1 ^ k0, low(q), high(p) ^ x3 ^ k1, low(p))
 * and between rounds k0 += 0x9E3779B9, k1 += 0xBB67AE85. */
#ifndef PL_PHILOX_H
#define PL_PHILOX_H
#include "support/base.h"

void philox4x32_10(const u32 counter[4], const u32 key[2], u32 out[4]);
/* The key of the stream that `name` has under `seed`. */
u64 philox_key(const char *name, i64 seed);
/* Element e of that stream at `step`. */
f32 philox_uniform(u64 key, i64 step, u64 e);

#endif
