/* passes/lower/finish.c: what is done to every kernel once its body stands. See lower.h.
 *
 * A kernel is stated in the dimensions that the model speaks of; neighbours that every access steps
 * through as one become one, so that a chain over [B, T, D] is one loop and equal chains over other
 * shapes are the same code. */
#include "passes/lower/lower.h"
#include "ir/cost.h"

#include <string.h>

/* Every access of a kernel, so that all can be rewritten: instructions', then the scatter's. */
static u32 all_accesses(Kernel *k, Arena *tmp, Access ***out)
{
	Access **a = NEWN(tmp, Access *, k->inst.n + 1);
	u32 n = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].access)
			a[n++] = (Access *)(uintptr_t)k->inst.v[i].access; /* made by this kernel */
	if (k->scatter)
		a[n++] = (Access *)(uintptr_t)k->scatter;
	*out = a;
	return n;
}

/* May dimensions d and d + 1 be stepped through as one? */
static bool mergeable(const Kernel *k, u32 d, Access *const *a, u32 n)
{
	DimRole x = k->dim[d].role, y = k->dim[d + 1].role;
	bool lists = x == DIM_PARALLEL || x == DIM_REDUCE || x == DIM_BATCH || x == DIM_INDEX ||
		     x == DIM_VECTOR || (k->class == KERNEL_DOT && (x == DIM_M || x == DIM_N || x == DIM_K));
	if (x != y || !lists)
		return false;
	for (u32 i = 0; i < n; i++)
		if (a[i]->stride[d] != a[i]->stride[d + 1] * k->dim[d + 1].extent)
			return false;
	return true;
}

static void drop_dim(Kernel *k, u32 d, Access *const *a, u32 n)
{
	u32 after = k->ndim - d - 1;
	memmove(k->dim + d, k->dim + d + 1, after * sizeof *k->dim);
	for (u32 i = 0; i < n; i++) {
		memmove(a[i]->stride + d, a[i]->stride + d + 1, after * sizeof(i64));
		a[i]->stride[k->ndim - 1] = 0;
	}
	k->ndim--;
}

/* Roles that a class always has one dimension of, whatever its extent. */
static bool needed(const Kernel *k, u32 d)
{
	DimRole role = k->dim[d].role;
	if (role == DIM_PARALLEL || role == DIM_REDUCE || role == DIM_BATCH || role == DIM_INDEX) {
		/* one PARALLEL dimension for a MAP of one element, one REDUCE and INDEX where they are due */
		bool due = role == DIM_REDUCE || role == DIM_INDEX ||
			   (role == DIM_PARALLEL && k->class == KERNEL_MAP);
		u32 same = 0;
		for (u32 e = 0; e < k->ndim; e++)
			same += k->dim[e].role == role;
		return due && same == 1;
	}
	if (role == DIM_VECTOR || (k->class == KERNEL_DOT && role != DIM_BATCH)) {
		u32 same = 0;
		for (u32 e = 0; e < k->ndim; e++)
			same += k->dim[e].role == role;
		return same == 1;
	}
	return true;
}

/* A class whose code expects a dimension gets one of extent 1 where the graph has none (a product of two
 * vectors has no M). */
static void supply(Kernel *k, DimRole role, Access *const *a, u32 n)
{
	u32 at = k->ndim;
	for (u32 d = 0; d < k->ndim; d++) {
		if (k->dim[d].role == role)
			return;
		/* before the roles that follow in kernel.h's order */
		if (at == k->ndim && ((role == DIM_M && (k->dim[d].role == DIM_N || k->dim[d].role == DIM_K)) ||
				      (role == DIM_N && k->dim[d].role == DIM_K) ||
				      (role == DIM_REDUCE && k->dim[d].role == DIM_VECTOR) ||
				      (role == DIM_INDEX && k->dim[d].role == DIM_VECTOR)))
			at = d;
	}
	assert(k->ndim < KERNEL_DIMS);
	memmove(k->dim + at + 1, k->dim + at, (k->ndim - at) * sizeof *k->dim);
	k->dim[at] = (KDim){ role, 1, { 0 } };
	for (u32 i = 0; i < n; i++) {
		memmove(a[i]->stride + at + 1, a[i]->stride + at, (k->ndim - at) * sizeof(i64));
		a[i]->stride[at] = 0;
	}
	k->ndim++;
}

static void supply_all(Kernel *k, Access *const *a, u32 n)
{
	switch (k->class) {
	case KERNEL_MAP: supply(k, DIM_PARALLEL, a, n); break;
	case KERNEL_COLUMN: supply(k, DIM_VECTOR, a, n); break;
	case KERNEL_SCATTER:
		supply(k, DIM_VECTOR, a, n);
		supply(k, DIM_INDEX, a, n);
		break;
	case KERNEL_DOT:
		supply(k, DIM_K, a, n);
		supply(k, DIM_N, a, n);
		supply(k, DIM_M, a, n);
		break;
	default: break;
	}
}

