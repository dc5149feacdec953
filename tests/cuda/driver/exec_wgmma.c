/* exec_wgmma.c: wgmma: the product of a 64 x K tile (shared memory or registers) and a K x N tile in
 * shared memory, added to registers of four warps. Warp i of the four holds rows 16i to 16i+15. A product
 * is one operation of the warpgroup: it begins when all four have issued it, and when one of them has
 * waited for it, it is done for all. async=late does it only then.
 * Shared tiles are read through 64-bit descriptors: address, two strides and a swizzle, in units of 16
 * bytes; "core matrices" are 8 rows of 16 bytes. */
#include "decode.h"
#include "engine.h"
#include "race.h"
#include "tensor_map.h"

typedef struct Tile {
	u32 address, leading, stride, span; /* bytes; span of the swizzle, 0 for none */
	Type type;                          /* of an element */
	bool transposed;                    /* the dimension that is not k is contiguous */
} Tile;

static Tile tile_of(u64 descriptor, Type type, bool transposed)
{
	static const u32 spans[] = { 0, 128, 64, 32 };
	return (Tile){ .address = (u32)(descriptor & 0x3fff) << 4, .leading = (u32)(descriptor >> 16 & 0x3fff) << 4,
		       .stride = (u32)(descriptor >> 32 & 0x3fff) << 4, .span = spans[descriptor >> 62], .type = type, .transposed = transposed };
}

/* Byte address of element (row m or column n, k); those of a transposed tile are of 16 bits. */
static u32 place(const Tile *t, u32 mn, u32 k)
{
	u32 at, along = k * type_bytes(t->type);
	if (!t->transposed && !t->span)
		at = mn / 8 * t->stride + mn % 8 * 16 + along / 16 * t->leading + along % 16;
	else if (!t->transposed)
		at = mn / 8 * t->stride + mn % 8 * t->span + along;
	else if (!t->span)
		at = mn / 8 * t->stride + mn % 8 * 2 + k / 8 * t->leading + k % 8 * 16;
	else
		at = mn % (t->span / 2) * 2 + mn / (t->span / 2) * t->leading + k % 8 * t->span + k / 8 * t->stride;
	return swizzled(t->address + at, t->span);
}

/* How deep a product is, along k: 32 bytes of each operand. */
static u32 depth_of(Type t)
{
	return 32 / type_bytes(t);
}

/* The depth x n part of a tile from row or column `first` on, as out[k][0..n). A chunk of 16 bytes holds
 * elements along the contiguous dimension. */
static bool read_tile(Warp *w, const Inst *in, const Tile *t, u32 first, u32 n, f32 *out, u32 row)
{
	u32 bytes = type_bytes(t->type), chunk = 16 / bytes;
	u32 steps_k = t->transposed ? 1 : chunk, steps_mn = t->transposed ? chunk : 1;
	for (u32 k = 0; k < depth_of(t->type); k += steps_k)
		for (u32 j = 0; j < n; j += steps_mn) {
			u32 at = place(t, first + j, k);
			u8 *p = resolve(w, in, 0, SPACE_SHARED, at, 16, false);
			if (!p || (w->block->race && !race_proxy_read(w, in, 0, at, 16)))
				return false;
			for (u32 i = 0; i < chunk; i++) {
				u32 bits = 0;
				memcpy(&bits, p + i * bytes, bytes);
				out[t->transposed ? k * row + j + i : (k + i) * row + j] = f32_of_element(t->type, bits);
			}
		}
	return true;
}

/* list: d, then a's registers or nothing; reg[1] and reg[2] descriptors, reg[3] scale-d; flags as below. */
enum { A_IN_REGISTERS = 1, NEGATE_A = 2, NEGATE_B = 4, TRANSPOSE_A = 8, TRANSPOSE_B = 16 };

