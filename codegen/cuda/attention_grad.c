/* codegen/cuda/attention_grad.c: the gradient of attention on CUDA: on tensor cores
 * (preamble/attention_tensor_grad.cuh, which says why it is two walks), or by ordinary arithmetic
 * (preamble/attention_plain.cuh). Its phases:
 *
 *   0  two numbers for each row of queries (log-sum-exp, rowsum(dout out) - dlse) go to the
 * workspace; operands that are not stored as tensor cores want them are packed there 1  dk and dv
 * by blocks of keys, summed over the queries and heads that share them, in order; two phases where
 * both are too wide for the registers of one 2  dq, and dbias, by blocks of queries */
#include "codegen/cuda/attention_common.h"

enum {
	PADDED_TO = 128 /* rows of queries of a head in the workspace */,
	ROW_THREADS = 256,
	WIDE = 128
};

typedef enum Part { PART_ROWS, PART_KEYS, PART_QUERIES } Part;

typedef struct Phase {
	Part part;
	CudaAttentionTile tile;
	u32 rows;   /* keys or queries of a block */
	i64 blocks; /* of a head, or of a group of heads */
	bool want_k, want_v;
} Phase;

typedef struct Grad {
	CudaAttention a;
	bool want[4]; /* dq, dk, dv, dbias */
	i64 padded;
	u64 lse_at, d_at; /* in the workspace */
	Phase phase[CUDA_PHASES];
	CudaNeeds needs;
} Grad;

/* ---- division ---- */

static u32 shared_bytes(const CudaAttention *a, const Phase *p)
{
	const CudaAttentionTile *t = &p->tile;
	u32 fk = cuda_attention_row_bytes(a->fk), fv = cuda_attention_row_bytes(a->fv),
	    rows = cuda_attention_rows(t);
	if (p->part == PART_QUERIES)
		return rows * (fk + fv) + 2 * t->step * (fk + fv);
	return rows * (fk + (p->want_k ? fv : 0)) +
	       2 * (t->step * (fk + fv) + (u32)ALIGN_UP(2 * t->step * 4, 128));
}

/* Registers: of P and dS 2 * 4 * tiles * columns / 8; of results 4 * tiles * width / 8 for each; of
 * held operands 4 * tiles * (fk + fv) / 16. */
static CudaAttentionTile tile_of(const CudaAttention *a, const Phase *p)
{
	const CudaAttentionTile *wanted =
		cuda_attention_wanted(a, p->part == PART_KEYS ? TILE_KEYS : TILE_QUERIES);
	if (wanted)
		return *wanted;
	u32 widest = MAX(a->fk, a->fv);
	bool simple = !a->k->has_mask && !a->k->has_bias, keys = p->part == PART_KEYS;
	CudaAttentionTile t;
	if (widest <= 64)
		t = (CudaAttentionTile){ .warps = 4,
					 .tiles = 2,
					 .columns = 32,
					 .step = 64,
					 .held = !keys,
					 .blocks = 2 };
	else if (widest <= WIDE)
		t = (CudaAttentionTile){ .warps = 8,
					 .tiles = 1,
					 .columns = 32,
					 .step = 64,
					 .held = !keys,
					 .blocks = 1 };
	else
		t = (CudaAttentionTile){
			.warps = 8, .tiles = 1, .columns = 32, .step = 32, .blocks = 1
		};
	if (!simple && t.tiles == 2)
		t.tiles = 1;
	if (!simple && widest > WIDE && a->arch->major >= 10)
		t.columns = 16; /* its code takes more registers: heads of 192 would spill */
	/* rows that there are; fewer change no bit of any of them */
	i64 rows = keys ? a->n.n : a->m.n;
	if (rows <= 64 && t.warps * t.tiles > 4)
		t.tiles = 1, t.warps = 4;
	while (t.warps > 1 && rows <= cuda_attention_rows(&t) / 2)
		t.warps /= 2;
	Phase sized = *p;
	for (sized.tile = t; shared_bytes(a, &sized) > a->arch->shared_per_block; sized.tile = t) {
		if (t.step > t.columns)
			t.step /= 2;
		else if (t.warps > 2)
			t.warps /= 2;
		else if (t.columns > 16)
			t.columns /= 2;
		else
			t.warps /= 2;
		assert(t.warps);
	}
	return t;
}

/* Lanes that share a row of queries: eight features at a time for each. */
static u32 row_lanes(const CudaAttention *a)
{
	u32 n = 1;
	while (n < 32 && n * 8 < a->v.n)
		n *= 2;
	return n;
}

