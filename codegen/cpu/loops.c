/* codegen/cpu/loops.c: MAP and ROW kernels: one dimension in vector lanes, the others flattened into
 * rows, several rows or a piece of one to a task.
 *
 * A row is swept once for stores, and once before for each level of reductions. In a sweep, the body is
 * emitted for a block of several vectors without masks, each with accumulators of its own, and once more
 * with a mask for what remains. A value that is costly and wanted in a later sweep is kept in the
 * thread's scratch (a row long); cheap ones are computed again. Of a loss and its derivative in one kernel that is the exponential of
 * which the sum is taken: what softmax wants later is a multiple of it.
 *
 * Rows that are shorter than a block are AT_ONCE at a time, each with what is known of it: what one of them waits for, above all sums
 * across lanes, the others hide. Their sums are taken in the order of one row's.
 *
 * What remains of a map's row is one more whole vector, which begins before where the others end, if nothing is in place and the row
 * is as long: masked stores are slow on some processors.
 *
 * A map's row that is put together of pieces is walked piece by piece (pieces.h).
 *
 * Of an output that is to be stored past the caches (KSlot.streamed) whole vectors are, in rows where they lie at multiples of
 * their size; what remains of a row is stored as ever. */
#include "codegen/cpu/kernels.h"
#include "codegen/cpu/pieces.h"

#include <string.h>

typedef LLVMValueRef V;

/* ---- reductions ---- */

V reduce_identity(const Simd *s, Reduce r, DType d)
{
	if (r == REDUCE_sum)
		return simd_constant(s, d, 0);
	f64 most = dtype_is_float(d) ? __builtin_inf() : dtype_info[d].largest;
	f64 least = dtype_is_float(d) ? -most : dtype_info[d].kind == KIND_I ? -most - 1 : 0;
	return simd_constant(s, d, r == REDUCE_max ? least : most);
}

V reduce_combine(const Simd *s, Reduce r, DType d, V a, V b)
{
	return r == REDUCE_sum ? simd_add(s, a, b) : r == REDUCE_max ? simd_max(s, d, a, b) : simd_min(s, d, a, b);
}

V reduce_lanes(const Simd *s, Reduce r, DType d, V x)
{
	return r == REDUCE_sum ? simd_reduce_add(s, x) :
	       r == REDUCE_max ? simd_reduce_max(s, d, x) :
				 simd_reduce_min(s, d, x);
}

V reduce_masked(const Simd *s, Reduce r, DType d, V x, V mask)
{
	return mask ? simd_select(s, mask, x, reduce_identity(s, r, d)) : x;
}

/* ---- what an element takes ---- */

/* The dimension that is a row, in lanes: the last; of a map whose last one is of a few elements, as where tensors are put together
 * element by element, the one before it, if that is longer: most lanes would be off, and every piece be read in all of them. */
static u32 row_dim(const Kernel *k)
{
	enum { FEW = 4 };
	u32 last = k->ndim - 1;
	bool few = k->class == KERNEL_MAP && last > 0 && k->dim[last].extent < FEW && k->dim[last - 1].extent >= 2 * k->dim[last].extent;
	return few ? last - 1 : last;
}

static u32 but_row(const Kernel *k)
{
	return ((1u << k->ndim) - 1) & ~(1u << row_dim(k));
}

static bool along_row(const Kernel *k, u32 i)
{
	return k->inst.v[i].depends >> row_dim(k) & 1;
}

static bool costly(const KInst *in)
{
	return in->op == K_random || (in->dtype == DT_f32 && kernel_costly(in));
}

/* Does an element take several times what one of a sum of two tensors does? */
static bool heavy(const Kernel *k)
{
	bool any = k->inst.n > 24;
	for (u32 i = 1; i < k->inst.n && !any; i++)
		any = costly(&k->inst.v[i]) && along_row(k, i);
	return any;
}

/* ---- tasks: one dimension is a row of n elements, the others P rows ---- */

Count loop_task_rows(CpuModule *m, const CpuMachine *machine, const Kernel *k, Count all, Count n)
{
	Count one = count_of(m, 1), task = count_of(m, TASK_ELEMENTS / (heavy(k) ? 4 : 1));
	Count rows = count_max(m, one, count_div(m, task, count_max(m, one, n)));
	Count tasks = count_div_up(m, all, rows), cores = count_of(m, (i64)machine->cores);
	Count even = count_max(m, one, count_mul(m, count_div_up(m, tasks, cores), cores));
	return count_if_less(m, one, tasks, count_max(m, one, count_div_up(m, all, even)), rows);
}

