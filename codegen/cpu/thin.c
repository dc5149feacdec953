/* codegen/cpu/thin.c: DOT kernels with few rows, as decoding has them: one to four rows x times a matrix that is read
 * once, at the speed of memory. Nothing of the matrix is packed: it is streamed as it lies, by whole rows.
 *
 * A task has some columns n of the result; tasks that a thread has together first evaluate the rows of x into scratch. Where the matrix is
 * contiguous along k, each column is a sum in lanes, which are added by a fixed tree, and a factor that elements share is taken
 * once for their sum; where it is contiguous along n,
 * some rows of the matrix at a time are added to the columns' sums, in order of k. The body
 * then sees the sums, as behind any product. Which task has a column does not change its sum.
 *
 * That such products are bound by the bytes of the matrix is the roofline model's (Williams et al. 2009). */
#include "codegen/cpu/thin.h"
#include "codegen/cpu/kernels.h"

#include <string.h>

typedef LLVMValueRef V;

enum {
	SUMS = 8,          /* vectors of sums at once; elements of x at once, where rows of the matrix are added */
	LONGEST = 1 << 16, /* k: all of x must fit the scratch */
	TASK = 1 << 14,    /* bytes of the matrix that make a task: a microsecond or two */
	TASKS = 16,        /* of a batch item for each thread, that one which is slower than others may be helped to the end */
	AHEAD = 2048,      /* bytes from what is read to what is asked for, where rows are read one after the other */
};

/* k as several dimensions, as weights have it that share factors in groups: a piece, for which there is a sum for each of its vectors,
 * is whole blocks of the innermost ones, whose places are numbers of the code, or divides the last one (and is one block). */
typedef struct Piece {
	u32 first;   /* of the innermost dimensions; where one piece divides the last of them, that */
	i64 block;   /* elements of these together, or of a piece that divides */
	i64 size;    /* of the piece */
	bool divides;
} Piece;

/* What elements of the matrix are where a block shares a factor: (element - offset) * factor. The products of a block are added first, and
 * once multiplied by it; what the offset adds to them follows from x alone, for each block once a task. The sum so loses what is lost of
 * sums of x by the offset, which is as large as what a block's largest element loses. */
typedef struct Shared {
	KVal element, factor; /* of none: 0 */
	f64 offset;
} Shared;

typedef struct Thin {
	Body *b;
	Range batch, mr, nr, kr;
	u32 rows;
	bool along_k;
	Piece piece;     /* where k is several dimensions */
	Shared shared;
	Tile t;          /* of a panel of results */
	Count N, K, B;
	Count padded;    /* K, to whole vectors */
	Count chunk, chunks; /* columns of a task; tasks of a batch item, or of several if they are small */
	Count items, blocks; /* batch items of a task, and how many such blocks */
	bool *of_matrix;     /* [inst]: what its elements take */
	const Access *read;  /* of the matrix, where it is a plain load, or NULL */
	Product p;       /* for its results */
	u32 columns;     /* that are gone through at once */
	V column[SUMS][KERNEL_DIMS]; /* their coordinates */
	V x, offsets, sums; /* in scratch: rows of x, what offsets add to each block of them (as far apart), sums */
	V n0, n1;
} Thin;

static bool contiguous_along_k(const Kernel *k)
{
	Arena tmp = ARENA("thin");
	bool along = operand_along_k(k, &tmp, k->operand[1], range_of(k, DIM_N), range_of(k, DIM_K));
	arena_free(&tmp);
	return along;
}

/* The one read of those needed that goes along the dimension, without conditions and indices of data; or NULL. */
static const Access *read_along(const Kernel *k, const bool *needed, u32 dim)
{
	const Access *found = NULL;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (!needed[i] || in->op != K_load || !(in->depends >> dim & 1))
			continue;
		if (found || in->in[0].i || in->access->ndynamic || in->access->stride[dim] != 1)
			return NULL;
		found = in->access;
	}
	return found;
}

/* Elements of the matrix that make a task. */
static i64 elements_of_task(const Kernel *k)
{
	Arena tmp = ARENA("thin");
	bool *needed = NEWN(&tmp, bool, k->inst.n);
	u32 bytes = 0;
	kernel_mark_needed(k, k->operand[1], needed);
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		/* what is as large as it, not what its rows or groups share */
		if (needed[i] && in->op == K_load && in->depends == k->inst.v[k->operand[1].i].depends)
			bytes += dtype_info[k->slot.v[in->access->slot].dtype].bytes;
	}
	arena_free(&tmp);
	return TASK / MAX(bytes, 1);
}

static u32 sums_of_row(i64 rows)
{
	return (u32)(SUMS / rows);
}

