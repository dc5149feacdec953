/* exec_tensor.c: ldmatrix, stmatrix and mma.sync: matrices spread over the lanes of a warp. Products are
 * exact in f32 and added in f32 in the order of k; a tensor core adds in another order and with other
 * intermediate bits; of 8-bit operands see short_sum. */
#include "decode.h"
#include "race.h"

/* All 32 lanes, together. */
static bool whole_warp(Warp *w, const Inst *in, u32 mask, Action *action)
{
	*action = GO;
	if (mask == ALL_LANES)
		return true;
	if (mask != w->fragment[w->current].mask || w->live != ALL_LANES) {
		*action = fault(w, in, -1, ERROR_ILLEGAL_INSTRUCTION, "only lanes %08x execute what all 32 must", mask);
		return false;
	}
	if (converged(w, ALL_LANES))
		return true;
	*action = WAIT;
	return false;
}

/* The address of row `row` of matrix `matrix` is that of lane 8 matrix + row. */
static u8 *matrix_row(Warp *w, const Inst *in, u32 matrix, u32 row, bool write)
{
	int l = (int)(8 * matrix + row);
	u64 at = operand_of(w, in, 1, l) + (u64)in->offset;
	u8 *p = resolve(w, in, l, SPACE_SHARED, at, 16, write);
	if (p && w->block->race && !race_access(w, in, l, (u32)at, 16, write ? ACCESS_WRITE : ACCESS_READ))
		return NULL;
	return p;
}

/* list: one register per matrix; lane l holds elements (l/4, 2(l%4)) and the next, or transposed. */
static Action ldmatrix(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	if (!whole_warp(w, in, mask, &action))
		return action;
	for (u32 i = 0; i < in->nlist; i++) {
		u16 e[8][8];
		for (u32 row = 0; row < 8; row++) {
			const u8 *p = matrix_row(w, in, i, row, false);
			if (!p)
				return FAULT;
			memcpy(e[row], p, 16);
		}
		u32 out[LANES];
		for (u32 l = 0; l < LANES; l++) {
			u32 r = l / 4, c = 2 * (l % 4);
			out[l] = in->variant ? e[c][r] | (u32)e[c + 1][r] << 16 : e[r][c] | (u32)e[r][c + 1] << 16;
		}
		/* A destination may hold the addresses. */
		memcpy(r32(w, in->reg[2]) + i * LANES, out, sizeof out);
	}
	for (u32 i = 0; i < in->nlist; i++)
		memcpy(r32(w, in->list[i]), r32(w, in->reg[2]) + i * LANES, LANES * sizeof(u32));
	return GO;
}

static Action stmatrix(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	if (!whole_warp(w, in, mask, &action))
		return action;
	for (u32 i = 0; i < in->nlist; i++) {
		u16 e[8][8];
		const u32 *from = r32(w, in->list[i]);
		for (u32 l = 0; l < LANES; l++) {
			u32 r = l / 4, c = 2 * (l % 4);
			u16 low = (u16)from[l], high = (u16)(from[l] >> 16);
			if (in->variant) {
				e[c][r] = low;
				e[c + 1][r] = high;
			} else {
				e[r][c] = low;
				e[r][c + 1] = high;
			}
		}
		for (u32 row = 0; row < 8; row++) {
			u8 *p = matrix_row(w, in, i, row, true);
			if (!p)
				return FAULT;
			memcpy(p, e[row], 16);
		}
	}
	return GO;
}

static void decode_matrix(Decoder *d, Inst *in)
{
	bool store = !strcmp(decode_statement(d)->opcode, "stmatrix");
	take(d, "sync");
	take(d, "aligned");
	if (!take(d, "m8n8"))
		decode_fail(d, "only .m8n8 is known");
	u32 n = take(d, "x1") ? 1 : take(d, "x2") ? 2 : take(d, "x4") ? 4 : 0;
	in->variant = take(d, "trans");
	in->space = (u8)take_space_of(d, SPACE_SHARED);
	if (take_type(d) != TYPE_B16)
		decode_fail(d, "only .b16 is known");
	expect_operands(d, 2, 2);
	list_of(d, in, store ? 1 : 0, TYPE_B32, !store);
	address(d, in, store ? 0 : 1, 1);
	in->reg[2] = scratch_slots(d)[0];
	if (in->nlist != n)
		decode_fail(d, "%u registers for %u matrices", in->nlist, n);
	in->control = true;
	in->run = store ? stmatrix : ldmatrix;
}

/* mma.sync.aligned.mMnNkK.row.col.d.a.b.c: list holds d, a, b, c. A is 16 x K, B is K x 8. A register holds
 * as many elements as fit: `from` is A's type, `variant` B's, of the same size. */
enum { D_REGS = 4, MOST_K = 32, MOST_PER = 4 };

static u32 elements_in_register(Type t)
{
	return 4 / type_bytes(t);
}

/* The elements of each lane's register. */
static void unpack(Warp *w, Type t, u32 slot, f32 out[MOST_PER][LANES])
{
	const u32 *v = r32(w, slot);
	u32 per = elements_in_register(t);
	for (u32 h = 0; h < per; h++)
		for (u32 l = 0; l < LANES; l++)
			out[h][l] = f32_of_element(t, v[l] >> 32 / per * h);
}

f32 short_sum(f32 c, const f32 *product, u32 n)
{
	enum { BITS = 14 };
	f64 most = fabs((f64)c), sum = 0, plain = (f64)c;
	for (u32 k = 0; k < n; k++) {
		most = fmax(most, fabs((f64)product[k]));
		plain += (f64)product[k];
	}
	if (most == 0 || !isfinite(plain))
		return (f32)plain;
	f64 unit = ldexp(1, ilogb(most) + 1 - BITS);
	for (u32 k = 0; k <= n; k++)
		sum += trunc((f64)(k < n ? product[k] : c) / unit) * unit;
	return (f32)sum;
}

