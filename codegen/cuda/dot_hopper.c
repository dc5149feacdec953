/* codegen/cuda/dot_hopper.c: products of bf16, f16 and floats of 8 bits on sm_90a, by the bulk copy engine: of operands that are plain
 * loads with strides that it can take, and of others where it pays to evaluate them into the workspace first.
 *
 * Blocks stay on their multiprocessors and take tiles in turn. Warps have roles: one thread of the first warpgroup asks
 * the copy engine for tiles of the operands, a ring of stages ahead and on into the next tile; two more warpgroups
 * multiply and write the result through shared memory, 16 rows of a warp at a time. Where K is long they share a tile of
 * 128 x 256; else each has every other tile, of 128 x 128, so that one multiplies while the other is in the body after
 * the sum. A stage is full when its bytes have come, and free when every warp has done with it: two barriers for each.
 * Operands may be contiguous along K or along M (N); those of 8 bits along K. What these give is summed with some 14 bits of fraction within the
 * tensor core (DeepSeek-AI 2024, DeepSeek-V3, 3.3.2): what a step of 128 along K gave is added to f32 sums of one's own, while the next step is
 * multiplied into other registers, so that tiles are of 128 x 128.
 *
 * The division is that of NVIDIA's CUTLASS and of ThunderKittens (Spector et al. 2024). */
#include "codegen/cuda/dot.h"

#include <string.h>

enum {
	ROW = 128,       /* bytes of the swizzle: of a step along K */
	GROUP = 128,     /* threads that multiply together */
	THREADS = 3 * GROUP,
	STEPS = 4,       /* instructions along K, of 32 bytes each */
	STRIP = 64,      /* columns that go through shared memory at once */
	STRIP_BYTES = 16 * STRIP * 4,
	BARRIER_BYTES = 256,
	LEAST = 64       /* rows, columns: below, smaller tiles waste less */
};

/* rows, columns, depth, a warpgroup's rows and columns, threads, chunk, stages */
static const DotTile shared_tile = { 128, 256, ROW / 2, 64, 256, THREADS, 8, 4 };
static const DotTile turns_tile = { 128, 128, ROW / 2, 128, 128, THREADS, 8, 6 };
static const DotTile f8_tile = { 128, 128, ROW, 64, 128, THREADS, 16, 6 };

/* Where an operand's tile comes from. */
typedef struct BoxSource {
	bool by_k;      /* contiguous along M (N): rows of 64 of them, one for each k */
	u32 loads, box; /* a tile is so many boxes along M (N), of so many rows (columns) */
	CudaTensorMap map;
	char flat[5];   /* of a dimension of the map: 'k', 'x' or 'b', the flattened index that it is a digit of */
	i64 below[5];   /* the product of the digits below */
	bool top[5];    /* it is the highest digit */
} BoxSource;

/* Adds a range's dimensions to the map, those that nest as one; the lowest has a box of `box`. False: there are too many,
 * or a box would go past the end of the lowest. */
static bool add_dims(const Kernel *k, BoxSource *s, DotRange r, const Access *a, char flat, u32 box)
{
	CudaTensorMap *m = &s->map;
	u32 first = m->rank;
	i64 below = 1;
	for (u32 d = r.last; d-- > r.first;) {
		i64 n = k->dim[d].extent, stride = a->stride[d];
		if (n == 1)
			continue;
		if (stride == 0 && flat == 'b') { /* the same for all: it may be left out, but counts */
			below *= n;
			continue;
		}
		u32 last = m->rank - 1;
		bool nests = m->rank > first && s->below[last] * (i64)m->extent[last] == below &&
			     stride == (i64)(m->stride[last] * m->extent[last]);
		if (nests) {
			m->extent[last] *= (u64)n;
		} else {
			if (m->rank == COUNT(m->extent) || stride <= 0)
				return false;
			m->extent[m->rank] = (u64)n;
			m->stride[m->rank] = (u64)stride;
			m->box[m->rank] = m->rank == first ? box : 1;
			s->flat[m->rank] = flat;
			s->below[m->rank++] = below;
		}
		below *= n;
	}
	if (m->rank == first)
		return flat == 'b';
	for (u32 i = first; i < m->rank; i++)
		s->top[i] = s->below[i] * (i64)m->extent[i] == below;
	return m->rank - first == 1 || flat == 'b' || m->extent[first] % box == 0;
}