static void coalesce(Kernel *k, Access *const *a, u32 n)
{
	for (u32 d = 0; d < k->ndim;) {
		if (k->dim[d].extent == 1) {
			for (u32 i = 0; i < n; i++)
				a[i]->stride[d] = 0;
			if (!needed(k, d)) {
				drop_dim(k, d, a, n);
				continue;
			}
		}
		d++;
	}
	for (u32 d = 0; d + 1 < k->ndim;) {
		if (mergeable(k, d, a, n)) {
			k->dim[d + 1].extent *= k->dim[d].extent;
			if (!k->dim[d + 1].axis.id)
				k->dim[d + 1].axis = k->dim[d].axis;
			drop_dim(k, d, a, n);
		} else {
			d++;
		}
	}
}

/* Sums over rows of which several lie side by side in memory, as those of heads do, are of one long row: a PARALLEL dimension that every
 * access steps through as if the VECTOR one went on becomes part of that. */
static void lengthen_rows(Kernel *k, Access *const *a, u32 n)
{
	u32 v = k->ndim - 1;
	for (u32 d = v; d-- > 0;) {
		bool goes_on = k->dim[d].role == DIM_PARALLEL && k->dim[v].role == DIM_VECTOR;
		for (u32 i = 0; i < n && goes_on; i++)
			goes_on = a[i]->stride[d] == a[i]->stride[v] * k->dim[v].extent;
		if (!goes_on)
			continue;
		k->dim[v].extent *= k->dim[d].extent;
		drop_dim(k, d, a, n);
		d = --v; /* what did not go on before may now */
	}
}

/* `depends` was of the old dimensions. */
static void recompute_depends(Kernel *k)
{
	VEC(KInst) old = { k->inst.v, k->inst.n, k->inst.cap };
	k->inst.v = NULL;
	k->inst.n = k->inst.cap = 0;
	VEC_PUSH(k->arena, &k->inst, (KInst){ .op = K_none });
	KVal *map = NEWN(k->arena, KVal, old.n);
	Access *scatter = (Access *)(uintptr_t)k->scatter;
	for (u32 i = 1; i < old.n; i++) {
		KInst in = old.v[i];
		for (u32 j = 0; j < COUNT(in.in); j++)
			in.in[j] = map[in.in[j].i];
		Access access;
		if (in.access) {
			access = *in.access;
			for (u32 j = 0; j < access.ndynamic; j++)
				access.dynamic[j].index = map[access.dynamic[j].index.i];
			in.access = &access;
		}
		map[i] = kernel_inst(k, in);
	}
	for (u32 i = 0; i < k->noperand; i++)
		k->operand[i] = map[k->operand[i].i];
	for (u32 j = 0; scatter && j < scatter->ndynamic; j++)
		scatter->dynamic[j].index = map[scatter->dynamic[j].index.i];
}

/* Only what operands, stores and the scatter need stays. */
static void drop_dead(Kernel *k, Arena *tmp)
{
	bool *live = NEWN(tmp, bool, k->inst.n + 1);
	for (u32 i = 0; i < k->noperand; i++)
		live[k->operand[i].i] = true;
	for (u32 j = 0; k->scatter && j < k->scatter->ndynamic; j++)
		live[k->scatter->dynamic[j].index.i] = true;
	for (u32 i = k->inst.n; i-- > 1;) {
		const KInst *in = &k->inst.v[i];
		live[i] |= in->op == K_store;
		for (u32 j = 0; live[i] && j < COUNT(in->in); j++)
			live[in->in[j].i] = true;
		for (u32 j = 0; live[i] && in->access && j < in->access->ndynamic; j++)
			live[in->access->dynamic[j].index.i] = true;
	}
	/* dead ones become constants nobody uses, and sharing makes them one; then they are skipped */
	u32 *to = NEWN(tmp, u32, k->inst.n + 1), n = 1;
	for (u32 i = 1; i < k->inst.n; i++) {
		if (!live[i])
			continue;
		to[i] = n;
		KInst *in = &k->inst.v[i];
		for (u32 j = 0; j < COUNT(in->in); j++)
			in->in[j].i = to[in->in[j].i];
		Access *a = (Access *)(uintptr_t)in->access;
		for (u32 j = 0; a && j < a->ndynamic; j++)
			a->dynamic[j].index.i = to[a->dynamic[j].index.i];
		k->inst.v[n++] = *in;
	}
	k->inst.n = n;
	for (u32 i = 0; i < k->noperand; i++)
		k->operand[i].i = to[k->operand[i].i];
	Access *s = (Access *)(uintptr_t)k->scatter;
	for (u32 j = 0; s && j < s->ndynamic; j++)
		s->dynamic[j].index.i = to[s->dynamic[j].index.i];
}

