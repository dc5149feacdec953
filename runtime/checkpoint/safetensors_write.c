/* runtime/checkpoint/safetensors_write.c: writing; see safetensors.h. The header goes out first with
 * zeros for hashes, each tensor is hashed as it passes, and commit writes the header again, now with
 * the hashes, over the first: a tensor's bytes are read once. */
#include "runtime/checkpoint/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { FAR_PIECE = 16 << 20 };

static int file_order(const void *pa, const void *pb, void *of)
{
	const NamedBuffer *buffer = of, *a = &buffer[*(const u32 *)pa], *b = &buffer[*(const u32 *)pb];
	u32 x = safe_dtype_size(a->dtype), y = safe_dtype_size(b->dtype);
	if (x != y)
		return x > y ? -1 : 1;
	return strcmp(a->name, b->name);
}

static int put_text(const char *text, size_t n, void *buf)
{
	buf_put(buf, (Str){ text, n });
	return 0;
}

static json_t *tensor_entry(const NamedBuffer *b, u64 *at)
{
	json_t *shape = json_array();
	for (u32 i = 0; i < b->rank; i++)
		json_array_append_new(shape, json_integer(b->dim[i]));
	u64 begin = *at;
	*at += safe_buffer_bytes(b);
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", safe_dtype_name(b->dtype), "shape", shape,
			 "data_offsets", (json_int_t)begin, (json_int_t)*at);
}

/* Everything in front of the data: length, JSON, spaces up to a multiple of 8. Its size does not
 * depend on the hashes. */
static Status header_text(SafeWriter *w, Buf *out)
{
	json_t *root = json_object(), *meta = json_object();
	const char *bad = NULL; /* a name that JSON cannot hold, or that is there twice */
	json_object_set_new(root, "__metadata__", meta);
	for (u32 i = 0; i < w->nmeta && !bad; i++)
		if (json_object_set_new(meta, w->meta[i].key, json_string(w->meta[i].value)) != 0)
			bad = w->meta[i].key;
	u64 at = 0;
	for (u32 k = 0; k < w->n && !bad; k++) {
		const NamedBuffer *b = &w->buffer[w->order[k]];
		const char *key = arena_printf(w->arena, "xxh3-128:%s", b->name);
		if (json_object_get(root, b->name) ||
		    json_object_set_new(root, b->name, tensor_entry(b, &at)) != 0 ||
		    json_object_set_new(meta, key, json_string(w->hash[k])) != 0)
			bad = b->name;
	}
	if (!bad) {
		buf_put(out, (Str){ "\0\0\0\0\0\0\0", 8 });
		json_dump_callback(root, put_text, out, JSON_COMPACT);
		while (out->n % 8)
			buf_char(out, ' ');
		for (u32 i = 0; i < 8; i++)
			out->text[i] = (char)((out->n - 8) >> (8 * i));
	}
	json_decref(root);
	if (bad)
		return FAIL(STATUS_INPUT,
			    "cannot write %s: the name %s is there twice, reserved, or not UTF-8",
			    w->file.path, safe_quoted(w->arena, str_of(bad)));
	return OK;
}

static Status put_bytes(SafeWriter *w, const void *bytes, size_t n)
{
	if (n && fwrite(bytes, 1, n, w->file.file) != n)
		return io_cannot("write", w->file.path);
	return OK;
}

/* Ends each tensor that has all its bytes and begins the next; empty ones end as they begin. */
static void next_tensors(SafeWriter *w)
{
	while (w->at < w->n && w->left == 0) {
		XXH128_canonical_t c;
		XXH128_canonicalFromHash(&c, XXH3_128bits_digest(w->hashing));
		for (u32 i = 0; i < sizeof c.digest; i++)
			snprintf(w->hash[w->at] + 2 * i, 3, "%02x", c.digest[i]);
		XXH3_128bits_reset(w->hashing);
		if (++w->at < w->n)
			w->left = safe_buffer_bytes(&w->buffer[w->order[w->at]]);
	}
}

