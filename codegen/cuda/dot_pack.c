/* codegen/cuda/dot_pack.c: an operand that the bulk copy engine cannot fetch (it is cast, computed, gathered, or its
 * dimensions do not nest) is evaluated once into the workspace, as rows along K or along M (N), whichever its loads are
 * contiguous in; then the engine reads it from there. Where each element is used by enough others, that costs little
 * and spares evaluating it again in every tile. */
#include "codegen/cuda/dot.h"

enum { THREADS = 256, CHUNK = 8 };
static const u64 FREE_BYTES = 1ull << 30; /* of workspace, whatever the operand has */

DotLimits dot_limits = { .pack_products = 0x1p28, .pack_reuse = 384, .turns = .93 };

static bool depends_on_batch(const Dot *d, const DotOperand *o)
{
	u32 mask = 0;
	for (u32 i = d->b.first; i < d->b.last; i++)
		mask |= d->k->dim[i].extent > 1 ? 1u << i : 0;
	return d->k->inst.v[o->value.i].depends & mask;
}

/* Of the largest tensor that the operand reads. */
static u64 source_bytes(const Dot *d, const DotOperand *o)
{
	u64 most = 0;
	for (u32 i = 0; i < o->load.n; i++) {
		const KSlot *s = &d->k->slot.v[d->k->inst.v[o->load.v[i]].access->slot];
		most = MAX(most, (u64)s->elements * dtype_info[s->dtype].bytes);
	}
	return most;
}

bool dot_pack(const Dot *d, const DotOperand *o, DotPacked *out)
{
	i64 reuse = o->name == 'a' ? d->n.n : d->m.n;
	f64 products = (f64)d->b.n * (f64)d->m.n * (f64)d->n.n * (f64)d->kr.n;
	i64 inner = o->along_k ? d->kr.n : o->x.n;
	*out = (DotPacked){ .batch = depends_on_batch(d, o) ? d->b.n : 1, .outer = o->along_k ? o->x.n : d->kr.n,
			    .inner = inner, .row = (inner + CHUNK - 1) / CHUNK * CHUNK };
	out->bytes = (u64)(out->batch * out->outer * out->row) * 2;
	/* rows of an odd length are a little longer here */
	bool fits = out->bytes <= MAX(FREE_BYTES, source_bytes(d, o) / 8 * 9);
	return reuse >= dot_limits.pack_reuse && products >= dot_limits.pack_products && fits && out->bytes < 1ull << 35;
}

CudaLaunch dot_pack_launch(const DotPacked *p)
{
	u64 chunks = p->bytes / 2 / CHUNK;
	return (CudaLaunch){ .grid = { (u32)((chunks + THREADS - 1) / THREADS), 1, 1 }, .block = { THREADS, 1, 1 } };
}

void dot_pack_emit(CudaText *t, const Dot *d, const DotOperand *o, const DotPacked *p, u64 at, const char *name, u32 phase,
		   const CudaNeeds *needs)
{
	CudaBody body = cuda_body(t, d->k), *b = &body;
	long long row = p->row / CHUNK, outer = p->outer;
	cuda_begin(b, name, phase, THREADS, 0, needs);
	cuda_line(b, "const int i = (int)(blockIdx.x * %du + threadIdx.x);", THREADS);
	cuda_line(b, "if (i >= %llu) return;", (unsigned long long)(p->bytes / 2 / CHUNK));
	cuda_line(b, "const int at = i %% %lld, in_row = i / %lld, other = in_row %% %lld, batch = in_row / %lld;", row, row,
		  outer, outer);
	if (p->batch > 1)
		dot_coordinates(b, d->b, "batch", "batch");
	cuda_line(b, "float w[%d];", CHUNK);
	for (u32 part = 0; part < o->parts; part++) {
		cuda_open(b, "%s", "");
		u32 mark = cuda_mark(b);
		cuda_line(b, "const int inner = at * %d + %u;", CHUNK, part * o->width);
		dot_coordinates(b, o->along_k ? d->kr : o->x, "inner", "inner");
		dot_coordinates(b, o->along_k ? o->x : d->kr, "other", "other");
		b->guard = NULL;
		if (p->row != p->inner) {
			cuda_line(b, "const bool here = inner < %lld;", (long long)p->inner);
			b->guard = "here";
		}
		if (o->width > 1) {
			b->vector_dim = dot_inner(d->k, o->along_k ? d->kr : o->x);
			b->width = b->vector_align = o->width;
		}
		dot_operand_value(b, d, o, "w", part * o->width, b->guard);
		b->guard = NULL;
		b->vector_dim = NONE;
		b->width = 1;
		cuda_release(b, mark);
		cuda_close(b);
	}
	cuda_line(b, "pl_store_%s<%d, %d>((u16 *)(workspace + %llull) + (i64)i * %d, w);", dtype_info[d->k->compute].name, CHUNK,
		  CHUNK, (unsigned long long)at, CHUNK);
	cuda_end(b);
}