typedef struct Split {
	Count pieces, rows; /* pieces of a row, or rows of a task: one of the two is 1 */
	Count all, n;       /* rows there are; elements of one */
} Split;

static Split split_of(Body *b, const CpuMachine *machine, const Kernel *k, bool may_cut)
{
	CpuModule *m = b ? b->m : NULL;
	u32 row = row_dim(k);
	Count one = count_of(m, 1), task = count_of(m, TASK_ELEMENTS);
	Split s = { .pieces = one, .n = count_extent(b, k, row, row + 1) };
	s.all = count_mul(m, count_extent(b, k, 0, row), count_extent(b, k, row + 1, k->ndim));
	Count n = count_max(m, s.n, one);
	if (may_cut)
		s.pieces = count_div_up(m, n, task);
	s.rows = loop_task_rows(m, machine, k, s.all, n);
	return s;
}

/* The loop over the tasks, with columns [from, to) of rows [first, end), and one over rows. */
typedef struct RowLoop {
	CpuLoop task, row;
	V from, to, first, end;
	V coord[KERNEL_DIMS]; /* of the next row, as the loop carries them: counted from row to row, for dividing takes as long as a short row does */
} RowLoop;

/* Coordinates of all dimensions but the row's, in order, and back; how many. */
static u32 get_outer(const Body *b, V *coord)
{
	u32 outer = but_row(b->k), n = 0;
	for (u32 d = 0; d < b->k->ndim; d++)
		if (outer >> d & 1)
			coord[n++] = b->coord[d];
	return n;
}

static void set_outer(Body *b, const V *coord)
{
	u32 outer = but_row(b->k), n = 0;
	for (u32 d = 0; d < b->k->ndim; d++)
		if (outer >> d & 1)
			b->coord[d] = coord[n++];
}

static void task_loop_begin(Body *b, RowLoop *r, bool may_cut)
{
	CpuModule *m = b->m;
	V one = cpu_i64(m, 1), chunk = cpu_i64(m, TASK_ELEMENTS);
	Split s = split_of(b, m->machine, b->k, may_cut);
	V pieces = s.pieces.v, per = s.rows.v, rows = s.all.v, n = s.n.v;
	cpu_loop_begin(m, &r->task, b->begin, b->end, one, 0, NULL);
	V piece = cpu_rem(m, r->task.index, pieces), block = cpu_div(m, r->task.index, pieces);
	r->first = cpu_mul(m, block, per);
	r->end = cpu_min(m, cpu_add(m, r->first, per), rows);
	r->from = may_cut ? cpu_mul(m, piece, chunk) : cpu_i64(m, 0);
	r->to = may_cut ? cpu_min(m, n, cpu_add(m, r->from, chunk)) : n;
	body_unflatten_of(b, but_row(b->k), r->first);
	get_outer(b, r->coord);
}

/* Rows [first, end) by steps; ends with the coordinates of the last of a step. */
static void row_loop_begin(Body *b, RowLoop *r, V first, V end, u32 step)
{
	V any[KERNEL_DIMS];
	r->row = (CpuLoop){ 0 };
	cpu_loop_begin(b->m, &r->row, first, end, cpu_i64(b->m, step), get_outer(b, any), r->coord);
	set_outer(b, r->row.carried);
}

static void next_row(Body *b)
{
	V unit[KERNEL_DIMS];
	u32 outer = but_row(b->k), end = b->k->ndim;
	body_unit(b, 0, outer >> (end - 1) ? end : end - 1, unit);
	body_advance_of(b, outer, unit);
}

static void row_loop_end(Body *b, RowLoop *r)
{
	V next[KERNEL_DIMS];
	next_row(b);
	u32 n = get_outer(b, next);
	r->row.unroll = 1;
	cpu_loop_end(b->m, &r->row, next);
	memcpy(r->coord, r->row.carried, n * sizeof *r->coord);
}

/* ---- what is needed in which sweep ---- */

typedef struct Sweeps {
	u32 n;
	u32 *need;  /* [inst] bit s: needed in lanes in sweep s */
	i32 *kept;  /* [inst] which row of scratch, or -1 */
	u32 nkept, at; /* the row that is at hand, of those at once */
	struct Multiple *multiple; /* [inst] */
} Sweeps;

/* An e^(x - to) that is e^(from - to) times another, e^(x - from); of 0: none. */
typedef struct Multiple {
	u32 of;
	KVal from, to;
	V factor; /* of the row, in the sweep at hand */
} Multiple;

/* ---- softmax behind its own log-sum-exp ---- */

static const KInst *scalar_of(const Kernel *k, KVal v, Scalar s)
{
	const KInst *in = &k->inst.v[v.i];
	return v.i && in->op == K_scalar && in->scalar == (u8)s && in->dtype == DT_f32 ? in : NULL;
}