/* Can k be gone through in pieces of `vectors` vectors, one behind the other? */
static bool piece_of(const Kernel *k, Range kr, u32 vectors, u32 lanes, Piece *out)
{
	i64 last = k->dim[kr.last - 1].extent;
	Piece p = { kr.last - 1, last, (i64)vectors * lanes, false };
	if (last < 1 || last % lanes)
		return false;
	p.divides = last % p.size == 0;
	if (p.divides)
		p.block = p.size;
	while (!p.divides && p.first > kr.first + 1 && p.size % (p.block * k->dim[p.first - 1].extent) == 0)
		p.block *= k->dim[--p.first].extent;
	*out = p;
	return p.size % p.block == 0;
}

/* Are elements of the matrix a factor, which is the same for all of a block, times others? Not where they are rounded for products. */
static bool factor_of(const Kernel *k, Range block, Shared *out)
{
	const KInst *in = &k->inst.v[k->operand[1].i];
	if (k->compute != DT_f32 || in->op != K_scalar || in->scalar != S_mul || in->dtype != DT_f32)
		return false;
	bool second = !(k->inst.v[in->in[1].i].depends & range_mask(block));
	if (!second && k->inst.v[in->in[0].i].depends & range_mask(block))
		return false;
	*out = (Shared){ .element = in->in[!second], .factor = in->in[second] };
	const KInst *less = &k->inst.v[out->element.i];
	if (less->op == K_scalar && less->scalar == S_sub && k->inst.v[less->in[1].i].op == K_const) {
		out->offset = k->inst.v[less->in[1].i].imm;
		out->element = less->in[0];
	}
	return true;
}

/* The same with what its blocks share, of which there may be more vectors: a block has one sum. */
static bool piece_for(const CpuMachine *machine, const Kernel *k, Piece *p, Shared *shared)
{
	Range kr = range_of(k, DIM_K);
	i64 rows = range_count(k, range_of(k, DIM_M));
	*shared = (Shared){ 0 };
	if (piece_of(k, kr, SUMS, machine->lanes, p) && factor_of(k, (Range){ p->first, kr.last }, shared))
		return true;
	return piece_of(k, kr, sums_of_row(rows), machine->lanes, p);
}

bool dot_is_thin(const CpuMachine *machine, const Kernel *k)
{
	Range m = range_of(k, DIM_M), n = range_of(k, DIM_N), kr = range_of(k, DIM_K);
	i64 rows = range_count(k, m), sum = range_count(k, kr);
	if (rows < 1 || rows > THIN_ROWS || k->compute == DT_f64 || kr.first == kr.last || n.first >= n.last || sum > LONGEST)
		return false;
	Piece piece;
	Shared shared;
	return kr.last - kr.first == 1 || (contiguous_along_k(k) && piece_for(machine, k, &piece, &shared));
}

/* As many for each thread: of five tasks for two of them, one is waited for. */
static Count even_tasks(CpuModule *m, const CpuMachine *machine, Count tasks)
{
	Count one = count_of(m, 1);
	return count_if_less(m, one, tasks, count_round(m, tasks, machine->cores), one);
}

static Thin thin_make(Body *b, const CpuMachine *machine, const Kernel *k)
{
	CpuModule *m = b ? b->m : NULL;
	Thin x = { .b = b, .batch = range_of(k, DIM_BATCH), .mr = range_of(k, DIM_M), .nr = range_of(k, DIM_N),
		   .kr = range_of(k, DIM_K), .rows = (u32)range_count(k, range_of(k, DIM_M)), .along_k = contiguous_along_k(k) };
	x.t = (Tile){ x.rows, x.along_k ? 2 : 4, machine->lanes, DT_f32, false };
	x.B = count_extent(b, k, x.batch.first, x.batch.last);
	x.N = count_extent(b, k, x.nr.first, x.nr.last);
	x.K = count_extent(b, k, x.kr.first, x.kr.last);
	x.padded = count_round(m, x.K, 16);
	Count pieces = count_of(m, (x.along_k ? TASKS : 1) * (i64)machine->cores); /* long pieces of rows where several are read at once */
	Count one = count_of(m, 1), K = count_max(m, x.K, one), task = count_of(m, elements_of_task(k));
	Count least = count_max(m, count_div_up(m, task, K), count_of(m, x.along_k ? 1 : 64));
	Count tasks = even_tasks(m, machine, count_min(m, pieces, count_div_up(m, x.N, least)));
	x.chunk = count_round(m, count_max(m, one, count_div_up(m, x.N, tasks)), tile_width(x.t));
	x.chunks = count_div_up(m, x.N, x.chunk);
	Count items = count_max(m, one, count_div(m, task, count_max(m, one, count_mul(m, x.N, K))));
	x.items = count_max(m, one, count_div_up(m, x.B, even_tasks(m, machine, count_div_up(m, x.B, items))));
	x.blocks = count_div_up(m, x.B, x.items);
	if (x.kr.last - x.kr.first > 1)
		piece_for(machine, k, &x.piece, &x.shared);
	if (b) {
		x.of_matrix = NEWN(b->arena, bool, k->inst.n);
		kernel_mark_needed(k, k->operand[1], x.of_matrix);
		x.read = read_along(k, x.of_matrix, x.along_k ? x.kr.last - 1 : x.nr.last - 1);
	}
	return x;
}

