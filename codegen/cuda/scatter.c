/* codegen/cuda/scatter.c: SCATTER kernels: gradients of embeddings. Contributions to one place are added in order of INDEX,
 * without atomics on sums: the same bits every time.
 *
 * Where there are few indices, or places differ along VECTOR dimensions, a thread takes an element at its (PARALLEL, VECTOR)
 * coordinates and walks all indices. Otherwise the pairs (place, index) are sorted by place (preamble/order.cuh), in phases:
 *
 *   count, move   for each 8 bits of a place
 *   starts        where each place's indices begin
 *   sums          a thread takes some elements of a place, and adds its indices' values in order
 *
 * The sums write every element of the result where places tile it, so that it need not be cleared; else a first phase does. */
#include "codegen/cuda/reduce.h"

#include <stdlib.h>

enum { THREADS = 256, FEW_INDICES = 128, CHUNK = 1024, MOST_CHUNKS = 512, UNROLL = 8 };

typedef struct Shape {
	u32 i0, v0;            /* the first INDEX and VECTOR dimension */
	i64 outer, indices, inner;
	bool sorted, clear;
	u32 width;             /* of the last VECTOR dimension */
	i64 places;            /* of one PARALLEL coordinate */
	u32 passes, chunks;
	i64 items, chunk;
} Shape;

typedef struct Stride {
	i64 stride, extent;
} Stride;

static int by_stride(const void *p, const void *q)
{
	const Stride *a = p, *b = q;
	return (a->stride > b->stride) - (a->stride < b->stride);
}

/* Do places and the other dimensions reach every element of the result once? */
static bool tiles(const Kernel *k, const Shape *s)
{
	Stride d[KERNEL_DIMS + 1];
	u32 n = 0;
	const Access *to = k->scatter;
	if (s->places > 1)
		d[n++] = (Stride){ to->dynamic[0].stride, s->places };
	for (u32 i = 0; i < k->ndim; i++)
		if (k->dim[i].role != DIM_INDEX && k->dim[i].extent > 1)
			d[n++] = (Stride){ to->stride[i], k->dim[i].extent };
	qsort(d, n, sizeof *d, by_stride);
	i64 next = 1;
	for (u32 i = 0; i < n; i++) {
		if (d[i].stride != next)
			return false;
		next *= d[i].extent;
	}
	return to->offset == 0 && next == k->slot.v[to->slot].elements;
}

static Shape shape_of(const Kernel *k)
{
	Shape s = { 0 };
	while (k->dim[s.i0].role != DIM_INDEX)
		s.i0++;
	s.v0 = s.i0;
	while (k->dim[s.v0].role == DIM_INDEX)
		s.v0++;
	s.outer = cuda_extent_product(k, 0, s.i0);
	s.indices = cuda_extent_product(k, s.i0, s.v0);
	s.inner = cuda_extent_product(k, s.v0, k->ndim);
	const Access *to = k->scatter;
	i64 left = k->slot.v[to->slot].elements - 1 - to->offset;
	u32 vector = 0;
	bool fixed = true; /* the place alone says where an index's values go */
	for (u32 d = 0; d < k->ndim; d++) {
		if (k->dim[d].role == DIM_INDEX)
			fixed &= cuda_stride(k, to, d) == 0;
		left -= cuda_stride(k, to, d) * (k->dim[d].extent - 1);
		vector |= k->dim[d].role == DIM_VECTOR ? 1u << d : 0;
	}
	i64 step = to->dynamic[0].stride;
	s.places = step > 0 && left > 0 ? left / step + 1 : 1;
	fixed &= !(k->inst.v[k->operand[1].i].depends & vector);
	s.items = s.outer * s.indices;
	f64 keys = (f64)s.outer * (f64)s.places;
	s.sorted = fixed && step > 0 && s.indices > FEW_INDICES && keys < 0x1p24 && (f64)s.items < 0x1p31;
	s.clear = !k->accumulate;
	s.width = 1;
	if (!s.sorted)
		return s;
	if (cuda_stride(k, to, k->ndim - 1) == 1)
		s.width = cuda_vector_width(k, k->ndim - 1, CUDA_WHOLE);
	s.clear = s.clear && !tiles(k, &s);
	for (s.passes = 1; (i64)1 << 8 * s.passes < s.outer * s.places; s.passes++)
		;
	s.chunk = MAX(CHUNK, ((s.items + MOST_CHUNKS - 1) / MOST_CHUNKS + THREADS - 1) / THREADS * THREADS);
	s.chunks = (u32)((s.items + s.chunk - 1) / s.chunk);
	return s;
}

