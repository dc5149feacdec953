/* codegen/cuda/rows.c: ROW kernels, in one of three ways, by the row's length and the number of rows:
 *
 *   resident  a team of threads (up to a warp: several rows to a block; else the block) holds its part of the row in
 *             registers, as one long vector in chunks: memory is read once, whatever the number of sweeps;
 *   looped    a block goes through a long row once for each sweep, and reads it again (often from L2), but for sums of
 *             exponentials, which are taken along with their maximum;
 *   split     few long rows are cut into pieces, a block for each; a phase for each sweep. The pieces' partial results
 *             lie in the workspace, and every block of the next phase combines them in the same order.
 *
 * Each thread adds what it has in order; lanes, warps and pieces are combined by fixed trees. All of it follows from
 * extents alone. */
#include "codegen/cuda/reduce.h"

#include <string.h>

enum {
	MOST_ELEMENTS = 32,   /* of a row in a thread that holds them */
	MOST_REGISTERS = 64,  /* for what is held, of 128; blocks of more than 512 threads have but 64 in all */
	MOST_REGISTERS_WIDE = 24,
	MANY_REGISTERS = 16, /* for each element of a row that is looped over: more than 64 for a thread */
	SPLIT_THREADS = 256,
	PIECE = 8192,         /* elements of a piece, at least */
	MOST_PIECES = 1024,
	FEW_ROWS = 128
};

typedef enum Way { WAY_RESIDENT, WAY_LOOPED, WAY_SPLIT } Way;

typedef struct Shape {
	Way way;
	i64 rows, n;
	u32 width;   /* elements of an access */
	u32 threads; /* of a row (of a piece) */
	u32 teams;   /* rows of a block */
	u32 chunks;  /* accesses of a thread: all of its row; of a turn of the loop */
	u32 pieces;
	i64 piece;   /* elements */
	u32 sweeps;
	f64 held;    /* registers for each element that a thread has at once (registers_held) */
} Shape;

static u32 last_dim(const Kernel *k)
{
	return k->ndim - 1;
}

static bool along_row(const Kernel *k, u32 i)
{
	return k->inst.v[i].depends >> last_dim(k) & 1;
}

/* In which sweeps (bits) each instruction is needed. */
static u32 *needed_in(const Kernel *k, Arena *arena)
{
	u32 *need = NEWN(arena, u32, k->inst.n + 1);
	for (u32 i = k->inst.n; i-- > 1;) {
		const KInst *in = &k->inst.v[i];
		if (in->op == K_store)
			need[i] |= 1u << in->sweep;
		u32 bits = in->op == K_reduce ? 1u << (in->sweep - 1) : need[i];
		for (u32 j = 0; j < 3; j++)
			need[in->in[j].i] |= bits;
		for (u32 j = 0; in->access && j < in->access->ndynamic; j++)
			need[in->access->dynamic[j].index.i] |= bits;
	}
	return need;
}

/* Registers for each element of a row that a thread holds: what several sweeps use, and half of what is loaded once. */
static f64 registers_held(const Kernel *k)
{
	Arena tmp = ARENA("held");
	u32 *need = needed_in(k, &tmp);
	f64 n = 0;
	for (u32 i = 1; i < k->inst.n; i++) {
		const KInst *in = &k->inst.v[i];
		if (!along_row(k, i) || !(in->op == K_load || cuda_costly(in)))
			continue;
		f64 size = cuda_value_bytes((DType)in->dtype) > 4 ? 2 : 1;
		n += need[i] & (need[i] - 1) ? size : size / 2;
	}
	arena_free(&tmp);
	return MAX(n, 1);
}

static bool stores_along_row(const Kernel *k, u32 sweep)
{
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store && k->inst.v[i].sweep == sweep && along_row(k, i))
			return true;
	return false;
}

/* The smallest team that holds a row without idle lanes worth speaking of; false: none holds it. */
static bool resident(Shape *s)
{
	i64 best = -1;
	for (u32 threads = 1; threads <= 1024; threads += threads < 32 ? threads : 32) {
		i64 chunks = (s->n + (i64)threads * s->width - 1) / ((i64)threads * s->width), elements = chunks * s->width;
		f64 most = threads > 512 ? MOST_REGISTERS_WIDE : MOST_REGISTERS;
		if (elements > MOST_ELEMENTS || (f64)elements * s->held > most)
			continue;
		if (threads < 32 && chunks > 1)
			continue;
		/* few rows: more threads to each */
		bool busy = s->rows * threads >= 1 << 17 || chunks == 1;
		i64 idle = (i64)threads * elements - s->n;
		if (best >= 0 && idle >= best && busy)
			continue;
		if (best >= 0 && best * 8 <= s->n && s->rows * s->threads >= 1 << 17)
			continue;
		best = idle;
		s->threads = threads;
		s->chunks = (u32)chunks;
	}
	return best >= 0;
}