/* Of where(x == -inf, 0, x), which is how rows of -inf alone are got over, x; else v. */
static KVal but_for_nothing(const Kernel *k, KVal v)
{
	const KInst *in = scalar_of(k, v, S_where), *test = in ? &k->inst.v[in->in[0].i] : NULL;
	if (!test || test->op != K_scalar || test->scalar != S_eq || test->in[0].i != in->in[2].i)
		return v;
	const KInst *never = &k->inst.v[test->in[1].i], *zero = &k->inst.v[in->in[1].i];
	bool is = never->op == K_const && never->imm == -__builtin_inf() && zero->op == K_const && zero->imm == 0;
	return is ? in->in[2] : v;
}

/* e^(x - shift) of a row? Then the difference. */
static const KInst *shifted(const Kernel *k, u32 i)
{
	const KInst *e = scalar_of(k, (KVal){ i }, S_exp), *d = e ? scalar_of(k, e->in[0], S_sub) : NULL;
	return d && along_row(k, d->in[0].i) && !along_row(k, d->in[1].i) ? d : NULL;
}

/* Is inst i = e^(x - l) with l = m + log(sum of inst j), inst j being e^(x - m)? m is the greatest x, so that the sum is at least 1 and
 * the factor between the two at most 1. */
static bool softmax_of(const Kernel *k, u32 i, u32 j)
{
	const KInst *late = shifted(k, i), *early = shifted(k, j);
	if (!late || !early || late->in[0].i != early->in[0].i)
		return false;
	const KInst *m = &k->inst.v[but_for_nothing(k, early->in[1]).i];
	const KInst *l = scalar_of(k, but_for_nothing(k, late->in[1]), S_add);
	if (m->op != K_reduce || m->reduce != REDUCE_max || m->in[0].i != early->in[0].i || !l || l->in[0].i != early->in[1].i)
		return false;
	const KInst *log = scalar_of(k, l->in[1], S_log), *sum = log ? &k->inst.v[log->in[0].i] : NULL;
	return sum && sum->op == K_reduce && sum->reduce == REDUCE_sum && sum->in[0].i == j;
}

static Multiple *find_multiples(const Kernel *k, Arena *arena)
{
	Multiple *m = NEWN(arena, Multiple, k->inst.n + 1);
	for (u32 i = 1; i < k->inst.n; i++)
		for (u32 j = 1; j < i && shifted(k, i) && !m[i].of; j++)
			if (softmax_of(k, i, j))
				m[i] = (Multiple){ .of = j, .from = shifted(k, j)->in[1], .to = shifted(k, i)->in[1] };
	return m;
}

static Sweeps plan_sweeps(const Kernel *k, Arena *arena)
{
	Sweeps s = { .n = 1, .need = NEWN(arena, u32, k->inst.n + 1), .kept = NEWN(arena, i32, k->inst.n + 1),
		     .multiple = find_multiples(k, arena) };
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		s.kept[i] = -1;
		if (in->op == K_store) {
			s.need[i] |= 1u << in->sweep;
			s.n = MAX(s.n, in->sweep + 1);
		} else if (in->op == K_reduce) {
			s.need[i] |= 1u << (in->sweep - 1);
			s.n = MAX(s.n, in->sweep);
		}
	}
	for (u32 i = k->inst.n; i-- > 1;) {
		const KInst *in = &k->inst.v[i];
		u32 need = s.need[i];
		/* bits below the lowest sweep in which it can be computed do not occur */
		if (need & (need - 1) && costly(in) && along_row(k, i)) {
			s.kept[i] = (i32)s.nkept++;
			need &= -need; /* its operands are wanted the first time only */
		}
		if (in->op == K_reduce)
			need = 1u << (in->sweep - 1);
		if (s.multiple[i].of) {
			s.need[s.multiple[i].of] |= need;
			continue;
		}
		for (u32 j = 0; j < 3; j++)
			s.need[in->in[j].i] |= need;
		for (u32 j = 0; in->access && j < in->access->ndynamic; j++)
			s.need[in->access->dynamic[j].index.i] |= need;
	}
	return s;
}

/* ---- one block of lanes in one sweep ---- */

/* Elements of a kept row of n. */
static Count padded_row(CpuModule *m, Count n)
{
	return count_add(m, count_round(m, n, 64), count_of(m, 64));
}

/* Address in scratch of what is kept of instruction i at column `col`. */
static V kept_at(Body *b, const Sweeps *sw, u32 i, V col)
{
	CpuModule *m = b->m;
	u32 last = row_dim(b->k);
	i64 row = (i64)sw->at * sw->nkept + sw->kept[i];
	V stride = padded_row(m, count_extent(b, b->k, last, last + 1)).v;
	return cpu_at(m, m->f32, b->scratch, cpu_add(m, cpu_mul(m, stride, cpu_i64(m, row)), col));
}

