/* runtime/comm/blocks.c: see blocks.h. */
#include "runtime/comm/blocks.h"

const u8 package_dtype_bytes[] = {
	[PACKAGE_B1] = 1,  [PACKAGE_U8] = 1,  [PACKAGE_U32] = 4,  [PACKAGE_I8] = 1,  [PACKAGE_I32] = 4,
	[PACKAGE_I64] = 8, [PACKAGE_F8E4M3] = 1, [PACKAGE_F8E5M2] = 1, [PACKAGE_F16] = 2, [PACKAGE_BF16] = 2, [PACKAGE_F32] = 4, [PACKAGE_F64] = 8,
};

Rows block_rows(const PackageCollectiveTensor *t, u32 axis, i64 outer, bool whole, u32 parts)
{
	Rows r = { (u64)outer, package_dtype_bytes[t->dtype] };
	for (u32 d = 0; d < t->rank; d++) {
		if (d < axis)
			r.n *= (u64)t->dim[d];
		else if (d > axis)
			r.bytes *= (u64)t->dim[d];
	}
	r.bytes *= (u64)(t->dim[axis] / outer / (whole ? parts : 1));
	return r;
}

Rows rows_received(const PackageCollectiveTensor *t, u32 parts)
{
	PackageCollectiveTensor part = *t; /* split along `to` already */
	part.dim[part.to] /= parts;
	return block_rows(&part, part.axis, part.outer, false, parts);
}

u64 said_elements(const PackageCollectiveTensor *t)
{
	u64 n = 1;
	for (u32 d = 0; d < t->rank; d++)
		n *= (u64)t->dim[d];
	return n;
}

u64 said_bytes(const PackageCollectiveTensor *t)
{
	return said_elements(t) * package_dtype_bytes[t->dtype];
}

u32 under_way_end(UnderWay *w, const PackageEntry *e, u32 i)
{
	u32 last = NO_STEP;
	for (; w->n && w->first < i; w->first++) {
		if (!e->step[w->first].collective)
			continue;
		if (e->step[w->first].until > i)
			break;
		last = w->first;
		w->n--;
	}
	return last;
}