/* Offsets in the workspace: of the pairs before and after each pass, counts, starts. */
typedef struct Layout {
	u64 key[2], item[2], count, start, bytes;
} Layout;

static Layout layout_of(const Shape *s)
{
	Layout l = { 0 };
	u64 list = ALIGN_UP((u64)s->items * 4, 256);
	for (u32 i = 0; i < 2; i++) {
		l.key[i] = 2 * i * list;
		l.item[i] = (2 * i + 1) * list;
	}
	l.count = 4 * list;
	l.start = l.count + (u64)s->chunks * 256 * 4;
	l.bytes = l.start + ALIGN_UP((u64)(s->outer * s->places + 1) * 4, 256);
	return l;
}

static u32 blocks_for(i64 threads)
{
	return (u32)((threads + THREADS - 1) / THREADS);
}

static i64 clear_threads(const Kernel *k)
{
	/* 16 bytes each; the slot is whole 64-byte lines, but not all of the last is its own */
	const KSlot *slot = &k->slot.v[k->scatter->slot];
	return (slot->elements * dtype_info[slot->dtype].bytes + 15) / 16;
}

static CudaNeeds needs_scatter(const CudaArch *arch, const Kernel *k)
{
	(void)arch;
	Shape s = shape_of(k);
	CudaNeeds n = { 0 };
	u32 grid[CUDA_PHASES];
	if (s.clear && k->slot.v[k->scatter->slot].elements)
		grid[n.nphase++] = blocks_for(clear_threads(k));
	if (s.sorted && s.inner) {
		for (u32 i = 0; i < s.passes; i++) {
			grid[n.nphase++] = s.chunks;
			grid[n.nphase++] = s.chunks;
		}
		grid[n.nphase++] = blocks_for(s.items);
		grid[n.nphase++] = blocks_for(s.outer * s.places * (s.inner / s.width));
		n.workspace = layout_of(&s).bytes;
	} else if (s.items && s.inner) {
		grid[n.nphase++] = blocks_for(s.outer * s.inner);
	}
	assert(n.nphase <= CUDA_PHASES);
	for (u32 p = 0; p < n.nphase; p++)
		n.launch[p] = (CudaLaunch){ .grid = { grid[p], 1, 1 }, .block = { THREADS, 1, 1 } };
	return n;
}

/* ---- code ---- */

static void emit_clear(CudaBody *b, const char *name, u32 phase, const CudaNeeds *needs)
{
	const KSlot *slot = &b->k->slot.v[b->k->scatter->slot];
	u32 each = 16 / dtype_info[slot->dtype].bytes;
	cuda_begin(b, name, phase, THREADS, 0, needs);
	cuda_line(b, "const i64 at = ((i64)blockIdx.x * %u + (int)threadIdx.x) * %u;", THREADS, each);
	cuda_line(b, "if (at + %u <= %lld) *(uint4 *)(s%u + at) = make_uint4(0, 0, 0, 0);", each, (long long)slot->elements,
		  b->k->scatter->slot);
	cuda_line(b, "else for (i64 i = at; i < %lld; i++) s%u[i] = 0;", (long long)slot->elements, b->k->scatter->slot);
	cuda_end(b);
}

