/* codegen/cpu/machine.c: see machine.h. LLVM's C API tells the host's name and features but not
 * what a CPU of another name has, so the names that may be given are a table of levels, for each
 * architecture that code is made for: this machine's and others. */
#include "codegen/cpu/machine.h"
#include "codegen/cpu/llvm_api.h"
#include "codegen/cpu/tuning.h"
#include "support/cores.h"
#include "support/cpu_cache.h"
#include "support/cpu_features.h"

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

typedef struct KnownCpu {
	const char *name, *features;
} KnownCpu;

/* ---- x86-64 ---- */

#define V2     "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt"
#define AVX2   V2 ",+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"
#define AVX512 AVX2 ",+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd"
#define ICE    ",+avx512vnni,+avx512vbmi,+avx512vbmi2,+avx512bitalg,+avx512vpopcntdq,+avx512ifma,+gfni,+vaes,+vpclmulqdq"

/* What the emitters ask about, by name, and what else code for it may use; the test compares it with the code LLVM
 * makes. */
static const KnownCpu x86_known[] = {
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

static void x86_decide(CpuMachine *m, const char *features)
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

/* LLVM 19 asks whether there are registers of 512 bits beside each feature of AVX-512: a processor's name says so to it, a feature
 * that is added to a name without them does not, and then it finds no instruction and ends the process. */
static const char *x86_besides(const char *changes)
{
	bool added = false;
	for (const char *p = changes; *p; p += strcspn(p, ","), p += *p == ',')
		added |= !strncmp(p, "+avx512", 7);
	return added ? ",+evex512" : "";
}

/* Of what x86_decide() looked at, does the host have all? */
static bool x86_runs_on(const CpuMachine *host, const CpuMachine *m)
{
	return m->lanes <= host->lanes && m->has_fma <= host->has_fma &&
	       m->has_f16 <= host->has_f16 && m->has_bf16 <= host->has_bf16 &&
	       m->has_vnni <= host->has_vnni;
}

/* ---- AArch64 ---- */

#define N1 "+lse,+fullfp16,+dotprod"
#define V1 N1 ",+sve,+bf16,+i8mm"

static const KnownCpu arm_known[] = {
	{ "generic", "" },      { "cortex-a72", "" },  { "neoverse-n1", N1 }, { "neoverse-v1", V1 },
	{ "neoverse-n2", V1 },  { "neoverse-v2", V1 }, { "apple-m1", N1 },
};

/* Vectors of 128 bits: what every such processor has. */
static void arm_decide(CpuMachine *m, const char *features)
{
	(void)features;
	m->has_fma = m->has_f16 = true;
	m->bf16_pairs = m->has_bf16 = m->has_vnni = false;
	m->lanes = 4;
	m->registers = 32;
	m->line = 64;
}

static const char *arm_besides(const char *changes)
{
	(void)changes;
	return "";
}

static bool arm_runs_on(const CpuMachine *host, const CpuMachine *m)
{
	return strcmp(host->name, m->name) == 0 || strcmp(m->name, "generic") == 0;
}

/* ---- both ---- */

typedef struct Architecture {
	const char *target, *triple; /* as the command line and LLVM call it */
	const KnownCpu *known;       /* the first is what every one can stand in for */
	u32 nknown;
	void (*decide)(CpuMachine *m, const char *features);
	/* What LLVM must be told beside the features by which a name is changed. */
	const char *(*besides)(const char *changes);
	/* Of what decide() looked at, does the host have all? */
	bool (*runs_on)(const CpuMachine *host, const CpuMachine *m);
} Architecture;

static const Architecture architectures[] = {
	{ "x86_64-linux-gnu", "x86_64-pc-linux-gnu", x86_known, COUNT(x86_known), x86_decide, x86_besides, x86_runs_on },
	{ "aarch64-linux-gnu", "aarch64-unknown-linux-gnu", arm_known, COUNT(arm_known), arm_decide, arm_besides, arm_runs_on },
};

static Status find_architecture(Str target, const Architecture **out)
{
	for (u32 i = 0; i < COUNT(architectures); i++)
		if (str_equal(target, str_of(architectures[i].target))) {
			*out = &architectures[i];
			return OK;
		}
	return FAIL(STATUS_INPUT, "no machine is called '%.*s'; code is made for x86_64-linux-gnu and aarch64-linux-gnu", STR_ARG(target));
}

/* What the processor that runs the code must have. Of the features that LLVM finds on this one, those that
 * support/cpu_features.h can look for; the tables have no others. */
static void set_needs(CpuMachine *m, const char *features, bool found)
{
	char *to = m->needs, *end = m->needs + sizeof m->needs;
	*to = 0;
	for (const char *p = features; *p;) {
		size_t n = strcspn(p, ",");
		char name[64];
		snprintf(name, sizeof name, "%.*s", n ? (int)n - 1 : 0, p + 1);
		if (n > 1 && *p == '+' && (!found || cpu_feature_known(name, n - 1)) && has(features, name))
			to += snprintf(to, (size_t)(end - to), "%s%s", to == m->needs ? "" : ",", name);
		assert(to < end);
		p += n + (p[n] == ',');
	}
}

static const Architecture *host_architecture(void)
{
	const Architecture *a = NULL;
	if (find_architecture(str_of(cpu_machine_name()), &a))
		NEVER("this machine is none that code is made for");
	return a;
}

static void host(CpuMachine *m)
{
	const Architecture *a = host_architecture();
	*m = (CpuMachine){ .runs_here = true, .spelled = "host", .target = a->target, .baseline = a->known[0].name };
	char *name = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
	char *triple = LLVMGetDefaultTargetTriple();
	snprintf(m->name, sizeof m->name, "%s", name);
	snprintf(m->features, sizeof m->features, "%s", features);
	snprintf(m->triple, sizeof m->triple, "%s", triple);
	LLVMDisposeMessage(name);
	LLVMDisposeMessage(features);
	LLVMDisposeMessage(triple);
	a->decide(m, m->features);
	set_needs(m, m->features, true);
	m->cores = cores_usable();
	m->l1 = cpu_cache_bytes(1);
	m->l2 = cpu_cache_bytes(2);
	m->l3 = cpu_cache_bytes(3);
	long line = sysconf(_SC_LEVEL1_DCACHE_LINESIZE);
	if (line > 0)
		m->line = (size_t)line;
}

Status cpu_machine(const char *name, CpuMachine *out)
{
	CpuMachine here;
	TRY(llvm_load());
	host(&here);
	*out = here;
	if (!name || strcmp(name, "host") == 0) {
		out->tuning = tuning_recorded(&here);
		return OK;
	}

	const Architecture *a = host_architecture();
	const char *slash = strchr(name, '/'), *spelled = name;
	if (slash) {
		TRY(find_architecture((Str){ name, (size_t)(slash - name) }, &a));
		name = slash + 1;
		if (!strcmp(a->target, here.target) && !strcmp(name, "host"))
			return cpu_machine(name, out);
	}
	Str cpu = { name, strcspn(name, ",") };
	if (str_equal(cpu, STR("baseline")))
		cpu = str_of(a->known[0].name);
	const char *changes = name[strcspn(name, ",")] ? strchr(name, ',') + 1 : "", *of_name = NULL;
	for (u32 i = 0; i < a->nknown; i++)
		if (str_equal(cpu, str_of(a->known[i].name)))
			of_name = a->known[i].features;
	if (!of_name) {
		char list[700] = "";
		for (u32 i = 0; i < a->nknown; i++)
			snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : slash ? "" : "host, ",
				 a->known[i].name);
		return FAIL(STATUS_INPUT, "no CPU is called '%.*s'; known are %s", STR_ARG(cpu), list);
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
	if ((size_t)snprintf(out->features, sizeof out->features, "%s%s", changes, a->besides(changes)) >= sizeof out->features)
		return FAIL(STATUS_INPUT, "the list of CPU features is too long");
	if ((size_t)snprintf(out->spelled, sizeof out->spelled, "%s", spelled) >= sizeof out->spelled)
		return FAIL(STATUS_INPUT, "the list of CPU features is too long");
	bool same = !strcmp(a->target, here.target);
	out->target = a->target;
	out->baseline = a->known[0].name;
	if (!same)
		snprintf(out->triple, sizeof out->triple, "%s", a->triple);
	a->decide(out, all);
	set_needs(out, all, false);
	out->runs_here = same && a->runs_on(&here, out);
	return OK;
}
