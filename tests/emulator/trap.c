/* tests/emulator/trap.c: see trap.h. Registers are in the area that the kernel saves before the handler and restores
 * after it, in the standard format of XSAVE (Intel's manual, volume 1, 13.4). */
#include "trap.h"
#include "support/half.h"

#include <cpuid.h>
#include <math.h>
#include <signal.h>
#include <ucontext.h>

u64 trap_count[TRAPS];
sigjmp_buf trap_unknown;

/* ---- registers ---- */

enum { STATE_SSE = 1, STATE_YMM, STATE_OPMASK = 5, STATE_ZMM_UPPER, STATE_ZMM_16, STATES };

static u32 offset[STATES] = { [STATE_SSE] = 160 }, size[STATES] = { [STATE_SSE] = 256 }; /* of the parts of the area */

/* A part of the area; one that the header says is in its first state is zeros, which are not there yet. */
static u8 *part(u8 *area, u32 which)
{
	u64 *present = (u64 *)(void *)(area + 512);
	if (!(*present >> which & 1)) {
		memset(area + offset[which], 0, size[which]);
		*present |= (u64)1 << which;
	}
	return area + offset[which];
}

/* Register `r` of 512 bits lies in up to three pieces: copied out of the area, or into it. */
static void move_vector(u8 *area, u32 r, u8 *value, bool store)
{
	u8 *piece[3] = { NULL };
	u32 bytes[3] = { 64 };
	if (r < 16) {
		piece[0] = part(area, STATE_SSE) + r * 16;
		piece[1] = part(area, STATE_YMM) + r * 16;
		piece[2] = part(area, STATE_ZMM_UPPER) + r * 32;
		bytes[0] = bytes[1] = 16;
		bytes[2] = 32;
	} else {
		piece[0] = part(area, STATE_ZMM_16) + (r - 16) * 64;
	}
	for (u32 i = 0; i < 3 && bytes[i]; value += bytes[i++])
		memcpy(store ? piece[i] : value, store ? value : piece[i], bytes[i]);
}

static u64 *mask_register(u8 *area, u32 r)
{
	return (u64 *)(void *)(part(area, STATE_OPMASK) + r * 8);
}

