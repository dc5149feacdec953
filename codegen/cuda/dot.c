/* codegen/cuda/dot.c: DOT kernels: which kind of kernel runs one, how work is divided, and what all kinds share: the
 * tile of a block, the split of K, the body after the sum. See dot.h.
 *
 * Where the result has few tiles and K is long, K is split: each part is summed by blocks of its own into the
 * workspace, and a second phase adds the parts in order and runs the body. The choice follows from the shape alone, so
 * that a kernel gives the same bits on every device of its kind. */
#include "codegen/cuda/dot.h"

#include <string.h>

enum {
	UNITS = 132,      /* multiprocessors that divisions aim at, whatever the device has */
	MOST_SPLITS = 32,
	BAND = 8,         /* tiles of rows that are taken together, so that they share columns in the L2 cache */
	SPLIT_THREADS = 256
};

Dot dot_of(const CudaArch *arch, const Kernel *k)
{
	bool dot = k->class == KERNEL_DOT;
	return (Dot){ .k = k, .arch = arch, .b = dot_range(k, dot ? DIM_BATCH : DIM_G), .m = dot_range(k, DIM_M),
		      .n = dot_range(k, DIM_N), .kr = dot_range(k, DIM_K), .splits = 1,
		      .grouped = k->class == KERNEL_GROUPED, .weights = k->class == KERNEL_GROUPED_WEIGHTS };
}

static i64 div_up(i64 a, i64 b)
{
	return (a + b - 1) / b;
}

static i64 tiles_m(const Dot *d, DotTile t)
{
	/* a group's last tile is not whole, and neither is what lies between groups */
	return d->grouped ? d->m.n / t.rows + 2 * d->b.n + 1 : div_up(d->m.n, t.rows);
}

static i64 tiles_n(const Dot *d, DotTile t)
{
	return div_up(d->n.n, t.columns);
}

static i64 batches(const Dot *d)
{
	return d->grouped ? 1 : d->b.n;
}

/* Time of a division in multiply-adds of one multiprocessor: whole waves of blocks, and the parts of a split through
 * memory. */
static f64 cost(const Dot *d, const DotChoice *c, i64 splits)
{
	const DotTile *t = &c->tile;
	f64 blocks = (f64)(tiles_m(d, *t) * tiles_n(d, *t) * batches(d) * splits);
	f64 waves = (f64)(i64)((blocks + UNITS - 1) / UNITS);
	f64 steps = (f64)div_up(div_up(d->kr.n, t->depth), splits) + c->overhead;
	f64 through = splits > 1 ? (f64)(d->m.n * d->n.n * batches(d)) * (f64)(splits + 1) * 5 + 4e6 : 0;
	return waves * (f64)t->rows * (f64)t->columns * steps * t->depth / c->efficiency + through;
}

u32 dot_choose(Dot *d, const DotChoice *choice, u32 n, bool may_split)
{
	f64 best = -1;
	u32 chosen = 0;
	for (u32 i = 0; i < n; i++) {
		i64 steps = div_up(d->kr.n, choice[i].tile.depth);
		f64 size = (f64)d->m.n * (f64)d->n.n * (f64)batches(d);
		i64 most = may_split && size < 0x1p28 ? MIN(MOST_SPLITS, MAX(1, steps / 8)) : 1;
		for (i64 s = 1; s <= most; s++) {
			i64 each = MAX(1, div_up(steps, s));
			if (s > 1 && div_up(steps, each) != s)
				continue; /* another number of parts is the same division */
			f64 c = cost(d, &choice[i], s);
			if (best < 0 || c < best) {
				best = c;
				chosen = i;
				d->splits = (u32)s;
				d->split = each;
			}
		}
	}
	dot_set_tile(d, choice[chosen].tile);
	return chosen;
}

/* ---- needs ---- */

CudaNeeds dot_needs(const Dot *d, u32 shared)
{
	CudaNeeds n = { .nphase = 1 };
	if (!d->m.n || !d->n.n || !d->b.n)
		return (CudaNeeds){ 0 }; /* nothing to compute */
	i64 blocks = tiles_m(d, d->tile) * tiles_n(d, d->tile) * batches(d) * d->splits;
	n.launch[0] = (CudaLaunch){ .grid = { (u32)blocks, 1, 1 }, .block = { d->tile.threads, 1, 1 }, .shared = shared };
	if (d->splits > 1) {
		i64 size = d->m.n * d->n.n * batches(d);
		n.workspace = (u64)size * d->splits * (d->k->compute == DT_f64 ? 8 : 4);
		u32 grid = (u32)div_up(size / dot_epilogue_width(d, 4), SPLIT_THREADS);
		n.launch[n.nphase++] = (CudaLaunch){ .grid = { grid, 1, 1 }, .block = { SPLIT_THREADS, 1, 1 } };
	}
	return n;
}

