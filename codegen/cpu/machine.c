/* codegen/cpu/machine.c: see machine.h. LLVM's C API tells the host's name and features but not
 * what a CPU of another name has, so the names that may be given are a table of levels. What is of
 * one architecture only stands between its #if and #endif. */
#include "codegen/cpu/machine.h"
#include "support/cpu_features.h"

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Is "+feature" in the list, and not taken out again after it? */
static bool has(const char *features, const char *feature)
{
	bool found = false;
	size_t n = strlen(feature);
	for (const char *p = features; *p;) {
		const char *end = strchrnul(p, ',');
		if ((size_t)(end - p) == n + 1 && memcmp(p + 1, feature, n) == 0)
			found = *p == '+';
		p = *end ? end + 1 : end;
	}
	return found;
}

#if defined(__x86_64__)

#define V2     "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt"
#define AVX2   V2 ",+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"
#define AVX512 AVX2 ",+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd"
#define ICE    ",+avx512vnni,+avx512vbmi,+avx512vbmi2,+avx512bitalg,+avx512vpopcntdq,+avx512ifma,+gfni,+vaes,+vpclmulqdq"

/* What the emitters ask about, by name, and what else code for it may use; the test compares it with the code LLVM
 * makes. */
static const struct {
	const char *name, *features;
} known[] = {
	{ "x86-64", "" },
	{ "x86-64-v2", V2 },
	{ "nehalem", V2 },
	{ "westmere", V2 },
	{ "x86-64-v3", AVX2 },
	{ "haswell", AVX2 },
	{ "broadwell", AVX2 },
	{ "skylake", AVX2 },
	{ "alderlake", AVX2 ",+gfni,+vaes,+vpclmulqdq,+avxvnni" },
	{ "raptorlake", AVX2 ",+gfni,+vaes,+vpclmulqdq,+avxvnni" },
	{ "znver1", AVX2 ",+sse4a" },
	{ "znver2", AVX2 ",+sse4a" },
	{ "znver3", AVX2 ",+sse4a,+vaes,+vpclmulqdq" },
	{ "x86-64-v4", AVX512 },
	{ "skylake-avx512", AVX512 },
	{ "cascadelake", AVX512 ",+avx512vnni" },
	{ "cooperlake", AVX512 ",+avx512vnni,+avx512bf16" },
	{ "icelake-client", AVX512 ICE },
	{ "icelake-server", AVX512 ICE },
	{ "tigerlake", AVX512 ICE },
	{ "rocketlake", AVX512 ICE },
	{ "sapphirerapids", AVX512 ICE ",+avx512bf16,+avx512fp16" },
	{ "emeraldrapids", AVX512 ICE ",+avx512bf16,+avx512fp16" },
	{ "graniterapids", AVX512 ICE ",+avx512bf16,+avx512fp16" },
	{ "znver4", AVX512 ICE ",+avx512bf16" },
	{ "znver5", AVX512 ICE ",+avx512bf16" },
};

static void decide(CpuMachine *m, const char *features)
{
	bool avx512 = has(features, "avx512f") && has(features, "avx512bw") &&
		      has(features, "avx512dq") && has(features, "avx512vl");
	m->has_fma = has(features, "fma");
	m->lanes = avx512 ? 16 : has(features, "avx2") && m->has_fma ? 8 : 4;
	m->registers = avx512 ? 32 : 16;
	m->has_f16 = has(features, "f16c");
	m->bf16_pairs = m->has_bf16 = avx512 && has(features, "avx512bf16");
	m->has_vnni = avx512 && has(features, "avx512vnni");
	m->line = 64;
}

/* Of what decide() looked at, does the host have all? */
static bool runs_on(const CpuMachine *host, const CpuMachine *m)
{
	return m->lanes <= host->lanes && m->has_fma <= host->has_fma &&
	       m->has_f16 <= host->has_f16 && m->has_bf16 <= host->has_bf16 &&
	       m->has_vnni <= host->has_vnni;
}

#elif defined(__aarch64__)

static const struct {
	const char *name, *features;
} known[] = {
	{ "generic", "" },     { "neoverse-n1", "" }, { "neoverse-v1", "" },
	{ "neoverse-n2", "" }, { "neoverse-v2", "" }, { "apple-m1", "" },
};

