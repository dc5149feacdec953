/* codegen/cuda/attention_common.c: see attention_common.h. */
#include "codegen/cuda/attention_common.h"

#include <math.h>

static CudaRange range_of(const Kernel *k, DimRole role)
{
	CudaRange r = { .first = k->ndim, .n = 1 };
	for (u32 d = 0; d < k->ndim; d++)
		if (k->dim[d].role == role) {
			r.first = MIN(r.first, d);
			r.last = d + 1;
			r.n *= k->dim[d].extent;
		}
	assert(r.first < k->ndim);
	return r;
}

/* The dimension in which features go side by side eight (or two) at a time, NONE if they do not. */
static u32 vector_dim(const Kernel *k, CudaRange f, u32 width)
{
	u32 d = f.last - 1;
	return f.n == k->dim[d].extent || k->dim[d].extent % width == 0 ? d : NONE;
}

/* Rows of 16-bit features that can be copied 16 bytes at a time. */
static bool is_plain(const CudaArch *arch, const Kernel *k, KVal v, CudaRange f)
{
	const KInst *in = &k->inst.v[v.i];
	if (in->op != K_load || in->in[0].i || in->dtype != k->compute || f.n % 8 != 0 ||
	    in->access->ndynamic)
		return false;
	u32 d = f.last - 1;
	if (k->dim[d].extent != f.n)
		return false;
	Arena tmp = ARENA("plain");
	CudaText t = { .arena = &tmp, .out = { .arena = &tmp }, .arch = arch };
	CudaBody b = cuda_body(&t, k);
	b.vector_dim = d;
	b.width = b.vector_align = 8;
	bool fits = cuda_piece(&b, in->access) == 8;
	arena_free(&tmp);
	return fits;
}

CudaAttention cuda_attention_make(CudaBody *b, const CudaArch *arch, const Kernel *k)
{
	CudaAttention a = { .b = b, .k = k, .arch = arch };
	a.type = k->compute == DT_f64 ? DT_f64 : DT_f32;
	a.r = range_of(k, DIM_R);
	a.m = range_of(k, DIM_M);
	a.n = range_of(k, DIM_N);
	a.kd = range_of(k, DIM_K);
	a.v = range_of(k, DIM_V);
	a.outer = (CudaRange){ 0, a.r.first, cuda_extent_product(k, 0, a.r.first) };
	bool narrow = k->compute == DT_bf16 || k->compute == DT_f16;
	a.tensor = narrow && a.kd.n <= 256 && a.v.n <= 256 && !arch->sized;
	u32 at = 3;
	a.mask = k->has_mask ? at++ : 0;
	a.bias = k->has_bias ? at++ : 0;
	if (k->class == KERNEL_ATTENTION_GRAD) {
		a.out = at;
		a.lse = at + 1;
		a.dout = at + 2;
		a.dlse = at + 3 < k->noperand ? at + 3 : 0;
	}
	a.operand[ATTENTION_KEY] = 1;
	a.operand[ATTENTION_VALUE] = 2;
	a.operand[ATTENTION_DOUT] = a.dout;
	a.fk = (u32)ALIGN_UP((u64)a.kd.n, 16);
	a.fv = (u32)ALIGN_UP((u64)a.v.n, 16);
	for (u32 i = 0; i < ATTENTION_OPERANDS && a.tensor; i++) {
		bool value = i == ATTENTION_VALUE || i == ATTENTION_DOUT;
		if (i != ATTENTION_DOUT || a.dout)
			a.plain[i] =
				is_plain(arch, k, k->operand[a.operand[i]], value ? a.v : a.kd);
	}
	return a;
}

u64 cuda_attention_lay(CudaAttention *a, u64 bytes)
{
	u64 at = a->workspace;
	a->workspace = ALIGN_UP(at + bytes, 256);
	return at;
}

static bool has_heads(u32 which)
{
	return which == ATTENTION_Q || which == ATTENTION_DOUT;
}

static CudaRange rows_of(const CudaAttention *a, u32 which)
{
	return has_heads(which) ? a->m : a->n;
}