static void add_phase(Grad *g, Phase p)
{
	CudaAttention *a = &g->a;
	u32 threads = 256, shared = 0;
	i64 groups = a->outer.n * (p.part == PART_QUERIES ? a->r.n : 1),
	    n = p.part == PART_QUERIES ? a->m.n : a->n.n;
	if (p.part == PART_ROWS) {
		i64 rows = ROW_THREADS / row_lanes(a); /* of a block */
		p.blocks = (a->outer.n * a->r.n * g->padded + rows - 1) / rows;
		groups = 1;
		for (u32 i = 0; i < ATTENTION_DOUT; i++)
			p.blocks += cuda_attention_pack_blocks(a, i);
	} else {
		if (a->tensor) {
			p.tile = tile_of(a, &p);
			p.rows = cuda_attention_rows(&p.tile);
			threads = p.tile.warps * 32;
			shared = shared_bytes(a, &p);
		} else {
			p.rows = a->type == DT_f64 ? 32 : 64;
			p.tile.blocks = 2; /* 128 registers: left alone, ptxas would rather spill than use more than 64 */
		}
		p.blocks = (n + p.rows - 1) / p.rows;
	}
	if (!p.blocks || !groups)
		return;
	g->phase[g->needs.nphase] = p;
	g->needs.launch[g->needs.nphase++] =
		(CudaLaunch){ .grid = { (u32)(p.blocks * groups), 1, 1 },
			      .block = { threads, 1, 1 },
			      .shared = shared };
}

static Grad grad_make(CudaBody *b, const CudaArch *arch, const Kernel *k)
{
	Grad g = { .a = cuda_attention_make(b, arch, k) };
	CudaAttention *a = &g.a;
	for (u32 i = 0; i < 4; i++)
		g.want[i] = kernel_stores_result(k, i);
	g.padded = (i64)ALIGN_UP((u64)a->m.n, PADDED_TO);
	u64 bytes = (u64)(a->outer.n * a->r.n * g.padded) * dtype_info[a->type].bytes;
	g.lse_at = cuda_attention_lay(a, bytes);
	g.d_at = cuda_attention_lay(a, bytes);
	for (u32 i = 0; i < ATTENTION_OPERANDS; i++)
		cuda_attention_pack(a, i);
	g.needs.workspace = a->workspace;
	add_phase(&g, (Phase){ .part = PART_ROWS });
	bool keys = g.want[1] || g.want[2], both = g.want[1] && g.want[2];
	if (both && a->tensor && MAX(a->fk, a->fv) > WIDE) {
		add_phase(&g, (Phase){ .part = PART_KEYS, .want_v = true });
		add_phase(&g, (Phase){ .part = PART_KEYS, .want_k = true });
	} else if (keys) {
		add_phase(&g,
			  (Phase){ .part = PART_KEYS, .want_k = g.want[1], .want_v = g.want[2] });
	}
	if (g.want[0] || g.want[3])
		add_phase(&g, (Phase){ .part = PART_QUERIES });
	return g;
}

static CudaNeeds needs_grad(const CudaArch *arch, const Kernel *k)
{
	return grad_make(NULL, arch, k).needs;
}

/* ---- code ---- */

static void emit_rows(const Grad *g, const char *name, u32 phase)
{
	const CudaAttention *a = &g->a;
	CudaBody *b = a->b;
	const char *type = cuda_value_type(a->type);
	cuda_attention_struct(a, name, phase, NULL, "");
	cuda_begin(b, name, phase, ROW_THREADS, 0, &g->needs);
	i64 block = 0;
	for (u32 i = 0; i < ATTENTION_DOUT; i++)
		cuda_attention_pack_part(a, i, &block);
	i64 rows = a->outer.n * a->r.n * g->padded;
	u32 lanes = row_lanes(a);
	/* whole warps: rows are a multiple of PADDED_TO */
	cuda_line(b, "const i64 all = ((i64)blockIdx.x - %lld) * %u + threadIdx.x / %u;",
		  (long long)block, ROW_THREADS / lanes, lanes);
	cuda_line(b, "if (all >= %lldll) return;", (long long)rows);
	cuda_line(b, "const int m = (int)(all %% %lld), group = (int)(all / %lld);",
		  (long long)g->padded, (long long)g->padded);
	cuda_line(b, "const int item = group / %lld, r = group %% %lld;", (long long)a->r.n,
		  (long long)a->r.n);
	cuda_attention_at(a, a->outer, "item");
	cuda_attention_at(a, a->r, "r");
	cuda_attention_numbers(a, a->dout, "dout");
	cuda_attention_numbers(a, a->out, "out");
	cuda_attention_number(a, a->lse, "lse");
	cuda_attention_number(a, a->dlse, "dlse");
	cuda_attention_keep(a, ATTENTION_DOUT, "keep");
	cuda_line(b, "%s *rows = (%s *)(workspace + %llu), *d = (%s *)(workspace + %llu);", type,
		  type, (unsigned long long)g->lse_at, type, (unsigned long long)g->d_at);
	cuda_line(b,
		  "pl_attention_row_numbers<%s_s%u, %u>(rows + (all - m), d + (all - m), m, %s, "
		  "dout, out, lse, dlse, keep);",
		  name, phase, lanes,
		  a->tensor ? "PL_LOG2E" : arena_printf(b->t->arena, "(%s)1", type));
	cuda_end(b);
}

