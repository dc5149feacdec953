/* codegen/cuda/attention.c: attention on CUDA, forward. On tensor cores where operands are bf16 or
 * f16 and no wider than 256 features (preamble/attention_tensor.cuh), else by ordinary arithmetic
 * (preamble/attention_plain.cuh). A block of threads has a block of queries of one head; keys and
 * values that are not stored as tensor cores want them are packed first, in a phase of their own,
 * if more than one block will read them. */
#include "codegen/cuda/attention_common.h"

enum { MAX_KEYS_ONCE = 64 /* keys and values that come to shared memory together */ };

/* What a stage of shared memory and the queries take. */
static u32 shared_bytes(const CudaAttention *a, const CudaAttentionTile *t)
{
	u32 fk = cuda_attention_row_bytes(a->fk), fv = cuda_attention_row_bytes(a->fv);
	return cuda_attention_rows(t) * fk + 2 * t->step * (fk + fv);
}

/* Registers: of scores 4 * tiles * columns / 8, of results 4 * tiles * fv / 8. Two tiles of rows
 * halve what a product reads of shared memory; they fit up to 128 features. Up to 64, registers are
 * left for three blocks on a multiprocessor, whose exponentials and products overlap. */
static CudaAttentionTile tile_of(const CudaAttention *a)
{
	const CudaAttentionTile *wanted = cuda_attention_wanted(a, TILE_FORWARD);
	if (wanted)
		return *wanted;
	u32 widest = MAX(a->fk, a->fv);
	bool simple = !a->k->has_mask && !a->k->has_bias;
	CudaAttentionTile t = {
		.warps = 4, .tiles = 2, .columns = 32, .step = MAX_KEYS_ONCE, .blocks = 2
	};
	if (widest <= 64 && simple)
		t.blocks = 3;
	t.held = a->fk <= 32;
	if (widest > 128 || (widest > 64 && !simple))
		t = (CudaAttentionTile){
			.warps = 8, .tiles = 1, .columns = 32, .step = MAX_KEYS_ONCE, .blocks = 1
		};
	/* few queries: fewer rows, which changes no bit of any of them */
	if (a->m.n <= 64 && cuda_attention_rows(&t) > 64)
		t.tiles = 1, t.warps = 4;
	while (t.warps > 1 && a->m.n <= cuda_attention_rows(&t) / 2)
		t.warps /= 2;
	while (t.warps > 1 && shared_bytes(a, &t) > a->arch->shared_per_block && t.step == 32)
		t.warps /= 2;
	while (t.step > t.columns && shared_bytes(a, &t) > a->arch->shared_per_block)
		t.step /= 2;
	while (t.warps > 1 && shared_bytes(a, &t) > a->arch->shared_per_block)
		t.warps /= 2;
	return t;
}

typedef struct Forward {
	CudaAttention a;
	CudaAttentionTile tile;
	u32 rows;   /* queries of a block */
	i64 blocks; /* of a head */
	CudaNeeds needs;
} Forward;

static Forward forward_make(CudaBody *b, const CudaArch *arch, const Kernel *k)
{
	Forward f = { .a = cuda_attention_make(b, arch, k) };
	CudaAttention *a = &f.a;
	CudaNeeds *n = &f.needs;
	u32 threads = 256, shared = 0;
	if (a->tensor) {
		f.tile = tile_of(a);
		f.rows = cuda_attention_rows(&f.tile);
		threads = f.tile.warps * 32;
		shared = shared_bytes(a, &f.tile);
	} else {
		f.rows = a->type == DT_f64 ? 32 : 64;
	}
	f.blocks = (a->m.n + f.rows - 1) / f.rows;
	if (!a->m.n || !a->outer.n || !a->r.n)
		return f; /* nothing is stored */
	if (f.blocks * a->r.n > 1) {
		cuda_attention_pack(a, ATTENTION_KEY);
		cuda_attention_pack(a, ATTENTION_VALUE);
	}
	n->workspace = a->workspace;
	i64 pack = cuda_attention_pack_blocks(a, ATTENTION_KEY) +
		   cuda_attention_pack_blocks(a, ATTENTION_VALUE);
	if (pack)
		n->launch[n->nphase++] = (CudaLaunch){ .grid = { (u32)pack, 1, 1 },
						       .block = { ATTENTION_PACK_THREADS, 1, 1 } };
	n->launch[n->nphase++] =
		(CudaLaunch){ .grid = { (u32)(f.blocks * a->r.n * a->outer.n), 1, 1 },
			      .block = { threads, 1, 1 },
			      .shared = shared };
	return f;
}

static CudaNeeds needs_attention(const CudaArch *arch, const Kernel *k)
{
	return forward_make(NULL, arch, k).needs;
}

static void emit_pack(const Forward *f, const char *name)
{
	CudaBody *b = f->a.b;
	i64 block = 0;
	cuda_begin(b, name, 0, ATTENTION_PACK_THREADS, 0, &f->needs);
	cuda_attention_pack_part(&f->a, ATTENTION_KEY, &block);
	cuda_attention_pack_part(&f->a, ATTENTION_VALUE, &block);
	cuda_end(b);
}

static void emit_attention(CudaText *t, const Kernel *k, const char *name)
{
	CudaBody b = cuda_body(t, k);
	Forward f = forward_make(&b, t->arch, k);
	const CudaAttention *a = &f.a;
	t->preamble |= PREAMBLE_ATTENTION;
	t->preamble |=
		a->tensor ? PREAMBLE_TENSOR | PREAMBLE_ATTENTION_TENSOR : PREAMBLE_ATTENTION_PLAIN;
	if (!f.needs.nphase)
		return;
	u32 phase = f.needs.nphase - 1;
	if (phase)
		emit_pack(&f, name);
	cuda_attention_struct(a, name, phase, a->tensor ? &f.tile : NULL, "");
	cuda_begin(&b, name, phase, f.needs.launch[phase].block[0], a->tensor ? f.tile.blocks : 0,
		   &f.needs);
	cuda_attention_block(a, f.blocks, true, k->causal);
	cuda_attention_forward(a);
	if (a->tensor) {
		cuda_line(&b,
			  "pl_attention<%s_s%u>(block * %u, q, key, value, bias, seen, store_lse, "
			  "store_out);",
			  name, phase, f.rows);
	} else {
		cuda_line(&b, "__shared__ PlainBlock<%s> shared;", cuda_value_type(a->type));
		cuda_line(&b,
			  "pl_plain_attention<%s_s%u>(shared, block * %u, q, key, value, bias, "
			  "seen, store_lse, store_out);",
			  name, phase, f.rows);
	}
	cuda_end(&b);
}

const CudaKernelClass cuda_attention = { .needs = needs_attention, .emit = emit_attention };
