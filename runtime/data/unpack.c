/* runtime/data/unpack.c: see unpack.h. A file may have several members, one behind the other, as `cat a.gz b.gz` makes it. */
#include "runtime/data/unpack.h"

#include <zlib.h>

enum { PIECE = 1 << 16 };

static Status damaged(const char *path, const char *why)
{
	return FAIL(STATUS_INPUT, "%s: its compressed data is damaged: %s", path, why);
}

static bool is_gzip(Blob b)
{
	return b.n >= 2 && b.p[0] == 0x1f && b.p[1] == 0x8b;
}

/* All members. What stands behind the last one must be zeros, which tapes and block devices add. */
static Status inflate_all(const char *path, Blob bytes, z_stream *z, FILE *to)
{
	u8 piece[PIECE];
	size_t at = 0;
	while (is_gzip((Blob){ bytes.p + at, bytes.n - at })) {
		int r = inflateReset(z);
		while (r == Z_OK) {
			z->next_in = (u8 *)(uintptr_t)(bytes.p + at);
			z->avail_in = (uInt)MIN(bytes.n - at, (size_t)1 << 30);
			z->next_out = piece;
			z->avail_out = PIECE;
			size_t had = z->avail_in;
			r = inflate(z, Z_NO_FLUSH);
			at += had - z->avail_in;
			size_t n = PIECE - z->avail_out;
			if (fwrite(piece, 1, n, to) < n)
				return io_cannot("unpack", path);
		}
		if (r == Z_BUF_ERROR)
			return FAIL(STATUS_INPUT, "%s: its compressed data is cut off: there is no checksum at its end", path);
		if (r != Z_STREAM_END)
			return damaged(path, z->msg ? z->msg : "it does not go on");
	}
	for (; at < bytes.n; at++)
		if (bytes.p[at])
			return damaged(path, "something else stands behind its end");
	return OK;
}

Status unpack_bytes(const char *path, Blob bytes, Mapping *scratch, Blob *out)
{
	*out = bytes;
	*scratch = (Mapping){ 0 };
	if (!is_gzip(bytes))
		return OK;
	FILE *to;
	z_stream z = { 0 };
	TRY(io_scratch(&to));
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
		fclose(to);
		return FAIL(STATUS_MEMORY, "%s: no memory to decompress it", path);
	}
	Status s = inflate_all(path, bytes, &z, to);
	inflateEnd(&z);
	if (s) {
		fclose(to);
		return s;
	}
	TRY(io_map_scratch(to, path, scratch));
	*out = scratch->bytes;
	return OK;
}

Status unpack_map(const char *path, Mapping *out)
{
	Mapping file, scratch;
	Blob bytes;
	TRY(io_map(path, &file));
	Status s = unpack_bytes(path, file.bytes, &scratch, &bytes);
	bool same = !s && bytes.p == file.bytes.p;
	if (!same)
		io_unmap(&file);
	*out = same ? file : scratch;
	return s;
}
