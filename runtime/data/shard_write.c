/* runtime/data/shard_write.c: writing token shards. See shard.h. A shard is closed when it is full
 * and more ids come, so that the last one is known to be the last; its header, which holds the
 * hashes, is written at the end, over a page of zeroes that no reader takes for a shard. */
#include "runtime/data/shard.h"
#include "runtime/data/utf8.h"
#include "support/vec.h"

#include <string.h>
#include <unistd.h>
#include <xxhash.h>

struct ShardWriter {
	Arena *arena;
	const Tokenizer *tokenizer;
	const char *prefix;
	u64 ids_per_shard, before_shard; /* ids in the shards already closed */
	ShardHeader header;              /* of the shard being written */
	AtomicFile file;
	bool open;
	u32 *bytes, *characters; /* of each id's text */
	u8 *block;               /* ids of the current block, as in the file */
	u32 in_block;
	VEC(u64) table;
};

static Status begin(ShardWriter *w)
{
	static const u8 page[SHARD_HEADER];
	ShardHeader *h = &w->header;
	if (h->index == SHARD_MOST)
		return FAIL(STATUS_INPUT, "%s: the text makes more than %d shards", w->prefix,
			    SHARD_MOST);
	TRY(io_create(arena_printf(w->arena, "%s.%03u.tok", w->prefix, h->index), &w->file));
	w->open = true;
	fwrite(page, 1, sizeof page, w->file.file);
	h->count = h->text_bytes = h->text_characters = h->documents = 0;
	w->in_block = 0;
	w->table.n = 0;
	return OK;
}

static void end_block(ShardWriter *w)
{
	if (!w->in_block)
		return;
	size_t size = (size_t)w->in_block * w->header.width;
	VEC_PUSH(w->arena, &w->table, XXH3_64bits(w->block, size));
	fwrite(w->block, 1, size, w->file.file);
	w->in_block = 0;
}

static Status end(ShardWriter *w, bool last)
{
	static const u8 fill[8];
	ShardHeader *h = &w->header;
	end_block(w);
	u64 ids = h->count * h->width;
	fwrite(fill, 1, ALIGN_UP(ids, 8) - ids, w->file.file);
	if (w->table.n)
		fwrite(w->table.v, 8, w->table.n, w->file.file);
	h->last = last;
	h->table = XXH3_64bits(w->table.v, 8 * (size_t)w->table.n);
	h->hash = XXH3_64bits(h, offsetof(ShardHeader, hash));
	if (fseeko(w->file.file, 0, SEEK_SET) == 0)
		fwrite(h, 1, sizeof *h, w->file.file);
	else
		return FAIL(STATUS_IO, "%s: cannot go back to write its header", w->file.path);
	w->open = false;
	TRY(io_commit(&w->file));
	w->before_shard += h->count;
	h->before = h->hash;
	h->index++;
	return OK;
}

Status shard_writer_open(Arena *a, const char *prefix, const Tokenizer *t,
			 const char *tokenizer_file, u64 ids_per_shard, ShardWriter **out)
{
	ShardWriter *w = NEW(a, ShardWriter);
	*w = (ShardWriter){ .arena = a,
			    .tokenizer = t,
			    .prefix = prefix,
			    .ids_per_shard = ids_per_shard ? ids_per_shard : SHARD_IDS };
	w->header = (ShardHeader){ .magic = SHARD_MAGIC,
				   .version = SHARD_VERSION,
				   .width = t->vocabulary <= 1u << 16 ? 2 : 4,
				   .vocabulary = t->vocabulary,
				   .end = t->end,
				   .tokenizer = tokenizer_hash(t),
				   .block = SHARD_BLOCK };
	if (strlen(tokenizer_file) >= sizeof w->header.tokenizer_file ||
	    strchr(tokenizer_file, '/'))
		return FAIL(STATUS_INPUT, "'%s' is too long a name for the tokenizer's file",
			    tokenizer_file);
	strcpy(w->header.tokenizer_file, tokenizer_file);
	w->bytes = NEWN(a, u32, t->vocabulary);
	w->characters = NEWN(a, u32, t->vocabulary);
	for (u32 id = 0; id < t->vocabulary; id++) {
		w->bytes[id] = (u32)tokenizer_piece(t, id).n;
		w->characters[id] = (u32)utf8_starts(tokenizer_piece(t, id));
	}
	w->block = NEWN(a, u8, (size_t)SHARD_BLOCK * w->header.width);
	*out = w;
	return begin(w);
}

Status shard_writer_add(ShardWriter *w, const u32 *id, size_t n)
{
	ShardHeader *h = &w->header;
	for (size_t i = 0; i < n; i++) {
		if (h->count == w->ids_per_shard) {
			TRY(end(w, false));
			TRY(begin(w));
		}
		assert(id[i] < h->vocabulary);
		u16 narrow = (u16)id[i];
		if (h->width == 2)
			memcpy(w->block + 2 * (size_t)w->in_block, &narrow, 2);
		else
			memcpy(w->block + 4 * (size_t)w->in_block, &id[i], 4);
		h->count++;
		h->text_bytes += w->bytes[id[i]];
		h->text_characters += w->characters[id[i]];
		if (++w->in_block == SHARD_BLOCK)
			end_block(w);
	}
	return OK;
}

void shard_writer_document(ShardWriter *w)
{
	w->header.documents++;
}

Status shard_writer_finish(ShardWriter *w)
{
	TRY(end(w, true));
	for (u32 i = w->header.index; i < SHARD_MOST; i++)
		if (unlink(arena_printf(w->arena, "%s.%03u.tok", w->prefix, i)) != 0)
			break;
	return OK;
}

void shard_writer_abandon(ShardWriter *w)
{
	if (w && w->open)
		io_abandon(&w->file);
	if (w)
		w->open = false;
}

u64 shard_writer_count(const ShardWriter *w)
{
	return w->before_shard + w->header.count;
}