/* Are all indices 0 where the sum begins? Then which half of a group that shares its bytes a place is in is known to the code. */
static bool counts_from_zero(const Kernel *k)
{
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_index && (k->inst.v[i].access->offset || k->inst.v[i].access->ndynamic))
			return false;
	return true;
}

u64 thin_variant(const CpuMachine *machine, const Kernel *k)
{
	/* which way it is read cannot be told from the shape where an extent is 1 */
	static const u64 thin = (u64)1 << 63; /* of no other variant of products */
	u64 way = (u64)contiguous_along_k(k) << 32 | (u64)range_count(k, range_of(k, DIM_M));
	Range kr = range_of(k, DIM_K);
	Piece p = { 0 };
	Shared shared;
	if (kr.last - kr.first == 1)
		return thin | way;
	piece_for(machine, k, &p, &shared);
	for (u32 d = p.first; !p.divides && d < kr.last; d++)
		way = way * 1031 + (u64)k->dim[d].extent;
	/* whether a factor is shared is known of whole blocks alone, which extents make */
	return thin | way << 3 | (u64)(shared.factor.i > 0) << 2 | (u64)counts_from_zero(k) << 1 | p.divides;
}

CountNeeds thin_needs(Body *b, const CpuMachine *machine, const Kernel *k)
{
	CpuModule *m = b ? b->m : NULL;
	Thin x = thin_make(b, machine, k);
	Count sums = count_of(m, tile_width(x.t)), rows = count_of(m, x.rows);
	if (!x.along_k)
		sums = count_add(m, x.chunk, sums);
	Count of_x = x.shared.offset != 0 ? count_add(m, x.padded, x.padded) : x.padded;
	Count elements = count_mul(m, rows, count_add(m, of_x, sums));
	return (CountNeeds){ .phases = count_of(m, 1), .tasks = count_mul(m, x.blocks, x.chunks),
			     .scratch = count_add(m, count_mul(m, elements, count_of(m, sizeof(f32))), count_of(m, 64)) };
}

/* ---- code ---- */

static V at(const Thin *x, V base, V index)
{
	return cpu_at(x->b->m, x->b->m->f32, base, index);
}

/* Where row r of x, or what offsets add to it, has element `index`. */
static V in_row(const Thin *x, V rows, u32 r, V index)
{
	CpuModule *m = x->b->m;
	return at(x, rows, cpu_add(m, cpu_mul(m, x->padded.v, cpu_i64(m, r)), index));
}

/* An operand at the current coordinates, in lanes along k or n, as products are taken of it. */
static V value(const Thin *x, u32 operand)
{
	Body *b = x->b;
	KVal v = b->k->operand[operand];
	return simd_convert(&b->lanes, (DType)b->k->inst.v[v.i].dtype, b->k->compute, body_vector(b, v));
}

static void evaluate_rows(const Thin *x)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	for (u32 r = 0; r < x->rows; r++) {
		u32 mark = body_mark(b);
		body_unflatten(b, x->mr.first, x->mr.last, cpu_i64(m, r));
		V row = at(x, x->x, cpu_mul(m, x->padded.v, cpu_i64(m, r)));
		Run run = { 0 };
		run_begin(b, &run, x->kr, cpu_i64(m, 0), x->K.v, NULL);
		for (u32 pass = 0; pass < 2; pass++) {
			RunLanes k = { 0 };
			run_lanes_begin(b, &k, &run, x->kr, pass, 0, NULL);
			V v = value(x, 0);
			if (pass)
				v = simd_select(&b->lanes, b->mask, v, simd_f32(&b->lanes, 0));
			simd_store(&b->lanes, DT_f32, v, at(x, row, k.loop.index), 0);
			run_lanes_end(b, &k, NULL);
		}
		run_end(b, &run);
		body_release(b, mark);
	}
}