/* In sweep `s`, is instruction i there from a sweep before? */
static bool is_kept(const Sweeps *sw, u32 i, u32 s)
{
	return sw->kept[i] >= 0 && sw->need[i] & ((1u << s) - 1);
}

/* Emits what sweep `s` does at the current coordinates. acc: in and out, one per reduction of the sweep. */
static void sweep_block(Body *b, const Sweeps *sw, u32 s, const u32 *reduce, u32 nreduce, V *acc)
{
	const Kernel *k = b->k;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (!(sw->need[i] >> s & 1) || !along_row(k, i) || in->op == K_reduce)
			continue;
		if (in->op == K_store) {
			body_store(b, i);
			continue;
		}
		bool kept = is_kept(sw, i, s);
		const Multiple *x = &sw->multiple[i];
		if (x->of && !kept)
			body_set(b, (KVal){ i }, simd_mul(&b->lanes, body_vector(b, (KVal){ x->of }), simd_splat(&b->lanes, x->factor)),
				 true);
		if (sw->kept[i] < 0)
			continue; /* made when it is asked for */
		V at = kept_at(b, sw, i, b->coord[row_dim(k)]);
		if (kept)
			body_set(b, (KVal){ i }, simd_load(&b->lanes, in->dtype, at, 0), true);
		else /* the scratch row is padded: whole vectors, always */
			simd_store(&b->lanes, in->dtype, body_vector(b, (KVal){ i }), at, 0);
	}
	for (u32 r = 0; r < nreduce; r++) {
		const KInst *in = &k->inst.v[reduce[r]];
		V x = reduce_masked(&b->lanes, in->reduce, in->dtype, body_vector(b, in->in[0]), b->mask);
		acc[r] = reduce_combine(&b->lanes, in->reduce, in->dtype, acc[r], x);
	}
}

static Pieces row_pieces(const CpuMachine *machine, const Kernel *k)
{
	return k->class == KERNEL_MAP ? pieces_of(k, row_dim(k), machine->lanes) : (Pieces){ .n = 1 };
}

/* Rows of a MAP (or their pieces) that are mostly what a block leaves: vectors are then taken one by one, so that few are masked. */
static bool short_rows(const CpuMachine *machine, const Kernel *k)
{
	i64 n = k->dim[row_dim(k)].extent / row_pieces(machine, k).n, block = 4 * (i64)machine->lanes;
	return k->class == KERNEL_MAP && n < 4 * block && n % block >= (i64)machine->lanes;
}

/* How many vectors are drawn at once (body_draw4). */
enum { DRAWN = 4 };

/* How many vectors a block has: enough to hide latencies, fewer for large bodies, and as many as are drawn at once. With reductions the
 * number decides over the order of sums, and so does not depend on what functions happen to cost. */
static u32 block_vectors(const CpuMachine *machine, const Kernel *k, u32 nreduce)
{
	if (short_rows(machine, k))
		return 1;
	u32 n = k->inst.n;
	for (u32 i = 1; i < k->inst.n && !nreduce; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->op == K_random && in->depends >> row_dim(k) & 1 && !in->access->ndynamic && in->access->stride[row_dim(k)] == 1)
			return DRAWN;
		n += in->op == K_random ? 40 : costly(in) ? 20 : 0;
	}
	return nreduce > 4 || n > 96 ? 1 : n > 40 ? 2 : 4;
}

/* Columns [from, to) by whole blocks of U vectors; carried: in and out, U accumulators of each reduction. */
static void sweep_blocks(Body *b, const Sweeps *sw, u32 s, u32 U, V from, V to, const u32 *reduce, u32 nreduce, V *carried)
{
	CpuModule *m = b->m;
	u32 last = row_dim(b->k), L = b->lanes.lanes;
	V next[CPU_CARRIED];
	CpuLoop main = { 0 };
	cpu_loop_begin(m, &main, from, to, cpu_i64(m, (i64)U * L), U * nreduce, carried);
	typedef V Drawn[DRAWN]; /* for each vector of the block, or NULL */
	Drawn *draw = NEWN(b->arena, Drawn, b->k->inst.n);
	u32 block = body_mark(b);
	b->coord[last] = main.index;
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (U == DRAWN && sw->need[i] >> s & 1 && !is_kept(sw, i, s) && body_draws_together(b, i))
			body_draw4(b, i, draw[i]);
	for (u32 u = 0; u < U; u++) {
		u32 mark = body_mark(b);
		b->coord[last] = cpu_add(m, main.index, cpu_i64(m, (i64)u * L));
		b->mask = NULL;
		for (u32 i = 1; i < b->k->inst.n; i++)
			if (draw[i][0])
				body_set(b, (KVal){ i }, draw[i][u], true);
		V acc[CPU_CARRIED];
		memcpy(acc, main.carried + u * nreduce, nreduce * sizeof *acc);
		sweep_block(b, sw, s, reduce, nreduce, acc);
		memcpy(next + u * nreduce, acc, nreduce * sizeof *acc);
		body_release(b, mark);
	}
	body_release(b, block);
	main.unroll = 1;
	cpu_loop_end(m, &main, next);
	memcpy(carried, main.carried, U * nreduce * sizeof *carried);
}