/* Accesses of a turn of a loop: some 8 elements, fewer where many values are loaded. */
static u32 turn_chunks(const Shape *s)
{
	f64 elements = MIN(8, MOST_REGISTERS_WIDE / s->held);
	return MAX(1, (u32)elements / s->width);
}

static Shape shape_of(const Kernel *k)
{
	Shape s = { .rows = cuda_extent_product(k, 0, last_dim(k)), .n = k->dim[last_dim(k)].extent, .teams = 1,
		    .pieces = 1, .sweeps = cuda_reduce_sweeps(k), .held = registers_held(k) };
	s.width = cuda_vector_width(k, last_dim(k), CUDA_WHOLE);
	s.piece = s.n;
	/* a row that is looped over may end in part of a vector */
	u32 pitched = s.n >= 16 * 8 ? cuda_vector_width(k, last_dim(k), CUDA_LAST) : 1;
	if (s.rows < FEW_ROWS && s.n >= 4 * PIECE && s.sweeps < CUDA_PHASES) {
		s.way = WAY_SPLIT;
		s.threads = SPLIT_THREADS;
		s.width = MAX(s.width, pitched);
		s.chunks = turn_chunks(&s);
		i64 turn = (i64)s.threads * s.width * s.chunks;
		i64 pieces = MIN(s.n / PIECE, MOST_PIECES);
		s.piece = ((s.n + pieces - 1) / pieces + turn - 1) / turn * turn;
		s.pieces = (u32)((s.n + s.piece - 1) / s.piece);
		return s;
	}
	if (resident(&s)) {
		s.way = WAY_RESIDENT;
		if (s.threads <= 32)
			s.teams = 128 / s.threads;
		return s;
	}
	s.way = WAY_LOOPED;
	s.width = MAX(s.width, pitched);
	while (s.width > 1 && s.held * s.width > 2 * MOST_REGISTERS_WIDE) /* many values put together of pieces */
		s.width /= 2;
	/* one of 1024 threads has a multiprocessor for itself, and its loads stop at every barrier: two of 512, where there are rows for them */
	s.threads = s.n >= 16384 && s.held <= 3 && s.rows < 2 * FEW_ROWS ? 1024 : 512;
	s.chunks = turn_chunks(&s);
	return s;
}

/* Where the partial results of reduction `inst` lie in the workspace: [rows][pieces]. */
static u64 partial_offset(const Kernel *k, const Shape *s, u32 inst)
{
	u64 at = 0;
	for (u32 i = 1; i < inst; i++)
		if (k->inst.v[i].op == K_reduce)
			at += ALIGN_UP((u64)s->rows * s->pieces * cuda_value_bytes((DType)k->inst.v[i].dtype), 256);
	return at;
}

/* Blocks of a row in a phase of a split: after the last reduction one, where what is stored is the row's alone. */
static u32 pieces_of(const Kernel *k, const Shape *s, u32 phase)
{
	return phase < s->sweeps || stores_along_row(k, phase) ? s->pieces : 1;
}

static CudaNeeds needs_row(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	Shape s = shape_of(k);
	CudaNeeds n = { 0 };
	if (!s.rows)
		return n;
	n.nphase = s.way == WAY_SPLIT ? s.sweeps + 1 : 1;
	for (u32 p = 0; p < n.nphase; p++)
		n.launch[p] = (CudaLaunch){ .grid = { (u32)((s.rows + s.teams - 1) / s.teams * pieces_of(k, &s, p)), 1, 1 },
					    .block = { s.threads * s.teams, 1, 1 } };
	if (s.way == WAY_SPLIT)
		n.workspace = partial_offset(k, &s, k->inst.n);
	return n;
}

/* ---- code ---- */

static void declare_sums(CudaBody *b, const u32 *reduce, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const KInst *in = &b->k->inst.v[reduce[i]];
		cuda_line(b, "%s a%u = %s;", cuda_value_type((DType)in->dtype), reduce[i],
			  cuda_reduce_identity(b->t->arena, in));
	}
}