static bool source_with(const Dot *d, const DotOperand *o, const Access *a, bool by_k, u32 box, BoxSource *s)
{
	const Kernel *k = d->k;
	const u32 depth = d->tile.depth, align = 16 / dtype_info[o->product].bytes;
	*s = (BoxSource){ .by_k = by_k, .box = by_k ? depth : box };
	s->loads = o->extent / s->box;
	s->map = (CudaTensorMap){ .slot = a->slot, .offset = (u64)a->offset, .dtype = (u8)o->product, .swizzle = ROW };
	bool fits = by_k ? add_dims(k, s, o->x, a, 'x', s->box) && add_dims(k, s, d->kr, a, 'k', depth) :
			   add_dims(k, s, d->kr, a, 'k', depth) && add_dims(k, s, o->x, a, 'x', s->box);
	fits = fits && add_dims(k, s, d->b, a, 'b', 1) && s->map.stride[0] == 1 && a->offset >= 0 && a->offset % align == 0;
	for (u32 i = 1; fits && i < s->map.rank; i++)
		fits = s->map.stride[i] % align == 0 && s->map.stride[i] < 1ull << 39 && s->map.extent[i] <= 1ull << 32;
	return fits;
}

static bool source_of(const Dot *d, const DotOperand *o, BoxSource *s)
{
	const KInst *in = &d->k->inst.v[o->value.i];
	if (in->op != K_load || in->in[0].i || in->access->ndynamic || in->dtype != o->product)
		return false;
	for (u32 box = o->extent; box >= 64; box /= 2)
		if (source_with(d, o, in->access, false, box, s))
			return true;
	return !dtype_is_f8(d->k->compute) && source_with(d, o, in->access, true, d->tile.depth, s);
}

/* An operand in the workspace. `slot`: none. */
static void source_packed(const Dot *d, const DotOperand *o, const DotPacked *p, BoxSource *s)
{
	*s = (BoxSource){ .by_k = !o->along_k, .box = o->along_k ? o->extent : d->tile.depth };
	s->loads = o->extent / s->box;
	s->map = (CudaTensorMap){ .slot = NONE, .dtype = (u8)d->k->compute, .swizzle = ROW, .rank = 2,
				  .extent = { (u64)p->inner, (u64)p->outer, (u64)p->batch },
				  .stride = { 1, (u64)p->row, (u64)(p->row * p->outer) },
				  .box = { d->tile.depth, o->along_k ? s->box : d->tile.depth, 1 } };
	s->map.rank += p->batch > 1;
	for (u32 i = 0; i < 3; i++) {
		s->flat[i] = "xkb"[i < 2 ? (i == 0) == o->along_k : i];
		s->below[i] = 1;
		s->top[i] = true;
	}
}

typedef struct Hopper {
	Dot d;
	BoxSource a, o;
	DotPacked pack[2]; /* of no bytes: it is not packed */
	u32 npack;
	u32 halves; /* of 64 rows that a warpgroup has of a tile: 2 where they take turns */
} Hopper;

static bool hopper_of(const CudaArch *arch, const Kernel *k, Hopper *h)
{
	if (arch->major != 9 || !arch->specific || (k->compute != DT_bf16 && k->compute != DT_f16 && !dtype_is_f8(k->compute)))
		return false;
	h->d = dot_of(arch, k);
	if (h->d.m.n < LEAST || h->d.n.n < LEAST || h->d.kr.n < 16 || !h->d.b.n)
		return false;
	const DotChoice choices[] = { { shared_tile, 1, 5 }, { turns_tile, dot_limits.turns, 1 } };
	const bool f8 = dtype_is_f8(k->compute);
	if (f8)
		dot_choose(&h->d, &(DotChoice){ f8_tile, 1, 3 }, 1, true);
	else
		dot_choose(&h->d, choices, COUNT(choices), true);
	h->halves = h->d.tile.warp_rows / 64;
	h->npack = 0;
	for (u32 i = 0; i < 2; i++) {
		const DotOperand *o = i ? &h->d.o : &h->d.a;
		BoxSource *s = i ? &h->o : &h->a;
		h->pack[i] = (DotPacked){ 0 };
		if (source_of(&h->d, o, s))
			continue;
		if (f8 || !dot_pack(&h->d, o, &h->pack[i]))
			return false;
		source_packed(&h->d, o, &h->pack[i], s);
		h->npack++;
	}
	return true;
}