/* i1: in sweep `s`, are all vectors that could be stored past the caches at multiples of their size, from column `from` on? NULL:
 * there are none. */
static V streams_aligned(Body *b, const Sweeps *sw, u32 s, V from)
{
	CpuModule *m = b->m;
	V all = NULL;
	u32 mark = body_mark(b);
	b->coord[b->vector_dim] = from;
	for (u32 i = 1; i < b->k->inst.n; i++) {
		if (!(sw->need[i] >> s & 1) || !along_row(b->k, i) || !body_streams(b, i))
			continue;
		const KInst *in = &b->k->inst.v[i];
		V at = LLVMBuildPtrToInt(m->builder, body_address(b, in->access), m->i64, "");
		V rest = LLVMBuildAnd(m->builder, at, cpu_i64(m, dtype_info[in->dtype].bytes * b->lanes.lanes - 1), "");
		V fine = cpu_equal(m, rest, cpu_i64(m, 0));
		all = all ? LLVMBuildAnd(m->builder, all, fine, "") : fine;
	}
	body_release(b, mark);
	return all;
}

/* May an output be where an input is? Then nothing is written twice: it would be of what was written. */
static bool in_place(const Kernel *k)
{
	bool any = false;
	for (u32 i = 0; i < k->slot.n; i++)
		any |= k->slot.v[i].may_alias || (k->slot.v[i].read && k->slot.v[i].written);
	return any;
}

/* Vectors from column `from` on, which are fewer than a block; under a mask, or with `back` all whole, the last of which begins
 * where it ends with the row: some of it is written twice. */
static void sweep_rest(Body *b, const Sweeps *sw, u32 s, V from, V to, bool back, const u32 *reduce, u32 nreduce, V *carried)
{
	CpuModule *m = b->m;
	u32 last = row_dim(b->k);
	V L = cpu_i64(m, b->lanes.lanes), acc[CPU_CARRIED];
	CpuLoop rest = { 0 };
	cpu_loop_begin(m, &rest, from, to, L, nreduce, carried);
	u32 mark = body_mark(b);
	b->coord[last] = back ? cpu_min(m, rest.index, cpu_sub(m, to, L)) : rest.index;
	b->mask = back ? NULL : simd_mask(&b->lanes, cpu_sub(m, to, rest.index));
	memcpy(acc, rest.carried, nreduce * sizeof *acc);
	sweep_block(b, sw, s, reduce, nreduce, acc);
	body_release(b, mark);
	b->mask = NULL;
	rest.unroll = 1;
	cpu_loop_end(m, &rest, acc);
	memcpy(carried, rest.carried, nreduce * sizeof *carried);
}

/* Its reductions, to `reduce` if it is not NULL, and whether there is anything to do in it. */
static bool sweep_has(const Kernel *k, u32 s, u32 *reduce, u32 *nreduce)
{
	bool any = false;
	*nreduce = 0;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (in->op == K_reduce && in->sweep == s + 1) {
			if (reduce)
				reduce[*nreduce] = i;
			++*nreduce;
		}
		any |= in->op == K_store && in->sweep == s && along_row(k, i);
	}
	return any || *nreduce;
}

/* What the row's multiples are multiplied by in the sweep. */
static void find_factors(Body *b, const Sweeps *sw, u32 s)
{
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (sw->multiple[i].of && sw->need[i] >> s & 1) {
			V from_to = simd_sub(&b->one, body_scalar(b, sw->multiple[i].from), body_scalar(b, sw->multiple[i].to));
			sw->multiple[i].factor = simd_exp(&b->one, from_to);
		}
}

_Static_assert((int)KERNEL_ROW_REDUCTIONS <= (int)CPU_CARRIED, "a sweep carries the reductions of a row");

