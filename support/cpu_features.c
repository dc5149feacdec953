/* support/cpu_features.c: see cpu_features.h. On x86-64 by the instruction cpuid, as Intel's manual, volume 2A, lists
 * it; registers wider than 128 bits also need an operating system that saves them. On AArch64 the kernel says. */
#include "support/cpu_features.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };
enum { STATE_ANY = 0, STATE_YMM = 6, STATE_ZMM = 0xe6 };

static const struct {
	const char *name;
	u32 leaf, sub, reg, bit, state;
} feature[] = {
	{ "sse3", 1, 0, ECX, 0, 0 },
	{ "pclmul", 1, 0, ECX, 1, 0 },
	{ "ssse3", 1, 0, ECX, 9, 0 },
	{ "fma", 1, 0, ECX, 12, STATE_YMM },
	{ "sse4.1", 1, 0, ECX, 19, 0 },
	{ "sse4.2", 1, 0, ECX, 20, 0 },
	{ "movbe", 1, 0, ECX, 22, 0 },
	{ "popcnt", 1, 0, ECX, 23, 0 },
	{ "avx", 1, 0, ECX, 28, STATE_YMM },
	{ "f16c", 1, 0, ECX, 29, STATE_YMM },
	{ "bmi", 7, 0, EBX, 3, 0 },
	{ "avx2", 7, 0, EBX, 5, STATE_YMM },
	{ "bmi2", 7, 0, EBX, 8, 0 },
	{ "avx512f", 7, 0, EBX, 16, STATE_ZMM },
	{ "avx512dq", 7, 0, EBX, 17, STATE_ZMM },
	{ "avx512ifma", 7, 0, EBX, 21, STATE_ZMM },
	{ "avx512cd", 7, 0, EBX, 28, STATE_ZMM },
	{ "avx512bw", 7, 0, EBX, 30, STATE_ZMM },
	{ "avx512vl", 7, 0, EBX, 31, STATE_ZMM },
	{ "avx512vbmi", 7, 0, ECX, 1, STATE_ZMM },
	{ "avx512vbmi2", 7, 0, ECX, 6, STATE_ZMM },
	{ "gfni", 7, 0, ECX, 8, 0 },
	{ "vaes", 7, 0, ECX, 9, STATE_YMM },
	{ "vpclmulqdq", 7, 0, ECX, 10, STATE_YMM },
	{ "avx512vnni", 7, 0, ECX, 11, STATE_ZMM },
	{ "avx512bitalg", 7, 0, ECX, 12, STATE_ZMM },
	{ "avx512vpopcntdq", 7, 0, ECX, 14, STATE_ZMM },
	{ "avx512fp16", 7, 0, EDX, 23, STATE_ZMM },
	{ "avxvnni", 7, 1, EAX, 4, STATE_YMM },
	{ "avx512bf16", 7, 1, EAX, 5, STATE_ZMM },
	{ "lzcnt", 0x80000001, 0, ECX, 5, 0 },
	{ "sse4a", 0x80000001, 0, ECX, 6, 0 },
	{ "fma4", 0x80000001, 0, ECX, 16, STATE_YMM },
	{ "xop", 0x80000001, 0, ECX, 11, STATE_YMM },
	{ "tbm", 0x80000001, 0, ECX, 21, 0 },
};

static u32 saved_state(void)
{
	u32 reg[4];
	if (!__get_cpuid_count(1, 0, &reg[EAX], &reg[EBX], &reg[ECX], &reg[EDX]) || !(reg[ECX] >> 27 & 1))
		return 0;
	u32 low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

static bool has(u32 i)
{
	u32 reg[4] = { 0 };
	if (!__get_cpuid_count(feature[i].leaf, feature[i].sub, &reg[EAX], &reg[EBX], &reg[ECX], &reg[EDX]))
		return false;
	u32 state = feature[i].state;
	return (reg[feature[i].reg] >> feature[i].bit & 1) && (!state || (saved_state() & state) == state);
}

const char *cpu_machine_name(void)
{
	return "x86_64-linux-gnu";
}

/* EBX of leaf 1 has the number of the core that asks. */
void cpu_words(u32 word[CPU_WORDS])
{
	static const struct {
		u32 leaf, sub;
	} asked[] = { { 0, 0 }, { 1, 0 }, { 7, 0 }, { 7, 1 }, { 0xd, 1 }, { 0x14, 0 }, { 0x19, 0 }, { 0x24, 0 }, { 0x80000001, 0 }, { 0x80000008, 0 } };
	_Static_assert(4 * COUNT(asked) < CPU_WORDS, "room for all");
	memset(word, 0, CPU_WORDS * sizeof *word);
	for (u32 i = 0; i < COUNT(asked); i++) {
		u32 *reg = word + 4 * i;
		if (__get_cpuid_count(asked[i].leaf, asked[i].sub, &reg[EAX], &reg[EBX], &reg[ECX], &reg[EDX]) && asked[i].leaf == 1)
			reg[EBX] = 0;
	}
	word[4 * COUNT(asked)] = saved_state();
}

#else

#include <stdio.h>
#include <sys/auxv.h>

/* Bits of the kernel's AT_HWCAP, and above them those of AT_HWCAP2 (Linux, elf_hwcaps.rst). */
static const struct {
	const char *name;
	u32 bit;
} feature[] = { { "neon", 1 }, { "lse", 8 }, { "fullfp16", 10 }, { "dotprod", 20 }, { "sve", 22 }, { "i8mm", 32 + 13 }, { "bf16", 32 + 14 } };

static bool has(u32 i)
{
	u32 bit = feature[i].bit;
	return getauxval(bit < 32 ? AT_HWCAP : AT_HWCAP2) >> bit % 32 & 1;
}

const char *cpu_machine_name(void)
{
	return "aarch64-linux-gnu";
}

void cpu_words(u32 word[CPU_WORDS])
{
	u64 has[] = { getauxval(AT_HWCAP), getauxval(AT_HWCAP2) };
	memset(word, 0, CPU_WORDS * sizeof *word);
	memcpy(word, has, sizeof has);
	FILE *f = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "re"); /* MIDR_EL1 as text */
	if (!f)
		return;
	if (!fgets((char *)(word + 4), 32, f))
		word[4] = 0;
	fclose(f);
}
#endif

static u32 find(const char *name, size_t n)
{
	u32 i = 0;
	while (i < COUNT(feature) && (strlen(feature[i].name) != n || memcmp(feature[i].name, name, n) != 0))
		i++;
	return i;
}

bool cpu_feature_known(const char *name, size_t n)
{
	return find(name, n) < COUNT(feature);
}

const char *cpu_lacks(const char *list, char *name, size_t room)
{
	for (const char *at = list; *at;) {
		size_t n = strcspn(at, ",");
		u32 i = find(at, n);
		if (n && (i == COUNT(feature) || !has(i))) {
			snprintf(name, room, "%.*s", (int)MIN(n, room - 1), at);
			return name;
		}
		at += n + (at[n] == ',');
	}
	return NULL;
}