bool dot_hopper(const CudaArch *arch, const Kernel *k)
{
	Hopper h;
	return hopper_of(arch, k, &h);
}

/* ---- shared memory: stages of A, of B, strips, barriers ---- */

static u32 left_bytes(const Dot *d)
{
	return d->tile.rows * ROW;
}

static u32 right_bytes(const Dot *d)
{
	return d->tile.columns * ROW;
}

static u32 strips_at(const Dot *d)
{
	return d->tile.stages * (left_bytes(d) + right_bytes(d));
}

static u32 barriers_at(const Dot *d)
{
	return strips_at(d) + 2 * GROUP / 32 * STRIP_BYTES;
}

/* Phases: the operands that are packed, the products, the sum of a split. The workspace: the parts of a split, then
 * operands; `at`: where they are. */
static CudaNeeds hopper_needs(const Hopper *h, u64 at[2])
{
	CudaNeeds n = dot_needs(&h->d, barriers_at(&h->d) + BARRIER_BYTES);
	for (u32 i = n.nphase; i-- > 0;)
		n.launch[i + h->npack] = n.launch[i];
	n.nphase += h->npack;
	CudaLaunch *main = &n.launch[h->npack];
	main->grid[0] = MIN(main->grid[0], MAX(1, h->d.arch->multiprocessors));
	for (u32 i = 0, phase = 0; i < 2; i++) {
		n.map[n.nmap] = i ? h->o.map : h->a.map;
		at[i] = ALIGN_UP(n.workspace, 256);
		if (h->pack[i].bytes) {
			n.launch[phase++] = dot_pack_launch(&h->pack[i]);
			n.map[n.nmap].offset = at[i] / 2;
			n.workspace = at[i] + h->pack[i].bytes;
		}
		n.nmap++;
	}
	return n;
}

CudaNeeds dot_hopper_needs(const CudaArch *arch, const Kernel *k)
{
	Hopper h;
	bool can = hopper_of(arch, k, &h);
	assert(can);
	(void)can;
	u64 at[2];
	return hopper_needs(&h, at);
}

/* ---- text ---- */

/* Dimension i of the map's coordinate. */
static const char *coordinate(CudaBody *b, const BoxSource *s, u32 i, const char *k, const char *x)
{
	const char *flat = s->flat[i] == 'k' ? k : s->flat[i] == 'x' ? x : "batch";
	Arena *a = b->t->arena;
	if (s->below[i] != 1)
		flat = arena_printf(a, "(int)((u32)(%s) / %lldu)", flat, (long long)s->below[i]);
	return s->top[i] ? flat : arena_printf(a, "(int)((u32)(%s) %% %lluu)", flat, (unsigned long long)s->map.extent[i]);
}

/* Asks for a tile of an operand to `to`. */
static void load_tile(CudaBody *b, const BoxSource *s, u32 map, const char *to, const char *x0)
{
	for (u32 l = 0; l < s->loads; l++) {
		Buf at = { .arena = b->t->arena };
		const char *x = arena_printf(b->t->arena, "%s + %u", x0, l * s->box);
		for (u32 i = 0; i < s->map.rank; i++)
			buf_printf(&at, ", %s", coordinate(b, s, i, "k", x));
		/* a box along K or along M (N) is rows of 128 bytes */
		cuda_line(b, "pl_copy_box(%s + %u, &map%u, full + stage%s);", to,
			  l * (s->by_k ? ROW / 2 : s->box) * ROW, map, at.text);
	}
}