static CudaRange features_of(const CudaAttention *a, u32 which)
{
	return which == ATTENTION_VALUE || which == ATTENTION_DOUT ? a->v : a->kd;
}

static u32 width_of(const CudaAttention *a, u32 which)
{
	return which == ATTENTION_VALUE || which == ATTENTION_DOUT ? a->fv : a->fk;
}

/* Rows of the operand in all. */
static i64 all_rows(const CudaAttention *a, u32 which)
{
	return a->outer.n * (has_heads(which) ? a->r.n : 1) * rows_of(a, which).n;
}

void cuda_attention_pack(CudaAttention *a, u32 which)
{
	if (a->plain[which] || !a->tensor)
		return;
	a->packed[which] = true;
	a->packed_at[which] =
		cuda_attention_lay(a, (u64)all_rows(a, which) * width_of(a, which) * 2);
}

u32 cuda_attention_row_bytes(u32 features)
{
	/* as AttentionTile of attention_tensor.cuh */
	u32 chunks = features / 8;
	bool turned = chunks % 8 == 0 || chunks == 4 || chunks == 2;
	return (turned ? chunks : chunks | 1) * 16;
}

/* ---- text ---- */

static const char *size_of(const CudaAttention *a, CudaRange r)
{
	return cuda_size(a->b, r.first, r.last);
}

void cuda_attention_struct(const CudaAttention *a, const char *name, u32 phase,
			   const CudaAttentionTile *t, const char *more)
{
	CudaBody *b = a->b;
	const Kernel *k = a->k;
	Arena *arena = b->t->arena;
	f64 scale = k->scale != 0 ? k->scale : 1 / sqrt((f64)a->kd.n);
	const char *type = cuda_value_type(a->type),
		   *round = k->compute == DT_bf16  ? "pl_round_bf16(x)"
			    : k->compute == DT_f16 ? "pl_round_f16(x)"
						   : "x";
	cuda_open(b, "struct %s_s%u", name, phase);
	if (!b->sized) /* there they come as arguments */
		cuda_line(b,
		  "static constexpr int M = %lld, N = %lld, K = %lld, V = %lld, R = %lld, WINDOW = "
		  "%lld;",
		  (long long)a->m.n, (long long)a->n.n, (long long)a->kd.n, (long long)a->v.n,
		  (long long)a->r.n, (long long)k->window);
	cuda_line(b, "static constexpr bool CAUSAL = %d, MASK = %d, BIAS = %d, CAPPED = %d;",
		  k->causal, k->has_mask, k->has_bias, k->softcap > 0);
	cuda_line(b, "static constexpr %s SOFTCAP = %s;", type, cuda_literal(arena, k->softcap, a->type));
	if (!b->sized)
		cuda_line(b, "static constexpr %s SCALE = %s;", type, cuda_literal(arena, scale, a->type));
	if (t)
		cuda_line(b,
			  "static constexpr int FK = %u, FV = %u, WARPS = %u, TILES = %u, COLUMNS "
			  "= %u, STEP = %u; static "
			  "constexpr bool HELD = %d, F16 = %d;",
			  a->fk, a->fv, t->warps, t->tiles, t->columns, t->step, t->held,
			  k->compute == DT_f16);
	else
		cuda_line(b,
			  "typedef %s T; static __device__ __forceinline__ T round(T x) { return "
			  "%s; }",
			  type, round);
	if (*more)
		cuda_line(b, "%s", more);
	cuda_close(b);
	cuda_line(b, ";");
}

CudaLambda cuda_lambda_open(const CudaAttention *a, const char *name, const char *arguments)
{
	CudaBody *b = a->b;
	CudaLambda l = { .mark = cuda_mark(b) };
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		l.coord[d] = b->coord[d];
	cuda_open(b, "%s%s%s[=](%s)", *name ? "auto " : "return ", name, *name ? " = " : "",
		  arguments);
	return l;
}

void cuda_lambda_close(const CudaAttention *a, const CudaLambda *l)
{
	CudaBody *b = a->b;
	cuda_release(b, l->mark);
	for (u32 d = 0; d < KERNEL_DIMS; d++)
		b->coord[d] = l->coord[d];
	b->vector_dim = NONE;
	b->width = b->vector_align = 1;
	cuda_close(b);
	cuda_line(b, ";");
}

