/* codegen/package_sizes.c: a package at sizes that are known only when it runs; see package.h. Code reads extents, strides and
 * offsets as numbers, so that these are all that changes from one size to another. */
#include "codegen/package.h"

#include <stdlib.h>
#include <string.h>

static const u8 dtype_bytes[] = { [PACKAGE_B1] = 1, [PACKAGE_U8] = 1, [PACKAGE_U32] = 4, [PACKAGE_I8] = 1, [PACKAGE_I32] = 4,
				  [PACKAGE_I64] = 8, [PACKAGE_F8E4M3] = 1, [PACKAGE_F8E5M2] = 1, [PACKAGE_F16] = 2, [PACKAGE_BF16] = 2, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8 };

/* ---- numbers ---- */

/* The sum, before it is divided. Sizes are in range, for which it was checked that nothing overflows. */
static i64 sum_of(const Package *p, const PackageFormula *f, const i64 *size)
{
	i64 sum = 0;
	for (u32 i = 0; i < f->nterm; i++) {
		i64 x = f->term[i].coefficient;
		for (u32 a = 0; a < p->naxis; a++)
			for (u32 n = f->term[i].power[a]; n > 0; n--)
				x *= size[a];
		sum += x;
	}
	return sum;
}

static i64 value_of(const Package *p, u32 formula, const i64 *size)
{
	return sum_of(p, &p->formula[formula], size) / p->formula[formula].over;
}

static bool tensors_fit(const Package *p, const PackageTensor *t, u32 n, const i64 *size)
{
	for (u32 i = 0; i < n; i++)
		for (u32 d = 0; d < t[i].rank; d++) {
			i64 dim = t[i].formula[d] ? value_of(p, t[i].formula[d] - 1, size) : t[i].dim[d];
			if (dim < 0 || dim > t[i].dim[d])
				return false;
		}
	return true;
}

const char *package_refuses_sizes(const Package *p, const i64 *size)
{
	for (u32 a = 0; a < p->naxis; a++)
		if (size[a] < 1 || size[a] > p->axis[a].most)
			return "a size is out of its range";
	for (u32 i = 0; i < p->nformula; i++)
		if (p->formula[i].over > 1 && sum_of(p, &p->formula[i], size) % p->formula[i].over)
			return "a dimension is not whole at these sizes";
	/* a reader of packages trusts nothing: what follows from sizes is no more than what there is room for */
	for (u32 i = 0; i < p->nentry; i++)
		if (!tensors_fit(p, p->entry[i].input, p->entry[i].ninput, size) || !tensors_fit(p, p->entry[i].result, p->entry[i].nresult, size))
			return "an input or result is larger than it is at most";
	return NULL;
}

void package_numbers(const Package *p, const PackageStep *s, const i64 *size, i64 *number)
{
	if (s->nnumber)
		memcpy(number, s->number, s->nnumber * sizeof *number);
	for (u32 i = 0; i < s->nvarying; i++)
		number[s->varying[i].at] = value_of(p, s->varying[i].formula, size);
}

PackageTensor package_tensor(const Package *p, const PackageTensor *t, const i64 *size)
{
	PackageTensor now = *t;
	now.bytes = dtype_bytes[t->dtype];
	for (u32 d = 0; d < t->rank; d++) {
		if (t->formula[d])
			now.dim[d] = value_of(p, t->formula[d] - 1, size);
		now.bytes *= (u64)now.dim[d];
	}
	return now;
}

/* ---- memory ---- */

static int lower_first(const void *a, const void *b)
{
	const PackageBlock *x = a, *y = b;
	return x->most != y->most ? x->most < y->most ? -1 : 1 : x->which < y->which ? -1 : x->which > y->which;
}

PackageLayout package_layout(Arena *arena, const PackageEntry *e)
{
	PackageLayout l = { 0 };
	for (u32 s = 0; s < e->nstep; s++)
		for (u32 k = 0; k < e->step[s].nslot; k++)
			if (e->step[s].slot_info[k].place == PACKAGE_TRANSIENT)
				l.nwhich = MAX(l.nwhich, e->step[s].slot_info[k].which + 1);
	u32 *at = NEWN(arena, u32, l.nwhich + 1); /* one more than its place in the list */
	l.block = NEWN(arena, PackageBlock, l.nwhich + 1);
	for (u32 s = 0; s < e->nstep; s++)
		for (u32 k = 0; k < e->step[s].nslot; k++) {
			const PackageSlot *info = &e->step[s].slot_info[k];
			if (info->place != PACKAGE_TRANSIENT)
				continue;
			if (!at[info->which]) {
				l.block[l.nblock++] = (PackageBlock){ info->which, s, s, e->step[s].slot[k] };
				at[info->which] = l.nblock;
			}
			l.block[at[info->which] - 1].last = s;
		}
	qsort(l.block, l.nblock, sizeof *l.block, lower_first);
	return l;
}