static void open_units(CudaBody *b, const Hopper *h, u32 units)
{
	const DotTile *t = &h->d.tile;
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (u32 unit = blockIdx.x; unit < %u; unit += gridDim.x)", units);
	dot_place(b, &h->d, "unit", t->columns == 256 ? 16 : 12);
}

static void next_stage(CudaBody *b, const Hopper *h)
{
	cuda_line(b, "if (++stage == %u) stage = 0, parity ^= 1;", h->d.tile.stages);
}

static void producer(CudaBody *b, const Hopper *h, u32 units)
{
	const Dot *d = &h->d;
	cuda_line(b, "pl_registers_give<40>();");
	cuda_open(b, "if (thread == 0)");
	cuda_line(b, "pl_map_prefetch(&map0);");
	cuda_line(b, "pl_map_prefetch(&map1);");
	open_units(b, h, units);
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (int step = 0; step < steps; step++)");
	cuda_line(b, "const int k = k_begin + step * %u;", d->tile.depth);
	cuda_line(b, "pl_barrier_wait(empty + stage, parity ^ 1);");
	cuda_line(b, "pl_barrier_expect(full + stage, %u);", left_bytes(d) + right_bytes(d));
	load_tile(b, &h->a, 0, arena_printf(b->t->arena, "pl_shared + stage * %u", left_bytes(d)), "m0");
	load_tile(b, &h->o, 1,
		  arena_printf(b->t->arena, "pl_shared + %u + stage * %u", d->tile.stages * left_bytes(d), right_bytes(d)),
		  "n0");
	next_stage(b, h);
	cuda_close(b);
	cuda_close(b);
	cuda_close(b);
}

static const char *const truth[] = { "false", "true" };

/* A stage's tiles, as wgmma takes them. */
static void begin_step(CudaBody *b, const Hopper *h)
{
	const Dot *d = &h->d;
	cuda_line(b, "pl_barrier_wait(full + stage, parity);");
	cuda_line(b, "const u64 left = pl_wgmma_tile<%s>(shared + stage * %u%s, %u);", truth[h->a.by_k], left_bytes(d),
		  h->halves == 1 ? " + group * 8192" : "", 64 * ROW);
	cuda_line(b, "const u64 right = pl_wgmma_tile<%s>(shared + %u + stage * %u, %u);", truth[h->o.by_k],
		  d->tile.stages * left_bytes(d), right_bytes(d), 64 * ROW);
	cuda_line(b, "pl_wgmma_fence();");
}

/* Begins the next step, into part[WHICH]. */
static void multiply_step(CudaBody *b, const Hopper *h, u32 which)
{
	const Dot *d = &h->d;
	cuda_open(b, "%s", ""); /* left, right are its own */
	begin_step(b, h);
	for (u32 i = 0; i < STEPS; i++)
		cuda_line(b, "pl_wgmma_%s_%s_n%u<%s>(part[%u][0], left + %u, right + %u);", dtype_info[d->a.product].name,
			  dtype_info[d->o.product].name, d->tile.columns, truth[i > 0], which, 2 * i, 2 * i);
	cuda_line(b, "pl_wgmma_commit();");
	cuda_close(b);
}

/* Adds what the step whose stage is `last` gave, in part[WHICH], once no more than `under_way` later ones are at work; the stage is free. The next
 * one is the last then. */
static void add_step(CudaBody *b, const Hopper *h, u32 which, u32 under_way)
{
	cuda_line(b, "pl_wgmma_wait<%u>();", under_way);
	cuda_line(b, "pl_wgmma_there<%u>(part[%u]);", h->d.tile.columns / 8, which);
	cuda_line(b, "if (lane == 0) pl_barrier_arrive(empty + last);");
	cuda_line(b, "#pragma unroll");
	cuda_line(b, "for (int i = 0; i < %u; i++) EACH(4) acc[i][j] += part[%u][i][j];", h->d.tile.columns / 8, which);
	cuda_line(b, "last = stage;");
}

