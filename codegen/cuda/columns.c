/* codegen/cuda/columns.c: COLUMN kernels: sums over rows, the gradients of biases and gains.
 *
 * A block is a strip of columns by a number of rows: neighbouring threads have neighbouring columns, and the block's
 * rows of threads take rows in turn. What they have is combined through shared memory. Where one block for all rows would
 * leave the device idle, rows are cut into chunks, whose partial results lie in the workspace until a second phase
 * combines them, in order. Chunks follow from extents alone. */
#include "codegen/cuda/reduce.h"

enum {
	THREADS = 256,
	TURN = 4,          /* rows under way in a thread, at most */
	UNDER_WAY = 32,    /* elements */
	LEAST_TURNS = 4,   /* of a thread in a chunk */
	BLOCKS = 1536      /* as many as keep any device busy */
};

typedef struct Shape {
	u32 r0, last;      /* the first REDUCE dimension; the VECTOR dimension */
	i64 outer, rows, columns;
	u32 width;
	u32 lanes, lane_rows; /* threads along columns and rows */
	u32 turn;             /* rows under way in a thread */
	u32 strips, chunks;
	i64 chunk;         /* rows */
} Shape;

static Shape shape_of(const Kernel *k)
{
	Shape s = { .last = k->ndim - 1 };
	while (k->dim[s.r0].role != DIM_REDUCE)
		s.r0++;
	s.outer = cuda_extent_product(k, 0, s.r0);
	s.rows = cuda_extent_product(k, s.r0, s.last);
	s.columns = k->dim[s.last].extent;
	s.width = cuda_vector_width(k, s.last, CUDA_WHOLE);
	s.lanes = 1;
	while (s.lanes < 32 && (i64)s.lanes * s.width < s.columns)
		s.lanes *= 2;
	s.lane_rows = THREADS / s.lanes;
	s.strips = (u32)((s.columns + (i64)s.lanes * s.width - 1) / ((i64)s.lanes * s.width));
	u32 loads = 1;
	for (u32 i = 1; i < k->inst.n; i++)
		loads += k->inst.v[i].op == K_load && k->inst.v[i].sweep == 0;
	s.turn = MAX(1, MIN(TURN, UNDER_WAY / (loads * s.width)));
	i64 blocks = MAX(1, s.outer * s.strips), turn = (i64)s.lane_rows * TURN;
	i64 most = (BLOCKS + blocks - 1) / blocks, chunks = MAX(1, MIN(s.rows / (turn * LEAST_TURNS), most));
	s.chunk = MAX(1, (s.rows + chunks - 1) / chunks + turn - 1) / turn * turn;
	s.chunk = MAX(s.chunk, turn);
	s.chunks = (u32)MAX(1, (s.rows + s.chunk - 1) / s.chunk);
	return s;
}

static u32 second_columns(const Shape *s)
{
	return s->outer * s->columns >= 32 ? 32 : 1;
}

/* Where the partial results of reduction `inst` lie in the workspace: [chunks][outer][columns]. */
static u64 partial_offset(const Kernel *k, const Shape *s, u32 inst)
{
	u64 at = 0;
	for (u32 i = 1; i < inst; i++)
		if (k->inst.v[i].op == K_reduce)
			at += ALIGN_UP((u64)s->chunks * (u64)(s->outer * s->columns) *
					       cuda_value_bytes((DType)k->inst.v[i].dtype),
				       256);
	return at;
}

static CudaNeeds needs_column(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	Shape s = shape_of(k);
	CudaNeeds n = { .nphase = 1 };
	if (!s.outer || !s.columns)
		return (CudaNeeds){ 0 };
	n.launch[0] = (CudaLaunch){ .grid = { (u32)(s.outer * s.strips * s.chunks), 1, 1 }, .block = { THREADS, 1, 1 } };
	if (s.chunks > 1) {
		u32 columns = second_columns(&s);
		n.nphase = 2;
		n.launch[1] = (CudaLaunch){ .grid = { (u32)((s.outer * s.columns + columns - 1) / columns), 1, 1 },
					    .block = { THREADS, 1, 1 } };
		n.workspace = partial_offset(k, &s, k->inst.n);
	}
	return n;
}

/* ---- code ---- */

/* Sums: an array of a value for each column of the thread, one where the reduction is the same for all columns. */
static u32 sums_of(const CudaBody *b, u32 inst)
{
	return cuda_varies(b, (KVal){ inst }) ? b->width : 1;
}