/* Marks what an instruction needs, itself among it; `reduced`: also through reductions. */
static void needed_insts(const Kernel *k, KVal v, bool reduced, bool *mark)
{
	if (!v.i || mark[v.i])
		return;
	mark[v.i] = true;
	const KInst *in = &k->inst.v[v.i];
	if (in->op == K_reduce && !reduced)
		return;
	for (u32 j = 0; j < COUNT(in->in); j++)
		needed_insts(k, in->in[j], reduced, mark);
	for (u32 j = 0; in->access && j < in->access->ndynamic; j++)
		needed_insts(k, in->access->dynamic[j].index, reduced, mark);
}

static bool access_like(const Kernel *k, const Access *a, const Access *b)
{
	if (a->offset != b->offset || a->ndynamic || b->ndynamic)
		return false;
	return memcmp(a->stride, b->stride, k->ndim * sizeof *a->stride) == 0;
}

typedef struct Alias {
	const Kernel *k;
	bool *by_operand; /* read at other times than a store's */
	bool **by_store;  /* [inst] for stores: what each needs */
	bool **at_hand;   /* [inst] for stores: what each needs but for what only its reductions do, which are done by then */
} Alias;

/* May store `o` overwrite what load `i` reads? The load is at the very place, is done for this store, and
 * whatever else is done with it is stored at the same points of the domain: there the value is at hand.
 * (A value of a row that is stored once, but used at every element, would be read again.) */
static bool read_in_time(const Alias *x, u32 i, u32 o)
{
	const Kernel *k = x->k;
	if (!access_like(k, k->inst.v[i].access, k->inst.v[o].access) || x->by_operand[i] || !x->by_store[o][i])
		return false;
	for (u32 q = 1; q < k->inst.n; q++)
		if (x->at_hand[q] && x->at_hand[q][i] && k->inst.v[q].depends != k->inst.v[o].depends)
			return false;
	return true;
}

/* Writing an element in place is safe where the only reads of it are at the same place of the domain and
 * the write comes after them: in the last sweep over a row, for earlier ones are done by then. */
static void find_aliases(Kernel *k, Arena *tmp)
{
	Alias x = { k, NEWN(tmp, bool, k->inst.n + 1), NEWN(tmp, bool *, k->inst.n + 1), NEWN(tmp, bool *, k->inst.n + 1) };
	u32 last_sweep = 0;
	for (u32 i = 1; i < k->inst.n; i++) {
		last_sweep = MAX(last_sweep, k->inst.v[i].sweep);
		if (k->inst.v[i].op != K_store)
			continue;
		x.by_store[i] = NEWN(tmp, bool, k->inst.n + 1);
		x.at_hand[i] = NEWN(tmp, bool, k->inst.n + 1);
		needed_insts(k, (KVal){ i }, true, x.by_store[i]);
		needed_insts(k, (KVal){ i }, false, x.at_hand[i]);
	}
	for (u32 i = 0; i < k->noperand; i++)
		needed_insts(k, k->operand[i], true, x.by_operand);
	for (u32 o = 0; o < k->slot.n; o++) {
		KSlot *out = &k->slot.v[o];
		if (!out->written || out->read)
			continue;
		u32 store = 0, stores = 0;
		for (u32 i = 1; i < k->inst.n; i++)
			if (k->inst.v[i].op == K_store && k->inst.v[i].access->slot == o) {
				store = i;
				stores++;
			}
		if (stores != 1 || k->inst.v[store].sweep < last_sweep)
			continue;
		for (u32 s = 0; s < k->slot.n && s < 64; s++) {
			const KSlot *in = &k->slot.v[s];
			bool can = in->read && !in->written && in->elements == out->elements &&
				   dtype_info[in->dtype].bytes == dtype_info[out->dtype].bytes;
			for (u32 i = 1; can && i < k->inst.n; i++)
				if (k->inst.v[i].op == K_load && k->inst.v[i].access->slot == s)
					can = read_in_time(&x, i, store);
			if (can)
				out->may_alias |= (u64)1 << s;
		}
	}
}