/* Steps take two sets of registers in turn. No branch lies between the beginning of a step and the wait for it but the loop's own: else
 * ptxas lets products wait for each other. */
static void multiply_f8(CudaBody *b, const Hopper *h)
{
	const Dot *d = &h->d;
	cuda_line(b, "float acc[%u][4] = {};", d->tile.columns / 8);
	cuda_open(b, "if (steps > 0)");
	cuda_line(b, "float part[2][%u][4] = {};", d->tile.columns / 8);
	cuda_line(b, "u32 last = stage;");
	cuda_line(b, "int step = 1;");
	multiply_step(b, h, 0);
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (; step + 1 < steps; step += 2)");
	for (u32 turn = 0; turn < 2; turn++) {
		next_stage(b, h);
		multiply_step(b, h, 1 - turn);
		add_step(b, h, turn, 1);
	}
	cuda_close(b);
	cuda_open(b, "if (step < steps)");
	next_stage(b, h);
	multiply_step(b, h, 1);
	add_step(b, h, 0, 1);
	add_step(b, h, 1, 0);
	cuda_close(b);
	cuda_open(b, "else");
	add_step(b, h, 0, 0);
	cuda_close(b);
	next_stage(b, h);
	cuda_close(b);
}

static void multiply(CudaBody *b, const Hopper *h)
{
	const Dot *d = &h->d;
	const char *type = dtype_info[d->k->compute].name;
	cuda_line(b, "float acc[%u][4] = {};", h->halves * d->tile.columns / 8);
	cuda_line(b, "u32 last = 0;");
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (int step = 0; step < steps; step++)");
	begin_step(b, h);
	cuda_line(b, "#pragma unroll");
	cuda_open(b, "for (int i = 0; i < %d; i++)", STEPS);
	for (u32 half = 0; half < h->halves; half++)
		cuda_line(b, "pl_wgmma_%s_n%u<%s, %s>(acc[%u], left + %u + i * %u, right + i * %u);", type,
			  d->tile.columns, truth[h->a.by_k], truth[h->o.by_k], half * d->tile.columns / 8, half * 8192 / 16,
			  h->a.by_k ? 128 : 2, h->o.by_k ? 128 : 2);
	cuda_close(b);
	cuda_line(b, "pl_wgmma_commit();");
	cuda_line(b, "pl_wgmma_wait<1>();");
	cuda_line(b, "if (step > 0 && lane == 0) pl_barrier_arrive(empty + last);");
	cuda_line(b, "last = stage;");
	next_stage(b, h);
	cuda_close(b);
	if (h->halves == 2)
		cuda_line(b, "if (lane == 0) pl_barrier_arrive(done + group);");
	cuda_line(b, "pl_wgmma_wait<0>();");
	cuda_line(b, "pl_wgmma_there<%u>(acc);", h->halves * d->tile.columns / 8);
	cuda_line(b, "if (steps > 0 && lane == 0) pl_barrier_arrive(empty + last);");
}