void cuda_attention_at(const CudaAttention *a, CudaRange r, const char *flat)
{
	cuda_unflatten(a->b, r.first, r.last, flat);
}

void cuda_attention_block(const CudaAttention *a, i64 blocks, bool heads, bool backwards)
{
	CudaBody *b = a->b;
	cuda_line(b,
		  "const int group = (int)(blockIdx.x / %lldu), at = (int)(blockIdx.x %% %lldu);",
		  (long long)blocks, (long long)blocks);
	cuda_line(b, "const int block = %s;",
		  backwards ? arena_printf(b->t->arena, "%lld - at", (long long)blocks - 1) : "at");
	if (heads)
		cuda_line(b, "const int item = group / %lld, r = group %% %lld;", (long long)a->r.n,
			  (long long)a->r.n);
	else
		cuda_line(b, "const int item = group;");
	cuda_attention_at(a, a->outer, "item");
	if (heads)
		cuda_attention_at(a, a->r, "r");
}

static const char *as_float(const CudaAttention *a, KVal v, const char *x)
{
	DType from = (DType)a->k->inst.v[v.i].dtype;
	return cuda_convert(a->b->t->arena, from, a->type, x);
}

/* The value of operand `which` as products take it: of type a->type, and, where the kernel computes
 * in something narrower, rounded to that. */
static const char *as_taken(const CudaAttention *a, KVal v, const char *x)
{
	DType from = (DType)a->k->inst.v[v.i].dtype;
	return cuda_convert(a->b->t->arena, from, a->k->compute, x);
}

/* Inside a function of (row, feature), whose coordinates of rows are set: eight features of `v`
 * from `feature` on, of range f, to x[8]; zeros from the range's end on. */
static void put_eight(const CudaAttention *a, KVal v, CudaRange f)
{
	CudaBody *b = a->b;
	Arena *arena = b->t->arena;
	const char *zero = cuda_literal(arena, 0, a->type);
	u32 d = vector_dim(a->k, f, 8);
	bool tail = f.n % 8 != 0;
	if (d != NONE) {
		cuda_attention_at(a, f, "feature");
		b->vector_dim = d;
		b->width = b->vector_align = 8;
		b->guard_each =
			tail ? arena_printf(arena, "feature + %%u < %lld", (long long)f.n) : NULL;
		for (u32 j = 0; j < 8; j++) {
			const char *x = as_float(a, v, cuda_element(b, v, j));
			if (tail)
				cuda_line(b, "x[%u] = feature + %u < %lld ? %s : %s;", j, j,
					  (long long)f.n, x, zero);
			else
				cuda_line(b, "x[%u] = %s;", j, x);
		}
		b->guard_each = NULL;
		return;
	}
	cuda_line(b, "#pragma unroll 1");
	cuda_open(b, "for (int e = 0; e < 8; e++)");
	cuda_line(b, "const int one = feature + e;");
	cuda_line(b, "x[e] = %s;", zero);
	cuda_open(b, "if (one < %lld)", (long long)f.n);
	u32 mark = cuda_mark(b);
	cuda_attention_at(a, f, "one");
	cuda_line(b, "x[e] = %s;", as_float(a, v, cuda_scalar(b, v)));
	cuda_release(b, mark);
	cuda_close(b);
	cuda_close(b);
}

/* x[8] as 16 bytes of the kernel's narrow numbers. */
static const char *packed_eight(const CudaAttention *a)
{
	const char *pair = a->k->compute == DT_bf16 ? "pl_pair_bf16" : "pl_pair_f16";
	return arena_printf(
		a->b->t->arena,
		"uint4{ %s(x[0], x[1]), %s(x[2], x[3]), %s(x[4], x[5]), %s(x[6], x[7]) }", pair,
		pair, pair, pair);
}

static void put_chunk(const CudaAttention *a, u32 which)
{
	cuda_line(a->b, "float x[8];");
	put_eight(a, a->k->operand[a->operand[which]], features_of(a, which));
	cuda_line(a->b, "return %s;", packed_eight(a));
}

