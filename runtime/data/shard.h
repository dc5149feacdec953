/* runtime/data/shard.h: tokens in files, memory-mapped. A set of shards is one long array of token
 * ids: PREFIX.000.tok, PREFIX.001.tok, ... A shard is, little-endian:
 *
 *   a header of 4096 bytes (ShardHeader below), with the hash of itself at its end
 *   the ids, 2 bytes each when the vocabulary allows, else 4; zeroes up to a multiple of 8
 *   an XXH3 hash (8 bytes) of each block of SHARD_BLOCK ids
 *
 * so that `numpy.memmap(path, dtype="<u2", offset=4096)` reads it too. Opening checks the header,
 * the file's length, the table of hashes (by a hash in the header), and that the shards belong
 * together (each header holds the hash of the one before). A block's hash, and that its ids are
 * below the vocabulary's size, are checked when something in it is first read. What does not hold
 * is a STATUS_INPUT that names the file and the byte. */
#ifndef PL_DATA_SHARD_H
#define PL_DATA_SHARD_H
#include "runtime/data/tokenizer.h"
#include "support/io.h"

#include <stdatomic.h>

enum {
	SHARD_VERSION = 1,
	SHARD_HEADER = 4096,
	SHARD_BLOCK = 1 << 16, /* ids under one hash */
	SHARD_MOST = 1000      /* shards in a set: three digits */
};
#define SHARD_MAGIC "PLTOKENS"
/* Ids in a shard before the next one is begun: 512 MiB in two bytes each. */
#define SHARD_IDS ((u64)1 << 28)

/* The header as it is in the file; host order is little-endian wherever this is built. */
typedef struct ShardHeader {
	char magic[8];
	u32 version;
	u32 width;                       /* bytes per id: 2 or 4 */
	u64 count;                       /* ids */
	u32 vocabulary;                  /* every id is below it */
	u32 end;                         /* the id that ends a document, or TOKEN_NONE */
	u64 tokenizer;                   /* tokenizer_hash */
	u64 before;                      /* `hash` of the shard before; 0 in the first */
	u32 index, last;                 /* its number in the set; whether it is the last one */
	u64 text_bytes, text_characters; /* of the text that these ids stand for */
	u64 documents;                   /* that end in this shard */
	u32 block;                       /* SHARD_BLOCK */
	u32 zero;
	u64 table;                /* XXH3 of the table of hashes */
	char tokenizer_file[256]; /* in the same folder; terminated */
	u8 zeroes[SHARD_HEADER - 360];
	u64 hash; /* XXH3 of everything before it */
} ShardHeader;

typedef struct Shard {
	const char *path;
	Mapping map;
	const ShardHeader *header;
	const u8 *ids;
	const u64 *block_hash;
	u64 blocks, first;   /* `first`: where its ids start in the set */
	_Atomic u8 *checked; /* by block */
} Shard;

typedef struct Shards {
	Arena *arena;
	Shard *shard;
	u32 n;
	u64 count, text_bytes, text_characters, documents;
	u32 vocabulary, end;
	u64 tokenizer;
	const char *tokenizer_path;
	u64 hash; /* of the last header, and so of everything: names the set */
} Shards;

/* Opens PREFIX.000.tok and those after it. `prefix` may also be the path of the first file. */
PL_MUST_USE Status shards_open(Arena *a, const char *prefix, Shards *out);
void shards_close(Shards *s);
bool shards_exist(const char *prefix);
/* `n` ids from `at`, as i32 (vocabularies are below 2^24); at + n <= s->count. May be called by
 * several threads at once. */
PL_MUST_USE Status shards_read(const Shards *s, u64 at, u64 n, i32 *out);
/* Checks the blocks of one shard that have not been. */
PL_MUST_USE Status shard_verify(const Shard *shard);
/* The tokenizer that made them, from beside the first shard; it must be that very one. */
PL_MUST_USE Status shards_tokenizer(Arena *a, const Shards *s, Tokenizer **out);

/* What shards_open does with one file, for bytes from anywhere, aligned to 8, which must outlive
 * the shard; `path` is for messages. */
PL_MUST_USE Status shard_parse(Arena *a, const char *path, Blob bytes, Shard *out);

/* Writing a set. Ids go to temporary files; each shard appears under its name when it is complete.
 * After any failure, and for giving up, shard_writer_abandon. */
typedef struct ShardWriter ShardWriter;
/* `ids_per_shard` of 0 is SHARD_IDS. The tokenizer is named in the shards, and is to be saved by
 * the caller as `tokenizer_file` in the same folder. */
PL_MUST_USE Status shard_writer_open(Arena *a, const char *prefix, const Tokenizer *t,
				     const char *tokenizer_file, u64 ids_per_shard,
				     ShardWriter **out);
PL_MUST_USE Status shard_writer_add(ShardWriter *w, const u32 *id, size_t n);
/* The last ids ended a document. */
void shard_writer_document(ShardWriter *w);
/* Removes shards of an earlier, longer set of this name, too. */
PL_MUST_USE Status shard_writer_finish(ShardWriter *w);
void shard_writer_abandon(ShardWriter *w);
u64 shard_writer_count(const ShardWriter *w); /* ids so far, in all */

#endif