Status safetensors_create(Arena *a, const char *path, const NamedBuffer *buffer, u32 n,
			  const TextPair *meta, u32 nmeta, SafeWriter *w)
{
	*w = (SafeWriter){ .arena = a, .buffer = buffer, .n = n, .meta = meta, .nmeta = nmeta };
	w->order = NEWN(a, u32, n);
	w->hash = arena_push(a, SAFE_HASH_TEXT, n, 1);
	for (u32 i = 0; i < n; i++) {
		w->order[i] = i;
		memset(w->hash[i], '0', SAFE_HASH_TEXT - 1);
	}
	if (n)
		qsort_r(w->order, n, sizeof *w->order, file_order, (void *)(uintptr_t)buffer);
	Buf header = { .arena = a };
	Status s = io_create(path, &w->file);
	if (!s) {
		s = header_text(w, &header);
		w->header = header.n;
	}
	if (!s)
		s = put_bytes(w, header.text, header.n);
	w->hashing = XXH3_createState();
	if (s || !w->hashing) {
		safetensors_abandon(w);
		return s ? s : FAIL(STATUS_MEMORY, "cannot write %s: no memory", path);
	}
	XXH3_128bits_reset(w->hashing);
	if (n)
		w->left = safe_buffer_bytes(&buffer[w->order[0]]);
	next_tensors(w);
	return OK;
}

Status safetensors_put(SafeWriter *w, const void *bytes, size_t n)
{
	const u8 *p = bytes;
	while (n) {
		assert(w->at < w->n && "more bytes than the tensors have");
		size_t now = (size_t)MIN(w->left, n);
		TRY(put_bytes(w, p, now));
		XXH3_128bits_update(w->hashing, p, now);
		p += now;
		n -= now;
		w->left -= now;
		next_tensors(w);
	}
	return OK;
}

Status safetensors_commit(SafeWriter *w, SafeWritten *out)
{
	assert(w->at == w->n && "fewer bytes than the tensors have");
	Buf header = { .arena = w->arena };
	Status s = header_text(w, &header);
	assert(s || header.n == w->header);
	SafeWritten made = { .bytes = w->header };
	for (u32 i = 0; i < w->n; i++)
		made.bytes += safe_buffer_bytes(&w->buffer[i]);
	if (!s && fseek(w->file.file, 0, SEEK_SET) != 0)
		s = io_cannot("write", w->file.path);
	if (!s)
		s = put_bytes(w, header.text, header.n);
	if (s) {
		safetensors_abandon(w);
		return s;
	}
	safe_hash((Blob){ (const u8 *)header.text, header.n }, made.header_hash);
	XXH3_freeState(w->hashing);
	w->hashing = NULL;
	TRY(io_commit(&w->file));
	if (out)
		*out = made;
	return OK;
}

void safetensors_abandon(SafeWriter *w)
{
	XXH3_freeState(w->hashing);
	w->hashing = NULL;
	io_abandon(&w->file);
}

static Status put_far(SafeWriter *w, Arena *tmp, const NamedBuffer *b)
{
	ArenaMark mark = arena_mark(tmp);
	u64 all = safe_buffer_bytes(b), piece = MIN(all, (u64)FAR_PIECE);
	u8 *bytes = NEWN(tmp, u8, piece + 1);
	Status s = OK;
	for (u64 at = 0; at < all && !s; at += piece) {
		u64 n = MIN(piece, all - at);
		s = safe_buffer_read(b, at, bytes, n);
		if (!s)
			s = safetensors_put(w, bytes, n);
	}
	arena_release(tmp, mark);
	return s;
}

Status safetensors_write(const char *path, const NamedBuffer *buffer, u32 n, const TextPair *meta,
			 u32 nmeta, SafeWritten *out)
{
	Arena tmp = ARENA("safetensors_write");
	SafeWriter w;
	Status s = safetensors_create(&tmp, path, buffer, n, meta, nmeta, &w);
	for (u32 k = 0; k < n && !s; k++) {
		const NamedBuffer *b = &buffer[w.order[k]];
		s = b->data ? safetensors_put(&w, b->data, safe_buffer_bytes(b)) : put_far(&w, &tmp, b);
	}
	if (!s)
		s = safetensors_commit(&w, out);
	else
		safetensors_abandon(&w);
	arena_free(&tmp);
	return s;
}

Str safetensors_index_text(Arena *a, const Safetensors *s)
{
	json_t *map = json_object();
	u64 bytes = 0;
	for (u32 i = 0; i < s->ntensor; i++) {
		const SafeTensor *t = &s->tensor[s->by_name[i]];
		const char *path = s->file[t->file].path, *slash = strrchr(path, '/');
		json_object_set_new(map, t->name, json_string(slash ? slash + 1 : path));
		bytes += t->data.n;
	}
	json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)bytes, "weight_map", map);
	Buf b = { .arena = a };
	json_dump_callback(root, put_text, &b, JSON_INDENT(2));
	json_decref(root);
	buf_char(&b, '\n');
	return buf_str(&b);
}
