/* codegen/cuda/loops.c: MAP kernels. The domain is flattened, with the dimension along which most of the memory
 * lies side by side as the fastest; a thread takes `width` consecutive elements of it (16 bytes of the widest
 * access), `unroll` times, a block's threads apart, so that neighbouring threads touch neighbouring memory and
 * several loads are under way in each. */
#include "codegen/cuda/body.h"
#include "codegen/cuda/kernels.h"

enum { THREADS = 256 };

typedef struct Shape {
	u32 fast;     /* dimension */
	u32 width;    /* elements of it at once */
	u32 unroll;
	bool tail;    /* the last vector may be cut short */
	u32 ndim, dim[KERNEL_DIMS]; /* all dimensions, the fast one last */
	i64 extent[KERNEL_DIMS];    /* in vectors along the fast one */
	i64 total;    /* vectors */
} Shape;

/* Bytes that instruction i moves for each element, 0 if it moves none. */
static u32 bytes_of(const Kernel *k, u32 i)
{
	const KInst *in = &k->inst.v[i];
	return in->op == K_load || in->op == K_store ? dtype_info[in->dtype].bytes : 0;
}

/* The dimension along which the most bytes are contiguous; the last where none is. */
static u32 fast_dim(const Kernel *k)
{
	u32 best = k->ndim - 1, most = 0;
	for (u32 d = k->ndim; d-- > 0;) {
		u32 bytes = 0;
		for (u32 i = 1; i < k->inst.n; i++)
			if (bytes_of(k, i) && cuda_stride(k, k->inst.v[i].access, d) == 1)
				bytes += bytes_of(k, i);
		if (bytes > most) {
			most = bytes;
			best = d;
		}
	}
	return best;
}

static Shape shape_of(const Kernel *k)
{
	Shape s = { .fast = fast_dim(k), .ndim = k->ndim, .total = 1 };
	u32 loaded = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		loaded += k->inst.v[i].op == K_load ? bytes_of(k, i) : 0;
	i64 n = k->dim[s.fast].extent;
	bool alone = cuda_extent_product(k, 0, k->ndim) == n; /* then the only vector that is cut is the last */
	s.width = cuda_vector_width(k, s.fast, alone);
	s.tail = n % s.width != 0;
	u32 at = 0;
	for (u32 d = 0; d < k->ndim; d++)
		if (d != s.fast) {
			s.dim[at] = d;
			s.extent[at++] = k->dim[d].extent;
		}
	s.dim[at] = s.fast;
	s.extent[at] = (n + s.width - 1) / s.width;
	for (u32 d = 0; d < s.ndim; d++)
		s.total *= s.extent[d];
	/* some 64 bytes under way in each thread, unless registers or blocks become few */
	s.unroll = 1;
	while (s.unroll < 4 && s.unroll * s.width * loaded < 48 && k->inst.n * s.unroll * s.width < 400 &&
	       s.total / (THREADS * s.unroll * 2) >= 2048)
		s.unroll *= 2;
	return s;
}

static CudaNeeds needs_map(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	Shape s = shape_of(k);
	i64 block = (i64)THREADS * s.unroll;
	if (!s.total)
		return (CudaNeeds){ 0 };
	return (CudaNeeds){ .nphase = 1,
			    .launch = { { .grid = { (u32)((s.total + block - 1) / block), 1, 1 },
					  .block = { THREADS, 1, 1 } } } };
}

/* Loads first: they are then under way together, and done before a store that may share their memory. */
static void load_ahead(CudaBody *b)
{
	const Kernel *k = b->k;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_load)
			cuda_element(b, (KVal){ i }, 0);
}

static void emit_point(CudaBody *b)
{
	load_ahead(b);
	for (u32 i = 1; i < b->k->inst.n; i++)
		if (b->k->inst.v[i].op == K_store)
			cuda_store(b, i);
}

static void emit_map(CudaText *t, const Kernel *k, const char *name)
{
	CudaNeeds needs = needs_map(t->arch, k);
	if (!needs.nphase)
		return;
	Shape s = shape_of(k);
	CudaBody b = cuda_body(t, k);
	cuda_begin(&b, name, 0, THREADS, 0, &needs);
	cuda_hoist(&b, 0, NULL);
	bool wide = s.total + THREADS * 8 >= 1ll << 31;
	const char *type = wide ? "i64" : "int";
	if (s.unroll > 1) {
		cuda_line(&b, "#pragma unroll");
		cuda_open(&b, "for (int u = 0; u < %u; u++)", s.unroll);
		cuda_line(&b, "const %s at = (%s)blockIdx.x * %u + u * %u + (int)threadIdx.x;", type, type, THREADS * s.unroll,
			  THREADS);
	} else {
		cuda_line(&b, "const %s at = (%s)blockIdx.x * %u + (int)threadIdx.x;", type, type, THREADS);
	}
	if (s.total % ((i64)THREADS * s.unroll))
		cuda_line(&b, "if (at >= %lld) return;", (long long)s.total);
	cuda_unflatten_list(&b, s.ndim, s.dim, s.extent, "at");
	b.vector_dim = s.fast;
	b.width = b.vector_align = s.width;
	if (s.width > 1) {
		cuda_line(&b, "const int x = (int)%s * %u;", b.coord[s.fast], s.width);
		b.coord[s.fast] = "x";
	}
	u32 mark = cuda_mark(&b);
	if (s.tail) {
		cuda_open(&b, "if (x + %u <= %lld)", s.width, (long long)k->dim[s.fast].extent);
		emit_point(&b);
		cuda_release(&b, mark);
		cuda_close(&b);
		cuda_open(&b, "else");
		b.guard_each = arena_printf(t->arena, "x + %%u < %lld", (long long)k->dim[s.fast].extent);
		emit_point(&b);
		cuda_release(&b, mark);
		cuda_close(&b);
	} else {
		emit_point(&b);
		cuda_release(&b, mark);
	}
	if (s.unroll > 1)
		cuda_close(&b);
	cuda_end(&b);
}

const CudaKernelClass cuda_map = { .needs = needs_map, .emit = emit_map };