static u32 sweep_vectors(const CpuMachine *machine, const Kernel *k, u32 nreduce)
{
	u32 U = block_vectors(machine, k, nreduce);
	return U * nreduce > CPU_CARRIED ? 1 : U;
}

static void sweep_row(Body *b, const Sweeps *sw, u32 s, V from, V to)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 last = row_dim(k), L = b->lanes.lanes;
	u32 *reduce = NEWN(b->arena, u32, k->inst.n), nreduce;
	if (!sweep_has(k, s, reduce, &nreduce))
		return;
	u32 U = sweep_vectors(m->machine, k, nreduce);
	V carried[CPU_CARRIED];
	for (u32 u = 0; u < U; u++)
		for (u32 r = 0; r < nreduce; r++) {
			const KInst *in = &k->inst.v[reduce[r]];
			carried[u * nreduce + r] = reduce_identity(&b->lanes, in->reduce, in->dtype);
		}
	find_factors(b, sw, s);
	V width = cpu_i64(m, (i64)U * L);
	V span = cpu_sub(m, to, from);
	V whole = cpu_add(m, from, cpu_mul(m, cpu_div(m, span, width), width));
	b->vector_dim = last;
	V aligned = nreduce ? NULL : streams_aligned(b, sw, s, from); /* what reduces is small beside what it reads */
	if (aligned) {
		CpuIf fine = { 0 };
		cpu_if_begin(m, &fine, aligned, 90);
		b->stream = true;
		sweep_blocks(b, sw, s, U, from, whole, reduce, nreduce, carried);
		b->stream = false;
		cpu_if_else(m, &fine);
		sweep_blocks(b, sw, s, U, from, whole, reduce, nreduce, carried);
		cpu_if_end(m, &fine, 0, NULL, NULL);
	} else {
		sweep_blocks(b, sw, s, U, from, whole, reduce, nreduce, carried);
	}
	/* the accumulators of a block become one, by a fixed tree */
	V total[CPU_CARRIED];
	for (u32 r = 0; r < nreduce; r++) {
		const KInst *in = &k->inst.v[reduce[r]];
		V part[4];
		for (u32 u = 0; u < U; u++)
			part[u] = carried[u * nreduce + r];
		for (u32 n = U; n > 1; n /= 2)
			for (u32 u = 0; u < n / 2; u++)
				part[u] = reduce_combine(&b->lanes, in->reduce, in->dtype, part[u], part[u + n / 2]);
		total[r] = part[0];
	}
	CpuIf wide = { 0 };
	bool back = k->class == KERNEL_MAP && !in_place(k);
	if (back) {
		cpu_if_begin(m, &wide, cpu_less(m, cpu_i64(m, L - 1), span), 90);
		sweep_rest(b, sw, s, whole, to, true, reduce, 0, total);
		cpu_if_else(m, &wide);
	}
	V vectors = cpu_add(m, from, cpu_mul(m, cpu_div(m, span, cpu_i64(m, L)), cpu_i64(m, L)));
	if (!back && U > 1)
		sweep_blocks(b, sw, s, 1, whole, vectors, reduce, nreduce, total);
	sweep_rest(b, sw, s, !back && U > 1 ? vectors : whole, to, false, reduce, nreduce, total);
	if (back)
		cpu_if_end(m, &wide, 0, NULL, NULL);
	b->vector_dim = NONE;
	b->coord[last] = cpu_i64(m, 0);
	for (u32 r = 0; r < nreduce; r++) {
		const KInst *in = &k->inst.v[reduce[r]];
		body_set(b, (KVal){ reduce[r] },
			 reduce_lanes(&b->lanes, in->reduce, in->dtype, total[r]), false);
	}
}

static void sweep_pieces(Body *b, const Sweeps *sw, u32 s, V from, V to)
{
	Pieces p = row_pieces(b->m->machine, b->k);
	if (p.n == 1) {
		sweep_row(b, sw, s, from, to);
		return;
	}
	for (u32 i = 0; i < p.n; i++) {
		u32 mark = body_mark(b);
		V end = pieces_end(b, &p, i, from, to);
		pieces_enter(b, &p, i);
		sweep_row(b, sw, s, from, end);
		body_release(b, mark);
		from = end;
	}
}

/* What is stored once a row. */
static void store_row(Body *b)
{
	const Kernel *k = b->k;
	body_hoist(b, but_row(k), NULL);
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store && !along_row(k, i))
			body_store(b, i);
}

/* ---- short rows, several at once ---- */

enum { AT_ONCE = 4 };

/* Elements of the shortest block with sums, of kernels whose rows may be several at once: the sums of a shorter row have one
 * accumulator, and what they take is mostly waiting, but for large bodies, which have enough to do meanwhile. 0: of others. */
