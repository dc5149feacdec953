/* codegen/package.c: looking things up in a package, and what may be in it. */
#include "codegen/package.h"

#include <string.h>

const PackageEntry *package_entry(const Package *p, const char *name)
{
	for (u32 i = 0; i < p->nentry; i++)
		if (!strcmp(p->entry[i].name, name))
			return &p->entry[i];
	return NULL;
}

/* In bytes: where it begins, and from row to row (or column to column) and matrix to matrix. */
static bool in_sixteens(const PackageMatmul *m, const PackageMatrix *x)
{
	i64 size = package_is_f8(x->dtype) ? 1 : x->dtype == PACKAGE_F32 ? 4 : 2, ld = x->column == 1 ? x->row : x->column;
	return x->offset % 16 == 0 && ld * size % 16 == 0 && (m->batch == 1 || x->batch * size % 16 == 0);
}

bool package_matmul_in_f8(const PackageMatmul *m)
{
	u8 to = m->d.dtype, bias = to == PACKAGE_F32 ? PACKAGE_BF16 : to;
	bool operands = package_is_f8(m->a.dtype) && package_is_f8(m->b.dtype) && (m->a.dtype == PACKAGE_F8E4M3 || m->b.dtype == PACKAGE_F8E4M3) &&
			m->a.column == 1 && m->b.row == 1;
	bool sizes = m->m % 16 == 0 && m->n % 16 == 0 && m->k % 16 == 0 && in_sixteens(m, &m->a) && in_sixteens(m, &m->b) &&
		     in_sixteens(m, &m->d) && (!m->has_c || in_sixteens(m, &m->c)) && (!m->has_aux || in_sixteens(m, &m->aux)) &&
		     (!m->has_bias || m->bias % 16 == 0);
	bool results = (to == PACKAGE_F32 || to == PACKAGE_BF16 || to == PACKAGE_F16) && (!m->has_c || m->c.dtype == to) &&
		       (!m->has_aux || m->aux.dtype == to) && (!m->has_bias || m->bias_dtype == bias);
	return m->compute == PACKAGE_F8E4M3 && operands && sizes && results && m->nscale <= 2 && m->sum_of == PACKAGE_SUM_NONE;
}