/* Is reduction `inst` taken along with its maximum? */
static bool is_running_sum(const Kernel *k, const Shape *s, u32 inst)
{
	for (u32 i = 1; i < inst && s->way == WAY_LOOPED; i++)
		if (k->inst.v[i].op == K_reduce && cuda_running(k, i).sum == inst)
			return true;
	return false;
}

/* The reductions that the loop of sweep `sweep` takes, by its own right. */
static u32 reductions_of(const Kernel *k, const Shape *s, u32 sweep, u32 *reduce)
{
	u32 n = cuda_reduce_list(k, sweep, reduce), kept = 0;
	for (u32 i = 0; i < n; i++)
		if (!is_running_sum(k, s, reduce[i]))
			reduce[kept++] = reduce[i];
	return kept;
}

static Running running_of(const Kernel *k, const Shape *s, u32 max)
{
	return s->way == WAY_LOOPED ? cuda_running(k, max) : (Running){ 0 };
}

/* What a thread does in sweep `sweep` with the elements that it has at hand. */
static void emit_elements(CudaBody *b, const Shape *s, u32 sweep, const u32 *reduce, u32 n, const char *active)
{
	const Kernel *k = b->k;
	cuda_load_ahead(b, sweep, 1u << last_dim(k));
	for (u32 i = 0; i < n; i++) {
		Running r = running_of(k, s, reduce[i]);
		if (r.sum)
			cuda_accumulate_running(b, &r);
		else
			cuda_accumulate(b, reduce[i], arena_printf(b->t->arena, "a%u", reduce[i]));
	}
	b->guard = active;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store && k->inst.v[i].sweep == sweep && along_row(k, i))
			cuda_store(b, i);
	b->guard = NULL;
}

/* A thread's sum a<inst> becomes the team's, in every thread: r<inst>. */
static void combine(CudaBody *b, const Shape *s, u32 inst)
{
	Arena *a = b->t->arena;
	const KInst *in = &b->k->inst.v[inst];
	const char *type = cuda_value_type((DType)in->dtype), *total;
	if (s->threads > 32) {
		cuda_line(b, "__shared__ %s shared%u[%u];", type, inst, s->threads / 32);
		total = arena_printf(a, "pl_reduce_block<%s, %u>(a%u, shared%u)", cuda_reduce_template(in), s->threads / 32, inst,
				     inst);
	} else if (s->threads > 1) {
		total = arena_printf(a, "pl_reduce_warp<%s, %u>(a%u)", cuda_reduce_template(in), s->threads, inst);
	} else {
		total = arena_printf(a, "a%u", inst);
	}
	cuda_line(b, "const %s r%u = %s;", type, inst, cuda_reduce_total(a, in, total));
}

static void set_reduction(CudaBody *b, u32 inst)
{
	cuda_set(b, (KVal){ inst }, arena_printf(b->t->arena, "r%u", inst), false);
}

/* Vectors of `chunks` accesses along the row, a team's width apart, from x; `guarded`: some may be beyond `end`. */
static void set_vector(CudaBody *b, const Shape *s, const char *x, i64 end, u32 whole, bool guarded)
{
	Arena *a = b->t->arena;
	i64 stride = (i64)s->threads * s->width;
	b->vector_dim = last_dim(b->k);
	b->width = s->width * s->chunks;
	b->chunk = s->width;
	b->chunk_stride = stride;
	b->vector_align = s->width;
	b->coord[b->vector_dim] = x;
	b->guard_chunk = b->guard_each = NULL;
	if (!guarded)
		return;
	if (end % s->width) {
		b->guard_each = arena_printf(a, "%s + %%u / %u * %lld + %%u %% %u < %lld", x, s->width, (long long)stride, s->width,
					     (long long)end);
		return;
	}
	/* the first chunks are always whole */
	const char *sure = whole ? arena_printf(a, "%%u < %u || ", whole) : "";
	b->guard_chunk = arena_printf(a, "%s%s + %%u * %lld < %lld", sure, x, (long long)stride, (long long)end);
}

static void store_per_row(CudaBody *b, const char *when)
{
	const Kernel *k = b->k;
	bool any = false;
	for (u32 i = 1; i < k->inst.n; i++)
		any |= k->inst.v[i].op == K_store && !along_row(k, i);
	if (!any)
		return;
	u32 mark = cuda_mark(b);
	cuda_open(b, "if (%s)", when);
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store && !along_row(k, i))
			cuda_store(b, i);
	cuda_close(b);
	cuda_release(b, mark);
}