static i64 shortest_block(const CpuMachine *machine, const Kernel *k)
{
	i64 block = INT64_MAX;
	for (u32 s = 0; s < 32; s++) {
		u32 nreduce;
		if (!sweep_has(k, s, NULL, &nreduce) || !nreduce)
			continue;
		if (nreduce * AT_ONCE > CPU_CARRIED)
			return 0;
		block = MIN(block, (i64)(sweep_vectors(machine, k, nreduce) * machine->lanes));
	}
	return k->class == KERNEL_ROW && k->inst.n <= 40 ? block : 0;
}

/* Is there code for several rows at once? It may be asked to run longer ones too, and then takes them one by one. */
static bool several_rows(const CpuMachine *machine, const Kernel *k)
{
	return k->dim[row_dim(k)].extent < shortest_block(machine, k);
}

/* One of the rows at once: what is known of it. */
typedef struct Row {
	V coord[KERNEL_DIMS];
	V *known;  /* [inst] scalars, or NULL */
	V *factor; /* [inst] of multiples */
} Row;

static void row_enter(Body *b, Sweeps *sw, const Row *row, u32 at)
{
	sw->at = at;
	memcpy(b->coord, row->coord, b->k->ndim * sizeof *b->coord);
	for (u32 i = 1; i < b->k->inst.n; i++) {
		if (row->known[i] && !b->scalar[i])
			body_set(b, (KVal){ i }, row->known[i], false);
		sw->multiple[i].factor = row->factor[i];
	}
}

/* One vector of each row in sweep `s`, from column `col` on. */
static void sweep_rows_vector(Body *b, Sweeps *sw, u32 s, const Row *row, V col, V mask, const u32 *reduce, u32 nreduce, V *acc)
{
	for (u32 r = 0; r < AT_ONCE; r++) {
		u32 mark = body_mark(b);
		row_enter(b, sw, &row[r], r);
		b->coord[b->vector_dim] = col;
		b->mask = mask;
		sweep_block(b, sw, s, reduce, nreduce, acc + r * nreduce);
		body_release(b, mark);
	}
	b->mask = NULL;
}

/* Rows from the one at hand on, of n columns, in sweep `s`. */
static void sweep_rows(Body *b, Sweeps *sw, u32 s, Row *row, V n)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	u32 L = b->lanes.lanes, *reduce = NEWN(b->arena, u32, k->inst.n), nreduce;
	if (!sweep_has(k, s, reduce, &nreduce))
		return;
	V acc[CPU_CARRIED], zero = cpu_i64(m, 0);
	for (u32 r = 0; r < AT_ONCE; r++) {
		u32 mark = body_mark(b);
		row_enter(b, sw, &row[r], r);
		body_hoist(b, but_row(k), NULL);
		find_factors(b, sw, s);
		for (u32 i = 1; i < k->inst.n; i++) {
			row[r].known[i] = b->scalar[i];
			row[r].factor[i] = sw->multiple[i].factor;
		}
		body_release(b, mark);
		for (u32 i = 0; i < nreduce; i++) {
			const KInst *in = &k->inst.v[reduce[i]];
			acc[r * nreduce + i] = reduce_identity(&b->lanes, in->reduce, in->dtype);
		}
	}
	V whole = cpu_mul(m, cpu_div(m, n, cpu_i64(m, L)), cpu_i64(m, L));
	CpuLoop main = { 0 }, rest = { 0 };
	b->vector_dim = row_dim(k);
	cpu_loop_begin(m, &main, zero, whole, cpu_i64(m, L), AT_ONCE * nreduce, acc);
	memcpy(acc, main.carried, AT_ONCE * nreduce * sizeof *acc);
	sweep_rows_vector(b, sw, s, row, main.index, NULL, reduce, nreduce, acc);
	main.unroll = 1;
	cpu_loop_end(m, &main, acc);
	cpu_loop_begin(m, &rest, whole, n, cpu_i64(m, L), AT_ONCE * nreduce, main.carried);
	memcpy(acc, rest.carried, AT_ONCE * nreduce * sizeof *acc);
	sweep_rows_vector(b, sw, s, row, rest.index, simd_mask(&b->lanes, cpu_sub(m, n, rest.index)), reduce, nreduce, acc);
	rest.unroll = 1;
	cpu_loop_end(m, &rest, acc);
	b->vector_dim = NONE;
	b->coord[row_dim(k)] = zero;
	for (u32 r = 0; r < AT_ONCE; r++)
		for (u32 i = 0; i < nreduce; i++) {
			const KInst *in = &k->inst.v[reduce[i]];
			row[r].known[reduce[i]] = reduce_lanes(&b->lanes, in->reduce, in->dtype, rest.carried[r * nreduce + i]);
		}
}