static void consumers(CudaBody *b, const Hopper *h, u32 units)
{
	const Dot *d = &h->d;
	u32 w = dot_epilogue_width(d, 8);
	cuda_line(b, "pl_registers_take<232>();");
	cuda_line(b, "const int lane = thread %% 32, warp = pl_of_warp(thread / 32) - %d, group = warp / 4;", GROUP / 32);
	cuda_line(b, "const u32 shared = pl_shared_address(pl_shared);");
	cuda_line(b, "float *rows = (float *)(pl_shared + %u + warp * %d);", strips_at(d), STRIP_BYTES);
	if (h->halves == 2)
		cuda_line(b, "int turn = 0;");
	open_units(b, h, units);
	if (h->halves == 2) {
		cuda_open(b, "if ((turn++ & 1) != group)");
		cuda_line(b, "const u32 next = stage + (u32)steps;");
		cuda_line(b, "stage = next %% %u;", d->tile.stages);
		cuda_line(b, "parity ^= next / %u & 1;", d->tile.stages);
		cuda_line(b, "continue;");
		cuda_close(b);
		/* a barrier tells its next phase from the last alone: the other must have waited for its stages */
		cuda_line(b, "if (turn > 1) pl_barrier_wait(done + 1 - group, (turn - 2) / 2 & 1);");
	}
	if (dtype_is_f8(d->k->compute))
		multiply_f8(b, h);
	else
		multiply(b, h);
	u32 strips = d->tile.columns / STRIP;
	cuda_line(b, "#pragma unroll");
	cuda_open(b, "for (int strip = 0; strip < %u; strip++)", h->halves * strips);
	cuda_line(b, "pl_rows_put<%d>(rows, acc + strip * %d);", STRIP, STRIP / 8);
	cuda_line(b, "__syncwarp();");
	cuda_line(b, "#pragma unroll 2");
	cuda_open(b, "for (int e = lane; e < %u; e += 32)", 16 * STRIP / w);
	cuda_line(b, "const int in = e / %u, at = e %% %u * %u;", STRIP / w, STRIP / w, w);
	if (h->halves == 2)
		cuda_line(b, "const int row = strip / %u * 64 + warp %% 4 * 16 + in, column = strip %% %u * %d + at;", strips,
			  strips, STRIP);
	else
		cuda_line(b, "const int row = warp * 16 + in, column = strip * %d + at;", STRIP);
	cuda_line(b, "float sum[%u];", w);
	cuda_line(b, "pl_rows_get<%d, %u>(sum, rows, in, at);", STRIP, w);
	dot_finish(b, d, "sum", w);
	cuda_close(b);
	cuda_line(b, "__syncwarp();");
	cuda_close(b);
	cuda_close(b);
}

void dot_hopper_emit(CudaText *t, const Kernel *k, const char *name)
{
	Hopper h;
	bool can = hopper_of(t->arch, k, &h);
	assert(can);
	(void)can;
	u64 at[2];
	CudaNeeds needs = hopper_needs(&h, at), plain = dot_needs(&h.d, 0);
	u32 units = plain.launch[0].grid[0], stages = h.d.tile.stages;
	for (u32 i = 0, phase = 0; i < 2; i++)
		if (h.pack[i].bytes)
			dot_pack_emit(t, &h.d, i ? &h.d.o : &h.d.a, &h.pack[i], at[i], name, phase++, &needs);
	CudaBody body = cuda_body(t, k), *b = &body;
	t->preamble |= PREAMBLE_TENSOR | PREAMBLE_HOPPER;
	cuda_begin(b, name, h.npack, THREADS, 1, &needs);
	cuda_line(b, "extern __shared__ __align__(1024) u8 pl_shared[];");
	cuda_line(b, "const int thread = (int)threadIdx.x;");
	cuda_line(b, "u64 *full = (u64 *)(pl_shared + %u), *empty = full + %u;", barriers_at(&h.d), stages);
	if (h.halves == 2)
		cuda_line(b, "u64 *done = empty + %u;", stages);
	cuda_open(b, "if (thread == 0)");
	cuda_open(b, "for (int s = 0; s < %u; s++)", stages);
	cuda_line(b, "pl_barrier_init(full + s, 1);");
	cuda_line(b, "pl_barrier_init(empty + s, %u);", (h.halves == 2 ? 1 : 2) * GROUP / 32);
	cuda_close(b);
	if (h.halves == 2)
		cuda_line(b, "for (int g = 0; g < 2; g++) pl_barrier_init(done + g, %d);", GROUP / 32);
	cuda_line(b, "pl_barrier_init_done();");
	cuda_close(b);
	cuda_line(b, "__syncthreads();");
	cuda_line(b, "u32 stage = 0, parity = 0;");
	cuda_open(b, "if (thread < %d)", GROUP);
	producer(b, &h, units);
	b->indent--;
	cuda_open(b, "} else");
	consumers(b, &h, units);
	cuda_close(b);
	cuda_end(b);
	dot_emit_splits(t, &h.d, name, h.npack + 1, &needs);
}