static void decide(CpuMachine *m, const char *features)
{
	(void)features;
	m->has_fma = m->has_f16 = true;
	m->lanes = 4;
	m->registers = 32;
	m->line = 64;
}

static bool runs_on(const CpuMachine *host, const CpuMachine *m)
{
	return strcmp(host->name, m->name) == 0 || strcmp(m->name, "generic") == 0;
}

#else
#error "say here what the emitters need to know of this architecture"
#endif

/* What the processor that runs the code must have, of what support/cpu_features.h can look for. */
static void set_needs(CpuMachine *m, const char *features)
{
	char *to = m->needs, *end = m->needs + sizeof m->needs;
	*to = 0;
	for (const char *p = features; *p;) {
		size_t n = strcspn(p, ",");
		char name[64];
		snprintf(name, sizeof name, "%.*s", n ? (int)n - 1 : 0, p + 1);
		if (n > 1 && *p == '+' && cpu_feature_known(name, n - 1) && has(features, name))
			to += snprintf(to, (size_t)(end - to), "%s%s", to == m->needs ? "" : ",", name);
		assert(to < end);
		p += n + (p[n] == ',');
	}
}

static size_t cache_bytes(int what)
{
	long n = sysconf(what);
	return n > 0 ? (size_t)n : 0;
}

static void host(CpuMachine *m)
{
	*m = (CpuMachine){ .runs_here = true, .spelled = "host", .baseline = known[0].name };
	char *name = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
	char *triple = LLVMGetDefaultTargetTriple();
	snprintf(m->name, sizeof m->name, "%s", name);
	snprintf(m->features, sizeof m->features, "%s", features);
	snprintf(m->triple, sizeof m->triple, "%s", triple);
	LLVMDisposeMessage(name);
	LLVMDisposeMessage(features);
	LLVMDisposeMessage(triple);
	decide(m, m->features);
	set_needs(m, m->features);
	cpu_set_t usable;
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	m->cores = sched_getaffinity(0, sizeof usable, &usable) == 0 ? (u32)CPU_COUNT(&usable)
								     : (u32)MAX(n, 1);
	m->l1 = cache_bytes(_SC_LEVEL1_DCACHE_SIZE);
	m->l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE);
	m->l3 = cache_bytes(_SC_LEVEL3_CACHE_SIZE);
	size_t line = cache_bytes(_SC_LEVEL1_DCACHE_LINESIZE);
	if (line)
		m->line = line;
}

Status cpu_machine(const char *name, CpuMachine *out)
{
	CpuMachine here;
	host(&here);
	*out = here;
	if (!name || strcmp(name, "host") == 0)
		return OK;

	Str cpu = { name, strcspn(name, ",") };
	const char *changes = name[cpu.n] ? name + cpu.n + 1 : "", *of_name = NULL;
	for (u32 i = 0; i < COUNT(known); i++)
		if (str_equal(cpu, str_of(known[i].name)))
			of_name = known[i].features;
	if (!of_name) {
		char list[700] = "";
		for (u32 i = 0; i < COUNT(known); i++)
			snprintf(list + strlen(list), sizeof list - strlen(list), ", %s",
				 known[i].name);
		return FAIL(STATUS_INPUT, "no CPU is called '%.*s'; known are host%s", STR_ARG(cpu),
			    list);
	}
	for (const char *p = changes; *p;) {
		size_t n = strcspn(p, ",");
		if (n < 2 || (*p != '+' && *p != '-'))
			return FAIL(STATUS_INPUT,
				    "CPU features are written +name or -name, not '%.*s'", (int)n,
				    p);
		p += n + (p[n] == ',');
	}
	char all[sizeof out->features];
	if ((size_t)snprintf(all, sizeof all, "%s,%s", of_name, changes) >= sizeof all)
		return FAIL(STATUS_INPUT, "the list of CPU features is too long");
	snprintf(out->name, sizeof out->name, "%.*s", STR_ARG(cpu));
	snprintf(out->features, sizeof out->features, "%s", changes);
	if ((size_t)snprintf(out->spelled, sizeof out->spelled, "%s", name) >= sizeof out->spelled)
		return FAIL(STATUS_INPUT, "the list of CPU features is too long");
	decide(out, all);
	set_needs(out, all);
	out->runs_here = runs_on(&here, out);
	return OK;
}