/* An attention's scores that some query sees: of each head and text. */
static f64 scores(const Kernel *k)
{
	f64 heads = 1;
	i64 queries = 1, keys = 1;
	for (u32 d = 0; d < k->ndim; d++) {
		i64 n = k->dim[d].extent;
		switch (k->dim[d].role) {
		case DIM_BATCH:
		case DIM_G:
		case DIM_R: heads *= (f64)n; break;
		case DIM_M: queries *= n; break;
		case DIM_N: keys *= n; break;
		default: break;
		}
	}
	return heads * attention_pairs(k->causal, k->window, queries, keys);
}

static f64 points(const Kernel *k, u32 depends)
{
	f64 n = 1;
	for (u32 d = 0; d < k->ndim; d++)
		if (depends >> d & 1)
			n *= (f64)k->dim[d].extent;
	return n;
}

/* Do lanes run as the skeleton of a product has them, and not along the last dimension? */
static bool multiplies(const Kernel *k)
{
	return k->class == KERNEL_DOT || k->class == KERNEL_ATTENTION || k->class == KERNEL_ATTENTION_GRAD || k->class == KERNEL_GROUPED ||
	       k->class == KERNEL_GROUPED_WEIGHTS;
}

/* What a vector unit does for one evaluation, in additions. A draw is ten rounds of two wide products for a block of four words,
 * of which an element takes one; elements that lie apart are read or written one by one, but by a product, whose skeleton
 * brings into order what it reads. What lies together takes no arithmetic. */
static u32 effort(const Kernel *k, const KInst *n, bool *costly)
{
	enum { DRAW = 200, APART = 12 };
	u32 last = k->ndim - 1;
	*costly = kernel_costly(n);
	switch (n->op) {
	case K_scalar: return kernel_scalar[n->scalar].effort;
	case K_random: return DRAW;
	case K_cast:
	case K_reduce: return 1;
	case K_load:
	case K_store: {
		bool apart = !multiplies(k) && (n->access->stride[last] > 1 || n->access->stride[last] < 0);
		for (u32 i = 0; i < n->access->ndynamic; i++)
			apart |= !multiplies(k) && k->inst.v[n->access->dynamic[i].index.i].depends >> last & 1;
		*costly = apart;
		return apart ? APART : 0;
	}
	default: return 0;
	}
}

static void count(Kernel *k)
{
	u32 reduced = 0, summed = 0;
	for (u32 d = 0; d < k->ndim; d++) {
		if (k->dim[d].role == DIM_ROW || k->dim[d].role == DIM_REDUCE)
			reduced |= 1u << d;
		if (k->dim[d].role == DIM_K)
			summed |= 1u << d;
	}
	f64 *touched = NEWN(k->arena, f64, k->slot.n + 1);
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *n = &k->inst.v[i];
		bool costly;
		f64 takes = effort(k, n, &costly) * points(k, n->depends | (n->op == K_reduce ? reduced : 0));
		k->effort += takes;
		k->costly += costly ? takes : 0;
		if (n->op == K_scalar)
			k->flops += kernel_scalar[n->scalar].flops * points(k, n->depends);
		else if (n->op == K_reduce)
			k->flops += points(k, n->depends | reduced);
		else if (n->op == K_acc && k->class == KERNEL_DOT && n->imm > 0)
			k->flops += points(k, n->depends | summed);
		if (n->op == K_load || n->op == K_store) {
			f64 all = (f64)k->slot.v[n->access->slot].elements;
			f64 mine = MIN(points(k, n->depends | (n->op == K_store ? k->inst.v[n->in[0].i].depends : 0)), all);
			f64 *t = &touched[n->access->slot];
			*t = MAX(*t, mine);
		}
	}
	if (k->scatter) {
		f64 all = (f64)k->slot.v[k->scatter->slot].elements;
		touched[k->scatter->slot] = k->accumulate ? MIN(all, points(k, (1u << k->ndim) - 1)) : all;
	}
	if (k->softcap > 0) { /* what a skeleton does beside its products is in its own curve, but for this function */
		f64 takes = kernel_scalar[S_tanh].effort * scores(k);
		k->effort += takes;
		k->costly += takes;
	}
	for (u32 s = 0; s < k->slot.n; s++) {
		f64 bytes = touched[s] * dtype_info[k->slot.v[s].dtype].bytes;
		if (k->slot.v[s].read)
			k->bytes_read += bytes;
		if (k->slot.v[s].written)
			k->bytes_written += bytes;
	}
}

void kernel_finish(Kernel *k)
{
	Arena tmp = ARENA("kernel_finish");
	drop_dead(k, &tmp);
	Access **a;
	u32 n = all_accesses(k, &tmp, &a);
	supply_all(k, a, n);
	coalesce(k, a, n);
	if (k->class == KERNEL_COLUMN)
		lengthen_rows(k, a, n);
	recompute_depends(k);
	find_aliases(k, &tmp);
	count(k);
	arena_free(&tmp);
}