/* For each block of x: its vectors added up, times what elements of the matrix have too much. */
static void evaluate_offsets(const Thin *x)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	u32 lanes = b->lanes.lanes;
	V less = simd_f32(&b->lanes, (f32)-x->shared.offset);
	for (u32 r = 0; r < x->rows; r++) {
		CpuLoop block = { 0 };
		cpu_loop_begin(m, &block, cpu_i64(m, 0), x->K.v, cpu_i64(m, x->piece.block), 0, NULL);
		V sum = NULL;
		for (i64 e = 0; e < x->piece.block; e += lanes) {
			V v = simd_load(&b->lanes, DT_f32, in_row(x, x->x, r, cpu_add(m, block.index, cpu_i64(m, e))), 0);
			sum = sum ? simd_add(&b->lanes, sum, v) : v;
		}
		V index = cpu_div(m, block.index, cpu_i64(m, x->piece.block / lanes));
		simd_store(&b->lanes, DT_f32, simd_mul(&b->lanes, sum, less), in_row(x, x->offsets, r, index), 0);
		block.unroll = 1;
		cpu_loop_end(m, &block, NULL);
	}
}

/* ---- the matrix contiguous along k ---- */

/* Independent sums of a row. */
static u32 sums_beside(const Thin *x)
{
	u32 n = sums_of_row(x->rows);
	return x->shared.factor.i ? MIN(n, (u32)(x->piece.size / x->piece.block)) : n;
}

/* Columns that are gone through at once: half of the sums that there may be, the other registers are for what is unpacked. */
static u32 columns_at_once(const Thin *x)
{
	return x->shared.factor.i ? MAX(1, SUMS / 2 / (x->rows * sums_beside(x))) : 1;
}

/* sum[r * stride] of row r takes the vector of the matrix at the current place, times that of the row at element `k`. ask: for what is read next. */
static void add_vector(const Thin *x, V k, u32 stride, bool ask, V *sum)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	u32 mark = body_mark(b);
	V w = value(x, 1);
	if (ask)
		simd_prefetch(&b->lanes, cpu_at_byte(m, body_address(b, x->read), cpu_i64(m, AHEAD)), 1, false);
	if (b->mask)
		w = simd_select(&b->lanes, b->mask, w, simd_f32(&b->lanes, 0));
	body_release(b, mark);
	for (u32 r = 0; r < x->rows; r++) {
		V left = simd_load(&b->lanes, DT_f32, in_row(x, x->x, r, k), 0);
		sum[r * stride] = simd_multiply_add(&b->lanes, left, w, sum[r * stride]);
	}
}

/* Vectors that a cache line of the matrix has. */
static u32 vectors_of_line(const Thin *x)
{
	u32 bytes = x->read ? dtype_info[x->b->k->slot.v[x->read->slot].dtype].bytes : 4;
	return MAX(1, 64 / (x->b->lanes.lanes * bytes));
}

/* sum[r * stride + u] of row r takes the u-th vector of n from k on; `mask`: lanes before the end of k, or NULL. */
static void add_products(const Thin *x, V k, u32 n, u32 stride, V mask, V *sum)
{
	Body *b = x->b;
	for (u32 u = 0; u < n; u++) {
		V from = cpu_add(b->m, k, cpu_i64(b->m, u * b->lanes.lanes));
		b->coord[x->kr.first] = from;
		b->mask = mask;
		add_vector(x, from, stride, x->read && !mask && u % vectors_of_line(x) == 0, sum + u);
		b->mask = NULL;
	}
}

/* Element e of a block that begins at the place `begin` of the last dimension, where a piece divides that. */
static void place_in_block(const Thin *x, V begin, i64 e)
{
	Body *b = x->b;
	const Piece *p = &x->piece;
	i64 rest = e;
	for (u32 d = x->kr.last; !p->divides && d-- > p->first;) {
		b->coord[d] = cpu_i64(b->m, rest % b->k->dim[d].extent);
		rest /= b->k->dim[d].extent;
	}
	if (p->divides)
		b->coord[p->first] = cpu_add(b->m, begin, cpu_i64(b->m, e));
}

/* A block that shares a factor, to the first of each row's sums. What is read next is asked for before: what is loaded twice (both
 * halves of bytes) is then one load. */
static void add_shared(const Thin *x, V k, bool ask, u32 stride, V *sum)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	const Simd *s = &b->lanes;
	V begin = b->coord[x->kr.last - 1], part[THIN_ROWS] = { 0 };
	place_in_block(x, begin, 0);
	if (ask && x->read)
		simd_prefetch(s, cpu_at_byte(m, body_address(b, x->read), cpu_i64(m, AHEAD)), 1, false);
	V block = cpu_div(m, k, cpu_i64(m, x->piece.block / s->lanes));
	for (u32 r = 0; r < x->rows && x->shared.offset != 0; r++)
		part[r] = simd_load(s, DT_f32, in_row(x, x->offsets, r, block), 0);
	for (i64 e = 0; e < x->piece.block; e += s->lanes) {
		place_in_block(x, begin, e);
		u32 mark = body_mark(b);
		V w = body_vector(b, x->shared.element);
		body_release(b, mark);
		for (u32 r = 0; r < x->rows; r++) {
			V left = simd_load(s, DT_f32, in_row(x, x->x, r, cpu_add(m, k, cpu_i64(m, e))), 0);
			part[r] = part[r] ? simd_multiply_add(s, left, w, part[r]) : simd_mul(s, left, w);
		}
	}
	V factor = body_vector(b, x->shared.factor);
	for (u32 r = 0; r < x->rows; r++)
		sum[r * stride] = simd_multiply_add(s, part[r], factor, sum[r * stride]);
}

