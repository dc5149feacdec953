/* runtime/numerics.c: see numerics.h. */
#include "runtime/numerics.h"
#include "support/str.h"

#include <string.h>

/* What an exponent of all ones means: infinity with a fraction of zero, NaN otherwise. */
typedef enum Wrong { WRONG_NAN, WRONG_INFINITY } Wrong;

static bool is_wrong(u64 exponent, u64 fraction, u64 all_ones, Wrong w)
{
	return exponent == all_ones && (w == WRONG_INFINITY) == (fraction == 0);
}

#define SCAN(type, fraction_bits, exponent_bits)                                                    \
	for (u64 i = 0; i < elements; i++) {                                                        \
		if (rows.pitch && i % rows.pitch >= rows.row)                                       \
			continue; /* a gap between rows */                                          \
		type x = ((const type *)p)[i];                                                      \
		u64 e = (x >> (fraction_bits)) & (((u64)1 << (exponent_bits)) - 1);                 \
		if (is_wrong(e, x & (((u64)1 << (fraction_bits)) - 1), ((u64)1 << (exponent_bits)) - 1, w)) { \
			if (!n++)                                                                   \
				*at = i;                                                            \
		}                                                                                   \
	}

/* As PackageSlot has it. */
typedef struct Rows {
	u64 row, pitch;
} Rows;

static bool scan(const void *p, u8 dtype, u64 elements, Rows rows, Wrong w, u64 *at, u64 *bad)
{
	u64 n = 0;
	switch (dtype) {
	case PACKAGE_F8E4M3: /* all ones, and no infinity */
		for (u64 i = 0; i < elements && w == WRONG_NAN; i++)
			if (!(rows.pitch && i % rows.pitch >= rows.row) && (((const u8 *)p)[i] & 0x7F) == 0x7F && !n++)
				*at = i;
		break;
	case PACKAGE_F8E5M2: SCAN(u8, 2, 5) break;
	case PACKAGE_F16: SCAN(u16, 10, 5) break;
	case PACKAGE_BF16: SCAN(u16, 7, 8) break;
	case PACKAGE_F32: SCAN(u32, 23, 8) break;
	case PACKAGE_F64: SCAN(u64, 52, 11) break;
	default: break;
	}
	*bad = n;
	return n > 0;
}

bool find_nan(const void *p, u8 dtype, u64 elements, u64 *at, u64 *bad)
{
	return scan(p, dtype, elements, (Rows){ 0 }, WRONG_NAN, at, bad);
}

bool find_infinity(const void *p, u8 dtype, u64 elements, u64 *at, u64 *bad)
{
	return scan(p, dtype, elements, (Rows){ 0 }, WRONG_INFINITY, at, bad);
}

static const u8 float_size[PACKAGE_F64 + 1] = {
	[PACKAGE_F8E4M3] = 1, [PACKAGE_F8E5M2] = 1, [PACKAGE_F16] = 2, [PACKAGE_BF16] = 2, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8
};

static void note(Numerics *n, u64 at, u8 dtype, u64 elements, Rows rows, BadValue found)
{
	if (!float_size[dtype] || n->failed)
		return;
	u64 bytes = elements * float_size[dtype];
	Arena tmp = ARENA("numerics");
	const void *p = executor_memory(n->executor, &(PackageTensor){ .offset = at });
	if (!p) {
		void *copy = NEWN(&tmp, f64, bytes / sizeof(f64) + 1); /* aligned for every type */
		n->failed = executor_read_at(n->executor, at, copy, bytes);
		p = copy;
	}
	for (Wrong w = WRONG_NAN; w <= WRONG_INFINITY && !n->failed; w++) {
		BadValue *to = w == WRONG_NAN ? &n->nan : &n->infinity;
		if (to->found || !scan(p, dtype, elements, rows, w, &found.at, &found.bad))
			continue;
		found.found = true;
		found.elements = elements;
		*to = found;
	}
	arena_free(&tmp);
}

bool numerics_hook(void *cx, const PackageEntry *entry, u32 step, f64 seconds)
{
	(void)seconds;
	Numerics *n = cx;
	const PackageStep *s = &entry->step[step];
	for (u32 i = 0; i < s->nslot; i++) {
		const PackageSlot *slot = &s->slot_info[i];
		if (slot->written)
			note(n, s->slot[i], slot->dtype, slot->elements, (Rows){ slot->row, slot->pitch },
			     (BadValue){ .entry = entry->name, .step = step, .kernel = s->name, .file = s->file, .line = s->line,
					 .name = slot->name, .value_file = slot->file, .value_line = slot->line });
	}
	return !n->nan.found && !n->failed;
}

bool numerics_buffers(Numerics *n, u32 kinds)
{
	const Package *p = n->executor->package;
	for (u32 i = 0; i < p->nbuffer; i++) {
		const PackageTensor *t = &p->buffer[i].tensor;
		if ((kinds >> p->buffer[i].kind & 1) && float_size[t->dtype] && !p->buffer[i].away)
			note(n, t->offset, t->dtype, t->bytes / float_size[t->dtype], (Rows){ 0 },
			     (BadValue){ .is_input = true, .file = "", .name = t->name });
	}
	return n->nan.found || n->infinity.found;
}

static void put(Arena *a, Buf *b, const char *what, const BadValue *v)
{
	if (!v->found)
		return;
	const char *share = arena_printf(a, "%llu of its %llu elements, the first at %llu", (unsigned long long)v->bad,
					 (unsigned long long)v->elements, (unsigned long long)v->at);
	if (v->is_input) {
		buf_printf(b, "%s%s in the parameter %s (%s), before the step", b->n ? "; " : "", what, v->name, share);
		return;
	}
	buf_printf(b, "%sthe first %s comes out of %s", b->n ? "; " : "", what, v->kernel);
	if (v->line)
		buf_printf(b, " (%s:%u)", v->file, v->line);
	buf_printf(b, ": %s", v->name);
	if (v->value_line)
		buf_printf(b, " (%s:%u)", v->value_file, v->value_line);
	buf_printf(b, ", %s; step %u of entry %s", share, v->step + 1, v->entry);
}

const char *numerics_text(Arena *a, const Numerics *n)
{
	Buf b = { .arena = a };
	put(a, &b, "NaN", &n->nan);
	put(a, &b, "infinity", &n->infinity);
	return b.n ? b.text : "";
}