static bool multiply(Warp *w, const Inst *in, const Pending *p)
{
	enum { MOST_K = 32 };
	Type type_a = (Type)in->from, type_b = (Type)in->type;
	u32 n = (u32)in->offset, first = 16 * (w->index % 4), depth = depth_of(type_a);
	f32 b[MOST_K][256], acc[16][256];
	f32 a[MOST_K][16]; /* transposed, as read_tile gives it */
	Tile ta = tile_of(p->a, type_a, in->flags & TRANSPOSE_A), tb = tile_of(p->b, type_b, in->flags & TRANSPOSE_B);
	if (!read_tile(w, in, &tb, 0, n, b[0], 256))
		return false;
	const u32 *ra = in->list + n / 2;
	u32 per = 4 / type_bytes(type_a); /* elements in a register */
	for (u32 l = 0; l < LANES; l++)
		for (u32 i = 0; i < 4 * per && in->flags & A_IN_REGISTERS; i++) {
			u32 reg = i / per, k = per * (l % 4 + 4 * (reg / 2)) + i % per;
			a[k][l / 4 + 8 * (reg & 1)] = f32_of_element(type_a, r32(w, ra[reg])[l] >> 32 / per * (i % per));
		}
	if (!(in->flags & A_IN_REGISTERS) && !read_tile(w, in, &ta, first, 16, a[0], 16))
		return false;
	bool negative = !(in->flags & NEGATE_A) != !(in->flags & NEGATE_B);
	f32 sign = negative ? -1 : 1;
	for (u32 l = 0; l < LANES; l++)
		for (u32 i = 0; i < n / 2; i++)
			acc[l / 4 + 8 * (i / 2 & 1)][8 * (i / 4) + 2 * (l % 4) + (i & 1)] = p->add ? rf32(w, in->list[i])[l] : 0;
	bool cut = settings()->short_sums && type_bytes(type_a) == 1;
	for (u32 e = 0; e < 16 * n && cut; e++) {
		f32 product[MOST_K];
		for (u32 k = 0; k < depth; k++)
			product[k] = sign * a[k][e / n] * b[k][e % n];
		acc[e / n][e % n] = short_sum(acc[e / n][e % n], product, depth);
	}
	for (u32 i = 0; i < 16 && !cut; i++)
		for (u32 k = 0; k < depth; k++) {
			f32 x = sign * a[k][i];
			for (u32 j = 0; j < n; j++)
				acc[i][j] = __builtin_fmaf(x, b[k][j], acc[i][j]);
		}
	for (u32 l = 0; l < LANES; l++)
		for (u32 i = 0; i < n / 2; i++)
			rf32(w, in->list[i])[l] = acc[l / 4 + 8 * (i / 2 & 1)][8 * (i / 4) + 2 * (l % 4) + (i & 1)];
	return true;
}

static Action together(Warp *w, const Inst *in, u32 mask)
{
	if (mask != w->fragment[w->current].mask || w->live != ALL_LANES)
		return fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "only lanes %08x execute what all 32 must", mask);
	return converged(w, ALL_LANES) ? GO : WAIT;
}

/* Does the products of all four warps up to `number`; false after a fault. */
static bool perform_through(Warp *w, u32 number)
{
	Block *b = w->block;
	u32 first = w->index & ~3u;
	for (u32 i = first; i < first + 4; i++) {
		Warp *x = &b->warp[i];
		u32 kept = 0;
		for (u32 k = 0; k < x->products.n; k++) {
			Pending p = x->products.v[k];
			if (p.number > number)
				x->products.v[kept++] = p;
			else if (!multiply(x, p.in, &p))
				return false;
		}
		if (b->race && kept != x->products.n)
			race_release(x, engine_of(b)->warpgroup_clock[first / 4]);
		x->products.n = kept;
	}
	return true;
}

/* How many products all four have issued. */
static u32 issued_by_all(const Warp *w)
{
	const Warp *x = &w->block->warp[w->index & ~3u];
	u32 n = x[0].products_issued;
	for (u32 i = 1; i < 4; i++)
		n = MIN(n, x[i].products_issued);
	return n;
}

static Action issue(Warp *w, const Inst *in, u32 mask)
{
	Action action = together(w, in, mask);
	Block *b = w->block;
	if (action != GO)
		return action;
	if ((w->index | 3u) >= b->nwarp)
		return fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "the warpgroup has fewer than four warps");
	Pending p = { .in = in, .b = r64(w, in->reg[2])[0], .add = predicate(w, in->reg[3]) & 1,
		      .group = w->products_committed, .number = ++w->products_issued };
	if (!(in->flags & A_IN_REGISTERS))
		p.a = r64(w, in->reg[1])[0];
	for (int l = 1; l < LANES; l++)
		if (r64(w, in->reg[2])[l] != p.b || (!(in->flags & A_IN_REGISTERS) && r64(w, in->reg[1])[l] != p.a))
			return fault(w, in, l, ERROR_ILLEGAL_INSTRUCTION, "the lanes of a warp give different descriptors");
	VEC_PUSH(&b->arena, &w->products, p);
	for (u32 i = w->index & ~3u; i <= (w->index | 3u); i++)
		for (u32 k = 0; k < b->warp[i].nfragment; k++)
			if (b->warp[i].fragment[k].state == AT_WARPGROUP)
				b->warp[i].fragment[k].state = READY;
	return settings()->async_late || perform_through(w, issued_by_all(w)) ? GO : FAULT;
}