/* ---- text ---- */

u32 dot_epilogue_width(const Dot *d, u32 most)
{
	i64 extent = d->k->dim[dot_inner(d->k, d->n)].extent;
	while (most > 1 && extent % most)
		most /= 2;
	return most;
}

static DType sum_type(const Dot *d)
{
	return d->k->compute == DT_f64 ? DT_f64 : DT_f32;
}

void dot_epilogue(CudaBody *b, const Dot *d, const char *sum, u32 width)
{
	const Kernel *k = d->k;
	u32 mark = cuda_mark(b);
	b->vector_dim = width > 1 ? dot_inner(k, d->n) : NONE;
	b->width = b->vector_align = width;
	for (u32 i = 1; i < k->inst.n; i++) {
		DType to = (DType)k->inst.v[i].dtype;
		if (k->inst.v[i].op != K_acc)
			continue;
		const char *name = sum;
		if (to != sum_type(d)) {
			name = arena_printf(b->t->arena, "acc%u", i);
			cuda_line(b, "%s %s[%u]; EACH(%u) %s[j] = %s;", cuda_value_type(to), name, width, width, name,
				  cuda_convert(b->t->arena, sum_type(d), to, arena_printf(b->t->arena, "%s[j]", sum)));
		}
		cuda_set(b, (KVal){ i }, width > 1 ? name : arena_printf(b->t->arena, "%s[0]", name), width > 1);
	}
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_store)
			cuda_store(b, i);
	b->vector_dim = NONE;
	b->width = 1;
	cuda_release(b, mark);
}

/* One of an operand's integers: where a group begins or ends. */
static void group_bounds(CudaBody *b, const Dot *d, const char *group, const char *most)
{
	u32 mark = cuda_mark(b);
	b->coord[d->b.first] = group;
	cuda_open(b, "%s", "");
	const char *from = cuda_scalar(b, d->k->operand[2]), *to = cuda_scalar(b, d->k->operand[3]);
	cuda_line(b, "begin = max(0, min(%s, (int)%s));", most, from);
	cuda_line(b, "end = max(begin, min(%s, (int)%s));", most, to);
	cuda_close(b);
	cuda_release(b, mark);
}

/* Finds the block's piece of rows: groups follow each other, with rows of no group before, between and after. */
static void begin_grouped(CudaBody *b, const Dot *d)
{
	i64 tn = tiles_n(d, d->tile), M = d->m.n, G = d->b.n;
	u32 rows = d->tile.rows;
	cuda_line(b, "int left = (int)(blockIdx.x / %lldu), n_tile = (int)(blockIdx.x %% %lldu);", (long long)tn,
		  (long long)tn);
	cuda_line(b, "int m0 = -1, m_end = 0, batch = %lld, k_end = 0, done = 0;", (long long)G - 1);
	cuda_open(b, "for (int g = 0; g < %lld && m0 < 0; g++)", (long long)G);
	cuda_line(b, "int begin, end;");
	group_bounds(b, d, "g", arena_printf(b->t->arena, "%lld", (long long)M));
	cuda_line(b, "const int gap = (max(begin - done, 0) + %u) / %u;", rows - 1, rows);
	cuda_line(b, "if (left < gap) m0 = done + left * %u, m_end = begin;", rows);
	cuda_line(b, "left -= gap;");
	cuda_line(b, "begin = max(begin, done);");
	cuda_line(b, "const int own = (max(end - begin, 0) + %u) / %u;", rows - 1, rows);
	cuda_line(b, "if (m0 < 0 && left < own) m0 = begin + left * %u, m_end = end, batch = g, k_end = %lld;", rows,
		  (long long)d->kr.n);
	cuda_line(b, "left -= own;");
	cuda_line(b, "done = max(end, done);");
	cuda_close(b);
	cuda_line(b, "if (m0 < 0) m0 = done + left * %u, m_end = %lld;", rows, (long long)M);
	cuda_line(b, "if (m0 >= m_end) return;");
	cuda_line(b, "const int n0 = n_tile * %u, n_end = %lld, k_begin = 0;", d->tile.columns, (long long)d->n.n);
}

