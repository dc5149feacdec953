/* codegen/package_file.c: the header of a package's file; see package.h. 64 bytes, little endian:
 *
 *    0  "\x89PLX\r\n\x1a\n": what it is; as PNG's, so that a copy as text is noticed
 *    8  u32 of the format, u32 zero
 *   16  u64 bytes of the whole file
 *   24  XXH3, 128 bits, of all from byte 40 on
 *   40  the version of Plinth that made it, zeros behind
 */
#include "codegen/package.h"

#include <string.h>
#include <xxhash.h>

enum { HEADER = 64, FORMAT = 5, FORMAT_AT = 8, SIZE_AT = 16, HASH_AT = 24, MADE_AT = 40 };
static const char magic[8] = "\x89PLX\r\n\x1a\n";

static void hash(Blob file, XXH128_canonical_t *out)
{
	XXH128_canonicalFromHash(out, XXH3_128bits(file.p + MADE_AT, file.n - MADE_AT));
}

Blob package_file_bytes(Arena *arena, const PackageFile *f)
{
	Blob body = package_encode_file(arena, f);
	u64 size = HEADER + body.n;
	u8 *to = arena_push(arena, 1, size, 64);
	u32 format = FORMAT;
	memcpy(to, magic, sizeof magic);
	memcpy(to + FORMAT_AT, &format, sizeof format);
	memcpy(to + SIZE_AT, &size, sizeof size);
	snprintf((char *)to + MADE_AT, HEADER - MADE_AT, "%s", PLINTH_VERSION);
	memcpy(to + HEADER, body.p, body.n);
	XXH128_canonical_t of;
	hash((Blob){ to, size }, &of);
	memcpy(to + HASH_AT, &of, sizeof of);
	return (Blob){ to, size };
}

Status package_file_open(Arena *arena, const char *path, Blob bytes, PackageFile *out)
{
	if (bytes.n < sizeof magic || memcmp(bytes.p, magic, sizeof magic) != 0)
		return FAIL(STATUS_INPUT, "%s is no package: it does not begin as one; `plinth compile MODEL -o model.plx` makes one", path);
	if (bytes.n < HEADER)
		return FAIL(STATUS_INPUT, "%s is cut short: it has %zu bytes, not even its header; copy it again", path, bytes.n);
	u32 format;
	u64 size;
	char made[HEADER - MADE_AT + 1] = "";
	memcpy(&format, bytes.p + FORMAT_AT, sizeof format);
	memcpy(&size, bytes.p + SIZE_AT, sizeof size);
	memcpy(made, bytes.p + MADE_AT, HEADER - MADE_AT);
	for (char *c = made; *c; c++)
		if (*c < 32 || *c > 126)
			*c = '?';
	if (format != FORMAT)
		return FAIL(STATUS_INPUT, "%s is of another version: its format is %u, and this plinth (" PLINTH_VERSION ") reads %u; it was made by "
			    "plinth %s: compile it again", path, format, FORMAT, made);
	if (bytes.n < size)
		return FAIL(STATUS_INPUT, "%s is cut short: it has %zu of its %llu bytes; copy it again", path, bytes.n,
			    (unsigned long long)size);
	if (bytes.n > size)
		return FAIL(STATUS_INPUT, "%s is altered: it has %llu bytes behind its end", path, (unsigned long long)(bytes.n - size));
	XXH128_canonical_t of;
	hash(bytes, &of);
	if (memcmp(&of, bytes.p + HASH_AT, sizeof of) != 0)
		return FAIL(STATUS_INPUT, "%s is altered: its bytes are not those that were written (its hash differs); copy or compile it again",
			    path);
	/* a file that was made on purpose may still be anything */
	const char *why = package_decode_file(arena, (Blob){ bytes.p + HEADER, bytes.n - HEADER }, out);
	return why ? FAIL(STATUS_INPUT, "%s is damaged: %s", path, why) : OK;
}
