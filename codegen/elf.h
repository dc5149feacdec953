/* codegen/elf.h: what LLVM's objects become outside this process, without a linker of the system's: a shared
 * library, a static one, and objects that hold data. Little-endian ELF of x86-64 and AArch64.
 *
 * The linker does what such objects need and no more: position-independent code, read-only and writable data,
 * calls and addresses of functions of the C library. It has no thread-local variables, constructors,
 * exceptions or symbol versions, and says so where an object wants one. */
#ifndef PL_ELF_H
#define PL_ELF_H
#include "support/status.h"

typedef struct ObjectFile {
	const char *name; /* "map_0011.o": for messages and in an archive */
	Blob bytes;
} ObjectFile;

typedef struct ElfOptions {
	const char *soname;            /* "libgpt2.so"; NULL: none */
	const char *const *export;     /* what a user of the library can name */
	u32 nexport;
	const char *const *needed;     /* libraries that what is not defined here comes from: "libm.so.6" */
	u32 nneeded;
} ElfOptions;

/* A shared library of all the objects; the same input gives the same bytes. */
PL_MUST_USE Status elf_link(Arena *arena, const ObjectFile *object, u32 n, const ElfOptions *options, Blob *out);

/* A static library: an `ar` archive with an index of symbols. */
PL_MUST_USE Status elf_archive(Arena *arena, const ObjectFile *object, u32 n, Blob *out);

/* Bytes under a name, read only, aligned to 64. */
typedef struct ElfData {
	const char *symbol;
	Blob bytes;
} ElfData;
/* `like`: an object of the machine that this one is for. */
Blob elf_data_object(Arena *arena, Blob like, const ElfData *data, u32 n);

/* ---- inside ---- */

/* One relocation, with everything known: `place` is where, at address `at`; the value that it wants is made of
 * `symbol`, `got` (the address of the symbol's entry in the table of addresses) and the addend. False: of a kind
 * that the linker does not know. */
typedef struct ElfFix {
	u8 *place;
	u64 at, symbol, got;
	i64 addend;
	u32 type;
} ElfFix;
typedef enum ElfUse {
	ELF_USE_UNKNOWN,
	ELF_USE_DIRECT,  /* the symbol's own address: must be in the library */
	ELF_USE_CALL,    /* the same, by way of a stub where it is not */
	ELF_USE_TABLE,   /* through the table of addresses */
	ELF_USE_ABSOLUTE /* the address itself, in data: fixed when the library is loaded */
} ElfUse;
typedef struct ElfMachine {
	u16 machine;          /* EM_X86_64 */
	u32 page;             /* the largest that a kernel may have */
	u32 relative, global, absolute; /* relocations that the loader does */
	u32 stub;             /* bytes */
	ElfUse (*use)(u32 type);
	/* False: the value does not fit. */
	bool (*fix)(const ElfFix *f);
	/* A jump through the entry at `got`. */
	void (*put_stub)(u8 *place, u64 at, u64 got);
} ElfMachine;
/* NULL: not one that is known. */
const ElfMachine *elf_machine(u16 machine);

#endif
