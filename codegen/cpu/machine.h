/* codegen/cpu/machine.h: which CPU code is made for: LLVM's name and features for it, and the few
 * facts the emitters decide by. The host is detected; another one may be named, so that AVX2 code
 * can be made and tested on an AVX-512 machine, or packages for elsewhere. */
#ifndef PL_CPU_MACHINE_H
#define PL_CPU_MACHINE_H
#include "support/status.h"
#include "support/str.h"

/* What a tuning run on this very processor (tools/tune.h) found to beat what the emitters work out from the sizes of caches;
 * 0: nothing. None of it changes bits (panel.h). */
typedef struct CpuTuning {
	u32 rows, vectors; /* the tile of registers that is taken where it wastes little */
	u32 k;             /* f32 of a piece of panels, along K */
	u32 panels;        /* packed together, where the tile is narrow enough */
	u32 chunk;         /* rows that they are used for */
} CpuTuning;

typedef struct CpuMachine {
	char name[64];       /* LLVM's name: "skylake-avx512" */
	char features[4096]; /* LLVM's: "+avx2,-avx512f,..."; empty says all that the name has */
	char needs[512];     /* "avx2,fma": what a processor must have to run the code (support/cpu_features.h) */
	char triple[128];
	u32 lanes;      /* f32 lanes of the widest vector worth using: 16, 8 or 4 */
	u32 registers;  /* vector registers: 32 or 16 */
	bool has_fma;   /* else fma is a call, right but slow */
	bool has_f16;   /* conversion of f16 in hardware */
	bool has_bf16;  /* dot product of bf16 pairs (vdpbf16ps) */
	bool bf16_pairs; /* operands of bf16 products are packed in pairs of k: has_bf16, or set by a test to run
			  * that layout with the definition of a pair's product (simd_dot_bf16) */
	bool has_vnni;  /* dot product of int8 quadruples */
	char spelled[256]; /* as cpu_machine was told: "host", "sapphirerapids,-avx512bf16" */
	const char *target;   /* "x86_64-linux-gnu", "aarch64-linux-gnu" */
	const char *baseline; /* the CPU that every one of this architecture can stand in for */
	bool runs_here; /* the host can run its code */
	u32 cores;      /* usable by this process, of the host */
	size_t line;    /* bytes of a cache line */
	size_t l1, l2;  /* data caches of one core, bytes; 0: unknown */
	size_t l3;      /* the last level, shared */
	CpuTuning tuning; /* the host's (tuning.h); a processor that is named has none */
} CpuMachine;

/* `name` is NULL or "host" for the host, else LLVM's name of a CPU, which features to add or leave
 * out may follow: "haswell", "x86-64", "sapphirerapids,-avx512bf16". Of another machine with its name in front:
 * "aarch64-linux-gnu/neoverse-n1". "baseline" is what every processor of a machine can stand in for. */
PL_MUST_USE Status cpu_machine(const char *name, CpuMachine *out);

#endif