/* A block of which flattened element 0 is `k`, and the places of its outer dimensions are set: its vectors go to sums from `u` on, or
 * where `one` to the first. */
static void add_block(const Thin *x, V k, u32 u, u32 stride, bool one, V *sum)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	const Piece *p = &x->piece;
	u32 lanes = b->lanes.lanes;
	V begin = b->coord[x->kr.last - 1];
	if (x->shared.factor.i) {
		u32 block = (u32)(p->block / lanes);
		add_shared(x, k, u % vectors_of_line(x) == 0, stride, sum + (one ? 0 : u / block % stride));
		return;
	}
	for (i64 e = 0; e < p->block; e += lanes, u++) {
		place_in_block(x, begin, e);
		bool ask = x->read && (e / lanes) % vectors_of_line(x) == 0;
		add_vector(x, cpu_add(m, k, cpu_i64(m, e)), stride, ask, sum + (one ? 0 : u));
	}
}

/* The same block of each column, whose sums are one column's behind another's: what x has for it is loaded once for all. */
static void add_columns(const Thin *x, V k, u32 u, u32 stride, bool one, V *sum)
{
	Body *b = x->b;
	V begin = b->coord[x->kr.last - 1];
	for (u32 c = 0; c < x->columns; c++) {
		u32 mark = body_mark(b);
		for (u32 d = x->nr.first; d < x->nr.last; d++)
			b->coord[d] = x->column[c][d];
		b->coord[x->kr.last - 1] = begin;
		body_hoist(b, range_mask(x->batch) | range_mask(x->nr) | range_mask((Range){ x->kr.first, x->piece.first }), x->of_matrix);
		add_block(x, k, u, stride, one, sum + c * x->rows * stride);
		body_release(b, mark);
	}
}

/* `blocks` blocks from that of index `at` on, whose outer dimensions' places are in `place`, which goes on to that behind them. */
static void add_blocks(const Thin *x, V at, i64 blocks, u32 stride, bool one, V *place, V *sum)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	Range outer = { x->kr.first, x->piece.first };
	V unit[KERNEL_DIMS];
	body_unit(b, outer.first, outer.last, unit);
	memcpy(b->coord + outer.first, place, (outer.last - outer.first) * sizeof *place);
	for (i64 i = 0; i < blocks; i++) {
		V k = cpu_mul(m, cpu_add(m, at, cpu_i64(m, i)), cpu_i64(m, x->piece.block));
		add_columns(x, k, (u32)(i * x->piece.block / b->lanes.lanes), stride, one, sum);
		body_advance(b, outer.first, outer.last, unit);
	}
	memcpy(place, b->coord + outer.first, (outer.last - outer.first) * sizeof *place);
}

/* The same sums as of one dimension: the u-th vector of a piece goes to sum u, what is behind whole pieces to the first. What is carried
 * is sums and the outer dimensions' places. */
static void add_pieces(const Thin *x, u32 all, u32 stride, V *sum)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	const Piece *p = &x->piece;
	u32 outer = p->first - x->kr.first, n = all + outer;
	V zero = cpu_i64(m, 0), carried[SUMS + KERNEL_DIMS];
	V last = b->extent[x->kr.last - 1], count = p->divides ? cpu_div(m, x->K.v, last) : cpu_div(m, x->K.v, cpu_i64(m, p->block));
	i64 blocks = p->size / p->block;
	V whole = p->divides ? count : cpu_mul(m, cpu_div(m, count, cpu_i64(m, blocks)), cpu_i64(m, blocks));
	memcpy(carried, sum, all * sizeof *sum);
	for (u32 i = 0; i < outer; i++)
		carried[all + i] = zero;
	b->vector_dim = x->kr.last - 1;
	for (u32 rest = 0; rest < (p->divides || blocks == 1 ? 1 : 2); rest++) {
		CpuLoop o = { 0 };
		cpu_loop_begin(m, &o, rest ? whole : zero, rest ? count : whole, cpu_i64(m, p->divides || rest ? 1 : blocks), n, carried);
		memcpy(carried, o.carried, n * sizeof *carried);
		if (p->divides) {
			/* pieces of the last dimension */
			CpuLoop k = { 0 };
			V unit[KERNEL_DIMS];
			memcpy(b->coord + x->kr.first, carried + all, outer * sizeof *carried);
			cpu_loop_begin(m, &k, zero, last, cpu_i64(m, p->size), all, carried);
			memcpy(carried, k.carried, all * sizeof *carried);
			b->coord[p->first] = k.index;
			add_columns(x, cpu_add(m, cpu_mul(m, o.index, last), k.index), 0, stride, false, carried);
			k.unroll = 1;
			cpu_loop_end(m, &k, carried);
			memcpy(carried, k.carried, all * sizeof *carried);
			body_unit(b, x->kr.first, p->first, unit);
			body_advance(b, x->kr.first, p->first, unit);
			memcpy(carried + all, b->coord + x->kr.first, outer * sizeof *carried);
		} else {
			add_blocks(x, o.index, rest ? 1 : blocks, stride, rest, carried + all, carried);
		}
		o.unroll = 1;
		cpu_loop_end(m, &o, carried);
		memcpy(carried, o.carried, n * sizeof *carried);
	}
	b->vector_dim = NONE;
	memcpy(sum, carried, all * sizeof *sum);
}

