/* codegen/cuda/transpose.c: MAP kernels that read along another dimension than they write. A block takes a square tile of the
 * two dimensions: what is read across is read along its own dimension into shared memory (rows a word longer than the tile, so
 * that columns lie in different banks), then the body runs along the other. */
#include "codegen/cuda/loops.h"

enum { THREADS = 256, TILE = 32, TURNS = TILE * TILE / THREADS };

typedef struct Tile {
	u32 p, q;         /* dimensions: read along, written along */
	i64 np, nq;       /* tiles along them */
	u32 ndim, dim[KERNEL_DIMS]; /* the others */
	i64 extent[KERNEL_DIMS + 2];
	i64 blocks;
} Tile;

/* Along which dimension, of those longer than half a tile, memory of these instructions is contiguous, by most bytes;
 * NONE: along none. `but`: not this one. */
static u32 contiguous_dim(const Kernel *k, KOp op, u32 but)
{
	u32 best = NONE;
	f64 most = 0;
	for (u32 d = 0; d < k->ndim; d++) {
		f64 bytes = 0;
		for (u32 i = 1; i < k->inst.n; i++)
			if (k->inst.v[i].op == op && cuda_stride(k, k->inst.v[i].access, d) == 1)
				bytes += cuda_traffic(k, i);
		if (bytes > most && d != but && k->dim[d].extent >= TILE / 2) {
			most = bytes;
			best = d;
		}
	}
	return best;
}

/* Is load i read along p, for every q? */
static bool across(const Kernel *k, u32 i, u32 p, u32 q)
{
	const KInst *in = &k->inst.v[i];
	return in->op == K_load && cuda_stride(k, in->access, p) == 1 && (in->depends >> q & 1);
}

static bool tile_of(const Kernel *k, Tile *t)
{
	*t = (Tile){ .q = contiguous_dim(k, K_store, NONE), .blocks = 1 };
	if (t->q == NONE)
		return false;
	t->p = contiguous_dim(k, K_load, t->q);
	if (t->p == NONE)
		return false;
	/* worth it where what is read across is a good part of all */
	f64 all = 0, read = 0;
	for (u32 i = 1; i < k->inst.n; i++) {
		all += cuda_traffic(k, i);
		read += across(k, i, t->p, t->q) ? cuda_traffic(k, i) : 0;
	}
	if (read * 4 < all)
		return false;
	t->np = (k->dim[t->p].extent + TILE - 1) / TILE;
	t->nq = (k->dim[t->q].extent + TILE - 1) / TILE;
	for (u32 d = 0; d < k->ndim; d++)
		if (d != t->p && d != t->q) {
			t->dim[t->ndim] = d;
			t->extent[t->ndim++] = k->dim[d].extent;
		}
	t->blocks = t->np * t->nq;
	for (u32 d = 0; d < t->ndim; d++)
		t->blocks *= t->extent[d];
	return t->blocks < 1ll << 31;
}

bool cuda_is_transpose(const Kernel *k)
{
	Tile t;
	return tile_of(k, &t);
}

CudaNeeds cuda_transpose_needs(const Kernel *k)
{
	Tile t;
	CudaNeeds n = { 0 };
	if (tile_of(k, &t) && t.blocks) {
		n.nphase = 1;
		n.launch[0] = (CudaLaunch){ .grid = { (u32)t.blocks, 1, 1 }, .block = { THREADS, 1, 1 } };
	}
	return n;
}

/* The loop over a tile, lanes along dimension `along`, with its guard. */
static void open_turns(CudaBody *b, u32 along, const char *lanes_from, u32 other, const char *from)
{
	const Kernel *k = b->k;
	cuda_line(b, "#pragma unroll");
	cuda_open(b, "for (int turn = 0; turn < %u; turn++)", TURNS);
	cuda_line(b, "const int in = turn * %u + row;", THREADS / TILE);
	cuda_line(b, "const int x = %s + lane, y = %s + in;", lanes_from, from);
	b->coord[along] = "x";
	b->coord[other] = "y";
	b->guard = NULL;
	if (k->dim[along].extent % TILE || k->dim[other].extent % TILE)
		b->guard = arena_printf(b->t->arena, "x < %lld && y < %lld", (long long)k->dim[along].extent,
					(long long)k->dim[other].extent);
}

void cuda_transpose_emit(CudaText *text, const Kernel *k, const char *name)
{
	Tile t;
	if (!tile_of(k, &t))
		NEVER("a kernel that is no transposition");
	CudaNeeds needs = cuda_transpose_needs(k);
	CudaBody body = cuda_body(text, k), *b = &body;
	Arena *a = text->arena;
	cuda_begin(b, name, 0, THREADS, 4, &needs); /* 64 registers: left alone, ptxas would rather spill than use more than 32 */
	cuda_hoist_uniform(b);
	cuda_line(b, "const int lane = threadIdx.x %% %u, row = threadIdx.x / %u;", TILE, TILE);
	cuda_line(b, "const int tile = (u32)blockIdx.x / %lldu, q0 = (blockIdx.x - tile * %lld) * %u;", (long long)t.nq,
		  (long long)t.nq, TILE);
	cuda_line(b, "const int outer = (u32)tile / %lldu, p0 = (tile - outer * %lld) * %u;", (long long)t.np, (long long)t.np,
		  TILE);
	cuda_unflatten_list(b, t.ndim, t.dim, t.extent, "outer");
	for (u32 i = 1; i < k->inst.n; i++)
		if (across(k, i, t.p, t.q)) {
			DType d = (DType)k->inst.v[i].dtype;
			u32 size = dtype_info[d].bytes, pad = size < 4 ? 4 / size : 1;
			cuda_line(b, "__shared__ %s tile%u[%u][%u];", cuda_memory_type(d), i, TILE, TILE + pad);
		}
	u32 mark = cuda_mark(b);
	open_turns(b, t.p, "p0", t.q, "q0");
	for (u32 i = 1; i < k->inst.n; i++)
		if (across(k, i, t.p, t.q))
			cuda_line(b, "tile%u[in][lane] = %s;", i,
				  cuda_narrow(a, (DType)k->inst.v[i].dtype, cuda_scalar(b, (KVal){ i })));
	cuda_close(b);
	cuda_release(b, mark);
	cuda_line(b, "__syncthreads();");
	open_turns(b, t.q, "q0", t.p, "p0");
	for (u32 i = 1; i < k->inst.n; i++)
		if (across(k, i, t.p, t.q)) {
			DType d = (DType)k->inst.v[i].dtype;
			const char *v = arena_printf(a, "v%u", i);
			cuda_line(b, "const %s %s = %s;", cuda_value_type(d), v,
				  cuda_widen(a, d, arena_printf(a, "tile%u[lane][in]", i)));
			cuda_set(b, (KVal){ i }, v, false);
		}
	cuda_emit_point(b);
	cuda_close(b);
	cuda_release(b, mark);
	cuda_end(b);
}