/* Elements [begin, end) of the row (C expressions; `end` is that of the last piece where they differ), a turn of
 * `chunks` accesses at a time. */
static void emit_loop(CudaBody *b, const Shape *s, u32 sweep, const u32 *reduce, u32 n, const char *begin)
{
	i64 stride = (i64)s->threads * s->width, turn = stride * s->chunks;
	bool cut = s->pieces > 1 ? s->n % s->piece != 0 : s->n % turn != 0;
	u32 mark = cuda_mark(b);
	const char *end = s->pieces > 1 ? "end" : arena_printf(b->t->arena, "%lld", (long long)s->n);
	const char *from = strcmp(begin, "0") ? arena_printf(b->t->arena, "%s + ", begin) : "";
	const char *times = s->width > 1 ? arena_printf(b->t->arena, " * %u", s->width) : "";
	cuda_line(b, "int x%u = %s(int)threadIdx.x%s;", sweep, from, times);
	const char *x = arena_printf(b->t->arena, "x%u", sweep);
	/* a turn whose last access is whole */
	cuda_open(b, "for (; %s + %lld <= %s; %s += %lld)", x, (long long)(turn - stride + s->width), end, x, (long long)turn);
	set_vector(b, s, x, s->n, 0, false);
	emit_elements(b, s, sweep, reduce, n, NULL);
	cuda_close(b);
	cuda_release(b, mark);
	if (cut) {
		cuda_open(b, "if (%s < %s)", x, end);
		set_vector(b, s, x, s->n, 0, true);
		emit_elements(b, s, sweep, reduce, n, NULL);
		cuda_close(b);
		cuda_release(b, mark);
	}
	b->width = 1;
	b->guard_chunk = b->guard_each = NULL;
	b->coord[last_dim(b->k)] = "0";
}

static u32 outer_dims(const Kernel *k)
{
	return (1u << last_dim(k)) - 1;
}

static void emit_whole_rows(CudaBody *b, const Shape *s, const char *name, const CudaNeeds *needs)
{
	const Kernel *k = b->k;
	Arena *arena = b->t->arena;
	u32 *reduce = NEWN(arena, u32, k->inst.n + 1), T = s->threads;
	/* 128 registers where rows are held or very much is loaded, else 64: left alone, ptxas would rather spill than use more
	 * than 32 */
	u32 threads = T * s->teams;
	bool many = s->way == WAY_RESIDENT || s->held > MANY_REGISTERS;
	cuda_begin(b, name, 0, threads, MAX(1, (many ? 512 : 1024) / threads), needs);
	const char *lane = "threadIdx.x", *active = NULL;
	if (s->teams == 1) {
		cuda_line(b, "const int row = blockIdx.x;");
	} else {
		cuda_line(b, "const int lane = threadIdx.x %% %u;", T);
		bool cut = s->rows % s->teams != 0;
		cuda_line(b, "%sint row = (int)blockIdx.x * %u + (int)threadIdx.x / %u;", cut && T < 32 ? "" : "const ", s->teams,
			  T);
		lane = "lane";
		/* warps without a row are done before anything is read: where the result lies in an operand's place, another warp may have
		 * written there */
		if (cut && T < 32) {
			cuda_line(b, "if (row - (int)threadIdx.x %% 32 / %u >= %lld) return;", T, (long long)s->rows);
			/* lanes of a warp stay together: those without a row do another's work and store nothing */
			cuda_line(b, "const bool active = row < %lld;", (long long)s->rows);
			cuda_line(b, "row = active ? row : %lld;", (long long)s->rows - 1);
			active = "active";
		} else if (cut) {
			cuda_line(b, "if (row >= %lld) return;", (long long)s->rows);
		}
	}
	cuda_hoist_uniform(b);
	cuda_unflatten(b, 0, last_dim(k), "row");
	bool held = s->way == WAY_RESIDENT;
	if (held) {
		cuda_line(b, "const int x = (int)%s * %u;", lane, s->width);
		u32 whole = (u32)(s->n / ((i64)T * s->width));
		set_vector(b, s, "x", s->n, whole, whole < s->chunks);
	}
	for (u32 sweep = 0; sweep <= s->sweeps; sweep++) {
		cuda_hoist(b, outer_dims(k), NULL);
		u32 n = reductions_of(k, s, sweep + 1, reduce);
		if (!n && !stores_along_row(k, sweep))
			continue;
		declare_sums(b, reduce, n);
		for (u32 i = 0; i < n; i++) {
			Running r = running_of(k, s, reduce[i]);
			declare_sums(b, &r.sum, r.sum != 0);
		}
		if (held)
			emit_elements(b, s, sweep, reduce, n, active);
		else
			emit_loop(b, s, sweep, reduce, n, "0");
		for (u32 i = 0; i < n; i++)
			combine(b, s, reduce[i]);
		for (u32 i = 0; i < n; i++)
			set_reduction(b, reduce[i]);
		for (u32 i = 0; i < n; i++) {
			Running r = running_of(k, s, reduce[i]);
			if (!r.sum)
				continue;
			cuda_finish_running(b, &r);
			combine(b, s, r.sum);
			set_reduction(b, r.sum);
		}
	}
	cuda_hoist(b, outer_dims(k), NULL);
	store_per_row(b, active ? arena_printf(arena, "%s == 0 && %s", lane, active) : arena_printf(arena, "%s == 0", lane));
	cuda_end(b);
}

