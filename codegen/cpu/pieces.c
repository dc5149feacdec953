/* codegen/cpu/pieces.c: see pieces.h. */
#include "codegen/cpu/pieces.h"

typedef LLVMValueRef V;

/* Is it the place along `row` alone, plus a number, in a type that counts so far? */
static bool is_place(const Kernel *k, u32 i, u32 row)
{
	const KInst *in = &k->inst.v[i];
	if (in->op != K_index || in->access->ndynamic || (in->dtype != DT_i32 && in->dtype != DT_i64))
		return false;
	for (u32 d = 0; d < k->ndim; d++)
		if (in->access->stride[d] != (d == row))
			return false;
	return true;
}

/* Does inst i compare `index` with a constant, as x < c or c <= x? Then c. */
static bool compares(const Kernel *k, u32 i, u32 index, f64 *c, bool *less)
{
	const KInst *in = &k->inst.v[i];
	if (in->op != K_scalar || (in->scalar != S_lt && in->scalar != S_le))
		return false;
	*less = in->scalar == S_lt;
	const KInst *constant = &k->inst.v[in->in[*less].i];
	*c = constant->imm;
	return in->in[!*less].i == index && constant->op == K_const;
}

/* Adds a beginning in its place; those that are known already, and those that there is no room for, are left out. */
static void add(Pieces *p, f64 c)
{
	u32 at = 1;
	while (at < p->n && p->first[at] < c)
		at++;
	if (p->n == MOST_PIECES || (at < p->n && p->first[at] == c))
		return;
	for (u32 i = p->n++; i > at; i--)
		p->first[i] = p->first[i - 1];
	p->first[at] = c;
}

Pieces pieces_of(const Kernel *k, u32 row, i64 lanes)
{
	Pieces all = { .n = 1 }, p = { .n = 1 };
	for (u32 i = 1; i < k->inst.n && !all.index; i++)
		all.index = is_place(k, i, row) ? i : 0;
	for (u32 i = 1; i < k->inst.n && all.index; i++) {
		f64 c;
		bool less;
		if (compares(k, i, all.index, &c, &less))
			add(&all, c);
	}
	p.index = all.index;
	f64 begin = all.index ? (f64)k->inst.v[all.index].access->offset : 0, end = begin + (f64)k->dim[row].extent;
	for (u32 i = 1; i < all.n; i++)
		if (all.first[i] - (p.n > 1 ? p.first[p.n - 1] : begin) >= (f64)lanes && end - all.first[i] >= (f64)lanes)
			p.first[p.n++] = all.first[i];
	return p;
}

u64 pieces_variant(const Pieces *p)
{
	return p->n > 1 ? hash_bytes(p->index, p->first + 1, (p->n - 1) * sizeof *p->first) : 0;
}

V pieces_end(Body *b, const Pieces *p, u32 i, V from, V to)
{
	CpuModule *m = b->m;
	if (i + 1 == p->n)
		return to;
	V offset = b->number[kernel_access_number(b->k, b->k->inst.v[p->index].access)];
	return cpu_max(m, from, cpu_min(m, to, cpu_sub(m, cpu_i64(m, (i64)p->first[i + 1]), offset)));
}

void pieces_enter(Body *b, const Pieces *p, u32 i)
{
	for (u32 j = 1; j < b->k->inst.n && p->n > 1; j++) {
		f64 c;
		bool less, here = false;
		if (!compares(b->k, j, p->index, &c, &less))
			continue;
		for (u32 at = 1; at < p->n; at++)
			here |= p->first[at] == c;
		if (!here)
			continue; /* it changes within a piece */
		bool before = i + 1 < p->n && p->first[i + 1] <= c;
		body_set(b, (KVal){ j }, simd_constant(&b->lanes, DT_b1, before == less), true);
	}
}