/* The same along one dimension. */
static void add_along(const Thin *x, u32 all, u32 n, V *sum)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	V zero = cpu_i64(m, 0), step = cpu_i64(m, n * b->lanes.lanes);
	b->vector_dim = x->kr.first;
	V whole = cpu_mul(m, cpu_div(m, x->K.v, step), step);
	CpuLoop k = { 0 };
	cpu_loop_begin(m, &k, zero, whole, step, all, sum);
	memcpy(sum, k.carried, all * sizeof *sum);
	add_products(x, k.index, n, n, NULL, sum);
	k.unroll = 1;
	cpu_loop_end(m, &k, sum);
	memcpy(sum, k.carried, all * sizeof *sum);
	CpuLoop rest = { 0 };
	cpu_loop_begin(m, &rest, whole, x->K.v, cpu_i64(m, b->lanes.lanes), all, sum);
	memcpy(sum, rest.carried, all * sizeof *sum);
	add_products(x, rest.index, 1, n, simd_mask(&b->lanes, cpu_sub(m, x->K.v, rest.index)), sum);
	rest.unroll = 1;
	cpu_loop_end(m, &rest, sum);
	memcpy(sum, rest.carried, all * sizeof *sum);
	b->vector_dim = NONE;
}

/* The sums of columns from `column` on, to `to` and a panel's row further for each row of x. */
static void emit_columns(Thin *x, V column, u32 columns, V to)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	u32 n = sums_beside(x), of_column = n * x->rows, all = columns * of_column;
	V sum[SUMS];
	for (u32 i = 0; i < all; i++)
		sum[i] = simd_f32(&b->lanes, 0);
	x->columns = columns;
	for (u32 c = 0; c < columns; c++) {
		body_unflatten(b, x->nr.first, x->nr.last, cpu_add(m, column, cpu_i64(m, c)));
		memcpy(x->column[c], b->coord, sizeof b->coord);
	}
	if (x->kr.last - x->kr.first > 1)
		add_pieces(x, all, n, sum);
	else
		add_along(x, all, n, sum);
	for (u32 i = 0; i < columns * x->rows; i++) {
		V *s = &sum[i * n];
		for (u32 half = n / 2; half > 0; half /= 2)
			for (u32 j = 0; j < half; j++)
				s[j] = simd_add(&b->lanes, s[j], s[j + half]);
		u32 place = i % x->rows * tile_width(x->t) + i / x->rows;
		simd_store(&b->one, DT_f32, simd_reduce_add(&b->lanes, s[0]), at(x, to, cpu_i64(m, place)), 0);
	}
}

/* Columns from `from` to `end`, so many at once, of a panel that begins at n. */
static void emit_columns_between(Thin *x, V from, V end, u32 columns, V n)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	CpuLoop column = { 0 };
	cpu_loop_begin(m, &column, from, end, cpu_i64(m, columns), 0, NULL);
	u32 mark = body_mark(b);
	emit_columns(x, column.index, columns, at(x, x->sums, cpu_sub(m, column.index, n)));
	body_release(b, mark);
	column.unroll = 1;
	cpu_loop_end(m, &column, NULL);
}