/* Of a task's rows as many as are whole steps of AT_ONCE; gives the first of those that are left. */
static V emit_several_rows(Body *b, Sweeps *sw, RowLoop *loop)
{
	CpuModule *m = b->m;
	const Kernel *k = b->k;
	V several = cpu_mul(m, cpu_div(m, cpu_sub(m, loop->end, loop->first), cpu_i64(m, AT_ONCE)), cpu_i64(m, AT_ONCE));
	V shorter = cpu_less(m, loop->to, cpu_i64(m, shortest_block(m->machine, k)));
	V end = LLVMBuildSelect(m->builder, shorter, cpu_add(m, loop->first, several), loop->first, "");
	Row row[AT_ONCE];
	row_loop_begin(b, loop, loop->first, end, AT_ONCE);
	u32 mark = body_mark(b);
	for (u32 r = 0; r < AT_ONCE; r++) {
		if (r)
			next_row(b);
		row[r] = (Row){ .known = NEWN(b->arena, V, k->inst.n), .factor = NEWN(b->arena, V, k->inst.n) };
		memcpy(row[r].coord, b->coord, sizeof b->coord);
	}
	for (u32 s = 0; s < sw->n; s++)
		sweep_rows(b, sw, s, row, loop->to);
	for (u32 r = 0; r < AT_ONCE; r++) {
		u32 here = body_mark(b);
		row_enter(b, sw, &row[r], r);
		store_row(b);
		body_release(b, here);
	}
	sw->at = 0;
	body_release(b, mark);
	row_loop_end(b, loop);
	return end;
}

static void emit_rows(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	body_begin(&b, m, k, arena, name);
	Sweeps sw = plan_sweeps(k, arena);
	body_hoist(&b, 0, NULL);
	RowLoop loop = { 0 };
	task_loop_begin(&b, &loop, k->class == KERNEL_MAP);
	V first = several_rows(m->machine, k) ? emit_several_rows(&b, &sw, &loop) : loop.first;
	row_loop_begin(&b, &loop, first, loop.end, 1);
	u32 mark = body_mark(&b);
	for (u32 s = 0; s < sw.n; s++) {
		body_hoist(&b, but_row(k), NULL);
		sweep_pieces(&b, &sw, s, loop.from, loop.to);
	}
	store_row(&b);
	body_release(&b, mark);
	set_outer(&b, loop.row.carried);
	row_loop_end(&b, &loop);
	loop.task.unroll = 1;
	cpu_loop_end(m, &loop.task, NULL);
	bool streamed = false;
	for (u32 i = 0; i < k->slot.n; i++)
		streamed |= k->slot.v[i].streamed;
	if (streamed) /* such stores are in no order with others: what reads them must come after */
		simd_store_fence(&b.lanes);
	body_end(&b);
}

static CountNeeds needs(Body *b, const CpuMachine *machine, const Kernel *k, bool may_cut)
{
	CpuModule *m = b ? b->m : NULL;
	Split s = split_of(b, machine, k, may_cut);
	return (CountNeeds){ .phases = count_of(m, 1), .tasks = count_mul(m, s.pieces, count_div_up(m, s.all, s.rows)) };
}

static CountNeeds needs_map(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	(void)phase;
	return needs(b, machine, k, true);
}

static u64 variant_map(const CpuMachine *machine, const Kernel *k)
{
	Pieces p = row_pieces(machine, k);
	return short_rows(machine, k) ^ (u64)in_place(k) << 1 ^ (u64)row_dim(k) << 2 ^ pieces_variant(&p) << 8;
}

static CountNeeds needs_row(Body *b, const CpuMachine *machine, const Kernel *k, Count phase)
{
	(void)phase;
	CpuModule *m = b ? b->m : NULL;
	Arena tmp = ARENA("needs");
	Sweeps sw = plan_sweeps(k, &tmp);
	arena_free(&tmp);
	CountNeeds x = needs(b, machine, k, false);
	Count n = count_extent(b, k, row_dim(k), row_dim(k) + 1);
	i64 rows = several_rows(machine, k) ? AT_ONCE : 1;
	x.scratch = count_mul(m, count_of(m, rows * (i64)sw.nkept * (i64)sizeof(f32)), padded_row(m, n));
	return x;
}

const CpuKernelClass cpu_map = { .needs = needs_map, .emit = emit_rows, .variant = variant_map };
static u64 variant_row(const CpuMachine *machine, const Kernel *k)
{
	return several_rows(machine, k);
}

const CpuKernelClass cpu_row = { .needs = needs_row, .emit = emit_rows, .variant = variant_row };
