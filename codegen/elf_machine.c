/* codegen/elf_machine.c: what relocations mean on each machine (see elf.h): the processor supplements of the
 * System V ABI for x86-64 and for the Arm 64-bit architecture. */
#include "codegen/elf.h"

#include <elf.h>
#include <string.h>

static void put32(u8 *at, u64 value)
{
	u32 x = (u32)value;
	memcpy(at, &x, sizeof x);
}

/* ---- x86-64 ---- */

/* Of later ABIs than some <elf.h>. */
enum { X86_GOTPCRELX = 41, X86_REX_GOTPCRELX = 42 };

static ElfUse x86_use(u32 type)
{
	switch (type) {
	case R_X86_64_PC32: return ELF_USE_DIRECT;
	case R_X86_64_PC64: return ELF_USE_DIRECT;
	case R_X86_64_PLT32: return ELF_USE_CALL;
	case R_X86_64_GOTPCREL:
	case X86_GOTPCRELX:
	case X86_REX_GOTPCRELX: return ELF_USE_TABLE;
	case R_X86_64_64: return ELF_USE_ABSOLUTE;
	default: return ELF_USE_UNKNOWN;
	}
}

static bool x86_fix(const ElfFix *f)
{
	u64 to = x86_use(f->type) == ELF_USE_TABLE ? f->got : f->symbol;
	i64 value = (i64)(to + (u64)f->addend - f->at);
	if (f->type == R_X86_64_PC64) {
		memcpy(f->place, &value, sizeof value);
		return true;
	}
	put32(f->place, (u64)value);
	return value == (i32)value;
}

static void x86_stub(u8 *place, u64 at, u64 got)
{
	static const u8 jump[8] = { 0xff, 0x25, 0, 0, 0, 0, 0x66, 0x90 }; /* jmp *got(%rip); a nop */
	memcpy(place, jump, sizeof jump);
	put32(place + 2, got - (at + 6));
}

/* ---- AArch64 ---- */

static ElfUse arm_use(u32 type)
{
	switch (type) {
	case R_AARCH64_PREL32:
	case R_AARCH64_PREL64:
	case R_AARCH64_ADR_PREL_PG_HI21:
	case R_AARCH64_ADD_ABS_LO12_NC:
	case R_AARCH64_LDST8_ABS_LO12_NC:
	case R_AARCH64_LDST16_ABS_LO12_NC:
	case R_AARCH64_LDST32_ABS_LO12_NC:
	case R_AARCH64_LDST64_ABS_LO12_NC:
	case R_AARCH64_LDST128_ABS_LO12_NC: return ELF_USE_DIRECT;
	case R_AARCH64_CALL26:
	case R_AARCH64_JUMP26: return ELF_USE_CALL;
	case R_AARCH64_ADR_GOT_PAGE:
	case R_AARCH64_LD64_GOT_LO12_NC: return ELF_USE_TABLE;
	case R_AARCH64_ABS64: return ELF_USE_ABSOLUTE;
	default: return ELF_USE_UNKNOWN;
	}
}

/* The instruction with `value` in the `width` bits from bit `low` on. */
static void put_bits(u8 *place, u64 value, u32 low, u32 width)
{
	u32 word, mask = (u32)(((1ull << width) - 1) << low);
	memcpy(&word, place, sizeof word);
	word = (word & ~mask) | ((u32)(value << low) & mask);
	memcpy(place, &word, sizeof word);
}

static bool put_page(u8 *place, u64 to, u64 at)
{
	i64 pages = (i64)((to & ~(u64)4095) - (at & ~(u64)4095)) >> 12;
	put_bits(place, (u64)pages & 3, 29, 2);
	put_bits(place, (u64)pages >> 2, 5, 19);
	return pages >= -(1 << 20) && pages < 1 << 20;
}

static bool arm_fix(const ElfFix *f)
{
	u64 to = f->symbol + (u64)f->addend;
	i64 by = (i64)(to - f->at);
	switch (f->type) {
	case R_AARCH64_PREL32: put32(f->place, (u64)by); return by == (i32)by;
	case R_AARCH64_PREL64: memcpy(f->place, &by, sizeof by); return true;
	case R_AARCH64_ADR_PREL_PG_HI21: return put_page(f->place, to, f->at);
	case R_AARCH64_ADR_GOT_PAGE: return put_page(f->place, f->got, f->at);
	case R_AARCH64_LD64_GOT_LO12_NC: put_bits(f->place, (f->got & 4095) >> 3, 10, 12); return true;
	case R_AARCH64_ADD_ABS_LO12_NC:
	case R_AARCH64_LDST8_ABS_LO12_NC: put_bits(f->place, to & 4095, 10, 12); return true;
	case R_AARCH64_LDST16_ABS_LO12_NC: put_bits(f->place, (to & 4095) >> 1, 10, 12); return !(to & 1);
	case R_AARCH64_LDST32_ABS_LO12_NC: put_bits(f->place, (to & 4095) >> 2, 10, 12); return !(to & 3);
	case R_AARCH64_LDST64_ABS_LO12_NC: put_bits(f->place, (to & 4095) >> 3, 10, 12); return !(to & 7);
	case R_AARCH64_LDST128_ABS_LO12_NC: put_bits(f->place, (to & 4095) >> 4, 10, 12); return !(to & 15);
	default: /* CALL26, JUMP26 */
		put_bits(f->place, (u64)by >> 2, 0, 26);
		return by >= -(1 << 27) && by < 1 << 27;
	}
}

static void arm_stub(u8 *place, u64 at, u64 got)
{
	put32(place, 0x90000010);     /* adrp x16, page of got */
	put_page(place, got, at);
	put32(place + 4, 0xf9400211); /* ldr x17, [x16, #got] */
	put_bits(place + 4, (got & 4095) >> 3, 10, 12);
	put32(place + 8, 0xd61f0220); /* br x17 */
	put32(place + 12, 0xd503201f);
}

const ElfMachine *elf_machine(u16 machine)
{
	static const ElfMachine known[] = {
		{ EM_X86_64, 4096, R_X86_64_RELATIVE, R_X86_64_GLOB_DAT, R_X86_64_64, 8, x86_use, x86_fix, x86_stub },
		{ EM_AARCH64, 65536, R_AARCH64_RELATIVE, R_AARCH64_GLOB_DAT, R_AARCH64_ABS64, 16, arm_use, arm_fix, arm_stub },
	};
	for (u32 i = 0; i < COUNT(known); i++)
		if (known[i].machine == machine)
			return &known[i];
	return NULL;
}