void dot_place(CudaBody *b, const Dot *d, const char *unit, u32 bands)
{
	const DotTile *t = &d->tile;
	long long tm = tiles_m(d, *t), tn = tiles_n(d, *t), band = (long long)bands * tn;
	cuda_line(b, "const int tile = (int)((u32)%s %% %lldu), rest = (int)((u32)%s / %lldu);", unit, tm * tn, unit,
		  tm * tn);
	cuda_line(b, "const int split = rest %% %u, batch = rest / %u;", d->splits, d->splits);
	cuda_line(b, "const int band = tile / %lld, in_band = tile %% %lld;", band, band);
	cuda_line(b, "const int height = min(%u, %lld - band * %u);", bands, tm, bands);
	cuda_line(b, "const int m0 = (band * %u + in_band %% height) * %u, n0 = in_band / height * %u;", bands, t->rows,
		  t->columns);
	cuda_line(b, "const int m_end = %lld, n_end = %lld;", (long long)d->m.n, (long long)d->n.n);
	if (d->weights) {
		cuda_line(b, "int begin, end;");
		group_bounds(b, d, "batch", arena_printf(b->t->arena, "%lld", (long long)d->kr.n));
		cuda_line(b, "const int k_begin = begin, k_end = end;");
	} else if (d->splits > 1) {
		cuda_line(b, "const int k_begin = split * %lld, k_end = min(%lld, k_begin + %lld);",
			  (long long)d->split * t->depth, (long long)d->kr.n, (long long)d->split * t->depth);
	} else {
		cuda_line(b, "const int k_begin = 0, k_end = %lld;", (long long)d->kr.n);
	}
	dot_coordinates(b, d->b, "batch", "batch");
	cuda_line(b, "const int steps = (k_end - k_begin + %u) / %u;", t->depth - 1, t->depth);
}

void dot_begin(CudaBody *b, const Dot *d, const char *name, u32 blocks, const CudaNeeds *needs)
{
	const DotTile *t = &d->tile;
	cuda_begin(b, name, 0, t->threads, blocks, needs);
	cuda_line(b, "extern __shared__ __align__(1024) u8 pl_shared[];");
	cuda_line(b, "const int thread = (int)threadIdx.x;");
	if (d->grouped) {
		begin_grouped(b, d);
	} else {
		dot_place(b, d, "blockIdx.x", BAND);
		return;
	}
	dot_coordinates(b, d->b, "batch", "batch");
	cuda_line(b, "const int steps = (k_end - k_begin + %u) / %u;", t->depth - 1, t->depth);
}

void dot_finish(CudaBody *b, const Dot *d, const char *sum, u32 width)
{
	const char *m = d->grouped || d->m.n % d->tile.rows ? "m < m_end" : NULL;
	const char *n = d->n.n % d->tile.columns ? "n < n_end" : NULL;
	cuda_line(b, "const int m = m0 + row, n = n0 + column;");
	if (m || n)
		cuda_open(b, "if (%s%s%s)", m ? m : "", m && n ? " && " : "", n ? n : "");
	if (d->splits > 1) {
		const char *type = dtype_info[sum_type(d)].name;
		cuda_line(b, "pl_store_%s<%u, %u>((%s *)workspace + (((i64)split * %lld + batch) * %lld + m) * %lld + n, %s);",
			  type, width, MIN(width, 16u / dtype_info[sum_type(d)].bytes), cuda_value_type(sum_type(d)),
			  (long long)batches(d), (long long)d->m.n, (long long)d->n.n, sum);
	} else {
		dot_coordinates(b, d->m, "m", "m");
		dot_coordinates(b, d->n, "n", "n");
		dot_epilogue(b, d, sum, width);
	}
	if (m || n)
		cuda_close(b);
}

