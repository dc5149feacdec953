/* runtime/data/utf8.h: UTF-8 as Unicode defines it (table 3-7): no overlong forms, no surrogates,
 * nothing past U+10FFFF. */
#ifndef PL_DATA_UTF8_H
#define PL_DATA_UTF8_H
#include "support/base.h"

/* The bytes of the character at the front of `s` (1 to 4), its code point in *code; 0 when the
 * bytes there are no character, or `s` is empty. */
u32 utf8_read(Str s, u32 *code);
/* Writes 1 to 4 bytes, gives how many. `code` is a code point that is no surrogate. */
u32 utf8_write(u32 code, char out[4]);
/* How many bytes at the front of `s` are whole characters. */
size_t utf8_valid(Str s);
/* Bytes that start a character; in a valid text, how many characters. */
u64 utf8_starts(Str s);

#endif