/* `sum` plus `x`, rounded as the result is stored. */
static const char *plus(CudaBody *b, const char *sum, const char *x)
{
	DType d = b->k->slot.v[b->k->scatter->slot].dtype;
	KInst in = { .op = K_reduce, .reduce = REDUCE_sum, .dtype = (u8)d };
	Arena *a = b->t->arena;
	return cuda_reduce_total(a, &in, arena_printf(a, "%s::of(%s, %s)", cuda_reduce_function(a, &in), sum, x));
}

/* Each thread at its own (PARALLEL, VECTOR) coordinates, through all indices. */
static void emit_walk(CudaBody *b, const Shape *s, const char *name, u32 phase, const CudaNeeds *needs)
{
	const Kernel *k = b->k;
	DType d = k->slot.v[k->scatter->slot].dtype;
	u32 dim[KERNEL_DIMS], n = 0;
	i64 extent[KERNEL_DIMS];
	for (u32 i = 0; i < k->ndim; i++)
		if (k->dim[i].role != DIM_INDEX) {
			dim[n] = i;
			extent[n++] = k->dim[i].extent;
		}
	cuda_begin(b, name, phase, THREADS, 0, needs);
	cuda_line(b, "const int at = blockIdx.x * %u + threadIdx.x;", THREADS);
	cuda_line(b, "if (at >= %lld) return;", (long long)(s->outer * s->inner));
	cuda_unflatten_list(b, n, dim, extent, "at");
	u32 outer = 0;
	for (u32 i = 0; i < n; i++)
		outer |= 1u << dim[i];
	u32 operand[] = { k->operand[0].i, k->operand[1].i };
	cuda_hoist(b, outer, cuda_wanted(b, operand, 2));
	cuda_open(b, "for (int i = 0; i < %lld; i++)", (long long)s->indices);
	cuda_unflatten(b, s->i0, s->v0, "i");
	const char *x = cuda_scalar(b, k->operand[0]);
	const char *to = arena_printf(b->t->arena, "s%u[%s]", k->scatter->slot, cuda_index(b, k->scatter));
	cuda_line(b, "%s = %s;", to, cuda_narrow(b->t->arena, d, plus(b, cuda_widen(b->t->arena, d, to), x)));
	cuda_close(b);
	cuda_end(b);
}

/* A list in the workspace. */
static void list(CudaBody *b, const char *name, u64 offset)
{
	cuda_line(b, "u32 *%s = (u32 *)(workspace + %llu);", name, (unsigned long long)offset);
}

/* The item's place, with PARALLEL coordinates before it: `key`. Item: (PARALLEL, INDEX) flattened. */
static void emit_key(CudaBody *b, const Shape *s)
{
	const Kernel *k = b->k;
	if (s->outer == 1) {
		cuda_unflatten(b, 0, s->i0, "0");
		cuda_unflatten(b, s->i0, s->v0, "item");
	} else {
		cuda_unflatten(b, 0, s->v0, "item");
	}
	const char *place = cuda_scalar(b, k->operand[1]);
	if (s->outer == 1)
		cuda_line(b, "key = (u32)%s;", place);
	else
		cuda_line(b, "key = (u32)(item / %lld) * %lldu + (u32)%s;", (long long)s->indices, (long long)s->places, place);
}