void dot_emit_splits(CudaText *t, const Dot *d, const char *name, u32 phase, const CudaNeeds *needs)
{
	if (d->splits == 1)
		return;
	CudaBody body = cuda_body(t, d->k), *b = &body;
	u32 w = dot_epilogue_width(d, 4), piece = MIN(w, 16u / dtype_info[sum_type(d)].bytes);
	long long size = d->m.n * d->n.n * batches(d);
	const char *type = cuda_value_type(sum_type(d)), *load = dtype_info[sum_type(d)].name;
	cuda_begin(b, name, phase, SPLIT_THREADS, 0, needs);
	cuda_line(b, "const int i = ((int)blockIdx.x * %d + (int)threadIdx.x) * %u;", SPLIT_THREADS, w);
	cuda_line(b, "if (i >= %lld) return;", size);
	cuda_line(b, "const %s *part = (const %s *)workspace + i;", type, type);
	cuda_line(b, "%s sum[%u], more[%u];", type, w, w);
	cuda_line(b, "pl_load_%s<%u, %u>(sum, part);", load, w, piece);
	cuda_line(b, "#pragma unroll 4");
	cuda_open(b, "for (int s = 1; s < %u; s++)", d->splits);
	cuda_line(b, "pl_load_%s<%u, %u>(more, part + (i64)s * %lld);", load, w, piece, size);
	cuda_line(b, "EACH(%u) sum[j] += more[j];", w);
	cuda_close(b);
	cuda_line(b, "const int r = i / %lld, n = i %% %lld, batch = r / %lld, m = r %% %lld;", (long long)d->n.n,
		  (long long)d->n.n, (long long)d->m.n, (long long)d->m.n);
	dot_coordinates(b, d->b, "batch", "batch");
	dot_coordinates(b, d->m, "m", "m");
	dot_coordinates(b, d->n, "n", "n");
	dot_epilogue(b, d, "sum", w);
	cuda_end(b);
}

/* ---- the class ---- */

static bool tensor(const Kernel *k)
{
	return dtype_is_narrow_float(k->compute);
}

static Dot divided(const CudaArch *arch, const Kernel *k)
{
	Dot d = dot_of(arch, k);
	if (tensor(k))
		dot_tensor_divide(&d);
	else
		dot_cores_divide(&d);
	return d;
}

/* Tensor cores multiply pairs, or fours, of elements that follow each other along K; of 16 bits ldmatrix turns them so, of 8 it
 * cannot. */
static const char *refuses_f8(const CudaArch *arch, const Kernel *k)
{
	if (arch->major * 10 + arch->minor < 89)
		return "products of 8 bits need compute capability 8.9 or later";
	Dot d = divided(arch, k);
	return d.a.along_k && d.o.along_k ? NULL : "products of 8 bits are of operands in which what is summed over runs fastest";
}

static const char *refuses(const CudaArch *arch, const Kernel *k)
{
	if (arch->major < 8)
		return "matrix products need compute capability 8.0 or later";
	if (!tensor(k) && k->compute != DT_f32 && k->compute != DT_f64)
		return "products are taken in floats of 8 bits, bf16, f16, f32 and f64 only";
	const DimRole role[] = { DIM_BATCH, DIM_G, DIM_M, DIM_N, DIM_K };
	f64 all = 1;
	for (u32 i = 0; i < COUNT(role); i++) {
		f64 n = (f64)dot_range(k, role[i]).n;
		if (n >= 0x1p31 - 256)
			return "a matrix has 2^31 rows or columns, or more";
		all *= role[i] == DIM_K ? 1 : MAX(n, 1);
	}
	/* blocks are numbered along x alone, and the smallest tile has 256 elements */
	if (all / 256 >= 0x1p31)
		return "the result has too many tiles for one grid";
	return dtype_is_f8(k->compute) ? refuses_f8(arch, k) : NULL;
}

static CudaNeeds needs(const CudaArch *arch, const Kernel *k)
{
	if (dot_sums(k))
		return dot_sums_needs(arch, k);
	if (k->class == KERNEL_DOT && dot_hopper(arch, k))
		return dot_hopper_needs(arch, k);
	Dot d = divided(arch, k);
	return dot_needs(&d, tensor(k) ? dot_tensor_shared(&d) : dot_cores_shared(&d));
}

static void emit(CudaText *t, const Kernel *k, const char *name)
{
	if (dot_sums(k)) {
		dot_sums_emit(t, k, name);
		return;
	}
	if (k->class == KERNEL_DOT && dot_hopper(t->arch, k)) {
		dot_hopper_emit(t, k, name);
		return;
	}
	Dot d = divided(t->arch, k);
	CudaNeeds n = needs(t->arch, k);
	if (!n.nphase)
		return;
	CudaBody b = cuda_body(t, k);
	if (tensor(k))
		dot_tensor_emit(&b, &d, name, &n);
	else
		dot_cores_emit(&b, &d, name, &n);
	dot_emit_splits(t, &d, name, 1, &n);
}

const CudaKernelClass cuda_dot = { refuses, needs, emit };
const CudaKernelClass cuda_grouped = { refuses, needs, emit };
const CudaKernelClass cuda_grouped_weights = { refuses, needs, emit };
