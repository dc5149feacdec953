/* codegen/cuda/dot_operand.c: how a tile of an operand comes to shared memory; see dot.h. */
#include "codegen/cuda/dot.h"

#include <string.h>

DotRange dot_range(const Kernel *k, DimRole role)
{
	DotRange r = { .first = k->ndim, .n = 1 };
	for (u32 d = 0; d < k->ndim; d++) {
		if (k->dim[d].role != role)
			continue;
		r.first = MIN(r.first, d);
		r.last = d + 1;
		r.n *= k->dim[d].extent;
	}
	if (!r.last)
		r.first = 0;
	return r;
}

u32 dot_inner(const Kernel *k, DotRange r)
{
	for (u32 d = r.last; d-- > r.first;)
		if (k->dim[d].extent != 1)
			return d;
	return r.last ? r.last - 1 : NONE;
}

void dot_coordinates(CudaBody *b, DotRange r, const char *flat, const char *prefix)
{
	const Kernel *k = b->k;
	u32 first = r.first; /* the first dimension that is not a single element: what is left of `flat` */
	while (first < r.last && k->dim[first].extent == 1)
		b->coord[first++] = "0";
	for (u32 d = r.last; d-- > first;) {
		i64 n = k->dim[d].extent;
		if (n == 1) {
			b->coord[d] = "0";
		} else if (d == first) {
			b->coord[d] = flat;
		} else {
			const char *name = arena_printf(b->t->arena, "%s_%u", prefix, d);
			const char *rest = arena_printf(b->t->arena, "%s_%ur", prefix, d);
			cuda_line(b, "const int %s = (u32)%s / %lldu, %s = %s - %s * %lld;", rest, flat, (long long)n,
				  name, flat, rest, (long long)n);
			b->coord[d] = name;
			flat = rest;
		}
	}
}

/* ---- what an operand needs ---- */

static void want(const Kernel *k, DotOperand *o, KVal v)
{
	if (!v.i || o->wanted[v.i])
		return;
	o->wanted[v.i] = true;
	const KInst *in = &k->inst.v[v.i];
	for (u32 i = 0; i < 3; i++)
		want(k, o, in->in[i]);
	for (u32 i = 0; in->access && i < in->access->ndynamic; i++)
		want(k, o, in->access->dynamic[i].index);
}

/* The loads of a value; then what they need. */
static void find_loads(const Dot *d, DotOperand *o, Arena *arena)
{
	const Kernel *k = d->k;
	o->wanted = NEWN(arena, bool, k->inst.n + 1);
	want(k, o, o->value);
	for (u32 i = 1; i < k->inst.n; i++)
		if (o->wanted[i] && k->inst.v[i].op == K_load)
			VEC_PUSH(arena, &o->load, i);
	memset(o->wanted, 0, k->inst.n);
	for (u32 i = 0; i < o->load.n; i++)
		want(k, o, (KVal){ o->load.v[i] });
}

/* How much is gained if chunks run along dimension `d`: loads that are contiguous there, those that move along both
 * K and x (the operand proper) before others. */
static u32 gain(const Dot *d, const DotOperand *o, u32 dim)
{
	const Kernel *k = d->k;
	u32 sum = 0, x = dot_inner(k, o->x), sum_dim = dot_inner(k, d->kr);
	for (u32 i = 0; i < o->load.n; i++) {
		const KInst *in = &k->inst.v[o->load.v[i]];
		bool both = (in->depends >> x & 1) && (in->depends >> sum_dim & 1);
		if (cuda_stride(k, in->access, dim) == 1)
			sum += both ? 16 : 1;
	}
	return sum;
}

static u32 widest(i64 extent, u32 most)
{
	while (most > 1 && extent % most)
		most /= 2;
	return most;
}

