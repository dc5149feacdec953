/* tools/export.h: a model on its way to a folder that runs without Plinth: what `plinth export` writes, in parts. */
#ifndef PL_EXPORT_H
#define PL_EXPORT_H
#include "tools/lm.h"

typedef struct ExportVariant {
	const char *cpu, *features; /* "x86-64-v3", "avx2,fma"; of GPUs "sm_90a", "" */
	Compiled compiled;          /* up to the plan */
	const Package *package;     /* with the names of its functions */
	Blob encoded;
} ExportVariant;

typedef struct Export {
	Arena *arena;
	const Program *program;     /* of the source, sizes as it has them */
	const char *folder, *name, *upper; /* "out", "gpt2", "GPT2": a C identifier */
	const char *model, *source, *sizes, *precision, *machine;
	const char *const *kernel;  /* patterns: kernels alone, nkernel 0: all of an entry */
	u32 nkernel;
	ExportVariant *variant;     /* from the least processor to the best */
	u32 nvariant;
	bool cuda;                  /* kernels are for GPUs */
	bool embedded, has_state;   /* weights are in the library; entries keep something from run to run */
	Blob weights;               /* the safetensors file, where it is embedded */
	i64 capacity;               /* places of a text that are kept, or 0 */
	u64 library_bytes, weights_bytes;
} Export;

/* export_build.c: objects, and libNAME.so, libNAME.a and ir/ of them. `cpu`: names between commas, NULL the host. */
PL_MUST_USE Status export_plan(Export *x, const DriverOptions *o, const char *cpu);
PL_MUST_USE Status export_build(Export *x, const DriverOptions *o);

/* export_part.c: modules, as entries of a program of their own: path "h.0" is the entry h_0. */
PL_MUST_USE Status export_modules(Arena *arena, const Program *in, const char *const *path, u32 n, const Program **out);
/* The plan of kernels whose names match a pattern alone, and then each step of its package as an entry, with its slots
 * as inputs and results. */
const Plan *export_kernels(Arena *arena, const Plan *in, const char *const *pattern, u32 n);
void export_kernel_entries(Arena *a, const Plan *plan, Package *p);
/* A name as one in C. */
const char *export_identifier(Arena *a, const char *name);

/* export_text.c: NAME.h, example.c and the line that builds it. */
PL_MUST_USE Status export_header(const Export *x);
PL_MUST_USE Status export_example(const Export *x);

/* export_manifest.c: manifest.json. */
PL_MUST_USE Status export_manifest(const Export *x);

/* What an entry is called in the library: `decode` of one position is a step. */
const char *export_entry_name(const char *entry);

/* Writes folder/name. */
PL_MUST_USE Status export_write(const Export *x, const char *name, Blob bytes);
/* "i32[B, T]": an input or result as the source has it; NULL where it does not say. */
const char *export_type(const Export *x, const char *entry, const char *name, bool input);

#endif
