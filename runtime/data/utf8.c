/* runtime/data/utf8.c: see utf8.h. */
#include "runtime/data/utf8.h"

u32 utf8_read(Str s, u32 *code)
{
	static const u32 least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (!s.n)
		return 0;
	u8 lead = (u8)s.s[0];
	if (lead < 0x80) {
		*code = lead;
		return 1;
	}
	u32 n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	if (lead < 0xc2 || lead > 0xf4 || s.n < n)
		return 0;
	u32 c = lead & (0x7fu >> n);
	for (u32 i = 1; i < n; i++) {
		u8 next = (u8)s.s[i];
		if ((next & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (next & 0x3fu);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*code = c;
	return n;
}

u32 utf8_write(u32 c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	u32 n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (u32 i = n - 1; i > 0; i--) {
		out[i] = (char)(0x80 | (c & 0x3f));
		c >>= 6;
	}
	out[0] = (char)((0xf00u >> n & 0xff) | c);
	return n;
}

size_t utf8_valid(Str s)
{
	size_t at = 0;
	while (at < s.n) {
		if ((u8)s.s[at] < 0x80) {
			at++;
			continue;
		}
		u32 code, n = utf8_read((Str){ s.s + at, s.n - at }, &code);
		if (!n)
			break;
		at += n;
	}
	return at;
}

u64 utf8_starts(Str s)
{
	u64 n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += ((u8)s.s[i] & 0xc0) != 0x80;
	return n;
}