static Action mma(Warp *w, const Inst *in, u32 mask)
{
	Action action;
	if (!whole_warp(w, in, mask, &action))
		return action;
	u32 k_size = in->size, per = elements_in_register((Type)in->from);
	u32 na = 16 * k_size / (LANES * per), nb = 8 * k_size / (LANES * per);
	bool narrow = in->type == TYPE_F16;
	u32 nc = narrow ? 2 : D_REGS;
	const u32 *d = in->list, *a = d + nc, *b = a + na, *c = b + nb;
	f32 ea[16][MOST_K], eb[MOST_K][8], acc[16][8], part[MOST_PER][LANES];
	for (u32 i = 0; i < na; i++) {
		unpack(w, (Type)in->from, a[i], part);
		for (u32 l = 0; l < LANES; l++)
			for (u32 h = 0; h < per; h++)
				ea[l / 4 + 8 * (i & 1)][per * (l % 4 + 4 * (i >> 1)) + h] = part[h][l];
	}
	for (u32 i = 0; i < nb; i++) {
		unpack(w, (Type)in->variant, b[i], part);
		for (u32 l = 0; l < LANES; l++)
			for (u32 h = 0; h < per; h++)
				eb[per * (l % 4 + 4 * i) + h][l / 4] = part[h][l];
	}
	for (u32 l = 0; l < LANES; l++)
		for (u32 i = 0; i < 4; i++)
			acc[l / 4 + 8 * (i >> 1)][2 * (l % 4) + (i & 1)] =
				narrow ? f32_of_f16((u16)(r32(w, c[i >> 1])[l] >> 16 * (i & 1))) : rf32(w, c[i])[l];
	bool cut = settings()->short_sums && type_bytes((Type)in->from) == 1;
	for (u32 half = 0; half < 16 && !cut; half += 8)
		for (u32 k = 0; k < k_size; k++)
			for (u32 i = half; i < half + 8; i++)
				for (u32 j = 0; j < 8; j++)
					acc[i][j] = __builtin_fmaf(ea[i][k], eb[k][j], acc[i][j]);
	for (u32 e = 0; e < 16 * 8 && cut; e++) {
		f32 product[MOST_K];
		for (u32 k = 0; k < k_size; k++)
			product[k] = ea[e / 8][k] * eb[k][e % 8];
		acc[e / 8][e % 8] = short_sum(acc[e / 8][e % 8], product, k_size);
	}
	for (u32 l = 0; l < LANES; l++)
		for (u32 i = 0; i < 4; i++) {
			f32 v = acc[l / 4 + 8 * (i >> 1)][2 * (l % 4) + (i & 1)];
			if (!narrow)
				rf32(w, d[i])[l] = v;
			else if (i & 1)
				r32(w, d[i >> 1])[l] |= (u32)f16_of_f64((f64)v, ROUND_NEAREST) << 16;
			else
				r32(w, d[i >> 1])[l] = f16_of_f64((f64)v, ROUND_NEAREST);
		}
	return GO;
}

static void decode_mma(Decoder *d, Inst *in)
{
	static const char *const shapes[] = { "m16n8k32", "m16n8k16", "m16n8k8", "m16n8k4" };
	static const u8 depth[] = { 32, 16, 8, 4 };
	take(d, "sync");
	take(d, "aligned");
	u32 shape = take_one_of(d, shapes, COUNT(shapes));
	if (shape == COUNT(shapes) || !take(d, "row") || !take(d, "col"))
		decode_fail(d, "only m16n8k32, m16n8k16, m16n8k8 and m16n8k4, row.col, are known");
	in->size = depth[shape];
	Type result = take_type(d), a = take_type(d), b = take_type(d), c = take_type(d);
	bool tf32 = a == TYPE_TF32, eight = a == TYPE_E4M3 || a == TYPE_E5M2;
	bool depth_known = eight ? in->size == 32 : tf32 ? in->size <= 8 : in->size == 8 || in->size == 16;
	if ((eight ? b != TYPE_E4M3 && b != TYPE_E5M2 : a != b) || result != c ||
	    (result != TYPE_F32 && (result != TYPE_F16 || a != TYPE_F16)) || (a != TYPE_F16 && a != TYPE_BF16 && !tf32 && !eight) ||
	    !depth_known)
		decode_fail(d, "these types are not known");
	if (eight && decode_target(d) < 89)
		decode_fail(d, "products of 8 bits need sm_89");
	in->type = (u8)result;
	in->from = (u8)a;
	in->variant = (u8)b;
	u32 per = elements_in_register(a), nc = result == TYPE_F16 ? 2 : D_REGS;
	u32 na = 16u * in->size / (LANES * per), nb = 8u * in->size / (LANES * per);
	expect_operands(d, 4, 4);
	list_of(d, in, 0, result == TYPE_F16 ? TYPE_B32 : TYPE_F32, true);
	list_of(d, in, 1, TYPE_B32, false);
	list_of(d, in, 2, TYPE_B32, false);
	list_of(d, in, 3, result == TYPE_F16 ? TYPE_B32 : TYPE_F32, false);
	if (in->nlist != 2 * nc + na + nb)
		decode_fail(d, "%u registers where %u are needed", in->nlist, 2 * nc + na + nb);
	in->control = true;
	in->run = mma;
}

const Family family_tensor[] = {
	{ "ldmatrix", decode_matrix }, { "stmatrix", decode_matrix }, { "mma", decode_mma }, { NULL, NULL },
};