static void declare(CudaBody *b, const u32 *reduce, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const KInst *in = &b->k->inst.v[reduce[i]];
		u32 w = sums_of(b, reduce[i]);
		cuda_line(b, "%s a%u[%u]; EACH(%u) a%u[j] = %s;", cuda_value_type((DType)in->dtype), reduce[i], w, w, reduce[i],
			  cuda_reduce_identity(b->t->arena, in));
	}
}

static void accumulate(CudaBody *b, u32 inst)
{
	Arena *a = b->t->arena;
	const KInst *in = &b->k->inst.v[inst];
	const char *f = cuda_reduce_function(a, in);
	cuda_element(b, in->in[0], 0);
	cuda_line(b, "EACH(%u) a%u[j] = %s::of(a%u[j], %s);", sums_of(b, inst), inst, f, inst,
		  cuda_known_element(b, in->in[0], "j"));
}

/* The sums of the block's rows of threads, in its first row. */
static void combine(CudaBody *b, u32 inst, u32 lane_rows, u32 lanes)
{
	const KInst *in = &b->k->inst.v[inst];
	u32 w = sums_of(b, inst);
	if (lane_rows == 1)
		return;
	cuda_open(b, "%s", "");
	cuda_line(b, "__shared__ %s shared[%u];", cuda_value_type((DType)in->dtype), lane_rows / 2 * lanes * w);
	cuda_line(b, "pl_reduce_rows<%s, %u, %u, %u>(a%u, shared);", cuda_reduce_template(in), lane_rows, lanes, w, inst);
	cuda_close(b);
}

/* The results are in the first row of threads: what is stored of them. */
static void finish(CudaBody *b, const Shape *s, const u32 *reduce, u32 n)
{
	const Kernel *k = b->k;
	Arena *a = b->t->arena;
	for (u32 d = s->r0; d < s->last; d++)
		b->coord[d] = "0";
	for (u32 i = 0; i < n; i++) {
		const KInst *in = &k->inst.v[reduce[i]];
		u32 w = sums_of(b, reduce[i]);
		const char *r = arena_printf(a, "r%u", reduce[i]), *type = cuda_value_type((DType)in->dtype);
		if (w > 1)
			cuda_line(b, "%s %s[%u]; EACH(%u) %s[j] = %s;", type, r, w, w, r,
				  cuda_reduce_total(a, in, arena_printf(a, "a%u[j]", reduce[i])));
		else
			cuda_line(b, "const %s %s = %s;", type, r, cuda_reduce_total(a, in, arena_printf(a, "a%u[0]", reduce[i])));
		cuda_set(b, (KVal){ reduce[i] }, r, w > 1);
	}
	for (u32 i = 1; i < k->inst.n; i++) {
		if (k->inst.v[i].op != K_store)
			continue;
		/* what is the same for all columns is stored once */
		bool once = !(k->inst.v[i].depends >> s->last & 1);
		b->guard = once && s->columns > 1 ? arena_printf(a, "%s == 0", b->coord[s->last]) : NULL;
		cuda_store(b, i);
		b->guard = NULL;
	}
}

static const char *partials(CudaBody *b, const Shape *s, u32 inst)
{
	return arena_printf(b->t->arena, "((%s *)(workspace + %llu))",
			    cuda_value_type((DType)b->k->inst.v[inst].dtype),
			    (unsigned long long)partial_offset(b->k, s, inst));
}