/* The operand at fixed coordinates of what is around rows: `NAME`, or what a function returns where
 * name is "". */
static void put_operand(const CudaAttention *a, u32 which, const char *name)
{
	CudaBody *b = a->b;
	Arena *arena = b->t->arena;
	KVal v = a->k->operand[a->operand[which]];
	CudaRange rows = rows_of(a, which), f = features_of(a, which);
	const char *inner = *name ? arena_printf(arena, "%s_at", name) : "at", *kind = "rows";
	CudaLambda l;
	if (!a->tensor) {
		l = cuda_lambda_open(a, name, "int row, int feature");
		cuda_attention_at(a, rows, "row");
		cuda_attention_at(a, f, "feature");
		cuda_line(b, "return %s;", as_taken(a, v, cuda_scalar(b, v)));
		cuda_lambda_close(a, &l);
		return;
	}
	if (a->packed[which]) {
		l = cuda_lambda_open(a, inner, "int row");
		const char *outer = has_heads(which) ? arena_printf(arena, "((i64)item * %lld + r)",
								    (long long)a->r.n)
						     : "(i64)item";
		cuda_line(b, "return (const u16 *)(workspace + %llu) + (%s * %lld + row) * %u;",
			  (unsigned long long)a->packed_at[which], outer, (long long)rows.n,
			  width_of(a, which));
	} else if (a->plain[which]) {
		const Access *access = a->k->inst.v[v.i].access;
		l = cuda_lambda_open(a, inner, "int row");
		cuda_attention_at(a, rows, "row");
		for (u32 d = f.first; d < f.last; d++)
			b->coord[d] = "0";
		cuda_line(b, "return s%u + (%s);", access->slot, cuda_index(b, access));
	} else {
		kind = "computed";
		l = cuda_lambda_open(a, inner, "int row, int feature");
		cuda_attention_at(a, rows, "row");
		put_chunk(a, which);
	}
	cuda_lambda_close(a, &l);
	if (*name)
		cuda_line(b, "auto %s = pl_attention_%s(%s);", name, kind, inner);
	else
		cuda_line(b, "return pl_attention_%s(%s);", kind, inner);
}

void cuda_attention_operand(const CudaAttention *a, u32 which, const char *name, CudaHead head)
{
	if (head == HEAD_FIXED) {
		put_operand(a, which, name);
		return;
	}
	CudaLambda l = cuda_lambda_open(a, name, "int r");
	cuda_attention_at(a, a->r, "r");
	put_operand(a, which, "");
	cuda_lambda_close(a, &l);
}

/* A function of a score's place, which gives `otherwise` where there is none. */
static void put_score(const CudaAttention *a, u32 in, const char *name, CudaHead head, DType as,
		      const char *otherwise)
{
	CudaBody *b = a->b;
	Arena *arena = b->t->arena;
	CudaLambda l = cuda_lambda_open(
		a, name, head == HEAD_FIXED ? "int m, int n" : "int r, int m, int n");
	cuda_line(b, "if (m >= %s || n >= %s) return %s;", size_of(a, a->m), size_of(a, a->n), otherwise);
	if (in) {
		KVal v = a->k->operand[in];
		if (head == HEAD_ARGUMENT)
			cuda_attention_at(a, a->r, "r");
		cuda_attention_at(a, a->m, "m");
		cuda_attention_at(a, a->n, "n");
		const char *x = cuda_scalar(b, v);
		cuda_line(b, "return %s;",
			  cuda_convert(arena, (DType)a->k->inst.v[v.i].dtype, as, x));
	} else {
		cuda_line(b, "return %s;", otherwise);
	}
	cuda_lambda_close(a, &l);
}

void cuda_attention_scores(const CudaAttention *a, CudaHead head)
{
	put_score(a, a->bias, "bias", head, a->type, cuda_literal(a->b->t->arena, 0, a->type));
	put_score(a, a->mask, "seen", head, DT_b1, "false");
}

