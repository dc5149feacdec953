/* runtime/data/shard.c: opening, checking and reading token shards. See shard.h. */
#include "runtime/data/shard.h"

#include <string.h>
#include <xxhash.h>

_Static_assert(sizeof(ShardHeader) == SHARD_HEADER, "the header is one page");
_Static_assert(offsetof(ShardHeader, hash) == SHARD_HEADER - 8, "the hash is at its end");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "shards are little-endian");

/* What is wrong with the shard's byte `at`. */
static Status corrupt(const char *path, u64 at, const char *format, ...) PL_PRINTF(3, 4);
static Status corrupt(const char *path, u64 at, const char *format, ...)
{
	char what[512];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	return FAIL(STATUS_INPUT,
		    "%s: byte %llu: %s; make the shards again with `plinth data tokenize`", path,
		    (unsigned long long)at, what);
}

/* Where the table of hashes starts: after the ids, aligned. */
static u64 table_at(const ShardHeader *h)
{
	return ALIGN_UP(SHARD_HEADER + h->count * h->width, 8);
}

#define AT(field) offsetof(ShardHeader, field)

static Status check_header(const char *path, Blob bytes)
{
	const ShardHeader *h = (const ShardHeader *)(const void *)bytes.p;
	if (bytes.n < sizeof h->magic || memcmp(h->magic, SHARD_MAGIC, sizeof h->magic))
		return corrupt(path, 0, "this is not a token shard");
	if (bytes.n < SHARD_HEADER)
		return corrupt(path, bytes.n, "the file ends within its header of %d bytes",
			       SHARD_HEADER);
	if (h->version != SHARD_VERSION)
		return corrupt(path, AT(version), "version %u; this program reads version %d",
			       h->version, SHARD_VERSION);
	if (XXH3_64bits(h, AT(hash)) != h->hash)
		return corrupt(path, AT(hash), "the header does not have the hash that it states");
	/* The hash holds, so what follows would be a file made wrong, not one gone wrong; every
	 * number that is used below is checked all the same. */
	if (h->width != 2 && h->width != 4)
		return corrupt(path, AT(width), "%u bytes per id; 2 or 4 are possible", h->width);
	if (h->count > UINT64_MAX / 16)
		return corrupt(path, AT(count), "%llu ids are too many",
			       (unsigned long long)h->count);
	if (!h->vocabulary || h->vocabulary > (h->width == 2 ? 1u << 16 : TOKENIZER_VOCAB_MAX))
		return corrupt(path, AT(vocabulary), "a vocabulary of %u", h->vocabulary);
	if (h->end != TOKEN_NONE && h->end >= h->vocabulary)
		return corrupt(path, AT(end), "documents end with id %u, of a vocabulary of %u",
			       h->end, h->vocabulary);
	if (h->block != SHARD_BLOCK)
		return corrupt(path, AT(block), "blocks of %u ids instead of %d", h->block,
			       SHARD_BLOCK);
	if (h->last > 1)
		return corrupt(path, AT(last), "neither the last shard nor not the last");
	if (!memchr(h->tokenizer_file, 0, sizeof h->tokenizer_file) ||
	    strchr(h->tokenizer_file, '/') || !h->tokenizer_file[0])
		return corrupt(path, AT(tokenizer_file), "the tokenizer's file has no proper name");
	return OK;
}

Status shard_parse(Arena *a, const char *path, Blob bytes, Shard *out)
{
	assert((uintptr_t)bytes.p % 8 == 0);
	TRY(check_header(path, bytes));
	const ShardHeader *h = (const ShardHeader *)(const void *)bytes.p;
	u64 blocks = (h->count + SHARD_BLOCK - 1) / SHARD_BLOCK, table = table_at(h);
	u64 size = table + 8 * blocks;
	if (bytes.n < size)
		return corrupt(path, bytes.n, "the file ends here, truncated: it had %llu bytes",
			       (unsigned long long)size);
	if (bytes.n > size)
		return corrupt(path, size,
			       "the shard ends here, but the file goes on for %llu bytes",
			       (unsigned long long)(bytes.n - size));
	*out = (Shard){ .path = path,
			.header = h,
			.ids = bytes.p + SHARD_HEADER,
			.block_hash = (const u64 *)(const void *)(bytes.p + table),
			.blocks = blocks };
	if (XXH3_64bits(out->block_hash, 8 * blocks) != h->table)
		return corrupt(path, table,
			       "the table of hashes does not have the hash in the header");
	for (u64 at = SHARD_HEADER + h->count * h->width; at < table; at++)
		if (bytes.p[at])
			return corrupt(path, at, "a byte that fills up is not zero");
	out->checked = (_Atomic u8 *)NEWN(a, u8, blocks + 1);
	return OK;
}

static u32 id_at(const Shard *s, u64 at)
{
	u16 narrow;
	u32 wide;
	if (s->header->width == 2) {
		memcpy(&narrow, s->ids + 2 * at, 2);
		return narrow;
	}
	memcpy(&wide, s->ids + 4 * at, 4);
	return wide;
}

static Status check_block(const Shard *s, u64 block)
{
	const ShardHeader *h = s->header;
	u64 from = block * SHARD_BLOCK, to = MIN(from + SHARD_BLOCK, h->count);
	u64 at = SHARD_HEADER + from * h->width;
	if (XXH3_64bits(s->ids + from * h->width, (to - from) * h->width) != s->block_hash[block])
		return corrupt(
			s->path, at,
			"the %llu bytes from here do not have the hash that was stored: the file "
			"has been damaged",
			(unsigned long long)((to - from) * h->width));
	for (u64 i = from; i < to; i++)
		if (id_at(s, i) >= h->vocabulary)
			return corrupt(s->path, SHARD_HEADER + i * h->width,
				       "token id %u in a vocabulary of %u", id_at(s, i),
				       h->vocabulary);
	/* Threads that check the same block at once come to the same end. */
	atomic_store_explicit(&s->checked[block], 1, memory_order_relaxed);
	return OK;
}