u64 package_lay_out(const Package *p, const PackageEntry *e, const PackageLayout *l, const i64 *size, u64 *offset, u64 *end)
{
	u64 all = 0;
	memset(end, 0, l->nwhich * sizeof *end);
	for (u32 s = 0; s < e->nstep; s++)
		for (u32 k = 0; k < e->step[s].nslot; k++) {
			const PackageSlot *info = &e->step[s].slot_info[k];
			if (info->place != PACKAGE_TRANSIENT)
				continue;
			u64 elements = info->formula ? (u64)value_of(p, info->formula - 1, size) : info->elements;
			end[info->which] = MAX(end[info->which], ALIGN_UP(elements * dtype_bytes[info->dtype], 64));
		}
	for (u32 i = 0; i < l->nblock; i++) {
		const PackageBlock *b = &l->block[i];
		u64 at = 0;
		for (u32 k = 0; k < i; k++) {
			const PackageBlock *below = &l->block[k];
			if (below->first <= b->last && b->first <= below->last)
				at = MAX(at, end[below->which]);
		}
		offset[b->which] = at;
		end[b->which] += at;
		all = MAX(all, end[b->which]);
	}
	return all;
}

/* ---- a package for these sizes ---- */

/* One after the other from *at on. */
static PackageTensor *tensors_at(Arena *arena, const Package *p, const PackageTensor *t, u32 n, const i64 *size, u64 *at)
{
	PackageTensor *to = NEWN(arena, PackageTensor, n + 1);
	for (u32 i = 0; i < n; i++) {
		to[i] = package_tensor(p, &t[i], size);
		memset(to[i].formula, 0, sizeof to[i].formula);
		to[i].offset = *at;
		*at += ALIGN_UP(to[i].bytes, 64);
	}
	return to;
}

static void slots_at(Arena *arena, const Package *p, const PackageEntry *e, PackageStep *s, u64 transient, const u64 *offset)
{
	u64 *slot = NEWN(arena, u64, s->nslot + 1);
	for (u32 i = 0; i < s->nslot; i++) {
		const PackageSlot *info = &s->slot_info[i];
		slot[i] = info->place == PACKAGE_PERSISTENT ? p->buffer[info->which].tensor.offset :
			  info->place == PACKAGE_INPUT	    ? e->input[info->which].offset :
			  info->place == PACKAGE_RESULT	    ? e->result[info->which].offset :
							      transient + offset[info->which];
	}
	s->slot = slot;
}

/* What it needs beside its slots, after all values: where that is comes later. */
static u64 step_at(Arena *arena, const Package *p, PackageStep *s, const i64 *size, u64 *scratch)
{
	i64 *number = NEWN(arena, i64, s->nnumber + 1), need[PACKAGE_NEEDS] = { 0 };
	PackageSlot *slot = COPYN(arena, PackageSlot, s->slot_info, s->nslot);
	package_numbers(p, s, size, number);
	if (s->needs)
		s->needs(number, need);
	for (u32 i = 0; i < s->nslot; i++)
		if (slot[i].formula) {
			slot[i].elements = (u64)value_of(p, slot[i].formula - 1, size);
			slot[i].formula = 0;
		}
	s->slot_info = slot;
	s->number = number;
	s->varying = NULL;
	s->nvarying = 0;
	if (!s->needs)
		return 0; /* a grid of blocks: the same for all sizes */
	s->nphase = (u32)need[2];
	s->tasks = COPYN(arena, i64, need + 3, s->nphase);
	s->has_workspace = need[0] > 0;
	*scratch = MAX(*scratch, (u64)need[1]);
	return (u64)need[0];
}

Package *package_at(Arena *arena, const Package *p, const i64 *size)
{
	Package *to = COPYN(arena, Package, p, 1);
	u64 workspace = 0, values = p->persistent_bytes;
	to->entry = NEWN(arena, PackageEntry, p->nentry + 1);
	for (u32 i = 0; i < p->nentry; i++) {
		PackageEntry *e = &to->entry[i];
		*e = p->entry[i];
		PackageLayout l = package_layout(arena, e);
		u64 *offset = NEWN(arena, u64, l.nwhich + 1), *end = NEWN(arena, u64, l.nwhich + 1), at = p->persistent_bytes;
		e->input = tensors_at(arena, p, e->input, e->ninput, size, &at);
		e->result = tensors_at(arena, p, e->result, e->nresult, size, &at);
		values = MAX(values, at + package_lay_out(p, e, &l, size, offset, end));
		e->step = COPYN(arena, PackageStep, e->step, e->nstep);
		for (u32 s = 0; s < e->nstep; s++) {
			slots_at(arena, p, e, &e->step[s], at, offset);
			u64 bytes = step_at(arena, p, &e->step[s], size, &to->thread_scratch);
			workspace = MAX(workspace, bytes);
		}
	}
	for (u32 i = 0; i < p->nentry; i++)
		for (u32 s = 0; s < to->entry[i].nstep; s++)
			to->entry[i].step[s].workspace = values;
	to->axis = NULL;
	to->formula = NULL;
	to->naxis = to->nformula = 0;
	to->arena_bytes = values + workspace;
	return to;
}
