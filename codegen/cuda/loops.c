/* codegen/cuda/loops.c: MAP kernels. The domain is flattened, with the dimension along which most of the memory
 * lies side by side as the fastest; a thread takes `width` consecutive elements of it (16 bytes of the widest
 * access) in each of its turns, a block's threads apart, so that neighbouring threads touch neighbouring memory and
 * several loads are under way in each.
 *
 * Where the fastest extent is odd (50257), but memory is that of the flattened domain, vectors are cut from the
 * flattened index: those that reach into the next row go an element at a time. What is read across what is
 * written goes through tiles (transpose.c). */
#include "codegen/cuda/loops.h"

#include <string.h>

enum { THREADS = 256, MOST_TURNS = 8, BLOCKS = 2048 };

typedef struct Shape {
	u32 fast;     /* dimension */
	u32 width;    /* elements of it at once */
	u32 turns, unroll;
	bool tail;    /* the last vector of a row may be cut short */
	bool flat;    /* vectors are of the flattened domain */
	u32 ndim, dim[KERNEL_DIMS]; /* all dimensions, the fast one last */
	i64 extent[KERNEL_DIMS];    /* in vectors along the fast one, unless flat */
	i64 total;    /* vectors */
	i64 elements;
} Shape;

/* Bytes that instruction i moves for each element, 0 if it moves none. */
static u32 bytes_of(const Kernel *k, u32 i)
{
	const KInst *in = &k->inst.v[i];
	return in->op == K_load || in->op == K_store ? dtype_info[in->dtype].bytes : 0;
}

/* Bytes that it moves in all, if each element moves once. */
f64 cuda_traffic(const Kernel *k, u32 i)
{
	f64 n = bytes_of(k, i);
	for (u32 d = 0; d < k->ndim; d++)
		n *= k->inst.v[i].depends >> d & 1 ? (f64)k->dim[d].extent : 1;
	return n;
}

/* The dimension along which the most memory is contiguous; the last where none is. */
static u32 fast_dim(const Kernel *k)
{
	u32 best = k->ndim - 1;
	f64 most = 0;
	for (u32 d = k->ndim; d-- > 0;) {
		f64 bytes = 0;
		for (u32 i = 1; i < k->inst.n; i++)
			if (bytes_of(k, i) && cuda_stride(k, k->inst.v[i].access, d) == 1)
				bytes += cuda_traffic(k, i);
		if (bytes > most) {
			most = bytes;
			best = d;
		}
	}
	return best;
}

/* Are there values for all points that take longer than the memory of one? */
static bool costly_uniforms(const Kernel *k)
{
	for (u32 i = 1; i < k->inst.n; i++)
		if (!k->inst.v[i].depends && cuda_costly(&k->inst.v[i]))
			return true;
	return false;
}

static Shape shape_of(const Kernel *k)
{
	Shape s = { .fast = fast_dim(k), .ndim = k->ndim, .elements = cuda_extent_product(k, 0, k->ndim), .turns = 1 };
	u32 loaded = 0;
	for (u32 i = 1; i < k->inst.n; i++)
		loaded += k->inst.v[i].op == K_load ? bytes_of(k, i) : 0;
	i64 n = k->dim[s.fast].extent;
	bool alone = s.elements == n; /* then the only vector that is cut is the last */
	s.width = cuda_vector_width(k, s.fast, alone ? CUDA_LAST : CUDA_WHOLE);
	/* rows with gaps behind them */
	u32 pitched = cuda_vector_width(k, s.fast, CUDA_LAST);
	if (pitched > s.width && n >= 16 * pitched)
		s.width = pitched;
	u32 flat = alone || s.fast != k->ndim - 1 ? 0 : cuda_vector_width(k, s.fast, CUDA_FLAT);
	s.flat = flat > s.width && n >= 16 * flat;
	s.width = s.flat ? flat : s.width;
	s.tail = !s.flat && n % s.width != 0;
	u32 at = 0;
	for (u32 d = 0; d < k->ndim; d++)
		if (d != s.fast) {
			s.dim[at] = d;
			s.extent[at++] = k->dim[d].extent;
		}
	s.dim[at] = s.fast;
	s.extent[at] = s.flat ? n : (n + s.width - 1) / s.width;
	s.total = 1;
	for (u32 d = 0; d < s.ndim; d++)
		s.total *= s.extent[d];
	if (s.flat)
		s.total = (s.total + s.width - 1) / s.width;
	/* some 64 bytes under way in each thread, unless registers or blocks become few */
	while (s.turns < 4 && s.turns * s.width * loaded < 48 && k->inst.n * s.turns * s.width < 400 && !s.flat &&
	       s.total / (THREADS * s.turns * 2) >= BLOCKS)
		s.turns *= 2;
	s.unroll = s.turns;
	/* what one thread computes for its block should serve many */
	if (costly_uniforms(k))
		while (s.turns < MOST_TURNS && s.total / (THREADS * s.turns * 2) >= BLOCKS / 4)
			s.turns *= 2;
	return s;
}

static CudaNeeds needs_map(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	CudaNeeds n = { 0 };
	if (cuda_is_transpose(k))
		return cuda_transpose_needs(k);
	Shape s = shape_of(k);
	i64 block = (i64)THREADS * s.turns;
	if (!s.total)
		return n;
	n.nphase = 1;
	n.launch[0] = (CudaLaunch){ .grid = { (u32)((s.total + block - 1) / block), 1, 1 }, .block = { THREADS, 1, 1 } };
	return n;
}