/* Is every chunk of a plain load 16 bytes at a multiple of 16? */
static bool can_copy(const Dot *d, const DotOperand *o, u32 inner)
{
	const Kernel *k = d->k;
	const KInst *in = &k->inst.v[o->value.i];
	u32 chunk = d->tile.chunk;
	if (in->op != K_load || in->in[0].i || in->access->ndynamic || o->width != chunk)
		return false;
	DType dtype = k->slot.v[in->access->slot].dtype;
	if (dtype != o->product || !dtype_is_narrow_float(dtype) || cuda_stride(k, in->access, inner) != 1)
		return false;
	bool all = in->access->offset % chunk == 0;
	for (u32 i = 0; i < k->ndim; i++)
		all &= i == inner || cuda_stride(k, in->access, i) % chunk == 0;
	return all;
}

static void set_operand(Dot *d, DotOperand *o, char name, KVal v, DotRange x, u32 extent)
{
	const Kernel *k = d->k;
	DType product = kernel_operand_dtype(k, name == 'a' ? 0 : 1);
	*o = (DotOperand){ .name = name, .product = product, .value = v, .x = x, .extent = extent };
	const KInst *in = &k->inst.v[v.i];
	if (in->op == K_cast && in->dtype == product && k->inst.v[in->in[0].i].dtype == DT_f32)
		o->value = in->in[0];
	find_loads(d, o, k->arena);
	u32 along_k = dot_inner(k, d->kr), along_x = dot_inner(k, x);
	/* a group's rows begin anywhere: chunks along them would not be aligned */
	bool odd_k = d->weights, odd_x = d->grouped && name == 'a';
	u32 by_k = odd_k ? 0 : gain(d, o, along_k), by_x = odd_x ? 0 : gain(d, o, along_x);
	o->along_k = by_k >= by_x && !(odd_k && !odd_x);
	u32 inner = o->along_k ? along_k : along_x;
	o->width = (o->along_k ? odd_k : odd_x) ? 1 : widest(k->dim[inner].extent, d->tile.chunk);
	o->parts = d->tile.chunk / o->width;
	o->copy = can_copy(d, o, inner) ? k->inst.v[o->value.i].access : NULL;
	o->x0 = name == 'a' ? "m0" : "n0";
	o->x_end = name == 'a' ? "m_end" : "n_end";
	o->x_ragged = x.n % extent != 0 || odd_x;
	o->chunks = extent * d->tile.depth / d->tile.chunk;
}

void dot_set_tile(Dot *d, DotTile t)
{
	d->tile = t;
	d->k_ragged = d->kr.n % t.depth != 0 || d->weights;
	set_operand(d, &d->a, 'a', d->k->operand[0], d->m, t.rows);
	set_operand(d, &d->o, 'b', d->k->operand[1], d->n, t.columns);
}

/* ---- text ---- */

static u32 chunks_of_thread(const Dot *d, const DotOperand *o)
{
	return MAX(1, o->chunks / d->tile.threads);
}

static const char *name_of(CudaBody *b, const DotOperand *o, const char *what, u32 i)
{
	return arena_printf(b->t->arena, "%c%s%u", o->name, what, i);
}

static const char *part_name(CudaBody *b, const DotOperand *o, const char *what, u32 i, u32 part)
{
	return arena_printf(b->t->arena, "%c%s%u%c", o->name, what, i, 'a' + (char)part);
}

/* A thread's chunk i: its row and its place in the row; x of each of its parts (of all, where they run along k), and
 * whether it is there. */
void dot_operand_places(CudaBody *b, const Dot *d, const DotOperand *o)
{
	u32 row = (o->along_k ? d->tile.depth : o->extent) / d->tile.chunk;
	for (u32 i = 0; i < chunks_of_thread(d, o); i++) {
		const char *c = i ? arena_printf(b->t->arena, "(thread + %u)", i * d->tile.threads) : "thread";
		cuda_line(b, "const int %s = %s / %u, %s = %s %% %u;", name_of(b, o, "row", i), c, row,
			  name_of(b, o, "at", i), c, row);
		for (u32 p = 0; p < (o->along_k ? 1 : o->parts); p++) {
			const char *x = part_name(b, o, "x", i, p);
			if (o->along_k)
				cuda_line(b, "const int %s = %s + %s;", x, o->x0, name_of(b, o, "row", i));
			else
				cuda_line(b, "const int %s = %s + %s * %u + %u;", x, o->x0, name_of(b, o, "at", i),
					  d->tile.chunk, p * o->width);
		}
	}
}

