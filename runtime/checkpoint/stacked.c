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

/* The extent of a leading axis of the whole. */
static u64 extent(const NamedBuffer *b, u32 d)
{
	return (u64)(b->part ? b->part->axis[d].whole : b->dim[d]);
}

u32 stacked_count(const NamedBuffer *b)
{
	u32 axes = axes_in_braces(b->name);
	u64 n = 1;
	assert(axes <= b->rank);
	for (u32 d = 0; d < axes; d++)
		n *= extent(b, d);
	assert(n <= UINT32_MAX);
	return (u32)n;
}

/* The name with part `i`'s indices for the braces. */
static const char *part_name_of(Arena *a, const NamedBuffer *b, u32 axes, u64 i)
{
	u64 each = stacked_count(b);
	Buf text = { .arena = a };
	u32 d = 0;
	for (const char *p = b->name; *p; p++) {
		if (*p != '{' || d == axes) {
			buf_char(&text, *p);
			continue;
		}
		each /= extent(b, d++);
		buf_printf(&text, "%llu", (unsigned long long)(i / each));
		i %= each;
		p = strchr(p, '}');
		assert(p);
	}
	return text.text;
}

/* Which of the part's tensors is tensor i of the whole? False: it has nothing of that one. */
static bool place_in_part(const TensorPart *p, u32 axes, u64 i, u64 *place)
{
	u64 stride = 1;
	*place = 0;
	for (u32 d = axes; d-- > 0;) {
		i64 index = (i64)(i % (u64)p->axis[d].whole), before = 0;
		bool found = false;
		i /= (u64)p->axis[d].whole;
		for (u32 k = 0; k < p->axis[d].nrun && !found; k++) {
			PartRun r = p->axis[d].run[k];
			found = index >= r.from && index < r.from + r.n;
			before += found ? index - r.from : r.n;
		}
		if (!found)
			return false;
		*place += (u64)before * stride;
		stride *= (u64)part_extent(p, d);
	}
	return true;
}

/* What of tensor i of the whole the part has: a part without the leading axes. */
static const TensorPart *part_behind(Arena *a, const NamedBuffer *b, u32 axes, u64 i, u64 *place)
{
	TensorPart *p = NEW(a, TensorPart);
	*place = 0;
	p->rank = b->rank - axes;
	memcpy(p->axis, b->part->axis + axes, p->rank * sizeof *p->axis);
	p->none = b->part->none || !place_in_part(b->part, axes, i, place);
	return part_is_whole(p) ? NULL : p;
}

void stacked_parts(Arena *a, const NamedBuffer *b, NamedBuffer *out)
{
	u32 axes = axes_in_braces(b->name), n = stacked_count(b);
	u64 each = safe_dtype_size(b->dtype);
	for (u32 d = axes; d < b->rank; d++)
		each *= (u64)b->dim[d];
	for (u32 i = 0; i < n; i++) {
		u64 place = i;
		out[i] = *b;
		out[i].name = axes ? part_name_of(a, b, axes, i) : b->name;
		out[i].rank = b->rank - axes;
		out[i].dim = b->dim + axes;
		if (b->part)
			out[i].part = part_behind(a, b, axes, i, &place);
		out[i].data = b->data ? (u8 *)b->data + place * each : NULL;
		out[i].at = b->at + place * each;
	}
}