static Status need_block(const Shard *s, u64 block)
{
	return atomic_load_explicit(&s->checked[block], memory_order_relaxed)
		       ? OK
		       : check_block(s, block);
}

Status shard_verify(const Shard *s)
{
	for (u64 block = 0; block < s->blocks; block++)
		TRY(need_block(s, block));
	return OK;
}

Status shards_read(const Shards *s, u64 at, u64 n, i32 *out)
{
	if (at + n < at || at + n > s->count)
		NEVER("ids past the end of the shards");
	u32 k = 0;
	while (n) {
		while (k + 1 < s->n && at >= s->shard[k + 1].first)
			k++;
		const Shard *shard = &s->shard[k];
		u64 from = at - shard->first, here = MIN(n, shard->header->count - from);
		for (u64 b = from / SHARD_BLOCK; here && b <= (from + here - 1) / SHARD_BLOCK; b++)
			TRY(need_block(shard, b));
		for (u64 i = 0; i < here; i++)
			out[i] = (i32)id_at(shard, from + i);
		out += here;
		at += here;
		n -= here;
	}
	return OK;
}

static const char *shard_path(Arena *a, const char *prefix, u32 index)
{
	return arena_printf(a, "%s.%03u.tok", prefix, index);
}

/* The next shard belongs to those before it. */
static Status check_chain(const Shards *s, const Shard *next)
{
	const ShardHeader *h = next->header;
	if (h->index != s->n)
		return corrupt(next->path, AT(index),
			       "this was shard %u of its set, and stands as %u", h->index, s->n);
	if (h->before != s->hash)
		return corrupt(next->path, AT(before),
			       "this shard does not belong with those before it");
	if (s->n &&
	    (h->vocabulary != s->vocabulary || h->tokenizer != s->tokenizer || h->end != s->end))
		return corrupt(next->path, AT(tokenizer),
			       "another tokenizer than that of the first shard");
	return OK;
}

static Status open_all(Shards *s, const char *prefix)
{
	for (bool last = false; !last; s->n++) {
		if (s->n == SHARD_MOST)
			return FAIL(STATUS_INPUT, "%s: more than %d shards", prefix, SHARD_MOST);
		const char *path = shard_path(s->arena, prefix, s->n);
		Shard *next = &s->shard[s->n];
		Mapping map;
		if (s->n && !io_exists(path))
			return FAIL(STATUS_INPUT,
				    "%s is missing: %s says that it is not the last shard", path,
				    s->shard[s->n - 1].path);
		TRY(io_map(path, &map));
		Status wrong = shard_parse(s->arena, path, map.bytes, next);
		next->map = map;
		if (!wrong)
			wrong = check_chain(s, next);
		if (wrong) {
			s->n++; /* so that it is unmapped */
			return wrong;
		}
		const ShardHeader *h = next->header;
		next->first = s->count;
		s->count += h->count;
		s->text_bytes += h->text_bytes;
		s->text_characters += h->text_characters;
		s->documents += h->documents;
		s->vocabulary = h->vocabulary;
		s->tokenizer = h->tokenizer;
		s->end = h->end;
		s->hash = h->hash;
		last = h->last;
	}
	return OK;
}

static const char *prefix_of(Arena *a, const char *path)
{
	Str s = str_of(path);
	if (str_ends(s, STR(".000.tok")))
		s.n -= STR(".000.tok").n;
	return arena_strn(a, s);
}

bool shards_exist(const char *prefix)
{
	Arena a = ARENA("path");
	bool yes = io_exists(shard_path(&a, prefix_of(&a, prefix), 0));
	arena_free(&a);
	return yes;
}

Status shards_open(Arena *a, const char *path, Shards *out)
{
	const char *prefix = prefix_of(a, path);
	*out = (Shards){ .arena = a, .shard = NEWN(a, Shard, SHARD_MOST), .end = TOKEN_NONE };
	if (!io_exists(shard_path(a, prefix, 0)))
		return FAIL(
			STATUS_INPUT,
			"there are no token shards '%s' (no file %s); `plinth data tokenize` makes "
			"them from text",
			prefix, shard_path(a, prefix, 0));
	Status s = open_all(out, prefix);
	if (s) {
		shards_close(out);
		return s;
	}
	const char *slash = strrchr(prefix, '/');
	out->tokenizer_path = arena_printf(a, "%.*s%s", slash ? (int)(slash - prefix) + 1 : 0,
					   prefix, out->shard[0].header->tokenizer_file);
	return OK;
}

void shards_close(Shards *s)
{
	for (u32 i = 0; i < s->n; i++)
		io_unmap(&s->shard[i].map);
	s->n = 0;
}

Status shards_tokenizer(Arena *a, const Shards *s, Tokenizer **out)
{
	TRY(status_context(tokenizer_load(a, s->tokenizer_path, out), "the tokenizer of %s",
			   s->shard[0].path));
	if (tokenizer_hash(*out) == s->tokenizer)
		return OK;
	tokenizer_close(*out);
	return FAIL(STATUS_INPUT,
		    "%s is not the tokenizer that made %s; make the shards again with it",
		    s->tokenizer_path, s->shard[0].path);
}