/* Pass `pass` of the sort: counts of digits (`move` false), or pairs to their places. The first pass computes the keys. */
static void emit_pass(CudaBody *b, const Shape *s, const char *name, u32 phase, const CudaNeeds *needs, u32 pass, bool move)
{
	Layout l = layout_of(s);
	cuda_begin(b, name, phase, THREADS, 0, needs);
	if (pass) {
		list(b, "keys", l.key[pass % 2]);
		list(b, "items", l.item[pass % 2]);
	}
	list(b, "count", l.count);
	cuda_line(b, "__shared__ u32 shared[8 * PL_DIGITS];");
	const char *next = "0";
	if (move) {
		list(b, "keys_out", l.key[(pass + 1) % 2]);
		list(b, "items_out", l.item[(pass + 1) % 2]);
		next = arena_printf(b->t->arena, "pl_digit_start(count, blockIdx.x, %u, shared)", s->chunks);
	}
	cuda_line(b, "u32 next = %s;", next);
	cuda_open(b, "for (int i = 0; i < %lld; i += %u)", (long long)s->chunk, THREADS);
	cuda_line(b, "int item = (int)blockIdx.x * %lld + i + (int)threadIdx.x;", (long long)s->chunk);
	cuda_line(b, "const bool on = item < %lld;", (long long)s->items);
	cuda_line(b, "u32 key = 0;");
	cuda_open(b, "if (on)");
	u32 mark = cuda_mark(b);
	if (pass) {
		cuda_line(b, "key = keys[item];");
		if (move)
			cuda_line(b, "item = items[item];");
	} else {
		emit_key(b, s);
	}
	cuda_release(b, mark);
	cuda_close(b);
	cuda_line(b, "const u32 to = pl_digit_round(key >> %u & 255, on, next, shared);", 8 * pass);
	if (move)
		cuda_line(b, "if (on) keys_out[to] = key, items_out[to] = item;");
	else
		cuda_line(b, "(void)to;");
	cuda_close(b);
	if (!move)
		cuda_line(b, "count[threadIdx.x * %u + blockIdx.x] = next;", s->chunks);
	cuda_end(b);
}

/* start[p]: the first position of a place not below p. */
static void emit_starts(CudaBody *b, const Shape *s, const char *name, u32 phase, const CudaNeeds *needs)
{
	Layout l = layout_of(s);
	cuda_begin(b, name, phase, THREADS, 0, needs);
	list(b, "keys", l.key[s->passes % 2]);
	list(b, "start", l.start);
	cuda_line(b, "const int at = blockIdx.x * %u + threadIdx.x;", THREADS);
	cuda_line(b, "if (at >= %lld) return;", (long long)s->items);
	cuda_line(b, "const u32 key = keys[at];");
	cuda_line(b, "for (u32 p = at ? keys[at - 1] + 1 : 0; p <= key; p++) start[p] = at;");
	cuda_line(b, "if (at == %lld) for (u32 p = key + 1; p <= %lldu; p++) start[p] = %lld;", (long long)s->items - 1,
		  (long long)(s->outer * s->places), (long long)s->items);
	cuda_end(b);
}