/* ---- split ---- */

static const char *partials(CudaBody *b, const Shape *s, u32 inst)
{
	return arena_printf(b->t->arena, "((%s *)(workspace + %llu) + (i64)row * %u)",
			    cuda_value_type((DType)b->k->inst.v[inst].dtype),
			    (unsigned long long)partial_offset(b->k, s, inst), s->pieces);
}

static void emit_phase(CudaBody *b, const Shape *s, const char *name, u32 phase, const CudaNeeds *needs)
{
	const Kernel *k = b->k;
	u32 *reduce = NEWN(b->t->arena, u32, k->inst.n + 1);
	cuda_begin(b, name, phase, s->threads, 1024 / s->threads, needs);
	cuda_hoist_uniform(b);
	u32 pieces = pieces_of(k, s, phase);
	cuda_line(b, "const int row = blockIdx.x / %u, piece = blockIdx.x %% %u;", pieces, pieces);
	cuda_line(b, "const int begin = piece * %lld, end = min(begin + %lld, %lld);", (long long)s->piece,
		  (long long)s->piece, (long long)s->n);
	cuda_unflatten(b, 0, last_dim(k), "row");
	/* what the phases before found */
	for (u32 sweep = 1; sweep <= phase; sweep++) {
		cuda_hoist(b, outer_dims(k), NULL);
		u32 n = cuda_reduce_list(k, sweep, reduce);
		declare_sums(b, reduce, n);
		for (u32 i = 0; i < n; i++) {
			const char *f = cuda_reduce_function(b->t->arena, &k->inst.v[reduce[i]]);
			cuda_line(b, "for (int i = threadIdx.x; i < %u; i += %u) a%u = %s::of(a%u, %s[i]);", s->pieces,
				  s->threads, reduce[i], f, reduce[i], partials(b, s, reduce[i]));
			combine(b, s, reduce[i]);
		}
		for (u32 i = 0; i < n; i++)
			set_reduction(b, reduce[i]);
	}
	cuda_hoist(b, outer_dims(k), NULL);
	u32 n = cuda_reduce_list(k, phase + 1, reduce);
	if (n || stores_along_row(k, phase)) {
		declare_sums(b, reduce, n);
		emit_loop(b, s, phase, reduce, n, "begin");
		for (u32 i = 0; i < n; i++)
			combine(b, s, reduce[i]);
		for (u32 i = 0; i < n; i++)
			cuda_line(b, "if (threadIdx.x == 0) %s[piece] = r%u;", partials(b, s, reduce[i]), reduce[i]);
	}
	if (phase == s->sweeps)
		store_per_row(b, "threadIdx.x == 0 && piece == 0");
	cuda_end(b);
}

static void emit_row(CudaText *t, const Kernel *k, const char *name)
{
	CudaNeeds needs = needs_row(t->arch, k);
	Shape s = shape_of(k);
	for (u32 p = 0; p < needs.nphase; p++) {
		CudaBody b = cuda_body(t, k);
		if (s.way == WAY_SPLIT)
			emit_phase(&b, &s, name, p, &needs);
		else
			emit_whole_rows(&b, &s, name, &needs);
	}
}

const CudaKernelClass cuda_row = { .needs = needs_row, .emit = emit_row };