static void emit_rows(CudaText *t, const Kernel *k, const Shape *s, const char *name, const CudaNeeds *needs)
{
	Arena *arena = t->arena;
	u32 *reduce = NEWN(arena, u32, k->inst.n + 1), n = cuda_reduce_list(k, 0, reduce);
	CudaBody body = cuda_body(t, k), *b = &body;
	cuda_begin(b, name, 0, THREADS, 4, needs); /* 64 registers: left alone, ptxas would rather spill than use more than 32 */
	cuda_hoist_uniform(b);
	cuda_line(b, "const int strip = blockIdx.x %% %u, chunk = blockIdx.x / %u %% %u, outer = blockIdx.x / %u;", s->strips,
		  s->strips, s->chunks, s->strips * s->chunks);
	cuda_line(b, "const int lane_row = threadIdx.x / %u;", s->lanes);
	cuda_line(b, "const int column = (strip * %u + (int)threadIdx.x %% %u) * %u;", s->lanes, s->lanes, s->width);
	cuda_unflatten(b, 0, s->r0, "outer");
	b->vector_dim = s->last;
	b->width = b->vector_align = s->width;
	b->coord[s->last] = s->columns == 1 ? "0" : "column";
	declare(b, reduce, n);
	bool cut = s->columns % ((i64)s->lanes * s->width) != 0;
	u32 mark = cuda_mark(b);
	cuda_open(b, "%s", cut ? arena_printf(arena, "if (column < %lld)", (long long)s->columns) : "");
	u32 fixed = 0; /* dimensions that rows do not run over */
	for (u32 d = 0; d < k->ndim; d++)
		fixed |= k->dim[d].role == DIM_REDUCE ? 0 : 1u << d;
	cuda_hoist(b, fixed, cuda_wanted(b, reduce, n));
	if (s->chunks > 1)
		cuda_line(b, "const int end = min(chunk * %lld + %lld, %lld);", (long long)s->chunk, (long long)s->chunk,
			  (long long)s->rows);
	else
		cuda_line(b, "const int end = %lld;", (long long)s->rows);
	cuda_line(b, "#pragma unroll %u", s->turn);
	cuda_open(b, "for (int r = chunk * %lld + lane_row; r < end; r += %u)", (long long)s->chunk, s->lane_rows);
	cuda_unflatten(b, s->r0, s->last, "r");
	cuda_load_ahead(b, 0, 0);
	for (u32 i = 0; i < n; i++)
		accumulate(b, reduce[i]);
	cuda_close(b);
	cuda_close(b);
	cuda_release(b, mark);
	for (u32 i = 0; i < n; i++)
		combine(b, reduce[i], s->lane_rows, s->lanes);
	const char *inside = cut ? arena_printf(arena, " && column < %lld", (long long)s->columns) : "";
	cuda_open(b, "if (lane_row == 0%s)", inside);
	if (s->chunks == 1) {
		finish(b, s, reduce, n);
	} else {
		cuda_line(b, "const i64 to = ((i64)chunk * %lld + outer) * %lld + column;", (long long)s->outer,
			  (long long)s->columns);
		for (u32 i = 0; i < n; i++)
			cuda_line(b, "EACH(%u) %s[to + j] = a%u[%s];", s->width, partials(b, s, reduce[i]), reduce[i],
				  sums_of(b, reduce[i]) > 1 ? "j" : "0");
	}
	cuda_close(b);
	cuda_release(b, mark);
	cuda_end(b);
}

/* Partial results become results: rows of threads take chunks in turn. */
static void emit_chunks(CudaText *t, const Kernel *k, const Shape *s, const char *name, const CudaNeeds *needs)
{
	u32 *reduce = NEWN(t->arena, u32, k->inst.n + 1), n = cuda_reduce_list(k, 0, reduce);
	u32 columns = second_columns(s);
	i64 all = s->outer * s->columns;
	CudaBody body = cuda_body(t, k), *b = &body;
	cuda_begin(b, name, 1, THREADS, 0, needs);
	cuda_hoist_uniform(b);
	cuda_line(b, "const int lane_row = threadIdx.x / %u, at = blockIdx.x * %u + threadIdx.x %% %u;", columns, columns, columns);
	declare(b, reduce, n);
	cuda_open(b, "if (at < %lld)", (long long)all);
	cuda_line(b, "#pragma unroll %u", TURN);
	cuda_open(b, "for (int c = lane_row; c < %u; c += %u)", s->chunks, THREADS / columns);
	for (u32 i = 0; i < n; i++)
		cuda_line(b, "a%u[0] = %s::of(a%u[0], %s[(i64)c * %lld + at]);", reduce[i],
			  cuda_reduce_function(t->arena, &k->inst.v[reduce[i]]), reduce[i], partials(b, s, reduce[i]),
			  (long long)all);
	cuda_close(b);
	cuda_close(b);
	for (u32 i = 0; i < n; i++)
		combine(b, reduce[i], THREADS / columns, columns);
	u32 dim[KERNEL_DIMS], nd = 0;
	i64 extent[KERNEL_DIMS];
	for (u32 d = 0; d < k->ndim; d++)
		if (k->dim[d].role != DIM_REDUCE) {
			dim[nd] = d;
			extent[nd++] = k->dim[d].extent;
		}
	cuda_open(b, "if (lane_row == 0 && at < %lld)", (long long)all);
	cuda_unflatten_list(b, nd, dim, extent, "at");
	finish(b, s, reduce, n);
	cuda_close(b);
	cuda_end(b);
}

static void emit_column(CudaText *t, const Kernel *k, const char *name)
{
	CudaNeeds needs = needs_column(t->arch, k);
	if (!needs.nphase)
		return;
	Shape s = shape_of(k);
	emit_rows(t, k, &s, name, &needs);
	if (s.chunks > 1)
		emit_chunks(t, k, &s, name, &needs);
}

const CudaKernelClass cuda_column = { .needs = needs_column, .emit = emit_column };