/* General register `r` as instructions number them. */
static u64 general(const greg_t *g, u32 r)
{
	static const u8 which[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	return (u64)g[which[r]];
}

/* ---- decoding ---- */

/* `reg`, `rm` and `vvvv` are registers' numbers; with `in_memory`, `address` stands for rm. Of gathers and scatters,
 * `index` is a vector's number, and `scale` and `address` make addresses of its elements. */
typedef struct Instruction {
	TrapKind kind;
	u32 length, bytes; /* of the code; of its vectors */
	u32 reg, rm, vvvv, mask, immediate;
	u32 index, scale, index_bytes, element_bytes;
	bool zeroing, in_memory, broadcast;
	u8 *address;
} Instruction;

static i64 displacement(const u8 *p, u32 bytes)
{
	i32 x = 0;
	memcpy(&x, p, bytes);
	return bytes == 1 ? (i8)x : x;
}

/* The operand in memory. `p`: behind the byte ModRM, whose fields are `mod` and `rm`; `unit`: what a displacement of one
 * byte counts; `rest`: bytes of the instruction after it. Gives where the operand's bytes end. */
static const u8 *address_of(Instruction *n, const u8 *p, const greg_t *g, u32 mod, u32 rm, bool b, bool x, u32 unit, u32 rest)
{
	bool relative = mod == 0 && rm == 5, has_base = !relative;
	u64 at = 0;
	u32 base = rm;
	if (rm == 4) {
		u32 sib = *p++;
		n->index |= (sib >> 3 & 7) | (u32)x << 3;
		n->scale = 1u << (sib >> 6);
		base = sib & 7;
		has_base = mod != 0 || base != 5;
		if (n->index != 4 && !n->index_bytes)
			at += general(g, n->index) * n->scale;
	}
	if (has_base)
		at += general(g, base | (u32)b << 3);
	u32 bytes = mod == 1 ? 1 : mod == 2 || !has_base ? 4 : 0;
	at += (u64)(displacement(p, bytes) * (bytes == 1 ? (i64)unit : 1));
	p += bytes;
	n->address = (u8 *)(uintptr_t)(relative ? at + (u64)(uintptr_t)p + rest : at);
	return p;
}

/* False: it is none of them. */
static bool decode(const u8 *code, const greg_t *g, Instruction *n)
{
	/* VEX: C4, RXB and map, W vvvv L pp. EVEX: 62, RXBR' and map, W vvvv 1 pp, z L'L b V' mask. Letters are inverted. */
	bool evex = code[0] == 0x62;
	if (!evex && code[0] != 0xc4)
		return false;
	u32 map = code[1] & (evex ? 7 : 31), pp = code[2] & 3, opcode = code[3 + evex], width = evex ? code[3] >> 5 & 3 : code[2] >> 2 & 1;
	bool wide = code[2] & 0x80, r = !(code[1] & 0x80), x = !(code[1] & 0x40), b = !(code[1] & 0x20);
	const u8 *p = code + 4 + evex;
	u32 modrm = *p++, mod = modrm >> 6, rm = modrm & 7;
	*n = (Instruction){ .bytes = 16u << width, .reg = (modrm >> 3 & 7) | (u32)r << 3, .vvvv = ~(u32)code[2] >> 3 & 15,
			    .rm = rm | (u32)b << 3, .in_memory = mod != 3 };
	if (evex) {
		n->reg |= (u32)!(code[1] & 0x10) << 4;
		n->vvvv |= (u32)!(code[3] & 8) << 4;
		n->rm |= (u32)x << 4;
		n->mask = code[3] & 7;
		n->zeroing = code[3] >> 7;
		n->broadcast = code[3] >> 4 & 1;
	}
	u32 rest = 1, unit = 1;
	if (evex && map == 2 && pp == 2 && !wide && opcode == 0x52) {
		n->kind = TRAP_DOT_BF16;
		rest = 0;
		unit = n->broadcast ? 4 : n->bytes;
	} else if (evex && map == 2 && pp == 1 && ((opcode & 0xfc) == 0x90 || (opcode & 0xfc) == 0xa0) && n->in_memory && rm == 4) {
		n->kind = opcode & 0x20 ? TRAP_SCATTER : TRAP_GATHER; /* 90 to 93, A0 to A3 */
		n->index = (u32)!(code[3] & 8) << 4;
		n->index_bytes = opcode & 1 ? 8 : 4;
		n->element_bytes = unit = wide ? 8 : 4;
		rest = 0;
	} else if (map == 3 && pp == 1 && !wide && opcode == 0x1c) {
		n->kind = TRAP_TO_F16;
		unit = evex ? n->bytes / 2 : 1;
	} else if (!evex && map == 3 && pp == 1 && wide && (opcode == 0x34 || opcode == 0x36)) {
		n->kind = opcode == 0x34 ? TRAP_SHIFT_RIGHT : TRAP_SHIFT_LEFT;
	} else {
		return false;
	}
	if (width == 3 || (n->broadcast && !n->in_memory))
		return false;
	if (n->in_memory)
		p = address_of(n, p, g, mod, rm, b, x, unit, rest);
	n->immediate = rest ? *p++ : 0;
	n->length = (u32)(p - code);
	return true;
}

/* ---- doing ---- */

/* Denormal operands and results are zeros. */
static f32 flushed(f32 x)
{
	return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}

static f32 half(const u8 *v, u32 i)
{
	return flushed(f32_from_bf16((u16)(v[2 * i] | v[2 * i + 1] << 8)));
}

static bool chosen(const Instruction *n, u8 *area, u32 i)
{
	return !n->mask || (*mask_register(area, n->mask) >> i & 1);
}

static void dot_bf16(const Instruction *n, u8 *area)
{
	u8 to[64], first[64], second[64];
	move_vector(area, n->reg, to, false);
	move_vector(area, n->vvvv, first, false);
	if (!n->in_memory)
		move_vector(area, n->rm, second, false);
	for (u32 i = 0; n->in_memory && i < n->bytes; i += 4)
		memcpy(second + i, n->address + (n->broadcast ? 0 : i), 4);
	memset(to + n->bytes, 0, 64 - n->bytes);
	for (u32 i = 0; i < n->bytes / 4; i++) {
		f32 sum;
		memcpy(&sum, to + 4 * i, 4);
		if (chosen(n, area, i)) {
			/* one rounding each, the upper halves first */
			sum = flushed(fmaf(half(first, 2 * i + 1), half(second, 2 * i + 1), flushed(sum)));
			sum = flushed(fmaf(half(first, 2 * i), half(second, 2 * i), sum));
		} else if (n->zeroing) {
			sum = 0;
		}
		memcpy(to + 4 * i, &sum, 4);
	}
	move_vector(area, n->reg, to, true);
}

/* To the nearest: of the immediate's ways to round, the one that code for kernels asks for (4 leaves it to MXCSR). */
static void to_f16(const Instruction *n, u8 *area)
{
	u8 from[64], to[64];
	assert(n->immediate == 4 || n->immediate == 0);
	move_vector(area, n->reg, from, false);
	move_vector(area, n->rm, to, false);
	memset(to + n->bytes / 2, 0, 64 - n->bytes / 2);
	for (u32 i = 0; i < n->bytes / 4; i++) {
		f32 x;
		memcpy(&x, from + 4 * i, 4);
		u16 h = chosen(n, area, i) ? f16_from_f32(x) : 0;
		if (!chosen(n, area, i) && (n->in_memory || !n->zeroing))
			continue;
		memcpy((n->in_memory ? n->address : to) + 2 * i, &h, 2);
	}
	if (!n->in_memory)
		move_vector(area, n->rm, to, true);
}

static void shift_mask(const Instruction *n, u8 *area)
{
	u32 x = (u16)*mask_register(area, n->rm), by = n->immediate;
	u32 shifted = by > 15 ? 0 : n->kind == TRAP_SHIFT_LEFT ? x << by : x >> by;
	*mask_register(area, n->reg) = (u16)shifted;
}

/* Gathers and scatters take bits of the mask away as they go. */
static void move_elements(const Instruction *n, u8 *area)
{
	u8 index[64], value[64];
	u64 *mask = mask_register(area, n->mask);
	u32 elements = n->bytes / MAX(n->index_bytes, n->element_bytes);
	move_vector(area, n->index, index, false);
	move_vector(area, n->reg, value, false);
	for (u32 i = 0; i < elements; i++) {
		i64 at = 0;
		if (!(*mask >> i & 1))
			continue;
		if (n->index_bytes == 8)
			memcpy(&at, index + 8 * i, 8);
		else
			at = displacement(index + 4 * i, 4);
		u8 *place = n->address + at * (i64)n->scale, *element = value + i * n->element_bytes;
		bool gather = n->kind == TRAP_GATHER;
		memcpy(gather ? element : place, gather ? place : element, n->element_bytes);
	}
	*mask = 0;
	if (n->kind == TRAP_GATHER) {
		memset(value + elements * n->element_bytes, 0, 64 - elements * n->element_bytes);
		move_vector(area, n->reg, value, true);
	}
}

static void handle(int number, siginfo_t *info, void *context)
{
	static void (*const execute[TRAPS])(const Instruction *n, u8 *area) = { dot_bf16,      to_f16,        shift_mask,
									    shift_mask, move_elements, move_elements };
	ucontext_t *u = context;
	greg_t *g = u->uc_mcontext.gregs;
	const u8 *code = (const u8 *)g[REG_RIP];
	Instruction n;
	(void)info;
	if (!decode(code, g, &n)) {
		fprintf(stderr, "no such instruction:");
		for (u32 i = 0; i < 12; i++)
			fprintf(stderr, " %02x", code[i]);
		fprintf(stderr, "\n");
		siglongjmp(trap_unknown, number);
	}
	execute[n.kind](&n, (u8 *)u->uc_mcontext.fpregs);
	trap_count[n.kind]++;
	g[REG_RIP] += n.length;
}

void trap_install(void)
{
	u32 a, b, c, d;
	for (u32 i = STATE_YMM; i < STATES; i++)
		if (__get_cpuid_count(0xd, i, &a, &b, &c, &d)) {
			size[i] = a;
			offset[i] = b;
		}
	struct sigaction how = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO };
	if (sigaction(SIGILL, &how, NULL))
		NEVER("no handler can be installed");
}