/* A thread: `width` elements of a place. */
static void emit_sums(CudaBody *b, const Shape *s, const char *name, u32 phase, const CudaNeeds *needs)
{
	const Kernel *k = b->k;
	Arena *a = b->t->arena;
	Layout l = layout_of(s);
	const Access *to = k->scatter;
	DType d = k->slot.v[to->slot].dtype;
	u32 w = s->width, last = k->ndim - 1;
	cuda_begin(b, name, phase, THREADS, 0, needs);
	cuda_line(b, "const u32 *items = (const u32 *)(workspace + %llu);", (unsigned long long)l.item[s->passes % 2]);
	cuda_line(b, "const u32 *start = (const u32 *)(workspace + %llu);", (unsigned long long)l.start);
	i64 vectors = s->inner / w;
	bool wide = s->outer * s->places * vectors + THREADS >= 1ll << 31;
	cuda_line(b, "const %s at = (%s)blockIdx.x * %u + (int)threadIdx.x;", wide ? "i64" : "int", wide ? "i64" : "int", THREADS);
	cuda_line(b, "if (at >= %lld) return;", (long long)(s->outer * s->places * vectors));
	cuda_line(b, "const int key = (int)(at / %lld), element = (int)(at %% %lld);", (long long)vectors, (long long)vectors);
	const char *place = "key";
	if (s->outer > 1) {
		cuda_line(b, "const int outer = key / %lld, place = key %% %lld;", (long long)s->places, (long long)s->places);
		cuda_unflatten(b, 0, s->i0, "outer");
		place = "place";
	}
	u32 dim[KERNEL_DIMS], n = 0;
	i64 extent[KERNEL_DIMS];
	for (u32 i = s->v0; i < k->ndim; i++) {
		dim[n] = i;
		extent[n++] = i == last ? k->dim[i].extent / w : k->dim[i].extent;
	}
	cuda_unflatten_list(b, n, dim, extent, "element");
	b->vector_dim = last;
	b->width = b->vector_align = w;
	if (w > 1) {
		cuda_line(b, "const int x = %s * %u;", b->coord[last], w);
		b->coord[last] = "x";
	}
	/* where the sum goes: an access whose place is known */
	Access fixed = *to;
	fixed.ndynamic = 0;
	const char *at = arena_printf(a, "s%u + (%s + %s%s * %lld)", to->slot, cuda_index(b, &fixed),
				      k->slot.v[to->slot].elements >= 1ll << 31 ? "(i64)" : "", place,
				      (long long)to->dynamic[0].stride);
	u32 piece = 1;
	if (w > 1 && to->dynamic[0].stride % w == 0)
		piece = cuda_piece(b, &fixed);
	cuda_line(b, "const u32 begin = start[key], end = start[key + 1];");
	if (k->accumulate || s->clear)
		cuda_line(b, "if (begin == end) return;");
	cuda_line(b, "%s sum[%u];", cuda_value_type(d), w);
	if (k->accumulate)
		cuda_line(b, "pl_load_%s<%u, %u>(sum, %s);", dtype_info[d].name, w, piece, at);
	else
		cuda_line(b, "EACH(%u) sum[j] = %s;", w, cuda_literal(a, 0, d));
	u32 outer = 0;
	for (u32 i = 0; i < k->ndim; i++)
		outer |= k->dim[i].role == DIM_INDEX ? 0 : 1u << i;
	cuda_hoist(b, outer, cuda_wanted(b, &k->operand[0].i, 1));
	cuda_line(b, "#pragma unroll %u", UNROLL);
	cuda_open(b, "for (u32 q = begin; q < end; q++)");
	cuda_line(b, "const u32 item = items[q];");
	if (s->outer > 1)
		cuda_line(b, "const int index = (int)(item %% %lldu);", (long long)s->indices);
	cuda_unflatten(b, s->i0, s->v0, s->outer > 1 ? "index" : "item");
	cuda_element(b, k->operand[0], 0);
	const char *x = cuda_known_element(b, k->operand[0], w > 1 ? "j" : "0");
	cuda_line(b, "EACH(%u) sum[j] = %s;", w, plus(b, "sum[j]", x));
	cuda_close(b);
	cuda_line(b, "pl_store_%s<%u, %u>(%s, sum);", dtype_info[d].name, w, piece, at);
	cuda_end(b);
}

static void emit_scatter(CudaText *t, const Kernel *k, const char *name)
{
	CudaNeeds needs = needs_scatter(t->arch, k);
	Shape s = shape_of(k);
	u32 phase = 0;
	CudaBody body = cuda_body(t, k), *b = &body;
	if (s.clear && k->slot.v[k->scatter->slot].elements)
		emit_clear(b, name, phase++, &needs);
	if (phase == needs.nphase)
		return;
	if (!s.sorted) {
		emit_walk(b, &s, name, phase, &needs);
		return;
	}
	t->preamble |= PREAMBLE_ORDER;
	for (u32 pass = 0; pass < s.passes; pass++) {
		emit_pass(b, &s, name, phase++, &needs, pass, false);
		emit_pass(b, &s, name, phase++, &needs, pass, true);
	}
	emit_starts(b, &s, name, phase++, &needs);
	emit_sums(b, &s, name, phase, &needs);
}

const CudaKernelClass cuda_scatter = { .needs = needs_scatter, .emit = emit_scatter };