/* The condition, with b->guard, under which a point stores: what is the same for all points along a dimension is stored by the first. */
static const char *stored_once(CudaBody *b, const KInst *store)
{
	Buf test = { .arena = b->t->arena };
	for (u32 d = 0; d < b->k->ndim; d++)
		if (b->k->dim[d].extent != 1 && !(store->depends >> d & 1) && strcmp(b->coord[d], "0") != 0)
			buf_printf(&test, "%s%s == 0", test.n ? " && " : "", b->coord[d]);
	if (!test.n)
		return b->guard;
	return b->guard ? arena_printf(b->t->arena, "(%s) && %s", b->guard, test.text) : test.text;
}

void cuda_emit_point(CudaBody *b)
{
	const char *guard = b->guard;
	const Kernel *k = b->k;
	for (u32 i = 1; i < k->inst.n; i++)
		if (k->inst.v[i].op == K_load)
			cuda_element(b, (KVal){ i }, 0);
	for (u32 i = 1; i < k->inst.n; i++) {
		if (k->inst.v[i].op != K_store)
			continue;
		b->guard = stored_once(b, &k->inst.v[i]);
		cuda_store(b, i);
		b->guard = guard;
	}
}

/* A vector of the fast dimension at vector number `at`. */
static void emit_vector(CudaBody *b, const Shape *s)
{
	const Kernel *k = b->k;
	long long n = k->dim[s->fast].extent;
	cuda_unflatten_list(b, s->ndim, s->dim, s->extent, "at");
	b->vector_dim = s->fast;
	b->width = b->vector_align = s->width;
	if (s->width > 1) {
		cuda_line(b, "const int x = (int)%s * %u;", b->coord[s->fast], s->width);
		b->coord[s->fast] = "x";
	}
	u32 mark = cuda_mark(b);
	if (!s->tail) {
		cuda_emit_point(b);
		cuda_release(b, mark);
		return;
	}
	cuda_open(b, "if (x + %u <= %lld)", s->width, n);
	cuda_emit_point(b);
	cuda_release(b, mark);
	cuda_close(b);
	cuda_open(b, "else");
	b->guard_each = arena_printf(b->t->arena, "x + %%u < %lld", n);
	cuda_emit_point(b);
	cuda_release(b, mark);
	cuda_close(b);
	b->guard_each = NULL;
}

/* A vector of the flattened domain: of one row, or an element at a time. */
static void emit_flat(CudaBody *b, const Shape *s, const char *type)
{
	const Kernel *k = b->k;
	u32 mark = cuda_mark(b);
	cuda_line(b, "const %s flat = at * %u;", type, s->width);
	cuda_unflatten_list(b, s->ndim, s->dim, s->extent, "flat");
	b->vector_dim = s->fast;
	b->width = b->flat_align = s->width;
	b->vector_align = 1;
	cuda_open(b, "if (%s + %u <= %lld)", b->coord[s->fast], s->width, (long long)k->dim[s->fast].extent);
	cuda_emit_point(b);
	cuda_release(b, mark);
	cuda_close(b);
	cuda_open(b, "else");
	cuda_line(b, "#pragma unroll 1");
	const char *end = s->elements % s->width ? arena_printf(b->t->arena, " && point < %lld", (long long)s->elements) : "";
	cuda_open(b, "for (%s point = flat; point < flat + %u%s; point++)", type, s->width, end);
	b->width = 1;
	b->flat_align = 0;
	cuda_unflatten_list(b, s->ndim, s->dim, s->extent, "point");
	cuda_emit_point(b);
	cuda_release(b, mark);
	cuda_close(b);
	cuda_close(b);
}

static void emit_map(CudaText *t, const Kernel *k, const char *name)
{
	CudaNeeds needs = needs_map(t->arch, k);
	if (!needs.nphase)
		return;
	if (cuda_is_transpose(k)) {
		cuda_transpose_emit(t, k, name);
		return;
	}
	Shape s = shape_of(k);
	CudaBody body = cuda_body(t, k), *b = &body;
	cuda_begin(b, name, 0, THREADS, 0, &needs);
	bool few = s.elements <= THREADS;
	if (!few)
		cuda_hoist_uniform(b);
	bool wide = s.elements + THREADS * 64 >= 1ll << 31;
	const char *type = wide ? "i64" : "int", *cast = wide ? "(i64)" : "(int)";
	if (s.turns > 1) {
		cuda_line(b, "#pragma unroll %u", s.unroll);
		cuda_open(b, "for (int turn = 0; turn < %u; turn++)", s.turns);
		cuda_line(b, "const %s at = (%sblockIdx.x * %u + turn) * %u + (int)threadIdx.x;", type, cast, s.turns, THREADS);
	} else {
		cuda_line(b, "const %s at = %sblockIdx.x * %u + (int)threadIdx.x;", type, cast, THREADS);
	}
	if (s.total % ((i64)THREADS * s.turns))
		cuda_line(b, "if (at >= %lld) return;", (long long)s.total);
	if (few) /* behind the return: where the result lies in an operand's place, another warp may have written there */
		cuda_hoist(b, 0, NULL);
	if (s.flat)
		emit_flat(b, &s, type);
	else
		emit_vector(b, &s);
	if (s.turns > 1)
		cuda_close(b);
	cuda_end(b);
}

const CudaKernelClass cuda_map = { .needs = needs_map, .emit = emit_map };
