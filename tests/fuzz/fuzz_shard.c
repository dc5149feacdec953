/* tests/fuzz/fuzz_shard.c: any bytes at all, given to the shard reader. Since hashes keep almost
 * all inputs out, the input's first byte says which of them are made right before: so the checks
 * behind them meet wrong numbers too. What is accepted must be readable to the last id, each below
 * the vocabulary; what is refused must name the file and the byte. */
#include "runtime/data/shard.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void must_tell(Status why)
{
	must(why->code == STATUS_INPUT && strstr(why->text, "input: byte ") != NULL);
}

/* Gives the parts of the shard the hashes that they state, as far as they are there. */
static void make_right(u8 *p, size_t n, u8 which)
{
	if (n < SHARD_HEADER)
		return;
	ShardHeader h;
	memcpy(&h, p, sizeof h);
	u64 ids = (u64)(h.count & 0xffffff) * (h.width & 7),
	    table = ALIGN_UP(SHARD_HEADER + ids, 8);
	u64 blocks = ((h.count & 0xffffff) + SHARD_BLOCK - 1) / SHARD_BLOCK, hash;
	for (u64 b = 0; which & 1 && b < blocks && table + 8 * blocks <= n; b++) {
		u64 at = b * SHARD_BLOCK * (h.width & 7),
		    end = MIN(at + SHARD_BLOCK * (h.width & 7), ids);
		hash = XXH3_64bits(p + SHARD_HEADER + at, end - at);
		memcpy(p + table + 8 * b, &hash, 8);
	}
	if (which & 2 && table + 8 * blocks <= n) {
		hash = XXH3_64bits(p + table, 8 * blocks);
		memcpy(p + offsetof(ShardHeader, table), &hash, 8);
	}
	if (which & 4) {
		hash = XXH3_64bits(p, offsetof(ShardHeader, hash));
		memcpy(p + offsetof(ShardHeader, hash), &hash, 8);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Arena a = ARENA("fuzz");
	size_t n = size ? size - 1 : 0;
	u8 *bytes = malloc(n + 1); /* of its own size, so that reading past it is seen */
	Shard shard;
	must(bytes != NULL);
	if (n)
		memcpy(bytes, data + 1, n);
	if (size)
		make_right(bytes, n, data[0]);
	Status why = shard_parse(&a, "input", (Blob){ bytes, n }, &shard);
	if (why) {
		must_tell(why);
	} else {
		Shards s = { .shard = &shard, .n = 1, .count = shard.header->count };
		i32 id[1000];
		bool bad = false;
		for (u64 at = 0; at < s.count && !bad; at += COUNT(id)) {
			u64 part = MIN(s.count - at, COUNT(id));
			why = shards_read(&s, at, part, id);
			bad = why != OK;
			if (bad)
				must_tell(why);
			for (u64 i = 0; !bad && i < part; i++)
				must(id[i] >= 0 && (u32)id[i] < shard.header->vocabulary);
		}
		must((shard_verify(&shard) != OK) == bad);
	}
	free(bytes);
	arena_free(&a);
	return 0;
}