typedef void Write(CudaBody *b, const Dot *d, const DotOperand *o, u32 chunk, u32 part);

/* Each part of each chunk in a scope of its own, with its coordinates and `here`: is there an element? */
static void each_part(CudaBody *b, const Dot *d, const DotOperand *o, Write *write, Write *end)
{
	for (u32 i = 0; i < chunks_of_thread(d, o); i++) {
		if (o->chunks < d->tile.threads)
			cuda_open(b, "if (thread < %u)", o->chunks);
		for (u32 p = 0; p < o->parts; p++) {
			const char *x = part_name(b, o, "x", i, o->along_k ? 0 : p);
			cuda_open(b, "%s", "");
			u32 mark = cuda_mark(b);
			const char *saved[KERNEL_DIMS];
			memcpy(saved, b->coord, sizeof saved);
			if (o->along_k)
				cuda_line(b, "const int k = kb + %s * %u + %u;", name_of(b, o, "at", i), d->tile.chunk,
					  p * o->width);
			else
				cuda_line(b, "const int k = kb + %s;", name_of(b, o, "row", i));
			dot_coordinates(b, d->kr, "k", "k");
			dot_coordinates(b, o->x, x, part_name(b, o, "y", i, p));
			b->vector_dim = NONE;
			b->width = 1;
			if (o->width > 1) {
				b->vector_dim = dot_inner(b->k, o->along_k ? d->kr : o->x);
				b->width = b->vector_align = o->width;
			}
			const char *in_x = o->x_ragged ? arena_printf(b->t->arena, "%s < %s", x, o->x_end) : NULL;
			const char *in_k = d->k_ragged ? "k < k_end" : NULL;
			b->guard = NULL;
			if (in_x || in_k) {
				cuda_line(b, "const bool here = %s%s%s;", in_x ? in_x : "", in_x && in_k ? " && " : "",
					  in_k ? in_k : "");
				b->guard = "here";
			}
			write(b, d, o, i, p);
			b->guard = NULL;
			b->vector_dim = NONE;
			b->width = 1;
			cuda_release(b, mark);
			memcpy(b->coord, saved, sizeof saved);
			cuda_close(b);
		}
		if (end)
			end(b, d, o, i, 0);
		if (o->chunks < d->tile.threads)
			cuda_close(b);
	}
}

static void write_copy(CudaBody *b, const Dot *d, const DotOperand *o, u32 chunk, u32 part)
{
	(void)part;
	u32 row = (o->along_k ? d->tile.depth : o->extent) / d->tile.chunk;
	const char *from = arena_printf(b->t->arena, "s%u + %s", o->copy->slot, cuda_index(b, o->copy));
	const char *to = arena_printf(b->t->arena, "to + pl_tile_place<%u>(%s, %s)", row, name_of(b, o, "row", chunk),
				      name_of(b, o, "at", chunk));
	if (b->guard) /* an address outside is not formed */
		cuda_line(b, "pl_cp_async16(%s, here ? (const void *)(%s) : s%u, here ? 16 : 0);", to, from,
			  o->copy->slot);
	else
		cuda_line(b, "pl_cp_async16(%s, %s);", to, from);
}

void dot_operand_copy(CudaBody *b, const Dot *d, const DotOperand *o)
{
	each_part(b, d, o, write_copy, NULL);
}

/* A load's registers outlive the scope that fills them. */
static const char *kept(CudaBody *b, const DotOperand *o, u32 chunk, u32 part, u32 load)
{
	return arena_printf(b->t->arena, "%c%u%c_%u", o->name, chunk, 'a' + (char)part, load);
}

static void write_fetch(CudaBody *b, const Dot *d, const DotOperand *o, u32 chunk, u32 part)
{
	(void)d;
	cuda_hoist(b, ~0u, o->wanted);
	for (u32 i = 0; i < o->load.n; i++) {
		KVal v = { o->load.v[i] };
		const char *to = kept(b, o, chunk, part, v.i);
		if (!cuda_varies(b, v))
			cuda_line(b, "%s = %s;", to, cuda_scalar(b, v));
		for (u32 j = 0; cuda_varies(b, v) && j < b->width; j++)
			cuda_line(b, "%s[%u] = %s;", to, j, cuda_element(b, v, j));
	}
}