/* The body on a panel of columns from n on, whose sums are at `sums`, and those of the next row `pitch` further. */
static void emit_results(Thin *x, V n, V sums, V pitch)
{
	CpuModule *m = x->b->m;
	Strip strip;
	strip_make(x->b, &strip, x->nr, n, x->N.v, x->t.vectors, x->t.lanes, x->p.run);
	x->p.n0 = n;
	CpuLoop row = { 0 };
	cpu_loop_begin(m, &row, cpu_i64(m, 0), cpu_i64(m, x->rows), cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(x->b);
	/* a tile of one row, which is not its first */
	V skipped = cpu_sub(m, pitch, cpu_i64(m, tile_width(x->t)));
	V tile = at(x, sums, cpu_mul(m, row.index, skipped));
	product_results(&x->p, &strip, cpu_i64(m, 0), row.index, cpu_add(m, row.index, cpu_i64(m, 1)), tile);
	body_release(x->b, mark);
	row.unroll = 1;
	cpu_loop_end(m, &row, NULL);
}

static void emit_along_k(Thin *x)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	V width = cpu_i64(m, tile_width(x->t));
	CpuLoop panel = { 0 };
	cpu_loop_begin(m, &panel, x->n0, x->n1, width, 0, NULL);
	u32 mark = body_mark(b);
	V end = cpu_min(m, x->n1, cpu_add(m, panel.index, width)), whole = end;
	u32 columns = columns_at_once(x);
	if (columns > 1) {
		V count = cpu_sub(m, end, panel.index), step = cpu_i64(m, columns);
		whole = cpu_add(m, panel.index, cpu_mul(m, cpu_div(m, count, step), step));
	}
	emit_columns_between(x, panel.index, whole, columns, panel.index);
	if (columns > 1)
		emit_columns_between(x, whole, end, 1, panel.index);
	emit_results(x, panel.index, x->sums, width);
	body_release(b, mark);
	panel.unroll = 1;
	cpu_loop_end(m, &panel, NULL);
}

/* ---- the matrix contiguous along n ---- */

/* Elements from one row's sums to the next. */
static V sums_pitch(const Thin *x)
{
	return cpu_add(x->b->m, x->chunk.v, cpu_i64(x->b->m, tile_width(x->t)));
}

/* Rows k, k + 1, ... of the matrix, each times its element of each row of x, added to the columns' sums; `mask`: NULL,
 * or the lanes before the end of the run. `ask`: for the next rows, where these are. */
static void add_rows(const Thin *x, V k, u32 streams, const V *left, V n, V base, V mask, bool ask)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	V to[THIN_ROWS], sum[THIN_ROWS];
	if (x->read && ask) {
		b->coord[x->nr.last - 1] = cpu_sub(m, n, base);
		for (u32 i = 0; i < streams; i++) {
			b->coord[x->kr.first] = cpu_add(m, k, cpu_i64(m, streams + i));
			simd_prefetch(&b->lanes, body_address(b, x->read), 2, false);
		}
	}
	for (u32 r = 0; r < x->rows; r++) {
		to[r] = at(x, x->sums, cpu_add(m, cpu_mul(m, sums_pitch(x), cpu_i64(m, r)), cpu_sub(m, n, x->n0)));
		sum[r] = simd_load(&b->lanes, DT_f32, to[r], 0);
	}
	b->coord[x->nr.last - 1] = cpu_sub(m, n, base);
	b->mask = mask;
	for (u32 i = 0; i < streams; i++) {
		u32 mark = body_mark(b);
		b->coord[x->kr.first] = cpu_add(m, k, cpu_i64(m, i));
		V w = value(x, 1);
		for (u32 r = 0; r < x->rows; r++)
			sum[r] = simd_multiply_add(&b->lanes, left[r * streams + i], w, sum[r]);
		body_release(b, mark);
	}
	b->mask = NULL;
	for (u32 r = 0; r < x->rows; r++)
		if (mask)
			simd_store_masked(&b->lanes, DT_f32, sum[r], to[r], 0, mask);
		else
			simd_store(&b->lanes, DT_f32, sum[r], to[r], 0);
}

static void emit_streams(const Thin *x, V from, V end, u32 streams)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	V lanes = cpu_i64(m, b->lanes.lanes), left[SUMS];
	CpuLoop k = { 0 };
	cpu_loop_begin(m, &k, from, end, cpu_i64(m, streams), 0, NULL);
	u32 mark = body_mark(b);
	for (u32 i = 0; i < x->rows * streams; i++) {
		V row = cpu_mul(m, x->padded.v, cpu_i64(m, i / streams));
		V index = cpu_add(m, row, cpu_add(m, k.index, cpu_i64(m, i % streams)));
		left[i] = simd_load_splat(&b->lanes, DT_f32, at(x, x->x, index));
	}
	Run run = { 0 };
	run_begin(b, &run, x->nr, x->n0, x->n1, NULL);
	b->vector_dim = x->nr.last - 1;
	/* cache lines, which are asked for once; then what is left */
	u32 vectors = MAX(1, 64 / (b->lanes.lanes * (u32)sizeof(f32)));
	V line = cpu_i64(m, vectors * b->lanes.lanes), count = cpu_sub(m, run.end, run.begin);
	V whole = cpu_add(m, run.begin, cpu_mul(m, cpu_div(m, count, line), line));
	CpuLoop n = { 0 }, rest = { 0 };
	cpu_loop_begin(m, &n, run.begin, whole, line, 0, NULL);
	for (u32 v = 0; v < vectors; v++)
		add_rows(x, k.index, streams, left, cpu_add(m, n.index, cpu_i64(m, v * b->lanes.lanes)), run.base, NULL, v == 0);
	n.unroll = 1;
	cpu_loop_end(m, &n, NULL);
	cpu_loop_begin(m, &rest, whole, run.end, lanes, 0, NULL);
	add_rows(x, k.index, streams, left, rest.index, run.base, simd_mask(&b->lanes, cpu_sub(m, run.end, rest.index)), false);
	rest.unroll = 1;
	cpu_loop_end(m, &rest, NULL);
	b->vector_dim = NONE;
	run_end(b, &run);
	body_release(b, mark);
	k.unroll = 1;
	cpu_loop_end(m, &k, NULL);
}