/* The two numbers of the rows of head `head`, a C expression. */
static void put_rows(const Grad *g, const char *head)
{
	const char *type = cuda_value_type(g->a.type);
	cuda_line(g->a.b, "const %s *lse_rows = (const %s *)(workspace + %llu) + (i64)(%s) * %lld;",
		  type, type, (unsigned long long)g->lse_at, head, (long long)g->padded);
	cuda_line(g->a.b, "const %s *d_rows = (const %s *)(workspace + %llu) + (i64)(%s) * %lld;",
		  type, type, (unsigned long long)g->d_at, head, (long long)g->padded);
}

static void emit_keys(const Grad *g, const char *name, u32 phase)
{
	const CudaAttention *a = &g->a;
	CudaBody *b = a->b;
	const Phase *p = &g->phase[phase];
	Arena *arena = b->t->arena;
	cuda_attention_struct(a, name, phase, a->tensor ? &p->tile : NULL,
			      arena_printf(arena, "static constexpr bool WANT_K = %d, WANT_V = %d;",
					   p->want_k, p->want_v));
	cuda_begin(b, name, phase, g->needs.launch[phase].block[0], p->tile.blocks, &g->needs);
	/* early keys are seen by most queries: they come first as they are */
	cuda_attention_block(a, p->blocks, false, false);
	cuda_attention_operand(a, ATTENTION_Q, "q", HEAD_ARGUMENT);
	cuda_attention_operand(a, ATTENTION_KEY, "key", HEAD_FIXED);
	cuda_attention_operand(a, ATTENTION_VALUE, "value", HEAD_FIXED);
	cuda_attention_operand(a, ATTENTION_DOUT, "dout", HEAD_ARGUMENT);
	cuda_attention_scores(a, HEAD_ARGUMENT);
	cuda_attention_store(a, 1, "store_dk", a->n, a->kd, false);
	cuda_attention_store(a, 2, "store_dv", a->n, a->v, false);
	put_rows(g, arena_printf(arena, "item * %lld", (long long)a->r.n));
	if (!a->tensor)
		cuda_line(b, "__shared__ PlainBlock<%s> shared;", cuda_value_type(a->type));
	cuda_line(b,
		  "%s<%s_s%u, %lld>(%sblock * %u, q, key, value, dout, lse_rows, d_rows, bias, "
		  "seen, store_dk, store_dv);",
		  a->tensor ? "pl_attention_grad_keys" : "pl_plain_grad_keys", name, phase,
		  (long long)g->padded, a->tensor ? "" : "shared, ", p->rows);
	cuda_end(b);
}

static void emit_queries(const Grad *g, const char *name, u32 phase)
{
	const CudaAttention *a = &g->a;
	CudaBody *b = a->b;
	const Phase *p = &g->phase[phase];
	Arena *arena = b->t->arena;
	cuda_attention_struct(a, name, phase, a->tensor ? &p->tile : NULL,
			      arena_printf(arena,
					   "static constexpr bool WANT_Q = %d, WANT_BIAS = %d;",
					   g->want[0], g->want[3]));
	cuda_begin(b, name, phase, g->needs.launch[phase].block[0], p->tile.blocks, &g->needs);
	cuda_attention_block(a, p->blocks, true, a->k->causal);
	cuda_attention_operand(a, ATTENTION_Q, "q", HEAD_FIXED);
	cuda_attention_operand(a, ATTENTION_KEY, "key", HEAD_FIXED);
	cuda_attention_operand(a, ATTENTION_VALUE, "value", HEAD_FIXED);
	cuda_attention_operand(a, ATTENTION_DOUT, "dout", HEAD_FIXED);
	cuda_attention_scores(a, HEAD_FIXED);
	cuda_attention_store(a, 0, "store_dq", a->m, a->kd, false);
	cuda_attention_store_score(a, 3, "store_dbias");
	put_rows(g, "group");
	if (!a->tensor)
		cuda_line(b, "__shared__ PlainBlock<%s> shared;", cuda_value_type(a->type));
	cuda_line(b,
		  "%s<%s_s%u>(%sblock * %u, q, key, value, dout, lse_rows, d_rows, bias, seen, "
		  "store_dq, store_dbias);",
		  a->tensor ? "pl_attention_grad_queries" : "pl_plain_grad_queries", name, phase,
		  a->tensor ? "" : "shared, ", p->rows);
	cuda_end(b);
}

static void emit_grad(CudaText *t, const Kernel *k, const char *name)
{
	CudaBody b = cuda_body(t, k);
	Grad g = grad_make(&b, t->arch, k);
	t->preamble |= PREAMBLE_ATTENTION;
	t->preamble |= g.a.tensor ? PREAMBLE_TENSOR | PREAMBLE_ATTENTION_TENSOR |
					    PREAMBLE_ATTENTION_TENSOR_GRAD
				  : PREAMBLE_ATTENTION_PLAIN;
	for (u32 i = 0; i < g.needs.nphase; i++) {
		switch (g.phase[i].part) {
		case PART_ROWS:
			emit_rows(&g, name, i);
			break;
		case PART_KEYS:
			emit_keys(&g, name, i);
			break;
		case PART_QUERIES:
			emit_queries(&g, name, i);
			break;
		}
	}
}

const CudaKernelClass cuda_attention_grad = { .needs = needs_grad, .emit = emit_grad };