static Action commit(Warp *w, const Inst *in, u32 mask)
{
	Action action = together(w, in, mask);
	if (action == GO)
		w->products_committed++;
	return action;
}

static Action wait(Warp *w, const Inst *in, u32 mask)
{
	Action action = together(w, in, mask);
	if (action != GO)
		return action;
	if ((w->index | 3u) >= w->block->nwarp)
		return fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "the warpgroup has fewer than four warps");
	u32 pending = (u32)in->offset, number = 0;
	u32 before = w->products_committed > pending ? w->products_committed - pending : 0;
	for (u32 i = 0; i < w->products.n; i++)
		if (w->products.v[i].group < before)
			number = w->products.v[i].number;
	if (number > issued_by_all(w)) {
		w->fragment[w->current].state = AT_WARPGROUP;
		return WAIT;
	}
	if (!perform_through(w, number))
		return FAULT;
	if (w->block->race)
		race_acquire(w, engine_of(w->block)->warpgroup_clock[w->index / 4]);
	return GO;
}

static Action fence(Warp *w, const Inst *in, u32 mask)
{
	return together(w, in, mask);
}

static u32 flag(Decoder *d, u32 k, u32 bit)
{
	return number(d, k) ? bit : 0;
}

static void decode_wgmma(Decoder *d, Inst *in)
{
	in->control = true;
	bool fences = take(d, "fence"), commits = take(d, "commit_group"), waits = take(d, "wait_group");
	bool product = take(d, "mma_async");
	take(d, "sync");
	take(d, "aligned");
	if (fences) {
		in->run = fence;
		return;
	}
	if (commits) {
		in->run = commit;
		return;
	}
	if (waits) {
		in->offset = (i64)number(d, 0);
		in->run = wait;
		return;
	}
	u32 n = 0, depth = 0;
	const Statement *s = decode_statement(d);
	for (u32 i = 0; i < s->nmodifier; i++)
		if (sscanf(s->modifier[i], "m64n%uk%u", &n, &depth) == 2)
			take(d, s->modifier[i]);
	Type result = take_type(d), a = take_type(d), b = take_type(d);
	bool eight = (a == TYPE_E4M3 || a == TYPE_E5M2) && (b == TYPE_E4M3 || b == TYPE_E5M2);
	bool sixteen = a == b && (a == TYPE_BF16 || a == TYPE_F16);
	if (!product || n % 8 || n < 8 || n > 256 || result != TYPE_F32 || !(eight || sixteen) || depth != depth_of(a))
		decode_fail(d, "only m64nNk16 of f16 and bf16 and m64nNk32 of e4m3 and e5m2, into f32, are known");
	in->from = (u8)a;
	in->type = (u8)b;
	in->offset = n;
	list_of(d, in, 0, TYPE_F32, true);
	bool registers = operand_at(d, 1)->kind == OPERAND_VECTOR;
	if (registers)
		list_of(d, in, 1, TYPE_B32, false);
	else
		source(d, in, 1, TYPE_U64);
	if (in->nlist != n / 2 + (registers ? 4 : 0))
		decode_fail(d, "%u registers for m64n%u", in->nlist, n);
	source(d, in, 2, TYPE_U64);
	source(d, in, 3, TYPE_PRED);
	/* scale-d, imm-scale-a, imm-scale-b; of 16 bits imm-trans-a (not with registers), imm-trans-b. */
	u32 operands = eight ? 6 : registers ? 7 : 8;
	expect_operands(d, operands, operands);
	u32 flags = registers ? A_IN_REGISTERS : 0;
	flags |= (i32)number(d, 4) < 0 ? NEGATE_A : 0;
	flags |= (i32)number(d, 5) < 0 ? NEGATE_B : 0;
	flags |= eight ? 0 : registers ? flag(d, 6, TRANSPOSE_B) : flag(d, 6, TRANSPOSE_A) | flag(d, 7, TRANSPOSE_B);
	in->flags = (u8)flags;
	in->run = issue;
}

const Family family_wgmma[] = { { "wgmma", decode_wgmma }, { NULL, NULL } };