static void emit_along_n(Thin *x)
{
	Body *b = x->b;
	CpuModule *m = b->m;
	V zero = cpu_i64(m, 0), lanes = cpu_i64(m, b->lanes.lanes);
	CpuLoop clear = { 0 }, panel = { 0 };
	V all = cpu_mul(m, sums_pitch(x), cpu_i64(m, x->rows));
	cpu_loop_begin(m, &clear, zero, all, lanes, 0, NULL);
	simd_store(&b->lanes, DT_f32, simd_f32(&b->lanes, 0), at(x, x->sums, clear.index), 0);
	cpu_loop_end(m, &clear, NULL);
	V streams = cpu_i64(m, SUMS / x->rows), whole = cpu_mul(m, cpu_div(m, x->K.v, streams), streams);
	emit_streams(x, zero, whole, SUMS / x->rows);
	emit_streams(x, whole, x->K.v, 1);
	cpu_loop_begin(m, &panel, x->n0, x->n1, cpu_i64(m, tile_width(x->t)), 0, NULL);
	u32 mark = body_mark(b);
	emit_results(x, panel.index, at(x, x->sums, cpu_sub(m, panel.index, x->n0)), sums_pitch(x));
	body_release(b, mark);
	panel.unroll = 1;
	cpu_loop_end(m, &panel, NULL);
}

void thin_emit(CpuModule *m, const Kernel *k, Arena *arena, const char *name)
{
	Body b;
	body_begin(&b, m, k, arena, name);
	b.lanes.lanes = m->machine->lanes;
	Thin x = thin_make(&b, m->machine, k);
	x.p = (Product){ .b = &b, .t = x.t, .mr = x.mr, .nr = x.nr, .outer = range_mask(x.batch), .N = x.N.v,
			 .run = product_run(&b, x.nr) };
	b.from_zero = x.kr.last - x.kr.first > 1 && counts_from_zero(k);
	x.x = b.scratch;
	x.offsets = at(&x, b.scratch, cpu_mul(m, x.padded.v, cpu_i64(m, x.rows)));
	x.sums = x.shared.offset != 0 ? at(&x, x.offsets, cpu_mul(m, x.padded.v, cpu_i64(m, x.rows))) : x.offsets;
	body_hoist(&b, 0, NULL);
	CpuLoop task = { 0 }, item = { 0 };
	cpu_loop_begin(m, &task, b.begin, b.end, cpu_i64(m, 1), 0, NULL);
	x.n0 = cpu_mul(m, cpu_rem(m, task.index, x.chunks.v), x.chunk.v);
	x.n1 = cpu_min(m, x.N.v, cpu_add(m, x.n0, x.chunk.v));
	V first = cpu_mul(m, cpu_div(m, task.index, x.chunks.v), x.items.v);
	cpu_loop_begin(m, &item, first, cpu_min(m, x.B.v, cpu_add(m, first, x.items.v)), cpu_i64(m, 1), 0, NULL);
	u32 mark = body_mark(&b);
	body_unflatten(&b, x.batch.first, x.batch.last, item.index);
	body_hoist(&b, range_mask(x.batch), NULL);
	/* of several items a task has all columns */
	CpuIf fresh = { 0 };
	V begins = LLVMBuildOr(m->builder, cpu_equal(m, task.index, b.begin), cpu_equal(m, x.n0, cpu_i64(m, 0)), "");
	cpu_if_begin(m, &fresh, begins, 50);
	evaluate_rows(&x);
	if (x.shared.offset != 0)
		evaluate_offsets(&x);
	cpu_if_end(m, &fresh, 0, NULL, NULL);
	if (x.along_k)
		emit_along_k(&x);
	else
		emit_along_n(&x);
	body_release(&b, mark);
	item.unroll = 1;
	cpu_loop_end(m, &item, NULL);
	task.unroll = 1;
	cpu_loop_end(m, &task, NULL);
	body_end(&b);
}