void cuda_attention_number(const CudaAttention *a, u32 in, const char *name)
{
	CudaBody *b = a->b;
	CudaLambda l = cuda_lambda_open(a, name, "int row");
	if (in) {
		cuda_attention_at(a, a->m, "row");
		KVal x = a->k->operand[in];
		cuda_line(b, "return %s;", as_float(a, x, cuda_scalar(b, x)));
	} else {
		cuda_line(b, "return %s;", cuda_literal(b->t->arena, 0, a->type));
	}
	cuda_lambda_close(a, &l);
}

void cuda_attention_numbers(const CudaAttention *a, u32 in, const char *name)
{
	CudaBody *b = a->b;
	CudaLambda l =
		cuda_lambda_open(a, name,
				 arena_printf(b->t->arena, "int row, int feature, %s (&x)[8]",
					      cuda_value_type(a->type)));
	cuda_attention_at(a, a->m, "row");
	put_eight(a, a->k->operand[in], a->v);
	cuda_lambda_close(a, &l);
}

void cuda_attention_keep(const CudaAttention *a, u32 which, const char *name)
{
	CudaBody *b = a->b;
	CudaLambda l =
		cuda_lambda_open(a, name,
				 arena_printf(b->t->arena, "int row, int feature, const %s (&x)[8]",
					      cuda_value_type(a->type)));
	if (a->packed[which]) {
		u32 width = width_of(a, which);
		i64 features = features_of(a, which).n;
		cuda_line(b,
			  "uint4 *to = (uint4 *)((u16 *)(workspace + %llu) + ((i64)group * %lld + "
			  "row) * %u + feature);",
			  (unsigned long long)a->packed_at[which], (long long)rows_of(a, which).n,
			  width);
		cuda_line(b, "*to = %s;", packed_eight(a));
		/* the width is a multiple of 16 */
		if (features <= width - 8)
			cuda_line(b, "if (feature + 8 >= %lld) to[1] = uint4{ 0, 0, 0, 0 };",
				  (long long)features);
	}
	cuda_lambda_close(a, &l);
}

/* ---- packing ---- */

i64 cuda_attention_pack_blocks(const CudaAttention *a, u32 which)
{
	if (!a->packed[which])
		return 0;
	i64 chunks = all_rows(a, which) * (width_of(a, which) / 8),
	    share = ATTENTION_PACK_THREADS * 4;
	return MIN((chunks + share - 1) / share, 1 << 20);
}

void cuda_attention_pack_part(const CudaAttention *a, u32 which, i64 *block)
{
	static const char *const said[] = { "q", "keys", "values", "dout" };
	CudaBody *b = a->b;
	i64 blocks = cuda_attention_pack_blocks(a, which);
	if (!blocks)
		return;
	cuda_line(b, "// %s", said[which]);
	cuda_open(b, "if (blockIdx.x < %lldu)", (long long)(*block + blocks));
	CudaLambda l = cuda_lambda_open(a, "chunk", "i64 at, int feature");
	cuda_line(b, "const int row = (int)(at %% %lld), head = (int)(at / %lld);",
		  (long long)rows_of(a, which).n, (long long)rows_of(a, which).n);
	if (has_heads(which)) {
		cuda_line(b, "const int item = head / %lld, r = head %% %lld;", (long long)a->r.n,
			  (long long)a->r.n);
		cuda_attention_at(a, a->r, "r");
	} else {
		cuda_line(b, "const int item = head;");
	}
	cuda_attention_at(a, a->outer, "item");
	cuda_attention_at(a, rows_of(a, which), "row");
	put_chunk(a, which);
	cuda_lambda_close(a, &l);
	cuda_line(b,
		  "pl_attention_pack<%u, %lld, %d>((u16 *)(workspace + %llu), %lldll, chunk, "
		  "(i64)blockIdx.x - %lld, %lld);",
		  width_of(a, which), (long long)features_of(a, which).n, ATTENTION_PACK_THREADS,
		  (unsigned long long)a->packed_at[which], (long long)all_rows(a, which),
		  (long long)*block, (long long)blocks);
	cuda_line(b, "return;");
	cuda_close(b);
	*block += blocks;
}

/* ---- results ---- */

