/* runtime/checkpoint/stacked.c: see stacked.h. */
#include "runtime/checkpoint/stacked.h"

#include <string.h>

static u32 axes_in_braces(const char *name)
{
	u32 n = 0;
	for (const char *p = strchr(name, '{'); p; p = strchr(p + 1, '{'))
		n++;
	return n;
}

u32 stacked_count(const NamedBuffer *b)
{
	u32 axes = axes_in_braces(b->name);
	u64 n = 1;
	assert(axes <= b->rank);
	for (u32 d = 0; d < axes; d++)
		n *= (u64)b->dim[d];
	assert(n <= UINT32_MAX);
	return (u32)n;
}

/* The name with part `i`'s indices for the braces. */
static const char *part_name(Arena *a, const NamedBuffer *b, u32 axes, u64 i)
{
	u64 each = stacked_count(b);
	Buf text = { .arena = a };
	u32 d = 0;
	for (const char *p = b->name; *p; p++) {
		if (*p != '{' || d == axes) {
			buf_char(&text, *p);
			continue;
		}
		each /= (u64)b->dim[d++];
		buf_printf(&text, "%llu", (unsigned long long)(i / each));
		i %= each;
		p = strchr(p, '}');
		assert(p);
	}
	return text.text;
}

void stacked_parts(Arena *a, const NamedBuffer *b, NamedBuffer *out)
{
	u32 axes = axes_in_braces(b->name), n = stacked_count(b);
	for (u32 i = 0; i < n; i++) {
		u64 from = safe_buffer_bytes(b) / n * i;
		out[i] = *b;
		out[i].name = axes ? part_name(a, b, axes, i) : b->name;
		out[i].rank = b->rank - axes;
		out[i].dim = b->dim + axes;
		out[i].data = b->data ? (u8 *)b->data + from : NULL;
		out[i].at = b->at + from;
	}
}
