/* codegen/package_sizes.c: a package at sizes that are known only when it runs; see package.h. Code reads extents, strides and
 * offsets as numbers, so that these are all that changes from one size to another. */
#include "codegen/package.h"

#include <string.h>

static const u8 dtype_bytes[] = { [PACKAGE_B1] = 1, [PACKAGE_U8] = 1, [PACKAGE_U32] = 4, [PACKAGE_I8] = 1, [PACKAGE_I32] = 4,
				  [PACKAGE_I64] = 8, [PACKAGE_F16] = 2, [PACKAGE_BF16] = 2, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8 };

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

const char *package_refuses_sizes(const Package *p, const i64 *size)
{
	for (u32 a = 0; a < p->naxis; a++)
		if (size[a] < 1 || size[a] > p->axis[a].most)
			return "a size is out of its range";
	for (u32 i = 0; i < p->nformula; i++)
		if (p->formula[i].over > 1 && sum_of(p, &p->formula[i], size) % p->formula[i].over)
			return "a dimension is not whole at these sizes";
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

/* ---- a package for these sizes ---- */

static PackageTensor *tensors_at(Arena *arena, const Package *p, const PackageTensor *t, u32 n, const i64 *size)
{
	PackageTensor *to = NEWN(arena, PackageTensor, n + 1);
	for (u32 i = 0; i < n; i++) {
		to[i] = package_tensor(p, &t[i], size);
		memset(to[i].formula, 0, sizeof to[i].formula);
	}
	return to;
}

/* What it needs beside its slots: after all values. */
static u64 step_at(Arena *arena, const Package *p, PackageStep *s, const i64 *size, u64 *scratch)
{
	i64 *number = NEWN(arena, i64, s->nnumber + 1), need[PACKAGE_NEEDS];
	PackageSlot *slot = COPYN(arena, PackageSlot, s->slot_info, s->nslot);
	package_numbers(p, s, size, number);
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
	s->nphase = (u32)need[2];
	s->tasks = COPYN(arena, i64, need + 3, s->nphase);
	s->workspace = p->arena_bytes;
	s->has_workspace = need[0] > 0;
	*scratch = MAX(*scratch, (u64)need[1]);
	return (u64)need[0];
}

Package *package_at(Arena *arena, const Package *p, const i64 *size)
{
	Package *to = COPYN(arena, Package, p, 1);
	u64 workspace = 0;
	to->entry = NEWN(arena, PackageEntry, p->nentry + 1);
	for (u32 i = 0; i < p->nentry; i++) {
		PackageEntry *e = &to->entry[i];
		*e = p->entry[i];
		e->input = tensors_at(arena, p, e->input, e->ninput, size);
		e->result = tensors_at(arena, p, e->result, e->nresult, size);
		e->step = COPYN(arena, PackageStep, e->step, e->nstep);
		for (u32 s = 0; s < e->nstep; s++) {
			u64 bytes = step_at(arena, p, &e->step[s], size, &to->thread_scratch);
			workspace = MAX(workspace, bytes);
		}
	}
	to->axis = NULL;
	to->formula = NULL;
	to->naxis = to->nformula = 0;
	to->arena_bytes += workspace;
	return to;
}