static void set_result(const CudaAttention *a, u32 which, const char *name, bool vector)
{
	CudaBody *b = a->b;
	for (u32 i = 1; i < a->k->inst.n; i++) {
		const KInst *in = &a->k->inst.v[i];
		if (in->op != K_acc || (u32)in->imm != which)
			continue;
		assert(in->dtype == a->type);
		cuda_set(b, (KVal){ i }, name, vector);
	}
}

/* The stores that need `which` and no other result but those of the mask `known`. */
static void put_stores(const CudaAttention *a, u32 which, u32 known)
{
	for (u32 i = 1; i < a->k->inst.n; i++) {
		u32 needs = a->k->inst.v[i].op == K_store ? kernel_results_needed(a->k, (KVal){ i }) : 0;
		if (needs >> which & 1 && !(needs & ~(known | 1u << which)))
			cuda_store(a->b, i);
	}
}

void cuda_attention_store(const CudaAttention *a, u32 which, const char *name, CudaRange x,
			  CudaRange f, bool with_lse)
{
	CudaBody *b = a->b;
	Arena *arena = b->t->arena;
	const char *type = cuda_value_type(a->type);
	CudaLambda l = cuda_lambda_open(a, name,
					arena_printf(arena, "int row, int feature, %s%s%s x0%s",
						     with_lse ? type : "", with_lse ? " lse, " : "",
						     type, a->tensor ? ", float x1" : ""));
	u32 known = with_lse ? 1u << 1 : 0;
	cuda_attention_at(a, x, "row");
	u32 d = vector_dim(a->k, f, 2);
	if (a->tensor && d != NONE) {
		cuda_attention_at(a, f, "feature");
		b->vector_dim = d;
		b->width = b->vector_align = 2;
		b->guard_each =
			f.n % 2 ? arena_printf(arena, "feature + %%u < %lld", (long long)f.n)
				: NULL;
		cuda_line(b, "const float x[2] = { x0, x1 };");
		if (with_lse)
			set_result(a, 1, "lse", false);
		set_result(a, which, "x", true);
		put_stores(a, which, known);
		b->guard_each = NULL;
	} else {
		for (u32 i = 0; i < (a->tensor ? 2 : 1); i++) {
			cuda_open(b, "if (feature + %u < %s)", i, size_of(a, f));
			cuda_line(b, "const int one = feature + %u;", i);
			u32 mark = cuda_mark(b);
			cuda_attention_at(a, f, "one");
			if (with_lse)
				set_result(a, 1, "lse", false);
			set_result(a, which, i ? "x1" : "x0", false);
			put_stores(a, which, known);
			cuda_release(b, mark);
			cuda_close(b);
		}
	}
	cuda_lambda_close(a, &l);
}

void cuda_attention_store_row(const CudaAttention *a, u32 which, const char *name)
{
	CudaLambda l = cuda_lambda_open(
		a, name, arena_printf(a->b->t->arena, "int row, %s x", cuda_value_type(a->type)));
	cuda_attention_at(a, a->m, "row");
	set_result(a, which, "x", false);
	put_stores(a, which, 0);
	cuda_lambda_close(a, &l);
}

void cuda_attention_store_score(const CudaAttention *a, u32 which, const char *name)
{
	CudaLambda l = cuda_lambda_open(
		a, name,
		arena_printf(a->b->t->arena, "int m, int n, %s x", cuda_value_type(a->type)));
	cuda_attention_at(a, a->m, "m");
	cuda_attention_at(a, a->n, "n");
	set_result(a, which, "x", false);
	put_stores(a, which, 0);
	cuda_lambda_close(a, &l);
}

void cuda_attention_forward(const CudaAttention *a)
{
	cuda_attention_operand(a, ATTENTION_Q, "q", HEAD_FIXED);
	cuda_attention_operand(a, ATTENTION_KEY, "key", HEAD_FIXED);
	cuda_attention_operand(a, ATTENTION_VALUE, "value", HEAD_FIXED);
	cuda_attention_scores(a, HEAD_FIXED);
	cuda_attention_store_row(a, 1, "store_lse");
	cuda_attention_store(a, 0, "store_out", a->m, a->v, true);
}