void dot_operand_registers(CudaBody *b, const Dot *d, const DotOperand *o)
{
	u32 dim = dot_inner(b->k, o->along_k ? d->kr : o->x);
	for (u32 i = 0; i < chunks_of_thread(d, o); i++)
		for (u32 p = 0; p < o->parts; p++)
			for (u32 l = 0; l < o->load.n; l++) {
				const KInst *in = &b->k->inst.v[o->load.v[l]];
				const char *name = kept(b, o, i, p, o->load.v[l]);
				const char *type = cuda_value_type((DType)in->dtype);
				if (o->width > 1 && (in->depends >> dim & 1))
					cuda_line(b, "%s %s[%u];", type, name, o->width);
				else
					cuda_line(b, "%s %s;", type, name);
			}
}

void dot_operand_fetch(CudaBody *b, const Dot *d, const DotOperand *o)
{
	each_part(b, d, o, write_fetch, NULL);
}

void dot_operand_value(CudaBody *b, const Dot *d, const DotOperand *o, const char *to, u32 at, const char *here)
{
	(void)d;
	DType from = (DType)b->k->inst.v[o->value.i].dtype;
	bool direct = from == DT_f32 || dtype_is_narrow_float(from); /* held as float: stored rounded */
	for (u32 j = 0; j < o->width; j++) {
		const char *x = cuda_element(b, o->value, j);
		if (!(dtype_is_narrow_float(o->product) && direct))
			x = cuda_convert(b->t->arena, from, o->product, x);
		if (here)
			x = arena_printf(b->t->arena, "%s ? %s : 0", here, x);
		cuda_line(b, "%s[%u] = %s;", to, at + j, x);
	}
}

/* The rest of the value, to `w`, an array of the chunk in the type that is multiplied. */
static void write_value(CudaBody *b, const Dot *d, const DotOperand *o, u32 chunk, u32 part)
{
	for (u32 i = 0; i < o->load.n; i++) {
		KVal v = { o->load.v[i] };
		cuda_set(b, v, kept(b, o, chunk, part, v.i), cuda_varies(b, v));
	}
	dot_operand_value(b, d, o, arena_printf(b->t->arena, "%c%u_w", o->name, chunk), part * o->width,
			  d->k_ragged ? "k < k_end" : NULL);
}

static void store_chunk(CudaBody *b, const Dot *d, const DotOperand *o, u32 chunk, u32 part)
{
	(void)part;
	u32 n = d->tile.chunk, row = (o->along_k ? d->tile.depth : o->extent) / n;
	const char *type = dtype_info[o->product].name;
	u32 piece = 16 / dtype_info[o->product].bytes; /* what a row of the tile is longer by, on CUDA cores */
	if (dtype_is_narrow_float(o->product))
		cuda_line(b, "pl_store_chunk_%s(to + pl_tile_place<%u>(%s, %s), %c%u_w);", type, row,
			  name_of(b, o, "row", chunk), name_of(b, o, "at", chunk), o->name, chunk);
	else if (o->along_k)
		cuda_line(b, "EACH(%u) to[(%s * %u + j) * %u + %s] = %c%u_w[j];", n, name_of(b, o, "at", chunk), n,
			  o->extent + piece, name_of(b, o, "row", chunk), o->name, chunk);
	else
		cuda_line(b, "pl_store_%s<%u, %u>(to + %s * %u + %s * %u, %c%u_w);", type, n, n,
			  name_of(b, o, "row", chunk), o->extent + piece,
			  name_of(b, o, "at", chunk), n, o->name, chunk);
}

void dot_operand_put(CudaBody *b, const Dot *d, const DotOperand *o)
{
	for (u32 i = 0; i < chunks_of_thread(d, o); i++)
		cuda_line(b, "%s %c%u_w[%u];", d->k->compute == DT_f64 ? "double" : "float", o->name, i, d->tile.chunk);
	each_part(b, d, o, write_value, store_chunk);
}
